//! The queries that read messages.

use std::collections::HashMap;

use super::connection::DatabaseConnection;
use super::page::PageBuilder;
use super::row::{NOTHING, Row, Value, marks, padded, values};
use super::{
    HISTORY_SCAN_LIMIT, MessagePage, PageLimit, Result, SEARCH_SCAN_LIMIT, SearchResult, Sent,
    UNREAD_SCAN_LIMIT, conversation_column,
};
use crate::model::{AgentId, Conversation, Message, MessageId, Search, Unread};

/// The columns of an event's message, in the order in which [`message`] takes them. STRAIGHT_JOIN: without good
/// statistics a server would begin with the agents, and read all messages that each has ever sent.
const SELECT_MESSAGE: &str = "SELECT m.id, m.channel_id, m.thread_id, m.sender_agent_id, m.body_text, \
     m.body_rendered_html, CAST(m.metadata_json AS CHAR), CAST(m.created_at AS CHAR), CAST(m.edited_at AS CHAR), \
     CAST(m.deleted_at AS CHAR), m.deleted_by_agent_id, a.name, a.chat_handle \
     FROM chat_messages m STRAIGHT_JOIN agents a ON a.id = m.sender_agent_id";
/// Whether a message contains a text, in which no character is a wildcard.
pub(super) const CONTAINS: &str = "m.body_text LIKE \
     CONCAT('%', REPLACE(REPLACE(REPLACE(?, '!', '!!'), '%', '!%'), '_', '!_'), '%') ESCAPE '!'";

/// Messages that one statement reads: a few long ones may fill a page, and the server would send the rest for nothing.
const PAGE: usize = 100;
/// Conversations that one statement asks for: each adds a part to its UNION.
const PLACES: usize = 64;
/// Ids that one statement looks at.
const WINDOW: u64 = 1000;
const NO_END: MessageId = MessageId(u64::MAX >> 1);

fn message(row: &mut Row) -> Result<Message> {
    Ok(Message {
        id: row.take()?,
        conversation: row.conversation()?,
        sender: row.take()?,
        body_text: row.take()?,
        body_rendered_html: row.take()?,
        metadata_json: row.take()?,
        created_at: row.take()?,
        edited_at: row.take()?,
        deleted_at: row.take()?,
        deleted_by: row.take()?,
        sender_name: row.take()?,
        sender_chat_handle: row.take()?,
    })
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

/// A conversation of an agent.
struct Place {
    conversation: Conversation,
    last_read: MessageId,
    newest: MessageId,
}

/// Ids of messages that are not deleted, the newest first.
struct VisibleIds {
    found: Vec<MessageId>,
    may_have_more: bool,
}

impl DatabaseConnection {
    /// At most `most` messages of one conversation between two ids. Stops after `HISTORY_SCAN_LIMIT` ids or a little more,
    /// however many are deleted.
    fn visible_ids(
        &mut self,
        operation: &'static str,
        conversation: Conversation,
        above: MessageId,
        mut before: MessageId,
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
            let params = [id, id, above.0, before.0, window];
            let rows = self.rows(operation, &sql, params, |row| {
                Ok((row.take()?, row.take()?))
            })?;
            before = rows.last().map_or(before, |(id, _)| *id);
            let count = rows.len() as u64;
            let visible = rows.into_iter().filter(|(_, is_visible)| *is_visible);
            found.extend(visible.map(|(id, _)| id));
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

    /// Reads these messages, the newest first, until the page is full.
    fn newest(
        &mut self,
        operation: &'static str,
        wanted: &[MessageId],
        room: PageLimit,
    ) -> Result<MessagePage> {
        let mut found = PageBuilder::new(room);
        for page in wanted.chunks(PAGE) {
            let page = padded(page);
            let sql = format!(
                "{SELECT_MESSAGE} WHERE m.id IN ({}) AND m.deleted_at IS NULL ORDER BY m.id DESC",
                marks(page.len())
            );
            self.rows(operation, &sql, page, |row| {
                // The remaining rows have to be received anyway.
                if !found.is_full() {
                    found.offer(message(row)?);
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
    fn places(&mut self, operation: &'static str, agent: AgentId) -> Result<Vec<Place>> {
        let mut places = self.places_by(
            operation,
            "channel_id",
            "SELECT c.id, NULL, COALESCE(r.last_read_message_id, 0) FROM chat_channel_members cm \
             JOIN chat_channels c ON c.id = cm.channel_id AND c.is_active = 1 \
             LEFT JOIN chat_message_reads r ON r.agent_id = cm.agent_id AND r.message_scope = 'channel' \
             AND r.channel_id = c.id WHERE cm.agent_id = ? ORDER BY c.id",
            &[agent],
        )?;
        places.extend(self.places_by(
            operation,
            "thread_id",
            "SELECT NULL, c.id, COALESCE(r.last_read_message_id, 0) FROM chat_threads c \
             LEFT JOIN chat_message_reads r ON r.agent_id = ? AND r.message_scope = 'direct' \
             AND r.thread_id = c.id WHERE c.agent_one_id = ? OR c.agent_two_id = ? ORDER BY c.id",
            &[agent; 3],
        )?);
        Ok(places)
    }

    /// The conversations that `sql` finds, with their read markers and newest ids. Each newest id is asked for with the
    /// conversation as a parameter: if a subquery takes it from a column, MariaDB 11 and MySQL may read all messages.
    fn places_by(
        &mut self,
        operation: &'static str,
        column: &str,
        sql: &str,
        params: &[AgentId],
    ) -> Result<Vec<Place>> {
        let mut found = self.rows(operation, sql, params, |row| {
            Ok(Place {
                conversation: row.conversation()?,
                last_read: row.take()?,
                newest: MessageId(0),
            })
        })?;
        let one = format!(
            "SELECT * FROM (SELECT {column}, id FROM {} LIMIT 1) newest",
            between(column)
        );
        let id_of = |place: &Place| conversation_column(place.conversation).1;
        let bounds = |id: Value| [id.clone(), id, 0.into(), NO_END.into()];
        for part in found.chunks_mut(PLACES) {
            let places = padded(part.iter().map(id_of));
            let sql = vec![one.as_str(); places.len()].join(" UNION ALL ");
            let params = places.into_iter().flat_map(bounds);
            let newest = self.rows(operation, &sql, params, |row| {
                Ok((row.take()?, row.take()?))
            })?;
            let newest: HashMap<u64, MessageId> = newest.into_iter().collect();
            for place in part {
                place.newest = newest.get(&id_of(place)).copied().unwrap_or(MessageId(0));
            }
        }
        Ok(found)
    }

    /// The database's clock.
    fn now(&mut self, operation: &'static str) -> Result<String> {
        let now = self.first(operation, "SELECT CAST(NOW() AS CHAR)", NOTHING, Row::take)?;
        Ok(now.unwrap_or_default())
    }

    /// The database's clock and the ids of the newest messages, ascending, at most `most`.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn newest_ids(&mut self, most: usize) -> Result<(String, Vec<MessageId>)> {
        const OPERATION: &str = "read the newest ids";
        let now = self.now(OPERATION)?;
        let sql = "SELECT id FROM chat_messages ORDER BY id DESC LIMIT ?";
        let mut ids = self.rows(OPERATION, sql, [most], Row::take)?;
        ids.reverse();
        Ok((now, ids))
    }

    /// Ids above this one, those of deleted messages included, ascending, at most `most`.
    pub fn ids_above(&mut self, id: MessageId, most: usize) -> Result<Vec<MessageId>> {
        let sql = "SELECT id FROM chat_messages WHERE id > ? ORDER BY id LIMIT ?";
        self.rows("look for new messages", sql, [id.0, most as u64], Row::take)
    }

    /// The messages with these ids that exist, deleted ones included, ascending by id.
    pub fn messages(&mut self, ids: &[MessageId]) -> Result<Vec<Message>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "{SELECT_MESSAGE} WHERE m.id IN ({}) ORDER BY m.id",
            marks(ids.len())
        );
        self.rows("read messages", &sql, ids, message)
    }

    /// Messages with ids above `above` that were edited or deleted at `since` or later, and the database's clock when they
    /// were asked for.
    pub fn changed_messages(
        &mut self,
        above: MessageId,
        since: &str,
    ) -> Result<(String, Vec<Message>)> {
        const OPERATION: &str = "look for changed messages";
        let now = self.now(OPERATION)?;
        let sql = format!(
            "{SELECT_MESSAGE} WHERE m.id > ? AND (m.edited_at >= ? OR m.deleted_at >= ?) ORDER BY m.id"
        );
        let params = [above.into(), Value::from(since), since.into()];
        Ok((now, self.rows(OPERATION, &sql, params, message)?))
    }

    /// Messages of one conversation that are not deleted, with ids below `before`.
    pub fn history(
        &mut self,
        conversation: Conversation,
        before: Option<MessageId>,
        room: PageLimit,
    ) -> Result<MessagePage> {
        const OPERATION: &str = "read older messages";
        let before = before.unwrap_or(NO_END);
        let ids = self.visible_ids(OPERATION, conversation, MessageId(0), before, room.rows())?;
        let mut page = self.newest(OPERATION, &ids.found, room)?;
        // A client continues from the oldest message that it got: without one, it cannot.
        page.has_older |= ids.may_have_more && !ids.found.is_empty();
        Ok(page)
    }

    /// Messages that this agent may see, not deleted, with ids above `after`.
    pub fn missed(
        &mut self,
        agent: AgentId,
        after: MessageId,
        room: PageLimit,
    ) -> Result<MessagePage> {
        const OPERATION: &str = "read the messages that were missed";
        let mut wanted = Vec::new();
        let mut has_more = false;
        for place in self.places(OPERATION, agent)? {
            if place.newest > after {
                let ids =
                    self.visible_ids(OPERATION, place.conversation, after, NO_END, room.rows())?;
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

    /// Messages that contain a text and are not deleted. Looks at the newest [`SEARCH_SCAN_LIMIT`] below
    /// `search.before`, of one conversation or of all; see [`Search`].
    pub fn search(&mut self, search: &Search, room: PageLimit) -> Result<SearchResult> {
        const OPERATION: &str = "search messages";
        let before = search.before.unwrap_or(NO_END);
        // Not "=": with it MariaDB reads the whole conversation, whatever the ids are.
        let (here, order, mut params) = match search.conversation.map(conversation_column) {
            Some((column, id)) => (
                format!("m.{column} >= ? AND m.{column} <= ?"),
                format!("m.{column} DESC, m.id DESC"),
                values([id, id]),
            ),
            None => ("1".to_owned(), "m.id DESC".to_owned(), Vec::new()),
        };
        let sql = format!(
            "SELECT m.id FROM chat_messages m WHERE {here} AND m.id < ? ORDER BY {order} LIMIT 1 OFFSET ?"
        );
        params.push(before.into());
        let floor = params
            .iter()
            .cloned()
            .chain([(SEARCH_SCAN_LIMIT - 1).into()]);
        let floor = self.first(OPERATION, &sql, floor, Row::take)?;
        params.push(floor.unwrap_or(MessageId(0)).into());
        params.push(search.text.0.as_str().into());
        let mut condition = String::new();
        if let Some(sender) = search.sender {
            // `+ 0` avoids the index of senders, which would read all that the sender has ever sent.
            condition.push_str(" AND m.sender_agent_id + 0 = ?");
            params.push(sender.into());
        }
        if search.conversation.is_none() {
            // As literal ids: with subqueries each message that contains the text would read one more row.
            let (mut channels, mut threads) = (String::from("0"), String::from("0"));
            for place in self.places(OPERATION, search.agent)? {
                let (list, id) = match place.conversation {
                    Conversation::Channel(id) => (&mut channels, id.0),
                    Conversation::Direct(id) => (&mut threads, id.0),
                };
                list.push_str(&format!(",{id}"));
            }
            condition.push_str(&format!(
                " AND (m.channel_id + 0 IN ({channels}) OR m.thread_id + 0 IN ({threads}))"
            ));
        }
        params.push(room.rows().into());
        let sql = format!(
            "SELECT m.id FROM chat_messages m WHERE {here} AND m.id < ? AND m.id >= ? \
             AND {CONTAINS} AND m.deleted_at IS NULL{condition} ORDER BY {order} LIMIT ?"
        );
        let wanted = self.rows(OPERATION, &sql, params, Row::take)?;
        let newest = self.newest(OPERATION, &wanted, room)?;
        Ok(SearchResult {
            next_before: match newest.has_older {
                true => newest.messages.first().map(|message| message.id),
                false => floor,
            },
            messages: newest.messages,
        })
    }

    /// Unread messages of this agent, for each active channel and thread. Looks only at the newest 1,000 of each.
    pub fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>> {
        const OPERATION: &str = "count what was not read";
        let mut found = Vec::new();
        for place in self.places(OPERATION, agent)? {
            let mut unread = 0;
            if place.newest > place.last_read {
                let (column, id) = conversation_column(place.conversation);
                let sql = format!(
                    "SELECT COUNT(*) FROM (SELECT deleted_at, sender_agent_id FROM {} LIMIT {UNREAD_SCAN_LIMIT}) newest \
                     WHERE deleted_at IS NULL AND sender_agent_id <> ?",
                    between(column)
                );
                let params = [id, id, place.last_read.0, NO_END.0, agent.0];
                unread = self.first(OPERATION, &sql, params, Row::take)?.unwrap_or(0);
            }
            found.push(Unread {
                conversation: place.conversation,
                unread,
                last_read: place.last_read,
            });
        }
        Ok(found)
    }

    /// Messages of these senders with ids up to `until` or above `above`, and not older than `seconds`, that have a
    /// `metadata_json`. Without their texts: there may be many, and few are of interest.
    pub fn recent_with_metadata(
        &mut self,
        senders: &[AgentId],
        until: MessageId,
        above: MessageId,
        seconds: u64,
    ) -> Result<Vec<Sent>> {
        let params = senders.iter().map(|id| id.0);
        self.rows(
            "look for messages that were sent before",
            &format!(
                "SELECT id, channel_id, thread_id, sender_agent_id, CAST(metadata_json AS CHAR) FROM chat_messages \
                 WHERE sender_agent_id IN ({}) AND created_at >= NOW() - INTERVAL ? SECOND AND (id <= ? OR id > ?) \
                 AND metadata_json IS NOT NULL ORDER BY id",
                marks(senders.len())
            ),
            params.chain([seconds, until.0, above.0]),
            |row| {
                Ok(Sent {
                    id: row.take()?,
                    conversation: row.conversation()?,
                    sender: row.take()?,
                    metadata_json: row.take()?,
                })
            },
        )
    }
}
