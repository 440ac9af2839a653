//! `prune`: arguments in, a report and an exit code out.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{OpenInstall, Root};
use crate::admin::Problem;
use crate::admin::prune;
use crate::cli::number;
use crate::model::ChannelId;
use crate::platform::exit_code;

#[derive(Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    root: Root,
    /// Only count the messages (the default)
    #[arg(long, conflicts_with = "run")]
    dry_run: bool,
    /// Mark the messages as deleted
    #[arg(long)]
    run: bool,
    /// Messages to look at
    #[arg(long, default_value = "all", value_parser = ["all", "channel", "direct"])]
    scope: String,
    /// Write a JSON report (the default if standard output is not a terminal)
    #[arg(long)]
    json: bool,
    /// Only messages of this channel
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number(1..=u64::MAX))]
    channel_id: Option<u64>,
}

/// Runs the subcommand.
///
/// # Errors
/// There is no such channel, or the database cannot be asked.
pub(super) fn run(options: &Prune, out: &mut dyn Write) -> Result<u8, Problem> {
    let scope = match (options.scope.as_str(), options.channel_id) {
        ("direct", Some(_)) => {
            let what = "--channel-id and --scope direct exclude each other";
            return Err(Problem::new(exit_code::USAGE, what));
        }
        (_, Some(_)) => "channel",
        (scope, None) => scope,
    };
    let install = OpenInstall::without_secret(&options.root.root)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Fails only without memory; then a signal ends the process at once, without a report.
        let _ = signal_hook::flag::register(signal, Arc::clone(&interrupted));
    }
    let stderr = io::stderr();
    let mut progress = stderr.is_terminal().then(|| stderr.lock());
    prune::prune(
        prune::Options {
            scope,
            channel: options.channel_id.map(ChannelId),
            run: options.run,
            json: options.json || !io::stdout().is_terminal(),
            progress: progress.as_mut().map(|one| one as &mut dyn Write),
            interrupted: &interrupted,
        },
        &mut install.database(),
        out,
    )
}
