//! The subcommands' part of the store over MySQL or MariaDB. Every statement of a prune is short on a table of any
//! size: it reads a part of the primary key, and locks only a few rows by their keys.

use std::collections::HashSet;

use mysql::Value;
use mysql::prelude::Queryable;

use super::{Doing, MysqlConnection, columns, failed, ids, marks};
use crate::model::{ChannelId, MessageId};
use crate::store::operations::{
    AuditEntry, ChannelRetention, ConnectionInfo, OldMessage, Operations, Window,
};
use crate::store::{DatabaseConnection, Failure, Result};

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

impl Operations for MysqlConnection {
    fn server_version(&mut self) -> Result<String> {
        self.one_text("ask for the server's version", "SELECT VERSION()")
    }

    fn line(&mut self) -> Result<ConnectionInfo> {
        const OPERATION: &str = "ask what the server allows";
        let rows = self.rows(
            OPERATION,
            "SELECT CAST(@@max_user_connections AS UNSIGNED), CAST(@@global.max_connections AS UNSIGNED)",
            (),
        )?;
        let limits = rows.into_iter().next().map(|row| columns(row, OPERATION));
        let (of_account, of_all): (u64, u64) = limits.transpose()?.unwrap_or_default();
        let cipher = self.rows(OPERATION, "SHOW SESSION STATUS LIKE 'Ssl_cipher'", ())?;
        let cipher = cipher.into_iter().next().map(|row| columns(row, OPERATION));
        let (_, cipher): (String, String) = cipher.transpose()?.unwrap_or_default();
        let limits = [of_account, of_all].into_iter().filter(|most| *most > 0);
        Ok(ConnectionInfo {
            connections: limits.min(),
            packet: Some(self.max_packet),
            cipher: Some(cipher).filter(|name| !name.is_empty()),
        })
    }

    fn narrow_columns(&mut self) -> Result<Vec<String>> {
        const OPERATION: &str = "look at the columns of messages";
        let rows = self.rows(
            OPERATION,
            "SELECT CAST(table_name AS CHAR) AS one, CAST(column_name AS CHAR) AS two, \
             CAST(COALESCE(character_set_name, 'utf8mb4') AS CHAR) AS three, \
             CAST(COALESCE(character_octet_length, 65535) AS UNSIGNED) AS four FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND (table_name = 'chat_messages' AND column_name IN ('body_text', 'body_rendered_html') \
             OR table_name = 'agent_notifications' AND column_name IN ('title', 'body', 'data_json'))",
            (),
        )?;
        let mut narrow = Vec::new();
        for row in rows {
            let (table, column, charset, bytes): (String, String, String, u64) =
                columns(row, OPERATION)?;
            let is_whole = table == "chat_messages";
            let column = format!("{table}.{column}");
            if charset != "utf8mb4" {
                narrow.push(format!("{column} has the character set {charset}"));
            } else if is_whole && bytes < 65_535 {
                narrow.push(format!("{column} holds {bytes} bytes"));
            }
        }
        Ok(narrow)
    }

    fn server_epoch(&mut self) -> Result<u64> {
        const OPERATION: &str = "ask for the server's time";
        let rows = self.rows(OPERATION, "SELECT CAST(UNIX_TIMESTAMP() AS UNSIGNED)", ())?;
        let seconds: Vec<(u64,)> = rows
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        Ok(seconds.first().map_or(0, |(seconds,)| *seconds))
    }

    fn columns(&mut self, tables: &[&str]) -> Result<HashSet<(String, String)>> {
        const OPERATION: &str = "look at the tables";
        // MySQL 8 gives these columns names in capitals unless they are renamed.
        self.rows(
            OPERATION,
            &format!(
                "SELECT CAST(table_name AS CHAR) AS one, CAST(column_name AS CHAR) AS two \
                 FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name IN ({})",
                marks(tables.len())
            ),
            tables
                .iter()
                .map(|table| Value::from(*table))
                .collect::<Vec<_>>(),
        )?
        .into_iter()
        .map(|row| columns(row, OPERATION))
        .collect()
    }

    fn refused_writes(&mut self) -> Result<Vec<(&'static str, String)>> {
        let mut refused = Vec::new();
        for (what, sql) in WRITES {
            match self.statement("try a write", sql) {
                Ok(()) => {}
                Err(error) if error.failure == Failure::Lost => return Err(error),
                Err(error) => refused.push((what, error.cause.to_string())),
            }
        }
        Ok(refused)
    }

    fn change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()> {
        self.statement("begin a transaction", "START TRANSACTION")?;
        let written = self.write_change(settings, audit);
        match written {
            Ok(()) => self.commit_for_all(),
            Err(error) => {
                // The first failure is the one to report; a connection that cannot roll back is lost anyhow.
                let _ = self.statement("roll back", "ROLLBACK");
                Err(error)
            }
        }
    }

    fn channel_retentions(&mut self) -> Result<Vec<ChannelRetention>> {
        const OPERATION: &str = "read how long channels keep their messages";
        self.rows(
            OPERATION,
            "SELECT id, name, retention_days FROM chat_channels ORDER BY id",
            (),
        )?
        .into_iter()
        .map(|row| {
            let (id, name, days) = columns(row, OPERATION)?;
            let id = ChannelId(id);
            Ok(ChannelRetention { id, name, days })
        })
        .collect()
    }

    fn days_ago(&mut self, days: u64) -> Result<Option<String>> {
        const OPERATION: &str = "ask for a time in the past";
        let rows = self.rows(
            OPERATION,
            "SELECT CAST(NOW() - INTERVAL ? DAY AS CHAR)",
            (days,),
        )?;
        let times: Vec<(Option<String>,)> = rows
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        Ok(times.into_iter().next().and_then(|(time,)| time))
    }

    fn message_ids(&mut self) -> Result<Option<(MessageId, MessageId)>> {
        const OPERATION: &str = "look for the oldest and the newest message";
        let rows = self.rows(OPERATION, "SELECT MIN(id), MAX(id) FROM chat_messages", ())?;
        let ids: Vec<(Option<u64>, Option<u64>)> = rows
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        Ok(match ids.first() {
            Some((Some(first), Some(last))) => Some((MessageId(*first), MessageId(*last))),
            _ => None,
        })
    }

    fn old_messages(&mut self, above: MessageId, rows: u32, before: &str) -> Result<Window> {
        const OPERATION: &str = "look for old messages";
        // A number of rows, not of ids: gaps between ids may be of any size.
        let end = self.rows(
            OPERATION,
            "SELECT MAX(part.id) FROM (SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?) part",
            (above.0, rows),
        )?;
        let end: Vec<(Option<u64>,)> = end
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        let Some((Some(end),)) = end.first() else {
            return Ok(Window::default());
        };
        let found = self.rows(
            OPERATION,
            "SELECT id, channel_id, CAST(created_at AS CHAR) FROM chat_messages \
             WHERE id > ? AND id <= ? AND deleted_at IS NULL AND created_at < ? ORDER BY id",
            (above.0, *end, before),
        )?;
        let messages = found
            .into_iter()
            .map(|row| {
                let (id, channel, created_at): (u64, Option<u64>, String) =
                    columns(row, OPERATION)?;
                Ok(OldMessage {
                    id: MessageId(id),
                    channel: channel.map(ChannelId),
                    created_at,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Window {
            messages,
            end: Some(MessageId(*end)),
        })
    }

    fn mark_deleted(&mut self, messages: &[MessageId]) -> Result<u64> {
        if messages.is_empty() {
            return Ok(0);
        }
        self.execute(
            "mark old messages deleted",
            &format!(
                "UPDATE chat_messages SET deleted_at = NOW(), deleted_by_agent_id = NULL \
                 WHERE id IN ({}) AND deleted_at IS NULL",
                marks(messages.len())
            ),
            ids(messages.iter().map(|id| id.0)),
        )?;
        Ok(self.conn.affected_rows())
    }
}

impl MysqlConnection {
    fn one_text(&mut self, operation: &'static str, sql: &str) -> Result<String> {
        let text: Option<String> = self
            .conn
            .query_first(sql)
            .map_err(|error| failed(operation, Doing::Asking, &error))?;
        Ok(text.unwrap_or_default())
    }

    fn write_change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()> {
        if !settings.is_empty() {
            self.update_settings(settings)?;
        }
        self.execute(
            "write the audit log",
            "INSERT INTO audit_log (actor_type, actor_id, action, subject_type, subject_id, payload) \
             VALUES ('system', NULL, ?, ?, 0, ?)",
            (
                audit.action.as_str(),
                audit.subject_type,
                audit.payload.as_str(),
            ),
        )
    }
}
