//! The steps of a start, each with what is said where it fails: storage, log, database, pid file, address
//! (contract: operations.md).

use std::fs::{self, DirBuilder};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{LevelFilter, error, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Failure;
use crate::config::{Config, Database, listen_address};
use crate::exit_code;
use crate::heartbeat;
use crate::limits::{HEARTBEAT_STALE_SECONDS, STORE_PATIENCE, STORE_START_PATIENCE};
use crate::log_file;
use crate::pid_file::{Occupied, PidFile};
use crate::settings::{Rows, key};
use crate::store::mysql::MysqlStore;
#[cfg(feature = "embedded")]
use crate::store::sqlite::SqliteStore;
use crate::store::{Failure as StoreFailure, Link, Store};

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o775;
/// Pause between two tries to reach the database.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long a daemon that holds the lock may take to show its first heartbeat.
const FIRST_BEAT_PATIENCE: Duration = Duration::from_secs(5);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// Descriptors that are not sockets of clients: database, log, epoll, standard streams, some to spare.
const OTHER_FILES: u64 = 64;

/// Where the daemon leaves its files.
pub struct Places {
    /// The pid file.
    pub pid_file: PathBuf,
}

/// A socket that listens, and how the log calls its address.
pub struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// `host:port`.
    pub address: String,
}

/// Makes the folders and opens the log.
pub fn prepare_storage(config: &Config, level: LevelFilter) -> Result<Places, Failure> {
    let runtime = config.storage.join("runtime");
    let logs = config.storage.join("logs");
    for folder in [&runtime, &logs] {
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(folder)
            .map_err(|error| cannot_create("make the folder", folder, &error))?;
    }
    let log = logs.join("chat-websocket.log");
    log_file::install(&log, level, config.clock.clone())
        .map_err(|error| cannot_create("open the log file", &log, &error))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        error!("panic in thread {name}: {panic}");
    }));
    Ok(Places {
        pid_file: runtime.join("chat-websocket.pid"),
    })
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
        Database::Mysql(database) => Arc::new(MysqlStore::new(database.clone())),
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

/// Takes the pid file and writes the first rows; `None` where a healthy daemon runs already.
pub fn claim(
    path: &Path,
    config: &Config,
    link: &mut Link,
    rows: &Rows,
) -> Result<Option<PidFile>, Failure> {
    let deadline = Instant::now() + FIRST_BEAT_PATIENCE;
    let mut rows = rows.clone();
    let mut pid_file = loop {
        let (pid, locked) = match PidFile::lock(path) {
            Ok(pid_file) => break pid_file,
            Err(Occupied::ByError(error)) => {
                return Err(cannot_create("lock the pid file", path, &error));
            }
            Err(Occupied::ByDaemon { pid, locked }) => (pid, locked),
        };
        if is_fresh(config, &rows) {
            eprintln!("A healthy chat websocket daemon is already running with PID {pid}.");
            return Ok(None);
        }
        if !locked {
            warn!("process {pid} has shown no heartbeat for long and is passed over");
            match PidFile::take_over(path) {
                Ok(pid_file) => break pid_file,
                Err(_) => continue,
            }
        }
        if Instant::now() > deadline {
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
    };
    pid_file
        .write()
        .map_err(|error| cannot_create("write the pid file", path, &error))?;
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
    Ok(Some(pid_file))
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
    let bound = TcpListener::bind(format!("{host}:{port}")).and_then(|socket| {
        // The standard library's backlog is too short for a reconnect of everybody at once.
        rustix::net::listen(&socket, BACKLOG)?;
        let port = socket.local_addr()?.port();
        Ok(Listener {
            socket,
            address: format!("{host}:{port}"),
        })
    });
    bound.map_err(|error| {
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
