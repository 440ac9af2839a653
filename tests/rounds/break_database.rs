//! What happens to the database.

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
    let Some(disk) = world.server.disk() else {
        return Ok((Toll::Nobody, 0));
    };
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
    let rows = ["('system','heavy','x',1)"; 200].join(", ");
    let heavy = format!(
        "INSERT INTO audit_log (actor_type, action, subject_type, subject_id) VALUES {rows}"
    );
    let mut admin = world.server.admin();
    let before = status(&mut admin, "Innodb_deadlocks");
    let mut conn = world.conn();
    run(&mut conn, "START TRANSACTION")?;
    run(&mut conn, &heavy)?;
    // Ours may be ahead in either; then there is none this time.
    let locked = conn.query_drop("SELECT id FROM agent_notifications FOR UPDATE");
    if locked.is_ok() {
        let is_waiting = || status(&mut admin, "Innodb_row_lock_current_waits") > 0;
        let mut is_waiting = is_waiting;
        let waited = wait::until(wait::LIMIT, || is_waiting().then_some(()));
        waited.ok_or("nobody waits for the notifications")?;
        let close = "UPDATE chat_threads SET last_message_at = last_message_at WHERE id IN (1, 3)";
        let _ = conn.query_drop(close);
    }
    run(&mut conn, "ROLLBACK")?;
    Ok((
        Toll::Nobody,
        status(&mut admin, "Innodb_deadlocks") - before,
    ))
}

/// Longer than a lock is waited for, most of the time.
pub fn lock(world: &World, random: &mut Random) -> Struck {
    let mut admin = world.server.admin();
    let mut conn = world.conn();
    run(&mut conn, "START TRANSACTION")?;
    let lock = "SELECT id FROM chat_threads WHERE id IN (1, 3) FOR UPDATE";
    let locked = conn.query_drop(lock).is_ok();
    let before = status(&mut admin, "Innodb_row_lock_waits");
    moment(random, 2500);
    let waits = status(&mut admin, "Innodb_row_lock_waits") - before;
    run(&mut conn, "ROLLBACK")?;
    Ok((Toll::Nobody, if locked { waits } else { 0 }))
}
