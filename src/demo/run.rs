//! `demo`: the same service as `serve`, with its own database in one folder, and with a chat page.
//!
//! One process does the work of an install's supervisor and daemon. The listener stays open for the life of the process
//! and serves one server after the other: that of the running service or, while the service is stopped, one that serves
//! the pages and refuses sockets. So a stop request really ends the service (its threads, sockets and pid file), and the
//! page stays, to start it again. Requests that arrive in between wait in the backlog.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{LevelFilter, error, info};
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::auth::TokenVerifier;
use crate::chat::Chat;
use crate::config::MIN_SECRET_BYTES;
use crate::config::limits::Limits;
use crate::config::settings::{Rows, Settings, key};
use crate::config::{Config, Database, Variables, jwt_secret};
use crate::demo::data;
use crate::demo::site::DemoSite;
use crate::hub::Command;
use crate::platform::clock::AppClock;
use crate::platform::exit_code;
use crate::platform::log_file::LogStderr;
use crate::platform::owned_file::{self, Use};
use crate::platform::paths::Paths;
use crate::platform::pid_file::Holder;
use crate::platform::problem::Problem;
use crate::platform::threads::Threads;
use crate::server::startup;
use crate::server::{
    Ending, Events, Prepared, Running, STORE_STACK, ServerEvent, broken, cannot_start, start_hub,
};
use crate::store::sqlite::SqliteStore;
use crate::store::{self, DatabaseConnection, Pool, Pools, Store, StoreError};
use crate::supervisor::{self, Decision, Observed};
use crate::websocket::Server;

/// The database's file in the demo's folder.
const DATABASE: &str = "chat.sqlite";
/// How often the settings are checked for whether the service should run. In an install, cron does so once a minute.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many ports after the wanted one are tried.
const PORTS_TRIED: u16 = 50;
/// Random bytes in a new secret, which is written as twice as many hexadecimal digits.
const SECRET_BYTES: usize = MIN_SECRET_BYTES;
/// How long the last responses of the pages may take before the service's server takes over.
const HANDOVER: Duration = Duration::from_millis(500);

/// Options of the demo.
#[derive(Clone, Debug)]
pub(crate) struct DemoOptions {
    /// Folder for everything that it writes; made if missing.
    pub data: PathBuf,
    /// Port, or the next free one if it is taken; 0 is any free port.
    pub port: u16,
    /// How much to log.
    pub level: LevelFilter,
}

/// Runs the demo until a signal ends it; `announce` gets the page's address and the folder once the page can be opened.
///
/// # Errors
/// The start or a part of the running service failed, or a demo with this data is running already.
pub(crate) fn demo(
    options: &DemoOptions,
    announce: impl FnOnce(&str, &Path),
) -> Result<(), Problem> {
    let data = folder(&options.data)?;
    let mut lock = Lock::take(&data)?;
    let config = config(&data)?;
    let places = startup::prepare_storage(&config, options.level)?;
    check_database_files(&data)?;
    let store = SqliteStore::new(data.join(DATABASE));
    data::fill(&store).map_err(|error| no_database(&store, error))?;
    let listener = bind(options.port)?;
    let address = listener.local_addr().map_err(cannot_start)?;
    let url = format!("http://{address}/");
    lock.write(&url)
        .map_err(|error| Problem::of(exit_code::CANNOT_CREATE, error))?;
    let site = DemoSite::new(&store, config.jwt_secret.clone(), address.to_string())
        .map_err(|error| no_database(&store, error))?;
    let store: Arc<dyn Store> = Arc::new(store);
    let demo = Demo {
        pools: Pools::new(&store, config.limits.db_connections),
        config,
        store,
        places,
        listener,
        address: address.to_string(),
        site,
        events: Events::new(),
    };
    demo.events.watch_signals().map_err(cannot_start)?;
    demo.forget_requests()?;
    announce(&url, &data);
    demo.run()
}

struct Demo {
    config: Config,
    store: Arc<dyn Store>,
    pools: Pools,
    places: Paths,
    listener: TcpListener,
    address: String,
    site: Arc<DemoSite>,
    events: Events,
}

impl Demo {
    fn ask<T>(
        &self,
        operation: impl FnOnce(&mut DatabaseConnection) -> store::Result<T>,
    ) -> Result<T, Problem> {
        let result = self.pools.shared.run(operation);
        result.map_err(|error| no_database(self.store.as_ref(), error))
    }

    /// Clears the requests and switches of the last run, because the user wants a running service now, and records the
    /// address, by which the subcommands find it.
    fn forget_requests(&self) -> Result<(), Problem> {
        let (host, port) = self.address.split_once(':').unwrap_or_default();
        self.ask(|store| {
            store.update_settings(&[
                (key::CHAT_ENABLED, "1"),
                (key::WEBSOCKET_ENABLED, "1"),
                (key::AUTOSTART, "1"),
                (key::HOST, host),
                (key::PORT, port),
                (key::STOP_REQUESTED, "0"),
                (key::RESTART_REQUESTED, "0"),
            ])
        })
    }

    fn run(&self) -> Result<(), Problem> {
        loop {
            if self.serve()? == Ending::Terminated || self.wait_for_start()? == Ending::Terminated {
                return Ok(());
            }
        }
    }

    /// One run of the service, from its start to its end.
    fn serve(&self) -> Result<Ending, Problem> {
        let (rows, _) = startup::wait_for_store(self.store.as_ref())?;
        let pool = &self.pools.shared;
        let claimed = startup::claim(&self.places, &self.config, pool, &rows)?;
        let claimed = claimed.ok_or_else(|| {
            let what = "another daemon works on this data";
            let remedy = "end it, or name another folder with --data";
            Problem::new(exit_code::FAILED, what).with_remedy(remedy)
        })?;
        let pid_file = startup::announce(claimed, &self.config, pool)?;
        let socket = self.listener.try_clone().map_err(cannot_start)?;
        let supervisor = DemoSupervisor::start(Arc::clone(pool), &self.events.threads());
        let supervisor = supervisor.map_err(cannot_start)?;
        let running = Running::begin(Prepared {
            config: self.config.clone(),
            rows,
            pools: self.pools.clone(),
            bus: None,
            push: None,
            listener: startup::Listener {
                socket,
                address: self.address.clone(),
            },
            pid_file,
            events: self.events.clone(),
            end_wanted: supervisor.end_wanted.clone(),
            site: Some(Box::new(Arc::clone(&self.site))),
        })
        .map_err(cannot_start)?;
        self.site.attach(&running.server);
        let ending = running.wait();
        supervisor.stop();
        ending
    }

    /// Serves only the pages until the service should start.
    fn wait_for_start(&self) -> Result<Ending, Problem> {
        if self.is_start_due()? {
            return Ok(Ending::Supervised);
        }
        let pages = Pages::start(self).map_err(cannot_start)?;
        info!("the service is stopped, the pages stay");
        let ending = loop {
            match self.events.receiver.recv_timeout(LOOK_EVERY) {
                Ok(ServerEvent::Terminate) | Err(RecvTimeoutError::Disconnected) => {
                    break Ok(Ending::Terminated);
                }
                Ok(ServerEvent::Broken(name)) => break Err(broken(&name)),
                Ok(ServerEvent::Reload) => {}
                Err(RecvTimeoutError::Timeout) => match self.is_start_due() {
                    Ok(false) => {}
                    Ok(true) => break Ok(Ending::Supervised),
                    Err(failure) => break Err(failure),
                },
            }
        };
        pages.stop();
        ending
    }

    /// Whether a supervisor would start the service; clears the request that this settles.
    fn is_start_due(&self) -> Result<bool, Problem> {
        let decision = decide(&self.ask(|store| store.settings())?, false);
        let settled = match decision {
            Decision::Start {
                has_restart_request,
            } if has_restart_request => Some(key::RESTART_REQUESTED),
            Decision::Report {
                has_stop_request, ..
            } if has_stop_request => Some(key::STOP_REQUESTED),
            _ => None,
        };
        if let Some(request) = settled {
            self.ask(|store| store.update_settings(&[(request, "0")]))?;
        }
        Ok(matches!(decision, Decision::Start { .. }))
    }
}

/// The supervisor's decision about these settings, with the service running in this process or not.
fn decide(rows: &Rows, is_running: bool) -> Decision {
    let holder = is_running.then(|| Holder {
        pid: std::process::id(),
        is_verified: true,
    });
    let age = AppClock::utc().seconds_since(rows.text(key::LAST_SEEN_AT, ""));
    supervisor::decide(&Observed::new(rows, holder, age))
}

/// Ends the running service when an install's supervisor would; looks once a second.
struct DemoSupervisor {
    end_wanted: Receiver<()>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl DemoSupervisor {
    fn start(pool: Arc<Pool>, threads: &Threads) -> io::Result<Self> {
        let (sender, end_wanted) = bounded(1);
        let (stop, stopped) = bounded::<()>(0);
        let thread = threads.spawn("supervisor", STORE_STACK, move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // The service itself handles the loss of its database.
                let Ok(rows) = pool.run(|store| store.settings()) else {
                    continue;
                };
                use Decision::{Replace, Restart, Stop};
                if matches!(decide(&rows, true), Stop(_) | Restart(_) | Replace(_)) {
                    // Full only if the request is pending already.
                    let _ = sender.try_send(());
                }
            }
        })?;
        Ok(DemoSupervisor {
            end_wanted,
            stop,
            thread,
        })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("thread \"supervisor\" panicked");
        }
    }
}

/// The pages without the service.
struct Pages {
    server: Arc<Server>,
    threads: Vec<JoinHandle<()>>,
    chat: Arc<Chat>,
    hub_thread: JoinHandle<()>,
}

impl Pages {
    fn start(demo: &Demo) -> io::Result<Self> {
        let threads = demo.events.threads();
        let (hub, hub_thread) = start_hub(&demo.config.limits, None, &threads)?;
        let settings = Settings {
            // Every socket is refused with 503.
            websocket_enabled: false,
            ..Settings::from_rows(&Rows::default())
        };
        let limits = demo.config.limits.clone();
        let verifier = TokenVerifier::new(&demo.config.jwt_secret);
        let (chat, _) = Chat::new(threads, hub, None, None, limits, verifier, settings);
        let chat = Arc::new(chat);
        let (server, threads) = Server::start(
            Arc::clone(&chat),
            String::new(),
            Some(Box::new(Arc::clone(&demo.site))),
            demo.config.limits.max_connections,
            demo.listener.try_clone()?,
        )?;
        demo.site.attach(&server);
        Ok(Pages {
            server,
            threads,
            chat,
            hub_thread,
        })
    }

    fn stop(self) {
        self.server.stop_reading();
        self.chat.hub.send(Command::Stop);
        if self.hub_thread.join().is_err() {
            error!("thread \"hub\" panicked");
        }
        self.server
            .say_goodbye(self.threads, Instant::now() + HANDOVER);
    }
}

fn config(data: &Path) -> Result<Config, Problem> {
    write_dotenv(&data.join(".env"))?;
    let variables = Variables::load(data)?;
    Ok(Config {
        root: data.to_owned(),
        jwt_secret: jwt_secret(&variables)?,
        app_url: String::new(),
        bus_url: None,
        // SQLite's own times are in UTC.
        clock: AppClock::utc(),
        storage: data.to_owned(),
        host: None,
        port: None,
        database: Database::Sqlite(data.join(DATABASE)),
        limits: Limits::from_variables(&variables)?,
        // The terminal is for the demo's own messages.
        log_stderr: LogStderr::Never,
        push: crate::config::PushOptions::from_variables(data, &variables)?,
        // No other application has a cache of this database.
        cache: crate::config::cache::CacheOverrides::off(),
    })
}

fn folder(data: &Path) -> Result<PathBuf, Problem> {
    let made = owned_file::make_folder(data, 0o700, true).and_then(|made| {
        let found = rustix::fs::fstat(made)?;
        // Another user could place a secret, a link or a database there, none of which can be trusted.
        if found.st_uid != geteuid().as_raw() || found.st_mode & 0o022 != 0 {
            let why =
                "it is not yours alone: another user owns it, or may write there (chmod go-w)";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        data.canonicalize()
    });
    made.map_err(|error| cannot_write("use the folder", data, error))
}

fn cannot_write<E: Into<io::Error>>(operation: &'static str, path: &Path, error: E) -> Problem {
    Problem::of_path(operation, path, error).with_remedy("choose another folder with --data")
}

fn no_database(store: &dyn Store, error: StoreError) -> Problem {
    Problem::of(exit_code::UNAVAILABLE, error.at(store.describe()))
        .with_remedy("delete the demo's folder to begin anew, or choose another with --data")
}

/// Writes the folder's `.env` on first use, readable only by its owner. It makes the folder an install like any other, on
/// which the subcommands work with `--root`. Lines that a user has written stay.
fn write_dotenv(path: &Path) -> Result<(), Problem> {
    let mut old = String::new();
    let read = owned_file::open_private(path, Use::Read)
        .and_then(|mut file| file.read_to_string(&mut old));
    match read {
        Ok(_) if old.lines().any(|line| line.starts_with("JWT_SECRET=")) => return Ok(()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot_write("read", path, error)),
    }
    let made = (|| {
        let mut bytes = [0; SECRET_BYTES];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = format!(
            "{old}JWT_SECRET={secret}\nSTORAGE_PATH=.\nDB_CONNECTION=sqlite\nDB_DATABASE={DATABASE}\n"
        );
        owned_file::replace(path, &text, 0o600)
    })();
    made.map_err(|error| cannot_write("write", path, error))
}

/// Checks the database's files, because SQLite opens them by name and would follow another user's link.
fn check_database_files(data: &Path) -> Result<(), Problem> {
    for end in ["", "-wal", "-shm", "-journal"] {
        let path = data.join(format!("{DATABASE}{end}"));
        match owned_file::open_private(&path, Use::Read) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(cannot_write("open", &path, error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A lock that keeps a second demo off the same data; the file holds the first one's URL.
struct Lock(File);

impl Lock {
    fn take(data: &Path) -> Result<Self, Problem> {
        let path = data.join("demo.lock");
        let mut file = owned_file::open_private(&path, Use::Change)
            .map_err(|error| cannot_write("open", &path, error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut url = String::new();
                // If it cannot be read, the message only lacks the URL.
                let _ = file.read_to_string(&mut url);
                let what = format!("a demo with this data runs already: {url}");
                let remedy = "open that page, or choose another folder with --data";
                Err(Problem::new(exit_code::FAILED, what).with_remedy(remedy))
            }
            Err(error) => Err(cannot_write("lock", &path, error)),
        }
    }

    fn write(&mut self, url: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all(url.as_bytes())
    }
}

/// Listens on this port of the loopback interface, or on the next one that is free.
fn bind(port: u16) -> Result<TcpListener, Problem> {
    let last = port.saturating_add(if port == 0 { 0 } else { PORTS_TRIED });
    let mut next = port;
    let error = loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, next)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && next < last => next += 1,
            Err(error) => break error,
        }
    };
    let what = format!("cannot listen on 127.0.0.1:{port}");
    let problem = Problem::new(exit_code::FAILED, what).because(error);
    Err(problem.with_remedy("choose another port with --port"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("andrea-demo-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        folder(&path).expect("a folder")
    }

    #[test]
    fn the_secret_is_made_once_and_for_its_owner_alone() {
        let data = scratch("secret");
        let path = data.join(".env");
        let own = "CHAT_WEBSOCKET_RATE=7\n";
        fs::write(&path, own).expect("written");
        let secret = || config(&data).expect("valid").jwt_secret;
        let first = secret();
        assert_eq!(first.len(), 2 * SECRET_BYTES);
        assert_eq!(secret(), first);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.starts_with(own), "{text}");
        fs::remove_dir_all(data).expect("removed");
    }

    #[test]
    fn a_second_demo_is_told_where_the_first_one_is() {
        let data = scratch("lock");
        let mut lock = Lock::take(&data).expect("free");
        lock.write("http://127.0.0.1:8090/").expect("written");
        let failure = Lock::take(&data).err().expect("taken");
        assert!(failure.to_string().contains("http://127.0.0.1:8090/"));
        drop(lock);
        Lock::take(&data).expect("free again");
        fs::remove_dir_all(data).expect("removed");
    }

    #[test]
    fn the_next_free_port_is_taken() {
        let first = bind(0).expect("any");
        let port = first.local_addr().expect("bound").port();
        let second = bind(port).expect("the next");
        assert!(second.local_addr().expect("bound").port() > port);
    }
}
