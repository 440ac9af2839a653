//! How a socket joins: with what it missed, if it says what it has. From the moment it is in the hub's list, live
//! frames are kept back for it; then the database is read, and it gets what it missed, `chat.resumed`, and what was
//! kept back, less what it has already. So there is neither a gap nor a double between the two.

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::queries::{Query, refusal};
use super::{Active, Client, Service};
use crate::frame::Frame;
use crate::hub::{Backlog, Newcomer, Welcome};
use crate::model::{MessageId, Refusal};
use crate::protocol::{self, Ref};
use crate::store::AtMost;

/// Messages that are sent again at most, and no more bytes than may wait for a socket: they are handed to it in one
/// piece, and whoever does not read must not make the service keep more for him than for others.
const MAX_MISSED: usize = 1000;

/// Lets an authenticated socket in that missed nothing.
pub(super) fn join_at_once(
    service: &Service,
    from: &Arc<dyn Client>,
    Active { agent, asked }: Active,
    reference: Option<&Ref>,
) {
    let refused = protocol::error(Refusal::TooManyConnections);
    let refused = Frame::text(&protocol::with_ref(refused, reference));
    let (id, reference) = (agent.id, reference.cloned());
    let welcome: Welcome = Box::new(move |online, last| {
        let text = protocol::auth_ok(&agent, online, last);
        Frame::text(&protocol::with_ref(text, reference.as_ref()))
    });
    let subscriber = Arc::clone(from).subscriber();
    let newcomer = Newcomer {
        subscriber,
        agent: id,
        asked,
        welcome,
        refusal: refused,
        hold: false,
    };
    service.hub.join(newcomer);
}

/// Lets an authenticated socket in.
pub(super) fn join(
    query: &mut Query<'_>,
    active: Active,
    after: Option<MessageId>,
    reference: Option<&Ref>,
) {
    let Some(after) = after else {
        return join_at_once(query.service, query.from, active, reference);
    };
    let Active { agent, asked } = active;
    let hub = &query.service.hub;
    let subscriber = || Arc::clone(query.from).subscriber();
    let id = agent.id;
    let refused = protocol::error(Refusal::TooManyConnections);
    let refused = Frame::text(&protocol::with_ref(refused, reference));
    let reference = reference.cloned();
    let (joined, at) = bounded(1);
    let welcome: Welcome = Box::new(move |online, last| {
        // Nobody waits any more where the deadline is over.
        let _ = joined.try_send(last);
        let text = protocol::auth_ok(&agent, online, last);
        Frame::text(&protocol::with_ref(text, reference.as_ref()))
    });
    hub.join(Newcomer {
        subscriber: subscriber(),
        agent: id,
        asked,
        welcome,
        refusal: refused,
        hold: true,
    });
    // Refused for being one too many, or the hub has ended: in both cases there is nothing to send.
    let Ok(last) = at.recv_deadline(query.deadline) else {
        return hub.release(subscriber(), id, Backlog::default());
    };
    let room = AtMost {
        messages: MAX_MISSED,
        bytes: query.service.limits.queue_bytes,
    };
    let missed = query
        .link
        .run_until(query.deadline, |store| store.missed(id, after, room));
    let backlog = match missed {
        Ok(found) => {
            let mut complete = !found.has_older;
            let mut bytes = 0;
            let mut frames = Vec::with_capacity(found.messages.len());
            for message in found.messages.iter().rev() {
                let frame = Frame::text(&protocol::message_created(message));
                bytes += frame.bytes().len();
                if bytes > room.bytes && !frames.is_empty() {
                    complete = false;
                    break;
                }
                frames.push((message.id, frame));
            }
            frames.reverse();
            let last = frames.last().map_or(last, |(id, _)| last.max(*id));
            Backlog {
                messages: frames,
                done: Some(Frame::text(&protocol::resumed(last, complete))),
            }
        }
        Err(failed) => {
            // The socket is in and gets what is new; that it missed something is for it to know.
            refusal(&failed);
            Backlog {
                messages: Vec::new(),
                done: Some(Frame::text(&protocol::resumed(last, false))),
            }
        }
    };
    hub.release(subscriber(), id, backlog);
}
