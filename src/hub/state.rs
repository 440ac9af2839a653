//! The hub's lists, and what each command does to them.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::catching_up::{Backlog, CatchingUp};
use super::presence::Presence;
use super::queue::Queue;
use super::{Command, HubConfig, Publication, SubscriberId, SubscriberRef, Weight, Welcome};
use crate::frame::{Frame, Frames};
use crate::model::{AgentId, CloseCode, MessageId};

/// Commands that are carried out before the sockets are written.
const BATCH: usize = 1024;
/// Sockets that come in together: all get one list of who is online, which may be long.
const JOINS: usize = 64;
/// Sockets that are told of changed presence in one round.
const PRESENCE_SLICE: usize = 256;
/// Pause between two tours with changed presence, for each socket beyond [`PRESENCE_SLICE`]: a few times what it
/// costs to tell it, so that thousands who arrive at once do not spend everybody's time on telling each other.
const PRESENCE_PAUSE: Duration = Duration::from_micros(20);

/// Who is written to in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Everybody.
    All,
    /// Those who wait for it before they go on; the others are left to the next round.
    Waiting,
}

/// A socket of an agent.
struct Seat {
    subscriber: SubscriberRef,
    /// How many changes of presence it knows of, of all there were.
    heard: u64,
}

#[derive(Default)]
struct Sockets {
    open: Vec<Seat>,
    /// When the last of them authenticated.
    joined: Option<Instant>,
    /// When the agent goes offline, if no socket comes before.
    offline_at: Option<Instant>,
}

/// Commands in a row that are carried out together.
enum Run {
    Publications(Vec<Publication>),
    Joins(Vec<Joining>),
}

/// A socket that is let in and not welcomed yet.
struct Joining {
    subscriber: SubscriberRef,
    agent: AgentId,
    welcome: Welcome,
    hold: bool,
}

pub(super) struct State {
    config: HubConfig,
    agents: BTreeMap<AgentId, Sockets>,
    sockets: usize,
    /// Agents in their grace, the earliest first; some may be back.
    leaving: VecDeque<(Instant, AgentId)>,
    presence: Arc<Mutex<Presence>>,
    newest: MessageId,
    catching_up: CatchingUp,
    news: News,
    run: Run,
    taken: Vec<Command>,
    touched: Vec<SubscriberRef>,
    resumed: Vec<SubscriberRef>,
}

/// Changes of presence that not everybody knows of yet.
#[derive(Default)]
struct News {
    frames: Frames,
    /// How many there were before those.
    before: u64,
    /// The tour that is under way: the last agent it has told, and how many changes there were when it began.
    tour: Option<(Option<AgentId>, u64)>,
    /// When the next tour may begin.
    next: Option<Instant>,
}

impl News {
    fn count(&self) -> u64 {
        self.before + self.frames.len() as u64
    }
}

impl State {
    pub(super) fn new(config: HubConfig, presence: Arc<Mutex<Presence>>) -> Self {
        State {
            config,
            agents: BTreeMap::new(),
            sockets: 0,
            leaving: VecDeque::new(),
            presence,
            newest: MessageId(0),
            catching_up: CatchingUp::default(),
            news: News::default(),
            run: Run::Publications(Vec::new()),
            taken: Vec::new(),
            touched: Vec::new(),
            resumed: Vec::new(),
        }
    }

    /// Carries out what waits, and writes it, to all or to those alone who wait for it; when something is due next.
    pub(super) fn round(&mut self, queue: &Queue, extent: Extent) -> Option<Instant> {
        let mut taken = mem::take(&mut self.taken);
        queue.take(BATCH, &mut taken);
        for command in taken.drain(..) {
            self.carry_out(command);
        }
        self.taken = taken;
        self.end_run();
        let now = Instant::now();
        self.end_graces(now);
        let changes = self.presence().expire(now);
        self.announce(&changes);
        self.spread_news(now);
        self.write(extent);
        self.next_due(now)
    }

    fn next_due(&self, now: Instant) -> Option<Instant> {
        if !self.touched.is_empty() {
            return Some(now);
        }
        let grace = self.leaving.front().map(|(deadline, _)| *deadline);
        let expiry = self.presence().next_expiry();
        let news = match (&self.news.tour, self.news.frames.is_empty()) {
            (Some(_), _) => Some(now),
            (None, false) => self.news.next,
            (None, true) => None,
        };
        grace.into_iter().chain(expiry).chain(news).min()
    }

    fn write(&mut self, extent: Extent) {
        // First those who are waiting for it: they go on while the others are being told. What they say next is
        // answered behind what was queued for them, written or not.
        for subscriber in self.resumed.drain(..) {
            subscriber.flush();
            subscriber.resume();
        }
        if extent == Extent::All {
            for subscriber in self.touched.drain(..) {
                subscriber.flush();
            }
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Publish(publication) => return self.add_publication(publication),
            Command::Join {
                subscriber,
                agent,
                welcome,
                refusal,
                hold,
            } => {
                let joining = Joining {
                    subscriber,
                    agent,
                    welcome,
                    hold,
                };
                return self.join(joining, &refusal);
            }
            _ => self.end_run(),
        }
        match command {
            Command::Publish(_) | Command::Join { .. } => {}
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
            Command::CloseInactive { active, asked } => {
                for (agent, sockets) in &self.agents {
                    let is_later = sockets.joined.is_some_and(|joined| joined >= asked);
                    if is_later || active.contains(agent) {
                        continue;
                    }
                    for seat in &sockets.open {
                        seat.subscriber.close(CloseCode::Deactivated);
                    }
                }
            }
        }
    }

    fn push(&mut self, subscriber: &SubscriberRef, frame: &Frame, weight: Weight) {
        if subscriber.push(frame, weight) {
            self.touched.push(Arc::clone(subscriber));
        }
    }

    fn add_publication(&mut self, publication: Publication) {
        if let Run::Publications(run) = &mut self.run {
            let together = run.last().is_none_or(|last| {
                last.weight == publication.weight && last.audience == publication.audience
            });
            if together {
                return run.push(publication);
            }
        }
        self.end_run();
        self.run = Run::Publications(vec![publication]);
    }

    fn end_run(&mut self) {
        match mem::replace(&mut self.run, Run::Publications(Vec::new())) {
            Run::Publications(mut run) => {
                if run.len() == 1 || !self.catching_up.is_empty() {
                    for publication in &run {
                        self.publish(publication);
                    }
                } else if !run.is_empty() {
                    self.publish_all(&run);
                }
                for publication in run.drain(..) {
                    self.newest = self.newest.max(publication.message.unwrap_or(self.newest));
                    self.resumed.extend(publication.resume);
                }
                self.run = Run::Publications(run);
            }
            Run::Joins(run) => self.welcome(run),
        }
    }

    fn publish(&mut self, publication: &Publication) {
        let Publication {
            message,
            audience,
            frame,
            weight,
            own,
            ..
        } = publication;
        for sockets in audience.iter().filter_map(|agent| self.agents.get(agent)) {
            for Seat { subscriber, .. } in &sockets.open {
                let id = subscriber.id();
                let frame = match own {
                    Some((own, instead)) if *own == id => instead.as_ref(),
                    _ => Some(frame),
                };
                let Some(frame) = frame else {
                    continue;
                };
                if self.catching_up.takes(id, *message, frame, *weight) {
                    continue;
                }
                if subscriber.push(frame, *weight) {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
    }

    /// Publications for one audience and of one weight: as one piece for all but those who caused one of them.
    fn publish_all(&mut self, run: &[Publication]) {
        let mut frames = Frames::default();
        let mut causes = Vec::new();
        for publication in run {
            frames.push(&publication.frame);
            causes.extend(publication.own.as_ref().map(|(own, _)| *own));
        }
        causes.sort_unstable();
        causes.dedup();
        let weight = run[0].weight;
        let audience = run[0].audience.iter();
        for sockets in audience.filter_map(|agent| self.agents.get(agent)) {
            for Seat { subscriber, .. } in &sockets.open {
                let id = subscriber.id();
                let first = match causes.binary_search(&id) {
                    Err(_) => subscriber.push_all(&frames, 0, weight),
                    Ok(_) => {
                        let mut own = Frames::default();
                        for publication in run {
                            match &publication.own {
                                Some((own, None)) if *own == id => {}
                                Some((cause, Some(instead))) if *cause == id => own.push(instead),
                                _ => own.push(&publication.frame),
                            }
                        }
                        subscriber.push_all(&own, 0, weight)
                    }
                };
                if first {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
    }

    fn join(&mut self, joining: Joining, refusal: &Frame) {
        let is_full = |run: &Run| match run {
            Run::Joins(run) => run.len() >= JOINS,
            Run::Publications(_) => true,
        };
        if is_full(&self.run) {
            self.end_run();
            // The welcomes of many may be large.
            self.write(Extent::All);
            self.run = Run::Joins(Vec::new());
        }
        let agent = joining.agent;
        let sockets = self.agents.entry(agent).or_default();
        let id = joining.subscriber.id();
        let renewal = sockets.open.iter().any(|seat| seat.subscriber.id() == id);
        if !renewal && sockets.open.len() >= self.config.max_per_agent {
            self.push(&joining.subscriber, refusal, Weight::Essential);
            joining.subscriber.close(CloseCode::Policy);
            self.resumed.push(joining.subscriber);
            return;
        }
        sockets.joined = Some(Instant::now());
        let appears = sockets.open.is_empty() && sockets.offline_at.is_none();
        sockets.offline_at = None;
        if !renewal {
            sockets.open.push(Seat {
                subscriber: Arc::clone(&joining.subscriber),
                heard: 0,
            });
            self.sockets += 1;
        }
        let change = self.presence().set_local(agent, true);
        if appears && !renewal {
            self.announce(change.as_slice());
            (self.config.on_presence)(agent, true);
        }
        if let Run::Joins(run) = &mut self.run {
            run.push(joining);
        }
    }

    /// Tells those who came in together who is there, themselves included.
    fn welcome(&mut self, run: Vec<Joining>) {
        if run.is_empty() {
            return;
        }
        let online: Vec<AgentId> = self.presence().all().into_iter().collect();
        let online = (self.config.online)(&online);
        let heard = self.news.count();
        for Joining {
            subscriber,
            agent,
            welcome,
            hold,
        } in run
        {
            let frame = welcome(&online, self.newest);
            self.push(&subscriber, &frame, Weight::Essential);
            let id = subscriber.id();
            let open = self.agents.get_mut(&agent).map(|sockets| &mut sockets.open);
            let seat =
                open.and_then(|open| open.iter_mut().find(|seat| seat.subscriber.id() == id));
            if let Some(seat) = seat {
                seat.heard = heard;
            }
            if hold {
                self.catching_up.hold(id);
            } else {
                self.resumed.push(subscriber);
            }
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
        let is_open =
            |sockets: &Sockets| sockets.open.iter().any(|seat| seat.subscriber.id() == id);
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
        sockets
            .open
            .retain(|seat| seat.subscriber.id() != subscriber);
        self.sockets -= before - sockets.open.len();
        if before > 0 && sockets.open.is_empty() {
            let deadline = Instant::now() + self.config.presence_grace;
            sockets.offline_at = Some(deadline);
            self.leaving.push_back((deadline, agent));
        }
    }

    fn end_graces(&mut self, now: Instant) {
        while let Some(&(deadline, agent)) = self.leaving.front()
            && deadline <= now
        {
            self.leaving.pop_front();
            let is_away = |sockets: &Sockets| sockets.offline_at == Some(deadline);
            if self.agents.get(&agent).is_some_and(is_away) {
                self.agents.remove(&agent);
                let change = self.presence().set_local(agent, false);
                self.announce(change.as_slice());
                (self.config.on_presence)(agent, false);
            }
        }
    }

    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps changes for all other sockets. An agent's own never hear of him: when he appears his first is only
    /// just coming in, and is welcomed with what is known then; when he goes he has none.
    fn announce(&mut self, changes: &[(AgentId, bool)]) {
        for (agent, online) in changes {
            self.news
                .frames
                .push(&(self.config.presence)(*agent, *online));
        }
    }

    /// Tells some of the sockets what they do not know yet, until all were told. Those who come meanwhile know it
    /// from their welcome.
    fn spread_news(&mut self, now: Instant) {
        let news = &mut self.news;
        if news.frames.is_empty() {
            return;
        }
        let count = news.count();
        let (mut last, goal) = match news.tour.take() {
            Some(tour) => tour,
            None if news.next.is_none_or(|next| next <= now) => (None, count),
            None => return,
        };
        let start = last.map_or(Unbounded, Excluded);
        let mut told = 0;
        for (agent, sockets) in self.agents.range_mut((start, Unbounded)) {
            if told >= PRESENCE_SLICE {
                news.tour = Some((last, goal));
                return;
            }
            for seat in &mut sockets.open {
                let skipped = seat.heard.saturating_sub(news.before) as usize;
                seat.heard = count;
                told += 1;
                if skipped < news.frames.len()
                    && seat
                        .subscriber
                        .push_all(&news.frames, skipped, Weight::Ephemeral)
                {
                    self.touched.push(Arc::clone(&seat.subscriber));
                }
            }
            last = Some(*agent);
        }
        news.frames.drop_first((goal - news.before) as usize);
        news.before = goal;
        let many = self.sockets.saturating_sub(PRESENCE_SLICE) as u32;
        news.next = Some(now + PRESENCE_PAUSE * many);
    }
}
