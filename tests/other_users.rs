//! Files that another user puts into the folders where the service writes, when root and when the folder's owner runs it:
//! links, FIFOs, devices, folders, hard links, replaced folders. The service changes no file of another user and never
//! blocks.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustix::process::geteuid;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::embedded;
use crate::support::{demo, mariadb, reaper, seed, wait};

/// A user who owns nothing else.
const OTHER: u32 = 64_222;
const PRECIOUS: &str = "precious\n";

/// An install on a file of its own, whose folders belong to `owner`.
fn install_of(owner: u32) -> Arc<Install> {
    let options = Options::new()
        .dotenv("DB_CONNECTION", "sqlite")
        .dotenv("DB_DATABASE", "chat.sqlite");
    let install = Install::new(&embedded::File::server(), &options);
    for folder in ["storage/runtime", "storage/logs"] {
        fs::create_dir_all(install.root().join(folder)).expect("make a folder");
    }
    if geteuid().is_root() {
        for folder in [".", "storage", "storage/runtime", "storage/logs"] {
            chown(install.root().join(folder), Some(owner), Some(owner)).expect("give away");
        }
    }
    install
}

/// Runs a command to its end; exit code and both outputs. One that waits for ever fails the test.
fn run(
    install: &Install,
    user: Option<u32>,
    subcommand: &str,
    arguments: &[&str],
) -> (i32, String) {
    let plain = install.command(subcommand, arguments);
    let mut command = match user {
        None => plain,
        Some(user) => {
            let mut command = Command::new("setpriv");
            let (user, group) = (format!("--reuid={user}"), format!("--regid={user}"));
            command.args([user, group, "--clear-groups".to_owned()]);
            command
                .arg(plain.get_program())
                .args(plain.get_args())
                .env_clear();
            command
        }
    };
    let path = reaper::path("other-users");
    let output = File::create(&path).expect("a file");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a descriptor"))
        .stderr(output)
        .spawn()
        .expect("spawn");
    let ended = wait::until(wait::LIMIT, || child.try_wait().expect("wait"));
    if ended.is_none() {
        child.kill().expect("kill");
        child.wait().expect("wait");
    }
    let text = fs::read_to_string(&path).expect("text");
    let status = ended.unwrap_or_else(|| panic!("{subcommand} waits for ever: {text}"));
    (status.code().unwrap_or(-1), text)
}

/// What is found in the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trap {
    Link,
    Dangling,
    Hard,
    Fifo,
    Device,
    Folder,
}

const TRAPS: [Trap; 6] = [
    Trap::Link,
    Trap::Dangling,
    Trap::Hard,
    Trap::Fifo,
    Trap::Device,
    Trap::Folder,
];

fn set_trap(trap: Trap, place: &Path, victim: &Path) {
    match trap {
        Trap::Link => symlink(victim, place).expect("link"),
        Trap::Dangling => symlink(victim.with_extension("new"), place).expect("link"),
        Trap::Hard => fs::hard_link(victim, place).expect("link"),
        Trap::Fifo => {
            let made = Command::new("mkfifo").arg(place).status().expect("runs");
            assert!(made.success());
        }
        Trap::Device => symlink("/dev/zero", place).expect("link"),
        Trap::Folder => fs::create_dir(place).expect("make a folder"),
    }
}

#[test]
fn s2_nothing_in_the_place_of_pid_file_log_and_lock_is_followed_changed_or_waited_for() {
    // Who owns the folders, and who runs the command (none: this user, root).
    let cases: &[(u32, Option<u32>)] = match geteuid().is_root() {
        true => &[(0, None), (OTHER, None), (OTHER, Some(OTHER))],
        false => &[(0, None)],
    };
    for &(owner, user) in cases {
        for trap in TRAPS {
            for (file, subcommands) in [
                (
                    "runtime/chat-websocket.pid",
                    &["serve", "status", "supervise"][..],
                ),
                ("runtime/chat-supervisor.lock", &["supervise"]),
                ("logs/chat-websocket.log", &["serve"]),
            ] {
                // Without root's rights the victim of a link would be one's own.
                let is_victim_ours = !geteuid().is_root();
                if is_victim_ours && matches!(trap, Trap::Link | Trap::Dangling | Trap::Hard) {
                    continue;
                }
                let install = install_of(owner);
                let victims = embedded::File::none();
                let victim = victims.path();
                fs::write(&victim, PRECIOUS).expect("write");
                let for_its_owner = fs::Permissions::from_mode(0o600);
                fs::set_permissions(&victim, for_its_owner).expect("set the mode");
                let place = install.root().join("storage").join(file);
                set_trap(trap, &place, &victim);
                for subcommand in subcommands {
                    let about = format!("{owner} {user:?} {trap:?} {file} {subcommand}");
                    let (code, said) = run(&install, user, subcommand, &[]);
                    // Where the owner's link leads nowhere there is no daemon.
                    if trap != Trap::Dangling || *subcommand == "serve" {
                        assert!([1, 4, 73].contains(&code), "{about}: {code} {said}");
                        assert!(said.contains(file), "{about}: {said}");
                    }
                    assert_eq!(
                        fs::read_to_string(&victim).expect("text"),
                        PRECIOUS,
                        "{about}"
                    );
                    assert!(!victim.with_extension("new").exists(), "{about}");
                    let found = fs::metadata(&victim).expect("there");
                    assert_eq!(found.uid(), geteuid().as_raw(), "{about}");
                }
            }
        }
    }
}

#[test]
fn s1_a_folder_that_another_user_has_exchanged_leads_root_nowhere() {
    needs!(Root, Setpriv);
    let install = install_of(OTHER);
    chown(install.root().join("storage"), Some(0), Some(0)).expect("take back");
    let victims = embedded::File::none();
    let target = victims.path().parent().expect("a folder").to_owned();
    let runtime = install.root().join("storage/runtime");
    fs::remove_dir(&runtime).expect("remove");
    symlink(&target, &runtime).expect("link");
    lchown(&runtime, Some(OTHER), None).expect("give away");
    for subcommand in ["serve", "supervise", "status"] {
        let (code, said) = run(&install, None, subcommand, &[]);
        assert!([1, 4, 73].contains(&code), "{code} {said}");
        assert!(
            said.contains("a link of another user leads there"),
            "{said}"
        );
    }
    assert_eq!(fs::read_dir(&target).expect("list").count(), 0);
    // The same link by root's own hand is root's wish.
    lchown(&runtime, Some(0), None).expect("take");
    let (code, said) = run(&install, None, "supervise", &[]);
    assert!(!said.contains("link"), "{code} {said}");
    assert!(target.join("chat-supervisor.lock").exists());
}

#[test]
fn s1_root_becomes_the_owner_of_the_storage_before_anything_is_touched() {
    needs!(Root, Setpriv);
    let install = install_of(OTHER);
    let mut daemon = Daemon::start_in(Arc::clone(&install), &Options::new());
    let uid_of = |path: PathBuf| fs::metadata(&path).expect("there").uid();
    let process = uid_of(PathBuf::from(format!("/proc/{}", daemon.pid())));
    assert_eq!(process, OTHER);
    for path in [
        install.pid_file(),
        install.log_file(),
        install.root().join("chat.sqlite"),
    ] {
        assert_eq!(uid_of(path.clone()), OTHER, "{}", path.display());
    }
    // Root's look at it, and its owner's, see the same.
    for user in [None, Some(OTHER)] {
        let (_, said) = run(&install, user, "status", &["--json"]);
        assert!(
            said.contains(&format!("\"pid\": {}", daemon.pid())),
            "{said}"
        );
        assert!(said.contains("\"started_by\": \"other\""), "{said}");
    }
    assert!(daemon.stop().success(), "{}", daemon.report());
}

#[test]
fn s1_root_writes_past_every_link_in_the_folder_of_the_query_cache() {
    needs!(Root, MariaDb);
    for owner in [0, OTHER] {
        let database = mariadb::Database::fresh();
        let mut conn = database.conn();
        seed::reset(&mut conn);
        seed::set(&mut conn, "cache_enabled", &"1".into());
        let install = Install::new(&database, &Options::new());
        let cache = install.root().join("cache");
        fs::create_dir(&cache).expect("make a folder");
        fs::create_dir(install.root().join("storage")).expect("make a folder");
        chown(&cache, Some(OTHER), Some(OTHER)).expect("give away");
        chown(install.root().join("storage"), Some(owner), Some(owner)).expect("give away");
        let victim = install.root().join("victim");
        fs::write(&victim, PRECIOUS).expect("write");
        let from = std::process::id();
        for pid in from..from + 4096 {
            symlink(&victim, cache.join(format!(".version-{pid}"))).expect("link");
        }
        symlink(&victim, cache.join("version")).expect("link");
        let (code, said) = run(
            &install,
            None,
            "settings",
            &["set", "chat_max_message_length", "3000"],
        );
        assert_eq!(code, 0, "{said}");
        let written = fs::symlink_metadata(cache.join("version")).expect("there");
        assert!(
            written.is_file(),
            "{owner}: the version is a file of its own"
        );
        assert_eq!(written.uid(), OTHER, "{owner}");
        assert_eq!(fs::read_to_string(&victim).expect("text"), PRECIOUS);
        assert_eq!(fs::metadata(&victim).expect("there").uid(), 0);
    }
}

#[test]
fn s11_a_demo_refuses_a_folder_that_is_not_its_users_alone() {
    let refused = |data: &Path| {
        let mut command = demo::command(data, 0);
        let output = command.output().expect("run");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(73), "{text}");
        assert!(text.contains(&data.display().to_string()), "{text}");
        text
    };
    let secret = format!("JWT_SECRET={}\n", "0123456789abcdef".repeat(4));
    let open_to_all = demo::new_folder();
    fs::create_dir(&open_to_all).expect("make a folder");
    let mode = fs::Permissions::from_mode(0o777);
    fs::set_permissions(&open_to_all, mode).expect("set the mode");
    assert!(refused(&open_to_all).contains("not yours alone"));

    let own = demo::new_folder();
    fs::create_dir(&own).expect("make a folder");
    let elsewhere = reaper::path("planted-secret");
    fs::write(&elsewhere, &secret).expect("write");
    symlink(&elsewhere, own.join(".env")).expect("link");
    refused_file(&own, ".env");
    assert_eq!(fs::read_to_string(&elsewhere).expect("text"), secret);
    fs::remove_file(own.join(".env")).expect("remove");
    fs::remove_file(own.join("demo.lock")).expect("remove");
    let made = Command::new("mkfifo").arg(own.join("demo.lock")).status();
    assert!(made.expect("runs").success());
    refused_file(&own, "demo.lock");

    if geteuid().is_root() {
        let theirs = demo::new_folder();
        fs::create_dir(&theirs).expect("make a folder");
        fs::write(theirs.join(".env"), &secret).expect("write");
        chown(&theirs, Some(OTHER), None).expect("give away");
        assert!(refused(&theirs).contains("another user owns it"));
        let link = demo::new_folder();
        symlink(&own, &link).expect("link");
        lchown(&link, Some(OTHER), None).expect("give away");
        assert!(refused(&link).contains("a link of another user"));
    }
}

/// SQLite opens its files by name.
#[test]
fn s11_a_demo_takes_no_database_file_that_another_user_left() {
    let victim = reaper::path("victim");
    fs::write(&victim, PRECIOUS).expect("write");
    for name in ["", "-wal", "-shm", "-journal"].map(|end| format!("chat.sqlite{end}")) {
        for trap in TRAPS {
            let data = demo::new_folder();
            fs::create_dir(&data).expect("make a folder");
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&data, mode).expect("set the mode");
            set_trap(trap, &data.join(&name), &victim);
            refused_file(&data, &name);
            assert_eq!(fs::read_to_string(&victim).expect("text"), PRECIOUS);
            assert!(!victim.with_extension("new").exists(), "{name} {trap:?}");
            fs::remove_dir_all(&data).expect("clean up");
        }
        if geteuid().is_root() {
            let data = demo::new_folder();
            fs::create_dir(&data).expect("make a folder");
            let mode = fs::Permissions::from_mode(0o700);
            fs::set_permissions(&data, mode).expect("set the mode");
            fs::write(data.join(&name), "").expect("write");
            chown(data.join(&name), Some(OTHER), None).expect("give away");
            refused_file(&data, &name);
        }
    }
}

fn refused_file(data: &Path, name: &str) {
    let output = demo::command(data, 0).output().expect("run");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(73), "{text}");
    assert!(text.contains(name), "{text}");
}

/// The log is a link to standard output, and that is a socket, as systemd gives it, which cannot be opened by its name.
#[test]
fn a17_a_log_that_is_a_link_to_an_output_goes_to_the_descriptor_that_is_there() {
    for target in ["/dev/stdout", "/proc/self/fd/1", "/dev/stderr"] {
        let install = install_of(0);
        symlink(target, install.log_file()).expect("link");
        let (mut ours, theirs) = UnixStream::pair().expect("a socket");
        let output = || {
            Stdio::from(std::os::fd::OwnedFd::from(
                theirs.try_clone().expect("a socket"),
            ))
        };
        let mut command = install.command("serve", &["--port", "0"]);
        let mut child = command
            .stdout(output())
            .stderr(output())
            .spawn()
            .expect("spawn");
        reaper::watch(&child);
        drop((command, theirs));
        ours.set_read_timeout(Some(wait::LIMIT)).expect("a limit");
        let mut said = Vec::new();
        while !String::from_utf8_lossy(&said).contains("listening on ") {
            let mut some = [0; 1024];
            let count = ours.read(&mut some).expect("the log");
            assert!(count > 0, "{target}: {}", String::from_utf8_lossy(&said));
            said.extend_from_slice(&some[..count]);
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        reaper::forget(&child);
    }
}

/// As after the end of a journal, or of `serve | head`: the log and standard error have no reader any more.
#[test]
fn a17_outputs_whose_reader_is_gone_keep_no_service_from_its_end() {
    let install = install_of(0);
    symlink("/dev/stdout", install.log_file()).expect("link");
    let (mut ours, theirs) = UnixStream::pair().expect("a socket");
    let output = || {
        Stdio::from(std::os::fd::OwnedFd::from(
            theirs.try_clone().expect("a socket"),
        ))
    };
    let mut command = install.command("serve", &["--port", "0"]);
    let mut child = command
        .stdout(output())
        .stderr(output())
        .spawn()
        .expect("spawn");
    reaper::watch(&child);
    drop((command, theirs));
    ours.set_read_timeout(Some(wait::LIMIT)).expect("a limit");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("listening on ") {
        let mut some = [0; 1024];
        let count = ours.read(&mut some).expect("the log");
        said.extend_from_slice(&some[..count]);
    }
    drop(ours);
    crate::support::cron::signal(child.id(), rustix::process::Signal::TERM);
    let ended = wait::until(wait::LIMIT, || child.try_wait().expect("wait"));
    let _ = child.kill();
    assert!(ended.expect("it ends").success());
    reaper::forget(&child);
}
