//! The statements of one transaction that writes messages.

use std::collections::{BTreeMap, HashSet};

use mysql::Value;

use super::{MysqlConnection, columns, ids, marks, padded};
use crate::model::{AgentId, ChannelId, Conversation, MessageId, ThreadId};
use crate::store::{
    Failure, Member, NewMessage, NewNotification, Participant, Posting, PostingContext, Result,
    Sender, StoreError, Thread,
};
use crate::text::{Ticket, TicketReferences};

/// Most rows of one insert; a statement may have 65,535 parameters.
pub(super) const ROWS_PER_INSERT: usize = 500;
/// Most bytes of a row besides its texts: the headers of its values, and its part of the statement.
const ROW_BYTES: usize = 200;

const MEMBERS: &str = "read the members of a channel";

/// Clock, part, channel, agent or number of members, flag, name, handle, members.
type Part = (
    String,
    String,
    u64,
    u64,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
);

impl MysqlConnection {
    /// Reads the channels' members, and the senders' names and handles, in one query. For the other members the server
    /// reads only the index and returns their ids in one row, so that a large channel is cheap.
    fn members(
        &mut self,
        channels: &[ChannelId],
        senders: &[AgentId],
        context: &mut PostingContext,
    ) -> Result<()> {
        let senders = padded(senders.iter().map(|id| id.0));
        let channels = padded(channels.iter().map(|id| id.0));
        let of_them = marks(channels.len());
        let sql = format!(
            "SELECT CAST(NOW() AS CHAR), 'members', m.channel_id, COUNT(*), 0, NULL, NULL, GROUP_CONCAT(m.agent_id) \
             FROM chat_channel_members m JOIN chat_channels c ON c.id = m.channel_id AND c.is_active = 1 \
             WHERE m.channel_id IN ({of_them}) GROUP BY m.channel_id \
             UNION ALL SELECT '', 'sender', m.channel_id, m.agent_id, m.can_post = 1 AND a.is_active = 1, \
             a.name, a.chat_handle, NULL FROM chat_channel_members m JOIN agents a ON a.id = m.agent_id \
             WHERE m.channel_id IN ({of_them}) AND m.agent_id IN ({}) \
             UNION ALL SELECT '', 'watcher', p.channel_id, p.agent_id, a.is_active = 1, NULL, NULL, NULL \
             FROM chat_channel_notification_preferences p JOIN agents a ON a.id = p.agent_id \
             WHERE p.channel_id IN ({of_them}) AND p.notify_enabled = 1",
            marks(senders.len())
        );
        let params = [channels.clone(), channels.clone(), senders, channels].concat();
        let mut found: BTreeMap<(ChannelId, AgentId), Member> = BTreeMap::new();
        let mut others = Vec::new();
        for row in self.rows(MEMBERS, &sql, params)? {
            let (now, part, channel, agent, is_so, name, chat_handle, members): Part =
                columns(row, MEMBERS)?;
            let channel = ChannelId(channel);
            if part == "members" {
                context.now = now;
                let members = listed(members.as_deref().unwrap_or_default(), agent)?;
                found.extend(members.into_iter().map(|agent| {
                    let member = Member {
                        channel,
                        agent,
                        can_post: false,
                        watches: false,
                    };
                    ((channel, agent), member)
                }));
                continue;
            }
            let agent = AgentId(agent);
            others.push((part == "sender", channel, agent, is_so == 1));
            if let Some(name) = name
                && context.senders.iter().all(|sender| sender.id != agent)
            {
                context.senders.push(Sender {
                    id: agent,
                    name,
                    chat_handle,
                });
            }
        }
        // The server may return the parts in any order. A watcher may no longer be a member.
        for (sends, channel, agent, is_so) in others {
            if let Some(member) = found.get_mut(&(channel, agent)) {
                match sends {
                    true => member.can_post = is_so,
                    false => member.watches = is_so,
                }
            }
        }
        context.members.extend(found.into_values());
        Ok(())
    }

    /// Reads the senders that were not found as members of a channel.
    fn senders(&mut self, senders: &[AgentId], context: &mut PostingContext) -> Result<()> {
        const OPERATION: &str = "read the senders";
        let is_missing = |id: &&AgentId| context.senders.iter().all(|sender| sender.id != **id);
        let missing: Vec<u64> = senders.iter().filter(is_missing).map(|id| id.0).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = padded(missing.into_iter());
        let sql = format!(
            "SELECT id, name, chat_handle FROM agents WHERE id IN ({})",
            marks(missing.len())
        );
        for row in self.rows(OPERATION, &sql, missing)? {
            let (id, name, chat_handle): (u64, String, Option<String>) = columns(row, OPERATION)?;
            context.senders.push(Sender {
                id: AgentId(id),
                name,
                chat_handle,
            });
        }
        Ok(())
    }

    fn threads(&mut self, threads: &[ThreadId], context: &mut PostingContext) -> Result<()> {
        const OPERATION: &str = "read a direct thread";
        let rows = self.rows(
            OPERATION,
            &format!(
                "SELECT CAST(NOW() AS CHAR), t.id, t.agent_one_id, one.is_active, t.agent_two_id, two.is_active \
                 FROM chat_threads t JOIN agents one ON one.id = t.agent_one_id \
                 JOIN agents two ON two.id = t.agent_two_id WHERE t.id IN ({})",
                marks(threads.len())
            ),
            ids(threads.iter().map(|id| id.0)),
        )?;
        for row in rows {
            let (now, id, one, one_active, two, two_active): (String, u64, u64, i64, u64, i64) =
                columns(row, OPERATION)?;
            context.now = now;
            context.threads.push(Thread {
                id: ThreadId(id),
                agents: [
                    Participant {
                        agent: AgentId(one),
                        is_active: one_active == 1,
                    },
                    Participant {
                        agent: AgentId(two),
                        is_active: two_active == 1,
                    },
                ],
            });
        }
        Ok(())
    }

    fn insert_message_rows(&mut self, messages: &[NewMessage]) -> Result<()> {
        let tuples = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; messages.len()].join(", ");
        let params: Vec<Value> = messages
            .iter()
            .flat_map(|message| {
                [
                    Value::from(message.conversation.scope()),
                    Value::from(message.conversation.channel_id().map(|id| id.0)),
                    Value::from(message.conversation.thread_id().map(|id| id.0)),
                    Value::from(message.sender.0),
                    Value::from(message.body_text.as_str()),
                    Value::from(message.body_rendered_html.as_str()),
                    Value::from(message.metadata_json.as_deref()),
                    Value::from(message.created_at.as_str()),
                ]
            })
            .collect();
        self.execute(
            "insert messages",
            &format!(
                "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
                 body_rendered_html, metadata_json, created_at) VALUES {tuples}"
            ),
            params,
        )
    }

    /// Splits notifications into parts that the server takes.
    pub(super) fn parts_of_notifications<'a>(
        &self,
        notifications: &'a [NewNotification],
    ) -> impl Iterator<Item = &'a [NewNotification]> + use<'a> {
        let size = |one: &NewNotification| {
            one.body.len() + one.link.len() + one.data_json.len() + one.dedupe_key.len() + ROW_BYTES
        };
        parts(notifications, self.max_packet / 2, size)
    }

    /// Inserts at most [`ROWS_PER_INSERT`] notifications.
    pub(super) fn insert_notification_rows(&mut self, rows: &[NewNotification]) -> Result<()> {
        let tuples = vec!["(?, ?, 'info', ?, ?, ?, ?, ?)"; rows.len()].join(", ");
        let params: Vec<Value> = rows
            .iter()
            .flat_map(|notification| {
                [
                    Value::from(notification.agent.0),
                    Value::from(notification.kind),
                    Value::from(notification.title),
                    Value::from(notification.body.as_str()),
                    Value::from(notification.link.as_str()),
                    Value::from(notification.data_json.as_str()),
                    Value::from(notification.dedupe_key.as_str()),
                ]
            })
            .collect();
        self.execute(
            "insert notifications",
            &format!(
                "INSERT IGNORE INTO agent_notifications \
                 (agent_id, type, severity, title, body, link, data_json, dedupe_key) VALUES {tuples}"
            ),
            params,
        )
    }
}

/// Splits `all` into parts of at most `bytes` and [`ROWS_PER_INSERT`] rows; a row that is larger is a part by itself.
fn parts<T>(mut all: &[T], bytes: u64, size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |one: &&T| {
            sum += size(one) as u64;
            sum <= bytes
        };
        let count = all.iter().take(ROWS_PER_INSERT).take_while(fits).count();
        let (part, rest) = all.split_at(count.max(1).min(all.len()));
        all = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// Parses a list of ids that the server has joined. It has to be whole: the server cuts it at `group_concat_max_len`.
fn listed(ids: &str, count: u64) -> Result<Vec<AgentId>> {
    let ids: Option<Vec<AgentId>> = ids
        .split(',')
        .map(|id| id.parse().ok().map(AgentId))
        .collect();
    ids.filter(|ids| ids.len() as u64 == count).ok_or_else(|| {
        let cause = format!("the list of {count} members came cut off");
        StoreError::new(MEMBERS, Failure::Refused, cause)
    })
}

impl Posting for MysqlConnection {
    fn begin(&mut self) -> Result<()> {
        if !self.is_posting {
            // With autocommit off every statement opens the next transaction by itself: one round trip less for
            // every message.
            self.statement("begin a transaction", "SET SESSION autocommit = 0")?;
            self.is_posting = true;
        }
        Ok(())
    }

    fn lock_senders(&mut self, senders: &[(Conversation, AgentId)]) -> Result<()> {
        const OPERATION: &str = "lock the senders";
        let mut channels = Vec::new();
        let mut threads = Vec::new();
        for (conversation, agent) in senders {
            match conversation {
                Conversation::Channel(id) => channels.extend([id.0, agent.0]),
                Conversation::Direct(id) => threads.push(id.0),
            }
        }
        if !channels.is_empty() {
            let pairs = vec!["(channel_id = ? AND agent_id = ?)"; channels.len() / 2].join(" OR ");
            let sql = format!("SELECT agent_id FROM chat_channel_members WHERE {pairs} FOR UPDATE");
            self.rows(OPERATION, &sql, ids(channels))?;
        }
        if !threads.is_empty() {
            let marks = marks(threads.len());
            let sql = format!("SELECT id FROM chat_threads WHERE id IN ({marks}) FOR UPDATE");
            self.rows(OPERATION, &sql, ids(threads))?;
        }
        Ok(())
    }

    fn posting_context(
        &mut self,
        channels: &[ChannelId],
        threads: &[ThreadId],
        senders: &[AgentId],
    ) -> Result<PostingContext> {
        let mut context = PostingContext::default();
        if !channels.is_empty() {
            self.members(channels, senders, &mut context)?;
        }
        if !threads.is_empty() {
            self.threads(threads, &mut context)?;
        }
        self.senders(senders, &mut context)?;
        Ok(context)
    }

    fn agents_by_handle(&mut self, handles: &[String]) -> Result<Vec<AgentId>> {
        const OPERATION: &str = "look up who is mentioned";
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        // The last one repeated, so that few different statements are prepared.
        let count = handles.len().next_power_of_two();
        let handles = handles
            .iter()
            .chain(std::iter::repeat(&handles[handles.len() - 1]));
        let handles = handles
            .take(count)
            .map(|handle| Value::from(handle.as_str()));
        self.rows(
            OPERATION,
            &format!(
                "SELECT id FROM agents WHERE is_active = 1 AND chat_handle IN ({}) ORDER BY id",
                marks(count)
            ),
            handles.collect::<Vec<_>>(),
        )?
        .into_iter()
        .map(|row| columns::<(u64,)>(row, OPERATION).map(|(id,)| AgentId(id)))
        .collect()
    }

    fn tickets(&mut self, references: &TicketReferences) -> Result<Vec<Ticket>> {
        const OPERATION: &str = "look up tickets";
        let (by_id, by_number) = (references.ids.len(), references.numbers.len());
        let conditions: Vec<String> = [("id", by_id), ("ticket_number", by_number)]
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(column, count)| format!("{column} IN ({})", marks(*count)))
            .collect();
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        let params: Vec<Value> = references
            .ids
            .iter()
            .map(|id| Value::from(*id))
            .chain(
                references
                    .numbers
                    .iter()
                    .map(|number| Value::from(number.as_str())),
            )
            .collect();
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, ticket_number FROM tickets WHERE deleted_at IS NULL AND ({})",
                conditions.join(" OR ")
            ),
            params,
        )?
        .into_iter()
        .map(|row| {
            let (id, number) = columns(row, OPERATION)?;
            Ok(Ticket { id, number })
        })
        .collect()
    }

    fn notification_preferences(
        &mut self,
        agents: &[AgentId],
    ) -> Result<Vec<(AgentId, Option<String>)>> {
        const OPERATION: &str = "read notification preferences";
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, notification_preferences_json FROM agents WHERE id IN ({})",
                marks(agents.len())
            ),
            ids(agents.iter().map(|id| id.0)),
        )?
        .into_iter()
        .map(|row| {
            let (id, json) = columns(row, OPERATION)?;
            Ok((AgentId(id), json))
        })
        .collect()
    }

    fn insert_messages(&mut self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        let size = |one: &NewMessage| {
            let metadata = one.metadata_json.as_ref().map_or(0, String::len);
            one.body_text.len() + one.body_rendered_html.len() + metadata + ROW_BYTES
        };
        let mut ids = Vec::with_capacity(messages.len());
        for part in parts(messages, self.max_packet / 2, size) {
            self.insert_message_rows(part)?;
            // Ids of one insert with a known number of rows are consecutive, in the steps of this session.
            let (first, step) = (self.conn.last_insert_id(), self.id_step);
            ids.extend((0..part.len() as u64).map(|place| MessageId(first + place * step)));
        }
        Ok(ids)
    }

    fn touch_threads(&mut self, threads: &[ThreadId]) -> Result<()> {
        self.execute(
            "touch direct threads",
            &format!(
                "UPDATE chat_threads SET last_message_at = NOW() WHERE id IN ({})",
                marks(threads.len())
            ),
            ids(threads.iter().map(|id| id.0)),
        )
    }

    fn insert_mentions(&mut self, mentions: &[(MessageId, AgentId)]) -> Result<()> {
        for chunk in mentions.chunks(ROWS_PER_INSERT) {
            let tuples = vec!["(?, ?)"; chunk.len()].join(", ");
            let params = ids(chunk
                .iter()
                .flat_map(|(message, agent)| [message.0, agent.0]));
            self.execute(
                "insert mentions",
                &format!(
                    "INSERT INTO chat_message_mentions (message_id, mentioned_agent_id) VALUES {tuples}"
                ),
                params,
            )?;
        }
        Ok(())
    }

    fn insert_notifications(&mut self, notifications: &[NewNotification]) -> Result<()> {
        for part in self.parts_of_notifications(notifications) {
            self.insert_notification_rows(part)?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        self.commit_for_all()
    }

    fn rollback(&mut self) -> Result<()> {
        self.statement("roll back", "ROLLBACK")
    }

    fn end_posting(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_posting) {
            self.statement("end posting", "SET SESSION autocommit = 1")?;
        }
        Ok(())
    }

    fn were_committed(&mut self, messages: &[(MessageId, AgentId, &str)]) -> Result<bool> {
        const OPERATION: &str = "look whether messages were stored";
        // A locking read waits for the lost connection's transaction to end, if the server has not noticed the
        // loss yet.
        let rows = self.rows(
            OPERATION,
            &format!(
                "SELECT id, sender_agent_id, body_text FROM chat_messages WHERE id IN ({}) FOR UPDATE",
                marks(messages.len())
            ),
            ids(messages.iter().map(|(id, ..)| id.0)),
        );
        let found = rows?
            .into_iter()
            .map(|row| columns::<(u64, u64, String)>(row, OPERATION))
            .collect::<Result<HashSet<_>>>()?;
        if self.is_posting {
            self.rollback()?;
        }
        self.cache.written();
        // An id that now belongs to another message does not count.
        Ok(messages
            .iter()
            .all(|(id, sender, body)| found.contains(&(id.0, sender.0, (*body).to_owned()))))
    }
}
