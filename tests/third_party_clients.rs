//! Third-party clients against the real daemon: Python's `websockets` library, and two windows of Chromium. The scripts
//! under tests/clients hold their steps and checks; this file starts the daemon for them, restarts it on request, and
//! checks afterwards what it has stored.
//!
//! `contrib/test` brings the programs that this needs and names them in the environment.

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::{jwt, script, seed};

/// How many messages each of the two Python clients sends while the other does the same.
const MESSAGES_EACH: i64 = 300;
/// The message of `channel_message`, that of `direct_message` and that of `leaving`, in two_clients.py.
const SINGLE_MESSAGES: i64 = 3;

#[test]
fn two_python_clients_talk_and_see_the_same_order() {
    needs!(MariaDb, PythonPackages);
    let database = seeded();
    let daemon = Daemon::start(&database, &options());
    let task = Json::object([
        ("url", url(daemon.port()).into()),
        (
            "agents",
            Json::Array(vec![
                agent(1, "Ann Admin", "admin"),
                agent(2, "Bob Brown", "agent"),
            ]),
        ),
        ("channel_id", 2.into()),
        ("thread_id", 1.into()),
        ("foreign_channel_id", 4.into()),
        ("foreign_thread_id", 4.into()),
        ("disabled_thread_id", 2.into()),
        ("max_message_length", 4000.into()),
        ("messages_each", MESSAGES_EACH.into()),
    ]);
    let programs = [script::PYTHON_WITH_PACKAGES];
    script::run("clients/two_clients.py", &programs, &task, |_| None);

    // What was shown is stored, and what was refused is not.
    let count = "SELECT COUNT(*) FROM chat_messages";
    let stored: Option<i64> = database
        .conn()
        .query_first(count)
        .expect("count the messages");
    assert_eq!(stored, Some(2 * MESSAGES_EACH + SINGLE_MESSAGES));
}

#[test]
fn two_browser_windows_chat_survive_a_restart_and_cannot_inject_each_other() {
    needs!(MariaDb, Python, Browser);
    let database = seeded();
    let options = options().port(mariadb::free_port());
    let mut daemon = Daemon::start(&database, &options);
    let task = Json::object([
        ("url", url(daemon.port()).into()),
        (
            "agents",
            Json::Array(vec![
                agent(2, "Bob Brown", "agent"),
                agent(3, "Çelik O'Neil & <Co>", "agent"),
            ]),
        ),
        ("channel_id", 1.into()),
    ]);
    let programs = [script::PYTHON, script::CHROMEDRIVER, script::CHROMIUM];
    script::run("clients/browser.py", &programs, &task, |said| {
        (said == "RESTART").then(|| {
            let status = daemon.stop();
            assert!(
                status.success(),
                "the daemon did not stop in good order: {status}"
            );
            daemon = Daemon::start_in(daemon.install.clone(), &options);
            "RESTARTED".to_owned()
        })
    });
}

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

/// The limits on how much one socket may say are tested elsewhere; these clients say much.
fn options() -> Options {
    Options::new().env("CHAT_WEBSOCKET_RATE", "0")
}

fn url(port: u16) -> String {
    format!("ws://127.0.0.1:{port}/ws/chat")
}

/// An agent of the seed, as the scripts want one.
fn agent(id: i64, name: &str, role: &str) -> Json {
    Json::object([
        ("id", id.into()),
        ("name", name.into()),
        ("role", role.into()),
        ("token", jwt::good(id).into()),
    ])
}
