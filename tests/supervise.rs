//! The supervisor's runs as cron makes them, on real daemons: started, stopped, restarted, hung, crashed, and what
//! must never happen to a process that is none of its business.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use mysql::prelude::Queryable;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::support::cron::{
    Cron, LAST_SEEN, LONG_AGO, Other, PROGRAM, RESTART_REQUESTED, STATUS, STOP_REQUESTED, is_alive,
    said, signal, stat, write_pid_file,
};
use crate::support::daemon::is_stamp;
use crate::support::mariadb::Server;
use crate::support::{clock, wait, ws};

#[test]
fn a_daemon_is_started_from_crons_environment_and_keeps_nothing_of_it() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let pid = cron.started();
    cron.serves();
    assert_eq!(cron.setting("chat_websocket_pid"), pid.to_string());
    let fields = stat(pid).expect("alive");
    assert_eq!(
        fields[2..5],
        [pid.to_string(), pid.to_string(), "0".to_owned()]
    );
    let link = |name: &str| {
        let link = fs::read_link(format!("/proc/{pid}/{name}")).expect("readable");
        link.display().to_string()
    };
    let log = cron.install.log_file().display().to_string();
    assert_eq!(link("cwd"), cron.root());
    assert_eq!(
        [link("fd/0"), link("fd/1"), link("fd/2")],
        ["/dev/null".to_owned(), log.clone(), log]
    );
    let lock = cron
        .install
        .root()
        .join("storage/runtime/chat-supervisor.lock");
    let open: Vec<_> = fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("readable")
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .collect();
    assert!(open.len() > 5 && !open.contains(&lock), "{open:?}");

    // So the next run is not kept from its work, as the recorded one was.
    let checked = vec!["chat websocket status checked".to_owned()];
    assert_eq!(cron.run(), (0, checked));
    assert_eq!(cron.setting(STATUS), "running");
    assert_eq!(cron.pid(), Some(pid));
}

#[test]
fn a_lock_of_a_wrapper_round_the_supervisor_is_not_kept() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let lock = cron.install.root().join("wrapper.lock");
    let wrapped = |cron: &mut Cron| {
        let script = format!(
            "exec 9>{}; flock -n 9 || exit 5; {PROGRAM} supervise --root {}",
            lock.display(),
            cron.root()
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .output()
            .expect("run");
        cron.note_daemon();
        said(&output).0
    };
    assert_eq!(wrapped(&mut cron), 0);
    assert!(cron.pid().is_some());
    assert_eq!(wrapped(&mut cron), 0, "the daemon does not hold it");
}

#[test]
fn a_daemon_is_restarted_and_stopped_as_the_settings_ask() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let first = cron.started();
    let mut client = ws::Client::login(cron.port, 1).unwrap();
    cron.set(RESTART_REQUESTED, "1");
    let second = cron.started();
    assert_ne!(first, second);
    assert!(!is_alive(first));
    assert_eq!(client.until_end().unwrap().1, Some(1001));
    assert_eq!(cron.setting(RESTART_REQUESTED), "0");
    cron.serves();

    cron.set("chat_websocket_autostart", "0");
    let stopped = format!("stopped chat websocket daemon pid={second}");
    assert_eq!(cron.run(), (0, vec![stopped]));
    assert!(!is_alive(second));
    assert_eq!(cron.setting(STATUS), "stopped");
    assert_eq!(cron.setting("chat_websocket_pid"), "");
    assert_eq!(cron.pid(), None);

    let checked = vec!["chat websocket status checked".to_owned()];
    assert_eq!(cron.run(), (0, checked.clone()));
    cron.set(STOP_REQUESTED, "1");
    cron.set("chat_websocket_autostart", "1");
    assert_eq!(cron.run(), (0, checked), "a stop request comes first");
    assert_eq!(cron.setting(STOP_REQUESTED), "0");
    assert_eq!(cron.pid(), None);
}

#[test]
fn a_stop_request_that_the_daemon_has_obeyed_already_is_no_start() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let pid = cron.started();
    cron.set("chat_websocket_autostart", "0");
    cron.set(STOP_REQUESTED, "1");
    wait::until(wait::LIMIT, || (!is_alive(pid)).then_some(())).expect("it obeys");
    let checked = vec!["chat websocket status checked".to_owned()];
    assert_eq!(cron.run(), (0, checked));
    assert_eq!(cron.setting(STATUS), "stopped");
}

#[test]
fn a_hung_daemon_is_killed_and_another_started() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let hung = cron.started();
    cron.freeze(hung);
    cron.set(LAST_SEEN, LONG_AGO);
    let begun = Instant::now();
    let (code, lines) = cron.run();
    let took = begun.elapsed().as_secs();
    assert!(took >= 5, "it had 5 s to end, not {took}");
    let new = cron.pid().expect("a pid file");
    assert_ne!(new, hung);
    assert_eq!(
        (code, lines),
        (
            0,
            vec![
                format!("killed hung chat websocket daemon pid={hung}"),
                format!("restarting stale chat websocket daemon pid={hung}"),
                format!("started chat websocket daemon pid={new}"),
            ]
        )
    );
    assert!(!is_alive(hung));
    cron.serves();
}

#[test]
fn a_daemon_that_hangs_but_may_still_come_back_is_not_killed() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let hung = cron.started();
    cron.freeze(hung);
    cron.set(RESTART_REQUESTED, "1");
    let line = format!("restart delayed; existing chat websocket daemon still alive pid={hung}");
    assert_eq!(cron.run(), (1, vec![line]));
    assert!(is_alive(hung));
    assert_eq!(cron.setting(STATUS), "stale");
    assert_eq!(cron.setting(RESTART_REQUESTED), "1", "still to be done");
    // It gets the signal that waits for it, and the next run starts another.
    signal(hung, Signal::CONT);
    wait::until(wait::LIMIT, || (!is_alive(hung)).then_some(())).expect("it ends");
    cron.started();
    assert_eq!(cron.setting(RESTART_REQUESTED), "0");
}

#[test]
fn a_crashed_daemon_is_started_again_at_once() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let crashed = cron.started();
    signal(crashed, Signal::KILL);
    wait::until(wait::LIMIT, || (!is_alive(crashed)).then_some(())).expect("it ends");
    assert_eq!(cron.pid(), Some(crashed), "it could not remove its file");
    assert_ne!(cron.started(), crashed);
    cron.serves();
}

#[test]
fn another_program_that_has_the_daemons_old_number_is_left_alone() {
    needs!(MariaDb);
    for stop in [false, true] {
        let mut cron = Cron::new();
        let mut sleep = Command::new("sleep");
        sleep.arg("600");
        let other = Other::start(sleep);
        write_pid_file(&cron.install, other.pid());
        cron.set(LAST_SEEN, LONG_AGO);
        if stop {
            cron.set(STOP_REQUESTED, "1");
            let checked = vec!["chat websocket status checked".to_owned()];
            assert_eq!(cron.run(), (0, checked));
        } else {
            let pid = cron.started();
            assert_ne!(pid, other.pid());
        }
        assert!(is_alive(other.pid()));
    }
}

#[test]
fn a_daemon_of_another_install_is_left_alone() {
    needs!(MariaDb);
    let mut one = Cron::new();
    let mut two = Cron::new();
    let pid = one.started();
    // As after a reboot, where numbers come again.
    write_pid_file(&two.install, pid);
    two.set(LAST_SEEN, LONG_AGO);
    assert_ne!(two.started(), pid);
    assert!(is_alive(pid));
    one.serves();
    two.serves();
}

#[test]
fn the_php_daemon_is_stopped_like_ours_and_killed_when_it_hangs() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let php = Other::deaf_php_daemon(cron.install.root());
    write_pid_file(&cron.install, php.pid());
    cron.set(STOP_REQUESTED, "1");
    // Fresh for as long as the run may take: a minute from now.
    cron.set(LAST_SEEN, &clock::app_time(60));
    let pending = format!("stop pending for chat websocket daemon pid={}", php.pid());
    assert_eq!(cron.run(), (0, vec![pending]));
    assert_eq!(cron.setting(STATUS), "stale");
    assert!(is_alive(php.pid()));

    cron.set(LAST_SEEN, LONG_AGO);
    let killed = format!("killed hung chat websocket daemon pid={}", php.pid());
    let stopped = format!("stopped chat websocket daemon pid={}", php.pid());
    assert_eq!(cron.run(), (0, vec![killed, stopped]));
    assert!(!is_alive(php.pid()));
}

#[test]
fn a_run_beside_another_ends_at_once_and_says_nothing() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let runtime = cron.install.root().join("storage/runtime");
    fs::create_dir_all(&runtime).expect("make the folder");
    let lock = File::create(runtime.join("chat-supervisor.lock")).expect("make the lock");
    flock(&lock, FlockOperation::LockExclusive).expect("lock it");
    assert_eq!(cron.run(), (0, vec![]));
    assert_eq!(cron.pid(), None);
    assert_eq!(cron.setting(STATUS), "stopped");
    drop(lock);
    cron.started();
}

#[test]
fn of_two_supervisors_at_once_one_starts_one_daemon() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let runs: Vec<Child> = (0..4)
        .map(|_| {
            let mut command = cron.command();
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("run a supervisor")
        })
        .collect();
    let outputs: Vec<_> = runs
        .into_iter()
        .map(|run| said(&run.wait_with_output().expect("its output")))
        .collect();
    cron.note_daemon();
    let lines: Vec<_> = outputs.iter().flat_map(|(_, lines)| lines).collect();
    assert!(outputs.iter().all(|(code, _)| *code == 0), "{outputs:?}");
    let pid = cron.pid().expect("a pid file");
    let started = format!("started chat websocket daemon pid={pid}");
    let starts = lines.iter().filter(|line| ***line == started).count();
    assert_eq!(starts, 1, "{lines:?}");
    // One that came so late that the lock was free again has looked and found all well.
    let rest = lines.iter().filter(|line| ***line != started);
    assert!(
        rest.clone()
            .all(|line| *line == "chat websocket status checked")
    );
    let listening = cron.install.log().matches("listening on").count();
    assert_eq!(listening, 1);
}

#[test]
fn in_external_mode_processes_are_left_alone() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let pid = cron.started();
    cron.set("chat_websocket_management_mode", "external");
    cron.set(RESTART_REQUESTED, "1");
    cron.set("chat_enabled", "0");
    let line = vec!["external mode: status only".to_owned()];
    assert_eq!(cron.run(), (0, line.clone()));
    assert_eq!(cron.setting(STATUS), "running");
    cron.set(LAST_SEEN, LONG_AGO);
    cron.freeze(pid);
    cron.set(LAST_SEEN, LONG_AGO);
    assert_eq!(cron.run(), (0, line.clone()));
    assert_eq!(cron.setting(STATUS), "stale");
    signal(pid, Signal::KILL);
    wait::until(wait::LIMIT, || (!is_alive(pid)).then_some(())).expect("it ends");
    assert_eq!(cron.run(), (0, line));
    assert_eq!(cron.setting(STATUS), "stopped");
    assert_eq!(cron.setting(RESTART_REQUESTED), "1");
}

#[test]
fn a_start_that_fails_says_why_and_leaves_the_reason_in_the_log() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let taken = std::net::TcpListener::bind(("127.0.0.1", cron.port)).expect("the port is free");
    let (code, lines) = cron.run();
    assert_eq!((code, lines.len()), (1, 1), "{lines:?}");
    let line = &lines[0];
    assert!(
        line.starts_with("failed to start chat websocket daemon: "),
        "{line}"
    );
    assert!(line.contains("Address already in use"), "{line}");
    assert_eq!(cron.setting(STATUS), "failed");
    for line in cron.install.log().lines() {
        assert!(is_stamp(line.split_once("] ").expect("a time").0), "{line}");
    }
    drop(taken);
    cron.started();
}

#[test]
fn a_daemon_that_cannot_have_its_address_is_never_shown_as_running() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    // Another program has the address and answers there.
    let other = std::net::TcpListener::bind(("127.0.0.1", cron.port)).expect("the port is free");
    std::thread::Builder::new()
        .spawn(move || {
            for mut socket in other.incoming().flatten() {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            }
        })
        .expect("a thread");
    // Every status that the daemon shows, for however short a time.
    for statement in [
        "CREATE TABLE shown (status TEXT)",
        "CREATE TRIGGER show_status AFTER UPDATE ON settings FOR EACH ROW \
         INSERT INTO shown SELECT NEW.value FROM DUAL WHERE NEW.key_name = 'chat_websocket_status'",
    ] {
        cron.conn.query_drop(statement).expect(statement);
    }
    let (code, lines) = cron.run();
    assert_eq!((code, lines.len()), (1, 1), "{lines:?}");
    assert!(lines[0].contains("Address already in use"), "{lines:?}");
    let shown: Vec<String> = cron.conn.query("SELECT status FROM shown").expect("rows");
    assert!(!shown.is_empty());
    assert!(shown.iter().all(|status| status == "failed"), "{shown:?}");
}

#[test]
fn a_database_that_cannot_be_reached_is_an_error_with_its_reason() {
    needs!(MariaDb);
    let mut server = Server::own();
    let mut cron = Cron::on(&server.fresh());
    server.stop();
    let (code, lines) = cron.run();
    assert_eq!((code, lines.len()), (1, 1));
    let line = &lines[0];
    assert!(
        line.starts_with("ERROR: ") && line.contains("refused"),
        "{line}"
    );
    assert_eq!(cron.pid(), None);
}

#[test]
fn a_folder_that_is_no_install_is_an_error_on_standard_error() {
    needs!(MariaDb);
    let cron = Cron::new();
    fs::remove_file(cron.install.root().join(".env")).expect("remove .env");
    let output = cron.command().output().expect("run");
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        stderr.contains("there is no .env in") && stderr.contains("--root DIR"),
        "{stderr}"
    );
    // Nothing was made there.
    assert_eq!(
        fs::read_dir(cron.install.root()).expect("a folder").count(),
        0
    );
}

#[test]
fn folders_that_a_first_run_makes_are_for_the_owners_group_too() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("umask 002; {PROGRAM} supervise --root {}", cron.root()),
    ]);
    let output = command.output().expect("run");
    assert_eq!(said(&output).0, 0);
    cron.note_daemon();
    for name in ["storage/runtime", "storage/logs"] {
        let mode = fs::metadata(cron.install.root().join(name))
            .expect(name)
            .mode();
        assert_eq!(mode & 0o777, 0o775, "{name}");
    }
}

#[test]
fn what_a_service_manager_tells_the_supervisor_is_not_for_the_daemon() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let names = [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_PID",
    ];
    let output = cron.command().envs(names.map(|name| (name, "1"))).output();
    cron.note_daemon();
    assert_eq!(said(&output.expect("run the supervisor")).0, 0);
    let pid = cron.pid().expect("a daemon");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("PATH="), "{environment:?}");
    for name in names {
        assert!(!environment.contains(name), "{environment:?}");
    }
}
