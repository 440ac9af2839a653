//! The hub's thread: the lists, and what each command does to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::catching_up::{Backlog, CatchingUp};
use super::presence::Presence;
use super::{Command, HubConfig, Publication, SubscriberId, SubscriberRef, Weight, Welcome};
use crate::frame::Frame;
use crate::model::{AgentId, CloseCode, MessageId};

/// Commands that are carried out before the sockets are written.
const BATCH: usize = 1024;

#[derive(Default)]
struct Sockets {
    open: Vec<SubscriberRef>,
    /// When the last of them authenticated.
    joined: Option<Instant>,
    /// When the agent goes offline, if no socket comes before.
    offline_at: Option<Instant>,
}

pub(super) struct State {
    config: HubConfig,
    agents: HashMap<AgentId, Sockets>,
    /// Agents in their grace, the earliest first.
    leaving: Vec<(Instant, AgentId)>,
    presence: Arc<Mutex<Presence>>,
    newest: MessageId,
    catching_up: CatchingUp,
    touched: Vec<SubscriberRef>,
    resumed: Vec<SubscriberRef>,
}

impl State {
    pub(super) fn new(config: HubConfig, presence: Arc<Mutex<Presence>>) -> Self {
        State {
            config,
            agents: HashMap::new(),
            leaving: Vec::new(),
            presence,
            newest: MessageId(0),
            catching_up: CatchingUp::default(),
            touched: Vec::new(),
            resumed: Vec::new(),
        }
    }

    /// Carries out commands until it is told to stop.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        let mut running = true;
        while running {
            let grace = self.leaving.first().map(|(deadline, _)| *deadline);
            let expiry = self.presence().next_expiry();
            let first = match grace.into_iter().chain(expiry).min() {
                Some(deadline) => commands.recv_deadline(deadline),
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
            let now = Instant::now();
            self.end_graces(now);
            self.expire_remote(now);
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
            Command::Remote(daemon, told) => {
                let (grace, now) = (self.config.presence_grace, Instant::now());
                let changes = self.presence().set_remote(daemon, told, grace, now);
                self.announce(&changes);
            }
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
        let (change, online) = {
            let mut presence = self.presence();
            let change = presence.set_local(agent, true);
            (change, presence.all())
        };
        let online: Vec<AgentId> = online.into_iter().collect();
        let welcome = welcome(&online, self.newest);
        self.push(&subscriber, &welcome, Weight::Essential);
        if appears && !renewal {
            self.announce(change.as_slice());
            (self.config.on_presence)(agent, true);
        }
        if hold {
            self.catching_up.hold(subscriber.id());
        } else {
            self.resumed.push(subscriber);
        }
    }

    fn release(&mut self, subscriber: &SubscriberRef, agent: AgentId, backlog: Backlog) {
        let id = subscriber.id();
        let Some(frames) = self.catching_up.release(id, backlog) else {
            return;
        };
        for frame in &frames {
            self.push(subscriber, frame, Weight::Essential);
        }
        let is_open = |sockets: &Sockets| sockets.open.iter().any(|one| one.id() == id);
        if !self.agents.get(&agent).is_some_and(is_open) {
            self.catching_up.forget(id);
        }
        self.resumed.push(Arc::clone(subscriber));
    }

    fn leave(&mut self, subscriber: SubscriberId, agent: AgentId) {
        self.catching_up.forget(subscriber);
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
            let change = self.presence().set_local(agent, false);
            self.announce(change.as_slice());
            (self.config.on_presence)(agent, false);
        }
    }

    fn expire_remote(&mut self, now: Instant) {
        let changes = self.presence().expire(now);
        self.announce(&changes);
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&mut self, changes: &[(AgentId, bool)]) {
        for (agent, online) in changes {
            let frame = (self.config.presence)(*agent, *online);
            for (_, sockets) in self.agents.iter().filter(|(other, _)| *other != agent) {
                for subscriber in &sockets.open {
                    if subscriber.push(&frame, Weight::Ephemeral) {
                        self.touched.push(Arc::clone(subscriber));
                    }
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
                let id = subscriber.id();
                if self.catching_up.takes(id, message, frame, weight) {
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
