//! Faults of the database.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::environment::Environment;
use super::faults::{Injected, LostConnections, pause, wait_out};
use super::participants::Progress;
use crate::random::Random;
use crate::support::{mariadb, seed, wait};

fn run(conn: &mut Conn, statement: &str) -> Result<(), String> {
    let done = conn.query_drop(statement);
    done.map_err(|e| format!("{statement}: {e}"))
}

/// How long the daemon waits for a lock of a row.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// In `/metrics`: calls that another transaction's lock held up for too long.
const CONFLICTS: &str = r#"andrea_chat_database_failures_total{kind="conflict"}"#;
/// Attempts at a deadlock: a transaction that waits for the notifications need not have written to a thread.
const TRIES: usize = 20;
/// What MariaDB says in its log of a table that cannot grow.
const FULL: &str = "is full";

pub fn kill(environment: &mut Environment, random: &mut Random) -> Injected {
    environment.server.kill();
    pause(random, 200);
    environment.server.start();
    Ok((LostConnections::None, 1))
}

pub fn restart(environment: &mut Environment) -> Injected {
    environment.server.stop();
    environment.server.start();
    Ok((LostConnections::None, 1))
}

pub fn freeze(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    environment.server.pause();
    let wait_out = wait_out(random, 500, progress);
    environment.server.resume();
    wait_out.map(|()| (LostConnections::None, 1))
}

pub fn read_only(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    let mut admin = environment.server.admin();
    run(&mut admin, "SET GLOBAL read_only = 1")?;
    let wait_out = wait_out(random, 500, progress);
    run(&mut admin, "SET GLOBAL read_only = 0")?;
    wait_out.map(|()| (LostConnections::None, 1))
}

pub fn read_lock(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    let mut admin = environment.server.admin();
    run(&mut admin, "FLUSH TABLES WITH READ LOCK")?;
    let wait_out = wait_out(random, 1500, progress);
    run(&mut admin, "UNLOCK TABLES")?;
    wait_out.map(|()| (LostConnections::None, 1))
}

/// Frees the table's reserved space: a small table grows page by page.
pub fn compact(environment: &Environment) {
    environment.tidy();
    seed::run(
        &mut environment.conn(),
        "ALTER TABLE chat_messages FORCE",
        vec![],
    );
}

/// Members send long messages, so that the table must grow. MariaDB may crash on a full disk; then it is started again.
pub fn fill_disk(
    environment: &mut Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let said = environment.server.log().matches(FULL).count();
    let disk = environment
        .server
        .disk()
        .ok_or("this database has no small disk")?;
    disk.fill();
    let wait_out = wait_out(random, 600, progress);
    disk.free();
    let is_recovered = progress.recovery();
    let mut has_crashed = false;
    wait::until(wait::LIMIT, || {
        if environment.server.has_ended() {
            has_crashed = true;
            environment.server.start();
        }
        (is_recovered() || has_crashed).then_some(())
    })
    .ok_or("with room again it stores nothing")?;
    let is_hit = has_crashed || environment.server.log().matches(FULL).count() > said;
    wait_out.map(|()| (LostConnections::None, u64::from(is_hit)))
}

pub fn kill_connections(
    environment: &Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    kill_those(environment, "", random, progress)
}

/// As a server or a proxy with a short idle timeout does.
pub fn kill_idle(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    kill_those(environment, "AND command = 'Sleep'", random, progress)
}

fn kill_those(
    environment: &Environment,
    which: &str,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let mut admin = environment.server.admin();
    let mut killed = 0;
    for _ in 0..1 + random.below(4) {
        let query = format!(
            "SELECT id FROM {} WHERE db = '{}' {which} ORDER BY id",
            mariadb::processlist(),
            environment.database.name
        );
        let ids: Vec<u64> = admin.query(query).map_err(|e| e.to_string())?;
        for id in ids {
            // It may have gone by itself.
            killed += u64::from(admin.query_drop(format!("KILL {id}")).is_ok());
        }
        progress.await_stored(1 + random.below(5))?;
    }
    Ok((LostConnections::None, killed))
}

/// Limits the account to a single connection, which is too few. The limit applies to new connections.
pub fn limit_connections(environment: &Environment, random: &mut Random) -> Injected {
    let mut admin = environment.server.admin();
    let who = format!(
        "'{}'@'{}'",
        environment.database.user, environment.database.host
    );
    let limit = |most: u32| format!("ALTER USER {who} WITH MAX_USER_CONNECTIONS {most}");
    run(&mut admin, &limit(1))?;
    environment.proxy.cut_all();
    pause(random, 1500);
    run(&mut admin, &limit(0))?;
    environment.proxy.cut_all();
    Ok((LostConnections::None, 1))
}

/// Packets have room for one message, but not for many.
pub fn shrink_packets(
    environment: &Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    reconnect_with(
        environment,
        &[("max_allowed_packet", "16384")],
        random,
        progress,
    )
}

/// Changes defaults that a session inherits unless it sets its own.
pub fn change_defaults(
    environment: &Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let isolation = match mariadb::is_mysql() {
        true => "transaction_isolation",
        false => "tx_isolation",
    };
    let defaults = [
        ("autocommit", "0"),
        ("completion_type", "2"),
        (
            "sql_mode",
            "'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT,STRICT_ALL_TABLES'",
        ),
        (isolation, "'SERIALIZABLE'"),
        ("sql_select_limit", "1"),
        ("sql_safe_updates", "1"),
        ("innodb_lock_wait_timeout", "300"),
    ];
    reconnect_with(environment, &defaults, random, progress)
}

/// New connections get these variables until some messages are stored.
fn reconnect_with(
    environment: &Environment,
    variables: &[(&str, &str)],
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let mut admin = environment.server.admin();
    for (name, value) in variables {
        run(&mut admin, &format!("SET GLOBAL {name} = {value}"))?;
    }
    environment.proxy.cut_all();
    let stored = progress.await_stored(1 + random.below(20));
    for (name, _) in variables {
        run(&mut admin, &format!("SET GLOBAL {name} = DEFAULT"))?;
    }
    environment.proxy.cut_all();
    stored.map(|()| (LostConnections::None, 1))
}

fn status(conn: &mut Conn, name: &str) -> u64 {
    let query = format!("SHOW GLOBAL STATUS LIKE '{name}'");
    let row: Option<(String, u64)> = conn.query_first(query).expect("ask for a status");
    row.map_or(0, |(_, value)| value)
}

/// How many deadlocks the server has found so far.
fn deadlocks(conn: &mut Conn) -> u64 {
    const OF_MYSQL: &str =
        "SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'";
    if !mariadb::is_mysql() {
        return status(conn, "Innodb_deadlocks");
    }
    let count: Option<u64> = conn.query_first(OF_MYSQL).expect("ask for a count");
    count.expect("MySQL counts them")
}

/// The daemon's transaction has written to a thread and waits for the notifications. The test's transaction holds those
/// and then asks for the thread. The test's has written more, so the server rolls back the daemon's.
pub fn deadlock(environment: &Environment) -> Injected {
    let mut admin = environment.server.admin();
    let mut conn = environment.conn();
    for _ in 0..TRIES {
        let before = deadlocks(&mut admin);
        let is_closed = close_cycle(&mut conn, &mut admin)?;
        let deadlocks = deadlocks(&mut admin) - before;
        // Otherwise the daemon held neither lock, or the server rolled back the test's transaction.
        if is_closed && deadlocks > 0 {
            return Ok((LostConnections::None, deadlocks));
        }
    }
    Ok((LostConnections::None, 0))
}

/// False where the server rolled back the test's transaction instead of the daemon's.
fn close_cycle(conn: &mut Conn, admin: &mut Conn) -> Result<bool, String> {
    let rows = ["('system','heavy','x',1)"; 200].join(", ");
    let heavy = format!(
        "INSERT INTO audit_log (actor_type, action, subject_type, subject_id) VALUES {rows}"
    );
    run(conn, "START TRANSACTION")?;
    run(conn, &heavy)?;
    let locked = conn.query_drop("SELECT id FROM agent_notifications FOR UPDATE");
    let mut is_closed = false;
    if locked.is_ok() {
        let mut is_waiting = || status(admin, "Innodb_row_lock_current_waits") > 0;
        let waited = wait::until(wait::LIMIT, || is_waiting().then_some(()));
        waited.ok_or("no transaction waits for the notifications")?;
        let close = "UPDATE chat_threads SET last_message_at = last_message_at WHERE id IN (1, 3)";
        is_closed = conn.query_drop(close).is_ok();
    }
    run(conn, "ROLLBACK")?;
    Ok(is_closed)
}

/// Holds the lock until the daemon's wait has timed out, and some time beyond.
pub fn lock(environment: &Environment, random: &mut Random) -> Injected {
    let mut conn = environment.conn();
    let is_locked = (0..TRIES).any(|_| {
        let lock = "SELECT id FROM chat_threads WHERE id IN (1, 3) FOR UPDATE";
        // The daemon may hold one and wait for the other; then the server rolls one of the two back.
        run(&mut conn, "START TRANSACTION").is_ok() && conn.query_drop(lock).is_ok()
    });
    if !is_locked {
        return Err("the threads cannot be locked".to_owned());
    }
    let before = environment.metric(CONFLICTS)?;
    wait::pass(LOCK_TIMEOUT);
    let given_up = wait::until(wait::LIMIT, || match environment.metric(CONFLICTS) {
        Ok(conflicts) => (conflicts > before).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    pause(random, 1500);
    let conflicts = environment.metric(CONFLICTS)?;
    run(&mut conn, "ROLLBACK")?;
    given_up.ok_or("the daemon waits for a lock for ever, or for none")??;
    Ok((LostConnections::None, conflicts - before))
}
