//! Extensions over the recorded daemon: idempotent repeats of messages, clients that reconnect and get what they missed,
//! history and unread counts over the socket.

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::jwt;
use crate::support::mariadb::{self, Database};
use crate::support::seed;
use crate::support::ws::{Client, Frame};

fn database() -> Database {
    let database = mariadb::Database::fresh();
    seed::reset(&mut database.conn());
    database
}

fn say(client: &mut Client, channel: i64, body: &str, reference: &str) {
    client.send(&format!(
        r#"{{"type":"chat.channel.message.send","channel_id":{channel},"body":"{body}","ref":{reference}}}"#
    ));
}

fn created(client: &mut Client) -> Json {
    client
        .until_type("chat.channel.message.created")
        .expect("a message")
}

fn id(event: &Json) -> i64 {
    event.need("message").need("id").int().expect("an id")
}

fn body(message: &Json) -> String {
    message.need("body_text").str().expect("a body").to_owned()
}

fn rows(database: &Database) -> i64 {
    let count: Option<i64> = database
        .conn()
        .query_first("SELECT COUNT(*) FROM chat_messages")
        .expect("count");
    count.expect("a number")
}

/// Authenticates with the last id that the client has; what came before `chat.resumed`, and that event.
fn resume(daemon: &Daemon, agent: i64, after: i64) -> (Vec<Json>, Json, Client) {
    let mut client = daemon.connect().expect("connect");
    client.send(&format!(
        r#"{{"type":"auth","token":"{}","after_id":{after}}}"#,
        jwt::good(agent)
    ));
    client.until_type("auth.ok").expect("auth.ok");
    let mut before = Vec::new();
    loop {
        let event = client.next_json().expect("an event");
        match event.need("type").str() {
            Some("chat.resumed") => return (before, event, client),
            Some("presence.updated") => {}
            _ => before.push(event),
        }
    }
}

#[test]
fn a_message_that_is_sent_again_is_stored_once_and_answered_alike() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let (mut ann, mut bob) = (
        daemon.login(1).expect("login"),
        daemon.login(2).expect("login"),
    );
    say(&mut ann, 1, "once", "\"a\"");
    let mut first = created(&mut ann);
    assert_eq!(first.need("ref").str(), Some("a"));
    assert_eq!(id(&created(&mut bob)), id(&first));
    say(&mut ann, 1, "once", "\"a\"");
    let mut again = created(&mut ann);
    // The one was told before it was stored, the other was read.
    for event in [&mut first, &mut again] {
        let message = event.member("message").expect("a message");
        mariadb::as_stored(message.member("metadata_json").expect("metadata"));
    }
    assert_eq!(again, first);
    // Another conversation, another kind of ref, another agent: other messages.
    say(&mut ann, 2, "once", "\"a\"");
    assert_ne!(id(&created(&mut ann)), id(&first));
    say(&mut ann, 1, "once", "5");
    assert_ne!(id(&created(&mut ann)), id(&first));
    say(&mut bob, 1, "once", "\"a\"");
    let (frames, _) = bob.ping_barrier().expect("barrier");
    let news = frames.iter().filter_map(Frame::json).count();
    assert_eq!(news, 3, "one in each channel, and his own; no repetition");
    assert_eq!(rows(&database), 4);
}

#[test]
fn a_repetition_is_known_after_a_restart_of_the_daemon() {
    needs!(MariaDb);
    let database = database();
    let mut daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    say(&mut ann, 1, "once", "\"a\"");
    let first = id(&created(&mut ann));
    daemon.stop();
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    say(&mut ann, 1, "once", "\"a\"");
    assert_eq!(id(&created(&mut ann)), first);
    database
        .conn()
        .query_drop("UPDATE chat_messages SET created_at = NOW() - INTERVAL 11 MINUTE")
        .expect("make it old");
    drop(daemon);
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    say(&mut ann, 1, "once", "\"a\"");
    assert_ne!(id(&created(&mut ann)), first);
    assert_eq!(rows(&database), 2);
}

#[test]
fn a_client_that_comes_back_gets_what_it_missed_in_order_and_once() {
    needs!(MariaDb);
    let database = database();
    let mut daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut bob = daemon.connect().expect("connect");
    let welcome = bob.auth(2).expect("auth.ok");
    let start = welcome.need("last_id").int().expect("a position");
    drop(bob);
    let mut ann = daemon.login(1).expect("login");
    let mut ids = Vec::new();
    for number in 0..30 {
        // Bob is no member of channel 4, whose only member is agent 6.
        say(
            &mut ann,
            1 + number % 2,
            &format!("missed {number}"),
            &number.to_string(),
        );
        ids.push(id(&created(&mut ann)));
    }
    let mut fay = daemon.login(6).expect("login");
    say(&mut fay, 4, "elsewhere", "1");
    created(&mut fay);
    let check = |daemon: &Daemon| {
        let (missed, resumed, mut client) = resume(daemon, 2, start);
        assert_eq!(missed.iter().map(id).collect::<Vec<_>>(), ids);
        assert!(resumed.need("complete").is_true());
        let (frames, _) = client.ping_barrier().expect("barrier");
        let more = frames.iter().filter_map(Frame::json);
        let kinds: Vec<_> = more
            .filter_map(|event| event.need("type").str().map(str::to_owned))
            .filter(|kind| kind.ends_with("created"))
            .collect();
        assert!(kinds.is_empty(), "{kinds:?}");
    };
    check(&daemon);
    daemon.stop();
    check(&Daemon::start(&database, &Options::new()));
}

#[test]
fn what_is_said_while_a_client_comes_back_is_neither_lost_nor_doubled() {
    needs!(MariaDb);
    const MESSAGES: i64 = 300;
    let database = database();
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    say(&mut ann, 1, "first", "0");
    let first = id(&created(&mut ann));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1..=MESSAGES {
                say(&mut ann, 1, &format!("live {number}"), &number.to_string());
                created(&mut ann);
            }
        });
        for _ in 0..8 {
            scope.spawn(|| {
                let (missed, _, mut client) = resume(&daemon, 2, first);
                let mut ids: Vec<i64> = missed.iter().map(id).collect();
                while ids.len() < MESSAGES as usize {
                    ids.push(id(&created(&mut client)));
                }
                let expected: Vec<i64> = (first + 1..=first + MESSAGES).collect();
                assert_eq!(ids, expected);
            });
        }
    });
}

#[test]
fn a_client_that_missed_more_than_a_thousand_is_told_so() {
    needs!(MariaDb);
    let database = database();
    let mut conn = database.conn();
    for _ in 0..3 {
        let values = vec!["('channel', 1, 3, 'x', 'x')"; 400].join(", ");
        conn.query_drop(format!(
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html) \
             VALUES {values}"
        ))
        .expect("insert");
    }
    let newest: Option<i64> = conn
        .query_first("SELECT MAX(id) FROM chat_messages")
        .expect("newest");
    let daemon = Daemon::start(&database, &Options::new());
    let (missed, resumed, _) = resume(&daemon, 2, 0);
    assert_eq!(missed.len(), 1000);
    assert_eq!(Some(id(&missed[999])), newest);
    assert!(!resumed.need("complete").is_true());
    assert_eq!(resumed.need("last_id").int(), newest);
}

#[test]
fn history_comes_in_pieces_and_to_members_alone() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    for number in 0..7 {
        say(&mut ann, 1, &format!("m{number}"), &number.to_string());
        created(&mut ann);
    }
    let mut read = |request: &str| {
        ann.send(request);
        let answer = ann.until_type("chat.history").expect("history");
        let bodies: Vec<String> = answer.need("messages").items().iter().map(body).collect();
        let first = answer
            .need("messages")
            .items()
            .first()
            .map(|one| one.need("id").int());
        (bodies, answer.need("has_more").is_true(), first.flatten())
    };
    let (bodies, has_more, first) = read(r#"{"type":"chat.history","channel_id":1,"limit":4}"#);
    assert_eq!(
        (bodies.join(" "), has_more),
        ("m3 m4 m5 m6".to_owned(), true)
    );
    let before = first.expect("an id");
    let (bodies, has_more, _) = read(&format!(
        r#"{{"type":"chat.history","channel_id":1,"limit":4,"before_id":{before}}}"#
    ));
    assert_eq!((bodies.join(" "), has_more), ("m0 m1 m2".to_owned(), false));
    let (bodies, ..) = read(r#"{"type":"chat.history","thread_id":1}"#);
    assert!(bodies.is_empty());
    let mut fay = daemon.login(6).expect("login");
    for (request, code) in [
        (
            r#"{"type":"chat.history","channel_id":1}"#,
            "no_channel_access",
        ),
        (
            r#"{"type":"chat.history","thread_id":1}"#,
            "no_thread_access",
        ),
        (r#"{"type":"chat.history"}"#, "channel_id_required"),
    ] {
        fay.send(request);
        let error = fay.until_type("error").expect("an error");
        assert_eq!(error.need("code").str(), Some(code), "{request}");
    }
}

#[test]
fn unread_counts_are_what_others_said_after_the_marker() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let (mut ann, mut bob) = (
        daemon.login(1).expect("login"),
        daemon.login(2).expect("login"),
    );
    let mut ids = Vec::new();
    for number in 0..3 {
        say(&mut ann, 1, &format!("m{number}"), &number.to_string());
        ids.push(id(&created(&mut ann)));
    }
    say(&mut bob, 1, "his own", "9");
    created(&mut bob);
    bob.send(&format!(
        r#"{{"type":"chat.read","channel_id":1,"last_read_message_id":{}}}"#,
        ids[0]
    ));
    bob.until_type("chat.read.updated").expect("a marker");
    bob.send(r#"{"type":"chat.unread","ref":1}"#);
    let answer = bob.until_type("chat.unread").expect("counts");
    let counts: Vec<_> = answer
        .need("conversations")
        .items()
        .iter()
        .map(|one| {
            let id = |name: &str| one.need(name).int();
            (
                id("channel_id"),
                id("thread_id"),
                id("unread").expect("a count"),
                id("last_read_message_id").expect("a marker"),
            )
        })
        .collect();
    assert_eq!(
        counts,
        [
            (Some(1), None, 2, ids[0]),
            (Some(2), None, 0, 0),
            (None, Some(1), 0, 0),
            (None, Some(3), 0, 0),
        ]
    );
}
