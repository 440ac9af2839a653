//! Which ids were delivered, which are on their way, and which are missing. Pure; the time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::model::MessageId;

/// A missing id counts as rolled back this long after a later id was delivered.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);

/// The state of all ids.
#[derive(Debug, Default)]
pub(crate) struct Sequencer {
    /// Every id up to this one was delivered, or was given up.
    low_watermark: u64,
    /// Ids above the low watermark that were delivered, and when.
    delivered: BTreeMap<u64, Instant>,
    /// Ids that this process is writing.
    claimed: BTreeSet<u64>,
    /// Ids that this process has committed and holds back for a gap. The outcome of a later batch does not affect them.
    held: BTreeSet<u64>,
    /// Gaps below this id were waited for already.
    waited: u64,
}

impl Sequencer {
    /// Begins at what the database shows now: `visible` are its newest ids, ascending, all of them. Ids that are missing
    /// between them may still appear.
    pub(crate) fn begin(&mut self, visible: &[MessageId], now: Instant) {
        let Some((first, last)) = visible.first().zip(visible.last()) else {
            return;
        };
        self.low_watermark = self.low_watermark.max(first.0.saturating_sub(1));
        for id in visible {
            self.mark_delivered(*id, now);
        }
        self.waited = self.waited.max(last.0 + 1);
        self.forget(now);
    }

    /// Ids up to this one need not be looked for any more.
    pub(crate) fn low_watermark(&self) -> MessageId {
        MessageId(self.low_watermark)
    }

    /// This process writes the id.
    pub(crate) fn claim(&mut self, id: MessageId) {
        self.claimed.insert(id.0);
    }

    /// The id is committed, and waits for a gap before it.
    pub(crate) fn hold(&mut self, id: MessageId) {
        self.claimed.remove(&id.0);
        self.held.insert(id.0);
    }

    /// Whether this process delivers the id.
    pub(crate) fn is_claimed(&self, id: MessageId) -> bool {
        self.claimed.contains(&id.0) || self.held.contains(&id.0)
    }

    /// What this process was writing is rolled back: the ids count as delivered, and leave no gap.
    pub(crate) fn void_claims(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.claimed) {
            self.mark_delivered(MessageId(id), now);
        }
        self.forget(now);
    }

    /// Whether this process has stored the ids is unknown: if so, the poller delivers them.
    pub(crate) fn release_claims(&mut self) {
        self.claimed.clear();
    }

    /// The id was delivered, or never will be.
    pub(crate) fn mark_delivered(&mut self, id: MessageId, now: Instant) {
        self.claimed.remove(&id.0);
        self.held.remove(&id.0);
        if id.0 > self.low_watermark {
            self.delivered.insert(id.0, now);
        }
    }

    /// Whether the id was delivered or given up.
    pub(crate) fn is_delivered(&self, id: MessageId) -> bool {
        id.0 <= self.low_watermark || self.delivered.contains_key(&id.0)
    }

    /// Whether no id is missing before this one, apart from gaps that were waited for already.
    pub(crate) fn is_contiguous_before(&self, id: MessageId) -> bool {
        let start = self.low_watermark.max(self.waited.saturating_sub(1));
        if id.0 <= start + 1 {
            return true;
        }
        let known = self.delivered.range(start + 1..id.0).count() as u64;
        known == id.0 - start - 1
    }

    /// Gaps below this id have been waited for.
    pub(crate) fn waited_for(&mut self, id: MessageId) {
        self.waited = self.waited.max(id.0);
    }

    /// Raises the low watermark over contiguous delivered ids, and over gaps that are too old.
    pub(crate) fn forget(&mut self, now: Instant) {
        while let Some((&id, &since)) = self.delivered.first_key_value() {
            // Ids that are being written, or held, are never given up.
            let complete = id <= self.low_watermark + 1;
            let own = self.claimed.first().into_iter().chain(self.held.first());
            let given_up = now.saturating_duration_since(since) >= GIVE_UP_AFTER
                && own.min().is_none_or(|own| *own > id);
            if !complete && !given_up {
                return;
            }
            self.low_watermark = self.low_watermark.max(id);
            self.delivered.remove(&id);
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
    fn contiguous_ids_raise_the_watermark_at_once() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[5, 6, 7]), now);
        assert_eq!(sequencer.low_watermark(), MessageId(7));
        assert!(sequencer.is_contiguous_before(MessageId(8)));
        assert!(!sequencer.is_contiguous_before(MessageId(9)));
        sequencer.mark_delivered(MessageId(8), now);
        sequencer.forget(now);
        assert_eq!(sequencer.low_watermark(), MessageId(8));
    }

    #[test]
    fn a_missing_id_keeps_the_watermark_until_it_comes_or_is_given_up() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[5]), now);
        sequencer.mark_delivered(MessageId(7), now);
        sequencer.forget(now);
        assert_eq!(sequencer.low_watermark(), MessageId(5));
        assert!(!sequencer.is_delivered(MessageId(6)));
        sequencer.mark_delivered(MessageId(6), now);
        sequencer.forget(now);
        assert_eq!(sequencer.low_watermark(), MessageId(7));
        sequencer.mark_delivered(MessageId(9), now);
        sequencer.forget(now + GIVE_UP_AFTER);
        assert_eq!(sequencer.low_watermark(), MessageId(9));
    }

    #[test]
    fn what_was_delivered_long_ago_does_not_lower_the_watermark_of_a_new_begin() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[50]), now);
        sequencer.mark_delivered(MessageId(52), now);
        sequencer.forget(now);
        let later = now + GIVE_UP_AFTER;
        sequencer.begin(&ids(&[9801, 9802]), later);
        assert_eq!(sequencer.low_watermark(), MessageId(9802));
        // Nor does what is not old yet keep it from rising.
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[50]), now);
        sequencer.mark_delivered(MessageId(52), now);
        sequencer.begin(&ids(&[9801, 9802]), now);
        assert_eq!(sequencer.low_watermark(), MessageId(9802));
    }

    #[test]
    fn a_gap_is_waited_for_once() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[5]), now);
        assert!(!sequencer.is_contiguous_before(MessageId(8)));
        sequencer.waited_for(MessageId(8));
        sequencer.mark_delivered(MessageId(8), now);
        sequencer.forget(now);
        assert!(sequencer.is_contiguous_before(MessageId(9)));
        assert!(!sequencer.is_contiguous_before(MessageId(11)));
        assert_eq!(
            sequencer.low_watermark(),
            MessageId(5),
            "6 and 7 may still come"
        );
    }

    #[test]
    fn a_rolled_back_claim_leaves_no_gap_and_a_released_one_does() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[5]), now);
        sequencer.claim(MessageId(6));
        sequencer.void_claims(now);
        assert!(sequencer.is_contiguous_before(MessageId(7)));
        sequencer.claim(MessageId(7));
        sequencer.release_claims();
        assert!(!sequencer.is_contiguous_before(MessageId(8)));
        assert!(!sequencer.is_delivered(MessageId(7)));
    }

    #[test]
    fn what_becomes_of_a_later_batch_does_not_touch_what_is_held() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.begin(&ids(&[5]), now);
        sequencer.claim(MessageId(7));
        sequencer.hold(MessageId(7));
        sequencer.claim(MessageId(8));
        sequencer.void_claims(now);
        assert!(sequencer.is_claimed(MessageId(7)), "not the poller's");
        assert!(!sequencer.is_delivered(MessageId(7)), "nor gone through");
        sequencer.claim(MessageId(9));
        sequencer.release_claims();
        assert!(sequencer.is_claimed(MessageId(7)));
        assert!(!sequencer.is_claimed(MessageId(9)));
        sequencer.mark_delivered(MessageId(7), now);
        assert!(!sequencer.is_claimed(MessageId(7)));
    }

    #[test]
    fn what_is_written_while_the_sequencer_begins_is_not_delivered_again() {
        let now = Instant::now();
        let mut sequencer = Sequencer::default();
        sequencer.mark_delivered(MessageId(11), now);
        sequencer.claim(MessageId(12));
        sequencer.begin(&ids(&[9, 10]), now);
        assert!(sequencer.is_delivered(MessageId(11)));
        assert!(sequencer.is_claimed(MessageId(12)));
        assert!(!sequencer.is_delivered(MessageId(12)));
    }
}
