//! A socket's join, with the messages it missed if it names its last one. Once the socket is in its list, the hub holds live
//! events back for it. Then the socket gets the missed messages from the database, `chat.resumed`, and the events held back,
//! except messages that it just got. So there is neither a gap nor a duplicate between the two.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::bounded;

use super::{Chat, refusal};
use crate::config::limits::STORE_TIMEOUT;
use crate::hub::{Backlog, Command, Newcomer, SubscriberRef};
use crate::model::{Agent, AgentId, MessageId, Refusal};
use crate::protocol::frame::Frame;
use crate::protocol::{self, Ref};
use crate::store::MessagePage;

/// Most missed messages that are sent. Their bytes are limited to what may be queued for a socket: they are queued in one
/// piece, and a reader that has stopped must not cost more memory than any other.
const MAX_MISSED: usize = 1000;

impl Chat {
    /// Adds an authenticated socket. `after` is the newest message that it has, if it asks for what it missed.
    pub fn join(
        &self,
        subscriber: &SubscriberRef,
        (agent, asked): (Arc<Agent>, Instant),
        after: Option<MessageId>,
        reference: Option<&Ref>,
    ) {
        let deadline = Instant::now() + STORE_TIMEOUT;
        // From here on every new message must reach this socket.
        self.feed.wake(deadline);
        let id = agent.id;
        let refusal = protocol::error(Refusal::TooManyConnections);
        let refusal = Frame::text(&protocol::with_ref(refusal, reference));
        let reference = reference.cloned();
        let (joined, newest) = bounded(1);
        self.hub.send(Command::Join(Newcomer {
            subscriber: Arc::clone(subscriber),
            agent: id,
            asked,
            welcome: Box::new(move |online, last| {
                // Received only if the client asks for what it missed.
                let _ = joined.try_send(last);
                let text = protocol::auth_ok(&agent, online, last);
                Frame::text(&protocol::with_ref(text, reference.as_ref()))
            }),
            refusal,
            is_held: after.is_some(),
        }));
        if let Some(after) = after {
            // Fails if the hub has refused the socket, or has ended: then there is nothing to send. The timeout starts anew,
            // because `wake` may have used up `deadline`.
            let last = newest.recv_timeout(STORE_TIMEOUT);
            let backlog = last.map(|last| self.backlog(subscriber, id, after, last));
            self.hub.send(Command::Release {
                subscriber: Arc::clone(subscriber),
                agent: id,
                backlog: backlog.unwrap_or_default(),
            });
        }
    }

    /// Messages after `after`, the last one that the socket has. `last` is the newest message that the hub has published.
    fn backlog(
        &self,
        from: &SubscriberRef,
        agent: AgentId,
        after: MessageId,
        last: MessageId,
    ) -> Backlog {
        let room = self.room_for(MAX_MISSED);
        // Encoded on the query thread: when a thousand clients come back at once, the rows of only a few are in memory.
        let missed = self.ask_at_leisure(from, agent, move |store| {
            let found = store.missed(agent, after, room)?;
            Ok(encoded(&found, room.bytes, last))
        });
        missed.unwrap_or_else(|error| {
            // The socket has joined and gets new messages; `complete: false` tells it that it missed some.
            refusal(&error);
            Backlog {
                messages: Vec::new(),
                done: Some(Frame::text(&protocol::resumed(last, false))),
            }
        })
    }
}

/// As many of the newest messages as fit into `max_bytes`; one at least.
fn encoded(found: &MessagePage, max_bytes: usize, last: MessageId) -> Backlog {
    let mut complete = !found.has_older;
    let mut bytes = 0;
    let mut messages = Vec::with_capacity(found.messages.len());
    for message in found.messages.iter().rev() {
        let frame = Frame::text(&protocol::message_created(message));
        bytes += frame.bytes().len();
        if bytes > max_bytes && !messages.is_empty() {
            complete = false;
            break;
        }
        messages.push((message.id, frame));
    }
    messages.reverse();
    let last = messages.last().map_or(last, |(id, _)| last.max(*id));
    Backlog {
        messages,
        done: Some(Frame::text(&protocol::resumed(last, complete))),
    }
}
