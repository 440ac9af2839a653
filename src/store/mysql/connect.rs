//! Opens a connection and sets its session variables, so that no guarantee depends on the server's defaults.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, Error as MysqlError, OptsBuilder};

use super::address::ServerAddress;
use super::verdict::{Doing, failed, panicked};
use super::{MysqlEngine, MysqlStore};
use crate::config::TlsMode;
use crate::store::Result;

/// Prepared statements that a connection keeps: many, since inserts differ in length.
const PREPARED: usize = 128;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for an answer: shorter than `STORE_TIMEOUT`, so that there is time left for a new connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Time limit for a statement on the server: shorter than `ANSWER_TIMEOUT`, so that the connection lives on.
const STATEMENT_SECONDS: u64 = 2;
/// Time limit for a lock of a row or a table, for the same reason.
const LOCK_SECONDS: u64 = 1;
/// The server closes a connection that is idle for this long: longer than the pool keeps one.
const IDLE_SECONDS: u64 = 180;
/// Longest list of ids that the server joins, in bytes; MySQL's default of 1 KiB holds only a few hundred ids.
const LIST_BYTES: usize = 4 * 1024 * 1024;
/// A path that no file can have: it keeps the driver from asking for a key over an unencrypted line.
const NO_KEY: &str = "/dev/null/DB_SERVER_PUBLIC_KEY";

const OPERATION: &str = "connect to the database";

/// Version, `max_allowed_packet`, `auto_increment_increment`.
type Facts = (String, u64, u64);

impl MysqlStore {
    pub(super) fn open(&self) -> Result<MysqlEngine> {
        let failed = |error| failed(OPERATION, Doing::Connecting, &error);
        let mut conn = self.log_in()?;
        let (version, max_packet, id_step): Facts = conn
            .query_first("SELECT @@version, @@max_allowed_packet, @@auto_increment_increment")
            .map_err(failed)?
            .unwrap_or_default();
        for statement in self.session(&version) {
            conn.query_drop(statement).map_err(failed)?;
        }
        Ok(MysqlEngine {
            conn,
            is_posting: false,
            max_packet,
            id_step,
        })
    }

    fn log_in(&self) -> Result<Conn> {
        let options = self.options();
        let opened = |options: OptsBuilder| quietly(|| Conn::new(options));
        let mut conn = opened(options.clone())?;
        if self.config.tls.mode == TlsMode::Preferred
            && let Err(MysqlError::DriverError(DriverError::TlsNotSupported)) = &conn
        {
            conn = opened(self.with_key(options.ssl_opts(None)))?;
        }
        conn.map_err(|error| failed(OPERATION, Doing::Connecting, &error))
    }

    fn options(&self) -> OptsBuilder {
        let config = &self.config;
        let address = ServerAddress::of(config);
        let options = OptsBuilder::new()
            // The driver would switch from TCP to a socket by itself; `ServerAddress` has chosen.
            .prefer_socket(false)
            .user(Some(&config.user))
            .pass(Some(&config.password))
            .db_name(Some(&config.name))
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .tcp_keepalive_time_ms(Some(30_000))
            .tcp_keepalive_probe_interval_secs(Some(10))
            .tcp_keepalive_probe_count(Some(3))
            .stmt_cache_size(PREPARED)
            // The most there can be: `fits` checks each statement against what the server takes.
            .max_allowed_packet(Some(1 << 30))
            .read_timeout(Some(ANSWER_TIMEOUT))
            .write_timeout(Some(ANSWER_TIMEOUT));
        match address {
            ServerAddress::Unix(path) => options.socket(Some(path)),
            ServerAddress::Tcp(host, port) => {
                let options = options.ip_or_hostname(Some(host)).tcp_port(port);
                match tls_options(&config.tls) {
                    Some(tls) => options.ssl_opts(tls),
                    None => self.with_key(options),
                }
            }
        }
    }

    /// Adds what an unencrypted line needs: the server's key, so that no other server can get the password. Only a
    /// server on this machine may be asked for its key.
    fn with_key(&self, options: OptsBuilder) -> OptsBuilder {
        match &self.config.server_key {
            Some(key) => options.server_key_path(Some(key.clone())),
            None if ServerAddress::of(&self.config).is_this_machine() => options,
            None => options.server_key_path(Some(NO_KEY.into())),
        }
    }

    /// The statements that set up a session. The configured charset and collation come first, only so that a refusal is
    /// noticed: text is always sent in utf8mb4, which has every character, and in strict mode, so that the server
    /// stores nothing altered.
    fn session(&self, version: &str) -> [String; 2] {
        let limit = match version.contains("MariaDB") {
            true => format!("max_statement_time = {STATEMENT_SECONDS}"),
            false => format!("max_execution_time = {}", STATEMENT_SECONDS * 1000),
        };
        let (charset, collation) = (&self.config.charset, &self.config.collation);
        [
            format!(
                "SET NAMES {charset} COLLATE {collation}, NAMES utf8mb4 COLLATE utf8mb4_unicode_ci, \
                 SESSION autocommit = 1, SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
                 SESSION innodb_lock_wait_timeout = {LOCK_SECONDS}, SESSION lock_wait_timeout = {LOCK_SECONDS}, \
                 SESSION wait_timeout = {IDLE_SECONDS}, SESSION net_read_timeout = 30, SESSION net_write_timeout = 60, \
                 SESSION group_concat_max_len = {LIST_BYTES}, SESSION sql_select_limit = 18446744073709551615, \
                 SESSION sql_big_selects = 1, SESSION sql_safe_updates = 0, SESSION completion_type = 0, \
                 SESSION foreign_key_checks = 1, SESSION unique_checks = 1, SESSION {limit}"
            ),
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ WRITE".to_owned(),
        ]
    }
}

/// Catches a panic of the driver and keeps it out of the log. The driver panics at an authentication plugin that it was
/// built without, at an invalid key of the server, and if the system has no random numbers.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T> {
    thread_local!(static IS_QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let words = text.or_else(|| panic.downcast_ref::<&str>().copied());
        panicked(OPERATION, words.unwrap_or_default())
    })
}

#[cfg(feature = "db-tls")]
use super::tls::options as tls_options;

#[cfg(not(feature = "db-tls"))]
fn tls_options(_: &crate::config::TlsConfig) -> Option<mysql::SslOpts> {
    None
}
