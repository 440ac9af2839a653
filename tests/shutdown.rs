//! The shutdown: every socket gets its close frame, received messages are committed and answered, and nothing is left
//! behind, all within the supervisor's five seconds, even where the database or the clients hang.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use mysql::Conn;
use rustix::process::Signal;

use crate::support::chat::{Answer, Participant, Place, audit};
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::mariadb::{Database, Server};
use crate::support::ops::{pid_file, seeded, set, setting};
use crate::support::stopwatch::Stopwatch;
use crate::support::ws::Client;
use crate::support::{mariadb, seed, wait};

/// How long the supervisor waits: a figure of the contract, and the service's own limit is a second below.
const SUPERVISOR_WAITS: Duration = Duration::from_secs(5);

/// How long a stop waits for what is being committed.
const COMMIT_SHARE: Duration = Duration::from_millis(1500);

/// Stops the daemon; it must end as asked and in time, and leave no pid file.
fn stop(daemon: &mut Daemon) {
    let begun = Stopwatch::start();
    let status = daemon.stop();
    let took = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    assert!(took < SUPERVISOR_WAITS, "the stop took {took:?}");
    assert_eq!(pid_file(daemon), None);
    daemon.await_log("] stopped");
}

fn assert_rows_of_a_stop(conn: &mut Conn) {
    let rows = [("status", "stopped"), ("pid", ""), ("stop_requested", "0")];
    for (key, value) in rows {
        let found = setting(conn, &format!("chat_websocket_{key}"));
        assert_eq!(found.as_deref(), Some(value), "{key}");
    }
}

#[test]
fn every_upgraded_socket_gets_1001_and_no_other_gets_a_frame() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut upgraded = [
        daemon.login(1).unwrap(),
        daemon.login(1).unwrap(),
        daemon.login(2).unwrap(),
        daemon.connect().unwrap(),
    ];
    let mut silent = Client::open(daemon.port());
    let mut half = Client::open(daemon.port());
    half.write(b"GET /ws/chat HTTP/1.1\r\nHost: x\r\n");
    // By the time of this answer the other two have been accepted.
    upgraded[0].ping_barrier().unwrap();
    stop(&mut daemon);
    for client in &mut upgraded {
        assert_eq!(client.until_end().unwrap().1, Some(1001));
    }
    for client in [&mut silent, &mut half] {
        let said = String::from_utf8(client.rest().unwrap()).expect("text");
        let fits = said.is_empty() || said.starts_with("HTTP/1.1 503 ");
        assert!(fits, "{said:?}");
    }
    assert_rows_of_a_stop(&mut conn);
}

#[test]
fn hundreds_of_sockets_get_1001_as_well() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", "1000")
        .env("CHAT_WEBSOCKET_MAX_PER_AGENT", "1000");
    let mut daemon = Daemon::start(&database, &options);
    let mut clients: Vec<Client> = (0..300).map(|_| daemon.connect().unwrap()).collect();
    stop(&mut daemon);
    for client in &mut clients {
        assert_eq!(client.until_end().unwrap().1, Some(1001));
    }
    assert_rows_of_a_stop(&mut conn);
}

/// A message that is being written by another door.
fn gap(database: &Database) -> Conn {
    let mut conn = database.conn();
    seed::run(&mut conn, "START TRANSACTION", vec![]);
    let row =
        r#"{"message_scope":"channel","channel_id":1,"sender_agent_id":1,"body_text":"never"}"#;
    seed::insert(&mut conn, "chat_messages", &[Json::parse(row).unwrap()]);
    conn
}

/// The stop has begun when this one can be committed.
#[test]
fn what_waited_for_a_lock_when_the_signal_came_is_answered() {
    needs!(MariaDb);
    // A test that holds the lock for longer than a stop waits for a commit says nothing; then it begins anew.
    wait::until(wait::LIMIT, stop_while_a_message_waits_for_a_lock).expect("one try is quick");
}

/// `None`: the lock was held for too long.
fn stop_while_a_message_waits_for_a_lock() -> Option<()> {
    let (database, mut conn) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut participant = Participant::login(daemon.port(), 1).unwrap();
    let mut other = daemon.login(3).unwrap();
    let mut locker = gap(&database);
    let lock = "SELECT id FROM chat_threads WHERE id = 1 FOR UPDATE";
    seed::run(&mut locker, lock, vec![]);
    let body = participant.body();
    participant.say(Place::Direct(1), &body);
    other.ping_barrier().unwrap();
    let begun = Instant::now();
    daemon.signal(Signal::TERM);
    // The port is closed once the stop has begun to read no more; then the message still waits.
    let closed = || std::net::TcpStream::connect(("127.0.0.1", daemon.port())).err();
    wait::until(wait::LIMIT, closed).expect("the port is closed");
    seed::run(&mut locker, "ROLLBACK", vec![]);
    let held = begun.elapsed();
    assert_eq!(daemon.wait_exit(wait::LIMIT).code(), Some(0));
    if held > COMMIT_SHARE / 2 {
        return None;
    }
    assert_eq!(participant.await_end().unwrap(), Some(1001));
    let answer = participant.sent[0].answer.clone();
    assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
    audit(&mut conn, &[&participant]).unwrap();
    Some(())
}

/// A person who presses Enter just before a restart must not lose the line.
#[test]
fn what_was_sent_before_the_signal_is_committed_and_answered() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    for round in 0..5 {
        let mut daemon = Daemon::start(&database, &options);
        let agents = [1, 2, 3, 4, 8].into_iter().cycle().take(40);
        let mut participants: Vec<Participant> = agents
            .map(|agent| Participant::login(daemon.port(), agent).unwrap())
            .collect();
        // Another transaction's message is never committed and leaves a gap before ours, which delivery waits for briefly.
        let mut gap = database.conn();
        seed::run(&mut gap, "START TRANSACTION", vec![]);
        let message =
            r#"{"message_scope":"channel","channel_id":1,"sender_agent_id":1,"body_text":"never"}"#;
        seed::insert(&mut gap, "chat_messages", &[Json::parse(message).unwrap()]);
        for participant in &mut participants {
            let body = format!("round {round}, {}", participant.body());
            participant.say(Place::Channel(1), &body);
        }
        stop(&mut daemon);
        drop(gap);
        for participant in &mut participants {
            assert_eq!(participant.await_end().unwrap(), Some(1001));
            let answer = participant.sent[0].answer.clone();
            assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
        }
        let participants: Vec<&Participant> = participants.iter().collect();
        audit(&mut conn, &participants).unwrap();
    }
    assert_rows_of_a_stop(&mut conn);
}

#[test]
fn of_what_was_sent_in_one_go_nothing_is_half_done() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    let mut daemon = Daemon::start(&database, &options);
    let mut participants: Vec<Participant> = [1, 2, 3, 4, 8]
        .map(|agent| Participant::login(daemon.port(), agent).unwrap())
        .into();
    for participant in &mut participants {
        participant.say_many(Place::Channel(1), 200);
    }
    participants[0].await_heard(100).unwrap();
    stop(&mut daemon);
    for participant in &mut participants {
        assert_eq!(participant.await_end().unwrap(), Some(1001));
    }
    let participants: Vec<&Participant> = participants.iter().collect();
    let table = audit(&mut conn, &participants).unwrap();
    // Whatever is stored was answered: its sender does not have to wonder.
    let answered = participants
        .iter()
        .flat_map(|participant| &participant.sent);
    let answered = answered.filter(|s| matches!(s.answer, Some(Answer::Stored(_))));
    assert_eq!(answered.count(), table.len());
    assert_rows_of_a_stop(&mut conn);
}

#[test]
fn clients_that_do_not_read_hold_up_no_stop() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "16000");
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    let mut daemon = Daemon::start(&database, &options);
    let deaf: Vec<Client> = (0..5).map(|_| daemon.login(2).unwrap()).collect();
    let mut loud = Participant::login(daemon.port(), 1).unwrap();
    // Small against what makes the daemon drop a slow reader, large against what a socket takes at once.
    for _ in 0..110 {
        let body = format!("{} {}", loud.body(), "x".repeat(15_000));
        loud.say(Place::Channel(2), &body);
        loud.await_answers().unwrap();
    }
    stop(&mut daemon);
    assert_eq!(loud.await_end().unwrap(), Some(1001));
    audit(&mut conn, &[&loud]).unwrap();
    assert_rows_of_a_stop(&mut conn);
    drop(deaf);
}

fn own_server() -> (Server, Database) {
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    (server, database)
}

#[test]
fn a_database_that_hangs_holds_up_no_stop() {
    needs!(MariaDb);
    let (server, database) = own_server();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut idle = daemon.login(1).unwrap();
    let mut sender = Participant::login(daemon.port(), 2).unwrap();
    let mut queued = Participant::login(daemon.port(), 3).unwrap();
    server.pause();
    let body = sender.body();
    sender.say(Place::Channel(1), &body);
    // Answered at once, although the message before it waits for the database.
    idle.ping_barrier().unwrap();
    let body = queued.body();
    queued.say(Place::Channel(1), &body);
    idle.ping_barrier().unwrap();
    stop(&mut daemon);
    assert_eq!(idle.until_end().unwrap().1, Some(1001));
    for participant in [&mut sender, &mut queued] {
        assert_eq!(participant.await_end().unwrap(), Some(1001));
        let answer = participant.sent[0].answer.clone();
        assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
    }
    server.resume();
    audit(&mut database.conn(), &[&sender, &queued]).unwrap();
    // The rows could not be written; the next start is not held up by them.
    let mut daemon = Daemon::start_in(daemon.install.clone(), &Options::new());
    stop(&mut daemon);
    assert_rows_of_a_stop(&mut database.conn());
}

#[test]
fn a_database_that_is_down_holds_up_no_stop() {
    needs!(MariaDb);
    let (mut server, database) = own_server();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut sender = Participant::login(daemon.port(), 2).unwrap();
    let mut other = daemon.login(1).unwrap();
    server.kill();
    let body = sender.body();
    sender.say(Place::Channel(1), &body);
    other.ping_barrier().unwrap();
    stop(&mut daemon);
    assert_eq!(sender.await_end().unwrap(), Some(1001));
    let answer = sender.sent[0].answer.clone();
    assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
    server.start();
    audit(&mut database.conn(), &[&sender]).unwrap();
}

#[test]
fn a_second_request_to_stop_changes_nothing() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut client = daemon.login(1).unwrap();
    set(&mut conn, "chat_websocket_stop_requested", "1");
    daemon.signal(Signal::HUP);
    for signal in [Signal::TERM, Signal::INT, Signal::TERM, Signal::HUP] {
        if daemon.exit_now().is_none() {
            daemon.signal(signal);
        }
    }
    assert_eq!(daemon.wait_exit(wait::LIMIT).code(), Some(0));
    assert_eq!(client.until_end().unwrap().1, Some(1001));
    assert_rows_of_a_stop(&mut conn);
    assert_eq!(pid_file(&daemon), None);
}

#[test]
fn a_stop_in_the_middle_of_a_start_cleans_up_as_well() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    for _ in 0..10 {
        seed::reset(&mut conn);
        let install = Install::new(&database, &Options::new());
        let mut daemon = Daemon::spawn(install, &Options::new());
        let written = || pid_file(&daemon).filter(|pid| !pid.is_empty());
        wait::until(wait::LIMIT, written).expect("a pid file");
        daemon.signal(Signal::TERM);
        let status = daemon.wait_exit(wait::LIMIT);
        assert_eq!(status.code(), Some(0), "{status}");
        assert_eq!(pid_file(&daemon), None);
        assert_rows_of_a_stop(&mut conn);
    }
}

#[test]
fn a_stop_ends_the_wait_for_a_database() {
    needs!(MariaDb);
    let (mut database, _) = seeded();
    database.port = mariadb::free_port();
    let install = Install::new(&database, &Options::new());
    let mut daemon = Daemon::spawn(install, &Options::new());
    daemon.await_log("waiting for the database");
    let begun = Stopwatch::start();
    let status = daemon.stop();
    // There is nothing to clean up yet, so the signal itself may end it.
    let fits = status.code() == Some(0) || status.signal() == Some(15);
    assert!(fits && begun.elapsed() < SUPERVISOR_WAITS, "{status}");
    assert_eq!(pid_file(&daemon), None);
}

#[test]
fn a_daemon_without_any_client_stops_at_once_again_and_again() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    for _ in 0..20 {
        let mut daemon = Daemon::start(&database, &Options::new());
        stop(&mut daemon);
        assert!(!daemon.log().contains("cut off"), "{}", daemon.log());
    }
    assert_rows_of_a_stop(&mut conn);
}
