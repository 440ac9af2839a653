//! Replays the recorded HTTP requests against the daemon: who is let in, and that every refusal is a complete
//! HTTP response. Behind them the refusals that no recording has.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::daemon::{APP_URL, Daemon, Options};
use crate::support::expect::Known;
use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::replay::Stage;
use crate::support::ws::{ACCEPT, Client, FrameSpec, REQUEST, Response};
use crate::support::{seed, wait, workers};

/// To look into a few of them: `GOLDEN_HANDSHAKE=12,53 cargo test golden_handshake`.
const CHOICE: &str = "GOLDEN_HANDSHAKE";

/// The recording's distance between two packets.
const BETWEEN_PACKETS: Duration = Duration::from_millis(120);

#[test]
fn every_recorded_request_is_answered_as_the_contract_asks() {
    #[cfg(not(feature = "embedded"))]
    needs!(MariaDb);
    let recording = fixtures::golden("handshake");
    assert_eq!(recording.need("app_url_unless_given").str(), Some(APP_URL));
    let cases = recording.need("cases").items();
    assert_eq!(cases.len(), 153, "the recording is whole");
    let chosen: Vec<usize> = match std::env::var(CHOICE) {
        Ok(list) => list
            .split(',')
            .map(|n| n.trim().parse().expect("a number of a case"))
            .collect(),
        Err(_) => (0..cases.len()).collect(),
    };

    let mut database = Stage::of_any_engine();
    let mut daemons: BTreeMap<(String, bool), Daemon> = BTreeMap::new();
    for &number in &chosen {
        let (app_url, hasty) = stage(&cases[number]);
        daemons.entry((app_url.clone(), hasty)).or_insert_with(|| {
            database.start(|options| {
                let options = options.dotenv("APP_URL", &app_url);
                match hasty {
                    true => options.env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "1"),
                    false => options,
                }
            })
        });
    }

    let complaints = workers::run(
        chosen.len(),
        || (),
        |(), job| {
            let case = &cases[chosen[job]];
            let port = daemons[&stage(case)].port();
            check(case, port).map_err(|complaint| {
                let text = |key| case.need(key).str().unwrap_or_default().to_owned();
                format!(
                    "  #{} {}: {} ({}; {})\n      {complaint}",
                    chosen[job],
                    text("group"),
                    text("name"),
                    text("class"),
                    text("why")
                )
            })
        },
    );
    for daemon in daemons.values_mut() {
        daemon.check_life().unwrap_or_else(|e| panic!("{e}"));
    }
    workers::judge("requests", chosen.len(), &complaints);
}

/// Which daemon a case is for: its `APP_URL`, and whether it must not wait the usual ten seconds for a header.
fn stage(case: &Json) -> (String, bool) {
    let app_url = case.get("app_url").and_then(Json::str).unwrap_or(APP_URL);
    (app_url.to_owned(), statuses(case).contains(&408))
}

fn statuses(case: &Json) -> Vec<i64> {
    for (word, _) in case.get("expected").map(Json::entries).unwrap_or_default() {
        let known = ["status", "loose", "frames", "closed"].contains(&word.as_str());
        assert!(known, "the replay does not know {word:?} in {case}");
    }
    match case.get("expected") {
        Some(expected) => {
            let list = expected.need("status").items();
            list.iter().filter_map(Json::int).collect()
        }
        // Without an expectation the recording stands, and only upgrades are recorded as right.
        None => vec![101],
    }
}

fn check(case: &Json, port: u16) -> Result<(), String> {
    let mut client = Client::open(port);
    let mut packets: Vec<Vec<u8>> = match case.get("packets") {
        Some(packets) => packets.items().iter().map(latin1).collect(),
        None => vec![latin1(case.need("request"))],
    };
    for frame in case
        .get("frames_in_the_same_packet")
        .map(Json::items)
        .unwrap_or_default()
    {
        let last = packets.last_mut().expect("a case sends something");
        last.extend(FrameSpec::text(&frame.to_string()).encode());
    }
    let method_is_head = packets[0].starts_with(b"HEAD ");
    for (place, packet) in packets.iter().enumerate() {
        if place > 0 {
            wait::pass(BETWEEN_PACKETS);
        }
        client.write(packet);
    }

    let response = client.response().map_err(|e| format!("{e:?}"))?;
    let wanted = statuses(case);
    if !wanted.contains(&i64::from(response.status())) {
        return Err(format!("expected {wanted:?}, found {response:?}"));
    }
    if response.status() == 101 {
        check_upgrade(case, &response, &mut client)
    } else {
        check_refusal(&response, method_is_head, &mut client)
    }
}

fn latin1(text: &Json) -> Vec<u8> {
    fixtures::from_latin1(text.str().expect("a request is text"))
}

fn check_upgrade(case: &Json, response: &Response, client: &mut Client) -> Result<(), String> {
    if response.status_line != "HTTP/1.1 101 Switching Protocols" {
        return Err(format!("an odd status line: {:?}", response.status_line));
    }
    let wanted = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", ACCEPT),
    ];
    let fits = wanted
        .iter()
        .all(|(name, value)| response.header(name) == [*value]);
    if !fits || response.headers.len() != wanted.len() {
        return Err(format!(
            "expected the headers {wanted:?}, found {response:?}"
        ));
    }
    let expected = case.get("expected");
    let member = |word: &str| expected.and_then(|e| e.get(word));
    if member("loose").is_some_and(Json::is_true) {
        // What follows the upgrade is open here.
        return Ok(());
    }
    let mut wanted = member("frames")
        .map(Json::items)
        .unwrap_or_default()
        .to_vec();
    let frames = if let Some(codes) = member("closed") {
        let (frames, closed) = client.until_end().map_err(|e| format!("{e:?}"))?;
        let codes: Vec<i64> = codes.items().iter().filter_map(Json::int).collect();
        if !closed.is_some_and(|code| codes.contains(&i64::from(code))) {
            return Err(format!("expected a close with {codes:?}, found {closed:?}"));
        }
        frames
    } else {
        client.send(r#"{"type":"ping"}"#);
        wanted.push(Json::object([
            ("type", "auth.failed".into()),
            ("message", "Authenticate before sending chat events".into()),
        ]));
        let (frames, closed) = client.ping_barrier().map_err(|e| format!("{e:?}"))?;
        if let Some(closed) = closed {
            return Err(format!(
                "disconnected after the upgrade (close code {closed:?})"
            ));
        }
        frames
    };
    if frames.len() != wanted.len() {
        return Err(format!("expected the frames {wanted:?}, found {frames:?}"));
    }
    let mut pairs = wanted.iter().zip(&frames);
    pairs.try_for_each(|(wanted, frame)| Known::default().frame(wanted, frame))
}

/// A refusal is a whole response with one line of text, and then the connection ends.
fn check_refusal(response: &Response, is_head: bool, client: &mut Client) -> Result<(), String> {
    let complain = |what: &str| Err(format!("{what}: {response:?}"));
    if !response.status_line.starts_with("HTTP/1.1 ") {
        return complain("an odd status line");
    }
    if response.header("Connection") != ["close"] {
        return complain("no Connection: close");
    }
    let length = match response.header("Content-Length")[..] {
        [length] => length.parse::<usize>().ok(),
        _ => None,
    };
    let Some(length) = length else {
        return complain("no Content-Length");
    };
    let rest = client.rest().map_err(|e| format!("{e:?}"))?;
    let body = String::from_utf8_lossy(&rest);
    let line = body.strip_suffix('\n').unwrap_or(&body);
    let is_one_line = rest.len() == length && !line.trim().is_empty() && !line.contains('\n');
    // HTTP wants no body in the answer to HEAD, the contract wants one in every refusal: both will do.
    let is_right = is_one_line || is_head && rest.is_empty();
    if !is_right {
        return complain(&format!(
            "not one line of {length} bytes but {body:?} in the body"
        ));
    }
    let asked_for: &[(&str, &str)] = match response.status() {
        405 => &[("Allow", "GET")],
        426 => &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
        _ => &[],
    };
    for (name, value) in asked_for {
        if response.header(name) != [*value] {
            return complain(&format!("no {name}: {value}"));
        }
    }
    let retry = response.header("Retry-After");
    let in_seconds = |text: &&str| text.parse::<u32>().is_ok();
    if response.status() == 503 && !(retry.len() == 1 && retry.iter().all(in_seconds)) {
        return complain("no Retry-After");
    }
    Ok(())
}

/// Sends a request and expects this refusal.
fn refused(port: u16, request: &[u8], status: u16) {
    let mut client = Client::open(port);
    client.write(request);
    let response = client.response().expect("a response");
    assert_eq!(response.status(), status, "{response:?}");
    check_refusal(&response, false, &mut client).unwrap_or_else(|e| panic!("{e}"));
}

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

#[test]
fn a_header_over_16_kib_is_refused_with_431() {
    needs!(MariaDb);
    let daemon = Daemon::start(&seeded(), &Options::new());
    let (start, end) = REQUEST.split_at(REQUEST.len() - 2);
    // Whole and too long, or too long before it is whole: the limit does not wait for the end.
    let padding = "p".repeat(16 * 1024);
    refused(
        daemon.port(),
        format!("{start}X-Pad: {padding}\r\n{end}").as_bytes(),
        431,
    );
    refused(
        daemon.port(),
        format!("{start}X-Pad: {padding}").as_bytes(),
        431,
    );
    Client::connect(daemon.port()).expect("an upgrade after two refusals");
}

#[test]
fn a_service_that_is_switched_off_refuses_with_503() {
    needs!(MariaDb);
    let database = seeded();
    seed::set(&mut database.conn(), "chat_websocket_enabled", &"0".into());
    let daemon = Daemon::start(&database, &Options::new());
    refused(daemon.port(), REQUEST.as_bytes(), 503);
}

#[test]
fn one_connection_more_than_the_limit_is_refused_with_503() {
    needs!(MariaDb);
    let options = Options::new().env("CHAT_WEBSOCKET_MAX_CONNECTIONS", "2");
    let daemon = Daemon::start(&seeded(), &options);
    let first = daemon.connect().expect("the first connection");
    let _second = daemon.connect().expect("the second connection");
    refused(daemon.port(), REQUEST.as_bytes(), 503);
    drop(first);
    let again = wait::until(wait::LIMIT, || daemon.connect().ok());
    assert!(
        again.is_some(),
        "the place of a connection that is gone stays taken"
    );
}
