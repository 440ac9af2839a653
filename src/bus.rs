//! Between several daemons on one database: typing, read markers, presence, and a nudge to look for new messages at
//! once, over Redis pub/sub (`CHAT_BUS_URL`). Messages themselves go through the database; without the bus they are
//! a quarter of a second slower, and nothing is lost. The only file that names the Redis crate's pub/sub.
//!
//! Two threads: one listens and hands on, one speaks from a bounded queue. Nobody ever waits for either.

mod note;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use hmac::{Hmac, Mac};
use log::{info, warn};
use redis::{Client, Connection, RedisError, RedisResult};
use sha2::Sha256;

pub use self::note::{Note, Relay};
use crate::fault;
use crate::hub::{DaemonId, RemotePresence};
use crate::service::Service;
use crate::vital;

/// Notes that may wait; more are dropped, the database has what matters.
const QUEUE_LENGTH: usize = 4096;
/// How often a daemon tells which agents it has.
const ROLL_CALL_INTERVAL: Duration = Duration::from_secs(10);
/// How long a call to Redis may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);
/// Pause before Redis is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The way onto the bus.
#[derive(Clone, Debug)]
pub struct Bus {
    notes: Sender<Note>,
}

impl Bus {
    /// Says something to the other daemons; dropped where too much waits already.
    pub fn say(&self, note: Note) {
        let _ = self.notes.try_send(note);
    }
}

/// The threads of the bus, and what they share.
pub struct BusThreads {
    spoken: Receiver<()>,
    stopping: Arc<AtomicBool>,
}

/// A bus that is not running yet.
pub struct Connector {
    client: Client,
    channel: String,
    own: DaemonId,
    notes: Receiver<Note>,
}

/// The address of the bus cannot be used.
#[derive(Debug)]
pub struct BadAddress(pub String);

/// Prepares the bus at `url`. All daemons with the same `secret` share a channel, others never see it.
///
/// # Errors
/// The URL is none of Redis.
pub fn prepare(url: &str, secret: &str) -> Result<(Bus, Connector), BadAddress> {
    // The crate's own words may repeat the URL, which may hold a password.
    let client = Client::open(url).map_err(|_| {
        BadAddress("it is no URL of Redis, such as redis://127.0.0.1:6379/1".into())
    })?;
    let (notes, queue) = bounded(QUEUE_LENGTH);
    let connector = Connector {
        client,
        channel: format!("andrea-chat:{:016x}", keyed(secret, "chat bus channel")),
        own: DaemonId(rand_id(secret)),
        notes: queue,
    };
    Ok((Bus { notes }, connector))
}

impl Connector {
    /// Starts both threads.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self, service: &Arc<Service>, bus: &Bus) -> io::Result<BusThreads> {
        let Connector {
            client,
            channel,
            own,
            notes,
        } = self;
        let stopping = Arc::new(AtomicBool::new(false));
        let listener = Listener {
            client: client.clone(),
            channel: channel.clone(),
            own,
            service: Arc::clone(service),
            bus: bus.clone(),
            stopping: Arc::clone(&stopping),
        };
        // Neither is joined: it may be waiting for Redis, and the process does not wait for it.
        thread::Builder::new()
            .name("bus-in".to_owned())
            .spawn(move || {
                let _vital = vital::thread();
                listener.run();
            })?;
        let speaker = Speaker {
            client,
            channel,
            own,
            service: Arc::clone(service),
            stopping: Arc::clone(&stopping),
        };
        let (done, spoken) = bounded(1);
        thread::Builder::new()
            .name("bus-out".to_owned())
            .spawn(move || {
                let _vital = vital::thread();
                speaker.run(&notes);
                let _ = done.send(());
            })?;
        Ok(BusThreads { spoken, stopping })
    }
}

impl BusThreads {
    /// Says goodbye to the other daemons and ends.
    pub fn stop(self, bus: &Bus) {
        self.stopping.store(true, Ordering::Release);
        bus.say(Note::Gone);
        // A Redis that does not answer holds up no stop.
        let _ = self.spoken.recv_timeout(GOODBYE_PATIENCE);
    }
}

struct Listener {
    client: Client,
    channel: String,
    own: DaemonId,
    service: Arc<Service>,
    bus: Bus,
    stopping: Arc<AtomicBool>,
}

impl Listener {
    fn run(&self) {
        let mut was_up = true;
        while !self.stopping.load(Ordering::Acquire) {
            match self.listen(&mut was_up) {
                Ok(()) => return,
                Err(error) => {
                    if was_up {
                        warn!(
                            "the bus is not available ({}); typing and presence of other machines are not seen",
                            words(&error)
                        );
                    }
                    was_up = false;
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    fn listen(&self, was_up: &mut bool) -> RedisResult<()> {
        let mut connection = self.client.get_connection_with_timeout(PATIENCE)?;
        let mut channel = connection.as_pubsub();
        channel.subscribe(&self.channel)?;
        channel.set_read_timeout(Some(ROLL_CALL_INTERVAL * 3))?;
        if !*was_up {
            info!("the bus is available again");
        }
        *was_up = true;
        self.bus.say(Note::Hello);
        while !self.stopping.load(Ordering::Acquire) {
            let message = channel.get_message()?;
            fault::point("bus-in");
            if let Some((from, note)) = Note::decode(message.get_payload_bytes())
                && from != self.own
            {
                self.take(from, note);
            }
        }
        Ok(())
    }

    fn take(&self, from: DaemonId, note: Note) {
        let hub = &self.service.hub;
        match note {
            Note::Hello => self.bus.say(Note::Agents(hub.local_agents())),
            Note::Agents(agents) => hub.remote_presence(from, RemotePresence::All(agents)),
            Note::Presence(agent, online) => {
                hub.remote_presence(from, RemotePresence::One(agent, online));
            }
            Note::Gone => hub.remote_presence(from, RemotePresence::Gone),
            Note::Posted => self.service.feed.look_now(),
            Note::Relay(relay) => hub.publish(relay.publication()),
        }
    }
}

struct Speaker {
    client: Client,
    channel: String,
    own: DaemonId,
    service: Arc<Service>,
    stopping: Arc<AtomicBool>,
}

impl Speaker {
    fn run(&self, notes: &Receiver<Note>) {
        let mut connection: Option<Connection> = None;
        let mut roll_call = Instant::now();
        let mut retry = Instant::now();
        loop {
            let note = match notes.recv_deadline(roll_call) {
                Ok(note) => note,
                Err(RecvTimeoutError::Timeout) => {
                    roll_call = Instant::now() + ROLL_CALL_INTERVAL;
                    Note::Agents(self.service.hub.local_agents())
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            fault::point("bus-out");
            let last = note == Note::Gone;
            if connection.is_none() && Instant::now() >= retry {
                retry = Instant::now() + RETRY_PAUSE;
                connection = self.connect().ok();
            }
            if let Some(open) = &mut connection {
                let text = note.encode(self.own);
                let sent: RedisResult<()> = redis::cmd("PUBLISH")
                    .arg(&self.channel)
                    .arg(text)
                    .query(open);
                if sent.is_err() {
                    connection = None;
                }
            }
            if last || (self.stopping.load(Ordering::Acquire) && notes.is_empty()) {
                return;
            }
        }
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }
}

/// What kind of trouble it is, without an address.
fn words(error: &RedisError) -> String {
    format!("{:?}", error.kind())
}

fn keyed(secret: &str, purpose: &str) -> u64 {
    // Any key length is fine for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return 0;
    };
    mac.update(purpose.as_bytes());
    let digest = mac.finalize().into_bytes();
    digest
        .iter()
        .take(8)
        .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// An id that no other daemon on this bus has: containers share pids, so the clock goes in as well.
fn rand_id(secret: &str) -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let host = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    keyed(secret, &format!("{now} {} {host}", std::process::id()))
}
