//! Links, FIFOs, devices and folders that another user has put in the place of a file.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use super::*;

/// A user who owns nothing else.
const OTHER: u32 = 64_321;

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("andrea-file-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("make a folder");
        Scratch(path.canonicalize().expect("a path"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn why<T>(result: io::Result<T>) -> String {
    result.err().expect("refused").to_string()
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let scratch = Scratch::new("kinds");
    let fifo = scratch.path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("runs")
            .success()
    );
    symlink("/dev/null", scratch.path("device")).expect("link");
    symlink(&fifo, scratch.path("link")).expect("link");
    fs::create_dir(scratch.path("folder")).expect("make a folder");
    for name in ["fifo", "device", "link", "folder"] {
        for purpose in [Use::Read, Use::Change, Use::Append] {
            for is_strict in [false, true] {
                let result = open_as(&scratch.path(name), purpose, FILE_MODE, is_strict);
                assert!(result.is_err(), "{name} {purpose:?} {is_strict}");
            }
        }
    }
    assert_eq!(
        why(open_as(&fifo, Use::Append, FILE_MODE, false)),
        "it is no regular file"
    );
}

#[test]
fn a_strict_look_follows_no_link_to_a_file_and_takes_none_with_two_names() {
    let scratch = Scratch::new("strict");
    let (victim, link, hard) = (
        scratch.path("victim"),
        scratch.path("link"),
        scratch.path("hard"),
    );
    fs::write(&victim, "precious").expect("write");
    symlink(&victim, &link).expect("link");
    symlink(scratch.path("missing"), scratch.path("dangling")).expect("link");
    for purpose in [Use::Read, Use::Change, Use::Append] {
        let result = open_as(&link, purpose, FILE_MODE, true);
        assert_eq!(why(result), "it is a link, and none is followed there");
        open_as(&link, purpose, FILE_MODE, false).expect("the owner's own link");
        assert!(open_as(&scratch.path("dangling"), purpose, FILE_MODE, true).is_err());
    }
    assert!(!scratch.path("missing").exists());
    fs::hard_link(&victim, &hard).expect("link");
    let result = open_as(&hard, Use::Change, FILE_MODE, true);
    assert_eq!(why(result), "it has a second name (a hard link)");
    assert_eq!(fs::read_to_string(&victim).expect("text"), "precious");
}

#[test]
fn a_file_is_removed_only_while_its_name_means_it() {
    let scratch = Scratch::new("remove");
    let path = scratch.path("file");
    let file = open(&path, Use::Change).expect("made");
    fs::rename(&path, scratch.path("moved")).expect("move");
    fs::write(&path, "another").expect("write");
    assert!(!is_named(&file, &path));
    remove(&file, &path);
    assert!(path.exists());
    fs::rename(scratch.path("moved"), &path).expect("move back");
    assert!(is_named(&file, &path));
    remove(&file, &path);
    assert!(!path.exists());
}

#[test]
fn a_link_to_an_output_is_that_output() {
    let scratch = Scratch::new("output");
    let own = format!("/proc/{}/fd/2", std::process::id());
    for (target, output) in [
        ("/dev/stdout", Some(1)),
        ("/dev/stderr", Some(2)),
        ("/dev/fd/1", Some(1)),
        ("/proc/self/fd/2", Some(2)),
        (own.as_str(), Some(2)),
        ("/dev/null", None),
        ("/proc/1/fd/1", None),
        ("other", None),
    ] {
        let link = scratch.path("log");
        symlink(target, &link).expect("link");
        assert_eq!(own_output(&link), output, "{target}");
        let second = scratch.path("second");
        symlink("log", &second).expect("link");
        assert_eq!(own_output(&second), output, "by two links: {target}");
        fs::remove_file(&link).expect("remove");
        fs::remove_file(&second).expect("remove");
    }
    symlink("round", scratch.path("round")).expect("link");
    assert_eq!(own_output(&scratch.path("round")), None);
}

#[test]
fn another_users_links_lead_root_nowhere_and_its_folder_keeps_what_is_made_there() {
    if !geteuid().is_root() {
        println!("left out: only root can be tempted by another user's folder");
        return;
    }
    let scratch = Scratch::new("tempted");
    let (theirs, victim) = (scratch.path("theirs"), scratch.path("victim"));
    fs::create_dir(&theirs).expect("make a folder");
    chown(&theirs, Some(OTHER), Some(OTHER)).expect("give away");
    fs::write(&victim, "precious").expect("write");
    // What a name that can be guessed would meet.
    symlink(
        &victim,
        theirs.join(format!(".version-{}", std::process::id())),
    )
    .expect("link");
    symlink(&victim, theirs.join("version")).expect("link");
    replace(&theirs.join("version"), "7", FILE_MODE).expect("replaced");
    let version = fs::symlink_metadata(theirs.join("version")).expect("there");
    assert!(version.is_file());
    assert_eq!((version.uid(), version.gid()), (OTHER, OTHER));
    assert_eq!(fs::read_to_string(&victim).expect("text"), "precious");
    assert_eq!(fs::metadata(&victim).expect("there").uid(), 0);

    // Their link, to root's folder: neither through it nor into it. Root's own link, or theirs to their own: yes.
    let (by_them, by_root) = (scratch.path("by_them"), scratch.path("by_root"));
    symlink(&scratch.0, &by_them).expect("link");
    std::os::unix::fs::lchown(&by_them, Some(OTHER), None).expect("give away");
    symlink(&theirs, &by_root).expect("link");
    assert_eq!(
        why(replace(&by_them.join("victim"), "7", FILE_MODE)),
        "a link of another user leads there"
    );
    assert!(make_folder(&by_them.join("a/b"), 0o755, false).is_err());
    assert!(!scratch.path("a").exists());
    assert!(become_owner(&by_them).is_err());
    replace(&by_root.join("version"), "8", FILE_MODE).expect("root's own link");
    fs::remove_file(&by_them).expect("remove");
    symlink(&theirs, &by_them).expect("link");
    std::os::unix::fs::lchown(&by_them, Some(OTHER), None).expect("give away");
    replace(&by_them.join("version"), "9", FILE_MODE).expect("theirs to what is theirs");
    assert_eq!(
        fs::read_to_string(theirs.join("version")).expect("text"),
        "9"
    );

    let foreign = scratch.path("foreign");
    fs::write(&foreign, "").expect("write");
    chown(&foreign, Some(OTHER), None).expect("give away");
    let result = open(&foreign, Use::Change);
    assert_eq!(why(result), "it belongs to another user than its folder");
}

#[test]
fn folders_are_made_as_they_are_missing() {
    let scratch = Scratch::new("folders");
    for is_strict in [false, true] {
        let path = scratch.path(&format!("{is_strict}/one/two"));
        make_folder(&path, 0o700, is_strict).expect("made");
        make_folder(&path, 0o700, is_strict).expect("there");
        assert_eq!(
            fs::metadata(&path).expect("there").permissions().mode() & 0o777,
            0o700
        );
    }
    fs::write(scratch.path("file"), "").expect("write");
    for is_strict in [false, true] {
        assert!(folder(&scratch.path("file/one"), None, is_strict).is_err());
        assert!(folder(&scratch.path("missing"), None, is_strict).is_err());
    }
}
