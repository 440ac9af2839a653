//! The subcommands' part of the store over a file. A writer locks the whole file, so a prune marks few messages at a time
//! here too.

use std::collections::HashSet;

use rusqlite::params;

use super::connection::SqliteConnection;
use super::rows::{key, list, select};
use crate::model::{ChannelId, MessageId};
use crate::store::operations::{AuditEntry, ChannelRetention, OldMessage, Operations, Window};
use crate::store::{Failure, Result, StoreError};

impl Operations for SqliteConnection {
    fn server_version(&mut self) -> Result<String> {
        Ok(format!("{} (SQLite)", rusqlite::version()))
    }

    fn server_epoch(&mut self) -> Result<u64> {
        self.read("ask for the time", |conn| {
            conn.query_row("SELECT unixepoch()", (), |row| row.get(0))
        })
    }

    fn columns(&mut self, tables: &[&str]) -> Result<HashSet<(String, String)>> {
        self.read("look at the tables", |conn| {
            let found = select(
                conn,
                "SELECT t.value, c.name FROM json_each(?) t JOIN pragma_table_info(t.value) c",
                (list(tables.iter()),),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            Ok(found.into_iter().collect())
        })
    }

    fn refused_writes(&mut self) -> Result<Vec<(&'static str, String)>> {
        // A file has no rights for single tables: a user that may write one may write all.
        let written = self.write("try a write", |conn| {
            conn.execute("UPDATE settings SET value = value WHERE 1 = 0", ())
        });
        match written {
            Ok(_) => Ok(Vec::new()),
            Err(StoreError {
                failure: Failure::Refused | Failure::TooLarge | Failure::Denied,
                cause,
                ..
            }) => Ok(vec![("write", cause.to_string())]),
            Err(error) => Err(error),
        }
    }

    fn change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()> {
        self.write("write the settings and the audit log", |conn| {
            let mut update = conn.prepare("UPDATE settings SET value = ?2 WHERE key_name = ?1")?;
            for value in settings {
                update.execute(*value)?;
            }
            conn.execute(
                "INSERT INTO audit_log (actor_type, actor_id, action, subject_type, subject_id, payload) \
                 VALUES ('system', NULL, ?, ?, 0, ?)",
                params![audit.action, audit.subject_type, audit.payload],
            )
            .map(drop)
        })
    }

    fn channel_retentions(&mut self) -> Result<Vec<ChannelRetention>> {
        self.read("read how long channels keep their messages", |conn| {
            select(
                conn,
                "SELECT id, name, retention_days FROM chat_channels ORDER BY id",
                (),
                |row| {
                    Ok(ChannelRetention {
                        id: ChannelId(row.get(0)?),
                        name: row.get(1)?,
                        days: row.get(2)?,
                    })
                },
            )
        })
    }

    fn days_ago(&mut self, days: u64) -> Result<Option<String>> {
        self.read("ask for a time in the past", |conn| {
            conn.query_row(
                "SELECT datetime('now', ?)",
                (format!("-{days} days"),),
                |row| row.get(0),
            )
        })
    }

    fn message_ids(&mut self) -> Result<Option<(MessageId, MessageId)>> {
        self.read("look for the oldest and the newest message", |conn| {
            conn.query_row(
                "SELECT (SELECT MIN(id) FROM chat_messages), (SELECT MAX(id) FROM chat_messages)",
                (),
                |row| {
                    let ids: (Option<u64>, Option<u64>) = (row.get(0)?, row.get(1)?);
                    Ok(ids.0.map(MessageId).zip(ids.1.map(MessageId)))
                },
            )
        })
    }

    fn old_messages(&mut self, above: MessageId, rows: u32, before: &str) -> Result<Window> {
        self.read("look for old messages", |conn| {
            let end: Option<u64> = conn.query_row(
                "SELECT MAX(id) FROM (SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?)",
                (key(above.0), rows),
                |row| row.get(0),
            )?;
            let Some(end) = end else {
                return Ok(Window::default());
            };
            let messages = select(
                conn,
                "SELECT id, channel_id, created_at FROM chat_messages \
                 WHERE id > ? AND id <= ? AND deleted_at IS NULL AND created_at < ? ORDER BY id",
                (key(above.0), key(end), before),
                |row| {
                    Ok(OldMessage {
                        id: MessageId(row.get(0)?),
                        channel: row.get::<_, Option<u64>>(1)?.map(ChannelId),
                        created_at: row.get(2)?,
                    })
                },
            )?;
            Ok(Window {
                messages,
                end: Some(MessageId(end)),
            })
        })
    }

    fn mark_deleted(&mut self, messages: &[MessageId]) -> Result<u64> {
        self.write("mark old messages deleted", |conn| {
            let marked = conn.execute(
                "UPDATE chat_messages SET deleted_at = CURRENT_TIMESTAMP, deleted_by_agent_id = NULL \
                 WHERE id IN (SELECT value FROM json_each(?)) AND deleted_at IS NULL",
                (list(messages.iter().map(|id| key(id.0))),),
            )?;
            Ok(marked as u64)
        })
    }
}
