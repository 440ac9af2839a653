//! Another transaction holds locks that a message needs: the message waits, is refused in time, or is stored without
//! notifications. Messages that need other rows do not wait.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place, audit, await_heard_all};
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::{self, Database};
use crate::support::ops::seeded;
use crate::support::stopwatch::Stopwatch;
use crate::support::{seed, wait};

const CHANNEL: Place = Place::Channel(1);
const THREAD: Place = Place::Direct(1);

/// As long as the contract lets a sender wait, with some for what a test does meanwhile.
const REFUSED_WITHIN: Duration = Duration::from_secs(9);

fn daemon(database: &Database) -> Daemon {
    Daemon::start(database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"))
}

fn login(daemon: &Daemon, agent_id: i64) -> Participant {
    Participant::login(daemon.port(), agent_id).unwrap()
}

fn is_stored(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Stored(_)))
}

/// A separate connection that has run these statements and has not committed.
fn locker(database: &Database, statements: &[&str]) -> Conn {
    let mut conn = database.conn();
    seed::run(&mut conn, "START TRANSACTION", vec![]);
    for statement in statements {
        seed::run(&mut conn, statement, vec![]);
    }
    conn
}

/// Returns once a transaction in this database waits for a lock. Reads the monitor's text instead of
/// `information_schema`, whose tables are cached: another test's recent query would hide the wait.
fn await_lock_wait(database: &Database) {
    let mut admin = mariadb::common().admin();
    wait::until(wait::LIMIT, || {
        let status: Option<(String, String, String)> = admin
            .query_first("SHOW ENGINE INNODB STATUS")
            .expect("ask the monitor");
        let (_, _, text) = status.expect("a row");
        let waiting = text
            .split("---TRANSACTION")
            .filter(|t| t.contains("LOCK WAIT"));
        let threads = waiting.filter_map(|transaction| {
            let (_, rest) = transaction.split_once("thread id ")?;
            rest.split(',').next()?.parse::<u64>().ok()
        });
        let threads: Vec<u64> = threads.collect();
        threads.into_iter().find(|thread| {
            let query = format!(
                "SELECT db FROM {} WHERE id = {thread}",
                mariadb::processlist()
            );
            let of: Option<Option<String>> = admin.query_first(query).expect("ask where");
            of.flatten().as_ref() == Some(&database.name)
        })
    })
    .expect("a transaction waits for a lock");
}

fn assert_agreed(database: &Database, participants: &mut [Participant]) {
    let mut conn = database.conn();
    for participant in participants.iter_mut() {
        participant.client.limit = wait::LIMIT;
        let in_thread = [1, 2].contains(&participant.agent_id);
        let places = if in_thread {
            [THREAD, CHANNEL]
        } else {
            [CHANNEL; 2]
        };
        await_heard_all(&mut conn, participant, &places);
    }
    let participants: Vec<&Participant> = participants.iter().collect();
    audit(&mut conn, &participants).unwrap();
}

#[test]
fn a_message_waits_for_a_row_that_is_locked_for_a_moment() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = daemon(&database);
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    let mut bystander = daemon.login(3).unwrap();
    let lock = locker(
        &database,
        &["SELECT id FROM chat_threads WHERE id = 1 FOR UPDATE"],
    );
    let body = participants[0].body();
    participants[0].say(THREAD, &body);
    await_lock_wait(&database);
    for _ in 0..20 {
        bystander.ping_barrier().unwrap();
    }
    drop(lock);
    participants[0].await_answers().unwrap();
    assert!(is_stored(participants[0].sent[0].answer.as_ref()));
    assert_agreed(&database, &mut participants);
}

#[test]
fn a_row_that_stays_locked_refuses_those_who_need_it_and_no_others() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = daemon(&database);
    let mut participants = [1, 2, 3, 4, 8].map(|agent| login(&daemon, agent));
    let lock = locker(
        &database,
        &["SELECT id FROM chat_threads WHERE id = 1 FOR UPDATE"],
    );
    let [ann, bob, others @ ..] = &mut participants;
    let begun = Stopwatch::start();
    for participant in [&mut *ann, &mut *bob] {
        let body = participant.body();
        participant.say(THREAD, &body);
    }
    await_lock_wait(&database);
    // More than once: those who come later share their transactions with what is tried again.
    for _ in 0..3 {
        for participant in others.iter_mut() {
            let body = participant.body();
            participant.say(CHANNEL, &body);
        }
        for participant in others.iter_mut() {
            participant.await_answers().unwrap();
            let answer = participant.sent.last().expect("one").answer.clone();
            assert!(is_stored(answer.as_ref()), "{answer:?}");
        }
    }
    for participant in [&mut *ann, &mut *bob] {
        participant.await_answers().unwrap();
        let refused = Answer::Refused("database_unavailable".to_owned());
        assert_eq!(participant.sent[0].answer, Some(refused));
    }
    let took = begun.elapsed();
    assert!(took < REFUSED_WITHIN, "{took:?}");
    drop(lock);
    let answer = ann.ask(THREAD).unwrap();
    assert!(is_stored(answer.as_ref()), "{answer:?}");
    assert_agreed(&database, &mut participants);
}

/// What such a socket says meanwhile, pongs too, is only read when it is answered.
#[test]
fn a_socket_that_waits_for_the_database_is_not_taken_for_dead() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_PING_INTERVAL", "1")
        .env("CHAT_WEBSOCKET_IDLE_TIMEOUT", "3");
    let daemon = Daemon::start(&database, &options);
    let mut participant = login(&daemon, 1);
    let lock = locker(
        &database,
        &["SELECT id FROM chat_threads WHERE id = 1 FOR UPDATE"],
    );
    let answer = participant.ask(THREAD).unwrap();
    assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
    drop(lock);
    let answer = participant.ask(THREAD).unwrap();
    assert!(is_stored(answer.as_ref()), "{answer:?}");
    audit(&mut conn, &[&participant]).unwrap();
}

fn notifications(conn: &mut Conn) -> i64 {
    let count: Option<i64> = conn
        .query_first("SELECT COUNT(*) FROM agent_notifications")
        .expect("count");
    count.expect("a number")
}

/// A failing notification never fails the message, whatever keeps it from its table.
#[test]
fn notifications_that_cannot_be_written_do_not_hold_up_the_message() {
    needs!(MariaDb);
    let locks: [&[&str]; 2] = [
        &["SELECT id FROM agent_notifications FOR UPDATE"],
        // As an ALTER TABLE does it.
        &["LOCK TABLES agent_notifications WRITE"],
    ];
    for statements in locks {
        let (database, mut conn) = seeded();
        let mut daemon = daemon(&database);
        let mut participants = [login(&daemon, 1), login(&daemon, 2)];
        let lock = locker(&database, statements);
        let answer = participants[0].ask(THREAD).unwrap();
        assert!(is_stored(answer.as_ref()), "{statements:?}: {answer:?}");
        drop(lock);
        assert_eq!(notifications(&mut conn), 0);
        // And the next one notifies again.
        let answer = participants[0].ask(THREAD).unwrap();
        assert!(is_stored(answer.as_ref()), "{answer:?}");
        assert_eq!(notifications(&mut conn), 1);
        assert_agreed(&database, &mut participants);
        daemon.check_life().unwrap();
    }
}

/// Two transactions that wait for each other: the server gives up the one that has done less, which is ours.
#[test]
fn the_victim_of_a_deadlock_is_stored_once_all_the_same() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let mut daemon = daemon(&database);
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    let rows = ["('system','heavy','x',1)"; 200].join(", ");
    let heavy = format!(
        "INSERT INTO audit_log (actor_type, action, subject_type, subject_id) VALUES {rows}"
    );
    for _ in 0..3 {
        let mut lock = locker(
            &database,
            &[&heavy, "SELECT id FROM agent_notifications FOR UPDATE"],
        );
        let body = participants[0].body();
        participants[0].say(THREAD, &body);
        await_lock_wait(&database);
        // Ours has the thread's row and waits for the notifications.
        let close = "UPDATE chat_threads SET last_message_at = last_message_at WHERE id = 1";
        seed::run(&mut lock, close, vec![]);
        seed::run(&mut lock, "COMMIT", vec![]);
        participants[0].await_answers().unwrap();
        let answer = participants[0].sent.last().expect("one").answer.clone();
        assert!(is_stored(answer.as_ref()), "{answer:?}");
    }
    assert_agreed(&database, &mut participants);
    daemon.await_log("Deadlock");
    daemon.check_life().unwrap();
}

/// A marker needs the notifications as well, and its socket alone waits.
#[test]
fn a_read_marker_waits_for_its_rows_and_delays_no_client() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = daemon(&database);
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    participants[0].ask(THREAD).unwrap();
    let lock = locker(
        &database,
        &["SELECT id FROM agent_notifications FOR UPDATE"],
    );
    let mut readers = [2, 2, 2, 2].map(|agent| daemon.login(agent).unwrap());
    for reader in &mut readers {
        reader.send(
            r#"{"type":"chat.read","scope":"direct","thread_id":1,"last_read_message_id":999999999,"ref":1}"#,
        );
    }
    await_lock_wait(&database);
    let answer = participants[1].ask(CHANNEL).unwrap();
    assert!(is_stored(answer.as_ref()), "{answer:?}");
    drop(lock);
    for reader in &mut readers {
        let told = reader.until_type("chat.read.updated").unwrap();
        assert!(
            told.need("last_read_message_id")
                .int()
                .is_some_and(|id| id >= 700_001)
        );
    }
    assert_agreed(&database, &mut participants);
}
