//! Creates and updates our own tables. The list of migrations only ever grows at its end; `PRAGMA user_version` says
//! how many of them a file has had. Every connection looks when it is opened, so a new file and an old one need no
//! other step.

use rusqlite::{Connection, TransactionBehavior};

use super::open_failed;
use crate::store::{Failure, Result, StoreError};

/// In the order in which they are applied. Never changed, never removed once released.
const MIGRATIONS: [&str; 1] = [include_str!("schema_1.sql")];

const OPERATION: &str = "prepare the tables";

/// Brings a file up to date.
pub fn prepare(conn: &mut Connection) -> Result<()> {
    let latest = MIGRATIONS.len();
    let found = version(conn)?;
    if found > latest {
        return Err(denied(format!(
            "they are of version {found}, this program knows {latest}; use the newer program"
        )));
    }
    if found == latest {
        return Ok(());
    }
    // Locked first: of several processes that find the file new one creates the tables.
    let transaction = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| open_failed(OPERATION, &error))?;
    let found = version(&transaction)?;
    if found == 0 && has_tables(&transaction)? {
        return Err(denied("the file belongs to another program".to_owned()));
    }
    for migration in MIGRATIONS.iter().skip(found) {
        transaction
            .execute_batch(migration)
            .map_err(|error| open_failed(OPERATION, &error))?;
    }
    transaction
        .pragma_update(None, "user_version", latest.max(found))
        .and_then(|()| transaction.commit())
        .map_err(|error| open_failed(OPERATION, &error))
}

fn version(conn: &Connection) -> Result<usize> {
    conn.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
        .map_err(|error| open_failed(OPERATION, &error))
}

fn has_tables(conn: &Connection) -> Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| {
        row.get(0)
    })
    .map_err(|error| open_failed(OPERATION, &error))
}

fn denied(cause: String) -> StoreError {
    StoreError {
        operation: OPERATION,
        failure: Failure::Denied,
        cause,
    }
}
