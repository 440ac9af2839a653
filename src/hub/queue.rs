//! What waits to be told, in the order in which it was said.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Command;

/// Commands that may wait; whoever adds one more waits for the hub, which never waits for anybody.
const LENGTH: usize = 4096;

/// Why the hub's thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something waits, or is due.
    ForWork,
    /// Everything is told, and nothing more will be.
    ToEnd,
}

/// A bounded queue, and the bed of the hub's thread.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// The hub's thread waits here.
    work: Condvar,
    /// Whoever found the queue full waits here.
    room: Condvar,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// What waits is for the hub's thread.
    handed_over: bool,
    /// When something is due next.
    due: Option<Instant>,
    stopping: bool,
    full: bool,
}

impl Queue {
    pub(super) fn push(&self, command: Command) {
        let mut state = self.lock();
        while state.commands.len() >= LENGTH {
            // Whoever is holding back what he says might wait for himself.
            state.full = true;
            state.handed_over = true;
            self.work.notify_one();
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.commands.push_back(command);
    }

    /// Moves up to `most` commands into `taken`.
    pub(super) fn take(&self, most: usize, taken: &mut Vec<Command>) {
        let mut state = self.lock();
        let count = most.min(state.commands.len());
        taken.extend(state.commands.drain(..count));
        if std::mem::take(&mut state.full) {
            self.room.notify_all();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    /// After a round on another thread: what waits by now is the hub's thread's, and something is due at `due`.
    pub(super) fn hand_over(&self, due: Option<Instant>) {
        let mut state = self.lock();
        let earlier = match (due, state.due) {
            (Some(due), Some(known)) => due < known,
            (due, None) => due.is_some(),
            (None, Some(_)) => false,
        };
        if earlier {
            state.due = due;
        }
        let left = !state.commands.is_empty() && !state.handed_over;
        state.handed_over |= left;
        drop(state);
        if left || earlier {
            self.work.notify_one();
        }
    }

    /// Waits until something was handed over or is due.
    pub(super) fn wait(&self, due: Option<Instant>) -> Woken {
        let mut state = self.lock();
        state.due = due;
        // What came while it ran a round was left to it.
        state.handed_over = !state.commands.is_empty();
        loop {
            if state.handed_over {
                return Woken::ForWork;
            }
            if state.stopping && state.commands.is_empty() {
                return Woken::ToEnd;
            }
            state = match state.due {
                None => self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(due) => {
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Woken::ForWork;
                    }
                    self.work
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.handed_over = !state.commands.is_empty();
        drop(state);
        self.work.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
