//! Messages that other processes write into the database: delivered to connected members exactly once, in id order; rows
//! committed late are delivered late; edits and deletions arrive as additive events. The tests play the helpdesk's PHP
//! application with plain SQL.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::seed;
use crate::support::wait;
use crate::support::ws::{Client, Frame};

fn database() -> Database {
    let database = mariadb::Database::fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    database
}

fn insert(conn: &mut Conn, body: &str) -> i64 {
    conn.exec_drop(
        "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html) \
         VALUES ('channel', 1, 3, ?, ?)",
        (body, body),
    )
    .expect("insert a message");
    conn.last_insert_id() as i64
}

fn created(client: &mut Client) -> (i64, String) {
    let event = client
        .until_type("chat.channel.message.created")
        .expect("a message");
    describe(&event)
}

fn describe(event: &Json) -> (i64, String) {
    let message = event.need("message");
    (
        message.need("id").int().expect("an id"),
        message.need("body_text").str().expect("a body").to_owned(),
    )
}

fn messages(frames: &[Frame]) -> Vec<(i64, String)> {
    frames
        .iter()
        .filter_map(Frame::json)
        .filter(|event| event.need("type").str() == Some("chat.channel.message.created"))
        .map(|event| describe(&event))
        .collect()
}

#[test]
fn a_message_of_the_application_reaches_only_members_and_makes_no_notification() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let mut member = daemon.login(1).expect("login");
    let mut outsider = daemon.login(6).expect("login");
    let mut conn = database.conn();
    let id = insert(&mut conn, "by another door");
    assert_eq!(created(&mut member), (id, "by another door".to_owned()));
    let (frames, _) = outsider.ping_barrier().expect("barrier");
    assert!(messages(&frames).is_empty());
    let notified: Option<i64> = conn
        .query_first("SELECT COUNT(*) FROM agent_notifications")
        .expect("count");
    assert_eq!(notified, Some(0));
}

#[test]
fn a_message_that_becomes_visible_late_is_delivered_when_it_does() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let mut member = daemon.login(1).expect("login");
    let (mut slow, mut quick) = (database.conn(), database.conn());
    slow.query_drop("START TRANSACTION").expect("begin");
    let late = insert(&mut slow, "late");
    let early = insert(&mut quick, "early");
    assert!(late < early);
    assert_eq!(created(&mut member), (early, "early".to_owned()));
    slow.query_drop("COMMIT").expect("commit");
    assert_eq!(created(&mut member), (late, "late".to_owned()));
    member.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"own"}"#);
    assert_eq!(created(&mut member).1, "own");
}

#[test]
fn an_id_that_was_rolled_back_holds_up_nothing_for_good() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let mut member = daemon.login(1).expect("login");
    for round in 0..6 {
        let mut conn = database.conn();
        conn.query_drop("START TRANSACTION").expect("begin");
        insert(&mut conn, "never");
        conn.query_drop("ROLLBACK").expect("roll back");
        let body = format!("after gap {round}");
        member.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{body}"}}"#
        ));
        assert_eq!(created(&mut member).1, body);
    }
}

#[test]
fn messages_written_while_no_client_was_connected_are_not_delivered_as_new() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(
        &database,
        &Options::new().env("CHAT_WEBSOCKET_PRESENCE_GRACE", "0"),
    );
    let mut conn = database.conn();
    insert(&mut conn, "before anybody came");
    let mut member = daemon.login(1).expect("login");
    let id = insert(&mut conn, "afterwards");
    assert_eq!(created(&mut member), (id, "afterwards".to_owned()));
}

#[test]
fn edits_and_deletions_of_the_application_are_told_once() {
    needs!(MariaDb);
    let database = database();
    let daemon = Daemon::start(&database, &Options::new());
    let mut member = daemon.login(1).expect("login");
    let mut conn = database.conn();
    let id = insert(&mut conn, "first words");
    created(&mut member);
    conn.exec_drop(
        "UPDATE chat_messages SET body_text = 'second words', edited_at = NOW() WHERE id = ?",
        (id,),
    )
    .expect("edit");
    let updated = member.until_type("chat.message.updated").expect("an edit");
    assert_eq!(describe(&updated), (id, "second words".to_owned()));
    conn.exec_drop(
        "UPDATE chat_messages SET deleted_at = NOW(), deleted_by_agent_id = 1 WHERE id = ?",
        (id,),
    )
    .expect("delete");
    let deleted = member
        .until_type("chat.message.deleted")
        .expect("a deletion");
    assert_eq!(deleted.need("message_id").int(), Some(id));
    assert_eq!(deleted.need("channel_id").int(), Some(1));
    // Two more looks at the changes, which find the same second again.
    wait::pass(Duration::from_millis(2500));
    let (frames, _) = member.ping_barrier().expect("barrier");
    let again = frames.iter().filter_map(Frame::json).filter(|event| {
        event
            .need("type")
            .str()
            .is_some_and(|kind| kind.starts_with("chat.message."))
    });
    assert_eq!(again.count(), 0);
}

#[test]
fn writers_by_both_doors_at_once_lose_and_double_nothing() {
    needs!(MariaDb);
    const WRITERS: usize = 6;
    const EACH: usize = 150;
    let database = database();
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut reader = daemon.login(1).expect("login");
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (database, daemon) = (&database, &daemon);
            scope.spawn(move || {
                if writer % 2 == 0 {
                    let mut conn = database.conn();
                    for number in 0..EACH {
                        // Some hold their id back for a moment, some give it up.
                        conn.query_drop("START TRANSACTION").expect("begin");
                        insert(&mut conn, &format!("door {writer} {number}"));
                        match number % 7 {
                            3 => wait::pass(Duration::from_millis(3)),
                            5 => {
                                conn.query_drop("ROLLBACK").expect("roll back");
                                continue;
                            }
                            _ => {}
                        }
                        conn.query_drop("COMMIT").expect("commit");
                    }
                } else {
                    let mut client = daemon.login(2).expect("login");
                    for number in 0..EACH {
                        client.send(&format!(
                            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"own {writer} {number}"}}"#
                        ));
                        while created(&mut client).1 != format!("own {writer} {number}") {}
                    }
                }
            });
        }
    });
    let mut conn = database.conn();
    let stored: Vec<(i64, String)> = conn
        .query("SELECT id, body_text FROM chat_messages ORDER BY id")
        .expect("messages");
    let mut seen: BTreeMap<i64, String> = BTreeMap::new();
    while seen.len() < stored.len() {
        let (id, body) = created(&mut reader);
        assert!(seen.insert(id, body).is_none(), "message {id} came twice");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), stored);
    let (frames, _) = reader.ping_barrier().expect("barrier");
    assert!(messages(&frames).is_empty(), "more than the database has");
}
