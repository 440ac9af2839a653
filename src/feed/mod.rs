//! All messages reach the hub through the feed, whichever process wrote them: this process, the PHP application, or another
//! daemon on the same database. Each id is delivered once, and in order as far as the database shows ids in order (contract:
//! database.md, "Messages that arrive by another door").
//!
//! Where nothing else writes, ids are contiguous, and a message of this process is delivered at once. If an id before it is
//! missing, delivery waits briefly for the gap to fill, while the poller looks. A row that is committed later than that, but
//! within 10 s, is delivered out of order.

mod sequencer;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::sequencer::Sequencer;
use crate::hub::{Hub, Publication};
use crate::model::MessageId;
use crate::platform::threads::lock;

/// How long a message waits for an id that is missing before it.
const GAP_TIMEOUT: Duration = Duration::from_millis(100);
/// After this many futile waits in a row, a message waits only for one look of the poller: the database hands out ids in
/// steps, or transactions of other writers are long.
const VAIN_WAITS: u32 = 3;

/// Delivers messages to the hub, in order, and holds back those that wait for a gap.
#[derive(Default)]
pub struct Feed {
    state: Mutex<FeedState>,
    pub(crate) changed: Condvar,
}

#[derive(Default)]
pub(crate) struct FeedState {
    pub(crate) sequencer: Sequencer,
    pub(crate) held: VecDeque<Held>,
    /// Waits in a row whose gap did not fill.
    pub(crate) vain: u32,
    /// Until then a client that called `wake` may still join: the poller must not idle, although the hub's list may be
    /// empty.
    pub(crate) wanted_until: Option<Instant>,
    /// The sequencer knows what the database shows.
    pub(crate) is_synced: bool,
    /// Another process has committed a message: the poller looks at once.
    pub(crate) is_nudged: bool,
    pub(crate) is_stopping: bool,
}

/// Messages of this process that wait for a gap before them.
pub(crate) struct Held {
    first: MessageId,
    messages: Vec<(MessageId, Publication)>,
    until: Instant,
}

impl Feed {
    /// Every message up to this one was delivered, or never will be.
    pub fn low_watermark(&self) -> MessageId {
        self.lock().sequencer.low_watermark()
    }

    /// These ids are being written by this process; the poller does not deliver them.
    pub fn claim(&self, ids: &[MessageId]) {
        let mut state = self.lock();
        for id in ids {
            state.sequencer.claim(*id);
        }
    }

    /// What was claimed was rolled back: these ids will never exist.
    pub fn void_claims(&self) {
        self.lock().sequencer.void_claims(Instant::now());
    }

    /// What was claimed may have been stored or not: if it was, the poller delivers it.
    pub fn release_claims(&self) {
        self.lock().sequencer.release_claims();
    }

    /// Delivers committed messages of this process, ascending by id: at once, or after a short wait for a gap.
    pub fn publish(&self, hub: &Hub, messages: Vec<(MessageId, Publication)>) {
        let Some(&(first, _)) = messages.first() else {
            return;
        };
        let now = Instant::now();
        let mut state = self.lock();
        // Also done by the poller, but that may be waiting for the database, or have ended.
        state.release_held(hub, now);
        let contiguous = state.held.is_empty() && state.sequencer.is_contiguous_before(first);
        if contiguous || !state.is_synced || state.is_stopping {
            return state.let_through(hub, messages, now);
        }
        let until = match state.vain < VAIN_WAITS {
            true => now + GAP_TIMEOUT,
            false => now,
        };
        for (id, _) in &messages {
            state.sequencer.hold(*id);
        }
        state.held.push_back(Held {
            first,
            messages,
            until,
        });
        drop(state);
        self.changed.notify_all();
    }

    /// To be called before a client joins: waits, until `deadline` at most, for the poller to be in step with the database.
    /// Everything that is committed from then on is delivered.
    pub fn wake(&self, deadline: Instant) {
        let mut state = self.lock();
        state.wanted_until = state.wanted_until.max(Some(deadline));
        if !state.is_synced {
            self.changed.notify_all();
        }
        let left = deadline.saturating_duration_since(Instant::now());
        drop(self.wait_while(state, left, |state| !state.is_synced));
    }

    /// Another process has just committed a message: makes the poller look at once.
    pub fn look_now(&self) {
        self.lock().is_nudged = true;
        self.changed.notify_all();
    }

    /// Delivers messages that have waited for a gap long enough, even while the poller waits for the database.
    pub fn release_overdue(&self, hub: &Hub, now: Instant) {
        self.lock().release_held(hub, now);
    }

    /// Ends the poller, which then delivers what is held.
    pub fn stop(&self) {
        self.lock().is_stopping = true;
        self.changed.notify_all();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FeedState> {
        lock(&self.state)
    }

    /// Waits for a change while `condition` holds, for `timeout` at most, and not beyond the stop.
    pub(crate) fn wait_while<'s>(
        &self,
        state: MutexGuard<'s, FeedState>,
        timeout: Duration,
        mut condition: impl FnMut(&FeedState) -> bool,
    ) -> MutexGuard<'s, FeedState> {
        let is_waiting = |state: &mut FeedState| !state.is_stopping && condition(state);
        let waited = self.changed.wait_timeout_while(state, timeout, is_waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl FeedState {
    pub(crate) fn let_through(
        &mut self,
        hub: &Hub,
        messages: Vec<(MessageId, Publication)>,
        now: Instant,
    ) {
        for (id, publication) in messages {
            self.sequencer.mark_delivered(id, now);
            hub.publish(publication);
        }
        self.sequencer.forget(now);
    }

    /// Delivers held messages that need not wait any longer.
    pub(crate) fn release_held(&mut self, hub: &Hub, now: Instant) {
        while let Some(front) = self.held.pop_front() {
            let contiguous = self.sequencer.is_contiguous_before(front.first);
            if !contiguous && now < front.until && !self.is_stopping {
                return self.held.push_front(front);
            }
            self.vain = match contiguous {
                true => 0,
                false => self.vain.saturating_add(1),
            };
            self.sequencer.waited_for(front.first);
            self.let_through(hub, front.messages, now);
        }
    }
}
