//! The benchmark's command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures the chat service against the floors that this machine sets.
///
/// Starts a private MariaDB with its default durability, the daemon and the bare loops, each anew for every run and in
/// turn, and prints medians. Ends with 1 if anything was lost, doubled or out of order.
#[derive(Parser, Debug)]
#[command(max_term_width = 110)]
pub struct Options {
    /// What to measure
    #[arg(value_enum, default_value = "quick")]
    pub work: Vec<Work>,
    /// Runs of everything, in turn; the medians are printed
    #[arg(long)]
    pub runs: Option<usize>,
    /// Seconds that one measurement takes
    #[arg(long)]
    pub seconds: Option<f64>,
    /// Members of the channel, for fanout, easy and messages
    #[arg(long, value_delimiter = ',')]
    pub members: Vec<u64>,
    /// Connections, for idle and connect-burst
    #[arg(long, value_delimiter = ',')]
    pub connections: Vec<u64>,
    /// Senders, for messages
    #[arg(long, value_delimiter = ',')]
    pub senders: Vec<u64>,
    /// Milliseconds between two looks at the members who only listen to messages, whom a user has on other machines; 0: each
    /// is read as soon as he gets something, which takes time of the server's processors
    #[arg(long, value_name = "MS", default_value_t = 5)]
    pub listen_every: u64,
    /// Typing events that are kept on their way when everything is saturated
    #[arg(long, default_value_t = 1000)]
    pub window: usize,
    /// Deliveries a second of easy
    #[arg(long, default_value_t = 20_000.0)]
    pub rate: f64,
    /// A build of the daemon to measure, instead of the present one; several are measured side by side. It is started with
    /// the unit's environment, unless its name begins with `bare`
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = named)]
    pub daemon: Vec<(String, PathBuf)>,
    /// Another server to measure beside it, one that sends what any socket says to all others
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = named)]
    pub peer: Vec<(String, PathBuf)>,
    /// Build the servers of benches/rivals, which takes the network once, and measure them beside it
    #[arg(long)]
    pub rivals: bool,
    /// Write the table, all results and the charts into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[arg(long, hide = true)]
    pub serve_floor: Option<String>,
    /// `cargo bench` says this to every benchmark
    #[arg(long, hide = true)]
    pub bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Everything once and short: do the parts work, roughly how fast
    Quick,
    /// Everything, as the README has it; about an hour
    All,
    /// Typing events with everything saturated: deliveries a second
    Fanout,
    /// Typing events at an easy rate: processor time a delivery, latency
    Easy,
    /// Durable messages of ten senders who wait for their own
    Messages,
    /// One sender, against a bare commit of the same rows
    Alone,
    /// A daemon without connections, and one with many that rest
    Idle,
    /// Connect, authenticate, disconnect
    Churn,
    /// Thousands of clients that connect at once while members chat
    #[value(alias = "storm")]
    ConnectBurst,
    /// Messages of other writers, missed messages, and the queries of an idle daemon
    #[value(alias = "doors")]
    ForeignWrites,
    /// Latency against load, with charts
    Load,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("expected NAME=PROGRAM")?;
    let program = PathBuf::from(program);
    match program.is_file() {
        true => Ok((name.to_owned(), program)),
        false => Err(format!("there is no program {}", program.display())),
    }
}
