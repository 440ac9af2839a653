//! A socket's join, with the messages it missed if it names its last one. Once the socket is in the hub's list, live frames
//! are held back for it; then it gets the missed messages from the database, `chat.resumed`, and the held-back frames
//! without duplicates. So there is neither a gap nor a duplicate between the two.

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

/// Messages that are sent again at most, and no more bytes than may wait for a socket: they are handed to it in one
/// piece, and a reader that has stopped must not make the service keep more than for any other.
const MAX_MISSED: usize = 1000;

impl Chat {
    /// Lets an authenticated socket in; `after` is the newest message that it has, if it asks for what it missed.
    pub fn join(
        &self,
        subscriber: &SubscriberRef,
        (agent, asked): (Arc<Agent>, Instant),
        after: Option<MessageId>,
        reference: Option<&Ref>,
    ) {
        let deadline = Instant::now() + STORE_TIMEOUT;
        // Whatever is said from here on must reach this socket.
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
                // Received only where something was missed.
                let _ = joined.try_send(last);
                let text = protocol::auth_ok(&agent, online, last);
                Frame::text(&protocol::with_ref(text, reference.as_ref()))
            }),
            refusal,
            hold: after.is_some(),
        }));
        if let Some(after) = after {
            // Where it was refused, or the hub has ended, there is nothing to send. The hub has a time of its own: being in
            // step with the database may have taken all of the other.
            let backlog = newest.recv_timeout(STORE_TIMEOUT);
            let backlog = backlog.map_or_else(
                |_| Backlog::default(),
                |last| self.backlog(subscriber, id, after, last),
            );
            self.hub.send(Command::Release {
                subscriber: Arc::clone(subscriber),
                agent: id,
                backlog,
            });
        }
    }

    /// Messages after `after`, the last one that the agent has; `last` is the newest message that went through.
    fn backlog(
        &self,
        from: &SubscriberRef,
        agent: AgentId,
        after: MessageId,
        last: MessageId,
    ) -> Backlog {
        let room = self.room_for(MAX_MISSED);
        // Encoded by the query thread: a thousand clients that come back at once hold what a few have missed.
        let missed = self.ask_at_leisure(from, agent, move |store| {
            let found = store.missed(agent, after, room)?;
            Ok(encoded(&found, room.bytes, last))
        });
        missed.unwrap_or_else(|error| {
            // The socket is in and gets what is new; that it missed something is for it to know.
            refusal(&error);
            Backlog {
                messages: Vec::new(),
                done: Some(Frame::text(&protocol::resumed(last, false))),
            }
        })
    }
}

/// The newest of the messages that fit into so many bytes; one at least.
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
