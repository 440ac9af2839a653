//! Which ids have gone through, which are on their way, and which are missing. Pure; the time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::model::MessageId;

/// After this long a missing id is taken for rolled back.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The state of all ids.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Every id up to this one has gone through, or was given up.
    floor: u64,
    /// Ids above the floor that have gone through, and since when that is known.
    settled: BTreeMap<u64, Instant>,
    /// Ids that this process is writing.
    claimed: BTreeSet<u64>,
    /// Gaps below this id were waited for already.
    waited: u64,
}

impl Ledger {
    /// Begins at what the database shows now: `visible` are its newest ids, ascending, without any that were
    /// skipped on purpose. Those that are missing between them may still appear.
    pub fn begin(&mut self, visible: &[MessageId], now: Instant) {
        let Some((first, last)) = visible.first().zip(visible.last()) else {
            return;
        };
        self.floor = self.floor.max(first.0.saturating_sub(1));
        for id in visible {
            self.settle(*id, now);
        }
        self.waited = self.waited.max(last.0 + 1);
        self.forget(now);
    }

    /// Every id up to this one needs no look any more.
    pub fn floor(&self) -> MessageId {
        MessageId(self.floor)
    }

    /// This process writes the id.
    pub fn claim(&mut self, id: MessageId) {
        self.claimed.insert(id.0);
    }

    /// Whether this process writes the id.
    pub fn is_claimed(&self, id: MessageId) -> bool {
        self.claimed.contains(&id.0)
    }

    /// What this process writes was rolled back.
    pub fn void_claims(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.claimed) {
            self.settle(MessageId(id), now);
        }
        self.forget(now);
    }

    /// What this process wrote is anybody's.
    pub fn release_claims(&mut self) {
        self.claimed.clear();
    }

    /// The id has gone through, or never will.
    pub fn settle(&mut self, id: MessageId, now: Instant) {
        self.claimed.remove(&id.0);
        if id.0 > self.floor {
            self.settled.insert(id.0, now);
        }
    }

    /// Whether the id has gone through.
    pub fn is_settled(&self, id: MessageId) -> bool {
        id.0 <= self.floor || self.settled.contains_key(&id.0)
    }

    /// Whether no id is missing right before this one, but for those that were waited for already.
    pub fn is_contiguous_before(&self, id: MessageId) -> bool {
        let start = self.floor.max(self.waited.saturating_sub(1));
        if id.0 <= start + 1 {
            return true;
        }
        let known = self.settled.range(start + 1..id.0).count() as u64;
        known == id.0 - start - 1
    }

    /// What is missing below this id has been waited for.
    pub fn waited_for(&mut self, id: MessageId) {
        self.waited = self.waited.max(id.0);
    }

    /// Raises the floor over what is complete, and over gaps that are too old.
    pub fn forget(&mut self, now: Instant) {
        while let Some((&id, &since)) = self.settled.first_key_value() {
            // Ids that are being written are never given up.
            let complete = id == self.floor + 1;
            let given_up = now.saturating_duration_since(since) >= GIVE_UP_AFTER
                && self.claimed.first().is_none_or(|claimed| *claimed > id);
            if !complete && !given_up {
                return;
            }
            self.floor = id;
            self.settled.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<MessageId> {
        ids.iter().copied().map(MessageId).collect()
    }

    #[test]
    fn contiguous_ids_raise_the_floor_at_once() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.begin(&ids(&[5, 6, 7]), now);
        assert_eq!(ledger.floor(), MessageId(7));
        assert!(ledger.is_contiguous_before(MessageId(8)));
        assert!(!ledger.is_contiguous_before(MessageId(9)));
        ledger.settle(MessageId(8), now);
        ledger.forget(now);
        assert_eq!(ledger.floor(), MessageId(8));
    }

    #[test]
    fn a_missing_id_keeps_the_floor_until_it_comes_or_is_given_up() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.begin(&ids(&[5]), now);
        ledger.settle(MessageId(7), now);
        ledger.forget(now);
        assert_eq!(ledger.floor(), MessageId(5));
        assert!(!ledger.is_settled(MessageId(6)));
        ledger.settle(MessageId(6), now);
        ledger.forget(now);
        assert_eq!(ledger.floor(), MessageId(7));
        ledger.settle(MessageId(9), now);
        ledger.forget(now + GIVE_UP_AFTER);
        assert_eq!(ledger.floor(), MessageId(9));
    }

    #[test]
    fn a_gap_is_waited_for_once() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.begin(&ids(&[5]), now);
        assert!(!ledger.is_contiguous_before(MessageId(8)));
        ledger.waited_for(MessageId(8));
        ledger.settle(MessageId(8), now);
        ledger.forget(now);
        assert!(ledger.is_contiguous_before(MessageId(9)));
        assert!(!ledger.is_contiguous_before(MessageId(11)));
        assert_eq!(ledger.floor(), MessageId(5), "6 and 7 may still come");
    }

    #[test]
    fn a_rolled_back_claim_leaves_no_gap_and_a_released_one_does() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.begin(&ids(&[5]), now);
        ledger.claim(MessageId(6));
        ledger.void_claims(now);
        assert!(ledger.is_contiguous_before(MessageId(7)));
        ledger.claim(MessageId(7));
        ledger.release_claims();
        assert!(!ledger.is_contiguous_before(MessageId(8)));
        assert!(!ledger.is_settled(MessageId(7)));
    }

    #[test]
    fn what_is_written_while_the_ledger_begins_is_not_delivered_again() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.settle(MessageId(11), now);
        ledger.claim(MessageId(12));
        ledger.begin(&ids(&[9, 10]), now);
        assert!(ledger.is_settled(MessageId(11)));
        assert!(ledger.is_claimed(MessageId(12)));
        assert!(!ledger.is_settled(MessageId(12)));
    }
}
