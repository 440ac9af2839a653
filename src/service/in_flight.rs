//! Messages that the posting thread has taken out of the queue. A call to the database may not come back for
//! longer than a sender should wait, so whoever watches the clock can answer in its place: each message is answered
//! by whoever takes it out of here, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Client;
use crate::model::Refusal;
use crate::protocol::Ref;

/// A message on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// A sender whose time is over, and what he is told.
pub struct Overdue {
    /// Who is answered.
    pub from: Arc<dyn Client>,
    /// To be carried back.
    pub reference: Option<Ref>,
    /// Whether anything may have been stored.
    pub refusal: Refusal,
}

/// All messages on their way.
#[derive(Default)]
pub struct InFlight(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    senders: HashMap<u64, Sender>,
}

struct Sender {
    from: Arc<dyn Client>,
    reference: Option<Ref>,
    deadline: Instant,
    /// From now on it may be stored whatever happens.
    committing: bool,
}

impl InFlight {
    /// A message sets out.
    pub fn add(
        &self,
        from: &Arc<dyn Client>,
        reference: Option<&Ref>,
        deadline: Instant,
    ) -> Ticket {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let sender = Sender {
            from: Arc::clone(from),
            reference: reference.cloned(),
            deadline,
            committing: false,
        };
        state.senders.insert(number, sender);
        Ticket(number)
    }

    /// Takes a message out to answer its sender. False where that was done already.
    pub fn take(&self, ticket: Ticket) -> bool {
        self.lock().senders.remove(&ticket.0).is_some()
    }

    /// Whether nobody has answered yet.
    pub fn is_open(&self, ticket: Ticket) -> bool {
        self.lock().senders.contains_key(&ticket.0)
    }

    /// These are about to be committed, or after a rollback no longer are. False, and no change, where one of
    /// them was told meanwhile that nothing was saved: it must not be.
    pub fn set_committing(&self, tickets: &[Ticket], committing: bool) -> bool {
        let mut state = self.lock();
        if committing && !tickets.iter().all(|one| state.senders.contains_key(&one.0)) {
            return false;
        }
        for ticket in tickets {
            if let Some(sender) = state.senders.get_mut(&ticket.0) {
                sender.committing = committing;
            }
        }
        true
    }

    /// Takes out those whose deadline is `now` or before; all of them where there is no `now`.
    pub fn overdue(&self, now: Option<Instant>) -> Vec<Overdue> {
        let mut state = self.lock();
        let late = |sender: &Sender| now.is_none_or(|now| sender.deadline <= now);
        let taken = state.senders.extract_if(|_, sender| late(sender));
        taken
            .map(|(_, sender)| Overdue {
                from: sender.from,
                reference: sender.reference,
                refusal: match sender.committing {
                    true => Refusal::OutcomeUnknown,
                    false => Refusal::Unavailable,
                },
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::frame::{Frame, Frames};
    use crate::hub::{Subscriber, SubscriberId, SubscriberRef, Weight};
    use crate::model::{Agent, CloseCode};

    struct Nobody;

    impl Subscriber for Nobody {
        fn id(&self) -> SubscriberId {
            SubscriberId(0)
        }
        fn push(&self, _: &Frame, _: Weight) -> bool {
            false
        }
        fn push_all(&self, _: &Frames, _: usize, _: Weight) -> bool {
            false
        }
        fn write_all(&self, _: &Frames, _: usize, _: Weight) {}
        fn flush(&self) {}
        fn close(&self, _: CloseCode) {}
        fn resume(&self) {}
    }

    impl Client for Nobody {
        fn authenticated(&self, _: Arc<Agent>, _: u64) {}
        fn subscriber(self: Arc<Self>) -> SubscriberRef {
            self
        }
    }

    fn refusals(overdue: Vec<Overdue>) -> Vec<Refusal> {
        overdue.into_iter().map(|one| one.refusal).collect()
    }

    #[test]
    fn a_message_is_answered_once_and_not_stored_against_its_answer() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let from: Arc<dyn Client> = Arc::new(Nobody);
        let late = in_flight.add(&from, None, now);
        let early = in_flight.add(&from, None, now + Duration::from_secs(5));
        assert_eq!(
            refusals(in_flight.overdue(Some(now))),
            [Refusal::Unavailable]
        );
        assert!(!in_flight.take(late) && in_flight.is_open(early));
        assert!(!in_flight.set_committing(&[late, early], true));
        assert!(in_flight.set_committing(&[early], true));
        assert!(in_flight.take(early));
        assert!(in_flight.overdue(None).is_empty());
    }

    #[test]
    fn what_is_being_committed_may_be_stored_and_after_a_rollback_is_not() {
        let (in_flight, now) = (InFlight::default(), Instant::now());
        let from: Arc<dyn Client> = Arc::new(Nobody);
        let ticket = in_flight.add(&from, None, now);
        in_flight.set_committing(&[ticket], true);
        assert_eq!(refusals(in_flight.overdue(None)), [Refusal::OutcomeUnknown]);
        let ticket = in_flight.add(&from, None, now);
        in_flight.set_committing(&[ticket], true);
        in_flight.set_committing(&[ticket], false);
        assert_eq!(refusals(in_flight.overdue(None)), [Refusal::Unavailable]);
    }
}
