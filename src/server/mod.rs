//! `serve` and `demo`: wires the parts, owns every long-lived thread, and ends them in one written sequence. No protocol
//! and no policy here.

pub(crate) mod health;
mod inspect;
mod shutdown;
pub(crate) mod startup;
pub(crate) mod timer;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, never};
use log::{info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::inspect::Inspection;
use self::timer::TimerOrder;
use crate::auth::TokenVerifier;
use crate::bus::{self, Bus, BusThreads};
use crate::chat::{self, Channels, Chat};
use crate::config::limits::Limits;
use crate::config::settings::{Rows, Settings};
use crate::config::{Config, Variables};
use crate::http::Site;
use crate::hub::{Hub, HubConfig};
use crate::platform::exit_code;
use crate::platform::failpoint;
use crate::platform::metrics::METRICS;
use crate::platform::pid_file::PidFile;
use crate::platform::problem::Problem;
use crate::platform::systemd::{Notifier, Watch};
use crate::platform::threads::{Progress, Threads};
use crate::protocol;
use crate::protocol::frame::Frame;
use crate::push::{self, PushSettings};
use crate::server::health::Health;
use crate::store::Pools;
use crate::websocket::Server;

/// Threads that ask the database on behalf of connections, but at most as many as there are connections to borrow.
const QUERY_THREADS: usize = 2;
/// Stack of a thread that talks to the database, in bytes.
pub(crate) const STORE_STACK: usize = 512 * 1024;

/// What the main thread waits for.
pub(crate) enum ServerEvent {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
    /// The critical thread of this name has panicked.
    Broken(String),
}

/// The signals of the process and what its threads report; outlives a run of the service.
#[derive(Clone)]
pub(crate) struct Events {
    sender: Sender<ServerEvent>,
    pub(crate) receiver: Receiver<ServerEvent>,
}

/// Why a run has ended in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
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
pub(crate) fn serve(
    root: &Path,
    variables: &Variables,
    level: log::LevelFilter,
) -> Result<(), Problem> {
    let config = Config::from_variables(root, variables)?;
    let bus = match &config.bus_url {
        None => None,
        Some(url) => bus::prepare(url, &config.jwt_secret).map_err(|error| {
            let origin = variables.origin("CHAT_BUS_URL");
            Problem::of_config(format!("{origin} cannot be used"))
                .because(error)
                .with_remedy("correct it, or leave it out where one daemon runs alone")
        })?,
    };
    let push = push::prepare(&config.push)?;
    let places = startup::prepare_storage(&config, level)?;
    for (_, problem) in variables.warnings() {
        warn!("{problem}");
    }
    if config.bus_url.is_some() && bus.is_none() {
        warn!("{}; {}", bus::NOT_IN_THIS_BUILD, bus::BUILD_WITH_IT);
    }
    startup::drop_privileges();
    let notifier = Notifier::from_environment();
    notifier.status("waiting for the database");
    let events = Events::new();
    let store = startup::open_store(&config);
    let (rows, mut connection) = startup::wait_for_store(store.as_ref())?;
    let connections = startup::db_connections(&config, &mut connection);
    let pools = Pools::new(&store, connections);
    pools.shared.adopt(connection);
    let claimed = startup::claim(&places, &config, &pools.shared, &rows)?;
    let Some(pid_file) = claimed else {
        return Ok(());
    };
    // From here on a stop has to clean up, so signals become events.
    events.watch_signals().map_err(cannot_start)?;
    // Before the rows: a daemon that cannot have its address is never shown as running.
    let listener = startup::listen(&config, &rows).inspect_err(|_| {
        startup::show_failed(&config, &pools.shared);
        pid_file.remove();
    })?;
    let pid_file = startup::announce(pid_file, &config, &pools.shared)?;
    Running::begin(Prepared {
        config,
        rows,
        pools,
        bus,
        push,
        listener,
        pid_file,
        events,
        end_wanted: never(),
        site: None,
    })
    .and_then(|running| running.watched(notifier))
    .map_err(cannot_start)?
    .wait()
    .map(|_| ())
}

pub(crate) fn cannot_start(error: io::Error) -> Problem {
    Problem::new(exit_code::SOFTWARE, "cannot start")
        .because(error)
        .with_remedy("look at the limits of processes and open files")
}

/// What a start has brought together before the first thread.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) rows: Rows,
    pub(crate) pools: Pools,
    pub(crate) bus: Option<(Bus, bus::Connector)>,
    pub(crate) push: Option<(push::Queue, push::Starter)>,
    pub(crate) listener: startup::Listener,
    pub(crate) pid_file: PidFile,
    pub(crate) events: Events,
    /// A supervisor in this process asks for the end here.
    pub(crate) end_wanted: Receiver<()>,
    pub(crate) site: Option<Box<dyn Site>>,
}

/// A service that is up.
pub(crate) struct Running {
    config: Config,
    pools: Pools,
    chat: Arc<Chat>,
    pub(crate) server: Arc<Server>,
    server_threads: Vec<JoinHandle<()>>,
    hub_thread: JoinHandle<()>,
    bus_threads: Option<BusThreads>,
    push: Option<push::Worker>,
    store_threads: Vec<JoinHandle<()>>,
    store_done: Receiver<()>,
    timer: JoinHandle<()>,
    timer_orders: Sender<TimerOrder>,
    events: Events,
    end_wanted: Receiver<()>,
    stop_requested: Receiver<()>,
    pid_file: PidFile,
    watch: Option<Watch>,
    inspection: Option<Inspection>,
}

/// Hands the settings of Web Push to the queue, or says that this build pushes nothing although they are set.
fn configure_push(queue: Option<&push::Queue>, settings: &PushSettings) {
    match queue {
        Some(push) => push.configure(settings.clone()),
        None if cfg!(not(feature = "push")) && settings.are_complete() => warn!(
            "Web Push is set up in the settings, but this build has none, so nothing is pushed; build with the feature push"
        ),
        None => {}
    }
}

impl Running {
    pub(crate) fn begin(prepared: Prepared) -> io::Result<Self> {
        let (config, rows, pools) = (prepared.config, prepared.rows, prepared.pools);
        let address = prepared.listener.address;
        let (settings, threads) = (Settings::from_rows(&rows), prepared.events.threads());
        let max_connections = startup::make_room(&config, &settings);
        let (bus, connector) = prepared.bus.unzip();
        let (hub, hub_thread) = start_hub(&config.limits, bus.clone(), &threads)?;
        let (push_queue, push_starter) = prepared.push.unzip();
        configure_push(push_queue.as_ref(), &PushSettings::from_rows(&rows));
        let (chat, channels) = Chat::new(
            threads,
            hub,
            bus,
            push_queue,
            config.limits.clone(),
            TokenVerifier::new(&config.jwt_secret),
            settings,
        );
        let chat = Arc::new(chat);
        let of_bus = Arc::clone(&chat);
        let bus_threads = connector.zip(chat.bus.as_ref()).map(|(connector, bus)| {
            connector.start(&chat.threads, &chat.hub, bus, move || {
                of_bus.feed.look_now()
            })
        });
        let bus_threads = bus_threads.transpose()?;
        let (store_threads, store_done) = start_store_threads(&chat, channels, &pools)?;
        let push = push_starter.map(|starter| {
            let (clock, secret) = (config.clock.clone(), config.jwt_secret.clone());
            starter.start(Arc::clone(&pools.shared), clock, secret)
        });
        let push = push.transpose()?;
        let (timer_orders, orders) = bounded(4);
        let (stop, stop_requested) = bounded(1);
        let (of_timer, its_pools, clock) = (Arc::clone(&chat), pools.clone(), config.clock.clone());
        let timer = move |progress: &Progress| {
            timer::run(&of_timer, &its_pools, &clock, &orders, &stop, progress);
        };
        let critical = &chat.threads;
        let timer = critical.spawn_watched("timer", "timer", STORE_STACK, timer)?;
        let health = Health {
            chat: Arc::clone(&chat),
            pool: Arc::clone(&pools.shared),
            address: address.clone(),
            others: prepared.site,
        };
        let (server, server_threads) = Server::start(
            Arc::clone(&chat),
            config.app_url.clone(),
            Some(Box::new(health)),
            max_connections,
            prepared.listener.socket,
        )?;
        let inspection = start_inspection(&config, &server);
        // Logged once all threads run.
        info!("listening on {address}");
        let sizes = [max_connections, pools.size()];
        let about = startup::describe(&config, &rows, &address, sizes);
        config.log_stderr.say(&config.clock, &about);
        Ok(Running {
            config,
            pools,
            chat,
            server,
            server_threads,
            hub_thread,
            bus_threads,
            push,
            store_threads,
            store_done,
            timer,
            timer_orders,
            events: prepared.events,
            end_wanted: prepared.end_wanted,
            stop_requested,
            pid_file: prepared.pid_file,
            watch: None,
            inspection,
        })
    }

    /// Reports the state of the service to the service manager from now on.
    fn watched(mut self, notifier: Notifier) -> io::Result<Self> {
        let hub = self.chat.hub.clone();
        let pool = Arc::clone(&self.pools.shared);
        let describe = move || {
            let (agents, connections) = (hub.local_agents().len(), METRICS.open.get());
            let database = match pool.availability().is_up() {
                true => "",
                false => "; the database does not answer",
            };
            format!("agents: {agents}, connections: {connections}{database}")
        };
        self.watch = Some(Watch::start(notifier, &self.chat.threads, describe)?);
        Ok(self)
    }

    /// Waits until the service is to end, and ends it.
    pub(crate) fn wait(self) -> Result<Ending, Problem> {
        let ending = loop {
            crossbeam_channel::select! {
                recv(self.events.receiver) -> event => match event {
                    Ok(ServerEvent::Reload) => {
                        // If the queue is full, a reload is about to be done.
                        let _ = self.timer_orders.try_send(TimerOrder::Reload);
                    }
                    Ok(ServerEvent::Terminate) | Err(_) => break Ok(Ending::Terminated),
                    Ok(ServerEvent::Broken(name)) => break Err(broken(&name)),
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
                    // The timer thread is gone, so no stop request can arrive.
                    Err(_) => break Err(broken("timer")),
                }
            }
        };
        let code = ending
            .as_ref()
            .map_or_else(|failure| failure.code, |_| exit_code::OK);
        shutdown::run(self, code);
        ending
    }
}

/// `None` if it cannot start: the chat goes on without it.
fn start_inspection(config: &Config, server: &Arc<Server>) -> Option<Inspection> {
    let path = config.paths().inspection_socket;
    let shown = path.display().to_string();
    let started = Inspection::start(path, Arc::clone(server), config.clock.clone());
    started
        .map_err(|error| {
            warn!("cannot listen at {shown}: {error}; connections cannot be listed until it can");
        })
        .ok()
}

pub(crate) fn broken(thread: &str) -> Problem {
    let message =
        format!("thread \"{thread}\" panicked; the log says where, and the service exits");
    startup::logged(Problem::new(exit_code::SOFTWARE, message))
}

/// Starts the fan-out; `bus` is told who comes and goes.
pub(crate) fn start_hub(
    limits: &Limits,
    bus: Option<Bus>,
    threads: &Threads,
) -> io::Result<(Hub, JoinHandle<()>)> {
    let config = HubConfig {
        max_per_agent: limits.max_per_agent,
        presence_grace: limits.presence_grace,
        presence: |change| Frame::text(&protocol::presence_updated(change.agent, change.is_online)),
        online: protocol::agent_ids,
        on_presence: match bus {
            Some(bus) => Box::new(move |change| bus.presence(change.agent, change.is_online)),
            None => Box::new(|_| {}),
        },
    };
    Hub::start(config, threads)
}

/// Starts the threads that store messages, look for those of other writers, and ask on behalf of connections. The
/// receiver is disconnected once all of them have ended.
fn start_store_threads(
    chat: &Arc<Chat>,
    (posts, questions): Channels,
    pools: &Pools,
) -> io::Result<(Vec<JoinHandle<()>>, Receiver<()>)> {
    let (alive, ended) = bounded(0);
    let critical = &chat.threads;
    let (of_commit, its_pools, its_life) = (Arc::clone(chat), pools.clone(), alive.clone());
    let commit = move |progress: &Progress| {
        let _alive = its_life;
        chat::run_commit(&of_commit, &posts, &its_pools, progress);
    };
    let commit = critical.spawn_watched("commit", "commit path", STORE_STACK, commit)?;
    let (of_poller, pool, its_life) = (Arc::clone(chat), Arc::clone(&pools.shared), alive.clone());
    let poller = critical.spawn("poller", STORE_STACK, move || {
        let _alive = its_life;
        chat::run_poller(&of_poller, &pool);
    })?;
    let mut threads = vec![commit, poller];
    // Only the last one takes heavy questions.
    let count = pools.shared.size().min(QUERY_THREADS);
    for place in 0..count {
        let (questions, pool) = (questions.clone(), Arc::clone(&pools.shared));
        let its_life = alive.clone();
        threads.push(
            critical.spawn(&format!("query-{place}"), STORE_STACK, move || {
                let _alive = its_life;
                chat::run_queries(&questions, place + 1 == count, &pool);
            })?,
        );
    }
    Ok((threads, ended))
}

impl Events {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = bounded(16);
        Events { sender, receiver }
    }

    /// Threads that report a panic as one of these events.
    pub(crate) fn threads(&self) -> Threads {
        let broken = self.sender.clone();
        Threads::new(move |name| {
            // If the queue is full, the end is near anyway.
            let _ = broken.try_send(ServerEvent::Broken(name.to_owned()));
        })
    }

    /// Takes over the signals until the process ends.
    pub(crate) fn watch_signals(&self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let sender = self.sender.clone();
        // Never joined: the process does not wait for it.
        self.threads().spawn("signals", 64 * 1024, move || {
            for signal in signals.forever() {
                failpoint::reach("signals");
                let sent = match signal {
                    // If the queue is full, many requests wait already.
                    SIGHUP => sender.try_send(ServerEvent::Reload).is_ok(),
                    _ => sender.send(ServerEvent::Terminate).is_ok(),
                };
                if !sent {
                    warn!("dropped signal {signal}: the event queue is full");
                }
            }
        })?;
        Ok(())
    }
}

#[cfg(feature = "embedded")]
#[cfg(test)]
mod tests;
