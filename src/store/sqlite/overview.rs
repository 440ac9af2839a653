//! What the demo's page shows to one agent: all agents, and the conversations that it may read. The service itself does
//! not need this; in an install the helpdesk's application reads it.

use rusqlite::Connection as Sqlite;

use super::connection::SqliteConnection;
use super::rows::{key, select};
use crate::model::{AgentId, ChannelId, MessageId, ThreadId};
use crate::store::Result;

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

impl SqliteConnection {
    /// All agents, the inactive ones too.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn agents(&mut self) -> Result<Vec<AgentOverview>> {
        self.read("read the agents", |conn| {
            select(
                conn,
                "SELECT id, name, role, chat_handle, is_active FROM agents ORDER BY id",
                (),
                |row| {
                    Ok(AgentOverview {
                        id: AgentId(row.get(0)?),
                        name: row.get(1)?,
                        role: row.get(2)?,
                        chat_handle: row.get(3)?,
                        is_active: row.get::<_, i64>(4)? == 1,
                    })
                },
            )
        })
    }

    /// The active channels that an agent is a member of.
    pub fn channels_of(&mut self, agent: AgentId) -> Result<Vec<ChannelOverview>> {
        self.read("read an agent's channels", |conn| {
            let mut channels = select(
                conn,
                "SELECT c.id, c.name, c.description FROM chat_channels c \
                 JOIN chat_channel_members m ON m.channel_id = c.id \
                 WHERE m.agent_id = ? AND c.is_active = 1 ORDER BY c.id",
                (key(agent.0),),
                |row| {
                    Ok(ChannelOverview {
                        id: ChannelId(row.get(0)?),
                        name: row.get(1)?,
                        description: row.get(2)?,
                        members: Vec::new(),
                        markers: Vec::new(),
                    })
                },
            )?;
            for channel in &mut channels {
                channel.members = select(
                    conn,
                    "SELECT agent_id, can_post FROM chat_channel_members WHERE channel_id = ? ORDER BY agent_id",
                    (key(channel.id.0),),
                    |row| {
                        Ok(ChannelMember {
                            agent: AgentId(row.get(0)?),
                            can_post: row.get::<_, i64>(1)? == 1,
                        })
                    },
                )?;
                channel.markers = markers(conn, "channel_id", channel.id.0)?;
            }
            Ok(channels)
        })
    }

    /// The direct threads of an agent.
    pub fn threads_of(&mut self, agent: AgentId) -> Result<Vec<ThreadOverview>> {
        self.read("read an agent's direct threads", |conn| {
            let mut threads = select(
                conn,
                "SELECT id, agent_one_id, agent_two_id FROM chat_threads \
                 WHERE agent_one_id = ?1 OR agent_two_id = ?1 ORDER BY id",
                (key(agent.0),),
                |row| {
                    Ok(ThreadOverview {
                        id: ThreadId(row.get(0)?),
                        agents: [AgentId(row.get(1)?), AgentId(row.get(2)?)],
                        markers: Vec::new(),
                    })
                },
            )?;
            for thread in &mut threads {
                thread.markers = markers(conn, "thread_id", thread.id.0)?;
            }
            Ok(threads)
        })
    }
}

/// Who has read a conversation up to where.
fn markers(
    conn: &Sqlite,
    column: &str,
    conversation: u64,
) -> rusqlite::Result<Vec<(AgentId, MessageId)>> {
    select(
        conn,
        &format!(
            "SELECT agent_id, last_read_message_id FROM chat_message_reads WHERE {column} = ? ORDER BY agent_id"
        ),
        (key(conversation),),
        |row| Ok((AgentId(row.get(0)?), MessageId(row.get(1)?))),
    )
}
