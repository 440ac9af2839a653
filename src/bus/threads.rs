//! The two threads of the bus: one listens and hands on, one speaks from a bounded queue. Nothing waits for either.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use log::{debug, info, warn};
use percent_encoding::percent_decode_str;
use url::Url;

use super::BadAddress;
use super::note::{Audience, Guard, MAX_AGENTS, MAX_BYTES, Note, NoteRefused, Seal, keyed};
use crate::hub::{Command, DaemonId, Hub, Publication, RemotePresence, Weight};
use crate::model::{Agent, AgentId, Conversation, MessageId};
use crate::platform::failpoint;
use crate::platform::metrics::METRICS;
use crate::platform::redis::{RedisAddress, RedisConnection, Reply};
use crate::platform::threads::Threads;
use crate::protocol;
use crate::protocol::frame::Frame;

/// Notes that may wait.
const QUEUE_LENGTH: usize = 4096;
/// How often a daemon tells which agents it has. It hears its own notes too, so silence for longer is a broken line.
const ROLL_CALL_INTERVAL: Duration = Duration::from_secs(10);
/// How long a call to Redis may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a goodbye may take.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause before Redis is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Notes of one connection that may be refused before it is given up: a flood of them costs no more than that.
const MAX_REFUSED: usize = 100;
/// Pause after that.
const FLOOD_PAUSE: Duration = Duration::from_secs(10);
/// Stack of a thread, in bytes; looking up a host's name takes most of it.
const STACK: usize = 256 * 1024;

/// The way onto the bus.
#[derive(Clone, Debug)]
pub struct Bus {
    notes: Sender<Note>,
}

/// Where the notes go, and what both threads know.
pub(crate) struct Connector {
    redis: RedisAddress,
    channel: String,
    seal: Seal,
    /// This daemon.
    own: u64,
    notes: Receiver<Note>,
    is_stopping: AtomicBool,
}

/// The threads of the bus.
pub(crate) struct BusThreads {
    spoken: Receiver<()>,
    line: Arc<Connector>,
}

/// Prepares the bus at `url`. All daemons with the same `secret` share a channel and understand each other.
///
/// # Errors
/// It is not a URL of Redis.
pub(crate) fn prepare(url: &str, secret: &str) -> Result<Option<(Bus, Connector)>, BadAddress> {
    let redis = address(url).ok_or(BadAddress)?;
    let (notes, queue) = bounded(QUEUE_LENGTH);
    // Two containers may have the same pid, and two daemons may start at the same time.
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let itself = format!("{} {} {random}", milliseconds(), std::process::id());
    let connector = Connector {
        redis,
        channel: format!("andrea-chat:2:{:016x}", id(secret, "chat bus: channel")),
        seal: Seal::new(secret),
        own: id(secret, &itself),
        notes: queue,
        is_stopping: AtomicBool::new(false),
    };
    Ok(Some((Bus { notes }, connector)))
}

impl Bus {
    /// A message was committed.
    pub fn posted(&self) {
        self.say(Note::Posted);
    }

    /// An agent's first socket was opened here, or its last one closed.
    pub fn presence(&self, agent: AgentId, online: bool) {
        self.say(Note::Presence {
            agent: agent.0,
            online,
        });
    }

    /// Queues a note, or drops it if the queue is full: the database has what matters.
    fn say(&self, note: Note) {
        if let Err(TrySendError::Full(_)) = self.notes.try_send(note) {
            debug!("the bus is slower than the chat; a note is dropped");
        }
    }

    /// An agent types, and these agents are to be told.
    pub fn typing(&self, conversation: Conversation, agent: &Agent, audience: &[AgentId]) {
        for part in audience.chunks(MAX_AGENTS) {
            self.say(Note::Typing {
                to: Audience::new(conversation, part),
                agent: agent.id.0,
                name: agent.name.clone(),
            });
        }
    }

    /// An agent's read marker was moved, and these agents are to be told.
    pub fn read(
        &self,
        conversation: Conversation,
        agent: AgentId,
        last_read: MessageId,
        audience: &[AgentId],
    ) {
        for part in audience.chunks(MAX_AGENTS) {
            self.say(Note::Read {
                to: Audience::new(conversation, part),
                agent: agent.0,
                last_read: last_read.0,
            });
        }
    }
}

fn address(url: &str) -> Option<RedisAddress> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "redis")?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let database = url.path().trim_matches('/');
    Some(RedisAddress {
        host: match url.host_str() {
            Some("") | None => "127.0.0.1".to_owned(),
            Some(host) => host.to_owned(),
        },
        port: url.port().unwrap_or(6379),
        user: Some(decoded(url.username())).filter(|user| !user.is_empty()),
        password: url.password().map(decoded),
        // Channels belong to no database, but an invalid number is a typing error.
        database: match database {
            "" => 0,
            number => i64::from(number.parse::<u32>().ok()?),
        },
    })
}

fn id(secret: &str, purpose: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = keyed(secret, purpose);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

impl Connector {
    /// Starts both threads. `look_now` is called where another daemon has committed a message.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(
        self,
        threads: &Threads,
        hub: &Hub,
        bus: &Bus,
        look_now: impl Fn() + Send + 'static,
    ) -> io::Result<BusThreads> {
        let line = Arc::new(self);
        let mut listener = BusListener {
            guard: Guard::new(line.seal.clone(), milliseconds()),
            line: Arc::clone(&line),
            hub: hub.clone(),
            bus: bus.clone(),
            look_now: Box::new(look_now),
        };
        // Neither is joined: it may be waiting for Redis, and the process does not wait for it.
        threads.spawn("bus-in", STACK, move || listener.run())?;
        let (done, spoken) = bounded(1);
        let (speaker, hub) = (Arc::clone(&line), hub.clone());
        threads.spawn("bus-out", STACK, move || {
            speaker.speak(&hub);
            let _ = done.send(());
        })?;
        Ok(BusThreads { spoken, line })
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn speak(&self, hub: &Hub) {
        let mut connection: Option<RedisConnection> = None;
        let mut number = 0;
        let mut roll_call = Instant::now();
        let mut retry = Instant::now();
        loop {
            // Also while notes wait all the time: others take a daemon that is not heard of for gone.
            let received = match Instant::now() < roll_call {
                true => self.notes.recv_deadline(roll_call),
                false => Err(RecvTimeoutError::Timeout),
            };
            let note = match received {
                Ok(note) => note,
                Err(RecvTimeoutError::Timeout) => {
                    roll_call = Instant::now() + ROLL_CALL_INTERVAL;
                    Note::agents(&hub.local_agents())
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            failpoint::reach("bus-out");
            let is_last = note == Note::Gone;
            let deadline = Instant::now() + CALL_TIMEOUT;
            if connection.is_none() && Instant::now() >= retry {
                retry = Instant::now() + RETRY_PAUSE;
                connection = RedisConnection::open(&self.redis, MAX_BYTES, deadline).ok();
            }
            number += 1;
            if let Some(open) = &mut connection
                && let Some(sealed) = self.seal.seal(self.own, number, milliseconds(), &note)
                && open
                    .call(&[b"PUBLISH", self.channel.as_bytes(), &sealed], deadline)
                    .is_err()
            {
                connection = None;
            }
            if is_last || (self.is_stopping() && self.notes.is_empty()) {
                return;
            }
        }
    }
}

impl BusThreads {
    /// Says goodbye to the other daemons and ends.
    pub(crate) fn stop(self, bus: &Bus) {
        self.line.is_stopping.store(true, Ordering::Release);
        bus.say(Note::Gone);
        // A Redis that does not answer delays the stop no longer than this.
        let _ = self.spoken.recv_timeout(GOODBYE_TIMEOUT);
    }
}

struct BusListener {
    line: Arc<Connector>,
    guard: Guard,
    hub: Hub,
    bus: Bus,
    look_now: Box<dyn Fn() + Send>,
}

impl BusListener {
    fn run(&mut self) {
        let mut was_up = true;
        while !self.line.is_stopping() {
            let pause = match self.listen(&mut was_up) {
                Ok(()) => FLOOD_PAUSE,
                Err(error) => {
                    if was_up {
                        warn!(
                            "the bus is not available: Redis at {}:{}: {error}; typing and presence of other machines \
                             are not seen until it is",
                            self.line.redis.host, self.line.redis.port
                        );
                    }
                    was_up = false;
                    METRICS.bus_up.set(0);
                    RETRY_PAUSE
                }
            };
            thread::sleep(pause);
        }
    }

    /// Listens until the line breaks, the service stops, or too much was refused.
    fn listen(&mut self, was_up: &mut bool) -> io::Result<()> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut redis = RedisConnection::open(&self.line.redis, MAX_BYTES, deadline)?;
        redis.call(&[b"SUBSCRIBE", self.line.channel.as_bytes()], deadline)?;
        if !*was_up {
            info!("the bus is available again");
        }
        *was_up = true;
        METRICS.bus_up.set(1);
        self.bus.say(Note::Hello);
        let mut refused = 0;
        while !self.line.is_stopping() {
            let Reply::List(parts) = redis.reply(Instant::now() + 3 * ROLL_CALL_INTERVAL)? else {
                continue;
            };
            failpoint::reach("bus-in");
            let taken = match parts.get(2) {
                Some(Reply::Text(bytes)) => self.guard.take(bytes, milliseconds()),
                _ => Err(NoteRefused::TooLong),
            };
            match taken {
                Ok((from, Some(note))) if from != self.line.own => {
                    self.hand_on(DaemonId(from), note)
                }
                Ok(_) => {}
                Err(why) => {
                    debug!("a note on the bus is refused: {why}");
                    refused += 1;
                    if refused >= MAX_REFUSED {
                        warn!(
                            "{refused} notes on the bus were refused, the last one because {why}; it is not listened to for \
                             {} s. Look who may publish in Redis, and whether the machines' clocks agree",
                            FLOOD_PAUSE.as_secs()
                        );
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn hand_on(&self, from: DaemonId, note: Note) {
        match note {
            Note::Hello => self.bus.say(Note::agents(&self.hub.local_agents())),
            Note::Agents { agents } => {
                let agents: BTreeSet<AgentId> = agents.into_iter().map(AgentId).collect();
                self.hub
                    .send(Command::Remote(from, RemotePresence::All(agents)));
            }
            Note::Presence { agent, online } => {
                let told = match online {
                    true => RemotePresence::Came,
                    false => RemotePresence::Went,
                };
                let told = told(AgentId(agent));
                self.hub.send(Command::Remote(from, told));
            }
            Note::Gone => self.hub.send(Command::Remote(from, RemotePresence::Gone)),
            Note::Posted => (self.look_now)(),
            Note::Typing { to, agent, name } => {
                let agent = Agent {
                    id: AgentId(agent),
                    name,
                    role: String::new(),
                };
                let text = |place| protocol::typing(place, &agent);
                self.publish(to, text, Weight::Ephemeral);
            }
            Note::Read {
                to,
                agent,
                last_read,
            } => {
                let (agent, last_read) = (AgentId(agent), MessageId(last_read));
                let text = |place| protocol::read_updated(place, agent, last_read);
                self.publish(to, text, Weight::Essential);
            }
        }
    }

    fn publish(&self, to: Audience, text: impl FnOnce(Conversation) -> String, weight: Weight) {
        if let Some(conversation) = to.conversation() {
            let audience = to.audience.into_iter().map(AgentId).collect();
            let frame = Frame::text(&text(conversation));
            self.hub.publish(Publication::new(audience, frame, weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_redis_is_and_who_asks_it() {
        let of = |url: &str| address(url).map(|it| (it.host, it.port, it.user, it.password));
        let text = |text: &str| Some(text.to_owned());
        let host = |host: &str| host.to_owned();
        for (url, expected) in [
            ("redis://bus.test/", (host("bus.test"), 6379, None, None)),
            (
                "redis://127.0.0.1:6380/3",
                (host("127.0.0.1"), 6380, None, None),
            ),
            ("redis://[::1]:1", (host("[::1]"), 1, None, None)),
            ("redis://", (host("127.0.0.1"), 6379, None, None)),
            (
                "redis://:p%40ss%2Fword@bus.test",
                (host("bus.test"), 6379, None, text("p@ss/word")),
            ),
            (
                "redis://chat:x@bus.test:7/0",
                (host("bus.test"), 7, text("chat"), text("x")),
            ),
        ] {
            assert_eq!(of(url), Some(expected), "{url}");
        }
        for url in [
            "",
            "bus.test:6379",
            "http://bus.test/",
            "redis://bus.test/x",
        ] {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
