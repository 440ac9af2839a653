//! Every limit, hit: what the peer is told, that it is counted by its kind, and that the log says so once in a while. And
//! limits that this machine cannot hold, which a start and `check` name.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use andrea_chat_websocket::budget::{self, Demand};
use andrea_chat_websocket::limits::Limits;
use andrea_chat_websocket::peers::Peers;

use crate::support::chat::{Place, Voice};
use crate::support::cron::Cron;
use crate::support::daemon::{Daemon, Install, Options, PROGRAM};
use crate::support::ops::{seeded, set};
use crate::support::wait;
use crate::support::ws::{Client, Frame, FrameSpec, PING, REQUEST};

/// Hits by kind of limit.
pub fn hits(port: u16) -> BTreeMap<String, u64> {
    let mut client = Client::open(port);
    client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response().unwrap();
    let body = String::from_utf8(client.rest().unwrap()).expect("UTF-8");
    let lines = body.lines().filter_map(|line| {
        let (name, count) = line
            .strip_prefix("andrea_chat_limits_total{limit=\"")?
            .split_once("\"} ")?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    lines.collect()
}

#[track_caller]
fn was_hit(daemon: &Daemon, limit: &str, line: &str) {
    let hit = wait::until(wait::LIMIT, || {
        hits(daemon.port())
            .get(limit)
            .copied()
            .filter(|hits| *hits > 0)
    });
    assert!(hit.is_some(), "{limit}: {:?}", hits(daemon.port()));
    daemon.await_log(line);
}

const TIGHT: [(&str, &str); 9] = [
    ("HANDSHAKE_BYTES", "2048"),
    ("MESSAGE_BYTES", "2048"),
    ("FRAGMENTS", "4"),
    ("CONTROL_RATE", "1"),
    ("CONTROL_BURST", "5"),
    ("JSON_DEPTH", "3"),
    ("RATE", "1"),
    ("BURST", "30"),
    ("MAX_PER_AGENT", "2"),
];

fn tight() -> Daemon {
    let (database, _) = seeded();
    let mut options = Options::new();
    for (name, value) in TIGHT {
        options = options.env(&format!("CHAT_WEBSOCKET_{name}"), value);
    }
    Daemon::start(&database, &options)
}

/// A ping of `depth` lists inside the event's object.
fn nested(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    // Brackets in strings are no depth.
    format!(r#"{{"type":"ping","s":"[[[[[\"[[{{{{","a":{open}{close}}}"#)
}

#[test]
fn every_limit_of_a_connection_is_counted_and_logged_when_it_is_hit() {
    let daemon = tight();
    let port = daemon.port();
    assert!(
        hits(port).values().all(|hits| *hits == 0),
        "{:?}",
        hits(port)
    );
    assert_eq!(hits(port).len(), 15);

    let padded = |bytes: usize| {
        let head = REQUEST.trim_end();
        let pad = bytes - head.len() - "\r\nX: \r\n\r\n".len();
        format!("{head}\r\nX: {}\r\n\r\n", "x".repeat(pad))
    };
    for (bytes, status) in [(2048, 101), (2049, 431)] {
        let mut client = Client::open(port);
        client.write(padded(bytes).as_bytes());
        assert_eq!(client.response().unwrap().status(), status, "{bytes} bytes");
    }
    was_hit(&daemon, "handshake_bytes", "request head that is too large");

    let message = |bytes: usize| {
        let empty = r#"{"type":"ping","pad":""}"#;
        format!(
            r#"{{"type":"ping","pad":"{}"}}"#,
            "x".repeat(bytes - empty.len())
        )
    };
    let mut client = daemon.login(1).unwrap();
    client.send(&message(2048));
    client.until_type("pong").unwrap();
    client.send(&message(2049));
    assert_eq!(client.until_end().unwrap().1, Some(1009));
    was_hit(&daemon, "message_bytes", "message that is too large");

    // Each step has an agent of its own: a socket that is gone may count for a moment more.
    let mut client = daemon.login(2).unwrap();
    let in_fragments = |count: usize| {
        let text = r#"{"type":"ping"}"#;
        let frames = (0..count).map(|number| {
            let part = if number == 0 { text } else { "" };
            let mut frame = FrameSpec::new(u8::from(number == 0), part);
            frame.fin = number + 1 == count;
            frame.encode()
        });
        frames.collect::<Vec<_>>().concat()
    };
    for _ in 0..3 {
        client.write(&in_fragments(4));
        client.until_type("pong").unwrap();
    }
    client.write(&in_fragments(5));
    assert_eq!(client.until_end().unwrap().1, Some(1009));
    was_hit(&daemon, "fragments", "too many fragments");

    let mut client = daemon.login(3).unwrap();
    client.write(&FrameSpec::new(PING, "x").encode().repeat(60));
    assert_eq!(client.until_end().unwrap().1, Some(1008));
    was_hit(&daemon, "control", "pings or pongs too fast");

    let mut client = daemon.login(4).unwrap();
    client.send(&nested(2));
    client.until_type("pong").unwrap();
    client.send(&nested(3));
    let error = client.until_type("error").unwrap();
    assert_eq!(error.need("code").str(), Some("invalid_event"));
    was_hit(
        &daemon,
        "json_depth",
        "agent 4 sent JSON that is nested too deep",
    );

    let _second = daemon.login(4).unwrap();
    let mut third = daemon.connect().unwrap();
    let refused = third.auth(4).expect_err("one too many");
    assert!(refused.to_string().contains("close 1008"), "{refused}");
    was_hit(&daemon, "per_agent", "as many connections as one may have");

    let mut client = daemon.login(6).unwrap();
    client.write(&FrameSpec::text(r#"{"type":"ping"}"#).encode().repeat(400));
    assert_eq!(client.until_end().unwrap().1, Some(1008));
    was_hit(&daemon, "rate", "agent 6 sends events too fast");
    was_hit(&daemon, "flood", "agent 6 sends events far too fast");
    // However often, one line in a while.
    assert!(hits(port)["rate"] > 50, "{:?}", hits(port));
    let lines = daemon
        .log()
        .matches("too fast, and some are refused")
        .count();
    assert_eq!(lines, 1);
}

#[test]
fn every_limit_of_time_is_counted_and_logged_when_it_is_hit() {
    let daemon = |name: &str, seconds: &str| {
        let (database, _) = seeded();
        let options = Options::new()
            .env("CHAT_WEBSOCKET_PING_INTERVAL", "1")
            .env(&format!("CHAT_WEBSOCKET_{name}"), seconds);
        Daemon::start(&database, &options)
    };
    let quick = daemon("HANDSHAKE_TIMEOUT", "1");
    let mut client = Client::open(quick.port());
    assert_eq!(client.response().unwrap().status(), 408);
    was_hit(
        &quick,
        "handshake_time",
        "did not complete its request in time",
    );

    let quick = daemon("AUTH_TIMEOUT", "1");
    let mut client = quick.connect().unwrap();
    assert_eq!(client.until_end().unwrap().1, Some(4408));
    was_hit(&quick, "auth_time", "did not authenticate in time");

    let quick = daemon("IDLE_TIMEOUT", "3");
    // It answers no ping.
    quick.login(3).unwrap().rest().unwrap();
    was_hit(&quick, "idle", "is silent and dropped");
}

#[test]
fn those_who_hold_the_door_and_say_nothing_make_room_for_newcomers() {
    let (database, _) = seeded();
    // By these alone they could stay for longer than anybody waits here.
    let options = Options::new()
        .env("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", "4")
        .env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "300")
        .env("CHAT_WEBSOCKET_AUTH_TIMEOUT", "300");
    let daemon = Daemon::start(&database, &options);
    let mut wordless: Vec<Client> = (0..2).map(|_| Client::open(daemon.port())).collect();
    let mut nameless: Vec<Client> = (0..2).map(|_| daemon.connect().unwrap()).collect();
    let newcomer = wait::until(wait::LIMIT, || daemon.login(1).ok());
    let mut newcomer = newcomer.expect("a newcomer is let in");
    newcomer.ping_barrier().unwrap();
    for client in &mut wordless {
        assert_eq!(client.response().unwrap().status(), 408);
    }
    for client in &mut nameless {
        assert_eq!(client.until_end().unwrap().1, Some(4408));
    }
    let hits = hits(daemon.port());
    assert!(hits["unauthenticated"] > 0, "{hits:?}");
    assert_eq!((hits["handshake_time"], hits["auth_time"]), (2, 2));
}

#[test]
fn one_socket_more_than_there_may_be_is_refused_with_503_and_counted() {
    for (name, kind, line) in [
        ("MAX_CONNECTIONS", "connections", "there are 2 connections"),
        (
            "MAX_UNAUTHENTICATED",
            "unauthenticated",
            "there are 2 unauthenticated connections",
        ),
    ] {
        let (database, _) = seeded();
        let options = Options::new().env(&format!("CHAT_WEBSOCKET_{name}"), "2");
        let daemon = Daemon::start(&database, &options);
        let inside = [daemon.connect().unwrap(), daemon.connect().unwrap()];
        let mut outside = Client::open(daemon.port());
        outside.write(REQUEST.as_bytes());
        let response = outside.response().unwrap();
        assert_eq!(response.status(), 503);
        assert_eq!(response.header("Retry-After"), ["5"]);
        drop(inside);
        was_hit(&daemon, kind, line);
    }
}

/// By age alone: in bytes there is room for far more than is sent.
#[test]
fn a_reader_who_takes_nothing_for_too_long_is_dropped_and_counted_once() {
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "16000");
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_QUEUE_BYTES", "1073741824")
        .env("CHAT_WEBSOCKET_QUEUE_SECONDS", "1");
    let daemon = Daemon::start(&database, &options);
    let mut deaf = daemon.login(4).unwrap();
    let mut loud = Voice::login(daemon.port(), 1).unwrap();
    let mut reader = Voice::login(daemon.port(), 2).unwrap();
    let queue = || hits(daemon.port())["queue"];
    wait::until(wait::LIMIT, || {
        let body = format!("{} {}", loud.body(), "x".repeat(15_000));
        loud.say(Place::Channel(1), &body);
        loud.await_answers().unwrap();
        reader.catch_up().unwrap();
        (queue() > 0).then_some(())
    })
    .expect("he is dropped");
    let line = daemon.await_log("reads too slowly and is dropped");
    assert!(line.contains(&deaf.address().to_string()), "{line}");
    // No goodbye, for which there is no room.
    let mut said = deaf.rest().unwrap();
    let frames: Vec<Frame> = std::iter::from_fn(|| Frame::decode(&mut said)).collect();
    assert!(!frames.is_empty());
    assert!(frames.iter().all(|frame| frame.close_code().is_none()));
    // Whoever reads stays, and nobody else is counted.
    for voice in [&mut loud, &mut reader] {
        voice.catch_up().unwrap();
        assert_eq!(voice.ended, None);
    }
    assert_eq!(queue(), 1);
}

/// The default of each limit in its option's unit, as `serve` has it where nothing is configured.
fn defaults() -> Vec<(&'static str, String)> {
    // A limit that is new is no limit of this test until it is named here.
    let Limits {
        typing_interval,
        presence_grace,
        enforce_expiry,
        rate,
        burst,
        control_rate,
        control_burst,
        message_bytes,
        fragments,
        json_depth,
        max_connections,
        max_per_agent,
        max_unauthenticated,
        handshake_timeout,
        handshake_bytes,
        auth_timeout,
        ping_interval,
        idle_timeout,
        queue_bytes,
        queue_age,
        health_peers,
    } = Limits::default();
    assert_eq!("loopback".parse::<Peers>(), Ok(health_peers));
    vec![
        ("TYPING_INTERVAL", typing_interval.as_millis().to_string()),
        ("PRESENCE_GRACE", presence_grace.as_secs().to_string()),
        ("ENFORCE_EXPIRY", u8::from(enforce_expiry).to_string()),
        ("RATE", rate.to_string()),
        ("BURST", burst.to_string()),
        ("CONTROL_RATE", control_rate.to_string()),
        ("CONTROL_BURST", control_burst.to_string()),
        ("MESSAGE_BYTES", message_bytes.unwrap_or(0).to_string()),
        ("FRAGMENTS", fragments.to_string()),
        ("JSON_DEPTH", json_depth.to_string()),
        ("MAX_CONNECTIONS", max_connections.to_string()),
        ("MAX_PER_AGENT", max_per_agent.to_string()),
        ("MAX_UNAUTHENTICATED", max_unauthenticated.to_string()),
        ("HANDSHAKE_TIMEOUT", handshake_timeout.as_secs().to_string()),
        ("HANDSHAKE_BYTES", handshake_bytes.to_string()),
        ("AUTH_TIMEOUT", auth_timeout.as_secs().to_string()),
        ("PING_INTERVAL", ping_interval.as_secs().to_string()),
        ("IDLE_TIMEOUT", idle_timeout.as_secs().to_string()),
        ("QUEUE_BYTES", queue_bytes.to_string()),
        ("QUEUE_SECONDS", queue_age.as_secs().to_string()),
        ("HEALTH_PEERS", "loopback".to_owned()),
    ]
}

/// What `--help` says about the default of an option.
fn default_in(help: &str, flag: &str) -> Option<String> {
    let (_, about) = help.split_once(&format!("{flag} <"))?;
    let about = about.split(" --").next()?;
    let (_, default) = about.split_once("[default: ")?;
    Some(default.split_once(']')?.0.to_owned())
}

/// The defaults in the README's table: several variables may share a row, and then share its second cell.
fn defaults_in(readme: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for row in readme.lines() {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", names, defaults, _, ""] = cells[..] else {
            continue;
        };
        let names = names.split(", ").map(|name| name.trim_matches('`'));
        let both = names.zip(defaults.split(", "));
        for (name, default) in both.filter(|(name, _)| name.starts_with("CHAT_WEBSOCKET_")) {
            let number = |text: &str| text.parse::<u64>().expect("a number");
            let default = match default.split_once(' ') {
                Some((value, "s" | "ms")) => number(value).to_string(),
                Some((value, "MiB")) => (number(value) << 20).to_string(),
                _ => default.trim_matches('`').to_owned(),
            };
            found.insert(name.to_owned(), default);
        }
    }
    found
}

#[test]
fn every_option_stands_in_the_help_and_in_the_readme_with_its_default() {
    let output = Command::new(PROGRAM).args(["serve", "--help"]).output();
    let help = String::from_utf8(output.expect("run").stdout).expect("UTF-8");
    // Lines are broken where it fits, in the middle of a default as well.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(manifest.join(file)).expect(file);
    let readme = defaults_in(&read("README.md"));
    let defaults = defaults();
    for (name, default) in &defaults {
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        assert_eq!(
            default_in(&help, &flag).as_ref(),
            Some(default),
            "{flag} in the help"
        );
        assert_eq!(
            readme.get(&format!("CHAT_WEBSOCKET_{name}")),
            Some(default),
            "{name} in the README"
        );
    }
    // Each goes by the name that the limits themselves have it under.
    let limits = read("src/limits.rs");
    let named: Vec<&str> = limits
        .lines()
        .filter_map(|line| line.trim().strip_prefix("/// `CHAT_WEBSOCKET_"))
        .map(|rest| rest.split('`').next().expect("a name"))
        .collect();
    let names: Vec<&str> = defaults.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, named);
}

/// Starts by way of a shell that lowers its own limits first.
fn limited(ulimit: &str) -> Options {
    let script = format!("{ulimit}; exec \"$@\"");
    Options::new().through(&["sh", "-c", &script, "sh"])
}

#[test]
fn limits_that_this_machine_cannot_hold_are_named_at_the_start() {
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &limited("ulimit -n 128"));
    let line = daemon.await_log("open files allows 64 connections, not 1024");
    assert!(
        line.contains("lower CHAT_WEBSOCKET_MAX_CONNECTIONS"),
        "{line}"
    );
    // And it is that number which counts.
    let inside: Vec<Client> = (0..64).map_while(|_| daemon.connect().ok()).collect();
    assert_eq!(inside.len(), 64);
    assert!(daemon.connect().is_err());
    drop(inside);

    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &limited("ulimit -v 1000000"));
    let line = daemon.await_log("that stop reading may take up to 1343 MB");
    assert!(line.contains("the limit of address space"), "{line}");
    assert!(line.contains("allows 1024 MB"), "{line}");

    let (database, _) = seeded();
    let options = limited("ulimit -v 1000000").env("CHAT_WEBSOCKET_MAX_CONNECTIONS", "512");
    let daemon = Daemon::start(&database, &options);
    daemon.login(4).unwrap();
    assert!(!daemon.log().contains("may take up to"), "{}", daemon.log());
}

#[test]
fn check_names_them_too() {
    let cron = Cron::new();
    let root = cron.install.root().display().to_string();
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -n 128; exec \"$0\" check --root \"$1\"",
            PROGRAM,
            &root,
        ])
        .env_clear()
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("warning  room          the limit of 128 open files allows 64"),
        "{text}"
    );
    assert!(
        text.contains("-> raise it (LimitNOFILE, ulimit -n)"),
        "{text}"
    );
}

/// A user who owns nothing else, so that nobody else's processes count; root passes over the limit of them.
const NOBODY: u32 = 64_123;

#[test]
fn a_task_limit_that_is_too_low_is_named_at_the_start_and_by_check() {
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root may become a user who has no other process");
        return;
    }
    let threads = Demand::of(&Limits::default(), 0, budget::workers()).threads;
    // Enough for what the start needs, and not for everything that may come.
    let most = threads - 1;
    let limited = [
        "prlimit",
        &format!("--nproc={most}"),
        "setpriv",
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        "--clear-groups",
    ];
    let said = format!(
        "the service takes up to {threads} threads, and the user's limit of processes (ulimit -u, LimitNPROC) allows {most}"
    );

    let (database, _) = seeded();
    let options = Options::new().through(&limited);
    let install = Install::new(&database, &options);
    chown(install.root(), Some(NOBODY), Some(NOBODY)).expect("give the folder away");
    let daemon = Daemon::start_in(install, &options);
    let line = daemon.await_log(&said);
    assert!(line.contains("raise it"), "{line}");
    daemon.login(1).unwrap();

    let cron = Cron::new();
    let root = cron.install.root();
    chown(root, Some(NOBODY), Some(NOBODY)).expect("give the folder away");
    let output = Command::new(limited[0])
        .args(&limited[1..])
        .args([PROGRAM, "check", "--root"])
        .arg(root)
        .env_clear()
        .output()
        .expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let warning = format!("warning  room          {said}");
    assert!(text.contains(&warning), "{text}");
}
