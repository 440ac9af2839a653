//! Log targets besides the file, and the contents of log lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::Arc;

use crate::support::daemon::{Daemon, Install, Options, is_stamp};
use crate::support::ops::{seeded, set};
use crate::support::ws::{Client, REQUEST};
use crate::support::{jwt, wait};

const STDERR: &str = "CHAT_WEBSOCKET_LOG_STDERR";

/// Waits until standard error holds this.
fn await_stderr(daemon: &Daemon, text: &str) -> String {
    wait::until(wait::LIMIT, || {
        let said = daemon.stderr();
        said.contains(text).then_some(said)
    })
    .unwrap_or_else(|| panic!("{text:?} is not in: {}", daemon.stderr()))
}

#[test]
fn d1_standard_error_has_the_log_where_it_is_asked_for() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .env(STDERR, "always")
        .dotenv("APP_URL", "https://me:a-secret@helpdesk.example.test");
    let daemon = Daemon::start(&database, &options);
    let said = await_stderr(&daemon, "] version ");
    assert!(!said.contains("a-secret"), "{said}");
    let line = said
        .lines()
        .find(|line| line.contains("] version "))
        .expect("a line");
    for part in [
        env!("CARGO_PKG_VERSION"),
        &database.name,
        "pages of https://***@helpdesk.example.test and",
        "connections",
        "address 127.0.0.1:",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(line.contains(&format!("pid {};", daemon.pid())), "{line}");
    assert!(said.contains("] listening on 127.0.0.1:"), "{said}");
    // The file has the others.
    let others: Vec<&str> = said.lines().filter(|one| *one != line).collect();
    assert_eq!(daemon.log().lines().collect::<Vec<_>>(), others);
}

#[test]
fn d1_neither_a_pipe_nor_never_gets_lines() {
    needs!(MariaDb);
    let (database, _) = seeded();
    for when in ["auto", "never"] {
        let daemon = Daemon::start(&database, &Options::new().env(STDERR, when));
        daemon.login(1).unwrap();
        assert_eq!(daemon.stderr(), "", "{when}");
    }
}

#[test]
fn d1_a_journal_gets_priorities_and_no_time() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let script = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@""#;
    let options = Options::new().through(&["sh", "-c", script, "sh"]);
    let daemon = Daemon::start(&database, &options);
    await_stderr(&daemon, "<6>listening on 127.0.0.1:");
    let mut stranger = daemon.connect().unwrap();
    stranger.send(r#"{"type":"auth","token":"nonsense"}"#);
    stranger.until_end().unwrap();
    let said = await_stderr(&daemon, "<4>connection ");
    assert!(!said.contains('['), "{said}");
    daemon.await_log("] warning: connection ");
}

#[test]
fn d1_a_start_that_fails_is_an_error_in_the_journal() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let script = r#"JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@""#;
    let options = Options::new()
        .through(&["sh", "-c", script, "sh"])
        .dotenv("JWT_SECRET", "short");
    let mut daemon = Daemon::spawn(Install::new(&database, &options), &options);
    assert_eq!(daemon.wait_exit(wait::LIMIT).code(), Some(78));
    let said = daemon.stderr();
    assert!(said.starts_with("<3>JWT_SECRET "), "{said}");
}

#[test]
fn d18_an_address_in_use_is_said_once() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let first = Daemon::start(&database, &Options::new());
    let taken = format!("failed to listen on 127.0.0.1:{}", first.port());
    let remedy = "free the address, or choose another with ";
    for (options, on_stderr) in [
        (Options::new().env(STDERR, "always"), 1),
        // There standard error is the log.
        (Options::new().arg("--supervised"), 0),
        // What stands in the log alone is told in full.
        (Options::new(), 1),
    ] {
        let options = options.port(first.port());
        let mut second = Daemon::spawn(Install::new(&database, &options), &options);
        assert_eq!(second.wait_exit(wait::LIMIT).code(), Some(1));
        let said = second.stderr();
        assert_eq!(second.log().matches(&taken).count(), 1, "{said}");
        assert_eq!(said.matches(&taken).count(), on_stderr, "{said}");
        assert_eq!(said.matches(remedy).count(), 1, "{said}");
    }
}

#[test]
fn d1_a_terminal_gets_the_lines_of_the_file() {
    needs!(MariaDb, Script);
    let (database, _) = seeded();
    let script = r#"exec script -qefc "$*" /dev/null"#;
    let options = Options::new().through(&["sh", "-c", script, "sh"]);
    let daemon = Daemon::start(&database, &options);
    let shown = wait::until(wait::LIMIT, || {
        let said = daemon.stdout();
        said.contains("] version ").then_some(said)
    });
    assert!(
        shown.expect("lines").contains("] listening on"),
        "{}",
        daemon.stdout()
    );
}

#[test]
fn d2_a_refused_token_is_one_line_that_says_why() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let forged = |secret: &str, expires: i64| {
        let claims = format!(r#"{{"sub":1,"type":"agent","exp":{expires}}}"#);
        jwt::forge(r#"{"alg":"HS256"}"#, &claims, "HS256", secret)
    };
    let now = jwt::unix_now();
    let another = "another-secret-another-secret-00";
    for (token, why) in [
        ("a.b".to_owned(), "the token is missing or malformed"),
        (
            forged(another, now + 900),
            "the token was signed under another secret; JWT_SECRET must be the helpdesk's",
        ),
        (forged(jwt::SECRET, now - 35), "the token expired 3"),
        (jwt::good(999), "agent 999 does not exist or is inactive"),
    ] {
        let mut client = daemon.connect().unwrap();
        client.send(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
        assert_eq!(client.until_end().unwrap().1, Some(4401));
        let line = daemon.await_log(why);
        assert!(line.contains("authentication failed: "), "{line}");
        assert!(!daemon.log().contains(&token), "{line}");
    }
}

#[test]
fn d2_a_refused_handshake_is_one_line_that_says_what_to_do_and_is_counted() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let refused = |change: &dyn Fn(String) -> String| {
        let mut client = Client::open(daemon.port());
        client.write(change(format!("{REQUEST}\r\n")).as_bytes());
        client.response().unwrap().status()
    };
    let origin = |head: String| {
        let extra = "Origin: https://desk.example\r\nX-Forwarded-For: 10.0.0.1, 192.0.2.7\r\n\r\n";
        head.replacen("\r\n\r\n", &format!("\r\n{extra}"), 1)
    };
    assert_eq!(refused(&origin), 403);
    let line = daemon.await_log("refused with 403: ");
    for part in [
        "warning: connection ",
        " from 192.0.2.7: refused with 403: Origin https://desk.example is neither the host of APP_URL",
        "(helpdesk.example.test",
        "; set APP_URL",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let to = |from: &'static str, to: &'static str| move |head: String| head.replacen(from, to, 1);
    assert_eq!(refused(&to("/ws/chat", "/chat")), 404);
    daemon.await_log("refused with 404: the path is /chat, and the chat is at /ws/chat");
    assert_eq!(refused(&to("GET", "POST")), 405);
    daemon.await_log("refused with 405: the method is POST");
    assert_eq!(refused(&to("Upgrade: websocket\r\n", "")), 426);
    daemon.await_log("refused with 426: ");
    // Two hundred more are a few lines, and all are counted.
    for _ in 0..200 {
        assert_eq!(refused(&origin), 403);
    }
    let lines = daemon.log().matches("refused with 403").count();
    assert!(lines <= 20, "{lines}");
    let mut client = Client::open(daemon.port());
    client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response().unwrap();
    let page = String::from_utf8(client.rest().unwrap()).unwrap();
    for (status, count) in [(403, 201), (404, 1), (405, 1), (426, 1)] {
        let wanted =
            format!("andrea_chat_handshakes_refused_total{{status=\"{status}\"}} {count}\n");
        assert!(page.contains(&wanted), "{wanted}: {page}");
    }
}

#[test]
fn d2_debug_shows_each_event_of_a_client_and_nothing_that_it_said() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().arg("--log-level").arg("debug");
    let daemon = Daemon::start(&database, &options);
    let mut ann = daemon.connect().unwrap();
    let token = jwt::good(1);
    let auth = format!(r#"{{"type":"auth","token":"{token}"}}"#);
    let events = [
        ("auth", auth.as_str()),
        (
            "chat.channel.message.send",
            r#"{"type":"chat.channel.message.send","channel_id":1,"body":"a secret thing"}"#,
        ),
        (
            "chat.search",
            r#"{"type":"chat.search","query":"a hidden word"}"#,
        ),
        (
            "(of an unknown type)",
            r#"{"type":"made up by its client"}"#,
        ),
        ("(no event)", "no JSON at all"),
        ("ping", r#"{"type":"ping"}"#),
    ];
    for (_, event) in events {
        ann.send(event);
    }
    ann.until_type("pong").unwrap();
    ann.send_close(4000);
    ann.until_end().unwrap();
    let end = daemon.await_log(": ended after ");
    assert!(end.ends_with(" s, closed by the client with 4000"), "{end}");
    // One grep follows it, from its first line to its last.
    let (_, name) = end.split_once("debug: ").expect("its severity");
    let name = name.split_inclusive(' ').take(2).collect::<String>();
    let log = daemon.log();
    let lines: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("] debug: ")?.1.strip_prefix(&name))
        .collect();
    let peer = ann.address();
    let event = |(kind, text): (&str, &str)| format!("event {kind}, {} bytes", text.len());
    let of_agent = |what: String| format!("(agent 1) from {peer}: {what}");
    let mut wanted = vec![
        format!("from {peer}: connected"),
        format!("from {peer}: {}", event(events[0])),
        of_agent("authenticated".to_owned()),
    ];
    wanted.extend(events.into_iter().skip(1).map(|one| of_agent(event(one))));
    assert_eq!(lines[..lines.len() - 1], wanted, "{log}");
    for secret in [&token, "a secret thing", "hidden", "made up", "no JSON"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    // Without debug there is none of these.
    let quiet = Daemon::start(&database, &Options::new());
    let mut bob = quiet.login(2).unwrap();
    bob.send(r#"{"type":"ping"}"#);
    bob.until_type("pong").unwrap();
    assert!(!quiet.log().contains("connection "), "{}", quiet.log());
}

#[test]
fn d2_the_end_of_a_socket_says_how_it_came() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().arg("--log-level").arg("debug");
    let mut daemon = Daemon::start(&database, &options);
    let mut gone = daemon.login(1).unwrap();
    gone.hang_up();
    daemon.await_log(", without a close frame");
    drop(Client::open(daemon.port()));
    daemon.await_log(", without a request");
    let mut page = Client::open(daemon.port());
    page.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    page.response().unwrap();
    drop(page);
    daemon.await_log(", its request was answered");
    let mut stranger = daemon.connect().unwrap();
    stranger.send(r#"{"type":"auth","token":"nonsense"}"#);
    stranger.until_end().unwrap();
    daemon.await_log(" s, closed with 4401");
    let _ann = daemon.login(1).unwrap();
    assert!(daemon.stop().success());
    daemon.await_log(" s, closed with 1001");
}

#[test]
fn d2_failed_tokens_are_few_lines_that_count_the_others() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    const TRIES: usize = 60;
    for _ in 0..TRIES {
        let mut client = daemon.connect().unwrap();
        client.send(r#"{"type":"auth","token":"nonsense"}"#);
        client.until_end().unwrap();
    }
    // Those that were left out are told, though none follows.
    let counted = || {
        let log = daemon.log();
        let written = log.matches("] warning: connection ").count();
        let left_out: usize = log
            .lines()
            .filter_map(|line| {
                let (before, _) = line.split_once(" more ")?;
                before.rsplit([' ', '(']).next()?.parse::<usize>().ok()
            })
            .sum();
        (written + left_out == TRIES).then_some(written)
    };
    let written = wait::until(wait::LIMIT, counted);
    let written = written.unwrap_or_else(|| panic!("{}", daemon.log()));
    assert!(written < TRIES, "{written}");
}

#[test]
fn connections_are_listed_over_a_socket_of_the_services_user_alone() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let socket = daemon
        .install
        .root()
        .join("storage/runtime/chat-websocket.sock");
    let list = || daemon.install.run("connections", &["--json"]);
    let parsed = || -> Vec<serde_json::Value> {
        let output = list();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{stderr}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    assert_eq!(parsed(), [] as [serde_json::Value; 0]);
    let ann = daemon.login(1).unwrap();
    let stranger = daemon.connect().unwrap();
    let found = parsed();
    let [of_ann, of_stranger] = &found[..] else {
        panic!("{found:?}");
    };
    assert_eq!(
        (&of_ann["agent"], &of_stranger["agent"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert_eq!(of_ann["address"], ann.address().to_string());
    assert_eq!(of_stranger["address"], stranger.address().to_string());
    assert_eq!(of_ann["waiting_bytes"], 0);
    assert!(
        is_stamp(&format!("[{}", of_ann["since"].as_str().expect("a time"))),
        "{found:?}"
    );
    let shown = daemon.install.run("connections", &[]);
    assert!(
        String::from_utf8_lossy(&shown.stdout).starts_with("CONNECTION  AGENT"),
        "{shown:?}"
    );
    let mode = fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Another user gets nothing, even where the mode lets it in.
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("opened");
        let script = "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect('chat-websocket.sock');print(s.recv(9))";
        let folder = socket.parent().expect("a folder");
        for above in folder.ancestors().take(4) {
            let _ = fs::set_permissions(above, fs::Permissions::from_mode(0o755));
        }
        let other = Command::new("setpriv")
            .args([
                "--reuid=64222",
                "--regid=64222",
                "--clear-groups",
                "python3",
                "-c",
                script,
            ])
            .current_dir(folder)
            .output()
            .expect("setpriv");
        let said = String::from_utf8_lossy(&other.stdout).into_owned();
        assert!(!said.contains('['), "{said}");
    }
    assert!(daemon.stop().success());
    assert!(!socket.exists());
    let output = daemon.install.run("connections", &[]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the service running?"));
    // What a dead daemon has left is replaced.
    drop(UnixListener::bind(&socket).expect("left behind"));
    let next = Daemon::start_in(Arc::clone(&daemon.install), &Options::new());
    assert!(next.install.run("connections", &[]).status.success());
}

#[test]
fn a_changed_setting_is_told_with_its_old_and_its_new_value() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    set(&mut conn, "chat_max_message_length", "8000");
    daemon.signal(rustix::process::Signal::HUP);
    let line = daemon.await_log("settings changed: ");
    assert!(
        line.ends_with("chat_max_message_length 4000 → 8000"),
        "{line}"
    );
}
