//! The fan-out. One thread owns the list of sockets; all events for sockets go through its channel, so all readers see the
//! channel's order.
//!
//! The thread drains the channel, appends frames to each recipient's outbox, then writes each touched socket once, so
//! batches grow with the load. It never queries the database, never blocks on a socket and knows no JSON: frames reach it
//! encoded. The channel is bounded, which slows publishers down.

mod presence;
mod replay;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

pub use self::presence::{DaemonId, Presence, PresenceChange, RemotePresence};
pub use self::replay::Backlog;
use self::state::HubState;
use crate::model::{AgentId, CloseCode, MessageId};
use crate::platform::threads::{PROGRESS_INTERVAL, Progress, Threads, lock};
use crate::protocol::frame::{Frame, Frames};

/// Most commands in the channel. A thread that adds one more blocks, but not for long: the hub blocks on nothing else.
const CHANNEL_CAPACITY: usize = 4096;
/// Most commands that are applied before the sockets are written.
const BATCH: usize = 1024;
/// Stack of the hub's thread, in bytes.
const STACK_BYTES: usize = 256 * 1024;

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

/// What has to happen after bytes were queued for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Queued {
    /// Nothing waited before them: the socket must be flushed.
    NeedsFlush,
    /// They wait behind others, were written at once, or were left out.
    Nothing,
}

/// One socket, as the hub sees it. No method may block.
pub trait Subscriber: Send + Sync {
    /// Which socket this is.
    fn id(&self) -> SubscriberId;
    /// Appends all but the first `skipped` of these frames to what is to be written. Large ones may be written at once.
    fn push(&self, frames: &Frames, skipped: usize, weight: Weight) -> Queued;
    /// Writes what waits, as far as the socket takes it.
    fn flush(&self);
    /// Queues a close frame behind what waits already; nothing more is accepted.
    fn close(&self, code: CloseCode);
    /// How the log calls it.
    fn name(&self) -> String {
        format!("connection {}", self.id().0)
    }
    /// Whether the peer is gone, so that an answer would have no reader.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A socket that is shared between its thread, the hub and those who answer it.
pub type SubscriberRef = Arc<dyn Subscriber>;

/// Makes the answer to an accepted authentication, from the agents that are online (sorted and encoded) and the newest
/// message that was published.
pub type Welcome = Box<dyn FnOnce(&str, MessageId) -> Frame + Send>;

/// Dropped once a publication is in the hub's channel, or is lost on its way there. Then the next event of the socket that
/// caused it may be handled.
pub type Done = Box<dyn Send>;

/// A frame for the sockets of several agents.
pub struct Publication {
    /// The message that it announces, if that is a new one.
    pub message: Option<MessageId>,
    /// When that message was committed, where this process did it.
    pub committed: Option<Instant>,
    /// Whose sockets.
    pub audience: Arc<[AgentId]>,
    /// What they get.
    pub frame: Frame,
    /// Whether it may be left out.
    pub weight: Weight,
    /// The socket that caused it, and what it gets instead (`None`: nothing).
    pub own: Option<(SubscriberId, Option<Frame>)>,
    /// Dropped once it is in the channel.
    pub done: Option<Done>,
}

impl Publication {
    /// A publication that is not a new message and that no socket has caused.
    pub fn new(audience: Arc<[AgentId]>, frame: Frame, weight: Weight) -> Self {
        Publication {
            message: None,
            committed: None,
            audience,
            frame,
            weight,
            own: None,
            done: None,
        }
    }
}

/// An authenticated socket that is to be let in.
pub struct Newcomer {
    /// The socket.
    pub subscriber: SubscriberRef,
    /// Whose it is.
    pub agent: AgentId,
    /// When the database was last asked whether that agent is active.
    pub asked: Instant,
    /// Makes the answer.
    pub welcome: Welcome,
    /// What it gets before it is closed, if its agent has too many sockets.
    pub refusal: Frame,
    /// Whether publications are held back for it until [`Command::Release`].
    pub is_held: bool,
}

/// What the hub is told.
pub enum Command {
    /// Adds an authenticated socket, or renews one that is there.
    Join(Newcomer),
    /// Gives a socket what it missed, then what was held back for it.
    Release {
        /// Which.
        subscriber: SubscriberRef,
        /// Whose.
        agent: AgentId,
        /// What it missed.
        backlog: Backlog,
    },
    /// The newest message in the database when the poller began, or began again after a pause.
    Newest(MessageId),
    /// Another daemon on the same database told of its agents.
    Remote(DaemonId, RemotePresence),
    /// Takes an agent's socket out.
    Leave(AgentId, SubscriberId),
    /// Sends a frame, if there is one, to one socket in its turn; then closes it, if there is a code.
    Answer {
        /// Which.
        to: SubscriberRef,
        /// What it gets.
        frame: Option<Frame>,
        /// What it is closed with.
        close: Option<CloseCode>,
    },
    /// Tells the sockets of several agents.
    Publish(Publication),
    /// Closes the sockets of all agents that are not in this list of active ones, which the database was asked for at this
    /// time. It does not affect an agent about which the database was asked later.
    CloseInactive(HashSet<AgentId>, Instant),
    /// Ends the thread once everything that waits is written.
    Stop,
}

/// What the hub is told at its start.
pub struct HubConfig {
    /// Most sockets of one agent.
    pub max_per_agent: usize,
    /// How long an agent without a socket stays online.
    pub presence_grace: std::time::Duration,
    /// Encodes `presence.updated`.
    pub presence: fn(PresenceChange) -> Frame,
    /// Encodes the agents that are online, for a [`Welcome`].
    pub online: fn(&[AgentId]) -> String,
    /// Called when an agent's first socket comes here, or its last one is gone for good; must not block.
    pub on_presence: Box<dyn Fn(PresenceChange) + Send>,
}

/// The way into the hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    commands: Sender<Command>,
    thread: Thread,
    presence: Arc<Mutex<Presence>>,
}

impl Hub {
    /// Starts the hub's thread. It ends after [`Command::Stop`].
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(config: HubConfig, threads: &Threads) -> io::Result<(Hub, JoinHandle<()>)> {
        let (sender, commands) = bounded(CHANNEL_CAPACITY);
        let presence = Arc::default();
        let state = HubState::new(config, Arc::clone(&presence));
        let thread = threads.spawn_watched("hub", "hub", STACK_BYTES, move |progress| {
            run(state, &commands, progress);
        })?;
        let hub = Hub {
            commands: sender,
            thread: thread.thread().clone(),
            presence,
        };
        Ok((hub, thread))
    }

    /// Puts a command into the channel; blocks while it is full.
    pub fn send(&self, command: Command) {
        // Fails only if the hub has ended, and then the process ends too.
        let _ = self.commands.send(command);
        self.thread.unpark();
    }

    /// Sends a frame, if there is one, to one socket in its turn; then closes it, if there is a code.
    pub fn answer(&self, to: SubscriberRef, frame: Option<Frame>, close: Option<CloseCode>) {
        self.send(Command::Answer { to, frame, close });
    }

    /// Tells the sockets of several agents.
    pub fn publish(&self, mut publication: Publication) {
        // Dropped at the end of this function: then the publication is in the channel.
        let _done = publication.done.take();
        self.send(Command::Publish(publication));
    }

    /// How many commands wait.
    pub fn queued(&self) -> usize {
        self.commands.len()
    }

    /// Agents with a socket here, those in their grace included.
    pub fn local_agents(&self) -> BTreeSet<AgentId> {
        lock(&self.presence).local().clone()
    }

    /// Whether any agent has a socket here, or had one within its grace.
    pub fn is_anyone_here(&self) -> bool {
        !lock(&self.presence).local().is_empty()
    }
}

/// The hub's thread.
fn run(mut state: HubState, commands: &Receiver<Command>, progress: &Progress) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut due = None;
    loop {
        let tick = Instant::now() + PROGRESS_INTERVAL;
        let until = due.map_or(tick, |due: Instant| due.min(tick));
        // Not `recv_timeout`, which spins for longer than a small fan-out takes.
        let left = until.saturating_duration_since(Instant::now());
        if commands.is_empty() && !left.is_zero() {
            thread::park_timeout(left);
        }
        progress.made();
        batch.extend(commands.try_iter().take(BATCH));
        let is_last = batch.iter().any(|one| matches!(one, Command::Stop));
        for command in batch.drain(..) {
            state.apply(command);
        }
        due = state.end_batch(Instant::now());
        if is_last {
            return;
        }
    }
}
