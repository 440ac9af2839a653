//! Who is connected, and who is told: the fan-out. One queue, which is taken in rounds: everything that waits is
//! appended to each recipient's outgoing bytes, then each touched socket is written once, so batches grow by
//! themselves exactly when there is load. What the service says goes out in the order it came into this queue,
//! which is what makes two readers see one order.
//!
//! A round is run by whoever said something, where no other round is running: that saves the switch to another
//! thread, which would cost more than a small fan-out itself. What came while a round was running is left to the
//! hub's own thread, so nobody is kept from his work for longer than one round. `hub/queue.rs` has the rules.
//!
//! The hub never asks the database, never blocks on a socket and knows no JSON: frames reach it encoded. What a
//! round calls (subscribers, welcomes, the configuration's functions) must not speak to the hub and must not wait.
//!
//! A panic in a round, whichever thread ran it, leaves lists that nobody can trust: the hub then tells nobody
//! anything any more and says that it is broken, which ends the process.

mod catching_up;
mod presence;
mod queue;
mod state;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

pub use self::catching_up::Backlog;
pub use self::presence::{DaemonId, Presence, RemotePresence};
use self::queue::{Queue, Woken};
use self::state::{Extent, State};
use crate::frame::{Frame, Frames};
use crate::model::{AgentId, CloseCode, MessageId};
use crate::pulse;

thread_local! {
    /// How many [`Held`] this thread has.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// Identifies one socket for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(pub u64);

/// Whether a frame may be left out where a queue fills up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Messages, markers, answers: never left out.
    Essential,
    /// Typing and presence.
    Ephemeral,
}

/// One socket, as the hub sees it. No method may block.
pub trait Subscriber: Send + Sync {
    /// Which socket this is.
    fn id(&self) -> SubscriberId;
    /// Appends a frame to what is to be written. True where the caller must call [`Subscriber::flush`] later
    /// because nothing waited before.
    fn push(&self, frame: &Frame, weight: Weight) -> bool;
    /// The same for all but the first `skipped` of several frames.
    fn push_all(&self, frames: &Frames, skipped: usize, weight: Weight) -> bool;
    /// The same as [`Subscriber::push_all`] and [`Subscriber::flush`], straight from the shared bytes where nothing
    /// waits before them.
    fn write_all(&self, frames: &Frames, skipped: usize, weight: Weight);
    /// Writes what waits, as far as the socket takes it.
    fn flush(&self);
    /// Says goodbye after what waits already; nothing more is accepted.
    fn close(&self, code: CloseCode);
    /// Lets the socket's next event be read, after one that was handed on.
    fn resume(&self);
}

/// A socket that is shared between its reader, the hub and those who answer it.
pub type SubscriberRef = Arc<dyn Subscriber>;

/// Makes the answer to an accepted authentication out of the agents that are online, sorted and encoded, and the
/// newest message that went through.
pub type Welcome = Box<dyn FnOnce(&str, MessageId) -> Frame + Send>;

/// A frame for the sockets of several agents.
pub struct Publication {
    /// The message that it tells of, if it is a new one.
    pub message: Option<MessageId>,
    /// Whose sockets.
    pub audience: Arc<[AgentId]>,
    /// What they get.
    pub frame: Frame,
    /// Whether it may be left out.
    pub weight: Weight,
    /// The socket that caused it, and what it gets instead (`None`: nothing).
    pub own: Option<(SubscriberId, Option<Frame>)>,
    /// A socket whose next event may be read once this is written.
    pub resume: Option<SubscriberRef>,
}

/// An authenticated socket that is to be let in.
pub struct Newcomer {
    /// The socket.
    pub subscriber: SubscriberRef,
    /// Whose it is.
    pub agent: AgentId,
    /// When the database was asked for the last time whether that agent is active.
    pub asked: Instant,
    /// Makes the answer.
    pub welcome: Welcome,
    /// What it gets, before it is closed, where its agent has too many.
    pub refusal: Frame,
    /// Whether everything else is kept back for it until [`Hub::release`]; else it is resumed.
    pub hold: bool,
}

enum Command {
    Join(Newcomer),
    Release {
        subscriber: SubscriberRef,
        agent: AgentId,
        backlog: Backlog,
    },
    Newest(MessageId),
    Remote(DaemonId, RemotePresence),
    Leave {
        subscriber: SubscriberId,
        agent: AgentId,
    },
    Answer {
        to: SubscriberRef,
        frame: Option<Frame>,
        close: Option<CloseCode>,
        resume: bool,
    },
    Publish(Publication),
    CloseInactive {
        active: HashSet<AgentId>,
        asked: Instant,
    },
}

/// What the hub is told at its start.
pub struct HubConfig {
    /// Sockets of one agent.
    pub max_per_agent: usize,
    /// How long an agent without a socket stays online.
    pub presence_grace: Duration,
    /// Encodes `presence.updated`.
    pub presence: fn(AgentId, bool) -> Frame,
    /// Encodes the agents that are online, for a [`Welcome`].
    pub online: fn(&[AgentId]) -> String,
    /// Is told when an agent's first socket comes here or his last is gone; must not block.
    pub on_presence: Box<dyn Fn(AgentId, bool) + Send>,
}

/// The way into the hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    queue: Arc<Queue>,
    state: Arc<Mutex<State>>,
    presence: Arc<Mutex<Presence>>,
}

/// While it lives, what its thread says waits; when it is dropped, all of it goes out in one round.
#[must_use = "what is said goes out when this is dropped"]
pub struct Held<'a> {
    hub: &'a Hub,
    extent: Extent,
}

impl Held<'_> {
    /// Leaves all but those who wait for it to the hub's thread: this one has better things to do.
    pub fn pass_on(mut self) {
        self.extent = Extent::Waiting;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        self.hub.deliver(self.extent);
    }
}

impl Hub {
    /// Starts the hub's thread. It ends after [`Hub::stop`], or when the hub is broken and has told `on_broken` so.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        config: HubConfig,
        on_broken: impl Fn() + Send + 'static,
    ) -> io::Result<(Hub, JoinHandle<()>)> {
        let presence = Arc::default();
        let hub = Hub {
            queue: Arc::default(),
            state: Arc::new(Mutex::new(State::new(config, Arc::clone(&presence)))),
            presence,
        };
        let this = hub.clone();
        let thread = thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || this.run(&on_broken))?;
        Ok((hub, thread))
    }

    /// Gathers what this thread says from now on, for one round at the end.
    pub fn hold(&self) -> Held<'_> {
        HELD.set(HELD.get() + 1);
        Held {
            hub: self,
            extent: Extent::All,
        }
    }

    /// Adds an authenticated socket, or renews one that is there.
    pub fn join(&self, newcomer: Newcomer) {
        self.send(Command::Join(newcomer));
    }

    /// Gives a socket that was held what it missed, then what was kept back for it, and resumes it.
    pub fn release(&self, subscriber: SubscriberRef, agent: AgentId, backlog: Backlog) {
        self.send(Command::Release {
            subscriber,
            agent,
            backlog,
        });
    }

    /// The newest message that the database had when it was looked at for the first time, or again.
    pub fn newest(&self, id: MessageId) {
        self.send(Command::Newest(id));
    }

    /// Takes a socket out.
    pub fn leave(&self, subscriber: SubscriberId, agent: AgentId) {
        self.send(Command::Leave { subscriber, agent });
    }

    /// Answers one socket, in its turn.
    pub fn answer(&self, to: SubscriberRef, frame: Frame, resume: bool) {
        self.send(Command::Answer {
            to,
            frame: Some(frame),
            close: None,
            resume,
        });
    }

    /// Answers one socket, if there is something to say, and closes it.
    pub fn answer_and_close(&self, to: SubscriberRef, frame: Option<Frame>, code: CloseCode) {
        self.send(Command::Answer {
            to,
            frame,
            close: Some(code),
            resume: true,
        });
    }

    /// Tells the sockets of several agents.
    pub fn publish(&self, publication: Publication) {
        self.send(Command::Publish(publication));
    }

    /// Closes the sockets of all agents that are not in this list, which was asked for at `asked`; whoever was
    /// asked about later is none of its business.
    pub fn close_inactive(&self, active: HashSet<AgentId>, asked: Instant) {
        self.send(Command::CloseInactive { active, asked });
    }

    /// Ends the thread once everything that waits is delivered.
    pub fn stop(&self) {
        self.queue.stop();
    }

    /// Another daemon on the same database told of its agents.
    pub fn remote_presence(&self, daemon: DaemonId, told: RemotePresence) {
        self.send(Command::Remote(daemon, told));
    }

    /// How many commands wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Agents with a socket here, those in their grace included.
    pub fn local_agents(&self) -> BTreeSet<AgentId> {
        self.presence().local().clone()
    }

    /// Whether any agent has a socket here, or had one within his grace.
    pub fn is_anybody_here(&self) -> bool {
        !self.presence().local().is_empty()
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: Command) {
        self.queue.push(command);
        self.deliver(Extent::All);
    }

    /// Runs a round, unless somebody else is running one, or this thread has more to say first.
    fn deliver(&self, extent: Extent) {
        if HELD.get() > 0 || self.queue.len() == 0 {
            return;
        }
        // Where it is taken, whoever has it looks at the queue again when he is done.
        if let Ok(state) = self.state.try_lock() {
            self.round(state, extent);
        }
    }

    /// One round. What comes meanwhile is left to the hub's thread.
    fn round(&self, state: MutexGuard<'_, State>, extent: Extent) {
        /// Looks at the queue once the lock is given back, and sees whether that was because of a panic.
        struct After<'a>(&'a Hub);
        impl Drop for After<'_> {
            fn drop(&mut self) {
                match self.0.state.is_poisoned() {
                    true => self.0.queue.close(),
                    false => self.0.queue.hand_over(),
                }
            }
        }
        let _after = After(self);
        // Dropped first.
        let mut state = state;
        let due = state.round(&self.queue, extent);
        self.queue.set_due(due);
    }

    /// The hub's thread: rounds that nobody else runs, and what is due at a time.
    fn run(&self, on_broken: &dyn Fn()) {
        struct AtEnd<'a>(&'a Hub, &'a dyn Fn());
        impl Drop for AtEnd<'_> {
            fn drop(&mut self) {
                self.0.queue.close();
                if self.0.state.is_poisoned() {
                    (self.1)();
                }
            }
        }
        let _at_end = AtEnd(self, on_broken);
        loop {
            let woken = self.queue.wait(pulse::TICK);
            // Waits for a round that hangs, and then gives no sign of life.
            let Ok(state) = self.state.lock() else {
                return;
            };
            pulse::HUB.beat();
            self.round(state, Extent::All);
            if woken == Woken::ToEnd {
                return;
            }
        }
    }
}
