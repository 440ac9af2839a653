//! What the helpdesk's application does in an install, for the demo: it writes agents, channels, threads and tickets, and
//! shows an agent who is there, what it may read, and the audit log. The service itself needs none of this.

use crate::model::{AgentId, ChannelId, MessageId, ThreadId};
use crate::store::row::{NOTHING, Row, Value};
use crate::store::{DatabaseConnection, Result};

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

/// A row of `agents`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOverview {
    /// Key.
    pub id: AgentId,
    /// Display name.
    pub name: String,
    /// `admin` or `agent`.
    pub role: String,
    /// The handle for mentions.
    pub chat_handle: Option<String>,
    /// Whether the agent may log in.
    pub is_active: bool,
}

/// An active channel, as one of its members sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelOverview {
    /// Key.
    pub id: ChannelId,
    /// Display name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its members.
    pub members: Vec<ChannelMember>,
    /// Who has read up to where.
    pub markers: Vec<(AgentId, MessageId)>,
}

/// A member of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMember {
    /// The agent.
    pub agent: AgentId,
    /// Whether this agent may post there.
    pub can_post: bool,
}

/// A direct thread, as one of its two agents sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadOverview {
    /// Key.
    pub id: ThreadId,
    /// The two, the lower id first.
    pub agents: [AgentId; 2],
    /// Who has read up to where.
    pub markers: Vec<(AgentId, MessageId)>,
}

/// A row of `audit_log` about the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// What was done.
    pub action: String,
    /// When, by the database's clock.
    pub created_at: String,
}

impl DatabaseConnection {
    /// Whether there is any agent, active or not.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn has_agents(&mut self) -> Result<bool> {
        let agent = self.first(
            "look for agents",
            "SELECT id FROM agents LIMIT 1",
            NOTHING,
            |_| Ok(()),
        );
        Ok(agent?.is_some())
    }

    /// Writes an agent.
    pub fn insert_agent(&mut self, agent: &NewAgent<'_>) -> Result<AgentId> {
        let sql = "INSERT INTO agents (name, email, password_hash, role, chat_handle) VALUES (?, ?, '!', ?, ?)";
        let NewAgent {
            name,
            email,
            role,
            chat_handle,
        } = *agent;
        self.insert(
            sql,
            [name.into(), email.into(), role.into(), chat_handle.into()],
        )
        .map(AgentId)
    }

    /// Writes a channel without members.
    pub fn insert_channel(&mut self, channel: &NewChannel<'_>) -> Result<ChannelId> {
        let sql = "INSERT INTO chat_channels (name, slug, description, created_by_agent_id) VALUES (?, ?, ?, ?)";
        let NewChannel {
            name,
            slug,
            description,
            created_by,
        } = *channel;
        let row = [
            name.into(),
            slug.into(),
            description.into(),
            created_by.into(),
        ];
        self.insert(sql, row).map(ChannelId)
    }

    /// Makes an agent a member of a channel.
    pub fn insert_member(
        &mut self,
        channel: ChannelId,
        agent: AgentId,
        can_post: bool,
    ) -> Result<()> {
        let sql =
            "INSERT INTO chat_channel_members (channel_id, agent_id, can_post) VALUES (?, ?, ?)";
        self.insert(sql, [channel.into(), agent.into(), can_post.into()])
            .map(drop)
    }

    /// Writes the direct thread of two agents.
    pub fn insert_thread(&mut self, one: AgentId, two: AgentId) -> Result<ThreadId> {
        let sql = "INSERT INTO chat_threads (agent_one_id, agent_two_id) VALUES (?, ?)";
        self.insert(sql, [one.min(two).into(), one.max(two).into()])
            .map(ThreadId)
    }

    /// Writes a ticket.
    pub fn insert_ticket(&mut self, number: &str, subject: &str) -> Result<u64> {
        let sql = "INSERT INTO tickets (ticket_number, subject) VALUES (?, ?)";
        self.insert(sql, [number.into(), subject.into()])
    }

    fn insert<const N: usize>(&mut self, sql: &str, row: [Value; N]) -> Result<u64> {
        self.execute("write what the demo shows", sql, row)?;
        Ok(self.engine.inserted(1)[0])
    }

    /// The database's clock so many minutes ago, as `created_at` has it.
    pub fn minutes_ago(&mut self, minutes: u32) -> Result<String> {
        let sql = "SELECT datetime('now', '-' || ? || ' minutes')";
        let time = self.first("read the clock", sql, [minutes], Row::take)?;
        Ok(time.unwrap_or_default())
    }

    /// All agents, the inactive ones too.
    pub fn agents(&mut self) -> Result<Vec<AgentOverview>> {
        let sql = "SELECT id, name, role, chat_handle, is_active FROM agents ORDER BY id";
        self.rows("read the agents", sql, NOTHING, |row| {
            Ok(AgentOverview {
                id: row.take()?,
                name: row.take()?,
                role: row.take()?,
                chat_handle: row.take()?,
                is_active: row.take()?,
            })
        })
    }

    /// The active channels that an agent is a member of.
    pub fn channels_of(&mut self, agent: AgentId) -> Result<Vec<ChannelOverview>> {
        const OPERATION: &str = "read an agent's channels";
        let sql = "SELECT c.id, c.name, c.description FROM chat_channels c \
                   JOIN chat_channel_members m ON m.channel_id = c.id \
                   WHERE m.agent_id = ? AND c.is_active = 1 ORDER BY c.id";
        let mut channels = self.rows(OPERATION, sql, [agent], |row| {
            Ok(ChannelOverview {
                id: row.take()?,
                name: row.take()?,
                description: row.take()?,
                members: Vec::new(),
                markers: Vec::new(),
            })
        })?;
        for channel in &mut channels {
            let sql = "SELECT agent_id, can_post FROM chat_channel_members WHERE channel_id = ? ORDER BY agent_id";
            channel.members = self.rows(OPERATION, sql, [channel.id], |row| {
                Ok(ChannelMember {
                    agent: row.take()?,
                    can_post: row.take()?,
                })
            })?;
            channel.markers = self.markers("channel_id", channel.id)?;
        }
        Ok(channels)
    }

    /// The direct threads of an agent.
    pub fn threads_of(&mut self, agent: AgentId) -> Result<Vec<ThreadOverview>> {
        const OPERATION: &str = "read an agent's direct threads";
        let sql = "SELECT id, agent_one_id, agent_two_id FROM chat_threads \
                   WHERE agent_one_id = ?1 OR agent_two_id = ?1 ORDER BY id";
        let mut threads = self.rows(OPERATION, sql, [agent], |row| {
            Ok(ThreadOverview {
                id: row.take()?,
                agents: [row.take()?, row.take()?],
                markers: Vec::new(),
            })
        })?;
        for thread in &mut threads {
            thread.markers = self.markers("thread_id", thread.id)?;
        }
        Ok(threads)
    }

    /// Who has read a conversation up to where.
    fn markers(&mut self, column: &str, id: impl Into<Value>) -> Result<Vec<(AgentId, MessageId)>> {
        let sql = format!(
            "SELECT agent_id, last_read_message_id FROM chat_message_reads WHERE {column} = ? ORDER BY agent_id"
        );
        self.rows("read the markers", &sql, [id], |row| {
            Ok((row.take()?, row.take()?))
        })
    }

    /// The rows of the audit log about the service, the newest first, at most `most`.
    pub fn service_audit(&mut self, most: usize) -> Result<Vec<AuditRow>> {
        let sql = "SELECT action, created_at FROM audit_log WHERE subject_type = 'chat_websocket' \
                   ORDER BY id DESC LIMIT ?";
        self.rows("read the audit log", sql, [most], |row| {
            Ok(AuditRow {
                action: row.take()?,
                created_at: row.take()?,
            })
        })
    }
}
