//! Queries on behalf of one connection: a query thread runs them while the connection's thread waits. This keeps the driver
//! off the connections' many stacks, and bounds every wait, whatever the database does.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded, never, select_biased};

use super::Chat;
use crate::config::limits::STORE_TIMEOUT;
use crate::hub::SubscriberRef;
use crate::model::AgentId;
use crate::platform::failpoint;
use crate::platform::threads::lock;
use crate::store::{DatabaseConnection, Failure, Pool, Result, StoreError};

/// A query to run on a connection borrowed from the pool.
pub type Question = Box<dyn FnOnce(&Pool) + Send>;

/// The channels of questions: light ones (an agent, the members of a conversation, a marker) and heavy ones (history,
/// search, unread counts, missed messages).
pub type Questions = [Receiver<Question>; 2];

/// A query thread: runs one question after the other, light ones first. A thread that takes no heavy ones stays free for
/// agents that log in.
pub fn run([light, heavy]: &Questions, takes_heavy: bool, pool: &Pool) {
    let never = never();
    let heavy = if takes_heavy { heavy } else { &never };
    loop {
        let question = select_biased! {
            recv(light) -> question => question,
            recv(heavy) -> question => question,
        };
        // The service is stopping.
        let Ok(question) = question else { return };
        failpoint::reach("query");
        question(pool);
    }
}

/// Held while an agent waits for a heavy question; each agent may wait for one at a time.
struct HeavyQueryGuard<'a>(&'a Chat, AgentId);

impl Drop for HeavyQueryGuard<'_> {
    fn drop(&mut self) {
        lock(&self.0.asking).remove(&self.1);
        self.0.asked.notify_all();
    }
}

impl Chat {
    /// Runs a query and waits for its answer, [`STORE_TIMEOUT`] at most. The operation may be repeated.
    ///
    /// # Errors
    /// The operation failed, or did not come back in time.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        operation: impl FnMut(&mut DatabaseConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.ask_by(Instant::now() + STORE_TIMEOUT, 0, || false, operation)
    }

    /// Like `ask`, for slow queries: run after the light ones, one per agent at a time, and skipped if the socket is gone.
    pub(super) fn ask_at_leisure<T: Send + 'static>(
        &self,
        from: &SubscriberRef,
        agent: AgentId,
        operation: impl FnMut(&mut DatabaseConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        let asking = lock(&self.asking);
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .asked
            .wait_timeout_while(asking, left, |asking| !asking.insert(agent));
        if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
            return Err(unanswered());
        }
        let _guard = HeavyQueryGuard(self, agent);
        let from = Arc::clone(from);
        self.ask_by(deadline, 1, move || from.is_gone(), operation)
    }

    fn ask_by<T: Send + 'static>(
        &self,
        deadline: Instant,
        weight: usize,
        is_moot: impl FnOnce() -> bool + Send + 'static,
        operation: impl FnMut(&mut DatabaseConnection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = bounded(1);
        let question: Question = Box::new(move |pool| {
            // After the deadline nothing waits for the answer.
            if Instant::now() < deadline && !is_moot() {
                let _ = answer.send(pool.run_until(deadline, operation));
            }
        });
        match &*lock(&self.questions) {
            Some(questions) if questions[weight].send(question).is_ok() => {}
            _ => return Err(unanswered()),
        }
        let answer = answered.recv_deadline(deadline);
        answer.unwrap_or_else(|_| Err(unanswered()))
    }
}

fn unanswered() -> StoreError {
    StoreError::new(
        "ask the database",
        Failure::Lost,
        "no answer in time".to_owned(),
    )
}
