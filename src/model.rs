//! The vocabulary that the rules, the store and the hub share: ids, agents, conversations, messages,
//! refusals and close codes. No serialisation, no SQL and no I/O live here.

use std::fmt;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// Key of a row of `agents`.
    AgentId
    /// Key of a row of `chat_channels`.
    ChannelId
    /// Key of a row of `chat_threads`.
    ThreadId
    /// Key of a row of `chat_messages`; messages of one conversation are shown in this order.
    MessageId
}

/// Where a message belongs: a channel with members, or a direct thread of two agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Conversation {
    /// A channel.
    Channel(ChannelId),
    /// A direct thread.
    Direct(ThreadId),
}

impl Conversation {
    /// `channel` or `direct`, as columns and events call it.
    pub fn scope(self) -> &'static str {
        match self {
            Conversation::Channel(_) => "channel",
            Conversation::Direct(_) => "direct",
        }
    }

    /// The channel, if it is one.
    pub fn channel_id(self) -> Option<ChannelId> {
        match self {
            Conversation::Channel(id) => Some(id),
            Conversation::Direct(_) => None,
        }
    }

    /// The direct thread, if it is one.
    pub fn thread_id(self) -> Option<ThreadId> {
        match self {
            Conversation::Channel(_) => None,
            Conversation::Direct(id) => Some(id),
        }
    }

    /// The refusal for an agent that is no member of the conversation.
    pub fn no_access(self) -> Refusal {
        match self {
            Conversation::Channel(_) => Refusal::NoChannelAccess,
            Conversation::Direct(_) => Refusal::NoThreadAccess,
        }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Conversation::Channel(id) => write!(f, "channel {id}"),
            Conversation::Direct(id) => write!(f, "thread {id}"),
        }
    }
}

/// An active agent, as its sockets know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Key in `agents`.
    pub id: AgentId,
    /// Display name at the time of authentication.
    pub name: String,
    /// `admin` or `agent`.
    pub role: String,
}

/// Confidential input of a client: a token, a text. `Debug` shows only its length, so that no log line or panic message
/// reveals it.
#[derive(Clone, PartialEq, Eq)]
pub struct Private(pub String);

impl fmt::Debug for Private {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.len())
    }
}

/// One row of `chat_messages` with the two columns of its sender that events carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Key of the row.
    pub id: MessageId,
    /// Where it was said.
    pub conversation: Conversation,
    /// Who said it.
    pub sender: AgentId,
    /// The body after trimming and emoticons.
    pub body_text: String,
    /// The body as HTML.
    pub body_rendered_html: Option<String>,
    /// JSON text of `metadata_json`.
    pub metadata_json: Option<String>,
    /// `YYYY-MM-DD HH:MM:SS` by the database clock; so are the next two.
    pub created_at: String,
    /// Set once it was edited.
    pub edited_at: Option<String>,
    /// Set once it was deleted.
    pub deleted_at: Option<String>,
    /// Who deleted it.
    pub deleted_by: Option<AgentId>,
    /// `agents.name` of the sender when the message was read or written.
    pub sender_name: String,
    /// `agents.chat_handle` of the sender.
    pub sender_chat_handle: Option<String>,
}

/// How much of one conversation an agent has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The conversation.
    pub conversation: Conversation,
    /// Messages of others after the marker.
    pub unread: u64,
    /// The marker, 0 where there is none.
    pub last_read: MessageId,
}

/// What a search looks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The searching agent; without a conversation the search covers all that the agent may read.
    pub agent: AgentId,
    /// Where, if only in one conversation; the caller checks that the agent may read it.
    pub conversation: Option<Conversation>,
    /// What a message must contain, compared by the collation of its column. No character is a wildcard.
    pub text: Private,
    /// Only messages of this sender.
    pub sender: Option<AgentId>,
    /// Only messages with smaller ids.
    pub before: Option<MessageId>,
}

/// The table of refusals: variant, code of the `error` event, and its text.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident$(($limit:ident: $number:ty))? $code:literal $text:literal)*) => {
        /// Why an event is refused. Only the sender gets an `error` event, with this text and code (contract: protocol.md,
        /// "Events"). The connection stays, except at `auth` and after a flood of events.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal {
            $($(#[$doc])* $name$(($number))?,)*
        }

        impl Refusal {
            /// The codes of all of them, as the metrics list them; "other" is none of theirs, but known to dashboards.
            pub(crate) const CODES: &[&str] = &[$($code,)* "other"];

            /// Stable machine-readable code of the `error` event.
            pub fn code(self) -> &'static str {
                match self {
                    $(Refusal::$name { .. } => $code,)*
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Refusal::$name$(($limit))? => write!(f, $text),)*
                }
            }
        }
    };
}

refusals! {
    /// The frame is no JSON object with a non-empty string `type`.
    InvalidEvent "invalid_event" "Invalid websocket event"
    /// The `type` is not one of ours.
    UnsupportedType "unsupported_type" "Unsupported websocket event type"
    /// Setting `chat_enabled` is off.
    ChatDisabled "chat_disabled" "Internal chat is disabled"
    /// Channel inactive or unknown, sender no member, or a member who may only read.
    CannotPost "cannot_post" "You cannot post in this chat channel"
    /// The body has nothing left after trimming, or is no string.
    EmptyMessage "message_empty" "Message cannot be empty"
    /// More characters than `chat_max_message_length`, which is given here.
    MessageTooLong(limit: u64) "message_too_long" "Message cannot exceed {limit} characters"
    /// Body or HTML does not fit its column of 65,535 bytes.
    MessageTooLarge "message_too_large" "Message is too large to display"
    /// Not a member of that (active) channel.
    NoChannelAccess "no_channel_access" "You do not have access to this chat channel"
    /// Not one of the two agents of that thread.
    NoThreadAccess "no_thread_access" "You do not have access to this direct message thread"
    /// The other agent of a direct thread is inactive.
    RecipientInactive "recipient_inactive" "Disabled agents cannot receive new direct messages"
    /// An event about a channel, other than a message, without a usable `channel_id`.
    ChannelIdRequired "channel_id_required" "channel_id is required"
    /// An event about a direct thread, other than a message, without a usable `thread_id`.
    ThreadIdRequired "thread_id_required" "thread_id is required"
    /// `chat.search` whose `query` is too short, too long or no string.
    InvalidQuery "invalid_query" "A search needs 2 to 100 characters"
    /// More events than the rate of the socket or of its agent allows.
    RateLimited "rate_limited" "You are sending too fast"
    /// The agent has reached the limit of sockets.
    TooManyConnections "too_many_connections" "You have too many open chat connections"
    /// The database did not answer in time; nothing was stored.
    Unavailable "database_unavailable" "The chat database is not available, nothing was saved"
    /// The database did not confirm the commit in time: the message may be stored or not.
    OutcomeUnknown "outcome_unknown" "The chat database went away, the message may or may not have been saved"
    /// A fault of the service; the log says which.
    Internal "internal" "Internal error"
}

/// Why authentication failed: the text of `auth.failed` (contract: protocol.md, "auth").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// Bad signature, other algorithm, expired, not yet valid, malformed or missing.
    InvalidToken,
    /// Claim `type` is not the string `agent`.
    NotAnAgentToken,
    /// No such agent, or `is_active` is not 1.
    UnknownAgent,
    /// An authenticated socket showed the token of another agent.
    OtherAgent,
    /// An event other than `auth` came first; the only failure that keeps the connection.
    NotAuthenticated,
}

impl fmt::Display for AuthFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthFailure::InvalidToken => "Invalid or expired token",
            AuthFailure::NotAnAgentToken => "Agent token required",
            AuthFailure::UnknownAgent => "Agent account not found or inactive",
            AuthFailure::OtherAgent => "This connection belongs to another agent",
            AuthFailure::NotAuthenticated => "Authenticate before sending chat events",
        })
    }
}

/// WebSocket close codes that the service sends (RFC 6455 section 7.4 and protocol.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// The answer to a peer's close frame: the same code, or 1000 if that had none.
    Answer(u16),
    /// 1001: the service stops; come back.
    GoingAway,
    /// 1002: the peer broke RFC 6455.
    ProtocolError,
    /// 1003: a binary frame.
    Unsupported,
    /// 1007: text that is no UTF-8.
    InvalidUtf8,
    /// 1008: a limit that a well-behaved client does not reach.
    Policy,
    /// 1009: a message larger than allowed.
    TooBig,
    /// 1011: a fault of the service.
    Internal,
    /// 1013: the database cannot be asked now; come back.
    TryAgainLater,
    /// 4401: authentication failed, or its token ran out.
    Unauthorised,
    /// 4403: the agent was deactivated.
    Deactivated,
    /// 4408: no `auth` in time.
    AuthTimeout,
}

impl CloseCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            CloseCode::Answer(code) => code,
            CloseCode::GoingAway => 1001,
            CloseCode::ProtocolError => 1002,
            CloseCode::Unsupported => 1003,
            CloseCode::InvalidUtf8 => 1007,
            CloseCode::Policy => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::Internal => 1011,
            CloseCode::TryAgainLater => 1013,
            CloseCode::Unauthorised => 4401,
            CloseCode::Deactivated => 4403,
            CloseCode::AuthTimeout => 4408,
        }
    }
}
