//! One client's states: text in, an [`Action`] out. No socket, no thread, no database; what the session cannot decide
//! itself comes out as a [`ChatRequest`] (contract: protocol.md, "Events").

mod rate_limiter;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::rate_limiter::{Admission, RateLimiter};
use crate::auth::{Claims, TokenError, TokenVerifier};
use crate::config::limits::{CONTROL_BURST, Limits};
use crate::config::settings::Settings;
use crate::model::{
    Agent, AuthFailure, CloseCode, Conversation, MessageId, Private, Refusal, Search,
};
use crate::platform::log_throttle::LimitLog;
use crate::platform::metrics::{Limit, METRICS};
use crate::protocol::{self, ConversationName, Event, QUERY_CHARS, Ref, Request};
use crate::text;

/// What to do about one event.
#[derive(Debug)]
pub enum Action {
    /// Nothing.
    Silent,
    /// Answer this socket.
    Answer(String),
    /// Answer this socket and close it.
    AnswerAndClose(String, CloseCode),
    /// The same because a token was refused, with the reason for the log.
    RefuseToken(String, String),
    /// The chat must handle this request; until then no further event of this socket is read.
    Request(ChatRequest),
}

/// What a session cannot decide by itself.
#[derive(Debug)]
pub enum ChatRequest {
    /// Is this an active agent?
    Authenticate {
        /// What the token says.
        claims: Claims,
        /// The last message that the client has, if it asks for those since.
        after: Option<MessageId>,
        /// To be carried back.
        reference: Option<Ref>,
    },
    /// Store and publish a message.
    Post(Post),
    /// Tell the others of a conversation, if the agent is in it.
    Typing(InConversation),
    /// Older messages of a conversation: only those with smaller ids, and how many at most.
    History(InConversation, Option<MessageId>, usize),
    /// Messages that hold a text, and how many at most.
    Search(Search, usize, Option<Ref>),
    /// What an agent has not read.
    Unread(Arc<Agent>, Option<Ref>),
    /// Move a read marker to this message.
    Read(InConversation, MessageId),
}

/// What is asked of one conversation.
#[derive(Debug)]
pub struct InConversation {
    /// By whom.
    pub agent: Arc<Agent>,
    /// Which one.
    pub conversation: Conversation,
    /// To be carried back.
    pub reference: Option<Ref>,
}

/// A message on its way to the database.
#[derive(Debug)]
pub struct Post {
    /// Who says it.
    pub agent: Arc<Agent>,
    /// Where.
    pub conversation: Conversation,
    /// What, or why it cannot be said; told only to those who may post there at all.
    pub body: Result<Body, Refusal>,
    /// To be carried back.
    pub reference: Option<Ref>,
}

/// A body that may be said.
pub struct Body {
    /// After trimming and emoticons.
    pub text: String,
    /// Tickets it refers to.
    pub references: text::TicketReferences,
    /// Handles it mentions.
    pub mentions: Vec<String>,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.text.len())
    }
}

/// What a session needs to handle one event.
pub struct SessionContext<'a> {
    /// The agent that this socket authenticated as.
    pub agent: Option<&'a Arc<Agent>>,
    /// By the rate of all the agent's sockets together.
    pub agent_admission: Admission,
    /// Settings as of now.
    pub settings: &'a Settings,
    /// Checks tokens.
    pub verifier: &'a TokenVerifier,
    /// Logs limits that are hit.
    pub limit_log: &'a LimitLog,
    /// How the log calls this client.
    pub client: &'a dyn fmt::Display,
    /// Monotonic now.
    pub now: Instant,
    /// Seconds since 1970.
    pub epoch: u64,
}

/// The part of a client's state that only its own events change.
#[derive(Debug)]
pub struct Session {
    rate: RateLimiter,
    control: RateLimiter,
    typing_interval: Duration,
    /// Where this client has typed within the interval.
    typed: Vec<(Conversation, Instant)>,
}

impl Session {
    /// A client that has just connected.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Session {
            rate: RateLimiter::new(limits.rate, limits.burst, now),
            control: RateLimiter::new(limits.control_rate, CONTROL_BURST, now),
            typing_interval: limits.typing_interval,
            typed: Vec::new(),
        }
    }

    /// Counts one ping or pong.
    pub fn admit_control(&mut self, now: Instant) -> Admission {
        self.control.take(now)
    }

    /// Handles one text frame.
    #[inline(never)]
    pub fn handle(&mut self, frame: &str, context: &SessionContext<'_>) -> Action {
        if let Some(action) = self.refuse_excess(frame, context) {
            return action;
        }
        let Request { event, reference } = match protocol::decode(frame) {
            Ok(request) => request,
            Err(reference) => return refuse(Refusal::InvalidEvent, reference.as_ref()),
        };
        if let Event::Auth { token, after } = event {
            let token = token.as_ref().map(|token| token.0.as_str());
            return authenticate(token, after, reference, context);
        }
        let Some(agent) = context.agent else {
            METRICS.auth_failures.add(1);
            return Action::Answer(protocol::with_ref(
                protocol::auth_failed(AuthFailure::NotAuthenticated),
                reference.as_ref(),
            ));
        };
        match event {
            Event::Auth { .. } | Event::Unsupported => {
                refuse(Refusal::UnsupportedType, reference.as_ref())
            }
            Event::Ping => Action::Answer(protocol::with_ref(
                protocol::pong(context.epoch),
                reference.as_ref(),
            )),
            Event::Send { target, body } => post(agent, target, body, reference, context.settings),
            Event::Typing { target } => {
                asking(agent, target, reference, context, |asked| {
                    match self.may_pass_typing(asked.conversation, context.now) {
                        true => Action::Request(ChatRequest::Typing(asked)),
                        false => Action::Silent,
                    }
                })
            }
            Event::History {
                target,
                before,
                limit,
            } => asking(agent, target, reference, context, |asked| {
                Action::Request(ChatRequest::History(asked, before, limit))
            }),
            Event::Search {
                target,
                query,
                sender,
                before,
                limit,
            } => {
                let (text, conversation) = match searchable(target, query, context.settings) {
                    Ok(found) => found,
                    Err(refusal) => return refuse(refusal, reference.as_ref()),
                };
                let search = Search {
                    agent: agent.id,
                    conversation,
                    text,
                    sender,
                    before,
                };
                Action::Request(ChatRequest::Search(search, limit, reference))
            }
            Event::Unread => Action::Request(ChatRequest::Unread(Arc::clone(agent), reference)),
            Event::Read { target, last_read } => {
                asking(agent, target, reference, context, |asked| {
                    Action::Request(ChatRequest::Read(asked, last_read))
                })
            }
        }
    }

    /// Counts a text frame. Returns what to do instead of handling it if the client has sent too many.
    fn refuse_excess(&mut self, frame: &str, context: &SessionContext<'_>) -> Option<Action> {
        let client = context.client;
        let (limit, why) = match self.rate.take(context.now) {
            Admission::Granted if context.agent_admission == Admission::Granted => return None,
            Admission::Granted => (
                Limit::Rate,
                "rate limit of the agent exceeded, some events are refused (CHAT_WEBSOCKET_AGENT_RATE)",
            ),
            Admission::Refused => (
                Limit::Rate,
                "rate limit exceeded, some events are refused (CHAT_WEBSOCKET_RATE)",
            ),
            Admission::Abuse => (
                Limit::Flood,
                "closed, sends events far beyond the rate limit (CHAT_WEBSOCKET_RATE)",
            ),
        };
        context.limit_log.hit(limit, || format!("{client}: {why}"));
        METRICS.errors.count(Refusal::RateLimited.code());
        let text = protocol::error(Refusal::RateLimited);
        let text = protocol::with_ref(text, protocol::reference_of(frame).as_ref());
        Some(match limit {
            Limit::Flood => Action::AnswerAndClose(text, CloseCode::Policy),
            _ => Action::Answer(text),
        })
    }

    fn may_pass_typing(&mut self, conversation: Conversation, now: Instant) -> bool {
        let interval = self.typing_interval;
        self.typed.retain(|(_, last)| now - *last < interval);
        let is_new = self.typed.iter().all(|(one, _)| *one != conversation);
        if is_new {
            self.typed.push((conversation, now));
        }
        is_new
    }
}

/// An `error` event, with the `ref` of what was asked.
pub fn refuse(refusal: Refusal, reference: Option<&Ref>) -> Action {
    METRICS.errors.count(refusal.code());
    Action::Answer(protocol::with_ref(protocol::error(refusal), reference))
}

#[inline(never)]
fn authenticate(
    token: Option<&str>,
    after: Option<MessageId>,
    reference: Option<Ref>,
    context: &SessionContext<'_>,
) -> Action {
    let claims = context
        .verifier
        .verify(token.unwrap_or_default(), context.epoch)
        .and_then(|claims| match context.agent {
            Some(agent) if agent.id != claims.agent => Err(TokenError::OtherAgent(claims.agent)),
            _ => Ok(claims),
        });
    match claims {
        Ok(claims) => Action::Request(ChatRequest::Authenticate {
            claims,
            // A socket that has joined already has missed nothing.
            after: after.filter(|_| context.agent.is_none()),
            reference,
        }),
        Err(error) => {
            METRICS.auth_failures.add(1);
            let text =
                protocol::with_ref(protocol::auth_failed(error.failure()), reference.as_ref());
            Action::RefuseToken(text, error.to_string())
        }
    }
}

/// Calls `asked` with the conversation that an event names; refuses the event if its id is unusable or chat is off.
fn asking(
    agent: &Arc<Agent>,
    target: ConversationName,
    reference: Option<Ref>,
    context: &SessionContext<'_>,
    asked: impl FnOnce(InConversation) -> Action,
) -> Action {
    match target.conversation() {
        Ok(conversation) if context.settings.chat_enabled => asked(InConversation {
            agent: Arc::clone(agent),
            conversation,
            reference,
        }),
        Ok(_) => refuse(Refusal::ChatDisabled, reference.as_ref()),
        Err(refusal) => refuse(refusal, reference.as_ref()),
    }
}

/// The text and the conversation of a search, or why it is refused.
fn searchable(
    target: Option<ConversationName>,
    query: Option<Private>,
    settings: &Settings,
) -> Result<(Private, Option<Conversation>), Refusal> {
    let conversation = target.map(ConversationName::conversation).transpose()?;
    if !settings.chat_enabled {
        return Err(Refusal::ChatDisabled);
    }
    query
        .filter(|query| QUERY_CHARS.contains(&query.0.chars().count()))
        .map(|query| (query, conversation))
        .ok_or(Refusal::InvalidQuery)
}

#[inline(never)]
fn post(
    agent: &Arc<Agent>,
    target: ConversationName,
    body: Option<Private>,
    reference: Option<Ref>,
    settings: &Settings,
) -> Action {
    if !settings.chat_enabled {
        return refuse(Refusal::ChatDisabled, reference.as_ref());
    }
    // An event without a usable id is answered as if the sender were not in the conversation.
    let conversation = match target {
        ConversationName::Channel(Some(id)) => Conversation::Channel(id),
        ConversationName::Direct(Some(id)) => Conversation::Direct(id),
        ConversationName::Channel(None) => return refuse(Refusal::CannotPost, reference.as_ref()),
        ConversationName::Direct(None) => {
            return refuse(Refusal::NoThreadAccess, reference.as_ref());
        }
    };
    Action::Request(ChatRequest::Post(Post {
        agent: Arc::clone(agent),
        conversation,
        body: prepare(body.as_ref().map_or("", |body| &body.0), settings),
        reference,
    }))
}

fn prepare(raw: &str, settings: &Settings) -> Result<Body, Refusal> {
    let text = text::normalise(raw);
    if text.is_empty() {
        return Err(Refusal::EmptyMessage);
    }
    if text.chars().count() as u64 > settings.max_message_chars {
        return Err(Refusal::MessageTooLong(settings.max_message_chars));
    }
    Ok(Body {
        references: text::ticket_references(&text),
        mentions: text::mentions(&text),
        text,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::auth;
    use crate::config::settings::Rows;
    use crate::model::{AgentId, ChannelId};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    struct Client {
        session: Session,
        agent: Option<Arc<Agent>>,
        settings: Settings,
        now: Instant,
    }

    impl Client {
        fn new() -> Self {
            let rows = Rows::new([("chat_enabled".to_owned(), Some("1".to_owned()))]);
            let now = Instant::now();
            Client {
                session: Session::new(&Limits::default(), now),
                agent: None,
                settings: Settings::from_rows(&rows),
                now,
            }
        }

        fn of(id: u64) -> Self {
            Client {
                agent: Some(Arc::new(Agent {
                    id: AgentId(id),
                    name: "Ana".to_owned(),
                    role: "agent".to_owned(),
                })),
                ..Client::new()
            }
        }

        fn say(&mut self, event: &Value) -> Action {
            self.session.handle(
                &event.to_string(),
                &SessionContext {
                    agent: self.agent.as_ref(),
                    agent_admission: Admission::Granted,
                    settings: &self.settings,
                    verifier: &TokenVerifier::new(SECRET),
                    limit_log: &LimitLog::default(),
                    client: &"connection 1",
                    now: self.now,
                    epoch: 1000,
                },
            )
        }
    }

    fn answer(action: Action) -> Value {
        match action {
            Action::Answer(text)
            | Action::AnswerAndClose(text, _)
            | Action::RefuseToken(text, _) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("expected an answer, found {other:?}"),
        }
    }

    #[test]
    fn nothing_but_auth_is_done_before_auth() {
        let mut client = Client::new();
        for kind in ["ping", "chat.typing", "nonsense"] {
            assert_eq!(
                answer(client.say(&json!({"type": kind, "ref": "r"}))),
                json!({"type": "auth.failed", "message": "Authenticate before sending chat events", "ref": "r"})
            );
        }
    }

    #[test]
    fn a_good_token_asks_for_the_agent_and_another_agents_closes() {
        let token = |agent: u64| {
            auth::sign(
                SECRET,
                &json!({"sub": agent, "type": "agent", "exp": 2000_u64}),
            )
            .expect("signed")
        };
        let mut client = Client::new();
        assert!(matches!(
            client.say(&json!({"type": "auth", "token": token(7)})),
            Action::Request(ChatRequest::Authenticate { claims, .. }) if claims.agent == AgentId(7)
        ));
        let mut client = Client::of(8);
        assert!(matches!(
            client.say(&json!({"type": "auth", "token": token(7)})),
            Action::RefuseToken(..)
        ));
    }

    #[test]
    fn typing_is_passed_on_once_in_its_interval_and_conversation() {
        let mut client = Client::of(7);
        let typing = |client: &mut Client, channel: u64| {
            matches!(
                client.say(&json!({"type": "chat.typing", "channel_id": channel})),
                Action::Request(ChatRequest::Typing(_))
            )
        };
        assert!(typing(&mut client, 1));
        assert!(!typing(&mut client, 1));
        assert!(typing(&mut client, 2));
        client.now += Duration::from_millis(1000);
        assert!(typing(&mut client, 1));
    }

    #[test]
    fn a_body_is_refused_only_after_membership_was_looked_at() {
        let mut client = Client::of(7);
        match client
            .say(&json!({"type": "chat.channel.message.send", "channel_id": 3, "body": " "}))
        {
            Action::Request(ChatRequest::Post(post)) => {
                assert_eq!(post.conversation, Conversation::Channel(ChannelId(3)));
                assert_eq!(post.body.expect_err("empty"), Refusal::EmptyMessage);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate_then_nothing() {
        let mut client = Client::of(7);
        let ping = |client: &mut Client| answer(client.say(&json!({"type": "ping"})));
        for _ in 0..60 {
            assert_eq!(ping(&mut client)["type"], "pong");
        }
        assert_eq!(ping(&mut client)["code"], "rate_limited");
        client.now += Duration::from_secs(1);
        for _ in 0..19 {
            assert_eq!(ping(&mut client)["type"], "pong");
        }
        let closed = (0..1000).any(|_| {
            matches!(
                client.say(&json!({"type": "ping"})),
                Action::AnswerAndClose(_, CloseCode::Policy)
            )
        });
        assert!(closed);
    }
}
