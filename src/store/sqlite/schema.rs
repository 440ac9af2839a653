//! Creates and updates our own tables. The list of migrations only ever grows at its end; `PRAGMA user_version` says
//! how many of them a file has had. Every connection looks when it is opened, so a new file and an old one need no
//! other step.

use rusqlite::{Connection, TransactionBehavior};

use super::open_failed;
use crate::store::{Failure, Result, StoreError};

/// In the order in which they are applied. Never changed, never removed once released.
const MIGRATIONS: [&str; 2] = [include_str!("schema_1.sql"), include_str!("schema_2.sql")];

const OPERATION: &str = "prepare the tables";

/// Brings a file up to date.
pub(super) fn prepare(conn: &mut Connection) -> Result<()> {
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
    // Locks first: if several processes find a new file, only one creates the tables.
    let transaction = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| open_failed(OPERATION, error))?;
    let found = version(&transaction)?;
    if found == 0 && has_tables(&transaction)? {
        return Err(denied("the file belongs to another program".to_owned()));
    }
    for migration in MIGRATIONS.iter().skip(found) {
        transaction
            .execute_batch(migration)
            .map_err(|error| open_failed(OPERATION, error))?;
    }
    transaction
        .pragma_update(None, "user_version", latest.max(found))
        .and_then(|()| transaction.commit())
        .map_err(|error| open_failed(OPERATION, error))
}

fn version(conn: &Connection) -> Result<usize> {
    conn.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0))
        .map(|version| version as usize)
        .map_err(|error| open_failed(OPERATION, error))
}

fn has_tables(conn: &Connection) -> Result<bool> {
    conn.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", (), |row| {
        row.get(0)
    })
    .map_err(|error| open_failed(OPERATION, error))
}

fn denied(cause: String) -> StoreError {
    StoreError::new(OPERATION, Failure::Denied, cause)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::SqliteStore;
    use super::*;
    use crate::store::Store;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("andrea-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).expect("a new folder");
        folder
    }

    #[test]
    fn a20_a_file_of_the_first_form_is_brought_up_to_date_and_restored_by_an_older_sqlite() {
        let folder = folder("schema");
        let file = folder.join("chat.sqlite");
        let old = Connection::open(&file).expect("open");
        old.execute_batch(MIGRATIONS[0]).expect("the first form");
        old.execute_batch(
            "PRAGMA user_version = 1; \
             INSERT INTO agents (id, name, email, password_hash) VALUES (1, 'Ann', 'a', ''); \
             INSERT INTO chat_channels (id, name, slug) VALUES (1, 'General', 'general'); \
             INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text) \
             VALUES ('channel', 1, 1, 'kept')",
        )
        .expect("a message");
        drop(old);
        SqliteStore::new(&file)
            .connect()
            .expect("brought up to date");
        let new = Connection::open(&file).expect("open");
        let text = |sql: &str| {
            new.query_row(sql, (), |row| row.get::<_, String>(0))
                .expect("a row")
        };
        let definitions = text("SELECT group_concat(sql, ';') FROM sqlite_schema");
        assert!(!definitions.contains("STRICT"), "{definitions}");
        for column in ["metadata_json", "payload"] {
            let check = format!("CHECK ({column} IS NULL OR json_valid({column}))");
            assert!(definitions.contains(&check), "{definitions}");
        }
        assert_eq!(text("PRAGMA integrity_check"), "ok");
        assert_eq!(text("SELECT body_text FROM chat_messages"), "kept");
        drop(new);
        // The distribution's own, where there is one.
        let script = "sqlite3 chat.sqlite .dump | sqlite3 new.sqlite && \
                      sqlite3 new.sqlite 'SELECT count(*) FROM chat_messages; PRAGMA integrity_check'";
        let restored = Command::new("sh")
            .args(["-c", script])
            .current_dir(&folder)
            .stderr(Stdio::null())
            .output()
            .expect("run a shell");
        if restored.status.success() {
            assert_eq!(String::from_utf8_lossy(&restored.stdout), "1\nok\n");
        }
        std::fs::remove_dir_all(folder).expect("clean up");
    }

    #[test]
    fn a19_nothing_is_told_as_stored_that_is_in_no_file() {
        let folder = folder("taken-away");
        let file = folder.join("chat.sqlite");
        let store = SqliteStore::new(&file);
        for taken in [&file, &folder.join("chat.sqlite-wal")] {
            let mut connection = store.connect().expect("open");
            let mut other = store.connect().expect("open");
            connection.begin().expect("begin");
            std::fs::rename(taken, folder.join("taken")).expect("take it away");
            assert_eq!(
                connection.commit().expect_err("gone").failure,
                Failure::Lost
            );
            assert_eq!(other.begin().expect_err("gone").failure, Failure::Lost);
            let written = other.update_settings(&[("chat_enabled", "1")]);
            assert_eq!(written.expect_err("gone").failure, Failure::Lost);
            std::fs::rename(folder.join("taken"), taken).expect("bring it back");
        }
        std::fs::remove_dir_all(folder).expect("clean up");
    }
}
