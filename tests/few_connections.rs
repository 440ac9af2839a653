//! Few connections to the database: everything works with any number from one, and the service never opens more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place, audit};
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::{self, Database};
use crate::support::ops::seeded;
use crate::support::ws::Client;
use crate::support::{jwt, wait};

/// An account of its own for the daemon, which allows no more connections than these: one more is refused, and seen.
fn account(database: &Database, most: usize) -> String {
    let user = format!("few_{most}_{}", database.name);
    let mut admin = mariadb::common().admin();
    for statement in [
        format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS {most}"),
        format!("GRANT ALL ON {}.* TO '{user}'@'%'", database.name),
    ] {
        admin.query_drop(statement).expect("make the account");
    }
    user
}

/// Everything that a client may ask for.
fn ask_everything(daemon: &Daemon) {
    let mut ann = daemon.login(1).expect("login");
    let mut ask = |event: &str, answer: &str| {
        ann.send(event);
        let answered = ann.until_type(answer).unwrap();
        assert_eq!(answered.get("code"), None, "{event}: {answered}");
    };
    ask(
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#,
        "chat.channel.message.created",
    );
    ask(
        r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
        "chat.read.updated",
    );
    ask(r#"{"type":"chat.history","channel_id":1}"#, "chat.history");
    ask(r#"{"type":"chat.unread"}"#, "chat.unread");
    ask(r#"{"type":"ping"}"#, "pong");
    let mut back = Client::connect(daemon.port()).unwrap();
    back.send(&format!(
        r#"{{"type":"auth","token":"{}","after_id":0}}"#,
        jwt::good(2)
    ));
    assert!(
        back.until_type("chat.resumed")
            .unwrap()
            .need("complete")
            .is_true()
    );
}

#[test]
fn with_any_number_of_connections_everything_works_and_there_are_never_more() {
    needs!(MariaDb);
    for connections in [1, 2, 3, 5] {
        let (database, mut conn) = seeded();
        // One more than are asked for, which is left to the helpdesk.
        let user = account(&database, connections + 1);
        let options = Options::new()
            .env("DB_USERNAME", &user)
            .env("DB_PASSWORD", "few")
            .env("CHAT_WEBSOCKET_DB_CONNECTIONS", &connections.to_string())
            .env("CHAT_WEBSOCKET_LOG_STDERR", "always")
            .env("CHAT_WEBSOCKET_RATE", "0");
        let mut daemon = Daemon::start(&database, &options);
        let (stop, most) = (AtomicBool::new(false), AtomicUsize::new(0));
        let participants: Vec<Participant> = thread::scope(|scope| {
            let (stop, most, user) = (&stop, &most, &user);
            scope.spawn(move || {
                let mut admin = mariadb::common().admin();
                let query = format!(
                    "SELECT COUNT(*) FROM {} WHERE user = '{user}'",
                    mariadb::processlist()
                );
                while !stop.load(Ordering::SeqCst) {
                    let open: Option<usize> = admin.query_first(&query).expect("count");
                    most.fetch_max(open.unwrap_or(0), Ordering::SeqCst);
                }
            });
            let talkers = [1, 2, 3].map(|agent| {
                let mut participant = Participant::login(daemon.port(), agent).unwrap();
                scope.spawn(move || {
                    for _ in 0..20 {
                        let answer = participant.ask(Place::Channel(1)).unwrap();
                        assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
                    }
                    participant
                })
            });
            ask_everything(&daemon);
            let participants = talkers
                .map(|talker| talker.join().expect("no panic"))
                .into();
            stop.store(true, Ordering::SeqCst);
            participants
        });
        let most = most.into_inner();
        assert!((1..=connections).contains(&most), "{most} of {connections}");
        let mut participants = participants;
        for participant in &mut participants {
            participant.catch_up().unwrap();
        }
        let participants: Vec<&Participant> = participants.iter().collect();
        let sent: usize = participants
            .iter()
            .map(|participant| participant.sent.len())
            .sum();
        // One more was sent beside them.
        audit(&mut conn, &participants).expect("all agree");
        assert_eq!(sent, 60);
        let log = daemon.log();
        assert!(!log.contains("not available"), "{log}");
        daemon.stop();
        assert!(
            daemon
                .stderr()
                .contains(&format!(", {connections} to the database")),
            "the start tells it: {}",
            daemon.stderr()
        );
        let status: Option<String> = conn
            .query_first("SELECT value FROM settings WHERE key_name = 'chat_websocket_status'")
            .expect("the settings");
        assert_eq!(status.as_deref(), Some("stopped"));
    }
}

/// Connections that the account has open.
fn open(user: &str) -> usize {
    let query = format!(
        "SELECT COUNT(*) FROM {} WHERE user = '{user}'",
        mariadb::processlist()
    );
    let count: Option<usize> = mariadb::common().admin().query_first(query).expect("count");
    count.expect("a count")
}

#[test]
fn connections_are_opened_when_needed_and_closed_when_unused_for_long() {
    needs!(MariaDb, Time);
    let (database, mut conn) = seeded();
    let user = account(&database, 9);
    let options = Options::new()
        .env("DB_USERNAME", &user)
        .env("DB_PASSWORD", "few")
        .env("CHAT_WEBSOCKET_DB_CONNECTIONS", "5")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    assert!(open(&user) < 5, "none before it is needed");
    // Each of these waits for a lock, and takes a connection of its own to do so.
    conn.query_drop("BEGIN").expect("a transaction");
    conn.query_drop("UPDATE chat_message_reads SET last_read_at = NOW()")
        .expect("hold the markers");
    conn.query_drop("SELECT * FROM agents FOR UPDATE")
        .expect("hold the agents");
    let mut clients = [1, 2, 3].map(|agent| daemon.login(agent).expect("login"));
    let most = wait::until(wait::LIMIT, || {
        for client in &mut clients {
            client.send(r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#);
        }
        (open(&user) >= 3).then_some(())
    });
    conn.query_drop("ROLLBACK").expect("let go");
    assert!(most.is_some(), "{} open", open(&user));
    // One is asked for the settings each second.
    let rest = wait::until(wait::LIMIT * 6, || (open(&user) == 1).then_some(()));
    assert!(rest.is_some(), "{} are open still", open(&user));
}

#[test]
fn with_one_connection_a_slow_question_delays_others_and_refuses_none() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let user = account(&database, 1);
    let options = Options::new()
        .env("DB_USERNAME", &user)
        .env("DB_PASSWORD", "few");
    let daemon = Daemon::start(&database, &options);
    let mut ann = daemon.login(1).expect("login");
    let mut bob = Participant::login(daemon.port(), 2).unwrap();
    let read = r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#;
    ann.send(read);
    ann.until_type("chat.read.updated").unwrap();
    // The next marker waits for its row until the lock times out; the message waits for the same connection.
    conn.query_drop("BEGIN").expect("a transaction");
    conn.query_drop("UPDATE chat_message_reads SET last_read_at = NOW()")
        .expect("hold the markers");
    ann.send(read);
    let body = bob.body();
    bob.say(Place::Channel(1), &body);
    let waits = format!(
        "SELECT COUNT(*) FROM {} WHERE user = '{user}' AND command <> 'Sleep'",
        mariadb::processlist()
    );
    let mut admin = mariadb::common().admin();
    let mut is_waiting = || admin.query_first::<u64, _>(&waits).expect("count") == Some(1);
    wait::until(wait::LIMIT, || is_waiting().then_some(())).expect("the marker waits");
    conn.query_drop("ROLLBACK").expect("let go");
    let answer = ann.until_type("chat.read.updated").unwrap();
    assert_eq!(answer.get("code"), None, "{answer}");
    bob.await_answers().unwrap();
    assert!(matches!(bob.sent[0].answer, Some(Answer::Stored(_))));
    let log = daemon.log();
    assert!(!log.contains("not available"), "{log}");
    // It has the only one: what else comes with this account is told why it is shut out, and how to change it.
    let check = daemon
        .install
        .command("check", &[])
        .envs(options.environment())
        .output();
    let check = String::from_utf8_lossy(&check.expect("check runs").stdout).into_owned();
    assert!(check.contains("MAX_USER_CONNECTIONS"), "{check}");
}
