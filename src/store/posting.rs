//! The statements of one transaction that writes messages, from [`begin`](DatabaseConnection::begin) on.

use std::collections::{BTreeMap, HashSet};

use super::connection::DatabaseConnection;
use super::row::{Row, Value, marks, padded, values};
use super::{
    Failure, Member, NewMessage, NewNotification, Participant, PostingContext, Result, Sender,
    StoreError, Thread,
};
use crate::model::{AgentId, ChannelId, Conversation, MessageId, ThreadId};
use crate::text::{Ticket, TicketReferences};

/// Most rows of one insert; a statement may have 65,535 parameters, in SQLite half as many.
const ROWS_PER_INSERT: usize = 500;
/// Most bytes of a row besides its texts: the headers of its values, and its part of the statement.
const ROW_BYTES: usize = 200;

const MEMBERS: &str = "read the members of a channel";

impl DatabaseConnection {
    /// Keeps other connections from posting as these senders in these conversations until the transaction ends, so that
    /// later reads show all that they have posted. Has to come first in a transaction.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn lock_senders(&mut self, senders: &[(Conversation, AgentId)]) -> Result<()> {
        const OPERATION: &str = "lock the senders";
        let mut channels = Vec::new();
        let mut threads = Vec::new();
        for (conversation, agent) in senders {
            match conversation {
                Conversation::Channel(id) => channels.extend([id.0, agent.0]),
                Conversation::Direct(id) => threads.push(*id),
            }
        }
        if !channels.is_empty() {
            let pairs = vec!["(channel_id = ? AND agent_id = ?)"; channels.len() / 2].join(" OR ");
            let sql = format!("SELECT agent_id FROM chat_channel_members WHERE {pairs} FOR UPDATE");
            self.rows(OPERATION, &sql, channels, |_| Ok(()))?;
        }
        if !threads.is_empty() {
            let marks = marks(threads.len());
            let sql = format!("SELECT id FROM chat_threads WHERE id IN ({marks}) FOR UPDATE");
            self.rows(OPERATION, &sql, threads, |_| Ok(()))?;
        }
        Ok(())
    }

    /// What posting has to know of these conversations and senders.
    pub fn posting_context(
        &mut self,
        channels: &[ChannelId],
        threads: &[ThreadId],
        senders: &[AgentId],
    ) -> Result<PostingContext> {
        let mut context = PostingContext::default();
        if !channels.is_empty() {
            self.read_members(channels, senders, &mut context)?;
        }
        if !threads.is_empty() {
            self.read_threads(threads, &mut context)?;
        }
        self.read_senders(senders, &mut context)?;
        Ok(context)
    }

    /// Reads the channels' members, and the senders' names and handles, in one query. For the other members the server
    /// reads only the index and returns their ids in one row, so that a large channel is cheap.
    fn read_members(
        &mut self,
        channels: &[ChannelId],
        senders: &[AgentId],
        context: &mut PostingContext,
    ) -> Result<()> {
        let senders = padded(senders);
        let channels = padded(channels);
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
        self.rows(MEMBERS, &sql, params, |row| {
            let (now, part) = (row.take()?, row.take::<String>()?);
            let (channel, agent) = (row.take()?, row.take()?);
            let (is_so, name, chat_handle) = (row.take::<bool>()?, row.take()?, row.take()?);
            if part == "members" {
                context.now = now;
                found.extend(listed(&row.take::<String>()?, agent)?.map(|agent| {
                    let member = Member {
                        channel,
                        agent,
                        can_post: false,
                        watches: false,
                    };
                    ((channel, agent), member)
                }));
                return Ok(());
            }
            let agent = AgentId(agent);
            others.push((part == "sender", channel, agent, is_so));
            if let Some(name) = name
                && context.senders.iter().all(|sender| sender.id != agent)
            {
                context.senders.push(Sender {
                    id: agent,
                    name,
                    chat_handle,
                });
            }
            Ok(())
        })?;
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
    fn read_senders(&mut self, senders: &[AgentId], context: &mut PostingContext) -> Result<()> {
        let is_missing = |id: &&AgentId| context.senders.iter().all(|sender| sender.id != **id);
        let missing = padded(senders.iter().filter(is_missing));
        if missing.is_empty() {
            return Ok(());
        }
        let places = marks(missing.len());
        let sql = format!("SELECT id, name, chat_handle FROM agents WHERE id IN ({places})");
        context
            .senders
            .extend(self.rows("read the senders", &sql, missing, |row| {
                Ok(Sender {
                    id: row.take()?,
                    name: row.take()?,
                    chat_handle: row.take()?,
                })
            })?);
        Ok(())
    }

    fn read_threads(&mut self, threads: &[ThreadId], context: &mut PostingContext) -> Result<()> {
        let sql = format!(
            "SELECT CAST(NOW() AS CHAR), t.id, t.agent_one_id, one.is_active = 1, t.agent_two_id, two.is_active = 1 \
             FROM chat_threads t JOIN agents one ON one.id = t.agent_one_id \
             JOIN agents two ON two.id = t.agent_two_id WHERE t.id IN ({})",
            marks(threads.len())
        );
        context.threads = self.rows("read a direct thread", &sql, threads, |row| {
            context.now = row.take()?;
            let id = row.take()?;
            let mut agent = || -> Result<Participant> {
                Ok(Participant {
                    agent: row.take()?,
                    is_active: row.take()?,
                })
            };
            let agents = [agent()?, agent()?];
            Ok(Thread { id, agents })
        })?;
        Ok(())
    }

    /// Ids of the active agents with one of these handles, compared as the database compares.
    pub fn agents_by_handle(&mut self, handles: &[String]) -> Result<Vec<AgentId>> {
        let handles = padded(handles);
        if handles.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT id FROM agents WHERE is_active = 1 AND chat_handle IN ({}) ORDER BY id",
            marks(handles.len())
        );
        self.rows("look up who is mentioned", &sql, handles, Row::take)
    }

    /// The referenced tickets that exist and are not deleted.
    pub fn tickets(&mut self, references: &TicketReferences) -> Result<Vec<Ticket>> {
        let (ids, numbers) = (&references.ids, &references.numbers);
        let conditions: Vec<String> = [("id", ids.len()), ("ticket_number", numbers.len())]
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(column, count)| format!("{column} IN ({})", marks(*count)))
            .collect();
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT id, ticket_number FROM tickets WHERE deleted_at IS NULL AND ({})",
            conditions.join(" OR ")
        );
        let params = [values(ids), values(numbers)].concat();
        self.rows("look up tickets", &sql, params, |row| {
            Ok(Ticket {
                id: row.take()?,
                number: row.take()?,
            })
        })
    }

    /// `notification_preferences_json` of these agents.
    pub fn notification_preferences(
        &mut self,
        agents: &[AgentId],
    ) -> Result<Vec<(AgentId, Option<String>)>> {
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        let places = marks(agents.len());
        let sql =
            format!("SELECT id, notification_preferences_json FROM agents WHERE id IN ({places})");
        self.rows("read notification preferences", &sql, agents, |row| {
            Ok((row.take()?, row.take()?))
        })
    }

    /// Writes messages and returns their ids, ascending, in the same order.
    pub fn insert_messages(&mut self, messages: &[NewMessage]) -> Result<Vec<MessageId>> {
        let size = |one: &NewMessage| {
            let metadata = one.metadata_json.as_ref().map_or(0, String::len);
            one.body_text.len() + one.body_rendered_html.len() + metadata
        };
        let mut ids = Vec::with_capacity(messages.len());
        for part in parts(messages, self.engine.max_packet() / 2, size) {
            let tuples = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; part.len()].join(", ");
            let sql = format!(
                "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
                 body_rendered_html, metadata_json, created_at) VALUES {tuples}"
            );
            let params = part.iter().flat_map(|message| {
                [
                    Value::from(message.conversation.scope()),
                    message.conversation.channel_id().into(),
                    message.conversation.thread_id().into(),
                    message.sender.into(),
                    message.body_text.as_str().into(),
                    message.body_rendered_html.as_str().into(),
                    message.metadata_json.as_deref().into(),
                    message.created_at.as_str().into(),
                ]
            });
            self.execute("insert messages", &sql, params)?;
            ids.extend(self.engine.inserted(part.len()).into_iter().map(MessageId));
        }
        Ok(ids)
    }

    /// Sets `last_message_at` of threads to now.
    pub fn touch_threads(&mut self, threads: &[ThreadId]) -> Result<()> {
        let places = marks(threads.len());
        let sql = format!("UPDATE chat_threads SET last_message_at = NOW() WHERE id IN ({places})");
        self.execute("touch direct threads", &sql, threads)
            .map(drop)
    }

    /// Writes who was mentioned where.
    pub fn insert_mentions(&mut self, mentions: &[(MessageId, AgentId)]) -> Result<()> {
        for chunk in mentions.chunks(ROWS_PER_INSERT) {
            let tuples = vec!["(?, ?)"; chunk.len()].join(", ");
            let sql = format!(
                "INSERT INTO chat_message_mentions (message_id, mentioned_agent_id) VALUES {tuples}"
            );
            let params = chunk
                .iter()
                .flat_map(|(message, agent)| [message.0, agent.0]);
            self.execute("insert mentions", &sql, params)?;
        }
        Ok(())
    }

    /// Writes notifications and returns the places of the new ones, ascending; a duplicate of (agent, dedupe key) is passed
    /// over, and so is an agent that is gone.
    pub fn insert_notifications(
        &mut self,
        notifications: &[NewNotification],
    ) -> Result<Vec<usize>> {
        let size = |one: &NewNotification| {
            one.body.len() + one.link.len() + one.data_json.len() + one.dedupe_key.len()
        };
        let mut new = Vec::with_capacity(notifications.len());
        let mut begun = 0;
        for part in parts(notifications, self.engine.max_packet() / 2, size) {
            let tuples = vec!["(?, ?, 'info', ?, ?, ?, ?, ?)"; part.len()].join(", ");
            let sql = format!(
                "INSERT IGNORE INTO agent_notifications \
                 (agent_id, type, severity, title, body, link, data_json, dedupe_key) VALUES {tuples}"
            );
            let params = part.iter().flat_map(|one| {
                [
                    Value::from(one.agent),
                    one.kind.into(),
                    one.title.into(),
                    one.body.as_str().into(),
                    one.link.as_str().into(),
                    one.data_json.as_str().into(),
                    one.dedupe_key.as_str().into(),
                ]
            });
            let written = self.execute("insert notifications", &sql, params)?;
            let places = begun..begun + part.len();
            begun = places.end;
            if written == part.len() as u64 {
                // A key contains the id of a new message, so this is nearly always the case.
                new.extend(places);
            } else if written > 0 {
                let written = self.rows_of_last_insert(part.len())?;
                let key = |one: &NewNotification| (one.agent, one.dedupe_key.clone());
                let places = places
                    .zip(part)
                    .filter(|(_, one)| written.contains(&key(one)));
                new.extend(places.map(|(place, _)| place));
            }
        }
        Ok(new)
    }

    /// Agent and key of the rows that the last insert of `count` notifications wrote: their ids are contiguous in the
    /// steps of this session, skipped rows included. If the first rows were skipped, the range ends too late.
    fn rows_of_last_insert(&mut self, count: usize) -> Result<HashSet<(AgentId, String)>> {
        let ids = self.engine.inserted(count);
        let places = marks(ids.len());
        let sql =
            format!("SELECT agent_id, dedupe_key FROM agent_notifications WHERE id IN ({places})");
        let rows = self.rows("look which notifications are new", &sql, ids, |row| {
            Ok((row.take()?, row.take()?))
        })?;
        Ok(rows.into_iter().collect())
    }

    /// Whether the transaction that wrote these messages (id, sender and body) was committed, after its connection was
    /// lost during the commit. Waits until the server has decided.
    pub fn were_committed(&mut self, messages: &[(MessageId, AgentId, &str)]) -> Result<bool> {
        // A locking read waits for the lost connection's transaction to end, if the server has not noticed the
        // loss yet.
        self.begin()?;
        let sql = format!(
            "SELECT id, sender_agent_id, body_text FROM chat_messages WHERE id IN ({}) FOR UPDATE",
            marks(messages.len())
        );
        let ids = messages.iter().map(|(id, ..)| id);
        let found = self.rows("look whether messages were stored", &sql, ids, |row| {
            Ok((row.take()?, row.take()?, row.take()?))
        });
        self.rollback()?;
        self.cache.written();
        let found: HashSet<(MessageId, AgentId, String)> = found?.into_iter().collect();
        // An id that now belongs to another message does not count.
        Ok(messages
            .iter()
            .all(|(id, sender, body)| found.contains(&(*id, *sender, (*body).to_owned()))))
    }
}

/// Splits `all` into parts of at most `bytes` and [`ROWS_PER_INSERT`] rows; a row that is larger is a part by itself.
fn parts<T>(mut all: &[T], bytes: u64, size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = |one: &&T| {
            sum += (size(one) + ROW_BYTES) as u64;
            sum <= bytes
        };
        let count = all.iter().take(ROWS_PER_INSERT).take_while(fits).count();
        let (part, rest) = all.split_at(count.max(1).min(all.len()));
        all = rest;
        (!part.is_empty()).then_some(part)
    })
}

/// Parses a list of ids that the server has joined. It has to be whole: the server cuts it at `group_concat_max_len`.
fn listed(ids: &str, count: u64) -> Result<impl Iterator<Item = AgentId>> {
    let ids: Option<Vec<u64>> = ids.split(',').map(|id| id.parse().ok()).collect();
    let ids = ids.filter(|ids| ids.len() as u64 == count).ok_or_else(|| {
        let cause = format!("the list of {count} members came cut off");
        StoreError::new(MEMBERS, Failure::Refused, cause)
    })?;
    Ok(ids.into_iter().map(AgentId))
}
