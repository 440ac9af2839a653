//! A static build alone in an empty folder that is its whole file system, as in the image that `Containerfile`
//! describes: it serves chat to a client outside, over TCP to MariaDB, with time zones, and its health check works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::cron::signal;
use crate::support::daemon::{Install, Options, TIMEZONE};
use crate::support::mariadb::{self, Database};
use crate::support::{clock, reaper, seed, wait, ws};

const NAME: &str = env!("CARGO_PKG_NAME");

fn source() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn containerfile() -> String {
    fs::read_to_string(source().join("contrib/container/Containerfile")).expect("the file")
}

/// The words of an instruction in its JSON form.
fn words(instruction: &str) -> Vec<String> {
    let text = containerfile();
    let stage = text.split("FROM scratch").nth(1).expect("a last stage");
    let line = stage
        .lines()
        .find(|line| line.starts_with(instruction))
        .unwrap_or_else(|| panic!("no {instruction}"));
    let list = &line[line.find('[').expect("a list")..];
    let list = crate::support::json::Json::parse(list).expect("JSON");
    list.items()
        .iter()
        .map(|word| word.str().expect("a word").to_owned())
        .collect()
}

/// Builds the program as the Containerfile does, but for optimisation, into a folder of its own.
fn static_program() -> PathBuf {
    let text = containerfile();
    let flags = text
        .lines()
        .find_map(|line| line.strip_prefix("ENV RUSTFLAGS="))
        .expect("RUSTFLAGS")
        .trim_matches('\'');
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let version = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.expect("a host");
    // Beside the tests' own folder, so that it is built once and not with every run.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("a folder")
        .join("static");
    let built = Command::new(cargo)
        .args(["build", "--locked", "--target", host, "--target-dir"])
        .arg(&target)
        .current_dir(source())
        .env("RUSTFLAGS", flags)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .output()
        .expect("cargo runs");
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
    target.join(host).join("debug").join(NAME)
}

/// A command whose root is this folder.
fn inside(root: &Path, words: &[String]) -> Command {
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            let mut command = Command::new("chroot");
            command.arg(root);
            command
        }
        false => {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--root"]).arg(root);
            command
        }
    };
    // For the command that makes the root; the program has no use for it.
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    command
        .args(words)
        .env_clear()
        .env("PATH", path)
        .stdin(Stdio::null());
    command
}

#[test]
fn a_static_build_serves_from_an_empty_folder() {
    needs!(Time, MariaDb, Namespaces);
    let program = static_program();
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let port = mariadb::free_port();
    seed::set(
        &mut database.conn(),
        "chat_websocket_port",
        &i64::from(port).into(),
    );
    let install = Install::new(&database, &Options::new());

    // All that the image has: the program, and the install's folder, which is mounted.
    let image = reaper::path("image");
    fs::create_dir_all(image.join("helpdesk")).expect("make the folder");
    // By another process: a child of another test that is just being made may hold a file of ours open for writing
    // for a moment, and a program that is written to cannot be run.
    let copied = Command::new("cp")
        .arg(&program)
        .arg(image.join(NAME))
        .status();
    assert!(copied.expect("cp runs").success());
    fs::copy(install.root().join(".env"), image.join("helpdesk/.env")).expect("copy .env");
    let root = ["--root", "/helpdesk"].map(str::to_owned);
    let serve = [words("ENTRYPOINT"), words("CMD"), root.to_vec()].concat();
    assert_eq!(serve[..2], [format!("/{NAME}"), "serve".to_owned()]);
    let health = [words("HEALTHCHECK"), root.to_vec()].concat();
    let healthy = || inside(&image, &health).output().expect("run status");

    assert_eq!(healthy().status.code(), Some(1), "stopped");
    let mut daemon = inside(&image, &serve)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the daemon");
    reaper::watch(&daemon);
    let log = image.join("helpdesk/storage/logs/chat-websocket.log");
    let up = wait::until(wait::LIMIT, || {
        let text = fs::read_to_string(&log).ok()?;
        text.contains("listening on").then_some(text)
    });
    let text = up.expect("it listens");
    // Its own zone data: there are no files of any.
    let stamp = &text[1..20];
    let (from, to) = (clock::app_time(-60), clock::app_time(5));
    assert!(
        from.as_str() <= stamp && stamp <= to.as_str(),
        "{TIMEZONE}: {text}"
    );
    let mut ann = ws::Client::login(port, 1).unwrap();
    let mut bob = ws::Client::login(port, 2).unwrap();
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"from a container"}"#);
    bob.until_type("chat.channel.message.created").unwrap();

    let output = healthy();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let made: Vec<_> = fs::read_dir(&image)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(made.len(), 2, "nothing but what the image has: {made:?}");

    signal(daemon.id(), Signal::TERM);
    assert!(daemon.wait().expect("wait").success());
    reaper::forget(&daemon);
    assert_eq!(ann.until_end().unwrap().1, Some(1001));
    assert_eq!(healthy().status.code(), Some(1), "stopped again");
}

#[test]
fn the_image_ends_with_the_program_alone_and_without_root() {
    let text = containerfile();
    let last = text.split("FROM ").last().expect("a stage");
    assert!(last.starts_with("scratch\n"));
    assert!(last.contains("USER 65532:65532"));
    let copies = last.lines().filter(|line| line.starts_with("COPY")).count();
    assert_eq!(copies, 1);
    let ignored = fs::read_to_string(source().join(".dockerignore")).expect(".dockerignore");
    assert!(ignored.lines().any(|line| line == "target"), "{ignored}");
}
