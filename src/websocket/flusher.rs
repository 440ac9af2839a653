//! Writes the rest to sockets that did not take all their frames at once. The only file that names epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use log::error;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::connection::Connection;
use super::registry::Registry;
use crate::hub::{Subscriber, SubscriberId};
use crate::platform::failpoint;

/// Epoll data of the descriptor that ends the thread; no connection has this id.
const END: u64 = u64::MAX;
/// Most sockets that one call of epoll reports; the next call reports the others.
const EVENTS: usize = 64;

pub(super) struct Flusher {
    epoll: OwnedFd,
    end: OwnedFd,
    is_ended: AtomicBool,
}

impl Flusher {
    pub(super) fn new() -> io::Result<Self> {
        let flusher = Flusher {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            end: eventfd(0, EventfdFlags::CLOEXEC)?,
            is_ended: AtomicBool::new(false),
        };
        let data = EventData::new_u64(END);
        epoll::add(&flusher.epoll, &flusher.end, data, EventFlags::IN)?;
        Ok(flusher)
    }

    /// Flushes a connection once, when its socket takes more.
    pub(super) fn watch(&self, connection: &Connection) {
        let data = EventData::new_u64(connection.id.0);
        let flags = EventFlags::OUT | EventFlags::ONESHOT;
        let stream = &connection.stream;
        // Both fail only if the socket is gone or memory is short. Then it stays behind, and `deadlines` drops it for that.
        if epoll::modify(&self.epoll, stream, data, flags) == Err(Errno::NOENT) {
            let _ = epoll::add(&self.epoll, stream, data, flags);
        }
    }

    /// The flusher's thread.
    pub(super) fn run(&self, registry: &Registry) {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        while !self.is_ended() {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(failed) => {
                    error!("epoll_wait: {failed}");
                    return;
                }
            }
            failpoint::reach("flusher");
            for event in &events {
                let id = SubscriberId({ event.data }.u64());
                if let Some(connection) = registry.get(id) {
                    connection.flush();
                }
            }
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.load(Ordering::Acquire)
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        // Cannot fail: the counter is far from full.
        let _ = rustix::io::write(&self.end, &1_u64.to_ne_bytes());
    }
}
