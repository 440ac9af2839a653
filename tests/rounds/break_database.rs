//! What happens to the database.

use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use super::crowd::Signs;
use super::faults::{Struck, Toll, moment, outlast};
use super::world::World;
use crate::random::Random;
use crate::support::{seed, wait};

fn run(conn: &mut Conn, statement: &str) -> Result<(), String> {
    let done = conn.query_drop(statement);
    done.map_err(|e| format!("{statement}: {e}"))
}

/// How long the daemon waits for a lock of a row.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
/// In `/metrics`: calls that met somebody else's lock for too long.
const CONFLICTS: &str = r#"andrea_chat_database_failures_total{kind="conflict"}"#;
/// Tries to bring a deadlock about: whoever wants the notifications need not have written to a thread.
const TRIES: usize = 20;
/// What MariaDB says in its log of a table that cannot grow.
const FULL: &str = "is full";

pub fn kill(world: &mut World, random: &mut Random) -> Struck {
    world.server.kill();
    moment(random, 200);
    world.server.start();
    Ok((Toll::Nobody, 1))
}

pub fn restart(world: &mut World) -> Struck {
    world.server.stop();
    world.server.start();
    Ok((Toll::Nobody, 1))
}

pub fn freeze(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    world.server.pause();
    let outlasted = outlast(random, 500, signs);
    world.server.resume();
    outlasted.map(|()| (Toll::Nobody, 1))
}

pub fn read_only(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let mut admin = world.server.admin();
    run(&mut admin, "SET GLOBAL read_only = 1")?;
    let outlasted = outlast(random, 500, signs);
    run(&mut admin, "SET GLOBAL read_only = 0")?;
    outlasted.map(|()| (Toll::Nobody, 1))
}

pub fn read_lock(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let mut admin = world.server.admin();
    run(&mut admin, "FLUSH TABLES WITH READ LOCK")?;
    let outlasted = outlast(random, 1500, signs);
    run(&mut admin, "UNLOCK TABLES")?;
    outlasted.map(|()| (Toll::Nobody, 1))
}

/// Gives back what the table has in store: a small one grows page by page.
pub fn compact(world: &World) {
    world.tidy();
    seed::run(&mut world.conn(), "ALTER TABLE chat_messages FORCE", vec![]);
}

/// Long messages, so that the table wants to grow. MariaDB itself does not always survive that; then it is started again.
pub fn fill_disk(world: &mut World, random: &mut Random, signs: &Signs) -> Struck {
    let said = world.server.log().matches(FULL).count();
    let disk = world
        .server
        .disk()
        .ok_or("this database has no small disk")?;
    disk.fill();
    let outlasted = outlast(random, 600, signs);
    disk.free();
    let is_recovered = signs.recovery();
    let mut has_crashed = false;
    wait::until(wait::LIMIT, || {
        if world.server.has_ended() {
            has_crashed = true;
            world.server.start();
        }
        (is_recovered() || has_crashed).then_some(())
    })
    .ok_or("with room again it stores nothing")?;
    let is_hit = has_crashed || world.server.log().matches(FULL).count() > said;
    outlasted.map(|()| (Toll::Nobody, u64::from(is_hit)))
}

pub fn kill_connections(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let mut admin = world.server.admin();
    let mut killed = 0;
    for _ in 0..1 + random.below(4) {
        let query = format!(
            "SELECT id FROM information_schema.processlist WHERE db = '{}' ORDER BY id",
            world.database.name
        );
        let ids: Vec<u64> = admin.query(query).map_err(|e| e.to_string())?;
        for id in ids {
            // It may have gone by itself.
            killed += u64::from(admin.query_drop(format!("KILL {id}")).is_ok());
        }
        signs.await_stored(1 + random.below(5))?;
    }
    Ok((Toll::Nobody, killed))
}

fn status(conn: &mut Conn, name: &str) -> u64 {
    let query = format!("SHOW GLOBAL STATUS LIKE '{name}'");
    let row: Option<(String, u64)> = conn.query_first(query).expect("ask for a status");
    row.map_or(0, |(_, value)| value)
}

/// Ours has written to a thread and wants the notifications, which somebody has who then wants the thread. He has
/// done more, so ours is given up.
pub fn deadlock(world: &World) -> Struck {
    let mut admin = world.server.admin();
    let mut conn = world.conn();
    for _ in 0..TRIES {
        let before = status(&mut admin, "Innodb_deadlocks");
        let is_closed = close_circle(&mut conn, &mut admin)?;
        let deadlocks = status(&mut admin, "Innodb_deadlocks") - before;
        // Else it was ours who was ahead in either, or the other one who was given up.
        if is_closed && deadlocks > 0 {
            return Ok((Toll::Nobody, deadlocks));
        }
    }
    Ok((Toll::Nobody, 0))
}

/// False where the one who is in the daemon's way was given up himself.
fn close_circle(conn: &mut Conn, admin: &mut Conn) -> Result<bool, String> {
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
        waited.ok_or("nobody waits for the notifications")?;
        let close = "UPDATE chat_threads SET last_message_at = last_message_at WHERE id IN (1, 3)";
        is_closed = conn.query_drop(close).is_ok();
    }
    run(conn, "ROLLBACK")?;
    Ok(is_closed)
}

/// Longer than a lock is waited for: until the daemon has given up waiting, and some time beyond that.
pub fn lock(world: &World, random: &mut Random) -> Struck {
    let mut conn = world.conn();
    let is_locked = (0..TRIES).any(|_| {
        let lock = "SELECT id FROM chat_threads WHERE id IN (1, 3) FOR UPDATE";
        // The daemon may have one of them and want the other; then one of us is given up.
        run(&mut conn, "START TRANSACTION").is_ok() && conn.query_drop(lock).is_ok()
    });
    if !is_locked {
        return Err("the threads cannot be locked".to_owned());
    }
    let before = world.metric(CONFLICTS)?;
    wait::pass(LOCK_PATIENCE);
    let given_up = wait::until(wait::LIMIT, || match world.metric(CONFLICTS) {
        Ok(conflicts) => (conflicts > before).then_some(Ok(())),
        Err(error) => Some(Err(error)),
    });
    moment(random, 1500);
    let conflicts = world.metric(CONFLICTS)?;
    run(&mut conn, "ROLLBACK")?;
    given_up.ok_or("it waits for a lock for ever, or for none")??;
    Ok((Toll::Nobody, conflicts - before))
}
