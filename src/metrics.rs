//! What the service counts of itself, as numbers that any thread may add to without waiting. One service a process, so
//! one set. What they look like to a monitoring program is `health`'s.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Refusal;
use crate::store::Failure;

/// All of them.
pub static METRICS: Metrics = Metrics::new();

/// Upper bounds of the classes of a database call's duration, in microseconds.
pub const DATABASE_BOUNDS: [u64; 13] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000,
];

/// Codes of the `error` event; whatever else there may be is counted as the last one.
pub const ERROR_CODES: [&str; 18] = [
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
    "rate_limited",
    "too_many_connections",
    "database_unavailable",
    "outcome_unknown",
    "internal",
    "other",
];

/// Kinds of failures of the database.
pub const FAILURES: [(Failure, &str); 4] = [
    (Failure::Lost, "lost"),
    (Failure::Conflict, "conflict"),
    (Failure::Refused, "refused"),
    (Failure::Denied, "denied"),
];

/// A number that other threads may read at any time.
#[derive(Debug)]
pub struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Count(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away what was added before.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Puts another number in its place.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
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
    /// Calls to the database by duration, not cumulated; the last class has no bound.
    pub database: [Count; DATABASE_BOUNDS.len() + 1],
    /// Sum of their durations, in microseconds.
    pub database_micros: Count,
    errors: [Count; ERROR_CODES.len()],
    failures: [Count; FAILURES.len()],
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
            database: [const { Count::new() }; DATABASE_BOUNDS.len() + 1],
            database_micros: Count::new(),
            errors: [const { Count::new() }; ERROR_CODES.len()],
            failures: [const { Count::new() }; FAILURES.len()],
        }
    }

    /// An `error` event was sent.
    pub fn refused(&self, refusal: Refusal) {
        let code = refusal.code();
        let place = ERROR_CODES.iter().position(|one| *one == code);
        self.errors[place.unwrap_or(ERROR_CODES.len() - 1)].add(1);
    }

    /// `error` events by code.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ERROR_CODES
            .into_iter()
            .zip(self.errors.iter().map(Count::get))
    }

    /// The database was asked, and this is how it went.
    pub fn asked(&self, duration: Duration, failure: Option<Failure>) {
        let micros = duration.as_micros() as u64;
        let class = DATABASE_BOUNDS.partition_point(|bound| *bound < micros);
        self.database[class].add(1);
        self.database_micros.add(micros);
        if let Some(place) = FAILURES.iter().position(|(one, _)| Some(*one) == failure) {
            self.failures[place].add(1);
        }
    }

    /// Failures of the database by kind.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let kinds = FAILURES.into_iter().map(|(_, kind)| kind);
        kinds.zip(self.failures.iter().map(Count::get))
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
        let counts: Vec<u64> = metrics.database.iter().map(Count::get).collect();
        assert_eq!(counts[..2], [2, 1]);
        assert_eq!(counts[12..], [1, 1]);
        assert_eq!(metrics.database_micros.get(), 10_001_002);
        metrics.asked(Duration::ZERO, Some(Failure::Conflict));
        let failures: Vec<_> = metrics.failures().collect();
        assert_eq!(failures[1], ("conflict", 1));
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
