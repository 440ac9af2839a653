//! The supervisor of cron mode: one look, one decision, one action (contract: operations.md, "Supervisor"). What is
//! decided here is pure; what is done about it is in `carry_out`, and `run` is the only part that touches locks,
//! processes and the database. Never long-running, and never a signal to a process that is not known to be the
//! daemon.

mod carry_out;
mod launch;
mod run;

pub use carry_out::{World, carry_out};
pub use launch::{DETACHED, SUPERVISED};
pub use run::{run, serve_detached};

use crate::limits::HEARTBEAT_STALE_SECONDS;
use crate::pid_file::Holder;
use crate::settings::{Rows, key};

/// Who starts and stops the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The supervisor; also what any value that is not `external` means.
    Cron,
    /// A service manager such as systemd.
    External,
}

impl Mode {
    /// From the settings.
    pub fn of(rows: &Rows) -> Self {
        match rows.text("chat_websocket_management_mode", "cron") {
            "external" => Mode::External,
            _ => Mode::Cron,
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
    /// Seconds since `chat_websocket_last_seen_at`, negative for a time to come; `None` where that is no time.
    pub heartbeat_age: Option<i64>,
}

impl Observed {
    /// From the settings, the pid file, and the age of the heartbeat by the install's clock.
    pub fn new(rows: &Rows, holder: Option<Holder>, heartbeat_age: Option<i64>) -> Self {
        Observed {
            mode: Mode::of(rows),
            chat_enabled: rows.boolean("chat_enabled", false),
            websocket_enabled: rows.boolean("chat_websocket_enabled", true),
            autostart: rows.boolean("chat_websocket_autostart", true),
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

    /// Whether the heartbeat is young enough.
    pub fn is_fresh(&self) -> bool {
        self.heartbeat_age
            .is_some_and(|age| age <= HEARTBEAT_STALE_SECONDS)
    }

    /// Whether a daemon should run.
    pub fn is_wanted(&self) -> bool {
        self.chat_enabled && self.websocket_enabled && self.autostart
    }
}

/// A value of `chat_websocket_status` that the supervisor writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Alive, with a fresh heartbeat.
    Running,
    /// Alive, without.
    Stale,
    /// Not there.
    Stopped,
}

impl Status {
    /// As the row has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "running",
            Status::Stale => "stale",
            Status::Stopped => "stopped",
        }
    }
}

/// A daemon that is to end, and what is done if it does not within its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub holder: Holder,
    /// It has shown no sign of life for long: it is killed rather than waited for.
    pub may_kill: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// External mode: say how things stand, touch no process.
    ReportExternal(Status),
    /// Say how things stand; a stop request that has nothing to stop is cleared.
    Report {
        /// How.
        status: Status,
        /// Whether there was such a request.
        clear_stop: bool,
    },
    /// End the daemon.
    Stop(Target),
    /// End the daemon and start another because that was asked for.
    Restart(Target),
    /// End the daemon and start another because it has shown no sign of life for long.
    Replace(Target),
    /// Start a daemon.
    Start {
        /// Whether a restart had been asked for.
        clear_restart: bool,
    },
}

/// What is to be done about what is seen.
pub fn decide(seen: &Observed) -> Decision {
    if seen.mode == Mode::External {
        return Decision::ReportExternal(match (seen.is_alive(), seen.is_fresh()) {
            (true, true) => Status::Running,
            (true, false) => Status::Stale,
            (false, _) => Status::Stopped,
        });
    }
    let stop = seen.stop_requested || !seen.is_wanted();
    match seen.holder {
        Some(holder) => {
            let target = Target {
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
                    clear_stop: false,
                }
            }
        }
        None if stop => Decision::Report {
            status: Status::Stopped,
            clear_stop: seen.stop_requested,
        },
        None => Decision::Start {
            clear_restart: seen.restart_requested,
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
        verified: true,
    };

    #[test]
    fn a_heartbeat_is_fresh_for_ninety_seconds_and_may_be_ahead() {
        for (age, fresh) in [
            (Some(90), true),
            (Some(91), false),
            (Some(-3600), true),
            (None, false),
        ] {
            let seen = Observed {
                heartbeat_age: age,
                ..WANTED
            };
            assert_eq!(seen.is_fresh(), fresh, "{age:?}");
        }
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
            let target = Target {
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
            clear_stop: true,
        };
        assert_eq!(decide(&stop), report);
        let restart = Observed {
            stop_requested: false,
            ..stop
        };
        let start = Decision::Start {
            clear_restart: true,
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
