//! The rows of table `settings` that the service uses, with the types that the application gives them (contract:
//! database.md, "Settings"). Pure; the store reads and writes them.

use crate::platform::number::leading_integer;
use std::collections::HashMap;

use crate::config::limits::Limits;
use crate::platform::printable::without_password;

/// Names of the rows.
pub mod key {
    /// Whether there is an internal chat.
    pub const CHAT_ENABLED: &str = "chat_enabled";
    /// Whether this service is used.
    pub const WEBSOCKET_ENABLED: &str = "chat_websocket_enabled";
    /// Whether the supervisor keeps it running.
    pub const AUTOSTART: &str = "chat_websocket_autostart";
    /// Who starts and stops it: `cron` or `external`.
    pub const MANAGEMENT_MODE: &str = "chat_websocket_management_mode";
    /// Listen host.
    pub const HOST: &str = "chat_websocket_host";
    /// Listen port.
    pub const PORT: &str = "chat_websocket_port";
    /// Characters of the longest message.
    pub const MAX_MESSAGE_LENGTH: &str = "chat_max_message_length";
    /// Whether links to other sites can be clicked.
    pub const EXTERNAL_LINKS: &str = "chat_allow_external_links";
    /// Days that a channel without its own retention keeps messages.
    pub const CHANNEL_RETENTION_DAYS: &str = "chat_default_channel_retention_days";
    /// Days that direct messages are kept.
    pub const DIRECT_RETENTION_DAYS: &str = "chat_direct_retention_days";
    /// The helpdesk's address, one of the allowed origins.
    pub const APP_URL: &str = "app_url";
    /// `running`, `stopped`, `failed` or `stale`.
    pub const STATUS: &str = "chat_websocket_status";
    /// Process id in decimal, empty while stopped.
    pub const PID: &str = "chat_websocket_pid";
    /// Heartbeat, local time of `APP_TIMEZONE`.
    pub const LAST_SEEN_AT: &str = "chat_websocket_last_seen_at";
    /// Start, local time of `APP_TIMEZONE`.
    pub const LAST_STARTED_AT: &str = "chat_websocket_last_started_at";
    /// `1` asks the daemon to stop.
    pub const STOP_REQUESTED: &str = "chat_websocket_stop_requested";
    /// `1` asks the supervisor for a restart.
    pub const RESTART_REQUESTED: &str = "chat_websocket_restart_requested";
    /// When a push failed last, local time of `APP_TIMEZONE`.
    pub const PUSH_LAST_SEND_FAILED_AT: &str = "push_last_send_failed_at";
    /// Why, at most 500 characters.
    pub const PUSH_LAST_SEND_FAILURE: &str = "push_last_send_failure";
}

/// Largest incoming message in bytes, whatever `chat_max_message_length` says: bounds the memory of a connection.
const MESSAGE_BYTES_CEILING: u64 = 16 * 1024 * 1024;
/// Smallest limit on an incoming message, in bytes: other events must fit too.
const MESSAGE_BYTES_FLOOR: u64 = 64 * 1024;

/// Rows by `key_name`; `None` is SQL NULL.
#[derive(Clone, Debug, Default)]
pub struct Rows(HashMap<String, Option<String>>);

impl Rows {
    /// The rows as read from the table.
    pub fn new(rows: impl IntoIterator<Item = (String, Option<String>)>) -> Self {
        Rows(rows.into_iter().collect())
    }

    /// These rows, some with other values.
    #[must_use]
    pub(super) fn with(&self, others: &[(&str, String)]) -> Self {
        let mut rows = self.clone();
        let others = others.iter();
        rows.0
            .extend(others.map(|(key, value)| ((*key).to_owned(), Some(value.clone()))));
        rows
    }

    /// Whether there is such a row.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The text of a row; `default` if there is no such row, empty for NULL.
    pub fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        match self.0.get(key) {
            None => default,
            Some(None) => "",
            Some(Some(value)) => value,
        }
    }

    /// The leading integer of a row; `default` if there is no such row, 0 if it begins with no number.
    pub fn integer(&self, key: &str, default: i64) -> i64 {
        match self.0.get(key) {
            None => default,
            Some(value) => leading_integer(value.as_deref().unwrap_or("")),
        }
    }

    /// Whether the leading integer of a row is not 0.
    pub fn boolean(&self, key: &str, default: bool) -> bool {
        self.integer(key, i64::from(default)) != 0
    }
}

/// The settings that a running service follows; read again every second, and at once on SIGHUP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `chat_enabled`: whether agents may post, type or mark as read.
    pub chat_enabled: bool,
    /// `chat_websocket_enabled`: whether new sockets are accepted.
    pub websocket_enabled: bool,
    /// `chat_max_message_length`, in characters, at least 1.
    pub max_message_chars: u64,
    /// `chat_allow_external_links`.
    pub external_links: bool,
    /// `app_url`: one of the allowed origins.
    pub app_url: String,
}

impl Settings {
    /// From the rows of the table; a missing row means what a fresh install has.
    pub fn from_rows(rows: &Rows) -> Self {
        let chars = rows.integer(key::MAX_MESSAGE_LENGTH, 4000).max(1);
        Settings {
            chat_enabled: rows.boolean(key::CHAT_ENABLED, false),
            websocket_enabled: rows.boolean(key::WEBSOCKET_ENABLED, true),
            max_message_chars: chars.unsigned_abs(),
            external_links: rows.boolean(key::EXTERNAL_LINKS, true),
            app_url: rows.text(key::APP_URL, "").to_owned(),
        }
    }

    /// What differs from `new`, for the log: `chat_enabled 1 → 0, …`.
    pub fn changes(&self, new: &Settings) -> String {
        let flag = |is_on| u8::from(is_on).to_string();
        let values = |one: &Settings| {
            [
                (key::CHAT_ENABLED, flag(one.chat_enabled)),
                (key::WEBSOCKET_ENABLED, flag(one.websocket_enabled)),
                (key::MAX_MESSAGE_LENGTH, one.max_message_chars.to_string()),
                (key::EXTERNAL_LINKS, flag(one.external_links)),
                (key::APP_URL, without_password(&one.app_url)),
            ]
        };
        let both = values(self).into_iter().zip(values(new));
        let changed = both.filter(|((_, old), (_, new))| old != new);
        let texts: Vec<String> = changed
            .map(|((key, old), (_, new))| format!("{key} {old} → {new}"))
            .collect();
        texts.join(", ")
    }

    /// Largest incoming WebSocket message in bytes: as configured, or as these settings need it.
    pub fn max_message_bytes(&self, limits: &Limits) -> usize {
        limits.message_bytes.unwrap_or(self.max_frame_bytes())
    }

    /// Largest incoming WebSocket message that these settings need, in bytes: 12 bytes a character (an emoji as two `\u`
    /// escapes) plus 4 KiB for the other members, at least 64 KiB and at most 16 MiB.
    pub fn max_frame_bytes(&self) -> usize {
        let needed = self
            .max_message_chars
            .saturating_mul(12)
            .saturating_add(4096);
        needed.clamp(MESSAGE_BYTES_FLOOR, MESSAGE_BYTES_CEILING) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leading_integer_is_found_as_the_application_finds_it() {
        for (text, value) in [
            ("1", 1),
            (" 1", 1),
            ("01", 1),
            ("1abc", 1),
            ("1.9", 1),
            ("-1", -1),
            ("+5", 5),
            ("", 0),
            ("true", 0),
            ("0.9", 0),
            ("99999999999999999999", i64::MAX),
        ] {
            assert_eq!(leading_integer(text), value, "{text:?}");
        }
    }

    #[test]
    fn a_missing_row_is_the_default_and_null_is_empty() {
        let rows = Rows::new([
            ("chat_enabled".to_owned(), None),
            ("chat_max_message_length".to_owned(), Some("abc".to_owned())),
        ]);
        let settings = Settings::from_rows(&rows);
        assert!(!settings.chat_enabled);
        assert!(settings.websocket_enabled);
        assert_eq!(settings.max_message_chars, 1);
        assert_eq!(
            Settings::from_rows(&Rows::default()).max_message_chars,
            4000
        );
    }

    #[test]
    fn a_frame_may_hold_the_longest_message_in_its_longest_form() {
        let of = |chars: &str| {
            let rows = Rows::new([("chat_max_message_length".to_owned(), Some(chars.to_owned()))]);
            Settings::from_rows(&rows).max_frame_bytes()
        };
        assert_eq!(of("4000"), 65536);
        assert_eq!(of("70000"), 844_096);
        assert_eq!(of("9999999999"), 16 << 20);
    }
}
