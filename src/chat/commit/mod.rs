//! The one thread that stores messages. It takes all messages that wait, writes them in one transaction, and publishes them
//! after the commit, in the order of their ids. So one commit serves many messages when many wait, and all readers see the
//! same order.
//!
//! No message is lost or written twice. If the connection is lost before COMMIT was sent, nothing was stored. If it is lost
//! during the commit, the thread checks before it writes again. If a sender is told meanwhile that nothing was saved
//! (`pending`), its message is not stored.

mod batch;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{error, warn};

use self::batch::{AttemptOutcome, BatchResult, Unwritten, Waiting, attempt, key};
use super::{Chat, PendingPost, refusal};
use crate::model::{Conversation, Refusal};
use crate::platform::metrics::METRICS;
use crate::platform::threads::{PROGRESS_INTERVAL, Progress};
use crate::protocol;
use crate::session::Post;
use crate::store::{Failure, Lent, Pools, StoreError};

/// Orders taken at once: with more, the first message would wait longer and nothing would be gained.
const BATCH: usize = 256;
/// Bodies of one transaction, in bytes; their HTML is several times as large. The store splits what exceeds a packet.
const BATCH_BYTES: usize = 256 * 1024;
/// Pause before a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What the commit thread is told.
pub enum CommitOrder {
    /// Store and publish this message.
    Post(Arc<PendingPost>, Post),
    /// End; nothing is tried again after this time.
    Stop(Instant),
}

/// Stores messages until it is told to stop.
pub fn run(chat: &Chat, orders: &Receiver<CommitOrder>, pools: &Pools, progress: &Progress) {
    let mut committer = Committer {
        chat,
        progress,
        pools,
        locked: VecDeque::new(),
        stop: None,
    };
    loop {
        progress.made();
        let patience = match committer.locked.is_empty() {
            true => PROGRESS_INTERVAL,
            false => RETRY_PAUSE,
        };
        let first = match orders.recv_timeout(patience) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        committer.take(first.into_iter().chain(orders.try_iter().take(BATCH - 1)));
        // One batch per round: it may wait for its lock again, which delays all other messages.
        if let Some(batch) = committer.locked.pop_front() {
            committer.store_in_batches(batch);
        }
        if committer.stop.is_some() && committer.locked.is_empty() && orders.is_empty() {
            return;
        }
    }
}

struct Committer<'a> {
    chat: &'a Chat,
    progress: &'a Progress,
    pools: &'a Pools,
    /// Messages of conversations that another transaction has locked, to be tried again between the others.
    locked: VecDeque<Vec<Waiting>>,
    /// Once the service stops: when to give up.
    stop: Option<Instant>,
}

impl Committer<'_> {
    fn take(&mut self, orders: impl Iterator<Item = CommitOrder>) {
        let mut free = Vec::new();
        for order in orders {
            let (pending, post) = match order {
                CommitOrder::Post(pending, post) => (pending, post),
                CommitOrder::Stop(until) => {
                    self.stop = Some(until);
                    continue;
                }
            };
            let conversation = post.conversation;
            let one = Waiting { pending, post };
            let of_it = |batch: &&mut Vec<Waiting>| batch[0].post.conversation == conversation;
            match self.locked.iter_mut().find(of_it) {
                Some(batch) => batch.push(one),
                None => free.push(one),
            }
        }
        self.store_in_batches(free);
    }

    fn store_in_batches(&mut self, waiting: Vec<Waiting>) {
        let mut batch = Vec::with_capacity(waiting.len());
        let mut bytes = 0;
        let mut keys = HashSet::new();
        for one in waiting {
            let size = one.post.body.as_ref().map_or(0, |body| body.text.len());
            // The same message twice in one batch would be stored twice.
            let repeated = key(&one.post).is_some_and(|key| !keys.insert(key));
            if (bytes + size > BATCH_BYTES || repeated) && !batch.is_empty() {
                self.store(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(one);
        }
        self.store(batch);
    }

    /// Stores a batch, and tries again for as long as that can help.
    fn store(&mut self, batch: Vec<Waiting>) {
        let Some(first) = batch.first() else {
            return;
        };
        let pools = self.pools;
        match pools.commit.lend(first.pending.deadline) {
            Ok(mut lent) => {
                self.store_on(&mut lent, batch);
                pools.end_posting(&mut lent);
            }
            Err(error) => {
                let left = self.refuse_late(batch, refusal(&error));
                self.store(left);
            }
        }
    }

    fn store_on(&mut self, lent: &mut Lent<'_>, mut batch: Vec<Waiting>) {
        let mut may_notify = true;
        loop {
            self.progress.made();
            // Drops messages whose senders were told meanwhile that nothing was saved.
            batch.retain(|one| !one.pending.is_answered());
            if batch.is_empty() {
                return;
            }
            let notified = may_notify;
            match attempt(lent, &batch, self.chat, &mut may_notify) {
                AttemptOutcome::Done(written) => return self.finish(&batch, written),
                AttemptOutcome::Unknown(written) => {
                    match self.was_committed(lent, &batch, &written) {
                        Some(true) => return self.finish(&batch, written),
                        Some(false) => {
                            self.chat.feed.release_claims();
                            self.nothing_is_stored(&batch);
                        }
                        None => return self.answer_unknown(&batch, written),
                    }
                }
                AttemptOutcome::Overtaken => self.roll_back(lent, &batch),
                AttemptOutcome::Failed(error) => {
                    self.roll_back(lent, &batch);
                    if notified && !may_notify {
                        warn!("{error}; the message is stored without notifying anyone");
                        continue;
                    }
                    if !matches!(
                        error.failure,
                        Failure::Lost | Failure::Stale | Failure::Denied
                    ) {
                        return self.store_apart(lent, batch, &error);
                    }
                    batch = self.refuse_late(batch, refusal(&error));
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Stores a batch in parts: a message that the server refuses, or a conversation that another transaction has locked,
    /// must not hold up the rest of the batch.
    fn store_apart(&mut self, lent: &mut Lent<'_>, batch: Vec<Waiting>, error: &StoreError) {
        let is_locked = matches!(error.failure, Failure::Conflict | Failure::TookTooLong);
        let mut parts: BTreeMap<(usize, Conversation), Vec<Waiting>> = BTreeMap::new();
        for (place, one) in batch.into_iter().enumerate() {
            let place = if is_locked { 0 } else { place };
            let part = parts.entry((place, one.post.conversation)).or_default();
            part.push(one);
        }
        let is_alone = parts.len() == 1;
        for part in parts.into_values() {
            if !is_alone {
                self.store_on(lent, part);
            } else if is_locked {
                let left = self.refuse_late(part, refusal(error));
                self.locked.extend((!left.is_empty()).then_some(left));
            } else {
                for one in part {
                    self.chat.refuse_post(&one.pending, refusal(error));
                }
            }
        }
    }

    fn roll_back(&self, lent: &mut Lent<'_>, batch: &[Waiting]) {
        match lent.is_connected() && lent.run(|store| store.rollback()).is_ok() {
            true => self.chat.feed.void_claims(),
            // A connection that cannot roll back is closed, and the server rolls back. The ids are not voided: after a crash
            // of the server another writer may get them.
            false => {
                lent.disconnect();
                self.chat.feed.release_claims();
            }
        }
        self.nothing_is_stored(batch);
    }

    fn nothing_is_stored(&self, batch: &[Waiting]) {
        for one in batch {
            one.pending.end_commit();
        }
    }

    /// Refuses the messages whose time is over, and returns the others.
    fn refuse_late(&self, batch: Vec<Waiting>, refusal: Refusal) -> Vec<Waiting> {
        let now = Instant::now();
        let is_over =
            |deadline: Instant| self.stop.map_or(deadline, |stop| stop.min(deadline)) <= now;
        let (late, left): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|one| is_over(one.pending.deadline));
        for one in &late {
            self.chat.refuse_post(&one.pending, refusal);
        }
        left
    }

    fn finish(&self, batch: &[Waiting], written: BatchResult) {
        let chat = self.chat;
        for (place, answer) in written.answered {
            let pending = &batch[place].pending;
            match answer {
                Unwritten::Refused(refusal) => chat.refuse_post(pending, refusal),
                Unwritten::Repeated(message) => {
                    // Answered with the message as it was stored the first time.
                    if pending.take_answer().is_some() {
                        let text = protocol::message_created(&message);
                        chat.say(&pending.from, text, pending.reference.as_ref());
                    }
                    pending.set_done();
                }
            }
        }
        if let Some(push) = &chat.push {
            push.offer(written.notices);
        }
        if let (Some(bus), false) = (&chat.bus, written.stored.is_empty()) {
            bus.posted();
        }
        let now = Instant::now();
        METRICS.messages.add(written.stored.len() as u64);
        let publications = written
            .stored
            .into_iter()
            .map(|(place, one)| {
                chat.dedup.remember(&one.message, now);
                let _ = batch[place].pending.take_answer();
                (one.message.id, one.publication(&batch[place].pending))
            })
            .collect();
        chat.feed.publish(&chat.hub, publications);
    }

    /// The connection was lost between the commit and its answer: asks on a new one whether the messages are stored. `None`
    /// if the database does not answer in time.
    fn was_committed(
        &self,
        lent: &mut Lent<'_>,
        batch: &[Waiting],
        written: &BatchResult,
    ) -> Option<bool> {
        warn!(
            "the connection to the database was lost in a commit of {} messages; looking whether they were stored",
            written.stored.len()
        );
        // On the old connection a transaction that is still open would see its own rows.
        lent.disconnect();
        let deadlines = batch.iter().map(|one| one.pending.deadline);
        let deadline = deadlines.max().unwrap_or_else(Instant::now);
        let deadline = self.stop.map_or(deadline, |stop| stop.min(deadline));
        let messages = written.stored.iter().map(|(_, one)| &one.message);
        let rows: Vec<_> = messages
            .map(|one| (one.id, one.sender, &*one.body_text))
            .collect();
        lent.run_until(deadline, |store| store.were_committed(&rows))
            .inspect_err(|error| {
                error!("{error}; the senders are told that the outcome is unknown")
            })
            .ok()
    }

    /// Tells the senders that the outcome is unknown. If the messages turn out to be stored, the poller delivers them like
    /// those of other writers, and a client that sends one again gets the stored one as its answer.
    fn answer_unknown(&self, batch: &[Waiting], mut written: BatchResult) {
        self.chat.feed.release_claims();
        self.chat.dedup.distrust(Instant::now());
        let stored = written.stored.drain(..);
        let unknown = stored.map(|(place, _)| (place, Unwritten::Refused(Refusal::OutcomeUnknown)));
        written.answered.extend(unknown);
        written.notices.clear();
        self.finish(batch, written);
    }
}
