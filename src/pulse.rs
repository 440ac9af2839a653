//! Signs of life: each part that must never stand still says so, at least every [`TICK`], whether it has work or not.
//! Whoever wants to know whether the service hangs looks here and asks nobody. One service a process, so one set.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault;

/// The longest that a part which has nothing to do waits before it says that it lives.
pub const TICK: Duration = Duration::from_secs(2);

/// The accept loop: new sockets are taken in.
pub static ACCEPT: Pulse = Pulse::new("accept loop");
/// The hub: what was said goes out.
pub static HUB: Pulse = Pulse::new("hub");
/// The posting thread: messages are committed. A database that is away does not stop it, since every call has its
/// limit; a fault of ours does.
pub static POSTING: Pulse = Pulse::new("commit path");

/// All of them.
pub fn all() -> [&'static Pulse; 3] {
    [&ACCEPT, &HUB, &POSTING]
}

/// That of one part.
#[derive(Debug)]
pub struct Pulse {
    name: &'static str,
    /// Milliseconds since the first beat of any.
    last: AtomicU64,
}

impl Pulse {
    const fn new(name: &'static str) -> Self {
        Pulse {
            name,
            last: AtomicU64::new(0),
        }
    }

    /// What the part is called.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Says that the part goes on.
    pub fn beat(&self) {
        fault::point(self.name);
        self.last.store(now(), Ordering::Relaxed);
    }

    /// For how long it has said nothing.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

fn now() -> u64 {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    BEGUN.get_or_init(Instant::now).elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_grows_until_the_next_beat() {
        static PART: Pulse = Pulse::new("part");
        PART.beat();
        std::thread::sleep(Duration::from_millis(30));
        assert!(PART.silence() >= Duration::from_millis(29));
        PART.beat();
        assert!(PART.silence() < Duration::from_millis(30));
    }
}
