//! An agent who loses access stops receiving events of every kind within five seconds, and is never left with a socket
//! that only seems to work.

use std::collections::BTreeSet;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::ops::seeded;
use crate::support::stopwatch::Stopwatch;
use crate::support::ws::{Client, Frame};
use crate::support::{seed, wait};

/// The longest time that an agent may keep receiving events after losing access. Counted from before the statement that
/// revokes it, so the measured time is never less than the time since its commit.
const AT_MOST: Duration = Duration::from_secs(5);

/// All that is told of a channel.
const KINDS: [&str; 5] = [
    "chat.channel.message.created",
    "chat.message.deleted",
    "chat.message.updated",
    "chat.read.updated",
    "chat.typing",
];

/// The kinds of those events of a channel that came until a barrier.
fn heard(client: &mut Client, channel: i64) -> BTreeSet<String> {
    let (frames, ended) = client.ping_barrier().unwrap();
    assert_eq!(ended, None, "a socket that lost one channel is kept");
    of_channel(&frames, channel)
}

fn of_channel(frames: &[Frame], channel: i64) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    for event in frames.iter().filter_map(Frame::json) {
        let kind = event.need("type").str().expect("a type");
        let place = event.get("message").unwrap_or(&event);
        if KINDS.contains(&kind) && place.need("channel_id").int() == Some(channel) {
            kinds.insert(kind.to_owned());
        }
    }
    kinds
}

/// Lets events of each kind come in a channel: by agent 1's socket, as far as she may, and by another process, which may
/// write whatever it likes.
fn stir(conn: &mut Conn, ann: &mut Client, channel: i64) {
    for event in [
        format!(
            r#"{{"type":"chat.channel.message.send","channel_id":{channel},"body":"by a socket"}}"#
        ),
        format!(r#"{{"type":"chat.typing","channel_id":{channel}}}"#),
        format!(r#"{{"type":"chat.read","channel_id":{channel},"last_read_message_id":9000000}}"#),
    ] {
        ann.send(&event);
    }
    let mut write = |statement: String| {
        conn.query_drop(&statement)
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
        conn.last_insert_id()
    };
    let [edited, deleted] = ["one", "two"].map(|body| {
        write(format!(
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, created_at) \
             VALUES ('channel', {channel}, 1, '{body}', '{body}', NOW())"
        ))
    });
    write(format!(
        "UPDATE chat_messages SET body_text = 'edited', body_rendered_html = 'edited', edited_at = NOW() WHERE id = {edited}"
    ));
    write(format!(
        "UPDATE chat_messages SET deleted_at = NOW(), deleted_by_agent_id = 1 WHERE id = {deleted}"
    ));
    // What she hears herself must not pile up.
    ann.ping_barrier().unwrap();
}

/// Every one of them hears every kind of event of the channel.
fn hear_all_kinds(conn: &mut Conn, ann: &mut Client, listeners: &mut [&mut Client], channel: i64) {
    stir(conn, ann, channel);
    for listener in listeners {
        let mut kinds = BTreeSet::new();
        wait::until(wait::LIMIT, || {
            kinds.extend(heard(listener, channel));
            (kinds.len() == KINDS.len()).then_some(())
        })
        .unwrap_or_else(|| panic!("of channel {channel} only {kinds:?}"));
    }
}

/// Lets events of every kind come in channel 1 until `gone` have heard none of them three times over, while the control
/// heard every kind of its channel each time: so silence is no lateness. They must have heard the last within five seconds
/// since `begun`.
fn fall_silent(
    what: &str,
    begun: Stopwatch,
    conn: &mut Conn,
    ann: &mut Client,
    gone: &mut [&mut Client],
    (control, channel): (&mut Client, i64),
) {
    let mut last_heard = Duration::ZERO;
    let mut silent = 0;
    while silent < 3 {
        stir(conn, ann, 1);
        if channel != 1 {
            // After the other, so that what was to be told of that one goes out first.
            stir(conn, ann, channel);
        }
        let mut missing: BTreeSet<&str> = KINDS.into();
        let mut is_silent = true;
        let mut listen = |missing: &BTreeSet<&str>| {
            for client in gone.iter_mut() {
                let kinds = heard(client, 1);
                if !kinds.is_empty() {
                    is_silent = false;
                    last_heard = begun.elapsed();
                    assert!(
                        last_heard <= AT_MOST,
                        "{what}: {kinds:?} after {last_heard:?}"
                    );
                }
            }
            missing.is_empty().then_some(())
        };
        // All are asked all the time, for what comes to be timed as it comes.
        let complete = wait::until(wait::LIMIT, || {
            for kind in heard(control, channel) {
                missing.remove(kind.as_str());
            }
            listen(&missing)
        });
        assert!(complete.is_some(), "{what}: the control misses {missing:?}");
        silent = if is_silent { silent + 1 } else { 0 };
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
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob, mut dee] = [1, 2, 4].map(|agent| daemon.login(agent).unwrap());
    hear_all_kinds(&mut conn, &mut ann, &mut [&mut bob, &mut dee], 1);
    let begun = Stopwatch::start();
    seed::run(
        &mut conn,
        "DELETE FROM chat_channel_members WHERE channel_id = 1 AND agent_id = 2",
        vec![],
    );
    fall_silent(
        "removed from a channel",
        begun,
        &mut conn,
        &mut ann,
        &mut [&mut bob],
        (&mut dee, 1),
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
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut ann_too, mut bob, mut bob_too, mut dee] =
        [1, 1, 2, 2, 4].map(|agent| daemon.login(agent).unwrap());
    let mut members = [&mut ann_too, &mut bob, &mut dee];
    hear_all_kinds(&mut conn, &mut ann, &mut members, 1);
    // The same of a channel that stays shows what would have come of this one.
    hear_all_kinds(&mut conn, &mut ann, &mut [&mut bob_too], 2);
    let begun = Stopwatch::start();
    seed::run(
        &mut conn,
        "UPDATE chat_channels SET is_active = 0 WHERE id = 1",
        vec![],
    );
    fall_silent(
        "switched off",
        begun,
        &mut conn,
        &mut ann,
        &mut members,
        (&mut bob_too, 2),
    );
    still_works(&mut ann, &mut bob);
}

/// Typing uses cached membership, and in this test nothing else refreshes the cache.
#[test]
fn nor_is_typing_heard_for_longer_where_nothing_else_happens() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob, mut dee] = [1, 2, 4].map(|agent| daemon.login(agent).unwrap());
    let mut type_in_both = || {
        for channel in [1, 2] {
            ann.send(&format!(
                r#"{{"type":"chat.typing","channel_id":{channel}}}"#
            ));
        }
        let (frames, ended) = ann.ping_barrier().unwrap();
        assert_eq!(ended, None);
        frames
    };
    type_in_both();
    let (frames, _) = bob.ping_barrier().unwrap();
    for channel in [1, 2] {
        assert!(
            !of_channel(&frames, channel).is_empty(),
            "channel {channel}"
        );
    }
    heard(&mut dee, 1);
    // One is put out of a channel, and another channel is switched off.
    let begun = Stopwatch::start();
    for statement in [
        "DELETE FROM chat_channel_members WHERE channel_id = 1 AND agent_id = 2",
        "UPDATE chat_channels SET is_active = 0 WHERE id = 2",
    ] {
        seed::run(&mut conn, statement, vec![]);
    }
    let mut last_heard = Duration::ZERO;
    let mut refusals = Vec::new();
    for seconds in 1..=7 {
        // Once a second, so that what is let through last has time to arrive.
        wait::pass(Duration::from_secs(seconds).saturating_sub(begun.elapsed()));
        refusals = type_in_both();
        let (frames, ended) = bob.ping_barrier().unwrap();
        assert_eq!(ended, None);
        for channel in [1, 2] {
            if !of_channel(&frames, channel).is_empty() {
                last_heard = begun.elapsed();
                assert!(
                    last_heard <= AT_MOST,
                    "channel {channel} after {last_heard:?}"
                );
            }
        }
        assert!(heard(&mut dee, 1).contains("chat.typing"), "the control");
    }
    // She was not silent herself: she is told that there is no such channel any more.
    let codes: Vec<Json> = refusals.iter().filter_map(Frame::json).collect();
    let is_refused =
        |event: &Json| event.get("code").and_then(Json::str) == Some("no_channel_access");
    assert!(codes.iter().any(is_refused), "{codes:?}");
    println!("typing alone: heard for {:.1} s", last_heard.as_secs_f64());
}

#[test]
fn who_is_deactivated_is_closed_and_not_starved() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon();
    let [mut ann, mut bob, mut dee] = [1, 2, 4].map(|agent| daemon.login(agent).unwrap());
    hear_all_kinds(&mut conn, &mut ann, &mut [&mut bob, &mut dee], 1);
    let begun = Stopwatch::start();
    seed::run(
        &mut conn,
        "UPDATE agents SET is_active = 0 WHERE id = 2",
        vec![],
    );
    let ended = wait::until(wait::LIMIT, || {
        stir(&mut conn, &mut ann, 1);
        let (_, ended) = bob.ping_barrier().unwrap();
        ended.map(|code| (code, begun.elapsed()))
    });
    let (code, after) = ended.expect("he is closed");
    assert_eq!(code, Some(4403));
    assert!(after <= AT_MOST, "closed after {after:?}");
    // The others have lost nothing by it.
    heard(&mut dee, 1);
    hear_all_kinds(&mut conn, &mut ann, &mut [&mut dee], 1);
    println!("deactivated: closed after {:.1} s", after.as_secs_f64());
}

/// Posting rights, audience and sender's name are read anew for every message.
#[test]
fn what_has_changed_since_an_agents_last_message_counts_for_the_next() {
    needs!(MariaDb);
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
