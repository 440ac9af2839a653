//! Turns rows into the store's types, and lists into parameters.

use rusqlite::{Connection as Sqlite, Params, Row};

use crate::model::{AgentId, ChannelId, Conversation, ThreadId};
use crate::store::{Member, Participant, Thread, names_conversation};

/// The database's clock.
pub(super) fn now(conn: &Sqlite) -> rusqlite::Result<String> {
    conn.query_row("SELECT CURRENT_TIMESTAMP", (), |row| row.get(0))
}

/// The members of the active ones among the channels.
pub(super) fn members(
    conn: &Sqlite,
    channels: &[ChannelId],
    senders: &[AgentId],
) -> rusqlite::Result<Vec<Member>> {
    select(
        conn,
        "SELECT m.channel_id, m.agent_id, a.is_active = 1 AND m.can_post = 1 \
         AND m.agent_id IN (SELECT value FROM json_each(?2)), \
         a.is_active = 1 AND COALESCE(p.notify_enabled, 0) = 1 \
         FROM chat_channel_members m \
         JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
         JOIN agents a ON a.id = m.agent_id \
         LEFT JOIN chat_channel_notification_preferences p \
         ON p.channel_id = m.channel_id AND p.agent_id = m.agent_id \
         WHERE m.channel_id IN (SELECT value FROM json_each(?1)) ORDER BY m.channel_id, m.agent_id",
        (
            list(channels.iter().map(|id| id.0)),
            list(senders.iter().map(|id| id.0)),
        ),
        |row| {
            Ok(Member {
                channel: ChannelId(row.get(0)?),
                agent: AgentId(row.get(1)?),
                can_post: row.get::<_, i64>(2)? == 1,
                watches: row.get::<_, i64>(3)? == 1,
            })
        },
    )
}

/// The threads that exist.
pub(super) fn direct_threads(conn: &Sqlite, threads: &[ThreadId]) -> rusqlite::Result<Vec<Thread>> {
    select(
        conn,
        "SELECT t.id, t.agent_one_id, one.is_active, t.agent_two_id, two.is_active \
         FROM chat_threads t JOIN agents one ON one.id = t.agent_one_id \
         JOIN agents two ON two.id = t.agent_two_id \
         WHERE t.id IN (SELECT value FROM json_each(?))",
        (list(threads.iter().map(|id| id.0)),),
        |row| {
            let agent = |column| -> rusqlite::Result<Participant> {
                Ok(Participant {
                    agent: AgentId(row.get(column)?),
                    is_active: row.get::<_, i64>(column + 1)? == 1,
                })
            };
            Ok(Thread {
                id: ThreadId(row.get(0)?),
                agents: [agent(1)?, agent(3)?],
            })
        },
    )
}

/// Deletes an agent's notifications of one conversation. Their JSON is read here, by the rules that hold for the
/// helpdesk's own database.
pub(super) fn delete_notifications(
    conn: &Sqlite,
    agent: AgentId,
    conversation: Conversation,
    member: &str,
    id: u64,
) -> rusqlite::Result<()> {
    let kinds = match conversation {
        Conversation::Channel(_) => "'chat_channel_message', 'chat_mention'",
        Conversation::Direct(_) => "'chat_direct_message'",
    };
    let rows = select(
        conn,
        &format!(
            "SELECT id, data_json FROM agent_notifications WHERE agent_id = ? AND type IN ({kinds})"
        ),
        (key(agent.0),),
        |row| Ok((row.get::<_, u64>(0)?, row.get::<_, Option<String>>(1)?)),
    )?;
    let read = rows
        .into_iter()
        .filter(|(_, data)| {
            data.as_deref()
                .is_some_and(|data| names_conversation(data, member, id))
        })
        .map(|(notification, _)| notification);
    conn.execute(
        "DELETE FROM agent_notifications WHERE id IN (SELECT value FROM json_each(?))",
        (list(read),),
    )
    .map(drop)
}

/// The rows of a query.
pub(super) fn select<T>(
    conn: &Sqlite,
    sql: &str,
    params: impl Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    conn.prepare(sql)?.query_map(params, row)?.collect()
}

/// An id as SQLite's integer; a greater one, which only a client can invent, is in no row.
pub(super) fn key(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Ids or texts as a JSON array.
pub(super) fn list<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<T> = values.into_iter().collect();
    serde_json::to_string(&values).unwrap_or_else(|_| "[]".to_owned())
}
