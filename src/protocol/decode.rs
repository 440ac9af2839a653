//! Decodes a client's text frame into a [`Request`].

use serde_json::{Map, Value};

use super::{Ref, reference};
use crate::model::{AgentId, ChannelId, Conversation, MessageId, Private, Refusal, ThreadId};

/// Messages of one `chat.history` or `chat.search` if the client does not say how many.
pub const DEFAULT_HISTORY: usize = 50;
/// Messages of one `chat.history` at most.
pub const MAX_HISTORY: usize = 200;

/// Messages of one `chat.search` at most.
pub const MAX_SEARCH: usize = 100;
/// Characters of a `query`, after trimming.
pub const QUERY_CHARS: std::ops::RangeInclusive<usize> = 2..=100;

/// One decoded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub event: Event,
    /// To be carried back.
    pub reference: Option<Ref>,
}

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `auth`; without a token if the member is missing or no string.
    Auth {
        /// As sent.
        token: Option<Private>,
        /// The last message that the client has, if it asks for those since.
        after: Option<MessageId>,
    },
    /// `chat.channel.message.send` or `chat.direct.message.send`; without a conversation if its id is unusable, without a
    /// body if that is no string.
    Send {
        /// Where.
        target: ConversationName,
        /// What.
        body: Option<Private>,
    },
    /// `chat.typing`.
    Typing {
        /// Where.
        target: ConversationName,
    },
    /// `chat.read`; an unusable message id counts as 0.
    Read {
        /// Where.
        target: ConversationName,
        /// Up to which message.
        last_read: MessageId,
    },
    /// `chat.history`, additive: older messages of one conversation.
    History {
        /// Where.
        target: ConversationName,
        /// Only those with smaller ids.
        before: Option<MessageId>,
        /// How many at most.
        limit: usize,
    },
    /// `chat.search`, additive: messages that contain a text, newest first.
    Search {
        /// Where, if only in one conversation.
        target: Option<ConversationName>,
        /// What to look for, trimmed; `None` if it is no string.
        query: Option<Private>,
        /// Only those of this sender.
        sender: Option<AgentId>,
        /// Only those with smaller ids.
        before: Option<MessageId>,
        /// How many at most.
        limit: usize,
    },
    /// `chat.unread`, additive: what this agent has not read.
    Unread,
    /// `ping`.
    Ping,
    /// Any other type.
    Unsupported,
}

/// The conversation that an event names, or the kind of id that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConversationName {
    /// A channel, perhaps without a usable id.
    Channel(Option<ChannelId>),
    /// A direct thread, perhaps without a usable id.
    Direct(Option<ThreadId>),
}

impl ConversationName {
    /// The conversation, or what to answer where the id is missing.
    pub fn conversation(self) -> Result<Conversation, Refusal> {
        match self {
            ConversationName::Channel(Some(id)) => Ok(Conversation::Channel(id)),
            ConversationName::Channel(None) => Err(Refusal::ChannelIdRequired),
            ConversationName::Direct(Some(id)) => Ok(Conversation::Direct(id)),
            ConversationName::Direct(None) => Err(Refusal::ThreadIdRequired),
        }
    }
}

/// Decodes one text frame.
///
/// # Errors
/// The text is no JSON object with a non-empty string `type`: the error is the `ref` of the event, if it has a usable one.
/// The answer to that is [`Refusal::InvalidEvent`].
pub fn decode(text: &str) -> Result<Request, Option<Ref>> {
    // Of several members with one name the last counts.
    let Ok(members) = serde_json::from_str::<Map<String, Value>>(text) else {
        return Err(None);
    };
    let reference = members.get("ref").and_then(reference);
    let text_of = |name: &str| members.get(name).and_then(Value::as_str);
    let Some(kind) = text_of("type").filter(|kind| !kind.is_empty()) else {
        return Err(reference);
    };
    let unsigned = |name: &str| members.get(name).and_then(unsigned_integer);
    let number = |name: &str| unsigned(name).filter(|number| *number > 0);
    let private = |name: &str| text_of(name).map(|text| Private(text.to_owned()));
    let channel = || ConversationName::Channel(number("channel_id").map(ChannelId));
    let thread = || ConversationName::Direct(number("thread_id").map(ThreadId));
    let scoped = || match text_of("scope") {
        Some("direct") => thread(),
        _ => channel(),
    };
    let limit = |most: usize| {
        number("limit").map_or(DEFAULT_HISTORY, |limit| {
            usize::try_from(limit).map_or(most, |limit| limit.min(most))
        })
    };
    let event = match kind {
        "auth" => Event::Auth {
            token: private("token"),
            after: unsigned("after_id").map(MessageId),
        },
        "chat.channel.message.send" => Event::Send {
            target: channel(),
            body: private("body"),
        },
        "chat.direct.message.send" => Event::Send {
            target: thread(),
            body: private("body"),
        },
        "chat.typing" => Event::Typing { target: scoped() },
        "chat.read" => Event::Read {
            target: scoped(),
            last_read: MessageId(number("last_read_message_id").unwrap_or(0)),
        },
        "chat.history" => Event::History {
            target: match number("thread_id") {
                Some(_) if number("channel_id").is_none() => thread(),
                _ => scoped(),
            },
            before: number("before_id").map(MessageId),
            limit: limit(MAX_HISTORY),
        },
        "chat.search" => Event::Search {
            target: match (number("channel_id"), number("thread_id")) {
                (None, None) if !members.contains_key("scope") => None,
                (None, Some(_)) => Some(thread()),
                _ => Some(scoped()),
            },
            query: private("query").map(|query| Private(query.0.trim().to_owned())),
            sender: number("sender_agent_id").map(AgentId),
            before: number("before_id").map(MessageId),
            limit: limit(MAX_SEARCH),
        },
        "chat.unread" => Event::Unread,
        "ping" => Event::Ping,
        _ => Event::Unsupported,
    };
    Ok(Request { event, reference })
}

/// The name of an event in the log: its type. Nothing else of it is logged, and no unknown type: both are a client's text.
pub fn kind_of(text: &str) -> &'static str {
    let Ok(request) = decode(text) else {
        return "(no event)";
    };
    match request.event {
        Event::Auth { .. } => "auth",
        Event::Send {
            target: ConversationName::Channel(_),
            ..
        } => "chat.channel.message.send",
        Event::Send { .. } => "chat.direct.message.send",
        Event::Typing { .. } => "chat.typing",
        Event::Read { .. } => "chat.read",
        Event::History { .. } => "chat.history",
        Event::Search { .. } => "chat.search",
        Event::Unread => "chat.unread",
        Event::Ping => "ping",
        Event::Unsupported => "(of an unknown type)",
    }
}

/// The `ref` of an event that is refused without a look at its contents.
pub fn reference_of(text: &str) -> Option<Ref> {
    decode(text).map_or_else(|reference| reference, |request| request.reference)
}

/// An integer that is not negative, or a string of digits; everything else counts as missing.
fn unsigned_integer(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::with_ref;
    use super::*;

    fn event(text: &str) -> Event {
        decode(text).expect("an event").event
    }

    #[test]
    fn ids_come_as_integers_or_digits_and_anything_else_is_missing() {
        let target = |id: &str| match event(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":{id}}}"#
        )) {
            Event::Send {
                target: ConversationName::Channel(id),
                ..
            } => id.map(|id| id.0),
            other => panic!("{other:?}"),
        };
        assert_eq!(target("7"), Some(7));
        assert_eq!(target("\"07\""), Some(7));
        for missing in [
            "0", "-1", "1.5", "true", "null", "[1]", "\"\"", "\" 1\"", "\"1a\"", "\"-1\"", "\"１\"",
        ] {
            assert_eq!(target(missing), None, "{missing}");
        }
    }

    #[test]
    fn of_members_with_one_name_the_last_counts_however_it_is_written() {
        let text = r#"{"channel_id":1,"x":[{"type":"ping"}],"type":"ping","\u0074ype":"chat.typing","channel_id":"2","scope":7}"#;
        let target = ConversationName::Channel(Some(ChannelId(2)));
        assert_eq!(event(text), Event::Typing { target });
        // A member without a meaning must be valid JSON as well.
        for wrong in ["1e999", "01", "\"\\ud800\"", "nul", "{\"a\"}", "[1,]"] {
            let text = format!(r#"{{"type":"ping","x":{wrong}}}"#);
            assert_eq!(decode(&text), Err(None), "{text}");
        }
    }

    #[test]
    fn neither_a_token_nor_a_text_can_be_told_by_what_is_formatted() {
        for (kind, member) in [
            ("auth", "token"),
            ("chat.channel.message.send", "body"),
            ("chat.direct.message.send", "body"),
        ] {
            let text = format!(r#"{{"type":"{kind}","{member}":"between us"}}"#);
            let shown = format!("{:?}", decode(&text));
            assert!(
                shown.contains("(10 bytes)") && !shown.contains("between us"),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_is_no_object_with_a_type_is_no_event() {
        for text in [
            "",
            "5",
            "[]",
            "\"ping\"",
            "{}",
            r#"{"type":""}"#,
            r#"{"type":5}"#,
            "{",
        ] {
            assert_eq!(decode(text), Err(None), "{text}");
        }
    }

    #[test]
    fn a_reference_is_carried_back_as_it_came() {
        let reference = |json: &str| {
            decode(&format!(r#"{{"type":"ping","ref":{json}}}"#))
                .expect("an event")
                .reference
                .map(|reference| with_ref("{}".into(), Some(&reference)))
        };
        assert_eq!(
            reference("\"a\\\"b\""),
            Some("{,\"ref\":\"a\\\"b\"}".into())
        );
        assert_eq!(reference("-5"), Some("{,\"ref\":-5}".into()));
        for unusable in ["1.5", "true", "null", "[1]", "{}"] {
            assert_eq!(reference(unusable), None, "{unusable}");
        }
        assert!(reference(&format!("\"{}\"", "é".repeat(64))).is_some());
        assert!(reference(&format!("\"{}\"", "é".repeat(65))).is_none());
    }
}
