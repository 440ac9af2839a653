//! The one door through which messages reach the hub, whoever wrote them: this process, the PHP application, or
//! another daemon on the same database. Each id goes through once; ids go through in order as far as the database
//! shows them in order (contract: database.md, "Messages that arrive by another door").
//!
//! Where nobody else writes, ids are contiguous, and a message of this process goes through at once. Where an id is
//! missing before it, somebody else may be about to commit it: then the tail thread looks, for a moment, before the
//! later one is let through. A row that becomes visible later still is delivered when it does.

mod ledger;
mod tail;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::ledger::Ledger;
pub use self::tail::run;
use crate::hub::{Hub, Publication};
use crate::model::MessageId;

/// How long a message waits for an id that is missing before it.
const GAP_PATIENCE: Duration = Duration::from_millis(100);
/// After so many waits in vain a gap is only looked into once: the database hands out ids in steps, or somebody
/// else's transactions are long.
const VAIN_WAITS: u32 = 3;

/// What goes through, and what waits to.
pub struct Feed {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ledger: Ledger,
    held: VecDeque<Held>,
    vain: u32,
    /// Somebody is connected, or about to be.
    wanted: bool,
    /// When somebody was last about to be: he is not in the hub's list yet.
    woken: Option<Instant>,
    /// The ledger knows what the database shows.
    synced: bool,
    /// There is something new.
    nudged: bool,
    stopping: bool,
}

/// Messages of this process that wait for a gap before them.
struct Held {
    messages: Vec<(MessageId, Publication)>,
    until: Instant,
}

impl Default for Feed {
    fn default() -> Self {
        Feed {
            state: Mutex::new(State {
                ledger: Ledger::default(),
                held: VecDeque::new(),
                vain: 0,
                wanted: false,
                woken: None,
                synced: false,
                nudged: false,
                stopping: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl Feed {
    /// These ids are being written by this process; nobody else is to deliver them.
    pub fn claim(&self, ids: &[MessageId]) {
        let mut state = self.lock();
        for id in ids {
            state.ledger.claim(*id);
        }
    }

    /// What was claimed was rolled back: these ids will never be.
    pub fn void_claims(&self) {
        self.lock().ledger.void_claims(Instant::now());
    }

    /// What was claimed may have been stored or not: if it was, it is delivered like anybody else's.
    pub fn release_claims(&self) {
        self.lock().ledger.release_claims();
    }

    /// Lets committed messages of this process through, ascending by id, now or in a moment.
    pub fn publish(&self, hub: &Hub, messages: Vec<(MessageId, Publication)>) {
        let Some((first, _)) = messages.first() else {
            return;
        };
        let now = Instant::now();
        let mut state = self.lock();
        if state.stopping {
            // Nobody looks into gaps any more.
            state.release_held(hub, now);
        }
        let contiguous = state.held.is_empty() && state.ledger.is_contiguous_before(*first);
        if contiguous || !state.synced || state.stopping {
            return state.let_through(hub, messages, now);
        }
        let until = match state.vain < VAIN_WAITS {
            true => now + GAP_PATIENCE,
            false => now,
        };
        state.held.push_back(Held { messages, until });
        drop(state);
        self.changed.notify_all();
    }

    /// Whether whatever is committed from now on will be delivered; for whoever is about to connect and would
    /// otherwise [`Feed::wake`] it.
    pub fn is_awake(&self) -> bool {
        let mut state = self.lock();
        state.woken = Some(Instant::now());
        state.wanted && state.synced
    }

    /// Waits until whatever is committed from now on will be delivered; for whoever is about to connect. False
    /// where the database does not let that be known in time.
    pub fn wake(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        state.woken = Some(Instant::now());
        if !state.wanted {
            state.wanted = true;
            self.changed.notify_all();
        }
        while !state.synced && !state.stopping {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Somebody else has just committed a message: the tail thread looks now rather than in a moment.
    pub fn look_now(&self) {
        self.lock().nudged = true;
        self.changed.notify_all();
    }

    /// Ends the tail thread; what is held goes through.
    pub fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn let_through(&mut self, hub: &Hub, messages: Vec<(MessageId, Publication)>, now: Instant) {
        for (id, publication) in messages {
            self.ledger.settle(id, now);
            hub.publish(publication);
        }
        self.ledger.forget(now);
    }

    /// Lets through what is held and need not wait any longer.
    fn release_held(&mut self, hub: &Hub, now: Instant) {
        while let Some(front) = self.held.front() {
            let Some((first, _)) = front.messages.first() else {
                self.held.pop_front();
                continue;
            };
            let contiguous = self.ledger.is_contiguous_before(*first);
            if !contiguous && now < front.until && !self.stopping {
                return;
            }
            self.vain = match contiguous {
                true => 0,
                false => self.vain.saturating_add(1),
            };
            self.ledger.waited_for(*first);
            if let Some(held) = self.held.pop_front() {
                self.let_through(hub, held.messages, now);
            }
        }
    }
}
