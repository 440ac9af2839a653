//! The store over the helpdesk's own tables in MySQL or MariaDB. The only folder that names the MySQL crate. It names
//! every column, never creates or alters a table, and except for the time limit of a statement uses nothing that only
//! one of the two servers has (contract: database.md, schema.sql).

mod address;
mod connect;
mod history;
mod operations;
mod posting;
mod push;
#[cfg(feature = "db-tls")]
mod tls;
mod verdict;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use log::warn;
use mysql::prelude::Queryable;
use mysql::{Conn, Error as MysqlError, Params, Row, Value};

use self::address::ServerAddress;
use self::verdict::{Doing, failed};

use super::{DatabaseConnection, Failure, Result, Store, StoreError, conversation_column};
use crate::config::DatabaseConfig;
use crate::config::settings::Rows;
use crate::model::{Agent, AgentId, Conversation, MessageId};
use crate::store::cache_invalidation::AppCache;

/// Bytes of a statement besides its text and its values.
const STATEMENT_BYTES: usize = 64;
/// How long the end of a process may wait to invalidate the application's cache.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(800);
/// Notifications that one statement reads, and how long a read marker may spend on them in all.
const NOTIFICATIONS: usize = 1000;
const NOTIFICATIONS_TIMEOUT: Duration = Duration::from_secs(2);

/// A MySQL or MariaDB database.
pub struct MysqlStore {
    config: DatabaseConfig,
    cache: AppCache,
}

impl MysqlStore {
    /// The database that the install uses.
    pub fn new(config: DatabaseConfig) -> Self {
        MysqlStore {
            config,
            cache: AppCache::none(),
        }
    }

    /// Adds a `cache` that is told of every write, and learns from the settings where it is.
    pub fn with_cache(mut self, cache: AppCache) -> Self {
        self.cache = cache;
        self
    }
}

impl Store for MysqlStore {
    fn connect(&self) -> Result<Box<dyn DatabaseConnection>> {
        Ok(Box::new(self.open()?))
    }

    fn describe(&self) -> String {
        let (user, name) = (&self.config.user, &self.config.name);
        match ServerAddress::of(&self.config) {
            ServerAddress::Unix(path) => format!("{user}@{path}/{name}"),
            ServerAddress::Tcp(host, port) if host.contains(':') => {
                format!("{user}@[{host}]:{port}/{name}")
            }
            ServerAddress::Tcp(host, port) => format!("{user}@{host}:{port}/{name}"),
        }
    }

    fn remedy(&self, failure: Failure) -> &'static str {
        match failure {
            Failure::Denied => "correct DB_DATABASE, DB_USERNAME or DB_PASSWORD",
            Failure::Refused | Failure::TooLarge => "is this the helpdesk's database?",
            _ => "start it, or correct DB_HOST, DB_PORT or DB_SOCKET",
        }
    }

    fn settle(&self, until: Instant) {
        if self.cache.is_unknown() {
            // A command may have written without reading the settings, which say where the cache is.
            let _ = self.connect().and_then(|mut store| store.settings());
        }
        self.cache.flush(until);
    }
}

impl Drop for MysqlStore {
    fn drop(&mut self) {
        // A short-lived command has no timer thread that flushes the cache.
        self.settle(Instant::now() + SETTLE_TIMEOUT);
    }
}

struct MysqlConnection {
    conn: Conn,
    cache: AppCache,
    /// Whether autocommit is off.
    is_posting: bool,
    /// `max_allowed_packet`: what the server takes in one piece, in bytes.
    max_packet: u64,
    /// `auto_increment_increment`: above 1 in a cluster.
    id_step: u64,
}

impl MysqlConnection {
    pub(super) fn rows(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.each_row(operation, sql, params, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The rows of a query, one after the other as they arrive.
    pub(super) fn each_row(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
        mut take: impl FnMut(Row) -> Result<()>,
    ) -> Result<()> {
        let params = self.fits(operation, sql, params.into())?;
        let failure = |error: MysqlError| failed(operation, Doing::Asking, &error);
        let answer = self.conn.exec_iter(sql, params).map_err(failure)?;
        for row in answer {
            take(row.map_err(failure)?)?;
        }
        Ok(())
    }

    /// A statement that writes.
    pub(super) fn execute(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<()> {
        let params = self.fits(operation, sql, params.into())?;
        self.conn
            .exec_drop(sql, params)
            .map_err(|error| failed(operation, Doing::Writing, &error))?;
        if !self.is_posting {
            self.cache.written();
        }
        Ok(())
    }

    /// Refuses what is too large for the server, which would end the connection and could lose its reason.
    fn fits(&self, operation: &'static str, sql: &str, params: Params) -> Result<Params> {
        let bytes = match &params {
            Params::Positional(values) => values.iter().map(size_of_value).sum::<usize>(),
            _ => 0,
        };
        match (bytes + sql.len() + STATEMENT_BYTES) as u64 <= self.max_packet {
            true => Ok(params),
            false => Err(StoreError::new(
                operation,
                Failure::TooLarge,
                format!(
                    "larger than the {} bytes of max_allowed_packet",
                    self.max_packet
                ),
            )),
        }
    }

    pub(super) fn statement(&mut self, operation: &'static str, sql: &str) -> Result<()> {
        self.conn
            .query_drop(sql)
            .map_err(|error| failed(operation, Doing::Asking, &error))
    }

    /// Commits a transaction.
    pub(super) fn commit_for_all(&mut self) -> Result<()> {
        let committed = self.statement("commit", "COMMIT");
        // Even if the answer was lost: the commit may have succeeded.
        self.cache.written();
        committed
    }

    pub(super) fn now(&mut self, operation: &'static str) -> Result<String> {
        let rows = self.rows(operation, "SELECT CAST(NOW() AS CHAR)", ())?;
        let now = rows.into_iter().next().map(|row| columns(row, operation));
        let (now,): (String,) = now.transpose()?.unwrap_or_default();
        Ok(now)
    }

    /// Deletes an agent's notifications of one conversation. Reads all chat notifications of the agent in batches,
    /// ordered by their key. The JSON is parsed here and not by the server: MySQL and MariaDB disagree on broken JSON,
    /// and a strict server refuses to compare what is not a number.
    fn delete_notifications(&mut self, agent: AgentId, conversation: Conversation) -> Result<()> {
        const OPERATION: &str = "read the notifications of a conversation";
        let until = Instant::now() + NOTIFICATIONS_TIMEOUT;
        let (kinds, member, id) = match conversation {
            Conversation::Channel(id) => {
                ("'chat_channel_message', 'chat_mention'", "channel_id", id.0)
            }
            Conversation::Direct(id) => ("'chat_direct_message'", "thread_id", id.0),
        };
        let select = format!(
            "SELECT id, dedupe_key, data_json FROM agent_notifications WHERE agent_id = ? AND type IN ({kinds})"
        );
        // First those without a key.
        let mut after = None::<String>;
        loop {
            let rows = match &after {
                None => {
                    let sql = format!("{select} AND dedupe_key IS NULL LIMIT {NOTIFICATIONS}");
                    self.rows(OPERATION, &sql, (agent.0,))?
                }
                Some(key) => {
                    let sql = format!(
                        "{select} AND dedupe_key > ? ORDER BY dedupe_key LIMIT {NOTIFICATIONS}"
                    );
                    self.rows(OPERATION, &sql, (agent.0, key))?
                }
            };
            let is_last = after.is_some() && rows.len() < NOTIFICATIONS;
            let mut read = Vec::new();
            let mut last = String::new();
            for row in rows {
                let (notification, key, data): (u64, Option<String>, Option<String>) =
                    columns(row, OPERATION)?;
                last = key.unwrap_or_default();
                if data.is_some_and(|data| super::names_conversation(&data, member, id)) {
                    read.push(notification);
                }
            }
            if !read.is_empty() {
                let read = padded(read.into_iter());
                let sql = format!(
                    "DELETE FROM agent_notifications WHERE id IN ({})",
                    marks(read.len())
                );
                self.execute("delete notifications that were read", &sql, read)?;
            }
            if is_last || Instant::now() >= until {
                return Ok(());
            }
            after = Some(last);
        }
    }
}

impl DatabaseConnection for MysqlConnection {
    fn settings(&mut self) -> Result<Rows> {
        const OPERATION: &str = "read the settings";
        let rows = self.rows(
            OPERATION,
            "SELECT key_name, value FROM settings \
             WHERE key_name LIKE 'chat|_%' ESCAPE '|' OR key_name LIKE 'push|_vapid|_%' ESCAPE '|' \
             OR key_name LIKE 'cache|_%' ESCAPE '|' OR key_name LIKE 'redis|_%' ESCAPE '|' OR key_name = 'app_url'",
            (),
        )?;
        let pairs = rows
            .into_iter()
            .map(|row| columns::<(String, Option<String>)>(row, OPERATION))
            .collect::<Result<Vec<_>>>()?;
        let rows = Rows::new(pairs);
        self.cache.follow(&rows);
        Ok(rows)
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
        // Two statements, not an INSERT … SELECT: that would lock the end of the conversation and hold up a message
        // that is being posted. The newest id only grows, so the marker cannot overtake it.
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
        // The marker is stored and has to be announced, even if the notifications stay.
        match self.delete_notifications(agent, conversation) {
            Err(error) if matches!(error.failure, Failure::Refused | Failure::TookTooLong) => {
                warn!("{error}");
            }
            done => done?,
        }
        Ok(MessageId(marker.first().map_or(0, |(marker,)| *marker)))
    }

    fn is_alive(&mut self) -> bool {
        self.conn.ping().is_ok()
    }

    fn push(&mut self) -> Option<&mut dyn super::push::PushStore> {
        Some(self)
    }
}

/// Most bytes that a value takes on the line.
fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Bytes(bytes) => bytes.len() + 12,
        _ => 12,
    }
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Ids for an `IN` list, the last one repeated up to a power of two: so that few different statements are prepared.
fn padded(all: impl ExactSizeIterator<Item = u64>) -> Vec<Value> {
    let length = all.len().next_power_of_two();
    let mut padded = ids(all);
    if let Some(last) = padded.last().cloned() {
        padded.resize(length, last);
    }
    padded
}

fn ids(ids: impl IntoIterator<Item = u64>) -> Vec<Value> {
    ids.into_iter().map(Value::from).collect()
}

fn columns<T: mysql::prelude::FromRow>(row: Row, operation: &'static str) -> Result<T> {
    mysql::from_row_opt(row)
        .map_err(|_| StoreError::new(operation, Failure::Refused, "unexpected types of columns"))
}
