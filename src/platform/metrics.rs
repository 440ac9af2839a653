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

/// Codes of the `error` event; any other is counted as the last one.
pub(crate) const ERROR_CODES: [&str; 19] = [
    "invalid_event",
    "unsupported_type",
    "chat_disabled",
    "cannot_post",
    "message_empty",
    "message_too_long",
    "message_too_large",
    "no_channel_access",
    "no_thread_access",
    "recipient_inactive",
    "channel_id_required",
    "thread_id_required",
    "invalid_query",
    "rate_limited",
    "too_many_connections",
    "database_unavailable",
    "outcome_unknown",
    "internal",
    "other",
];

/// Kinds of failures of the database.
pub(crate) const FAILURES: [&str; 7] = [
    "lost",
    "stale",
    "took_too_long",
    "too_large",
    "conflict",
    "refused",
    "denied",
];

/// Limits that a client or the system can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Limit {
    /// Sockets in all.
    Connections,
    /// Sockets that have not authenticated.
    Unauthenticated,
    /// Sockets of one agent.
    PerAgent,
    /// Time for the request head.
    HandshakeTime,
    /// Bytes of the request head.
    HandshakeBytes,
    /// Time until an accepted `auth`.
    AuthTime,
    /// Bytes of one message.
    MessageBytes,
    /// Pings and pongs a second.
    Control,
    /// Events a second: refused.
    Rate,
    /// Events a second: so many that the socket was closed.
    Flood,
    /// What may wait for one socket, in bytes or seconds.
    Queue,
    /// Silence of a peer.
    Idle,
    /// Descriptors that the system allows the process.
    OpenFiles,
    /// Threads that the system allows the process.
    Threads,
    /// Anything else that keeps a connection from being accepted.
    Accept,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = LIMITS.len();

    /// How the metrics and the log call them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        LIMITS.into_iter().map(|(_, name)| name)
    }
}

/// The limits, in the order of their numbers, and how the metrics call them.
const LIMITS: [(Limit, &str); 15] = [
    (Limit::Connections, "connections"),
    (Limit::Unauthenticated, "unauthenticated"),
    (Limit::PerAgent, "per_agent"),
    (Limit::HandshakeTime, "handshake_time"),
    (Limit::HandshakeBytes, "handshake_bytes"),
    (Limit::AuthTime, "auth_time"),
    (Limit::MessageBytes, "message_bytes"),
    (Limit::Control, "control"),
    (Limit::Rate, "rate"),
    (Limit::Flood, "flood"),
    (Limit::Queue, "queue"),
    (Limit::Idle, "idle"),
    (Limit::OpenFiles, "open_files"),
    (Limit::Threads, "threads"),
    (Limit::Accept, "accept"),
];

/// What becomes of a push: the push service has it, its subscription is gone, it will never work, it is tried again, it was
/// dropped since too many wait.
pub(crate) const PUSH_OUTCOMES: [&str; 5] = ["accepted", "gone", "failed", "retried", "dropped"];

/// Status codes of refused requests.
pub(crate) const REFUSED_STATUSES: [u16; 9] = [400, 403, 404, 405, 408, 421, 426, 431, 503];

/// Close codes; any other is counted as the last one.
pub(crate) const CLOSE_CODES: [u16; 13] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1013, 4401, 4403, 4408, 0,
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

/// What is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// WebSocket connections that are open.
    pub open: Count,
    /// WebSocket connections that were ever granted.
    pub granted: Count,
    /// Sockets for which there was no room.
    pub full: Count,
    /// Sockets that were dropped because they read too slowly.
    pub slow: Count,
    /// Events that clients have sent.
    pub events: Count,
    /// Messages that were committed.
    pub messages: Count,
    /// Frames that were handed to sockets.
    pub deliveries: Count,
    /// `auth.failed` events.
    pub auth_failures: Count,
    /// Last heartbeat, seconds since 1970; 0 before the first.
    pub heartbeat: Count,
    /// Calls to the database.
    pub database: Histogram,
    /// From a message's commit until it was written to the sockets of its members.
    pub delivery: Histogram,
    /// Connections to the database.
    pub database_connections: Count,
    /// Whether the bus is there, 1 or 0.
    pub bus_up: Count,
    /// Pushes that wait.
    pub push_waiting: Count,
    /// Pushes by what became of them, in the order of [`PUSH_OUTCOMES`].
    pub pushes: [Count; PUSH_OUTCOMES.len()],
    /// Limits that were hit, by their number.
    pub limits: [Count; Limit::COUNT],
    errors: [Count; ERROR_CODES.len()],
    failures: [Count; FAILURES.len()],
    refused: [Count; REFUSED_STATUSES.len()],
    closes: [Count; CLOSE_CODES.len()],
}

impl Metrics {
    const fn new() -> Self {
        Metrics {
            open: Count::new(),
            granted: Count::new(),
            full: Count::new(),
            slow: Count::new(),
            events: Count::new(),
            messages: Count::new(),
            deliveries: Count::new(),
            auth_failures: Count::new(),
            heartbeat: Count::new(),
            database: Histogram::new(),
            delivery: Histogram::new(),
            database_connections: Count::new(),
            bus_up: Count::new(),
            push_waiting: Count::new(),
            pushes: [const { Count::new() }; PUSH_OUTCOMES.len()],
            limits: [const { Count::new() }; Limit::COUNT],
            errors: [const { Count::new() }; ERROR_CODES.len()],
            failures: [const { Count::new() }; FAILURES.len()],
            refused: [const { Count::new() }; REFUSED_STATUSES.len()],
            closes: [const { Count::new() }; CLOSE_CODES.len()],
        }
    }

    /// An `error` event was sent.
    pub(crate) fn refused(&self, refusal: Refusal) {
        let code = refusal.code();
        let place = ERROR_CODES.iter().position(|one| *one == code);
        self.errors[place.unwrap_or(ERROR_CODES.len() - 1)].add(1);
    }

    /// A request was refused with this status.
    pub(crate) fn refused_request(&self, status: u16) {
        if let Some(place) = REFUSED_STATUSES.iter().position(|one| *one == status) {
            self.refused[place].add(1);
        }
    }

    /// Refused requests by status.
    pub(crate) fn refused_requests(&self) -> impl Iterator<Item = (u16, u64)> {
        REFUSED_STATUSES
            .into_iter()
            .zip(self.refused.iter().map(Count::get))
    }

    /// A socket was closed with this code.
    pub(crate) fn closed(&self, code: u16) {
        let place = CLOSE_CODES.iter().position(|one| *one == code);
        self.closes[place.unwrap_or(CLOSE_CODES.len() - 1)].add(1);
    }

    /// Closed sockets by code; 0 stands for all others.
    pub(crate) fn closes(&self) -> impl Iterator<Item = (u16, u64)> {
        CLOSE_CODES
            .into_iter()
            .zip(self.closes.iter().map(Count::get))
    }

    /// `error` events by code.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ERROR_CODES
            .into_iter()
            .zip(self.errors.iter().map(Count::get))
    }

    /// Limits that were hit, by kind.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Limit::names().zip(self.limits.iter().map(Count::get))
    }

    /// A call to the database has ended; `failure` is one of [`FAILURES`].
    pub(crate) fn asked(&self, duration: Duration, failure: Option<&str>) {
        self.database.add(duration);
        if let Some(place) = FAILURES.iter().position(|one| Some(*one) == failure) {
            self.failures[place].add(1);
        }
    }

    /// Failures of the database by kind.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FAILURES
            .into_iter()
            .zip(self.failures.iter().map(Count::get))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_class_whose_bound_it_does_not_exceed() {
        let metrics = Metrics::new();
        for micros in [0, 500, 501, 5_000_000, 5_000_001] {
            metrics.asked(Duration::from_micros(micros), None);
        }
        let counts: Vec<u64> = metrics.database.classes().collect();
        assert_eq!(counts[..2], [2, 1]);
        assert_eq!(counts[12..], [1, 1]);
        assert!((metrics.database.seconds() - 10.001_002).abs() < 1e-9);
        metrics.asked(Duration::ZERO, Some("conflict"));
        let failures: Vec<_> = metrics.failures().collect();
        assert!(failures.contains(&("conflict", 1)), "{failures:?}");
    }

    #[test]
    fn limits_are_in_the_order_of_their_numbers() {
        for (place, (limit, name)) in LIMITS.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{name}");
        }
    }

    #[test]
    fn errors_are_counted_by_their_code() {
        let metrics = Metrics::new();
        metrics.refused(Refusal::MessageTooLong(9));
        metrics.refused(Refusal::Internal);
        let counted: Vec<_> = metrics.errors().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("message_too_long", 1), ("internal", 1)]);
    }
}
