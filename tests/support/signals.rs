//! Signals that the caller of the tests ignores, as `cargo test &` and `nohup` do, are ignored by every child as well, and
//! the daemons under test are to be started as a service manager would: with none.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

/// From here on no child ignores these signals. What is caught is back to its default in a child, and what was ignored here
/// still does nothing here.
pub fn ignore_none_in_children() {
    let ignored = ignored();
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        let number = signal.as_raw();
        if ignored & (1 << (number - 1)) != 0 {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(number, flag).expect("catch a signal");
        }
    }
}

/// Which signals this process ignores, a bit each.
fn ignored() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:\t"));
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .unwrap_or(0)
}
