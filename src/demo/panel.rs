//! The service panel's server side: how the service is, its settings, and the administrator's buttons (contract:
//! operations.md, "Start, stop, restart, status, settings"). The buttons only set flags: whoever supervises the
//! service acts on them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::http::Response;
use super::site::{DemoSite, agent_of};
use crate::clock::AppClock;
use crate::config::is_listen_host;
use crate::limits::HEARTBEAT_STALE_SECONDS;
use crate::model::AgentId;
use crate::pid_file::is_live_daemon;
use crate::settings::{Rows, key};
use crate::store::Connection;

/// Rows of the audit log that the panel shows.
const AUDIT_ROWS: usize = 8;
/// Beyond a hundred years a number of days is a slip of the hand.
const MAX_DAYS: u64 = 36_500;
/// What `body_text` holds.
const MAX_MESSAGE_CHARS: u64 = 65_535;

/// What a setting may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `0` or `1`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number within these bounds.
    Integer(u64, u64),
    /// A listen host.
    Host,
}

struct Setting {
    key: &'static str,
    label: &'static str,
    note: &'static str,
    default: &'static str,
    kind: Kind,
}

const MODE: &str = "chat_websocket_management_mode";
const EXTERNAL: &str = "external";

const SETTINGS: [Setting; 10] = [
    Setting {
        key: "chat_enabled",
        label: "Internal chat",
        note: "Off: nobody can write, and the supervisor stops the service",
        default: "0",
        kind: Kind::Boolean,
    },
    Setting {
        key: "chat_websocket_enabled",
        label: "WebSocket service",
        note: "Off: no new connections",
        default: "1",
        kind: Kind::Boolean,
    },
    Setting {
        key: "chat_websocket_autostart",
        label: "Start by itself",
        note: "Off: the supervisor does not start it",
        default: "1",
        kind: Kind::Boolean,
    },
    Setting {
        key: MODE,
        label: "Managed by",
        note: "cron: the supervisor; external: systemd or the like",
        default: "cron",
        kind: Kind::Choice(&["cron", EXTERNAL]),
    },
    Setting {
        key: "chat_websocket_host",
        label: "Listen host",
        note: "For an install; the demo keeps its own address",
        default: "127.0.0.1",
        kind: Kind::Host,
    },
    Setting {
        key: "chat_websocket_port",
        label: "Listen port",
        note: "For an install, 1 to 65535",
        default: "8090",
        kind: Kind::Integer(1, 65_535),
    },
    Setting {
        key: "chat_max_message_length",
        label: "Longest message",
        note: "In characters",
        default: "4000",
        kind: Kind::Integer(1, MAX_MESSAGE_CHARS),
    },
    Setting {
        key: "chat_allow_external_links",
        label: "Links to other sites",
        note: "Off: addresses stay text",
        default: "1",
        kind: Kind::Boolean,
    },
    Setting {
        key: "chat_default_channel_retention_days",
        label: "Keep channel messages",
        note: "In days",
        default: "90",
        kind: Kind::Integer(1, MAX_DAYS),
    },
    Setting {
        key: "chat_direct_retention_days",
        label: "Keep direct messages",
        note: "In days",
        default: "90",
        kind: Kind::Integer(1, MAX_DAYS),
    },
];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "boolean",
            Kind::Choice(_) => "choice",
            Kind::Integer(..) => "integer",
            Kind::Host => "text",
        }
    }

    /// What is wrong with a value.
    fn fault(self, value: &str) -> Option<String> {
        match self {
            Kind::Boolean if !matches!(value, "0" | "1") => Some("This is either 0 or 1.".to_owned()),
            Kind::Choice(words) if !words.contains(&value) => {
                Some(format!("This must be {}.", words.join(" or ")))
            }
            Kind::Integer(least, most) => {
                let number = value.parse().ok().filter(|number| {
                    (least..=most).contains(number) && value.bytes().all(|b| b.is_ascii_digit())
                });
                match number {
                    Some(_) => None,
                    None => Some(format!("This must be a whole number from {least} to {most}.")),
                }
            }
            Kind::Host if !is_listen_host(value) => Some(
                "This must be a host name, an IPv4 address or an IPv6 address in brackets, without scheme, port or path."
                    .to_owned(),
            ),
            Kind::Boolean | Kind::Choice(_) | Kind::Host => None,
        }
    }
}

/// One of the administrator's buttons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// The service is to run.
    Start,
    /// It is to end, and to stay so.
    Stop,
    /// It is to end and to start again.
    Restart,
}

impl Button {
    /// The button behind a path.
    pub fn of_path(path: &str) -> Option<Self> {
        match path.strip_prefix("/demo/service/")? {
            "start" => Some(Button::Start),
            "stop" => Some(Button::Stop),
            "restart" => Some(Button::Restart),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Button::Start => "start",
            Button::Stop => "stop",
            Button::Restart => "restart",
        }
    }

    /// The flags that it sets in `cron` mode.
    fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Button::Start => &[
                ("chat_websocket_enabled", "1"),
                ("chat_websocket_autostart", "1"),
                (key::STOP_REQUESTED, "0"),
            ],
            Button::Stop => &[
                (key::STOP_REQUESTED, "1"),
                ("chat_websocket_autostart", "0"),
            ],
            Button::Restart => &[(key::RESTART_REQUESTED, "1")],
        }
    }
}

/// Whether a service manager has the service, by the settings; any other value means the supervisor.
fn is_external(rows: &Rows) -> bool {
    rows.text(MODE, "cron") == EXTERNAL
}

/// What the panel shows.
pub fn status(site: &DemoSite) -> Response {
    site.with_database(|database| {
        let rows = database.settings()?;
        let recorded = rows.text(key::STATUS, "stopped");
        let pid = u32::try_from(rows.integer(key::PID, 0)).ok().filter(|pid| *pid > 0);
        let age = AppClock::utc().seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        let is_fresh = age.is_some_and(|age| age <= HEARTBEAT_STALE_SECONDS);
        let effective = match recorded {
            "running" if !is_fresh || pid.is_none() => "stale",
            recorded => recorded,
        };
        let sockets = site.sockets();
        let requested = [("stop", key::STOP_REQUESTED), ("restart", key::RESTART_REQUESTED)];
        Ok(Response::json("200 OK", &json!({
            "mode": if is_external(&rows) { EXTERNAL } else { "cron" },
            "recorded_status": recorded,
            "effective_status": effective,
            "pid": pid,
            "pid_alive": pid.is_some_and(|pid| pid == std::process::id() || is_live_daemon(pid)),
            "heartbeat_age": age,
            "started_at": rows.text(key::LAST_STARTED_AT, ""),
            "address": site.address(),
            "connections": sockets.connections,
            "online_agents": sockets.online_agents,
            "requested": requested
                .iter()
                .filter(|(_, key)| rows.boolean(key, false))
                .map(|(word, _)| word)
                .collect::<Vec<_>>(),
            "settings": SETTINGS.iter().map(|setting| described(setting, &rows)).collect::<Vec<_>>(),
            "audit": database.service_audit(AUDIT_ROWS)?.iter().map(|row| json!({
                "action": row.action,
                "created_at": row.created_at,
            })).collect::<Vec<_>>(),
        })))
    })
}

fn described(setting: &Setting, rows: &Rows) -> Value {
    let value = match setting.kind {
        Kind::Boolean => i64::from(rows.boolean(setting.key, setting.default == "1")).to_string(),
        Kind::Integer(..) => rows
            .integer(setting.key, setting.default.parse().unwrap_or(0))
            .to_string(),
        Kind::Choice(_) | Kind::Host => rows.text(setting.key, setting.default).to_owned(),
    };
    let choices = match setting.kind {
        Kind::Choice(words) => words,
        _ => &[],
    };
    json!({
        "key": setting.key,
        "label": setting.label,
        "note": setting.note,
        "kind": setting.kind.name(),
        "choices": choices,
        "value": value,
    })
}

/// Sets settings, all or none of them.
pub fn set(site: &DemoSite, body: &[u8]) -> Response {
    #[derive(Deserialize)]
    struct Body {
        values: BTreeMap<String, String>,
    }
    let Ok(Body { values }) = serde_json::from_slice(body) else {
        return Response::refusal("400 Bad Request", "which settings?");
    };
    let mut faults = BTreeMap::new();
    let mut rows = Vec::new();
    for (name, value) in &values {
        let fault = match SETTINGS.iter().find(|setting| setting.key == name) {
            None => Some("There is no such setting here.".to_owned()),
            Some(setting) => {
                rows.push((setting.key, value.as_str()));
                setting.kind.fault(value)
            }
        };
        if let Some(fault) = fault {
            faults.insert(name, fault);
        }
    }
    if !faults.is_empty() {
        let answer = json!({ "error": "some values cannot be used", "errors": faults });
        return Response::json("422 Unprocessable Content", &answer);
    }
    site.with_database(|database| {
        database.update_settings(&rows)?;
        Ok(Response::json(
            "200 OK",
            &json!({ "saved": values.keys().collect::<Vec<_>>() }),
        ))
    })
}

/// What a button does.
pub fn press(site: &DemoSite, button: Button, body: &[u8]) -> Response {
    let Some(agent) = agent_of(body) else {
        return Response::refusal("400 Bad Request", "which agent?");
    };
    site.with_database(|database| {
        if database.active_agent(agent)?.is_none() {
            return Ok(Response::refusal("404 Not Found", "there is no such agent"));
        }
        let external = is_external(&database.settings()?);
        let (mode, ending) = if external { (EXTERNAL, "_external") } else { ("cron", "") };
        if !external {
            database.update_settings(button.flags())?;
        }
        let word = button.word();
        let action = format!("chat_websocket_{word}_requested{ending}");
        let payload = json!({ "ip": "127.0.0.1", "mode": mode });
        database.insert_audit(AgentId(agent.0), &action, &payload.to_string())?;
        let message = match (external, button) {
            (true, _) => format!(
                "The service is managed externally: use the service manager to {word} it. Here that is the terminal in \
                 which the demo runs."
            ),
            (false, Button::Start) => "Start requested.".to_owned(),
            (false, Button::Stop) => "Stop requested. It stays stopped until it is started again.".to_owned(),
            (false, Button::Restart) => "Restart requested.".to_owned(),
        };
        Ok(Response::json("200 OK", &json!({ "mode": mode, "done": !external, "message": message })))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(key: &str, value: &str) -> Option<String> {
        let setting = SETTINGS.iter().find(|setting| setting.key == key);
        setting.expect("known").kind.fault(value)
    }

    #[test]
    fn values_are_checked_as_the_application_checks_them() {
        for (key, good, bad) in [
            ("chat_enabled", &["0", "1"][..], &["", "2", "on", "01"][..]),
            (MODE, &["cron", "external"], &["", "systemd", "Cron"]),
            (
                "chat_websocket_host",
                &["127.0.0.1", "localhost", "[::1]"],
                &["", "::1", "http://a", "a:1", "a b", "[::1]:80"],
            ),
            (
                "chat_websocket_port",
                &["1", "8090", "65535"],
                &["", "0", "65536", "+80", "8090 ", "8e3", "-1"],
            ),
            ("chat_max_message_length", &["1", "4000"], &["0", "x"]),
        ] {
            for value in good {
                assert_eq!(fault(key, value), None, "{key} {value:?}");
            }
            for value in bad {
                assert!(fault(key, value).is_some(), "{key} {value:?}");
            }
        }
    }

    #[test]
    fn only_three_paths_are_buttons() {
        assert_eq!(Button::of_path("/demo/service/stop"), Some(Button::Stop));
        for path in [
            "/demo/service/",
            "/demo/service/kill",
            "/demo/service/stop/",
            "/stop",
        ] {
            assert_eq!(Button::of_path(path), None, "{path}");
        }
    }
}
