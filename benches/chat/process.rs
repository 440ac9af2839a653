//! The kernel's figures for a process, and the benchmark's child processes.

use std::fs;
use std::process::Child;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

/// Processor time of all threads of a process so far, in nanoseconds.
pub fn cpu_ns(pid: u32) -> u64 {
    tasks(pid)
        .filter_map(|task| fs::read_to_string(task + "/schedstat").ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// The same with that of threads that have ended, as finely as the kernel's ticks are.
pub fn cpu_ns_of_all(pid: u32) -> u64 {
    const NS_PER_TICK: u64 = 10_000_000;
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may be anything: state is the first, user and system time the 12th and 13th.
    let (_, rest) = text.rsplit_once(')').unwrap_or_default();
    let fields = rest.split_whitespace().skip(11).take(2);
    fields
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum::<u64>()
        * NS_PER_TICK
}

/// How often its threads have gone to sleep so far: every wake-up ends in one.
pub fn sleeps(pid: u32) -> u64 {
    tasks(pid)
        .filter_map(|task| fs::read_to_string(task + "/status").ok())
        .filter_map(|text| number_after(&text, "\nvoluntary_ctxt_switches:"))
        .sum()
}

/// Resident memory in bytes.
pub fn rss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    number_after(&text, "\nRss:").unwrap_or(0) * 1024
}

/// Anonymous memory in bytes: what no file stands behind.
pub fn anonymous(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    number_after(&text, "\nAnonymous:").unwrap_or(0) * 1024
}

pub fn threads(pid: u32) -> usize {
    tasks(pid).count()
}

fn tasks(pid: u32) -> impl Iterator<Item = String> {
    let folder = format!("/proc/{pid}/task");
    fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(move |entry| format!("{folder}/{}", entry.file_name().to_string_lossy()))
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Raises the limit of open files to the most that is allowed, and returns it.
pub fn raise_file_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // What is not allowed shows in the number that is returned.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A child that ends with its owner.
pub struct Owned(pub Child);

impl Owned {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let pid = rustix::process::Pid::from_child(&self.0);
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.0.wait();
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
