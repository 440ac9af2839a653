//! Limits that were hit: each hit is counted, by the kind of limit, and one line in a while says so in the log. Whoever
//! hits a limit may do it a million times, and a log that is filled that way is an attack of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

/// Time between two log lines about the same limit.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// What can be hit.
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
    /// Fragments of one message.
    Fragments,
    /// Pings and pongs a second.
    Control,
    /// Depth of an event's JSON.
    JsonDepth,
    /// Events a second: refused.
    Rate,
    /// Events a second: so far beyond it that the socket was closed.
    Flood,
    /// What may wait for one socket, in bytes or seconds.
    Queue,
    /// Silence of a peer.
    Idle,
    /// Descriptors that the system allows the process.
    OpenFiles,
}

const COUNT: usize = 15;

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Limit; COUNT] = [
        Limit::Connections,
        Limit::Unauthenticated,
        Limit::PerAgent,
        Limit::HandshakeTime,
        Limit::HandshakeBytes,
        Limit::AuthTime,
        Limit::MessageBytes,
        Limit::Fragments,
        Limit::Control,
        Limit::JsonDepth,
        Limit::Rate,
        Limit::Flood,
        Limit::Queue,
        Limit::Idle,
        Limit::OpenFiles,
    ];

    /// How metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::Unauthenticated => "unauthenticated",
            Limit::PerAgent => "per_agent",
            Limit::HandshakeTime => "handshake_time",
            Limit::HandshakeBytes => "handshake_bytes",
            Limit::AuthTime => "auth_time",
            Limit::MessageBytes => "message_bytes",
            Limit::Fragments => "fragments",
            Limit::Control => "control",
            Limit::JsonDepth => "json_depth",
            Limit::Rate => "rate",
            Limit::Flood => "flood",
            Limit::Queue => "queue",
            Limit::Idle => "idle",
            Limit::OpenFiles => "open_files",
        }
    }
}

static HITS: Hits = Hits::new();

/// Counts a hit, and logs `text` where no line about this limit was written for a while.
pub fn hit(limit: Limit, text: impl FnOnce() -> String) {
    if let Some(untold) = HITS.count(limit, Instant::now()) {
        match untold {
            0 => warn!("{}", text()),
            more => warn!("{} ({more} more since the last such line)", text()),
        }
    }
}

/// Hits since the start, by kind.
pub fn counts() -> impl Iterator<Item = (&'static str, u64)> {
    Limit::ALL.into_iter().map(|limit| {
        let count = HITS.counts[limit as usize].load(Ordering::Relaxed);
        (limit.name(), count)
    })
}

struct Hits {
    counts: [AtomicU64; COUNT],
    /// When the last line was written, and what the count was then.
    lines: Mutex<[Option<(Instant, u64)>; COUNT]>,
}

impl Hits {
    const fn new() -> Self {
        Hits {
            counts: [const { AtomicU64::new(0) }; COUNT],
            lines: Mutex::new([None; COUNT]),
        }
    }

    /// How many hits no line told of, where it is time for one.
    fn count(&self, limit: Limit, now: Instant) -> Option<u64> {
        let place = limit as usize;
        let count = self.counts[place].fetch_add(1, Ordering::Relaxed) + 1;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &mut lines[place];
        let told = match *last {
            Some((when, _)) if now.saturating_duration_since(when) < LINE_INTERVAL => return None,
            Some((_, told)) => told,
            None => 0,
        };
        *last = Some((now, count));
        Some(count.saturating_sub(told + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hit_is_counted_and_one_line_in_a_while_says_how_many() {
        let hits = Hits::new();
        let begun = Instant::now();
        assert_eq!(hits.count(Limit::Rate, begun), Some(0));
        for _ in 0..1000 {
            assert_eq!(hits.count(Limit::Rate, begun), None);
        }
        assert_eq!(hits.count(Limit::Flood, begun), Some(0));
        assert_eq!(hits.count(Limit::Rate, begun + LINE_INTERVAL), Some(1000));
        let later = begun + 2 * LINE_INTERVAL;
        assert_eq!(hits.count(Limit::Rate, later), Some(0));
    }

    #[test]
    fn numbers_and_names_are_each_ones_own() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
            let same = Limit::ALL.into_iter().filter(|l| l.name() == limit.name());
            assert_eq!(same.count(), 1);
        }
    }
}
