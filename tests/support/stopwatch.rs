//! Time in which the machine could have worked for the program under test. A figure of the contract ("within five
//! seconds") is judged by it: what else the machine does makes a test no failure.

use std::fs;
use std::time::{Duration, Instant};

/// Runs from its start.
#[derive(Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
    pressure: Duration,
}

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch {
            started: Instant::now(),
            pressure: pressure(),
        }
    }

    /// The time since the start, without that in which some program waited for a processor.
    pub fn elapsed(self) -> Duration {
        let waited = pressure().saturating_sub(self.pressure);
        self.started.elapsed().saturating_sub(waited)
    }
}

/// In which something has waited for a processor since the machine started. Where the kernel does not say, none: then
/// all time counts.
fn pressure() -> Duration {
    let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
    let some = text.lines().find(|line| line.starts_with("some "));
    let total = some.and_then(|line| line.rsplit_once("total="));
    let total = total.and_then(|(_, total)| total.parse().ok());
    Duration::from_micros(total.unwrap_or(0))
}
