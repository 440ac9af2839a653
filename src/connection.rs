//! One socket, from its first byte to its last: request head, frames in, outgoing bytes, goodbye. A worker that
//! was told that it is ready owns its input until it is armed again; anybody may write to it, through its
//! outbox. The only folder that names the WebSocket crate; no JSON, no SQL and no permissions here.

pub mod client;
mod fragments;
pub mod handshake;
mod keeper;
mod outbox;
mod poll;
mod port;
mod reactor;
mod unread;

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use log::debug;
use tungstenite::error::CapacityError;
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Error as WsError, Message};

pub use reactor::{Reactor, ReactorThreads};
pub use unread::PIECE_BYTES;

use self::fragments::Fragments;
use self::handshake::{Head, Policy, Refused};
use self::outbox::{Outbox, Pushed, Written};
use self::poll::Interest;
use self::port::{Port, websocket_config};
use self::unread::Unread;
use crate::clock::epoch_seconds;
use crate::frame::{Frame, Frames};
use crate::hits::{Limit, hit};
use crate::hub::{Subscriber, SubscriberId, SubscriberRef, Weight};
use crate::limits::MAX_HEAD_BYTES;
use crate::metrics::METRICS;
use crate::model::{Agent, CloseCode};
use crate::service::{Client, Progress};
use crate::session::{Session, Turn, World};

/// What is read from a socket at once, unless it is busy (`unread.rs`). Small, because every connection keeps a buffer of
/// this size.
const READ_BYTES: usize = 1024;
/// Events of one socket that are handled before other sockets have their turn.
const EVENTS_PER_TURN: usize = 64;
/// Bytes of one socket that are read before other sockets have their turn.
const BYTES_PER_TURN: usize = 64 * 1024;
/// Bytes of headers that a message in fragments may have beside its own size.
const FRAGMENT_OVERHEAD: usize = 64 * 1024;
/// Bytes of a closed socket that are thrown away in one turn.
const DRAIN_BYTES: usize = 16 * 1024;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// The request head is not complete.
    Head,
    /// No token was accepted yet.
    Unauthenticated,
    /// An agent's.
    Active,
    /// Taken down.
    Gone,
}

/// One socket.
pub struct Connection {
    id: SubscriberId,
    stream: TcpStream,
    peer: SocketAddr,
    reactor: Arc<Reactor>,
    input: Mutex<Input>,
    outbox: Mutex<Outbox>,
    phase: AtomicU8,
    agent: OnceLock<Arc<Agent>>,
    /// `exp` of the last accepted token, seconds since 1970.
    expires: AtomicU64,
    /// Whether a frame was read ahead and waits for the socket to be resumed.
    has_more: AtomicBool,
    /// Whether somebody was asked and resumes it; until then nothing is heard of the peer.
    parked: AtomicBool,
    /// Whether the flusher knows the socket.
    watched: AtomicBool,
    /// Whether there was no room for it.
    refused: AtomicBool,
    /// Coarse times, see [`Reactor::seconds`].
    since: AtomicU32,
    heard: AtomicU32,
    pinged: AtomicU32,
    closing_since: AtomicU32,
}

struct Input {
    stage: Stage,
    session: Session,
    unread: Unread,
    /// Bytes read in this turn.
    read: usize,
    /// Bytes read since the last complete message.
    incomplete: usize,
    fragments: Fragments,
    /// Whether a message came in too many frames: the socket's end.
    is_shredded: bool,
    /// Read while the frame before it was being handed on.
    ahead: Option<Result<Message, WsError>>,
}

enum Stage {
    Head(Vec<u8>),
    Frames(Box<WebSocketContext>),
    /// The goodbye is said; what still comes is thrown away until the peer ends.
    Draining,
}

/// What becomes of a socket after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Wait for more bytes.
    Read,
    /// Others first, then go on: there may be more already.
    Again,
    /// Whoever was asked resumes it.
    Parked,
    /// Take it down.
    Gone,
}

impl Connection {
    fn new(id: u64, stream: TcpStream, peer: SocketAddr, reactor: Arc<Reactor>) -> Self {
        let now = reactor.seconds();
        let session = Session::new(&reactor.service().limits, Instant::now());
        Connection {
            id: SubscriberId(id),
            stream,
            peer,
            input: Mutex::new(Input {
                stage: Stage::Head(Vec::new()),
                session,
                unread: Unread::default(),
                read: 0,
                incomplete: 0,
                fragments: Fragments::default(),
                is_shredded: false,
                ahead: None,
            }),
            outbox: Mutex::default(),
            phase: AtomicU8::new(Phase::Head as u8),
            agent: OnceLock::new(),
            expires: AtomicU64::new(0),
            has_more: AtomicBool::new(false),
            parked: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            since: AtomicU32::new(now),
            heard: AtomicU32::new(now),
            pinged: AtomicU32::new(now),
            closing_since: AtomicU32::new(0),
            reactor,
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Head,
            1 => Phase::Unauthenticated,
            2 => Phase::Active,
            _ => Phase::Gone,
        }
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles what the socket has to say. The caller owns the input.
    fn serve(self: &Arc<Self>) -> Next {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let next = self.serve_input(&mut input);
        drop(input);
        // Pongs that were written while reading.
        self.flush();
        next
    }

    fn serve_input(self: &Arc<Self>, input: &mut Input) -> Next {
        let now = self.reactor.seconds();
        self.heard.store(now, Ordering::Relaxed);
        input.read = 0;
        if matches!(input.stage, Stage::Head(_)) && !self.read_head(input) {
            return match self.outbox().is_closing() {
                true => self.drain(input),
                false if matches!(input.stage, Stage::Draining) => Next::Gone,
                false => Next::Read,
            };
        }
        for _ in 0..EVENTS_PER_TURN {
            if matches!(input.stage, Stage::Draining) || self.outbox().is_closing() {
                return self.drain(input);
            }
            let message = match input.ahead.take() {
                Some(message) => message,
                None => self.read_message(input),
            };
            match self.take(message, input) {
                Some(next) => return next,
                None => continue,
            }
        }
        Next::Again
    }

    /// Reads the request head. True once it was granted.
    fn read_head(self: &Arc<Self>, input: &mut Input) -> bool {
        let Stage::Head(bytes) = &mut input.stage else {
            return true;
        };
        let mut chunk = [0; READ_BYTES];
        loop {
            match (&self.stream).read(&mut chunk) {
                Ok(0) => {
                    input.stage = Stage::Draining;
                    return false;
                }
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    input.stage = Stage::Draining;
                    return false;
                }
            }
            let settings = self.reactor.service().settings();
            let limits = &self.reactor.service().limits;
            let policy = Policy {
                enabled: settings.websocket_enabled,
                app_urls: [self.reactor.app_url(), &settings.app_url],
                peer: self.peer,
                max_head_bytes: limits.handshake_bytes,
                site: self.reactor.site(),
            };
            match handshake::examine(bytes, &policy) {
                // A page's request may have a body behind its head.
                Head::Incomplete if bytes.len() <= limits.handshake_bytes + MAX_HEAD_BYTES => {}
                Head::Incomplete => {
                    self.refuse_head(&Refused::HeadTooLarge.response());
                    return false;
                }
                Head::Answered(response) => {
                    self.refuse_head(&response);
                    return false;
                }
                Head::Granted { response, length } => {
                    let rest = bytes.split_off(length);
                    self.push_bytes(&response, Weight::Essential);
                    METRICS.granted.add(1);
                    METRICS.open.add(1);
                    self.since.store(self.reactor.seconds(), Ordering::Relaxed);
                    self.phase
                        .store(Phase::Unauthenticated as u8, Ordering::Release);
                    let max_message = settings.max_message_bytes(limits);
                    let few = input.fragments.take(&rest, limits.fragments);
                    input.is_shredded = !few;
                    input.stage = Stage::Frames(Box::new(WebSocketContext::from_partially_read(
                        rest,
                        Role::Server,
                        Some(websocket_config(max_message)),
                    )));
                    return true;
                }
            }
        }
    }

    fn read_message(self: &Arc<Self>, input: &mut Input) -> Result<Message, WsError> {
        let Stage::Frames(context) = &mut input.stage else {
            return Err(WsError::AlreadyClosed);
        };
        let before = input.read;
        let message = context.read(&mut Port {
            connection: self,
            unread: &mut input.unread,
            read: &mut input.read,
            fragments: &mut input.fragments,
            is_shredded: &mut input.is_shredded,
        });
        match &message {
            Ok(_) => input.incomplete = 0,
            Err(_) => input.incomplete += input.read - before,
        }
        let limit = context.get_config().max_message_size.unwrap_or(usize::MAX);
        // A message in endless empty fragments never grows, and never ends.
        if input.is_shredded {
            hit(Limit::Fragments, || {
                format!(
                    "connection {} from {} sent a message in too many fragments",
                    self.id.0, self.peer
                )
            });
        }
        if input.is_shredded || input.incomplete > limit.saturating_add(FRAGMENT_OVERHEAD) {
            let size = input.incomplete;
            return Err(WsError::Capacity(CapacityError::MessageTooLong {
                size,
                max_size: limit,
            }));
        }
        message
    }

    /// Handles one message; `None`: go on with the next.
    fn take(
        self: &Arc<Self>,
        message: Result<Message, WsError>,
        input: &mut Input,
    ) -> Option<Next> {
        let code = match message {
            Ok(Message::Text(text)) => return self.take_event(text.as_str(), input),
            Ok(Message::Ping(_) | Message::Pong(_)) => {
                if input.session.take_control(Instant::now()) {
                    return None;
                }
                hit(Limit::Control, || {
                    format!(
                        "connection {} from {} sends pings or pongs too fast and is closed",
                        self.id.0, self.peer
                    )
                });
                CloseCode::Policy
            }
            Ok(Message::Frame(_)) => return None,
            Ok(Message::Binary(_)) => CloseCode::Unsupported,
            Ok(Message::Close(_)) => CloseCode::Normal,
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                return Some(match input.read >= BYTES_PER_TURN {
                    true => Next::Again,
                    false => Next::Read,
                });
            }
            Err(WsError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => return None,
            Err(WsError::Capacity(_)) => {
                if !input.is_shredded {
                    hit(Limit::MessageBytes, || {
                        format!(
                            "connection {} from {} sent a message that is too large",
                            self.id.0, self.peer
                        )
                    });
                }
                CloseCode::TooBig
            }
            Err(WsError::Utf8(_)) => CloseCode::InvalidUtf8,
            Err(WsError::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            )) => {
                return Some(Next::Gone);
            }
            Err(WsError::Protocol(error)) => {
                debug!("connection {} from {}: {error}", self.id.0, self.peer);
                CloseCode::ProtocolError
            }
            Err(_) => return Some(Next::Gone),
        };
        input.stage = Stage::Draining;
        // Through the hub, so that it cannot overtake the answers to earlier events.
        self.reactor
            .service()
            .hub
            .answer_and_close(self.subscriber_ref(), None, code);
        Some(Next::Parked)
    }

    fn take_event(self: &Arc<Self>, text: &str, input: &mut Input) -> Option<Next> {
        METRICS.events.add(1);
        let service = self.reactor.service();
        let now = Instant::now();
        let settings = service.settings();
        let turn = input.session.handle(
            text,
            &World {
                agent: self.agent.get(),
                settings: &settings,
                verifier: &service.verifier,
                now,
                epoch: epoch_seconds(),
            },
        );
        let hub = &service.hub;
        match turn {
            Turn::Silent => None,
            Turn::Answer(answer) => {
                hub.answer(self.subscriber_ref(), Frame::text(&answer), false);
                None
            }
            Turn::AnswerAndClose(answer, code) => {
                input.stage = Stage::Draining;
                hub.answer_and_close(self.subscriber_ref(), Some(Frame::text(&answer)), code);
                Some(Next::Parked)
            }
            Turn::Close(code) => {
                input.stage = Stage::Draining;
                hub.answer_and_close(self.subscriber_ref(), None, code);
                Some(Next::Parked)
            }
            Turn::Ask(ask) => {
                // Read ahead first: from the moment the question is out, somebody else may resume this socket.
                let ahead = self.read_message(input);
                let waits = matches!(&ahead, Err(WsError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock);
                let has_more = !waits || input.read >= BYTES_PER_TURN;
                if !waits {
                    input.ahead = Some(ahead);
                }
                self.has_more.store(has_more, Ordering::Release);
                self.parked.store(true, Ordering::Release);
                let client: Arc<dyn Client> = Arc::clone(self) as Arc<dyn Client>;
                match service.ask(&client, ask, now) {
                    Progress::Goes => {
                        self.parked.store(false, Ordering::Release);
                        None
                    }
                    Progress::Waits => Some(Next::Parked),
                }
            }
        }
    }

    /// Throws away what a closed socket still says, so that its last words are not lost to a reset.
    fn drain(&self, input: &mut Input) -> Next {
        input.stage = Stage::Draining;
        input.unread.forget();
        let mut chunk = [0; READ_BYTES];
        for _ in 0..DRAIN_BYTES / READ_BYTES {
            match (&self.stream).read(&mut chunk) {
                Ok(0) => return Next::Gone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Next::Gone,
            }
        }
        Next::Again
    }

    fn subscriber_ref(self: &Arc<Self>) -> SubscriberRef {
        Arc::clone(self) as SubscriberRef
    }

    /// Answers a request that is not granted.
    fn refuse_head(&self, response: &[u8]) {
        if response == Refused::HeadTooLarge.response() {
            hit(Limit::HandshakeBytes, || {
                format!("{} sent a request head that is too large", self.peer)
            });
        }
        self.say_last(response);
    }

    fn refuse(&self, refused: Refused) {
        self.say_last(&refused.response());
    }

    /// Queues a frame, or the response to the request, which is none.
    fn push_bytes(&self, bytes: &[u8], weight: Weight) -> Pushed {
        let (limit, now) = (self.reactor.queue_bytes(), self.reactor.seconds());
        self.outbox()
            .push(bytes, weight, limit, &mut &self.stream, now)
    }

    fn say_last(&self, bytes: &[u8]) {
        if self.outbox().close(bytes) {
            self.closing_since
                .store(self.reactor.seconds(), Ordering::Relaxed);
            self.flush();
        }
    }

    /// Drops a reader that is too slow; true where what was queued must be written.
    fn after(&self, pushed: Pushed) -> bool {
        if pushed == Pushed::Overflow {
            self.reactor.note_slow(self);
            self.kill();
        }
        pushed == Pushed::First
    }

    /// Sees to what writing came to.
    fn wrote(&self, written: Written) {
        match written {
            Written::All => {}
            Written::Goodbye => {
                // The peer reads our last words, then the end.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Written::Blocked => self.reactor.watch(self),
            Written::Broken => self.kill(),
        }
    }

    /// Ends both directions at once; the worker that is told of it takes the connection down.
    fn kill(&self) {
        // Fails only where the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

impl Subscriber for Connection {
    fn id(&self) -> SubscriberId {
        self.id
    }

    fn push(&self, frame: &Frame, weight: Weight) -> bool {
        self.after(self.push_bytes(frame.bytes(), weight))
    }

    fn push_all(&self, frames: &Frames, skipped: usize, weight: Weight) -> bool {
        let (limit, now) = (self.reactor.queue_bytes(), self.reactor.seconds());
        let socket = &mut &self.stream;
        let pushed = self
            .outbox()
            .push_all(frames, skipped, weight, limit, socket, now);
        self.after(pushed)
    }

    fn write_all(&self, frames: &Frames, skipped: usize, weight: Weight) {
        let mut outbox = self.outbox();
        let written = outbox.write_through(
            frames.bytes_from(skipped),
            self.reactor.queue_bytes(),
            &self.stream,
            self.reactor.seconds(),
        );
        drop(outbox);
        match written {
            Some(written) => self.wrote(written),
            None => {
                self.push_all(frames, skipped, weight);
                self.flush();
            }
        }
    }

    fn flush(&self) {
        let mut outbox = self.outbox();
        if outbox.backlog() == 0 && !outbox.is_closing() {
            return;
        }
        let written = outbox.write_to(&self.stream, self.reactor.seconds());
        drop(outbox);
        self.wrote(written);
    }

    fn close(&self, code: CloseCode) {
        self.say_last(Frame::close(code).bytes());
    }

    fn resume(&self) {
        self.heard.store(self.reactor.seconds(), Ordering::Relaxed);
        self.parked.store(false, Ordering::Release);
        let interest = match self.has_more.swap(false, Ordering::AcqRel) {
            true => Interest::ReadOrWrite,
            false => Interest::Read,
        };
        self.reactor.arm(self, interest);
    }
}

impl Client for Connection {
    fn authenticated(&self, agent: Arc<Agent>, expires: u64) {
        self.expires.store(expires, Ordering::Relaxed);
        if self.agent.set(agent).is_ok() {
            self.phase.store(Phase::Active as u8, Ordering::Release);
            self.reactor.note_authenticated();
        }
    }

    fn subscriber(self: Arc<Self>) -> SubscriberRef {
        self
    }
}
