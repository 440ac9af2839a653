//! Writes agents, channels, threads and tickets, which the helpdesk's application writes in an install. Only for the
//! demo's file; the service itself writes none of them.

use super::connection::SqliteConnection;
use super::rows::key;
use crate::model::{AgentId, ChannelId, ThreadId};
use crate::store::Result;

/// A new row of `agents`; active, and without a password, so that it allows no login to a helpdesk.
#[derive(Clone, Copy, Debug)]
pub struct NewAgent<'a> {
    /// Display name.
    pub name: &'a str,
    /// Address, unique.
    pub email: &'a str,
    /// `admin` or `agent`.
    pub role: &'a str,
    /// Unique.
    pub chat_handle: Option<&'a str>,
}

/// A row of `chat_channels` to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewChannel<'a> {
    /// Display name.
    pub name: &'a str,
    /// Unique.
    pub slug: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// Who made it.
    pub created_by: AgentId,
}

impl SqliteConnection {
    /// Whether there is any agent, active or not.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn has_agents(&mut self) -> Result<bool> {
        self.read("look for agents", |conn| {
            conn.query_row("SELECT EXISTS (SELECT 1 FROM agents)", (), |row| row.get(0))
        })
    }

    /// Writes an agent.
    pub fn insert_agent(&mut self, agent: &NewAgent<'_>) -> Result<AgentId> {
        self.insert(
            "insert an agent",
            "INSERT INTO agents (name, email, password_hash, role, chat_handle) VALUES (?, ?, '!', ?, ?)",
            (agent.name, agent.email, agent.role, agent.chat_handle),
        )
        .map(AgentId)
    }

    /// Writes a channel without members.
    pub fn insert_channel(&mut self, channel: &NewChannel<'_>) -> Result<ChannelId> {
        self.insert(
            "insert a channel",
            "INSERT INTO chat_channels (name, slug, description, created_by_agent_id) VALUES (?, ?, ?, ?)",
            (
                channel.name,
                channel.slug,
                channel.description,
                key(channel.created_by.0),
            ),
        )
        .map(ChannelId)
    }

    /// Makes an agent a member of a channel.
    pub fn insert_member(
        &mut self,
        channel: ChannelId,
        agent: AgentId,
        can_post: bool,
    ) -> Result<()> {
        self.insert(
            "insert a member",
            "INSERT INTO chat_channel_members (channel_id, agent_id, can_post) VALUES (?, ?, ?)",
            (key(channel.0), key(agent.0), can_post),
        )
        .map(drop)
    }

    /// Writes the direct thread of two agents.
    pub fn insert_thread(&mut self, one: AgentId, two: AgentId) -> Result<ThreadId> {
        self.insert(
            "insert a direct thread",
            "INSERT INTO chat_threads (agent_one_id, agent_two_id) VALUES (?, ?)",
            (key(one.min(two).0), key(one.max(two).0)),
        )
        .map(ThreadId)
    }

    /// Writes a ticket.
    pub fn insert_ticket(&mut self, number: &str, subject: &str) -> Result<u64> {
        self.insert(
            "insert a ticket",
            "INSERT INTO tickets (ticket_number, subject) VALUES (?, ?)",
            (number, subject),
        )
    }

    /// The database's clock so many minutes ago, as `created_at` has it.
    pub fn minutes_ago(&mut self, minutes: u32) -> Result<String> {
        self.read("read the clock", |conn| {
            conn.query_row(
                "SELECT datetime('now', ?)",
                (format!("-{minutes} minutes"),),
                |row| row.get(0),
            )
        })
    }

    fn insert(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<u64> {
        self.write(operation, |conn| {
            conn.execute(sql, params)?;
            Ok(conn.last_insert_rowid().unsigned_abs())
        })
    }
}
