//! The steps of a start, each with what is said where it fails: storage, log, database, pid file, address
//! (contract: operations.md).

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use log::{LevelFilter, error, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Failure;
use crate::app_cache::AppCache;
use crate::config::{Config, Database, listen_address};
use crate::exit_code;
use crate::heartbeat;
use crate::limits::{HEARTBEAT_STALE_SECONDS, STORE_PATIENCE, STORE_START_PATIENCE};
use crate::log_file;
use crate::pid_file::{Occupied, PidFile, is_live_daemon};
use crate::places::Places;
use crate::settings::{Rows, key};
use crate::store::mysql::MysqlStore;
#[cfg(feature = "embedded")]
use crate::store::sqlite::SqliteStore;
use crate::store::{Failure as StoreFailure, Link, Store};

/// Pause between two tries to reach the database.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long a daemon that holds the lock may take to show its first heartbeat.
const FIRST_BEAT_PATIENCE: Duration = Duration::from_secs(5);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Descriptors that are not sockets of clients: database, log, epoll, standard streams, some to spare.
const OTHER_FILES: u64 = 64;

/// A socket that listens, and how the log calls its address.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// `host:port`.
    pub address: String,
}

/// Makes the folders and opens the log.
pub fn prepare_storage(config: &Config, level: LevelFilter) -> Result<Places, Failure> {
    let places = Places::of(config);
    places
        .make_folders()
        .map_err(|(folder, error)| cannot_create("make the folder", &folder, &error))?;
    let log = &places.log_file;
    log_file::install(log, level, config.clock.clone())
        .map_err(|error| cannot_create("open the log file", log, &error))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        error!("panic in thread {name}: {panic}");
    }));
    Ok(places)
}

fn cannot_create(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        exit_code::CANNOT_CREATE,
        format!(
            "cannot {what} {}: {error}; let the user the service runs as write there, or set STORAGE_PATH",
            path.display()
        ),
    )
}

/// The database that the configuration names; not connected yet.
pub fn open_store(config: &Config) -> Arc<dyn Store> {
    match &config.database {
        Database::Mysql(database) => {
            let cache = AppCache::new(config.cache.clone());
            Arc::new(MysqlStore::new(database.clone()).with_cache(cache))
        }
        #[cfg(feature = "embedded")]
        Database::Sqlite(path) => Arc::new(SqliteStore::new(path)),
    }
}

/// Waits for a database that is down, with one log line a try; returns the settings.
pub fn wait_for_store(store: &dyn Store) -> Result<Rows, Failure> {
    let deadline = Instant::now() + STORE_START_PATIENCE;
    loop {
        let failed = match store.connect().and_then(|mut one| one.settings()) {
            Ok(rows) => return Ok(rows),
            Err(failed) => failed,
        };
        match failed.failure {
            StoreFailure::Denied | StoreFailure::Refused => {
                error!("{failed}");
                return Err(Failure::new(
                    exit_code::CONFIG,
                    format!(
                        "{failed} ({}); {}",
                        store.describe(),
                        store.remedy(failed.failure)
                    ),
                ));
            }
            StoreFailure::Lost | StoreFailure::Conflict => {
                warn!("waiting for the database {}: {failed}", store.describe());
            }
        }
        if Instant::now() + STORE_RETRY > deadline {
            let message = format!(
                "the database {} did not answer within {} s: {}; {}",
                store.describe(),
                STORE_START_PATIENCE.as_secs(),
                failed.cause,
                store.remedy(failed.failure)
            );
            error!("{message}");
            return Err(Failure::new(exit_code::UNAVAILABLE, message));
        }
        thread::sleep(STORE_RETRY);
    }
}

/// Takes the pid file, without changing it; `None` where a healthy daemon runs already.
pub fn claim(
    path: &Path,
    config: &Config,
    link: &mut Link,
    rows: &Rows,
) -> Result<Option<PidFile>, Failure> {
    let deadline = Instant::now() + FIRST_BEAT_PATIENCE;
    let mut rows = rows.clone();
    loop {
        let (pid, locked) = match PidFile::lock(path) {
            Ok(pid_file) => return Ok(Some(pid_file)),
            Err(Occupied::ByError(error)) => {
                return Err(cannot_create("lock the pid file", path, &error));
            }
            Err(Occupied::ByDaemon { pid, locked }) => (pid, locked),
        };
        let waited = Instant::now() > deadline;
        // Whoever has locked the file a moment ago has not written its pid yet; the old one would mislead.
        if is_fresh(config, &rows) && (!locked || waited || is_live_daemon(pid)) {
            eprintln!("A healthy chat websocket daemon is already running with PID {pid}.");
            return Ok(None);
        }
        if !locked {
            warn!("process {pid} has shown no heartbeat for long and is passed over");
            match PidFile::take_over(path) {
                Ok(pid_file) => return Ok(Some(pid_file)),
                Err(_) => continue,
            }
        }
        if waited {
            let message = format!(
                "process {pid} holds {} but has shown no heartbeat for {HEARTBEAT_STALE_SECONDS} s; end it (kill {pid}) and \
                 start again",
                path.display()
            );
            error!("{message}");
            return Err(Failure::new(exit_code::FAILED, message));
        }
        // It may be starting just now.
        thread::sleep(Duration::from_millis(100));
        rows = read_again(link)?;
    }
}

/// Writes the pid and the first rows.
pub fn announce(
    mut pid_file: PidFile,
    config: &Config,
    link: &mut Link,
) -> Result<PidFile, Failure> {
    pid_file
        .write()
        .map_err(|error| cannot_create("write the pid file", pid_file.path(), &error))?;
    let now = config.clock.now_text();
    let deadline = Instant::now() + STORE_PATIENCE;
    let started = link
        .run_until(deadline, |store| {
            store.update_settings(&[(key::LAST_STARTED_AT, &now)])
        })
        .and_then(|()| heartbeat::beat(link, &config.clock));
    if let Err(failed) = started {
        error!("{failed}");
        pid_file.remove();
        return Err(Failure::new(
            exit_code::UNAVAILABLE,
            format!("{failed}; the database user needs UPDATE on the table settings"),
        ));
    }
    Ok(pid_file)
}

fn is_fresh(config: &Config, rows: &Rows) -> bool {
    config
        .clock
        .seconds_since(rows.text(key::LAST_SEEN_AT, ""))
        .is_some_and(|age| age <= HEARTBEAT_STALE_SECONDS)
}

fn read_again(link: &mut Link) -> Result<Rows, Failure> {
    link.run_until(Instant::now() + STORE_PATIENCE, |store| store.settings())
        .map_err(|failed| Failure::new(exit_code::UNAVAILABLE, failed.to_string()))
}

/// Binds the address of option, environment or settings.
pub fn listen(config: &Config, rows: &Rows, link: &mut Link) -> Result<Listener, Failure> {
    let (host, port, warnings) = listen_address(config, rows);
    for warning in warnings {
        warn!("{warning}");
    }
    if let Some(listener) = passed_socket()? {
        let wanted = format!("{host}:{port}");
        let same = |mut addresses: std::vec::IntoIter<SocketAddr>| {
            addresses.any(|address| address.to_string() == listener.address)
        };
        if !wanted.to_socket_addrs().is_ok_and(same) {
            warn!(
                "the service manager has opened {}, which counts, and not {wanted} as configured; let them agree",
                listener.address
            );
        }
        return Ok(listener);
    }
    let bound = bind(&host, port).and_then(ready);
    let named = bound.map(|listener| {
        // As it is configured, but for a port that was left to the system.
        let port = listener.address.rsplit(':').next().unwrap_or_default();
        Listener {
            address: format!("{host}:{port}"),
            ..listener
        }
    });
    named.map_err(|error| {
        let message = format!("failed to listen on {host}:{port}: {error}");
        error!("{message}");
        if let Err(failed) = link.run(|store| store.update_settings(&[(key::STATUS, "failed")])) {
            error!("{failed}");
        }
        Failure::new(
            exit_code::FAILED,
            format!(
                "{message}; free the address, or choose another with CHAT_WEBSOCKET_HOST, CHAT_WEBSOCKET_PORT or the settings"
            ),
        )
    })
}

/// A name such as `localhost` may stand for both families; the proxy looks for the service at the IPv4 one.
fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut addresses: Vec<SocketAddr> = format!("{host}:{port}").to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpListener::bind(&addresses[..])
}

fn ready(socket: TcpListener) -> io::Result<Listener> {
    // The standard library's backlog is too short for a reconnect of everybody at once.
    rustix::net::listen(&socket, BACKLOG)?;
    let address = socket.local_addr()?.to_string();
    Ok(Listener { socket, address })
}

/// The socket that a service manager has opened (`LISTEN_FDS`), if it has: connections that come while nobody runs
/// wait in it.
fn passed_socket() -> Result<Option<Listener>, Failure> {
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    if count > 1 {
        warn!("the service manager has opened {count} sockets; the first one counts");
    }
    let socket = match count {
        0 => return Ok(None),
        _ => passed.take_tcp_listener(0),
    };
    let unusable = |error: &dyn std::fmt::Display| {
        let message = format!(
            "cannot use the socket that the service manager has opened: {error}; ListenStream= must be an address \
             and a port, with Accept=no"
        );
        error!("{message}");
        Failure::new(exit_code::CONFIG, message)
    };
    match socket {
        Ok(Some(socket)) => ready(socket).map(Some).map_err(|error| unusable(&error)),
        Ok(None) => Err(unusable(&"there is none")),
        Err(error) => Err(unusable(&error)),
    }
}

/// Raises the soft limit of open files to the hard one, and returns how many connections it allows.
pub fn raise_file_limit(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let Some(files) = current else {
        return wanted;
    };
    let possible = files.saturating_sub(OTHER_FILES).max(1) as usize;
    if possible < wanted {
        warn!(
            "the limit of {files} open files allows {possible} connections, not {wanted}; raise it (LimitNOFILE, ulimit -n) or \
             lower CHAT_WEBSOCKET_MAX_CONNECTIONS"
        );
    }
    wanted.min(possible)
}

/// Removes a file that a stop which took too long could not.
pub fn remove_file(path: &Path) {
    let _ = fs::remove_file(path);
}
