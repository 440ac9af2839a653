//! The threads that ask the database on behalf of one socket: who is this agent, who is in this conversation, what
//! has he read and what has he missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::error;

use super::{Active, Client, Service, resume};
use crate::auth::Claims;
use crate::fault;
use crate::frame::Frame;
use crate::hub::{Publication, Weight};
use crate::job_queue::Taken;
use crate::metrics::METRICS;
use crate::model::{Agent, AuthFailure, CloseCode, Conversation, MessageId, Refusal};
use crate::protocol::{self, Ref};
use crate::session::Ask;
use crate::store::{AtMost, Failure, Link, Newest, Result, StoreError};

/// How long a thread that has a connection waits for a question before it looks after that.
const REST: Duration = Duration::from_secs(30);

/// Takes questions until the queue is closed and empty.
pub fn run(service: &Service, mut link: Link) {
    loop {
        // Without a connection there is nothing to wake up for.
        let patience = link.is_connected().then_some(REST);
        match service.queries.take(1, patience) {
            Taken::Jobs(jobs) => {
                fault::point("query");
                for (deadline, job) in jobs {
                    let mut query = Query {
                        service,
                        link: &mut link,
                        from: &job.from,
                        deadline,
                    };
                    if let Err(failed) = query.answer(&job.ask) {
                        service.refuse_query(job, refusal(&failed));
                    }
                }
                if service.queries.is_empty() {
                    link.renew();
                }
            }
            Taken::Nothing => link.renew(),
            Taken::Closed => return,
        }
    }
}

/// What a client is told of a failure; the log is told what it was.
pub(super) fn refusal(error: &StoreError) -> Refusal {
    match error.failure {
        Failure::Refused => {
            error!("{error}");
            Refusal::Internal
        }
        Failure::Lost | Failure::Conflict | Failure::Denied => Refusal::Unavailable,
    }
}

/// One question, and what is needed to answer it.
pub(super) struct Query<'a> {
    pub(super) service: &'a Service,
    pub(super) link: &'a mut Link,
    pub(super) from: &'a Arc<dyn Client>,
    pub(super) deadline: Instant,
}

impl Query<'_> {
    /// Answers the socket, or fails without having said anything.
    fn answer(&mut self, ask: &Ask) -> Result<()> {
        match ask {
            Ask::Authenticate {
                claims,
                after,
                reference,
            } => self.authenticate(claims, *after, reference.as_ref()),
            Ask::Typing {
                agent,
                conversation,
                reference,
            } => {
                let asked = Instant::now();
                let agents = self
                    .link
                    .run_until(self.deadline, |store| store.audience(*conversation))?;
                let audience = self.service.remember(*conversation, agents, asked);
                let reference = reference.clone();
                self.service.pass_typing(
                    self.from,
                    agent,
                    *conversation,
                    reference,
                    audience,
                    true,
                );
                Ok(())
            }
            Ask::Read {
                agent,
                conversation,
                last_read,
                reference,
            } => self.read(agent, *conversation, *last_read, reference.as_ref()),
            Ask::History {
                agent,
                conversation,
                before,
                limit,
                reference,
            } => self.history(agent, *conversation, *before, *limit, reference.as_ref()),
            Ask::Unread { agent, reference } => {
                let unread = self
                    .link
                    .run_until(self.deadline, |store| store.unread(agent.id))?;
                self.say(protocol::unread(&unread), reference.as_ref());
                Ok(())
            }
            // Messages have a queue of their own.
            Ask::Post(_) => Ok(()),
        }
    }

    fn say(&self, text: String, reference: Option<&Ref>) {
        let frame = Frame::text(&protocol::with_ref(text, reference));
        let to = Arc::clone(self.from).subscriber();
        self.service.hub.answer(to, frame, true);
    }

    fn authenticate(
        &mut self,
        claims: &Claims,
        after: Option<MessageId>,
        reference: Option<&Ref>,
    ) -> Result<()> {
        let asked = Instant::now();
        let agent = self
            .link
            .run_until(self.deadline, |store| store.active_agent(claims.agent))?;
        let Some(agent) = agent.map(Arc::new) else {
            METRICS.auth_failures.add(1);
            let text = protocol::auth_failed(AuthFailure::UnknownAgent);
            self.service.hub.answer_and_close(
                Arc::clone(self.from).subscriber(),
                Some(Frame::text(&protocol::with_ref(text, reference))),
                CloseCode::Unauthorised,
            );
            return Ok(());
        };
        let agent = Active { agent, asked };
        self.service.remember_agent(&agent);
        // Whatever is said from here on must reach this socket.
        self.service.feed.wake(self.deadline);
        self.from
            .authenticated(Arc::clone(&agent.agent), claims.expires);
        resume::join(self, agent, after, reference);
        Ok(())
    }

    fn read(
        &mut self,
        agent: &Agent,
        conversation: Conversation,
        last_read: MessageId,
        reference: Option<&Ref>,
    ) -> Result<()> {
        let asked = Instant::now();
        let (agents, marker) = self.link.run_until(self.deadline, |store| {
            let agents = store.audience(conversation)?;
            let marker = match agents.contains(&agent.id) {
                true => Some(store.mark_read(agent.id, conversation, last_read)?),
                false => None,
            };
            Ok((agents, marker))
        })?;
        let audience = self.service.remember(conversation, agents, asked);
        let Some(marker) = marker else {
            self.say(no_access(conversation), reference);
            return Ok(());
        };
        let text = protocol::read_updated(conversation, agent.id, marker);
        let frame = Frame::text(&text);
        self.service
            .relay(&audience, text.clone(), Weight::Essential);
        let own = reference.map(|reference| {
            let own = Frame::text(&protocol::with_ref(text, Some(reference)));
            (self.from.id(), Some(own))
        });
        self.service.hub.publish(Publication {
            message: None,
            audience,
            frame,
            weight: Weight::Essential,
            own,
            resume: Some(Arc::clone(self.from).subscriber()),
        });
        Ok(())
    }

    fn history(
        &mut self,
        agent: &Agent,
        conversation: Conversation,
        before: Option<MessageId>,
        limit: usize,
        reference: Option<&Ref>,
    ) -> Result<()> {
        let bytes = self.service.limits.queue_bytes;
        let room = AtMost {
            messages: limit,
            bytes,
        };
        let found = self.link.run_until(self.deadline, |store| {
            if !store.audience(conversation)?.contains(&agent.id) {
                return Ok(None);
            }
            store.history(conversation, before, room).map(Some)
        })?;
        let text = match found {
            None => no_access(conversation),
            Some(found) => history_within(bytes, conversation, found),
        };
        self.say(text, reference);
        Ok(())
    }
}

/// As many of the newest messages as may wait for a socket, which takes a frame in one piece; one at least. Who wants the
/// others asks for those before. JSON may be longer than what it was made of.
fn history_within(bytes: usize, conversation: Conversation, found: Newest) -> String {
    let mut left_out = 0;
    loop {
        let rest = &found.messages[left_out..];
        let text = protocol::history(conversation, rest, found.has_older || left_out > 0);
        if text.len() <= bytes || rest.len() <= 1 {
            return text;
        }
        left_out += rest.len() / 2;
    }
}

fn no_access(conversation: Conversation) -> String {
    METRICS.refused(conversation.no_access());
    protocol::error(conversation.no_access())
}
