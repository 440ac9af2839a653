//! Takes sockets in, finds which of them have something to say, and hands those to worker threads. A connection
//! that is silent costs no thread: it is an entry in a table and a watch in the kernel.

mod crowd;
mod stop;

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::crowd::Crowd;
use super::handshake::{Refused, Site};
use super::poll::{Interest, Poller, ReadyEvent};
use super::{Connection, Next, Phase, keeper};
use crate::fault;
use crate::hits::{Limit, hit};
use crate::hub::Subscriber;
use crate::metrics::METRICS;
use crate::model::CloseCode;
use crate::pulse;
use crate::service::Service;
use crate::vital;

/// The id under which the wake-up descriptor is polled; no socket has it.
const WAKE: u64 = u64::MAX;
/// Sockets that one call reports; few, so that the workers share a burst.
const READY_AT_ONCE: usize = 16;
/// Stack of a worker, in bytes.
const WORKER_STACK: usize = 256 * 1024;
/// Pause after the system refused a socket.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pause before the next look while newcomers wait until those before them have said who they are.
const CROWD_PAUSE: Duration = Duration::from_millis(2);
/// Refused sockets that are waited for until they have read why; more are turned away in passing.
const MAX_REFUSED: usize = 64;
/// So long after a newcomer was refused the door counts as held, in seconds.
const DOOR_MEMORY: u32 = 2;
/// Time between two log lines about the same limit.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that all connections share.
pub struct Reactor {
    service: Arc<Service>,
    app_url: String,
    site: Option<Box<dyn Site>>,
    max_connections: usize,
    readers: Poller,
    writers: Poller,
    table: Mutex<Table>,
    arrived: Condvar,
    unauthenticated: AtomicUsize,
    /// Sockets that were unauthenticated and no longer are, ever.
    admitted: AtomicUsize,
    refused: AtomicUsize,
    /// Coarse time, see [`Reactor::seconds`], when a newcomer was last refused because others had yet to say who they are.
    door_full: AtomicU32,
    stopping: AtomicBool,
    /// When the last reads of a stop are over.
    read_until: OnceLock<Instant>,
    wake: (OwnedFd, Mutex<Option<OwnedFd>>),
    started: Instant,
    last_note: Mutex<HashMap<&'static str, Instant>>,
}

#[derive(Default)]
struct Table {
    connections: HashMap<u64, Arc<Connection>>,
    next_id: u64,
}

/// The threads of a running reactor.
pub struct ReactorThreads {
    accept: JoinHandle<()>,
    workers: Vec<JoinHandle<()>>,
    flusher: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

impl Reactor {
    /// A reactor that listens nowhere yet. `app_url` is one of the allowed origins, `site` what is served beside
    /// the chat.
    ///
    /// # Errors
    /// The system is out of descriptors.
    pub fn new(
        service: Arc<Service>,
        app_url: String,
        site: Option<Box<dyn Site>>,
        max_connections: usize,
    ) -> io::Result<Arc<Self>> {
        let (wake, waker) = rustix::pipe::pipe()?;
        let reactor = Reactor {
            service,
            app_url,
            site,
            max_connections,
            readers: Poller::new()?,
            writers: Poller::new()?,
            table: Mutex::default(),
            arrived: Condvar::new(),
            unauthenticated: AtomicUsize::new(0),
            admitted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            door_full: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
            read_until: OnceLock::new(),
            wake: (wake, Mutex::new(Some(waker))),
            started: Instant::now(),
            last_note: Mutex::default(),
        };
        reactor.readers.add_wake(&reactor.wake.0, WAKE)?;
        reactor.writers.add_wake(&reactor.wake.0, WAKE)?;
        Ok(Arc::new(reactor))
    }

    /// Starts the accept loop, the workers, the flusher and the keeper.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        self: &Arc<Self>,
        listener: TcpListener,
        workers: usize,
    ) -> io::Result<ReactorThreads> {
        listener.set_nonblocking(true)?;
        let spawn = |name: String, run: Box<dyn FnOnce(Arc<Reactor>) + Send>| {
            let reactor = Arc::clone(self);
            thread::Builder::new()
                .name(name)
                .stack_size(WORKER_STACK)
                .spawn(move || {
                    let _vital = vital::thread();
                    run(reactor);
                })
        };
        let workers = (0..workers)
            .map(|number| {
                spawn(
                    format!("worker-{number}"),
                    Box::new(|reactor| reactor.work()),
                )
            })
            .collect::<io::Result<_>>()?;
        Ok(ReactorThreads {
            workers,
            flusher: spawn(
                "flusher".to_owned(),
                Box::new(|reactor| reactor.flush_behind()),
            )?,
            keeper: spawn(
                "keeper".to_owned(),
                Box::new(|reactor| keeper::run(&reactor)),
            )?,
            accept: spawn(
                "accept".to_owned(),
                Box::new(move |reactor| reactor.accept(&listener)),
            )?,
        })
    }

    /// How many sockets are open.
    pub fn connections(&self) -> usize {
        self.table().connections.len()
    }

    /// How many of them are an agent's.
    pub fn authenticated(&self) -> usize {
        let others =
            self.unauthenticated.load(Ordering::Relaxed) + self.refused.load(Ordering::Relaxed);
        self.connections().saturating_sub(others)
    }

    /// Whole seconds since the start: fine enough for every limit that is watched once a second.
    pub(super) fn seconds(&self) -> u32 {
        self.started.elapsed().as_secs() as u32
    }

    /// Who the sockets belong to.
    pub fn service(&self) -> &Service {
        &self.service
    }

    pub(super) fn app_url(&self) -> &str {
        &self.app_url
    }

    pub(super) fn site(&self) -> Option<&dyn Site> {
        self.site.as_deref()
    }

    pub(super) fn queue_bytes(&self) -> usize {
        self.service.limits.queue_bytes
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn is_reading_over(&self) -> bool {
        let until = self.read_until.get();
        until.is_some_and(|until| Instant::now() >= *until)
    }

    /// Whether newcomers are being refused, at the coarse time `now`, because of those who do not say who they are.
    pub(super) fn is_door_held(&self, now: u32) -> bool {
        let full = self.door_full.load(Ordering::Relaxed);
        full > 0 && now.saturating_sub(full) <= DOOR_MEMORY
    }

    pub(super) fn note_authenticated(&self) {
        self.leave_crowd();
    }

    pub(super) fn note_slow(&self, connection: &Connection) {
        METRICS.slow.add(1);
        hit(Limit::Queue, || {
            format!(
                "connection {} from {} reads too slowly and is dropped",
                connection.id.0, connection.peer
            )
        });
    }

    /// Logs about a limit, at most once in a while: whoever hits it may do so very often.
    fn note(&self, limit: &'static str, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let mut notes = self
            .last_note
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if notes
            .get(limit)
            .is_none_or(|last| now - *last >= NOTE_INTERVAL)
        {
            notes.insert(limit, now);
            drop(notes);
            warn!("{}", text());
        }
    }

    pub(super) fn arm(&self, connection: &Connection, interest: Interest) {
        // Fails only where the connection was taken down meanwhile.
        let _ = self
            .readers
            .arm(&connection.stream, connection.id.0, interest);
    }

    /// Lets the flusher write when the socket takes more.
    pub(super) fn watch(&self, connection: &Connection) {
        let (stream, id) = (&connection.stream, connection.id.0);
        let _ = match connection.watched.swap(true, Ordering::AcqRel) {
            false => self.writers.add(stream, id, Interest::Write),
            true => self.writers.arm(stream, id, Interest::Write),
        };
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, id: u64) -> Option<Arc<Connection>> {
        self.table().connections.get(&id).map(Arc::clone)
    }

    pub(super) fn all(&self) -> Vec<Arc<Connection>> {
        self.table().connections.values().map(Arc::clone).collect()
    }

    /// Blocks until a connection arrives where there is none, or a second has gone by, or the service stops.
    pub(super) fn wait_a_second(&self) {
        let table = self.table();
        if table.connections.is_empty() {
            drop(
                self.arrived
                    .wait_while(table, |table| {
                        table.connections.is_empty() && !self.is_stopping()
                    })
                    .unwrap_or_else(PoisonError::into_inner),
            );
            return;
        }
        drop(
            self.arrived
                .wait_timeout_while(table, Duration::from_secs(1), |_| !self.is_stopping())
                .unwrap_or_else(PoisonError::into_inner),
        );
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        let patience = Timespec::try_from(pulse::TICK).unwrap_or_default();
        let mut crowd = Crowd::new();
        while !self.is_stopping() {
            pulse::ACCEPT.beat();
            let is_crowded = self.is_crowded();
            if crowd.should_wait(
                is_crowded,
                self.admitted.load(Ordering::Relaxed),
                Instant::now(),
            ) {
                thread::sleep(CROWD_PAUSE);
                continue;
            }
            match listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ready = [
                        PollFd::new(listener, PollFlags::IN),
                        PollFd::new(&self.wake.0, PollFlags::IN),
                    ];
                    // An interruption is no reason to stop; the loop looks again.
                    let _ = poll(&mut ready, Some(&patience));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let text = || {
                        format!(
                            "cannot accept a connection: {error}; raise the limit of open files if this stays"
                        )
                    };
                    match Errno::from_io_error(&error) {
                        Some(Errno::MFILE | Errno::NFILE) => hit(Limit::OpenFiles, text),
                        _ => self.note("accept", text),
                    }
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    /// Whether as many sockets as may be have yet to say who they are.
    fn is_crowded(&self) -> bool {
        self.unauthenticated.load(Ordering::Relaxed) >= self.service.limits.max_unauthenticated
    }

    fn leave_crowd(&self) {
        self.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let limits = &self.service.limits;
        let full = if self.connections() >= self.max_connections {
            Some((Limit::Connections, "connections", self.max_connections))
        } else if self.is_crowded() {
            self.door_full
                .store(self.seconds().max(1), Ordering::Relaxed);
            let limit = limits.max_unauthenticated;
            Some((Limit::Unauthenticated, "unauthenticated connections", limit))
        } else {
            None
        };
        if let Some((kind, what, limit)) = full {
            METRICS.full.add(1);
            hit(kind, || {
                format!("{peer} was refused: there are {limit} {what}, which is the limit")
            });
            if self.refused.load(Ordering::Relaxed) >= MAX_REFUSED {
                return turn_away(stream);
            }
        }
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let connection = {
            let mut table = self.table();
            let id = table.next_id;
            table.next_id += 1;
            let connection = Arc::new(Connection::new(id, stream, peer, Arc::clone(self)));
            table.connections.insert(id, Arc::clone(&connection));
            connection
        };
        self.arrived.notify_all();
        match full {
            // Refused before a thread is spent on it; it stays in the table until it has read why.
            Some(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                connection.refuse(Refused::Full);
            }
            None => {
                self.unauthenticated.fetch_add(1, Ordering::Relaxed);
            }
        }
        let refused = full.is_some();
        connection.refused.store(refused, Ordering::Relaxed);
        if let Err(error) = self
            .readers
            .add(&connection.stream, connection.id.0, Interest::Read)
        {
            self.note("watch", || format!("cannot watch a connection: {error}"));
            self.take_down(&connection);
        }
    }

    fn work(&self) {
        let mut events: Vec<ReadyEvent> = Vec::with_capacity(READY_AT_ONCE);
        let mut ready = Vec::with_capacity(READY_AT_ONCE);
        loop {
            if let Err(error) = self.readers.wait(&mut events, &mut ready) {
                error!("cannot wait for sockets: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
            fault::point("worker");
            ready.retain(|id| *id != WAKE);
            // What had arrived before the stop is still read; a client that never pauses is not waited for.
            if self.is_stopping() && (ready.is_empty() || self.is_reading_over()) {
                return;
            }
            // What all of them say goes out in one round.
            let held = self.service.hub.hold();
            for id in ready.drain(..) {
                if let Some(connection) = self.connection(id) {
                    self.turn(&connection);
                }
            }
            drop(held);
        }
    }

    fn turn(&self, connection: &Arc<Connection>) {
        let next = catch_unwind(AssertUnwindSafe(|| {
            fault::point("connection");
            connection.serve()
        }));
        match next {
            Ok(Next::Read) => self.arm(connection, Interest::Read),
            Ok(Next::Again) => self.arm(connection, Interest::ReadOrWrite),
            Ok(Next::Parked) => {}
            Ok(Next::Gone) => self.take_down(connection),
            Err(_) => {
                // The panic's own message is in the log; it costs this one connection.
                error!(
                    "connection {} from {} failed and is closed",
                    connection.id.0, connection.peer
                );
                connection.close(CloseCode::Internal);
                self.take_down(connection);
            }
        }
    }

    /// Forgets a connection and ends its socket. Safe to call twice.
    fn take_down(&self, connection: &Arc<Connection>) {
        let before = connection.phase.swap(Phase::Gone as u8, Ordering::AcqRel);
        if before == Phase::Gone as u8 {
            return;
        }
        connection.kill();
        if before == Phase::Active as u8 || before == Phase::Unauthenticated as u8 {
            METRICS.open.sub(1);
        }
        self.table().connections.remove(&connection.id.0);
        if connection.refused.load(Ordering::Relaxed) {
            self.refused.fetch_sub(1, Ordering::Relaxed);
        } else if before != Phase::Active as u8 {
            self.leave_crowd();
        }
        if let Some(agent) = connection.agent.get() {
            self.service.hub.leave(connection.id, agent.id);
        }
    }

    fn flush_behind(&self) {
        let mut events: Vec<ReadyEvent> = Vec::with_capacity(READY_AT_ONCE);
        let mut ready = Vec::with_capacity(READY_AT_ONCE);
        while !self.is_stopping() {
            if let Err(error) = self.writers.wait(&mut events, &mut ready) {
                error!("cannot wait for slow sockets: {error}");
                thread::sleep(ACCEPT_PAUSE);
            }
            fault::point("flusher");
            for id in ready.drain(..) {
                if let Some(connection) = self.connection(id) {
                    connection.flush();
                }
            }
        }
    }
}

/// Refuses a socket without waiting until it has read why. Whoever has sent his request already will; what is not read here
/// makes the kernel reset the connection, which is no worse than an end without a word.
fn turn_away(mut stream: TcpStream) {
    let mut request = [0; 2048];
    if stream.set_nonblocking(true).is_ok() {
        let _ = stream.read(&mut request);
        let _ = stream.write(&Refused::Full.response());
        let _ = stream.shutdown(Shutdown::Write);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
