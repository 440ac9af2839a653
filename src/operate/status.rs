//! `status`: the same that the supervisor observes, and whether the address answers, for people and for programs
//! (contract: operations.md). Changes nothing.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;

use super::style::{Style, Tone};
use super::{Database, Problem, probe};
use crate::config::{Config, listen_address};
use crate::exit_code;
use crate::pid_file::{self, Holder};
use crate::places::Places;
use crate::process::Process;
use crate::settings::{Rows, key};
use crate::supervise::{Mode, Observed, SUPERVISED};

/// How long the address may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How the service is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// `running`, `stopped`, `stale`, `failed`, or `unknown`.
    status: String,
    /// What keeps the status from being known.
    problem: Option<String>,
    /// `chat_websocket_status`.
    recorded_status: Option<String>,
    /// `cron` or `external`.
    mode: Option<&'static str>,
    /// Whether the settings ask for a running service.
    wanted: Option<bool>,
    /// Settings that say it is not.
    off: Vec<&'static str>,
    /// Of the pid file, else of the settings.
    pid: Option<u32>,
    /// Whether that daemon lives; `None` where it cannot be told from here.
    alive: Option<bool>,
    /// `systemd`, `cron`, or `other`.
    started_by: Option<&'static str>,
    /// The systemd unit or the like.
    unit: Option<String>,
    started_at: Option<String>,
    heartbeat_at: Option<String>,
    heartbeat_age_seconds: Option<i64>,
    /// Whether that is young enough.
    fresh: bool,
    address: Option<String>,
    /// Whether a chat service answers there.
    answers: bool,
    /// What answers, or why nothing does.
    answer: Option<String>,
    stop_requested: bool,
    restart_requested: bool,
}

/// Looks at the service of an install.
pub fn look(config: &Config, database: &mut Database) -> Report {
    let places = Places::of(config);
    let held = pid_file::holder(&places.pid_file);
    let holder = held.as_ref().ok().copied().flatten();
    let rows = database.run(|store| store.settings());
    let known = rows.as_ref().ok();
    let last_seen = known.map_or("", |rows| rows.text(key::LAST_SEEN_AT, ""));
    let age = config.clock.seconds_since(last_seen);
    let nothing = Rows::default();
    let seen = Observed::new(known.unwrap_or(&nothing), holder, age);
    let recorded = known.map(|rows| rows.text(key::STATUS, "stopped").to_owned());
    let recorded_pid = known.and_then(|rows| rows.text(key::PID, "").parse().ok());
    let alive = held.as_ref().ok().map(Option::is_some);
    let (host, port, _) = listen_address(config, known.unwrap_or(&nothing));
    let (answers, answer) = answer(&host, port);
    let process = holder.and_then(|holder| pid_file::process_of(holder, &places.pid_file));
    let unit = process.as_ref().and_then(Process::unit);
    let problem = match (&rows, &held) {
        (Err(problem), _) => Some(problem.to_string()),
        (_, Err(error)) => Some(format!(
            "cannot read {}: {error}; run status as the web server's user or as root",
            places.pid_file.display()
        )),
        _ => None,
    };
    let off = [
        ("chat_enabled", seen.chat_enabled),
        ("chat_websocket_enabled", seen.websocket_enabled),
        ("chat_websocket_autostart", seen.autostart),
    ];
    let text = |key: &str| {
        let value = known.map_or("", |rows| rows.text(key, ""));
        (!value.is_empty()).then(|| value.to_owned())
    };
    Report {
        status: match &recorded {
            Some(recorded) => effective(recorded, recorded_pid, alive, seen.is_fresh()),
            None => "unknown".to_owned(),
        },
        problem,
        recorded_status: recorded,
        mode: known.map(|_| match seen.mode {
            Mode::Cron => "cron",
            Mode::External => "external",
        }),
        wanted: known.map(|_| seen.is_wanted()),
        off: known.map_or(Vec::new(), |_| {
            let off = off.iter().filter(|(_, on)| !on);
            off.map(|(name, _)| *name).collect()
        }),
        pid: holder.map(pid).unwrap_or(recorded_pid),
        alive,
        started_by: process
            .as_ref()
            .map(|process| starter(process, unit.as_deref())),
        unit,
        started_at: text(key::LAST_STARTED_AT),
        heartbeat_at: text(key::LAST_SEEN_AT),
        heartbeat_age_seconds: age,
        fresh: seen.is_fresh(),
        address: Some(format!("{host}:{port}")),
        answers,
        answer: Some(answer),
        stop_requested: seen.stop_requested,
        restart_requested: seen.restart_requested,
    }
}

fn pid(holder: Holder) -> Option<u32> {
    (holder.pid > 0).then_some(holder.pid)
}

/// `running` holds only with a fresh heartbeat and a process.
fn effective(recorded: &str, pid: Option<u32>, alive: Option<bool>, fresh: bool) -> String {
    let has_process = pid.is_some_and(|pid| pid > 0) && alive != Some(false);
    match recorded {
        "running" if !(fresh && has_process) => "stale".to_owned(),
        "running" | "stopped" | "stale" | "failed" => recorded.to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn starter(process: &Process, unit: Option<&str>) -> &'static str {
    let is_cron = |unit: &str| ["cron.service", "crond.service", "cronie.service"].contains(&unit);
    if process.arguments().iter().any(|word| word == SUPERVISED) || unit.is_some_and(is_cron) {
        "cron"
    } else if unit.is_some_and(|unit| unit.ends_with(".service")) {
        "systemd"
    } else {
        "other"
    }
}

fn answer(host: &str, port: u16) -> (bool, String) {
    use crate::connection::client::Answer;
    match probe::listener(host, port, PATIENCE) {
        Ok(Answer::WebSocket) => (true, "a chat service".to_owned()),
        Ok(Answer::Http(503, _)) => (
            true,
            "a chat service that lets nobody in (switched off, or full)".to_owned(),
        ),
        Ok(Answer::Http(code, reason)) => (false, format!("something else: HTTP {code} {reason}")),
        Ok(Answer::Other(what)) => (false, what.to_owned()),
        Err(error) => (false, format!("nothing: {error}")),
    }
}

impl Report {
    /// Nothing is known, for this reason.
    pub fn unknown(problem: String) -> Self {
        Report {
            status: "unknown".to_owned(),
            problem: Some(problem),
            ..Report::default()
        }
    }

    /// 0 running, 1 stopped, 2 stale, 3 failed, 4 cannot tell.
    pub fn exit_code(&self) -> u8 {
        match self.status.as_str() {
            "running" => exit_code::OK,
            "stopped" => exit_code::FAILED,
            "stale" => exit_code::STALE,
            "failed" => exit_code::START_FAILED,
            _ => exit_code::CANNOT_TELL,
        }
    }

    /// Writes it as one JSON object.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_json(&self, out: &mut dyn Write) -> Result<(), Problem> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        writeln!(out, "{text}").map_err(|error| Problem::of_output(&error))
    }

    /// Writes it for people.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_text(&self, style: Style, out: &mut dyn Write) -> Result<(), Problem> {
        out.write_all(self.text(style).as_bytes())
            .map_err(|error| Problem::of_output(&error))
    }

    fn text(&self, style: Style) -> String {
        let tone = match self.status.as_str() {
            "running" => Tone::Good,
            "stale" | "failed" => Tone::Bad,
            _ => Tone::Doubtful,
        };
        let mut text = format!("chat service: {}\n", style.paint(tone, &self.status));
        // Writing to a string cannot fail.
        let mut line = |name: &str, words: String| {
            let _ = writeln!(text, "  {name:<11}{words}");
        };
        if let Some(problem) = &self.problem {
            line(
                "cannot tell",
                format!(" {}", style.paint(Tone::Bad, problem)),
            );
        }
        if let Some(recorded) = &self.recorded_status {
            line("recorded", recorded.clone());
        }
        line("process", self.process(style));
        line("heartbeat", self.heartbeat(style));
        if let (Some(address), Some(answer)) = (&self.address, &self.answer) {
            let tone = if self.answers {
                Tone::Good
            } else {
                Tone::Doubtful
            };
            line(
                "address",
                format!(
                    "{address}, where {} answers",
                    style.paint(tone, &answered(answer))
                ),
            );
        }
        if let Some(mode) = self.mode {
            let wanted = match self.off.as_slice() {
                [] => "the settings ask for a running service".to_owned(),
                off => format!("switched off: {}", off.join(", ")),
            };
            line("mode", format!("{mode}; {wanted}"));
            let requests: Vec<&str> = [
                (self.stop_requested, "stop"),
                (self.restart_requested, "restart"),
            ]
            .into_iter()
            .filter_map(|(asked, word)| asked.then_some(word))
            .collect();
            let pending = match requests.as_slice() {
                [] => "none pending".to_owned(),
                words => style.paint(Tone::Doubtful, &format!("{} pending", words.join(" and "))),
            };
            line("requests", pending);
        }
        text
    }

    fn process(&self, style: Style) -> String {
        let pid = self.pid.map_or("none".to_owned(), |pid| pid.to_string());
        let alive = match self.alive {
            Some(true) => style.paint(Tone::Good, "alive"),
            Some(false) if self.pid.is_some() => style.paint(Tone::Bad, "not alive"),
            Some(false) => return pid,
            None if self.pid.is_none() => return "unknown".to_owned(),
            None => style.paint(Tone::Doubtful, "whether it is alive cannot be told"),
        };
        let starter = match (self.started_by, &self.unit) {
            (Some("systemd"), Some(unit)) => format!(", started by systemd ({unit})"),
            (Some("cron"), _) => ", started by the supervisor (cron)".to_owned(),
            (Some(_), Some(unit)) => format!(", started in {unit}"),
            (Some(_), None) => ", started by hand or another program".to_owned(),
            (None, _) => String::new(),
        };
        format!("{pid}, {alive}{starter}")
    }

    fn heartbeat(&self, style: Style) -> String {
        match (&self.heartbeat_at, self.heartbeat_age_seconds) {
            (Some(at), Some(age)) => {
                let tone = if self.fresh { Tone::Good } else { Tone::Bad };
                format!("{} ({at})", style.paint(tone, &format!("{age} s ago")))
            }
            (Some(at), None) => format!("{at:?}, which is no time"),
            (None, _) => "none".to_owned(),
        }
    }
}

/// `nothing: reason` as it stands in a sentence.
fn answered(answer: &str) -> String {
    match answer.strip_prefix("nothing: ") {
        Some(reason) => format!("nothing ({reason})"),
        None => answer.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_needs_a_heartbeat_and_a_process() {
        let of = effective;
        assert_eq!(of("running", Some(9), Some(true), true), "running");
        assert_eq!(of("running", Some(9), None, true), "running");
        for (pid, alive, fresh) in [
            (Some(9), Some(true), false),
            (None, Some(true), true),
            (Some(0), Some(true), true),
            (Some(9), Some(false), true),
        ] {
            assert_eq!(of("running", pid, alive, fresh), "stale");
        }
        assert_eq!(of("stopped", Some(9), Some(true), true), "stopped");
        assert_eq!(of("failed", None, Some(false), false), "failed");
        assert_eq!(of("", None, None, false), "unknown");
    }
}
