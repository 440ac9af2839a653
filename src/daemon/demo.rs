//! `demo`: the same service as `serve` on a database of its own in one folder, with pages beside it.
//!
//! One process does what in an install the supervisor and the daemon do. The listener stays open for as long as the
//! process lives and is lent to one reactor after the other: that of the running service, or, while the service is
//! stopped, one that serves the pages and refuses sockets. So a stop request really ends the service (its threads, its
//! sockets, its pid file), and the page stays to start it again. Requests that come in between wait in the backlog.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{LevelFilter, error, info};
use rustix::fs::{FlockOperation, flock};

use super::{
    Ending, Event, Events, Failure, Prepared, Running, STORE_STACK, broken, cannot_start, named,
    start, start_hub,
};
use crate::app_cache;
use crate::auth::{MIN_SECRET_BYTES, TokenVerifier};
use crate::clock::AppClock;
use crate::config::{Config, Database, Variables};
use crate::connection::Reactor;
use crate::demo::data;
use crate::demo::site::DemoSite;
use crate::exit_code;
use crate::limits::Limits;
use crate::push;
use crate::service::Service;
use crate::settings::{Rows, Settings, key};
use crate::store::sqlite::SqliteStore;
use crate::store::{Link, Store, StoreError};
use crate::vital;

/// How often it is looked at whether the service is to run. In an install the supervisor looks once a minute.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Ports that are tried one after the other.
const PORTS_TRIED: u16 = 50;
/// Bytes of randomness in a new secret, written as twice as many letters.
const SECRET_BYTES: usize = MIN_SECRET_BYTES;
/// Threads that serve the pages while the service is stopped.
const PAGE_WORKERS: usize = 2;
/// How long the last readers of a page may take when the pages go over to another reactor.
const HANDOVER: Duration = Duration::from_millis(500);

/// What the demo is told.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Folder for everything that it writes; made if missing.
    pub data: PathBuf,
    /// Port; where it is taken, the next one that is free. 0 is any.
    pub port: u16,
    /// How much to log.
    pub level: LevelFilter,
}

/// What the user is told once the page can be opened.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Address of the page.
    pub url: String,
    /// Folder with everything that the demo writes.
    pub data: PathBuf,
}

/// Runs the demo until a signal ends it.
///
/// # Errors
/// The start failed, a part of the running service did, or a demo with this data runs already.
pub fn demo(options: &DemoOptions, announce: impl FnOnce(&Announcement)) -> Result<(), Failure> {
    let data = folder(&options.data)?;
    let mut lock = Lock::take(&data)?;
    let config = config(&data)?;
    let places = start::prepare_storage(&config, options.level)?;
    let store = SqliteStore::new(data.join("chat.sqlite"));
    data::fill(&store).map_err(|error| no_database(&store, &error))?;
    let listener = bind(options.port)?;
    let address = listener
        .local_addr()
        .map_err(|error| cannot_start(&error))?;
    let url = format!("http://{address}/");
    lock.write(&url)
        .map_err(|error| Failure::new(exit_code::CANNOT_CREATE, error.to_string()))?;
    let site = DemoSite::new(&store, config.jwt_secret.clone(), address.to_string())
        .map_err(|error| no_database(&store, &error))?;
    let demo = Demo {
        config,
        store: Arc::new(store),
        health: Arc::new(AtomicBool::new(true)),
        pid_file: places.pid_file,
        listener,
        address: address.to_string(),
        site,
        events: Events::watch().map_err(|error| cannot_start(&error))?,
    };
    demo.forget_requests()?;
    announce(&Announcement { url, data });
    demo.run()
}

struct Demo {
    config: Config,
    store: Arc<SqliteStore>,
    health: Arc<AtomicBool>,
    pid_file: PathBuf,
    listener: TcpListener,
    address: String,
    site: Arc<DemoSite>,
    events: Events,
}

impl Demo {
    fn link(&self) -> Link {
        let store = Arc::clone(&self.store) as Arc<dyn Store>;
        Link::new(store, Arc::clone(&self.health))
    }

    fn rows(&self) -> Result<Rows, Failure> {
        self.link()
            .run(|store| store.settings())
            .map_err(|error| no_database(&self.store, &error))
    }

    /// Whoever runs the command wants a service that runs, whatever was asked for last time.
    fn forget_requests(&self) -> Result<(), Failure> {
        self.link()
            .run(|store| {
                store.update_settings(&[
                    ("chat_enabled", "1"),
                    ("chat_websocket_enabled", "1"),
                    ("chat_websocket_autostart", "1"),
                    (key::STOP_REQUESTED, "0"),
                    (key::RESTART_REQUESTED, "0"),
                ])
            })
            .map_err(|error| no_database(&self.store, &error))
    }

    fn run(&self) -> Result<(), Failure> {
        loop {
            if self.serve()? == Ending::Terminated || self.wait_for_start()? == Ending::Terminated {
                return Ok(());
            }
        }
    }

    /// One run of the service, from its start to its end.
    fn serve(&self) -> Result<Ending, Failure> {
        let rows = start::wait_for_store(self.store.as_ref())?;
        let mut link = self.link();
        let claimed = start::claim(&self.pid_file, &self.config, &mut link, &rows)?;
        let claimed = claimed.ok_or_else(|| {
            Failure::new(
                exit_code::FAILED,
                "another daemon works on this data; end it, or name another folder with --data",
            )
        })?;
        let pid_file = start::announce(claimed, &self.config, &mut link)?;
        let socket = self
            .listener
            .try_clone()
            .map_err(|error| cannot_start(&error))?;
        let supervisor = Supervisor::start(self.link()).map_err(|error| cannot_start(&error))?;
        let running = Running::begin(Prepared {
            config: self.config.clone(),
            rows,
            store: Arc::clone(&self.store) as Arc<dyn Store>,
            health: Arc::clone(&self.health),
            bus: None,
            push: None,
            listener: start::Listener {
                socket,
                address: self.address.clone(),
            },
            pid_file,
            link,
            events: self.events.clone(),
            end_wanted: supervisor.end_wanted.clone(),
            site: Some(Box::new(Arc::clone(&self.site))),
        })
        .map_err(|error| cannot_start(&error))?;
        self.site.attach(&running.reactor);
        let ending = running.wait();
        supervisor.stop();
        ending
    }

    /// Serves the pages alone until the service is wanted.
    fn wait_for_start(&self) -> Result<Ending, Failure> {
        if self.is_start_due()? {
            return Ok(Ending::Supervised);
        }
        let pages = Pages::start(self).map_err(|error| cannot_start(&error))?;
        info!("the service is stopped, the pages stay");
        let ending = loop {
            match self.events.receiver.recv_timeout(LOOK_EVERY) {
                Ok(Event::Terminate) | Err(RecvTimeoutError::Disconnected) => {
                    break Ok(Ending::Terminated);
                }
                Ok(Event::Broken(name)) => break Err(broken(&name)),
                Ok(Event::Reload) => {}
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

    /// Whether the supervisor starts the service; its restart request is then carried out.
    fn is_start_due(&self) -> Result<bool, Failure> {
        let rows = self.rows()?;
        let due = is_supervised(&rows) && is_wanted(&rows);
        if due && rows.boolean(key::RESTART_REQUESTED, false) {
            self.link()
                .run(|store| store.update_settings(&[(key::RESTART_REQUESTED, "0")]))
                .map_err(|error| no_database(&self.store, &error))?;
        }
        Ok(due)
    }
}

/// Whether the mode is `cron`, which any value but `external` means.
fn is_supervised(rows: &Rows) -> bool {
    rows.text("chat_websocket_management_mode", "cron") != "external"
}

fn is_wanted(rows: &Rows) -> bool {
    rows.boolean("chat_enabled", false)
        && rows.boolean("chat_websocket_enabled", true)
        && rows.boolean("chat_websocket_autostart", true)
        && !rows.boolean(key::STOP_REQUESTED, false)
}

/// What the supervisor of an install does to a service that runs, once a second.
struct Supervisor {
    end_wanted: Receiver<()>,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Supervisor {
    fn start(mut link: Link) -> io::Result<Self> {
        let (sender, end_wanted) = bounded(1);
        let (stop, stopped) = bounded::<()>(0);
        let thread = named("supervisor", STORE_STACK, move || {
            let _vital = vital::thread();
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                // A database that is away is the service's own concern.
                let Ok(rows) = link.run(|store| store.settings()) else {
                    continue;
                };
                let restart = rows.boolean(key::RESTART_REQUESTED, false);
                if is_supervised(&rows) && (restart || !is_wanted(&rows)) {
                    // Full only where it was said already.
                    let _ = sender.try_send(());
                }
            }
        })?;
        Ok(Supervisor {
            end_wanted,
            stop,
            thread,
        })
    }

    fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            error!("the supervisor had failed");
        }
    }
}

/// The pages without the service.
struct Pages {
    reactor: Arc<Reactor>,
    threads: crate::connection::ReactorThreads,
    service: Arc<Service>,
    hub_thread: JoinHandle<()>,
}

impl Pages {
    fn start(demo: &Demo) -> io::Result<Self> {
        let (hub, hub_thread) = start_hub(&demo.config.limits, None, demo.events.sender.clone())?;
        let settings = Settings {
            // Every socket is refused with 503.
            websocket_enabled: false,
            ..Settings::from_rows(&Rows::default())
        };
        let service = Arc::new(Service::new(
            hub,
            None,
            None,
            demo.config.limits.clone(),
            TokenVerifier::new(&demo.config.jwt_secret),
            settings,
        ));
        let reactor = Reactor::new(
            Arc::clone(&service),
            String::new(),
            Some(Box::new(Arc::clone(&demo.site))),
            demo.config.limits.max_connections,
        )?;
        let threads = reactor.start(demo.listener.try_clone()?, PAGE_WORKERS)?;
        demo.site.attach(&reactor);
        Ok(Pages {
            reactor,
            threads,
            service,
            hub_thread,
        })
    }

    fn stop(self) {
        self.reactor.stop_reading(self.threads);
        self.service.hub.stop();
        if self.hub_thread.join().is_err() {
            error!("the hub had failed");
        }
        self.reactor.say_goodbye(Instant::now() + HANDOVER);
    }
}

fn config(data: &Path) -> Result<Config, Failure> {
    let wrong = |error: crate::config::ConfigError| Failure::new(exit_code::CONFIG, error.0);
    let variables = Variables::load(data).map_err(wrong)?;
    Ok(Config {
        jwt_secret: secret(&data.join("jwt-secret"))?,
        app_url: String::new(),
        bus_url: None,
        // As the database's own clock.
        clock: AppClock::utc(),
        storage: data.to_owned(),
        host: None,
        port: None,
        database: Database::Sqlite(data.join("chat.sqlite")),
        limits: Limits::from_variables(&variables).map_err(wrong)?,
        push: push::Options::from_variables(data, &variables).map_err(wrong)?,
        // The demo is its own application.
        cache: app_cache::Overrides::off(),
    })
}

fn folder(data: &Path) -> Result<PathBuf, Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .and_then(|()| data.canonicalize())
        .map_err(|error| cannot_write("make the folder", data, &error))
}

fn cannot_write(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        exit_code::CANNOT_CREATE,
        format!(
            "cannot {what} {}: {error}; choose another folder with --data",
            path.display()
        ),
    )
}

fn no_database(store: &SqliteStore, error: &StoreError) -> Failure {
    Failure::new(
        exit_code::UNAVAILABLE,
        format!(
            "{error} ({}); delete the demo's folder to begin anew, or choose another with --data",
            store.describe()
        ),
    )
}

/// The secret that signs this demo's tokens; made on first use, for its owner's eyes alone.
fn secret(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Ok(secret) if secret.trim().len() >= MIN_SECRET_BYTES => {
            return Ok(secret.trim().to_owned());
        }
        // Cut off while it was written: nobody can have a token under it.
        Ok(_) => fs::remove_file(path).map_err(|error| cannot_write("replace", path, &error))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot_write("read", path, &error)),
    }
    let made = (|| {
        let mut bytes = [0; SECRET_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(secret.as_bytes())?;
        file.sync_all()?;
        Ok(secret)
    })();
    made.map_err(|error| cannot_write("write", path, &error))
}

/// Keeps a second demo off the same data; says where the first one is.
struct Lock(File);

impl Lock {
    fn take(data: &Path) -> Result<Self, Failure> {
        let path = data.join("demo.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| cannot_write("open", &path, &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut url = String::new();
                // Without it the message is poorer, that is all.
                let _ = file.read_to_string(&mut url);
                Err(Failure::new(
                    exit_code::FAILED,
                    format!(
                        "a demo with this data runs already: {url}; open that page, or choose another folder with --data"
                    ),
                ))
            }
            Err(error) => Err(cannot_write("lock", &path, &error.into())),
        }
    }

    fn write(&mut self, url: &str) -> io::Result<()> {
        self.0.set_len(0)?;
        self.0.write_all(url.as_bytes())
    }
}

/// Listens on this port of the loopback interface, or on the next one that is free.
fn bind(port: u16) -> Result<TcpListener, Failure> {
    let last = port.saturating_add(if port == 0 { 0 } else { PORTS_TRIED });
    let mut failed = None;
    for port in port..=last {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => failed = Some(error),
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let reason = failed.map_or_else(String::new, |error| error.to_string());
    Err(Failure::new(
        exit_code::FAILED,
        format!("cannot listen on 127.0.0.1:{port}: {reason}; choose another port with --port"),
    ))
}

#[cfg(test)]
mod tests {
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
        let path = data.join("jwt-secret");
        let first = secret(&path).expect("made");
        assert_eq!(first.len(), 2 * SECRET_BYTES);
        assert_eq!(secret(&path).expect("read"), first);
        let mode = fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&path, "short").expect("written");
        assert_ne!(secret(&path).expect("made anew"), first);
        fs::remove_dir_all(data).expect("removed");
    }

    #[test]
    fn a_second_demo_is_told_where_the_first_one_is() {
        let data = scratch("lock");
        let mut lock = Lock::take(&data).expect("free");
        lock.write("http://127.0.0.1:8090/").expect("written");
        let failure = Lock::take(&data).err().expect("taken");
        assert!(failure.message.contains("http://127.0.0.1:8090/"));
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
