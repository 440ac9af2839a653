//! One connection to a database: what the rules ask of it, in SQL that both engines read. What takes more than a few
//! statements stands in `history.rs`, `posting.rs` and `operations.rs`.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use log::warn;

use super::cache_invalidation::AppCache;
use super::operations::ConnectionInfo;
use super::row::{NOTHING, Row, Value, marks, padded, values};
use super::{Failure, Result, conversation_column, names_conversation};
use crate::config::settings::Rows;
use crate::model::{Agent, AgentId, Conversation, MessageId};

/// Notifications that one statement reads, and how long a read marker may spend on them in all.
const NOTIFICATIONS: usize = 1000;
const NOTIFICATIONS_TIMEOUT: Duration = Duration::from_secs(2);

/// What differs between the databases: how a statement gets there, and what a transaction is.
pub(super) trait Engine: Send {
    /// Hands each row of a query to `take` as it arrives.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    fn each_row(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: Vec<Value>,
        take: &mut dyn FnMut(Row) -> Result<()>,
    ) -> Result<()>;

    /// Runs a statement that writes, and returns how many rows it has changed.
    fn execute(&mut self, operation: &'static str, sql: &str, params: Vec<Value>) -> Result<u64>;

    /// The ids that the last insert gave its rows, which were so many; more than that where it passed some over.
    fn inserted(&self, rows: usize) -> Vec<u64>;

    /// Opens a transaction, unless one is open.
    fn begin(&mut self) -> Result<()>;

    /// Makes the transaction durable.
    fn commit(&mut self) -> Result<()>;

    /// Rolls the transaction back, if there is one.
    fn rollback(&mut self) -> Result<()>;

    /// Makes every statement a transaction by itself again.
    fn end_posting(&mut self) -> Result<()> {
        Ok(())
    }

    /// Most bytes of a statement.
    fn max_packet(&self) -> u64 {
        u64::MAX
    }

    /// Limits of this account, and how the connection is encrypted.
    fn line(&mut self) -> Result<ConnectionInfo> {
        Ok(ConnectionInfo::default())
    }

    /// Whether the server still answers.
    fn is_alive(&mut self) -> bool {
        true
    }
}

/// One connection to the database. After an error of [`Failure::Lost`] it is of no further use.
pub struct DatabaseConnection {
    pub(super) engine: Box<dyn Engine>,
    pub(super) cache: AppCache,
}

impl DatabaseConnection {
    /// Over an engine; `cache` is told of every write, and learns from the settings where it is.
    pub(super) fn new(engine: impl Engine + 'static, cache: AppCache) -> Self {
        DatabaseConnection {
            engine: Box::new(engine),
            cache,
        }
    }

    pub(super) fn rows<T>(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl IntoIterator<Item: Into<Value>>,
        mut read: impl FnMut(&mut Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        let mut take = |mut row: Row| -> Result<()> {
            rows.push(read(&mut row)?);
            Ok(())
        };
        self.engine
            .each_row(operation, sql, values(params), &mut take)?;
        Ok(rows)
    }

    /// The first row of a query.
    pub(super) fn first<T>(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl IntoIterator<Item: Into<Value>>,
        read: impl FnMut(&mut Row) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(operation, sql, params, read)?.into_iter().next())
    }

    pub(super) fn execute(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl IntoIterator<Item: Into<Value>>,
    ) -> Result<u64> {
        let changed = self.engine.execute(operation, sql, values(params))?;
        self.cache.written();
        Ok(changed)
    }

    /// Opens the transaction of a batch of messages. [`commit`](Self::commit) or [`rollback`](Self::rollback) ends it. Call
    /// [`end_posting`](Self::end_posting) before the connection is used for anything else.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn begin(&mut self) -> Result<()> {
        self.engine.begin()
    }

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// [`Failure::Lost`]: it is unknown whether it was committed; ask [`were_committed`](Self::were_committed) on another
    /// connection.
    pub fn commit(&mut self) -> Result<()> {
        let committed = self.engine.commit();
        // Even if the answer was lost: the commit may have succeeded.
        self.cache.written();
        committed
    }

    /// Rolls the transaction back.
    pub fn rollback(&mut self) -> Result<()> {
        self.engine.rollback()
    }

    /// Makes every statement a transaction by itself again.
    pub fn end_posting(&mut self) -> Result<()> {
        self.engine.end_posting()
    }

    /// All rows of `settings` that the service may look at.
    pub fn settings(&mut self) -> Result<Rows> {
        let rows = self.rows(
            "read the settings",
            "SELECT key_name, value FROM settings \
             WHERE key_name LIKE 'chat|_%' ESCAPE '|' OR key_name LIKE 'push|_vapid|_%' ESCAPE '|' \
             OR key_name LIKE 'cache|_%' ESCAPE '|' OR key_name LIKE 'redis|_%' ESCAPE '|' OR key_name = 'app_url'",
            NOTHING,
            |row| Ok((row.take()?, row.take()?)),
        )?;
        let rows = Rows::new(rows);
        self.cache.follow(&rows);
        Ok(rows)
    }

    /// Sets the values of rows of `settings` that exist; inserts none.
    pub fn update_settings(&mut self, values: &[(&str, &str)]) -> Result<()> {
        let sql = format!(
            "UPDATE settings SET value = CASE key_name{} END WHERE key_name IN ({})",
            " WHEN ? THEN ?".repeat(values.len()),
            marks(values.len())
        );
        let cases = values.iter().flat_map(|(key, value)| [*key, *value]);
        let keys = values.iter().map(|(key, _)| *key);
        self.execute("write the settings", &sql, cases.chain(keys))
            .map(drop)
    }

    /// The agent with this id, if active.
    pub fn active_agent(&mut self, id: AgentId) -> Result<Option<Agent>> {
        self.first(
            "read an agent",
            "SELECT name, role FROM agents WHERE id = ? AND is_active = 1",
            [id],
            |row| {
                Ok(Agent {
                    id,
                    name: row.take()?,
                    role: row.take()?,
                })
            },
        )
    }

    /// Ids of all active agents.
    pub fn active_agents(&mut self) -> Result<HashSet<AgentId>> {
        let sql = "SELECT id FROM agents WHERE is_active = 1";
        let found = self.rows("read which agents are active", sql, NOTHING, Row::take)?;
        Ok(found.into_iter().collect())
    }

    /// The agents of a conversation: members of an active channel, or both agents of a thread. Empty where there is no
    /// such conversation.
    pub fn audience(&mut self, conversation: Conversation) -> Result<Vec<AgentId>> {
        const OPERATION: &str = "read who is in a conversation";
        match conversation {
            Conversation::Channel(id) => self.rows(
                OPERATION,
                "SELECT m.agent_id FROM chat_channel_members m \
                 JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
                 WHERE m.channel_id = ? ORDER BY m.agent_id",
                [id],
                Row::take,
            ),
            Conversation::Direct(id) => {
                let sql = "SELECT agent_one_id, agent_two_id FROM chat_threads WHERE id = ?";
                let both = self.rows(OPERATION, sql, [id], |row| Ok([row.take()?, row.take()?]))?;
                Ok(both.into_iter().flatten().collect())
            }
        }
    }

    /// Moves an agent's read marker forward, never back and never beyond the newest message, deletes that agent's
    /// notifications of the conversation, and returns the stored marker.
    pub fn mark_read(
        &mut self,
        agent: AgentId,
        conversation: Conversation,
        last_read: MessageId,
    ) -> Result<MessageId> {
        const OPERATION: &str = "store a read marker";
        let (column, id) = conversation_column(conversation);
        // Two statements, not an INSERT … SELECT: that would lock the end of the conversation and hold up a message
        // that is being posted. The newest id only grows, so the marker cannot overtake it.
        let sql = format!("SELECT COALESCE(MAX(id), 0) FROM chat_messages WHERE {column} = ?");
        let newest = self.first(OPERATION, &sql, [id], Row::take)?;
        let last_read = last_read.min(newest.unwrap_or(MessageId(0)));
        self.execute(
            OPERATION,
            "INSERT INTO chat_message_reads \
             (agent_id, message_scope, channel_id, thread_id, last_read_message_id, last_read_at) \
             VALUES (?, ?, ?, ?, ?, NOW()) ON DUPLICATE KEY UPDATE \
             last_read_message_id = GREATEST(last_read_message_id, VALUES(last_read_message_id)), \
             last_read_at = NOW()",
            [
                Value::from(agent),
                conversation.scope().into(),
                conversation.channel_id().into(),
                conversation.thread_id().into(),
                last_read.into(),
            ],
        )?;
        let marker = self.first(
            OPERATION,
            &format!(
                "SELECT last_read_message_id FROM chat_message_reads \
                 WHERE agent_id = ? AND message_scope = ? AND {column} = ?"
            ),
            [Value::from(agent), conversation.scope().into(), id.into()],
            Row::take,
        )?;
        // The marker is stored and has to be announced, even if the notifications stay.
        match self.delete_notifications(agent, conversation) {
            Err(error) if matches!(error.failure, Failure::Refused | Failure::TookTooLong) => {
                warn!("{error}");
            }
            done => done?,
        }
        Ok(marker.unwrap_or(MessageId(0)))
    }

    /// Deletes an agent's notifications of one conversation. Reads all chat notifications of the agent in batches,
    /// ordered by their key. The JSON is parsed here and not by the server: MySQL and MariaDB disagree on broken JSON,
    /// and a strict server refuses to compare what is not a number.
    fn delete_notifications(&mut self, agent: AgentId, conversation: Conversation) -> Result<()> {
        const OPERATION: &str = "read the notifications of a conversation";
        let until = Instant::now() + NOTIFICATIONS_TIMEOUT;
        let (member, id) = conversation_column(conversation);
        let kinds = match conversation {
            Conversation::Channel(_) => "'chat_channel_message', 'chat_mention'",
            Conversation::Direct(_) => "'chat_direct_message'",
        };
        // First those without a key.
        let mut after = None::<String>;
        loop {
            let part = match &after {
                None => "dedupe_key IS NULL",
                Some(_) => "dedupe_key > ? ORDER BY dedupe_key",
            };
            let sql = format!(
                "SELECT id, dedupe_key, data_json FROM agent_notifications \
                 WHERE agent_id = ? AND type IN ({kinds}) AND {part} LIMIT {NOTIFICATIONS}"
            );
            let params = [Value::from(agent)]
                .into_iter()
                .chain(after.iter().map(Value::from));
            let rows = self.rows(OPERATION, &sql, params, |row| {
                Ok((row.take()?, row.take()?, row.take()?))
            })?;
            let is_last = after.is_some() && rows.len() < NOTIFICATIONS;
            let mut read = Vec::new();
            let mut last = None;
            for (notification, key, data) in rows {
                let (notification, data): (u64, Option<String>) = (notification, data);
                last = key;
                if data.is_some_and(|data| names_conversation(&data, member, id)) {
                    read.push(notification);
                }
            }
            if !read.is_empty() {
                let read = padded(read);
                let places = marks(read.len());
                let sql = format!("DELETE FROM agent_notifications WHERE id IN ({places})");
                self.execute("delete notifications that were read", &sql, read)?;
            }
            if is_last || Instant::now() >= until {
                return Ok(());
            }
            after = Some(last.unwrap_or_default());
        }
    }

    /// Whether the server still answers; the pool asks this of a connection that has been idle.
    pub(super) fn is_alive(&mut self) -> bool {
        self.engine.is_alive()
    }
}
