//! The chat's database, by task: a [`DatabaseConnection`] asks it in SQL, over an engine. It names every column, never creates
//! or alters a table of the helpdesk, and uses nothing that only MySQL or only MariaDB has (contract: database.md, schema.sql).
//! What SQLite calls otherwise its engine replaces. No rule about who may do what lives below this line.
//!
//! Connections come from a [`Pool`], which opens one on first use and again after a loss.

pub(crate) mod cache_invalidation;
mod connection;
mod history;
pub mod mysql;
pub mod operations;
mod page;
mod pool;
mod posting;
#[cfg(feature = "push")]
pub(crate) mod push;
mod row;
#[cfg(feature = "embedded")]
pub mod sqlite;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

pub use connection::DatabaseConnection;
pub use operations::ConnectionInfo;
pub use page::{MessagePage, PageLimit};
pub use pool::{Availability, Lent, Pool, Pools};

use crate::model::{AgentId, ChannelId, Conversation, Message, MessageId, ThreadId};

/// Unread counts look at this many of the newest messages of a conversation.
const UNREAD_SCAN_LIMIT: u64 = 1000;
/// Most ids that a query scans when nearly all are skipped, as in a run of deleted messages.
const HISTORY_SCAN_LIMIT: u64 = 5000;

/// What kind of failure it was, which decides what to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection is gone or the server cannot serve now: connect again and try again.
    Lost,
    /// This connection has gone or is out of date, which says nothing about the server: connect again and try again.
    Stale,
    /// The transaction was chosen as a deadlock's victim, waited too long for a lock, or was interrupted: try again.
    Conflict,
    /// The statement ran into the limit that it has on the server; the connection lives on.
    TookTooLong,
    /// The server refused these very rows or this statement: trying again changes nothing.
    Refused,
    /// As `Refused`, because the rows or the statement are too large.
    TooLarge,
    /// No connection is possible (user, password, database name, rights): only a change of configuration or account
    /// helps.
    Denied,
}

impl Failure {
    /// Its name in the metrics, one of `platform::metrics::FAILURES`.
    pub fn name(self) -> &'static str {
        match self {
            Failure::Lost => "lost",
            Failure::Stale => "stale",
            Failure::Conflict => "conflict",
            Failure::TookTooLong => "took_too_long",
            Failure::Refused => "refused",
            Failure::TooLarge => "too_large",
            Failure::Denied => "denied",
        }
    }

    /// Whether trying again changes nothing.
    fn is_lasting(self) -> bool {
        matches!(self, Failure::Refused | Failure::TooLarge | Failure::Denied)
    }
}

/// A failed operation on the database.
#[derive(Clone, Debug)]
pub struct StoreError {
    /// What was being done.
    pub operation: &'static str,
    /// What kind of failure it was.
    pub failure: Failure,
    /// The system's error, or what may be shown of the server's; for the log, never for a client.
    pub cause: Arc<dyn Error + Send + Sync>,
    /// What to do about it, where the failure does not say.
    pub remedy: Option<&'static str>,
    /// Whether the remedy is needed although a failure of this kind usually passes by itself.
    pub is_remedy_needed: bool,
    /// Which database it was, if known.
    pub place: Option<String>,
}

impl StoreError {
    /// One without a remedy of its own.
    pub fn new(
        operation: &'static str,
        failure: Failure,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        StoreError {
            operation,
            failure,
            cause: cause.into().into(),
            remedy: None,
            is_remedy_needed: false,
            place: None,
        }
    }

    /// The same with the database's [description](Store::describe).
    #[must_use]
    pub fn at(self, place: String) -> Self {
        StoreError {
            place: Some(place),
            ..self
        }
    }

    /// Whether the failure stays, however long a start waits for the database.
    pub fn is_lasting(&self) -> bool {
        self.is_remedy_needed || self.failure.is_lasting()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.cause)?;
        match &self.place {
            Some(place) => write!(f, " ({place})"),
            None => Ok(()),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
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
    fn connect(&self) -> Result<DatabaseConnection>;

    /// Which database this is, without its password, for messages.
    fn describe(&self) -> String;

    /// What to do about a database that cannot be used, for messages, where the error does not say.
    fn remedy(&self, failure: Failure) -> &'static str;

    /// Invalidates caches of what was written, until `until` at most. Called once a second, and when nothing more will
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
    /// Whether the agent is active and `can_post`; looked up only for senders.
    pub can_post: bool,
    /// Whether the agent is active and has `notify_enabled` for this channel.
    pub watches: bool,
}

/// A direct thread with what posting needs to know of both agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The thread.
    pub id: ThreadId,
    /// Its two agents.
    pub agents: [Participant; 2],
}

/// One of the two agents of a direct thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// The agent.
    pub agent: AgentId,
    /// Whether the agent may log in.
    pub is_active: bool,
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

/// What a batch of messages has to read from the database before it is written.
#[derive(Debug, Default)]
pub struct PostingContext {
    /// The database's clock, `YYYY-MM-DD HH:MM:SS`.
    pub now: String,
    /// Members of the active ones among the channels.
    pub members: Vec<Member>,
    /// The threads that exist.
    pub threads: Vec<Thread>,
    /// The senders that exist.
    pub senders: Vec<Sender>,
}

impl PostingContext {
    /// Active members of a channel.
    pub fn members(&self, id: ChannelId) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(move |member| member.channel == id)
    }

    /// The agents of a direct thread; none if there is no such thread.
    pub fn thread(&self, id: ThreadId) -> &[Participant] {
        let thread = self.threads.iter().find(|thread| thread.id == id);
        thread.map_or(&[], |thread| &thread.agents)
    }

    /// The agents who read a conversation.
    pub fn audience(&self, conversation: Conversation) -> Vec<AgentId> {
        match conversation {
            Conversation::Channel(id) => self.members(id).map(|member| member.agent).collect(),
            Conversation::Direct(id) => self.thread(id).iter().map(|one| one.agent).collect(),
        }
    }
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

impl NewMessage {
    /// The message as stored under this id, with the sender's name and handle.
    pub fn stored(self, id: MessageId, name: String, handle: Option<String>) -> Message {
        Message {
            id,
            conversation: self.conversation,
            sender: self.sender,
            body_text: self.body_text,
            body_rendered_html: Some(self.body_rendered_html),
            metadata_json: self.metadata_json,
            created_at: self.created_at,
            edited_at: None,
            deleted_at: None,
            deleted_by: None,
            sender_name: name,
            sender_chat_handle: handle,
        }
    }
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

/// Messages that one search looks at. A first query finds where they end and a second looks at their texts, which reads
/// twice as many rows; with the matches and the agent's conversations it stays below 20,000 rows in all.
pub const SEARCH_SCAN_LIMIT: usize = 9_000;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchResult {
    /// Ascending by id.
    pub messages: Vec<Message>,
    /// `before` of the next search, if not everything was looked at.
    pub next_before: Option<MessageId>,
}

/// The column that names a conversation in the tables of messages and read markers, and the id in it (contract:
/// schema.sql).
fn conversation_column(conversation: Conversation) -> (&'static str, u64) {
    match conversation {
        Conversation::Channel(id) => ("channel_id", id.0),
        Conversation::Direct(id) => ("thread_id", id.0),
    }
}

/// Whether the JSON of a notification names this conversation: member `channel_id` or `thread_id` is the id, as an
/// integer, a float without a fraction, or a string of digits. Anything else, broken JSON included, names none.
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
