//! What the subcommands ask of a database: requests to the supervisor, retention, and the queries of `check`. Every
//! statement of a prune is short on a table of any size: it reads a part of the primary key, and locks only a few rows by
//! their keys.

use std::collections::HashSet;

use super::Result;
use super::connection::DatabaseConnection;
use super::row::{NOTHING, Row, Value, marks};
use crate::model::{ChannelId, MessageId};

/// One write of every kind that the service makes; none touches a row.
const WRITES: [(&str, &str); 9] = [
    (
        "UPDATE settings",
        "UPDATE settings SET value = value WHERE 1 = 0",
    ),
    (
        "INSERT INTO chat_messages",
        "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
         body_rendered_html, created_at) SELECT message_scope, channel_id, thread_id, sender_agent_id, body_text, \
         body_rendered_html, created_at FROM chat_messages WHERE 1 = 0",
    ),
    (
        "UPDATE chat_messages",
        "UPDATE chat_messages SET deleted_at = NULL, deleted_by_agent_id = NULL WHERE 1 = 0",
    ),
    (
        "INSERT INTO chat_message_mentions",
        "INSERT INTO chat_message_mentions (message_id, mentioned_agent_id) \
         SELECT message_id, mentioned_agent_id FROM chat_message_mentions WHERE 1 = 0",
    ),
    (
        "UPDATE chat_threads",
        "UPDATE chat_threads SET last_message_at = NOW() WHERE 1 = 0",
    ),
    (
        "INSERT INTO chat_message_reads",
        "INSERT INTO chat_message_reads (agent_id, message_scope, channel_id, thread_id, last_read_message_id) \
         SELECT agent_id, message_scope, channel_id, thread_id, last_read_message_id FROM chat_message_reads \
         WHERE 1 = 0 ON DUPLICATE KEY UPDATE last_read_at = NOW()",
    ),
    (
        "INSERT INTO agent_notifications",
        "INSERT IGNORE INTO agent_notifications (agent_id, type, title) \
         SELECT agent_id, type, title FROM agent_notifications WHERE 1 = 0",
    ),
    (
        "DELETE FROM agent_notifications",
        "DELETE FROM agent_notifications WHERE 1 = 0",
    ),
    (
        "INSERT INTO audit_log",
        "INSERT INTO audit_log (actor_type, action, subject_type, subject_id) \
         SELECT actor_type, action, subject_type, subject_id FROM audit_log WHERE 1 = 0",
    ),
];

/// A new row of `audit_log`, written by the system (`actor_type` is `system`), about no particular row (`subject_id` is
/// 0).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What was done, at most 80 characters.
    pub action: String,
    /// To what kind of thing, at most 40 characters.
    pub subject_type: &'static str,
    /// JSON about it.
    pub payload: String,
}

/// A channel and for how long it keeps its messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRetention {
    /// The channel, active or not.
    pub id: ChannelId,
    /// Its name.
    pub name: String,
    /// Its own number of days; `None` where the setting applies.
    pub days: Option<u64>,
}

/// A message that is not marked deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldMessage {
    /// Key of the row.
    pub id: MessageId,
    /// Its channel; `None` for a direct message.
    pub channel: Option<ChannelId>,
    /// By the database's clock.
    pub created_at: String,
}

/// A part of all messages, by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Its messages that are old enough and not marked deleted.
    pub messages: Vec<OldMessage>,
    /// The greatest id of the part, of a deleted message too; `None` where nothing is left.
    pub end: Option<MessageId>,
}

/// Limits of this account, and how the connection is encrypted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Most connections at once; `None` without a limit.
    pub connections: Option<u64>,
    /// Most bytes of a statement.
    pub packet: Option<u64>,
    /// The cipher; `None` if not encrypted.
    pub cipher: Option<String>,
}

impl DatabaseConnection {
    /// What the server calls itself, with its version.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn server_version(&mut self) -> Result<String> {
        const OPERATION: &str = "ask for the server's version";
        let version = self.first(OPERATION, "SELECT VERSION()", NOTHING, Row::take)?;
        Ok(version.unwrap_or_default())
    }

    /// Limits of this account, and how the connection is encrypted.
    pub fn line(&mut self) -> Result<ConnectionInfo> {
        self.engine.line()
    }

    /// Columns that cannot store every message unaltered, and why.
    pub fn narrow_columns(&mut self) -> Result<Vec<String>> {
        let narrow = self.rows(
            "look at the columns of messages",
            "SELECT CAST(table_name AS CHAR) AS one, CAST(column_name AS CHAR) AS two, \
             CAST(COALESCE(character_set_name, 'utf8mb4') AS CHAR) AS three, \
             CAST(COALESCE(character_octet_length, 65535) AS UNSIGNED) AS four FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND (table_name = 'chat_messages' AND column_name IN ('body_text', 'body_rendered_html') \
             OR table_name = 'agent_notifications' AND column_name IN ('title', 'body', 'data_json'))",
            NOTHING,
            |row| {
                let (table, column): (String, String) = (row.take()?, row.take()?);
                let (charset, bytes): (String, u64) = (row.take()?, row.take()?);
                Ok(if charset != "utf8mb4" {
                    Some(format!("{table}.{column} has the character set {charset}"))
                } else if table == "chat_messages" && bytes < 65_535 {
                    Some(format!("{table}.{column} holds {bytes} bytes"))
                } else {
                    None
                })
            },
        )?;
        Ok(narrow.into_iter().flatten().collect())
    }

    /// Seconds since 1970 by the server's clock.
    pub fn server_epoch(&mut self) -> Result<u64> {
        let sql = "SELECT CAST(UNIX_TIMESTAMP() AS UNSIGNED)";
        let seconds = self.first("ask for the server's time", sql, NOTHING, Row::take)?;
        Ok(seconds.unwrap_or(0))
    }

    /// The columns that these tables have, as (table, column).
    pub fn columns(&mut self, tables: &[&str]) -> Result<HashSet<(String, String)>> {
        // MySQL 8 gives these columns names in capitals unless they are renamed.
        let sql = format!(
            "SELECT CAST(table_name AS CHAR) AS one, CAST(column_name AS CHAR) AS two \
             FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name IN ({})",
            marks(tables.len())
        );
        let tables = tables.iter().copied();
        let found = self.rows("look at the tables", &sql, tables, |row| {
            Ok((row.take()?, row.take()?))
        })?;
        Ok(found.into_iter().collect())
    }

    /// Tries every kind of write that the service makes, without touching a row; returns the refused ones, and why.
    pub fn refused_writes(&mut self) -> Result<Vec<(&'static str, String)>> {
        let mut refused = Vec::new();
        for (what, sql) in WRITES {
            // Not as a write, whose error would leave the server's words out.
            match self.rows("try a write", sql, NOTHING, |_| Ok(())) {
                Err(error) if error.failure.is_lasting() => {
                    refused.push((what, error.cause.to_string()));
                }
                tried => drop(tried?),
            }
        }
        Ok(refused)
    }

    /// Sets rows of `settings` that exist and writes what was done into the audit log: both or neither.
    pub fn change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()> {
        self.begin()?;
        let written = self.write_change(settings, audit);
        if written.is_err() {
            // The first failure is the one to report; a connection that cannot roll back is lost anyhow.
            let _ = self.rollback();
        }
        written.and(self.end_posting())
    }

    fn write_change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()> {
        if !settings.is_empty() {
            self.update_settings(settings)?;
        }
        self.execute(
            "write the audit log",
            "INSERT INTO audit_log (actor_type, actor_id, action, subject_type, subject_id, payload) \
             VALUES ('system', NULL, ?, ?, 0, ?)",
            [audit.action.as_str(), audit.subject_type, audit.payload.as_str()],
        )?;
        self.commit()
    }

    /// All channels.
    pub fn channel_retentions(&mut self) -> Result<Vec<ChannelRetention>> {
        self.rows(
            "read how long channels keep their messages",
            "SELECT id, name, retention_days FROM chat_channels ORDER BY id",
            NOTHING,
            |row| {
                Ok(ChannelRetention {
                    id: row.take()?,
                    name: row.take()?,
                    days: row.take()?,
                })
            },
        )
    }

    /// The time so many days ago by the database's clock; `None` if it has no such time.
    pub fn days_ago(&mut self, days: u64) -> Result<Option<String>> {
        let sql = "SELECT CAST(NOW() - INTERVAL ? DAY AS CHAR)";
        let time = self.first("ask for a time in the past", sql, [days], Row::take)?;
        Ok(time.flatten())
    }

    /// The smallest and the greatest id of a message, if there is any.
    pub fn message_ids(&mut self) -> Result<Option<(MessageId, MessageId)>> {
        let ids = self.first(
            "look for the oldest and the newest message",
            "SELECT (SELECT MIN(id) FROM chat_messages), (SELECT MAX(id) FROM chat_messages)",
            NOTHING,
            |row| Ok(row.take::<Option<_>>()?.zip(row.take()?)),
        )?;
        Ok(ids.flatten())
    }

    /// Of the next `rows` messages above `above`, those created before `before` that are not marked deleted. Locks nothing.
    pub fn old_messages(&mut self, above: MessageId, rows: u32, before: &str) -> Result<Window> {
        const OPERATION: &str = "look for old messages";
        // A number of rows, not of ids: gaps between ids may be of any size.
        let end = self.first(
            OPERATION,
            "SELECT MAX(part.id) FROM (SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?) part",
            [above.0, rows.into()],
            Row::take,
        )?;
        let Some(end): Option<MessageId> = end.flatten() else {
            return Ok(Window::default());
        };
        let messages = self.rows(
            OPERATION,
            "SELECT id, channel_id, CAST(created_at AS CHAR) FROM chat_messages \
             WHERE id > ? AND id <= ? AND deleted_at IS NULL AND created_at < ? ORDER BY id",
            [above.into(), end.into(), Value::from(before)],
            |row| {
                Ok(OldMessage {
                    id: row.take()?,
                    channel: row.take()?,
                    created_at: row.take()?,
                })
            },
        )?;
        Ok(Window {
            messages,
            end: Some(end),
        })
    }

    /// Marks messages deleted, now and without an agent; returns how many were not marked yet.
    pub fn mark_deleted(&mut self, messages: &[MessageId]) -> Result<u64> {
        if messages.is_empty() {
            return Ok(0);
        }
        let sql = format!(
            "UPDATE chat_messages SET deleted_at = NOW(), deleted_by_agent_id = NULL \
             WHERE id IN ({}) AND deleted_at IS NULL",
            marks(messages.len())
        );
        self.execute("mark old messages deleted", &sql, messages)
    }
}
