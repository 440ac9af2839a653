//! Replays the recordings of a second start, and of pid files of dead and live processes (ops.json). Where the contract
//! differs from the recording, the exception states the reason.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::mariadb::Database;
use crate::support::ops::{await_turn, ensure, pid_file, recorded, seeded, set, setting};
use crate::support::{clock, reaper, seed, wait, workers};

const STATUS: &str = "chat_websocket_status";
const PID: &str = "chat_websocket_pid";
const LAST_SEEN: &str = "chat_websocket_last_seen_at";
const LAST_STARTED: &str = "chat_websocket_last_started_at";

/// A process that is no chat daemon, or that looks like the PHP one.
struct UnrelatedProcess(Child);

impl UnrelatedProcess {
    fn start(looks_like_a_daemon: bool) -> UnrelatedProcess {
        let name = match looks_like_a_daemon {
            true => "bin/chat-websocket-server.php",
            false => "some-other-program",
        };
        let child = Command::new("sh")
            .args(["-c", "read -r _", name])
            .stdin(Stdio::piped())
            .spawn()
            .expect("start a shell");
        reaper::watch(&child);
        UnrelatedProcess(child)
    }
}

impl Drop for UnrelatedProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        reaper::forget(&self.0);
    }
}

fn prepare_pid_file(database: &Database, content: &str) -> Arc<Install> {
    let install = Install::new(database, &Options::new());
    let file = install.pid_file();
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("make the folder");
    std::fs::write(file, content).expect("write the pid file");
    install
}

#[test]
fn a_second_start_beside_a_healthy_daemon_changes_nothing() {
    needs!(MariaDb);
    let recorded = recorded("second");
    let recorded = recorded.need("while_healthy");
    let (database, mut conn) = seeded();
    let first = Daemon::start(&database, &Options::new());
    // Frozen after its first heartbeats, the first daemon writes nothing: any change would come from the second.
    await_turn(&first, &mut conn);
    first.freeze();
    for key in [STATUS, PID, LAST_STARTED] {
        set(&mut conn, key, "untouched");
    }
    let fresh = clock::app_time(0);
    set(&mut conn, LAST_SEEN, &fresh);
    let before = first.log();
    let mut second = Daemon::spawn(Arc::clone(&first.install), &Options::new());
    let status = second.wait_exit(wait::LIMIT);
    assert_eq!(
        status.code().map(i64::from),
        recorded.need("exit_code").int()
    );
    assert_eq!(
        Some(second.stdout().as_str()),
        recorded.need("stdout").str()
    );
    let pid = first.pid().to_string();
    let stderr = recorded.need("stderr").str().expect("a text");
    assert_eq!(second.stderr(), stderr.replace("<first pid>", &pid));
    for key in [STATUS, PID, LAST_STARTED] {
        assert_eq!(setting(&mut conn, key).as_deref(), Some("untouched"));
    }
    assert_eq!(setting(&mut conn, LAST_SEEN), Some(fresh));
    assert_eq!(pid_file(&first), Some(pid));
    assert_eq!(first.log(), before);
    first.thaw();
    first.login(1).unwrap();
}

/// The recorded second daemon removed the pid file of the first, which still ran, and called the service failed.
/// The contract's lock keeps it from that: it says whom to end and leaves everything as it was.
#[test]
fn a_second_start_beside_a_live_daemon_without_a_heartbeat_harms_nothing() {
    needs!(MariaDb);
    let recorded = recorded("second");
    let recorded = recorded.need("first_one_alive_but_heartbeat_95_seconds_old");
    let (database, mut conn) = seeded();
    let first = Daemon::start(&database, &Options::new());
    let mut client = first.login(1).unwrap();
    await_turn(&first, &mut conn);
    first.freeze();
    let old = clock::app_time(-95);
    set(&mut conn, LAST_SEEN, &old);
    set(&mut conn, LAST_STARTED, "untouched");
    let mut second = Daemon::spawn(Arc::clone(&first.install), &Options::new());
    let status = second.wait_exit(wait::LIMIT);
    assert_eq!(
        status.code().map(i64::from),
        recorded.need("exit_code").int()
    );
    let stderr = second.stderr();
    let pid = first.pid().to_string();
    assert!(stderr.contains(&pid) && stderr.contains("kill"), "{stderr}");
    assert_eq!(setting(&mut conn, STATUS).as_deref(), Some("running"));
    assert_eq!(setting(&mut conn, LAST_SEEN), Some(old));
    assert_eq!(
        setting(&mut conn, LAST_STARTED).as_deref(),
        Some("untouched")
    );
    assert_eq!(pid_file(&first), Some(pid));
    assert!(recorded.need("first_one_still_alive").is_true());
    first.thaw();
    assert!(client.ping_barrier().unwrap().1.is_none());
}

/// Of the recorded two both ran, and the first one's stop called the other one stopped.
#[test]
fn of_two_that_start_at_once_on_two_ports_one_runs() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let install = Install::new(&database, &Options::new());
    let start = || Daemon::spawn(Arc::clone(&install), &Options::new());
    let mut pair = [start(), start()];
    let loser = wait::until(wait::LIMIT, || {
        pair.iter_mut().position(|one| one.exit_now().is_some())
    });
    let loser = loser.expect("one of them ends");
    let status = pair[loser].wait_exit(wait::LIMIT);
    assert_eq!(status.code(), Some(0), "{}", pair[loser].report());
    let winner = &mut pair[1 - loser];
    winner.await_listening();
    assert_eq!(pid_file(winner), Some(winner.pid().to_string()));
    assert_eq!(setting(&mut conn, PID), pid_file(winner));
    winner.login(1).unwrap();
}

#[test]
fn a_live_process_in_the_pid_file_counts_only_if_it_is_a_chat_daemon() {
    needs!(MariaDb);
    let recorded = recorded("second");
    let rows = recorded.need("pid_file_of_a_live_process").items();
    let jobs = rows.len() * 2;
    let complaints = workers::run(jobs, seeded, |(database, conn), job| {
        let row = &rows[job / 2];
        let is_daemon = job % 2 == 1;
        seed::reset(conn);
        let unrelated = UnrelatedProcess::start(is_daemon);
        let age = row.need("heartbeat_age_seconds").int().expect("seconds");
        let age_at_start = if age.abs() > 90 { age } else { age.min(60) };
        set(conn, LAST_SEEN, &clock::app_time(-age_at_start));
        let pid = unrelated.0.id().to_string();
        let install = prepare_pid_file(database, &pid);
        // A pid that another program has taken over is no daemon: there the contract betters the recording,
        // which does not look. A daemon's heartbeat counts for the contract's 90 s, from the past as from the future; the
        // recording has 60 s, and no end of a future.
        let starts = !is_daemon || age.abs() > 90;
        let mut daemon = Daemon::spawn(install, &Options::new());
        let outcome = if starts {
            daemon.await_listening();
            let own = Some(daemon.pid().to_string());
            ensure(pid_file(&daemon) == own, || "the pid file".to_owned())
        } else {
            // However long the start takes, the heartbeat is far from the limit, which has a test of its own.
            let ended = wait::until(wait::LIMIT, || {
                set(conn, LAST_SEEN, &clock::app_time(-age.min(60)));
                daemon.exit_now()
            });
            let status = ended.ok_or("the daemon runs on")?;
            let says =
                format!("A healthy chat websocket daemon is already running with PID {pid}.\n");
            ensure(status.code() == Some(0) && daemon.stderr() == says, || {
                daemon.report()
            })
        };
        outcome.map_err(|e| format!("{row}, looks like a daemon: {is_daemon}: {e}"))
    });
    workers::judge("pid files", jobs, &complaints);
}

/// Process 1, which half of the recorded contents name, is alive and no chat daemon, so under the contract every
/// one of them lets the daemon start.
#[test]
fn no_leftover_of_a_pid_file_stops_a_start() {
    needs!(MariaDb);
    let recorded = recorded("second");
    let rows = recorded.need("pid_file_contents").items();
    let complaints = workers::run(rows.len() + 1, seeded, |(database, conn), job| {
        seed::reset(conn);
        let dead;
        let (content, seen) = match rows.get(job) {
            Some(row) => (
                row.need("pid_file").str().expect("a content"),
                row.need("last_seen_at").str().expect("a time"),
            ),
            // The row `pid_file_of_a_dead_process`.
            None => {
                let mut child = UnrelatedProcess::start(true);
                child.0.kill().expect("kill the shell");
                child.0.wait().expect("wait for the shell");
                dead = child.0.id().to_string();
                (dead.as_str(), "fresh")
            }
        };
        let now = clock::app_time(0);
        set(conn, LAST_SEEN, if seen == "fresh" { &now } else { seen });
        let install = prepare_pid_file(database, content);
        let mut daemon = Daemon::spawn(install, &Options::new());
        daemon.await_listening();
        let own = Some(daemon.pid().to_string());
        ensure(pid_file(&daemon) == own, || {
            format!("{content:?}: {:?}", pid_file(&daemon))
        })
    });
    workers::judge("contents of the pid file", rows.len() + 1, &complaints);
}
