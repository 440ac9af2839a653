//! `status`: what the supervisor observes, and whether the address answers, for people and for programs (contract:
//! operations.md). Changes nothing.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::response::HandshakeResponse;
use super::style::{Style, Tone};
use super::{Database, probe};
use crate::config::settings::{Rows, key};
use crate::config::{Config, listen_address};
use crate::platform::exit_code;
use crate::platform::pid_file;
use crate::platform::printable::printable;
use crate::platform::process::Process;
use crate::supervisor::{Observed, SUPERVISED, Status, log_end};

/// How long the address may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Last lines of the log that are shown.
const LOG_LINES: usize = 5;

/// The state of the service.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StatusReport {
    /// Derived from the recorded status, the process and the heartbeat.
    status: Status,
    /// Why the status cannot be told in full.
    problem: Option<String>,
    /// `chat_websocket_status`.
    recorded_status: Option<String>,
    /// `cron` or `external`.
    mode: Option<&'static str>,
    /// Whether the settings ask for a running service.
    wanted: Option<bool>,
    /// The settings that switch the service off.
    off: Vec<&'static str>,
    /// Process id from the pid file, else from the settings.
    pid: Option<u32>,
    /// Whether a live daemon holds the pid file; `None` if that file cannot be read.
    alive: Option<bool>,
    /// `systemd`, `cron`, or `other`.
    started_by: Option<&'static str>,
    /// The systemd unit, or what else the control group names.
    unit: Option<String>,
    started_at: Option<String>,
    heartbeat_at: Option<String>,
    heartbeat_age_seconds: Option<i64>,
    /// Whether the heartbeat is recent enough.
    fresh: bool,
    address: Option<String>,
    /// Whether a chat service answers there.
    answers: bool,
    /// What answers, or why nothing does.
    answer: Option<String>,
    stop_requested: bool,
    restart_requested: bool,
    /// The last line of the log that tells of a failure.
    last_error: Option<String>,
    /// Path of the log.
    log_file: Option<String>,
    /// Last lines of the log.
    log_lines: Vec<String>,
}

/// Gathers the state of an install's service.
pub(crate) fn look(config: &Config, database: &mut Database) -> StatusReport {
    let places = config.paths();
    let held = pid_file::holder(&places);
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
    let heard = probe::listener(&host, port, TIMEOUT).map(|(answer, ..)| answer);
    let process = holder.and_then(|holder| pid_file::process_of(holder, &places));
    let unit = process.as_ref().and_then(Process::unit);
    let problem = match (&rows, &held) {
        (Err(problem), _) => Some(problem.to_string()),
        (_, Err(error)) => Some(format!(
            "cannot read {}: {error}; run status as the web server's user or as root",
            places.pid_file.display()
        )),
        _ => None,
    };
    let text = |key: &str| {
        let value = known.map_or("", |rows| rows.text(key, ""));
        (!value.is_empty()).then(|| value.to_owned())
    };
    let status = recorded.as_ref().map_or(Status::Unknown, |recorded| {
        let has_process = recorded_pid.is_some_and(|pid: u32| pid > 0) && alive != Some(false);
        Status::effective(recorded, has_process, seen.is_fresh())
    });
    let is_well = matches!(status, Status::Running | Status::Stopped);
    let log_lines = log_end(&places.log_file, 0).unwrap_or_default();
    let mut log_lines: Vec<String> = log_lines.iter().map(|line| printable(line)).collect();
    let last_error = last_error(&log_lines, is_well);
    log_lines.drain(..log_lines.len().saturating_sub(LOG_LINES));
    StatusReport {
        status,
        problem,
        recorded_status: recorded,
        mode: known.map(|_| seen.mode.as_str()),
        wanted: known.map(|_| seen.is_wanted()),
        off: known.map_or(Vec::new(), |_| seen.off()),
        pid: match holder {
            Some(holder) => Some(holder.pid).filter(|pid| *pid > 0),
            None => recorded_pid,
        },
        alive,
        started_by: process.map(|process| starter(&process.arguments(), unit.as_deref())),
        unit,
        started_at: text(key::LAST_STARTED_AT),
        heartbeat_at: text(key::LAST_SEEN_AT),
        heartbeat_age_seconds: age,
        fresh: seen.is_fresh(),
        address: Some(format!("{host}:{port}")),
        answers: matches!(
            heard,
            Ok(HandshakeResponse::WebSocket | HandshakeResponse::Http(503, _))
        ),
        answer: Some(answer(&heard)),
        stop_requested: seen.stop_requested,
        restart_requested: seen.restart_requested,
        last_error,
        log_file: Some(places.log_file.display().to_string()),
        log_lines,
    }
}

/// The last line that tells of a failure, with its time. If the service is not well, lines without `error:` may qualify
/// too, and if none does, the last line is taken.
fn last_error(lines: &[String], is_well: bool) -> Option<String> {
    const FAILURES: [&str; 7] = [
        "error:",
        "failed ",
        "cannot ",
        "panic",
        "thread ",
        "the database ",
        "process ",
    ];
    let begins = match is_well {
        true => &FAILURES[..1],
        false => &FAILURES[..],
    };
    let is_failure = |line: &&String| {
        let words = line.split_once("] ").map_or(&line[..], |(_, words)| words);
        begins.iter().any(|begin| words.starts_with(begin))
    };
    let found = lines.iter().rev().find(is_failure);
    found.or_else(|| lines.last().filter(|_| !is_well)).cloned()
}

fn starter(arguments: &[String], unit: Option<&str>) -> &'static str {
    let is_cron = |unit: &str| ["cron.service", "crond.service", "cronie.service"].contains(&unit);
    if arguments.iter().any(|word| word == SUPERVISED) || unit.is_some_and(is_cron) {
        "cron"
    } else if unit.is_some_and(|unit| unit.ends_with(".service")) {
        "systemd"
    } else {
        "other"
    }
}

fn answer(heard: &io::Result<HandshakeResponse>) -> String {
    match heard {
        Ok(HandshakeResponse::WebSocket) => "a chat service".to_owned(),
        Ok(HandshakeResponse::Http(503, _)) => {
            "a chat service that refuses connections (disabled, or full)".to_owned()
        }
        Ok(HandshakeResponse::Http(code, reason)) => {
            format!("something else: HTTP {code} {reason}")
        }
        Ok(HandshakeResponse::Other(what)) => (*what).to_owned(),
        Err(error) => format!("nothing: {error}"),
    }
}

impl StatusReport {
    /// A report in which nothing is known, for this reason.
    pub(crate) fn unknown(problem: String) -> Self {
        StatusReport {
            problem: Some(problem),
            ..StatusReport::default()
        }
    }

    /// 0 running, 1 stopped, 2 stale, 3 failed, 4 cannot tell.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.status {
            Status::Running => exit_code::OK,
            Status::Stopped => exit_code::FAILED,
            Status::Stale => exit_code::STALE,
            Status::Failed => exit_code::START_FAILED,
            Status::Unknown => exit_code::CANNOT_TELL,
        }
    }

    /// What people read.
    pub(crate) fn text(&self, style: Style) -> String {
        let tone = match self.status {
            Status::Running => Tone::Good,
            Status::Stale | Status::Failed => Tone::Bad,
            Status::Stopped | Status::Unknown => Tone::Doubtful,
        };
        let status = style.paint(tone, self.status.as_str());
        let mut text = format!("chat service: {status}\n");
        // Writing to a string cannot fail.
        let mut line = |name: &str, words: String| {
            let _ = writeln!(text, "  {name:<11}{words}");
        };
        if let Some(problem) = &self.problem {
            let problem = style.paint(Tone::Bad, &printable(problem));
            line("cannot tell", format!(" {problem}"));
        }
        if let Some(recorded) = &self.recorded_status {
            line("recorded", printable(recorded));
        }
        line("process", self.process(style));
        line("heartbeat", self.heartbeat(style));
        if let (Some(address), Some(answer)) = (&self.address, &self.answer) {
            let tone = match self.answers {
                true => Tone::Good,
                false => Tone::Doubtful,
            };
            // Within a sentence.
            let answer = match answer.strip_prefix("nothing: ") {
                Some(reason) => format!("nothing ({reason})"),
                None => answer.to_owned(),
            };
            let answer = style.paint(tone, &printable(&answer));
            let address = printable(address);
            line("address", format!("{address}, where {answer} answers"));
        }
        if let Some(mode) = self.mode {
            let wanted = match self.off.as_slice() {
                [] => "the settings ask for a running service".to_owned(),
                off => format!("switched off: {}", off.join(", ")),
            };
            line("mode", format!("{mode}; {wanted}"));
            let pending = match (self.stop_requested, self.restart_requested) {
                (false, false) => "none pending".to_owned(),
                (true, false) => style.paint(Tone::Doubtful, "stop pending"),
                (false, true) => style.paint(Tone::Doubtful, "restart pending"),
                (true, true) => style.paint(Tone::Doubtful, "stop and restart pending"),
            };
            line("requests", pending);
        }
        if let Some(error) = &self.last_error {
            line("last error", style.paint(Tone::Bad, error));
        }
        if let Some(log) = &self.log_file {
            line("log", printable(log));
        }
        for one in &self.log_lines {
            let _ = writeln!(text, "    {one}");
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
        format!("{pid}, {alive}{}", printable(&starter))
    }

    fn heartbeat(&self, style: Style) -> String {
        match (&self.heartbeat_at, self.heartbeat_age_seconds) {
            (Some(at), Some(age)) => {
                let tone = if self.fresh { Tone::Good } else { Tone::Bad };
                let age = style.paint(tone, &format!("{age} s ago"));
                format!("{age} ({})", printable(at))
            }
            (Some(at), None) => format!("\"{}\", which is no time", printable(at)),
            (None, _) => "none".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_started_it_is_told_by_its_unit_and_its_command_line() {
        let serve = ["andrea-chat-websocket", "serve"].map(str::to_owned);
        for (unit, by) in [
            (Some("andrea-chat-websocket.service"), "systemd"),
            (Some("andrea-chat-websocket@desk-one.service"), "systemd"),
            (Some("cron.service"), "cron"),
            (Some("session-3.scope"), "other"),
            (None, "other"),
        ] {
            assert_eq!(starter(&serve, unit), by, "{unit:?}");
        }
        let supervised = [&serve[..], &[SUPERVISED.to_owned()]].concat();
        assert_eq!(starter(&supervised, Some("session-3.scope")), "cron");
    }
}
