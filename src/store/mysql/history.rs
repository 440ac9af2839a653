//! What was said: the statements that read messages.

use mysql::{Row, Value};

use super::{MysqlConnection, columns, ids, marks};
use crate::model::{AgentId, ChannelId, Conversation, Message, MessageId, ThreadId, Unread};
use crate::store::conversation_column;
use crate::store::newest::Gathering;
use crate::store::{AtMost, Failure, History, Newest, Result, Sent, StoreError};

/// The columns of an event's message, in the order in which [`message`] takes them.
const SELECT_MESSAGE: &str = "SELECT m.id, m.channel_id, m.thread_id, m.sender_agent_id, m.body_text, \
     m.body_rendered_html, CAST(m.metadata_json AS CHAR), CAST(m.created_at AS CHAR), CAST(m.edited_at AS CHAR), \
     CAST(m.deleted_at AS CHAR), m.deleted_by_agent_id, a.name, a.chat_handle \
     FROM chat_messages m JOIN agents a ON a.id = m.sender_agent_id";

/// Rows that are asked for at first: long messages fill the room with fewer, and more would be sent for nothing.
const FIRST_PAGE: usize = 100;

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

/// Which of the two columns of a row says where.
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
        _ => Err(StoreError {
            operation,
            failure: Failure::Refused,
            cause: format!("unexpected type of column {column}"),
        }),
    }
}

impl MysqlConnection {
    /// Messages that fulfil a condition, with ids below `before`.
    fn newest(
        &mut self,
        operation: &'static str,
        condition: &str,
        params: &[Value],
        mut before: u64,
        room: AtMost,
    ) -> Result<Newest> {
        let sql = format!(
            "{SELECT_MESSAGE} WHERE {condition} AND m.id < ? AND m.deleted_at IS NULL ORDER BY m.id DESC LIMIT ?"
        );
        let mut found = Gathering::new(room);
        let mut left = room.rows();
        let mut page = left.min(FIRST_PAGE);
        while page > 0 {
            let params = [params, &[Value::from(before), Value::from(page as u64)]].concat();
            let mut count = 0;
            self.each_row(operation, &sql, params, |row| {
                count += 1;
                // What is left over has to be received all the same.
                if !found.is_full() {
                    let message = message(row, operation)?;
                    before = message.id.0;
                    found.offer(message);
                }
                Ok(())
            })?;
            if count < page || found.is_full() {
                break;
            }
            left -= page;
            page = left;
        }
        Ok(found.end())
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
        room: AtMost,
    ) -> Result<Newest> {
        const OPERATION: &str = "read older messages";
        let (column, id) = conversation_column(conversation);
        let before = before.map_or(u64::MAX >> 1, |before| before.0);
        self.newest(
            OPERATION,
            &format!("m.{column} = ?"),
            &[id.into()],
            before,
            room,
        )
    }

    fn missed(&mut self, agent: AgentId, after: MessageId, room: AtMost) -> Result<Newest> {
        const OPERATION: &str = "read the messages that were missed";
        self.newest(
            OPERATION,
            "m.id > ? AND (m.channel_id IN \
             (SELECT cm.channel_id FROM chat_channel_members cm JOIN chat_channels c \
             ON c.id = cm.channel_id AND c.is_active = 1 WHERE cm.agent_id = ?) OR m.thread_id IN \
             (SELECT t.id FROM chat_threads t WHERE t.agent_one_id = ? OR t.agent_two_id = ?))",
            &ids([after.0, agent.0, agent.0, agent.0]),
            u64::MAX >> 1,
            room,
        )
    }

    fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>> {
        const OPERATION: &str = "count what was not read";
        let count = |column: &str| {
            format!(
                "COALESCE(r.last_read_message_id, 0), (SELECT COUNT(*) FROM chat_messages m \
                 WHERE m.{column} = c.id AND m.id > COALESCE(r.last_read_message_id, 0) \
                 AND m.deleted_at IS NULL AND m.sender_agent_id <> ?)"
            )
        };
        let channels = format!(
            "SELECT c.id, {} FROM chat_channel_members cm \
             JOIN chat_channels c ON c.id = cm.channel_id AND c.is_active = 1 \
             LEFT JOIN chat_message_reads r ON r.agent_id = cm.agent_id AND r.message_scope = 'channel' \
             AND r.channel_id = c.id WHERE cm.agent_id = ? ORDER BY c.id",
            count("channel_id")
        );
        let threads = format!(
            "SELECT c.id, {} FROM chat_threads c \
             LEFT JOIN chat_message_reads r ON r.agent_id = ? AND r.message_scope = 'direct' \
             AND r.thread_id = c.id WHERE c.agent_one_id = ? OR c.agent_two_id = ? ORDER BY c.id",
            count("thread_id")
        );
        let id = agent.0;
        let mut found = Vec::new();
        for row in self.rows(OPERATION, &channels, (id, id))? {
            let (channel, last_read, unread): (u64, u64, u64) = columns(row, OPERATION)?;
            found.push(Unread {
                conversation: Conversation::Channel(ChannelId(channel)),
                unread,
                last_read: MessageId(last_read),
            });
        }
        for row in self.rows(OPERATION, &threads, (id, id, id, id))? {
            let (thread, last_read, unread): (u64, u64, u64) = columns(row, OPERATION)?;
            found.push(Unread {
                conversation: Conversation::Direct(ThreadId(thread)),
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
        seconds: u64,
    ) -> Result<Vec<Sent>> {
        const OPERATION: &str = "look for messages that were sent before";
        let mut params = ids(senders.iter().map(|id| id.0));
        params.extend(ids([seconds, until.0]));
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, channel_id, thread_id, sender_agent_id, CAST(metadata_json AS CHAR) FROM chat_messages \
                 WHERE sender_agent_id IN ({}) AND created_at >= NOW() - INTERVAL ? SECOND AND id <= ? \
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
