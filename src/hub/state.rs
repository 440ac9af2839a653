//! The hub's lists, and what each command does to them.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::mem;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::catching_up::{Backlog, CatchingUp};
use super::presence::Presence;
use super::queue::Queue;
use super::{Command, HubConfig, Newcomer, Publication, SubscriberId, SubscriberRef, Weight};
use crate::frame::{Frame, Frames};
use crate::metrics::METRICS;
use crate::model::{AgentId, CloseCode, MessageId, Refusal};

/// Commands that are carried out before the sockets are written.
const BATCH: usize = 1024;
/// Sockets that come in together: all get one list of who is online, which may be long.
const JOINS: usize = 64;
/// Sockets that are told of changed presence in one round.
const PRESENCE_SLICE: usize = 256;
/// So many bytes for one socket are written at once, from where they are: to append them to every recipient's first
/// would take memory for all of them, which costs more to get and to give back than one more write.
const WRITE_THROUGH: usize = 8 * 1024;
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
    /// When the database was last asked about the agent, as far as the sockets say.
    asked: Option<Instant>,
    /// When the agent goes offline, if no socket comes before.
    offline_at: Option<Instant>,
}

/// Commands in a row that are carried out together.
enum Run {
    Publications(Vec<Publication>),
    /// Sockets that are let in and not welcomed yet.
    Joins(Vec<Newcomer>),
}

/// Who is active, as the database said when it was asked.
struct ActivityCheck {
    active: HashSet<AgentId>,
    asked: Instant,
}

impl ActivityCheck {
    /// Whether an agent is active no longer, of whom it was known at `asked` that he was.
    fn rules_out(&self, agent: AgentId, asked: Option<Instant>) -> bool {
        asked.is_none_or(|asked| asked < self.asked) && !self.active.contains(&agent)
    }
}

pub(super) struct State {
    config: HubConfig,
    agents: BTreeMap<AgentId, Sockets>,
    sockets: usize,
    /// Agents in their grace, the earliest first; some may be back.
    leaving: VecDeque<(Instant, AgentId)>,
    presence: Arc<Mutex<Presence>>,
    newest: MessageId,
    /// The last one: who comes in by what was known before it is held to it as well.
    last_check: Option<ActivityCheck>,
    catching_up: CatchingUp,
    news: News,
    run: Run,
    /// Of the present round.
    extent: Extent,
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
            last_check: None,
            catching_up: CatchingUp::default(),
            news: News::default(),
            run: Run::Publications(Vec::new()),
            extent: Extent::All,
            taken: Vec::new(),
            touched: Vec::new(),
            resumed: Vec::new(),
        }
    }

    /// Carries out what waits, and writes it, to all or to those alone who wait for it; when something is due next.
    pub(super) fn round(&mut self, queue: &Queue, extent: Extent) -> Option<Instant> {
        self.extent = extent;
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
        if extent == Extent::All {
            self.spread_news(now);
        }
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
            (None, false) => Some(self.news.next.unwrap_or(now)),
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
            Command::Join(newcomer) => return self.join(newcomer),
            _ => self.end_run(),
        }
        match command {
            Command::Publish(_) | Command::Join(_) => {}
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
                let check = ActivityCheck { active, asked };
                for (agent, sockets) in &self.agents {
                    if check.rules_out(*agent, sockets.asked) {
                        for seat in &sockets.open {
                            seat.subscriber.close(CloseCode::Deactivated);
                        }
                    }
                }
                self.last_check = Some(check);
            }
        }
    }

    fn push(&mut self, subscriber: &SubscriberRef, frame: &Frame, weight: Weight) {
        METRICS.deliveries.add(1);
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
                // Where few are told, who has come is known before what he says.
                if !run.is_empty() && self.sockets <= PRESENCE_SLICE {
                    self.spread_news(Instant::now());
                }
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
                METRICS.deliveries.add(1);
                if subscriber.push(frame, *weight) {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
    }

    /// Publications for one audience and of one weight: as one piece for all but those who caused one of them, who get
    /// what lies between their own in pieces.
    fn publish_all(&mut self, run: &[Publication]) {
        let mut frames = Frames::default();
        // Who caused which, by place.
        let mut causes = Vec::new();
        for (place, publication) in run.iter().enumerate() {
            frames.push(&publication.frame);
            causes.extend(publication.own.as_ref().map(|(own, _)| (*own, place)));
        }
        causes.sort_unstable();
        let weight = run[0].weight;
        let audience = run[0].audience.iter();
        let mut delivered = 0;
        let mut others = Frames::default();
        for sockets in audience.filter_map(|agent| self.agents.get(agent)) {
            for Seat { subscriber, .. } in &sockets.open {
                let id = subscriber.id();
                let first = causes.partition_point(|(cause, _)| *cause < id);
                let own = causes[first..].iter().take_while(|(cause, _)| *cause == id);
                let mut next = 0;
                for (_, place) in own {
                    if next == 0 {
                        others.clear();
                    }
                    others.push_range(&frames, next..*place);
                    if let Some((_, Some(instead))) = &run[*place].own {
                        others.push(instead);
                    }
                    next = place + 1;
                }
                let frames = match next {
                    0 => &frames,
                    _ => {
                        others.push_range(&frames, next..frames.len());
                        &others
                    }
                };
                delivered += frames.len();
                if self.extent == Extent::All && frames.bytes_from(0).len() >= WRITE_THROUGH {
                    subscriber.write_all(frames, 0, weight);
                } else if subscriber.push_all(frames, 0, weight) {
                    self.touched.push(Arc::clone(subscriber));
                }
            }
        }
        METRICS.deliveries.add(delivered as u64);
    }

    fn join(&mut self, newcomer: Newcomer) {
        let together = match &self.run {
            Run::Joins(run) => run.len(),
            Run::Publications(_) => 0,
        };
        if together == 0 || together >= JOINS {
            self.end_run();
            self.run = Run::Joins(Vec::new());
        }
        if together >= JOINS {
            // The welcomes of many may be large.
            self.write(Extent::All);
        }
        let (agent, asked) = (newcomer.agent, newcomer.asked);
        if let Some(check) = &self.last_check
            && check.rules_out(agent, Some(asked))
        {
            newcomer.subscriber.close(CloseCode::Deactivated);
            self.resumed.push(newcomer.subscriber);
            return;
        }
        let sockets = self.agents.entry(agent).or_default();
        let id = newcomer.subscriber.id();
        let renewal = sockets.open.iter().any(|seat| seat.subscriber.id() == id);
        if !renewal && sockets.open.len() >= self.config.max_per_agent {
            METRICS.refused(Refusal::TooManyConnections);
            self.push(&newcomer.subscriber, &newcomer.refusal, Weight::Essential);
            newcomer.subscriber.close(CloseCode::Policy);
            self.resumed.push(newcomer.subscriber);
            return;
        }
        sockets.asked = sockets.asked.max(Some(asked));
        let appears = sockets.open.is_empty() && sockets.offline_at.is_none();
        sockets.offline_at = None;
        if !renewal {
            sockets.open.push(Seat {
                subscriber: Arc::clone(&newcomer.subscriber),
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
            run.push(newcomer);
        }
    }

    /// Tells those who came in together who is there, themselves included.
    fn welcome(&mut self, run: Vec<Newcomer>) {
        if run.is_empty() {
            return;
        }
        let online: Vec<AgentId> = self.presence().all().into_iter().collect();
        let online = (self.config.online)(&online);
        let heard = self.news.count();
        for newcomer in run {
            let (subscriber, agent) = (newcomer.subscriber, newcomer.agent);
            let frame = (newcomer.welcome)(&online, self.newest);
            self.push(&subscriber, &frame, Weight::Essential);
            let id = subscriber.id();
            let open = self.agents.get_mut(&agent).map(|sockets| &mut sockets.open);
            let seat =
                open.and_then(|open| open.iter_mut().find(|seat| seat.subscriber.id() == id));
            if let Some(seat) = seat {
                seat.heard = heard;
            }
            if newcomer.hold {
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
                METRICS
                    .deliveries
                    .add(news.frames.len().saturating_sub(skipped) as u64);
                if skipped >= news.frames.len() {
                    continue;
                }
                let (subscriber, frames) = (&seat.subscriber, &news.frames);
                if frames.bytes_from(skipped).len() >= WRITE_THROUGH {
                    subscriber.write_all(frames, skipped, Weight::Ephemeral);
                } else if subscriber.push_all(frames, skipped, Weight::Ephemeral) {
                    self.touched.push(Arc::clone(subscriber));
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
