//! The notifications of a message: who is notified, in which words, and the rows, which are written in the message's
//! transaction (contract: database.md, "Notifications").

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::Value;

use crate::model::{AgentId, Conversation, Message};
use crate::push;
use crate::store::{DatabaseConnection, Member, NewNotification, PostingContext, Result};
use crate::text;

/// The three kinds of notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotificationKind {
    /// Mentioned in a channel.
    Mention,
    /// A message in a channel that the agent watches.
    Channel,
    /// A message in a direct thread.
    Direct,
}

impl NotificationKind {
    /// Its name in rows and preferences, its title, and its word in a `dedupe_key`.
    fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            NotificationKind::Mention => ("chat_mention", "You were mentioned in chat", "mention"),
            NotificationKind::Channel => (
                "chat_channel_message",
                "New chat channel message",
                "channel",
            ),
            NotificationKind::Direct => {
                ("chat_direct_message", "New private chat message", "direct")
            }
        }
    }

    /// Whether it is wanted if an agent's preferences do not name it.
    fn default(self) -> bool {
        !matches!(self, NotificationKind::Channel)
    }
}

/// Writes the notifications of messages, each with the agents whom it mentions. Returns the new ones if Web Push is on,
/// else nothing.
///
/// # Errors
/// A statement failed.
pub(crate) fn insert<'m>(
    store: &mut DatabaseConnection,
    push: Option<&push::Queue>,
    context: &PostingContext,
    messages: impl Iterator<Item = (&'m Message, &'m Vec<AgentId>)>,
) -> Result<Vec<NewNotification>> {
    let candidates: Vec<_> = messages
        .map(|(message, mentioned)| (message, candidates(context, message, mentioned)))
        .collect();
    let agents = candidates.iter().flat_map(|(_, agents)| agents);
    let agents: BTreeSet<AgentId> = agents.map(|(agent, _)| *agent).collect();
    if agents.is_empty() {
        return Ok(Vec::new());
    }
    let agents: Vec<AgentId> = agents.into_iter().collect();
    let preferences = store.notification_preferences(&agents)?;
    let preferences: HashMap<AgentId, Option<String>> = preferences.into_iter().collect();
    let rows = candidates
        .iter()
        .flat_map(|(message, candidates)| rows(message, candidates, &preferences));
    let rows: Vec<NewNotification> = rows.collect();
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let new = store.insert_notifications(&rows)?.into_iter();
    match push.is_some_and(push::Queue::is_wanted) {
        true => Ok(new.map(|place| rows[place].clone()).collect()),
        false => Ok(Vec::new()),
    }
}

/// Who is to be notified of a message, before their preferences are looked at.
fn candidates(
    context: &PostingContext,
    message: &Message,
    mentioned: &[AgentId],
) -> Vec<(AgentId, NotificationKind)> {
    match message.conversation {
        Conversation::Channel(id) => {
            let members = context.members(id);
            channel_candidates(
                members.filter(|member| member.agent != message.sender),
                mentioned,
            )
        }
        Conversation::Direct(id) => {
            let agents = context.thread(id).iter().map(|one| one.agent);
            let others = agents.filter(|agent| *agent != message.sender);
            others
                .map(|agent| (agent, NotificationKind::Direct))
                .collect()
        }
    }
}

/// Who is to be notified of a channel message, before their preferences are looked at. Of `others`, the members without the
/// sender: first those who are mentioned, then those who only watch the channel.
fn channel_candidates<'m>(
    others: impl Iterator<Item = &'m Member>,
    mentioned: &[AgentId],
) -> Vec<(AgentId, NotificationKind)> {
    let mut found: Vec<(AgentId, NotificationKind)> = others
        .filter_map(|member| match mentioned.contains(&member.agent) {
            true => Some((member.agent, NotificationKind::Mention)),
            false => member
                .watches
                .then_some((member.agent, NotificationKind::Channel)),
        })
        .collect();
    found.sort_by_key(|(_, kind)| *kind != NotificationKind::Mention);
    found
}

/// Whether an agent wants a kind, by `notification_preferences_json`. Anything but a JSON object counts as an empty one.
fn is_wanted(kind: NotificationKind, preferences: Option<&str>) -> bool {
    let preferences = preferences.and_then(|json| serde_json::from_str::<Value>(json).ok());
    match preferences
        .as_ref()
        .and_then(Value::as_object)
        .and_then(|preferences| preferences.get(kind.words().0))
    {
        None => kind.default(),
        Some(value) => is_truthy(value),
    }
}

/// Whether the PHP application, which decodes JSON objects as arrays, takes a value for true.
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

/// The rows for the candidates who want them.
fn rows(
    message: &Message,
    candidates: &[(AgentId, NotificationKind)],
    preferences: &HashMap<AgentId, Option<String>>,
) -> Vec<NewNotification> {
    let is_wanted = |agent, kind| {
        let preferences = preferences.get(agent).and_then(Option::as_deref);
        is_wanted(kind, preferences)
    };
    let row = |agent, kind: NotificationKind| {
        let (name, title, word) = kind.words();
        NewNotification {
            agent,
            kind: name,
            title,
            body: body(message),
            link: match message.conversation {
                Conversation::Channel(id) => format!("/chat/channels/{id}"),
                Conversation::Direct(id) => format!("/chat/direct/{id}"),
            },
            data_json: data(message),
            dedupe_key: format!("chat:{word}:{}", message.id),
        }
    };
    let wanted = candidates
        .iter()
        .filter(|(agent, kind)| is_wanted(agent, *kind));
    wanted.map(|(agent, kind)| row(*agent, *kind)).collect()
}

fn body(message: &Message) -> String {
    match text::preview(&message.body_text) {
        preview if preview.is_empty() => message.sender_name.clone(),
        preview => format!("{} · {preview}", message.sender_name),
    }
}

fn data(message: &Message) -> String {
    #[derive(Serialize)]
    struct Data {
        message_id: u64,
        scope: &'static str,
        channel_id: Option<u64>,
        thread_id: Option<u64>,
        sender_agent_id: u64,
    }
    let data = Data {
        message_id: message.id.0,
        scope: message.conversation.scope(),
        channel_id: message.conversation.channel_id().map(|id| id.0),
        thread_id: message.conversation.thread_id().map(|id| id.0),
        sender_agent_id: message.sender.0,
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
            assert_eq!(
                is_wanted(NotificationKind::Mention, json),
                mention,
                "{json:?}"
            );
            assert_eq!(
                is_wanted(NotificationKind::Channel, json),
                channel,
                "{json:?}"
            );
        }
    }
}
