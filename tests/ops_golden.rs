//! Replays the recordings of starting, stopping, signals and second starts (ops.json). Where the contract differs from
//! the recording, the exception states the reason.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use mysql::Conn;
use rustix::process::Signal;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::ops::{
    await_look, await_turn, check_log, check_settings, ensure, pid_file, recorded, seeded, set,
    setting,
};
use crate::support::ws::Client;
use crate::support::{clock, seed, wait, workers};

const STATUS: &str = "chat_websocket_status";
const PID: &str = "chat_websocket_pid";
const LAST_SEEN: &str = "chat_websocket_last_seen_at";
const STOP_REQUESTED: &str = "chat_websocket_stop_requested";

/// The recording listened on this port; ours are the kernel's choice.
fn renamed(daemon: &Daemon) -> [(String, String); 1] {
    [("18090".to_owned(), daemon.port().to_string())]
}

/// As a recording writes an exit: the code, or minus the signal.
fn exit_number(status: ExitStatus) -> Option<i64> {
    let code = status.code().or(status.signal().map(|signal| -signal));
    code.map(i64::from)
}

#[test]
fn a_start_leaves_the_recorded_files_rows_and_log_lines() {
    needs!(MariaDb);
    let recorded = recorded("start");
    let (database, mut conn) = seeded();
    let options = Options::new().through(&["sh", "-c", "umask 022; exec \"$@\"", "sh"]);
    let mut daemon = Daemon::start(&database, &options);
    assert_eq!(pid_file(&daemon), Some(daemon.pid().to_string()));
    let lines = recorded.need("log_file").need("lines_after_start");
    check_log(&daemon.log(), lines, &renamed(&daemon)).unwrap();
    let rows = recorded.need("settings_after_start");
    check_settings(&mut conn, rows, &[("<pid>", daemon.pid())]).unwrap();
    for (name, mode) in recorded.need("modes_with_umask_022").entries() {
        let path = daemon.install.root().join("storage").join(name);
        let found = path.metadata().expect(name).permissions().mode() & 0o777;
        assert_eq!(Some(format!("{found:#o}").as_str()), mode.str(), "{name}");
    }
    assert_eq!(daemon.stop().code(), Some(0));
    let lines = recorded.need("log_after_sigterm");
    check_log(&daemon.log(), lines, &renamed(&daemon)).unwrap();
    assert_eq!((daemon.stdout(), daemon.stderr()), Default::default());
}

#[test]
fn the_heartbeat_says_every_fifteen_seconds_that_the_daemon_runs() {
    needs!(MariaDb);
    let recorded = recorded("start");
    let writes = recorded.need("writes_to_settings_in_35_seconds").items();
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    // The first two come one right behind the other, as in the recording; this is beyond them.
    await_turn(&daemon, &mut conn);
    let first = setting(&mut conn, LAST_SEEN).expect("a heartbeat");
    set(&mut conn, STATUS, "overwritten");
    set(&mut conn, PID, "overwritten");
    wait::until(wait::LIMIT, || {
        (setting(&mut conn, STATUS)? == "running").then_some(())
    })
    .expect("the next heartbeat");
    let second = setting(&mut conn, LAST_SEEN).expect("a heartbeat");
    let age = |text: &str| clock::seconds_since(text).expect("a time");
    let between = age(&first) - age(&second);
    assert!((14..45).contains(&between), "{first}, {second}");
    for write in writes.iter().filter(|w| w.items()[0].str().is_none()) {
        let [_, key, value] = write.items() else {
            panic!("a write has a time, a key and a value: {write}");
        };
        let row = Json::Object(vec![(key.str().expect("a key").to_owned(), value.clone())]);
        check_settings(&mut conn, &row, &[("<pid>", daemon.pid())]).unwrap();
    }
}

/// What a stop leaves, and what the clients see of it.
fn check_stopped(
    daemon: &mut Daemon,
    conn: &mut Conn,
    clients: Vec<Client>,
    recorded: &Json,
) -> Result<(), String> {
    let status = daemon.wait_exit(wait::LIMIT);
    let wanted = recorded
        .get("exit_code")
        .or_else(|| recorded.get("exit_status"));
    ensure(exit_number(status) == wanted.and_then(Json::int), || {
        format!("ended with {status}")
    })?;
    check_settings(conn, recorded.need("settings"), &[("<pid>", daemon.pid())])?;
    let wanted = recorded
        .need("pid_file")
        .str()
        .map(|_| daemon.pid().to_string());
    ensure(pid_file(daemon) == wanted, || {
        format!("the pid file holds {:?}", pid_file(daemon))
    })?;
    check_log(&daemon.log(), recorded.need("log"), &renamed(daemon))?;
    ensure(daemon.stderr().is_empty(), || daemon.stderr())?;
    for mut client in clients {
        let (_, closed) = client.until_end().map_err(|e| format!("{e:?}"))?;
        // The contract asks for a close; the recorded daemon only ended the stream. A killed one cannot.
        let code = (status.code() == Some(0)).then_some(1001);
        ensure(closed == code, || format!("a client got {closed:?}"))?;
    }
    Ok(())
}

#[test]
fn the_stop_flag_stops_and_leaves_what_was_recorded() {
    needs!(MariaDb);
    let recorded = recorded("stop");
    let (database, mut conn) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let clients = vec![daemon.login(1).unwrap(), daemon.login(2).unwrap()];
    set(&mut conn, STOP_REQUESTED, "1");
    let left = recorded.need("left_behind");
    check_stopped(&mut daemon, &mut conn, clients, left).unwrap();

    set(&mut conn, STOP_REQUESTED, "1");
    let mut daemon = Daemon::start(&database, &Options::new());
    let left = recorded.need("flag_set_before_start");
    let with_stderr = Json::Object([left.entries(), &[]].concat());
    check_stopped(&mut daemon, &mut conn, vec![], &with_stderr).unwrap();
}

#[test]
fn only_a_flag_of_one_stops_and_no_other_setting_does() {
    needs!(MariaDb);
    let recorded = recorded("stop");
    let values = recorded.need("values").items();
    let others = recorded.need("not_looked_at").items();
    let jobs = values.len() + others.len();
    let complaints = workers::run(jobs, seeded, |(database, conn), job| {
        seed::reset(conn);
        let mut daemon = Daemon::try_start(database, &Options::new())?;
        match values.get(job) {
            Some(pair) => stop_value(&mut daemon, conn, pair.items()),
            None => other_setting(&mut daemon, conn, &others[job - values.len()]),
        }
    });
    workers::judge("settings", jobs, &complaints);
}

fn stop_value(daemon: &mut Daemon, conn: &mut Conn, pair: &[Json]) -> Result<(), String> {
    let [value, outcome] = pair else {
        panic!("a value and its outcome");
    };
    if value.str() == Some("no such row") {
        let statement = format!("DELETE FROM settings WHERE key_name = '{STOP_REQUESTED}'");
        seed::run(conn, &statement, vec![]);
    } else {
        seed::set(conn, STOP_REQUESTED, value);
    }
    match outcome.str() {
        Some("stops") => {
            let status = daemon.wait_exit(wait::LIMIT);
            ensure(status.code() == Some(0), || format!("{value}: {status}"))?;
            ensure(
                setting(conn, STOP_REQUESTED).as_deref() == Some("0"),
                || format!("{value}: the flag is still set"),
            )
        }
        Some("goes on") => goes_on(daemon, conn).map_err(|e| format!("{value}: {e}")),
        other => panic!("unknown outcome {other:?}"),
    }
}

fn other_setting(daemon: &mut Daemon, conn: &mut Conn, pair: &Json) -> Result<(), String> {
    let [changes, outcome] = pair.items() else {
        panic!("a setting and its outcome: {pair}");
    };
    assert_eq!(outcome.str(), Some("runs"));
    for (key, value) in changes.entries() {
        seed::set(conn, key, value);
    }
    goes_on(daemon, conn).map_err(|e| format!("{changes}: {e}"))?;
    let answer = Client::connect(daemon.port());
    let switched_off = changes.get("chat_websocket_enabled").is_some();
    // The contract refuses new sockets of a service that is switched off; the recorded daemon takes them.
    match (switched_off, answer) {
        (true, Err(fault)) if fault.to_string().contains("503") => Ok(()),
        (false, Ok(_)) => Ok(()),
        (_, answer) => Err(format!("{changes}: {:?}", answer.err())),
    }
}

/// The daemon has looked twice, so it would have stopped after the first time.
fn goes_on(daemon: &mut Daemon, conn: &mut Conn) -> Result<(), String> {
    await_turn(daemon, conn);
    ensure(!daemon.log().contains("stop"), || daemon.log())?;
    daemon.check_life()
}

#[test]
fn signals_do_what_was_recorded() {
    needs!(MariaDb);
    let signals = recorded("signals");
    let each = signals.need("each").items();
    let complaints = workers::run(each.len(), seeded, |(database, conn), job| {
        seed::reset(conn);
        signal(database, conn, &each[job]).map_err(|e| format!("{}: {e}", each[job]))
    });
    workers::judge("signals", each.len(), &complaints);
}

fn signal(database: &Database, conn: &mut Conn, case: &Json) -> Result<(), String> {
    let name = case.need("signal").str().expect("a name");
    let signal = match name {
        "SIGTERM" => Signal::TERM,
        "SIGINT" => Signal::INT,
        "SIGHUP" => Signal::HUP,
        "SIGQUIT" => Signal::QUIT,
        "SIGUSR1" => Signal::USR1,
        "SIGPIPE" => Signal::PIPE,
        "SIGKILL" => Signal::KILL,
        other => panic!("unknown signal {other}"),
    };
    let nohup = if case.need("started_with_nohup").is_true() {
        "trap '' HUP;"
    } else {
        ""
    };
    // SIGQUIT would leave a core file in the repository.
    let script = format!("ulimit -c 0; {nohup} exec \"$@\"");
    let options = Options::new().through(&["sh", "-c", &script, "sh"]);
    let mut daemon = Daemon::try_start(database, &options)?;
    let login = |agent| daemon.login(agent).map_err(|e| format!("{e:?}"));
    let mut clients = vec![login(1)?, login(2)?];
    // SIGHUP ended the recorded daemon, or cut its idle sockets; the contract makes it a request to read the
    // settings again.
    if name == "SIGHUP" {
        set(conn, "chat_enabled", "0");
        await_look(&daemon, conn);
        daemon.await_log("reading the settings again");
        clients[0].send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#);
        let error = clients[0]
            .until_type("error")
            .map_err(|e| format!("{e:?}"))?;
        let text = error.need("message").str();
        ensure(text == Some("Internal chat is disabled"), || {
            error.to_string()
        })?;
        return still_serves(&mut daemon, clients);
    }
    daemon.signal(signal);
    if case.need("ends").is_true() {
        return check_stopped(&mut daemon, conn, clients, case);
    }
    for state in case.need("idle_connections_after").items() {
        assert_eq!(state.str(), Some("open"));
    }
    assert!(case.need("takes_new_connections").is_true());
    still_serves(&mut daemon, clients)
}

fn still_serves(daemon: &mut Daemon, clients: Vec<Client>) -> Result<(), String> {
    for mut client in clients {
        let (_, end) = client.ping_barrier().map_err(|e| format!("{e:?}"))?;
        ensure(end.is_none(), || format!("a client was closed: {end:?}"))?;
    }
    daemon.login(3).map_err(|e| format!("{e:?}"))?;
    daemon.check_life()
}

#[test]
fn a_killed_daemon_leaves_nothing_that_stops_the_next_one() {
    needs!(MariaDb);
    let recorded = recorded("signals");
    let recorded = recorded.need("start_after_SIGKILL");
    let (database, mut conn) = seeded();
    let install = Install::new(&database, &Options::new());
    let mut first = Daemon::start_in(Arc::clone(&install), &Options::new());
    let first_port = first.port();
    first.signal(Signal::KILL);
    first.wait_exit(wait::LIMIT);
    let second = Daemon::start_in(install, &Options::new());
    assert_eq!(pid_file(&second), Some(second.pid().to_string()));
    let rows = recorded.need("settings");
    check_settings(&mut conn, rows, &[("<pid>", second.pid())]).unwrap();
    let lines = recorded.need("log").items();
    let listening = |port| [("18090".to_owned(), u16::to_string(&port))];
    check_log(
        &second.log(),
        &Json::Array(vec![lines[1].clone()]),
        &listening(second.port()),
    )
    .unwrap();
    check_log(
        first
            .log()
            .lines()
            .find(|line| line.contains("listening"))
            .expect("a line"),
        &Json::Array(vec![lines[0].clone()]),
        &listening(first_port),
    )
    .unwrap();
}

#[test]
fn a_stopped_and_continued_daemon_answers() {
    needs!(MariaDb);
    let recorded = recorded("signals");
    let recorded = recorded.need("SIGSTOP_for_1.5_seconds_then_SIGCONT");
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut client = daemon.login(1).unwrap();
    daemon.freeze();
    client.send(r#"{"type":"ping"}"#);
    wait::pass(Duration::from_millis(1500));
    daemon.thaw();
    let answer = client.next_json().unwrap();
    let kind = recorded.need("ping_answered_with");
    assert_eq!(answer.need("type"), kind);
}
