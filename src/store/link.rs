//! One thread's connection to the database: opened on first use, opened again after a loss, never shared. Says
//! in the log once that the database is gone and once that it is back, at a bounded rate.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::{Connection, Failure, Result, Store, StoreError};
use crate::metrics::METRICS;

/// Pause before a lost database is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How often it is looked whether a connection is to be exchanged.
const RENEW_INTERVAL: Duration = Duration::from_secs(60);
/// A connection that has received this many bytes is worth exchanging.
const RENEW_ABOVE: u64 = 256 * 1024;
/// What a connection comes to hold, in bytes. One that receives so much in an interval would hold it again at once, and is
/// left alone; one that receives less would come to hold it slowly, which looks like a leak.
const BUFFER: u64 = 4 * 1024 * 1024;
/// Pause before an exchange that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// Time between two losses that the log is told of. A database that can be read and not written to, its disk full,
/// is lost and found with every try.
const SAY_INTERVAL: Duration = Duration::from_secs(10);

/// Whether the log's last word was that the database is lost.
static IS_SAID: AtomicBool = AtomicBool::new(false);
/// When it last was.
static LAST_SAID: Mutex<Option<Instant>> = Mutex::new(None);

/// Says that the database is lost, unless that was said already or just now.
fn say_lost(error: &StoreError) {
    if IS_SAID.load(Ordering::Relaxed) {
        return;
    }
    let mut last = LAST_SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|last| last.elapsed() >= SAY_INTERVAL)
        && !IS_SAID.swap(true, Ordering::Relaxed)
    {
        *last = Some(Instant::now());
        warn!("the database is not available: {error}");
    }
}

/// A lazily opened connection.
pub struct Link {
    store: Arc<dyn Store>,
    connection: Option<Box<dyn Connection>>,
    /// When it was last looked whether the connection is to be exchanged, and what it had received by then.
    looked: (Instant, u64),
    health: Arc<AtomicBool>,
}

impl Link {
    /// A link that is not connected yet. `health` is shared by all links of the process: whether the database
    /// answered last time.
    pub fn new(store: Arc<dyn Store>, health: Arc<AtomicBool>) -> Self {
        Link {
            store,
            connection: None,
            looked: (Instant::now(), 0),
            health,
        }
    }

    /// Does one operation, connecting first where needed. Not tried again.
    ///
    /// # Errors
    /// Connecting or the operation failed.
    pub fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut dyn Connection) -> Result<T>,
    ) -> Result<T> {
        let begun = Instant::now();
        let result = match &mut self.connection {
            Some(connection) => operation(connection.as_mut()),
            None => self.store.connect().and_then(|connection| {
                self.looked = (Instant::now(), 0);
                operation(self.connection.insert(connection).as_mut())
            }),
        };
        let failure = result.as_ref().err().map(|error| error.failure);
        METRICS.asked(begun.elapsed(), failure);
        match &result {
            Err(error) if matches!(error.failure, Failure::Lost | Failure::Denied) => {
                self.connection = None;
                self.health.store(false, Ordering::Relaxed);
                say_lost(error);
            }
            _ => {
                self.health.store(true, Ordering::Relaxed);
                if IS_SAID.swap(false, Ordering::Relaxed) {
                    info!("the database is available again");
                }
            }
        }
        result
    }

    /// Does one operation that may be repeated, again and again until `deadline` where the database is lost or
    /// in conflict.
    ///
    /// # Errors
    /// The last failure.
    pub fn run_until<T>(
        &mut self,
        deadline: Instant,
        mut operation: impl FnMut(&mut dyn Connection) -> Result<T>,
    ) -> Result<T> {
        loop {
            let error = match self.run(&mut operation) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if error.failure == Failure::Refused || Instant::now() + RETRY_PAUSE >= deadline {
                return Err(error);
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Whether there is a connection, as far as is known.
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Exchanges a connection that has received much, unless it is very busy. To be called between operations, outside of
    /// a transaction, whenever there is nothing better to do; does something once a minute at most. The MySQL crate reads
    /// into 4 MiB a connection from one end to the other, so that every connection comes to hold that much, and would keep
    /// it. Where no new one is to be had, the old one stays, and it is a while before that is tried again: connecting may
    /// take seconds.
    pub fn renew(&mut self) {
        let Some(connection) = &self.connection else {
            return;
        };
        let (since, before) = self.looked;
        let now = Instant::now();
        if now.saturating_duration_since(since) < RENEW_INTERVAL {
            return;
        }
        let received = connection.received();
        self.looked = (now, received);
        if !is_worth_renewing(received, received - before) {
            return;
        }
        match self.store.connect() {
            Ok(connection) => {
                self.connection = Some(connection);
                self.looked.1 = 0;
            }
            Err(error) => {
                debug!("{error}; the connection that is there is kept");
                self.looked.0 = now + RENEW_AGAIN;
            }
        }
    }

    /// Gives up a connection that has received much; for a thread that is about to wait for long.
    pub fn rest(&mut self) {
        let received = self.connection.as_ref().map_or(0, |one| one.received());
        if received >= RENEW_ABOVE {
            self.drop_connection();
        }
    }

    /// Gives up the connection, whatever its state.
    pub fn drop_connection(&mut self) {
        self.connection = None;
    }
}

/// Whether a connection that has received so many bytes, and so many of them in the last interval, is to be exchanged.
fn is_worth_renewing(received: u64, lately: u64) -> bool {
    received >= RENEW_ABOVE && lately < BUFFER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_took_much_is_exchanged_unless_it_would_take_as_much_at_once() {
        assert!(!is_worth_renewing(RENEW_ABOVE - 1, RENEW_ABOVE - 1));
        assert!(is_worth_renewing(RENEW_ABOVE, 0));
        assert!(is_worth_renewing(u64::MAX, BUFFER - 1));
        assert!(!is_worth_renewing(u64::MAX, BUFFER));
    }
}
