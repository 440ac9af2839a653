//! Web Push against a push service that decrypts every push with third-party libraries: recipients and payloads, both
//! encodings, the install's key in both forms, and failed pushes.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Install, Options, TIMEZONE, is_stamp};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::push_service::{PushService, SUBJECT};
use crate::support::ws::Client;
use crate::support::{seed, wait};

/// A seeded install, a push service, and the keys that belong together.
pub fn stage() -> (Database, PushService) {
    let database = mariadb::Database::fresh();
    seed::reset(&mut database.conn());
    let service = PushService::start();
    service.give_keys(&mut database.conn(), service.key("encrypted"));
    (database, service)
}

/// Says something to the agents of a thread, and waits until it is stored.
pub fn direct(client: &mut Client, thread: i64, body: &str) -> i64 {
    let event = Json::object([
        ("type", "chat.direct.message.send".into()),
        ("thread_id", thread.into()),
        ("body", body.into()),
    ]);
    client.send(&event.to_string());
    let created = client.until_type("chat.direct.message.created");
    let created = created.expect("a message");
    created.need("message").need("id").int().expect("an id")
}

pub fn channel(client: &mut Client, channel: i64, body: &str) -> i64 {
    let event = Json::object([
        ("type", "chat.channel.message.send".into()),
        ("channel_id", channel.into()),
        ("body", body.into()),
    ]);
    client.send(&event.to_string());
    let created = client.until_type("chat.channel.message.created");
    let created = created.expect("a message");
    created.need("message").need("id").int().expect("an id")
}

pub fn setting(database: &Database, key: &str) -> String {
    let value: Option<String> = database
        .conn()
        .exec_first("SELECT value FROM settings WHERE key_name = ?", (key,))
        .expect("read a setting");
    value.unwrap_or_default()
}

/// Waits until the last failure says this, and returns it.
pub fn await_failure(database: &Database, text: &str) -> String {
    let found = wait::until(wait::LIMIT, || {
        Some(setting(database, "push_last_send_failure")).filter(|why| why.contains(text))
    });
    found.unwrap_or_else(|| {
        let last = setting(database, "push_last_send_failure");
        panic!("no failure says {text:?}; the last one: {last:?}")
    })
}

pub fn subscriptions(database: &Database) -> Vec<String> {
    let endpoints: Vec<String> = database
        .conn()
        .query("SELECT endpoint FROM agent_push_subscriptions ORDER BY id")
        .expect("read the subscriptions");
    let name = |endpoint: &String| endpoint.rsplit('/').next().unwrap_or_default().to_owned();
    endpoints.iter().map(name).collect()
}

#[test]
fn a_push_is_encrypted_for_its_browser_and_signed_by_the_install() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    service.subscribe(&mut database.conn(), 2, "new-browser", "aes128gcm");
    service.subscribe(&mut database.conn(), 2, "old-browser", "aesgcm");
    service.subscribe(&mut database.conn(), 1, "sender", "aes128gcm");
    let daemon = Daemon::start(&database, &service.options());
    let mut ann = daemon.login(1).expect("login");
    let body = format!("Hello  Bob,\n{}", "日本 ".repeat(60));
    let id = direct(&mut ann, 1, &body);
    let pushes = service.await_pushes(2);
    for push in &pushes {
        let said = format!("Ann Admin · Hello Bob, {}", "日本 ".repeat(60));
        let expected = Json::object([
            ("title", "New private chat message".into()),
            // The notification's own preview is shorter than what a push may hold.
            (
                "body",
                said.chars()
                    .take(12 + 140)
                    .collect::<String>()
                    .trim_end()
                    .into(),
            ),
            ("link", "/chat/direct/1".into()),
            ("tag", format!("andrea-helpdesk-chat:direct:{id}").into()),
            ("icon", "/Andrea-Helpdesk-favicon.png".into()),
        ]);
        assert_eq!(push.payload, expected);
        assert_eq!(push.header("TTL"), Some("3600"));
        assert_eq!(push.vapid.need("public").str(), Some(service.key("public")));
        assert_eq!(push.vapid.need("subject").str(), Some(SUBJECT));
    }
    let mut names: Vec<&str> = pushes.iter().map(|push| push.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["new-browser", "old-browser"]);

    // One at a time goes over a connection that is there already, with the token that was signed before.
    database
        .conn()
        .query_drop("DELETE FROM agent_push_subscriptions WHERE content_encoding = 'aesgcm'")
        .expect("delete");
    for count in 3..6 {
        direct(&mut ann, 1, "again");
        service.await_pushes(count);
    }
    let later = &service.pushes()[2..];
    let before: Vec<i64> = pushes.iter().map(|push| push.connection).collect();
    let token = pushes[0].vapid.need("token");
    for push in later {
        assert!(
            before.contains(&push.connection),
            "{later:?} after {pushes:?}"
        );
        assert_eq!(push.vapid.need("token"), token);
    }
    assert_eq!(setting(&database, "push_last_send_failure"), "");
    let log = daemon.log();
    for secret in [
        service.key("private"),
        service.key("encrypted"),
        "/push/",
        token.str().expect("text"),
    ] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn only_agents_with_a_new_notification_are_pushed_to() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    // The key as it is, not encrypted.
    service.give_keys(&mut conn, service.key("private"));
    for (agent, name) in [
        (1, "ann"),
        (2, "bob"),
        (3, "celik"),
        (4, "dee"),
        (5, "eve"),
        (6, "fay"),
        (8, "hal"),
    ] {
        service.subscribe(&mut conn, agent, name, "aes128gcm");
    }
    for statement in [
        // Dee and Hal watch the channel, and only Dee wants to be told.
        "INSERT INTO chat_channel_notification_preferences (agent_id, channel_id, notify_enabled) VALUES (4, 1, 1), (8, 1, 1)",
        "UPDATE agents SET notification_preferences_json = '{\"chat_channel_message\":true}' WHERE id = 4",
        // What is there already is not new: this is the id that the first message gets.
        "INSERT INTO agent_notifications (agent_id, type, title, dedupe_key) VALUES (2, 'x', 'x', 'chat:mention:700001')",
    ] {
        conn.query_drop(statement).expect(statement);
    }
    let daemon = Daemon::start(&database, &service.options());
    let mut ann = daemon.login(1).expect("login");
    // Bob and Çelik are members, Fay is not, Eve is inactive, Ann says it.
    let id = channel(&mut ann, 1, "@bob @celik @fay @eve @ann look");
    assert_eq!(id, 700_001);
    // The next message's pushes come after the first one's.
    direct(&mut ann, 1, "done");
    let pushes = wait::until(wait::LIMIT, || {
        let pushes = service.pushes();
        pushes
            .iter()
            .any(|push| push.text("body").contains("done"))
            .then_some(pushes)
    });
    service.await_pushes(3);
    let pushes = pushes.map(|_| service.pushes()).expect("the last push");
    let mut told: Vec<(&str, &str, &str)> = pushes
        .iter()
        .map(|push| (push.name.as_str(), push.text("title"), push.text("link")))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("bob", "New private chat message", "/chat/direct/1"),
            ("celik", "You were mentioned in chat", "/chat/channels/1"),
            ("dee", "New chat channel message", "/chat/channels/1"),
        ]
    );
    drop(daemon);
}

#[test]
fn keys_are_followed_without_a_restart_and_those_that_are_none_are_told_of() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    service.subscribe(&mut conn, 2, "bob", "aes128gcm");
    seed::set(&mut conn, "push_vapid_subject", &"".into());
    let daemon = Daemon::start(&database, &service.options());
    let mut ann = daemon.login(1).expect("login");
    direct(&mut ann, 1, "this is not pushed");
    // A foreign key.
    let other = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
    service.give_keys(&mut conn, other);
    wait::until(wait::LIMIT, || {
        direct(&mut ann, 1, "nor this");
        let why = setting(&database, "push_last_send_failure");
        wait::pass(Duration::from_millis(200));
        why.contains("push_vapid_private_key does not belong")
            .then_some(())
    })
    .expect("a failure");
    assert!(!daemon.log().contains(other));
    service.give_keys(&mut conn, service.key("encrypted"));
    wait::until(wait::LIMIT, || {
        direct(&mut ann, 1, "but this");
        wait::pass(Duration::from_millis(200));
        (!service.pushes().is_empty()).then_some(())
    })
    .expect("a push");
    assert!(
        service
            .pushes()
            .iter()
            .all(|push| push.text("body") == "Ann Admin · but this")
    );
}

#[test]
fn a_subscription_that_has_expired_is_deleted() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    for (name, status) in [
        ("gone", 410),
        ("unknown", 404),
        ("good", 201),
        ("forbidden", 403),
    ] {
        service.subscribe(&mut conn, 2, name, "aes128gcm");
        service.answer(name, &format!(r#"[{{"status":{status}}}]"#));
    }
    service.subscribe(&mut conn, 3, "other", "aes128gcm");
    let daemon = Daemon::start(&database, &service.options());
    direct(&mut daemon.login(1).expect("login"), 1, "hello");
    let left = wait::until(wait::LIMIT, || {
        Some(subscriptions(&database)).filter(|left| left.len() == 3)
    });
    assert_eq!(
        left.expect("two are deleted"),
        ["good", "forbidden", "other"]
    );
    daemon.await_log("has expired and is deleted");
}

#[test]
fn a_failure_is_written_down_for_the_administrator() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    service.subscribe(&mut database.conn(), 2, "browser-of-bob", "aes128gcm");
    let said = format!("no such key for browser-of-bob\\r\\n{}", "é".repeat(600));
    let chunked = r#"{"Transfer-Encoding":"chunked"}"#;
    service.answer(
        "browser-of-bob",
        &format!(r#"[{{"status":403,"headers":{chunked},"body":"{said}"}},{{"status":201}}]"#),
    );
    let daemon = Daemon::start(&database, &service.options());
    let mut ann = daemon.login(1).expect("login");
    direct(&mut ann, 1, "hello");
    let why = await_failure(&database, "answered 403");
    let place = format!(
        "localhost:{} answered 403: no such key for … é",
        service.port()
    );
    assert!(why.starts_with(&place), "{why}");
    assert!(why.chars().count() <= 500);
    let at = setting(&database, "push_last_send_failed_at");
    assert!(is_stamp(&format!("[{at}")), "{at}");
    let stamps: Option<(i64, i64)> = database
        .conn()
        .exec_first(
            "SELECT TIMESTAMPDIFF(SECOND, ?, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', '+12:00')), \
             TIMESTAMPDIFF(SECOND, ?, CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', '+13:00'))",
            (&at, &at),
        )
        .expect("compare times");
    let (winter, summer) = stamps.expect("a row");
    assert!(
        (0..60).contains(&winter) || (0..60).contains(&summer),
        "{at} is not now in {TIMEZONE}"
    );
    let line = daemon.await_log("answered 403");
    assert!(
        line.contains("subscription ") && line.contains(" of agent 2"),
        "{line}"
    );
    assert!(!daemon.log().contains("browser-of-bob"), "{}", daemon.log());
    // The connection was good all the same.
    direct(&mut ann, 1, "hello again");
    let pushes = service.await_pushes(2);
    assert_eq!(pushes[0].connection, pushes[1].connection);
}

#[test]
fn a_service_that_asks_to_come_back_is_obeyed_but_not_for_ever() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    for (agent, name) in [(2, "busy"), (1, "hopeless"), (3, "tomorrow"), (6, "broken")] {
        service.subscribe(&mut conn, agent, name, "aes128gcm");
    }
    let daemon = Daemon::start(&database, &service.options());
    let mut ann = daemon.login(1).expect("login");
    let mut celik = daemon.login(3).expect("login");
    let mut bob = daemon.login(2).expect("login");

    let busy = r#"{"status":429,"headers":{"Retry-After":"1"}}"#;
    service.answer("busy", &format!("[{busy},{busy},{{}}]"));
    direct(&mut ann, 1, "to a busy one");
    let pushes = service.await_pushes(3);
    for pair in pushes.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!((1.0..10.0).contains(&pause), "{pause}");
        assert_eq!(pair[0].payload, pair[1].payload);
    }
    assert_eq!(setting(&database, "push_last_send_failure"), "");

    // Without a word about when: after 2 s.
    service.answer("broken", r#"[{"status":502},{}]"#);
    direct(&mut celik, 4, "to a broken one");
    let pushes = service.await_pushes(5);
    let pause = pushes[4].at - pushes[3].at;
    assert!((1.9..12.0).contains(&pause), "{pause}");

    service.answer("hopeless", &format!("[{busy}]"));
    direct(&mut bob, 1, "to a hopeless one");
    await_failure(&database, "answered 429");
    assert_eq!(service.pushes().len(), 5 + 4);

    // Too long a pause is a failure; and it is the service's, so others wait for it as well.
    service.answer(
        "tomorrow",
        r#"[{"status":503,"headers":{"Retry-After":"86400"}}]"#,
    );
    direct(&mut bob, 3, "come back tomorrow");
    await_failure(&database, "answered 503");
    direct(&mut ann, 1, "after that");
    wait::pass(Duration::from_secs(1));
    assert_eq!(service.pushes().len(), 5 + 4 + 1);
}

#[test]
fn nothing_inside_is_ever_called() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    let trap = service.trap();
    let inside = [
        "https://127.0.0.1/x",
        "https://0x7f.0.0.1/x",
        "https://10.0.0.1/x",
        "https://169.254.169.254/latest/meta-data",
        "https://192.168.1.1/x",
        "https://[::1]/x",
        "https://[fd00::1]/x",
        "https://[::ffff:127.0.0.1]/x",
        "https://[fe80::1]/x",
        "https://localhost/x",
    ];
    for (number, endpoint) in inside.iter().enumerate() {
        let name = format!("inside-{number}");
        service.subscribe_at(&mut conn, 2, &name, "aes128gcm", endpoint);
    }
    let elsewhere = [
        format!("https://localhost:{trap}/x"),
        format!("https://127.0.0.1:{}/x", service.port()),
        format!("http://localhost:{}/x", service.port()),
        "https://user:password@localhost/x".to_owned(),
        "nonsense".to_owned(),
    ];
    for (number, endpoint) in elsewhere.iter().enumerate() {
        let name = format!("elsewhere-{number}");
        service.subscribe_at(&mut conn, 2, &name, "aes128gcm", endpoint);
    }
    service.subscribe(&mut conn, 2, "redirected", "aes128gcm");
    service.answer(
        "redirected",
        &format!(
            r#"[{{"status":307,"headers":{{"Location":"https://localhost:{trap}/x"}}}},
                {{"status":301,"headers":{{"Location":"https://127.0.0.1:{trap}/x"}}}}]"#
        ),
    );
    let options = service.options().arg("--log-level").arg("debug");
    let daemon = Daemon::start(&database, &options);
    let mut ann = daemon.login(1).expect("login");
    direct(&mut ann, 1, "hello");
    let refused = wait::until(wait::LIMIT, || {
        let refused = daemon.log().matches(": the endpoint ").count()
            + daemon.log().matches("is never called").count()
            - daemon.log().matches(": the endpoint has port").count()
            - daemon.log().matches(": the endpoint is not https").count();
        (refused >= inside.len() + elsewhere.len()).then_some(())
    });
    assert!(refused.is_some(), "{}", daemon.log());
    assert_eq!(
        daemon.log().matches("is inside or reserved").count(),
        inside.len(),
        "{}",
        daemon.log()
    );
    daemon.await_log("answered 307");
    direct(&mut ann, 1, "hello again");
    daemon.await_log("answered 301");
    assert_eq!(service.trapped(), 0);
    assert_eq!(service.pushes().len(), 2);
    assert_eq!(
        subscriptions(&database).len(),
        inside.len() + elsewhere.len() + 1
    );
}

#[test]
fn a_certificate_of_an_unknown_issuer_is_not_trusted() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    service.subscribe(&mut database.conn(), 2, "bob", "aes128gcm");
    let options = Options::new().env(
        "CHAT_WEBSOCKET_PUSH_ALLOW",
        &format!("other:1, LOCALHOST:{},", service.port()),
    );
    let daemon = Daemon::start(&database, &options);
    direct(&mut daemon.login(1).expect("login"), 1, "hello");
    let line = daemon.await_log("cannot trust localhost");
    assert!(line.contains("invalid peer certificate"), "{line}");
    assert!(service.pushes().is_empty());
}

#[test]
fn a_daemon_that_cannot_know_whom_to_call_does_not_start() {
    needs!(MariaDb);
    let database = mariadb::Database::fresh();
    for (name, value, says) in [
        (
            "CHAT_WEBSOCKET_PUSH_ALLOW",
            "localhost",
            "expected HOST:PORT",
        ),
        ("CHAT_WEBSOCKET_PUSH_TIMEOUT", "0", "from 1 to 60"),
        ("CHAT_WEBSOCKET_PUSH_CA", "no-such-file", "no-such-file"),
        (
            "CHAT_WEBSOCKET_PUSH_CA",
            ".env",
            "name a file of certificates in PEM",
        ),
    ] {
        let options = Options::new().env(name, value);
        let mut daemon = Daemon::spawn(Install::new(&database, &options), &options);
        let status = daemon.wait_exit(wait::LIMIT);
        assert_eq!(status.code(), Some(78), "{}", daemon.report());
        let said = daemon.stderr();
        assert!(said.contains(name) && said.contains(says), "{said}");
    }
}
