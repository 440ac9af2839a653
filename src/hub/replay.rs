//! The state of a socket between its missed messages and live ones (contract of `chat.resumed`): neither a gap nor a double.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::Weight;
use crate::model::MessageId;
use crate::protocol::frame::Frame;

/// How long a socket that got a message from the database is not told of it a second time by a late publication.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(60);

/// What a socket missed while it was away.
#[derive(Default)]
pub struct Backlog {
    /// Messages, ascending by id.
    pub messages: Vec<(MessageId, Frame)>,
    /// What it gets after them.
    pub done: Option<Frame>,
}

/// Where a socket stands that asked for what it missed.
pub(super) enum Replay {
    /// What was published since it joined is kept back.
    Holding(Vec<(Option<MessageId>, Frame)>),
    /// It is live, and knows these messages out of the database.
    Knows(HashSet<MessageId>, Instant),
}

impl Replay {
    /// Ends the holding: what the socket gets, in order, and what it knows from then on. `None` where it was not held.
    pub(super) fn release(self, backlog: Backlog) -> Option<(Vec<Frame>, Option<Replay>)> {
        let Replay::Holding(held) = self else {
            return None;
        };
        let known: HashSet<MessageId> = backlog.messages.iter().map(|(id, _)| *id).collect();
        let missed = backlog.messages.iter().map(|(_, frame)| frame);
        let missed: Vec<&Frame> = missed.chain(&backlog.done).collect();
        // One piece, which a socket takes where nothing waits before it.
        let mut frames = vec![Frame::joined(&missed)];
        let is_new = |id: &Option<MessageId>| !id.is_some_and(|id| known.contains(&id));
        let live = held.into_iter().filter(|(id, _)| is_new(id));
        frames.extend(live.map(|(_, frame)| frame));
        let next = (!known.is_empty()).then(|| Replay::Knows(known, Instant::now()));
        Some((frames, next))
    }

    /// Whether a frame is taken care of and must not be written now.
    pub(super) fn takes(
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

    /// Whether it makes no difference any more.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match self {
            Replay::Holding(_) => false,
            Replay::Knows(_, since) => now.saturating_duration_since(*since) >= DUPLICATE_WINDOW,
        }
    }
}
