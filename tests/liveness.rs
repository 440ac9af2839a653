//! Timed behaviour: pings, deadlines, presence and its grace, deactivated agents, expired tokens, typing. The tests set
//! short intervals and check the order of events.

use std::time::Duration;

use mysql::Conn;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::ops::{seeded, set};
use crate::support::stopwatch::Stopwatch;
use crate::support::ws::{Client, Event, Frame, FrameSpec, PING};
use crate::support::{jwt, seed, wait};

/// Short pauses of a client that is slow on purpose.
const DRIP: Duration = Duration::from_millis(40);

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// What came until a barrier, without frames that are no JSON.
fn until_barrier(client: &mut Client) -> Vec<Json> {
    let (frames, ended) = client.ping_barrier().unwrap();
    assert!(ended.is_none(), "the connection ended: {ended:?}");
    frames.iter().filter_map(Frame::json).collect()
}

fn presence(agent_id: i64, online: bool) -> Json {
    Json::object([
        ("type", "presence.updated".into()),
        ("agent_id", agent_id.into()),
        ("online", online.into()),
    ])
}

#[test]
fn a_silent_peer_is_pinged_and_stays_while_it_answers_and_is_dropped_when_it_does_not() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_PING_INTERVAL", "1")
        .env("CHAT_WEBSOCKET_IDLE_TIMEOUT", "3");
    let daemon = Daemon::start(&database, &options);
    let mut alive = daemon.login(1).unwrap();
    let mut dead = daemon.login(2).unwrap();
    let mut undecided = daemon.connect().unwrap();
    std::thread::scope(|scope| {
        // Reads everything and answers nothing.
        let said = scope.spawn(move || dead.rest().unwrap());
        // Until that one is dropped, and then as long again.
        let mut left = 4;
        while left > 0 {
            alive.show_next_ping();
            match alive.next().unwrap() {
                Event::Frame(frame) if frame.opcode() == PING => {}
                Event::Frame(_) => continue,
                Event::End => panic!("a peer that answers is dropped"),
            }
            left -= u8::from(said.is_finished());
        }
        let mut said = said.join().expect("no panic");
        let frames: Vec<Frame> = std::iter::from_fn(|| Frame::decode(&mut said)).collect();
        let pings = frames.iter().filter(|frame| frame.opcode() == PING);
        assert!((1..=3).contains(&pings.count()), "{frames:?}");
        // The peer cannot read a close frame.
        assert!(frames.iter().all(|frame| frame.close_code().is_none()));
        until_barrier(&mut alive);
    });
    // Nor is a socket without an agent spared.
    undecided.until_end().unwrap();
}

#[test]
fn a_peer_that_talks_is_not_pinged() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_PING_INTERVAL", "2")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    let mut quiet = daemon.login(1).unwrap();
    let mut busy = daemon.login(2).unwrap();
    quiet.show_next_ping();
    busy.show_next_ping();
    // Long enough for the one to be pinged is long enough for the other.
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let talker = scope.spawn(move || {
            let mut frames = Vec::new();
            while stopped.try_recv().is_err() {
                frames.extend(busy.ping_barrier().unwrap().0);
                wait::pass(DRIP);
            }
            frames
        });
        loop {
            match quiet.next().unwrap() {
                Event::Frame(frame) if frame.opcode() == PING => break,
                event => assert_ne!(event, Event::End),
            }
        }
        stop.send(()).expect("the talker waits for it");
        let frames = talker.join().expect("no panic");
        assert!(frames.iter().all(|frame| frame.opcode() != PING));
    });
}

#[test]
fn a_request_that_comes_in_drips_is_refused_with_408() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "1");
    let daemon = Daemon::start(&database, &options);
    let mut silent = Client::open(daemon.port());
    let mut slow = Client::open(daemon.port());
    let mut request = b"GET /ws/chat HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    request.extend([b'x'; 200]);
    // A new byte now and then must not put the end off: it comes while there are still bytes to send.
    let mut sent = 0;
    let response = loop {
        slow.write(&request[sent..=sent]);
        sent += 1;
        assert!(sent < request.len(), "the daemon never closes it");
        slow.limit = DRIP;
        if let Ok(response) = slow.response() {
            break response;
        }
    };
    slow.limit = wait::LIMIT;
    assert_eq!(response.status(), 408);
    assert_eq!(response.header("Connection"), ["close"]);
    assert_eq!(silent.response().unwrap().status(), 408);
    silent.rest().unwrap();
}

#[test]
fn a_socket_that_does_not_authenticate_is_closed_with_4408_whatever_else_it_says() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_AUTH_TIMEOUT", "1");
    let daemon = Daemon::start(&database, &options);
    let mut silent = daemon.connect().unwrap();
    let mut other = daemon.connect().unwrap();
    let mut talker = daemon.connect().unwrap();
    let mut agent = daemon.login(1).unwrap();
    other.send_frame(&FrameSpec::new(PING, "x"));
    // Answered, so it lives; and still it has to say who it is.
    let ended = wait::until(wait::LIMIT, || {
        talker.send(r#"{"type":"ping"}"#);
        match talker.next().unwrap() {
            Event::Frame(frame) => frame.close_code(),
            Event::End => panic!("ended without a close frame"),
        }
    });
    assert_eq!(ended, Some(4408));
    for client in [&mut silent, &mut other] {
        assert_eq!(client.until_end().unwrap().1, Some(4408));
    }
    until_barrier(&mut agent);
}

#[test]
fn an_agent_goes_offline_once_when_the_last_socket_is_gone_for_the_grace() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_PRESENCE_GRACE", "1");
    let daemon = Daemon::start(&database, &options);
    let mut watcher = daemon.login(1).unwrap();
    let first = daemon.login(2).unwrap();
    let second = daemon.login(2).unwrap();
    assert_eq!(until_barrier(&mut watcher), [presence(2, true)]);
    drop(first);
    // Its grace would be over before this one's.
    let clock = daemon.login(3).unwrap();
    drop(clock);
    let seen = watcher.until_type("presence.updated").unwrap();
    assert_eq!(seen, presence(3, true));
    let seen = watcher.until_type("presence.updated").unwrap();
    assert_eq!(
        seen,
        presence(3, false),
        "one socket of agent 2 is still there"
    );
    drop(second);
    let seen = watcher.until_type("presence.updated").unwrap();
    assert_eq!(seen, presence(2, false));
    assert!(until_barrier(&mut watcher).is_empty());
}

#[test]
fn an_agent_back_within_the_grace_was_never_away() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_PRESENCE_GRACE", "2");
    let daemon = Daemon::start(&database, &options);
    let mut watcher = daemon.login(1).unwrap();
    let reloaded = daemon.login(2).unwrap();
    assert_eq!(until_barrier(&mut watcher), [presence(2, true)]);
    drop(reloaded);
    // Newcomers see an agent in its grace as online; the agent itself is told nothing new.
    let mut back = daemon.connect().unwrap();
    let welcome = back.auth(2).unwrap();
    assert_eq!(welcome.need("online_agent_ids"), &json("[1,2]"));
    let clock = daemon.login(3).unwrap();
    drop(clock);
    for online in [true, false] {
        let seen = watcher.until_type("presence.updated").unwrap();
        assert_eq!(seen, presence(3, online), "nothing about agent 2");
    }
    let seen = until_barrier(&mut back);
    assert_eq!(seen, [presence(3, true), presence(3, false)]);
}

#[test]
fn those_who_come_are_told_who_is_online_in_order() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut clients = Vec::new();
    for (agent, online) in [
        (12, "[12]"),
        (3, "[3,12]"),
        (8, "[3,8,12]"),
        (3, "[3,8,12]"),
        (1, "[1,3,8,12]"),
    ] {
        let mut client = daemon.connect().unwrap();
        let welcome = client.auth(agent).unwrap();
        assert_eq!(welcome.need("online_agent_ids"), &json(online));
        clients.push(client);
    }
}

/// For so long at most an agent may stay who was deactivated.
const STAYS_AT_MOST: Duration = Duration::from_secs(5);

fn set_active(conn: &mut Conn, agent_id: i64, is_active: bool) {
    let statement = format!(
        "UPDATE agents SET is_active = {} WHERE id = {agent_id}",
        i64::from(is_active)
    );
    seed::run(conn, &statement, vec![]);
}

#[test]
fn a_deactivated_agent_alone_is_closed_with_4403_on_every_socket() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut sockets = [daemon.login(2).unwrap(), daemon.login(2).unwrap()];
    let mut other = daemon.login(1).unwrap();
    until_barrier(&mut other);
    let begun = Stopwatch::start();
    set_active(&mut conn, 2, false);
    for socket in &mut sockets {
        assert_eq!(socket.until_end().unwrap().1, Some(4403));
        let after = begun.elapsed();
        assert!(after <= STAYS_AT_MOST, "closed after {after:?}");
    }
    let mut again = daemon.connect().unwrap();
    let token = jwt::good(2);
    again.send(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
    assert_eq!(again.until_end().unwrap().1, Some(4401));
    let seen = other.until_type("presence.updated").unwrap();
    assert_eq!(seen, presence(2, false));
    set_active(&mut conn, 2, true);
    daemon.login(2).unwrap();
    until_barrier(&mut other);
}

#[test]
fn a_deactivated_agent_who_comes_back_on_what_is_remembered_does_not_stay() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    drop(daemon.login(2).unwrap());
    let begun = Stopwatch::start();
    set_active(&mut conn, 2, false);
    let come_back = || {
        let mut again = daemon.connect().unwrap();
        let token = jwt::good(2);
        again.send(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
        (again.until_end().unwrap().1, begun.elapsed())
    };
    // For as long as the row is remembered; in the end the database is asked.
    let refused = wait::until(wait::LIMIT, || {
        let (end, after) = come_back();
        if end == Some(4401) {
            return Some(());
        }
        assert_eq!(end, Some(4403));
        assert!(after <= STAYS_AT_MOST, "closed only after {after:?}");
        None
    });
    refused.expect("the database is asked");
    for _ in 0..5 {
        assert_eq!(come_back().0, Some(4401));
    }
}

/// A token that is good for so many seconds.
fn short(agent_id: i64, seconds: i64) -> String {
    let claims =
        format!(r#"{{"claims":{{"sub":{agent_id},"type":"agent","exp":"now+{seconds}"}}}}"#);
    jwt::mint(&json(&claims))
}

fn login_with(daemon: &Daemon, token: &str) -> Client {
    let mut client = daemon.connect().unwrap();
    client.send(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
    client.until_type("auth.ok").unwrap();
    client
}

/// The thirty seconds are the contract's, so this test takes that long.
#[test]
fn an_expired_token_ends_its_socket_only_where_that_is_enforced_and_not_renewed() {
    needs!(MariaDb, Time);
    let (database, _) = seeded();
    let lenient = Daemon::start(&database, &Options::new());
    let options = Options::new().env("CHAT_WEBSOCKET_ENFORCE_EXPIRY", "1");
    let strict = Daemon::start(&database, &options);
    let mut unenforced = login_with(&lenient, &short(1, 2));
    let mut expired = login_with(&strict, &short(1, 2));
    let mut renewed = login_with(&strict, &short(2, 2));
    renewed.send(&format!(r#"{{"type":"auth","token":"{}"}}"#, short(2, 600)));
    renewed.until_type("auth.ok").unwrap();
    expired.limit = Duration::from_secs(60);
    let begun = jwt::unix_now();
    assert_eq!(expired.until_end().unwrap().1, Some(4401));
    let waited = jwt::unix_now() - begun;
    assert!(waited >= 29, "the socket had its grace: {waited} s");
    until_barrier(&mut unenforced);
    until_barrier(&mut renewed);
}

fn typing(client: &mut Client, channel: i64) {
    client.send(&format!(
        r#"{{"type":"chat.typing","channel_id":{channel}}}"#
    ));
}

#[test]
fn keystrokes_are_passed_on_once_a_second_for_each_socket_and_conversation() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut reader = daemon.login(2).unwrap();
    let mut typist = daemon.login(1).unwrap();
    let mut second_tab = daemon.login(1).unwrap();
    until_barrier(&mut reader);
    for _ in 0..5 {
        typing(&mut typist, 1);
        typing(&mut typist, 2);
    }
    until_barrier(&mut typist);
    typing(&mut second_tab, 1);
    until_barrier(&mut second_tab);
    let channels = |events: Vec<Json>| -> Vec<i64> {
        let typing = events
            .iter()
            .filter(|e| e.need("type").str() == Some("chat.typing"));
        typing.filter_map(|e| e.need("channel_id").int()).collect()
    };
    assert_eq!(channels(until_barrier(&mut reader)), [1, 2, 1]);
    // And then again.
    wait::until(wait::LIMIT, || {
        typing(&mut typist, 1);
        until_barrier(&mut typist);
        let seen = channels(until_barrier(&mut reader));
        wait::pass(DRIP);
        (!seen.is_empty()).then_some(())
    })
    .expect("another keystroke is passed on");
}

#[test]
fn a_membership_that_ends_ends_typing_within_seconds() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    let mut typist = daemon.login(2).unwrap();
    typing(&mut typist, 2);
    assert!(until_barrier(&mut typist).is_empty());
    let statement = "DELETE FROM chat_channel_members WHERE channel_id = 2 AND agent_id = 2";
    seed::run(&mut conn, statement, vec![]);
    let error = wait::until(wait::LIMIT, || {
        typing(&mut typist, 2);
        wait::pass(DRIP);
        until_barrier(&mut typist).into_iter().next()
    });
    let code = error.expect("an error in the end");
    assert_eq!(code.need("code").str(), Some("no_channel_access"));
}

/// What is switched off in the settings is off within seconds, without a signal.
#[test]
fn settings_are_looked_at_while_running() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut client = daemon.login(1).unwrap();
    set(&mut conn, "chat_enabled", "0");
    daemon.await_log("settings changed");
    typing(&mut client, 1);
    let error = client.until_type("error").unwrap();
    assert_eq!(error.need("code").str(), Some("chat_disabled"));
}
