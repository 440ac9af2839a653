//! One day in the life of a service, as an administrator follows it who reads nothing but the log: on a terminal, in a
//! journal, and as a container's log. `--nocapture` shows the three.

use std::fs;

use rustix::process::Signal;

use crate::support::cron::signal;
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::Server;
use crate::support::ops::set;
use crate::support::seed;
use crate::support::wait;
use crate::support::ws::{Client, REQUEST};

/// What each event of the day is called in the log, in order: of a line the word of its severity and a part.
const DAY: [(&str, &str); 9] = [
    ("", "listening on 127.0.0.1:"),
    ("", "version "),
    (
        "warning: ",
        " from 192.0.2.7: refused with 403: Origin https://desk.example is neither the host of APP_URL (helpdesk.example.test",
    ),
    (
        "warning: ",
        ": authentication failed: the token is missing or malformed",
    ),
    ("warning: ", " (agent 2) from 127.0.0.1:"),
    ("warning: ", "the database is not available: "),
    ("", "the database is available again"),
    ("", "settings changed: chat_max_message_length 16000 → 8000"),
    ("", "stopped"),
];

/// Lives through it; what `said` has of the log in the end.
fn day(options: Options, said: fn(&Daemon) -> String) -> String {
    let mut server = Server::own();
    let database = server.fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    set(&mut conn, "chat_max_message_length", "16000");
    let options = options
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_AGENT_RATE", "0")
        .env("CHAT_WEBSOCKET_QUEUE_BYTES", "131072");
    let mut daemon = Daemon::start(&database, &options);

    let mut page = Client::open(daemon.port());
    let origin = "Origin: https://desk.example\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    page.write(
        format!("{REQUEST}\r\n")
            .replacen("\r\n\r\n", &format!("\r\n{origin}"), 1)
            .as_bytes(),
    );
    assert_eq!(page.response().unwrap().status(), 403);
    daemon.await_log("refused with 403");

    let mut stranger = daemon.connect().unwrap();
    stranger.send(r#"{"type":"auth","token":"a.b"}"#);
    assert_eq!(stranger.until_end().unwrap().1, Some(4401));
    daemon.await_log("authentication failed");

    // Reads nothing, until the kernel's buffers and the daemon's are full.
    let slow = daemon.login(2).unwrap();
    slow.shrink_receive_buffer();
    let mut ann = daemon.login(1).unwrap();
    let body = "x".repeat(15_000);
    while !daemon.log().contains("reads too slowly") {
        ann.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":2,"body":"{body}"}}"#
        ));
        ann.until_type("chat.channel.message.created").unwrap();
    }

    drop(conn);
    server.stop();
    daemon.await_log("the database is not available");
    server.start();
    daemon.await_log("the database is available again");
    set(&mut database.conn(), "chat_max_message_length", "8000");
    daemon.await_log("settings changed: ");

    // Not the process that the test has started, which may be the terminal's.
    let pid = fs::read_to_string(daemon.install.pid_file()).expect("a pid file");
    signal(pid.trim().parse().expect("a pid"), Signal::TERM);
    assert!(daemon.wait_exit(wait::LIMIT).success());
    let said = said(&daemon);
    for secret in ["a.b", crate::support::jwt::SECRET, &body, database.password] {
        assert!(!said.contains(secret), "{secret}");
    }
    said
}

/// Finds each event in a line behind that of the one before; `line` has it begin with what its severity asks for.
fn follow(said: &str, line: impl Fn(&str, &str) -> bool) {
    println!("{said}");
    let mut lines = said.lines();
    for (word, part) in DAY {
        let found = lines.find(|one| one.contains(part));
        let found =
            found.unwrap_or_else(|| panic!("{part:?} is not (or not in its place) in:\n{said}"));
        assert!(line(found, word), "{found}");
    }
}

#[test]
fn a_terminal_shows_the_day() {
    needs!(MariaDb, Script);
    let script = r#"exec script -qefc "$*" /dev/null"#;
    let options = Options::new().through(&["sh", "-c", script, "sh"]);
    let said = day(options, Daemon::stdout);
    follow(&said, |line, word| {
        line.starts_with('[') && line.contains(&format!("] {word}"))
    });
}

#[test]
fn a_journal_gets_the_day_with_priorities() {
    needs!(MariaDb);
    let script = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@""#;
    let options = Options::new().through(&["sh", "-c", script, "sh"]);
    let said = day(options, Daemon::stderr);
    follow(&said, |line, word| {
        line.starts_with(if word.is_empty() { "<6>" } else { "<4>" }) && !line.contains("warning:")
    });
}

#[test]
fn a_containers_log_has_the_day() {
    needs!(MariaDb);
    let text = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/contrib/container/Containerfile"
    ));
    let text = text.expect("the Containerfile");
    let mut variables = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    let of_image = variables.next_back().expect("the last stage's");
    let mut options = Options::new();
    for variable in of_image.split(' ') {
        let (name, value) = variable.split_once('=').expect("NAME=value");
        options = options.env(name, value);
    }
    let said = day(options, Daemon::stderr);
    follow(&said, |line, word| {
        line.starts_with('[') && line.contains(&format!("] {word}"))
    });
}
