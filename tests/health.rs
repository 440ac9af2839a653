//! `/healthz` and `/metrics`: what they say, to whom, and that they stay out of the chat's way.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{Database, Server};
use crate::support::ws::Client;
use crate::support::{seed, wait};

fn daemon() -> Daemon {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    Daemon::start(&database, &Options::new())
}

/// Status, headers and body of a request.
fn ask(port: u16, method: &str, path: &str) -> (u16, Vec<(String, String)>, String) {
    let mut client = Client::open(port);
    client.write(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let response = client.response().unwrap();
    let body = client.rest().unwrap();
    let body = String::from_utf8(body).expect("UTF-8");
    (response.status(), response.headers, body)
}

fn health(port: u16) -> (u16, Json) {
    let (status, _, body) = ask(port, "GET", "/healthz");
    (
        status,
        Json::parse(&body).unwrap_or_else(|e| panic!("{e}: {body}")),
    )
}

/// Samples by name and labels. Fails on what a monitoring program would not take.
pub fn metrics(port: u16) -> BTreeMap<String, f64> {
    let (status, headers, body) = ask(port, "GET", "/metrics");
    assert_eq!(status, 200);
    let kind = headers.iter().find(|(name, _)| name == "Content-Type");
    assert_eq!(
        kind.expect("a type").1,
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let mut families = BTreeMap::new();
    let mut samples = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            current = rest.split(' ').next().expect("a name").to_owned();
            assert!(rest.len() > current.len() + 5, "help is a sentence: {line}");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and kind");
            assert_eq!(name, current, "HELP comes right before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            let twice = families.insert(name.to_owned(), kind.to_owned());
            assert_eq!(twice, None, "one family, one place: {line}");
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect("a sample");
        let name = key.split('{').next().expect("a name");
        let kind = &families[&current];
        let is_of_family = name == current
            || kind == "histogram"
                && ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|end| name == format!("{current}{end}"));
        assert!(is_of_family, "{line} is not of {current}");
        assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        let twice = samples.insert(key.to_owned(), value);
        assert_eq!(twice, None, "{line} twice");
    }
    assert!(body.ends_with('\n'));
    samples
}

#[test]
fn a_service_that_is_well_says_so() {
    needs!(MariaDb);
    let daemon = daemon();
    let _client = daemon.login(1).unwrap();
    let (status, report) = health(daemon.port());
    assert_eq!((status, report.need("status").str()), (200, Some("ok")));
    assert_eq!(
        report.need("version").str(),
        Some(env!("CARGO_PKG_VERSION"))
    );
    assert!(report.need("database").is_true());
    assert_eq!(report.need("agents").int(), Some(1));
    assert_eq!(report.need("connections").int(), Some(1));
    assert_eq!(report.need("hung").items().len(), 0);
    let age = report
        .need("heartbeat_age_seconds")
        .int()
        .expect("a number");
    assert!((0..=16).contains(&age), "{age}");

    let (status, headers, body) = ask(daemon.port(), "HEAD", "/healthz");
    assert_eq!((status, body.as_str()), (200, ""));
    let length = headers.iter().find(|(name, _)| name == "Content-Length");
    assert!(
        length
            .expect("a length")
            .1
            .parse::<u32>()
            .expect("a number")
            > 50
    );
    for method in ["POST", "PUT", "DELETE"] {
        let (status, headers, _) = ask(daemon.port(), method, "/metrics");
        assert_eq!(status, 405);
        assert!(headers.contains(&("Allow".to_owned(), "GET, HEAD".to_owned())));
    }
    // Nothing of it under /ws/, and nothing else beside it.
    for path in ["/ws/healthz", "/ws/metrics", "/healthz/", "/metricsx", "/"] {
        assert_eq!(ask(daemon.port(), "GET", path).0, 404, "{path}");
    }
    assert_eq!(ask(daemon.port(), "GET", "/healthz?verbose").0, 200);
}

#[test]
fn a_service_without_its_database_says_so_and_goes_on_saying() {
    needs!(MariaDb);
    let mut server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    assert_eq!(health(daemon.port()).0, 200);
    server.stop();
    let failing = wait::until(wait::LIMIT, || {
        let (status, report) = health(daemon.port());
        (status == 503).then_some(report)
    });
    let report = failing.expect("it notices");
    assert_eq!(report.need("status").str(), Some("failing"));
    assert_eq!(report.need("database"), &Json::Bool(false));
    let samples = metrics(daemon.port());
    assert_eq!(samples["andrea_chat_database_up"], 0.0);
    assert!(samples["andrea_chat_database_failures_total{kind=\"lost\"}"] > 0.0);
    server.start();
    wait::until(wait::LIMIT, || {
        (health(daemon.port()).0 == 200).then_some(())
    })
    .expect("it notices that it is back");
}

#[test]
fn what_happens_is_counted() {
    needs!(MariaDb);
    let daemon = daemon();
    let before = metrics(daemon.port());
    assert_eq!(before["andrea_chat_connections"], 0.0);
    let build = format!(
        "andrea_chat_build_info{{version=\"{}\",commit=\"",
        env!("CARGO_PKG_VERSION")
    );
    assert!(before.keys().any(|name| name.starts_with(&build)));

    let mut ann = daemon.login(1).unwrap();
    let mut bob = daemon.login(2).unwrap();
    let mut unknown = daemon.connect().unwrap();
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#);
    ann.until_type("chat.channel.message.created").unwrap();
    bob.until_type("chat.channel.message.created").unwrap();
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":""}"#);
    ann.until_type("error").unwrap();
    ann.send("no JSON");
    ann.until_type("error").unwrap();
    ann.send(r#"{"type":"chat.typing","channel_id":4}"#);
    ann.until_type("error").unwrap();
    unknown.send(r#"{"type":"auth","token":"nonsense"}"#);
    unknown.until_end().unwrap();
    let settled = wait::until(wait::LIMIT, || {
        let now = metrics(daemon.port());
        (now["andrea_chat_connections"] == 2.0).then_some(now)
    });
    let now = settled.expect("the third has gone");
    let by = |key: &str| now[&format!("andrea_chat_{key}")] - before[&format!("andrea_chat_{key}")];
    assert_eq!(now["andrea_chat_agents"], 2.0);
    assert_eq!(by("connections_total"), 3.0);
    assert_eq!(by("events_total"), 7.0, "three auth, four of Ann's");
    assert_eq!(by("messages_total"), 1.0);
    assert_eq!(by("auth_failures_total"), 1.0);
    for code in ["message_empty", "invalid_event", "no_channel_access"] {
        assert_eq!(
            by(&format!("errors_total{{code=\"{code}\"}}")),
            1.0,
            "{code}"
        );
    }
    assert_eq!(by("errors_total{code=\"other\"}"), 0.0);
    // Two welcomes, one presence, one message to two, three errors, one refusal.
    assert_eq!(by("deliveries_total"), 9.0);
    assert_eq!(now["andrea_chat_queue_length{queue=\"posts\"}"], 0.0);
    assert!(now["andrea_chat_heartbeat_age_seconds"] < 17.0);
    assert!(now["andrea_chat_silence_seconds{part=\"hub\"}"] < 10.0);
    assert_eq!(now["andrea_chat_database_up"], 1.0);

    assert_eq!(by("closes_total{code=\"4401\"}"), 1.0);
    assert_eq!(by("delivery_seconds_count"), 1.0);
    assert!(by("delivery_seconds_sum") > 0.0);
    for own in [
        "resident_memory_bytes",
        "virtual_memory_bytes",
        "threads",
        "open_fds",
        "max_fds",
        "start_time_seconds",
    ] {
        assert!(now[&format!("process_{own}")] > 0.0, "{own}");
    }
    daemon.await_log("authentication failed: the token is missing or malformed");

    // A histogram adds up.
    let buckets: Vec<f64> = [
        "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1",
        "2.5", "5", "+Inf",
    ]
    .iter()
    .map(|bound| now[&format!("andrea_chat_database_seconds_bucket{{le=\"{bound}\"}}")])
    .collect();
    assert!(buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets[13], now["andrea_chat_database_seconds_count"]);
    assert!(by("database_seconds_count") >= 4.0 && by("database_seconds_sum") > 0.0);
}

#[test]
fn what_waits_for_a_hung_database_is_seen_in_the_queues() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let mut clients: Vec<Client> = (0..12).map(|_| daemon.login(1).unwrap()).collect();
    server.pause();
    // One after the other: what is sent at once is taken at once, and then nothing waits.
    for (queue, event) in [
        (
            "posts",
            r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#,
        ),
        (
            "queries",
            r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
        ),
    ] {
        let key = format!("andrea_chat_queue_length{{queue=\"{queue}\"}}");
        let waits = clients
            .split_off(clients.len() - 6)
            .iter_mut()
            .any(|client| {
                client.send(event);
                wait::pass(Duration::from_millis(100));
                metrics(daemon.port())[&key] > 0.0
            });
        assert!(waits, "nothing waits in {queue}");
    }
    server.resume();
    let empty = wait::until(wait::LIMIT, || {
        let now = metrics(daemon.port());
        ["posts", "queries", "hub"]
            .iter()
            .all(|queue| now[&format!("andrea_chat_queue_length{{queue=\"{queue}\"}}")] == 0.0)
            .then_some(())
    });
    assert!(empty.is_some(), "{:?}", metrics(daemon.port()));
}

/// An address of this machine that is not its own to itself, if it has one.
fn other_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing; only chooses the way.
    socket.connect("203.0.113.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then_some(address)
}

fn status_from(address: IpAddr, port: u16) -> u16 {
    let mut stream = TcpStream::connect((address, port)).expect("connect");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a time-out");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("write");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or_else(|| panic!("{answer:?}"))
}

#[test]
fn others_see_nothing_unless_they_are_allowed() {
    needs!(MariaDb);
    let Some(address) = other_address() else {
        eprintln!("NOT TESTED: this machine has no address but its loopback's");
        return;
    };
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let everywhere = || Options::new().arg("--host").arg("0.0.0.0");
    let daemon = Daemon::start(&database, &everywhere());
    assert_eq!(status_from(address, daemon.port()), 404);
    assert_eq!(ask(daemon.port(), "GET", "/healthz").0, 200);
    drop(daemon);
    for (options, status) in [
        (everywhere().env("CHAT_WEBSOCKET_HEALTH_PEERS", "any"), 200),
        (
            everywhere().arg("--health-peers").arg(&address.to_string()),
            200,
        ),
        (
            everywhere().dotenv("CHAT_WEBSOCKET_HEALTH_PEERS", "203.0.113.0/24"),
            404,
        ),
    ] {
        seed::reset(&mut database.conn());
        let daemon = Daemon::start(&database, &options);
        assert_eq!(status_from(address, daemon.port()), status, "{options:?}");
    }
    let wrong = Options::new().env("CHAT_WEBSOCKET_HEALTH_PEERS", "10.0.0.0/99");
    let mut daemon = Daemon::spawn(
        crate::support::daemon::Install::new(&database, &wrong),
        &wrong,
    );
    assert_eq!(daemon.wait_exit(wait::LIMIT).code(), Some(78));
    assert!(
        daemon.stderr().contains("10.0.0.0/99"),
        "{}",
        daemon.stderr()
    );
}
