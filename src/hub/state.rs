//! The hub's state, and how each command changes it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::presence::{Presence, PresenceChange};
use super::replay::{Backlog, Replay};
use super::{
    Command, HubConfig, Newcomer, Publication, Queued, SubscriberId, SubscriberRef, Weight,
};
use crate::model::{AgentId, CloseCode, MessageId, Refusal};
use crate::platform::log_throttle::LogThrottle;
use crate::platform::metrics::{Limit, METRICS};
use crate::platform::threads::lock;
use crate::protocol::frame::{Frame, Frames};

/// Most newcomers that are welcomed together: they share one encoded list of who is online, which may be long.
const JOINS: usize = 64;
/// Sockets that are told of changed presence in one batch, so that messages need not wait for all of them.
const PRESENCE_SLICE: usize = 256;
/// Pause between two rounds of changed presence, for each socket beyond [`PRESENCE_SLICE`]: a few times the cost of telling
/// it. Otherwise, when thousands of agents arrive at once, presence would take all of the hub's time.
const PRESENCE_PAUSE: Duration = Duration::from_micros(20);

/// One socket of an agent.
struct Subscription {
    subscriber: SubscriberRef,
    /// How many of all changes of presence so far it knows.
    presence_seen: u64,
    replay: Option<Replay>,
}

/// An agent's sockets.
#[derive(Default)]
struct ConnectedAgent {
    open: Vec<Subscription>,
    /// When the database was last asked about the agent, for any of these sockets.
    asked: Option<Instant>,
    /// When the agent goes offline, unless a socket comes before.
    offline_at: Option<Instant>,
}

/// Which agents are active, as the database said when it was asked.
struct ActivityCheck {
    active: HashSet<AgentId>,
    asked: Instant,
}

impl ActivityCheck {
    /// Whether the agent is inactive by this check, and was last known to be active (`asked`) before it.
    fn rules_out(&self, agent: AgentId, asked: Option<Instant>) -> bool {
        asked.is_none_or(|asked| asked < self.asked) && !self.active.contains(&agent)
    }
}

/// Changes of presence not yet sent to every socket.
#[derive(Default)]
struct PresenceQueue {
    frames: Frames,
    /// How many changes were dropped from `frames` already.
    before: u64,
    /// The round that is under way: the last agent that was told, and how many changes there were when it began.
    round: Option<(Option<AgentId>, u64)>,
    /// When the next round may begin.
    next: Option<Instant>,
}

impl PresenceQueue {
    fn count(&self) -> u64 {
        self.before + self.frames.len() as u64
    }
}

pub(super) struct HubState {
    config: HubConfig,
    agents: BTreeMap<AgentId, ConnectedAgent>,
    sockets: usize,
    /// Agents in their grace, the earliest first; some may be back.
    leaving: VecDeque<(Instant, AgentId)>,
    presence: Arc<Mutex<Presence>>,
    newest: MessageId,
    /// The last check. It also rules out agents that join after it with an older answer from memory.
    last_check: Option<ActivityCheck>,
    presence_queue: PresenceQueue,
    /// Consecutive publications with one audience and one weight, which are appended as one piece.
    run: Vec<Publication>,
    /// Consecutive newcomers, not welcomed yet.
    joining: Vec<Newcomer>,
    /// Sockets to flush: first those that were answered, then the others.
    answered: Vec<SubscriberRef>,
    touched: Vec<SubscriberRef>,
    /// When the messages of this batch were committed.
    committed: Vec<Instant>,
    /// Agents that were refused another connection.
    per_agent_log: LogThrottle,
}

impl HubState {
    pub(super) fn new(config: HubConfig, presence: Arc<Mutex<Presence>>) -> Self {
        HubState {
            config,
            agents: BTreeMap::new(),
            sockets: 0,
            leaving: VecDeque::new(),
            presence,
            newest: MessageId(0),
            last_check: None,
            presence_queue: PresenceQueue::default(),
            run: Vec::new(),
            joining: Vec::new(),
            answered: Vec::new(),
            touched: Vec::new(),
            committed: Vec::new(),
            per_agent_log: LogThrottle::default(),
        }
    }

    /// Applies one command of a batch.
    pub(super) fn apply(&mut self, command: Command) {
        if !matches!(command, Command::Join(_)) {
            self.welcome();
        }
        if !matches!(command, Command::Publish(_)) {
            self.end_run();
        }
        match command {
            Command::Publish(publication) => self.add_to_run(publication),
            Command::Join(newcomer) => self.join(newcomer),
            Command::Release {
                subscriber,
                agent,
                backlog,
            } => self.release(&subscriber, agent, backlog),
            Command::Newest(id) => self.newest = self.newest.max(id),
            Command::Remote(daemon, told) => {
                let (grace, now) = (self.config.presence_grace, Instant::now());
                let changes = lock(&self.presence).set_remote(daemon, told, grace, now);
                self.announce(&changes);
            }
            Command::Leave(agent, subscriber) => self.leave(subscriber, agent),
            Command::Answer { to, frame, close } => {
                if let Some(frame) = frame {
                    self.answer(&to, &frame);
                }
                if let Some(code) = close {
                    to.close(code);
                }
            }
            Command::CloseInactive(active, asked) => {
                let check = ActivityCheck { active, asked };
                for (id, agent) in &self.agents {
                    if check.rules_out(*id, agent.asked) {
                        for one in &agent.open {
                            one.subscriber.close(CloseCode::Deactivated);
                        }
                    }
                }
                self.last_check = Some(check);
            }
            Command::Stop => {}
        }
    }

    /// Ends a batch: does what is due, then writes every touched socket. Returns when something is due next.
    pub(super) fn end_batch(&mut self, now: Instant) -> Option<Instant> {
        self.welcome();
        self.end_run();
        self.end_graces(now);
        let changes = lock(&self.presence).expire(now);
        self.announce(&changes);
        self.spread_presence(now);
        self.flush();
        let too_many = "connections closed beyond what an agent may have";
        self.per_agent_log.settle(too_many, now);
        let grace = self.leaving.front().map(|(deadline, _)| *deadline);
        let expiry = lock(&self.presence).next_expiry();
        let queue = &self.presence_queue;
        let round = (!queue.frames.is_empty()).then(|| queue.next.unwrap_or(now));
        grace.into_iter().chain(expiry).chain(round).min()
    }

    fn flush(&mut self) {
        for subscriber in self.answered.drain(..).chain(self.touched.drain(..)) {
            subscriber.flush();
        }
        for committed in self.committed.drain(..) {
            METRICS.delivery.add(committed.elapsed());
        }
    }

    fn answer(&mut self, subscriber: &SubscriberRef, frame: &Frame) {
        METRICS.deliveries.add(1);
        if subscriber.push(&frame.into(), 0, Weight::Essential) == Queued::NeedsFlush {
            self.answered.push(Arc::clone(subscriber));
        }
    }

    fn add_to_run(&mut self, publication: Publication) {
        let together = self.run.last().is_none_or(|last| {
            last.weight == publication.weight && last.audience == publication.audience
        });
        if !together {
            self.end_run();
        }
        self.run.push(publication);
    }

    fn end_run(&mut self) {
        if self.run.is_empty() {
            return;
        }
        // With few sockets, presence goes first: an agent is seen online before its message is.
        if self.sockets <= PRESENCE_SLICE {
            self.spread_presence(Instant::now());
        }
        let run = mem::take(&mut self.run);
        self.publish(&run);
        for publication in &run {
            self.newest = self.newest.max(publication.message.unwrap_or(self.newest));
            self.committed.extend(publication.committed);
        }
        self.run = run;
        self.run.clear();
    }

    /// Queues a run as one piece for each socket. Sockets that caused one of the publications, or asked for what they
    /// missed, get a piece of their own.
    fn publish(&mut self, run: &[Publication]) {
        let mut frames = Frames::default();
        // Which socket caused the publication at which place.
        let mut causes = Vec::new();
        for (place, publication) in run.iter().enumerate() {
            frames.push(&publication.frame);
            causes.extend(publication.own.as_ref().map(|(own, _)| (*own, place)));
        }
        causes.sort_unstable();
        let weight = run[0].weight;
        let now = Instant::now();
        let mut delivered = 0;
        for id in run[0].audience.iter() {
            let Some(agent) = self.agents.get_mut(id) else {
                continue;
            };
            for one in &mut agent.open {
                let id = one.subscriber.id();
                let first = causes.partition_point(|(cause, _)| *cause < id);
                let own = causes[first..].iter().take_while(|(cause, _)| *cause == id);
                let own: Vec<usize> = own.map(|(_, place)| *place).collect();
                one.replay.take_if(|replay| replay.is_over(now));
                let special;
                let frames = match own.is_empty() && one.replay.is_none() {
                    true => &frames,
                    false => {
                        special = frames_for(run, &own, one.replay.as_mut());
                        &special
                    }
                };
                delivered += frames.len();
                if one.subscriber.push(frames, 0, weight) == Queued::NeedsFlush {
                    match own.is_empty() {
                        true => self.touched.push(Arc::clone(&one.subscriber)),
                        false => self.answered.push(Arc::clone(&one.subscriber)),
                    }
                }
            }
        }
        METRICS.deliveries.add(delivered as u64);
    }

    fn join(&mut self, newcomer: Newcomer) {
        if self.joining.len() >= JOINS {
            self.welcome();
            // Welcomes may be large: written before more are queued.
            self.flush();
        }
        let (id, asked) = (newcomer.agent, newcomer.asked);
        if let Some(check) = &self.last_check
            && check.rules_out(id, Some(asked))
        {
            return newcomer.subscriber.close(CloseCode::Deactivated);
        }
        let agent = self.agents.entry(id).or_default();
        let subscriber = newcomer.subscriber.id();
        let is_renewal = agent
            .open
            .iter()
            .any(|one| one.subscriber.id() == subscriber);
        if !is_renewal && agent.open.len() >= self.config.max_per_agent {
            METRICS.errors.count(Refusal::TooManyConnections.code());
            METRICS.limits.count(Limit::PerAgent.name());
            self.per_agent_log.warn(|| {
                format!(
                    "{}: closed, agent {} has as many connections as one may have ({}, \
                     CHAT_WEBSOCKET_MAX_PER_AGENT)",
                    newcomer.subscriber.name(),
                    id.0,
                    self.config.max_per_agent
                )
            });
            self.answer(&newcomer.subscriber, &newcomer.refusal);
            return newcomer.subscriber.close(CloseCode::Policy);
        }
        agent.asked = agent.asked.max(Some(asked));
        let appears = agent.open.is_empty() && agent.offline_at.is_none();
        agent.offline_at = None;
        if !is_renewal {
            agent.open.push(Subscription {
                subscriber: Arc::clone(&newcomer.subscriber),
                presence_seen: 0,
                replay: None,
            });
            self.sockets += 1;
        }
        if appears {
            self.set_presence(id, true);
        }
        self.joining.push(newcomer);
    }

    /// Tells those who came in together who is online, themselves included.
    fn welcome(&mut self) {
        if self.joining.is_empty() {
            return;
        }
        let online: Vec<AgentId> = lock(&self.presence).all().into_iter().collect();
        let online = (self.config.online)(&online);
        let seen = self.presence_queue.count();
        for newcomer in mem::take(&mut self.joining) {
            let frame = (newcomer.welcome)(&online, self.newest);
            self.answer(&newcomer.subscriber, &frame);
            let id = newcomer.subscriber.id();
            if let Some(one) = self.subscription(newcomer.agent, id) {
                one.presence_seen = seen;
                if newcomer.is_held {
                    one.replay = Some(Replay::Holding(Vec::new()));
                }
            }
        }
    }

    fn subscription(&mut self, agent: AgentId, id: SubscriberId) -> Option<&mut Subscription> {
        let open = &mut self.agents.get_mut(&agent)?.open;
        open.iter_mut().find(|one| one.subscriber.id() == id)
    }

    fn release(&mut self, subscriber: &SubscriberRef, agent: AgentId, backlog: Backlog) {
        let Some(one) = self.subscription(agent, subscriber.id()) else {
            return;
        };
        let Some((frames, replay)) = one.replay.take().and_then(|replay| replay.release(backlog))
        else {
            return;
        };
        one.replay = replay;
        for frame in &frames {
            self.answer(subscriber, frame);
        }
    }

    fn leave(&mut self, subscriber: SubscriberId, id: AgentId) {
        let Some(agent) = self.agents.get_mut(&id) else {
            return;
        };
        let before = agent.open.len();
        agent.open.retain(|one| one.subscriber.id() != subscriber);
        self.sockets -= before - agent.open.len();
        if before > 0 && agent.open.is_empty() {
            let deadline = Instant::now() + self.config.presence_grace;
            agent.offline_at = Some(deadline);
            self.leaving.push_back((deadline, id));
        }
    }

    fn end_graces(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.leaving.front()
            && deadline <= now
        {
            self.leaving.pop_front();
            let is_away = |agent: &ConnectedAgent| agent.offline_at == Some(deadline);
            if self.agents.get(&id).is_some_and(is_away) {
                self.agents.remove(&id);
                self.set_presence(id, false);
            }
        }
    }

    /// An agent's first socket came here, or its last one is gone for good.
    fn set_presence(&mut self, agent: AgentId, is_online: bool) {
        let here = PresenceChange { agent, is_online };
        let change = lock(&self.presence).set_local(here);
        self.announce(change.as_slice());
        (self.config.on_presence)(here);
    }

    /// Queues changes for all other sockets. An agent's own sockets do not get them: when it appears, its only socket learns
    /// who is online from its welcome; when it goes, it has no socket.
    fn announce(&mut self, changes: &[PresenceChange]) {
        for change in changes {
            let frame = (self.config.presence)(*change);
            self.presence_queue.frames.push(&frame);
        }
    }

    /// Tells the next slice of sockets the changes of presence that they do not know yet. Sockets that join during a round
    /// know them from their welcome.
    fn spread_presence(&mut self, now: Instant) {
        let queue = &mut self.presence_queue;
        if queue.frames.is_empty() {
            return;
        }
        let count = queue.count();
        let (mut last, goal) = match queue.round.take() {
            Some(round) => round,
            None if queue.next.is_none_or(|next| next <= now) => (None, count),
            None => return,
        };
        let start = last.map_or(Unbounded, Excluded);
        let mut told = 0;
        for (id, agent) in self.agents.range_mut((start, Unbounded)) {
            if told >= PRESENCE_SLICE {
                queue.round = Some((last, goal));
                return;
            }
            for one in &mut agent.open {
                let skipped = one.presence_seen.saturating_sub(queue.before) as usize;
                one.presence_seen = count;
                told += 1;
                if skipped >= queue.frames.len() {
                    continue;
                }
                let (subscriber, frames) = (&one.subscriber, &queue.frames);
                METRICS.deliveries.add((frames.len() - skipped) as u64);
                if subscriber.push(frames, skipped, Weight::Ephemeral) == Queued::NeedsFlush {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
            last = Some(*id);
        }
        queue.frames.drop_first((goal - queue.before) as usize);
        queue.before = goal;
        let many = self.sockets.saturating_sub(PRESENCE_SLICE) as u32;
        queue.next = Some(now + PRESENCE_PAUSE * many);
    }
}

/// A run for a socket that caused the publications at the places `own`, or that asked for what it missed.
fn frames_for(run: &[Publication], own: &[usize], mut replay: Option<&mut Replay>) -> Frames {
    let mut frames = Frames::default();
    for (place, publication) in run.iter().enumerate() {
        let frame = match &publication.own {
            Some((_, instead)) if own.contains(&place) => instead.as_ref(),
            _ => Some(&publication.frame),
        };
        let (message, weight) = (publication.message, publication.weight);
        if let Some(frame) = frame
            && !replay
                .as_mut()
                .is_some_and(|replay| replay.withholds(message, frame, weight))
        {
            frames.push(frame);
        }
    }
    frames
}
