//! Tests of the test support: a harness that detects nothing would let every test pass.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::{Signal, getpid, kill_process};

use crate::support::expect::Known;
use crate::support::json::Json;
use crate::support::mariadb::{self, Database, Server};
use crate::support::outcome::{Observed, Wanted};
use crate::support::ws::{CLOSE, Frame, FrameSpec};
use crate::support::{daemon, fixtures, jwt, reaper, rows, seed, wait, workers};

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn json_keeps_order_and_numbers_and_refuses_what_is_none() {
    let text = r#"{"b":1.0,"a":[100000000000000000000,-0.5e+3,null,true],"é":"\" \\ \u0001 / 😀"}"#;
    assert_eq!(json(text).to_string(), text);
    assert_eq!(json(r#""\ud83d\ude00""#), Json::from("😀"));
    let wrong = [
        "",
        "01",
        "1.",
        ".5",
        "+1",
        "nul",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "'a'",
        "\"\t\"",
        "\"\\ud83d\"",
        "\"\\x\"",
        "{\"a\":1,\"a\":2}",
        "1 2",
    ];
    for text in wrong {
        assert!(Json::parse(text).is_err(), "{text}");
    }
}

#[test]
fn tokens_are_signed_as_rfc_7519_asks() {
    // HMAC-SHA256 of the header and payload under the secret, worked out with Python's hmac module.
    let recipe = json(r#"{"claims":{"sub":2,"type":"agent","exp":1700000900}}"#);
    let token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOjIsInR5cGUiOiJhZ2VudCIsImV4cCI6MTcwMDAwMDkwMH0";
    let minted = jwt::mint(&recipe);
    assert_eq!(
        minted,
        format!("{token}.izcDf_H4s4LLiiy7YOHIN4ROO_X84uS6VcRvWqnjDdw")
    );
    let with = |more: &str| {
        let text = recipe.to_string();
        jwt::mint(&json(&format!("{},{more}}}", &text[..text.len() - 1])))
    };
    assert_eq!(with(r#""sign":"none""#), format!("{token}."));
    assert_eq!(with(r#""mangle":"drop_signature""#), token);
    assert_eq!(with(r#""mangle":"append_dot""#), format!("{minted}."));
    assert_eq!(with(r#""mangle":"leading_space""#), format!(" {minted}"));
    let flipped = with(r#""mangle":"flip_last_sig_char""#);
    assert_eq!(flipped[..flipped.len() - 1], minted[..minted.len() - 1]);
    assert_ne!(flipped, minted);
    let swapped = with(r#""mangle":"swap_claims""#);
    assert_eq!(swapped.split('.').nth(2), minted.split('.').nth(2));
    assert_ne!(swapped, minted);
    assert_ne!(with(r#""secret":"other""#), minted);
    assert_eq!(jwt::mint(&json(r#"{"raw":"abc"}"#)), "abc");
    assert_eq!(jwt::base64url(b"\xfb\xff"), "-_8");
}

#[test]
fn frames_survive_a_round_trip_in_every_length_form() {
    for length in [0, 125, 126, 65_535, 65_536] {
        let spec = FrameSpec::new(2, vec![7; length]);
        let mut bytes = spec.encode();
        let last = bytes.pop().expect("a frame has bytes");
        assert_eq!(Frame::decode(&mut bytes), None, "not whole yet");
        bytes.push(last);
        bytes.push(0x81);
        let frame = Frame::decode(&mut bytes).expect("a whole frame");
        assert_eq!((frame.payload.len(), frame.masked), (length, true));
        assert_eq!(bytes, [0x81], "what follows stays");
    }
    let mut odd = FrameSpec::text("ab");
    (odd.fin, odd.rsv, odd.mask) = (false, 4, false);
    (odd.length_form, odd.claimed_length) = (Some(16), Some(60_000));
    assert_eq!(odd.encode(), b"\x41\x7e\xea\x60ab");
    let close = FrameSpec::new(CLOSE, [0x11, 0x31, b'x']);
    let frame = Frame::decode(&mut close.encode()).expect("a whole frame");
    assert_eq!(frame.close_code(), Some(4401));
}

/// A text frame as a server would send it.
fn frame(text: &str) -> Frame {
    let mut spec = FrameSpec::text(text);
    spec.mask = false;
    Frame::decode(&mut spec.encode()).expect("a whole frame")
}

fn known() -> Known {
    let mut known = Known::default();
    known.db_now = (
        "2026-05-01 10:00:00".to_owned(),
        "2026-05-01 10:00:09".to_owned(),
    );
    known.unix_now = (100, 109);
    known
}

#[test]
fn values_match_their_words_and_placeholders() {
    let fits = [
        (r#"{"$any":"string"}"#, r#""x""#),
        (r#"{"$one_of":[null,1]}"#, "1"),
        (r#"{"$repeat":{"char":"日","times":2}}"#, r#""日日""#),
        (r#""<db-now>""#, r#""2026-05-01 10:00:09""#),
        (r#""<unix-now>""#, "109"),
        (r#""<msg:1>""#, "700001"),
        (r#""<b> <msg:1>: <note:1>""#, r#""<b> 12: 12""#),
    ];
    let misfits = [
        (r#"{"$any":"string"}"#, "1"),
        (r#"{"$one_of":[null,1]}"#, "2"),
        (r#"{"$repeat":{"char":"日","times":2}}"#, r#""日""#),
        (r#""<db-now>""#, r#""2026-05-01 22:00:00""#),
        (r#""<unix-now>""#, "110"),
        (r#""<msg:1>""#, r#""x""#),
        (r#""<msg:1>x""#, r#""12y""#),
        ("1", "1.0"),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
        (r#"["<msg:1>","<msg:1>"]"#, "[1,2]"),
        (r#"["<msg:1>","<msg:2>"]"#, "[1,1]"),
    ];
    for (expected, actual) in fits {
        let result = known().value(&json(expected), &json(actual));
        assert_eq!(result, Ok(()), "{expected} against {actual}");
    }
    for (expected, actual) in misfits {
        let result = known().value(&json(expected), &json(actual));
        assert!(result.is_err(), "{expected} against {actual}");
    }
    let long = r#"{"$long":{"characters":3,"starts":"a",
        "sha256_of_utf8":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}"#;
    assert_eq!(known().value(&json(long), &json(r#""abc""#)), Ok(()));
    assert!(known().value(&json(long), &json(r#""abd""#)).is_err());
}

#[test]
fn additions_of_the_contract_are_put_aside_and_no_others() {
    let error = json(r#"{"type":"error","message":"m"}"#);
    for (text, fits) in [
        (r#"{"type":"error","message":"m"}"#, true),
        (r#"{"type":"error","message":"m","code":"c"}"#, true),
        (r#"{"type":"error","message":"m","code":""}"#, false),
        (r#"{"type":"error","message":"m","ref":1}"#, false),
        (r#"{"type":"error","message":"n"}"#, false),
    ] {
        assert_eq!(known().frame(&error, &frame(text)).is_ok(), fits, "{text}");
    }
    let ok = json(r#"{"type":"auth.ok","agent_id":2}"#);
    let text = |ids: &str| format!(r#"{{"type":"auth.ok","agent_id":2,"online_agent_ids":{ids}}}"#);
    assert_eq!(known().frame(&ok, &frame(&text("[1,2]"))), Ok(()));
    assert!(known().frame(&ok, &frame(&text("[2,1]"))).is_err());
}

#[test]
fn raw_text_is_compared_to_the_byte() {
    let raw = |text: &str, bytes: usize| {
        Json::object([
            ("raw_text", text.into()),
            ("first_byte", 129.into()),
            ("length_bits", 7.into()),
            ("payload_bytes", i64::try_from(bytes).expect("short").into()),
        ])
    };
    let error = r#"{"type":"error","message":"m"}"#;
    let coded = r#"{"type":"error","message":"m","code":"c"}"#;
    assert_eq!(known().frame(&raw(error, 30), &frame(coded)), Ok(()));
    assert!(
        known()
            .frame(
                &raw(error, 30),
                &frame(r#"{"type":"error", "message":"m"}"#)
            )
            .is_err()
    );
    let pong = r#"{"type":"pong","time":<unix-now>}"#;
    let answer = frame(r#"{"type":"pong","time":105}"#);
    assert_eq!(known().frame(&raw(pong, 26), &answer), Ok(()));
    assert!(known().frame(&raw(pong, 27), &answer).is_err());
    let mut known = known();
    known.bind("msg:3", "700003").expect("a new placeholder");
    let message = r#"{"message":{"id":<msg:3>,"created_at":"<db-now>"}}"#;
    let answer = frame(r#"{"message":{"id":700003,"created_at":"2026-05-01 10:00:01"}}"#);
    assert_eq!(known.frame(&raw(message, 60), &answer), Ok(()));
}

/// A made-up step: what was recorded, what is expected, what was seen, and whether that will do.
fn judged(recorded: &str, expected: Option<&str>, observed: &Observed) -> Result<(), String> {
    let recorded = json(recorded);
    let expected = expected.map(json);
    Wanted::new(&recorded, expected.as_ref()).judge(Some("x"), observed, &mut known())
}

#[test]
fn steps_are_judged_by_what_is_expected_and_else_by_what_was_recorded() {
    let recorded = r#"{"received":{"x":[{"type":"pong","time":"<unix-now>"}]}}"#;
    let pong = frame(r#"{"type":"pong","time":101}"#);
    let error = frame(r#"{"type":"error","message":"m","code":"c"}"#);
    let seen = |frames: &[&Frame]| Observed {
        received: [("x".to_owned(), frames.iter().map(|&f| f.clone()).collect())].into(),
        ..Observed::default()
    };
    assert_eq!(judged(recorded, None, &seen(&[&pong])), Ok(()));
    for wrong in [&[][..], &[&error], &[&pong, &pong]] {
        assert!(judged(recorded, None, &seen(wrong)).is_err(), "{wrong:?}");
    }
    let to_others = Observed {
        received: [("y".to_owned(), vec![pong.clone()])].into(),
        ..seen(&[&pong])
    };
    assert!(judged(recorded, None, &to_others).is_err());

    let choice =
        r#"{"any_of":[{"free":true},{"received":{"x":[{"type":"pong","time":"<unix-now>"}]}}]}"#;
    for fine in [&[&pong][..], &[&error], &[&error, &error]] {
        assert_eq!(judged(recorded, Some(choice), &seen(fine)), Ok(()));
    }
    assert!(judged(recorded, Some(choice), &seen(&[])).is_err());

    let closing = r#"{"received":{},"closed":{"x":[1009,1002]}}"#;
    for (closed, fits) in [(Some(1002), true), (Some(1000), false), (None, false)] {
        let seen = Observed {
            closed: [("x".to_owned(), closed)].into(),
            ..Observed::default()
        };
        assert_eq!(
            judged(recorded, Some(closing), &seen).is_ok(),
            fits,
            "{closed:?}"
        );
        assert!(judged("{}", None, &seen).is_err(), "no close was expected");
    }
    assert!(judged(recorded, Some(closing), &Observed::default()).is_err());
    assert!(judged("{}", Some(r#"{"free":true}"#), &Observed::default()).is_err());
    assert_eq!(
        judged("{}", Some(r#"{"free":"any"}"#), &Observed::default()),
        Ok(())
    );
}

#[test]
fn rows_are_judged_table_by_table() {
    let before = [json(r#"{"id":1,"v":"a"}"#), json(r#"{"id":2,"v":"b"}"#)];
    let after = [
        json(r#"{"id":1,"v":"c"}"#),
        json(r#"{"id":8,"v":"x"}"#),
        json(r#"{"id":9,"v":"y"}"#),
    ];
    let observed = Observed {
        changes: [("t".to_owned(), rows::table_diff(&["id"], &before, &after))].into(),
        ..Observed::default()
    };
    let fits = [
        // In any order, and only the columns that are named.
        r#"{"t":{"inserted":[{"id":"<msg:1>","v":"y"},{"v":"x"}],"updated":[{"id":1,"v":"c"}],"deleted":[{"id":2}]}}"#,
        r#"{"t":"any"}"#,
    ];
    let misfits = [
        "{}",
        r#"{"t":"any","u":{"inserted":[{}]}}"#,
        r#"{"t":{"inserted":[{"v":"x"},{"v":"x"}],"updated":[{"id":1,"v":"c"}],"deleted":[{"id":2}]}}"#,
        r#"{"t":{"inserted":[{"v":"x"},{"v":"y"}],"updated":[{"id":1}],"deleted":[{"id":2}]}}"#,
        r#"{"t":{"inserted":[{"v":"x"},{"v":"y"}],"updated":[{"id":1,"v":"c"}]}}"#,
    ];
    for rows in fits {
        assert_eq!(
            judged(&format!(r#"{{"rows_changed":{rows}}}"#), None, &observed),
            Ok(())
        );
    }
    for rows in misfits {
        let step = format!(r#"{{"rows_changed":{rows}}}"#);
        assert!(judged(&step, None, &observed).is_err(), "{rows}");
    }
}

#[test]
fn a_seeded_database_holds_what_the_recordings_start_from() {
    needs!(MariaDb);
    let database = Database::fresh();
    let mut conn = database.conn();
    // Rows get the time of their insertion; those of two resets are to be alike, whatever second it is.
    conn.query_drop("SET timestamp = 1700000000")
        .expect("stop the connection's clock");
    seed::reset(&mut conn);
    let before = rows::snapshot(&mut conn);
    let mode: Option<String> = conn
        .query_first("SELECT @@sql_mode")
        .expect("ask for the mode");
    assert!(mode.expect("a mode").contains("STRICT_TRANS_TABLES"));
    let zone: Option<String> = conn
        .query_first("SELECT @@time_zone")
        .expect("ask for the zone");
    assert_eq!(zone.as_deref(), Some("+00:00"));
    for change in [
        r#"{"insert":"chat_messages","rows":[{"message_scope":"channel","channel_id":1,"sender_agent_id":1,"body_text":"é"}]}"#,
        r#"{"update":"settings","where":{"key_name":"chat_enabled"},"set":{"value":null}}"#,
        r#"{"update":"settings","where":{"key_name":"chat_websocket_pid"},"set":{"value":"1"}}"#,
        r#"{"delete":"chat_channel_members","where":{"channel_id":1,"agent_id":2}}"#,
    ] {
        seed::apply(&mut conn, &json(change));
    }
    let changes = rows::diff(&before, &rows::snapshot(&mut conn));
    assert_eq!(changes.len(), 3, "{changes:?}");
    let inserted = &changes["chat_messages"].inserted[0];
    assert_eq!(inserted.need("id").int(), Some(700_001));
    assert_eq!(inserted.need("body_text").str(), Some("é"));
    let updated = &changes["settings"].updated;
    assert_eq!(
        updated,
        &[json(r#"{"key_name":"chat_enabled","value":null}"#)]
    );
    assert_eq!(changes["chat_channel_members"].deleted.len(), 1);
    seed::reset(&mut conn);
    assert!(rows::diff(&before, &rows::snapshot(&mut conn)).is_empty());
}

#[test]
fn a_server_of_ones_own_can_be_stopped_killed_and_frozen() {
    needs!(MariaDb);
    let mut server = Server::own();
    let database = server.fresh();
    let port = server.port();
    seed::reset(&mut database.conn());
    server.stop();
    server.start();
    server.kill();
    server.start();
    assert_eq!(server.port(), port);
    let agents: Option<i64> = database
        .conn()
        .query_first("SELECT COUNT(*) FROM agents")
        .expect("count the agents");
    assert_eq!(agents, Some(16));
    server.pause();
    server.resume();
    database
        .conn()
        .query_drop("SELECT 1")
        .expect("an answer after the frost");
    let socket = server.socket();
    drop(server);
    assert!(!socket.exists(), "the folder of a dropped server is gone");
}

/// No destructor drops the common server, and a killed process runs no destructors.
#[test]
fn children_and_files_go_with_the_test_process_even_by_sigkill() {
    needs!(MariaDb);
    const PLAY_DEAD: &str = "PLAY_DEAD";
    if std::env::var_os(PLAY_DEAD).is_some() {
        println!("SCRATCH={}", reaper::scratch().display());
        println!("SOCKET={}", mariadb::common().socket().display());
        kill_process(getpid(), Signal::KILL).expect("kill oneself");
    }
    let name = "harness::children_and_files_go_with_the_test_process_even_by_sigkill";
    let child = Command::new(std::env::current_exe().expect("a path of our own"))
        .args(["--exact", name, "--nocapture"])
        .env(PLAY_DEAD, "1")
        .output()
        .expect("run ourselves");
    assert_eq!(child.status.signal(), Some(9));
    let stdout = String::from_utf8_lossy(&child.stdout);
    let path = |name: &str| {
        let line = stdout.lines().find_map(|line| line.split_once(name));
        line.expect("the child names its files").1
    };
    let gone = wait::until(wait::LIMIT, || {
        let left = [path("SCRATCH="), path("SOCKET=")]
            .iter()
            .any(|path| Path::new(path).exists());
        (!left).then_some(())
    });
    assert!(gone.is_some(), "{} is still there", path("SCRATCH="));
}

#[test]
fn workers_gather_complaints_and_survive_panics() {
    let complaints = workers::run(
        20,
        || (),
        |(), place| match place {
            3 => Err("three".to_owned()),
            7 => panic!("seven, and this is on purpose"),
            _ => Ok(()),
        },
    );
    let text: Vec<_> = complaints
        .iter()
        .map(|(place, text)| format!("{place} {text}"))
        .collect();
    assert_eq!(
        text,
        ["3 three", "7 panicked: seven, and this is on purpose"]
    );
}

#[test]
fn small_tools_do_what_they_say() {
    assert_eq!(fixtures::from_hex("03e9ff"), [3, 0xe9, 0xff]);
    assert_eq!(fixtures::to_hex(&[3, 0xe9, 0xff]), "03e9ff");
    assert_eq!(fixtures::from_latin1("G\u{e9}\0"), [b'G', 0xe9, 0]);
    assert!(daemon::is_stamp("[2026-05-01 10:00:00"));
    assert!(!daemon::is_stamp("[2026-05-01T10:00:00"));
    assert_eq!(wait::until(Duration::ZERO, || None::<()>), None);
}
