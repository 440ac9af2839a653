//! What standards ask for at the edges, and what must not be taken from an install's files, names and settings: close codes,
//! HEAD, names under which figures are given out, addresses that are everybody's, text for a terminal, bombs.

use std::fs;

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::ops::seeded;
use crate::support::seed;
use crate::support::ws::Client;

fn daemon(options: &Options) -> (Database, Daemon) {
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, options);
    (database, daemon)
}

/// RFC 6455 section 7.4.
#[test]
fn s13_a_close_code_that_may_not_be_sent_is_a_breach_and_every_other_one_is_echoed() {
    needs!(MariaDb);
    let (_database, daemon) = daemon(&Options::new());
    for code in [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ] {
        let mut client = daemon.login(1).unwrap();
        client.send_close(code);
        assert_eq!(client.until_end().unwrap().1, Some(1002), "{code}");
    }
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        let mut client = daemon.login(1).unwrap();
        client.send_close(code);
        assert_eq!(client.until_end().unwrap().1, Some(code), "{code}");
    }
}

fn answer(port: u16, request: &str) -> (u16, String) {
    let mut client = Client::open(port);
    client.write(request.as_bytes());
    let status = client.response().unwrap().status();
    let body = String::from_utf8_lossy(&client.rest().unwrap()).into_owned();
    (status, body)
}

#[test]
fn s13_a_refused_head_has_no_body() {
    needs!(MariaDb);
    let (_database, daemon) = daemon(&Options::new());
    for (method, path, expected) in [
        ("HEAD", "/ws/chat", 405),
        ("HEAD", "/nowhere", 404),
        ("HEAD", "/ws/nowhere", 404),
        ("GET", "/nowhere", 404),
    ] {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let (status, body) = answer(daemon.port(), &request);
        assert_eq!(status, expected, "{method} {path}");
        assert_eq!(body.is_empty(), method == "HEAD", "{method} {path}: {body}");
    }
}

#[test]
fn s17_figures_are_given_out_under_names_that_no_stranger_can_have() {
    needs!(MariaDb);
    let options = Options::new().env("CHAT_WEBSOCKET_METRICS_HOSTS", "chat.example.org, other");
    let (_database, daemon) = daemon(&options);
    let status = |host: &str| {
        answer(
            daemon.port(),
            &format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        )
        .0
    };
    for host in [
        "localhost",
        "LOCALHOST:8090",
        "localhost.",
        "chat.localhost:8090",
        "127.0.0.1:1",
        "192.0.2.7",
        "[::1]:8090",
        "[2001:db8::1]",
        "Chat.Example.org",
        "other:99",
    ] {
        assert_eq!(status(host), 200, "{host}");
    }
    for host in [
        "evil.example",
        "evil.example:8090",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "chat.example.org.evil.example",
        "",
        "localhost:x",
        "[::1",
    ] {
        assert_eq!(status(host), 421, "{host:?}");
    }
    let (status, body) = answer(daemon.port(), "HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((status, body.as_str()), (421, ""));
    assert_eq!(
        answer(daemon.port(), "GET /metrics HTTP/1.1\r\n\r\n").0,
        421
    );
    // Whether the service is well may be asked by whatever name a watcher knows.
    assert_eq!(
        answer(daemon.port(), "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").0,
        200
    );
}

#[test]
fn s17_an_address_that_is_every_address_is_warned_of() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    for host in ["0.0.0.0", "[::]", "0"] {
        seed::set(&mut conn, "chat_websocket_host", &host.into());
        let daemon = Daemon::start(&database, &Options::new());
        daemon.await_log("every address of this machine");
    }
    let daemon = Daemon::start(&database, &Options::new().arg("--host").arg("127.0.0.1"));
    assert!(!daemon.log().contains("every address"), "{}", daemon.log());
    let install = Install::new(
        &database,
        &Options::new().dotenv("CHAT_WEBSOCKET_HOST", "0.0.0.0"),
    );
    let output = install.run("check", &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("every address of this machine"), "{text}");
    assert!(text.contains("-> listen on 127.0.0.1"), "{text}");
}

#[test]
fn s17_values_that_double_line_by_line_are_refused() {
    let bomb = format!("A=\"0123456789abcdef\"\n{}", "A=\"${A}${A}\"\n".repeat(26));
    let wide = format!(
        "A=\"{}\"\n{}",
        "x".repeat(1000),
        "B=${A}${A}\n".repeat(2000)
    );
    let one_line = format!(
        "A=\"{}\"\nB=\"{}\"\n",
        "x".repeat(10_000),
        "${A}".repeat(10_000)
    );
    for text in [bomb, wide, one_line] {
        let (database, options) = (crate::support::embedded::File::server(), Options::new());
        let install = Install::new(&database, &options);
        fs::write(install.root().join(".env"), text).expect("write");
        let output = install.run("serve", &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains("no more than 1 MiB"), "{said}");
    }
}

#[test]
fn s17_no_core_can_hold_the_secret() {
    needs!(MariaDb);
    let (_database, daemon) = daemon(&Options::new());
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.pid())).expect("limits");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<&str> = line.expect("a line").split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{words:?}");
}

/// Agents' names and settings are printed as text on a terminal, without control characters.
#[test]
fn s12_nothing_that_is_printed_steers_the_administrators_terminal() {
    needs!(MariaDb);
    const EVIL: &str = "\u{1b}]0;owned\u{7}\u{9b}2J\u{7f}\u{202e}\u{2066}\u{200f}\u{2028}evil";
    let (database, mut conn) = seeded();
    conn.exec_drop("UPDATE agents SET name = ? WHERE id = 1", (EVIL,))
        .expect("rename");
    let keys = [
        "chat_websocket_host",
        "chat_websocket_management_mode",
        "chat_max_message_length",
        "chat_websocket_status",
        "chat_websocket_last_seen_at",
        "chat_websocket_last_started_at",
    ];
    for key in keys {
        seed::set(&mut conn, key, &Json::from(EVIL));
    }
    let install = Install::new(&database, &Options::new());
    for (subcommand, arguments) in [
        ("token", &["--agent", "1"][..]),
        ("settings", &["list"]),
        ("settings", &["list", "--json"]),
        ("settings", &["get", "chat_websocket_host"]),
        ("settings", &["set", "chat_websocket_host", "127.0.0.1"]),
        ("settings", &["set", "chat_websocket_host", EVIL]),
        ("status", &[]),
        ("status", &["--json"]),
        ("check", &[]),
        ("check", &["--json"]),
        ("supervise", &[]),
        ("start", &[]),
    ] {
        let output = install.run(subcommand, arguments);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).expect("text");
        let steers = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        assert!(!text.is_empty() || subcommand == "supervise");
        assert!(
            !text.contains(steers),
            "{subcommand} {arguments:?}: {text:?}"
        );
    }
    let output = install.run("token", &["--agent", "1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("\\u{1b}]0;owned") && said.contains("\\u{202e}"),
        "{said}"
    );
    assert!(!install.log().contains('\u{1b}'), "{}", install.log());
}
