//! One client's states: text in, a [`Turn`] out. No socket, no thread, no database; what has to be asked of
//! anybody else comes out as an [`Ask`] (contract: protocol.md, "Events").

mod rate_limiter;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::rate_limiter::{Admission, RateLimiter};
use crate::auth::{Claims, TokenVerifier};
use crate::hits::{Limit, hit};
use crate::limits::Limits;
use crate::metrics::METRICS;
use crate::model::{Agent, AuthFailure, CloseCode, Conversation, MessageId, Private, Refusal};
use crate::protocol::{self, Event, Ref, Request, Target};
use crate::settings::Settings;
use crate::text;

/// Conversations for which a socket's last typing is remembered before old ones are dropped.
const TYPING_MEMORY: usize = 64;

/// What to do about one event.
#[derive(Debug)]
pub enum Turn {
    /// Nothing.
    Silent,
    /// Answer this socket.
    Answer(String),
    /// Answer this socket and close it.
    AnswerAndClose(String, CloseCode),
    /// Close it without a word.
    Close(CloseCode),
    /// Somebody else has to be asked; until then no further event of this socket is read.
    Ask(Ask),
}

/// What a session can't decide by itself.
#[derive(Debug)]
pub enum Ask {
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
    Typing {
        /// Who types.
        agent: Arc<Agent>,
        /// Where.
        conversation: Conversation,
        /// To be carried back in a refusal.
        reference: Option<Ref>,
    },
    /// Older messages of a conversation.
    History {
        /// Who asks.
        agent: Arc<Agent>,
        /// Where.
        conversation: Conversation,
        /// Only those with smaller ids.
        before: Option<MessageId>,
        /// How many at most.
        limit: usize,
        /// To be carried back.
        reference: Option<Ref>,
    },
    /// What an agent has not read.
    Unread {
        /// Who asks.
        agent: Arc<Agent>,
        /// To be carried back.
        reference: Option<Ref>,
    },
    /// Move a read marker.
    Read {
        /// Who read.
        agent: Arc<Agent>,
        /// Where.
        conversation: Conversation,
        /// Up to which message.
        last_read: MessageId,
        /// To be carried back.
        reference: Option<Ref>,
    },
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

/// What a session needs to know of the world at one event.
pub struct World<'a> {
    /// The agent that this socket authenticated as.
    pub agent: Option<&'a Arc<Agent>>,
    /// Settings as of now.
    pub settings: &'a Settings,
    /// Checks tokens.
    pub verifier: &'a TokenVerifier,
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
    json_depth: usize,
    typed: Vec<(Conversation, Instant)>,
}

impl Session {
    /// A client that has just connected.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Session {
            rate: RateLimiter::new(limits.rate, limits.burst, now),
            control: RateLimiter::new(limits.control_rate, limits.control_burst, now),
            typing_interval: limits.typing_interval,
            json_depth: limits.json_depth,
            typed: Vec::new(),
        }
    }

    /// Takes one ping or pong. False where no sound client sends so many.
    pub fn take_control(&mut self, now: Instant) -> bool {
        matches!(self.control.take(now), Admission::Granted)
    }

    /// Takes one text frame.
    pub fn handle(&mut self, frame: &str, world: &World<'_>) -> Turn {
        match self.rate.take(world.now) {
            Admission::Granted => {}
            Admission::Refused => {
                hit(Limit::Rate, || {
                    format!("{} sends events too fast, and some are refused", who(world))
                });
                return refuse(Refusal::RateLimited, protocol::reference_of(frame).as_ref());
            }
            Admission::Abuse => {
                METRICS.refused(Refusal::RateLimited);
                hit(Limit::Flood, || {
                    format!("{} sends events far too fast and is closed", who(world))
                });
                let reference = protocol::reference_of(frame);
                let text = protocol::error(Refusal::RateLimited);
                return Turn::AnswerAndClose(
                    protocol::with_ref(text, reference.as_ref()),
                    CloseCode::Policy,
                );
            }
        }
        if protocol::is_deeper_than(frame, self.json_depth) {
            hit(Limit::JsonDepth, || {
                format!("{} sent JSON that is nested too deep", who(world))
            });
            return refuse(Refusal::InvalidEvent, None);
        }
        let Request { event, reference } = match protocol::decode(frame) {
            Ok(request) => request,
            Err(reference) => return refuse(Refusal::InvalidEvent, reference.as_ref()),
        };
        if let Event::Auth { token, after } = event {
            let token = token.as_ref().map(|token| token.0.as_str());
            return authenticate(token, after, reference, world);
        }
        let Some(agent) = world.agent else {
            METRICS.auth_failures.add(1);
            return Turn::Answer(protocol::with_ref(
                protocol::auth_failed(AuthFailure::NotAuthenticated),
                reference.as_ref(),
            ));
        };
        match event {
            Event::Auth { .. } | Event::Unsupported => {
                refuse(Refusal::UnsupportedType, reference.as_ref())
            }
            Event::Ping => Turn::Answer(protocol::with_ref(
                protocol::pong(world.epoch),
                reference.as_ref(),
            )),
            Event::Send { target, body } => post(agent, target, body, reference, world.settings),
            Event::Typing { target } => self.typing(agent, target, reference, world),
            Event::History {
                target,
                before,
                limit,
            } => match usable(target, world.settings) {
                Err(refusal) => refuse(refusal, reference.as_ref()),
                Ok(conversation) => Turn::Ask(Ask::History {
                    agent: Arc::clone(agent),
                    conversation,
                    before,
                    limit,
                    reference,
                }),
            },
            Event::Unread => Turn::Ask(Ask::Unread {
                agent: Arc::clone(agent),
                reference,
            }),
            Event::Read { target, last_read } => match usable(target, world.settings) {
                Err(refusal) => refuse(refusal, reference.as_ref()),
                Ok(conversation) => Turn::Ask(Ask::Read {
                    agent: Arc::clone(agent),
                    conversation,
                    last_read,
                    reference,
                }),
            },
        }
    }

    fn typing(
        &mut self,
        agent: &Arc<Agent>,
        target: Target,
        reference: Option<Ref>,
        world: &World<'_>,
    ) -> Turn {
        let conversation = match usable(target, world.settings) {
            Ok(conversation) => conversation,
            Err(refusal) => return refuse(refusal, reference.as_ref()),
        };
        if !self.may_pass_typing(conversation, world.now) {
            return Turn::Silent;
        }
        Turn::Ask(Ask::Typing {
            agent: Arc::clone(agent),
            conversation,
            reference,
        })
    }

    fn may_pass_typing(&mut self, conversation: Conversation, now: Instant) -> bool {
        if self.typing_interval.is_zero() {
            return true;
        }
        let interval = self.typing_interval;
        if self.typed.len() >= TYPING_MEMORY {
            self.typed.retain(|(_, last)| now - *last < interval);
        }
        match self.typed.iter_mut().find(|(one, _)| *one == conversation) {
            Some((_, last)) if now - *last < interval => false,
            Some((_, last)) => {
                *last = now;
                true
            }
            None => {
                self.typed.push((conversation, now));
                true
            }
        }
    }
}

/// How the log calls a client. Numbers alone: a name could be anything.
fn who(world: &World<'_>) -> String {
    match world.agent {
        Some(agent) => format!("agent {}", agent.id),
        None => "a client that has not authenticated".to_owned(),
    }
}

/// An `error` event, with the `ref` of what was asked.
pub fn refuse(refusal: Refusal, reference: Option<&Ref>) -> Turn {
    METRICS.refused(refusal);
    Turn::Answer(protocol::with_ref(protocol::error(refusal), reference))
}

fn authenticate(
    token: Option<&str>,
    after: Option<MessageId>,
    reference: Option<Ref>,
    world: &World<'_>,
) -> Turn {
    let claims = world
        .verifier
        .verify(token.unwrap_or_default(), world.epoch)
        .and_then(|claims| match world.agent {
            Some(agent) if agent.id != claims.agent => Err(AuthFailure::OtherAgent),
            _ => Ok(claims),
        });
    match claims {
        Ok(claims) => Turn::Ask(Ask::Authenticate {
            claims,
            // A socket that is in already misses nothing.
            after: after.filter(|_| world.agent.is_none()),
            reference,
        }),
        Err(failure) => {
            METRICS.auth_failures.add(1);
            Turn::AnswerAndClose(
                protocol::with_ref(protocol::auth_failed(failure), reference.as_ref()),
                CloseCode::Unauthorised,
            )
        }
    }
}

fn usable(target: Target, settings: &Settings) -> Result<Conversation, Refusal> {
    let conversation = target.conversation()?;
    if settings.chat_enabled {
        Ok(conversation)
    } else {
        Err(Refusal::ChatDisabled)
    }
}

fn post(
    agent: &Arc<Agent>,
    target: Target,
    body: Option<Private>,
    reference: Option<Ref>,
    settings: &Settings,
) -> Turn {
    if !settings.chat_enabled {
        return refuse(Refusal::ChatDisabled, reference.as_ref());
    }
    // A conversation without an id is one that the sender is not in.
    let conversation = match target {
        Target::Channel(Some(id)) => Conversation::Channel(id),
        Target::Direct(Some(id)) => Conversation::Direct(id),
        Target::Channel(None) => return refuse(Refusal::CannotPost, reference.as_ref()),
        Target::Direct(None) => return refuse(Refusal::NoThreadAccess, reference.as_ref()),
    };
    Turn::Ask(Ask::Post(Post {
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
    use crate::model::{AgentId, ChannelId};
    use crate::settings::Rows;

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

        fn say(&mut self, event: &Value) -> Turn {
            self.session.handle(
                &event.to_string(),
                &World {
                    agent: self.agent.as_ref(),
                    settings: &self.settings,
                    verifier: &TokenVerifier::new(SECRET),
                    now: self.now,
                    epoch: 1000,
                },
            )
        }
    }

    fn answer(turn: Turn) -> Value {
        match turn {
            Turn::Answer(text) | Turn::AnswerAndClose(text, _) => {
                serde_json::from_str(&text).expect("JSON")
            }
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
            Turn::Ask(Ask::Authenticate { claims, .. }) if claims.agent == AgentId(7)
        ));
        let mut client = Client::of(8);
        assert!(matches!(
            client.say(&json!({"type": "auth", "token": token(7)})),
            Turn::AnswerAndClose(_, CloseCode::Unauthorised)
        ));
    }

    #[test]
    fn typing_is_passed_on_once_in_its_interval_and_conversation() {
        let mut client = Client::of(7);
        let typing = |client: &mut Client, channel: u64| {
            matches!(
                client.say(&json!({"type": "chat.typing", "channel_id": channel})),
                Turn::Ask(Ask::Typing { .. })
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
            Turn::Ask(Ask::Post(post)) => {
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
                Turn::AnswerAndClose(_, CloseCode::Policy)
            )
        });
        assert!(closed);
    }
}
