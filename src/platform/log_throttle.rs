//! Warnings at a bounded rate: at most one, or a few, in [`INTERVAL`], with the number of those that were left out. What a client can cause a million
//! times must not fill the log; how often it happened is counted in the metrics.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use log::warn;

use crate::platform::metrics::{Limit, METRICS};
use crate::platform::threads::lock;

/// Time between two lines of one throttle.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// Admits a few lines in an [`INTERVAL`]; by default one.
#[derive(Debug)]
pub struct LogThrottle {
    burst: u64,
    state: Mutex<Interval>,
}

#[derive(Debug, Default)]
struct Interval {
    since: Option<Instant>,
    written: u64,
    left_out: u64,
}

impl Default for LogThrottle {
    fn default() -> Self {
        LogThrottle::new(1)
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is in the log.
    Written,
    /// It is counted, and the next one says so.
    LeftOut,
}

impl LogThrottle {
    /// At most `burst` lines in an [`INTERVAL`].
    pub fn new(burst: u64) -> Self {
        LogThrottle {
            burst,
            state: Mutex::default(),
        }
    }

    /// Logs `text`, unless enough lines were written a short time ago.
    pub fn warn(&self, text: impl FnOnce() -> String) -> Line {
        let Some(left_out) = self.admit(Instant::now()) else {
            return Line::LeftOut;
        };
        let text = text();
        match left_out {
            0 => warn!("{text}"),
            more => warn!("{text} ({more} more since the last such line)"),
        }
        Line::Written
    }

    /// Says how many were left out, if no line has said so for a while.
    pub fn settle(&self, what: &str, now: Instant) {
        if let Some(left_out) = self.forget(now) {
            warn!("{left_out} more {what} since the last such line");
        }
    }

    fn forget(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        let since = state.since.filter(|_| state.left_out > 0)?;
        let is_over = now.saturating_duration_since(since) >= 2 * INTERVAL;
        is_over.then(|| std::mem::take(&mut state.left_out))
    }

    /// How many lines were left out since the last one; `None` if this one is left out, too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = lock(&self.state);
        let is_over = |since| now.saturating_duration_since(since) >= INTERVAL;
        if state.since.is_none_or(is_over) {
            state.since = Some(now);
            state.written = 0;
        }
        if state.written < self.burst {
            state.written += 1;
            return Some(std::mem::take(&mut state.left_out));
        }
        state.left_out += 1;
        None
    }
}

/// Limits that are hit: each hit is counted, and logged through a throttle of its kind.
#[derive(Debug, Default)]
pub struct LimitLog([LogThrottle; Limit::NAMES.len()]);

impl LimitLog {
    /// Counts a hit and logs `text`, throttled.
    pub fn hit(&self, limit: Limit, text: impl FnOnce() -> String) {
        METRICS.limits.count(limit.name());
        self.0[limit as usize].warn(text);
    }

    /// Says what was left out; see [`LogThrottle::settle`].
    pub fn settle(&self, now: Instant) {
        for (name, throttle) in Limit::NAMES.iter().zip(&self.0) {
            throttle.settle(&format!("times the limit {name} was hit"), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_says_how_many_were_left_out() {
        let (throttle, other) = (LogThrottle::default(), LogThrottle::default());
        let begun = Instant::now();
        assert_eq!(throttle.admit(begun), Some(0));
        for _ in 0..1000 {
            assert_eq!(throttle.admit(begun), None);
        }
        assert_eq!(other.admit(begun), Some(0));
        assert_eq!(throttle.admit(begun + INTERVAL), Some(1000));
        assert_eq!(throttle.admit(begun + 2 * INTERVAL), Some(0));
        let few = LogThrottle::new(2);
        let admitted = [0, 1, 2].map(|_| few.admit(begun));
        assert_eq!(admitted, [Some(0), Some(0), None]);
        assert_eq!(few.admit(begun + INTERVAL), Some(1));
    }

    #[test]
    fn d2_what_was_left_out_last_is_told_where_no_line_follows() {
        let throttle = LogThrottle::default();
        let begun = Instant::now();
        for _ in 0..3 {
            throttle.admit(begun);
        }
        assert_eq!(throttle.forget(begun + INTERVAL), None);
        assert_eq!(throttle.forget(begun + 2 * INTERVAL), Some(2));
        assert_eq!(throttle.forget(begun + 3 * INTERVAL), None);
        assert_eq!(throttle.admit(begun + 3 * INTERVAL), Some(0));
    }
}
