//! The subcommands' interface to a database, by task: requests to the supervisor, retention, and the queries of `check`. Every engine implements it for its connection, beside
//! [`DatabaseConnection`](super::DatabaseConnection).

use std::collections::HashSet;

use super::Result;
use crate::model::{ChannelId, MessageId};

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

/// The part of a connection that the daemon uses only at its start, if at all.
pub trait Operations {
    /// What the server calls itself, with its version.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    fn server_version(&mut self) -> Result<String>;

    /// Limits of this account, and how the connection is encrypted.
    fn line(&mut self) -> Result<ConnectionInfo> {
        Ok(ConnectionInfo::default())
    }

    /// Columns that cannot store every message unaltered, and why.
    fn narrow_columns(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Seconds since 1970 by the server's clock.
    fn server_epoch(&mut self) -> Result<u64>;

    /// The columns that these tables have, as (table, column).
    fn columns(&mut self, tables: &[&str]) -> Result<HashSet<(String, String)>>;

    /// Tries every kind of write that the service makes, without touching a row; returns the refused ones, and why.
    fn refused_writes(&mut self) -> Result<Vec<(&'static str, String)>>;

    /// Sets rows of `settings` that exist and writes what was done into the audit log: both or neither.
    fn change(&mut self, settings: &[(&str, &str)], audit: &AuditEntry) -> Result<()>;

    /// All channels.
    fn channel_retentions(&mut self) -> Result<Vec<ChannelRetention>>;

    /// The time so many days ago by the database's clock; `None` if it has no such time.
    fn days_ago(&mut self, days: u64) -> Result<Option<String>>;

    /// The smallest and the greatest id of a message, if there is any.
    fn message_ids(&mut self) -> Result<Option<(MessageId, MessageId)>>;

    /// Of the next `rows` messages above `above`, those created before `before` that are not marked deleted.
    /// Locks nothing.
    fn old_messages(&mut self, above: MessageId, rows: u32, before: &str) -> Result<Window>;

    /// Marks messages deleted, now and without an agent; returns how many were not marked yet.
    fn mark_deleted(&mut self, messages: &[MessageId]) -> Result<u64>;
}
