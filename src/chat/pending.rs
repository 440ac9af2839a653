//! A message between its hand-over to the commit thread and its answer. A call to the database may take longer than a sender
//! should wait, so `deadlines` can answer in place of the commit thread. Each message is answered once, by the thread that
//! takes the answer first. A message with an unknown outcome is still published if it turns out to be stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::hub::SubscriberRef;
use crate::model::Refusal;
use crate::protocol::Ref;

/// Nothing was stored yet.
const WAITING: u8 = 0;
/// COMMIT is about to be sent: from now on it may be stored, whatever happens.
const COMMITTING: u8 = 1;
/// The sender has its answer, or is about to.
const ANSWERED: u8 = 2;

/// One message on its way. The thread of its connection makes it, and only that thread waits for it.
pub struct PendingPost {
    pub(super) from: SubscriberRef,
    pub(super) reference: Option<Ref>,
    pub(super) deadline: Instant,
    state: AtomicU8,
    is_done: AtomicBool,
    sender: Thread,
}

/// The sender of a message has had its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AlreadyAnswered;

/// Marks a message as done when this is dropped.
pub(super) struct DoneGuard(pub(super) Arc<PendingPost>);

impl Drop for DoneGuard {
    fn drop(&mut self) {
        self.0.set_done();
    }
}

impl PendingPost {
    /// A message that this thread hands over.
    pub(super) fn new(from: &SubscriberRef, reference: Option<Ref>, deadline: Instant) -> Self {
        PendingPost {
            from: Arc::clone(from),
            reference,
            deadline,
            state: AtomicU8::new(WAITING),
            is_done: AtomicBool::new(false),
            sender: thread::current(),
        }
    }

    /// Blocks until the message or its refusal is in the hub's channel. Only for the thread that made it.
    pub fn wait(&self) {
        while !self.is_done.load(Ordering::Acquire) {
            thread::park();
        }
    }

    /// The message or its refusal is in the hub's channel.
    pub(super) fn set_done(&self) {
        if !self.is_done.swap(true, Ordering::AcqRel) {
            self.sender.unpark();
        }
    }

    /// Whether the sender was answered. If so, the message must not be stored, unless it was being committed.
    pub(super) fn is_answered(&self) -> bool {
        self.state.load(Ordering::Acquire) == ANSWERED
    }

    /// Takes the answer, which the caller is to give: this refusal if the outcome is not known. `None` if the message was
    /// answered already.
    pub(super) fn take_answer(&self) -> Option<Refusal> {
        match self.state.swap(ANSWERED, Ordering::AcqRel) {
            WAITING => Some(Refusal::Unavailable),
            COMMITTING => Some(Refusal::OutcomeUnknown),
            _ => None,
        }
    }

    /// The message is about to be committed. It must not be if its sender was told meanwhile that nothing was saved.
    pub(super) fn begin_commit(&self) -> Result<(), AlreadyAnswered> {
        self.exchange(WAITING, COMMITTING)
    }

    /// The message was rolled back.
    pub(super) fn end_commit(&self) {
        // A message that was answered meanwhile stays so.
        let _ = self.exchange(COMMITTING, WAITING);
    }

    fn exchange(&self, from: u8, to: u8) -> Result<(), AlreadyAnswered> {
        let (set, seen) = (Ordering::AcqRel, Ordering::Acquire);
        let exchanged = self.state.compare_exchange(from, to, set, seen);
        exchanged.map(drop).map_err(|_| AlreadyAnswered)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::hub::{Queued, Subscriber, SubscriberId, Weight};
    use crate::model::CloseCode;
    use crate::protocol::frame::Frames;

    struct NoSocket;

    impl Subscriber for NoSocket {
        fn id(&self) -> SubscriberId {
            SubscriberId(0)
        }
        fn push(&self, _: &Frames, _: usize, _: Weight) -> Queued {
            Queued::Nothing
        }
        fn flush(&self) {}
        fn close(&self, _: CloseCode) {}
    }

    fn pending() -> Arc<PendingPost> {
        let from: SubscriberRef = Arc::new(NoSocket);
        Arc::new(PendingPost::new(&from, None, Instant::now()))
    }

    #[test]
    fn a_message_is_answered_once_and_not_stored_against_its_answer() {
        let late = pending();
        assert_eq!(late.take_answer(), Some(Refusal::Unavailable));
        assert_eq!(late.take_answer(), None);
        assert_eq!(late.begin_commit(), Err(AlreadyAnswered));
        let early = pending();
        assert_eq!(early.begin_commit(), Ok(()));
        assert_eq!(early.take_answer(), Some(Refusal::OutcomeUnknown));
        assert!(early.is_answered());
    }

    #[test]
    fn what_is_being_committed_may_be_stored_and_after_a_rollback_is_not() {
        let post = pending();
        assert_eq!(post.begin_commit(), Ok(()));
        post.end_commit();
        assert_eq!(post.take_answer(), Some(Refusal::Unavailable));
    }

    #[test]
    fn the_sender_waits_until_the_guard_is_dropped() {
        let post = pending();
        let guard = DoneGuard(Arc::clone(&post));
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(20));
                drop(guard);
            });
            post.wait();
        });
        // It stays done.
        post.wait();
    }
}
