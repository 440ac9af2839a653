//! Readiness of many sockets: one epoll instance, always one-shot, so that whoever is told of a socket owns it
//! until he arms it again. The only file that names epoll.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

/// What a socket is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read, or the end.
    Read,
    /// Bytes to read, or room to write: at once, but after everybody else who is ready.
    ReadOrWrite,
    /// Room to write.
    Write,
}

impl Interest {
    fn flags(self) -> EventFlags {
        let once = EventFlags::ONESHOT;
        match self {
            Interest::Read => once | EventFlags::IN | EventFlags::RDHUP,
            Interest::ReadOrWrite => once | EventFlags::IN | EventFlags::RDHUP | EventFlags::OUT,
            Interest::Write => once | EventFlags::OUT,
        }
    }
}

/// One epoll instance, shared by the threads that wait on it.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// An instance that waits for nothing yet.
    ///
    /// # Errors
    /// The system is out of descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Poller(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Waits for a socket for the first time; `id` is what [`Poller::wait`] returns.
    ///
    /// # Errors
    /// The kernel's limit on watches is reached.
    pub fn add(&self, socket: impl AsFd, id: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            socket,
            EventData::new_u64(id),
            interest.flags(),
        )?)
    }

    /// Waits for a socket again.
    ///
    /// # Errors
    /// The socket was never added.
    pub fn arm(&self, socket: impl AsFd, id: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(
            &self.0,
            socket,
            EventData::new_u64(id),
            interest.flags(),
        )?)
    }

    /// Adds a descriptor that wakes every waiting thread for good once it is readable.
    ///
    /// # Errors
    /// As [`Poller::add`].
    pub fn add_wake(&self, descriptor: impl AsFd, id: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            descriptor,
            EventData::new_u64(id),
            EventFlags::IN,
        )?)
    }

    /// Blocks until something is ready and fills `ready` with the ids.
    ///
    /// # Errors
    /// None that is expected; an interruption by a signal is no error.
    pub fn wait(&self, events: &mut Vec<Event>, ready: &mut Vec<u64>) -> io::Result<()> {
        events.clear();
        ready.clear();
        match epoll::wait(&self.0, spare_capacity(events), None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        ready.extend(events.iter().map(|event| { event.data }.u64()));
        Ok(())
    }
}

pub use epoll::Event as ReadyEvent;
