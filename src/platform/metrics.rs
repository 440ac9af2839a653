//! The service's counters, which any thread updates without waiting. One service a process, so one set. `health` formats
//! them for monitoring.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Refusal;

/// The counters of this process.
pub(crate) static METRICS: Metrics = Metrics::new();

/// Upper bounds of the classes of durations, in microseconds.
pub(crate) const DURATION_BOUNDS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// The table of limits that a client or the system can hit, and how the metrics and the log call them.
macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident $label:literal)*) => {
        /// A limit that a client or the system can hit.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Limit {
            $($(#[$doc])* $name,)*
        }

        impl Limit {
            /// The names of all, in the order of their numbers.
            pub(crate) const NAMES: &[&str] = &[$($label),*];

            /// Its name.
            pub fn name(self) -> &'static str {
                Limit::NAMES[self as usize]
            }
        }
    };
}

limits! {
    /// Sockets in all.
    Connections "connections"
    /// Sockets that have not authenticated.
    Unauthenticated "unauthenticated"
    /// Sockets of one agent.
    PerAgent "per_agent"
    /// Time for the request head.
    HandshakeTime "handshake_time"
    /// Bytes of the request head.
    HandshakeBytes "handshake_bytes"
    /// Time until an accepted `auth`.
    AuthTime "auth_time"
    /// Bytes of one message.
    MessageBytes "message_bytes"
    /// Pings and pongs a second.
    Control "control"
    /// Events a second: refused.
    Rate "rate"
    /// Events a second: so many that the socket was closed.
    Flood "flood"
    /// What may wait for one socket, in bytes or seconds.
    Queue "queue"
    /// Silence of a peer.
    Idle "idle"
    /// Descriptors that the system allows the process.
    OpenFiles "open_files"
    /// Threads that the system allows the process.
    Threads "threads"
    /// Anything else that keeps a connection from being accepted.
    Accept "accept"
}

/// Kinds of failures of the database.
const FAILURES: &[&str] = &[
    "lost",
    "stale",
    "took_too_long",
    "too_large",
    "conflict",
    "refused",
    "denied",
];

/// What becomes of a push: the push service has it, its subscription is gone, it will never work, it is tried again, it was
/// dropped since too many wait.
const PUSH_OUTCOMES: &[&str] = &["accepted", "gone", "failed", "retried", "dropped"];

/// Status codes of refused requests.
const REFUSED_STATUSES: &[&str] = &[
    "400", "403", "404", "405", "408", "421", "426", "431", "503",
];

/// Close codes.
const CLOSE_CODES: &[&str] = &[
    "1000", "1001", "1002", "1003", "1007", "1008", "1009", "1011", "1013", "4401", "4403", "4408",
    "other",
];

/// Durations by class, not cumulated; the last class has no bound.
#[derive(Debug)]
pub(crate) struct Histogram {
    classes: [Count; DURATION_BOUNDS.len() + 1],
    micros: Count,
}

impl Histogram {
    const fn new() -> Self {
        Histogram {
            classes: [const { Count::new() }; DURATION_BOUNDS.len() + 1],
            micros: Count::new(),
        }
    }

    /// Adds a duration.
    pub(crate) fn add(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        let class = DURATION_BOUNDS.partition_point(|bound| *bound < micros);
        self.classes[class].add(1);
        self.micros.add(micros);
    }

    /// How many are in each class.
    pub(crate) fn classes(&self) -> impl Iterator<Item = u64> {
        self.classes.iter().map(Count::get)
    }

    /// Their sum, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.micros.get() as f64 / 1e6
    }
}

/// A number that other threads may read at any time.
#[derive(Debug)]
pub(crate) struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Count(AtomicU64::new(0))
    }

    /// Adds.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Subtracts what was added before.
    pub(crate) fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Replaces the number.
    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Numbers by label, out of a list of labels.
#[derive(Debug)]
pub(crate) struct Counts<const N: usize> {
    labels: &'static [&'static str],
    counts: [Count; N],
}

impl<const N: usize> Counts<N> {
    const fn new(labels: &'static [&'static str]) -> Self {
        Counts {
            labels,
            counts: [const { Count::new() }; N],
        }
    }

    /// Counts one. A label that is not in the list is "other", where the list has that.
    pub(crate) fn count(&self, label: impl ToString) {
        let label = label.to_string();
        let mut labels = self.labels.iter();
        if let Some(place) = labels.position(|one| [label.as_str(), "other"].contains(one)) {
            self.counts[place].add(1);
        }
    }

    /// Every label with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let labels = self.labels.iter().copied();
        labels.zip(self.counts.iter().map(Count::get))
    }
}

/// The table of what is counted.
macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $new:expr;)*) => {
        /// What is counted.
        #[derive(Debug)]
        pub(crate) struct Metrics {
            $($(#[$doc])* pub $name: $kind,)*
        }

        impl Metrics {
            const fn new() -> Self {
                Metrics { $($name: $new,)* }
            }
        }
    };
}

metrics! {
    /// WebSocket connections that are open.
    open: Count = Count::new();
    /// WebSocket connections that were ever granted.
    granted: Count = Count::new();
    /// Sockets for which there was no room.
    full: Count = Count::new();
    /// Sockets that were dropped because they read too slowly.
    slow: Count = Count::new();
    /// Events that clients have sent.
    events: Count = Count::new();
    /// Messages that were committed.
    messages: Count = Count::new();
    /// Frames that were handed to sockets.
    deliveries: Count = Count::new();
    /// `auth.failed` events.
    auth_failures: Count = Count::new();
    /// Last heartbeat, seconds since 1970; 0 before the first.
    heartbeat: Count = Count::new();
    /// Calls to the database.
    database: Histogram = Histogram::new();
    /// From a message's commit until it was written to the sockets of its members.
    delivery: Histogram = Histogram::new();
    /// Connections to the database.
    database_connections: Count = Count::new();
    /// Whether the bus is there, 1 or 0.
    bus_up: Count = Count::new();
    /// Pushes that wait.
    push_waiting: Count = Count::new();
    /// Pushes by what became of them.
    pushes: Counts<{ PUSH_OUTCOMES.len() }> = Counts::new(PUSH_OUTCOMES);
    /// Limits that were hit.
    limits: Counts<{ Limit::NAMES.len() }> = Counts::new(Limit::NAMES);
    /// `error` events by code.
    errors: Counts<{ Refusal::CODES.len() }> = Counts::new(Refusal::CODES);
    /// Failures of the database by kind.
    failures: Counts<{ FAILURES.len() }> = Counts::new(FAILURES);
    /// Refused requests by status.
    refused: Counts<{ REFUSED_STATUSES.len() }> = Counts::new(REFUSED_STATUSES);
    /// Closed sockets by code.
    closes: Counts<{ CLOSE_CODES.len() }> = Counts::new(CLOSE_CODES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_class_whose_bound_it_does_not_exceed() {
        let durations = Histogram::new();
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            durations.add(Duration::from_micros(micros));
        }
        let counts: Vec<u64> = durations.classes().collect();
        assert_eq!(counts[..2], [2, 1]);
        assert_eq!(counts[12..], [1, 1]);
        assert!((durations.seconds() - 10.001_002).abs() < 1e-9);
    }

    #[test]
    fn errors_and_close_codes_are_counted_by_their_code() {
        let metrics = Metrics::new();
        for refusal in [Refusal::MessageTooLong(9), Refusal::Internal] {
            metrics.errors.count(refusal.code());
        }
        let counted: Vec<_> = metrics.errors.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("message_too_long", 1), ("internal", 1)]);
        for code in [4401, 3000, 3001_u16] {
            metrics.closes.count(code);
        }
        let counted: Vec<_> = metrics.closes.all().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [("4401", 1), ("other", 2)]);
    }
}
