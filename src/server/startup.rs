//! The steps of a start, each with its error message: storage, log, database, pid file, address
//! (contract: operations.md).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use log::{LevelFilter, debug, error, info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::limits::{STORE_START_TIMEOUT, STORE_TIMEOUT};
use crate::config::resource_limits::{self, Demand, Room};
use crate::config::settings::{Rows, Settings, key};
use crate::config::{Config, Database, everywhere, listen_address};
use crate::platform::clock;
use crate::platform::clock::HEARTBEAT_STALE_SECONDS;
use crate::platform::exit_code;
use crate::platform::log_file;
use crate::platform::net;
use crate::platform::owned_file;
use crate::platform::paths::{Paths, cannot};
use crate::platform::pid_file::{Occupied, PidFile, is_live_daemon};
use crate::platform::printable::without_password;
use crate::platform::problem::Problem;
use crate::server::timer;
use crate::store::cache_invalidation::AppCache;
use crate::store::mysql::MysqlStore;
#[cfg(feature = "embedded")]
use crate::store::sqlite::SqliteStore;
use crate::store::{DatabaseConnection, Pool, Store};
use crate::websocket::CONNECTION_STACK_BYTES;

/// Pause between two tries to reach the database.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// How long a daemon that holds the lock may take to show its first heartbeat.
const FIRST_BEAT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A socket that listens, and its address as the log shows it.
pub(crate) struct Listener {
    /// The socket.
    pub socket: TcpListener,
    /// `host:port`.
    pub address: String,
}

/// Makes the folders and opens the log.
pub(crate) fn prepare_storage(config: &Config, level: LevelFilter) -> Result<Paths, Problem> {
    let places = config.paths();
    let storage = &config.storage;
    owned_file::become_owner(storage).map_err(|error| cannot("use", storage, error))?;
    places.make_folders()?;
    let places = config.paths();
    let log = &places.log_file;
    log_file::install(log, level, config.clock.clone(), config.log_stderr)
        .map_err(|error| cannot("open the log file", log, error))?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("unnamed");
        error!("panic in thread {name}: {panic}");
    }));
    Ok(places)
}

/// What an administrator wants to know of a service that has started, in one line without a secret.
pub(crate) fn describe(
    config: &Config,
    rows: &Rows,
    address: &str,
    [max_connections, db_connections]: [usize; 2],
) -> String {
    let row = rows.text(key::APP_URL, "");
    let urls = [config.app_url.as_str(), row].into_iter();
    let urls = urls.filter(|url| !url.is_empty());
    let hosts: Vec<String> = urls.map(without_password).collect();
    let origins = match hosts[..] {
        [] => "APP_URL is not set, so pages of the request's own host alone".to_owned(),
        _ => format!(
            "pages of {} and of the request's own host",
            hosts.join(", ")
        ),
    };
    let limits = &config.limits;
    format!(
        "version {}{}, pid {}; address {address}; database {:?}; {origins}; at most {max_connections} connections, {} of one \
         agent, {} that have not authenticated, {db_connections} to the database",
        env!("CARGO_PKG_VERSION"),
        env!("ANDREA_CHAT_BUILD"),
        std::process::id(),
        config.database,
        limits.max_per_agent,
        limits.max_unauthenticated
    )
}

/// Writes a problem to the log, and returns it.
pub(crate) fn logged(problem: Problem) -> Problem {
    error!("{problem}");
    problem
}

/// The database that the configuration names; not connected yet.
pub(crate) fn open_store(config: &Config) -> Arc<dyn Store> {
    match &config.database {
        Database::Mysql(database) => {
            let cache = AppCache::new(config.cache.clone());
            Arc::new(MysqlStore::new((**database).clone()).with_cache(cache))
        }
        #[cfg(feature = "embedded")]
        Database::Sqlite(path) => Arc::new(SqliteStore::new(path)),
    }
}

/// Waits for a database that is down, with one log line a try; returns the settings, and the connection that they were
/// read on: an account with only one connection could not open a second at once.
pub(crate) fn wait_for_store(store: &dyn Store) -> Result<(Rows, DatabaseConnection), Problem> {
    let deadline = Instant::now() + STORE_START_TIMEOUT;
    loop {
        let read = store.connect().and_then(|mut connection| {
            let rows = connection.settings()?;
            Ok((rows, connection))
        });
        let failed = match read {
            Ok(read) => return Ok(read),
            Err(failed) => failed,
        };
        let remedy = failed.remedy;
        let remedy = remedy.unwrap_or_else(|| store.remedy(failed.failure));
        if failed.is_lasting() {
            let problem = Problem::of(exit_code::CONFIG, failed.at(store.describe()));
            return Err(logged(problem.with_remedy(remedy)));
        }
        warn!("waiting for the database {}: {failed}", store.describe());
        if Instant::now() + STORE_RETRY > deadline {
            let what = format!(
                "the database {} did not answer within {} s",
                store.describe(),
                STORE_START_TIMEOUT.as_secs(),
            );
            let problem = Problem::new(exit_code::UNAVAILABLE, what).because(failed.cause);
            return Err(logged(problem.with_remedy(remedy)));
        }
        thread::sleep(STORE_RETRY);
    }
}

/// How many connections to the database to use: as configured, or fewer if the account may not have so many. One is
/// left to the helpdesk, which may use the same account.
pub(crate) fn db_connections(config: &Config, connection: &mut DatabaseConnection) -> usize {
    let wanted = config.limits.db_connections;
    let most = connection.line().ok().and_then(|line| line.connections);
    let Some(most) = most.map(|most| most as usize) else {
        return wanted;
    };
    let taken = wanted.min(most.saturating_sub(1).max(1));
    if taken < wanted {
        warn!(
            "the account of the database may have {most} connections; {taken} are taken and not {wanted} \
             (CHAT_WEBSOCKET_DB_CONNECTIONS), so that one is left to the helpdesk where there are two"
        );
    }
    debug!("{taken} connections to the database at most, of {most} that its account may have");
    taken
}

/// Takes the pid file, without changing it; `None` where a healthy daemon runs already.
pub(crate) fn claim(
    places: &Paths,
    config: &Config,
    pool: &Pool,
    rows: &Rows,
) -> Result<Option<PidFile>, Problem> {
    let path = &places.pid_file;
    let deadline = Instant::now() + FIRST_BEAT_TIMEOUT;
    let mut rows = rows.clone();
    loop {
        let (pid, is_locked) = match PidFile::lock(places) {
            Ok(pid_file) => return Ok(Some(pid_file)),
            Err(Occupied::ByError(error)) => {
                return Err(cannot("lock the pid file", path, error));
            }
            Err(Occupied::ByDaemon { pid, is_locked }) => (pid, is_locked),
        };
        let waited = Instant::now() > deadline;
        let age = config.clock.seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        // A process that has just locked the file has not written its pid yet; the old pid would mislead.
        if clock::is_fresh(age) && (!is_locked || waited || is_live_daemon(pid)) {
            eprintln!("A healthy chat websocket daemon is already running with PID {pid}.");
            return Ok(None);
        }
        if !is_locked {
            let seen = age.map_or("no heartbeat".to_owned(), |age| {
                format!("last heartbeat {age} s ago")
            });
            warn!("ignoring the stale pid file of process {pid} ({seen})");
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
            return Err(logged(Problem::new(exit_code::FAILED, message)));
        }
        // The other daemon may just be starting.
        thread::sleep(Duration::from_millis(100));
        rows = pool
            .run_until(Instant::now() + STORE_TIMEOUT, |store| store.settings())
            .map_err(|failed| Problem::of(exit_code::UNAVAILABLE, failed))?;
    }
}

/// Writes the pid and the first rows.
pub(crate) fn announce(
    mut pid_file: PidFile,
    config: &Config,
    pool: &Pool,
) -> Result<PidFile, Problem> {
    let written = pid_file.write();
    written.map_err(|error| cannot("write the pid file", pid_file.path(), error))?;
    let now = config.clock.now_text();
    let deadline = Instant::now() + STORE_START_TIMEOUT;
    let write =
        |store: &mut DatabaseConnection| store.update_settings(&[(key::LAST_STARTED_AT, &now)]);
    let started = loop {
        let written = pool.run_anew(write);
        match written.and_then(|()| timer::beat(pool, &config.clock)) {
            // A passing failure is retried; a read-only server is not waited for at a start.
            Err(failed) if !failed.is_lasting() && Instant::now() < deadline => {
                thread::sleep(STORE_RETRY);
            }
            done => break done,
        }
    };
    if let Err(failed) = started {
        error!("{failed}");
        pid_file.remove();
        let (code, remedy) = match failed.is_lasting() {
            true => (
                exit_code::CONFIG,
                "the database user needs UPDATE on the table settings",
            ),
            false => (
                exit_code::UNAVAILABLE,
                "look at the database's log and load; start again once it answers",
            ),
        };
        let remedy = failed.remedy.unwrap_or(remedy);
        return Err(Problem::of(code, failed).with_remedy(remedy));
    }
    Ok(pid_file)
}

/// Shows a daemon that cannot listen: the rows that a start leaves, but never as running.
pub(crate) fn show_failed(config: &Config, pool: &Pool) {
    let (pid, now) = (std::process::id().to_string(), config.clock.now_text());
    let rows = [
        (key::LAST_STARTED_AT, now.as_str()),
        (key::STATUS, "failed"),
        (key::PID, &pid),
        (key::LAST_SEEN_AT, &now),
    ];
    if let Err(failed) = pool.run_anew(|store| store.update_settings(&rows)) {
        error!("{failed}");
    }
}

/// Binds the address of option, environment or settings.
pub(crate) fn listen(config: &Config, rows: &Rows) -> Result<Listener, Problem> {
    let (host, port, warnings) = listen_address(config, rows);
    for warning in warnings {
        warn!("{warning}");
    }
    if let Some(listener) = passed_socket()? {
        let wanted = format!("{host}:{port}");
        let same = |address: &SocketAddr| address.to_string() == listener.address;
        if !net::addresses(&host, port).is_ok_and(|all| all.iter().any(same)) {
            warn!(
                "the service manager has opened {}, which counts, and not {wanted} as configured; let them agree",
                listener.address
            );
        }
        return Ok(listener);
    }
    let bound = net::addresses(&host, port)
        .and_then(|addresses| TcpListener::bind(&addresses[..]))
        .and_then(ready);
    let named = bound.map(|listener| {
        // The configured host, and the actual port: with 0 the system chooses one.
        let port = listener.address.rsplit(':').next().unwrap_or_default();
        Listener {
            address: format!("{host}:{port}"),
            ..listener
        }
    });
    named.map_err(|error| {
        let problem = Problem::new(exit_code::FAILED, format!("failed to listen on {host}:{port}"));
        let problem = problem.because(error);
        // A recorded line (contract), which has no level before it.
        info!("{problem}");
        problem.with_remedy(
            "free the address, or choose another with CHAT_WEBSOCKET_HOST, CHAT_WEBSOCKET_PORT or the settings",
        )
    })
}

fn ready(socket: TcpListener) -> io::Result<Listener> {
    // The standard library's backlog is too short for all clients to reconnect at once.
    rustix::net::listen(&socket, BACKLOG)?;
    let address = socket.local_addr()?;
    if let Some(warning) = everywhere(address) {
        warn!("listening on {address}: {warning}");
    }
    Ok(Listener {
        socket,
        address: address.to_string(),
    })
}

/// The socket that a service manager has opened (`LISTEN_FDS`), if any: connections that arrive while no daemon runs wait
/// in it.
fn passed_socket() -> Result<Option<Listener>, Problem> {
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    if count > 1 {
        warn!("the service manager has opened {count} sockets; the first one counts");
    }
    if count == 0 {
        return Ok(None);
    }
    let socket = passed.take_tcp_listener(0);
    let socket = socket.and_then(|socket| socket.ok_or(io::Error::other("there is none")));
    socket.and_then(ready).map(Some).map_err(|error| {
        logged(
            Problem::of_config("cannot use the socket that the service manager has opened")
                .because(error)
                .with_remedy("ListenStream= must be an address and a port, with Accept=no"),
        )
    })
}

/// Adds the limits up, says what cannot hold, raises the soft limit of open files to the hard one, and returns how many
/// connections it allows.
pub(crate) fn make_room(config: &Config, settings: &Settings) -> usize {
    let message_bytes = settings.max_message_bytes(&config.limits);
    let demand = Demand::of(&config.limits, message_bytes);
    debug!("limits: {demand}");
    if rustix::process::geteuid().is_root() {
        warn!(
            "the service runs as root, which is not needed; run it as the user of the helpdesk's PHP (User= in the unit, the \
             sixth field in cron.d)"
        );
    }
    let room = Room::here();
    for shortage in resource_limits::shortages(&demand, &room) {
        warn!("{shortage}");
    }
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let by_files = current.map(resource_limits::connections_by_files);
    let by_threads = room
        .threads
        .map(|(most, _)| resource_limits::connections_by_threads(most));
    let by_space = getrlimit(Resource::As).current.map(|space| {
        resource_limits::connections_by_space(space, CONNECTION_STACK_BYTES, &config.limits)
    });
    let allowed = by_files.into_iter().chain(by_threads).chain(by_space);
    allowed.fold(config.limits.max_connections, |least, most| {
        least.min(most as usize)
    })
}

/// Gives up what is never needed. Before the first thread, since threads inherit it.
pub(crate) fn drop_privileges() {
    // A core dump would hold the secret.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    // Fails only on kernels older than 3.5.
    let _ = rustix::thread::set_no_new_privs(true);
}
