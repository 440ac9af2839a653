//! The shipped files for cron, logrotate, runit and PHP, each run by the real program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::cron::{Cron, PROGRAM, is_alive, said, signal};
use crate::support::daemon::{Daemon, Options, is_stamp};
use crate::support::mariadb::Database;
use crate::support::web_server::snippet;
use crate::support::{reaper, seed, wait};

const INSTALL: &str = "/var/www/andrea-helpdesk";
const INSTALLED: &str = "/usr/local/bin/andrea-chat-websocket";

/// A shipped file for another install and program than it names.
fn adjusted(file: &str, root: &str) -> String {
    snippet(file, &[(INSTALL, root), (INSTALLED, PROGRAM)])
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_crontab_line_looks_after_the_service() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let root = cron.root();
    fs::create_dir_all(cron.install.root().join("storage/logs")).expect("make the folder");
    let table = adjusted("cron/andrea-chat-websocket", &root);
    let lines: Vec<&str> = table
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .collect();
    let [line] = lines[..] else {
        panic!("one line: {lines:?}");
    };
    // In /etc/cron.d a user stands between the times and the command; % would be a line feed.
    let fields: Vec<&str> = line.splitn(7, ' ').collect();
    assert_eq!(fields[..6], ["*", "*", "*", "*", "*", "www-data"]);
    assert!(!fields[6].contains('%') && table.ends_with('\n'));
    let run = |cron: &mut Cron| {
        let output = Command::new("/bin/sh")
            .args(["-c", fields[6]])
            .env_clear()
            .envs([
                ("HOME", "/"),
                ("PATH", "/usr/bin:/bin"),
                ("SHELL", "/bin/sh"),
            ])
            .stdin(Stdio::null())
            .output()
            .expect("run the line");
        // What cron would send by mail, every minute.
        assert_eq!((said(&output), output.stdout), ((0, vec![]), vec![]));
        cron.note_daemon();
    };
    run(&mut cron);
    let pid = cron.pid().expect("a daemon");
    run(&mut cron);
    let log = fs::read_to_string(cron.install.root().join("storage/logs/chat-supervisor.log"));
    let log = log.expect("its log");
    let lines: Vec<&str> = log.lines().collect();
    assert!(
        lines[0].ends_with(&format!("started chat websocket daemon pid={pid}")),
        "{log}"
    );
    assert!(lines[1].ends_with("chat websocket status checked"), "{log}");
    cron.serves();
}

#[test]
fn logrotate_moves_the_log_and_no_line_is_lost() {
    needs!(Logrotate, MariaDb);
    const LINES: usize = 60;
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let root = daemon.install.root().display().to_string();
    let mut configuration = snippet("logrotate/andrea-chat-websocket", &[(INSTALL, &root)]);
    if !is_root() {
        // Only root may switch to another user.
        configuration = configuration
            .replace("    su www-data www-data\n", "")
            .replace("0640 www-data www-data", "0640");
    } else {
        configuration = configuration.replace("www-data", "root");
    }
    let file = daemon.install.root().join("logrotate.conf");
    fs::write(&file, configuration).expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
    let rotate = || {
        let output = Command::new("logrotate")
            .arg("--force")
            .arg("--state")
            .arg(daemon.install.root().join("logrotate.state"))
            .arg(&file)
            .output()
            .expect("logrotate runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
    };
    // A line for each signal, while the file is moved under the daemon's hands again and again.
    let logs = daemon.install.root().join("storage/logs");
    let written = || {
        let mut text = String::new();
        for entry in fs::read_dir(&logs).expect("the folder") {
            let path = entry.expect("an entry").path();
            let bytes = match path.extension().is_some_and(|end| end == "gz") {
                true => {
                    Command::new("gzip")
                        .arg("-dc")
                        .arg(&path)
                        .output()
                        .expect("gzip runs")
                        .stdout
                }
                // Gone between the look and the reading: moved on.
                false => fs::read(&path).unwrap_or_default(),
            };
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
        text
    };
    let count = |text: &str| text.matches("reading the settings again").count();
    for number in 1..=LINES {
        signal(daemon.pid(), Signal::HUP);
        if number % 12 == 0 {
            rotate();
        }
        let seen = wait::until(wait::LIMIT, || (count(&written()) >= number).then_some(()));
        seen.unwrap_or_else(|| panic!("line {number} is lost:\n{}", written()));
    }
    let text = written();
    assert_eq!(count(&text), LINES);
    for line in text.lines() {
        assert!(is_stamp(line.split_once("] ").expect("a time").0), "{line}");
    }
    let names = fs::read_dir(&logs).expect("the folder").count();
    assert_eq!(
        names,
        1 + LINES / 12,
        "one file a rotation beside the present one"
    );
    let compressed = logs.join("chat-websocket.log.2.gz");
    assert!(compressed.exists() && logs.join("chat-websocket.log.1").exists());
}

#[test]
fn runit_runs_the_service_and_starts_it_again() {
    needs!(Runit, MariaDb);
    let mut cron = Cron::new();
    cron.set("chat_websocket_management_mode", "external");
    let service = cron.install.root().join("sv");
    fs::create_dir(&service).expect("make the folder");
    for name in ["run", "finish"] {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("contrib/runit")
            .join(name);
        let mode = fs::metadata(&shipped).expect(name).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name} is executable");
        let mut text = fs::read_to_string(&shipped).expect(name);
        if name == "run" {
            text = adjusted("runit/run", &cron.root());
            // This user stands in for the web server's.
            text = text
                .replace("-u www-data:www-data ", "")
                .replace("-o 8192", "-o 1024");
        }
        fs::write(service.join(name), text).expect("write");
        fs::set_permissions(service.join(name), fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    let mut runsv = Command::new("runsv")
        .arg(&service)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("runsv (package runit) runs");
    reaper::watch(&runsv);
    let await_daemon = |cron: &mut Cron, not: Option<u32>| {
        let pid = wait::until(wait::LIMIT, || {
            let pid = cron.pid().filter(|pid| Some(*pid) != not)?;
            cron.install.log().contains("listening on").then_some(pid)
        });
        cron.note_daemon();
        pid.expect("it runs")
    };
    let first = await_daemon(&mut cron, None);
    wait::until(wait::LIMIT, || {
        crate::support::ws::Client::login(cron.port, 1)
            .ok()
            .map(drop)
    });
    signal(first, Signal::KILL);
    let second = await_daemon(&mut cron, Some(first));
    let down = Command::new("sv")
        .arg("down")
        .arg(&service)
        .output()
        .expect("sv runs");
    assert!(down.status.success(), "{down:?}");
    wait::until(wait::LIMIT, || (!is_alive(second)).then_some(())).expect("it stops");
    assert_eq!(cron.setting("chat_websocket_status"), "stopped");
    let _ = Command::new("sv").arg("exit").arg(&service).output();
    runsv.wait().expect("runsv ends");
    reaper::forget(&runsv);
}

/// Starts the daemon as the recorded PHP supervisor does: by PHP, in the background, its own lock among the files that
/// the daemon inherits.
const PHP_SUPERVISOR: &str = r#"<?php
$lock = fopen('storage/runtime/chat-supervisor.lock', 'c');
if (!flock($lock, LOCK_EX | LOCK_NB)) { exit(3); }
exec('nohup php PHP_OPTIONS bin/chat-websocket-server.php >> storage/logs/chat-websocket.log 2>&1 < /dev/null &');
"#;

fn php(file: &Path, options: &str) {
    let text = PHP_SUPERVISOR.replace("PHP_OPTIONS", options);
    fs::write(file, text).expect("write");
}

#[test]
fn the_php_shim_lets_the_php_supervisor_start_this_daemon() {
    needs!(Php, MariaDb);
    // With pcntl the shim becomes the daemon; without, it waits for it.
    for options in ["", "-d disable_functions=pcntl_exec"] {
        let mut cron = Cron::new();
        let root: PathBuf = cron.install.root().into();
        for folder in ["bin", "storage/runtime", "storage/logs"] {
            fs::create_dir_all(root.join(folder)).expect("make the folder");
        }
        let shim = snippet("php/chat-websocket-server.php", &[(INSTALLED, PROGRAM)]);
        fs::write(root.join("bin/chat-websocket-server.php"), shim).expect("write");
        php(&root.join("bin/supervisor.php"), options);
        let run = || {
            Command::new("php")
                .arg("bin/supervisor.php")
                .current_dir(&root)
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .stdin(Stdio::null())
                .output()
                .expect("php runs")
        };
        let output = run();
        assert!(output.status.success(), "{output:?}");
        let up = wait::until(wait::LIMIT, || {
            cron.install.log().contains("listening on").then_some(())
        });
        up.unwrap_or_else(|| panic!("{options:?}: {}", cron.install.log()));
        cron.note_daemon();
        let pid = cron.pid().expect("a pid");
        let program = fs::read_link(format!("/proc/{pid}/exe")).expect("a program");
        assert_eq!(
            program,
            Path::new(PROGRAM),
            "the pid file names the daemon itself"
        );
        cron.serves();

        // The recorded fault: a lock that the daemon holds keeps every later run from its work. Here none does.
        assert_eq!(
            cron.run(),
            (0, vec!["chat websocket status checked".to_owned()]),
            "{options:?}"
        );
        assert!(run().status.success(), "nor one of PHP's");
        let log = cron.install.log();
        let healthy = wait::until(wait::LIMIT, || {
            cron.install
                .log()
                .contains("A healthy chat websocket daemon")
                .then_some(())
        });
        healthy.unwrap_or_else(|| panic!("the second one says so: {log}"));

        cron.set("chat_websocket_stop_requested", "1");
        cron.set("chat_websocket_autostart", "0");
        // The daemon obeys by itself as well, and its pid file goes before its last thread: then the supervisor does not wait for its end.
        assert_eq!(cron.run().0, 0);
        wait::until(wait::LIMIT, || (!is_alive(pid)).then_some(())).expect("it ends");
    }
}

#[test]
fn the_php_shim_says_what_is_missing() {
    needs!(Php);
    let root = reaper::path("shim");
    fs::create_dir_all(root.join("bin")).expect("make the folder");
    let shim = snippet("php/chat-websocket-server.php", &[(INSTALLED, "/nowhere")]);
    fs::write(root.join("bin/chat-websocket-server.php"), shim).expect("write");
    let mut command = Command::new("php");
    command.arg(root.join("bin/chat-websocket-server.php"));
    let output = command.output().expect("php runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("/nowhere") && stderr.contains("install it"),
        "{stderr}"
    );
    let output = command
        .env("ANDREA_CHAT_WEBSOCKET", "/bin/echo")
        .output()
        .expect("php runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, format!("serve --root {}\n", root.display()));
}
