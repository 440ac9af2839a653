//! One connection to the file. Statements are written for MySQL; what SQLite calls otherwise is replaced here.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection as Sqlite, params_from_iter};

use super::failed;
use crate::store::connection::Engine;
use crate::store::history::CONTAINS;
use crate::store::row::{Row, Value};
use crate::store::{Failure, Result, StoreError};

/// Words of MySQL, and what they are here. An earlier one may hold a later one.
const WORDS: [(&str, &str); 16] = [
    ("STRAIGHT_JOIN", "CROSS JOIN"),
    (" FOR UPDATE", ""),
    // The range is MariaDB's; here only an equation uses the index for what comes after it, too.
    ("_id >= ?", "_id = ?"),
    ("_id <= ?", "_id = ?"),
    (CONTAINS, "holds(m.body_text, ?)"),
    ("chat_handle IN", "chat_handle COLLATE helpdesk IN"),
    ("ticket_number IN", "ticket_number COLLATE helpdesk IN"),
    ("INSERT IGNORE INTO", "INSERT OR IGNORE INTO"),
    ("ON DUPLICATE KEY UPDATE", "ON CONFLICT DO UPDATE SET"),
    (
        "GREATEST(last_read_message_id, VALUES(last_read_message_id))",
        "MAX(last_read_message_id, excluded.last_read_message_id)",
    ),
    (
        "NOW() - INTERVAL ? SECOND",
        "datetime('now', '-' || ? || ' seconds')",
    ),
    (
        "NOW() - INTERVAL ? DAY",
        "datetime('now', '-' || ? || ' days')",
    ),
    ("NOW()", "CURRENT_TIMESTAMP"),
    ("UNIX_TIMESTAMP()", "unixepoch()"),
    ("VERSION()", "sqlite_version() || ' (SQLite)'"),
    (
        "information_schema.columns WHERE table_schema = DATABASE()",
        "(SELECT t.name AS table_name, c.name AS column_name, NULL AS character_set_name, NULL AS character_octet_length \
         FROM sqlite_schema t JOIN pragma_table_info(t.name) c) WHERE 1 = 1",
    ),
];

fn translated(sql: &str) -> String {
    let replaced = |sql: String, (theirs, ours): &(&str, &str)| sql.replace(theirs, ours);
    WORDS.iter().fold(sql.to_owned(), replaced)
}

/// A parameter. A greater id than SQLite's integers have room for, which only a client can invent, is in no row.
fn bound(value: &Value) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match value {
        Value::Bytes(text) => ValueRef::Text(text),
        Value::Int(number) => ValueRef::Integer(*number),
        Value::UInt(number) => ValueRef::Integer((*number).try_into().unwrap_or(i64::MAX)),
        _ => ValueRef::Null,
    })
}

fn found(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::NULL,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) | ValueRef::Blob(text) => text.into(),
    }
}

/// One connection to the file.
pub(super) struct SqliteEngine {
    conn: Sqlite,
    path: PathBuf,
    /// Device and number of the file when it was opened.
    file: Option<(u64, u64)>,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl SqliteEngine {
    pub(super) fn new(conn: Sqlite, path: &Path) -> Self {
        SqliteEngine {
            conn,
            file: identity(path),
            path: path.to_owned(),
        }
    }

    /// Fails if the file or its log was removed: SQLite would go on writing, and what it writes would be lost.
    fn check_file(&self, operation: &'static str) -> Result<()> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        match self.file.is_some() && identity(&self.path) == self.file && Path::new(&log).exists() {
            true => Ok(()),
            false => Err(StoreError::new(
                operation,
                Failure::Lost,
                format!("{} was taken away or replaced", self.path.display()),
            )),
        }
    }

    fn statement(&self, operation: &'static str, sql: &str) -> Result<()> {
        self.conn
            .execute_batch(sql)
            .map_err(|error| failed(operation, error))
    }
}

impl Engine for SqliteEngine {
    fn each_row(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: Vec<Value>,
        take: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let failed = |error| failed(operation, error);
        let mut statement = self.conn.prepare(&translated(sql)).map_err(failed)?;
        let columns = statement.column_count();
        let params = params_from_iter(params.iter().map(bound));
        let mut rows = statement.query(params).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..columns).map(|column| row.get_ref(column).map(found));
            let values: rusqlite::Result<Vec<Value>> = values.collect();
            let values = values.map_err(failed)?.into_iter();
            take(Row { operation, values })?;
        }
        Ok(())
    }

    fn execute(&mut self, operation: &'static str, sql: &str, params: Vec<Value>) -> Result<u64> {
        let is_transaction = self.conn.is_autocommit();
        if is_transaction {
            self.check_file(operation)?;
        }
        let params = params_from_iter(params.iter().map(bound));
        let changed = self.conn.execute(&translated(sql), params);
        let changed = changed.map_err(|error| failed(operation, error))?;
        if is_transaction {
            self.check_file(operation)?;
        }
        Ok(changed as u64)
    }

    fn inserted(&self, _: usize) -> Vec<u64> {
        let last = self.conn.last_insert_rowid().unsigned_abs();
        (last + 1 - self.conn.changes()..=last).collect()
    }

    /// Takes the lock at once: a transaction that has read cannot always go on to write.
    fn begin(&mut self) -> Result<()> {
        const OPERATION: &str = "begin a transaction";
        if self.conn.is_autocommit() {
            self.check_file(OPERATION)?;
            self.statement(OPERATION, "BEGIN IMMEDIATE")?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        const OPERATION: &str = "commit";
        self.statement(OPERATION, "COMMIT")?;
        self.check_file(OPERATION)
    }

    fn rollback(&mut self) -> Result<()> {
        // A failure may have ended the transaction.
        match self.conn.is_autocommit() {
            true => Ok(()),
            false => self.statement("roll back", "ROLLBACK"),
        }
    }
}
