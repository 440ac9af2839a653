//! What the rules need of a database, by task. Every engine implements [`Store`] and [`Connection`]; nothing
//! here knows SQL or an engine's types, and no rule about who may do what lives below this line.
//!
//! A thread that talks to the database owns one [`Link`], which connects on first use and again after a loss.
//! There is no pool: the threads that need a connection are few and known.

mod link;
pub mod mysql;
mod newest;
pub mod operations;
pub mod push;
#[cfg(feature = "embedded")]
pub mod sqlite;

use std::collections::HashSet;
use std::fmt;
use std::time::Instant;

pub use link::Link;
pub use newest::{AtMost, Newest};
pub use operations::Operations;

use crate::model::{Agent, AgentId, ChannelId, Conversation, Message, MessageId, ThreadId, Unread};
use crate::settings::Rows;
use crate::text::{Ticket, TicketReferences};

/// What kind of failure it was, which decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is gone or the server cannot serve now: connect again and try again.
    Lost,
    /// The transaction was chosen as a deadlock's victim or waited too long for a lock: try again.
    Conflict,
    /// The server refused these very rows or this statement: trying again changes nothing.
    Refused,
    /// Wrong user, password or database name: nothing but the configuration helps.
    Denied,
}

/// A failed operation on the database.
#[derive(Clone, Debug)]
pub struct StoreError {
    /// What was being done.
    pub operation: &'static str,
    /// What kind of failure it was.
    pub failure: Failure,
    /// The server's or the system's words; for the log, never for a client.
    pub cause: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.cause)
    }
}

/// Result of an operation on the database.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A database that can be connected to.
pub trait Store: Send + Sync {
    /// Opens one connection.
    ///
    /// # Errors
    /// The server cannot be reached or refuses.
    fn connect(&self) -> Result<Box<dyn Connection>>;

    /// Which database this is, without its password, for messages.
    fn describe(&self) -> String;

    /// What to do about a database that cannot be used, for messages.
    fn remedy(&self, failure: Failure) -> &'static str;

    /// Does what is still to be done about what was written last, but not beyond `until`. Called when nothing more will
    /// be written.
    fn settle(&self, until: Instant) {
        let _ = until;
    }
}

/// One row of a channel's membership with what posting needs to know of the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The channel, which is active.
    pub channel: ChannelId,
    /// The member.
    pub agent: AgentId,
    /// Whether he is active and `can_post`. Known of those alone who send; false for the others.
    pub can_post: bool,
    /// Whether he is active and has `notify_enabled` for this channel.
    pub watches: bool,
}

/// A direct thread with what posting needs to know of both agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The thread.
    pub id: ThreadId,
    /// Its two agents and whether each is active.
    pub agents: [(AgentId, bool); 2],
}

/// Present name and handle of a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The agent.
    pub id: AgentId,
    /// `agents.name`.
    pub name: String,
    /// `agents.chat_handle`.
    pub chat_handle: Option<String>,
}

/// All that a batch of messages asks the database before it is written.
#[derive(Debug, Default)]
pub struct PostingContext {
    /// The database's clock, `YYYY-MM-DD HH:MM:SS`.
    pub now: String,
    /// Members of those of the channels that are active.
    pub members: Vec<Member>,
    /// Those of the threads that exist.
    pub threads: Vec<Thread>,
    /// Those of the senders that exist.
    pub senders: Vec<Sender>,
}

/// How a message was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Key of the row.
    pub id: MessageId,
    /// Where.
    pub conversation: Conversation,
    /// By whom.
    pub sender: AgentId,
    /// JSON about it.
    pub metadata_json: String,
}

/// A message to be written.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where.
    pub conversation: Conversation,
    /// By whom.
    pub sender: AgentId,
    /// The body, at most 65,535 bytes.
    pub body_text: String,
    /// The body as HTML, at most 65,535 bytes.
    pub body_rendered_html: String,
    /// JSON about how it was sent.
    pub metadata_json: Option<String>,
    /// By the database's clock.
    pub created_at: String,
}

/// A row of `agent_notifications` to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNotification {
    /// Who is notified.
    pub agent: AgentId,
    /// `chat_mention`, `chat_channel_message` or `chat_direct_message`.
    pub kind: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Sender and preview.
    pub body: String,
    /// Route within the application.
    pub link: String,
    /// JSON about the message.
    pub data_json: String,
    /// A second row of this agent with the same key is not written.
    pub dedupe_key: String,
}

/// One connection to the database. After an error of [`Failure::Lost`] it is of no further use.
pub trait Connection: History + Posting + Operations + Send {
    /// All rows of `settings` that the service may look at.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    fn settings(&mut self) -> Result<Rows>;

    /// Sets the values of rows of `settings` that exist; inserts none.
    fn update_settings(&mut self, values: &[(&str, &str)]) -> Result<()>;

    /// The agent with this id, if he is active.
    fn active_agent(&mut self, id: AgentId) -> Result<Option<Agent>>;

    /// Ids of all active agents.
    fn active_agents(&mut self) -> Result<HashSet<AgentId>>;

    /// The agents of a conversation: members of an active channel, or both agents of a thread. Empty where
    /// there is no such conversation.
    fn audience(&mut self, conversation: Conversation) -> Result<Vec<AgentId>>;

    /// Moves an agent's read marker forward, never back and never beyond the newest message, deletes that
    /// agent's notifications of the conversation, and returns the stored marker.
    fn mark_read(
        &mut self,
        agent: AgentId,
        conversation: Conversation,
        last_read: MessageId,
    ) -> Result<MessageId>;

    /// How much it has received, in bytes and roughly; 0 of an engine whose connections hold no memory for that.
    fn received(&self) -> u64 {
        0
    }

    /// This connection as one that can be asked about push subscriptions, if the engine has them.
    fn push(&mut self) -> Option<&mut dyn push::PushStore> {
        None
    }
}

/// What was said.
pub trait History {
    /// The database's clock and the ids of the newest messages, ascending, at most `most`.
    fn newest_ids(&mut self, most: usize) -> Result<(String, Vec<MessageId>)>;

    /// Ids above this one, those of deleted messages included, ascending, at most `most`.
    fn ids_above(&mut self, id: MessageId, most: usize) -> Result<Vec<MessageId>>;

    /// Those of the messages with these ids that exist, deleted ones included, ascending by id.
    fn messages(&mut self, ids: &[MessageId]) -> Result<Vec<Message>>;

    /// Messages with ids above `above` that were edited or deleted at `since` or later, and the database's clock
    /// when they were asked for.
    fn changed_messages(&mut self, above: MessageId, since: &str)
    -> Result<(String, Vec<Message>)>;

    /// Messages of one conversation that are not deleted, with ids below `before`.
    fn history(
        &mut self,
        conversation: Conversation,
        before: Option<MessageId>,
        room: AtMost,
    ) -> Result<Newest>;

    /// Messages that this agent may see, not deleted, with ids above `after`.
    fn missed(&mut self, agent: AgentId, after: MessageId, room: AtMost) -> Result<Newest>;

    /// What this agent has not read, for each of his active channels and threads.
    fn unread(&mut self, agent: AgentId) -> Result<Vec<Unread>>;

    /// Messages of these senders with ids up to `until` and not older than `seconds` that have a `metadata_json`, without
    /// what they say: there may be many, and few are of interest.
    fn recent_with_metadata(
        &mut self,
        senders: &[AgentId],
        until: MessageId,
        seconds: u64,
    ) -> Result<Vec<Sent>>;
}

/// The steps of one transaction that writes messages, which [`Posting::begin`] opens and [`Posting::commit`] or
/// [`Posting::rollback`] ends. A connection that is used for posting is used for nothing else.
pub trait Posting {
    /// Opens the transaction of a batch of messages.
    fn begin(&mut self) -> Result<()>;

    /// What has to be known of these conversations and senders.
    fn posting_context(
        &mut self,
        channels: &[ChannelId],
        threads: &[ThreadId],
        senders: &[AgentId],
    ) -> Result<PostingContext>;

    /// Ids of the active agents with one of these handles, compared as the database compares.
    fn agents_by_handle(&mut self, handles: &[String]) -> Result<Vec<AgentId>>;

    /// Those of the referenced tickets that exist and are not deleted.
    fn tickets(&mut self, references: &TicketReferences) -> Result<Vec<Ticket>>;

    /// `notification_preferences_json` of these agents.
    fn notification_preferences(
        &mut self,
        agents: &[AgentId],
    ) -> Result<Vec<(AgentId, Option<String>)>>;

    /// Writes messages; their ids, ascending, in the same order.
    fn insert_messages(&mut self, messages: &[NewMessage]) -> Result<Vec<MessageId>>;

    /// Sets `last_message_at` of threads to now.
    fn touch_threads(&mut self, threads: &[ThreadId]) -> Result<()>;

    /// Writes who was mentioned where.
    fn insert_mentions(&mut self, mentions: &[(MessageId, AgentId)]) -> Result<()>;

    /// Writes notifications; a duplicate of (agent, dedupe key) is passed over.
    fn insert_notifications(&mut self, notifications: &[NewNotification]) -> Result<()>;

    /// Makes the transaction durable.
    ///
    /// # Errors
    /// [`Failure::Lost`]: it is unknown whether it was; ask [`Posting::were_committed`] on another
    /// connection.
    fn commit(&mut self) -> Result<()>;

    /// Gives the transaction up.
    fn rollback(&mut self) -> Result<()>;

    /// Whether a transaction that wrote these messages, and whose connection was lost in its commit, was
    /// committed. Waits until the server has decided.
    fn were_committed(&mut self, messages: &[(MessageId, &NewMessage)]) -> Result<bool>;
}

/// The column that names a conversation in the tables of messages and read markers, and the id in it (contract:
/// schema.sql).
fn conversation_column(conversation: Conversation) -> (&'static str, u64) {
    match conversation {
        Conversation::Channel(id) => ("channel_id", id.0),
        Conversation::Direct(id) => ("thread_id", id.0),
    }
}

/// Whether the JSON of a notification names this conversation: member `channel_id` or `thread_id` is the id, as
/// an integer, as a whole number, or as its digits. Anything else, broken JSON included, names none.
pub(crate) fn names_conversation(data_json: &str, member: &str, id: u64) -> bool {
    let Ok(data) = serde_json::from_str::<serde_json::Value>(data_json) else {
        return false;
    };
    match data.get(member) {
        Some(serde_json::Value::Number(number)) => {
            number.as_u64() == Some(id) || number.as_f64() == Some(id as f64)
        }
        Some(serde_json::Value::String(digits)) => digits.parse() == Ok(id),
        _ => false,
    }
}
