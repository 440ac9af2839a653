//! Machines that lack something: address space, random numbers, a list of hosts, locks; an `.env` that is no file; a service
//! that hangs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crate::support::cron::{Cron, PROGRAM};
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::mariadb::Database;
use crate::support::{embedded, reaper, seed, wait};

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// Runs a subcommand by way of another command, which becomes it.
fn through(wrapper: &[&str], install: &Install, arguments: &[&str]) -> (Option<i32>, String) {
    let root = install.root().to_str().expect("UTF-8");
    let mut command = Command::new(wrapper[0]);
    command
        .args(&wrapper[1..])
        .arg(PROGRAM)
        .args(arguments)
        .args(["--root", root])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    said(&command.output().expect("run it"))
}

/// The driver has two buffers of 4 MiB for each connection to the database, and the C library reserves 64 MiB for each heap.
#[test]
fn o12_with_128_mib_of_address_space_fifty_clients_chat() {
    needs!(MariaDb);
    let limited = ["sh", "-c", "ulimit -v 131072; exec \"$@\"", "sh"];
    let mut daemon = Daemon::start(&seeded(), &Options::new().through(&limited));
    daemon.await_log("the limit of address space (ulimit -v, LimitAS) allows 135 MB");
    let mut clients: Vec<_> = (0..50)
        .map(|number| daemon.login(1 + number % 4).unwrap())
        .collect();
    for number in 0..50 {
        clients[number].send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"of {number}"}}"#
        ));
        for client in &mut clients {
            let told = client.until_type("chat.channel.message.created").unwrap();
            assert!(told.to_string().contains(&format!("of {number}")));
        }
    }
    // Those that find no room are told so, and cost the others nothing.
    let more: Vec<_> = (0..100).map_while(|_| daemon.connect().ok()).collect();
    clients[0].ping_barrier().unwrap();
    drop(more);
    assert!(daemon.stop().success(), "{}", daemon.report());
    assert!(!daemon.report().contains("memory allocation"));
}

#[test]
fn o10_without_random_numbers_there_is_an_error_and_no_panic() {
    needs!(Root, Namespaces, Strace);
    let install = Install::new(&embedded::File::server(), &Options::new());
    // Neither the system call nor the device.
    let script = "mount -t tmpfs none /dev && exec strace -f -o /dev/trace -e inject=getrandom:error=ENOSYS \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", script, "sh"];
    for arguments in [&["serve"][..], &["status"], &["token", "--agent", "1"]] {
        let (code, words) = through(&without, &install, arguments);
        assert_eq!(code, Some(78), "{arguments:?}: {words}");
        assert!(words.contains("gives out no random numbers"), "{words}");
        assert!(!words.contains("panicked"), "{words}");
    }
}

/// What a static build asks for random numbers, in a container that has no /dev/urandom.
#[test]
fn o10_static_builds_take_random_numbers_from_the_kernel() {
    for file in ["contrib/container/Containerfile", "contrib/release"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).expect(file);
        assert!(
            text.contains(r#"getrandom_backend="linux_getrandom""#),
            "{file}"
        );
    }
    // And without it podman would leave HEALTHCHECK out.
    let help = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md");
    let help = fs::read_to_string(help).expect("the document");
    assert!(help.contains("podman build --format docker"));
}

#[test]
fn a16_localhost_is_loopback_with_an_empty_list_of_hosts() {
    needs!(MariaDb, Root, Namespaces);
    let script = "mount --bind /dev/null /etc/hosts && mount --bind /dev/null /etc/resolv.conf && exec \"$@\"";
    let without = ["unshare", "--mount", "sh", "-c", script, "sh"];
    for by_row in [true, false] {
        let database = seeded();
        let options = match by_row {
            true => {
                seed::set(
                    &mut database.conn(),
                    "chat_websocket_host",
                    &"localhost".into(),
                );
                Options::new()
            }
            false => Options::new().dotenv("CHAT_WEBSOCKET_HOST", "LocalHost"),
        };
        let daemon = Daemon::start(&database, &options.through(&without));
        daemon.login(1).unwrap();
        let port = daemon.port().to_string();
        let url = format!("http://localhost:{port}/ws/chat");
        let look = |arguments: &[&str]| through(&without, &daemon.install, arguments);
        let (code, words) = look(&["healthcheck", "--port", &port]);
        assert_eq!(code, Some(0), "{words}");
        let (_, words) = look(&["check", "--url", &url]);
        assert!(words.contains("look up localhost: 127.0.0.1"), "{words}");
        assert!(!words.contains("failed   TCP"), "{words}");
    }
}

/// Storage on NFS without its lock daemon.
#[test]
fn a18_storage_without_locks_is_named_by_check_and_by_the_start() {
    needs!(MariaDb, Strace);
    let cron = Cron::new();
    let without = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        "inject=flock:error=ENOLCK",
    ];
    for (arguments, wanted) in [(&["check"][..], 1), (&["serve"], 73), (&["supervise"], 1)] {
        let (code, words) = through(&without, &cron.install, arguments);
        assert_eq!(code, Some(wanted), "{arguments:?}: {words}");
        assert!(words.contains("lock"), "{words}");
        assert!(!words.contains("write there"), "{words}");
        if arguments[0] == "check" {
            let mut lines = words
                .lines()
                .filter(|line| line.starts_with("failed   storage"));
            assert!(
                lines.any(|line| line.contains("cannot be locked")),
                "{words}"
            );
        }
    }
}

/// Every subcommand reads `.env`; none may wait for a pipe, read a device without end, or take a folder for a file.
#[test]
fn s2_an_env_that_is_no_file_holds_up_no_subcommand() {
    let root = reaper::folder("no-file-env");
    let file = root.join(".env");
    for trap in ["pipe", "device", "folder"] {
        match trap {
            "pipe" => {
                let made = Command::new("mkfifo").arg(&file).status();
                assert!(made.expect("runs").success());
            }
            "device" => symlink("/dev/zero", &file).expect("a link"),
            _ => fs::create_dir(&file).expect("a folder"),
        }
        for arguments in [
            &["serve"][..],
            &["supervise"],
            &["status"],
            &["start"],
            &["stop"],
            &["restart"],
            &["settings", "list"],
            &["config"],
            &["connections"],
            &["prune"],
            &["check"],
            &["token", "--agent", "1"],
            &["chat", "send", "--agent", "1", "--channel", "1", "x"],
            &["healthcheck"],
            &["install", "systemd", "--dry-run"],
        ] {
            let about = format!("{trap} {arguments:?}");
            let (code, words) = ends(&root, arguments);
            assert!(
                code != Some(0) && code.is_some(),
                "{about}: {code:?} {words}"
            );
            assert!(words.contains(".env"), "{about}: {words}");
        }
        match trap {
            "folder" => fs::remove_dir(&file).expect("remove"),
            _ => fs::remove_file(&file).expect("remove"),
        }
    }
}

/// Files that variables name are read at the start as well.
#[test]
fn s2_a_pipe_that_a_variable_names_is_not_waited_for() {
    let root = reaper::folder("pipes");
    let made = Command::new("mkfifo").arg(root.join("pipe")).status();
    assert!(made.expect("runs").success());
    let base = "JWT_SECRET=0123456789abcdef0123456789abcdef\nDB_DATABASE=a\nDB_USERNAME=a\nDB_HOST=127.0.0.1\nDB_PORT=1\n";
    for name in [
        "DB_SSL_CA",
        "DB_SSL_CERT",
        "DB_SSL_KEY",
        "DB_SERVER_PUBLIC_KEY",
    ] {
        fs::write(root.join(".env"), format!("{base}{name}=pipe\n")).expect("write");
        let (code, words) = ends(&root, &["serve"]);
        assert_eq!(code, Some(78), "{name}: {words}");
        assert!(
            words.contains(name) && words.contains("it is no file"),
            "{words}"
        );
    }
}

/// Runs a command that has to end by itself.
fn ends(root: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    let mut child = command
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    if wait::until(wait::LIMIT, || child.try_wait().expect("wait")).is_none() {
        child.kill().expect("kill");
        panic!("{arguments:?} waits for ever");
    }
    said(&child.wait_with_output().expect("its words"))
}

/// What `status` says of a start that failed stands in the log, in whose place there may be anything.
#[test]
fn s2_status_waits_for_no_log_that_is_a_pipe() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    cron.set("chat_websocket_status", "failed");
    let install = Arc::clone(&cron.install);
    fs::create_dir_all(install.log_file().parent().expect("a folder")).expect("make it");
    let made = Command::new("mkfifo").arg(install.log_file()).status();
    assert!(made.expect("runs").success());
    let (code, words) = ends(install.root(), &["status"]);
    assert_eq!(code, Some(3), "{words}");
}

#[test]
fn o10_a_service_that_hangs_is_not_well() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let mut daemon = Daemon::start(&database, &Options::new());
    let port = daemon.port().to_string();
    let install = daemon.install.clone();
    let ask =
        |more: &[&str]| said(&install.run("healthcheck", &[&["--port", &port], more].concat()));
    assert_eq!(ask(&[]).0, Some(0));
    assert_eq!(ask(&["--host", "localhost", "--timeout", "2"]).0, Some(0));
    daemon.freeze();
    let (code, words) = ask(&["--timeout", "1"]);
    assert_eq!(code, Some(1), "{words}");
    daemon.thaw();
    assert_eq!(ask(&[]).0, Some(0));
    assert!(daemon.stop().success());
    let (code, words) = ask(&[]);
    assert_eq!(code, Some(1));
    assert!(words.contains("does not answer"), "{words}");
    assert_eq!(ask(&["--timeout", "0"]).0, Some(64));
    let elsewhere = reaper::folder("no-service");
    let (code, _) = ends(&elsewhere, &["healthcheck"]);
    assert_eq!(code, Some(1));
}
