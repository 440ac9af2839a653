//! Every limit exceeded: the answer to the peer, the counter by kind, and the throttled log line. And configured limits
//! beyond this machine's resources, which the start and `check` report.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use andrea_chat_websocket::config::limits::{Limits, MAX_HEAD_BYTES};
use andrea_chat_websocket::config::options;
use andrea_chat_websocket::config::peers::Peers;
use andrea_chat_websocket::config::resource_limits::{self, Demand};

use crate::support::chat::{Participant, Place};
use crate::support::cron::Cron;
use crate::support::daemon::{Daemon, Install, Options, PROGRAM};
use crate::support::ops::{seeded, set};
use crate::support::tables;
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

const TIGHT: [(&str, &str); 5] = [
    ("MESSAGE_BYTES", "2048"),
    ("CONTROL_RATE", "1"),
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
    needs!(MariaDb);
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
    for (bytes, status) in [(MAX_HEAD_BYTES, 101), (MAX_HEAD_BYTES + 1, 431)] {
        let mut client = Client::open(port);
        client.write(padded(bytes).as_bytes());
        assert_eq!(client.response().unwrap().status(), status, "{bytes} bytes");
    }
    was_hit(&daemon, "handshake_bytes", "request head is too large");

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
        client.write(&in_fragments(1000));
        client.until_type("pong").unwrap();
    }
    // One that does not end, though it never grows.
    client.write(&in_fragments(20_000));
    assert_eq!(client.until_end().unwrap().1, Some(1009));
    assert_eq!(hits(port)["message_bytes"], 2);

    let mut client = daemon.login(3).unwrap();
    client.write(&FrameSpec::new(PING, "x").encode().repeat(200));
    assert_eq!(client.until_end().unwrap().1, Some(1008));
    was_hit(&daemon, "control", "pings or pongs too fast");

    let mut client = daemon.login(4).unwrap();
    client.send(&nested(120));
    client.until_type("pong").unwrap();
    client.send(&nested(130));
    let error = client.until_type("error").unwrap();
    assert_eq!(error.need("code").str(), Some("invalid_event"));

    let _second = daemon.login(4).unwrap();
    let mut third = daemon.connect().unwrap();
    let refused = third.auth(4).expect_err("one too many");
    assert!(refused.to_string().contains("close 1008"), "{refused}");
    was_hit(&daemon, "per_agent", "as many connections as one may have");

    let mut client = daemon.login(6).unwrap();
    client.write(&FrameSpec::text(r#"{"type":"ping"}"#).encode().repeat(400));
    assert_eq!(client.until_end().unwrap().1, Some(1008));
    was_hit(&daemon, "rate", "(agent 6) from 127.0.0.1");
    was_hit(&daemon, "flood", "sends events far beyond the rate limit");
    // However often, one line in a while.
    assert!(hits(port)["rate"] > 50, "{:?}", hits(port));
    let lines = daemon
        .log()
        .matches("rate limit exceeded, some events are refused")
        .count();
    assert_eq!(lines, 1);
}

#[test]
fn every_limit_of_time_is_counted_and_logged_when_it_is_hit() {
    needs!(MariaDb);
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
    was_hit(&quick, "idle", "dropped, silent for");
}

#[test]
fn s3_silent_sockets_make_room_for_newcomers_the_oldest_first() {
    needs!(MariaDb);
    let (database, _) = seeded();
    // By these alone they could stay for longer than any test waits.
    let options = Options::new()
        .env("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", "4")
        .env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "300")
        .env("CHAT_WEBSOCKET_AUTH_TIMEOUT", "300");
    let daemon = Daemon::start(&database, &options);
    let mut member = daemon.login(2).unwrap();
    // Two that send no request, or half of one, and two that send no token.
    let mut wordless = [Client::open(daemon.port()), Client::open(daemon.port())];
    wordless[1].write(b"GET /ws/chat HTTP/1.1\r\n");
    let mut nameless = [daemon.connect().unwrap(), daemon.connect().unwrap()];
    let newcomers: Vec<Client> = (0..4).map(|_| daemon.connect().unwrap()).collect();
    for client in &mut wordless {
        assert_eq!(client.response().unwrap().status(), 408);
    }
    for client in &mut nameless {
        assert_eq!(client.until_end().unwrap().1, Some(4408));
    }
    was_hit(&daemon, "unauthenticated", "is closed for a newcomer");
    // The look at the counters needs a place as well.
    assert!(hits(daemon.port())["unauthenticated"] > 4);
    // A socket that authenticates needs a place for a moment, and one that has holds none.
    for _ in 0..8 {
        daemon.login(1).unwrap().ping_barrier().unwrap();
    }
    member.ping_barrier().unwrap();
    drop(newcomers);
}

#[test]
fn one_socket_more_than_there_may_be_is_refused_with_503_and_counted() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_WEBSOCKET_MAX_CONNECTIONS", "2");
    let daemon = Daemon::start(&database, &options);
    let inside = [daemon.connect().unwrap(), daemon.connect().unwrap()];
    let mut outside = Client::open(daemon.port());
    outside.write(REQUEST.as_bytes());
    let response = outside.response().unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.header("Retry-After"), ["5"]);
    drop(inside);
    was_hit(&daemon, "connections", "2 are open, which is the limit");
}

/// By age alone: in bytes there is room for far more than is sent.
#[test]
fn a_reader_who_takes_nothing_for_too_long_is_dropped_and_counted_once() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    set(&mut conn, "chat_max_message_length", "16000");
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_QUEUE_BYTES", "1073741824")
        .env("CHAT_WEBSOCKET_QUEUE_SECONDS", "1");
    let daemon = Daemon::start(&database, &options);
    let mut deaf = daemon.login(4).unwrap();
    let mut loud = Participant::login(daemon.port(), 1).unwrap();
    let mut reader = Participant::login(daemon.port(), 2).unwrap();
    let queue = || hits(daemon.port())["queue"];
    wait::until(wait::LIMIT, || {
        let body = format!("{} {}", loud.body(), "x".repeat(15_000));
        loud.say(Place::Channel(1), &body);
        loud.await_answers().unwrap();
        reader.catch_up().unwrap();
        (queue() > 0).then_some(())
    })
    .expect("he is dropped");
    let line = daemon.await_log("dropped, reads too slowly");
    assert!(line.contains(&deaf.address().to_string()), "{line}");
    // No goodbye, for which there is no room.
    let mut said = deaf.rest().unwrap();
    let frames: Vec<Frame> = std::iter::from_fn(|| Frame::decode(&mut said)).collect();
    assert!(!frames.is_empty());
    assert!(frames.iter().all(|frame| frame.close_code().is_none()));
    // Clients that read stay connected, and no other client is counted.
    for participant in [&mut loud, &mut reader] {
        participant.catch_up().unwrap();
        assert_eq!(participant.ended, None);
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
        agent_rate,
        agent_burst,
        control_rate,
        message_bytes,
        max_connections,
        max_per_agent,
        max_unauthenticated,
        db_connections,
        handshake_timeout,
        auth_timeout,
        ping_interval,
        idle_timeout,
        queue_bytes,
        queue_age,
        health_peers,
        metrics_hosts,
    } = Limits::default();
    assert!(metrics_hosts.is_empty());
    assert_eq!(Peers::default().with("loopback"), Some(health_peers));
    vec![
        ("TYPING_INTERVAL", typing_interval.as_millis().to_string()),
        ("PRESENCE_GRACE", presence_grace.as_secs().to_string()),
        ("ENFORCE_EXPIRY", u8::from(enforce_expiry).to_string()),
        ("RATE", rate.to_string()),
        ("BURST", burst.to_string()),
        ("AGENT_RATE", agent_rate.to_string()),
        ("AGENT_BURST", agent_burst.to_string()),
        ("CONTROL_RATE", control_rate.to_string()),
        ("MESSAGE_BYTES", message_bytes.unwrap_or(0).to_string()),
        ("MAX_CONNECTIONS", max_connections.to_string()),
        ("MAX_PER_AGENT", max_per_agent.to_string()),
        ("MAX_UNAUTHENTICATED", max_unauthenticated.to_string()),
        ("DB_CONNECTIONS", db_connections.to_string()),
        ("HANDSHAKE_TIMEOUT", handshake_timeout.as_secs().to_string()),
        ("AUTH_TIMEOUT", auth_timeout.as_secs().to_string()),
        ("PING_INTERVAL", ping_interval.as_secs().to_string()),
        ("IDLE_TIMEOUT", idle_timeout.as_secs().to_string()),
        ("QUEUE_BYTES", queue_bytes.to_string()),
        ("QUEUE_SECONDS", queue_age.as_secs().to_string()),
        ("HEALTH_PEERS", "loopback".to_owned()),
        ("METRICS_HOSTS", "none".to_owned()),
    ]
}

/// What `--help` says about the default of an option.
fn default_in(help: &str, flag: &str) -> Option<String> {
    let (_, about) = help.split_once(&format!("{flag} <"))?;
    let about = about.split(" --").next()?;
    let (_, default) = about.split_once("[default: ")?;
    Some(default.split_once(']')?.0.to_owned())
}

#[test]
fn every_option_stands_in_the_help_with_the_default_that_counts() {
    let output = Command::new(PROGRAM).args(["serve", "--help"]).output();
    let help = String::from_utf8(output.expect("run").stdout).expect("UTF-8");
    // Lines are broken where it fits, in the middle of a default as well.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for (name, default) in &defaults() {
        let spec = options::spec(&format!("CHAT_WEBSOCKET_{name}")).expect(name);
        let shown = if spec.default.is_empty() {
            "none"
        } else {
            spec.default
        };
        assert_eq!(shown, default, "{name}");
        let flag = spec.flag.expect(name);
        assert_eq!(default_in(&help, flag).as_ref(), Some(default), "{flag}");
    }
}

/// After a change of the options: `ANDREA_TEST_WRITE=1 cargo test limits::the_document`.
#[test]
fn the_documents_tables_are_those_of_the_source() {
    const DOCUMENT: &str = "docs/configuration.md";
    tables::assert_stand_in(DOCUMENT, &options::document());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let text = fs::read_to_string(path).expect("the document");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [options::PRECEDENCE, options::RELOADED, options::CACHE_NOTE] {
        assert!(text.contains(sentence), "{sentence}");
    }
}

/// Starts by way of a shell that lowers its own limits first.
fn limited(ulimit: &str) -> Options {
    let script = format!("{ulimit}; exec \"$@\"");
    Options::new().through(&["sh", "-c", &script, "sh"])
}

#[test]
fn limits_that_this_machine_cannot_hold_are_named_at_the_start() {
    needs!(MariaDb);
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
    let line = daemon.await_log("that stop reading may take up to 1330 MB");
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
    needs!(MariaDb);
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

/// A user without other processes, so that only the daemon's count; the limit does not apply to root.
const UNPRIVILEGED: u32 = 64_123;

/// The command that starts a program as that user, with at most so many threads and processes.
fn with_threads(most: u64, user: u32) -> Vec<String> {
    let most = format!("--nproc={most}");
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    ["prlimit", &most, "setpriv", &uid, &gid, "--clear-groups"]
        .map(str::to_owned)
        .to_vec()
}

#[test]
fn with_forty_threads_those_that_get_in_are_served_and_the_others_are_told_at_once() {
    needs!(MariaDb);
    const CLIENTS: usize = 60;
    // Another user than the next test's, since threads are counted for each user.
    const USER: u32 = UNPRIVILEGED + 1;
    if !rustix::process::geteuid().is_root() {
        println!("left out: only root may become a user who has no other process");
        return;
    }
    let limited = with_threads(40, USER);
    let limited: Vec<&str> = limited.iter().map(String::as_str).collect();
    let (database, _) = seeded();
    let options = Options::new()
        .through(&limited)
        .env("CHAT_WEBSOCKET_MAX_PER_AGENT", "100");
    let install = Install::new(&database, &options);
    chown(install.root(), Some(USER), Some(USER)).expect("give the folder away");
    let mut daemon = Daemon::start_in(install, &options);
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..CLIENTS {
        let mut client = Client::open(daemon.port());
        client.write(REQUEST.as_bytes());
        match client.response().expect("an answer").status() {
            101 => {
                client.auth(1).expect("let in");
                served.push(client);
            }
            status => {
                assert_eq!(status, 503);
                refused += 1;
            }
        }
    }
    assert!(served.len() >= 5 && refused > 0, "{} in", served.len());
    served[0].send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#);
    for client in &mut served {
        client
            .until_type("chat.channel.message.created")
            .expect("told");
    }
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.await_log("] stopped");
    for client in &mut served {
        assert_eq!(client.until_end().unwrap().1, Some(1001));
    }
    for alarm in ["panicked", "cut off", "cannot start", "failed"] {
        assert!(!daemon.log().contains(alarm), "{}", daemon.log());
    }
}

#[test]
fn a_task_limit_that_is_too_low_is_named_at_the_start_and_by_check() {
    needs!(MariaDb);
    // Only root may become a user who has no other process.
    needs!(Root, Setpriv);
    let threads = Demand::of(&Limits::default(), 0).threads;
    // Enough for what the start needs, and not for everything that may come.
    let most = threads - 1;
    let connections = resource_limits::connections_by_threads(most);
    let limited = with_threads(most, UNPRIVILEGED);
    let limited: Vec<&str> = limited.iter().map(String::as_str).collect();
    let said = format!(
        "1024 connections take up to {threads} threads, and the user's limit of processes (ulimit -u, LimitNPROC) allows \
         {most}, which is enough for {connections} connections"
    );

    let (database, _) = seeded();
    let options = Options::new().through(&limited);
    let install = Install::new(&database, &options);
    chown(install.root(), Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("give the folder away");
    let daemon = Daemon::start_in(install, &options);
    let line = daemon.await_log(&said);
    assert!(line.contains("raise it"), "{line}");
    daemon.login(1).unwrap();

    let cron = Cron::new();
    let root = cron.install.root();
    chown(root, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("give the folder away");
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
