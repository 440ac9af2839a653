//! The service panel's server side: the service's status, its settings, and the administrator's buttons (contract:
//! operations.md, "Start, stop, restart, status, settings"). The rules are in `admin` and `supervisor`, which the
//! subcommands use too.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::PageResponse;
use super::site::DemoSite;
use crate::admin::control::{self, ControlRequest};
use crate::admin::settings::{self, Setting, SettingKind};
use crate::config::settings::{Rows, key};
use crate::platform::clock::AppClock;
use crate::platform::pid_file::is_live_daemon;
use crate::supervisor::{Mode, Observed, Status};

/// Rows of the audit log that the panel shows.
const AUDIT_ROWS: usize = 8;
/// The origin of a request in the audit log.
const FROM: &str = "127.0.0.1";

/// Everything that the panel shows.
pub(super) fn status(site: &DemoSite) -> PageResponse {
    site.with_database(|database| {
        let rows = database.settings()?;
        let pid = u32::try_from(rows.integer(key::PID, 0)).ok().filter(|pid| *pid > 0);
        let is_alive = pid.is_some_and(|pid| pid == std::process::id() || is_live_daemon(pid));
        let age = AppClock::utc().seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        let seen = Observed::new(&rows, None, age);
        let recorded = rows.text(key::STATUS, Status::Stopped.as_str());
        let (connections, online_agents) = site.sockets();
        let requested = [("stop", seen.stop_requested), ("restart", seen.restart_requested)];
        let requested = requested.iter().filter(|(_, asked)| *asked).map(|(word, _)| word);
        Ok(PageResponse::ok(&json!({
            "mode": seen.mode.as_str(),
            "recorded_status": recorded,
            "effective_status": Status::effective(recorded, is_alive, seen.is_fresh()).as_str(),
            "pid": pid,
            "pid_alive": is_alive,
            "heartbeat_age": age,
            "started_at": rows.text(key::LAST_STARTED_AT, ""),
            "address": site.address(),
            "connections": connections,
            "online_agents": online_agents,
            "requested": requested.collect::<Vec<_>>(),
            "settings": settings::ALL.iter().map(|setting| described(setting, &rows)).collect::<Vec<_>>(),
            "audit": database.service_audit(AUDIT_ROWS)?.iter().map(|row| json!({
                "action": row.action,
                "created_at": row.created_at,
            })).collect::<Vec<_>>(),
        })))
    })
}

fn described(setting: &Setting, rows: &Rows) -> Value {
    let (kind, choices) = match setting.kind {
        SettingKind::Switch => ("boolean", &[][..]),
        SettingKind::Choice(words) => ("choice", words),
        SettingKind::Number { .. } => ("integer", &[][..]),
        SettingKind::Host => ("text", &[][..]),
    };
    json!({
        "key": setting.key,
        "label": setting.label,
        "note": setting.about,
        "kind": kind,
        "choices": choices,
        "value": setting.stored(rows),
    })
}

/// Validates all values, then sets them; if one is invalid, none is set.
pub(super) fn set(site: &DemoSite, body: &[u8]) -> PageResponse {
    #[derive(Deserialize)]
    struct Body {
        values: BTreeMap<String, String>,
    }
    let Ok(Body { values }) = serde_json::from_slice(body) else {
        return PageResponse::refusal("400 Bad Request", "which settings?");
    };
    let mut errors = BTreeMap::new();
    let mut checked = Vec::new();
    for (name, value) in &values {
        let mut wrong = |reason| drop(errors.insert(name, reason));
        match settings::find(name) {
            Ok(setting) => match setting.checked(value) {
                Some(value) => checked.push((setting, value)),
                None => wrong(format!("This {}.", setting.kind)),
            },
            Err(problem) => wrong(problem.to_string()),
        }
    }
    if !errors.is_empty() {
        let answer = json!({ "error": "some values cannot be used", "errors": errors });
        return PageResponse::json("422 Unprocessable Content", &answer);
    }
    site.with_database(|database| {
        let rows = database.settings()?;
        for (setting, value) in &checked {
            if setting.stored(&rows) != value {
                let audit = setting.audit(setting.stored(&rows), value, FROM);
                database.change(&[(setting.key, value)], &audit)?;
            }
        }
        let saved: Vec<_> = values.keys().collect();
        Ok(PageResponse::ok(&json!({ "saved": saved })))
    })
}

/// What a button does.
pub(super) fn press(site: &DemoSite, request: ControlRequest, body: &[u8]) -> PageResponse {
    site.for_agent(body, |database, _| {
        let mode = Mode::of(&database.settings()?);
        control::leave(request, mode, database, FROM)?;
        let message = match (mode, request) {
            (Mode::External, _) => {
                "The service is managed externally: use the service manager. Here that is the terminal in which the demo \
                 runs."
            }
            (Mode::Cron, ControlRequest::Start) => "Start requested.",
            (Mode::Cron, ControlRequest::Stop) => {
                "Stop requested. It stays stopped until it is started again."
            }
            (Mode::Cron, ControlRequest::Restart) => "Restart requested.",
        };
        let done = mode == Mode::Cron;
        let answer = json!({ "mode": mode.as_str(), "done": done, "message": message });
        Ok(PageResponse::ok(&answer))
    })
}
