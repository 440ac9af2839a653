//! `settings list|get|set`: the rows of the application's chat settings page, validated by its rules (contract:
//! operations.md). Rows that the service writes are not among them; `status` shows those.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;

use serde_json::json;

use super::{Database, Problem, json_of, say};
use crate::config::settings::{Rows, key};
use crate::config::{DEFAULT_HOST, DEFAULT_PORT, Variables, is_listen_host};
use crate::platform::exit_code;
use crate::platform::number::leading_integer;
use crate::platform::printable::printable;
use crate::store::operations::AuditEntry;

/// Longest retention in days: a century.
const MAX_DAYS: i64 = 36_500;
/// Characters that fit into `body_text`, a column of 64 KiB, if each takes one byte.
const MAX_MESSAGE_CHARS: i64 = 65_535;

/// The kind of a setting's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingKind {
    /// `0` or `1`.
    Switch,
    /// A whole number.
    Number {
        /// The smallest.
        least: i64,
        /// The greatest.
        most: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A listen host.
    Host,
}

/// What a value of this kind must be.
impl fmt::Display for SettingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingKind::Switch => f.write_str("must be 1 (on) or 0 (off)"),
            SettingKind::Number { least, most } => {
                write!(f, "must be a whole number from {least} to {most}")
            }
            SettingKind::Choice(words) => write!(f, "must be {}", words.join(" or ")),
            SettingKind::Host => f.write_str(
                "must be a host name, an IPv4 address or an IPv6 address in brackets, without scheme, port, path or \
                 blanks",
            ),
        }
    }
}

/// One setting, a row of the table.
pub struct Setting {
    /// Its name.
    pub key: &'static str,
    /// What it may be.
    pub kind: SettingKind,
    /// Its value if the table has no such row.
    pub default: &'static str,
    /// When a new value takes effect.
    takes: &'static str,
    /// The variable that overrides it.
    pub(crate) variable: Option<&'static str>,
    /// Its label in a form.
    pub label: &'static str,
    /// What it means.
    pub about: &'static str,
}

const NEXT_SUPERVISOR: &str = "the supervisor follows it with its next run";
const NEXT_START: &str = "it counts from the next start of the service: restart";

/// A switch that is on.
const SWITCH: Setting = Setting {
    key: "",
    kind: SettingKind::Switch,
    default: "1",
    takes: "a running service follows it within a second",
    variable: None,
    label: "",
    about: "",
};
const RETENTION: Setting = Setting {
    kind: SettingKind::Number {
        least: 1,
        most: MAX_DAYS,
    },
    default: "90",
    takes: "the next prune follows it",
    ..SWITCH
};

/// All of them, in the order of the application's page.
pub const ALL: [Setting; 10] = [
    Setting {
        key: key::CHAT_ENABLED,
        default: "0",
        label: "Internal chat",
        about: "whether there is an internal chat",
        ..SWITCH
    },
    Setting {
        key: key::CHANNEL_RETENTION_DAYS,
        label: "Keep channel messages",
        about: "days that a channel without its own retention keeps messages",
        ..RETENTION
    },
    Setting {
        key: key::DIRECT_RETENTION_DAYS,
        label: "Keep direct messages",
        about: "days that direct messages are kept",
        ..RETENTION
    },
    Setting {
        key: key::MAX_MESSAGE_LENGTH,
        kind: SettingKind::Number {
            least: 1,
            most: MAX_MESSAGE_CHARS,
        },
        default: "4000",
        label: "Longest message",
        about: "characters of the longest message",
        ..SWITCH
    },
    Setting {
        key: key::EXTERNAL_LINKS,
        label: "Links to other sites",
        about: "whether links to other sites can be clicked",
        ..SWITCH
    },
    Setting {
        key: key::WEBSOCKET_ENABLED,
        label: "WebSocket service",
        about: "whether this service is used",
        ..SWITCH
    },
    Setting {
        key: key::AUTOSTART,
        takes: NEXT_SUPERVISOR,
        label: "Start by itself",
        about: "whether the supervisor keeps this service running",
        ..SWITCH
    },
    Setting {
        key: key::MANAGEMENT_MODE,
        kind: SettingKind::Choice(&["cron", "external"]),
        default: "cron",
        takes: NEXT_SUPERVISOR,
        label: "Managed by",
        about: "what starts and stops this service: cron, or an external service manager",
        ..SWITCH
    },
    Setting {
        key: key::HOST,
        kind: SettingKind::Host,
        default: DEFAULT_HOST,
        takes: NEXT_START,
        variable: Some("CHAT_WEBSOCKET_HOST"),
        label: "Listen host",
        about: "listen host",
    },
    Setting {
        key: key::PORT,
        kind: SettingKind::Number {
            least: 1,
            most: 65_535,
        },
        default: "8090",
        takes: NEXT_START,
        variable: Some("CHAT_WEBSOCKET_PORT"),
        label: "Listen port",
        about: "listen port",
    },
];

const _: () = assert!(DEFAULT_PORT == 8090, "the default above");

/// Names of all settings, for help and completion.
pub(crate) fn keys() -> Vec<&'static str> {
    ALL.iter().map(|setting| setting.key).collect()
}

/// The setting of this name.
///
/// # Errors
/// There is none.
pub(crate) fn find(key: &str) -> Result<&'static Setting, Problem> {
    ALL.iter()
        .find(|setting| setting.key == key)
        .ok_or_else(|| {
            Problem::new(
                exit_code::USAGE,
                format!("there is no setting {key:?} here; settings list shows those there are"),
            )
        })
}

/// An old helpdesk lacks some rows, which this service updates but never inserts.
///
/// # Errors
/// There is no row of this name.
pub(crate) fn require(rows: &Rows, key: &str) -> Result<(), Problem> {
    if rows.contains(key) {
        return Ok(());
    }
    Err(Problem::new(
        exit_code::FAILED,
        format!("this install has no setting {key}; it needs Andrea Helpdesk 1.4.13 or later"),
    ))
}

impl Setting {
    /// The value in the table, or the default.
    pub(crate) fn stored<'a>(&self, rows: &'a Rows) -> &'a str {
        rows.text(self.key, self.default)
    }

    /// The effective value, and the origin of the variable if one overrides the table.
    fn counting(&self, rows: &Rows, variables: &Variables) -> (String, Option<String>) {
        let won = self.variable.and_then(|name| {
            // As in the PHP daemon, a host or port of "0" counts as unset.
            let value = variables.get(name).filter(|value| value != "0")?;
            Some((value, Some(variables.origin(name))))
        });
        won.unwrap_or_else(|| (self.stored(rows).to_owned(), None))
    }

    /// The value in the form in which it is stored; `None` if it is not of the setting's kind.
    pub(crate) fn checked(&self, value: &str) -> Option<String> {
        match self.kind {
            SettingKind::Switch => match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Some("1".to_owned()),
                "0" | "false" | "no" | "off" => Some("0".to_owned()),
                _ => None,
            },
            SettingKind::Number { least, most } => {
                let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
                let number = leading_integer(value);
                let fits = is_number && (least..=most).contains(&number);
                fits.then(|| number.to_string())
            }
            SettingKind::Choice(words) => words.contains(&value).then(|| value.to_owned()),
            SettingKind::Host => is_listen_host(value).then(|| value.to_owned()),
        }
    }

    /// The row of the audit log about a new value, with `from` as its origin.
    pub(crate) fn audit(&self, before: &str, after: &str, from: &str) -> AuditEntry {
        AuditEntry {
            action: "chat_websocket_settings_updated".to_owned(),
            subject_type: "chat_websocket",
            payload: json!({"ip": from, "key": self.key, "from": before, "to": after}).to_string(),
        }
    }
}

/// Writes all settings with their effective values, for people or as JSON.
///
/// # Errors
/// The database cannot be asked.
pub(crate) fn list(
    database: &mut Database,
    variables: &Variables,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let rows = database.run_again(|store| store.settings())?;
    let text = if as_json {
        let value = |setting: &Setting| (setting.key, setting.counting(&rows, variables).0);
        json_of(&ALL.iter().map(value).collect::<BTreeMap<_, _>>())
    } else {
        let width = ALL.iter().map(|one| one.key.len()).max().unwrap_or(0);
        let line = |setting: &Setting| {
            let (value, origin) = setting.counting(&rows, variables);
            let value = printable(&value);
            let stored = printable(setting.stored(&rows));
            let from = origin.map(|origin| format!("; from {origin}, the settings have {stored}"));
            format!(
                "{:width$}  {value:<10}  {}{}\n",
                setting.key,
                setting.about,
                from.unwrap_or_default()
            )
        };
        ALL.iter().map(line).collect()
    };
    say(out, &text)
}

/// Writes the effective value of one setting and nothing else, for scripts; `settings list` and `config` say where it
/// comes from.
///
/// # Errors
/// There is no such setting, or the database cannot be asked.
pub(crate) fn get(
    key: &str,
    database: &mut Database,
    variables: &Variables,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let setting = find(key)?;
    let rows = database.run_again(|store| store.settings())?;
    let (value, _) = setting.counting(&rows, variables);
    say(out, &format!("{}\n", printable(&value)))
}

/// Sets one setting, and says when that takes effect and whether one of `variables` overrides it.
///
/// # Errors
/// There is no such setting, the value is not of its kind, or the database cannot be asked.
pub(crate) fn set(
    key: &str,
    value: &str,
    database: &mut Database,
    variables: &Variables,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let setting = find(key)?;
    let value = setting.checked(value).ok_or_else(|| {
        let what = format!("{key} cannot be {value:?}; it {}", setting.kind);
        Problem::new(exit_code::USAGE, what)
    })?;
    let rows = database.run_again(|store| store.settings())?;
    require(&rows, key)?;
    let before = setting.stored(&rows).to_owned();
    if before != value {
        let audit = setting.audit(&before, &value, "cli");
        database.run(|store| store.change(&[(key, &value)], &audit))?;
    }
    let mut text = match before == value {
        true => format!("{key} is {value} already\n"),
        false => format!(
            "{key} = {value} (was {}); {}\n",
            printable(&before),
            setting.takes
        ),
    };
    if let (_, Some(origin)) = setting.counting(&rows, variables) {
        text.push_str(&format!("but {origin} wins over it\n"));
    }
    say(out, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_stored_in_one_form() {
        for (key, value, stored) in [
            ("chat_enabled", "on", "1"),
            ("chat_enabled", "False", "0"),
            ("chat_websocket_port", "08090", "8090"),
            ("chat_websocket_host", "[::1]", "[::1]"),
            ("chat_websocket_management_mode", "external", "external"),
        ] {
            let setting = find(key).expect(key);
            assert_eq!(setting.checked(value).as_deref(), Some(stored), "{key}");
        }
        for (key, value) in [
            ("chat_enabled", "2"),
            ("chat_enabled", ""),
            ("chat_websocket_port", "0"),
            ("chat_websocket_port", "65536"),
            ("chat_websocket_port", "-1"),
            ("chat_websocket_port", "80 "),
            ("chat_websocket_port", "99999999999999999999"),
            ("chat_websocket_host", "http://a"),
            ("chat_websocket_host", "a:1"),
            ("chat_websocket_host", " a"),
            ("chat_websocket_management_mode", "systemd"),
            ("chat_websocket_management_mode", "Cron"),
            ("chat_direct_retention_days", "0"),
            ("chat_max_message_length", "x"),
        ] {
            assert!(
                find(key).expect(key).checked(value).is_none(),
                "{key} {value:?}"
            );
        }
    }

    #[test]
    fn what_the_service_writes_itself_and_secrets_are_no_settings() {
        for key in [
            "chat_websocket_status",
            "chat_websocket_stop_requested",
            "push_vapid_private_key",
            "",
        ] {
            let problem = find(key).err().expect(key);
            assert_eq!(problem.code, exit_code::USAGE);
        }
    }

    #[test]
    fn every_default_may_be_set() {
        for setting in &ALL {
            let checked = setting.checked(setting.default);
            assert_eq!(checked.as_deref(), Some(setting.default), "{}", setting.key);
        }
    }
}
