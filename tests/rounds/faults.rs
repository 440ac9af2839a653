//! The faults that a round can inject.

use std::time::Duration;

use super::break_daemon::THREADS;
use super::environment::Environment;
use super::participants::Progress;
use super::{break_daemon, break_database, break_network};
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
    IdleConnectionsKilled,
    FewConnections,
    SmallPackets,
    UnusualDefaults,
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

/// How many of the members' connections a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostConnections {
    None,
    Count(usize),
    All,
}

/// What a fault did: the connections it ended, and how often its effect was seen.
pub type Injected = Result<(LostConnections, u64), String>;

impl Fault {
    pub const ALL: [Fault; 29] = [
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
        Fault::IdleConnectionsKilled,
        Fault::FewConnections,
        Fault::SmallPackets,
        Fault::UnusualDefaults,
    ];

    /// The fault of a seed's round. Neighbouring seeds have different ones, so that a few rounds see them all.
    pub fn of(seed: u64) -> Fault {
        Fault::ALL[(seed % Fault::ALL.len() as u64) as usize]
    }

    /// Why this machine cannot inject the fault; none where it can.
    pub fn obstacle(self, environment: &Environment) -> Option<&'static str> {
        match self {
            Fault::DatabaseFull if environment.server.disk().is_none() => {
                Some("a disk of its own needs a mount namespace, which the system forbids")
            }
            Fault::ClockStepped if environment.clock.is_none() => {
                Some("a clock of its own needs a C compiler, cc")
            }
            Fault::ConnectionPanics | Fault::ThreadPanics if environment.panics.is_none() => {
                Some("a release build of the daemon knows no panics that are asked for")
            }
            _ => None,
        }
    }

    /// Prepares the environment before the members connect.
    pub fn prepare(self, environment: &Environment) {
        if self == Fault::DatabaseFull {
            break_database::compact(environment);
        }
    }

    /// Injects the fault and repairs it.
    pub fn inject(
        self,
        environment: &mut Environment,
        random: &mut Random,
        progress: &Progress,
    ) -> Injected {
        match self {
            Fault::DatabaseKilled => break_database::kill(environment, random),
            Fault::DatabaseFrozen => break_database::freeze(environment, random, progress),
            Fault::DatabaseReadOnly => break_database::read_only(environment, random, progress),
            Fault::DatabaseReadLocked => break_database::read_lock(environment, random, progress),
            Fault::DatabaseFull => break_database::fill_disk(environment, random, progress),
            Fault::DatabaseRestarted => break_database::restart(environment),
            Fault::ConnectionsKilled => {
                break_database::kill_connections(environment, random, progress)
            }
            Fault::IdleConnectionsKilled => {
                break_database::kill_idle(environment, random, progress)
            }
            Fault::FewConnections => break_database::limit_connections(environment, random),
            Fault::SmallPackets => break_database::shrink_packets(environment, random, progress),
            Fault::UnusualDefaults => {
                break_database::change_defaults(environment, random, progress)
            }
            Fault::Deadlock => break_database::deadlock(environment),
            Fault::LockWait => break_database::lock(environment, random),
            Fault::PacketsDelayed => break_network::delay(environment, random, progress),
            Fault::PacketsLost => break_network::lose(environment, random, progress),
            Fault::LineCut => break_network::cut(environment, random, progress),
            Fault::CutBeforeCommit => {
                break_network::cut_commit(environment, false, random, progress)
            }
            Fault::CutAfterCommit => break_network::cut_commit(environment, true, random, progress),
            Fault::CommitHeld => break_network::hold_commit(environment, random, progress),
            Fault::SocketsCut => {
                let count = progress.hang_up()?;
                Ok((LostConnections::Count(count), count as u64))
            }
            Fault::DaemonKilled => break_daemon::kill(environment),
            Fault::DaemonTerminated => break_daemon::terminate(environment),
            Fault::DaemonFrozen => break_daemon::freeze(environment, random),
            Fault::LogFolderGone => break_daemon::take_log_folder(environment, progress),
            Fault::LogDiskFull => break_daemon::fill_log_disk(environment, progress),
            Fault::ClockStepped => break_daemon::step_clock(environment, random, progress),
            Fault::FileLimit => break_daemon::limit_files(environment, random, progress),
            Fault::ConnectionPanics => break_daemon::panic_in_connection(environment, progress),
            Fault::ThreadPanics => {
                let name = THREADS[random.below(THREADS.len())];
                break_daemon::panic_in_thread(environment, name)
            }
        }
    }
}

/// Sleeps for up to this many milliseconds while something stays broken.
pub fn pause(random: &mut Random, most_ms: usize) {
    wait::pass(Duration::from_millis(1 + random.below(most_ms) as u64));
}

/// Whether this is one of the few rounds in which the fault lasts until senders are refused. They take long, since the
/// daemon retries before it refuses.
pub fn is_long(random: &mut Random) -> bool {
    random.below(6) == 0
}

/// Leaves the fault in place for a short time, or in long rounds until a sender is refused.
pub fn wait_out(random: &mut Random, most_ms: usize, progress: &Progress) -> Result<(), String> {
    if is_long(random) {
        return progress.await_refused();
    }
    pause(random, most_ms);
    Ok(())
}
