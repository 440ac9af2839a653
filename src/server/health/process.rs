//! The `process_*` metrics that every Prometheus client library has, read from `/proc` (proc(5)).

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::Page;

/// Adds what `/proc` tells of this process; nothing where it is not mounted.
pub(super) fn add(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything, blanks included; the fields behind it begin with the third one.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = clock_ticks_per_second() as f64;
    let files = fs::read_dir("/proc/self/fd").map(|entries| entries.count() as f64);
    let mut add = |name: &str, kind: &str, about: &str, value: Option<f64>| {
        if let Some(value) = value {
            page.family(format!("process_{name}"), kind, about);
            page.value("", value);
        }
    };
    let cpu = (|| Some((field(14)? + field(15)?) / ticks))();
    let about = "Processor time, user and system.";
    add("cpu_seconds_total", "counter", about, cpu);
    let mut gauge = |name, about, value| add(name, "gauge", about, value);
    let resident = field(24).map(|pages| pages * page_size() as f64);
    gauge("resident_memory_bytes", "Resident memory.", resident);
    gauge("virtual_memory_bytes", "Virtual memory.", field(23));
    gauge("threads", "Threads.", field(20));
    gauge("open_fds", "Open file descriptors.", files.ok());
    let most = getrlimit(Resource::Nofile).current.map(|most| most as f64);
    gauge("max_fds", "Limit of open file descriptors.", most);
    let start = (|| Some(boot_time()? + field(22)? / ticks))();
    let about = "Start of the process, seconds since 1970.";
    gauge("start_time_seconds", about, start);
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}
