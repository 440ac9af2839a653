//! Who is connected, and who is told: the fan-out. One thread owns the lists and takes everything that waits in
//! its queue at once, appends to each recipient's outgoing bytes and writes each touched socket once, so batches
//! grow by themselves exactly when there is load. What the service says goes out in the order it came into this
//! queue, which is what makes two readers see one order.
//!
//! The hub never asks the database, never blocks on a socket and knows no JSON: frames reach it encoded.

mod catching_up;
mod presence;
mod state;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Sender, bounded};

pub use self::catching_up::Backlog;
pub use self::presence::{DaemonId, Presence, RemotePresence};
use self::state::State;
use crate::frame::Frame;
use crate::model::{AgentId, CloseCode, MessageId};
use crate::vital;

/// Commands that may wait; whoever adds one more waits for the hub, which never waits for anybody.
const QUEUE_LENGTH: usize = 4096;

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
    /// Writes what waits, as far as the socket takes it.
    fn flush(&self);
    /// Says goodbye after what waits already; nothing more is accepted.
    fn close(&self, code: CloseCode);
    /// Lets the socket's next event be read, after one that was handed on.
    fn resume(&self);
}

/// A socket that is shared between its reader, the hub and those who answer it.
pub type SubscriberRef = Arc<dyn Subscriber>;

/// Makes the answer to an accepted authentication out of the agents that are online, sorted, and the newest
/// message that went through.
pub type Welcome = Box<dyn FnOnce(&[AgentId], MessageId) -> Frame + Send>;

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

enum Command {
    Join {
        subscriber: SubscriberRef,
        agent: AgentId,
        welcome: Welcome,
        refusal: Frame,
        hold: bool,
    },
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
    Stop,
}

/// What the hub is told at its start.
pub struct HubConfig {
    /// Sockets of one agent.
    pub max_per_agent: usize,
    /// How long an agent without a socket stays online.
    pub presence_grace: Duration,
    /// Encodes `presence.updated`.
    pub presence: fn(AgentId, bool) -> Frame,
    /// Is told when an agent's first socket comes here or his last is gone; must not block.
    pub on_presence: Box<dyn Fn(AgentId, bool) + Send>,
}

/// The way into the hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    commands: Sender<Command>,
    presence: Arc<Mutex<Presence>>,
}

impl Hub {
    /// Starts the hub's thread. It ends after [`Hub::stop`].
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(config: HubConfig) -> io::Result<(Hub, JoinHandle<()>)> {
        let (sender, receiver) = bounded(QUEUE_LENGTH);
        let hub = Hub {
            commands: sender,
            presence: Arc::default(),
        };
        let state = State::new(config, Arc::clone(&hub.presence));
        let thread = thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || {
                let _vital = vital::thread();
                state.run(&receiver);
            })?;
        Ok((hub, thread))
    }

    /// Adds an authenticated socket, or renews one that is there. `refusal` is what it gets, before it is closed,
    /// where its agent has too many. With `hold` everything else is kept back for it until [`Hub::release`];
    /// without, it is resumed.
    pub fn join(
        &self,
        subscriber: SubscriberRef,
        agent: AgentId,
        welcome: Welcome,
        refusal: Frame,
        hold: bool,
    ) {
        self.send(Command::Join {
            subscriber,
            agent,
            welcome,
            refusal,
            hold,
        });
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

    /// Closes the sockets of all agents that are not in this list, which was asked for at `asked`; whoever
    /// came later is none of its business.
    pub fn close_inactive(&self, active: HashSet<AgentId>, asked: Instant) {
        self.send(Command::CloseInactive { active, asked });
    }

    /// Ends the thread once everything that waits is delivered.
    pub fn stop(&self) {
        self.send(Command::Stop);
    }

    /// Another daemon on the same database told of its agents.
    pub fn remote_presence(&self, daemon: DaemonId, told: RemotePresence) {
        self.send(Command::Remote(daemon, told));
    }

    /// How many commands wait.
    pub fn queued(&self) -> usize {
        self.commands.len()
    }

    /// Agents with a socket here, those in their grace included.
    pub fn local_agents(&self) -> BTreeSet<AgentId> {
        self.presence().local().clone()
    }

    /// Whether any agent has a socket here, or had one within his grace.
    pub fn is_anybody_here(&self) -> bool {
        !self.presence().local().is_empty()
    }

    fn presence(&self) -> std::sync::MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, command: Command) {
        // Fails only after the hub's thread has ended, when there is nobody left to tell.
        let _ = self.commands.send(command);
    }
}
