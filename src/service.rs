//! The rules that need somebody else: the database, the other sockets. A session asks; the answer goes out
//! through the hub. No socket and no SQL here, and JSON only through `protocol`.
//!
//! Messages are stored by one thread (`posting`), everything else that needs the database by a few others
//! (`queries`), so that a slow query delays neither typing nor anybody's ping.

mod feed;
mod in_flight;
mod notifications;
mod posting;
mod queries;
mod repeats;
mod resume;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

pub use feed::run as run_tail;
pub use posting::run as run_posting;
pub use queries::run as run_queries;

use crate::auth::TokenVerifier;
use crate::bus::{Bus, Note, Relay};
use crate::frame::Frame;
use crate::hub::{Hub, Publication, SubscriberRef, Weight};
use crate::job_queue::JobQueue;
use crate::limits::{Limits, RECHECK_INTERVAL, STORE_PATIENCE};
use crate::metrics::METRICS;
use crate::model::{Agent, AgentId, CloseCode, Conversation, Refusal};
use crate::protocol::{self, Ref};
use crate::push;
use crate::session::{Ask, Post};
use crate::settings::Settings;

/// A socket as the service sees it: one that can also be told who it belongs to.
pub trait Client: crate::hub::Subscriber {
    /// The socket belongs to this agent from now on; its token runs out at `expires`, seconds since 1970.
    fn authenticated(&self, agent: Arc<Agent>, expires: u64);
    /// This socket, as the hub takes it.
    fn subscriber(self: Arc<Self>) -> SubscriberRef;
}

/// A message on its way to the database, and who waits for it.
pub struct PostJob {
    /// Who is answered.
    pub from: Arc<dyn Client>,
    /// What is to be stored.
    pub post: Post,
}

/// Anything else that needs the database.
pub struct QueryJob {
    /// Who is answered.
    pub from: Arc<dyn Client>,
    /// What is asked.
    pub ask: Ask,
}

/// Whether a socket's next event may be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Yes; what this one brought goes out in its turn.
    Goes,
    /// No; the socket is resumed when this one is done.
    Waits,
}

/// What all threads of the service share.
pub struct Service {
    /// The fan-out.
    pub hub: Hub,
    /// The way to other daemons on the same database, if there is one.
    pub bus: Option<Bus>,
    /// The way to browsers without a window, if this build has it.
    pub push: Option<push::Queue>,
    /// The door through which messages reach the hub.
    pub feed: feed::Feed,
    /// Messages that may be sent again.
    pub repeats: repeats::Repeats,
    /// Messages on their way.
    pub posts: JobQueue<PostJob>,
    /// Those of them that are being stored.
    in_flight: in_flight::InFlight,
    /// Other questions to the database.
    pub queries: JobQueue<QueryJob>,
    /// Limits and intervals.
    pub limits: Limits,
    /// Checks tokens.
    pub verifier: TokenVerifier,
    settings: RwLock<Arc<Settings>>,
    audiences: Mutex<HashMap<Conversation, Remembered>>,
    /// Active agents who were looked up a moment ago: a page that is reloaded, or everybody after a restart of the
    /// proxy, need not ask again.
    agents: Mutex<HashMap<AgentId, Active>>,
}

/// An agent who was active when the database was asked at `asked`.
#[derive(Clone)]
struct Active {
    agent: Arc<Agent>,
    asked: Instant,
}

struct Remembered {
    audience: Arc<[AgentId]>,
    asked: Instant,
}

impl Service {
    /// A service that nobody has asked anything yet.
    pub fn new(
        hub: Hub,
        bus: Option<Bus>,
        push: Option<push::Queue>,
        limits: Limits,
        verifier: TokenVerifier,
        settings: Settings,
    ) -> Self {
        Service {
            hub,
            bus,
            push,
            feed: feed::Feed::default(),
            repeats: repeats::Repeats::default(),
            posts: JobQueue::default(),
            in_flight: in_flight::InFlight::default(),
            queries: JobQueue::default(),
            limits,
            verifier,
            settings: RwLock::new(Arc::new(settings)),
            audiences: Mutex::default(),
            agents: Mutex::default(),
        }
    }

    /// The settings as of now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes over settings that were looked at again. True where they differ.
    pub fn set_settings(&self, settings: Settings) -> bool {
        let mut current = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let differ = **current != settings;
        if differ {
            *current = Arc::new(settings);
        }
        differ
    }

    /// Takes a question of a session.
    pub fn ask(&self, from: &Arc<dyn Client>, ask: Ask, now: Instant) -> Progress {
        let deadline = now + STORE_PATIENCE;
        let from = Arc::clone(from);
        let rejected = match ask {
            Ask::Post(post) => self
                .posts
                .push(PostJob { from, post }, deadline)
                .map_err(|job| (job.from, job.post.reference)),
            Ask::Typing {
                agent,
                conversation,
                reference,
            } => {
                if let Some(audience) = self.remembered(conversation, now) {
                    self.pass_typing(&from, &agent, conversation, reference, audience, false);
                    return Progress::Goes;
                }
                let ask = Ask::Typing {
                    agent,
                    conversation,
                    reference,
                };
                self.queries
                    .push(QueryJob { from, ask }, deadline)
                    .map_err(|job| (job.from, None))
            }
            Ask::Authenticate {
                claims,
                after: None,
                reference,
            } => match self.known_agent(claims.agent, now) {
                Some(known) if self.feed.is_awake() => {
                    from.authenticated(Arc::clone(&known.agent), claims.expires);
                    resume::join_at_once(self, &from, known, reference.as_ref());
                    return Progress::Waits;
                }
                _ => {
                    let ask = Ask::Authenticate {
                        claims,
                        after: None,
                        reference,
                    };
                    self.queries
                        .push(QueryJob { from, ask }, deadline)
                        .map_err(|job| (job.from, None))
                }
            },
            ask => self
                .queries
                .push(QueryJob { from, ask }, deadline)
                .map_err(|job| (job.from, None)),
        };
        if let Err((from, reference)) = rejected {
            // The service is stopping; the socket is about to be closed.
            self.refuse(from, Refusal::Unavailable, reference.as_ref());
        }
        Progress::Waits
    }

    /// Refuses what has waited for the database for too long.
    pub fn refuse_expired(&self, now: Instant) {
        self.refuse_overdue(Some(now), now);
    }

    /// Refuses whatever still waits for the database, once the queues are closed.
    pub fn give_up(&self) {
        self.refuse_overdue(None, Instant::now());
    }

    fn refuse_overdue(&self, in_flight: Option<Instant>, now: Instant) {
        for one in self.in_flight.overdue(in_flight) {
            self.refuse(one.from, one.refusal, one.reference.as_ref());
        }
        for job in self.posts.expired(now) {
            self.refuse(job.from, Refusal::Unavailable, job.post.reference.as_ref());
        }
        for job in self.queries.expired(now) {
            self.refuse_query(job, Refusal::Unavailable);
        }
    }

    fn refuse(&self, from: Arc<dyn Client>, refusal: Refusal, reference: Option<&Ref>) {
        METRICS.refused(refusal);
        let text = protocol::with_ref(protocol::error(refusal), reference);
        self.hub.answer(from.subscriber(), Frame::text(&text), true);
    }

    fn refuse_query(&self, job: QueryJob, refusal: Refusal) {
        match job.ask {
            // Without an answer about its agent a socket is of no use; the client comes back by itself.
            Ask::Authenticate { reference, .. } => {
                METRICS.refused(refusal);
                let text = protocol::with_ref(protocol::error(refusal), reference.as_ref());
                self.hub.answer_and_close(
                    job.from.subscriber(),
                    Some(Frame::text(&text)),
                    CloseCode::TryAgainLater,
                );
            }
            Ask::Post(Post { reference, .. })
            | Ask::Typing { reference, .. }
            | Ask::History { reference, .. }
            | Ask::Unread { reference, .. }
            | Ask::Read { reference, .. } => self.refuse(job.from, refusal, reference.as_ref()),
        }
    }

    /// Tells the others of a conversation that somebody types there, if he is one of them.
    fn pass_typing(
        &self,
        from: &Arc<dyn Client>,
        agent: &Arc<Agent>,
        conversation: Conversation,
        reference: Option<Ref>,
        audience: Arc<[AgentId]>,
        resume: bool,
    ) {
        if !audience.contains(&agent.id) {
            METRICS.refused(conversation.no_access());
            let refusal = protocol::error(conversation.no_access());
            let text = protocol::with_ref(refusal, reference.as_ref());
            let to = Arc::clone(from).subscriber();
            return self.hub.answer(to, Frame::text(&text), resume);
        }
        let text = protocol::typing(conversation, agent);
        let frame = Frame::text(&text);
        self.relay(&audience, text, Weight::Ephemeral);
        self.hub.publish(Publication {
            message: None,
            audience,
            frame,
            weight: Weight::Ephemeral,
            own: Some((from.id(), None)),
            resume: resume.then(|| Arc::clone(from).subscriber()),
        });
    }

    /// Lets other daemons tell their sockets.
    fn relay(&self, audience: &Arc<[AgentId]>, text: String, weight: Weight) {
        if let Some(bus) = &self.bus {
            bus.say(Note::Relay(Relay {
                audience: Arc::clone(audience),
                text,
                weight,
            }));
        }
    }

    /// Whether anybody is here, or may come in without the database being asked about him.
    pub fn is_anybody_known(&self) -> bool {
        self.hub.is_anybody_here() || !self.agents().is_empty()
    }

    /// Closes the sockets of all agents that are not in this list, which was asked for at `asked`.
    pub fn close_inactive(&self, active: HashSet<AgentId>, asked: Instant) {
        self.agents()
            .retain(|id, known| active.contains(id) && is_fresh(known.asked, asked));
        self.hub.close_inactive(active, asked);
    }

    fn remember_agent(&self, agent: &Active) {
        let now = Instant::now();
        let mut agents = self.agents();
        if agents.len() == agents.capacity() {
            agents.retain(|_, known| is_fresh(known.asked, now));
        }
        agents.insert(agent.agent.id, agent.clone());
    }

    fn known_agent(&self, id: AgentId, now: Instant) -> Option<Active> {
        self.agents()
            .get(&id)
            .filter(|known| is_fresh(known.asked, now))
            .cloned()
    }

    fn agents(&self) -> MutexGuard<'_, HashMap<AgentId, Active>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers who is in a conversation, as the database said that was asked at `asked`; for typing alone.
    fn remember(
        &self,
        conversation: Conversation,
        agents: Vec<AgentId>,
        asked: Instant,
    ) -> Arc<[AgentId]> {
        let audience: Arc<[AgentId]> = agents.into();
        let mut audiences = self.audiences();
        if audiences.len() >= 1024 {
            let now = Instant::now();
            audiences.retain(|_, one| is_fresh(one.asked, now));
        }
        audiences.insert(
            conversation,
            Remembered {
                audience: Arc::clone(&audience),
                asked,
            },
        );
        audience
    }

    fn remembered(&self, conversation: Conversation, now: Instant) -> Option<Arc<[AgentId]>> {
        self.audiences()
            .get(&conversation)
            .filter(|one| is_fresh(one.asked, now))
            .map(|one| Arc::clone(&one.audience))
    }

    fn audiences(&self) -> MutexGuard<'_, HashMap<Conversation, Remembered>> {
        self.audiences
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what was read at `since` may still be believed.
fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < RECHECK_INTERVAL
}
