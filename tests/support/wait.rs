//! The only place that sleeps. Everything else waits for an event with `until`, whose limit is generous because only a
//! broken program reaches it.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for anything that should happen at once. Long enough for a machine on which twenty programs
/// want each core; a passing test never comes near it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Between two looks. Small against the start of a daemon (about 50 ms), so that polling costs no time worth
/// naming over some hundred starts.
const BETWEEN_LOOKS: Duration = Duration::from_millis(4);

/// Looks until `look` sees something, or `limit` is over.
pub fn until<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Lets time pass where time itself is what a recording asks for ("the second half 150 ms later", "after six
/// seconds"). Never a means to let something finish: that is `until`.
pub fn pass(time: Duration) {
    thread::sleep(time);
}
