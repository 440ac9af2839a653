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
