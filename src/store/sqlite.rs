//! The store over a file of our own, for trying the service out without a helpdesk and its database server. The only
//! folder that names the SQLite crate. It has no rule that the helpdesk's database lacks.
//!
//! - The tables are those of the helpdesk (`sqlite/schema_1.sql`), created on first use.
//! - The database's clock is UTC: `created_at` and the like are written as `YYYY-MM-DD HH:MM:SS` of UTC.
//! - What was committed survives a crash of the process and of the machine: write-ahead log, synced at every commit.
//! - A transaction takes the lock for writing when it begins, and waits for it for [`STORE_PATIENCE`]; readers wait for
//!   nobody.

mod collation;
mod connection;
mod helpdesk;
mod overview;
mod rows;
mod schema;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection as Sqlite, Error as SqliteError, ErrorCode, OpenFlags};

pub use connection::SqliteConnection;
pub use helpdesk::{NewAgent, NewChannel};
pub use overview::{AgentOverview, ChannelOverview, Reading, ThreadOverview};

use super::{Connection, Failure, Result, Store, StoreError};
use crate::limits::STORE_PATIENCE;

/// Name of the collation that compares as the helpdesk's database does.
const COLLATION: &str = "helpdesk";
/// Mode of a new file, before the umask: what is said there is for the service's own user and group.
const FILE_MODE: u32 = 0o660;

/// A database in one file.
pub struct SqliteStore {
    path: PathBuf,
}

impl SqliteStore {
    /// The database in this file, which is created on first use; its folder must be there.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SqliteStore { path: path.into() }
    }

    /// Opens one connection, as [`Store::connect`] does, for who knows the engine.
    ///
    /// # Errors
    /// The file cannot be opened, or is no database of ours.
    pub fn open(&self) -> Result<SqliteConnection> {
        const OPERATION: &str = "open the database";
        create(&self.path)?;
        // Not read as a URI, whatever the path looks like; one connection is used by one thread at a time.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Sqlite::open_with_flags(&self.path, flags)
            .map_err(|error| open_failed(OPERATION, &error))?;
        configure(&conn).map_err(|error| open_failed(OPERATION, &error))?;
        schema::prepare(&mut conn)?;
        Ok(SqliteConnection::new(conn))
    }
}

impl Store for SqliteStore {
    fn connect(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(self.open()?))
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
            Failure::Lost => "look at its disk, or correct DB_DATABASE",
            Failure::Conflict => "end the program that has locked it",
        }
    }
}

/// SQLite would create the file as well, but readable for everybody, and would not say why it cannot.
fn create(path: &Path) -> Result<()> {
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match created {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(StoreError {
            operation: "create the database",
            failure: Failure::Denied,
            cause: format!("{}: {error}", path.display()),
        }),
        _ => Ok(()),
    }
}

fn configure(conn: &Sqlite) -> rusqlite::Result<()> {
    conn.busy_timeout(STORE_PATIENCE)?;
    conn.create_collation(COLLATION, collation::compare)?;
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)
}

fn failed(operation: &'static str, error: &SqliteError) -> StoreError {
    StoreError {
        operation,
        failure: failure(error),
        cause: error.to_string(),
    }
}

/// The same for a connection that is being opened: what it is refused then is a matter of path and rights.
fn open_failed(operation: &'static str, error: &SqliteError) -> StoreError {
    let mut failed = failed(operation, error);
    let denied = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::CannotOpen
                | ErrorCode::NotADatabase
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
        )
    );
    if denied {
        failed.failure = Failure::Denied;
    }
    failed
}

fn failure(error: &SqliteError) -> Failure {
    match error.sqlite_error_code() {
        // Somebody else writes, for longer than we wait, or wrote after our transaction had read.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SchemaChanged) => {
            Failure::Conflict
        }
        // Disk, memory or file: it cannot now what it could before.
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
            assert_eq!(open_failed("open", &error).failure, opening, "{error}");
        }
    }
}
