//! Carries out a decision: prints lines and writes rows, in the recorded order. Pure except for the [`Effects`] passed
//! in, so that tests can replay every recorded run without a process.

use super::{Decision, RunningDaemon, Status};
use crate::config::settings::key;
use crate::platform::exit_code;
use crate::platform::pid_file::Holder;
use crate::platform::problem::Problem;

/// The supervisor's side effects.
pub trait Effects {
    /// Prints one line, which cron mails.
    fn say(&mut self, line: &str);

    /// Writes rows of `settings`.
    ///
    /// # Errors
    /// The database does not take them.
    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), Problem>;

    /// Asks the daemon to end (SIGTERM), and waits for that.
    fn ends_when_told(&mut self, holder: Holder) -> bool;

    /// Kills the daemon (SIGKILL), and waits for its end.
    fn ends_when_killed(&mut self, holder: Holder) -> bool;

    /// Starts a daemon, waits until it is up, and returns its process id.
    ///
    /// # Errors
    /// Why it did not come up.
    fn start(&mut self) -> Result<u32, Problem>;
}

/// Carries out a decision and returns the exit code.
///
/// # Errors
/// A row cannot be written; nothing is done after that.
pub fn carry_out(decision: Decision, effects: &mut dyn Effects) -> Result<u8, Problem> {
    match decision {
        Decision::ReportExternal(status) => {
            effects.write(&[(key::STATUS, status.as_str())])?;
            effects.say("external mode: status only");
            Ok(exit_code::OK)
        }
        Decision::Report {
            status,
            has_stop_request,
        } => {
            effects.write(&[(key::STATUS, status.as_str())])?;
            if has_stop_request {
                effects.write(&[(key::STOP_REQUESTED, "0")])?;
            }
            effects.say("chat websocket status checked");
            Ok(exit_code::OK)
        }
        Decision::Stop(target) => stop(target, effects),
        Decision::Restart(target) => restart(target, effects),
        Decision::Replace(target) => replace(target, effects),
        Decision::Start {
            has_restart_request,
        } => {
            if has_restart_request {
                effects.write(&[(key::RESTART_REQUESTED, "0")])?;
            }
            Ok(start(effects))
        }
    }
}

fn stop(target: RunningDaemon, effects: &mut dyn Effects) -> Result<u8, Problem> {
    let pid = target.holder.pid;
    if ends(target, effects)? {
        effects.write(&[
            (key::STATUS, Status::Stopped.as_str()),
            (key::STOP_REQUESTED, "0"),
        ])?;
        effects.say(&format!("stopped chat websocket daemon pid={pid}"));
    } else {
        effects.write(&[(key::STATUS, Status::Stale.as_str())])?;
        effects.say(&format!("stop pending for chat websocket daemon pid={pid}"));
    }
    // A daemon that is still alive has its signal; the next run looks again.
    Ok(exit_code::OK)
}

fn restart(target: RunningDaemon, effects: &mut dyn Effects) -> Result<u8, Problem> {
    if ends(target, effects)? {
        effects.write(&[(key::RESTART_REQUESTED, "0")])?;
        return Ok(start(effects));
    }
    effects.write(&[(key::STATUS, Status::Stale.as_str())])?;
    effects.say(&format!(
        "restart delayed; existing chat websocket daemon still alive pid={}",
        target.holder.pid
    ));
    Ok(exit_code::FAILED)
}

fn replace(target: RunningDaemon, effects: &mut dyn Effects) -> Result<u8, Problem> {
    let pid = target.holder.pid;
    effects.write(&[(key::STATUS, Status::Stale.as_str())])?;
    if ends(target, effects)? {
        effects.say(&format!("restarting stale chat websocket daemon pid={pid}"));
        return Ok(start(effects));
    }
    effects.say(&format!(
        "stale daemon still alive after stop request pid={pid}"
    ));
    Ok(exit_code::FAILED)
}

/// Ends the daemon, if that is possible.
fn ends(target: RunningDaemon, effects: &mut dyn Effects) -> Result<bool, Problem> {
    let RunningDaemon { holder, may_kill } = target;
    if effects.ends_when_told(holder) {
        return Ok(true);
    }
    if !may_kill || !effects.ends_when_killed(holder) {
        return Ok(false);
    }
    // A killed daemon could not clear its row itself, as one that stops cleanly does.
    effects.write(&[(key::PID, "")])?;
    effects.say(&format!(
        "killed hung chat websocket daemon pid={}",
        holder.pid
    ));
    Ok(true)
}

fn start(effects: &mut dyn Effects) -> u8 {
    match effects.start() {
        Ok(pid) => {
            effects.say(&format!("started chat websocket daemon pid={pid}"));
            exit_code::OK
        }
        Err(reason) => {
            effects.say(&format!("failed to start chat websocket daemon: {reason}"));
            exit_code::FAILED
        }
    }
}
