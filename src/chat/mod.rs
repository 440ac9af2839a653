//! The rules that need the database or the other sockets. A session returns requests; their results go to sockets through
//! the hub. No socket and no SQL here, and JSON only through `protocol`.
//!
//! A request runs on its connection's thread. Messages go over a channel to one thread that stores them
//! (`commit`); other queries go to the query threads (`ask`), and the connection's thread waits for the answer.

mod ask;
mod commit;
mod dedup;
mod pending;
mod poller;
mod queries;
mod resume;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};

pub use self::ask::{Question, Questions, run as run_queries};
pub use self::commit::{CommitOrder, run as run_commit};
pub use self::pending::PendingPost;
pub use self::poller::run as run_poller;
use crate::auth::{Claims, TokenVerifier};
use crate::bus::Bus;
use crate::config::limits::{Limits, RECHECK_INTERVAL, STORE_TIMEOUT};
use crate::config::settings::Settings;
use crate::feed::Feed;
use crate::hub::{Command, Hub, Publication, SubscriberId, SubscriberRef, Weight};
use crate::model::{Agent, AgentId, AuthFailure, CloseCode, Conversation, Refusal};
use crate::platform::log_throttle::{LimitLog, LogThrottle};
use crate::platform::metrics::METRICS;
use crate::platform::threads::{Threads, lock};
use crate::protocol::frame::Frame;
use crate::protocol::{self, Ref};
use crate::push;
use crate::session::{Admission, Post, RateLimiter};
use crate::store::{Failure, StoreError};

/// Refusals that are logged in one interval of a throttle: enough to see what is wrong, too few to fill a disk.
const REFUSALS: u64 = 10;

/// What all connections share.
pub struct Chat {
    /// The fan-out.
    pub hub: Hub,
    /// The way to other daemons on the same database, if a bus is configured.
    pub bus: Option<Bus>,
    /// Web Push, to browsers without an open window, if this build has it.
    pub push: Option<push::Queue>,
    /// The way by which messages reach the hub.
    pub feed: Feed,
    /// Recognises messages that are sent again.
    pub dedup: dedup::Dedup,
    /// The critical threads of this service.
    pub threads: Threads,
    /// Limits and intervals.
    pub limits: Limits,
    /// Logs limits that are hit.
    pub limit_log: LimitLog,
    /// Logs requests that were refused.
    pub refusal_log: LogThrottle,
    /// Logs authentications that failed.
    pub auth_log: LogThrottle,
    /// Checks tokens.
    pub verifier: TokenVerifier,
    posts: Sender<CommitOrder>,
    /// `None` once the service is stopping.
    questions: Mutex<Option<[Sender<Question>; 2]>>,
    settings: Mutex<Arc<Settings>>,
    /// Members of conversations; used only for typing.
    memberships: Recent<Conversation, Arc<[AgentId]>>,
    /// Rate limits that all sockets of an agent share.
    rates: Mutex<HashMap<AgentId, RateLimiter>>,
    /// Agents that wait for a heavy question.
    asking: Mutex<HashSet<AgentId>>,
    /// Signalled when one of them waits no longer.
    asked: Condvar,
    /// Active agents: a reloaded page needs no second query, nor do all pages after a restart of the proxy.
    agents: Recent<AgentId, Arc<Agent>>,
}

/// The receiving ends for the commit thread and the query threads.
pub type Channels = (Receiver<CommitOrder>, Questions);

impl Chat {
    /// A chat without clients, and the receiving ends for its threads. The channels need no bound: a connection waits for
    /// at most one message and one question, and what it no longer waits for is skipped.
    pub fn new(
        threads: Threads,
        hub: Hub,
        bus: Option<Bus>,
        push: Option<push::Queue>,
        limits: Limits,
        verifier: TokenVerifier,
        settings: Settings,
    ) -> (Self, Channels) {
        let (posts, posted) = unbounded();
        let (light, light_asked) = unbounded();
        let (heavy, heavy_asked) = unbounded();
        let chat = Chat {
            hub,
            bus,
            push,
            feed: Feed::default(),
            dedup: dedup::Dedup::default(),
            threads,
            limits,
            limit_log: LimitLog::default(),
            refusal_log: LogThrottle::new(REFUSALS),
            auth_log: LogThrottle::new(REFUSALS),
            verifier,
            posts,
            questions: Mutex::new(Some([light, heavy])),
            settings: Mutex::new(Arc::new(settings)),
            memberships: Recent::default(),
            rates: Mutex::default(),
            asking: Mutex::default(),
            asked: Condvar::new(),
            agents: Recent::default(),
        };
        (chat, (posted, [light_asked, heavy_asked]))
    }

    /// The settings as of now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&lock(&self.settings))
    }

    /// Takes over settings that were read again. Returns what has changed, if anything has.
    pub fn set_settings(&self, settings: Settings) -> Option<String> {
        let mut current = lock(&self.settings);
        let differ = **current != settings;
        differ.then(|| {
            let changes = current.changes(&settings);
            *current = Arc::new(settings);
            changes
        })
    }

    /// The active agent that a token names, and when the database was asked about it. If it `may_be_remembered`, a recent answer
    /// in memory is enough. `None`: the socket was told why not, and is being closed.
    pub fn authenticate(
        &self,
        to: &SubscriberRef,
        claims: &Claims,
        may_be_remembered: bool,
        reference: Option<&Ref>,
    ) -> Option<(Arc<Agent>, Instant)> {
        let (id, now) = (claims.agent, Instant::now());
        if may_be_remembered && let Some(known) = self.agents.get(&id, now) {
            return Some(known);
        }
        let (text, code) = match self.ask(move |store| store.active_agent(id)) {
            Ok(Some(agent)) => {
                let agent = Arc::new(agent);
                self.agents.insert(id, Arc::clone(&agent), now);
                return Some((agent, now));
            }
            Ok(None) => {
                METRICS.auth_failures.add(1);
                self.auth_log.warn(|| {
                    let client = to.name();
                    format!(
                        "{client}: authentication failed: agent {id} does not exist or is inactive"
                    )
                });
                let text = protocol::auth_failed(AuthFailure::UnknownAgent);
                (text, CloseCode::Unauthorised)
            }
            Err(error) => {
                // The socket is of no use while its agent is unknown; the client reconnects by itself.
                let refusal = refusal(&error);
                METRICS.errors.count(refusal.code());
                (protocol::error(refusal), CloseCode::TryAgainLater)
            }
        };
        let frame = Frame::text(&protocol::with_ref(text, reference));
        self.hub.answer(Arc::clone(to), Some(frame), Some(code));
        None
    }

    /// Logs how many lines were suppressed, if no later line has said so.
    pub fn tell_left_out(&self, now: Instant) {
        self.refusal_log.settle("refused requests", now);
        self.auth_log.settle("failed authentications", now);
        self.limit_log.settle(now);
    }

    /// Hands a message to the commit thread.
    pub fn post(&self, from: &SubscriberRef, post: Post) -> Arc<PendingPost> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        let pending = Arc::new(PendingPost::new(from, post.reference.clone(), deadline));
        let order = CommitOrder::Post(Arc::clone(&pending), post);
        if self.posts.send(order).is_err() {
            // The service is stopping; the socket is about to be closed.
            self.refuse_post(&pending, Refusal::Unavailable);
        }
        pending
    }

    /// Gives up a message whose deadline has passed at `now`; without a `now`, whatever its deadline is.
    pub fn refuse_overdue(&self, pending: &PendingPost, now: Option<Instant>) {
        if now.is_none_or(|now| pending.deadline <= now)
            && let Some(refusal) = pending.take_answer()
        {
            self.say_refused(&pending.from, refusal, pending.reference.as_ref());
            pending.set_done();
        }
    }

    /// Refuses a message, unless its sender has been answered already.
    fn refuse_post(&self, pending: &PendingPost, refusal: Refusal) {
        if pending.take_answer().is_some() {
            self.say_refused(&pending.from, refusal, pending.reference.as_ref());
        }
        pending.set_done();
    }

    /// Ends the query threads. Light questions that wait are still run; heavy ones may be given up.
    pub fn stop_questions(&self) {
        drop(lock(&self.questions).take());
    }

    /// Ends the commit thread. It tries what was handed to it before until `deadline`; the batch that it is trying already
    /// may take until its own deadlines.
    pub fn stop_commit(&self, deadline: Instant) {
        let _ = self.posts.send(CommitOrder::Stop(deadline));
    }

    /// How many messages wait for the commit thread.
    pub fn posts_waiting(&self) -> usize {
        self.posts.len()
    }

    /// How many questions wait for a query thread.
    pub fn questions_waiting(&self) -> usize {
        let questions = lock(&self.questions);
        questions.iter().flatten().map(Sender::len).sum()
    }

    /// Counts an event of an agent, for all its sockets together.
    pub fn admit(&self, agent: AgentId, now: Instant) -> Admission {
        let (rate, burst) = (self.limits.agent_rate, self.limits.agent_burst);
        let mut rates = lock(&self.rates);
        if rates.len() == rates.capacity() {
            rates.retain(|_, rate| !rate.is_full(now));
        }
        let limiter = rates
            .entry(agent)
            .or_insert_with(|| RateLimiter::new(rate, burst, now));
        limiter.take(now)
    }

    fn say(&self, to: &SubscriberRef, text: String, reference: Option<&Ref>) {
        let frame = Frame::text(&protocol::with_ref(text, reference));
        self.hub.answer(Arc::clone(to), Some(frame), None);
    }

    fn say_refused(&self, to: &SubscriberRef, refusal: Refusal, reference: Option<&Ref>) {
        METRICS.errors.count(refusal.code());
        self.say(to, protocol::error(refusal), reference);
    }

    /// Tells everyone in `audience` who has a socket here. `own` is the socket that caused it, and what that gets instead.
    fn tell(
        &self,
        audience: Arc<[AgentId]>,
        text: &str,
        weight: Weight,
        own: Option<(SubscriberId, Option<Frame>)>,
    ) {
        let frame = Frame::text(text);
        self.hub.publish(Publication {
            own,
            ..Publication::new(audience, frame, weight)
        });
    }

    /// Whether any agent is connected, or could join without a query because it is remembered.
    pub fn is_any_agent_known(&self) -> bool {
        self.hub.is_anyone_here() || !lock(&self.agents.0).is_empty()
    }

    /// Closes the sockets of all agents that are not `active`, as the database was asked at `asked`.
    pub fn close_inactive(&self, active: HashSet<AgentId>, asked: Instant) {
        lock(&self.agents.0)
            .retain(|id, (_, known)| active.contains(id) && is_fresh(*known, asked));
        self.hub.send(Command::CloseInactive(active, asked));
    }

    /// Remembers the members of a conversation; `asked` is when the database was queried.
    pub fn remember_members(
        &self,
        conversation: Conversation,
        agents: Vec<AgentId>,
        asked: Instant,
    ) -> Arc<[AgentId]> {
        let agents: Arc<[AgentId]> = agents.into();
        self.memberships
            .insert(conversation, Arc::clone(&agents), asked);
        agents
    }
}

/// What the database said a moment ago, and when it was asked.
struct Recent<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<(V, Instant)> {
        let found = lock(&self.0).get(key).cloned();
        found.filter(|(_, asked)| is_fresh(*asked, now))
    }

    fn insert(&self, key: K, value: V, asked: Instant) {
        let mut map = lock(&self.0);
        // Makes room before the map would grow.
        if map.len() == map.capacity() {
            map.retain(|_, (_, asked)| is_fresh(*asked, Instant::now()));
        }
        map.insert(key, (value, asked));
    }
}

/// Whether what was read at `since` may still be believed.
fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < RECHECK_INTERVAL
}

/// What a client is told of a failure. A statement that the server refuses is our fault: the log gets the details.
fn refusal(error: &StoreError) -> Refusal {
    match error.failure {
        Failure::Refused => {
            log::error!("{error}");
            Refusal::Internal
        }
        Failure::TooLarge => Refusal::MessageTooLarge,
        Failure::Lost
        | Failure::Stale
        | Failure::Conflict
        | Failure::TookTooLong
        | Failure::Denied => Refusal::Unavailable,
    }
}
