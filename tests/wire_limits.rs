//! Limits of a socket: every answer with its `ref` and code, limits of rate and number.

use andrea_chat_websocket::config::limits::Limits;

use crate::limits::hits;
use crate::support::chat::{Participant, Place, audit};
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::ops::{await_look, seeded, set};
use crate::support::ws::{Client, Frame, FrameSpec};
use crate::support::{jwt, wait};

fn kind(event: &Json) -> &str {
    event.need("type").str().expect("a type")
}

fn code(event: &Json) -> Option<&str> {
    event.get("code").and_then(Json::str)
}

/// Sends an event with a `ref` put in, and returns the answer that carries it back.
fn answer(client: &mut Client, event: &str, reference: &Json) -> Json {
    let mut event = Json::parse(event).expect("JSON");
    if let Json::Object(entries) = &mut event {
        entries.push(("ref".to_owned(), reference.clone()));
    }
    client.send(&event.to_string());
    loop {
        let answer = client.next_json().unwrap();
        if answer.get("ref") == Some(reference) {
            return answer;
        }
        assert_eq!(answer.get("ref"), None, "another's: {answer}");
    }
}

/// What agent 1 sends, and the type and code of the answer.
const ANSWERS: [(&str, &str, Option<&str>); 22] = [
    (r#"{"type":"ping"}"#, "pong", None),
    (r#"{"no":"type"}"#, "error", Some("invalid_event")),
    (r#"{"type":""}"#, "error", Some("invalid_event")),
    (r#"{"type":"nonsense"}"#, "error", Some("unsupported_type")),
    (
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#,
        "chat.channel.message.created",
        None,
    ),
    (
        r#"{"type":"chat.direct.message.send","thread_id":1,"body":"x"}"#,
        "chat.direct.message.created",
        None,
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":" \n "}"#,
        "error",
        Some("message_empty"),
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":1}"#,
        "error",
        Some("message_empty"),
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"123456789"}"#,
        "error",
        Some("message_too_long"),
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":4,"body":"x"}"#,
        "error",
        Some("cannot_post"),
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":99,"body":"x"}"#,
        "error",
        Some("cannot_post"),
    ),
    (
        r#"{"type":"chat.channel.message.send","channel_id":3,"body":"x"}"#,
        "error",
        Some("cannot_post"),
    ),
    (
        r#"{"type":"chat.direct.message.send","thread_id":3,"body":"x"}"#,
        "error",
        Some("no_thread_access"),
    ),
    (
        r#"{"type":"chat.direct.message.send","thread_id":2,"body":"x"}"#,
        "error",
        Some("recipient_inactive"),
    ),
    (
        r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
        "chat.read.updated",
        None,
    ),
    (
        r#"{"type":"chat.read","channel_id":4}"#,
        "error",
        Some("no_channel_access"),
    ),
    (
        r#"{"type":"chat.read","scope":"direct","thread_id":3}"#,
        "error",
        Some("no_thread_access"),
    ),
    (
        r#"{"type":"chat.read"}"#,
        "error",
        Some("channel_id_required"),
    ),
    (
        r#"{"type":"chat.typing","scope":"direct"}"#,
        "error",
        Some("thread_id_required"),
    ),
    (
        r#"{"type":"chat.typing","channel_id":4}"#,
        "error",
        Some("no_channel_access"),
    ),
    // Remembered now, so this refusal comes without a look into the database.
    (
        r#"{"type":"chat.typing","channel_id":4}"#,
        "error",
        Some("no_channel_access"),
    ),
    (
        r#"{"type":"chat.typing","scope":"direct","thread_id":3}"#,
        "error",
        Some("no_thread_access"),
    ),
];

#[test]
fn every_answer_carries_the_ref_and_every_error_its_code() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "8");
    let options = Options::new()
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    let mut client = daemon.connect().unwrap();
    let early = answer(&mut client, r#"{"type":"ping"}"#, &"early".into());
    assert_eq!(kind(&early), "auth.failed");
    let token = jwt::good(1);
    let auth = format!(r#"{{"type":"auth","token":"{token}"}}"#);
    assert_eq!(kind(&answer(&mut client, &auth, &7.into())), "auth.ok");
    for (number, (event, wanted, wanted_code)) in ANSWERS.iter().enumerate() {
        let references = [
            Json::from(number as i64 - 3),
            format!("é\"\\{number}").into(),
            "x".repeat(60 + number % 5).into(),
        ];
        for reference in references {
            let answer = answer(&mut client, event, &reference);
            assert_eq!((kind(&answer), code(&answer)), (*wanted, *wanted_code));
        }
    }
    set(&mut conn, "chat_enabled", "0");
    await_look(&daemon, &mut conn);
    for event in [ANSWERS[4].0, ANSWERS[5].0, ANSWERS[14].0, ANSWERS[19].0] {
        let answer = answer(&mut client, event, &"off".into());
        assert_eq!(code(&answer), Some("chat_disabled"));
    }
    let bad = r#"{"type":"auth","token":"bad"}"#;
    assert_eq!(
        kind(&answer(&mut client, bad, &"bad".into())),
        "auth.failed"
    );
    assert_eq!(client.until_end().unwrap().1, Some(4401));
}

#[test]
fn a_ref_that_is_none_is_left_out_and_the_answer_comes_all_the_same() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut client = daemon.login(1).unwrap();
    let long = "x".repeat(65);
    for reference in ["1.5", "true", "null", "{}", "[1]", &format!("\"{long}\"")] {
        client.send(&format!(r#"{{"type":"ping","ref":{reference}}}"#));
        let answer = client.next_json().unwrap();
        assert_eq!((kind(&answer), answer.get("ref")), ("pong", None));
    }
}

#[test]
fn a_message_whose_html_does_not_fit_its_column_is_refused_and_not_stored() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "60000");
    let daemon = Daemon::start(&database, &Options::new());
    let mut participant = Participant::login(daemon.port(), 1).unwrap();
    // Five letters of HTML each.
    participant.say(Place::Channel(1), &"&".repeat(20_000));
    participant.await_answers().unwrap();
    let table = audit(&mut conn, &[&participant]).unwrap();
    assert!(table.is_empty() && participant.heard.is_empty());
}

#[test]
fn more_sockets_of_one_agent_than_allowed_are_closed_with_1008() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_MAX_PER_AGENT", "2");
    let daemon = Daemon::start(&database, &options);
    let first = daemon.login(1).unwrap();
    let mut second = daemon.login(1).unwrap();
    let auth = format!(r#"{{"type":"auth","token":"{}"}}"#, jwt::good(1));
    for _ in 0..3 {
        let mut third = daemon.connect().unwrap();
        let refusal = answer(&mut third, &auth, &"third".into());
        assert_eq!(code(&refusal), Some("too_many_connections"));
        assert_eq!(third.until_end().unwrap().1, Some(1008));
    }
    // A renewed token is no further socket, and another agent is counted separately.
    assert_eq!(
        kind(&answer(&mut second, &auth, &"again".into())),
        "auth.ok"
    );
    daemon.login(2).unwrap();
    drop(first);
    wait::until(wait::LIMIT, || daemon.login(1).ok()).expect("there is room again");
}

/// Counters that drift would in the end refuse every client, or none.
#[test]
fn the_number_of_sockets_is_kept_right_however_they_end() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", "6")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    let port = daemon.port();
    for round in 0..60 {
        let mut client = Client::open(port);
        match round % 6 {
            0 => {}
            1 => client.write(b"GET /ws/chat HTTP/1.1\r\n"),
            2 => client.write(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n"),
            3 => {
                let mut client = client.upgrade().unwrap();
                client.send(r#"{"type":"auth","token":"bad"}"#);
                client.until_end().unwrap();
                continue;
            }
            4 => {
                let mut client = client.upgrade().unwrap();
                // Gone while the database is asked who it is.
                client.send(&format!(r#"{{"type":"auth","token":"{}"}}"#, jwt::good(1)));
                continue;
            }
            _ => {
                client.upgrade().unwrap().auth(2).unwrap();
                continue;
            }
        }
        if round % 6 == 2 {
            client.rest().unwrap();
        }
        drop(client);
        // Room for the next one, once this one's end was seen.
        wait::until(wait::LIMIT, || Client::connect(port).ok()).expect("room");
    }
    // There are six places, no more and no fewer, after sixty others. A look at the counters needs one as well.
    let evicted = || hits(port)["unauthenticated"];
    let full = wait::until(wait::LIMIT, || {
        let before = evicted();
        let waiting: Vec<Client> = (0..5).map(|_| Client::connect(port).unwrap()).collect();
        // Those of before may still be on their way out.
        (evicted() == before).then_some((waiting, before))
    });
    let (mut waiting, before) = full.expect("five sockets");
    waiting.push(Client::connect(port).unwrap());
    waiting.push(Client::connect(port).unwrap());
    assert_eq!(evicted(), before + 2);
    for oldest in &mut waiting[..2] {
        assert_eq!(oldest.until_end().unwrap().1, Some(4408));
    }
    // One that authenticates makes room for another.
    waiting[2].auth(1).unwrap();
    waiting.push(Client::connect(port).unwrap());
    assert_eq!(evicted(), before + 2);
}

#[test]
fn connections_that_have_gone_leave_no_descriptor_and_no_thread() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let count = |what: &str| {
        std::fs::read_dir(format!("/proc/{}/{what}", daemon.pid()))
            .expect("the process")
            .count()
    };
    let before = [count("fd"), count("task")];
    // Connections to the database are opened when they are needed.
    let most = [before[0] + Limits::default().db_connections, before[1]];
    let settled = || {
        let now = [count("fd"), count("task")];
        (now[0] <= most[0] && now[1] <= most[1]).then_some(now)
    };
    for round in 0..40 {
        let mut client = daemon.login(1 + round % 4).unwrap();
        client.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#);
        // Some hear what became of it, some do not, and some say goodbye.
        match round % 3 {
            0 => {}
            1 => drop(client.until_type("chat.channel.message.created").unwrap()),
            _ => {
                client.until_type("chat.channel.message.created").unwrap();
                client.send_close(1000);
                client.until_end().unwrap();
            }
        }
    }
    let after = wait::until(wait::LIMIT, settled);
    assert!(
        after.is_some(),
        "{:?}, before {before:?}",
        [count("fd"), count("task")]
    );
}

#[test]
fn a_client_that_sends_too_fast_is_told_so_and_then_closed_with_1008() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "1")
        .env("CHAT_WEBSOCKET_BURST", "5");
    let daemon = Daemon::start(&database, &options);
    let mut other = daemon.login(2).unwrap();
    let mut client = daemon.login(1).unwrap();
    let mut packet = Vec::new();
    for number in 0..200 {
        let ping = format!(r#"{{"type":"ping","ref":{number}}}"#);
        packet.extend(FrameSpec::text(&ping).encode());
    }
    client.write(&packet);
    let (frames, closed) = client.until_end().unwrap();
    assert_eq!(closed, Some(1008));
    let answers: Vec<Json> = frames.iter().filter_map(Frame::json).collect();
    let answers: Vec<&Json> = answers
        .iter()
        .filter(|a| a.get("agent_id").is_none())
        .collect();
    let (served, refused): (Vec<&Json>, Vec<&Json>) =
        answers.iter().partition(|a| kind(a) == "pong");
    // The `auth` was one of the five, and a slow machine earns some more.
    assert!((4..60).contains(&served.len()), "{} served", served.len());
    assert!(refused.len() >= 10, "{} refused", refused.len());
    assert!(refused.iter().all(|a| code(a) == Some("rate_limited")));
    // Whose answer it is can be told of refusals too.
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!(answer.get("ref"), Some(&Json::from(number as i64)));
    }
    other.ping_barrier().unwrap();
}
