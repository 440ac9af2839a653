//! Connections to the database, lent to one borrower at a time: opened when needed, never more than a fixed number, and
//! closed when unused for long. Says in the log once that the database is gone and once that it is back, at a bounded
//! rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info};

use super::{DatabaseConnection, Failure, Result, Store, StoreError};
use crate::config::limits::STORE_TIMEOUT;
use crate::platform::log_throttle::{Line, LogThrottle};
use crate::platform::metrics::METRICS;
use crate::platform::threads::lock;

/// Pause before a lost database is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A connection that has been idle for longer is asked whether it lives before it is trusted.
const TRUSTED: Duration = Duration::from_secs(1);
/// An idle connection is closed after this long without use.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection is replaced at this age. The MySQL crate reads into a buffer of 4 MiB from one end to the other, so a
/// connection that is never idle would in the end hold all of it.
const MAX_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Whether the database answered last time, and what the log says of that. Shared by all pools of a service.
#[derive(Debug)]
pub struct Availability {
    is_up: AtomicBool,
    /// Whether the last line in the log says that the database is lost.
    is_told: Mutex<bool>,
    /// A database with a full disk can still be read, so it is lost and found again with every try.
    lost_log: LogThrottle,
    /// Why the last heartbeat was not written.
    no_heartbeat: Mutex<Option<String>>,
}

impl Default for Availability {
    fn default() -> Self {
        Availability {
            is_up: AtomicBool::new(true),
            is_told: Mutex::default(),
            lost_log: LogThrottle::default(),
            no_heartbeat: Mutex::default(),
        }
    }
}

impl Availability {
    /// Whether the last operation reached the database.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Why the last heartbeat could not be written, where it could not.
    pub fn refusal(&self) -> Option<String> {
        lock(&self.no_heartbeat).clone()
    }

    /// Takes note of how a heartbeat went.
    pub fn note_heartbeat(&self, result: &Result<()>) {
        *lock(&self.no_heartbeat) = result.as_ref().err().map(StoreError::to_string);
    }

    fn note(&self, lost: Option<&StoreError>) {
        let was_up = self.is_up.swap(lost.is_none(), Ordering::Relaxed);
        if lost.is_none() && was_up {
            return;
        }
        let mut is_told = lock(&self.is_told);
        match lost {
            Some(error) if !*is_told => {
                let text = || format!("the database is not available: {error}");
                *is_told = self.lost_log.warn(text) == Line::Written;
            }
            None if *is_told => {
                *is_told = false;
                info!("the database is available again");
            }
            _ => {}
        }
    }
}

/// A fixed number of connections at most.
pub struct Pool {
    store: Arc<dyn Store>,
    size: usize,
    availability: Arc<Availability>,
    connections: Mutex<OpenConnections>,
    returned: Condvar,
}

#[derive(Default)]
struct OpenConnections {
    idle: Vec<Held>,
    /// Idle and lent ones.
    open: usize,
}

struct Held {
    connection: DatabaseConnection,
    opened: Instant,
    /// When it was used last.
    used: Instant,
    /// When it answered last.
    proven: Instant,
}

impl Held {
    fn new(connection: DatabaseConnection) -> Self {
        let now = Instant::now();
        Held {
            connection,
            opened: now,
            used: now,
            proven: now,
        }
    }

    /// Whether it answered a moment ago, or answers now.
    fn is_good(&mut self, now: Instant) -> bool {
        let is_trusted = now.saturating_duration_since(self.proven) < TRUSTED;
        if !is_trusted && !self.connection.is_alive() {
            debug!("a connection to the database has gone while it was idle");
            return false;
        }
        true
    }
}

/// A connection on loan; it goes back when this is dropped.
pub struct Lent<'a> {
    pool: &'a Pool,
    held: Option<Held>,
    /// Whether it was opened for this loan: only then does a failure say something about the server.
    is_new: bool,
}

impl Pool {
    /// A pool of up to `size` connections, none of which is open yet.
    pub fn new(store: Arc<dyn Store>, size: usize, availability: Arc<Availability>) -> Self {
        Pool {
            store,
            size: size.max(1),
            availability,
            connections: Mutex::default(),
            returned: Condvar::new(),
        }
    }

    /// A pool of one, for a command that does one thing after the other.
    pub fn single(store: Arc<dyn Store>) -> Self {
        Pool::new(store, 1, Arc::default())
    }

    /// Whether the database answers, and takes heartbeats.
    pub fn availability(&self) -> &Availability {
        &self.availability
    }

    /// The most connections that it opens.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Lends a connection, waiting for one until `deadline` where all are lent. It need not be open yet:
    /// [`Lent::run`] opens it.
    ///
    /// # Errors
    /// None came back in time.
    pub fn lend(&self, deadline: Instant) -> Result<Lent<'_>> {
        let mut connections = lock(&self.connections);
        loop {
            let held = connections.idle.pop();
            if held.is_some() || connections.open < self.size {
                connections.open += usize::from(held.is_none());
                METRICS.database_connections.add(u64::from(held.is_none()));
                drop(connections);
                let now = Instant::now();
                let mut lent = Lent {
                    pool: self,
                    held,
                    is_new: false,
                };
                lent.held = lent.held.take_if(|held| held.is_good(now));
                return Ok(lent);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::new(
                    "borrow a connection to the database",
                    Failure::Lost,
                    format!("all {} are busy", self.size),
                ));
            }
            connections = self
                .returned
                .wait_timeout(connections, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Takes a connection that was opened elsewhere, into a pool that has lent none yet.
    pub fn adopt(&self, connection: DatabaseConnection) {
        let mut connections = lock(&self.connections);
        connections.open += 1;
        METRICS.database_connections.add(1);
        connections.idle.push(Held::new(connection));
    }

    /// Does one operation on a borrowed connection. Not tried again.
    ///
    /// # Errors
    /// No connection was free in time, connecting failed, or the operation did.
    pub fn run<T>(
        &self,
        operation: impl FnOnce(&mut DatabaseConnection) -> Result<T>,
    ) -> Result<T> {
        self.lend(Instant::now() + STORE_TIMEOUT)?.run(operation)
    }

    /// Does one operation that may be repeated, and repeats it once on a new connection if an old one was gone.
    ///
    /// # Errors
    /// As [`Pool::run`].
    pub fn run_anew<T>(
        &self,
        mut operation: impl FnMut(&mut DatabaseConnection) -> Result<T>,
    ) -> Result<T> {
        let mut lent = self.lend(Instant::now() + STORE_TIMEOUT)?;
        match lent.run(&mut operation) {
            Err(error)
                if !lent.is_new && matches!(error.failure, Failure::Lost | Failure::Stale) =>
            {
                lent.run(operation)
            }
            result => result,
        }
    }

    /// Does one operation that may be repeated, again and again until `deadline` where the database is lost or in
    /// conflict.
    ///
    /// # Errors
    /// The last failure.
    pub fn run_until<T>(
        &self,
        deadline: Instant,
        operation: impl FnMut(&mut DatabaseConnection) -> Result<T>,
    ) -> Result<T> {
        self.lend(deadline)?.run_until(deadline, operation)
    }

    /// Closes connections that have been unused for a while, and pings the others: a firewall in between may forget a
    /// silent connection.
    pub fn tend(&self, now: Instant) {
        let is_due = |held: &mut Held| now.saturating_duration_since(held.proven) >= TRUSTED;
        let mut connections = lock(&self.connections);
        let mut due: Vec<Held> = connections.idle.extract_if(.., is_due).collect();
        drop(connections);
        let count = due.len();
        // If one is gone, the others are too, and each would be waited for.
        let mut is_good = true;
        due.retain_mut(|held| {
            let is_old = now.saturating_duration_since(held.used) >= IDLE_TIMEOUT;
            is_good = is_good && (is_old || held.is_good(now));
            held.proven = Instant::now();
            is_good && !is_old
        });
        self.take_back(count - due.len(), due);
        self.returned.notify_all();
    }

    /// Takes connections back, of which so many more are closed.
    fn take_back(&self, closed: usize, kept: impl IntoIterator<Item = Held>) {
        let mut connections = lock(&self.connections);
        connections.open -= closed;
        METRICS.database_connections.sub(closed as u64);
        connections.idle.extend(kept);
        // The one that was used last is lent first, so that those that are not needed grow old.
        connections.idle.sort_by_key(|held| held.used);
        drop(connections);
        self.returned.notify_one();
    }
}

impl Lent<'_> {
    /// Does one operation, connecting first where needed. Not tried again.
    ///
    /// # Errors
    /// Connecting or the operation failed.
    pub fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut DatabaseConnection) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = match &mut self.held {
            Some(held) => operation(&mut held.connection),
            None => {
                self.is_new = true;
                self.pool.store.connect().and_then(|connection| {
                    operation(&mut self.held.insert(Held::new(connection)).connection)
                })
            }
        };
        let failure = result.as_ref().err().map(|error| error.failure);
        METRICS.database.add(begun.elapsed());
        if let Some(failure) = failure {
            METRICS.failures.count(failure.name());
        }
        if let Some(Failure::Lost | Failure::Stale | Failure::Denied) = failure {
            self.held = None;
        }
        if let Some(held) = &mut self.held {
            held.used = Instant::now();
            held.proven = held.used;
        }
        match &result {
            // An older connection may be gone although the server is up.
            Err(error) if error.failure == Failure::Lost && !self.is_new => debug!("{error}"),
            Err(error) if matches!(error.failure, Failure::Lost | Failure::Denied) => {
                self.pool.availability.note(Some(error));
            }
            _ => self.pool.availability.note(None),
        }
        result
    }

    /// As [`Pool::run_until`].
    ///
    /// # Errors
    /// The last failure.
    pub fn run_until<T>(
        &mut self,
        deadline: Instant,
        mut operation: impl FnMut(&mut DatabaseConnection) -> Result<T>,
    ) -> Result<T> {
        loop {
            let error = match self.run(&mut operation) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_final = matches!(
                error.failure,
                Failure::Refused | Failure::TooLarge | Failure::TookTooLong
            );
            if is_final || Instant::now() + RETRY_PAUSE >= deadline {
                return Err(error);
            }
            // A new connection may succeed at once where an old one failed.
            if self.is_new || error.failure == Failure::Conflict {
                thread::sleep(RETRY_PAUSE);
            }
        }
    }

    /// Whether it is connected, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.held.is_some()
    }

    /// Gives up the connection, whatever its state.
    pub fn disconnect(&mut self) {
        self.held = None;
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        // What is not kept is closed here, before another may be opened in its place.
        let kept = self.held.take();
        let kept = kept.filter(|held| held.opened.elapsed() < MAX_LIFETIME);
        self.pool.take_back(usize::from(kept.is_none()), kept);
    }
}

/// The connections of a service: one for the thread that commits messages, and the rest for everything else. With only
/// one or two connections both share one pool, so that with two a slow query leaves one free.
#[derive(Clone)]
pub struct Pools {
    /// Lends to the thread that commits messages.
    pub commit: Arc<Pool>,
    /// Lends to everything else.
    pub shared: Arc<Pool>,
}

impl Pools {
    /// Of up to `connections` in all, at least one.
    pub fn new(store: &Arc<dyn Store>, connections: usize) -> Self {
        let availability = Arc::default();
        let pool = |size| {
            Arc::new(Pool::new(
                Arc::clone(store),
                size,
                Arc::clone(&availability),
            ))
        };
        let shared = pool(match connections {
            0..=2 => connections,
            _ => connections - 1,
        });
        let commit = match connections {
            0..=2 => Arc::clone(&shared),
            _ => pool(1),
        };
        Pools { commit, shared }
    }

    /// The most connections that are opened.
    pub fn size(&self) -> usize {
        match Arc::ptr_eq(&self.commit, &self.shared) {
            true => self.shared.size,
            false => self.commit.size + self.shared.size,
        }
    }

    /// Ends posting on a connection that others borrow as well, so that they find it as usual.
    pub fn end_posting(&self, lent: &mut Lent<'_>) {
        let is_shared = Arc::ptr_eq(&self.commit, &self.shared);
        if is_shared && lent.is_connected() && lent.run(|store| store.end_posting()).is_err() {
            lent.disconnect();
        }
    }

    /// As [`Pool::tend`].
    pub fn tend(&self, now: Instant) {
        self.commit.tend(now);
        self.shared.tend(now);
    }

    /// As [`Store::settle`].
    pub fn settle(&self, until: Instant) {
        self.shared.store.settle(until);
    }
}
