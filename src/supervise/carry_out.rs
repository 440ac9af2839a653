//! What is done about a decision: which lines are said, which rows are written, in which order. Pure but for the
//! [`World`] that is passed in, so that every recorded run can be replayed without a process.

use super::{Decision, Status, Target};
use crate::exit_code;
use crate::pid_file::Holder;
use crate::settings::key;

/// What the supervisor can do to the world.
pub trait World {
    /// One line for whoever reads what cron sends.
    fn say(&mut self, line: &str);

    /// Writes rows of `settings`.
    ///
    /// # Errors
    /// What cannot be done, for people.
    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), String>;

    /// Asks the daemon to end, and waits; whether it has ended.
    fn terminate(&mut self, holder: Holder) -> bool;

    /// Ends it without asking; whether it has ended.
    fn kill(&mut self, holder: Holder) -> bool;

    /// Starts a daemon and waits until it shows that it runs; its process id.
    ///
    /// # Errors
    /// Why it does not run.
    fn start(&mut self) -> Result<u32, String>;
}

/// Does what was decided; the exit code.
///
/// # Errors
/// A row cannot be written; nothing is done after that.
pub fn carry_out(decision: Decision, world: &mut dyn World) -> Result<u8, String> {
    match decision {
        Decision::ReportExternal(status) => {
            world.write(&[(key::STATUS, status.as_str())])?;
            world.say("external mode: status only");
            Ok(exit_code::OK)
        }
        Decision::Report { status, clear_stop } => {
            world.write(&[(key::STATUS, status.as_str())])?;
            if clear_stop {
                world.write(&[(key::STOP_REQUESTED, "0")])?;
            }
            world.say("chat websocket status checked");
            Ok(exit_code::OK)
        }
        Decision::Stop(target) => stop(target, world),
        Decision::Restart(target) => restart(target, world),
        Decision::Replace(target) => replace(target, world),
        Decision::Start { clear_restart } => {
            if clear_restart {
                world.write(&[(key::RESTART_REQUESTED, "0")])?;
            }
            Ok(start(world))
        }
    }
}

fn stop(target: Target, world: &mut dyn World) -> Result<u8, String> {
    let pid = target.holder.pid;
    if end(target, world)? {
        world.write(&[
            (key::STATUS, Status::Stopped.as_str()),
            (key::STOP_REQUESTED, "0"),
        ])?;
        world.say(&format!("stopped chat websocket daemon pid={pid}"));
    } else {
        world.write(&[(key::STATUS, Status::Stale.as_str())])?;
        world.say(&format!("stop pending for chat websocket daemon pid={pid}"));
    }
    // A daemon that takes longer has been told; the next run looks again.
    Ok(exit_code::OK)
}

fn restart(target: Target, world: &mut dyn World) -> Result<u8, String> {
    if end(target, world)? {
        world.write(&[(key::RESTART_REQUESTED, "0")])?;
        return Ok(start(world));
    }
    world.write(&[(key::STATUS, Status::Stale.as_str())])?;
    world.say(&format!(
        "restart delayed; existing chat websocket daemon still alive pid={}",
        target.holder.pid
    ));
    Ok(exit_code::FAILED)
}

fn replace(target: Target, world: &mut dyn World) -> Result<u8, String> {
    let pid = target.holder.pid;
    world.write(&[(key::STATUS, Status::Stale.as_str())])?;
    if end(target, world)? {
        world.say(&format!("restarting stale chat websocket daemon pid={pid}"));
        return Ok(start(world));
    }
    world.say(&format!(
        "stale daemon still alive after stop request pid={pid}"
    ));
    Ok(exit_code::FAILED)
}

/// Ends a daemon; whether it has ended.
fn end(target: Target, world: &mut dyn World) -> Result<bool, String> {
    let Target { holder, may_kill } = target;
    if world.terminate(holder) {
        return Ok(true);
    }
    if !may_kill || !world.kill(holder) {
        return Ok(false);
    }
    // It could not strike itself off, as a daemon that ends in good order does.
    world.write(&[(key::PID, "")])?;
    world.say(&format!(
        "killed hung chat websocket daemon pid={}",
        holder.pid
    ));
    Ok(true)
}

fn start(world: &mut dyn World) -> u8 {
    match world.start() {
        Ok(pid) => {
            world.say(&format!("started chat websocket daemon pid={pid}"));
            exit_code::OK
        }
        Err(reason) => {
            world.say(&format!("failed to start chat websocket daemon: {reason}"));
            exit_code::FAILED
        }
    }
}
