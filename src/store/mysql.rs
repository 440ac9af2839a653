//! The store over the helpdesk's own tables in MySQL or MariaDB. The only file that names the MySQL crate. It
//! names every column, never creates or alters a table, and uses nothing that only one of the two servers has
//! (contract: database.md, schema.sql).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, Error as MysqlError, OptsBuilder, Params, Row, Value};

use super::{
    Connection, Failure, Member, NewMessage, NewNotification, PostingContext, Result, Sender,
    Store, StoreError, Thread,
};
use crate::config::DatabaseConfig;
use crate::limits::STORE_PATIENCE;
use crate::model::{Agent, AgentId, ChannelId, Conversation, Message, MessageId, ThreadId, Unread};
use crate::settings::Rows;
use crate::text::{Ticket, TicketReferences};

/// Where a server's Unix socket is looked for, after `DB_SOCKET`.
const SOCKET_PATHS: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/tmp/mysql.sock",
];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a posting session waits for a lock; below [`STORE_PATIENCE`].
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Rows of one insert of mentions or notifications; a statement has at most 65,535 parameters.
const ROWS_PER_INSERT: usize = 500;

/// A MySQL or MariaDB database.
pub struct MysqlStore {
    config: DatabaseConfig,
}

impl MysqlStore {
    /// The database that the install uses.
    pub fn new(config: DatabaseConfig) -> Self {
        MysqlStore { config }
    }

    /// `localhost` is the Unix socket to every MySQL client, and often the only door that is open.
    fn socket(&self) -> Option<String> {
        if self.config.host != "localhost" {
            return None;
        }
        self.config
            .socket
            .iter()
            .map(String::as_str)
            .chain(SOCKET_PATHS)
            .find(|path| fs::metadata(path).is_ok_and(|file| file.file_type().is_socket()))
            .map(str::to_owned)
    }
}

impl Store for MysqlStore {
    fn connect(&self) -> Result<Box<dyn Connection>> {
        let socket = self.socket();
        let host = match (&socket, self.config.host.as_str()) {
            (None, "localhost") => "127.0.0.1",
            (_, host) => host,
        };
        let patience = Some(STORE_PATIENCE);
        let options = OptsBuilder::new()
            .ip_or_hostname(Some(host))
            .tcp_port(self.config.port)
            .socket(socket)
            // The library would change over from TCP to a socket by itself; the choice is made above.
            .prefer_socket(false)
            .user(Some(&self.config.user))
            .pass(Some(&self.config.password))
            .db_name(Some(&self.config.name))
            .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
            .read_timeout(patience)
            .write_timeout(patience)
            .init(vec![format!(
                "SET NAMES {} COLLATE {}",
                self.config.charset, self.config.collation
            )]);
        let conn = Conn::new(options)
            .map_err(|error| failed("connect to the database", connect_failure(&error), &error))?;
        Ok(Box::new(MysqlConnection {
            conn,
            posting: None,
        }))
    }

    fn describe(&self) -> String {
        match self.socket() {
            Some(path) => format!("{}@{path}/{}", self.config.user, self.config.name),
            None => format!("{:?}", self.config),
        }
    }
}

struct MysqlConnection {
    conn: Conn,
    /// Set once autocommit is off.
    posting: Option<Posting>,
}

/// What a session that posts knows of itself.
#[derive(Clone, Copy)]
struct Posting {
    /// `auto_increment_increment`: above 1 in a cluster.
    id_step: u64,
}

impl MysqlConnection {
    fn rows(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Vec<Row>> {
        self.conn
            .exec(sql, params)
            .map_err(|error| failed(operation, query_failure(&error), &error))
    }

    fn execute(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<()> {
        self.conn
            .exec_drop(sql, params)
            .map_err(|error| failed(operation, query_failure(&error), &error))
    }

    fn statement(&mut self, operation: &'static str, sql: &str) -> Result<()> {
        self.conn
            .query_drop(sql)
            .map_err(|error| failed(operation, query_failure(&error), &error))
    }

    /// Messages of a query that has the newest first, ascending by id.
    fn newest_first(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Vec<Message>> {
        let mut messages = self
            .rows(operation, sql, params)?
            .into_iter()
            .map(|row| message(row, operation))
            .collect::<Result<Vec<_>>>()?;
        messages.reverse();
        Ok(messages)
    }

    fn now(&mut self, operation: &'static str) -> Result<String> {
        let rows = self.rows(operation, "SELECT CAST(NOW() AS CHAR)", ())?;
        let now = rows.into_iter().next().map(|row| columns(row, operation));
        let (now,): (String,) = now.transpose()?.unwrap_or_default();
        Ok(now)
    }

    fn members(&mut self, channels: &[ChannelId], context: &mut PostingContext) -> Result<()> {
        let rows = self.rows(
            "read the members of a channel",
            &format!(
                "SELECT CAST(NOW() AS CHAR), m.channel_id, m.agent_id, m.can_post, a.is_active, \
                 COALESCE(p.notify_enabled, 0) \
                 FROM chat_channel_members m \
                 JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
                 JOIN agents a ON a.id = m.agent_id \
                 LEFT JOIN chat_channel_notification_preferences p \
                 ON p.channel_id = m.channel_id AND p.agent_id = m.agent_id \
                 WHERE m.channel_id IN ({}) ORDER BY m.channel_id, m.agent_id",
                marks(channels.len())
            ),
            ids(channels.iter().map(|id| id.0)),
        )?;
        for row in rows {
            let (now, channel, agent, can_post, is_active, notify): (
                String,
                u64,
                u64,
                i64,
                i64,
                i64,
            ) = columns(row, "read the members of a channel")?;
            context.now = now;
            context.members.push(Member {
                channel: ChannelId(channel),
                agent: AgentId(agent),
                can_post: can_post == 1,
                is_active: is_active == 1,
                notify_channel: notify == 1,
            });
        }
        Ok(())
    }

    fn threads(&mut self, threads: &[ThreadId], context: &mut PostingContext) -> Result<()> {
        const OPERATION: &str = "read a direct thread";
        let rows = self.rows(
            OPERATION,
            &format!(
                "SELECT CAST(NOW() AS CHAR), t.id, t.agent_one_id, one.is_active, t.agent_two_id, two.is_active \
                 FROM chat_threads t JOIN agents one ON one.id = t.agent_one_id \
                 JOIN agents two ON two.id = t.agent_two_id WHERE t.id IN ({})",
                marks(threads.len())
            ),
            ids(threads.iter().map(|id| id.0)),
        )?;
        for row in rows {
            let (now, id, one, one_active, two, two_active): (String, u64, u64, i64, u64, i64) =
                columns(row, OPERATION)?;
            context.now = now;
            context.threads.push(Thread {
                id: ThreadId(id),
                agents: [
                    (AgentId(one), one_active == 1),
                    (AgentId(two), two_active == 1),
                ],
            });
        }
        Ok(())
    }

    /// Ids of notifications of one conversation. The JSON is looked into here and not by the server: MySQL and
    /// MariaDB disagree on broken JSON, and a strict server refuses to compare what is no number.
    fn notifications_of(&mut self, agent: AgentId, conversation: Conversation) -> Result<Vec<u64>> {
        const OPERATION: &str = "read the notifications of a conversation";
        let (kinds, member, id) = match conversation {
            Conversation::Channel(id) => {
                ("'chat_channel_message', 'chat_mention'", "channel_id", id.0)
            }
            Conversation::Direct(id) => ("'chat_direct_message'", "thread_id", id.0),
        };
        let rows = self.rows(
            OPERATION,
            &format!(
                "SELECT id, data_json FROM agent_notifications WHERE agent_id = ? AND type IN ({kinds})"
            ),
            (agent.0,),
        )?;
        let mut found = Vec::new();
        for row in rows {
            let (notification, data): (u64, Option<String>) = columns(row, OPERATION)?;
            if data.is_some_and(|data| super::names_conversation(&data, member, id)) {
                found.push(notification);
            }
        }
        Ok(found)
    }
}

impl Connection for MysqlConnection {
    fn settings(&mut self) -> Result<Rows> {
        const OPERATION: &str = "read the settings";
        let rows = self.rows(
            OPERATION,
            "SELECT key_name, value FROM settings \
             WHERE key_name LIKE 'chat\\_%' OR key_name = 'app_url'",
            (),
        )?;
        let pairs = rows
            .into_iter()
            .map(|row| columns::<(String, Option<String>)>(row, OPERATION))
            .collect::<Result<Vec<_>>>()?;
        Ok(Rows::new(pairs))
    }

    fn update_settings(&mut self, values: &[(&str, &str)]) -> Result<()> {
        let cases = " WHEN ? THEN ?".repeat(values.len());
        let sql = format!(
            "UPDATE settings SET value = CASE key_name{cases} END WHERE key_name IN ({})",
            marks(values.len())
        );
        let params: Vec<Value> = values
            .iter()
            .flat_map(|(key, value)| [Value::from(*key), Value::from(*value)])
            .chain(values.iter().map(|(key, _)| Value::from(*key)))
            .collect();
        self.execute("write the settings", &sql, params)
    }

    fn active_agent(&mut self, id: AgentId) -> Result<Option<Agent>> {
        const OPERATION: &str = "read an agent";
        let rows = self.rows(
            OPERATION,
            "SELECT name, role FROM agents WHERE id = ? AND is_active = 1",
            (id.0,),
        )?;
        rows.into_iter()
            .next()
            .map(|row| {
                let (name, role) = columns(row, OPERATION)?;
                Ok(Agent { id, name, role })
            })
            .transpose()
    }

    fn active_agents(&mut self) -> Result<HashSet<AgentId>> {
        const OPERATION: &str = "read which agents are active";
        self.rows(OPERATION, "SELECT id FROM agents WHERE is_active = 1", ())?
            .into_iter()
            .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| AgentId(id)))
            .collect()
    }

    fn audience(&mut self, conversation: Conversation) -> Result<Vec<AgentId>> {
        const OPERATION: &str = "read who is in a conversation";
        match conversation {
            Conversation::Channel(id) => self
                .rows(
                    OPERATION,
                    "SELECT m.agent_id FROM chat_channel_members m \
                     JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
                     WHERE m.channel_id = ? ORDER BY m.agent_id",
                    (id.0,),
                )?
                .into_iter()
                .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| AgentId(id)))
                .collect(),
            Conversation::Direct(id) => {
                let rows = self.rows(
                    OPERATION,
                    "SELECT agent_one_id, agent_two_id FROM chat_threads WHERE id = ?",
                    (id.0,),
                )?;
                let mut agents = Vec::new();
                for row in rows {
                    let (one, two): (u64, u64) = columns(row, OPERATION)?;
                    agents.extend([AgentId(one), AgentId(two)]);
                }
                Ok(agents)
            }
        }
    }

    fn mark_read(
        &mut self,
        agent: AgentId,
        conversation: Conversation,
        last_read: MessageId,
    ) -> Result<MessageId> {
        const OPERATION: &str = "store a read marker";
        let (column, id) = conversation_column(conversation);
        // Two statements, not an INSERT … SELECT: that would lock the end of the conversation against the message
        // being posted just now. The newest id only grows, so the marker cannot overtake it.
        let newest: Vec<(u64,)> = self
            .rows(
                OPERATION,
                &format!("SELECT COALESCE(MAX(id), 0) FROM chat_messages WHERE {column} = ?"),
                (id,),
            )?
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        let last_read = last_read
            .0
            .min(newest.first().map_or(0, |(newest,)| *newest));
        self.execute(
            OPERATION,
            "INSERT INTO chat_message_reads \
             (agent_id, message_scope, channel_id, thread_id, last_read_message_id, last_read_at) \
             VALUES (?, ?, ?, ?, ?, NOW()) ON DUPLICATE KEY UPDATE \
             last_read_message_id = GREATEST(last_read_message_id, VALUES(last_read_message_id)), \
             last_read_at = NOW()",
            (
                agent.0,
                conversation.scope(),
                conversation.channel_id().map(|id| id.0),
                conversation.thread_id().map(|id| id.0),
                last_read,
            ),
        )?;
        let marker: Vec<(u64,)> = self
            .rows(
                OPERATION,
                &format!(
                    "SELECT last_read_message_id FROM chat_message_reads \
                     WHERE agent_id = ? AND message_scope = ? AND {column} = ?"
                ),
                (agent.0, conversation.scope(), id),
            )?
            .into_iter()
            .map(|row| columns(row, OPERATION))
            .collect::<Result<_>>()?;
        let read = self.notifications_of(agent, conversation)?;
        if !read.is_empty() {
            self.execute(
                "delete notifications that were read",
                &format!(
                    "DELETE FROM agent_notifications WHERE id IN ({})",
                    marks(read.len())
                ),
                ids(read),
            )?;
        }
        Ok(MessageId(marker.first().map_or(0, |(marker,)| *marker)))
    }

    fn newest_ids(&mut self, most: usize) -> Result<(String, Vec<MessageId>)> {
        const OPERATION: &str = "read the newest ids";
        let now = self.now(OPERATION)?;
        let mut ids = self
            .rows(
                OPERATION,
                "SELECT id FROM chat_messages ORDER BY id DESC LIMIT ?",
                (most as u64,),
            )?
            .into_iter()
            .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| MessageId(id)))
            .collect::<Result<Vec<_>>>()?;
        ids.reverse();
        Ok((now, ids))
    }

    fn messages_above(&mut self, id: MessageId, most: usize) -> Result<Vec<Message>> {
        const OPERATION: &str = "look for new messages";
        self.rows(
            OPERATION,
            &format!(
                "{SELECT_MESSAGE} WHERE m.id > ? AND m.deleted_at IS NULL ORDER BY m.id LIMIT ?"
            ),
            (id.0, most as u64),
        )?
        .into_iter()
        .map(|row| message(row, OPERATION))
        .collect()
    }

    fn changed_messages(
        &mut self,
        above: MessageId,
        since: &str,
    ) -> Result<(String, Vec<Message>)> {
        const OPERATION: &str = "look for changed messages";
        let now = self.now(OPERATION)?;
        let messages = self
            .rows(
                OPERATION,
                &format!(
                    "{SELECT_MESSAGE} WHERE m.id > ? AND (m.edited_at >= ? OR m.deleted_at >= ?) ORDER BY m.id"
                ),
                (above.0, since, since),
            )?
            .into_iter()
            .map(|row| message(row, OPERATION))
            .collect::<Result<_>>()?;
        Ok((now, messages))
    }

    fn history(
        &mut self,
        conversation: Conversation,
        before: Option<MessageId>,
        most: usize,
    ) -> Result<Vec<Message>> {
        const OPERATION: &str = "read older messages";
        let (column, id) = conversation_column(conversation);
        let before = before.map_or(u64::MAX >> 1, |before| before.0);
        self.newest_first(
            OPERATION,
            &format!(
                "{SELECT_MESSAGE} WHERE m.{column} = ? AND m.id < ? AND m.deleted_at IS NULL \
                 ORDER BY m.id DESC LIMIT ?"
            ),
            (id, before, most as u64),
        )
    }

    fn missed(&mut self, agent: AgentId, after: MessageId, most: usize) -> Result<Vec<Message>> {
        const OPERATION: &str = "read the messages that were missed";
        self.newest_first(
            OPERATION,
            &format!(
                "{SELECT_MESSAGE} WHERE m.id > ? AND m.deleted_at IS NULL AND (m.channel_id IN \
                 (SELECT cm.channel_id FROM chat_channel_members cm JOIN chat_channels c \
                 ON c.id = cm.channel_id AND c.is_active = 1 WHERE cm.agent_id = ?) OR m.thread_id IN \
                 (SELECT t.id FROM chat_threads t WHERE t.agent_one_id = ? OR t.agent_two_id = ?)) \
                 ORDER BY m.id DESC LIMIT ?"
            ),
            (after.0, agent.0, agent.0, agent.0, most as u64),
        )
    }

    fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>> {
        const OPERATION: &str = "count what was not read";
        let count = |column: &str| {
            format!(
                "COALESCE(r.last_read_message_id, 0), (SELECT COUNT(*) FROM chat_messages m \
                 WHERE m.{column} = c.id AND m.id > COALESCE(r.last_read_message_id, 0) \
                 AND m.deleted_at IS NULL AND m.sender_agent_id <> ?)"
            )
        };
        let channels = format!(
            "SELECT c.id, {} FROM chat_channel_members cm \
             JOIN chat_channels c ON c.id = cm.channel_id AND c.is_active = 1 \
             LEFT JOIN chat_message_reads r ON r.agent_id = cm.agent_id AND r.message_scope = 'channel' \
             AND r.channel_id = c.id WHERE cm.agent_id = ? ORDER BY c.id",
            count("channel_id")
        );
        let threads = format!(
            "SELECT c.id, {} FROM chat_threads c \
             LEFT JOIN chat_message_reads r ON r.agent_id = ? AND r.message_scope = 'direct' \
             AND r.thread_id = c.id WHERE c.agent_one_id = ? OR c.agent_two_id = ? ORDER BY c.id",
            count("thread_id")
        );
        let id = agent.0;
        let mut found = Vec::new();
        for row in self.rows(OPERATION, &channels, (id, id))? {
            let (channel, last_read, unread): (u64, u64, u64) = columns(row, OPERATION)?;
            found.push(Unread {
                conversation: Conversation::Channel(ChannelId(channel)),
                unread,
                last_read: MessageId(last_read),
            });
        }
        for row in self.rows(OPERATION, &threads, (id, id, id, id))? {
            let (thread, last_read, unread): (u64, u64, u64) = columns(row, OPERATION)?;
            found.push(Unread {
                conversation: Conversation::Direct(ThreadId(thread)),
                unread,
                last_read: MessageId(last_read),
            });
        }
        Ok(found)
    }

    fn recent_with_metadata(
        &mut self,
        senders: &[AgentId],
        until: MessageId,
        seconds: u64,
    ) -> Result<Vec<Message>> {
        const OPERATION: &str = "look for messages that were sent before";
        let mut params = ids(senders.iter().map(|id| id.0));
        params.extend(ids([seconds, until.0]));
        self.rows(
            OPERATION,
            &format!(
                "{SELECT_MESSAGE} WHERE m.sender_agent_id IN ({}) AND m.created_at >= NOW() - INTERVAL ? SECOND \
                 AND m.id <= ? AND m.metadata_json IS NOT NULL ORDER BY m.id",
                marks(senders.len())
            ),
            params,
        )?
        .into_iter()
        .map(|row| message(row, OPERATION))
        .collect()
    }

    fn message(&mut self, id: MessageId) -> Result<Option<Message>> {
        const OPERATION: &str = "read a message";
        self.rows(
            OPERATION,
            &format!("{SELECT_MESSAGE} WHERE m.id = ?"),
            (id.0,),
        )?
        .into_iter()
        .next()
        .map(|row| message(row, OPERATION))
        .transpose()
    }

    fn begin(&mut self) -> Result<()> {
        const OPERATION: &str = "begin a transaction";
        if self.posting.is_some() {
            return Ok(());
        }
        // With autocommit off every statement opens the next transaction by itself: one round trip less for
        // every message. A lock is waited for less long than the answer, so that the answer says what it was.
        self.statement(
            OPERATION,
            &format!(
                "SET SESSION autocommit = 0, innodb_lock_wait_timeout = {}",
                LOCK_PATIENCE.as_secs()
            ),
        )?;
        let rows = self.rows(OPERATION, "SELECT @@auto_increment_increment", ())?;
        let step = rows.into_iter().next().map(|row| columns(row, OPERATION));
        let (id_step,): (u64,) = step.transpose()?.unwrap_or((1,));
        self.posting = Some(Posting { id_step });
        Ok(())
    }

    fn posting_context(
        &mut self,
        channels: &[ChannelId],
        threads: &[ThreadId],
        senders: &[AgentId],
    ) -> Result<PostingContext> {
        const OPERATION: &str = "read the senders";
        let mut context = PostingContext::default();
        if !channels.is_empty() {
            self.members(channels, &mut context)?;
        }
        if !threads.is_empty() {
            self.threads(threads, &mut context)?;
        }
        for row in self.rows(
            OPERATION,
            &format!(
                "SELECT id, name, chat_handle FROM agents WHERE id IN ({})",
                marks(senders.len())
            ),
            ids(senders.iter().map(|id| id.0)),
        )? {
            let (id, name, chat_handle): (u64, String, Option<String>) = columns(row, OPERATION)?;
            context.senders.push(Sender {
                id: AgentId(id),
                name,
                chat_handle,
            });
        }
        Ok(context)
    }

    fn agents_by_handle(&mut self, handles: &[String]) -> Result<Vec<AgentId>> {
        const OPERATION: &str = "look up who is mentioned";
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(
            OPERATION,
            &format!(
                "SELECT id FROM agents WHERE is_active = 1 AND chat_handle IN ({}) ORDER BY id",
                marks(handles.len())
            ),
            handles
                .iter()
                .map(|handle| Value::from(handle.as_str()))
                .collect::<Vec<_>>(),
        )?
        .into_iter()
        .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| AgentId(id)))
        .collect()
    }

    fn tickets(&mut self, references: &TicketReferences) -> Result<Vec<Ticket>> {
        const OPERATION: &str = "look up tickets";
        let (by_id, by_number) = (references.ids.len(), references.numbers.len());
        let conditions: Vec<String> = [("id", by_id), ("ticket_number", by_number)]
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(column, count)| format!("{column} IN ({})", marks(*count)))
            .collect();
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        let params: Vec<Value> = references
            .ids
            .iter()
            .map(|id| Value::from(*id))
            .chain(
                references
                    .numbers
                    .iter()
                    .map(|number| Value::from(number.as_str())),
            )
            .collect();
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, ticket_number FROM tickets WHERE deleted_at IS NULL AND ({})",
                conditions.join(" OR ")
            ),
            params,
        )?
        .into_iter()
        .map(|row| {
            let (id, number) = columns(row, OPERATION)?;
            Ok(Ticket { id, number })
        })
        .collect()
    }

    fn notification_preferences(
        &mut self,
        agents: &[AgentId],
    ) -> Result<Vec<(AgentId, Option<String>)>> {
        const OPERATION: &str = "read notification preferences";
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, notification_preferences_json FROM agents WHERE id IN ({})",
                marks(agents.len())
            ),
            ids(agents.iter().map(|id| id.0)),
        )?
        .into_iter()
        .map(|row| {
            let (id, json) = columns(row, OPERATION)?;
            Ok((AgentId(id), json))
        })
        .collect()
    }

    fn insert_messages(&mut self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        const OPERATION: &str = "insert messages";
        let tuples = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; messages.len()].join(", ");
        let params: Vec<Value> = messages
            .iter()
            .flat_map(|message| {
                [
                    Value::from(message.conversation.scope()),
                    Value::from(message.conversation.channel_id().map(|id| id.0)),
                    Value::from(message.conversation.thread_id().map(|id| id.0)),
                    Value::from(message.sender.0),
                    Value::from(message.body_text.as_str()),
                    Value::from(message.body_rendered_html.as_str()),
                    Value::from(message.metadata_json.as_deref()),
                    Value::from(message.created_at.as_str()),
                ]
            })
            .collect();
        self.execute(
            OPERATION,
            &format!(
                "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
                 body_rendered_html, metadata_json, created_at) VALUES {tuples}"
            ),
            params,
        )?;
        // Ids of one insert with a known number of rows are consecutive, in the steps of this session.
        let first = self.conn.last_insert_id();
        let step = self.posting.map_or(1, |posting| posting.id_step);
        Ok((0..messages.len() as u64)
            .map(|place| MessageId(first + place * step))
            .collect())
    }

    fn touch_threads(&mut self, threads: &[ThreadId]) -> Result<()> {
        self.execute(
            "touch direct threads",
            &format!(
                "UPDATE chat_threads SET last_message_at = NOW() WHERE id IN ({})",
                marks(threads.len())
            ),
            ids(threads.iter().map(|id| id.0)),
        )
    }

    fn insert_mentions(&mut self, mentions: &[(MessageId, AgentId)]) -> Result<()> {
        for chunk in mentions.chunks(ROWS_PER_INSERT) {
            let tuples = vec!["(?, ?)"; chunk.len()].join(", ");
            let params = ids(chunk
                .iter()
                .flat_map(|(message, agent)| [message.0, agent.0]));
            self.execute(
                "insert mentions",
                &format!(
                    "INSERT INTO chat_message_mentions (message_id, mentioned_agent_id) VALUES {tuples}"
                ),
                params,
            )?;
        }
        Ok(())
    }

    fn insert_notifications(&mut self, notifications: &[NewNotification]) -> Result<()> {
        for chunk in notifications.chunks(ROWS_PER_INSERT) {
            let tuples = vec!["(?, ?, 'info', ?, ?, ?, ?, ?)"; chunk.len()].join(", ");
            let params: Vec<Value> = chunk
                .iter()
                .flat_map(|notification| {
                    [
                        Value::from(notification.agent.0),
                        Value::from(notification.kind),
                        Value::from(notification.title),
                        Value::from(notification.body.as_str()),
                        Value::from(notification.link.as_str()),
                        Value::from(notification.data_json.as_str()),
                        Value::from(notification.dedupe_key.as_str()),
                    ]
                })
                .collect();
            self.execute(
                "insert notifications",
                &format!(
                    "INSERT IGNORE INTO agent_notifications \
                     (agent_id, type, severity, title, body, link, data_json, dedupe_key) VALUES {tuples}"
                ),
                params,
            )?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.statement("commit", "COMMIT")
    }

    fn rollback(&mut self) -> Result<()> {
        self.statement("roll back", "ROLLBACK")
    }

    fn were_committed(&mut self, messages: &[(MessageId, &NewMessage)]) -> Result<bool> {
        const OPERATION: &str = "look whether messages were stored";
        // A locking read waits for the lost connection's transaction to end, if the server has not noticed the
        // loss yet.
        let rows = self.rows(
            OPERATION,
            &format!(
                "SELECT id, sender_agent_id, body_text FROM chat_messages WHERE id IN ({}) FOR UPDATE",
                marks(messages.len())
            ),
            ids(messages.iter().map(|(id, _)| id.0)),
        );
        let found = rows?
            .into_iter()
            .map(|row| columns::<(u64, u64, String)>(row, OPERATION))
            .collect::<Result<HashSet<_>>>()?;
        if self.posting.is_some() {
            self.rollback()?;
        }
        // An id that somebody else has been given since is not this message.
        Ok(messages.iter().all(|(id, message)| {
            found.contains(&(id.0, message.sender.0, message.body_text.clone()))
        }))
    }
}

/// The columns of an event's message, in the order in which [`message`] takes them.
const SELECT_MESSAGE: &str = "SELECT m.id, m.channel_id, m.thread_id, m.sender_agent_id, m.body_text, \
     m.body_rendered_html, CAST(m.metadata_json AS CHAR), CAST(m.created_at AS CHAR), CAST(m.edited_at AS CHAR), \
     CAST(m.deleted_at AS CHAR), m.deleted_by_agent_id, a.name, a.chat_handle \
     FROM chat_messages m JOIN agents a ON a.id = m.sender_agent_id";

fn message(mut row: Row, operation: &'static str) -> Result<Message> {
    let channel: Option<u64> = take(&mut row, 1, operation)?;
    let thread: Option<u64> = take(&mut row, 2, operation)?;
    let deleted_by: Option<u64> = take(&mut row, 10, operation)?;
    Ok(Message {
        id: MessageId(take(&mut row, 0, operation)?),
        conversation: match (channel, thread) {
            (Some(id), _) => Conversation::Channel(ChannelId(id)),
            (None, id) => Conversation::Direct(ThreadId(id.unwrap_or_default())),
        },
        sender: AgentId(take(&mut row, 3, operation)?),
        body_text: take(&mut row, 4, operation)?,
        body_rendered_html: take(&mut row, 5, operation)?,
        metadata_json: take(&mut row, 6, operation)?,
        created_at: take(&mut row, 7, operation)?,
        edited_at: take(&mut row, 8, operation)?,
        deleted_at: take(&mut row, 9, operation)?,
        deleted_by: deleted_by.map(AgentId),
        sender_name: take(&mut row, 11, operation)?,
        sender_chat_handle: take(&mut row, 12, operation)?,
    })
}

fn take<T: mysql::prelude::FromValue>(
    row: &mut Row,
    column: usize,
    operation: &'static str,
) -> Result<T> {
    match row.take_opt(column) {
        Some(Ok(value)) => Ok(value),
        _ => Err(StoreError {
            operation,
            failure: Failure::Refused,
            cause: format!("unexpected type of column {column}"),
        }),
    }
}

fn conversation_column(conversation: Conversation) -> (&'static str, u64) {
    match conversation {
        Conversation::Channel(id) => ("channel_id", id.0),
        Conversation::Direct(id) => ("thread_id", id.0),
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<Value> {
    ids.into_iter().map(Value::from).collect()
}

fn columns<T: mysql::prelude::FromRow>(row: Row, operation: &'static str) -> Result<T> {
    mysql::from_row_opt(row).map_err(|error| StoreError {
        operation,
        failure: Failure::Refused,
        cause: format!("unexpected column types: {error}"),
    })
}

fn failed(operation: &'static str, failure: Failure, error: &MysqlError) -> StoreError {
    StoreError {
        operation,
        failure,
        cause: error.to_string(),
    }
}

fn connect_failure(error: &MysqlError) -> Failure {
    match error {
        // Access denied (to the server, to the database), unknown database, no such user by this plugin.
        MysqlError::MySqlError(server) if matches!(server.code, 1044 | 1045 | 1049 | 1698) => {
            Failure::Denied
        }
        _ => Failure::Lost,
    }
}

fn query_failure(error: &MysqlError) -> Failure {
    match error {
        MysqlError::MySqlError(server) => match server.code {
            // Lock wait timeout, deadlock, record changed since last read.
            1205 | 1213 | 1020 => Failure::Conflict,
            // Shutting down, killed, interrupted, too many connections, read-only, disk full, gone away, no
            // time left: the server cannot now what it could before.
            1021 | 1040 | 1053 | 1077 | 1079 | 1114 | 1180 | 1203 | 1290 | 1317 | 1792 | 1836
            | 1927 | 1969 | 3024 | 2006 | 2013 => Failure::Lost,
            _ => Failure::Refused,
        },
        _ => Failure::Lost,
    }
}
