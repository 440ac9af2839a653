//! The `process_*` metrics that every Prometheus client library has, read from `/proc` (proc(5)).

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Name, kind, description, value.
pub(super) type Metric = (&'static str, &'static str, &'static str, f64);

/// What `/proc` tells of this process; nothing where it is not mounted.
pub(super) fn metrics() -> Vec<Metric> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything, blanks included; the fields behind it begin with the third one.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    let files = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as f64);
    let values = [
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time, user and system.",
            (|| Some((field(14)? + field(15)?) / ticks))(),
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            field(24).map(|pages| pages * page_size() as f64),
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory.",
            field(23),
        ),
        ("process_threads", "gauge", "Threads.", field(20)),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            files.ok(),
        ),
        (
            "process_max_fds",
            "gauge",
            "Limit of open file descriptors.",
            getrlimit(Resource::Nofile).current.map(|most| most as f64),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process, seconds since 1970.",
            (|| Some(boot_time()? + field(22)? / ticks))(),
        ),
    ];
    let known = values.into_iter();
    known
        .filter_map(|(name, kind, about, value)| Some((name, kind, about, value?)))
        .collect()
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}
