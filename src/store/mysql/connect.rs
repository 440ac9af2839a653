//! Opens a connection and sets its session variables, so that no guarantee depends on the server's defaults.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, DriverError, Error as MysqlError, OptsBuilder};

use super::address::ServerAddress;
use super::verdict::{Doing, failed, panicked};
use super::{MysqlConnection, MysqlStore};
use crate::config::TlsMode;
use crate::store::Result;

/// Statements that a connection keeps prepared: inserts of many different lengths are among them.
const PREPARED: usize = 128;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer is waited for: less long than the one who asks waits, so that there is time for a new connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a statement may take on the server: less long than its answer is waited for, so that the connection lives on.
const STATEMENT_SECONDS: u64 = 2;
/// How long a lock of a row or a table is waited for, for the same reason.
const LOCK_SECONDS: u64 = 1;
/// How long the server lets a connection be that asks nothing: longer than the pool keeps it.
const IDLE_SECONDS: u64 = 180;
/// So long a list of ids may be, in bytes; MySQL would cut it at a hundred members by itself.
const LIST_BYTES: usize = 4 * 1024 * 1024;
/// A path that no file can have: where no key is named, none is to be asked for on an open line.
const NO_KEY: &str = "/dev/null/DB_SERVER_PUBLIC_KEY";

const OPERATION: &str = "connect to the database";

/// What a session has to know of its server.
type Facts = (String, u64, u64);

impl MysqlStore {
    pub(super) fn open(&self) -> Result<MysqlConnection> {
        let failed = |error| failed(OPERATION, Doing::Connecting, &error);
        let mut conn = self.log_in()?;
        let (version, max_packet, id_step): Facts = conn
            .query_first("SELECT @@version, @@max_allowed_packet, @@auto_increment_increment")
            .map_err(failed)?
            .unwrap_or_default();
        for statement in self.session(&version) {
            conn.query_drop(statement).map_err(failed)?;
        }
        Ok(MysqlConnection {
            conn,
            cache: self.cache.clone(),
            is_posting: false,
            max_packet,
            id_step,
        })
    }

    fn log_in(&self) -> Result<Conn> {
        let options = self.options();
        let opened = |options: OptsBuilder| {
            quietly(|| Conn::new(options)).map_err(|Panic(words)| panicked(OPERATION, &words))
        };
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
            // The library would change over from TCP to a socket by itself; the choice is made here.
            .prefer_socket(false)
            .user(Some(&config.user))
            .pass(Some(&config.password))
            .db_name(Some(&config.name))
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .tcp_keepalive_time_ms(Some(30_000))
            .tcp_keepalive_probe_interval_secs(Some(10))
            .tcp_keepalive_probe_count(Some(3))
            .stmt_cache_size(PREPARED)
            // What the server takes is looked at below, before anything is sent.
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

    /// What is needed of an open line: a key of the server, so that the password is not given to anybody who has one of
    /// its own. The server on this machine may be asked for it.
    fn with_key(&self, options: OptsBuilder) -> OptsBuilder {
        match &self.config.server_key {
            Some(key) => options.server_key_path(Some(key.clone())),
            None if ServerAddress::of(&self.config).is_this_machine() => options,
            None => options.server_key_path(Some(NO_KEY.into())),
        }
    }

    /// What makes a session the service's own. The configured words come first, so that those a server refuses are
    /// noticed; but what is said is always sent in utf8mb4, which holds all of it, and strictly, so that nothing is
    /// stored other than it was said.
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

/// What a panic said.
struct Panic(String);

/// Logs in. The driver panics at a way to log in that it was built without, at a key of the server that is none, and where
/// the system has no random numbers; what it says then is the error, and is not said to people as it is.
fn quietly<T>(run: impl FnOnce() -> T) -> std::result::Result<T, Panic> {
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
    result.map_err(|words| match words.downcast::<String>() {
        Ok(words) => Panic(*words),
        Err(words) => Panic(
            words
                .downcast_ref::<&str>()
                .copied()
                .unwrap_or_default()
                .to_owned(),
        ),
    })
}

#[cfg(feature = "db-tls")]
use super::tls::options as tls_options;

#[cfg(not(feature = "db-tls"))]
fn tls_options(_: &crate::config::TlsConfig) -> Option<mysql::SslOpts> {
    None
}
