//! A connection's requests other than posts: typing, read markers, history, search, unread counts.

use std::time::Instant;

use super::{Chat, refusal};
use crate::hub::{SubscriberRef, Weight};
use crate::model::{AgentId, MessageId, Refusal, Search};
use crate::protocol::frame::Frame;
use crate::protocol::{self, Ref};
use crate::session::InConversation;
use crate::store::{PageLimit, Result};

/// The outcome of a query.
enum Answer {
    Text(String),
    Refusal(Refusal),
}

impl Chat {
    /// Tells the other members of a conversation that an agent is typing there, if the agent is a member.
    pub fn typing(&self, from: &SubscriberRef, asked: &InConversation) {
        let (conversation, reference) = (asked.conversation, asked.reference.as_ref());
        let now = Instant::now();
        let members = match self.memberships.get(&conversation, now) {
            Some((members, _)) => Ok(members),
            None => {
                let members = self.ask(move |store| store.audience(conversation));
                members.map(|members| self.remember_members(conversation, members, now))
            }
        };
        let audience = match members {
            Ok(members) if members.contains(&asked.agent.id) => members,
            Ok(_) => return self.say_refused(from, conversation.no_access(), reference),
            Err(error) => return self.say_refused(from, refusal(&error), reference),
        };
        if let Some(bus) = &self.bus {
            bus.typing(conversation, &asked.agent, &audience);
        }
        let text = protocol::typing(conversation, &asked.agent);
        self.tell(audience, &text, Weight::Ephemeral, Some((from.id(), None)));
    }

    /// Moves an agent's read marker and tells everyone in the conversation.
    pub fn mark_read(&self, from: &SubscriberRef, asked: &InConversation, last_read: MessageId) {
        let (agent, conversation) = (asked.agent.id, asked.conversation);
        let reference = asked.reference.as_ref();
        let now = Instant::now();
        let marked = self.ask(move |store| {
            let members = store.audience(conversation)?;
            let marker = match members.contains(&agent) {
                true => Some(store.mark_read(agent, conversation, last_read)?),
                false => None,
            };
            Ok((members, marker))
        });
        let (members, marker) = match marked {
            Ok(marked) => marked,
            Err(error) => return self.say_refused(from, refusal(&error), reference),
        };
        let audience = self.remember_members(conversation, members, now);
        let Some(marker) = marker else {
            return self.say_refused(from, conversation.no_access(), reference);
        };
        let text = protocol::read_updated(conversation, agent, marker);
        if let Some(bus) = &self.bus {
            bus.read(conversation, agent, marker, &audience);
        }
        let own = reference.map(|reference| {
            let own = Frame::text(&protocol::with_ref(text.clone(), Some(reference)));
            (from.id(), Some(own))
        });
        self.tell(audience, &text, Weight::Essential, own);
    }

    /// Older messages of a conversation: those before `before`, if it is given.
    pub fn history(
        &self,
        from: &SubscriberRef,
        asked: &InConversation,
        before: Option<MessageId>,
        limit: usize,
    ) {
        let (agent, conversation) = (asked.agent.id, asked.conversation);
        let room = self.room_for(limit);
        let found = self.ask_at_leisure(from, agent, move |store| {
            if !store.audience(conversation)?.contains(&agent) {
                return Ok(Answer::Refusal(conversation.no_access()));
            }
            let found = store.history(conversation, before, room)?;
            let text = within(room, found.messages.len(), |left_out| {
                let has_more = found.has_older || left_out > 0;
                protocol::history(conversation, &found.messages[left_out..], has_more)
            });
            Ok(Answer::Text(text))
        });
        self.say_found(from, found, asked.reference.as_ref());
    }

    /// Messages that contain a text, in one conversation or in all that the agent may read.
    pub fn search(
        &self,
        from: &SubscriberRef,
        search: Search,
        limit: usize,
        reference: Option<&Ref>,
    ) {
        let room = self.room_for(limit);
        let found = self.ask_at_leisure(from, search.agent, move |store| {
            if let Some(conversation) = search.conversation
                && !store.audience(conversation)?.contains(&search.agent)
            {
                return Ok(Answer::Refusal(conversation.no_access()));
            }
            let found = store.search(&search, room)?;
            let text = within(room, found.messages.len(), |left_out| {
                let next = match left_out {
                    0 => found.next_before,
                    _ => found.messages.get(left_out).map(|message| message.id),
                };
                protocol::found(&found.messages[left_out..], next)
            });
            Ok(Answer::Text(text))
        });
        self.say_found(from, found, reference);
    }

    /// What an agent has not read, for each of its conversations.
    pub fn unread(&self, from: &SubscriberRef, agent: AgentId, reference: Option<&Ref>) {
        let unread = self.ask_at_leisure(from, agent, move |store| store.unread(agent));
        let text = unread.map(|unread| Answer::Text(protocol::unread(&unread)));
        self.say_found(from, text, reference);
    }

    /// Room for this many messages, and for as many bytes as may be queued for a socket.
    pub(super) fn room_for(&self, messages: usize) -> PageLimit {
        PageLimit {
            messages,
            bytes: self.limits.queue_bytes,
        }
    }

    fn say_found(&self, to: &SubscriberRef, found: Result<Answer>, reference: Option<&Ref>) {
        match found.unwrap_or_else(|error| Answer::Refusal(refusal(&error))) {
            Answer::Text(text) => self.say(to, text, reference),
            Answer::Refusal(refusal) => self.say_refused(to, refusal, reference),
        }
    }
}

/// Encodes the newest of `count` messages, halving their number until the text fits into a socket's queue; one message at
/// least. The query has limited the rows, but their JSON may be longer. A client asks for the rest by the oldest id it got.
fn within(room: PageLimit, count: usize, encode: impl Fn(usize) -> String) -> String {
    let mut left_out = 0;
    loop {
        let text = encode(left_out);
        if text.len() <= room.bytes || count - left_out <= 1 {
            return text;
        }
        left_out += (count - left_out) / 2;
    }
}
