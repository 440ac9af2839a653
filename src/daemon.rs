//! `serve`: wires the parts, owns every long-lived thread, and ends them in one written sequence. No protocol and
//! no policy here.

mod start;
mod stop;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::auth::TokenVerifier;
use crate::bus::{self, Bus, BusThreads, Note};
use crate::config::{Config, Variables};
use crate::connection::{Reactor, ReactorThreads};
use crate::exit_code;
use crate::frame::Frame;
use crate::heartbeat::{self, Order};
use crate::hub::{Hub, HubConfig};
use crate::pid_file::PidFile;
use crate::protocol;
use crate::service::{self, Service};
use crate::settings::{Rows, Settings};
use crate::store::{Link, Store};

/// Threads that ask the database on behalf of sockets, one connection each.
const QUERY_THREADS: usize = 2;
/// Stack of a thread that talks to the database, in bytes.
const STORE_STACK: usize = 512 * 1024;

/// Why a start or a run ended other than by request: what to say, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// One line for people.
    pub message: String,
    /// See [`exit_code`].
    pub code: u8,
}

impl Failure {
    fn new(code: u8, message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            code,
        }
    }
}

/// What the main thread waits for.
enum Event {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
    /// A thread that must not end has ended.
    Broken(&'static str),
}

/// Runs the service for the install at `root` until it is told to stop.
///
/// # Errors
/// The start failed, or a part of the running service did.
pub fn serve(root: &Path, variables: &Variables, level: log::LevelFilter) -> Result<(), Failure> {
    let config = Config::from_variables(root, variables)
        .map_err(|error| Failure::new(exit_code::CONFIG, error.0))?;
    let bus = match &config.bus_url {
        None => None,
        Some(url) => Some(bus::prepare(url, &config.jwt_secret).map_err(|bus::BadAddress(why)| {
            let origin = variables.origin("CHAT_BUS_URL");
            Failure::new(
                exit_code::CONFIG,
                format!("{origin} cannot be used: {why}; correct it, or leave it out where one daemon runs alone"),
            )
        })?),
    };
    let places = start::prepare_storage(&config, level)?;
    let store = start::open_store(&config);
    let health = Arc::new(AtomicBool::new(true));
    let mut link = Link::new(Arc::clone(&store), Arc::clone(&health));
    let rows = start::wait_for_store(store.as_ref())?;
    let Some(pid_file) = start::claim(&places.pid_file, &config, &mut link, &rows)? else {
        return Ok(());
    };
    match start::listen(&config, &rows, &mut link) {
        Ok(listener) => Running::begin(Prepared {
            config,
            rows,
            store,
            health,
            bus,
            listener,
            pid_file,
            link,
        })
        .map_err(|error| {
            Failure::new(
                exit_code::SOFTWARE,
                format!("cannot start: {error}; look at the limits of processes and open files"),
            )
        })?
        .wait(),
        Err(failure) => {
            pid_file.remove();
            Err(failure)
        }
    }
}

/// What a start has brought together before the first thread.
struct Prepared {
    config: Config,
    rows: Rows,
    store: Arc<dyn Store>,
    health: Arc<AtomicBool>,
    bus: Option<(Bus, bus::Connector)>,
    listener: start::Listener,
    pid_file: PidFile,
    link: Link,
}

/// A service that is up.
struct Running {
    config: Config,
    service: Arc<Service>,
    reactor: Arc<Reactor>,
    reactor_threads: ReactorThreads,
    hub_thread: JoinHandle<()>,
    bus_threads: Option<BusThreads>,
    store_threads: Vec<JoinHandle<()>>,
    store_done: Receiver<()>,
    timer: JoinHandle<()>,
    timer_done: Receiver<()>,
    timer_orders: Sender<Order>,
    signals: signal_hook::iterator::Handle,
    events: Receiver<Event>,
    stop_requested: Receiver<()>,
    pid_file: PidFile,
    link: Link,
}

impl Running {
    fn begin(prepared: Prepared) -> io::Result<Self> {
        let Prepared {
            config,
            rows,
            store,
            health,
            bus,
            listener,
            pid_file,
            link,
        } = prepared;
        let (event_sender, events) = bounded(16);
        let signals = watch_signals(event_sender.clone())?;
        let max_connections = start::raise_file_limit(config.limits.max_connections);
        let (bus, connector) = bus.unzip();
        let (hub, hub_thread) = Hub::start(HubConfig {
            max_per_agent: config.limits.max_per_agent,
            presence_grace: config.limits.presence_grace,
            presence: |agent, online| Frame::text(&protocol::presence_updated(agent, online)),
            online: protocol::agent_ids,
            on_presence: match bus.clone() {
                Some(bus) => Box::new(move |agent, online| bus.say(Note::Presence(agent, online))),
                None => Box::new(|_, _| {}),
            },
        })?;
        let service = Arc::new(Service::new(
            hub,
            bus.clone(),
            config.limits.clone(),
            TokenVerifier::new(&config.jwt_secret),
            Settings::from_rows(&rows),
        ));
        let new_link = || Link::new(Arc::clone(&store), Arc::clone(&health));
        let bus_threads = match (connector, &bus) {
            (Some(connector), Some(bus)) => Some(connector.start(&service, bus)?),
            _ => None,
        };
        let (done, store_done) = bounded(QUERY_THREADS + 2);
        let mut store_threads = vec![store_thread(
            "posting",
            &service,
            new_link(),
            &done,
            &event_sender,
            service::run_posting,
        )?];
        store_threads.push(store_thread(
            "tail",
            &service,
            new_link(),
            &done,
            &event_sender,
            service::run_tail,
        )?);
        for name in ["query-0", "query-1"].into_iter().take(QUERY_THREADS) {
            store_threads.push(store_thread(
                name,
                &service,
                new_link(),
                &done,
                &event_sender,
                service::run_queries,
            )?);
        }
        let (timer_orders, orders) = bounded(4);
        let (stop_sender, stop_requested) = bounded(1);
        let (timer_done_sender, timer_done) = bounded(1);
        let timer = {
            let (service, clock, link) = (Arc::clone(&service), config.clock.clone(), new_link());
            named("timer", STORE_STACK, move || {
                heartbeat::run(&service, link, &clock, &orders, &stop_sender);
                let _ = timer_done_sender.send(());
            })?
        };
        let reactor = Reactor::new(
            Arc::clone(&service),
            config.app_url.clone(),
            None,
            max_connections,
        )?;
        let workers = thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8));
        let reactor_threads = reactor.start(listener.socket, workers)?;
        info!("listening on {}", listener.address);
        Ok(Running {
            config,
            service,
            reactor,
            reactor_threads,
            hub_thread,
            bus_threads,
            store_threads,
            store_done,
            timer,
            timer_done,
            timer_orders,
            signals,
            events,
            stop_requested,
            pid_file,
            link,
        })
    }

    /// Waits until the service is to end, and ends it.
    fn wait(self) -> Result<(), Failure> {
        let failure = loop {
            crossbeam_channel::select! {
                recv(self.events) -> event => match event {
                    Ok(Event::Reload) => {
                        // Full only where it is about to be done already.
                        let _ = self.timer_orders.try_send(Order::Reload);
                    }
                    Ok(Event::Terminate) | Err(_) => break None,
                    Ok(Event::Broken(name)) => {
                        error!("the thread {name} has ended; the service cannot go on");
                        break Some(Failure::new(
                            exit_code::SOFTWARE,
                            format!("the thread {name} has ended, the log says why"),
                        ));
                    }
                },
                recv(self.stop_requested) -> _ => {
                    info!("stop requested");
                    break None;
                }
            }
        };
        stop::run(self);
        failure.map_or(Ok(()), Err)
    }
}

fn named(
    name: &str,
    stack: usize,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack)
        .spawn(run)
}

/// A thread that works off a queue; that it ends on its own before the queue is closed is an event.
fn store_thread(
    name: &'static str,
    service: &Arc<Service>,
    link: Link,
    done: &Sender<()>,
    events: &Sender<Event>,
    run: fn(&Service, Link),
) -> io::Result<JoinHandle<()>> {
    /// Reports the end of the thread, a panic's included.
    struct Report {
        name: &'static str,
        done: Sender<()>,
        events: Sender<Event>,
    }
    impl Drop for Report {
        fn drop(&mut self) {
            if thread::panicking() {
                let _ = self.events.try_send(Event::Broken(self.name));
            }
            let _ = self.done.try_send(());
        }
    }
    let report = Report {
        name,
        done: done.clone(),
        events: events.clone(),
    };
    let service = Arc::clone(service);
    named(name, STORE_STACK, move || {
        let _report = report;
        run(&service, link);
    })
}

fn watch_signals(events: Sender<Event>) -> io::Result<signal_hook::iterator::Handle> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let handle = signals.handle();
    // Never joined: it ends with its handle, and the process does not wait for it.
    named("signals", 64 * 1024, move || {
        for signal in signals.forever() {
            let event = match signal {
                SIGHUP => Event::Reload,
                _ => Event::Terminate,
            };
            if events.try_send(event).is_err() {
                warn!("signal {signal} comes while others are being handled");
            }
        }
    })?;
    Ok(handle)
}
