//! Replays the recordings of listen addresses, ports in use and unreachable databases (ops.json). Where the contract
//! differs from the recording, the exception states the reason.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use mysql::Conn;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::ops::{
    check_log, check_settings, ensure, pid_file, recorded, seeded, set, setting,
};
use crate::support::ws::Client;
use crate::support::{seed, wait, workers};

const STATUS: &str = "chat_websocket_status";

/// Values of `CHAT_WEBSOCKET_HOST` and `_PORT` that the recorded daemon tried, cut or counted over, and that the
/// contract calls an error, exit 78: an admin who mistyped a port is not helped by another one.
const REFUSED_IN_THE_ENVIRONMENT: [&str; 12] = [
    " 127.0.0.1",
    "::1",
    "127.0.0.1:9",
    "http://127.0.0.1",
    "127.0.0.1/x",
    "abc",
    "18095abc",
    "18095.9",
    " 18095",
    "-1",
    "70000",
    "65536",
];

/// A port in the recording, and one that is free here.
type Renamed = Vec<(String, String)>;

/// Ports that stand in for those of the recording, which may be taken here, perhaps by another run of this test.
fn stand_ins(conn: &mut Conn) -> Renamed {
    let ports = ["18090", "18093", "18094", "18095", "18096"];
    let renamed: Renamed = ports
        .map(|port| (port.to_owned(), mariadb::free_port().to_string()))
        .into();
    set(conn, "chat_websocket_port", &renamed[0].1);
    renamed
}

fn rename(text: &str, renamed: &Renamed) -> String {
    let ports = renamed.iter();
    ports.fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[test]
fn the_environment_says_where_to_listen_or_is_refused() {
    needs!(MariaDb);
    let recorded = recorded("listen");
    let rows = recorded.need("env").items();
    let refused = |row: &Json| {
        let values = row.need("env").entries();
        let mut refused = REFUSED_IN_THE_ENVIRONMENT.iter();
        refused.any(|r| values.iter().any(|(_, v)| v.str() == Some(r)))
    };
    let count = rows.iter().filter(|row| refused(row)).count();
    assert_eq!(count, REFUSED_IN_THE_ENVIRONMENT.len());
    let complaints = workers::run(rows.len(), seeded, |(database, conn), job| {
        let row = &rows[job];
        seed::reset(conn);
        let renamed = stand_ins(conn);
        let mut options = Options::new().port_as_configured();
        for (name, value) in row.need("env").entries() {
            let value = value.str().expect("a text");
            options = match refused(row) {
                true => options.env(name, value),
                false => options.env(name, &rename(value, &renamed)),
            };
        }
        let mut daemon = Daemon::spawn(Install::new(database, &options), &options);
        let outcome = match refused(row) {
            true => check_refused(&mut daemon, conn, row),
            false => check_listening(&mut daemon, conn, row, &renamed),
        };
        outcome.map_err(|e| format!("{row}: {e}\n{}", daemon.report()))
    });
    workers::judge("environments", rows.len(), &complaints);
}

/// Exit 78, a sentence that names the variable, and nothing touched.
fn check_refused(daemon: &mut Daemon, conn: &mut Conn, row: &Json) -> Result<(), String> {
    let status = daemon.wait_exit(wait::LIMIT);
    ensure(status.code() == Some(78), || status.to_string())?;
    let (name, _) = &row.need("env").entries()[0];
    ensure(daemon.stderr().contains(name.as_str()), || {
        "which variable?".to_owned()
    })?;
    ensure(setting(conn, STATUS).as_deref() == Some("stopped"), || {
        format!("status {:?}", setting(conn, STATUS))
    })?;
    ensure(pid_file(daemon).is_none(), || "a pid file".to_owned())
}

/// It listens where the recording says, or fails as the recording says.
fn check_listening(
    daemon: &mut Daemon,
    conn: &mut Conn,
    row: &Json,
    renamed: &Renamed,
) -> Result<(), String> {
    if let Some(code) = row.get("exit_code") {
        let status = daemon.wait_exit(wait::LIMIT);
        ensure(status.code().map(i64::from) == code.int(), || {
            status.to_string()
        })?;
        check_settings(conn, row.need("settings"), &[("<pid>", daemon.pid())])?;
        check_log(&daemon.log(), row.need("log"), renamed)?;
        return ensure(pid_file(daemon).is_none(), || "a pid file".to_owned());
    }
    let wanted = row.need("listens_on").items();
    let address = rename(wanted[0].str().expect("an address"), renamed);
    let says = wait::until(wait::LIMIT, || {
        let log = daemon.log();
        (log.contains("] listening on ") || log.contains("] failed to listen on ")).then_some(log)
    });
    let says = says.ok_or("neither listens nor fails")?;
    let fallen_back = says
        .lines()
        .filter(|line| line.contains("setting chat_websocket_"));
    let fallen_back: Vec<&str> = fallen_back.collect();
    let rest: String = says
        .lines()
        .filter(|line| !fallen_back.contains(line))
        .map(|line| format!("{line}\n"))
        .collect();
    if says.contains("failed to listen on") {
        // Ports that have no stand-in may be taken, or be root's alone; and not every machine has IPv6.
        let excused = address.ends_with(":1")
            || address.ends_with(":65535")
            || (address.starts_with('[') && TcpListener::bind("[::1]:0").is_err());
        return ensure(excused && says.contains(&address), || {
            "listens nowhere".to_owned()
        });
    }
    daemon.await_listening();
    check_log(&rest, row.need("log"), renamed)?;
    let mut client = Client::open_at(&address)
        .upgrade()
        .map_err(|e| format!("{e:?}"))?;
    client.auth(1).map_err(|e| format!("{e:?}"))?;
    daemon.check_life()
}

/// What the contract adds to the recording: a value that was passed over is worth a warning.
fn warnings(daemon: &Daemon, key: &str) -> usize {
    daemon.log().matches(&format!("setting {key} ")).count()
}

#[test]
fn the_settings_say_where_to_listen_or_are_passed_over_with_a_warning() {
    needs!(MariaDb);
    let recorded = recorded("listen");
    let hosts = recorded.need("settings_host").items();
    let ports = recorded.need("settings_port").items();
    let jobs = hosts.len() + ports.len();
    let complaints = workers::run(jobs, seeded, |(database, conn), job| {
        seed::reset(conn);
        let renamed = stand_ins(conn);
        let (key, row) = match hosts.get(job) {
            Some(row) => ("chat_websocket_host", row),
            None => ("chat_websocket_port", &ports[job - hosts.len()]),
        };
        let value = match row.need("value").str() {
            Some(text) => rename(text, &renamed).into(),
            None => Json::Null,
        };
        seed::set(conn, key, &value);
        let options = Options::new().port_as_configured();
        let mut daemon = Daemon::spawn(Install::new(database, &options), &options);
        let outcome = check_listening(&mut daemon, conn, row, &renamed).and_then(|()| {
            let passed_over = match row.get("listens_on") {
                Some(address) => !is_meant(value.str().unwrap_or_default(), address, &renamed),
                None => false,
            };
            ensure(warnings(&daemon, key) == usize::from(passed_over), || {
                format!("{} warnings", warnings(&daemon, key))
            })
        });
        outcome.map_err(|e| format!("{key} {row}: {e}\n{}", daemon.report()))
    });
    workers::judge("settings", jobs, &complaints);
}

/// Whether the daemon listens on what the setting says, white space and a number's tail aside.
fn is_meant(value: &str, addresses: &Json, renamed: &Renamed) -> bool {
    let address = rename(addresses.items()[0].str().expect("an address"), renamed);
    let (host, port) = address.rsplit_once(':').expect("host and port");
    let value = value.trim().to_lowercase();
    let names = ["localhost", "127.1"];
    value == host || names.contains(&value.as_str()) || value.starts_with(port)
}

#[test]
fn a_port_in_use_ends_the_start_and_is_free_again_at_once_after_a_stop() {
    needs!(MariaDb);
    let recorded = recorded("port");
    let (database, mut conn) = seeded();
    let port = mariadb::free_port();
    let options = Options::new().port(port);
    let mut first = Daemon::start(&database, &options);
    let row = recorded.need("port_in_use");
    let mut second = Daemon::spawn(Install::new(&database, &options), &options);
    let status = second.wait_exit(wait::LIMIT);
    assert_eq!(status.code().map(i64::from), row.need("exit_code").int());
    let renamed = [("18090".to_owned(), port.to_string())];
    check_log(&second.log(), row.need("log"), &renamed).unwrap();
    check_settings(&mut conn, row.need("settings"), &[("<pid>", second.pid())]).unwrap();
    assert_eq!(pid_file(&second), None);
    assert_eq!(Some(second.stdout().as_str()), row.need("stdout").str());
    // The recorded daemon said so only in its log; an admin at a terminal wants to know as well.
    assert!(
        second.stderr().contains(&port.to_string()),
        "{}",
        second.stderr()
    );

    let again = recorded.need("restart_at_once_with_connections_in_time_wait");
    assert_eq!(again.str(), Some("listens"));
    // The daemon closes first, so that its end of the connection is the one that waits.
    let clients = [first.login(1).unwrap(), first.login(2).unwrap()];
    assert_eq!(first.stop().code(), Some(0));
    let third = Daemon::start(&database, &options);
    assert_eq!(third.port(), port);
    drop(clients);
}

/// The recorded daemon failed at once with code 255 and a trace. The contract waits 30 s for a database that is
/// down, and gives each failure a code and a sentence.
#[test]
fn a_database_that_is_not_there_is_waited_for_and_one_that_refuses_is_not() {
    needs!(MariaDb);
    let recorded = recorded("db");
    let cases = recorded.need("at_start").items();
    let (database, _) = seeded();
    // Nothing else needs these workers: the one case of thirty seconds must not wait for the others.
    let complaints = workers::run(
        cases.len(),
        || (),
        |(), job| {
            let name = cases[job].need("case").str().expect("a name");
            let mut database = database.clone();
            let (code, limit) = match name {
                "nothing listens there" => {
                    database.port = mariadb::free_port();
                    (69, Duration::from_secs(60))
                }
                "wrong password" => {
                    database.password = "no-such-password";
                    (78, wait::LIMIT)
                }
                "no such database" => {
                    database.name = "helpdesk_none".to_owned();
                    (78, wait::LIMIT)
                }
                other => panic!("unknown case {other:?}"),
            };
            check_no_database(&database, code, limit).map_err(|e| format!("{name}: {e}"))
        },
    );
    workers::judge("databases", cases.len(), &complaints);
}

fn check_no_database(database: &Database, code: i32, limit: Duration) -> Result<(), String> {
    let mut daemon = Daemon::spawn(Install::new(database, &Options::new()), &Options::new());
    let status = daemon.wait_exit(limit);
    let report = daemon.report();
    ensure(status.code() == Some(code), || {
        format!("{status}\n{report}")
    })?;
    ensure(!report.contains(database.password), || {
        format!("a password\n{report}")
    })?;
    let names = match code {
        69 => ["DB_HOST", "DB_PORT"],
        _ => ["DB_DATABASE", "DB_PASSWORD"],
    };
    ensure(
        names.iter().all(|name| daemon.stderr().contains(name)),
        || format!("no remedy\n{report}"),
    )?;
    let tries = daemon.log().matches("waiting for the database").count();
    let expected = if code == 69 { 20..=31 } else { 0..=0 };
    ensure(expected.contains(&tries), || {
        format!("{tries} tries\n{report}")
    })?;
    ensure(pid_file(&daemon).is_none(), || "a pid file".to_owned())?;
    let refuses = TcpStream::connect(("127.0.0.1", database.port)).is_err();
    ensure(refuses == (code == 69), || {
        "another process took the port".to_owned()
    })
}
