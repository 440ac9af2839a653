//! The statements that read messages.

use std::collections::HashMap;

use mysql::{Row, Value};

use super::{MysqlConnection, columns, ids, marks, padded};
use crate::model::{
    AgentId, ChannelId, Conversation, Message, MessageId, Search, ThreadId, Unread,
};
use crate::store::conversation_column;
use crate::store::page::PageBuilder;
use crate::store::{
    Failure, HISTORY_SCAN_LIMIT, History, MessagePage, PageLimit, Result, SEARCH_SCAN_LIMIT,
    SearchResult, Sent, StoreError, UNREAD_SCAN_LIMIT,
};

/// The columns of an event's message, in the order in which [`message`] takes them. STRAIGHT_JOIN: without good
/// statistics a server would begin with the agents, and read all messages that each has ever sent.
const SELECT_MESSAGE: &str = "SELECT m.id, m.channel_id, m.thread_id, m.sender_agent_id, m.body_text, \
     m.body_rendered_html, CAST(m.metadata_json AS CHAR), CAST(m.created_at AS CHAR), CAST(m.edited_at AS CHAR), \
     CAST(m.deleted_at AS CHAR), m.deleted_by_agent_id, a.name, a.chat_handle \
     FROM chat_messages m STRAIGHT_JOIN agents a ON a.id = m.sender_agent_id";

/// Escapes a text with `!`, so that LIKE takes it literally.
fn literally(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(letter);
    }
    pattern
}

/// Messages that one statement reads: a few long ones may fill a page, and the server would send the rest for nothing.
const PAGE: usize = 100;
/// Conversations that one statement asks for: each adds a part to its UNION.
const PLACES: usize = 64;
/// Ids that one statement looks at.
const WINDOW: u64 = 1000;
const NO_END: u64 = u64::MAX >> 1;

fn message(mut row: Row, operation: &'static str) -> Result<Message> {
    let channel: Option<u64> = take(&mut row, 1, operation)?;
    let thread: Option<u64> = take(&mut row, 2, operation)?;
    let deleted_by: Option<u64> = take(&mut row, 10, operation)?;
    Ok(Message {
        id: MessageId(take(&mut row, 0, operation)?),
        conversation: place(channel, thread),
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

/// The conversation that a row's two columns name.
fn place(channel: Option<u64>, thread: Option<u64>) -> Conversation {
    match channel {
        Some(id) => Conversation::Channel(ChannelId(id)),
        None => Conversation::Direct(ThreadId(thread.unwrap_or_default())),
    }
}

fn take<T: mysql::prelude::FromValue>(
    row: &mut Row,
    column: usize,
    operation: &'static str,
) -> Result<T> {
    match row.take_opt(column) {
        Some(Ok(value)) => Ok(value),
        _ => {
            let cause = format!("unexpected type of column {column}");
            Err(StoreError::new(operation, Failure::Refused, cause))
        }
    }
}

/// The part after FROM that finds messages of one conversation between two ids, the newest first. Parameters: the
/// conversation twice, the lower and the upper id, both exclusive. With `column = ?` MariaDB would read everything
/// newer than the upper id; with a range it begins there.
fn between(column: &str) -> String {
    format!(
        "chat_messages WHERE {column} >= ? AND {column} <= ? AND id > ? AND id < ? \
         ORDER BY {column} DESC, id DESC"
    )
}

/// A conversation of an agent, its read marker, and the newest id in it.
type SearchPlace = (u64, u64, u64);

/// Ids of messages that are not deleted, the newest first.
struct VisibleIds {
    found: Vec<u64>,
    may_have_more: bool,
}

impl MysqlConnection {
    /// At most `most` messages of one conversation between two ids. Stops after `HISTORY_SCAN_LIMIT` ids or a little more,
    /// however many are deleted.
    fn visible_ids(
        &mut self,
        operation: &'static str,
        conversation: Conversation,
        above: u64,
        mut before: u64,
        most: usize,
    ) -> Result<VisibleIds> {
        let (column, id) = conversation_column(conversation);
        // The index alone answers the inner query: a server that sorts whole rows reads all of them.
        let sql = format!(
            "SELECT m.id, m.deleted_at IS NULL FROM (SELECT id FROM {} LIMIT ?) part \
             STRAIGHT_JOIN chat_messages m ON m.id = part.id ORDER BY part.id DESC",
            between(column)
        );
        let mut found = Vec::new();
        let mut looked_at = 0;
        let mut may_have_more = true;
        let mut window = WINDOW.min(most as u64);
        while may_have_more && found.len() < most && looked_at < HISTORY_SCAN_LIMIT {
            let rows = self.rows(operation, &sql, ids([id, id, above, before, window]))?;
            let count = rows.len() as u64;
            for row in rows {
                let (id, is_visible) = columns(row, operation)?;
                before = id;
                found.extend(bool::then_some(is_visible, id));
            }
            may_have_more = count >= window;
            looked_at += count;
            window = WINDOW;
        }
        may_have_more |= found.len() > most;
        found.truncate(most);
        Ok(VisibleIds {
            found,
            may_have_more,
        })
    }

    /// The ids that a statement finds.
    fn found_ids(
        &mut self,
        operation: &'static str,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Vec<u64>> {
        self.rows(operation, sql, params)?
            .into_iter()
            .map(|row| columns::<(u64,)>(row, operation).map(|(id,)| id))
            .collect()
    }

    /// Reads these messages, the newest first, until the page is full.
    fn newest(
        &mut self,
        operation: &'static str,
        wanted: &[u64],
        room: PageLimit,
    ) -> Result<MessagePage> {
        let mut found = PageBuilder::new(room);
        for page in wanted.chunks(PAGE) {
            let page = padded(page.iter().copied());
            let sql = format!(
                "{SELECT_MESSAGE} WHERE m.id IN ({}) AND m.deleted_at IS NULL ORDER BY m.id DESC",
                marks(page.len())
            );
            self.each_row(operation, &sql, page, |row| {
                // The remaining rows have to be received anyway.
                if !found.is_full() {
                    found.offer(message(row, operation)?);
                }
                Ok(())
            })?;
            if found.is_full() {
                break;
            }
        }
        Ok(found.end())
    }

    /// The conversations of an agent: its active channels, and its threads.
    fn places(
        &mut self,
        operation: &'static str,
        agent: AgentId,
    ) -> Result<Vec<(Conversation, SearchPlace)>> {
        const CHANNELS: &str = "SELECT c.id, COALESCE(r.last_read_message_id, 0) FROM chat_channel_members cm \
             JOIN chat_channels c ON c.id = cm.channel_id AND c.is_active = 1 \
             LEFT JOIN chat_message_reads r ON r.agent_id = cm.agent_id AND r.message_scope = 'channel' \
             AND r.channel_id = c.id WHERE cm.agent_id = ? ORDER BY c.id";
        const THREADS: &str = "SELECT c.id, COALESCE(r.last_read_message_id, 0) FROM chat_threads c \
             LEFT JOIN chat_message_reads r ON r.agent_id = ? AND r.message_scope = 'direct' \
             AND r.thread_id = c.id WHERE c.agent_one_id = ? OR c.agent_two_id = ? ORDER BY c.id";
        let id = agent.0;
        let channels = self.places_by(operation, "channel_id", CHANNELS, ids([id]))?;
        let threads = self.places_by(operation, "thread_id", THREADS, ids([id, id, id]))?;
        let channels = channels
            .into_iter()
            .map(|place| (Conversation::Channel(ChannelId(place.0)), place));
        let threads = threads
            .into_iter()
            .map(|place| (Conversation::Direct(ThreadId(place.0)), place));
        Ok(channels.chain(threads).collect())
    }

    /// The conversations that `sql` finds, with their read markers and newest ids. Each newest id is asked for with the
    /// conversation as a parameter: if a subquery takes it from a column, MariaDB 11 and MySQL may read all messages.
    fn places_by(
        &mut self,
        operation: &'static str,
        column: &str,
        sql: &str,
        params: Vec<Value>,
    ) -> Result<Vec<SearchPlace>> {
        let found: Vec<(u64, u64)> = self
            .rows(operation, sql, params)?
            .into_iter()
            .map(|row| columns(row, operation))
            .collect::<Result<_>>()?;
        let one = format!("(SELECT {column}, id FROM {} LIMIT 1)", between(column));
        let bounds = |id: Value| [id.clone(), id, 0.into(), NO_END.into()];
        let mut newest: HashMap<u64, u64> = HashMap::new();
        for part in found.chunks(PLACES) {
            let places = padded(part.iter().map(|(id, _)| *id));
            let sql = vec![one.as_str(); places.len()].join(" UNION ALL ");
            let params: Vec<Value> = places.into_iter().flat_map(bounds).collect();
            for row in self.rows(operation, &sql, params)? {
                let (place, id) = columns(row, operation)?;
                newest.insert(place, id);
            }
        }
        let newest = |id| newest.get(&id).copied().unwrap_or(0);
        let with_newest = |(id, last_read)| (id, last_read, newest(id));
        Ok(found.into_iter().map(with_newest).collect())
    }
}

impl History for MysqlConnection {
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

    fn ids_above(&mut self, id: MessageId, most: usize) -> Result<Vec<MessageId>> {
        const OPERATION: &str = "look for new messages";
        self.rows(
            OPERATION,
            "SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?",
            (id.0, most as u64),
        )?
        .into_iter()
        .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| MessageId(id)))
        .collect()
    }

    fn messages(&mut self, wanted: &[MessageId]) -> Result<Vec<Message>> {
        const OPERATION: &str = "read messages";
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(
            OPERATION,
            &format!(
                "{SELECT_MESSAGE} WHERE m.id IN ({}) ORDER BY m.id",
                marks(wanted.len())
            ),
            ids(wanted.iter().map(|id| id.0)),
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
        room: PageLimit,
    ) -> Result<MessagePage> {
        const OPERATION: &str = "read older messages";
        let before = before.map_or(NO_END, |before| before.0);
        let ids = self.visible_ids(OPERATION, conversation, 0, before, room.rows())?;
        let mut page = self.newest(OPERATION, &ids.found, room)?;
        // A client continues from the oldest message that it got: without one, it cannot.
        page.has_older |= ids.may_have_more && !ids.found.is_empty();
        Ok(page)
    }

    fn missed(&mut self, agent: AgentId, after: MessageId, room: PageLimit) -> Result<MessagePage> {
        const OPERATION: &str = "read the messages that were missed";
        let mut wanted = Vec::new();
        let mut has_more = false;
        for (conversation, (_, _, newest)) in self.places(OPERATION, agent)? {
            if newest > after.0 {
                let ids =
                    self.visible_ids(OPERATION, conversation, after.0, NO_END, room.rows())?;
                wanted.extend(ids.found);
                has_more |= ids.may_have_more;
            }
        }
        wanted.sort_unstable_by(|one, other| other.cmp(one));
        wanted.truncate(room.rows());
        let mut page = self.newest(OPERATION, &wanted, room)?;
        page.has_older |= has_more;
        Ok(page)
    }

    fn search(&mut self, search: &Search, room: PageLimit) -> Result<SearchResult> {
        const OPERATION: &str = "search messages";
        let before = search.before.map_or(NO_END, |before| before.0);
        let place = search.conversation.map(conversation_column);
        // Not "=": with it MariaDB reads the whole conversation, whatever the ids are.
        let (here, order, mut params) = match place {
            Some((column, id)) => (
                format!("m.{column} >= ? AND m.{column} <= ?"),
                format!("m.{column} DESC, m.id DESC"),
                ids([id, id]),
            ),
            None => ("1".to_owned(), "m.id DESC".to_owned(), Vec::new()),
        };
        let sql = format!(
            "SELECT m.id FROM chat_messages m WHERE {here} AND m.id < ? ORDER BY {order} LIMIT 1 OFFSET ?"
        );
        let floor = [&params[..], &ids([before, SEARCH_SCAN_LIMIT as u64 - 1])].concat();
        let floor = self.found_ids(OPERATION, &sql, floor)?.first().copied();
        params.extend(ids([before, floor.unwrap_or(0)]));
        params.push(format!("%{}%", literally(&search.text.0)).into());
        let mut condition = String::new();
        if let Some(sender) = search.sender {
            // `+ 0` avoids the index of senders, which would read all that the sender has ever sent.
            condition.push_str(" AND m.sender_agent_id + 0 = ?");
            params.push(sender.0.into());
        }
        if place.is_none() {
            // As literal ids: with subqueries each message that contains the text would read one more row.
            let (mut channels, mut threads) = (String::from("0"), String::from("0"));
            for (conversation, _) in self.places(OPERATION, search.agent)? {
                let (list, id) = match conversation {
                    Conversation::Channel(id) => (&mut channels, id.0),
                    Conversation::Direct(id) => (&mut threads, id.0),
                };
                list.push_str(&format!(",{id}"));
            }
            condition.push_str(&format!(
                " AND (m.channel_id + 0 IN ({channels}) OR m.thread_id + 0 IN ({threads}))"
            ));
        }
        params.push((room.rows() as u64).into());
        let sql = format!(
            "SELECT m.id FROM chat_messages m WHERE {here} AND m.id < ? AND m.id >= ? \
             AND m.body_text LIKE ? ESCAPE '!' AND m.deleted_at IS NULL{condition} ORDER BY {order} LIMIT ?"
        );
        let wanted = self.found_ids(OPERATION, &sql, params)?;
        let newest = self.newest(OPERATION, &wanted, room)?;
        Ok(SearchResult::of(newest, floor))
    }

    fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>> {
        const OPERATION: &str = "count what was not read";
        let mut found = Vec::new();
        for (conversation, (_, last_read, newest)) in self.places(OPERATION, agent)? {
            let mut unread = 0;
            if newest > last_read {
                let (column, id) = conversation_column(conversation);
                let sql = format!(
                    "SELECT COUNT(*) FROM (SELECT deleted_at, sender_agent_id FROM {} LIMIT {UNREAD_SCAN_LIMIT}) newest \
                     WHERE deleted_at IS NULL AND sender_agent_id <> ?",
                    between(column)
                );
                let params = ids([id, id, last_read, NO_END, agent.0]);
                let counts = self.rows(OPERATION, &sql, params)?;
                let count = counts.into_iter().next().map(|row| columns(row, OPERATION));
                (unread,) = count.transpose()?.unwrap_or_default();
            }
            found.push(Unread {
                conversation,
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
        above: MessageId,
        seconds: u64,
    ) -> Result<Vec<Sent>> {
        const OPERATION: &str = "look for messages that were sent before";
        let mut params = ids(senders.iter().map(|id| id.0));
        params.extend(ids([seconds, until.0, above.0]));
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, channel_id, thread_id, sender_agent_id, CAST(metadata_json AS CHAR) FROM chat_messages \
                 WHERE sender_agent_id IN ({}) AND created_at >= NOW() - INTERVAL ? SECOND AND (id <= ? OR id > ?) \
                 AND metadata_json IS NOT NULL ORDER BY id",
                marks(senders.len())
            ),
            params,
        )?
        .into_iter()
        .map(|row| {
            let (id, channel, thread, sender, metadata_json) = columns(row, OPERATION)?;
            Ok(Sent {
                id: MessageId(id),
                conversation: place(channel, thread),
                sender: AgentId(sender),
                metadata_json,
            })
        })
        .collect()
    }
}
