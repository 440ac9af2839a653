//! The fan-out. One thread owns the list of sockets; all frames for sockets go through its channel, so all readers see the
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

pub use self::presence::{DaemonId, Presence, RemotePresence};
pub use self::replay::Backlog;
use self::state::HubState;
use crate::model::{AgentId, CloseCode, MessageId};
use crate::platform::threads::{PROGRESS_INTERVAL, Progress, Threads, lock};
use crate::protocol::frame::{Frame, Frames};

/// Commands that may wait; a thread that adds one more waits for the hub, which never waits for anything else.
const CHANNEL_CAPACITY: usize = 4096;
/// Commands that are applied before the sockets are written.
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

/// What has to happen to bytes that were queued for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Queued {
    /// They are the first that wait: the socket must be flushed.
    NeedsFlush,
    /// They wait behind others, or were left out.
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
    /// Says goodbye after what waits already; nothing more is accepted.
    fn close(&self, code: CloseCode);
    /// How the log calls it.
    fn name(&self) -> String {
        format!("connection {}", self.id().0)
    }
    /// Whether no reader of an answer is left.
    fn is_gone(&self) -> bool {
        false
    }
}

/// A socket that is shared between its thread, the hub and those who answer it.
pub type SubscriberRef = Arc<dyn Subscriber>;

/// Makes the answer to an accepted authentication out of the agents that are online, sorted and encoded, and the
/// newest message that went through.
pub type Welcome = Box<dyn FnOnce(&str, MessageId) -> Frame + Send>;

/// Released when a publication is in the hub's channel, or is dropped on its way there: the next event of the socket that
/// caused it may be handled.
pub type Done = Box<dyn Send>;

/// A frame for the sockets of several agents.
pub struct Publication {
    /// The message that it tells of, if it is a new one.
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
    /// What waits until it is in the channel.
    pub done: Option<Done>,
}

impl Publication {
    /// One that no message and no socket stands behind.
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
    /// When the database was asked for the last time whether that agent is active.
    pub asked: Instant,
    /// Makes the answer.
    pub welcome: Welcome,
    /// What it gets, before it is closed, where its agent has too many.
    pub refusal: Frame,
    /// Whether everything else is kept back for it until [`Command::Release`].
    pub hold: bool,
}

/// What the hub is told.
pub enum Command {
    /// Adds an authenticated socket, or renews one that is there.
    Join(Newcomer),
    /// Gives a socket that was held what it missed, then what was kept back for it.
    Release {
        /// Which.
        subscriber: SubscriberRef,
        /// Whose.
        agent: AgentId,
        /// What it missed.
        backlog: Backlog,
    },
    /// The newest message that the database had when it was looked at for the first time, or again.
    Newest(MessageId),
    /// Another daemon on the same database told of its agents.
    Remote(DaemonId, RemotePresence),
    /// Takes an agent's socket out.
    Leave(AgentId, SubscriberId),
    /// Answers one socket, in its turn, if there is something to say, and closes it where there is a code.
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
    /// Closes the sockets of all agents that are not in this list, which was asked for at this time; an agent that was
    /// asked about later is none of its business.
    CloseInactive(HashSet<AgentId>, Instant),
    /// Ends the thread once everything that waits is written.
    Stop,
}

/// What the hub is told at its start.
pub struct HubConfig {
    /// Sockets of one agent.
    pub max_per_agent: usize,
    /// How long an agent without a socket stays online.
    pub presence_grace: std::time::Duration,
    /// Encodes `presence.updated`.
    pub presence: fn(AgentId, bool) -> Frame,
    /// Encodes the agents that are online, for a [`Welcome`].
    pub online: fn(&[AgentId]) -> String,
    /// Is told when an agent's first socket comes here or the last one is gone; must not block.
    pub on_presence: Box<dyn Fn(AgentId, bool) + Send>,
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

    /// Puts a command into the channel; waits where it is full.
    pub fn send(&self, command: Command) {
        // Fails only where the hub has ended, and the process with it.
        let _ = self.commands.send(command);
        self.thread.unpark();
    }

    /// Answers one socket, in its turn, if there is something to say, and closes it where there is a code.
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
        // A channel that waits by itself spins for longer than a small fan-out takes.
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
