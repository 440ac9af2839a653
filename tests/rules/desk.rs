//! The session and the chat behind it without a socket and without a server: events in as text, what comes back as JSON.
//! The store is SQLite in a folder of its own; the threads that a daemon has are started by the test that wants them.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use andrea_chat_websocket::auth::{self, TokenVerifier};
use andrea_chat_websocket::chat::{self, Channels, Chat, CommitOrder, PendingPost, Questions};
use andrea_chat_websocket::config::limits::Limits;
use andrea_chat_websocket::config::settings::Settings;
use andrea_chat_websocket::hub::{
    Command, Hub, HubConfig, Queued, Subscriber, SubscriberId, SubscriberRef, Weight,
};
use andrea_chat_websocket::model::{Agent, CloseCode};
use andrea_chat_websocket::platform::threads::{Progress, Threads};
use andrea_chat_websocket::protocol;
use andrea_chat_websocket::protocol::frame::{Frame, Frames};
use andrea_chat_websocket::session::{Action, Admission, ChatRequest, Session, SessionContext};
use andrea_chat_websocket::store::sqlite::SqliteStore;
use andrea_chat_websocket::store::{Pools, Store};
use crossbeam_channel::Receiver;
use serde_json::{Value, json};

use crate::support::embedded::File;
use crate::support::sql::Sql;
use crate::support::{jwt, seed, wait};

/// Seconds since 1970 of the desk's clock.
const EPOCH: u64 = 1_800_000_000;

/// A chat over freshly seeded rows.
pub struct Desk {
    pub chat: Arc<Chat>,
    /// Another program's connection to the same rows.
    sql: RefCell<Box<dyn Sql>>,
    pools: Pools,
    posts: RefCell<Option<Receiver<CommitOrder>>>,
    threads: RefCell<Vec<JoinHandle<()>>>,
    hub: Option<JoinHandle<()>>,
    now: Instant,
    _file: File,
}

impl Desk {
    /// One whose messages are stored.
    pub fn open() -> Desk {
        let desk = Desk::without_commit();
        desk.start_commit();
        desk
    }

    /// One that questions are answered at, and whose messages wait until `start_commit`.
    pub fn without_commit() -> Desk {
        let file = File::none();
        let store = SqliteStore::new(file.path());
        store.connect().expect("create the tables");
        let mut sql = file.conn();
        seed::reset(&mut sql);
        let store: Arc<dyn Store> = Arc::new(store);
        let rows = store.connect().and_then(|mut conn| conn.settings());
        let settings = Settings::from_rows(&rows.expect("settings"));
        // No client here is too fast; the rate has tests of its own.
        let limits = Limits {
            rate: 0,
            control_rate: 0,
            typing_interval: Duration::ZERO,
            presence_grace: Duration::ZERO,
            ..Limits::default()
        };
        let threads = Threads::new(|name| panic!("the thread {name} has ended"));
        let config = HubConfig {
            max_per_agent: limits.max_per_agent,
            presence_grace: limits.presence_grace,
            presence: |change| {
                Frame::text(&protocol::presence_updated(change.agent, change.is_online))
            },
            online: protocol::agent_ids,
            on_presence: Box::new(|_| {}),
        };
        let (hub, hub_thread) = Hub::start(config, &threads).expect("a thread");
        let verifier = TokenVerifier::new(jwt::SECRET);
        let (chat, (posts, questions)): (Chat, Channels) =
            Chat::new(threads, hub, None, None, limits, verifier, settings);
        let desk = Desk {
            chat: Arc::new(chat),
            sql: RefCell::new(Box::new(sql)),
            pools: Pools::new(&store, 3),
            posts: RefCell::new(Some(posts)),
            threads: RefCell::default(),
            hub: Some(hub_thread),
            now: Instant::now(),
            _file: file,
        };
        desk.start_questions(questions);
        desk
    }

    fn start_questions(&self, questions: Questions) {
        let (chat, pool) = (Arc::clone(&self.chat), Arc::clone(&self.pools.shared));
        let poller = spawn(move || chat::run_poller(&chat, &pool));
        let pool = Arc::clone(&self.pools.shared);
        let query = spawn(move || chat::run_queries(&questions, true, &pool));
        self.threads.borrow_mut().extend([poller, query]);
    }

    /// From here on what waits is stored, and whatever is posted.
    pub fn start_commit(&self) {
        let posts = self.posts.take().expect("not started yet");
        let (chat, pools) = (Arc::clone(&self.chat), self.pools.clone());
        let commit = spawn(move || {
            chat::run_commit(&chat, &posts, &pools, &Progress::new("commit"));
        });
        self.threads.borrow_mut().push(commit);
    }

    /// A client that has connected and said nothing.
    pub fn connect(&self) -> Person<'_> {
        static COUNT: AtomicU64 = AtomicU64::new(1);
        Person {
            desk: self,
            session: Session::new(&self.chat.limits, self.now),
            agent: None,
            socket: Arc::new(Socket {
                id: COUNT.fetch_add(1, Ordering::Relaxed),
                ..Socket::default()
            }),
            pending: None,
            read: 0,
        }
    }

    /// A client that has authenticated, and has read what that brought.
    pub fn login(&self, agent: u64) -> Person<'_> {
        self.resume(agent, None).0
    }

    /// The same for one that has everything up to `after`; also what it is told, up to the end of what it missed.
    pub fn resume(&self, agent: u64, after: Option<u64>) -> (Person<'_>, Vec<Value>) {
        let mut person = self.connect();
        let mut event = json!({"type": "auth", "token": token(agent)});
        if let Some(after) = after {
            event["after_id"] = after.into();
        }
        person.say(&event);
        let told = person.hear();
        assert_eq!(told[0]["type"], "auth.ok", "{told:?}");
        (person, told)
    }

    /// The only number that this query asks for.
    pub fn number(&self, query: &str) -> i64 {
        let rows = self.sql.borrow_mut().select(query);
        rows[0].entries()[0].1.int().expect("a number")
    }

    /// Runs a statement as another program.
    pub fn run(&self, statement: &str) {
        self.sql.borrow_mut().run(statement, vec![]);
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.chat.stop_commit(Instant::now());
        self.chat.stop_questions();
        self.chat.feed.stop();
        for thread in self.threads.take() {
            let _ = thread.join();
        }
        self.chat.hub.send(Command::Stop);
        let _ = self.hub.take().map(JoinHandle::join);
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let builder = thread::Builder::new().name("desk".to_owned());
    builder.spawn(run).expect("a thread")
}

/// A token of this agent that is good at the desk's time.
pub fn token(agent: u64) -> String {
    let claims = json!({"sub": agent, "type": "agent", "iat": EPOCH - 60, "exp": EPOCH + 3600});
    auth::sign(jwt::SECRET, &claims).expect("signed")
}

/// A client.
pub struct Person<'a> {
    desk: &'a Desk,
    session: Session,
    agent: Option<Arc<Agent>>,
    socket: Arc<Socket>,
    pending: Option<Arc<PendingPost>>,
    read: usize,
}

impl Person<'_> {
    /// One event in, as a connection's thread takes it.
    pub fn say(&mut self, event: &Value) {
        self.say_text(&event.to_string());
    }

    /// The same for what may be no JSON.
    pub fn say_text(&mut self, text: &str) {
        self.await_stored();
        let chat = &self.desk.chat;
        let settings = chat.settings();
        let action = self.session.handle(
            text,
            &SessionContext {
                agent: self.agent.as_ref(),
                agent_admission: Admission::Granted,
                settings: &settings,
                verifier: &chat.verifier,
                client: &"client",
                limit_log: &chat.limit_log,
                now: self.desk.now,
                epoch: EPOCH,
            },
        );
        let from: SubscriberRef = Arc::clone(&self.socket) as SubscriberRef;
        match action {
            Action::Silent => {}
            Action::Answer(answer) => chat.hub.answer(from, Some(Frame::text(&answer)), None),
            Action::RefuseToken(answer, _) => {
                let code = Some(CloseCode::Unauthorised);
                chat.hub.answer(from, Some(Frame::text(&answer)), code);
            }
            Action::AnswerAndClose(answer, code) => {
                chat.hub
                    .answer(from, Some(Frame::text(&answer)), Some(code));
            }
            Action::Request(ask) => self.ask(&from, ask),
        }
    }

    fn ask(&mut self, from: &SubscriberRef, ask: ChatRequest) {
        let chat = &self.desk.chat;
        match ask {
            ChatRequest::Authenticate {
                claims,
                after,
                reference,
            } => {
                let remembered = after.is_none();
                let active = chat.authenticate(from, &claims, remembered, reference.as_ref());
                if let Some(active) = active {
                    self.agent = Some(Arc::clone(&active.0));
                    chat.join(from, active, after, reference.as_ref());
                }
            }
            ChatRequest::Post(post) => self.pending = Some(chat.post(from, post)),
            ChatRequest::Typing(asked) => chat.typing(from, &asked),
            ChatRequest::Read(asked, last) => chat.mark_read(from, &asked, last),
            ChatRequest::History(asked, before, limit) => chat.history(from, &asked, before, limit),
            ChatRequest::Search(search, limit, reference) => {
                chat.search(from, search, limit, reference.as_ref());
            }
            ChatRequest::Unread(agent, reference) => {
                chat.unread(from, agent.id, reference.as_ref())
            }
        }
    }

    /// Says something in a channel, with this `ref` unless it is empty.
    pub fn post(&mut self, channel: u64, body: &str, reference: &str) {
        let mut event =
            json!({"type": "chat.channel.message.send", "channel_id": channel, "body": body});
        if !reference.is_empty() {
            event["ref"] = reference.into();
        }
        self.say(&event);
    }

    /// Returns once the message that was said last is in the hub's channel, or refused.
    pub fn await_stored(&mut self) {
        if let Some(pending) = self.pending.take() {
            pending.wait();
        }
    }

    /// Answers the message that waits as the thread that watches deadlines does.
    pub fn refuse_overdue(&self, now: Option<Instant>) {
        let pending = self.pending.as_ref().expect("a message that waits");
        self.desk.chat.refuse_overdue(pending, now);
    }

    /// What this client was told since the last call, up to now.
    pub fn hear(&mut self) -> Vec<Value> {
        self.await_stored();
        let barrier = format!("barrier-{}", self.read);
        if self.socket.closed().is_none() {
            let pong = json!({"type": "pong", "ref": barrier}).to_string();
            let to: SubscriberRef = Arc::clone(&self.socket) as SubscriberRef;
            self.desk
                .chat
                .hub
                .answer(to, Some(Frame::text(&pong)), None);
        }
        let mut told = self.await_told(|one| one["ref"] == barrier.as_str());
        told.retain(|one| one["ref"] != barrier.as_str());
        told
    }

    /// What this client was told since the last call, up to the first that fits.
    pub fn await_told(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let told = self.socket.read(self.read, fits);
        self.read += told.len();
        told
    }

    /// With which code the service has closed the socket.
    pub fn closed(&self) -> Option<u16> {
        self.socket.closed().map(|code| code.number())
    }
}

impl Drop for Person<'_> {
    fn drop(&mut self) {
        if let Some(agent) = &self.agent {
            self.desk
                .chat
                .hub
                .send(Command::Leave(agent.id, SubscriberId(self.socket.id)));
        }
    }
}

/// A socket that keeps what it is told.
#[derive(Default)]
struct Socket {
    id: u64,
    told: Mutex<(Vec<Value>, Option<CloseCode>)>,
    changed: Condvar,
}

impl Socket {
    fn closed(&self) -> Option<CloseCode> {
        self.told.lock().expect("no panic under this lock").1
    }

    fn read(&self, from: usize, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let told = self.told.lock().expect("no panic under this lock");
        let is_missing = |(told, closed): &mut (Vec<Value>, Option<CloseCode>)| {
            closed.is_none() && !told[from..].iter().any(&fits)
        };
        let (told, timeout) = self
            .changed
            .wait_timeout_while(told, wait::LIMIT, is_missing)
            .expect("no panic under this lock");
        let new = &told.0[from..];
        assert!(!timeout.timed_out(), "only this was told: {new:?}");
        let end = new.iter().position(fits).map_or(new.len(), |at| at + 1);
        new[..end].to_vec()
    }
}

impl Subscriber for Socket {
    fn id(&self) -> SubscriberId {
        SubscriberId(self.id)
    }

    fn push(&self, frames: &Frames, skipped: usize, _: Weight) -> Queued {
        let mut told = self.told.lock().expect("no panic under this lock");
        for frame in frames.iter_from(skipped) {
            told.0.extend(texts_of(frame));
        }
        self.changed.notify_all();
        Queued::Nothing
    }

    fn flush(&self) {}

    fn close(&self, code: CloseCode) {
        let mut told = self.told.lock().expect("no panic under this lock");
        told.1 = Some(code);
        self.changed.notify_all();
    }
}

/// The JSON of unmasked text frames, which may come as one piece.
fn texts_of(mut bytes: &[u8]) -> Vec<Value> {
    let mut texts = Vec::new();
    while let [kind, length, ..] = *bytes {
        assert_eq!(kind, 0x81, "a whole text");
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => {
                let length = bytes[2..10].try_into().expect("eight bytes");
                (10, u64::from_be_bytes(length) as usize)
            }
            length => (2, usize::from(length)),
        };
        let (text, rest) = bytes[start..].split_at(length);
        texts.push(serde_json::from_slice(text).expect("JSON"));
        bytes = rest;
    }
    texts
}
