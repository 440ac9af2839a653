//! Memory for clients that do not read stays within the limit of a socket's queue, whatever they request.

use mysql::Conn;
use mysql::prelude::Queryable;

use andrea_chat_websocket::supervisor::ALLOCATOR;

use crate::health::metrics;
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::Database;
use crate::support::ops::seeded;
use crate::support::ws::Client;
use crate::support::{jwt, seed, wait};
use crate::wire_frames::memory;

/// Messages that are there, of 24 KB each in JSON: 1,000 of them are 24 MB, 200 are 5 MB.
const MESSAGES: i64 = 1200;
const QUEUE: usize = 512 * 1024;

fn long_messages() -> (Database, Conn, Daemon) {
    let (database, mut conn) = seeded();
    conn.query_drop(format!(
        "INSERT INTO chat_messages \
         (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, created_at) \
         SELECT 'channel', 1, 2, CONCAT(seq, REPEAT(' x', 6000)), CONCAT(seq, REPEAT(' x', 6000)), NOW() \
         FROM {} ORDER BY seq",
        seed::sequence(MESSAGES)
    ))
    .expect("many long messages");
    // The allocator as the unit sets it.
    let options = ALLOCATOR
        .iter()
        .fold(Options::new(), |options, (name, value)| {
            options.env(name, value)
        })
        .env("CHAT_WEBSOCKET_QUEUE_BYTES", &QUEUE.to_string());
    let daemon = Daemon::start(&database, &options);
    (database, conn, daemon)
}

/// A client that asks for all that it missed.
fn resume(daemon: &Daemon) -> Client {
    let mut client = daemon.connect().unwrap();
    client.shrink_receive_buffer();
    client.send(&format!(
        r#"{{"type":"auth","token":"{}","after_id":0}}"#,
        jwt::good(1)
    ));
    client
}

#[test]
fn those_who_come_back_and_do_not_read_take_no_more_than_may_wait_for_them() {
    needs!(MariaDb);
    const DEAF: usize = 12;
    let (_database, _conn, daemon) = long_messages();
    let mut reader = resume(&daemon);
    reader.until_type("chat.resumed").unwrap();
    let before = memory(&daemon);
    let told = || metrics(daemon.port())["andrea_chat_deliveries_total"];
    let told_before = told();
    let deaf: Vec<Client> = (0..DEAF).map(|_| resume(&daemon)).collect();
    // A welcome, and what was missed, for each.
    let all = told_before + 2.0 * DEAF as f64;
    let is_told = wait::until(wait::LIMIT, || (told() >= all).then_some(()));
    assert!(is_told.is_some(), "{} of {all}", told());
    let grown = memory(&daemon).saturating_sub(before);
    let allowed = ((DEAF * QUEUE) / 1024 + 8 * 1024) as u64;
    assert!(grown < allowed, "{grown} KiB more, {allowed} are allowed");
    drop(deaf);
}

#[test]
fn what_was_missed_and_does_not_fit_is_the_newest_and_said_to_be_a_part() {
    needs!(MariaDb);
    let (_database, _conn, daemon) = long_messages();
    let mut client = resume(&daemon);
    let mut ids = Vec::new();
    let resumed = loop {
        let event = client.next_json().unwrap();
        match event.need("type").str() {
            Some("chat.channel.message.created") => {
                ids.extend(event.need("message").need("id").int());
            }
            Some("chat.resumed") => break event,
            _ => {}
        }
    };
    assert!(!resumed.need("complete").is_true());
    let last = resumed.need("last_id").int().expect("an id");
    let expected: Vec<i64> = (last - ids.len() as i64 + 1..=last).collect();
    assert_eq!(ids, expected);
    assert!((10..=QUEUE / 24_000).contains(&ids.len()), "{}", ids.len());
}

#[test]
fn a_history_that_does_not_fit_comes_in_parts_that_leave_nothing_out() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = long_messages();
    let mut client = daemon.login(1).unwrap();
    let mut before = String::new();
    let mut newest_first = Vec::new();
    loop {
        client.send(&format!(
            r#"{{"type":"chat.history","channel_id":1,"limit":200{before}}}"#
        ));
        let history = client.until_type("chat.history").unwrap();
        assert!(history.to_string().len() <= QUEUE);
        let messages = history.need("messages").items();
        let ids = messages
            .iter()
            .map(|one| one.need("id").int().expect("an id"));
        newest_first.extend(ids.rev());
        if !history.need("has_more").is_true() {
            break;
        }
        let last = newest_first.last().expect("something");
        before = format!(r#","before_id":{last}"#);
    }
    let stored: Vec<i64> = conn
        .query("SELECT id FROM chat_messages WHERE channel_id = 1 ORDER BY id DESC")
        .expect("the table");
    assert_eq!(newest_first, stored);
}
