//! The statements that read messages.

use rusqlite::{Connection as Sqlite, Params, Row};

use super::collation;
use super::rows::{key, list, select};
use crate::model::{
    AgentId, ChannelId, Conversation, Message, MessageId, Search, ThreadId, Unread,
};
use crate::store::page::PageBuilder;
use crate::store::{
    HISTORY_SCAN_LIMIT, MessagePage, PageLimit, SEARCH_SCAN_LIMIT, SearchResult, Sent,
    UNREAD_SCAN_LIMIT, conversation_column,
};

/// The columns of an event's message, in the order in which [`message`] takes them.
const SELECT_MESSAGE: &str = "SELECT m.id, m.channel_id, m.thread_id, m.sender_agent_id, m.body_text, \
     m.body_rendered_html, m.metadata_json, m.created_at, m.edited_at, m.deleted_at, m.deleted_by_agent_id, \
     a.name, a.chat_handle FROM chat_messages m JOIN agents a ON a.id = m.sender_agent_id";

/// Condition: the agent `?2` may read a message.
const READABLE: &str = "(m.channel_id IN \
     (SELECT cm.channel_id FROM chat_channel_members cm JOIN chat_channels c \
     ON c.id = cm.channel_id AND c.is_active = 1 WHERE cm.agent_id = ?2) OR m.thread_id IN \
     (SELECT t.id FROM chat_threads t WHERE t.agent_one_id = ?2 OR t.agent_two_id = ?2))";

/// The messages that `rest`, the end of a statement from WHERE on, finds.
pub(super) fn messages(
    conn: &Sqlite,
    rest: &str,
    params: impl Params,
) -> rusqlite::Result<Vec<Message>> {
    select(conn, &format!("{SELECT_MESSAGE} {rest}"), params, message)
}

fn message(row: &Row<'_>) -> rusqlite::Result<Message> {
    Ok(Message {
        id: MessageId(row.get(0)?),
        conversation: place(row)?,
        sender: AgentId(row.get(3)?),
        body_text: row.get(4)?,
        body_rendered_html: row.get(5)?,
        metadata_json: row.get(6)?,
        created_at: row.get(7)?,
        edited_at: row.get(8)?,
        deleted_at: row.get(9)?,
        deleted_by: row.get::<_, Option<u64>>(10)?.map(AgentId),
        sender_name: row.get(11)?,
        sender_chat_handle: row.get(12)?,
    })
}

/// The conversation that the second and the third column of a row name.
fn place(row: &Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(match row.get(1)? {
        Some(id) => Conversation::Channel(ChannelId(id)),
        None => Conversation::Direct(ThreadId(row.get(2)?)),
    })
}

/// Ids of the newest messages, ascending.
pub(super) fn newest_ids(conn: &Sqlite, most: usize) -> rusqlite::Result<Vec<MessageId>> {
    let mut ids = select(
        conn,
        "SELECT id FROM chat_messages ORDER BY id DESC LIMIT ?",
        (most,),
        |row| row.get(0).map(MessageId),
    )?;
    ids.reverse();
    Ok(ids)
}

/// The newest messages of a conversation below an id; looks at most at `HISTORY_SCAN_LIMIT` ids, deleted ones included.
pub(super) fn history(
    conn: &Sqlite,
    conversation: Conversation,
    before: Option<MessageId>,
    room: PageLimit,
) -> rusqlite::Result<MessagePage> {
    let (column, id) = conversation_column(conversation);
    let before = before.map_or(i64::MAX, |before| key(before.0));
    let (count, lowest): (u64, i64) = conn.query_row(
        &format!(
            "SELECT COUNT(*), COALESCE(MIN(id), 0) FROM (SELECT id FROM chat_messages \
             WHERE {column} = ? AND id < ? ORDER BY id DESC LIMIT {HISTORY_SCAN_LIMIT})"
        ),
        (key(id), before),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut found = newest_first(
        conn,
        &format!(
            "WHERE m.{column} = ? AND m.id >= ? AND m.id < ? AND m.deleted_at IS NULL \
             ORDER BY m.id DESC LIMIT ?"
        ),
        (key(id), lowest, before, room.rows()),
        room,
    )?;
    // A client continues from the oldest message that it got: without one, it cannot.
    found.has_older |= count == HISTORY_SCAN_LIMIT && !found.messages.is_empty();
    Ok(found)
}

/// The newest messages above an id that an agent may see.
pub(super) fn missed(
    conn: &Sqlite,
    agent: AgentId,
    after: MessageId,
    room: PageLimit,
) -> rusqlite::Result<MessagePage> {
    newest_first(
        conn,
        &format!(
            "WHERE m.id > ?1 AND m.deleted_at IS NULL AND {READABLE} ORDER BY m.id DESC LIMIT ?3"
        ),
        (key(after.0), key(agent.0), room.rows()),
        room,
    )
}

/// Messages that contain a text. LIKE does not know our collation, so the texts are compared here.
pub(super) fn search(
    conn: &Sqlite,
    search: &Search,
    room: PageLimit,
) -> rusqlite::Result<SearchResult> {
    let (column, id) = search.conversation.map_or(("id", 0), conversation_column);
    let is_here = match search.conversation {
        Some(_) => format!("m.{column} = ?1"),
        None => "?1 = 0".to_owned(),
    };
    let before = search.before.map_or(i64::MAX, |before| key(before.0));
    let floor = select(
        conn,
        &format!(
            "SELECT m.id FROM chat_messages m WHERE {is_here} AND m.id < ?2 ORDER BY m.id DESC LIMIT 1 OFFSET ?3"
        ),
        (key(id), before, SEARCH_SCAN_LIMIT - 1),
        |row| row.get::<_, u64>(0),
    )?;
    let floor = floor.first().copied();
    let agent = match search.conversation {
        Some(_) => 0,
        None => search.agent.0,
    };
    let mut statement = conn.prepare(&format!(
        "{SELECT_MESSAGE} WHERE {is_here} AND m.id < ?2 AND m.id >= ?3 AND m.deleted_at IS NULL \
         AND (?4 = 0 OR {}) ORDER BY m.id DESC",
        READABLE.replace("?2", "?4")
    ))?;
    let wanted = collation::Needle::new(&search.text.0);
    let mut rows = statement.query((key(id), before, key(floor.unwrap_or(0)), key(agent)))?;
    let mut found = PageBuilder::new(room);
    while !found.is_full()
        && let Some(row) = rows.next()?
    {
        let sender = row.get::<_, u64>(3)?;
        let is_theirs = search.sender.is_none_or(|one| one.0 == sender);
        if is_theirs && wanted.is_in(row.get_ref(4)?.as_str()?) {
            found.offer(message(row)?);
        }
    }
    Ok(SearchResult::of(found.end(), floor))
}

/// A page of a query that returns the newest first.
fn newest_first(
    conn: &Sqlite,
    rest: &str,
    params: impl Params,
    room: PageLimit,
) -> rusqlite::Result<MessagePage> {
    let mut statement = conn.prepare(&format!("{SELECT_MESSAGE} {rest}"))?;
    let mut rows = statement.query(params)?;
    let mut found = PageBuilder::new(room);
    while !found.is_full()
        && let Some(row) = rows.next()?
    {
        found.offer(message(row)?);
    }
    Ok(found.end())
}

/// What an agent has not read, channels first.
pub(super) fn unread(conn: &Sqlite, agent: AgentId) -> rusqlite::Result<Vec<Unread>> {
    let count = |column: &str| {
        format!(
            "COALESCE(r.last_read_message_id, 0), (SELECT COUNT(*) FROM \
             (SELECT m.deleted_at, m.sender_agent_id FROM chat_messages m \
             WHERE m.{column} = c.id AND m.id > COALESCE(r.last_read_message_id, 0) \
             ORDER BY m.id DESC LIMIT {UNREAD_SCAN_LIMIT}) newest \
             WHERE newest.deleted_at IS NULL AND newest.sender_agent_id <> ?1)"
        )
    };
    let channels = format!(
        "SELECT c.id, {} FROM chat_channel_members cm \
         JOIN chat_channels c ON c.id = cm.channel_id AND c.is_active = 1 \
         LEFT JOIN chat_message_reads r ON r.agent_id = cm.agent_id AND r.message_scope = 'channel' \
         AND r.channel_id = c.id WHERE cm.agent_id = ?1 ORDER BY c.id",
        count("channel_id")
    );
    let threads = format!(
        "SELECT c.id, {} FROM chat_threads c \
         LEFT JOIN chat_message_reads r ON r.agent_id = ?1 AND r.message_scope = 'direct' \
         AND r.thread_id = c.id WHERE c.agent_one_id = ?1 OR c.agent_two_id = ?1 ORDER BY c.id",
        count("thread_id")
    );
    let mut found = select(conn, &channels, (key(agent.0),), |row| {
        Ok(Unread {
            conversation: Conversation::Channel(ChannelId(row.get(0)?)),
            last_read: MessageId(row.get(1)?),
            unread: row.get(2)?,
        })
    })?;
    found.extend(select(conn, &threads, (key(agent.0),), |row| {
        Ok(Unread {
            conversation: Conversation::Direct(ThreadId(row.get(0)?)),
            last_read: MessageId(row.get(1)?),
            unread: row.get(2)?,
        })
    })?);
    Ok(found)
}

/// Messages of these senders with a `metadata_json`, up to one id or above another, and not older than so many seconds.
pub(super) fn recent_with_metadata(
    conn: &Sqlite,
    senders: &[AgentId],
    (until, above): (MessageId, MessageId),
    seconds: u64,
) -> rusqlite::Result<Vec<Sent>> {
    select(
        conn,
        "SELECT id, channel_id, thread_id, sender_agent_id, metadata_json FROM chat_messages \
         WHERE sender_agent_id IN (SELECT value FROM json_each(?)) AND created_at >= datetime('now', ?) \
         AND (id <= ? OR id > ?) AND metadata_json IS NOT NULL ORDER BY id",
        (
            list(senders.iter().map(|id| id.0)),
            format!("-{seconds} seconds"),
            key(until.0),
            key(above.0),
        ),
        |row| {
            Ok(Sent {
                id: MessageId(row.get(0)?),
                conversation: place(row)?,
                sender: AgentId(row.get(3)?),
                metadata_json: row.get(4)?,
            })
        },
    )
}
