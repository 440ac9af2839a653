//! Who is connected, and who is told: the fan-out. One thread owns the lists and takes everything that waits in
//! its queue at once, appends to each recipient's outgoing bytes and writes each touched socket once, so batches
//! grow by themselves exactly when there is load. What the service says goes out in the order it came into this
//! queue, which is what makes two readers see one order.
//!
//! The hub never asks the database, never blocks on a socket and knows no JSON: frames reach it encoded.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::frame::Frame;
use crate::model::{AgentId, CloseCode, MessageId};

/// Commands that may wait; whoever adds one more waits for the hub, which never waits for anybody.
const QUEUE_LENGTH: usize = 4096;
/// Commands that are carried out before the sockets are written.
const BATCH: usize = 1024;

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

/// What a socket missed while it was away.
#[derive(Default)]
pub struct Backlog {
    /// Messages, ascending by id.
    pub messages: Vec<(MessageId, Frame)>,
    /// What it gets after them.
    pub done: Option<Frame>,
}

/// How long a socket that got a message from the database is not told of it a second time by whoever is late.
const DOUBLE_WINDOW: Duration = Duration::from_secs(60);

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
}

/// The way into the hub; cheap to clone.
#[derive(Clone)]
pub struct Hub {
    commands: Sender<Command>,
    online: Arc<Mutex<BTreeSet<AgentId>>>,
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
            online: Arc::default(),
        };
        let state = State {
            config,
            agents: HashMap::new(),
            leaving: Vec::new(),
            online: Arc::clone(&hub.online),
            newest: MessageId(0),
            catching_up: HashMap::new(),
            touched: Vec::new(),
            resumed: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("hub".to_owned())
            .spawn(move || state.run(&receiver))?;
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

    /// Agents that are online now, those in their grace included.
    pub fn online_agents(&self) -> usize {
        self.online
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    fn send(&self, command: Command) {
        // Fails only after the hub's thread has ended, when there is nobody left to tell.
        let _ = self.commands.send(command);
    }
}

#[derive(Default)]
struct Sockets {
    open: Vec<SubscriberRef>,
    /// When the last of them authenticated.
    joined: Option<Instant>,
    /// When the agent goes offline, if no socket comes before.
    offline_at: Option<Instant>,
}

/// A socket between what it missed and what is live.
enum CatchingUp {
    /// What was published since it joined.
    Held(Vec<(Option<MessageId>, Frame)>),
    /// Messages that it got out of the database; whoever publishes them late tells it nothing new.
    Knows(HashSet<MessageId>, Instant),
}

struct State {
    config: HubConfig,
    agents: HashMap<AgentId, Sockets>,
    /// Agents in their grace, the earliest first.
    leaving: Vec<(Instant, AgentId)>,
    online: Arc<Mutex<BTreeSet<AgentId>>>,
    newest: MessageId,
    catching_up: HashMap<SubscriberId, CatchingUp>,
    touched: Vec<SubscriberRef>,
    resumed: Vec<SubscriberRef>,
}

impl State {
    fn run(mut self, commands: &Receiver<Command>) {
        let mut running = true;
        while running {
            let first = match self.leaving.first() {
                Some((deadline, _)) => commands.recv_deadline(*deadline),
                None => commands.recv().map_err(RecvTimeoutError::from),
            };
            match first {
                Ok(command) => {
                    running = self.carry_out(command);
                    for command in commands.try_iter().take(BATCH) {
                        running &= self.carry_out(command);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => running = false,
            }
            self.end_graces(Instant::now());
            for subscriber in self.touched.drain(..) {
                subscriber.flush();
            }
            // Only now: the next event's answer must not overtake what was written for this one.
            for subscriber in self.resumed.drain(..) {
                subscriber.resume();
            }
        }
    }

    fn carry_out(&mut self, command: Command) -> bool {
        match command {
            Command::Join {
                subscriber,
                agent,
                welcome,
                refusal,
                hold,
            } => self.join(subscriber, agent, welcome, &refusal, hold),
            Command::Release {
                subscriber,
                agent,
                backlog,
            } => self.release(&subscriber, agent, backlog),
            Command::Newest(id) => self.newest = self.newest.max(id),
            Command::Leave { subscriber, agent } => self.leave(subscriber, agent),
            Command::Answer {
                to,
                frame,
                close,
                resume,
            } => {
                if let Some(frame) = frame {
                    self.push(&to, &frame, Weight::Essential);
                }
                if let Some(code) = close {
                    to.close(code);
                }
                if resume {
                    self.resumed.push(to);
                }
            }
            Command::Publish(publication) => self.publish(publication),
            Command::CloseInactive { active, asked } => {
                let gone = |agent: &AgentId, sockets: &Sockets| {
                    !active.contains(agent) && sockets.joined.is_none_or(|joined| joined < asked)
                };
                for (_, sockets) in self
                    .agents
                    .iter()
                    .filter(|(agent, sockets)| gone(agent, sockets))
                {
                    for subscriber in &sockets.open {
                        subscriber.close(CloseCode::Deactivated);
                    }
                }
            }
            Command::Stop => return false,
        }
        true
    }

    fn push(&mut self, subscriber: &SubscriberRef, frame: &Frame, weight: Weight) {
        if subscriber.push(frame, weight) {
            self.touched.push(Arc::clone(subscriber));
        }
    }

    fn join(
        &mut self,
        subscriber: SubscriberRef,
        agent: AgentId,
        welcome: Welcome,
        refusal: &Frame,
        hold: bool,
    ) {
        let sockets = self.agents.entry(agent).or_default();
        let renewal = sockets.open.iter().any(|one| one.id() == subscriber.id());
        if !renewal && sockets.open.len() >= self.config.max_per_agent {
            self.push(&subscriber, refusal, Weight::Essential);
            subscriber.close(CloseCode::Policy);
            self.resumed.push(subscriber);
            return;
        }
        sockets.joined = Some(Instant::now());
        let appears = sockets.open.is_empty() && sockets.offline_at.take().is_none();
        if !renewal {
            sockets.open.push(Arc::clone(&subscriber));
            self.leaving.retain(|(_, leaving)| *leaving != agent);
        }
        let online: Vec<AgentId> = {
            let mut online = self.online.lock().unwrap_or_else(PoisonError::into_inner);
            online.insert(agent);
            online.iter().copied().collect()
        };
        let welcome = welcome(&online, self.newest);
        self.push(&subscriber, &welcome, Weight::Essential);
        if appears && !renewal {
            self.announce(agent, true);
        }
        if hold {
            self.catching_up
                .insert(subscriber.id(), CatchingUp::Held(Vec::new()));
        } else {
            self.resumed.push(subscriber);
        }
    }

    fn release(&mut self, subscriber: &SubscriberRef, agent: AgentId, backlog: Backlog) {
        let id = subscriber.id();
        let Some(CatchingUp::Held(held)) = self.catching_up.remove(&id) else {
            return;
        };
        let known: HashSet<MessageId> = backlog.messages.iter().map(|(id, _)| *id).collect();
        // One piece, which a socket always takes, however large.
        let frames: Vec<&Frame> = backlog
            .messages
            .iter()
            .map(|(_, frame)| frame)
            .chain(&backlog.done)
            .collect();
        if !frames.is_empty() {
            self.push(subscriber, &Frame::joined(&frames), Weight::Essential);
        }
        for (message, frame) in &held {
            if !message.is_some_and(|message| known.contains(&message)) {
                self.push(subscriber, frame, Weight::Essential);
            }
        }
        let is_open = |sockets: &Sockets| sockets.open.iter().any(|one| one.id() == id);
        if !known.is_empty() && self.agents.get(&agent).is_some_and(is_open) {
            self.catching_up
                .insert(id, CatchingUp::Knows(known, Instant::now()));
        }
        self.resumed.push(Arc::clone(subscriber));
    }

    /// Whether a socket that is catching up takes care of a frame itself.
    fn catches(
        catching_up: &mut HashMap<SubscriberId, CatchingUp>,
        subscriber: SubscriberId,
        message: Option<MessageId>,
        frame: &Frame,
        weight: Weight,
    ) -> bool {
        match catching_up.get_mut(&subscriber) {
            None => false,
            Some(CatchingUp::Held(held)) => {
                if weight == Weight::Essential {
                    held.push((message, frame.clone()));
                }
                true
            }
            Some(CatchingUp::Knows(known, since)) => {
                let doubled = message.is_some_and(|message| known.contains(&message));
                if since.elapsed() >= DOUBLE_WINDOW {
                    catching_up.remove(&subscriber);
                }
                doubled
            }
        }
    }

    fn leave(&mut self, subscriber: SubscriberId, agent: AgentId) {
        self.catching_up.remove(&subscriber);
        let Some(sockets) = self.agents.get_mut(&agent) else {
            return;
        };
        let before = sockets.open.len();
        sockets.open.retain(|one| one.id() != subscriber);
        if before > 0 && sockets.open.is_empty() {
            let deadline = Instant::now() + self.config.presence_grace;
            sockets.offline_at = Some(deadline);
            self.leaving.push((deadline, agent));
        }
    }

    fn end_graces(&mut self, now: Instant) {
        while let Some(&(deadline, agent)) = self.leaving.first() {
            if deadline > now {
                return;
            }
            self.leaving.remove(0);
            self.agents.remove(&agent);
            self.online
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&agent);
            self.announce(agent, false);
        }
    }

    fn announce(&mut self, agent: AgentId, online: bool) {
        let frame = (self.config.presence)(agent, online);
        for (_, sockets) in self.agents.iter().filter(|(other, _)| **other != agent) {
            for subscriber in &sockets.open {
                if subscriber.push(&frame, Weight::Ephemeral) {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
    }

    fn publish(&mut self, publication: Publication) {
        let Publication {
            message,
            audience,
            frame,
            weight,
            own,
            resume,
        } = publication;
        if let Some(message) = message {
            self.newest = self.newest.max(message);
        }
        for sockets in audience.iter().filter_map(|agent| self.agents.get(agent)) {
            for subscriber in &sockets.open {
                let frame = match &own {
                    Some((id, instead)) if *id == subscriber.id() => instead.as_ref(),
                    _ => Some(&frame),
                };
                let Some(frame) = frame else {
                    continue;
                };
                if !self.catching_up.is_empty()
                    && Self::catches(
                        &mut self.catching_up,
                        subscriber.id(),
                        message,
                        frame,
                        weight,
                    )
                {
                    continue;
                }
                if subscriber.push(frame, weight) {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
        self.resumed.extend(resume);
    }
}
