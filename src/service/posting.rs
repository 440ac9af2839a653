//! The one thread that stores messages. It takes everything that waits, writes it in one transaction and
//! publishes it, in the order of the ids, only after the commit; so one commit serves many messages exactly when
//! many wait, and no two readers can see two orders.
//!
//! Nothing is lost and nothing is written twice: until the commit was asked for, a lost connection means that
//! nothing was stored; when it is lost in the commit, the thread looks before it writes again.

mod batch;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, warn};

use self::batch::{Answer, Outcome, Step, Waiting, Written, attempt, key};
use super::queries::refusal;
use super::{PostJob, Service};
use crate::bus::Note;
use crate::frame::Frame;
use crate::job_queue::Taken;
use crate::model::{MessageId, Refusal};
use crate::protocol;
use crate::store::{Failure, Link, NewMessage, StoreError};

/// Messages of one transaction; more would make the first of them wait for nothing.
const BATCH: usize = 256;
/// Bodies of one transaction, in bytes: with its HTML a batch stays far below the smallest `max_allowed_packet`.
const BATCH_BYTES: usize = 256 * 1024;
/// Pause before a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Stores messages until the queue is closed and empty.
pub fn run(service: &Service, link: Link) {
    let mut poster = Poster { service, link };
    loop {
        match service.posts.take(BATCH, None) {
            Taken::Jobs(jobs) => poster.store_all(jobs),
            Taken::Nothing => {}
            Taken::Closed => return,
        }
    }
}

struct Poster<'a> {
    service: &'a Service,
    link: Link,
}

impl Poster<'_> {
    fn store_all(&mut self, jobs: Vec<(Instant, PostJob)>) {
        let mut batch = Vec::with_capacity(jobs.len());
        let mut bytes = 0;
        let mut keys = HashSet::new();
        for (deadline, PostJob { from, post }) in jobs {
            let size = post.body.as_ref().map_or(0, |body| body.text.len());
            // The same message twice in one batch would be stored twice.
            let repeated = key(&post).is_some_and(|key| !keys.insert(key));
            if (bytes + size > BATCH_BYTES || repeated) && !batch.is_empty() {
                self.store(std::mem::take(&mut batch));
                bytes = 0;
            }
            bytes += size;
            batch.push(Waiting {
                from,
                post,
                deadline,
            });
        }
        self.store(batch);
    }

    fn store(&mut self, mut batch: Vec<Waiting>) {
        let mut notify = true;
        while !batch.is_empty() {
            match attempt(&mut self.link, &batch, self.service, notify) {
                Outcome::Done(written) => return self.finish(&batch, written),
                Outcome::Unknown(written) => return self.find_out(batch, written),
                Outcome::Failed(error, step) => {
                    self.roll_back();
                    self.service.feed.void_claims();
                    if step == Step::Notification {
                        warn!("{error}; the message is stored without notifying anybody");
                        notify = false;
                        continue;
                    }
                    if error.failure == Failure::Refused {
                        return self.store_each(batch, &error);
                    }
                    batch = self.refuse_late(batch, refusal(&error));
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// A message that the server refuses must not spoil those that happened to wait with it.
    fn store_each(&mut self, batch: Vec<Waiting>, error: &StoreError) {
        if let [only] = &batch[..] {
            error!("{error}");
            let refusal = Refusal::Internal;
            self.service.refuse(
                Arc::clone(&only.from),
                refusal,
                only.post.reference.as_ref(),
            );
            return;
        }
        for one in batch {
            self.store(vec![one]);
        }
    }

    fn roll_back(&mut self) {
        // A connection that cannot even roll back is given up; the server then does it by itself.
        if self.link.is_connected() && self.link.run(|store| store.rollback()).is_err() {
            self.link.drop_connection();
        }
    }

    /// Refuses those whose time is over; the others are tried again.
    fn refuse_late(&self, batch: Vec<Waiting>, refusal: Refusal) -> Vec<Waiting> {
        let now = Instant::now();
        let (late, left): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.deadline <= now);
        for one in late {
            self.service
                .refuse(one.from, refusal, one.post.reference.as_ref());
        }
        left
    }

    fn finish(&self, batch: &[Waiting], written: Written) {
        let held = self.service.hub.hold();
        for (place, answer) in written.answered {
            let Waiting { from, post, .. } = &batch[place];
            let reference = post.reference.as_ref();
            match answer {
                Answer::Refused(refusal) => {
                    self.service.refuse(Arc::clone(from), refusal, reference);
                }
                Answer::Repeated(message) => {
                    let text = protocol::with_ref(protocol::message_created(&message), reference);
                    let to = Arc::clone(from).subscriber();
                    self.service.hub.answer(to, Frame::text(&text), true);
                }
            }
        }
        if let (Some(bus), false) = (&self.service.bus, written.stored.is_empty()) {
            bus.say(Note::Posted);
        }
        let now = Instant::now();
        let publications = written
            .stored
            .into_iter()
            .map(|(_, one)| {
                self.service.repeats.remember(&one.message, now);
                (one.message.id, one.publication())
            })
            .collect();
        self.service.feed.publish(&self.service.hub, publications);
        // The next batch is more urgent than what the others see of this one.
        held.pass_on();
    }

    /// The connection went away between the commit and its answer: asks, on a new one, what became of it.
    fn find_out(&mut self, batch: Vec<Waiting>, written: Written) {
        warn!(
            "the connection to the database was lost in a commit of {} messages; looking whether they were stored",
            written.stored.len()
        );
        let deadline = batch
            .iter()
            .map(|one| one.deadline)
            .max()
            .unwrap_or_else(Instant::now);
        let rows: Vec<(MessageId, &NewMessage)> = written
            .stored
            .iter()
            .map(|(_, one)| (one.message.id, &one.row))
            .collect();
        match self
            .link
            .run_until(deadline, |store| store.were_committed(&rows))
        {
            Ok(true) => self.finish(&batch, written),
            Ok(false) => {
                self.service.feed.void_claims();
                self.store(batch);
            }
            Err(error) => {
                error!("{error}; their senders are told that the outcome is unknown");
                // If they were stored after all they are shown late, like anybody else's, and a client that sends
                // one of them again gets the first one's answer.
                self.service.feed.release_claims();
                self.service.repeats.doubt(Instant::now());
                let unknown = |(place, _)| (place, Answer::Refused(Refusal::OutcomeUnknown));
                let mut answered = written.answered;
                answered.extend(written.stored.into_iter().map(unknown));
                let stored = Vec::new();
                self.finish(&batch, Written { stored, answered });
            }
        }
    }
}
