//! One socket, from its first byte to its last. Its thread reads the request, then one event after the other. It waits also
//! for answers of the database (each at most [`STORE_TIMEOUT`](crate::config::limits::STORE_TIMEOUT)), for its last message
//! to be done, and for room in the hub's channel. The hub, the flusher and the thread itself write through its outbox.

use std::io::{self, Read};
use std::mem;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use log::{debug, error};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketContext};
use tungstenite::{Error as WsError, Message, Utf8Bytes};

use super::Server;
use super::handshake::{self, Head, Policy};
use super::outbox::{AlreadyClosing, Closing, Outbox, Overflow, Written};
use super::stream::{NonBlocking, WsStream, max_bytes_on_line, websocket_config};
use crate::chat::PendingPost;
use crate::config::limits::MAX_HEAD_BYTES;
use crate::http::{Refused, refusal};
use crate::hub::{Command, Queued, Subscriber, SubscriberId, SubscriberRef, Weight};
use crate::model::{Agent, AgentId, CloseCode};
use crate::platform::clock::epoch_seconds;
use crate::platform::failpoint;
use crate::platform::metrics::{Limit, METRICS};
use crate::platform::threads::lock;
use crate::protocol::frame::{Frame, Frames};
use crate::session::{Action, Admission, ChatRequest, Session, SessionContext};

/// What is read from a socket at once. Small, because every connection keeps a buffer of this size.
pub(super) const READ_BYTES: usize = 1024;
/// Header of a client's ping or pong: two bytes and the mask (RFC 6455 section 5.2).
const CONTROL_HEADER_BYTES: usize = 6;
/// After this long a socket is silent if its request is incomplete, or if it has sent nothing since the request.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// After this long an unauthenticated socket is silent even if it has sent something.
const IDLING_AFTER: Duration = Duration::from_secs(3);

/// One socket.
pub(super) struct Connection {
    pub(super) id: SubscriberId,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) server: Arc<Server>,
    pub(super) outbox: Mutex<Outbox>,
    pub(super) state: Mutex<ConnectionState>,
    /// The message that was handed over last. The next event is handled only once it is done.
    post: Mutex<Option<Arc<PendingPost>>>,
    /// The agent that it belongs to, for the log.
    pub(super) agent: OnceLock<AgentId>,
    /// The client's address as a proxy on this machine names it, for the log.
    pub(super) forwarded: OnceLock<IpAddr>,
    /// The close frame that it was sent, for the log.
    pub(super) closed: OnceLock<CloseCode>,
}

/// What other threads have to know of a socket that only its own thread reads.
pub(super) struct ConnectionState {
    pub(super) phase: Phase,
    /// When the connection was accepted; for a WebSocket, when its request was granted.
    pub(super) since: Instant,
    /// When the last byte came.
    pub(super) heard: Instant,
    pub(super) pinged: Instant,
    /// The thread waits for bytes. If not, it handles what came, and may be waiting for the database.
    pub(super) is_reading: bool,
}

/// How far a connection has come.
pub(super) enum Phase {
    /// The request head is not complete.
    Request,
    /// It is a WebSocket, and no valid token has arrived yet.
    Unauthenticated,
    /// A token has arrived, and the database is being asked.
    Authenticating,
    /// An agent's, until its token expires at `expires`, in seconds since 1970.
    Authenticated { agent: Arc<Agent>, expires: u64 },
    /// Its request was answered with a page or a refusal.
    Answered,
}

impl Connection {
    pub(super) fn new(
        id: SubscriberId,
        stream: TcpStream,
        peer: SocketAddr,
        server: Arc<Server>,
    ) -> Self {
        let now = Instant::now();
        Connection {
            id,
            stream,
            peer,
            server,
            outbox: Mutex::default(),
            state: Mutex::new(ConnectionState {
                phase: Phase::Request,
                since: now,
                heard: now,
                pinged: now,
                is_reading: true,
            }),
            post: Mutex::default(),
            agent: OnceLock::new(),
            forwarded: OnceLock::new(),
            closed: OnceLock::new(),
        }
    }

    /// The thread of the connection. A panic costs this one connection.
    pub(super) fn run(self: &Arc<Self>) {
        if catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            error!(
                "{self}: panic in its handler (see above), closed with {}",
                CloseCode::Internal.number()
            );
            self.close(CloseCode::Internal);
        }
        // The socket first, bookkeeping after.
        self.kill();
        self.server.registry.remove(self.id);
        // The message refers to this connection: the cycle would keep both alive for ever.
        *lock(&self.post) = None;
        let (phase, since) = {
            let mut state = lock(&self.state);
            (mem::replace(&mut state.phase, Phase::Answered), state.since)
        };
        self.tell_end(&phase, since);
        if !matches!(phase, Phase::Request | Phase::Answered) {
            METRICS.open.sub(1);
        }
        if let Phase::Authenticated { agent, .. } = phase {
            let leave = Command::Leave(agent.id, self.id);
            self.server.chat.hub.send(leave);
        }
    }

    fn serve(self: &Arc<Self>) {
        if let Some(first_bytes) = self.read_request() {
            Reader::new(self, first_bytes).run();
        }
        self.drain();
    }

    /// Reads the request and answers it. If the socket became a WebSocket, returns what came behind the request's head.
    ///
    /// Not inlined, like others here: its buffers would take room on the stack for as long as the connection lives.
    #[inline(never)]
    fn read_request(&self) -> Option<Vec<u8>> {
        let server = &self.server;
        let mut bytes = Vec::new();
        let mut chunk = [0; READ_BYTES];
        loop {
            match self.read(&mut chunk) {
                Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
                Ok(0) | Err(_) => return None,
            }
            failpoint::reach("connection");
            let settings = server.chat.settings();
            let policy = Policy {
                is_enabled: settings.websocket_enabled && !server.is_closing(),
                app_urls: [&server.app_url, &settings.app_url],
                peer: self.peer,
                site: server.site.as_deref(),
            };
            let head = match handshake::examine(&bytes, &policy) {
                // A page's request may have a body of up to MAX_HEAD_BYTES behind its head.
                Head::Incomplete if bytes.len() > 2 * MAX_HEAD_BYTES => {
                    Head::page(Refused::HeadTooLarge.response())
                }
                head => head,
            };
            if !matches!(head, Head::Incomplete)
                && let Some(client) = refusal::forwarded_for(&bytes, self.peer)
            {
                let _ = self.forwarded.set(client);
            }
            match head {
                Head::Incomplete => {}
                Head::Answered { response, refusal } => {
                    if let Some((status, why)) = refusal {
                        METRICS.refused.count(status);
                        if status == "431" {
                            METRICS.limits.count(Limit::HandshakeBytes.name());
                        }
                        let log = &server.chat.refusal_log;
                        log.warn(|| format!("{self}: refused with {status}: {why}"));
                    }
                    let _ = self.say_last(&response, Closing::Gracefully);
                    return None;
                }
                Head::Granted { response, length } => {
                    debug!("{self}: connected");
                    METRICS.granted.add(1);
                    METRICS.open.add(1);
                    self.enter(Phase::Unauthenticated);
                    self.send(&response);
                    return Some(bytes.split_off(length));
                }
            }
        }
    }

    /// Discards what the peer still sends, until it closes its side or its time is over: with unread bytes the kernel
    /// would reset the connection, and our last words might be lost.
    #[inline(never)]
    fn drain(&self) {
        let mut chunk = [0; READ_BYTES];
        while self.read(&mut chunk).is_ok_and(|count| count > 0) {}
    }

    /// Blocks for bytes.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.state).is_reading = true;
        let result = loop {
            match (&self.stream).read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        let mut state = lock(&self.state);
        state.is_reading = false;
        if matches!(result, Ok(1..)) {
            state.heard = Instant::now();
        }
        result
    }

    fn enter(&self, phase: Phase) {
        let mut state = lock(&self.state);
        if matches!(phase, Phase::Unauthenticated) {
            state.since = Instant::now();
        }
        state.phase = phase;
    }

    /// The socket is an agent's from now on, or its token was renewed.
    fn authenticated(&self, agent: Arc<Agent>, expires: u64) {
        if self.agent.set(agent.id).is_ok() {
            debug!("{self}: authenticated");
        }
        self.enter(Phase::Authenticated { agent, expires });
        self.server.registry.release_place(self.id);
    }

    /// Sends the last words that fit the phase: the response to a request, or a close frame.
    pub(super) fn end(&self, refused: Refused, code: CloseCode, closing: Closing) {
        let is_request = matches!(lock(&self.state).phase, Phase::Request);
        if !is_request {
            return self.say_close(code, closing);
        }
        // A frame would be no answer to a request.
        METRICS.refused.count(refused.status());
        let _ = self.say_last(&refused.response(), closing);
    }

    fn say_close(&self, code: CloseCode, closing: Closing) {
        if self.say_last(Frame::close(code).bytes(), closing).is_ok() {
            METRICS.closes.count(code.number());
            let _ = self.closed.set(code);
        }
    }

    /// Closes a socket whose place a newcomer needs, or that has missed a deadline.
    pub(super) fn evict(&self) {
        self.end(Refused::Timeout, CloseCode::AuthTimeout, Closing::AtOnce);
        // `end` does not do so where the outbox is closing or broken already.
        self.server.registry.release_place(self.id);
    }

    /// Queues the last words, gives back the place of an unauthenticated socket, and writes what the socket takes.
    pub(super) fn say_last(&self, bytes: &[u8], closing: Closing) -> Result<(), AlreadyClosing> {
        lock(&self.outbox).close(bytes, closing)?;
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Request) {
            state.phase = Phase::Answered;
        }
        drop(state);
        self.server.registry.release_place(self.id);
        self.flush();
        Ok(())
    }

    /// Writes what goes past the hub: the response to the request, a ping, and what the WebSocket crate sends (a pong).
    pub(super) fn send(&self, bytes: &[u8]) {
        let limit = self.server.chat.limits.queue_bytes;
        let socket = &mut NonBlocking(&self.stream);
        let pushed = lock(&self.outbox).push(bytes, Weight::Essential, limit, socket);
        if self.after(pushed) == Queued::NeedsFlush {
            self.flush();
        }
    }

    /// Drops the reader if its outbox has overflowed.
    fn after(&self, pushed: Result<Queued, Overflow>) -> Queued {
        pushed.unwrap_or_else(|Overflow| {
            self.drop_slow();
            Queued::Nothing
        })
    }

    /// Acts on the result of a write.
    fn wrote(&self, written: Written) {
        match written {
            Written::All => {}
            // The peer reads our last words, then the end.
            Written::LastWords(Closing::Gracefully) => {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Written::Blocked => self.server.flusher.watch(self),
            Written::LastWords(Closing::AtOnce) | Written::Broken => self.kill(),
        }
    }

    /// Shuts down both directions at once, which also ends the thread's read.
    pub(super) fn kill(&self) {
        // Fails only where the peer is gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Whether it holds the place of an unauthenticated socket but makes no progress.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        let state = lock(&self.state);
        let limit = match state.phase {
            Phase::Unauthenticated if state.heard > state.since => IDLING_AFTER,
            Phase::Request | Phase::Unauthenticated => SILENT_AFTER,
            Phase::Authenticating | Phase::Authenticated { .. } | Phase::Answered => return false,
        };
        now.saturating_duration_since(state.since) >= limit && self.is_unheard(&state)
    }

    /// Whether everything that came was read and handled. If so, a delay is the peer's.
    pub(super) fn is_unheard(&self, state: &ConnectionState) -> bool {
        state.is_reading && ioctl_fionread(&self.stream).is_ok_and(|bytes| bytes == 0)
    }

    /// Whether its thread handles something, or is about to.
    pub(super) fn is_busy(&self) -> bool {
        !self.is_unheard(&lock(&self.state))
    }

    /// The message that was handed over last, unless it is known to be done.
    pub(super) fn post(&self) -> Option<Arc<PendingPost>> {
        lock(&self.post).clone()
    }
}

impl Subscriber for Connection {
    fn id(&self) -> SubscriberId {
        self.id
    }

    fn name(&self) -> String {
        self.to_string()
    }

    fn push(&self, frames: &Frames, skipped: usize, weight: Weight) -> Queued {
        let limit = self.server.chat.limits.queue_bytes;
        let socket = &mut NonBlocking(&self.stream);
        let pushed = lock(&self.outbox).push_all(frames, skipped, weight, limit, socket);
        self.after(pushed)
    }

    fn is_gone(&self) -> bool {
        let mut look = [PollFd::new(&self.stream, PollFlags::RDHUP)];
        let found = poll(&mut look, Some(&Timespec::default()));
        found.is_ok_and(|count| count > 0) || lock(&self.outbox).is_closing()
    }

    fn flush(&self) {
        let mut outbox = lock(&self.outbox);
        if outbox.backlog() == 0 && !outbox.is_closing() {
            return;
        }
        let written = outbox.write_to(NonBlocking(&self.stream));
        drop(outbox);
        self.wrote(written);
    }

    fn close(&self, code: CloseCode) {
        self.say_close(code, Closing::Gracefully);
    }
}

/// The reading side of a WebSocket; lives on its thread.
struct Reader<'a> {
    connection: &'a Arc<Connection>,
    context: WebSocketContext,
    /// Bytes read since the last message was complete, pings and pongs not counted.
    message_bytes: usize,
    session: Session,
    agent: Option<Arc<Agent>>,
}

impl<'a> Reader<'a> {
    fn new(connection: &'a Arc<Connection>, first_bytes: Vec<u8>) -> Self {
        let chat = &connection.server.chat;
        let max_message = chat.settings().max_message_bytes(&chat.limits);
        let config = websocket_config(max_message);
        Reader {
            connection,
            context: WebSocketContext::from_partially_read(first_bytes, Role::Server, Some(config)),
            message_bytes: 0,
            session: Session::new(&chat.limits, Instant::now()),
            agent: None,
        }
    }

    /// Handles events until the socket ends or is closed.
    #[inline(never)]
    fn run(&mut self) {
        while let Some(text) = self.next_event() {
            failpoint::reach("connection");
            METRICS.events.add(1);
            self.connection.tell_event(&text);
            let chat = &self.connection.server.chat;
            if failpoint::echoes() {
                let echo = Some(Frame::text(&text));
                chat.hub.answer(self.subscriber(), echo, None);
                continue;
            }
            let settings = chat.settings();
            let now = Instant::now();
            let agent = self.agent.as_ref();
            let action = self.session.handle(
                &text,
                &SessionContext {
                    agent,
                    agent_admission: agent
                        .map_or(Admission::Granted, |agent| chat.admit(agent.id, now)),
                    settings: &settings,
                    verifier: &chat.verifier,
                    limit_log: &chat.limit_log,
                    client: self.connection,
                    now,
                    epoch: epoch_seconds(),
                },
            );
            let to = self.subscriber();
            let (answer, close) = match action {
                Action::Silent => continue,
                Action::Answer(answer) => (answer, None),
                Action::AnswerAndClose(answer, code) => (answer, Some(code)),
                Action::RefuseToken(answer, why) => {
                    chat.auth_log
                        .warn(|| format!("{}: authentication failed: {why}", self.connection));
                    (answer, Some(CloseCode::Unauthorised))
                }
                Action::Request(ask) => match self.ask(&to, ask) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return,
                },
            };
            chat.hub.answer(to, Some(Frame::text(&answer)), close);
            if close.is_some() {
                return;
            }
        }
    }

    /// Does what the session asked for, unless the socket is being closed.
    #[inline(never)]
    fn ask(&mut self, from: &SubscriberRef, ask: ChatRequest) -> ControlFlow<()> {
        let chat = &self.connection.server.chat;
        match ask {
            ChatRequest::Authenticate {
                claims,
                after,
                reference,
            } => {
                if self.agent.is_none() {
                    self.connection.enter(Phase::Authenticating);
                }
                // A client that asks for what it missed needs the database anyway.
                let may_be_remembered = after.is_none();
                let reference = reference.as_ref();
                let known = chat.authenticate(from, &claims, may_be_remembered, reference);
                let Some(known) = known else {
                    return ControlFlow::Break(());
                };
                self.agent = Some(Arc::clone(&known.0));
                self.connection
                    .authenticated(Arc::clone(&known.0), claims.expires);
                chat.join(from, known, after, reference);
            }
            ChatRequest::Post(post) => {
                *lock(&self.connection.post) = Some(chat.post(from, post));
            }
            ChatRequest::Typing(asked) => chat.typing(from, &asked),
            ChatRequest::Read(asked, last_read) => chat.mark_read(from, &asked, last_read),
            ChatRequest::History(asked, before, limit) => chat.history(from, &asked, before, limit),
            ChatRequest::Search(search, limit, reference) => {
                chat.search(from, search, limit, reference.as_ref());
            }
            ChatRequest::Unread(agent, reference) => {
                chat.unread(from, agent.id, reference.as_ref())
            }
        }
        ControlFlow::Continue(())
    }

    /// The next text. Pings and pongs are handled at once; anything else waits until the last message is done. `None`: the
    /// socket has ended, or is being closed.
    #[inline(never)]
    fn next_event(&mut self) -> Option<Utf8Bytes> {
        let connection = self.connection;
        let chat = &connection.server.chat;
        let code = loop {
            let max_bytes = max_bytes_on_line(self.context.get_config());
            let message = self.context.read(&mut WsStream {
                connection,
                message_bytes: &mut self.message_bytes,
                max_bytes,
            });
            let is_too_big = self.message_bytes > max_bytes;
            self.message_bytes = match &message {
                // A ping or pong may come between the fragments of a message, whose count goes on.
                Ok(Message::Ping(data) | Message::Pong(data)) => self
                    .message_bytes
                    .saturating_sub(CONTROL_HEADER_BYTES + data.len()),
                Ok(_) => 0,
                Err(_) => self.message_bytes,
            };
            let is_control = matches!(message, Ok(Message::Ping(_) | Message::Pong(_)));
            if is_control && self.session.admit_control(Instant::now()) == Admission::Granted {
                continue;
            }
            if let Some(post) = connection.post() {
                post.wait();
                *lock(&connection.post) = None;
            }
            if connection.server.is_closing() || lock(&connection.outbox).is_closing() {
                return None;
            }
            break match message {
                Ok(Message::Text(text)) => return Some(text),
                Ok(Message::Ping(_) | Message::Pong(_)) => {
                    chat.limit_log.hit(Limit::Control, || {
                        format!("{connection}: closed, sends pings or pongs too fast")
                    });
                    CloseCode::Policy
                }
                Ok(Message::Frame(_)) => continue,
                Ok(Message::Binary(_)) => CloseCode::Unsupported,
                // The crate has replaced a code that may not be sent (RFC 6455 section 7.4) by 1002.
                Ok(Message::Close(close)) => {
                    CloseCode::Answer(close.map_or(1000, |close| close.code.into()))
                }
                Err(error) if is_too_big || matches!(error, WsError::Capacity(_)) => {
                    chat.limit_log.hit(Limit::MessageBytes, || {
                        format!("{connection}: closed, sent a message that is too large (CHAT_WEBSOCKET_MESSAGE_BYTES)")
                    });
                    CloseCode::TooBig
                }
                Err(WsError::Utf8(_)) => CloseCode::InvalidUtf8,
                Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return None,
                Err(WsError::Protocol(error)) => {
                    debug!("{connection}: {error}");
                    CloseCode::ProtocolError
                }
                Err(_) => return None,
            };
        };
        // Through the hub, so that it cannot overtake the answers to earlier events.
        chat.hub.answer(self.subscriber(), None, Some(code));
        None
    }

    fn subscriber(&self) -> SubscriberRef {
        Arc::clone(self.connection) as SubscriberRef
    }
}
