//! Decodes a client's text frame into a [`Request`].

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

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

/// The members of an event that have a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Type,
    Ref,
    Token,
    AfterId,
    Scope,
    ChannelId,
    ThreadId,
    Body,
    LastReadMessageId,
    BeforeId,
    Limit,
    Query,
    SenderAgentId,
    #[serde(other)]
    Other,
}

/// The members of an object that have a meaning; of several with one name the last. The others must be valid JSON as well.
/// Each is parsed in full, which finds all faults, and then dropped: at most one takes memory at a time.
struct Members(Vec<(Name, Value)>);

impl Members {
    fn get(&self, name: Name) -> Option<&Value> {
        let mut members = self.0.iter();
        members.find_map(|(one, value)| (*one == name).then_some(value))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Gather;
        impl<'de> Visitor<'de> for Gather {
            type Value = Members;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(Name, Value)> = Vec::with_capacity(4);
                while let Some((name, value)) = map.next_entry()? {
                    let mut known = members.iter_mut();
                    match known.find(|(one, _)| *one == name) {
                        Some((_, before)) => *before = value,
                        None if name == Name::Other => {}
                        None => members.push((name, value)),
                    }
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Gather)
    }
}

/// Decodes one text frame.
///
/// # Errors
/// The text is no JSON object with a non-empty string `type`: the error is the `ref` of the event, if it has a usable one.
/// The answer to that is [`Refusal::InvalidEvent`].
pub fn decode(text: &str) -> Result<Request, Option<Ref>> {
    let Ok(members) = serde_json::from_str::<Members>(text) else {
        return Err(None);
    };
    let reference = members.get(Name::Ref).and_then(reference);
    let Some(kind) = members
        .get(Name::Type)
        .and_then(Value::as_str)
        .filter(|kind| !kind.is_empty())
    else {
        return Err(reference);
    };
    let number = |name| members.get(name).and_then(positive_integer);
    let private = |name| {
        let text = members.get(name).and_then(Value::as_str);
        text.map(|text| Private(text.to_owned()))
    };
    let channel = || ConversationName::Channel(number(Name::ChannelId).map(ChannelId));
    let thread = || ConversationName::Direct(number(Name::ThreadId).map(ThreadId));
    let scoped = || match members.get(Name::Scope).and_then(Value::as_str) {
        Some("direct") => thread(),
        _ => channel(),
    };
    let limit = |most: usize| {
        number(Name::Limit).map_or(DEFAULT_HISTORY, |limit| {
            usize::try_from(limit).map_or(most, |limit| limit.min(most))
        })
    };
    let event = match kind {
        "auth" => Event::Auth {
            token: private(Name::Token),
            after: members
                .get(Name::AfterId)
                .and_then(unsigned_integer)
                .map(MessageId),
        },
        "chat.channel.message.send" => Event::Send {
            target: channel(),
            body: private(Name::Body),
        },
        "chat.direct.message.send" => Event::Send {
            target: thread(),
            body: private(Name::Body),
        },
        "chat.typing" => Event::Typing { target: scoped() },
        "chat.read" => Event::Read {
            target: scoped(),
            last_read: MessageId(number(Name::LastReadMessageId).unwrap_or(0)),
        },
        "chat.history" => Event::History {
            target: match number(Name::ThreadId) {
                Some(_) if number(Name::ChannelId).is_none() => thread(),
                _ => scoped(),
            },
            before: number(Name::BeforeId).map(MessageId),
            limit: limit(MAX_HISTORY),
        },
        "chat.search" => Event::Search {
            target: match (number(Name::ChannelId), number(Name::ThreadId)) {
                (None, None) if members.get(Name::Scope).is_none() => None,
                (None, Some(_)) => Some(thread()),
                _ => Some(scoped()),
            },
            query: private(Name::Query).map(|query| Private(query.0.trim().to_owned())),
            sender: number(Name::SenderAgentId).map(AgentId),
            before: number(Name::BeforeId).map(MessageId),
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
    match decode(text) {
        Ok(request) => request.reference,
        Err(reference) => reference,
    }
}

/// An integer above 0, or a string of digits that is one; everything else counts as missing.
fn positive_integer(value: &Value) -> Option<u64> {
    unsigned_integer(value).filter(|number| *number > 0)
}

/// An integer that is not negative, or a string of digits.
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
