//! What waits to be told, in the order in which it was said, and who is to see to it.
//!
//! The rules, which `hub/queue/model.rs` goes through in every order that two speakers and the hub's thread can
//! take them in:
//!
//! - Whoever speaks adds to the line, then tries for the round; who does not get it may go, because whoever has it
//!   looks at the line once more after he gave it back, and leaves what he finds to the hub's thread.
//! - What the hub's thread finds when it is about to sleep, it takes.
//! - When something is due is noted by whoever runs a round, before he gives it back; so the last round's word
//!   stands.

#[cfg(test)]
mod model;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Command;

/// Commands that may wait; whoever adds one more waits for the hub, which never waits for anybody.
const LENGTH: usize = 4096;

/// Why the hub's thread goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Woken {
    /// Something waits, or is due, or it is time for a sign of life.
    ForWork,
    /// Everything is told, and nothing more will be.
    ToEnd,
}

/// A bounded queue, and the bed of the hub's thread.
pub(super) struct Queue {
    line: Mutex<Line<Command>>,
    /// The hub's thread waits here.
    work: Condvar,
    /// Whoever found the queue full waits here.
    room: Condvar,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            line: Mutex::new(Line::new(LENGTH)),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }
}

impl Queue {
    /// Adds a command, unless nobody will take it any more.
    pub(super) fn push(&self, command: Command) {
        let mut line = self.lock();
        while line.is_full() {
            if line.call_for_room() {
                self.work.notify_one();
            }
            line = self.room.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.push(command);
    }

    /// Moves up to `most` commands into `taken`. Only under the lock of the round, which is what keeps their order.
    pub(super) fn take(&self, most: usize, taken: &mut Vec<Command>) {
        if self.lock().take(most, taken) {
            self.room.notify_all();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().commands.len()
    }

    /// When something is due next; at the end of a round, under its lock.
    pub(super) fn set_due(&self, due: Option<Instant>) {
        if self.lock().set_due(due) {
            self.work.notify_one();
        }
    }

    /// After a round's lock was given back: what waits by now is the hub's thread's.
    pub(super) fn hand_over(&self) {
        if self.lock().hand_over() {
            self.work.notify_one();
        }
    }

    /// Waits until something was handed over or is due, for `patience` at most.
    pub(super) fn wait(&self, patience: Duration) -> Woken {
        let until = Instant::now() + patience;
        let mut line = self.lock();
        line.lie_down();
        loop {
            if let Some(woken) = line.wake(Instant::now()) {
                return woken;
            }
            let due = line.due.map_or(until, |due| due.min(until));
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::ForWork;
            }
            line = self
                .work
                .wait_timeout(line, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// The hub's thread ends once the line is empty.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.work.notify_one();
    }

    /// Nobody tells anything any more: what waits and what is still said is dropped, and nobody waits for room.
    pub(super) fn close(&self) {
        let dropped = self.lock().close();
        self.work.notify_one();
        self.room.notify_all();
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, Line<Command>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue without its lock and without waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Line<C> {
    commands: VecDeque<C>,
    room: usize,
    /// What waits is for the hub's thread.
    handed_over: bool,
    /// Somebody waits for room.
    crowded: bool,
    /// When something is due next.
    due: Option<Instant>,
    stopping: bool,
    closed: bool,
}

impl<C> Line<C> {
    fn new(room: usize) -> Self {
        Line {
            commands: VecDeque::new(),
            room,
            handed_over: false,
            crowded: false,
            due: None,
            stopping: false,
            closed: false,
        }
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= self.room && !self.closed
    }

    /// Whoever found the line full may be holding back a round himself, so it is not left to a speaker. True where
    /// the hub's thread has to be told.
    fn call_for_room(&mut self) -> bool {
        self.crowded = true;
        !std::mem::replace(&mut self.handed_over, true)
    }

    fn push(&mut self, command: C) {
        if !self.closed {
            self.commands.push_back(command);
        }
    }

    /// True where somebody waits for room.
    fn take(&mut self, most: usize, taken: &mut Vec<C>) -> bool {
        let count = most.min(self.commands.len());
        taken.extend(self.commands.drain(..count));
        std::mem::take(&mut self.crowded)
    }

    /// True where the hub's thread sleeps for too long.
    fn set_due(&mut self, due: Option<Instant>) -> bool {
        let before = std::mem::replace(&mut self.due, due);
        due.is_some_and(|due| before.is_none_or(|before| due < before))
    }

    /// True where the hub's thread has to be told.
    fn hand_over(&mut self) -> bool {
        let left = !self.commands.is_empty() && !self.handed_over;
        self.handed_over |= left;
        left
    }

    /// The hub's thread has done what was handed over; what came meanwhile was left to it.
    fn lie_down(&mut self) {
        self.handed_over = !self.commands.is_empty();
    }

    /// Why the hub's thread is to go on, if it is.
    fn wake(&self, now: Instant) -> Option<Woken> {
        let is_due = self.due.is_some_and(|due| due <= now);
        match () {
            () if self.closed => Some(Woken::ToEnd),
            () if self.handed_over || is_due => Some(Woken::ForWork),
            () if self.stopping && self.commands.is_empty() => Some(Woken::ToEnd),
            // What waits is about to be taken by whoever said it; with the stop it may as well be taken at once.
            () if self.stopping => Some(Woken::ForWork),
            () => None,
        }
    }

    fn close(&mut self) -> VecDeque<C> {
        self.closed = true;
        std::mem::take(&mut self.commands)
    }
}
