//! The shape of the wire's JSON, and nothing else: a text frame becomes a [`Request`] (`protocol/decode.rs`),
//! an answer becomes the text of a frame. Pure; no I/O, no clock, no policy (contract: protocol.md, "Events").

mod decode;
pub mod frame;

use serde::Serialize;
use serde_json::Value;

pub use self::decode::{
    ConversationName, DEFAULT_HISTORY, Event, MAX_HISTORY, MAX_SEARCH, QUERY_CHARS, Request,
    decode, kind_of, reference_of,
};
use crate::model::{
    Agent, AgentId, AuthFailure, Conversation, Message, MessageId, Refusal, Unread,
};

/// Longest `ref` that is carried back, in characters.
pub const MAX_REF_CHARS: usize = 64;

/// The JSON text of an event's `ref` (a string or an integer), carried back unchanged in its answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ref(String);

impl Ref {
    /// The `metadata_json` of a message that was sent with this `ref`.
    pub fn metadata(&self) -> String {
        format!("{{\"ref\":{}}}", self.0)
    }

    /// The `ref` that a message was sent with, out of its `metadata_json`.
    pub fn of_metadata(metadata_json: &str) -> Option<Self> {
        let metadata: Value = serde_json::from_str(metadata_json).ok()?;
        metadata.get("ref").and_then(reference)
    }
}

fn reference(value: &Value) -> Option<Ref> {
    let usable = match value {
        Value::String(text) => text.chars().count() <= MAX_REF_CHARS,
        Value::Number(number) => number.is_i64() || number.is_u64(),
        _ => false,
    };
    usable.then(|| Ref(text_of(value)))
}

/// JSON as the clients know it: slashes and non-ASCII characters are not escaped, except U+2028 and U+2029.
fn text_of(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).unwrap_or_default();
    if text.contains(['\u{2028}', '\u{2029}']) {
        return text
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029");
    }
    text
}

/// Adds the `ref` of an event, if it had one, to its answer as the last member.
pub fn with_ref(mut object: String, reference: Option<&Ref>) -> String {
    if let Some(Ref(json)) = reference {
        object.pop();
        object.push_str(",\"ref\":");
        object.push_str(json);
        object.push('}');
    }
    object
}

/// `auth.ok`. `online` is a sorted list in JSON, from [`agent_ids`]; `last` is the newest message that was published.
pub fn auth_ok(agent: &Agent, online: &str, last: MessageId) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        agent_id: u64,
        name: &'a str,
        role: &'a str,
    }
    let mut text = text_of(&Out {
        r#type: "auth.ok",
        agent_id: agent.id.0,
        name: &agent.name,
        role: &agent.role,
    });
    text.pop();
    text.push_str(",\"online_agent_ids\":");
    text.push_str(online);
    text.push_str(",\"last_id\":");
    text.push_str(&last.to_string());
    text.push('}');
    text
}

/// A list of agents in JSON, for [`auth_ok`]: encoded once for all sockets that join together.
pub fn agent_ids(agents: &[AgentId]) -> String {
    let ids: Vec<u64> = agents.iter().map(|id| id.0).collect();
    text_of(&ids)
}

/// `chat.resumed`, additive. Not `complete` if the messages since the client's last one were too many, or the database did
/// not answer.
pub fn resumed(last: MessageId, complete: bool) -> String {
    format!("{{\"type\":\"chat.resumed\",\"last_id\":{last},\"complete\":{complete}}}")
}

/// `chat.history`, additive: messages of one conversation, ascending by id.
pub fn history(conversation: Conversation, messages: &[Message], has_more: bool) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        messages: Vec<MessageRow<'a>>,
        has_more: bool,
    }
    text_of(&Out {
        r#type: "chat.history",
        scope: conversation.scope(),
        channel_id: conversation.channel_id().map(|id| id.0),
        thread_id: conversation.thread_id().map(|id| id.0),
        messages: messages.iter().map(MessageRow::of).collect(),
        has_more,
    })
}

/// `chat.search`, additive: what was found, newest first. `messages` are ascending by id.
pub fn found(messages: &[Message], next_before: Option<MessageId>) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        messages: Vec<MessageRow<'a>>,
        has_more: bool,
        next_before_id: Option<u64>,
    }
    text_of(&Out {
        r#type: "chat.search",
        messages: messages.iter().rev().map(MessageRow::of).collect(),
        has_more: next_before.is_some(),
        next_before_id: next_before.map(|id| id.0),
    })
}

/// `chat.unread`, additive: every conversation of an agent with its marker and unread count.
pub fn unread(conversations: &[Unread]) -> String {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        conversations: Vec<Row>,
    }
    #[derive(Serialize)]
    struct Row {
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        unread: u64,
        last_read_message_id: u64,
    }
    text_of(&Out {
        r#type: "chat.unread",
        conversations: conversations
            .iter()
            .map(|one| Row {
                scope: one.conversation.scope(),
                channel_id: one.conversation.channel_id().map(|id| id.0),
                thread_id: one.conversation.thread_id().map(|id| id.0),
                unread: one.unread,
                last_read_message_id: one.last_read.0,
            })
            .collect(),
    })
}

/// `auth.failed`.
pub fn auth_failed(failure: AuthFailure) -> String {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        message: String,
    }
    text_of(&Out {
        r#type: "auth.failed",
        message: failure.to_string(),
    })
}

/// `error`.
pub fn error(refusal: Refusal) -> String {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        message: String,
        code: &'static str,
    }
    text_of(&Out {
        r#type: "error",
        message: refusal.to_string(),
        code: refusal.code(),
    })
}

/// `pong`; `time` in seconds since 1970.
pub fn pong(time: u64) -> String {
    format!("{{\"type\":\"pong\",\"time\":{time}}}")
}

/// `presence.updated`.
pub fn presence_updated(agent: AgentId, online: bool) -> String {
    format!("{{\"type\":\"presence.updated\",\"agent_id\":{agent},\"online\":{online}}}")
}

/// `chat.typing`.
pub fn typing(conversation: Conversation, agent: &Agent) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        agent_id: u64,
        agent_name: &'a str,
    }
    text_of(&Out {
        r#type: "chat.typing",
        scope: conversation.scope(),
        channel_id: conversation.channel_id().map(|id| id.0),
        thread_id: conversation.thread_id().map(|id| id.0),
        agent_id: agent.id.0,
        agent_name: &agent.name,
    })
}

/// `chat.read.updated`, with the marker as stored.
pub fn read_updated(conversation: Conversation, agent: AgentId, last_read: MessageId) -> String {
    #[derive(Serialize)]
    struct Out {
        r#type: &'static str,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        agent_id: u64,
        last_read_message_id: u64,
    }
    text_of(&Out {
        r#type: "chat.read.updated",
        scope: conversation.scope(),
        channel_id: conversation.channel_id().map(|id| id.0),
        thread_id: conversation.thread_id().map(|id| id.0),
        agent_id: agent.0,
        last_read_message_id: last_read.0,
    })
}

/// A row of `chat_messages` with two columns of its sender, as events carry them.
#[derive(Serialize)]
struct MessageRow<'a> {
    id: u64,
    message_scope: &'static str,
    channel_id: Option<u64>,
    thread_id: Option<u64>,
    sender_agent_id: u64,
    body_text: &'a str,
    body_rendered_html: Option<&'a str>,
    metadata_json: Option<&'a str>,
    created_at: &'a str,
    edited_at: Option<&'a str>,
    deleted_at: Option<&'a str>,
    deleted_by_agent_id: Option<u64>,
    sender_name: &'a str,
    sender_chat_handle: Option<&'a str>,
}

impl<'a> MessageRow<'a> {
    fn of(message: &'a Message) -> Self {
        MessageRow {
            id: message.id.0,
            message_scope: message.conversation.scope(),
            channel_id: message.conversation.channel_id().map(|id| id.0),
            thread_id: message.conversation.thread_id().map(|id| id.0),
            sender_agent_id: message.sender.0,
            body_text: &message.body_text,
            body_rendered_html: message.body_rendered_html.as_deref(),
            metadata_json: message.metadata_json.as_deref(),
            created_at: &message.created_at,
            edited_at: message.edited_at.as_deref(),
            deleted_at: message.deleted_at.as_deref(),
            deleted_by_agent_id: message.deleted_by.map(|id| id.0),
            sender_name: &message.sender_name,
            sender_chat_handle: message.sender_chat_handle.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct MessageEvent<'a> {
    r#type: &'static str,
    message: MessageRow<'a>,
}

/// `chat.channel.message.created` or `chat.direct.message.created`.
pub fn message_created(message: &Message) -> String {
    text_of(&MessageEvent {
        r#type: match message.conversation {
            Conversation::Channel(_) => "chat.channel.message.created",
            Conversation::Direct(_) => "chat.direct.message.created",
        },
        message: MessageRow::of(message),
    })
}

/// `chat.message.updated`, additive: a message was edited by another process.
pub fn message_updated(message: &Message) -> String {
    text_of(&MessageEvent {
        r#type: "chat.message.updated",
        message: MessageRow::of(message),
    })
}

/// `chat.message.deleted`, additive: a message was marked deleted by another process. Its text is not repeated.
pub fn message_deleted(message: &Message) -> String {
    #[derive(Serialize)]
    struct Out<'a> {
        r#type: &'static str,
        message_id: u64,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        deleted_at: Option<&'a str>,
        deleted_by_agent_id: Option<u64>,
    }
    text_of(&Out {
        r#type: "chat.message.deleted",
        message_id: message.id.0,
        scope: message.conversation.scope(),
        channel_id: message.conversation.channel_id().map(|id| id.0),
        thread_id: message.conversation.thread_id().map(|id| id.0),
        deleted_at: message.deleted_at.as_deref(),
        deleted_by_agent_id: message.deleted_by.map(|id| id.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_separators_are_the_only_escaped_letters() {
        assert_eq!(
            text_of(&"é/\u{2028}\u{2029}\u{1}"),
            "\"é/\\u2028\\u2029\\u0001\""
        );
    }
}
