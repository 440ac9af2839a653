//! The one thread that stores messages. It takes everything that waits, writes it in one transaction and
//! publishes it, in the order of the ids, only after the commit; so one commit serves many messages exactly when
//! many wait, and no two readers can see two orders.
//!
//! Nothing is lost and nothing is written twice: until the commit was asked for, a lost connection means that
//! nothing was stored; when it is lost in the commit, the thread looks before it writes again. A sender who was
//! told meanwhile that nothing was saved (`in_flight`) is taken at that word: his message is not.

mod batch;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::{error, warn};

use self::batch::{Answer, Outcome, Step, Waiting, Written, attempt, key};
use super::in_flight::Ticket;
use super::queries::refusal;
use super::{PostJob, Service};
use crate::bus::Note;
use crate::frame::Frame;
use crate::job_queue::Taken;
use crate::metrics::METRICS;
use crate::model::{Message, MessageId, Refusal};
use crate::protocol;
use crate::pulse;
use crate::store::{Failure, Link, NewMessage, StoreError};

/// Messages of one transaction; more would make the first of them wait for nothing.
const BATCH: usize = 256;
/// Bodies of one transaction, in bytes: with its HTML a batch stays far below the smallest `max_allowed_packet`.
const BATCH_BYTES: usize = 256 * 1024;
/// Pause before a transaction that failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Stores messages until the queue is closed and empty.
pub fn run(service: &Service, link: Link) {
    let mut poster = Poster {
        service,
        link,
        locked: VecDeque::new(),
    };
    loop {
        pulse::POSTING.beat();
        let patience = match poster.locked.is_empty() {
            true => pulse::TICK,
            false => RETRY_PAUSE,
        };
        match service.posts.take(BATCH, Some(patience)) {
            Taken::Jobs(jobs) => poster.store_all(jobs),
            Taken::Nothing => {}
            Taken::Closed if poster.locked.is_empty() => return,
            Taken::Closed => thread::sleep(RETRY_PAUSE),
        }
        // One at a time: each may wait for its lock again, and others wait for that.
        if let Some(batch) = poster.locked.pop_front() {
            poster.store_in_batches(batch);
        } else if service.posts.is_empty() {
            poster.link.renew();
        }
    }
}

struct Poster<'a> {
    service: &'a Service,
    link: Link,
    /// Messages of conversations that somebody else has locked, to be tried again between the others.
    locked: VecDeque<Vec<Waiting>>,
}

impl Poster<'_> {
    fn store_all(&mut self, jobs: Vec<(Instant, PostJob)>) {
        let mut free = Vec::with_capacity(jobs.len());
        for (deadline, PostJob { from, post }) in jobs {
            let reference = post.reference.as_ref();
            let ticket = self.service.in_flight.add(&from, reference, deadline);
            let conversation = post.conversation;
            let one = Waiting {
                from,
                post,
                deadline,
                ticket,
            };
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

    fn store(&mut self, mut batch: Vec<Waiting>) {
        let mut notify = true;
        loop {
            pulse::POSTING.beat();
            // Those whose senders were told meanwhile that nothing was saved.
            batch.retain(|one| self.service.in_flight.is_open(one.ticket));
            if batch.is_empty() {
                return;
            }
            match attempt(&mut self.link, &batch, self.service, notify) {
                Outcome::Done(written) => return self.finish(&batch, written),
                Outcome::Unknown(written) => return self.find_out(batch, written),
                Outcome::Overtaken => self.roll_back(&batch),
                Outcome::Failed(error, step) => {
                    self.roll_back(&batch);
                    if step == Step::Notification {
                        warn!("{error}; the message is stored without notifying anybody");
                        notify = false;
                        continue;
                    }
                    match error.failure {
                        Failure::Refused => return self.store_each(batch, &error),
                        Failure::Conflict => return self.store_unlocked(batch, &error),
                        Failure::Lost | Failure::Denied => {}
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
            return self.refuse(only, Refusal::Internal);
        }
        for one in batch {
            self.store(vec![one]);
        }
    }

    /// A conversation that somebody else has locked must not hold up those that happened to wait with it.
    fn store_unlocked(&mut self, batch: Vec<Waiting>, error: &StoreError) {
        let mut conversations: Vec<Vec<Waiting>> = Vec::new();
        for one in batch {
            let of_it =
                |other: &&mut Vec<Waiting>| other[0].post.conversation == one.post.conversation;
            match conversations.iter_mut().find(of_it) {
                Some(batch) => batch.push(one),
                None => conversations.push(vec![one]),
            }
        }
        if conversations.len() > 1 {
            for batch in conversations {
                self.store(batch);
            }
            return;
        }
        for batch in conversations {
            let left = self.refuse_late(batch, refusal(error));
            if !left.is_empty() {
                self.locked.push_back(left);
            }
        }
    }

    fn roll_back(&mut self, batch: &[Waiting]) {
        // A connection that cannot even roll back is given up; the server then does it by itself.
        if self.link.is_connected() && self.link.run(|store| store.rollback()).is_err() {
            self.link.drop_connection();
        }
        self.nothing_is_stored(batch);
    }

    fn nothing_is_stored(&self, batch: &[Waiting]) {
        self.service.feed.void_claims();
        let tickets: Vec<Ticket> = batch.iter().map(|one| one.ticket).collect();
        self.service.in_flight.set_committing(&tickets, false);
    }

    /// Refuses one message, unless its sender has been answered meanwhile.
    fn refuse(&self, one: &Waiting, refusal: Refusal) {
        if self.service.in_flight.take(one.ticket) {
            let reference = one.post.reference.as_ref();
            self.service
                .refuse(Arc::clone(&one.from), refusal, reference);
        }
    }

    /// Refuses those whose time is over; the others are tried again.
    fn refuse_late(&self, batch: Vec<Waiting>, refusal: Refusal) -> Vec<Waiting> {
        let now = Instant::now();
        let (late, left): (Vec<_>, Vec<_>) = batch.into_iter().partition(|one| one.deadline <= now);
        for one in &late {
            self.refuse(one, refusal);
        }
        left
    }

    fn finish(&self, batch: &[Waiting], written: Written) {
        let held = self.service.hub.hold();
        for (place, answer) in written.answered {
            let waiting = &batch[place];
            match answer {
                Answer::Refused(refusal) => self.refuse(waiting, refusal),
                Answer::Repeated(message) => self.repeat(waiting, &message),
            }
        }
        if let Some(push) = &self.service.push {
            push.offer(written.notices);
        }
        if let (Some(bus), false) = (&self.service.bus, written.stored.is_empty()) {
            bus.say(Note::Posted);
        }
        let now = Instant::now();
        METRICS.messages.add(written.stored.len() as u64);
        let publications = written
            .stored
            .into_iter()
            .map(|(place, one)| {
                self.service.repeats.remember(&one.message, now);
                let waits = self.service.in_flight.take(batch[place].ticket);
                (one.message.id, one.publication(waits))
            })
            .collect();
        self.service.feed.publish(&self.service.hub, publications);
        // The next batch is more urgent than what the others see of this one.
        held.pass_on();
    }

    /// Answers a message that was sent before with what is stored of it.
    fn repeat(&self, one: &Waiting, message: &Message) {
        if self.service.in_flight.take(one.ticket) {
            let text = protocol::message_created(message);
            let text = protocol::with_ref(text, one.post.reference.as_ref());
            let to = Arc::clone(&one.from).subscriber();
            self.service.hub.answer(to, Frame::text(&text), true);
        }
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
                self.nothing_is_stored(&batch);
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
                let refused = Written {
                    answered,
                    ..Written::default()
                };
                self.finish(&batch, refused);
            }
        }
    }
}
