//! Everything that breaks.

use std::time::Duration;

use super::break_daemon::THREADS;
use super::crowd::Signs;
use super::world::World;
use super::{break_daemon, break_database, break_line};
use crate::random::Random;
use crate::support::wait;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    DatabaseKilled,
    DatabaseFrozen,
    DatabaseReadOnly,
    DatabaseReadLocked,
    DatabaseFull,
    DatabaseRestarted,
    ConnectionsKilled,
    Deadlock,
    LockWait,
    PacketsDelayed,
    PacketsLost,
    LineCut,
    CutBeforeCommit,
    CutAfterCommit,
    CommitHeld,
    SocketsCut,
    DaemonKilled,
    DaemonTerminated,
    DaemonFrozen,
    LogFolderGone,
    LogDiskFull,
    ClockStepped,
    FileLimit,
    ConnectionPanics,
    ThreadPanics,
}

/// Whose connections a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toll {
    Nobody,
    /// Of so many, whoever they are.
    Some(usize),
    Everybody,
}

/// What a fault did: whose connections it took, and how often it was seen to come about.
pub type Struck = Result<(Toll, u64), String>;

impl Fault {
    pub const ALL: [Fault; 25] = [
        Fault::DatabaseKilled,
        Fault::PacketsDelayed,
        Fault::DaemonKilled,
        Fault::DatabaseFrozen,
        Fault::CutBeforeCommit,
        Fault::LogFolderGone,
        Fault::DatabaseReadOnly,
        Fault::PacketsLost,
        Fault::ThreadPanics,
        Fault::DatabaseReadLocked,
        Fault::LineCut,
        Fault::DaemonFrozen,
        Fault::DatabaseFull,
        Fault::CutAfterCommit,
        Fault::ClockStepped,
        Fault::DatabaseRestarted,
        Fault::SocketsCut,
        Fault::FileLimit,
        Fault::ConnectionsKilled,
        Fault::DaemonTerminated,
        Fault::Deadlock,
        Fault::LogDiskFull,
        Fault::LockWait,
        Fault::CommitHeld,
        Fault::ConnectionPanics,
    ];

    /// The fault of a seed's round. Neighbouring seeds have different ones, so that a few rounds see them all.
    pub fn of(seed: u64) -> Fault {
        Fault::ALL[(seed % Fault::ALL.len() as u64) as usize]
    }

    /// Why it cannot be brought about here, where it cannot.
    pub fn obstacle(self, world: &World) -> Option<&'static str> {
        match self {
            Fault::DatabaseFull if world.server.disk().is_none() => {
                Some("a disk of its own needs a mount namespace, which the system forbids")
            }
            Fault::ClockStepped if world.clock.is_none() => {
                Some("a clock of its own needs a C compiler, cc")
            }
            Fault::ConnectionPanics | Fault::ThreadPanics if world.panics.is_none() => {
                Some("a release build of the daemon knows no panics that are asked for")
            }
            _ => None,
        }
    }

    /// What has to be so before anybody comes.
    pub fn prepare(self, world: &World) {
        if self == Fault::DatabaseFull {
            break_database::compact(world);
        }
    }

    /// Breaks something and mends it again.
    pub fn strike(self, world: &mut World, random: &mut Random, signs: &Signs) -> Struck {
        match self {
            Fault::DatabaseKilled => break_database::kill(world, random),
            Fault::DatabaseFrozen => break_database::freeze(world, random, signs),
            Fault::DatabaseReadOnly => break_database::read_only(world, random, signs),
            Fault::DatabaseReadLocked => break_database::read_lock(world, random, signs),
            Fault::DatabaseFull => break_database::fill_disk(world, random, signs),
            Fault::DatabaseRestarted => break_database::restart(world),
            Fault::ConnectionsKilled => break_database::kill_connections(world, random, signs),
            Fault::Deadlock => break_database::deadlock(world),
            Fault::LockWait => break_database::lock(world, random),
            Fault::PacketsDelayed => break_line::delay(world, random, signs),
            Fault::PacketsLost => break_line::lose(world, random, signs),
            Fault::LineCut => break_line::cut(world, random, signs),
            Fault::CutBeforeCommit => break_line::cut_commit(world, false, random, signs),
            Fault::CutAfterCommit => break_line::cut_commit(world, true, random, signs),
            Fault::CommitHeld => break_line::hold_commit(world, random, signs),
            Fault::SocketsCut => {
                let count = signs.hang_up()?;
                Ok((Toll::Some(count), count as u64))
            }
            Fault::DaemonKilled => break_daemon::kill(world),
            Fault::DaemonTerminated => break_daemon::terminate(world),
            Fault::DaemonFrozen => break_daemon::freeze(world, random),
            Fault::LogFolderGone => break_daemon::take_log_folder(world, signs),
            Fault::LogDiskFull => break_daemon::fill_log_disk(world, signs),
            Fault::ClockStepped => break_daemon::step_clock(world, random, signs),
            Fault::FileLimit => break_daemon::limit_files(world, random, signs),
            Fault::ConnectionPanics => break_daemon::panic_in_connection(world, signs),
            Fault::ThreadPanics => {
                let name = THREADS[random.below(THREADS.len())];
                break_daemon::panic_in_thread(world, name)
            }
        }
    }
}

/// A moment of at most so many milliseconds, for which something stays broken.
pub fn moment(random: &mut Random, most_ms: usize) {
    wait::pass(Duration::from_millis(1 + random.below(most_ms) as u64));
}

/// Whether this is one of the few rounds in which something stays broken until senders are refused; the daemon is
/// patient, so these take long.
pub fn is_long(random: &mut Random) -> bool {
    random.below(6) == 0
}

/// Leaves it broken for a moment, or until somebody is refused.
pub fn outlast(random: &mut Random, most_ms: usize, signs: &Signs) -> Result<(), String> {
    if is_long(random) {
        return signs.await_refused();
    }
    moment(random, most_ms);
    Ok(())
}
