//! The benchmark of the service: a load generator in one thread, the floors that the machine sets, and what the daemon
//! makes of them, measured in turn in one run. Checks while it measures that nothing is lost, doubled or out of order.
//! `cargo bench --bench chat -- --help` says how to use it.

#[path = "chat/arrivals.rs"]
mod arrivals;
#[path = "chat/chart.rs"]
mod chart;
#[path = "chat/client_pool.rs"]
mod client_pool;
#[path = "chat/database.rs"]
mod database;
#[path = "chat/fanout.rs"]
mod fanout;
#[path = "chat/floor.rs"]
mod floor;
#[path = "chat/foreign_writes.rs"]
mod foreign_writes;
#[path = "chat/goals.rs"]
mod goals;
#[path = "chat/idle.rs"]
mod idle;
#[path = "chat/options.rs"]
mod options;
#[path = "chat/posting.rs"]
mod posting;
#[path = "chat/process.rs"]
mod process;
#[expect(dead_code, reason = "the tests use more of it")]
#[path = "../tests/support/reaper.rs"]
mod reaper;
#[path = "chat/report.rs"]
mod report;
#[path = "chat/servers.rs"]
mod servers;
#[path = "../tests/support/signals.rs"]
mod signals;
#[path = "chat/stats.rs"]
mod stats;
#[path = "chat/suite.rs"]
mod suite;
#[path = "chat/suite_goals.rs"]
mod suite_goals;
#[path = "chat/wire.rs"]
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let options = options::Options::parse();
    if let Some(mode) = &options.serve_floor {
        floor::serve(mode);
    }
    suite::run(&options)
}
