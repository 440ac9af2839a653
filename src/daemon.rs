//! `serve` and `demo`: wires the parts, owns every long-lived thread, and ends them in one written sequence. No protocol
//! and no policy here.

#[cfg(feature = "embedded")]
mod demo;
mod start;
mod stop;

#[cfg(feature = "embedded")]
pub use demo::{Announcement, DemoOptions, demo};
pub use start::open_store;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, never};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::auth::TokenVerifier;
use crate::budget;
use crate::bus::{self, Bus, BusThreads, Note};
use crate::config::{Config, Variables};
use crate::connection::handshake::Site;
use crate::connection::{Reactor, ReactorThreads};
use crate::exit_code;
use crate::fault;
use crate::frame::Frame;
use crate::health::Health;
use crate::heartbeat::{self, Order};
use crate::hub::{Hub, HubConfig};
use crate::limits::Limits;
use crate::metrics::METRICS;
use crate::notify::Notifier;
use crate::pid_file::PidFile;
use crate::protocol;
use crate::push::{self, PushSettings};
use crate::service::{self, Service};
use crate::settings::{Rows, Settings};
use crate::store::{Link, Store};
use crate::vital;
use crate::watch::Watch;

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
    Broken(String),
}

/// The signals of the process and what its threads report; outlives a run of the service.
#[derive(Clone)]
struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

/// Why a run has ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By a signal.
    Terminated,
    /// By the setting `chat_websocket_stop_requested`.
    StopRequested,
    /// By the supervisor that runs in this process.
    Supervised,
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
    let push =
        push::prepare(&config.push).map_err(|error| Failure::new(exit_code::CONFIG, error.0))?;
    let places = start::prepare_storage(&config, level)?;
    start::drop_privileges();
    let notifier = Notifier::from_environment();
    notifier.status("waiting for the database");
    let store = start::open_store(&config);
    let health = Arc::new(AtomicBool::new(true));
    let mut link = Link::new(Arc::clone(&store), Arc::clone(&health));
    let rows = start::wait_for_store(store.as_ref())?;
    let Some(pid_file) = start::claim(&places.pid_file, &config, &mut link, &rows)? else {
        return Ok(());
    };
    // From here on there is something to clean up, so a stop waits for its turn.
    let events = Events::watch().map_err(|error| cannot_start(&error))?;
    let pid_file = start::announce(pid_file, &config, &mut link)?;
    let listener = match start::listen(&config, &rows, &mut link) {
        Ok(listener) => listener,
        Err(failure) => {
            pid_file.remove();
            return Err(failure);
        }
    };
    Running::begin(Prepared {
        config,
        rows,
        store,
        health,
        bus,
        push,
        listener,
        pid_file,
        link,
        events,
        end_wanted: never(),
        site: None,
    })
    .and_then(|running| running.watched(notifier))
    .map_err(|error| cannot_start(&error))?
    .wait()
    .map(|_| ())
}

fn cannot_start(error: &io::Error) -> Failure {
    Failure::new(
        exit_code::SOFTWARE,
        format!("cannot start: {error}; look at the limits of processes and open files"),
    )
}

/// What a start has brought together before the first thread.
struct Prepared {
    config: Config,
    rows: Rows,
    store: Arc<dyn Store>,
    health: Arc<AtomicBool>,
    bus: Option<(Bus, bus::Connector)>,
    push: Option<(push::Queue, push::Starter)>,
    listener: start::Listener,
    pid_file: PidFile,
    link: Link,
    events: Events,
    /// What a supervisor in this process says.
    end_wanted: Receiver<()>,
    site: Option<Box<dyn Site>>,
}

/// A service that is up.
struct Running {
    config: Config,
    store: Arc<dyn Store>,
    service: Arc<Service>,
    reactor: Arc<Reactor>,
    reactor_threads: ReactorThreads,
    hub_thread: JoinHandle<()>,
    bus_threads: Option<BusThreads>,
    push: Option<push::Worker>,
    store_threads: Vec<JoinHandle<()>>,
    store_done: Receiver<()>,
    timer: JoinHandle<()>,
    timer_orders: Sender<Order>,
    events: Events,
    end_wanted: Receiver<()>,
    stop_requested: Receiver<()>,
    pid_file: PidFile,
    link: Link,
    health: Arc<AtomicBool>,
    watch: Option<Watch>,
}

impl Running {
    fn begin(prepared: Prepared) -> io::Result<Self> {
        let Prepared {
            config,
            rows,
            store,
            health,
            bus,
            push,
            listener,
            pid_file,
            link,
            events,
            end_wanted,
            site,
        } = prepared;
        let max_connections = start::make_room(&config, &Settings::from_rows(&rows));
        let (bus, connector) = bus.unzip();
        let (hub, hub_thread) = start_hub(&config.limits, bus.clone(), events.sender.clone())?;
        let (push_queue, push_starter) = push.unzip();
        if let Some(push) = &push_queue {
            push.configure(PushSettings::from_rows(&rows));
        }
        let service = Arc::new(Service::new(
            hub,
            bus.clone(),
            push_queue,
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
            service::run_posting,
        )?];
        store_threads.push(store_thread(
            "tail",
            &service,
            new_link(),
            &done,
            service::run_tail,
        )?);
        for name in ["query-0", "query-1"].into_iter().take(QUERY_THREADS) {
            store_threads.push(store_thread(
                name,
                &service,
                new_link(),
                &done,
                service::run_queries,
            )?);
        }
        let push = push_starter
            .map(|push| push.start(new_link(), config.clock.clone(), config.jwt_secret.clone()))
            .transpose()?;
        let (timer_orders, orders) = bounded(4);
        let (stop_sender, stop_requested) = bounded(1);
        let timer = {
            let (service, clock, link) = (Arc::clone(&service), config.clock.clone(), new_link());
            named("timer", STORE_STACK, move || {
                let _vital = vital::thread();
                heartbeat::run(&service, link, &clock, &orders, &stop_sender);
            })?
        };
        let reactor = Reactor::new(
            Arc::clone(&service),
            config.app_url.clone(),
            Some(Box::new(Health::new(
                Arc::clone(&service),
                Arc::clone(&health),
                site,
            ))),
            max_connections,
        )?;
        let reactor_threads = reactor.start(listener.socket, budget::workers())?;
        info!("listening on {}", listener.address);
        Ok(Running {
            config,
            store,
            service,
            reactor,
            reactor_threads,
            hub_thread,
            bus_threads,
            push,
            store_threads,
            store_done,
            timer,
            timer_orders,
            events,
            end_wanted,
            stop_requested,
            pid_file,
            link,
            health,
            watch: None,
        })
    }

    /// Tells the service manager from now on how things stand.
    fn watched(mut self, notifier: Notifier) -> io::Result<Self> {
        let hub = self.service.hub.clone();
        let health = Arc::clone(&self.health);
        let describe = move || {
            let (agents, connections) = (hub.local_agents().len(), METRICS.open.get());
            let database = match health.load(Ordering::Relaxed) {
                true => "",
                false => "; the database does not answer",
            };
            format!("agents: {agents}, connections: {connections}{database}")
        };
        self.watch = Some(Watch::start(notifier, describe)?);
        Ok(self)
    }

    /// Waits until the service is to end, and ends it.
    fn wait(self) -> Result<Ending, Failure> {
        let ending = loop {
            crossbeam_channel::select! {
                recv(self.events.receiver) -> event => match event {
                    Ok(Event::Reload) => {
                        // Full only where it is about to be done already.
                        let _ = self.timer_orders.try_send(Order::Reload);
                    }
                    Ok(Event::Terminate) | Err(_) => break Ok(Ending::Terminated),
                    Ok(Event::Broken(name)) => break Err(broken(&name)),
                },
                recv(self.end_wanted) -> wanted => match wanted {
                    Ok(()) => {
                        info!("ended by the supervisor");
                        break Ok(Ending::Supervised);
                    }
                    Err(_) => break Err(broken("supervisor")),
                },
                recv(self.stop_requested) -> request => match request {
                    Ok(()) => {
                        info!("stop requested");
                        break Ok(Ending::StopRequested);
                    }
                    // Nobody is left who could ask.
                    Err(_) => break Err(broken("timer")),
                }
            }
        };
        let code = ending
            .as_ref()
            .map_or_else(|failure| failure.code, |_| exit_code::OK);
        stop::run(self, code);
        ending
    }
}

fn broken(thread: &str) -> Failure {
    error!("the thread {thread} has ended; the service cannot go on");
    Failure::new(
        exit_code::SOFTWARE,
        format!("the thread {thread} has ended, the log says why"),
    )
}

/// Starts the fan-out; `bus` is told who comes and goes, `events` if it can go on no longer.
fn start_hub(
    limits: &Limits,
    bus: Option<Bus>,
    events: Sender<Event>,
) -> io::Result<(Hub, JoinHandle<()>)> {
    let config = HubConfig {
        max_per_agent: limits.max_per_agent,
        presence_grace: limits.presence_grace,
        presence: |agent, online| Frame::text(&protocol::presence_updated(agent, online)),
        online: protocol::agent_ids,
        on_presence: match bus {
            Some(bus) => Box::new(move |agent, online| bus.say(Note::Presence(agent, online))),
            None => Box::new(|_, _| {}),
        },
    };
    // Goes to the hub's thread with the rest: that may break between two rounds as well.
    let vital = vital::thread();
    Hub::start(config, move || {
        let _ = &vital;
        let _ = events.try_send(Event::Broken("hub".to_owned()));
    })
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

/// A thread that works off a queue; `done` is told of its end.
fn store_thread(
    name: &'static str,
    service: &Arc<Service>,
    link: Link,
    done: &Sender<()>,
    run: fn(&Service, Link),
) -> io::Result<JoinHandle<()>> {
    /// Reports the end of the thread, a panic's included.
    struct Report(Sender<()>);
    impl Drop for Report {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }
    let report = Report(done.clone());
    let service = Arc::clone(service);
    named(name, STORE_STACK, move || {
        let (_report, _vital) = (report, vital::thread());
        run(&service, link);
    })
}

impl Events {
    /// Watches the signals, and listens for threads that break, until the process ends.
    fn watch() -> io::Result<Self> {
        let (sender, receiver) = bounded(16);
        let broken = sender.clone();
        vital::listen(move |name| {
            // Full only where much else is wrong, and the end near.
            let _ = broken.try_send(Event::Broken(name.to_owned()));
        });
        let events = Events { sender, receiver };
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let sender = events.sender.clone();
        // Never joined: the process does not wait for it.
        named("signals", 64 * 1024, move || {
            let _vital = vital::thread();
            for signal in signals.forever() {
                fault::point("signals");
                let sent = match signal {
                    // Full only where it was asked for many times already.
                    SIGHUP => sender.try_send(Event::Reload).is_ok(),
                    _ => sender.send(Event::Terminate).is_ok(),
                };
                if !sent {
                    warn!("signal {signal} comes while others are being handled");
                }
            }
        })?;
        Ok(events)
    }
}
