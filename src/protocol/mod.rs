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
    escaped(serde_json::to_string(value).unwrap_or_default())
}

fn escaped(json: String) -> String {
    match json.contains('\u{2028}') || json.contains('\u{2029}') {
        true => json
            .replace('\u{2028}', "\\u2028")
            .replace('\u{2029}', "\\u2029"),
        false => json,
    }
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

/// A JSON object, written member by member: clients see them in this order.
#[derive(Default)]
struct Object(Vec<u8>);

impl Object {
    fn event(kind: &str) -> Self {
        Object::default().with("type", kind)
    }

    fn with(self, name: &str, value: impl Serialize) -> Self {
        let mut object = self.with_json(name, "");
        // Cannot fail: there is room, and no value here is a map.
        let _ = serde_json::to_writer(&mut object.0, &value);
        object
    }

    fn with_json(mut self, name: &str, json: &str) -> Self {
        let before: &[u8] = if self.0.is_empty() { b"{\"" } else { b",\"" };
        for part in [before, name.as_bytes(), b"\":", json.as_bytes()] {
            self.0.extend_from_slice(part);
        }
        self
    }

    /// A conversation with its `scope`.
    fn of(self, conversation: Conversation) -> Self {
        self.with("scope", conversation.scope())
            .with_ids(conversation)
    }

    fn with_ids(self, conversation: Conversation) -> Self {
        self.with("channel_id", conversation.channel_id().map(|id| id.0))
            .with("thread_id", conversation.thread_id().map(|id| id.0))
    }

    fn end(mut self) -> String {
        self.0.push(b'}');
        escaped(String::from_utf8(self.0).unwrap_or_default())
    }
}

fn list(objects: impl Iterator<Item = String>) -> String {
    format!("[{}]", objects.collect::<Vec<_>>().join(","))
}

/// `auth.ok`. `online` is a sorted list in JSON, from [`agent_ids`]; `last` is the newest message that was published.
pub fn auth_ok(agent: &Agent, online: &str, last: MessageId) -> String {
    Object::event("auth.ok")
        .with("agent_id", agent.id.0)
        .with("name", &agent.name)
        .with("role", &agent.role)
        .with_json("online_agent_ids", online)
        .with("last_id", last.0)
        .end()
}

/// A list of agents in JSON, for [`auth_ok`]: encoded once for all sockets that join together.
pub fn agent_ids(agents: &[AgentId]) -> String {
    list(agents.iter().map(AgentId::to_string))
}

/// `chat.resumed`, additive. Not `complete` if the messages since the client's last one were too many, or the database did
/// not answer.
pub fn resumed(last: MessageId, complete: bool) -> String {
    Object::event("chat.resumed")
        .with("last_id", last.0)
        .with("complete", complete)
        .end()
}

/// `chat.history`, additive: messages of one conversation, ascending by id.
pub fn history(conversation: Conversation, messages: &[Message], has_more: bool) -> String {
    Object::event("chat.history")
        .of(conversation)
        .with_json("messages", &list(messages.iter().map(row)))
        .with("has_more", has_more)
        .end()
}

/// `chat.search`, additive: what was found, newest first. `messages` are ascending by id.
pub fn found(messages: &[Message], next_before: Option<MessageId>) -> String {
    Object::event("chat.search")
        .with_json("messages", &list(messages.iter().rev().map(row)))
        .with("has_more", next_before.is_some())
        .with("next_before_id", next_before.map(|id| id.0))
        .end()
}

/// `chat.unread`, additive: every conversation of an agent with its marker and unread count.
pub fn unread(conversations: &[Unread]) -> String {
    let row = |one: &Unread| {
        Object::default()
            .of(one.conversation)
            .with("unread", one.unread)
            .with("last_read_message_id", one.last_read.0)
            .end()
    };
    Object::event("chat.unread")
        .with_json("conversations", &list(conversations.iter().map(row)))
        .end()
}

/// `auth.failed`.
pub fn auth_failed(failure: AuthFailure) -> String {
    Object::event("auth.failed")
        .with("message", failure.to_string())
        .end()
}

/// `error`.
pub fn error(refusal: Refusal) -> String {
    Object::event("error")
        .with("message", refusal.to_string())
        .with("code", refusal.code())
        .end()
}

/// `pong`; `time` in seconds since 1970.
pub fn pong(time: u64) -> String {
    Object::event("pong").with("time", time).end()
}

/// `presence.updated`.
pub fn presence_updated(agent: AgentId, online: bool) -> String {
    Object::event("presence.updated")
        .with("agent_id", agent.0)
        .with("online", online)
        .end()
}

/// `chat.typing`.
pub fn typing(conversation: Conversation, agent: &Agent) -> String {
    Object::event("chat.typing")
        .of(conversation)
        .with("agent_id", agent.id.0)
        .with("agent_name", &agent.name)
        .end()
}

/// `chat.read.updated`, with the marker as stored.
pub fn read_updated(conversation: Conversation, agent: AgentId, last_read: MessageId) -> String {
    Object::event("chat.read.updated")
        .of(conversation)
        .with("agent_id", agent.0)
        .with("last_read_message_id", last_read.0)
        .end()
}

/// A row of `chat_messages` with two columns of its sender, as events carry them.
fn row(message: &Message) -> String {
    Object::default()
        .with("id", message.id.0)
        .with("message_scope", message.conversation.scope())
        .with_ids(message.conversation)
        .with("sender_agent_id", message.sender.0)
        .with("body_text", &message.body_text)
        .with("body_rendered_html", &message.body_rendered_html)
        .with("metadata_json", &message.metadata_json)
        .with("created_at", &message.created_at)
        .with("edited_at", &message.edited_at)
        .with("deleted_at", &message.deleted_at)
        .with("deleted_by_agent_id", message.deleted_by.map(|id| id.0))
        .with("sender_name", &message.sender_name)
        .with("sender_chat_handle", &message.sender_chat_handle)
        .end()
}

/// `chat.channel.message.created` or `chat.direct.message.created`.
pub fn message_created(message: &Message) -> String {
    let scope = message.conversation.scope();
    Object::event(&format!("chat.{scope}.message.created"))
        .with_json("message", &row(message))
        .end()
}

/// `chat.message.updated`, additive: a message was edited by another process.
pub fn message_updated(message: &Message) -> String {
    Object::event("chat.message.updated")
        .with_json("message", &row(message))
        .end()
}

/// `chat.message.deleted`, additive: a message was marked deleted by another process. Its text is not repeated.
pub fn message_deleted(message: &Message) -> String {
    Object::event("chat.message.deleted")
        .with("message_id", message.id.0)
        .of(message.conversation)
        .with("deleted_at", &message.deleted_at)
        .with("deleted_by_agent_id", message.deleted_by.map(|id| id.0))
        .end()
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
