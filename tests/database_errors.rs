//! What an error of the database means: wrong with one message, passing by itself, or a matter of configuration.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place};
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::fake_mysql::{FakeMysql, Reply};
use crate::support::json::Json;
use crate::support::mariadb::{Database, Server, kill_all};
use crate::support::ops::{seeded, set};
use crate::support::ws::Client;
use crate::support::{seed, wait};

/// Starts a daemon that has to end with 78 (one that has waited for its database in vain ends with 69); what it says.
fn refuses_to_start(database: &Database, options: &Options) -> String {
    let install = Install::new(database, options);
    let mut daemon = Daemon::spawn(install.clone(), options);
    let status = daemon.wait_exit(wait::LIMIT);
    let said = daemon.stderr();
    assert_eq!(status.code(), Some(78), "{said}");
    let check = install
        .command("check", &[])
        .envs(options.environment())
        .output();
    let check = String::from_utf8_lossy(&check.expect("check runs").stdout).into_owned();
    for text in [&said, &check] {
        for word in ["Error {", "DriverError", "CodecError", "IoError", "panic"] {
            assert!(!text.contains(word), "D12: {text}");
        }
    }
    format!("{said}\n{check}")
}

#[test]
fn k5_words_for_text_that_the_server_refuses_are_configuration() {
    needs!(MariaDb);
    let (database, _conn) = seeded();
    for (charset, collation) in [
        ("utf8", "utf8mb4_unicode_ci"),
        ("klingon", "utf8mb4_unicode_ci"),
        ("utf8mb4", "utf8mb4_klingon_ci"),
    ] {
        let options = Options::new()
            .env("DB_CHARSET", charset)
            .env("DB_COLLATION", collation);
        let said = refuses_to_start(&database, &options);
        assert_eq!(
            said.matches("correct DB_CHARSET or DB_COLLATION").count(),
            2,
            "{said}"
        );
    }
}

#[test]
fn o5_what_waiting_does_not_change_ends_a_start_with_its_own_sentence() {
    needs!(MariaDb);
    let words = |code, state, remedy| (Reply::Error(code, state, "in its own words"), remedy);
    for (reply, remedy) in [
        words(1044, "42000", "rights on that database"),
        words(1045, "28000", "or set DB_SSL_MODE"),
        words(1049, "42000", "rights on that database"),
        words(1115, "42000", "correct DB_CHARSET"),
        words(1129, "HY000", "FLUSH HOSTS"),
        words(1130, "HY000", "come from this machine"),
        words(1142, "42000", "grant the database user"),
        words(1253, "42000", "correct DB_CHARSET"),
        words(1273, "HY000", "correct DB_CHARSET"),
        words(1290, "HY000", "takes writes"),
        words(1231, "42000", "correct DB_CHARSET"),
        words(1698, "28000", "give the database user a password"),
        words(1862, "HY000", "new password"),
        words(3118, "HY000", "unlock the database user"),
        words(4151, "HY000", "unlock the database user"),
        words(3955, "HY000", "unlock the database user"),
        words(4150, "HY000", "unlock the database user"),
        words(3159, "HY000", "DB_SSL_MODE"),
        (Reply::NoGreeting(1129, "in its own words"), "FLUSH HOSTS"),
        (
            Reply::NoGreeting(1130, "in its own words"),
            "come from this machine",
        ),
        words(1251, "08004", "caching_sha2_password"),
        (
            Reply::Switch("authentication_kerberos_client"),
            "caching_sha2_password",
        ),
        (
            Reply::Switch("mysql_clear_password"),
            "caching_sha2_password",
        ),
        (Reply::Switch("sha256_password"), "caching_sha2_password"),
        (Reply::Switch("client_ed25519"), "logs in by ed25519"),
    ] {
        let server = FakeMysql::start("127.0.0.1", reply.clone());
        let (mut database, _conn) = seeded();
        database.port = server.port;
        let said = refuses_to_start(&database, &Options::new());
        assert!(said.matches(remedy).count() >= 2, "{reply:?}: {said}");
    }
}

#[test]
fn o5_an_account_that_may_not_write_and_a_server_that_does_not_are_configuration() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let mut admin = server.admin();
    for statement in [
        "CREATE USER 'reader'@'%' IDENTIFIED BY 'reader'".to_owned(),
        format!("GRANT SELECT ON {}.* TO 'reader'@'%'", database.name),
    ] {
        admin.query_drop(statement).expect("make the account");
    }
    let options = Options::new()
        .env("DB_USERNAME", "reader")
        .env("DB_PASSWORD", "reader");
    let said = refuses_to_start(&database, &options);
    assert!(
        said.contains("ERROR 1142") && said.contains("grant the database user"),
        "{said}"
    );
    admin
        .query_drop("SET GLOBAL read_only = 1")
        .expect("a standby");
    let said = refuses_to_start(&database, &Options::new());
    assert!(
        said.contains("ERROR 1290") && said.contains("takes writes"),
        "{said}"
    );
}

/// An account of the test's own with all rights on this database; of what this server cannot have there is none.
fn account(server: &Server, database: &Database, name: &str, made: &str) -> Option<Options> {
    let mut admin = server.admin();
    let create = format!("CREATE USER '{name}'@'%' {made}");
    if let Err(error) = admin.query_drop(&create) {
        println!("left out: {create}: {error}");
        return None;
    }
    let grant = format!("GRANT ALL ON {}.* TO '{name}'@'%'", database.name);
    admin.query_drop(grant).expect("rights");
    Some(
        Options::new()
            .env("DB_USERNAME", name)
            .env("DB_PASSWORD", "password"),
    )
}

#[test]
fn o5_accounts_that_may_not_log_in_end_a_start_with_the_reason() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    // What a server has as a library beside it, if it has it.
    for install in [
        "INSTALL SONAME 'auth_ed25519'",
        "INSTALL SONAME 'auth_parsec'",
        "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
    ] {
        let _ = server.admin().query_drop(install);
    }
    for (name, made, words) in [
        (
            "old",
            "IDENTIFIED BY 'password' PASSWORD EXPIRE",
            "a new password",
        ),
        ("locked", "IDENTIFIED BY 'password' ACCOUNT LOCK", "unlock"),
        ("other", "IDENTIFIED BY 'another'", "correct DB_DATABASE"),
        (
            "by_socket",
            "IDENTIFIED VIA unix_socket",
            "give the database user a password",
        ),
        ("by_socket_8", "IDENTIFIED WITH auth_socket", "ERROR"),
        (
            "by_curve",
            "IDENTIFIED VIA ed25519 USING PASSWORD('password')",
            "logs in by ed25519",
        ),
        (
            "by_parsec",
            "IDENTIFIED VIA parsec USING PASSWORD('password')",
            "logs in by parsec",
        ),
        (
            "sha256",
            "IDENTIFIED WITH sha256_password BY 'password'",
            "logs in by sha256_password",
        ),
    ] {
        if let Some(options) = account(&server, &database, name, made) {
            let said = refuses_to_start(&database, &options);
            assert!(said.contains(words), "{name}: {said}");
        }
    }
}

#[test]
fn k3_accounts_with_a_password_of_any_usual_kind_log_in() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    for (name, made, password) in [
        (
            "native",
            "IDENTIFIED WITH mysql_native_password BY 'password'",
            "password",
        ),
        (
            "via",
            "IDENTIFIED VIA mysql_native_password USING PASSWORD('password')",
            "password",
        ),
        (
            "sha2",
            "IDENTIFIED WITH caching_sha2_password BY 'password'",
            "password",
        ),
        (
            "sha2_empty",
            "IDENTIFIED WITH caching_sha2_password BY ''",
            "",
        ),
        ("none", "IDENTIFIED BY ''", ""),
        (
            "strange",
            "IDENTIFIED BY 'pä$$ \"word\" #;'",
            "pä$$ \"word\" #;",
        ),
    ] {
        let Some(options) = account(&server, &database, name, made) else {
            continue;
        };
        let options = options.env("DB_PASSWORD", password);
        // Nothing of the password is remembered by the server before the first log-in, and later ones are shorter.
        for _ in 0..2 {
            let mut daemon = Daemon::start(&database, &options);
            daemon.login(1).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert!(daemon.stop().success());
        }
    }
}

#[test]
fn k7_a_server_that_has_no_connection_left_is_waited_for_and_the_reason_is_said() {
    needs!(MariaDb);
    let server = Server::with_arguments(&["--max-connections=10".to_owned()]);
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let mut held: Vec<Conn> = (0..10).map(|_| database.conn()).collect();
    let install = Install::new(&database, &Options::new());
    let check = install.run("check", &[]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("ERROR 1040") && check.contains("raise max_connections"),
        "{check}"
    );
    let mut daemon = Daemon::spawn(install, &Options::new());
    daemon.await_log("waiting for the database");
    held.clear();
    daemon.await_listening();
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    let answer = ann.ask(Place::Channel(1)).unwrap();
    assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
}

#[test]
fn k7_an_account_that_is_shut_out_while_running_is_an_outage_until_it_is_let_in_again() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    let mut admin = server.admin();
    // Its password is changed behind its back, and its connections end.
    for statement in [
        "ALTER USER 'helpdesk'@'127.0.0.1' IDENTIFIED BY 'another'",
        "ALTER USER 'helpdesk'@'localhost' IDENTIFIED BY 'another'",
    ] {
        admin.query_drop(statement).expect("another password");
    }
    kill_all(&mut admin);
    let answer = ann.ask(Place::Channel(1)).unwrap();
    let unavailable = Answer::Refused("database_unavailable".to_owned());
    assert_eq!(answer, Some(unavailable));
    daemon.await_log("the database is not available");
    for statement in [
        "ALTER USER 'helpdesk'@'127.0.0.1' IDENTIFIED BY 'helpdesk-password'",
        "ALTER USER 'helpdesk'@'localhost' IDENTIFIED BY 'helpdesk-password'",
    ] {
        admin.query_drop(statement).expect("the old password");
    }
    let stored = wait::until(wait::LIMIT, || {
        let answer = ann.ask(Place::Channel(1)).unwrap();
        matches!(answer, Some(Answer::Stored(_))).then_some(())
    });
    assert!(stored.is_some(), "{}", daemon.log());
}

#[test]
fn k7_one_message_that_a_trigger_a_key_or_a_column_refuses_costs_no_other_anything() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    for statement in [
        "ALTER TABLE chat_messages MODIFY body_text VARCHAR(40) NOT NULL, \
         ADD letters INT GENERATED ALWAYS AS (CHAR_LENGTH(body_text)) STORED, ADD once VARCHAR(40) NULL UNIQUE, \
         ADD other INT UNSIGNED NULL, ADD FOREIGN KEY (other) REFERENCES agents (id)",
        "CREATE TRIGGER refusing BEFORE INSERT ON chat_messages FOR EACH ROW BEGIN \
         IF NEW.body_text LIKE 'trigger%' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'secret words'; END IF; \
         IF NEW.body_text LIKE 'key%' THEN SET NEW.once = 'secret words'; END IF; \
         IF NEW.body_text LIKE 'other%' THEN SET NEW.other = 999999; END IF; END",
    ] {
        conn.query_drop(statement).expect("a table of its own kind");
    }
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    let mut bob = Participant::login(daemon.port(), 2).unwrap();
    send(&mut ann, "key 1");
    ann.until_type("chat.channel.message.created").unwrap();
    let long = "long ".repeat(20);
    for (body, code) in [
        ("trigger", "internal"),
        ("key 2", "internal"),
        ("other", "internal"),
        (&long, "message_too_large"),
    ] {
        send(&mut ann, body);
        bob.say_many(Place::Channel(1), 5);
        bob.await_answers().unwrap();
        let refused = ann.until_type("error").unwrap();
        assert_eq!(refused.need("code").str(), Some(code), "{body}: {refused}");
    }
    let all_stored =
        |one: &crate::support::chat::Sent| matches!(one.answer, Some(Answer::Stored(_)));
    assert!(bob.sent.iter().all(all_stored));
    let log = daemon.log();
    assert!(
        !log.contains("secret words") && !log.contains("not available"),
        "S14: {log}"
    );
}

/// Makes each message that is stored fail in this way for so long.
fn failing(database: &Database, number: u16, state: &str, lasting: Duration) {
    let until = lasting.as_secs_f64();
    let trigger = format!(
        "CREATE TRIGGER failing BEFORE INSERT ON chat_messages FOR EACH ROW BEGIN \
         IF NOW(3) < (SELECT MAX(until) FROM failing_until) THEN \
         SIGNAL SQLSTATE '{state}' SET MYSQL_ERRNO = {number}, MESSAGE_TEXT = 'secret words'; END IF; END"
    );
    let mut conn = database.conn();
    for statement in [
        "CREATE TABLE IF NOT EXISTS failing_until (until DATETIME(3))",
        "DROP TRIGGER IF EXISTS failing",
        &trigger,
        "DELETE FROM failing_until",
        &format!("INSERT INTO failing_until SELECT NOW(3) + INTERVAL {until} SECOND"),
    ] {
        conn.query_drop(statement).expect("a failing table");
    }
}

#[test]
fn k7_what_passes_by_itself_is_tried_again_until_it_has_passed() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    for (number, state) in [
        (1047, "08S01"),
        (1053, "08S01"),
        (1158, "08S01"),
        (1021, "HY000"),
        (1040, "08004"),
        (1114, "HY000"),
        (1226, "42000"),
        (1297, "HY000"),
        (1836, "HY000"),
        (1927, "70100"),
        (2006, "HY000"),
        (3572, "HY000"),
        (1203, "42000"),
        (1213, "40001"),
        (1180, "HY000"),
        (1205, "HY000"),
        (1290, "HY000"),
        (1317, "70100"),
        (1412, "HY000"),
        (1615, "HY000"),
        (1792, "25006"),
        (1969, "70100"),
        (2013, "HY000"),
        (3024, "HY000"),
        (3032, "HY000"),
        (4031, "HY000"),
        (9001, "HY000"),
    ] {
        failing(&database, number, state, Duration::from_millis(300));
        let answer = ann.ask(Place::Channel(1)).unwrap();
        assert!(
            matches!(answer, Some(Answer::Stored(_))),
            "{number}: {answer:?}"
        );
    }
    assert!(
        !daemon.log().contains("secret words"),
        "S14: {}",
        daemon.log()
    );
}

#[test]
fn k7_s14_what_is_wrong_with_one_message_is_refused_at_once_and_not_said_aloud() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = Participant::login(daemon.port(), 1).unwrap();
    for (number, state, code) in [
        (1366, "22007", "internal"),
        (1062, "23000", "internal"),
        (1264, "22003", "internal"),
        (3105, "HY000", "internal"),
        (3819, "HY000", "internal"),
        (1118, "42000", "message_too_large"),
        (1364, "HY000", "internal"),
        (1644, "45000", "internal"),
        (1452, "23000", "internal"),
        (1406, "22001", "message_too_large"),
        (1153, "08S01", "message_too_large"),
    ] {
        failing(&database, number, state, Duration::from_secs(60));
        // If it were tried again until its deadline, the answer would be that the database is not available.
        let answer = ann.ask(Place::Channel(1)).unwrap();
        assert_eq!(answer, Some(Answer::Refused(code.to_owned())), "{number}");
    }
    let log = daemon.log();
    assert!(
        !log.contains("secret words") && !log.contains("not available"),
        "S14: {log}"
    );
}

fn send(client: &mut Client, body: &str) {
    let event = [
        ("type", "chat.channel.message.send".into()),
        ("channel_id", 1.into()),
        ("body", body.into()),
    ];
    client.send(&Json::object(event).to_string());
}

#[test]
fn k7_a_message_larger_than_a_packet_is_refused_at_once_and_others_notice_nothing() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    set(&mut conn, "chat_max_message_length", "70000");
    server
        .admin()
        .query_drop("SET GLOBAL max_allowed_packet = 65536")
        .expect("small packets");
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    let mut bob = Participant::login(daemon.port(), 2).unwrap();
    for _ in 0..5 {
        send(&mut ann, &"y".repeat(60_000));
        bob.say_many(Place::Channel(1), 5);
        bob.await_answers().unwrap();
        let refused = ann.until_type("error").unwrap();
        assert_eq!(
            refused.need("code").str(),
            Some("message_too_large"),
            "{refused}"
        );
    }
    let all_stored =
        |one: &crate::support::chat::Sent| matches!(one.answer, Some(Answer::Stored(_)));
    assert!(bob.sent.iter().all(all_stored));
    let log = daemon.log();
    assert!(!log.contains("not available"), "{log}");
    let check = daemon.install.run("check", &[]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("max_allowed_packet is 65536 bytes"),
        "{check}"
    );
}

#[test]
fn s6_a_batch_whose_html_is_larger_than_a_packet_is_stored_in_parts() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    server
        .admin()
        .query_drop("SET GLOBAL max_allowed_packet = 1048576")
        .expect("a packet of 1 MiB");
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    let mut bob = Participant::login(daemon.port(), 2).unwrap();
    // Mentions, each of which becomes ten times as long.
    let body = "@a1 ".repeat(590);
    for _ in 0..60 {
        send(&mut ann, &body);
    }
    for _ in 0..5 {
        let answer = bob.ask(Place::Channel(1)).unwrap();
        assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
    }
}

#[test]
fn o6_a_database_that_refuses_writes_is_seen_in_the_health() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let health = || {
        let mut client = Client::open(daemon.port());
        client.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let status = client.response().unwrap().status();
        let body = client.rest().unwrap();
        (status, String::from_utf8(body).expect("UTF-8"))
    };
    assert_eq!(health().0, 200);
    let mut admin = server.admin();
    admin
        .query_drop("SET GLOBAL read_only = 1")
        .expect("a standby");
    let seen = wait::until(wait::LIMIT, || {
        let (status, body) = health();
        (status == 503 && body.contains("ERROR 1290")).then_some(())
    });
    assert!(seen.is_some(), "{:?}", health());
    admin
        .query_drop("SET GLOBAL read_only = 0")
        .expect("a primary again");
    let well = wait::until(wait::LIMIT, || (health().0 == 200).then_some(()));
    assert!(well.is_some(), "{:?}", health());
}
