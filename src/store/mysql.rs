//! The store over the helpdesk's own tables in MySQL or MariaDB. The only file that names the MySQL crate. It
//! names every column, never creates or alters a table, and uses nothing that only one of the two servers has
//! (contract: database.md, schema.sql).

mod history;
mod operations;
mod posting;
mod push;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Error as MysqlError, OptsBuilder, Params, Row, Value};

use super::{Connection, Failure, Result, Store, StoreError, conversation_column};
use crate::app_cache::AppCache;
use crate::config::DatabaseConfig;
use crate::limits::STORE_PATIENCE;
use crate::model::{Agent, AgentId, Conversation, MessageId};
use crate::settings::Rows;

/// Where a server's Unix socket is looked for, after `DB_SOCKET`.
const SOCKET_PATHS: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/tmp/mysql.sock",
];
/// Statements that a connection keeps prepared: inserts of many different lengths are among them.
const PREPARED: usize = 128;
/// What an answer takes on the line beside its rows, and what each of its columns does, in bytes and roughly.
const ANSWER_BYTES: usize = 20;
const COLUMN_BYTES: usize = 60;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the end of a process may take for the application's cache.
const SETTLE_PATIENCE: Duration = Duration::from_millis(800);
/// How long a lock of a row or a table is waited for: less long than the answer, so that the answer says what it
/// was, and the connection lives on.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

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

    /// The same; `cache` learns what is written, and from the settings where it is.
    pub fn with_cache(mut self, cache: AppCache) -> Self {
        self.cache = cache;
        self
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
            .stmt_cache_size(PREPARED)
            .read_timeout(patience)
            .write_timeout(patience)
            .init(vec![
                format!(
                    "SET NAMES {} COLLATE {}",
                    self.config.charset, self.config.collation
                ),
                format!(
                    "SET SESSION innodb_lock_wait_timeout = {0}, lock_wait_timeout = {0}",
                    LOCK_PATIENCE.as_secs()
                ),
            ]);
        let conn = Conn::new(options)
            .map_err(|error| failed("connect to the database", connect_failure(&error), &error))?;
        Ok(Box::new(MysqlConnection {
            conn,
            cache: self.cache.clone(),
            posting: None,
            received: 0,
        }))
    }

    fn describe(&self) -> String {
        match self.socket() {
            Some(path) => format!("{}@{path}/{}", self.config.user, self.config.name),
            None => format!("{:?}", self.config),
        }
    }

    fn remedy(&self, failure: Failure) -> &'static str {
        match failure {
            Failure::Denied => "correct DB_DATABASE, DB_USERNAME or DB_PASSWORD",
            Failure::Refused => "is this the helpdesk's database?",
            Failure::Lost | Failure::Conflict => {
                "start it, or correct DB_HOST, DB_PORT or DB_SOCKET"
            }
        }
    }

    fn settle(&self, until: Instant) {
        if self.cache.is_unknown() {
            // A command that writes need not have read where the cache is.
            let _ = self.connect().and_then(|mut store| store.settings());
        }
        self.cache.settle(until);
    }
}

impl Drop for MysqlStore {
    fn drop(&mut self) {
        // A command that ends at once has nobody else to see to it.
        self.settle(Instant::now() + SETTLE_PATIENCE);
    }
}

struct MysqlConnection {
    conn: Conn,
    cache: AppCache,
    /// Set once autocommit is off.
    posting: Option<PostingSession>,
    /// Bytes, roughly.
    received: u64,
}

/// What a session that posts knows of itself.
#[derive(Clone, Copy)]
struct PostingSession {
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
        let failure = |error: MysqlError| failed(operation, query_failure(&error), &error);
        let answer = self.conn.exec_iter(sql, params).map_err(failure)?;
        let mut bytes = ANSWER_BYTES + answer.columns().as_ref().len() * COLUMN_BYTES;
        for row in answer {
            let row = row.map_err(failure)?;
            bytes += size(&row);
            take(row)?;
        }
        self.received += bytes as u64;
        Ok(())
    }

    /// A statement that writes.
    pub(super) fn execute(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl Into<Params>,
    ) -> Result<()> {
        self.conn
            .exec_drop(sql, params)
            .map_err(|error| failed(operation, query_failure(&error), &error))?;
        if self.posting.is_none() {
            self.cache.written();
        }
        Ok(())
    }

    pub(super) fn statement(&mut self, operation: &'static str, sql: &str) -> Result<()> {
        self.conn
            .query_drop(sql)
            .map_err(|error| failed(operation, query_failure(&error), &error))
    }

    /// Ends a transaction.
    pub(super) fn commit_for_all(&mut self) -> Result<()> {
        let committed = self.statement("commit", "COMMIT");
        // Also where its answer was lost: it may have been done.
        self.cache.written();
        committed
    }

    pub(super) fn now(&mut self, operation: &'static str) -> Result<String> {
        let rows = self.rows(operation, "SELECT CAST(NOW() AS CHAR)", ())?;
        let now = rows.into_iter().next().map(|row| columns(row, operation));
        let (now,): (String,) = now.transpose()?.unwrap_or_default();
        Ok(now)
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
             WHERE key_name LIKE 'chat\\_%' OR key_name LIKE 'push\\_vapid\\_%' OR key_name LIKE 'cache\\_%' \
             OR key_name LIKE 'redis\\_%' OR key_name = 'app_url'",
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

    fn received(&self) -> u64 {
        self.received
    }

    fn push(&mut self) -> Option<&mut dyn super::push::PushStore> {
        Some(self)
    }
}

/// What a row takes on the line, in bytes and roughly.
fn size(row: &Row) -> usize {
    let size = |place| match row.as_ref(place) {
        Some(Value::Bytes(bytes)) => bytes.len() + 1,
        _ => 8,
    };
    (0..row.len()).map(size).sum::<usize>() + 4
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
