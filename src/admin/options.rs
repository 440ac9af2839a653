//! `config`: every option with its effective value and where it comes from. Secrets are never shown.

use std::io::Write;

use serde::Serialize;

use super::{Problem, json_of, say, settings};
use crate::config::Variables;
use crate::config::options::{OPTIONS, Spec, Topic};
use crate::config::settings::Rows;
use crate::platform::printable::{HIDDEN, printable, without_password};

/// One option with its effective value.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Entry {
    /// The variable or the setting.
    pub name: &'static str,
    /// Its value; `***` for a secret, empty if it is not set.
    pub value: String,
    /// `option`, `environment`, `env_file`, `setting` or `default`.
    pub source: &'static str,
}

/// All options; without `rows` the settings are left out.
pub(crate) fn look(variables: &Variables, rows: Option<&Rows>) -> Vec<Entry> {
    let shown = OPTIONS.iter().filter(|spec| spec.topic != Topic::Retired);
    let of_variables = shown.map(|spec| of_variable(spec, variables, rows));
    let of_settings = rows.into_iter().flat_map(|rows| {
        // Settings that a variable can override are listed under that variable.
        let own = settings::ALL.iter().filter(|one| one.variable.is_none());
        own.map(|setting| Entry {
            name: setting.key,
            value: setting.stored(rows).to_owned(),
            source: if rows.contains(setting.key) {
                "setting"
            } else {
                "default"
            },
        })
    });
    of_variables.chain(of_settings).collect()
}

fn of_variable(spec: &Spec, variables: &Variables, rows: Option<&Rows>) -> Entry {
    let (name, default) = (spec.name, spec.default);
    // As in the PHP daemon, a host or port of "0" counts as unset, except as an option.
    let of_listener = settings::ALL.iter().find(|one| one.variable == Some(name));
    let origin = variables.origin(name);
    let value = variables
        .get(name)
        .filter(|value| of_listener.is_none() || value != "0" || origin.starts_with("--"));
    let (value, source) = match (value, of_listener, rows) {
        (Some(value), ..) if origin.starts_with("--") => (value, "option"),
        (Some(value), ..) if origin.starts_with("the environment") => (value, "environment"),
        (Some(value), ..) => (value, "env_file"),
        (None, Some(setting), Some(rows)) if rows.contains(setting.key) => {
            (setting.stored(rows).to_owned(), "setting")
        }
        (None, ..) if name == "DB_SSL_MODE" && variables.get("DB_SSL_CA").is_some() => {
            ("verify-identity".to_owned(), "default")
        }
        (None, ..) => (default.to_owned(), "default"),
    };
    let value = match spec.is_secret && !value.is_empty() {
        true => HIDDEN.to_owned(),
        false => without_password(&value),
    };
    Entry {
        name,
        value,
        source,
    }
}

/// Writes the options for people, or as a JSON array.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn write(entries: &[Entry], as_json: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let text = if as_json {
        json_of(&entries)
    } else {
        let width = entries.iter().map(|one| one.name.len()).max().unwrap_or(0);
        let line = |one: &Entry| {
            let value = printable(&one.value);
            format!("{:width$}  {:11}  {value}\n", one.name, one.source)
        };
        entries.iter().map(line).collect()
    };
    say(out, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d26_the_value_that_counts_is_shown_with_its_source_and_no_secret() {
        let mut variables = Variables::default();
        variables.set_option("CHAT_WEBSOCKET_PORT", "--port", Some("0".to_owned()));
        for (name, value) in [
            ("JWT_SECRET", "a-secret"),
            ("DB_PASSWORD", "a-secret"),
            ("CHAT_BUS_URL", "redis://:a-secret@host/"),
            ("APP_URL", "https://me:a-secret@desk.example/x"),
        ] {
            variables.set_option(name, "--x", Some(value.to_owned()));
        }
        let rows = Rows::new([
            (
                "chat_websocket_host".to_owned(),
                Some("192.0.2.1".to_owned()),
            ),
            ("chat_websocket_port".to_owned(), Some("9".to_owned())),
            ("chat_enabled".to_owned(), Some("1".to_owned())),
        ]);
        let entries = look(&variables, Some(&rows));
        let of = |name: &str| {
            let entry = entries.iter().find(|one| one.name == name).expect(name);
            (entry.value.as_str(), entry.source)
        };
        assert_eq!(of("CHAT_WEBSOCKET_PORT"), ("0", "option"));
        assert_eq!(of("CHAT_WEBSOCKET_HOST"), ("192.0.2.1", "setting"));
        assert_eq!(of("chat_enabled"), ("1", "setting"));
        assert_eq!(of("chat_websocket_enabled"), ("1", "default"));
        assert_eq!(of("DB_HOST"), ("localhost", "default"));
        assert_eq!(of("APP_URL").0, "https://***@desk.example/x");
        for name in ["JWT_SECRET", "DB_PASSWORD", "CHAT_BUS_URL"] {
            assert_eq!(of(name).0, HIDDEN);
        }
        let mut shown = Vec::new();
        write(&entries, false, &mut shown).expect("text");
        write(&entries, true, &mut shown).expect("JSON");
        assert!(!String::from_utf8_lossy(&shown).contains("a-secret"));
    }
}
