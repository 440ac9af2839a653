//! What waits for the database: a queue from which a job whose time is over can be taken although nobody is
//! there to do it, so that a hanging database delays no refusal.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A first-in, first-out queue with deadlines, for several producers and consumers. It needs no bound of its
/// own: every socket has at most one job in it.
#[derive(Debug)]
pub struct JobQueue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    jobs: VecDeque<(Instant, T)>,
    closed: bool,
    /// Deadline of every job from the close on.
    latest: Option<Instant>,
}

/// What a consumer is woken for.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken<T> {
    /// Jobs, each with its deadline; at least one.
    Jobs(Vec<(Instant, T)>),
    /// Nothing came in time.
    Nothing,
    /// The queue is closed and empty.
    Closed,
}

impl<T> Default for JobQueue<T> {
    fn default() -> Self {
        JobQueue {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                closed: false,
                latest: None,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> JobQueue<T> {
    /// Adds a job.
    ///
    /// # Errors
    /// The queue is closed; the job comes back.
    pub fn push(&self, job: T, deadline: Instant) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(job);
        }
        state.jobs.push_back((deadline, job));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes up to `most` jobs, waiting for the first for up to `patience`, or for ever.
    pub fn take(&self, most: usize, patience: Option<Duration>) -> Taken<T> {
        let until = patience.map(|patience| Instant::now() + patience);
        let mut state = self.lock();
        loop {
            if !state.jobs.is_empty() {
                let count = most.min(state.jobs.len());
                let latest = state.latest;
                let jobs = state.jobs.drain(..count).map(|(deadline, job)| {
                    (latest.map_or(deadline, |latest| latest.min(deadline)), job)
                });
                return Taken::Jobs(jobs.collect());
            }
            if state.closed {
                return Taken::Closed;
            }
            state = match until {
                None => self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Taken::Nothing;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }

    /// Takes out the jobs whose deadline is over.
    pub fn expired(&self, now: Instant) -> Vec<T> {
        let mut state = self.lock();
        let mut expired = Vec::new();
        let mut kept = VecDeque::new();
        let all = state.latest.is_some_and(|latest| latest <= now);
        if !all && state.jobs.iter().all(|(deadline, _)| *deadline > now) {
            return expired;
        }
        for (deadline, job) in state.jobs.drain(..) {
            if !all && deadline > now {
                kept.push_back((deadline, job));
            } else {
                expired.push(job);
            }
        }
        state.jobs = kept;
        expired
    }

    /// Accepts no further job; those that wait are still handed out, with a deadline of `latest` at most.
    pub fn close(&self, latest: Instant) {
        let mut state = self.lock();
        state.closed = true;
        state.latest = Some(latest);
        drop(state);
        self.changed.notify_all();
    }

    /// How many jobs wait.
    pub fn len(&self) -> usize {
        self.lock().jobs.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_come_out_in_order_and_expired_ones_do_not() {
        let queue = JobQueue::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        for (job, deadline) in [(1, later), (2, now), (3, later)] {
            queue.push(job, deadline).expect("open");
        }
        assert_eq!(queue.expired(now), [2]);
        assert_eq!(
            queue.take(10, None),
            Taken::Jobs(vec![(later, 1), (later, 3)])
        );
        assert_eq!(queue.take(10, Some(Duration::ZERO)), Taken::Nothing);
    }

    #[test]
    fn a_closed_queue_hands_out_what_it_has_and_takes_no_more() {
        let queue = JobQueue::default();
        let now = Instant::now();
        queue.push(1, now + Duration::from_secs(60)).expect("open");
        queue.close(now);
        assert_eq!(queue.push(2, now), Err(2));
        assert!(queue.expired(now - Duration::from_secs(1)).is_empty());
        assert_eq!(queue.take(10, None), Taken::Jobs(vec![(now, 1)]));
        assert_eq!(queue.take(10, None), Taken::Closed);
    }

    #[test]
    fn what_waits_in_a_closed_queue_expires_with_it() {
        let queue = JobQueue::default();
        let now = Instant::now();
        queue.push(1, now + Duration::from_secs(60)).expect("open");
        queue.close(now);
        assert_eq!(queue.expired(now), [1]);
    }
}
