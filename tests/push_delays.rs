//! Web Push to services that are slow, silent or gone: no message, no other agent and no stop waits for them.

use crate::push::{channel, direct, setting, stage};
use crate::support::daemon::{Daemon, Options};
use crate::support::push_service::PushService;
use crate::support::stopwatch::Stopwatch;
use crate::support::wait;
use mysql::prelude::Queryable;
use std::time::{Duration, Instant};

/// A figure of the contract.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn a_slow_service_and_a_slow_table_delay_no_message_and_what_is_too_much_is_dropped() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    let mut conn = database.conn();
    for number in 0..12 {
        let name = format!("slow-{number}");
        service.subscribe(&mut conn, 2, &name, "aes128gcm");
        service.answer(&name, r#"[{"delay":60}]"#);
    }
    let options = service
        .options()
        .env("CHAT_WEBSOCKET_PUSH_QUEUE", "3")
        .env("CHAT_WEBSOCKET_RATE", "0");
    let mut daemon = Daemon::start(&database, &options);
    let mut ann = daemon.login(1).expect("login");
    // Nothing can be looked up, so what is more than may wait is dropped.
    conn.query_drop("LOCK TABLES agent_push_subscriptions WRITE")
        .expect("lock");
    // If one of them waited for the table, it would be refused.
    for number in 0..20 {
        direct(&mut ann, 1, &format!("message {number}"));
    }
    let line = daemon.await_log(" notifications were not pushed");
    assert!(line.contains("3 wait already"), "{line}");
    conn.query_drop("UNLOCK TABLES").expect("unlock");
    direct(&mut ann, 1, "one more");
    service.await_pushes(1);
    let begun = Stopwatch::start();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() < SHUTDOWN_LIMIT);
    daemon.await_log("queued notifications");
}

#[test]
fn s8_an_agent_whose_browsers_never_answer_holds_up_no_other() {
    needs!(MariaDb, PythonPackages);
    hold_up_no_other(40);
}

#[test]
fn one_push_that_is_never_answered_holds_up_no_other() {
    needs!(MariaDb, PythonPackages);
    hold_up_no_other(1);
}

/// An agent with so many browsers, none of which answers.
fn hold_up_no_other(browsers: usize) {
    let (database, mut silent) = stage();
    let mut good = PushService::start();
    let mut conn = database.conn();
    for number in 0..browsers {
        let name = format!("silent-{number}");
        silent.subscribe(&mut conn, 2, &name, "aes128gcm");
        silent.answer(&name, r#"[{"delay":60}]"#);
    }
    good.subscribe(&mut conn, 3, "good", "aes128gcm");
    let both = authorities(&silent, &good);
    let options = Options::new()
        .env(
            "CHAT_WEBSOCKET_PUSH_ALLOW",
            &format!("localhost:{},localhost:{}", silent.port(), good.port()),
        )
        .env("CHAT_WEBSOCKET_PUSH_CA", &both)
        .env("CHAT_WEBSOCKET_PUSH_TIMEOUT", "60");
    let daemon = Daemon::start(&database, &options);
    let mut ann = daemon.login(1).expect("login");
    channel(&mut ann, 1, "@bob look");
    silent.await_pushes(1);
    // Every push to the other agent comes while the first one still waits for its answer, which takes as long as any wait
    // of these tests.
    for count in 1..=5 {
        channel(&mut ann, 1, "@bob @celik look");
        good.await_pushes(count);
    }
    assert_eq!(silent.pushes().len(), 1, "one at a time for one agent");
    // It was the newest of those that the agent has.
    assert_eq!(silent.pushes()[0].name, format!("silent-{}", browsers - 1));
}

#[test]
fn a_silent_service_is_left_alone_and_holds_up_no_other() {
    needs!(MariaDb, PythonPackages);
    let (database, mut silent) = stage();
    let mut good = PushService::start();
    let mut conn = database.conn();
    for number in 0..10 {
        let name = format!("silent-{number}");
        silent.subscribe(&mut conn, 2, &name, "aes128gcm");
        silent.answer(&name, r#"[{"delay":60}]"#);
    }
    good.subscribe(&mut conn, 2, "good", "aes128gcm");
    // Both have to be trusted, and each has an authority of its own.
    let both = authorities(&silent, &good);
    let options = Options::new()
        .env(
            "CHAT_WEBSOCKET_PUSH_ALLOW",
            &format!("localhost:{},localhost:{}", silent.port(), good.port()),
        )
        .env("CHAT_WEBSOCKET_PUSH_CA", &both)
        .env("CHAT_WEBSOCKET_PUSH_TIMEOUT", "1");
    let daemon = Daemon::start(&database, &options);
    let mut ann = daemon.login(1).expect("login");
    let begun = Instant::now();
    direct(&mut ann, 1, "first");
    good.await_pushes(1);
    direct(&mut ann, 1, "second");
    good.await_pushes(2);
    wait::pass(Duration::from_millis(2500).saturating_sub(begun.elapsed()));
    // One was on its way at a time; then the service was left alone.
    let asked = silent.pushes().len();
    assert!((1..=3).contains(&asked), "{asked}");
}

/// A file with the authorities of two services.
fn authorities(one: &PushService, other: &PushService) -> String {
    let read = |service: &PushService| {
        std::fs::read_to_string(service.authority()).expect("read an authority")
    };
    let path = format!("{}.both", one.authority());
    std::fs::write(&path, read(one) + &read(other)).expect("write the authorities");
    path
}

#[test]
fn what_was_said_last_is_pushed_before_the_end_and_a_silent_service_does_not_hold_it_up() {
    needs!(MariaDb, PythonPackages);
    let (database, mut service) = stage();
    service.subscribe(&mut database.conn(), 2, "bob", "aes128gcm");
    let mut daemon = Daemon::start(&database, &service.options());
    direct(&mut daemon.login(1).expect("login"), 1, "last words");
    assert!(daemon.stop().success());
    assert_eq!(service.pushes().len(), 1);
    assert_eq!(setting(&database, "chat_websocket_status"), "stopped");

    service.answer("bob", r#"[{"delay":60}]"#);
    let mut daemon = Daemon::start(&database, &service.options());
    direct(&mut daemon.login(1).expect("login"), 1, "last words");
    let begun = Stopwatch::start();
    assert!(daemon.stop().success());
    let took = begun.elapsed();
    assert!(took < SHUTDOWN_LIMIT, "{took:?}");
    assert_eq!(setting(&database, "chat_websocket_status"), "stopped");
}
