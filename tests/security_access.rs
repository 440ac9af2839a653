//! Who may no longer hear something stops hearing it, whatever kind of event it is, within five seconds; and is never left
//! with a socket that only seems to work.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::ops::seeded;
use crate::support::ws::{Client, Frame};
use crate::support::{seed, wait};

/// All that is told of a channel.
const KINDS: [&str; 5] = [
    "chat.channel.message.created",
    "chat.message.deleted",
    "chat.message.updated",
    "chat.read.updated",
    "chat.typing",
];

/// Events of the channel by type, until a barrier.
fn heard(client: &mut Client) -> BTreeMap<String, usize> {
    let (frames, ended) = client.ping_barrier().unwrap();
    assert_eq!(ended, None, "a socket that lost one channel is kept");
    let mut kinds = BTreeMap::new();
    for event in frames.iter().filter_map(Frame::json) {
        let kind = event.need("type").str().expect("a type").to_owned();
        if KINDS.contains(&kind.as_str()) {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    kinds
}

/// One event of each kind in channel 1: three by agent 1's socket, two by another process.
fn stir(conn: &mut Conn, ann: &mut Client) {
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"one"}"#);
    let event = ann.until_type("chat.channel.message.created").unwrap();
    let id = event.need("message").need("id").int().expect("an id");
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"two"}"#);
    let event = ann.until_type("chat.channel.message.created").unwrap();
    let other = event.need("message").need("id").int().expect("an id");
    ann.send(r#"{"type":"chat.typing","channel_id":1}"#);
    ann.send(&format!(
        r#"{{"type":"chat.read","channel_id":1,"last_read_message_id":{other}}}"#
    ));
    conn.query_drop(format!(
        "UPDATE chat_messages SET body_text = 'edited', body_rendered_html = 'edited', edited_at = NOW() WHERE id = {id}"
    ))
    .expect("edit");
    conn.query_drop(format!(
        "UPDATE chat_messages SET deleted_at = NOW(), deleted_by_agent_id = 1 WHERE id = {other}"
    ))
    .expect("delete");
}

/// Lets events of every kind come until `bob` hears none of them, while `control` hears them all. Returns how long he went
/// on hearing something.
fn falls_silent(
    what: &str,
    conn: &mut Conn,
    ann: &mut Client,
    bob: &mut Client,
    control: Option<&mut Client>,
) {
    let begun = Instant::now();
    let mut last_heard = Duration::ZERO;
    let mut control = control;
    let mut silent = 0;
    while silent < 3 {
        assert!(
            begun.elapsed() < wait::LIMIT,
            "{what}: still hears the channel"
        );
        stir(conn, ann);
        // Edits of other processes are told within a second or so; the control shows when.
        let mut wanted: Vec<&str> = KINDS.to_vec();
        match &mut control {
            Some(control) => {
                wait::until(wait::LIMIT, || {
                    for kind in heard(control).keys() {
                        wanted.retain(|one| one != kind);
                    }
                    wanted.is_empty().then_some(())
                })
                .unwrap_or_else(|| panic!("{what}: the control misses {wanted:?}"));
            }
            None => wait::pass(Duration::from_millis(1500)),
        }
        let kinds = heard(bob);
        if kinds.is_empty() {
            silent += 1;
        } else {
            silent = 0;
            last_heard = begun.elapsed();
        }
    }
    println!(
        "{what}: heard something for {:.1} s",
        last_heard.as_secs_f64()
    );
}

/// A socket that lost a channel is as good as any other elsewhere, and learns nothing of that channel by asking.
fn still_works(ann: &mut Client, bob: &mut Client) {
    ann.send(r#"{"type":"chat.direct.message.send","thread_id":1,"body":"still there?"}"#);
    bob.until_type("chat.direct.message.created").unwrap();
    bob.send(r#"{"type":"chat.direct.message.send","thread_id":1,"body":"yes"}"#);
    ann.until_type("chat.direct.message.created").unwrap();
    for (event, code) in [
        (
            r#"{"type":"chat.history","channel_id":1}"#,
            "no_channel_access",
        ),
        (
            r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
            "no_channel_access",
        ),
        (
            r#"{"type":"chat.typing","channel_id":1}"#,
            "no_channel_access",
        ),
        (
            r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#,
            "cannot_post",
        ),
    ] {
        bob.send(event);
        let error = bob.until_type("error").unwrap();
        assert_eq!(error.need("code").str(), Some(code), "{event}");
    }
    bob.send(r#"{"type":"chat.unread"}"#);
    let unread = bob.until_type("chat.unread").unwrap();
    let channels = unread.need("conversations").items();
    assert!(
        channels
            .iter()
            .all(|one| one.get("channel_id").and_then(Json::int) != Some(1))
    );
}

fn daemon() -> (crate::support::mariadb::Database, Conn, Daemon) {
    let (database, conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0");
    let daemon = Daemon::start(&database, &options);
    (database, conn, daemon)
}

#[test]
fn who_is_removed_from_a_channel_hears_no_kind_of_event_of_it_and_keeps_the_socket() {
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob, mut dee] = [1, 2, 4].map(|agent| daemon.login(agent).unwrap());
    // He hears every kind before.
    stir(&mut conn, &mut ann);
    let mut kinds = BTreeMap::new();
    wait::until(wait::LIMIT, || {
        kinds.extend(heard(&mut bob));
        (kinds.len() == KINDS.len()).then_some(())
    })
    .unwrap_or_else(|| panic!("{kinds:?}"));
    heard(&mut dee);
    seed::run(
        &mut conn,
        "DELETE FROM chat_channel_members WHERE channel_id = 1 AND agent_id = 2",
        vec![],
    );
    falls_silent(
        "removed from a channel",
        &mut conn,
        &mut ann,
        &mut bob,
        Some(&mut dee),
    );
    still_works(&mut ann, &mut bob);
    // Who comes back in the socket's life gets nothing of what was said meanwhile.
    let mut again = daemon.connect().unwrap();
    let auth = Json::object([
        ("type", "auth".into()),
        ("token", crate::support::jwt::good(2).as_str().into()),
        ("after_id", 1.into()),
    ]);
    again.send(&auth.to_string());
    again.until_type("auth.ok").unwrap();
    loop {
        let event = again.next_json().unwrap();
        match event.need("type").str() {
            Some("chat.resumed") => break,
            Some("chat.channel.message.created") => panic!("{event}"),
            _ => {}
        }
    }
}

#[test]
fn a_channel_that_is_switched_off_falls_silent_for_all_and_they_keep_their_sockets() {
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob] = [1, 2].map(|agent| daemon.login(agent).unwrap());
    stir(&mut conn, &mut ann);
    seed::run(
        &mut conn,
        "UPDATE chat_channels SET is_active = 0 WHERE id = 1",
        vec![],
    );
    // Nobody can post there any more, so what is stirred is what other processes do.
    let begun = Instant::now();
    let mut last_heard = Duration::ZERO;
    let mut silent = 0;
    while silent < 3 {
        assert!(begun.elapsed() < wait::LIMIT, "the channel is still heard");
        for event in [
            r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#,
            r#"{"type":"chat.typing","channel_id":1}"#,
            r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
        ] {
            ann.send(event);
        }
        conn.query_drop(
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, created_at) \
             VALUES ('channel', 1, 1, 'x', 'x', NOW())",
        )
        .expect("insert");
        conn.query_drop("UPDATE chat_messages SET body_text = CONCAT(body_text, '!'), edited_at = NOW() WHERE channel_id = 1")
            .expect("edit");
        wait::pass(Duration::from_millis(1200));
        let kinds = [heard(&mut bob), heard(&mut ann)];
        if kinds.iter().all(BTreeMap::is_empty) {
            silent += 1;
        } else {
            silent = 0;
            last_heard = begun.elapsed();
        }
    }
    println!(
        "switched off: heard something for {:.1} s",
        last_heard.as_secs_f64()
    );
    still_works(&mut ann, &mut bob);
}

#[test]
fn who_is_deactivated_is_closed_and_not_starved() {
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob] = [1, 2].map(|agent| daemon.login(agent).unwrap());
    let begun = Instant::now();
    seed::run(
        &mut conn,
        "UPDATE agents SET is_active = 0 WHERE id = 2",
        vec![],
    );
    let ended = wait::until(wait::LIMIT, || {
        stir(&mut conn, &mut ann);
        let (_, ended) = bob.ping_barrier().unwrap();
        ended
    });
    assert_eq!(ended, Some(Some(4403)));
    println!(
        "deactivated: closed after {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

/// Nothing of who may speak where, who hears it and what he is called is remembered from one message to the next.
#[test]
fn what_has_changed_since_an_agents_last_message_counts_for_the_next() {
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob] = [1, 2].map(|agent| daemon.login(agent).unwrap());
    let say = |client: &mut Client, body: &str| {
        client.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{body}"}}"#
        ));
    };
    let created = |client: &mut Client| {
        let event = client.until_type("chat.channel.message.created").unwrap();
        event.need("message").clone()
    };
    for body in ["first", "second"] {
        for number in 0..2 {
            let both = [&mut ann, &mut bob];
            say(both[number], body);
            for client in both {
                created(client);
            }
        }
    }
    seed::run(
        &mut conn,
        "UPDATE agents SET name = 'Ann B.', chat_handle = 'annb' WHERE id = 1",
        vec![],
    );
    say(&mut ann, "renamed");
    let message = created(&mut bob);
    assert_eq!(message.need("sender_name").str(), Some("Ann B."));
    assert_eq!(message.need("sender_chat_handle").str(), Some("annb"));
    created(&mut ann);
    let mut gone =
        vec!["UPDATE chat_channel_members SET can_post = 0 WHERE channel_id = 1 AND agent_id = 2"];
    gone.push("DELETE FROM chat_channel_members WHERE channel_id = 1 AND agent_id = 2");
    for change in gone {
        seed::run(&mut conn, change, vec![]);
        say(&mut bob, "not any more");
        let error = bob.until_type("error").unwrap();
        assert_eq!(error.need("code").str(), Some("cannot_post"), "{change}");
    }
    say(&mut ann, "without him");
    let message = created(&mut ann);
    assert_eq!(message.need("body_text").str(), Some("without him"));
    let (frames, _) = bob.ping_barrier().unwrap();
    assert!(
        frames
            .iter()
            .filter_map(Frame::json)
            .all(|event| { event.need("type").str() != Some("chat.channel.message.created") })
    );
    // Who is let in hears the very next word.
    seed::run(
        &mut conn,
        "INSERT INTO chat_channel_members (channel_id, agent_id, can_post) VALUES (1, 2, 1)",
        vec![],
    );
    say(&mut ann, "with him");
    assert_eq!(created(&mut bob).need("body_text").str(), Some("with him"));
    let by_bob: Option<u64> = conn
        .query_first("SELECT COUNT(*) FROM chat_messages WHERE body_text = 'not any more'")
        .expect("count");
    assert_eq!(by_bob, Some(0));
}
