//! One connection: the statements. Each method is one transaction by itself, or one statement of the transaction that
//! is open: it is done as a whole or not at all. A list is passed as one JSON array, so its length is not limited.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection as Sqlite, OptionalExtension, Row, TransactionBehavior};

use super::failed;
use super::history;
use super::rows::{delete_notifications, direct_threads, key, list, members, now, select};
use crate::config::settings::Rows;
use crate::model::{
    Agent, AgentId, ChannelId, Conversation, Message, MessageId, Search, ThreadId, Unread,
};
use crate::store::{
    DatabaseConnection, Failure, History, MessagePage, NewMessage, NewNotification, PageLimit,
    Posting, PostingContext, Result, SearchResult, Sender, Sent, StoreError, conversation_column,
};
use crate::text::{Ticket, TicketReferences};

/// One connection to the file.
pub struct SqliteConnection {
    conn: Sqlite,
    path: PathBuf,
    /// Device and number of the file when it was opened.
    file: Option<(u64, u64)>,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl SqliteConnection {
    pub(super) fn new(conn: Sqlite, path: &Path) -> Self {
        SqliteConnection {
            conn,
            file: identity(path),
            path: path.to_owned(),
        }
    }

    /// Fails if the file or its log was removed: SQLite would go on writing, and what it writes would be lost.
    fn check_file(&self, operation: &'static str) -> Result<()> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        match self.file.is_some() && identity(&self.path) == self.file && Path::new(&log).exists() {
            true => Ok(()),
            false => Err(StoreError::new(
                operation,
                Failure::Lost,
                format!("{} was taken away or replaced", self.path.display()),
            )),
        }
    }

    pub(super) fn read<T>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Sqlite) -> rusqlite::Result<T>,
    ) -> Result<T> {
        read(&self.conn).map_err(|error| failed(operation, error))
    }

    /// Does all of `write` or nothing of it, whether or not a transaction is open.
    pub(super) fn write<T>(
        &mut self,
        operation: &'static str,
        write: impl FnOnce(&Sqlite) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let ends = self.conn.is_autocommit();
        if ends {
            self.check_file(operation)?;
        }
        let conn = &mut self.conn;
        let written = match ends {
            // The lock is taken before anything is read: a transaction that has read cannot always go on to write.
            true => conn
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .and_then(|transaction| {
                    let value = write(&transaction)?;
                    transaction.commit()?;
                    Ok(value)
                }),
            false => conn.savepoint().and_then(|savepoint| {
                let value = write(&savepoint)?;
                savepoint.commit()?;
                Ok(value)
            }),
        };
        let written = written.map_err(|error| failed(operation, error))?;
        if ends {
            self.check_file(operation)?;
        }
        Ok(written)
    }

    fn statement(&self, operation: &'static str, sql: &str) -> Result<()> {
        self.read(operation, |conn| conn.execute_batch(sql))
    }
}

impl DatabaseConnection for SqliteConnection {
    fn settings(&mut self) -> Result<Rows> {
        self.read("read the settings", |conn| {
            let rows = select(
                conn,
                "SELECT key_name, value FROM settings \
                 WHERE key_name LIKE 'chat\\_%' ESCAPE '\\' OR key_name = 'app_url'",
                (),
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            Ok(Rows::new(rows))
        })
    }

    fn update_settings(&mut self, values: &[(&str, &str)]) -> Result<()> {
        self.write("write the settings", |conn| {
            let mut update = conn.prepare("UPDATE settings SET value = ?2 WHERE key_name = ?1")?;
            for value in values {
                update.execute(*value)?;
            }
            Ok(())
        })
    }

    fn active_agent(&mut self, id: AgentId) -> Result<Option<Agent>> {
        self.read("read an agent", |conn| {
            conn.query_row(
                "SELECT name, role FROM agents WHERE id = ? AND is_active = 1",
                (key(id.0),),
                |row| {
                    Ok(Agent {
                        id,
                        name: row.get(0)?,
                        role: row.get(1)?,
                    })
                },
            )
            .optional()
        })
    }

    fn active_agents(&mut self) -> Result<HashSet<AgentId>> {
        self.read("read which agents are active", |conn| {
            let agents = select(
                conn,
                "SELECT id FROM agents WHERE is_active = 1",
                (),
                |row| row.get(0).map(AgentId),
            )?;
            Ok(agents.into_iter().collect())
        })
    }

    fn audience(&mut self, conversation: Conversation) -> Result<Vec<AgentId>> {
        let (sql, id) = match conversation {
            Conversation::Channel(id) => (
                "SELECT m.agent_id FROM chat_channel_members m \
                 JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
                 WHERE m.channel_id = ? ORDER BY m.agent_id",
                id.0,
            ),
            Conversation::Direct(id) => (
                // The lower id of the pair is agent_one.
                "SELECT agent_one_id FROM chat_threads WHERE id = ?1 \
                 UNION SELECT agent_two_id FROM chat_threads WHERE id = ?1 ORDER BY 1",
                id.0,
            ),
        };
        self.read("read who is in a conversation", |conn| {
            select(conn, sql, (key(id),), |row| row.get(0).map(AgentId))
        })
    }

    fn mark_read(
        &mut self,
        agent: AgentId,
        conversation: Conversation,
        last_read: MessageId,
    ) -> Result<MessageId> {
        let (column, id) = conversation_column(conversation);
        self.write("store a read marker", |conn| {
            let newest: u64 = conn.query_row(
                &format!("SELECT COALESCE(MAX(id), 0) FROM chat_messages WHERE {column} = ?"),
                (key(id),),
                |row| row.get(0),
            )?;
            // Read back rather than RETURNING: a violated foreign key shows only when the statement has ended.
            conn.execute(
                &format!(
                    "INSERT INTO chat_message_reads (agent_id, message_scope, {column}, last_read_message_id) \
                     VALUES (?, ?, ?, ?) ON CONFLICT (agent_id, message_scope, {column}) DO UPDATE SET \
                     last_read_message_id = MAX(last_read_message_id, excluded.last_read_message_id), \
                     last_read_at = CURRENT_TIMESTAMP"
                ),
                (
                    key(agent.0),
                    conversation.scope(),
                    key(id),
                    key(last_read.0.min(newest)),
                ),
            )?;
            let marker = conn.query_row(
                &format!(
                    "SELECT last_read_message_id FROM chat_message_reads \
                     WHERE agent_id = ? AND message_scope = ? AND {column} = ?"
                ),
                (key(agent.0), conversation.scope(), key(id)),
                |row| row.get(0),
            )?;
            delete_notifications(conn, agent, conversation, column, id)?;
            Ok(MessageId(marker))
        })
    }
}

impl History for SqliteConnection {
    fn newest_ids(&mut self, most: usize) -> Result<(String, Vec<MessageId>)> {
        self.read("read the newest ids", |conn| {
            Ok((now(conn)?, history::newest_ids(conn, most)?))
        })
    }

    fn ids_above(&mut self, id: MessageId, most: usize) -> Result<Vec<MessageId>> {
        self.read("look for new messages", |conn| {
            select(
                conn,
                "SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?",
                (key(id.0), most),
                |row| row.get(0).map(MessageId),
            )
        })
    }

    fn messages(&mut self, ids: &[MessageId]) -> Result<Vec<Message>> {
        self.read("read messages", |conn| {
            history::messages(
                conn,
                "WHERE m.id IN (SELECT value FROM json_each(?)) ORDER BY m.id",
                (list(ids.iter().map(|id| key(id.0))),),
            )
        })
    }

    fn changed_messages(
        &mut self,
        above: MessageId,
        since: &str,
    ) -> Result<(String, Vec<Message>)> {
        self.read("look for changed messages", |conn| {
            let now = now(conn)?;
            let changed = history::messages(
                conn,
                "WHERE m.id > ?1 AND (m.edited_at >= ?2 OR m.deleted_at >= ?2) ORDER BY m.id",
                (key(above.0), since),
            )?;
            Ok((now, changed))
        })
    }

    fn history(
        &mut self,
        conversation: Conversation,
        before: Option<MessageId>,
        room: PageLimit,
    ) -> Result<MessagePage> {
        self.read("read older messages", |conn| {
            history::history(conn, conversation, before, room)
        })
    }

    fn missed(&mut self, agent: AgentId, after: MessageId, room: PageLimit) -> Result<MessagePage> {
        self.read("read the messages that were missed", |conn| {
            history::missed(conn, agent, after, room)
        })
    }

    fn search(&mut self, search: &Search, room: PageLimit) -> Result<SearchResult> {
        self.read("search messages", |conn| {
            history::search(conn, search, room)
        })
    }

    fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>> {
        self.read("count what was not read", |conn| {
            history::unread(conn, agent)
        })
    }

    fn recent_with_metadata(
        &mut self,
        senders: &[AgentId],
        until: MessageId,
        above: MessageId,
        seconds: u64,
    ) -> Result<Vec<Sent>> {
        self.read("look for messages that were sent before", |conn| {
            history::recent_with_metadata(conn, senders, (until, above), seconds)
        })
    }
}

impl Posting for SqliteConnection {
    fn begin(&mut self) -> Result<()> {
        match self.conn.is_autocommit() {
            true => {
                const OPERATION: &str = "begin a transaction";
                self.check_file(OPERATION)?;
                self.statement(OPERATION, "BEGIN IMMEDIATE")
            }
            false => Ok(()),
        }
    }

    fn posting_context(
        &mut self,
        channels: &[ChannelId],
        threads: &[ThreadId],
        senders: &[AgentId],
    ) -> Result<PostingContext> {
        self.read("read what is needed for posting", |conn| {
            Ok(PostingContext {
                now: now(conn)?,
                members: members(conn, channels, senders)?,
                threads: direct_threads(conn, threads)?,
                senders: select(
                    conn,
                    "SELECT id, name, chat_handle FROM agents \
                     WHERE id IN (SELECT value FROM json_each(?))",
                    (list(senders.iter().map(|id| id.0)),),
                    |row| {
                        Ok(Sender {
                            id: AgentId(row.get(0)?),
                            name: row.get(1)?,
                            chat_handle: row.get(2)?,
                        })
                    },
                )?,
            })
        })
    }

    fn agents_by_handle(&mut self, handles: &[String]) -> Result<Vec<AgentId>> {
        self.read("look up who is mentioned", |conn| {
            select(
                conn,
                "SELECT id FROM agents WHERE is_active = 1 \
                 AND chat_handle COLLATE helpdesk IN (SELECT value FROM json_each(?)) ORDER BY id",
                (list(handles),),
                |row| row.get(0).map(AgentId),
            )
        })
    }

    fn tickets(&mut self, references: &TicketReferences) -> Result<Vec<Ticket>> {
        self.read("look up tickets", |conn| {
            let ticket = |row: &Row<'_>| {
                Ok(Ticket {
                    id: row.get(0)?,
                    number: row.get(1)?,
                })
            };
            // Two statements: the first finds its rows by key, the second looks through all.
            let mut found = select(
                conn,
                "SELECT id, ticket_number FROM tickets \
                 WHERE deleted_at IS NULL AND id IN (SELECT value FROM json_each(?))",
                (list(&references.ids),),
                ticket,
            )?;
            if !references.numbers.is_empty() {
                let by_number = select(
                    conn,
                    "SELECT id, ticket_number FROM tickets WHERE deleted_at IS NULL \
                     AND ticket_number COLLATE helpdesk IN (SELECT value FROM json_each(?))",
                    (list(&references.numbers),),
                    ticket,
                )?;
                found.extend(
                    by_number
                        .into_iter()
                        .filter(|ticket| !references.ids.contains(&ticket.id)),
                );
            }
            Ok(found)
        })
    }

    fn notification_preferences(
        &mut self,
        agents: &[AgentId],
    ) -> Result<Vec<(AgentId, Option<String>)>> {
        self.read("read notification preferences", |conn| {
            select(
                conn,
                "SELECT id, notification_preferences_json FROM agents \
                 WHERE id IN (SELECT value FROM json_each(?))",
                (list(agents.iter().map(|id| id.0)),),
                |row| Ok((AgentId(row.get(0)?), row.get(1)?)),
            )
        })
    }

    fn insert_messages(&mut self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        self.write("insert messages", |conn| {
            let mut insert = conn.prepare(
                "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
                 body_rendered_html, metadata_json, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            messages
                .iter()
                .map(|message| {
                    insert
                        .insert((
                            message.conversation.scope(),
                            message.conversation.channel_id().map(|id| key(id.0)),
                            message.conversation.thread_id().map(|id| key(id.0)),
                            key(message.sender.0),
                            &message.body_text,
                            &message.body_rendered_html,
                            &message.metadata_json,
                            &message.created_at,
                        ))
                        .map(|id| MessageId(id.unsigned_abs()))
                })
                .collect()
        })
    }

    fn touch_threads(&mut self, threads: &[ThreadId]) -> Result<()> {
        self.write("touch direct threads", |conn| {
            conn.execute(
                "UPDATE chat_threads SET last_message_at = CURRENT_TIMESTAMP \
                 WHERE id IN (SELECT value FROM json_each(?))",
                (list(threads.iter().map(|id| id.0)),),
            )
            .map(drop)
        })
    }

    fn insert_mentions(&mut self, mentions: &[(MessageId, AgentId)]) -> Result<()> {
        self.write("insert mentions", |conn| {
            let mut insert = conn.prepare(
                "INSERT INTO chat_message_mentions (message_id, mentioned_agent_id) VALUES (?, ?)",
            )?;
            for (message, agent) in mentions {
                insert.execute((key(message.0), key(agent.0)))?;
            }
            Ok(())
        })
    }

    fn insert_notifications(&mut self, notifications: &[NewNotification]) -> Result<()> {
        self.write("insert notifications", |conn| {
            // As MySQL's IGNORE does: an agent that is gone is passed over, too.
            let mut insert = conn.prepare(
                "INSERT INTO agent_notifications (agent_id, type, severity, title, body, link, data_json, dedupe_key) \
                 SELECT ?1, ?2, 'info', ?3, ?4, ?5, ?6, ?7 WHERE EXISTS (SELECT 1 FROM agents WHERE id = ?1) \
                 ON CONFLICT (agent_id, dedupe_key) DO NOTHING",
            )?;
            for one in notifications {
                insert.execute((
                    key(one.agent.0),
                    one.kind,
                    one.title,
                    &one.body,
                    &one.link,
                    &one.data_json,
                    &one.dedupe_key,
                ))?;
            }
            Ok(())
        })
    }

    fn commit(&mut self) -> Result<()> {
        const OPERATION: &str = "commit";
        self.statement(OPERATION, "COMMIT")?;
        self.check_file(OPERATION)
    }

    fn rollback(&mut self) -> Result<()> {
        match self.conn.is_autocommit() {
            // A failure may have ended the transaction.
            true => Ok(()),
            false => self.statement("roll back", "ROLLBACK"),
        }
    }

    fn were_committed(&mut self, messages: &[(MessageId, AgentId, &str)]) -> Result<bool> {
        // Waits for a running write transaction: it may be the one in question.
        self.begin()?;
        let found = self.read("look whether messages were stored", |conn| {
            let mut found = conn.prepare(
                "SELECT EXISTS (SELECT 1 FROM chat_messages \
                 WHERE id = ? AND sender_agent_id = ? AND body_text = ?)",
            )?;
            for (id, sender, body) in messages {
                // An id that now belongs to another message does not count.
                let row = (key(id.0), key(sender.0), body);
                if !found.query_row(row, |row| row.get::<_, bool>(0))? {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        self.rollback()?;
        found
    }
}
