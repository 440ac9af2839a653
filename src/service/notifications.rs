//! Who is notified of a message, and what the notification says. Pure (contract: database.md, "Notifications").

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use crate::model::{AgentId, Conversation, MessageId};
use crate::store::{Member, NewNotification, Thread};
use crate::text;

/// The three kinds of notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Mentioned in a channel.
    Mention,
    /// A message in a channel that the agent watches.
    Channel,
    /// A message in a direct thread.
    Direct,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Mention => "chat_mention",
            Kind::Channel => "chat_channel_message",
            Kind::Direct => "chat_direct_message",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Mention => "You were mentioned in chat",
            Kind::Channel => "New chat channel message",
            Kind::Direct => "New private chat message",
        }
    }

    fn dedupe_word(self) -> &'static str {
        match self {
            Kind::Mention => "mention",
            Kind::Channel => "channel",
            Kind::Direct => "direct",
        }
    }

    /// What counts where an agent's preferences do not name the kind.
    fn default(self) -> bool {
        !matches!(self, Kind::Channel)
    }
}

/// Who is to be notified of a channel message, before their preferences are looked at: mentions first, then
/// those who watch the channel. Those who are mentioned are active. Whoever is mentioned is never notified a second
/// time as a watcher.
pub fn channel_candidates(
    members: &[&Member],
    mentioned: &[AgentId],
    sender: AgentId,
) -> Vec<(AgentId, Kind)> {
    let others = || members.iter().filter(|member| member.agent != sender);
    let mentions = others()
        .filter(|member| mentioned.contains(&member.agent))
        .map(|member| (member.agent, Kind::Mention));
    let watchers = others()
        .filter(|member| member.watches && !mentioned.contains(&member.agent))
        .map(|member| (member.agent, Kind::Channel));
    mentions.chain(watchers).collect()
}

/// The other agent of a direct thread.
pub fn direct_candidates(thread: &Thread, sender: AgentId) -> Vec<(AgentId, Kind)> {
    thread
        .agents
        .iter()
        .filter(|(agent, _)| *agent != sender)
        .map(|(agent, _)| (*agent, Kind::Direct))
        .collect()
}

/// Whether an agent's `notification_preferences_json` lets a kind through. Anything but a JSON object counts as
/// an empty one.
pub fn is_wanted(kind: Kind, preferences: Option<&str>) -> bool {
    let preferences = preferences.and_then(|json| serde_json::from_str::<Value>(json).ok());
    match preferences
        .as_ref()
        .and_then(Value::as_object)
        .and_then(|preferences| preferences.get(kind.name()))
    {
        None => kind.default(),
        Some(value) => is_truthy(value),
    }
}

/// As the application, where JSON objects become arrays, takes a value for true.
fn is_truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0",
        Value::Array(values) => !values.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// What a message looks like in a notification.
pub struct Subject<'a> {
    /// The message.
    pub message: MessageId,
    /// Where it was said.
    pub conversation: Conversation,
    /// Who said it.
    pub sender: AgentId,
    /// His name.
    pub sender_name: &'a str,
    /// Its body.
    pub body_text: &'a str,
}

/// The rows for those of the candidates who want them.
pub fn rows(
    subject: &Subject<'_>,
    candidates: &[(AgentId, Kind)],
    preferences: &HashMap<AgentId, Option<String>>,
) -> Vec<NewNotification> {
    candidates
        .iter()
        .filter(|(agent, kind)| is_wanted(*kind, preferences.get(agent).and_then(Option::as_deref)))
        .map(|(agent, kind)| NewNotification {
            agent: *agent,
            kind: kind.name(),
            title: kind.title(),
            body: body(subject),
            link: match subject.conversation {
                Conversation::Channel(id) => format!("/chat/channels/{id}"),
                Conversation::Direct(id) => format!("/chat/direct/{id}"),
            },
            data_json: data(subject),
            dedupe_key: format!("chat:{}:{}", kind.dedupe_word(), subject.message),
        })
        .collect()
}

fn body(subject: &Subject<'_>) -> String {
    let preview = text::preview(subject.body_text);
    if preview.is_empty() {
        return subject.sender_name.to_owned();
    }
    format!("{} · {preview}", subject.sender_name)
}

fn data(subject: &Subject<'_>) -> String {
    #[derive(Serialize)]
    struct Data {
        message_id: u64,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        sender_agent_id: u64,
    }
    let data = Data {
        message_id: subject.message.0,
        scope: subject.conversation.scope(),
        channel_id: subject.conversation.channel_id().map(|id| id.0),
        thread_id: subject.conversation.thread_id().map(|id| id.0),
        sender_agent_id: subject.sender.0,
    };
    serde_json::to_string(&data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_taken_as_the_application_takes_them() {
        for (json, mention, channel) in [
            (None, true, false),
            (Some(""), true, false),
            (Some("abc"), true, false),
            (Some("[]"), true, false),
            (Some("5"), true, false),
            (Some("\"abc\""), true, false),
            (Some("{}"), true, false),
            (
                Some(r#"{"chat_mention":false,"chat_channel_message":1}"#),
                false,
                true,
            ),
            (
                Some(r#"{"chat_mention":"0","chat_channel_message":"false"}"#),
                false,
                true,
            ),
            (
                Some(r#"{"chat_mention":null,"chat_channel_message":[0]}"#),
                false,
                true,
            ),
            (
                Some(r#"{"chat_mention":0.0,"chat_channel_message":{}}"#),
                false,
                false,
            ),
        ] {
            assert_eq!(is_wanted(Kind::Mention, json), mention, "{json:?}");
            assert_eq!(is_wanted(Kind::Channel, json), channel, "{json:?}");
        }
    }
}
