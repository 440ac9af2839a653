//! Large tables and abusive requests: a million messages, a hundred thousand notifications, a message sent to two
//! daemons, endless mentions. One agent's queries delay no other agent.

use std::thread;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{Database, Server};
use crate::support::ops::seeded;
use crate::support::ws::Client;
use crate::support::{jwt, seed};

fn run(conn: &mut Conn, statement: &str) {
    conn.query_drop(statement)
        .unwrap_or_else(|e| panic!("{statement}: {e}"));
}

fn count(conn: &mut Conn, of: &str) -> u64 {
    let query = format!("SELECT COUNT(*) FROM {of}");
    let count: Option<u64> = conn.query_first(query).expect("a count");
    count.expect("a number")
}

/// A server of one's own that is quick to fill, with `1 << doublings` messages in channel 1, the older half deleted.
fn full(doublings: u32) -> (Server, Database) {
    let server = Server::with_arguments(&[
        "--innodb-flush-log-at-trx-commit=0".to_owned(),
        "--innodb-doublewrite=0".to_owned(),
        "--innodb-buffer-pool-size=384M".to_owned(),
    ]);
    let database = server.fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    run(
        &mut conn,
        "SET SESSION foreign_key_checks = 0, SESSION unique_checks = 0",
    );
    run(
        &mut conn,
        "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, created_at, deleted_at) \
         VALUES ('channel', 1, 1, 'x', NOW() - INTERVAL 1 DAY, NOW())",
    );
    for doubling in 0..doublings {
        // The last half of them is there still.
        let deleted = if doubling + 1 == doublings {
            "NULL"
        } else {
            "NOW()"
        };
        run(
            &mut conn,
            &format!(
                "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, created_at, deleted_at) \
                 SELECT 'channel', 1, 1, 'x', NOW() - INTERVAL 1 DAY, {deleted} FROM chat_messages"
            ),
        );
    }
    (server, database)
}

/// Rows and index entries that the server has looked at so far, for all that ask; those that it left out by their index
/// alone, which MariaDB counts apart, among them.
fn looked_at(conn: &mut Conn) -> u64 {
    let rows: Vec<(String, u64)> = conn
        .query(
            "SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Handler_read%' OR Variable_name = 'Handler_icp_attempts'",
        )
        .expect("ask for a status");
    rows.into_iter().map(|(_, count)| count).sum()
}

/// A question that walks through half of the messages looks at half a million; the looks for new and changed messages,
/// which go on meanwhile, are at a few thousand each.
const FEW: u64 = 250_000;

#[test]
fn s5_a_million_messages_make_no_query_slow_and_delay_no_agent() {
    needs!(MariaDb, Time);
    let (server, database) = full(20);
    let mut conn = database.conn();
    let half: Option<u64> = conn
        .query_first("SELECT MIN(id) FROM chat_messages WHERE deleted_at IS NULL")
        .expect("the oldest that is shown");
    let half = half.expect("there is one");
    let mut admin = server.admin();
    for connections in ["1", "2", "3"] {
        let options = Options::new()
            .env("CHAT_WEBSOCKET_RATE", "0")
            .env("CHAT_WEBSOCKET_DB_CONNECTIONS", connections);
        let mut daemon = Daemon::start(&database, &options);
        let port = daemon.port();
        let mut asked = |agent: i64, event: &str, answer: &str| {
            let mut client = Client::login(port, agent).unwrap();
            let before = looked_at(&mut admin);
            client.send(event);
            let found = client.until_type(answer).unwrap();
            let looked_at = looked_at(&mut admin) - before;
            assert!(looked_at < FEW, "{event}: {looked_at} with {connections}");
            found
        };
        let unread = asked(2, r#"{"type":"chat.unread"}"#, "chat.unread");
        assert!(unread.to_string().contains(r#""unread":1000"#), "{unread}");
        // One below which everything is deleted, and one with as much above it as below.
        for before in [half, half + 1000] {
            let history =
                format!(r#"{{"type":"chat.history","channel_id":1,"before_id":{before}}}"#);
            asked(2, &history, "chat.history");
        }
        let before = looked_at(&mut admin);
        let mut back = Client::connect(port).unwrap();
        back.send(&format!(
            r#"{{"type":"auth","token":"{}","after_id":0}}"#,
            jwt::good(3)
        ));
        back.until_type("chat.resumed").unwrap();
        let seen = looked_at(&mut admin) - before;
        assert!(seen < FEW, "auth: {seen} with {connections}");
        // A dozen at once, of sockets that go away again, and one that comes in meanwhile.
        let history = format!(r#"{{"type":"chat.history","channel_id":1,"before_id":{half}}}"#);
        let before = looked_at(&mut admin);
        let mut many: Vec<Client> = (0..12).map(|_| Client::login(port, 1).unwrap()).collect();
        for client in &mut many {
            client.send(&history);
            client.hang_up();
        }
        let mut bob = Client::login(port, 3).unwrap();
        bob.send(&format!(
            r#"{{"type":"chat.read","channel_id":1,"last_read_message_id":{half}}}"#
        ));
        bob.until_type("chat.read.updated").unwrap();
        let seen = looked_at(&mut admin) - before;
        assert!(seen < FEW, "a dozen: {seen} with {connections}");
        let log = daemon.log();
        assert!(!log.contains("not available"), "{log}");
        assert!(daemon.stop().success());
    }
}

#[test]
fn s7_more_notifications_than_a_statement_has_places_are_read_at_once() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let values = "2, 'chat_mention', 'mentioned', JSON_OBJECT('channel_id', 1)";
    run(
        &mut conn,
        &format!(
            "INSERT INTO agent_notifications (agent_id, type, title, data_json, dedupe_key) SELECT {values}, 'chat:mention:0'"
        ),
    );
    for doubling in 0..17 {
        run(
            &mut conn,
            &format!(
                "INSERT INTO agent_notifications (agent_id, type, title, data_json, dedupe_key) SELECT {values}, \
                 CONCAT(dedupe_key, '{}') FROM agent_notifications WHERE agent_id = 2 AND type = 'chat_mention' \
                 AND title = 'mentioned'",
                char::from(b'a' + doubling)
            ),
        );
    }
    let of_it = "agent_notifications WHERE agent_id = 2 AND title = 'mentioned'";
    assert!(count(&mut conn, of_it) > 100_000);
    let daemon = Daemon::start(&database, &Options::new());
    let mut bob = daemon.login(2).expect("login");
    // What was not done in the time that there is is done the next time. On a busy machine a part may take longer than a
    // client waits; that client is told so, and asks again.
    let mut left = count(&mut conn, of_it);
    let mut refusals = 0;
    while left > 0 {
        bob.send(r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1,"ref":"1"}"#);
        answer(&mut bob, "1");
        let now = count(&mut conn, of_it);
        refusals = if now < left { 0 } else { refusals + 1 };
        assert!(refusals < 10, "{now} stay unread");
        left = now;
    }
}

#[test]
fn s9_a_message_that_is_sent_again_to_another_daemon_at_once_is_stored_once() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemons = [0, 1].map(|_| Daemon::start(&database, &Options::new()));
    let mut clients: Vec<Client> = daemons.iter().map(|one| one.login(1).unwrap()).collect();
    let messages = "chat_messages WHERE body_text LIKE 'again %'";
    for (place, number) in [(1, 0), (1, 1), (1, 2), (1, 3)] {
        let event = format!(
            r#"{{"type":"chat.channel.message.send","channel_id":{place},"body":"again {number}","ref":"r{number}"}}"#
        );
        for client in &mut clients {
            client.send(&event);
            let answer = answer(client, &format!("r{number}"));
            assert_eq!(answer.get("code"), None, "{answer}");
        }
        assert_eq!(count(&mut conn, messages), number + 1);
    }
    // In the same moment.
    for number in 4..24 {
        let place = match number % 2 {
            0 => r#""type":"chat.channel.message.send","channel_id":1"#,
            _ => r#""type":"chat.direct.message.send","thread_id":1"#,
        };
        let event = format!(r#"{{{place},"body":"again {number}","ref":"r{number}"}}"#);
        thread::scope(|scope| {
            for client in &mut clients {
                let event = &event;
                scope.spawn(move || {
                    client.send(event);
                    let answer = answer(client, &format!("r{number}"));
                    assert_eq!(answer.get("code"), None, "{answer}");
                });
            }
        });
        assert_eq!(count(&mut conn, messages), number + 1);
    }
}

/// The event that answers the one with this `ref`.
fn answer(client: &mut Client, reference: &str) -> Json {
    loop {
        let event = client.next_json().unwrap();
        if event.get("ref").and_then(Json::str) == Some(reference) {
            return event;
        }
    }
}

#[test]
fn s10_of_many_handles_fifty_are_looked_up() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    for number in 0..70 {
        run(
            &mut conn,
            &format!(
                "INSERT INTO agents (id, name, email, password_hash, role, chat_handle, is_active) VALUES \
                 ({0}, 'Many', 'many{number}@example.test', '', 'agent', 'many{number}', 1)",
                5000 + number
            ),
        );
    }
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    let body: Vec<String> = (0..70).map(|number| format!("@many{number}")).collect();
    ann.send(&format!(
        r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{}"}}"#,
        body.join(" ")
    ));
    ann.until_type("chat.channel.message.created").unwrap();
    assert_eq!(
        count(
            &mut conn,
            "chat_message_mentions WHERE mentioned_agent_id >= 5000"
        ),
        50
    );
}

#[test]
fn s10_the_sockets_of_an_agent_have_a_limit_together() {
    needs!(MariaDb);
    let (database, _conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_AGENT_RATE", "1")
        .env("CHAT_WEBSOCKET_AGENT_BURST", "10");
    let daemon = Daemon::start(&database, &options);
    let mut sockets = [0; 4].map(|_| daemon.login(1).expect("login"));
    let mut other = daemon.login(2).expect("login");
    let mut refused = 0;
    for socket in &mut sockets {
        for _ in 0..5 {
            socket.send(r#"{"type":"ping"}"#);
        }
        for _ in 0..5 {
            let event = socket.next_json().unwrap();
            refused += u32::from(event.get("code").and_then(Json::str) == Some("rate_limited"));
        }
    }
    assert!(refused >= 8, "{refused} of 20 were refused");
    other.ping_barrier().unwrap();
}
