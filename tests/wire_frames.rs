//! Frames at the boundaries of their length encodings, in both directions and split into arbitrary packets; slow readers.

use std::fs;

use mysql::Conn;

use crate::limits::hits;
use crate::support::chat::{Participant, Place, audit, heard_all};
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::ops::{seeded, set};
use crate::support::seed;
use crate::support::ws::{Client, Event, Frame, FrameSpec};

/// Around 7 and 16 bits of length, and around the buffer of the recorded daemon.
const EDGES: [usize; 9] = [125, 126, 127, 8_191, 8_192, 8_193, 65_534, 65_535, 65_536];

fn daemon_without_rate() -> (Database, Conn, Daemon) {
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "60000");
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0");
    let daemon = Daemon::start(&database, &options);
    (database, conn, daemon)
}

/// A ping event of exactly this many bytes.
fn ping_of(bytes: usize) -> String {
    let shell = r#"{"type":"ping","pad":""}"#;
    let pad = "x".repeat(bytes - shell.len());
    shell.replace("\"\"", &format!("\"{pad}\""))
}

#[test]
fn frames_at_the_edges_of_every_length_are_understood() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    let daemon = Daemon::start(&database, &options);
    let mut client = daemon.login(1).unwrap();
    for bytes in EDGES {
        let event = ping_of(bytes);
        assert_eq!(event.len(), bytes);
        client.send(&event);
        let answer = client.next_json().unwrap();
        assert_eq!(answer.need("type").str(), Some("pong"), "{bytes}");
        // The same in two fragments.
        let (first, second) = event.split_at(bytes / 2);
        let mut start = FrameSpec::text(first);
        start.fin = false;
        client.send_frame(&start);
        client.send_frame(&FrameSpec::new(0, second));
        let answer = client.next_json().unwrap();
        assert_eq!(answer.need("type").str(), Some("pong"), "{bytes}");
    }
    client.send(&ping_of(65_537));
    assert_eq!(client.until_end().unwrap().1, Some(1009));
}

#[test]
fn frames_at_the_edges_of_every_length_are_sent() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon_without_rate();
    let mut sender = daemon.login(1).unwrap();
    let mut reader = daemon.login(2).unwrap();
    for wanted in EDGES {
        let frame = match wanted {
            ..1_000 => error_of(&mut sender, wanted),
            _ => message_of(&mut conn, &mut sender, &mut reader, wanted),
        };
        let bits = match wanted {
            0..=125 => 7,
            126..=65_535 => 16,
            _ => 64,
        };
        assert_eq!((frame.payload.len(), frame.length_bits), (wanted, bits));
        assert!(frame.json().is_some(), "{wanted}");
    }
}

fn next_frame(client: &mut Client, kind: &str) -> Frame {
    loop {
        match client.next().unwrap() {
            Event::Frame(frame) => {
                let json = frame.json().expect("JSON");
                if json.need("type").str() == Some(kind) {
                    return frame;
                }
            }
            Event::End => panic!("the end instead of {kind}"),
        }
    }
}

/// The length of a `ref` decides how long the answer is.
fn error_of(client: &mut Client, bytes: usize) -> Frame {
    let mut ask = |reference: &str| {
        client.send(&format!(r#"{{"type":"nonsense","ref":"{reference}"}}"#));
        next_frame(client, "error")
    };
    let shortest = ask("").payload.len();
    ask(&"r".repeat(bytes - shortest))
}

/// A letter more in the body makes two more in the frame, one in the sender's name a single one.
fn message_of(conn: &mut Conn, sender: &mut Client, reader: &mut Client, bytes: usize) -> Frame {
    let mut say = |letters: usize, name: &str| {
        let statement = format!("UPDATE agents SET name = '{name}' WHERE id = 1");
        seed::run(conn, &statement, vec![]);
        let body = "m".repeat(letters);
        sender.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":2,"body":"{body}"}}"#
        ));
        next_frame(reader, "chat.channel.message.created")
    };
    let shortest = say(1, "N").payload.len();
    let more = bytes - shortest;
    let name = if more % 2 == 1 { "NN" } else { "N" };
    say(1 + more / 2, name)
}

#[test]
fn many_frames_in_one_packet_are_handled_in_order() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon_without_rate();
    let mut reader = Participant::login(daemon.port(), 2).unwrap();
    let mut participant = Participant::login(daemon.port(), 1).unwrap();
    participant.say_many(Place::Channel(2), 150);
    participant.await_answers().unwrap();
    reader.await_heard(150).unwrap();
    let table = audit(&mut conn, &[&participant, &reader]).unwrap();
    heard_all(&table, &reader, &[Place::Channel(2)]).unwrap();
    // What one socket sends is handled in the order sent.
    let stored: Vec<&str> = table.values().map(|m| m.body.as_str()).collect();
    let sent: Vec<&str> = participant.sent.iter().map(|s| s.body.as_str()).collect();
    assert_eq!(stored, sent);
}

#[test]
fn events_of_every_kind_in_one_packet_are_answered_in_order() {
    needs!(MariaDb);
    let (_database, _conn, daemon) = daemon_without_rate();
    let mut client = daemon.login(1).unwrap();
    // Some are answered at once, some after a query, some not at all.
    let events = [
        r#"{"type":"ping","ref":0}"#,
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"a","ref":1}"#,
        r#"{"type":"nonsense","ref":2}"#,
        r#"{"type":"chat.read","channel_id":1,"last_read_message_id":999999999,"ref":3}"#,
        r#"{"type":"chat.typing","channel_id":1}"#,
        r#"{"type":"chat.typing","channel_id":4,"ref":4}"#,
        r#"{"type":"chat.direct.message.send","thread_id":1,"body":"b","ref":5}"#,
        r#"{"type":"ping","ref":6}"#,
        r#"{"type":"chat.channel.message.send","channel_id":4,"body":"c","ref":7}"#,
        r#"{"type":"ping","ref":8}"#,
    ];
    let packet = events.map(|event| FrameSpec::text(event).encode()).concat();
    for _ in 0..20 {
        client.write(&packet);
        for wanted in 0..=8 {
            let answer = client.next_json().unwrap();
            assert_eq!(answer.need("ref").int(), Some(wanted), "{answer}");
        }
    }
}

#[test]
fn one_frame_in_many_packets_is_one_event() {
    needs!(MariaDb);
    let (_database, mut conn, daemon) = daemon_without_rate();
    let mut participant = Participant::login(daemon.port(), 1).unwrap();
    let event = r#"{"type":"chat.channel.message.send","channel_id":2,"body":"piece by piece"}"#;
    for byte in FrameSpec::text(event).encode() {
        participant.client.write(&[byte]);
    }
    // A long one, in pieces that end nowhere in particular.
    for piece in FrameSpec::text(&ping_of(60_000)).encode().chunks(777) {
        participant.client.write(piece);
    }
    participant.await_heard(1).unwrap();
    participant.catch_up().unwrap();
    let table = audit(&mut conn, &[&participant]).unwrap();
    let bodies: Vec<&str> = table.values().map(|m| m.body.as_str()).collect();
    assert_eq!(bodies, ["piece by piece"]);
}

/// Resident memory of the daemon in KiB.
pub fn memory(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|n| n.parse().ok())
        .expect("a number of KiB")
}

#[test]
fn a_client_that_stops_reading_is_dropped_without_effect_on_others() {
    needs!(MariaDb);
    const QUEUE: u64 = 128 * 1024;
    const DEAF: u64 = 8;
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "16000");
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_QUEUE_BYTES", &QUEUE.to_string());
    let daemon = Daemon::start(&database, &options);
    let deaf: Vec<Client> = (0..DEAF).map(|_| daemon.login(2).unwrap()).collect();
    let mut reader = Participant::login(daemon.port(), 1).unwrap();
    let mut sender = Participant::login(daemon.port(), 1).unwrap();
    let mut say = |sender: &mut Participant| {
        let body = format!("{} {}", sender.body(), "x".repeat(15_000));
        sender.say(Place::Channel(2), &body);
        sender.await_answers().unwrap();
        reader.await_heard(sender.sent.len()).unwrap();
    };
    say(&mut sender);
    let before = memory(&daemon);
    // Until the kernel's buffers and the daemon's are full: a few megabytes for each.
    while !daemon.log().contains("reads too slowly") {
        assert!(sender.sent.len() < 2_000, "no reader is dropped");
        say(&mut sender);
    }
    // All of them are in the same position, so they go one right behind the other.
    for _ in 0..20 {
        say(&mut sender);
    }
    let grown = memory(&daemon).saturating_sub(before);
    let allowed = DEAF * QUEUE / 1024 + 16 * 1024;
    assert!(grown < allowed, "{grown} KiB more");
    reader.catch_up().unwrap();
    sender.catch_up().unwrap();
    let table = audit(&mut conn, &[&reader, &sender]).unwrap();
    for participant in [&reader, &sender] {
        heard_all(&table, participant, &[Place::Channel(2)]).unwrap();
    }
    let dropped = hits(daemon.port())["queue"];
    assert!((1..=DEAF).contains(&dropped), "{dropped}");
    // What a dropped one had got until then is whole frames.
    for mut client in deaf {
        let mut said = client.rest().unwrap();
        while let Some(frame) = Frame::decode(&mut said) {
            let json: Option<Json> = frame.json();
            assert!(json.is_some() || frame.close_code().is_some());
        }
    }
}
