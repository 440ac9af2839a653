//! Sockets between what they missed and what is live (contract of `chat.resumed`): neither a gap nor a double.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::{SubscriberId, Weight};
use crate::frame::Frame;
use crate::model::MessageId;

/// How long a socket that got a message from the database is not told of it a second time by whoever is late.
const DOUBLE_WINDOW: Duration = Duration::from_secs(60);

/// What a socket missed while it was away.
#[derive(Default)]
pub struct Backlog {
    /// Messages, ascending by id.
    pub messages: Vec<(MessageId, Frame)>,
    /// What it gets after them.
    pub done: Option<Frame>,
}

enum Stage {
    /// What was published since it joined.
    Held(Vec<(Option<MessageId>, Frame)>),
    /// Messages that it got out of the database.
    Knows(HashSet<MessageId>, Instant),
}

/// The sockets that are catching up.
#[derive(Default)]
pub(super) struct CatchingUp(HashMap<SubscriberId, Stage>);

impl CatchingUp {
    /// Whether no socket is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps everything back for a socket from now on.
    pub(super) fn hold(&mut self, subscriber: SubscriberId) {
        self.0.insert(subscriber, Stage::Held(Vec::new()));
    }

    /// What a held socket gets, in order; `None` where it is not held.
    pub(super) fn release(
        &mut self,
        subscriber: SubscriberId,
        backlog: Backlog,
    ) -> Option<Vec<Frame>> {
        let Some(Stage::Held(held)) = self.0.remove(&subscriber) else {
            return None;
        };
        let known: HashSet<MessageId> = backlog.messages.iter().map(|(id, _)| *id).collect();
        // One piece, which a socket takes where nothing waits before it.
        let missed: Vec<&Frame> = backlog
            .messages
            .iter()
            .map(|(_, frame)| frame)
            .chain(&backlog.done)
            .collect();
        let mut frames = vec![Frame::joined(&missed)];
        let is_new = |id: &Option<MessageId>| !id.is_some_and(|id| known.contains(&id));
        let live = held.into_iter().filter(|(id, _)| is_new(id));
        frames.extend(live.map(|(_, frame)| frame));
        if !known.is_empty() {
            let since = Instant::now();
            self.0.insert(subscriber, Stage::Knows(known, since));
        }
        Some(frames)
    }

    /// Whether a frame is taken care of and must not be written now.
    pub(super) fn takes(
        &mut self,
        subscriber: SubscriberId,
        message: Option<MessageId>,
        frame: &Frame,
        weight: Weight,
    ) -> bool {
        if self.0.is_empty() {
            return false;
        }
        match self.0.get_mut(&subscriber) {
            None => false,
            Some(Stage::Held(held)) => {
                if weight == Weight::Essential {
                    held.push((message, frame.clone()));
                }
                true
            }
            Some(Stage::Knows(known, since)) => {
                let doubled = message.is_some_and(|message| known.contains(&message));
                if since.elapsed() >= DOUBLE_WINDOW {
                    self.0.remove(&subscriber);
                }
                doubled
            }
        }
    }

    /// A socket is gone.
    pub(super) fn forget(&mut self, subscriber: SubscriberId) {
        self.0.remove(&subscriber);
    }
}
