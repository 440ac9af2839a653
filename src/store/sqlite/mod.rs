//! The store over a file of our own, for trying the service out without a helpdesk and its database server. The only
//! folder that names the SQLite crate. It has no rule that the helpdesk's database lacks.
//!
//! - The tables are those of the helpdesk (`sqlite/schema_1.sql`), created on first use.
//! - The database's clock is UTC: `created_at` and the like are written as `YYYY-MM-DD HH:MM:SS` of UTC.
//! - What was committed survives a crash of the process and of the machine: write-ahead log, synced at every commit.
//! - A transaction takes the write lock when it begins, and waits for it for [`STORE_TIMEOUT`]; readers never wait.

mod collation;
mod connection;
mod helpdesk;
mod schema;

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection as Sqlite, Error as SqliteError, ErrorCode, OpenFlags};

pub use helpdesk::{
    AgentOverview, AuditRow, ChannelMember, ChannelOverview, NewAgent, NewChannel, ThreadOverview,
};

use self::connection::SqliteEngine;
use super::cache_invalidation::AppCache;
use super::{DatabaseConnection, Failure, Result, Store, StoreError};
use crate::config::limits::STORE_TIMEOUT;

/// Mode of a new file, before the umask: messages are for the service's own user and group.
const FILE_MODE: u32 = 0o660;
/// Pause before the journal mode is switched again.
const SWITCH_PAUSE: Duration = Duration::from_millis(5);

/// A database in one file.
pub struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    /// The database in this file, which is created on first use; its folder must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SqliteStore { path: path.into() }
    }
}

impl Store for SqliteStore {
    fn connect(&self) -> Result<DatabaseConnection> {
        const OPERATION: &str = "open the database";
        create(&self.path)?;
        // Not read as a URI, whatever the path looks like; one connection is used by one thread at a time.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| open_failed(OPERATION, error);
        let mut conn = Sqlite::open_with_flags(&self.path, flags).map_err(failed)?;
        let mode = configure(&conn).map_err(failed)?;
        if mode != "wal" {
            return Err(StoreError::new(
                OPERATION,
                Failure::Denied,
                format!("its file system allows no write-ahead log (journal mode {mode})"),
            ));
        }
        schema::prepare(&mut conn)?;
        // As MySQL's IGNORE does: a notification of an agent that is gone is passed over.
        conn.execute_batch(
            "CREATE TEMP TRIGGER agent_is_gone BEFORE INSERT ON main.agent_notifications \
             WHEN NEW.agent_id NOT IN (SELECT id FROM agents) BEGIN SELECT RAISE(IGNORE); END",
        )
        .map_err(failed)?;
        let engine = SqliteEngine::new(conn, &self.path);
        Ok(DatabaseConnection::new(engine, AppCache::none()))
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }

    fn remedy(&self, failure: Failure) -> &'static str {
        match failure {
            Failure::Denied => {
                "let the user the service runs as write there, or correct DB_DATABASE"
            }
            Failure::Refused => "is this a database of this service?",
            Failure::Conflict => "end the program that has locked it",
            _ => "look at its disk, or correct DB_DATABASE",
        }
    }
}

/// Creates the file, since SQLite would make it readable for everybody, and would not say why it fails.
fn create(path: &Path) -> Result<()> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError::new(
            "create the database",
            Failure::Denied,
            format!("{}: {error}", path.display()),
        )),
        // Not opened here: SQLite's locks of this process would go when it is closed.
        Err(_) if !fs::metadata(path).is_ok_and(|found| found.is_file()) => Err(StoreError::new(
            "open the database",
            Failure::Denied,
            format!("{} is no regular file", path.display()),
        )),
        _ => Ok(()),
    }
}

/// Sets a connection up and returns the journal mode of its file.
fn configure(conn: &Sqlite) -> rusqlite::Result<String> {
    conn.busy_timeout(STORE_TIMEOUT)?;
    conn.create_collation("helpdesk", collation::compare)?;
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    conn.create_scalar_function("holds", 2, flags, |args| {
        Ok(collation::holds(
            args.get_raw(0).as_str()?,
            args.get_raw(1).as_str()?,
        ))
    })?;
    let mode = switch_to_wal(conn)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    Ok(mode)
}

/// Retries, since SQLite does not wait for this one lock by itself. Only processes that open a new file at the same time
/// may have to wait.
fn switch_to_wal(conn: &Sqlite) -> rusqlite::Result<String> {
    let deadline = Instant::now() + STORE_TIMEOUT;
    loop {
        let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0));
        match &mode {
            Err(error) if failure(error) == Failure::Conflict && Instant::now() < deadline => {
                thread::sleep(SWITCH_PAUSE);
            }
            _ => return mode,
        }
    }
}

fn failed(operation: &'static str, error: SqliteError) -> StoreError {
    StoreError::new(operation, failure(&error), error)
}

/// As [`failed`] while a connection is being opened: a refusal is then a matter of path and rights.
fn open_failed(operation: &'static str, error: SqliteError) -> StoreError {
    let denied = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    );
    let failed = failed(operation, error);
    match denied {
        true => StoreError {
            failure: Failure::Denied,
            ..failed
        },
        false => failed,
    }
}

fn failure(error: &SqliteError) -> Failure {
    match error.sqlite_error_code() {
        // Another connection writes for longer than we wait, or wrote after our transaction had read.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged) => {
            Failure::Conflict
        }
        // Disk, memory or file: it fails now, but may work again.
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::DiskFull
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::OperationAborted
            | ErrorCode::OperationInterrupted
            | ErrorCode::NoLargeFileSupport,
        ) => Failure::Lost,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::row::{NOTHING, Row};

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sqlite-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).expect("make a folder");
            Folder(path)
        }

        fn store(&self) -> SqliteStore {
            SqliteStore::new(self.0.join("chat.sqlite"))
        }

        fn run(&self, sql: &str) {
            let conn = Sqlite::open(self.0.join("chat.sqlite")).expect("open the file");
            conn.execute_batch(sql).expect(sql);
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn denied(store: &SqliteStore) -> String {
        let error = store.connect().err().expect("it cannot be opened");
        assert_eq!(error.failure, Failure::Denied, "{error}");
        error.to_string()
    }

    #[test]
    fn every_connection_is_as_durable_and_as_strict_as_promised() {
        let folder = Folder::new("pragmas");
        for _ in 0..2 {
            let mut connection = folder.store().connect().expect("open");
            for (pragma, column, value) in [
                ("journal_mode", "journal_mode", "wal"),
                // FULL.
                ("synchronous", "synchronous", "2"),
                ("foreign_keys", "foreign_keys", "1"),
                ("busy_timeout", "timeout", "5000"),
                ("user_version", "user_version", "2"),
            ] {
                let sql = format!("SELECT CAST({column} AS TEXT) FROM pragma_{pragma}");
                let found = connection.first("ask", &sql, NOTHING, Row::take::<String>);
                assert_eq!(found.expect(pragma).as_deref(), Some(value), "{pragma}");
            }
        }
    }

    #[test]
    fn of_many_that_find_no_file_one_makes_it() {
        for round in 0..5 {
            let folder = Folder::new(&format!("race-{round}"));
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let mut connection = folder.store().connect().expect("open");
                        let rows = connection.settings().expect("read the settings");
                        assert_eq!(rows.text("chat_websocket_port", ""), "8090");
                    });
                }
            });
        }
    }

    #[test]
    fn what_cannot_be_ours_is_denied_and_left_alone() {
        let folder = Folder::new("denied");
        let path = folder.0.join("chat.sqlite");
        fs::create_dir(&path).expect("make a folder");
        denied(&folder.store());
        fs::remove_dir(&path).expect("remove it");
        let missing = SqliteStore::new(folder.0.join("missing/chat.sqlite"));
        assert!(denied(&missing).contains("No such file"));
        fs::write(&path, "DB_PASSWORD=secret\n".repeat(100)).expect("write a file");
        denied(&folder.store());
        fs::remove_file(&path).expect("remove it");
        folder.run("CREATE TABLE foreign_table (id INTEGER)");
        assert!(denied(&folder.store()).contains("another program"));
        fs::remove_file(&path).expect("remove it");
        folder.store().connect().expect("open");
        folder.run("PRAGMA user_version = 3");
        assert!(denied(&folder.store()).contains("use the newer program"));
    }

    #[test]
    fn an_empty_file_is_a_new_one() {
        let folder = Folder::new("empty");
        fs::write(folder.0.join("chat.sqlite"), "").expect("make a file");
        folder.store().connect().expect("open");
    }

    fn code(code: std::ffi::c_int) -> SqliteError {
        SqliteError::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }

    #[test]
    fn each_failure_says_what_to_do_about_it() {
        use rusqlite::ffi;
        for (number, running, opening) in [
            (ffi::SQLITE_BUSY, Failure::Conflict, Failure::Conflict),
            (
                ffi::SQLITE_BUSY_SNAPSHOT,
                Failure::Conflict,
                Failure::Conflict,
            ),
            (ffi::SQLITE_FULL, Failure::Lost, Failure::Lost),
            (ffi::SQLITE_IOERR_FSYNC, Failure::Lost, Failure::Lost),
            (ffi::SQLITE_CANTOPEN, Failure::Lost, Failure::Denied),
            (ffi::SQLITE_NOTADB, Failure::Lost, Failure::Denied),
            (ffi::SQLITE_READONLY_DBMOVED, Failure::Lost, Failure::Denied),
            (
                ffi::SQLITE_CONSTRAINT_CHECK,
                Failure::Refused,
                Failure::Refused,
            ),
            (ffi::SQLITE_ERROR, Failure::Refused, Failure::Refused),
        ] {
            let error = code(number);
            assert_eq!(failure(&error), running, "{error}");
            assert_eq!(open_failed("open", error).failure, opening, "{number}");
        }
    }
}
