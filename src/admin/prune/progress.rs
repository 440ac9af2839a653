//! Progress of a prune in one line that is redrawn: percentage, bar, counts, rate and time left.

use std::io::Write;
use std::time::{Duration, Instant};

use super::Rules;
use crate::model::MessageId;

/// Shortest time between two redraws.
const INTERVAL: Duration = Duration::from_millis(200);
const WIDTH: usize = 24;
/// Time after which a rate means something.
const FIRST_RATE: Duration = Duration::from_secs(1);

pub(super) struct PruneProgress<'a> {
    out: Option<&'a mut dyn Write>,
    first: MessageId,
    last: MessageId,
    begun: Instant,
    shown: Instant,
    is_begun: bool,
}

impl<'a> PruneProgress<'a> {
    /// Progress of a walk over these ids; without `out` nothing is shown.
    pub(super) fn new(out: Option<&'a mut dyn Write>, first: MessageId, last: MessageId) -> Self {
        let now = Instant::now();
        PruneProgress {
            out,
            first,
            last,
            begun: now,
            shown: now,
            is_begun: false,
        }
    }

    /// Shows that the walk has reached `at`, unless the line was redrawn a moment ago.
    pub(super) fn show_in_a_while(&mut self, at: MessageId, rules: &Rules) {
        if self.shown.elapsed() >= INTERVAL {
            self.show(at, rules);
        }
    }

    pub(super) fn show(&mut self, at: MessageId, rules: &Rules) {
        self.shown = Instant::now();
        let distance = |to: MessageId| to.0.saturating_sub(self.first.0) as f64 + 1.0;
        let share = (distance(at) / distance(self.last)).min(1.0);
        let sum = |count: fn(&super::Rule) -> u64| rules.values().map(count).sum();
        let text = line(
            share,
            sum(|rule| rule.found),
            sum(|rule| rule.marked),
            self.begun.elapsed(),
        );
        if let Some(out) = &mut self.out {
            self.is_begun = true;
            // A terminal that cannot be written to is no reason to stop.
            let _ = write!(out, "\r{text}\u{1b}[K");
            let _ = out.flush();
        }
    }
}

/// Ends the line, so that later output begins a new one, also after an interruption or a failure.
impl Drop for PruneProgress<'_> {
    fn drop(&mut self) {
        if let (true, Some(out)) = (self.is_begun, &mut self.out) {
            let _ = writeln!(out);
        }
    }
}

fn line(share: f64, found: u64, marked: u64, elapsed: Duration) -> String {
    let percent = (share * 100.0) as u64;
    let full = (share * WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(full), ".".repeat(WIDTH - full));
    let mut text = format!("{percent:3} % [{bar}]  {found} too old, {marked} deleted");
    if elapsed >= FIRST_RATE {
        let seconds = elapsed.as_secs_f64();
        let (count, what) = match marked {
            0 => (found, "found"),
            _ => (marked, "deleted"),
        };
        text.push_str(&format!(", {:.0} {what}/s", count as f64 / seconds));
        if share < 1.0 {
            let left = seconds / share * (1.0 - share);
            text.push_str(&format!(", {} left", words(left)));
        }
    }
    text
}

/// An estimated time, rounded accordingly.
fn words(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.0} h", seconds / 3600.0),
        _ => format!("{:.0} days", seconds / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d26_the_line_has_bar_rate_and_time_left_as_soon_as_they_mean_something() {
        let of = |share, found, marked, seconds| {
            line(share, found, marked, Duration::from_secs_f64(seconds))
        };
        assert_eq!(
            of(0.25, 40, 0, 0.2),
            " 25 % [######..................]  40 too old, 0 deleted"
        );
        assert_eq!(
            of(0.5, 900, 600, 60.0),
            " 50 % [############............]  900 too old, 600 deleted, 10 deleted/s, 60 s left"
        );
        assert_eq!(
            of(0.01, 900, 0, 30.0),
            "  1 % [........................]  900 too old, 0 deleted, 30 found/s, 50 min left"
        );
        assert_eq!(
            of(1.0, 9, 9, 3.0),
            "100 % [########################]  9 too old, 9 deleted, 3 deleted/s"
        );
        assert_eq!(words(7200.0), "2 h");
        assert!(words(1e300).ends_with(" days"));
    }
}
