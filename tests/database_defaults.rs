//! A server with unusual defaults: the service sets its session's own. Also spellings of a host, and accounts with few
//! connections.

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database, Server};
use crate::support::ops::{self, set, setting};
use crate::support::ws::Client;
use crate::support::{jwt, seed, wait};

fn ask(client: &mut Client, event: &str, answer: &str) -> Json {
    client.send(event);
    let answered = client.until_type(answer).unwrap();
    assert_eq!(answered.get("code"), None, "{event}: {answered}");
    answered
}

fn one(conn: &mut Conn, query: &str) -> Option<String> {
    conn.query_first(query).expect("a query of the test")
}

/// A connection of the test's own that goes by none of the server's defaults.
fn own_session(database: &Database) -> Conn {
    let mut conn = database.conn();
    // MariaDB's limit and MySQL's.
    for limit in ["max_statement_time", "max_execution_time"] {
        let _ = conn.query_drop(format!("SET SESSION {limit} = 0"));
    }
    for statement in [
        "SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci",
        "SET SESSION autocommit = 1, SESSION sql_mode = '', SESSION completion_type = 0, SESSION wait_timeout = 600, \
         SESSION sql_safe_updates = 0, SESSION sql_big_selects = 1, SESSION sql_select_limit = 18446744073709551615",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
    ] {
        conn.query_drop(statement).expect("the test's own session");
    }
    conn
}

/// Everything that rests on a session: what is sent is stored as it is shown, markers and heartbeat are seen by others,
/// and what others write is seen.
fn serves_in_full(database: &Database, options: &Options) {
    let mut conn = own_session(database);
    seed::reset(&mut conn);
    let mut daemon = Daemon::start(database, options);
    let mut ann = daemon.login(1).expect("login");
    let mut bob = daemon.login(2).expect("login");
    let body = r"back\\slash 'quote' \u0022 smile 🙂 é";
    let sent = format!(r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{body}"}}"#);
    let shown = ask(&mut ann, &sent, "chat.channel.message.created");
    let shown = shown
        .need("message")
        .need("body_text")
        .str()
        .expect("a body")
        .to_owned();
    let id = "SELECT CAST(MAX(id) AS CHAR) FROM chat_messages";
    let id = one(&mut conn, id).expect("a message");
    let stored = one(
        &mut conn,
        &format!("SELECT body_text FROM chat_messages WHERE id = {id}"),
    );
    assert_eq!(stored.as_deref(), Some(shown.as_str()));
    bob.until_type("chat.channel.message.created").unwrap();
    let read = format!(r#"{{"type":"chat.read","channel_id":1,"last_read_message_id":{id}}}"#);
    ask(&mut bob, &read, "chat.read.updated");
    let marker = "SELECT CAST(last_read_message_id AS CHAR) FROM chat_message_reads WHERE agent_id = 2 AND channel_id = 1";
    assert_eq!(one(&mut conn, marker).as_deref(), Some(id.as_str()));
    ask(
        &mut ann,
        r#"{"type":"chat.history","channel_id":1}"#,
        "chat.history",
    );
    ask(&mut ann, r#"{"type":"chat.unread"}"#, "chat.unread");
    let mut back = Client::connect(daemon.port()).unwrap();
    back.send(&format!(
        r#"{{"type":"auth","token":"{}","after_id":0}}"#,
        jwt::good(3)
    ));
    back.until_type("chat.resumed").unwrap();
    // The heartbeat is seen, and its rows are not locked.
    assert_eq!(
        setting(&mut conn, "chat_websocket_status").as_deref(),
        Some("running")
    );
    set(&mut conn, "chat_websocket_status", "running");
    conn.query_drop("UPDATE agents SET is_active = 0 WHERE id = 2")
        .expect("an update");
    let (_, end) = bob.until_end().unwrap();
    assert_eq!(end, Some(4403));
    set(&mut conn, "chat_enabled", "0");
    ops::await_look(&daemon, &mut conn);
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"more"}"#);
    let refused = ann.until_type("error").unwrap();
    assert_eq!(
        refused.need("code").str(),
        Some("chat_disabled"),
        "{refused}"
    );
    set(&mut conn, "chat_websocket_stop_requested", "1");
    assert!(daemon.wait_exit(wait::LIMIT).success());
    assert_eq!(
        setting(&mut conn, "chat_websocket_status").as_deref(),
        Some("stopped")
    );
    let log = daemon.log();
    assert!(!log.contains("not available"), "{log}");
    let check = daemon
        .install
        .command("check", &[])
        .envs(options.environment())
        .output();
    let check = String::from_utf8_lossy(&check.expect("check runs").stdout).into_owned();
    let is_content = check.contains("all tables and columns are there")
        && check.contains("may write what the service writes")
        && !check.contains("missing rows");
    assert!(is_content, "O3: {check}");
}

/// What servers have been seen with, and what they might be. Those of one line do not hide each other; a name or a value
/// that a server does not know is left out there.
const DEFAULTS: [&[(&str, &str)]; 16] = [
    &[("autocommit", "0")],
    &[("init_connect", "'SET autocommit=0'")],
    &[("sql_mode", "''"), ("completion_type", "2")],
    &[(
        "sql_mode",
        "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT'",
    )],
    &[(
        "sql_mode",
        "'TRADITIONAL,ONLY_FULL_GROUP_BY,PAD_CHAR_TO_FULL_LENGTH'",
    )],
    &[(
        "sql_mode",
        "'EMPTY_STRING_IS_NULL,IGNORE_SPACE,HIGH_NOT_PRECEDENCE'",
    )],
    &[("sql_mode", "'ORACLE'"), ("lc_messages", "'de_DE'")],
    &[
        ("tx_isolation", "'SERIALIZABLE'"),
        ("character_set_server", "latin1"),
    ],
    &[
        ("tx_isolation", "'READ-UNCOMMITTED'"),
        ("character_set_server", "utf8mb3"),
    ],
    &[
        ("tx_isolation", "'READ-COMMITTED'"),
        ("collation_server", "utf8mb4_uca1400_ai_ci"),
    ],
    &[
        ("collation_server", "utf8mb4_0900_ai_ci"),
        ("default_collation_for_utf8mb4", "utf8mb4_general_ci"),
    ],
    &[
        ("collation_server", "utf8mb4_bin"),
        ("character_set_collations", "'utf8mb4=utf8mb4_bin'"),
    ],
    &[("tx_read_only", "1")],
    &[
        ("group_concat_max_len", "4"),
        ("sql_select_limit", "1"),
        ("max_join_size", "1"),
        ("max_sort_length", "8"),
        ("max_recursive_iterations", "1"),
        ("max_error_count", "0"),
    ],
    &[
        ("max_statement_time", "0.001"),
        ("max_execution_time", "1"),
        ("wait_timeout", "2"),
        ("interactive_timeout", "2"),
        ("idle_transaction_timeout", "1"),
        ("net_read_timeout", "1"),
        ("net_write_timeout", "1"),
        ("innodb_lock_wait_timeout", "1"),
        ("lock_wait_timeout", "1"),
    ],
    &[
        ("sql_safe_updates", "1"),
        ("sql_auto_is_null", "1"),
        ("foreign_key_checks", "0"),
        ("unique_checks", "0"),
        ("low_priority_updates", "1"),
        ("old_mode", "'UTF8_IS_UTF8MB3,NO_PROGRESS_INFO'"),
        ("innodb_snapshot_isolation", "1"),
    ],
];

#[test]
fn k4_the_defaults_of_a_server_do_not_matter() {
    needs!(MariaDb, Time);
    let server = Server::own();
    let database = server.fresh();
    let mut admin = server.admin();
    for limit in ["max_statement_time", "max_execution_time"] {
        let _ = admin.query_drop(format!("SET SESSION {limit} = 0"));
    }
    for line in DEFAULTS {
        let mut known = Vec::new();
        for (name, hostile) in line {
            // MySQL 8 and MariaDB 11 call some of these by another name.
            let names = [(*name).to_owned(), name.replace("tx_", "transaction_")];
            let set = names.iter().find(|name| {
                let set = format!("SET GLOBAL {name} = {hostile}");
                admin.query_drop(set).is_ok()
            });
            match set {
                Some(name) => known.push(name.clone()),
                None => println!("left out: {name} = {hostile}"),
            }
        }
        if known.is_empty() {
            continue;
        }
        println!("{}", known.join(", "));
        serves_in_full(&database, &Options::new());
        for name in known {
            let usual = format!("SET GLOBAL {name} = DEFAULT");
            admin.query_drop(usual).expect("the usual default");
        }
    }
}

#[test]
fn k4_a_server_that_stores_names_of_tables_in_small_letters_is_served() {
    needs!(MariaDb);
    if mariadb::is_mysql() {
        return println!("left out: MySQL takes this where its data is made, and nowhere else");
    }
    let server = Server::with_arguments(&["--lower-case-table-names=1".to_owned()]);
    let database = server.fresh();
    let name = database.name.to_uppercase();
    serves_in_full(&database, &Options::new().dotenv("DB_DATABASE", &name));
    let options = Options::new().dotenv("DB_DATABASE", &name);
    let check = Install::new(&database, &options).run("check", &[]);
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(
        check.contains("all tables and columns are there"),
        "{check}"
    );
}

#[test]
fn k4_an_account_with_the_least_rights_is_enough() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    let mut admin = server.admin();
    admin
        .query_drop("CREATE USER 'least'@'127.0.0.1' IDENTIFIED BY 'least'")
        .expect("make the account");
    for (table, rights) in [
        ("settings", "SELECT, UPDATE"),
        ("agents", "SELECT"),
        ("tickets", "SELECT"),
        ("chat_channels", "SELECT"),
        ("chat_channel_members", "SELECT"),
        ("chat_threads", "SELECT, UPDATE"),
        ("chat_messages", "SELECT, INSERT, UPDATE"),
        ("chat_message_mentions", "SELECT, INSERT"),
        ("chat_message_reads", "SELECT, INSERT, UPDATE"),
        ("chat_channel_notification_preferences", "SELECT"),
        ("agent_notifications", "SELECT, INSERT, UPDATE, DELETE"),
        ("agent_push_subscriptions", "SELECT, UPDATE, DELETE"),
        ("audit_log", "SELECT, INSERT"),
    ] {
        let grant = format!(
            "GRANT {rights} ON {}.{table} TO 'least'@'127.0.0.1'",
            database.name
        );
        admin.query_drop(grant).expect("grant a right");
    }
    let options = Options::new()
        .env("DB_USERNAME", "least")
        .env("DB_PASSWORD", "least");
    serves_in_full(&database, &options);
    let check = Install::new(&database, &options)
        .command("check", &[])
        .envs(options.environment())
        .output();
    let check = String::from_utf8_lossy(&check.expect("check runs").stdout).into_owned();
    assert!(
        check.contains("may write what the service writes"),
        "{check}"
    );
}

#[test]
fn k4_tables_of_any_row_format_hold_what_is_sent() {
    needs!(MariaDb);
    let server = Server::own();
    for format in ["REDUNDANT", "COMPACT", "COMPRESSED"] {
        let database = server.fresh();
        let mut conn = database.conn();
        let alter = format!("ALTER TABLE chat_messages ROW_FORMAT={format}");
        conn.query_drop(alter).expect("another format");
        serves_in_full(&database, &Options::new());
    }
}

#[test]
fn k4_other_words_for_text_in_the_configuration_lose_no_character() {
    needs!(MariaDb);
    let server = Server::own();
    let mut admin = server.admin();
    admin
        .query_drop("SET GLOBAL sql_mode = ''")
        .expect("a default");
    for (charset, collation) in [("utf8", "utf8_unicode_ci"), ("latin1", "latin1_swedish_ci")] {
        let options = Options::new()
            .env("DB_CHARSET", charset)
            .env("DB_COLLATION", collation);
        serves_in_full(&server.fresh(), &options);
    }
}

#[test]
fn k4_what_a_column_cannot_hold_is_refused_and_check_names_it() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    server
        .admin()
        .query_drop("SET GLOBAL sql_mode = ''")
        .expect("a default");
    conn.query_drop(
        "ALTER TABLE chat_messages MODIFY body_text TEXT CHARACTER SET latin1 NOT NULL",
    )
    .expect("a narrow column");
    conn.query_drop(
        "ALTER TABLE agent_notifications MODIFY title VARCHAR(200) CHARACTER SET utf8mb3",
    )
    .expect("another");
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    let mut bob = daemon.login(2).expect("login");
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"smile 🙂"}"#);
    ann.until_type("error").unwrap();
    let (heard, _) = bob.ping_barrier().unwrap();
    let is_message = |text: &str| text.contains("message.created");
    assert!(
        !heard
            .iter()
            .filter_map(|frame| frame.text())
            .any(is_message),
        "{heard:?}"
    );
    let log = daemon.log();
    assert!(!log.contains("smile"), "S14: {log}");
    assert!(log.contains("a column cannot hold a character"), "{log}");
    let output = daemon.install.run("check", &[]);
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.contains("chat_messages.body_text has the character set latin1")
            && output.contains("agent_notifications.title has the character set utf8"),
        "{output}"
    );
}

#[test]
fn k3_a_host_may_be_spelt_as_php_takes_it() {
    needs!(MariaDb);
    let (database, _conn) = ops::seeded();
    let port = database.port.to_string();
    let socket = database.socket.display().to_string();
    for (host, configured, socket) in [
        (format!("127.0.0.1:{port}"), port.as_str(), None),
        (format!("127.0.0.1:{port}"), "1", None),
        (format!("p:127.0.0.1:{port}"), "", None),
        (format!("p:[::ffff:127.0.0.1]:{port}"), "0", None),
        (socket.clone(), "", None),
        (String::new(), "", Some(socket.as_str())),
        (format!("127.1:{port}"), "", None),
        (format!("localhost:{port}"), "", None),
        (format!("[::ffff:127.0.0.1]:{port}"), "", None),
        ("::ffff:127.0.0.1".to_owned(), port.as_str(), None),
        ("LOCALHOST".to_owned(), "1", Some(socket.as_str())),
        (format!("localhost:{socket}"), "1", None),
    ] {
        let options = Options::new()
            .dotenv("DB_HOST", &host)
            .dotenv("DB_PORT", configured)
            .dotenv("DB_SOCKET", socket.unwrap_or_default());
        let mut daemon = Daemon::start(&database, &options);
        daemon.login(1).unwrap_or_else(|e| panic!("{host}: {e:?}"));
        assert!(daemon.stop().success());
    }
}

#[test]
fn k6_an_account_with_few_connections_is_enough_and_one_is_left_to_the_helpdesk() {
    needs!(MariaDb);
    let server = Server::own();
    for most in 1..=5 {
        let database = server.fresh();
        seed::reset(&mut database.conn());
        let user = format!("few_{most}");
        let mut admin = server.admin();
        for statement in [
            format!(
                "CREATE USER '{user}'@'%' IDENTIFIED BY 'few' WITH MAX_USER_CONNECTIONS {most}"
            ),
            format!("GRANT ALL ON {}.* TO '{user}'@'%'", database.name),
        ] {
            admin.query_drop(statement).expect("make the account");
        }
        let options = Options::new()
            .env("DB_USERNAME", &user)
            .env("DB_PASSWORD", "few");
        let mut daemon = Daemon::start(&database, &options);
        let mut ann = daemon.login(1).expect("login");
        for _ in 0..3 {
            let send = r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#;
            ask(&mut ann, send, "chat.channel.message.created");
            let read = r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#;
            ask(&mut ann, read, "chat.read.updated");
            ask(
                &mut ann,
                r#"{"type":"chat.history","channel_id":1}"#,
                "chat.history",
            );
            ask(&mut ann, r#"{"type":"chat.unread"}"#, "chat.unread");
        }
        if most > 1 {
            let php = OptsBuilder::new()
                .socket(Some(database.socket.display().to_string()))
                .user(Some(&user))
                .pass(Some("few"));
            Conn::new(php).unwrap_or_else(|e| panic!("the helpdesk, of {most}: {e}"));
        }
        let log = daemon.log();
        assert!(!log.contains("not available"), "{log}");
        assert_eq!(
            most < 4,
            log.contains(&format!("may have {most} connections")),
            "{log}"
        );
        assert!(daemon.stop().success());
    }
}

#[test]
fn k6_check_compares_the_connections_with_what_the_account_may_have() {
    needs!(MariaDb);
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let limit = "ALTER USER 'helpdesk'@'localhost' WITH MAX_USER_CONNECTIONS 3";
    server.admin().query_drop(limit).expect("a limit");
    let limit = "ALTER USER 'helpdesk'@'127.0.0.1' WITH MAX_USER_CONNECTIONS 3";
    server.admin().query_drop(limit).expect("a limit");
    let install = Install::new(&database, &Options::new());
    let output = install.run("check", &[]);
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.contains("this account may have 3"), "{output}");
}
