//! The threads that ask the database on behalf of one socket: who is this agent, who is in this conversation,
//! up to where has he read.

use std::sync::Arc;
use std::time::Instant;

use log::error;

use super::{Client, QueryJob, Service};
use crate::auth::Claims;
use crate::frame::Frame;
use crate::hub::{Publication, Weight};
use crate::job_queue::Taken;
use crate::model::{Agent, AgentId, AuthFailure, CloseCode, Conversation, MessageId, Refusal};
use crate::protocol::{self, Ref};
use crate::session::Ask;
use crate::store::{Failure, Link, StoreError};

/// Takes questions until the queue is closed and empty.
pub fn run(service: &Service, mut link: Link) {
    loop {
        let (deadline, job) = match service.queries.take(1, None) {
            Taken::Jobs(jobs) => match jobs.into_iter().next() {
                Some(job) => job,
                None => continue,
            },
            Taken::Nothing => continue,
            Taken::Closed => return,
        };
        answer(service, &mut link, job, deadline);
    }
}

fn answer(service: &Service, link: &mut Link, job: QueryJob, deadline: Instant) {
    let QueryJob { from, ask } = job;
    let failed = match ask {
        Ask::Authenticate { claims, reference } => {
            match link.run_until(deadline, |store| store.active_agent(claims.agent)) {
                Ok(agent) => {
                    // Whatever is said from here on must reach this socket.
                    service.feed.wake(deadline);
                    return authenticated(service, from, agent, &claims, reference);
                }
                Err(error) => (error, Ask::Authenticate { claims, reference }),
            }
        }
        Ask::Typing {
            agent,
            conversation,
            reference,
        } => match link.run_until(deadline, |store| store.audience(conversation)) {
            Ok(agents) => {
                let audience = service.remember(conversation, agents);
                return service.pass_typing(&from, &agent, conversation, reference, audience, true);
            }
            Err(error) => (
                error,
                Ask::Typing {
                    agent,
                    conversation,
                    reference,
                },
            ),
        },
        Ask::Read {
            agent,
            conversation,
            last_read,
            reference,
        } => {
            let read = link.run_until(deadline, |store| {
                let agents = store.audience(conversation)?;
                let marker = match agents.contains(&agent.id) {
                    true => Some(store.mark_read(agent.id, conversation, last_read)?),
                    false => None,
                };
                Ok((agents, marker))
            });
            match read {
                Ok((agents, marker)) => {
                    return publish_read(
                        service,
                        from,
                        &agent,
                        conversation,
                        agents,
                        marker,
                        reference,
                    );
                }
                Err(error) => (
                    error,
                    Ask::Read {
                        agent,
                        conversation,
                        last_read,
                        reference,
                    },
                ),
            }
        }
        // Messages have a queue of their own.
        Ask::Post(_) => return,
    };
    let (error, ask) = failed;
    service.refuse_query(QueryJob { from, ask }, refusal(&error));
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

fn authenticated(
    service: &Service,
    from: Arc<dyn Client>,
    agent: Option<Agent>,
    claims: &Claims,
    reference: Option<Ref>,
) {
    let Some(agent) = agent.map(Arc::new) else {
        let text = protocol::with_ref(
            protocol::auth_failed(AuthFailure::UnknownAgent),
            reference.as_ref(),
        );
        return service.hub.answer_and_close(
            from.subscriber(),
            Some(Frame::text(&text)),
            CloseCode::Unauthorised,
        );
    };
    from.authenticated(Arc::clone(&agent), claims.expires);
    let refusal = protocol::with_ref(
        protocol::error(Refusal::TooManyConnections),
        reference.as_ref(),
    );
    let id = agent.id;
    service.hub.join(
        from.subscriber(),
        id,
        Box::new(move |online| {
            let text = protocol::auth_ok(&agent, online);
            Frame::text(&protocol::with_ref(text, reference.as_ref()))
        }),
        Frame::text(&refusal),
    );
}

fn publish_read(
    service: &Service,
    from: Arc<dyn Client>,
    agent: &Agent,
    conversation: Conversation,
    agents: Vec<AgentId>,
    marker: Option<MessageId>,
    reference: Option<Ref>,
) {
    let audience = service.remember(conversation, agents);
    let Some(marker) = marker else {
        return service.refuse(from, conversation.no_access(), reference.as_ref());
    };
    let text = protocol::read_updated(conversation, agent.id, marker);
    let frame = Frame::text(&text);
    let own = reference.map(|reference| {
        let own = Frame::text(&protocol::with_ref(text, Some(&reference)));
        (from.id(), Some(own))
    });
    service.hub.publish(Publication {
        audience,
        frame,
        weight: Weight::Essential,
        own,
        resume: Some(from.subscriber()),
    });
}
