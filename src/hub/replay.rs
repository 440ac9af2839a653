//! A socket between its missed messages and live ones: neither a gap nor a duplicate (contract of `chat.resumed`).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Weight;
use crate::model::MessageId;
use crate::protocol::frame::Frame;

/// How long a late publication of a message that the socket got from the database is left out.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// What a socket missed while it was away.
#[derive(Default)]
pub struct Backlog {
    /// Messages, ascending by id.
    pub messages: Vec<(MessageId, Frame)>,
    /// What it gets after them.
    pub done: Option<Frame>,
}

/// The state of a socket that asked for what it missed.
pub(super) enum Replay {
    /// What was published since it joined is held back; ephemeral frames are left out.
    Holding(Vec<(Option<MessageId>, Frame)>),
    /// It is live, and got these messages from the database.
    Knows(HashSet<MessageId>, Instant),
}

impl Replay {
    /// Ends the holding. Returns the frames for the socket, in order, and its next state. `None` if it was not held.
    pub(super) fn release(self, backlog: Backlog) -> Option<(Vec<Frame>, Option<Replay>)> {
        let Replay::Holding(held) = self else {
            return None;
        };
        let known: HashSet<MessageId> = backlog.messages.iter().map(|(id, _)| *id).collect();
        let missed = backlog.messages.iter().map(|(_, frame)| frame);
        let missed: Vec<&Frame> = missed.chain(&backlog.done).collect();
        // One piece, because an empty outbox takes any single frame, however large.
        let mut frames = vec![Frame::joined(&missed)];
        let is_new = |id: &Option<MessageId>| !id.is_some_and(|id| known.contains(&id));
        let live = held.into_iter().filter(|(id, _)| is_new(id));
        frames.extend(live.map(|(_, frame)| frame));
        let next = (!known.is_empty()).then(|| Replay::Knows(known, Instant::now()));
        Some((frames, next))
    }

    /// Whether a frame must not be written now: it is held back, left out, or known to the socket.
    pub(super) fn withholds(
        &mut self,
        message: Option<MessageId>,
        frame: &Frame,
        weight: Weight,
    ) -> bool {
        match self {
            Replay::Holding(held) => {
                if weight == Weight::Essential {
                    held.push((message, frame.clone()));
                }
                true
            }
            Replay::Knows(known, _) => message.is_some_and(|message| known.contains(&message)),
        }
    }

    /// Whether this state has no effect any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match self {
            Replay::Holding(_) => false,
            Replay::Knows(_, since) => now.saturating_duration_since(*since) >= DUPLICATE_WINDOW,
        }
    }
}
