//! `status`, once or repeated until a signal.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use clap::Args;
use crossbeam_channel::{Receiver, bounded};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{OpenInstall, Root};
use crate::admin::status::{self, StatusReport};
use crate::admin::style::Style;
use crate::admin::{Problem, json_of, say};
use crate::platform::exit_code;
use crate::platform::printable::printable_json;

/// Time between two reports of a watch.
const INTERVAL: Duration = Duration::from_secs(2);
/// Cursor to the upper left corner; below: clear the rest of a line, and of the screen (ECMA-48).
const HOME: &str = "\u{1b}[H";
const CLEAR_LINE: &str = "\u{1b}[K\n";
const CLEAR_BELOW: &str = "\u{1b}[J";

#[derive(Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    root: Root,
    /// Write one JSON object; with --watch, one per line
    #[arg(long)]
    json: bool,
    /// Repeat every 2 s until Ctrl-C; on a terminal, in place
    #[arg(long)]
    watch: bool,
}

/// Runs the subcommand.
///
/// # Errors
/// Standard output cannot be written, or the signals of a watch cannot be awaited.
pub(super) fn run(options: &StatusArgs, style: Style, out: &mut dyn Write) -> Result<u8, Problem> {
    let root = &options.root.root;
    if options.watch {
        return watch(options, style, out);
    }
    let report = look(root);
    let text = match options.json {
        true => json_of(&report),
        false => report.text(style),
    };
    say(out, &text)?;
    Ok(report.exit_code())
}

fn look(root: &Path) -> StatusReport {
    match OpenInstall::without_secret(root) {
        Ok(install) => status::look(&install.config, &mut install.database()),
        Err(problem) => StatusReport::unknown(problem.to_string()),
    }
}

/// Repeats the report until SIGINT or SIGTERM.
fn watch(options: &StatusArgs, style: Style, out: &mut dyn Write) -> Result<u8, Problem> {
    let end = signals().map_err(|error| {
        Problem::new(exit_code::FAILED, "cannot wait for signals").because(error)
    })?;
    let is_terminal = io::stdout().is_terminal() && !options.json;
    if is_terminal {
        // Cleared once; later reports overwrite the lines in place, without flicker.
        write(out, &format!("{HOME}{CLEAR_BELOW}"))?;
    }
    let mut is_first = true;
    loop {
        let report = look(&options.root.root);
        let text = match options.json {
            true => printable_json(&serde_json::to_string(&report).unwrap_or_default()) + "\n",
            false => report.text(style),
        };
        let text = match (is_terminal, options.json) {
            (true, _) => {
                let lines = text.replace('\n', CLEAR_LINE);
                format!(
                    "{HOME}{lines}{CLEAR_LINE}(every {} s; Ctrl-C ends it){CLEAR_BELOW}",
                    INTERVAL.as_secs()
                )
            }
            (false, false) if !is_first => format!("\n{text}"),
            _ => text,
        };
        is_first = false;
        write(out, &text)?;
        if end.recv_timeout(INTERVAL).is_ok() {
            if is_terminal {
                write(out, "\n")?;
            }
            return Ok(report.exit_code());
        }
    }
}

fn write(out: &mut dyn Write, text: &str) -> Result<(), Problem> {
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Problem::of_output)
}

/// A channel that receives when SIGINT or SIGTERM arrives.
fn signals() -> io::Result<Receiver<()>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let (sender, end) = bounded(1);
    // Never joined: it ends with the process.
    thread::Builder::new().spawn(move || {
        for _ in signals.forever() {
            let _ = sender.try_send(());
        }
    })?;
    Ok(end)
}
