//! Misbehaving peers: each is refused, closed or dropped, without effect on other clients.

use std::thread;

use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::Database;
use crate::support::seed;
use crate::support::ws::{Client, FrameSpec};

fn daemon() -> (Database, Daemon) {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    (database, daemon)
}

/// What a member of the chat does meanwhile.
fn chats_undisturbed(daemon: &Daemon) {
    let mut ann = daemon.login(1).expect("login");
    for number in 0..20 {
        ann.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{number}"}}"#
        ));
        let event = ann
            .until_type("chat.channel.message.created")
            .expect("a message");
        let body = event.need("message").need("body_text").str();
        assert_eq!(body, Some(number.to_string().as_str()));
    }
}

fn flood(client: &mut Client, frame: &FrameSpec, count: usize) {
    let one = frame.encode();
    for _ in 0..count / 100 {
        // The peer may end the connection at any time; what it said last is what counts.
        client.write(&one.repeat(100));
    }
}

#[test]
fn a_message_in_endless_empty_fragments_is_ended() {
    needs!(MariaDb);
    let (_database, daemon) = daemon();
    thread::scope(|scope| {
        scope.spawn(|| chats_undisturbed(&daemon));
        let mut mallory = daemon.login(2).expect("login");
        let mut first = FrameSpec::text("");
        first.fin = false;
        mallory.send_frame(&first);
        let mut more = FrameSpec::new(0, "");
        more.fin = false;
        flood(&mut mallory, &more, 50_000);
        let (_, closed) = mallory.until_end().expect("an end");
        assert_eq!(closed, Some(1009));
    });
}

#[test]
fn a_flood_of_pings_is_ended() {
    needs!(MariaDb);
    let (_database, daemon) = daemon();
    thread::scope(|scope| {
        scope.spawn(|| chats_undisturbed(&daemon));
        let mut mallory = daemon.login(2).expect("login");
        flood(&mut mallory, &FrameSpec::new(9, "x"), 20_000);
        let (_, closed) = mallory.until_end().expect("an end");
        assert_eq!(closed, Some(1008));
    });
}

#[test]
fn fifty_thousand_tiny_events_are_ended_after_a_few() {
    needs!(MariaDb);
    let (_database, daemon) = daemon();
    thread::scope(|scope| {
        scope.spawn(|| chats_undisturbed(&daemon));
        let mut mallory = daemon.login(2).expect("login");
        flood(&mut mallory, &FrameSpec::text("{}"), 50_000);
        let (frames, closed) = mallory.until_end().expect("an end");
        assert_eq!(closed, Some(1008));
        assert!(frames.len() < 2_000, "{} answers", frames.len());
    });
}

#[test]
fn deep_json_is_no_event_and_costs_nothing() {
    needs!(MariaDb);
    let (_database, daemon) = daemon();
    let mut mallory = daemon.login(2).expect("login");
    let deep = "[".repeat(30_000);
    mallory.send(&format!(r#"{{"type":"ping","a":{deep}"#));
    let error = mallory.until_type("error").expect("an error");
    assert_eq!(error.need("code").str(), Some("invalid_event"));
    chats_undisturbed(&daemon);
}
