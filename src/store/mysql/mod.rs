//! The helpdesk's own database, MySQL or MariaDB: connecting, running statements, and what an error means.

mod address;
mod connect;
#[cfg(feature = "db-tls")]
mod tls;
mod verdict;

use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Error as MysqlError};

use self::address::ServerAddress;
use self::verdict::{Doing, failed};

use super::cache_invalidation::AppCache;
use super::connection::Engine;
use super::row::{Row, Value};
use super::{ConnectionInfo, DatabaseConnection, Failure, Result, Store, StoreError};
use crate::config::DatabaseConfig;

/// Bytes of a statement besides its text and its values.
const STATEMENT_BYTES: usize = 64;
/// How long the end of a process may wait to invalidate the application's cache.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(800);

/// A MySQL or MariaDB database.
pub struct MysqlStore {
    config: DatabaseConfig,
    cache: AppCache,
}

impl MysqlStore {
    /// The database that the install uses.
    pub fn new(config: DatabaseConfig) -> Self {
        MysqlStore {
            config,
            cache: AppCache::none(),
        }
    }

    /// Adds a `cache` that is told of every write, and learns from the settings where it is.
    pub fn with_cache(mut self, cache: AppCache) -> Self {
        self.cache = cache;
        self
    }
}

impl Store for MysqlStore {
    fn connect(&self) -> Result<DatabaseConnection> {
        Ok(DatabaseConnection::new(self.open()?, self.cache.clone()))
    }

    fn describe(&self) -> String {
        let (user, name) = (&self.config.user, &self.config.name);
        match ServerAddress::of(&self.config) {
            ServerAddress::Unix(path) => format!("{user}@{path}/{name}"),
            ServerAddress::Tcp(host, port) if host.contains(':') => {
                format!("{user}@[{host}]:{port}/{name}")
            }
            ServerAddress::Tcp(host, port) => format!("{user}@{host}:{port}/{name}"),
        }
    }

    fn remedy(&self, failure: Failure) -> &'static str {
        match failure {
            Failure::Denied => "correct DB_DATABASE, DB_USERNAME or DB_PASSWORD",
            Failure::Refused | Failure::TooLarge => "is this the helpdesk's database?",
            _ => "start it, or correct DB_HOST, DB_PORT or DB_SOCKET",
        }
    }

    fn settle(&self, until: Instant) {
        if self.cache.is_unknown() {
            // A command may have written without reading the settings, which say where the cache is.
            let _ = self.connect().and_then(|mut store| store.settings());
        }
        self.cache.flush(until);
    }
}

impl Drop for MysqlStore {
    fn drop(&mut self) {
        // A short-lived command has no timer thread that flushes the cache.
        self.settle(Instant::now() + SETTLE_TIMEOUT);
    }
}

struct MysqlEngine {
    conn: Conn,
    /// Whether autocommit is off.
    is_posting: bool,
    /// `max_allowed_packet`: what the server takes in one piece, in bytes.
    max_packet: u64,
    /// `auto_increment_increment`: above 1 in a cluster.
    id_step: u64,
}

impl MysqlEngine {
    /// Refuses what is too large for the server, which would end the connection and could lose its reason.
    fn fits(&self, operation: &'static str, sql: &str, params: &[Value]) -> Result<()> {
        // Most bytes that a value takes on the line.
        let size = |value: &Value| match value {
            Value::Bytes(bytes) => bytes.len() + 12,
            _ => 12,
        };
        let bytes = params.iter().map(size).sum::<usize>() + sql.len() + STATEMENT_BYTES;
        if bytes as u64 <= self.max_packet {
            return Ok(());
        }
        let cause = format!(
            "larger than the {} bytes of max_allowed_packet",
            self.max_packet
        );
        Err(StoreError::new(operation, Failure::TooLarge, cause))
    }

    fn statement(&mut self, operation: &'static str, sql: &str) -> Result<()> {
        self.conn
            .query_drop(sql)
            .map_err(|error| failed(operation, Doing::Asking, &error))
    }
}

impl Engine for MysqlEngine {
    fn each_row(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: Vec<Value>,
        take: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        self.fits(operation, sql, &params)?;
        let failure = |error: MysqlError| failed(operation, Doing::Asking, &error);
        for row in self.conn.exec_iter(sql, params).map_err(failure)? {
            let values = row.map_err(failure)?.unwrap().into_iter();
            take(Row { operation, values })?;
        }
        Ok(())
    }

    fn execute(&mut self, operation: &'static str, sql: &str, params: Vec<Value>) -> Result<u64> {
        self.fits(operation, sql, &params)?;
        self.conn
            .exec_drop(sql, params)
            .map_err(|error| failed(operation, Doing::Writing, &error))?;
        Ok(self.conn.affected_rows())
    }

    /// Ids of one insert with a known number of rows are consecutive, in the steps of this session.
    fn inserted(&self, rows: usize) -> Vec<u64> {
        let first = self.conn.last_insert_id();
        (0..rows as u64)
            .map(|place| first + place * self.id_step)
            .collect()
    }

    fn begin(&mut self) -> Result<()> {
        if !self.is_posting {
            // With autocommit off every statement opens the next transaction by itself: one round trip less for
            // every message.
            self.statement("begin a transaction", "SET SESSION autocommit = 0")?;
            self.is_posting = true;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.statement("commit", "COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        self.statement("roll back", "ROLLBACK")
    }

    fn end_posting(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_posting) {
            self.statement("end posting", "SET SESSION autocommit = 1")?;
        }
        Ok(())
    }

    fn max_packet(&self) -> u64 {
        self.max_packet
    }

    fn line(&mut self) -> Result<ConnectionInfo> {
        let failure =
            |error: MysqlError| failed("ask what the server allows", Doing::Asking, &error);
        let sql = "SELECT CAST(@@max_user_connections AS UNSIGNED), CAST(@@global.max_connections AS UNSIGNED)";
        let limits: Option<(u64, u64)> = self.conn.query_first(sql).map_err(failure)?;
        let (of_account, of_all) = limits.unwrap_or_default();
        let sql = "SHOW SESSION STATUS LIKE 'Ssl_cipher'";
        let cipher: Option<(String, String)> = self.conn.query_first(sql).map_err(failure)?;
        let limits = [of_account, of_all].into_iter().filter(|most| *most > 0);
        Ok(ConnectionInfo {
            connections: limits.min(),
            packet: Some(self.max_packet),
            cipher: cipher.map(|(_, name)| name).filter(|name| !name.is_empty()),
        })
    }

    fn is_alive(&mut self) -> bool {
        self.conn.ping().is_ok()
    }
}
