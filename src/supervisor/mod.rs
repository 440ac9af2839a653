//! The supervisor of cron mode: each run observes, decides and acts once (contract: operations.md, "Supervisor"). The
//! decision here is pure; `carry_out` acts on it, and only `run` touches locks, processes and the database. A run is
//! short, and signals only a process that is known to be the daemon.

mod execute;
mod launch;
mod run;

pub use execute::{Effects, carry_out};
pub(crate) use launch::log_end;
pub use launch::{ALLOCATOR, DETACHED, SUPERVISED, serve_detached};
pub use run::run;

use serde::Serialize;

use crate::config::settings::{Rows, key};
use crate::platform::clock::is_fresh;
use crate::platform::pid_file::Holder;

/// Who starts and stops the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The supervisor; any value other than `external` means this.
    Cron,
    /// A service manager such as systemd.
    External,
}

impl Mode {
    /// From the settings.
    pub fn of(rows: &Rows) -> Self {
        match rows.text(key::MANAGEMENT_MODE, "cron") {
            "external" => Mode::External,
            _ => Mode::Cron,
        }
    }

    /// The value in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Cron => "cron",
            Mode::External => "external",
        }
    }
}

/// What the supervisor and `status` see: settings, pid file, heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// `chat_websocket_management_mode`.
    pub mode: Mode,
    /// `chat_enabled`.
    pub chat_enabled: bool,
    /// `chat_websocket_enabled`.
    pub websocket_enabled: bool,
    /// `chat_websocket_autostart`.
    pub autostart: bool,
    /// `chat_websocket_stop_requested`.
    pub stop_requested: bool,
    /// `chat_websocket_restart_requested`.
    pub restart_requested: bool,
    /// The live daemon that the pid file names.
    pub holder: Option<Holder>,
    /// Seconds since `chat_websocket_last_seen_at`, negative for a time in the future; `None` if that is not a time.
    pub heartbeat_age: Option<i64>,
}

impl Observed {
    /// From the settings, the pid file, and the age of the heartbeat by the install's clock.
    pub fn new(rows: &Rows, holder: Option<Holder>, heartbeat_age: Option<i64>) -> Self {
        Observed {
            mode: Mode::of(rows),
            chat_enabled: rows.boolean(key::CHAT_ENABLED, false),
            websocket_enabled: rows.boolean(key::WEBSOCKET_ENABLED, true),
            autostart: rows.boolean(key::AUTOSTART, true),
            stop_requested: rows.boolean(key::STOP_REQUESTED, false),
            restart_requested: rows.boolean(key::RESTART_REQUESTED, false),
            holder,
            heartbeat_age,
        }
    }

    /// Whether the daemon's process lives.
    pub fn is_alive(&self) -> bool {
        self.holder.is_some()
    }

    /// Whether the heartbeat is at most 90 s away from now.
    pub fn is_fresh(&self) -> bool {
        is_fresh(self.heartbeat_age)
    }

    /// The daemon's status, from process and heartbeat.
    pub fn status(&self) -> Status {
        match (self.is_alive(), self.is_fresh()) {
            (true, true) => Status::Running,
            (true, false) => Status::Stale,
            (false, _) => Status::Stopped,
        }
    }

    /// The settings that switch the daemon off.
    pub fn off(&self) -> Vec<&'static str> {
        let switches = [
            (self.chat_enabled, key::CHAT_ENABLED),
            (self.websocket_enabled, key::WEBSOCKET_ENABLED),
            (self.autostart, key::AUTOSTART),
        ];
        let off = switches.into_iter().filter(|(is_on, _)| !is_on);
        off.map(|(_, name)| name).collect()
    }

    /// Whether a daemon should run.
    pub fn is_wanted(&self) -> bool {
        self.off().is_empty()
    }
}

/// The status of a daemon; all but the last are values of `chat_websocket_status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Alive, with a fresh heartbeat.
    Running,
    /// Alive, without a fresh heartbeat.
    Stale,
    /// No process.
    Stopped,
    /// It could not start.
    Failed,
    /// Not known.
    #[default]
    Unknown,
}

impl Status {
    /// The value in the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Stale => "stale",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
            Status::Unknown => "unknown",
        }
    }

    /// The status behind a recorded one: `running` holds only with a process and a fresh heartbeat.
    pub fn effective(recorded: &str, has_process: bool, is_fresh: bool) -> Self {
        match recorded {
            "running" if has_process && is_fresh => Status::Running,
            "running" | "stale" => Status::Stale,
            "stopped" => Status::Stopped,
            "failed" => Status::Failed,
            _ => Status::Unknown,
        }
    }
}

/// A daemon to end, and whether to kill it if it does not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningDaemon {
    /// Its process.
    pub holder: Holder,
    /// Its heartbeat is stale, so it is killed if it does not end on SIGTERM.
    pub may_kill: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// External mode: record and print the status, touch no process.
    ReportExternal(Status),
    /// Record and print the status, and clear a stop request that has nothing to stop.
    Report {
        /// The status.
        status: Status,
        /// Whether there was such a request.
        has_stop_request: bool,
    },
    /// End the daemon.
    Stop(RunningDaemon),
    /// End the daemon and start another, as requested.
    Restart(RunningDaemon),
    /// End the daemon and start another, because its heartbeat is stale.
    Replace(RunningDaemon),
    /// Start a daemon.
    Start {
        /// Whether there is a restart request to clear.
        has_restart_request: bool,
    },
}

/// Decides what to do about what was observed.
pub fn decide(seen: &Observed) -> Decision {
    if seen.mode == Mode::External {
        return Decision::ReportExternal(seen.status());
    }
    let stop = seen.stop_requested || !seen.is_wanted();
    match seen.holder {
        Some(holder) => {
            let target = RunningDaemon {
                holder,
                may_kill: !seen.is_fresh(),
            };
            if stop {
                Decision::Stop(target)
            } else if seen.restart_requested {
                Decision::Restart(target)
            } else if !seen.is_fresh() {
                Decision::Replace(target)
            } else {
                Decision::Report {
                    status: Status::Running,
                    has_stop_request: false,
                }
            }
        }
        None if stop => Decision::Report {
            status: Status::Stopped,
            has_stop_request: seen.stop_requested,
        },
        None => Decision::Start {
            has_restart_request: seen.restart_requested,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Observed = Observed {
        mode: Mode::Cron,
        chat_enabled: true,
        websocket_enabled: true,
        autostart: true,
        stop_requested: false,
        restart_requested: false,
        holder: None,
        heartbeat_age: Some(3),
    };
    const HOLDER: Holder = Holder {
        pid: 812,
        is_verified: true,
    };

    /// The contract's table from top to bottom, with the improvements over the recorded behaviour; the first row that fits
    /// counts.
    fn row(seen: &Observed) -> (&'static str, Decision) {
        let (alive, fresh) = (seen.holder.is_some(), seen.is_fresh());
        let wanted = seen.chat_enabled && seen.websocket_enabled && seen.autostart;
        let status = match (alive, fresh) {
            (true, true) => Status::Running,
            (true, false) => Status::Stale,
            (false, _) => Status::Stopped,
        };
        let target = RunningDaemon {
            holder: HOLDER,
            may_kill: !fresh,
        };
        let report = |has_stop_request| Decision::Report {
            status,
            has_stop_request,
        };
        let start = |has_restart_request| Decision::Start {
            has_restart_request,
        };
        let rows = [
            (
                "external: any",
                seen.mode == Mode::External,
                Decision::ReportExternal(status),
            ),
            (
                "(stop requested or not wanted) and alive",
                (seen.stop_requested || !wanted) && alive,
                Decision::Stop(target),
            ),
            (
                "better: a stop request with nothing alive is cleared and starts nothing",
                seen.stop_requested,
                report(true),
            ),
            ("otherwise, as nothing is wanted", !wanted, report(false)),
            (
                "restart requested and alive",
                seen.restart_requested && alive,
                Decision::Restart(target),
            ),
            (
                "better: a restart request with nothing alive starts and is cleared",
                seen.restart_requested,
                start(true),
            ),
            (
                "wanted, alive, not fresh",
                alive && !fresh,
                Decision::Replace(target),
            ),
            ("wanted, not alive", !alive, start(false)),
            ("otherwise", true, report(false)),
        ];
        let found = rows.into_iter().find(|(_, fits, _)| *fits);
        found
            .map(|(name, _, decision)| (name, decision))
            .expect("the last fits all")
    }

    #[test]
    fn every_situation_is_decided_as_the_table_says() {
        let mut rows = std::collections::BTreeMap::new();
        for bits in 0..1_u32 << 7 {
            let bit = |place: u32| bits >> place & 1 == 1;
            for heartbeat_age in [Some(-5), Some(0), Some(90), Some(91), None] {
                let seen = Observed {
                    mode: if bit(0) { Mode::External } else { Mode::Cron },
                    chat_enabled: bit(1),
                    websocket_enabled: bit(2),
                    autostart: bit(3),
                    stop_requested: bit(4),
                    restart_requested: bit(5),
                    holder: bit(6).then_some(HOLDER),
                    heartbeat_age,
                };
                let (name, decision) = row(&seen);
                assert_eq!(decide(&seen), decision, "{name}: {seen:?}");
                *rows.entry(name).or_insert(0) += 1;
            }
        }
        assert_eq!(rows.len(), 9, "no row is without a situation: {rows:?}");
    }

    #[test]
    fn only_a_daemon_without_a_sign_of_life_may_be_killed() {
        for (age, may_kill) in [(Some(3), false), (Some(91), true)] {
            let seen = Observed {
                stop_requested: true,
                holder: Some(HOLDER),
                heartbeat_age: age,
                ..WANTED
            };
            let target = RunningDaemon {
                holder: HOLDER,
                may_kill,
            };
            assert_eq!(decide(&seen), Decision::Stop(target));
        }
    }

    #[test]
    fn requests_without_a_daemon_are_cleared() {
        let stop = Observed {
            stop_requested: true,
            restart_requested: true,
            ..WANTED
        };
        let report = Decision::Report {
            status: Status::Stopped,
            has_stop_request: true,
        };
        assert_eq!(decide(&stop), report);
        let restart = Observed {
            stop_requested: false,
            ..stop
        };
        let start = Decision::Start {
            has_restart_request: true,
        };
        assert_eq!(decide(&restart), start);
    }

    #[test]
    fn settings_are_read_as_the_application_reads_them() {
        let rows = |mode: &str| {
            Rows::new(
                [
                    ("chat_websocket_management_mode", mode),
                    ("chat_enabled", " 1x"),
                    ("chat_websocket_stop_requested", "2"),
                ]
                .map(|(name, value)| (name.to_owned(), Some(value.to_owned()))),
            )
        };
        let seen = Observed::new(&rows("external"), None, None);
        assert_eq!(seen.mode, Mode::External);
        assert!(seen.is_wanted() && seen.stop_requested && !seen.restart_requested);
        for mode in ["", "cron", "External", " external", "systemd"] {
            assert_eq!(Observed::new(&rows(mode), None, None).mode, Mode::Cron);
        }
    }
}
