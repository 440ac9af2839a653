//! The end of the reactor: what had arrived is read, then everybody is told goodbye.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::error;
use rustix::event::{PollFd, PollFlags, poll};

use super::super::handshake::Refused;
use super::super::{Connection, Next, Phase};
use super::{Reactor, ReactorThreads};
use crate::hub::Subscriber;
use crate::limits::{CLOSE_LINGER, SPREAD_CLOSES_ABOVE, SPREAD_CLOSES_OVER};
use crate::model::CloseCode;

/// How long a stop reads what had arrived before it.
const LAST_READS: Duration = Duration::from_millis(200);

impl Reactor {
    /// Stops accepting, reads what has arrived, and waits for what the workers are doing just now.
    pub fn stop_reading(&self, threads: ReactorThreads) {
        let until = Instant::now() + LAST_READS;
        let _ = self.read_until.set(until);
        self.stopping.store(true, Ordering::Release);
        // Closing the other end makes the wake-up descriptor readable for good.
        drop(
            self.wake
                .1
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        {
            // Under the lock, or the keeper could have looked just before and begin to wait just after.
            let _table = self.table();
            self.arrived.notify_all();
        }
        let ReactorThreads {
            accept,
            workers,
            flusher,
            keeper,
        } = threads;
        for thread in workers.into_iter().chain([accept, flusher, keeper]) {
            if thread.join().is_err() {
                error!("a thread of the reactor had failed");
            }
        }
    }

    /// Says goodbye to all sockets, spread out where they are many, and gives them a moment to take it.
    pub fn say_goodbye(&self, until: Instant) {
        let all = self.all();
        let pause = if all.len() > SPREAD_CLOSES_ABOVE {
            SPREAD_CLOSES_OVER / all.len() as u32
        } else {
            Duration::ZERO
        };
        let mut due = Instant::now();
        for connection in &all {
            match connection.phase() {
                // Still speaks HTTP; a frame would be no answer to its request.
                Phase::Head => connection.refuse(Refused::Disabled),
                _ => connection.close(CloseCode::GoingAway),
            }
            due += pause;
            let ahead = due.saturating_duration_since(Instant::now());
            // Short naps cost more than they spread.
            if ahead > Duration::from_millis(10) && Instant::now() < until {
                thread::sleep(ahead);
            }
        }
        let last = Instant::now() + CLOSE_LINGER;
        self.await_ends(&all, until.min(last));
        for connection in &all {
            self.take_down(connection);
        }
    }

    /// Waits until the peers have ended their side, so that nobody loses the last words to a reset.
    fn await_ends(&self, all: &[Arc<Connection>], until: Instant) {
        let mut open: Vec<&Arc<Connection>> = all.iter().collect();
        while !open.is_empty() && Instant::now() < until {
            open.retain(|connection| {
                connection.flush();
                let mut input = connection
                    .input
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                connection.drain(&mut input) != Next::Gone
            });
            if let Some(one) = open.first() {
                let mut ready = [PollFd::new(one, PollFlags::IN)];
                let patience = rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 20_000_000,
                };
                let _ = poll(&mut ready, Some(&patience));
            }
        }
    }
}
