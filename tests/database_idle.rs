//! Database connections that the server closed while they were idle: no client may notice.

use std::time::Duration;

use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place};
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::{Database, Server, kill_all};
use crate::support::ops::setting;
use crate::support::proxy::Proxy;
use crate::support::{seed, wait};

fn own() -> (Server, Database) {
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    (server, database)
}

fn says(participant: &mut Participant) {
    let answer = participant.ask(Place::Channel(1)).unwrap();
    assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
}

fn no_alarm(daemon: &Daemon) {
    let log = daemon.log();
    let words = [
        "not available",
        "answer in time",
        "out of sync",
        "reset by peer",
    ];
    assert!(!words.iter().any(|word| log.contains(word)), "{log}");
}

#[test]
fn k8_a_middlebox_that_forgets_silent_connections_costs_no_message() {
    needs!(MariaDb);
    let (server, database) = own();
    let proxy = Proxy::start(server.port());
    proxy.forget_after(Duration::from_secs(3));
    let options = Options::new().dotenv("DB_PORT", &proxy.port().to_string());
    let daemon = Daemon::start(&database, &options);
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    says(&mut ann);
    wait::pass(Duration::from_secs(5));
    says(&mut ann);
    says(&mut ann);
    no_alarm(&daemon);
}

#[test]
fn k8_a_server_that_ends_idle_connections_is_no_outage() {
    needs!(MariaDb);
    let (server, database) = own();
    let mut admin = server.admin();
    admin
        .query_drop("SET GLOBAL wait_timeout = 1")
        .expect("a short patience");
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    for _ in 0..3 {
        says(&mut ann);
        ann.client.send(r#"{"type":"chat.unread"}"#);
        ann.client.until_type("chat.unread").unwrap();
        wait::pass(Duration::from_millis(2200));
    }
    no_alarm(&daemon);
}

#[test]
fn k8_connections_ended_by_the_server_cost_no_client_anything() {
    needs!(MariaDb);
    let (server, database) = own();
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    for pause in [0, 1500, 0, 300] {
        says(&mut ann);
        wait::pass(Duration::from_millis(pause));
        kill_all(&mut server.admin());
        ann.client.send(r#"{"type":"chat.unread"}"#);
        let answer = ann.client.until_type("chat.unread").unwrap();
        assert_eq!(answer.get("code"), None, "{answer}");
        kill_all(&mut server.admin());
        says(&mut ann);
    }
    no_alarm(&daemon);
}

#[test]
fn o1_the_last_rows_are_written_though_the_connections_have_gone() {
    needs!(MariaDb);
    let (mut server, database) = own();
    for way in ["killed", "restarted"] {
        let mut daemon = Daemon::start(&database, &Options::new());
        if way == "killed" {
            kill_all(&mut server.admin());
        } else {
            server.stop();
            server.start();
        }
        assert!(daemon.stop().success());
        let status = setting(&mut database.conn(), "chat_websocket_status");
        assert_eq!(
            status.as_deref(),
            Some("stopped"),
            "{way}\n{}",
            daemon.log()
        );
    }
}
