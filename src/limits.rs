//! Limits and intervals: each one configurable, each with a default that serves (contract: operations.md,
//! protocol.md). Relations that must hold: ping interval < idle timeout < the proxy's timeout.

use std::time::Duration;

use crate::config::{ConfigError, Variables, seconds};
use crate::peers::Peers;

/// Longest request head where nothing else is configured, and longest body of a page's request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Deepest JSON that is decoded at all, whatever is configured.
pub const MAX_JSON_DEPTH: u64 = 120;
/// How long a query may take before its connection is given up, and how long a message that cannot be stored is
/// tried again.
pub const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// How often the activity of agents is looked at again: with a slow look, and a pause of the machine, still well within
/// the 5 s that an agent who was deactivated may stay.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(2);
/// How long a membership is remembered for typing, and an agent's row for those who come back: with the question before it
/// and the delivery after it, still within the 5 s that somebody who was put out may hear.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(4);
/// How long a database that is down at start is waited for.
pub const STORE_START_PATIENCE: Duration = Duration::from_secs(30);
/// Time between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// A heartbeat older than this many seconds is stale.
pub const HEARTBEAT_STALE_SECONDS: i64 = 90;
/// The whole of a clean stop; the supervisor waits 5 s.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);
/// With more sockets than this the closes of a stop are spread out.
pub const SPREAD_CLOSES_ABOVE: usize = 200;
/// Over how long the closes of a stop are spread out at most.
pub const SPREAD_CLOSES_OVER: Duration = Duration::from_secs(2);
/// How long a closed socket may take to say goodbye before it is dropped.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// What `serve` is told, by options, environment or `.env`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `CHAT_WEBSOCKET_TYPING_INTERVAL`, ms: between two typing events of one socket in one conversation that
    /// are passed on; zero passes all.
    pub typing_interval: Duration,
    /// `CHAT_WEBSOCKET_PRESENCE_GRACE`, s: before an agent without a socket goes offline.
    pub presence_grace: Duration,
    /// `CHAT_WEBSOCKET_ENFORCE_EXPIRY`: close a socket 30 s after its token's `exp`.
    pub enforce_expiry: bool,
    /// `CHAT_WEBSOCKET_RATE`: events a second that a socket may send; 0 is no limit.
    pub rate: u32,
    /// `CHAT_WEBSOCKET_BURST`: events that it may send at once.
    pub burst: u32,
    /// `CHAT_WEBSOCKET_CONTROL_RATE`: pings and pongs a second that a socket may send; 0 is no limit.
    pub control_rate: u32,
    /// `CHAT_WEBSOCKET_CONTROL_BURST`: pings and pongs that it may send at once.
    pub control_burst: u32,
    /// `CHAT_WEBSOCKET_MESSAGE_BYTES`: largest message; `None`: as `chat_max_message_length` needs it.
    pub message_bytes: Option<usize>,
    /// `CHAT_WEBSOCKET_FRAGMENTS`: frames that one message may come in.
    pub fragments: u32,
    /// `CHAT_WEBSOCKET_JSON_DEPTH`: lists and objects inside each other in an event.
    pub json_depth: usize,
    /// `CHAT_WEBSOCKET_MAX_CONNECTIONS`: sockets in all.
    pub max_connections: usize,
    /// `CHAT_WEBSOCKET_MAX_PER_AGENT`: sockets of one agent.
    pub max_per_agent: usize,
    /// `CHAT_WEBSOCKET_MAX_UNAUTHENTICATED`: sockets that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// `CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT`, s: for the whole request head.
    pub handshake_timeout: Duration,
    /// `CHAT_WEBSOCKET_HANDSHAKE_BYTES`: the whole request head.
    pub handshake_bytes: usize,
    /// `CHAT_WEBSOCKET_AUTH_TIMEOUT`, s: from the handshake to an accepted `auth`.
    pub auth_timeout: Duration,
    /// `CHAT_WEBSOCKET_PING_INTERVAL`, s: a peer that is silent for so long is pinged.
    pub ping_interval: Duration,
    /// `CHAT_WEBSOCKET_IDLE_TIMEOUT`, s: a peer that is silent for so long is dropped.
    pub idle_timeout: Duration,
    /// `CHAT_WEBSOCKET_QUEUE_BYTES`: what may wait for one socket.
    pub queue_bytes: usize,
    /// `CHAT_WEBSOCKET_QUEUE_SECONDS`: for how long it may wait.
    pub queue_age: Duration,
    /// `CHAT_WEBSOCKET_HEALTH_PEERS`: who beside this machine may see `/healthz` and `/metrics`.
    pub health_peers: Peers,
}

impl Limits {
    /// From the variables; what is not named has its default.
    ///
    /// # Errors
    /// A value out of its range, or a ping interval that is not below the idle timeout.
    pub fn from_variables(variables: &Variables) -> Result<Self, ConfigError> {
        let number = |name: &str, default: u64, range| variables.number(name, default, range);
        let limits = Limits {
            typing_interval: Duration::from_millis(number(
                "CHAT_WEBSOCKET_TYPING_INTERVAL",
                1000,
                0..=60_000,
            )?),
            presence_grace: seconds(variables, "CHAT_WEBSOCKET_PRESENCE_GRACE", 5, 0..=300)?,
            enforce_expiry: number("CHAT_WEBSOCKET_ENFORCE_EXPIRY", 0, 0..=1)? == 1,
            rate: number("CHAT_WEBSOCKET_RATE", 20, 0..=1_000_000)? as u32,
            burst: number("CHAT_WEBSOCKET_BURST", 60, 1..=1_000_000)? as u32,
            control_rate: number("CHAT_WEBSOCKET_CONTROL_RATE", 10, 0..=1_000_000)? as u32,
            control_burst: number("CHAT_WEBSOCKET_CONTROL_BURST", 100, 1..=1_000_000)? as u32,
            message_bytes: match number("CHAT_WEBSOCKET_MESSAGE_BYTES", 0, 0..=16 << 20)? {
                0 => None,
                bytes => Some(bytes.max(1024) as usize),
            },
            fragments: number("CHAT_WEBSOCKET_FRAGMENTS", 1024, 1..=1_000_000)? as u32,
            json_depth: number("CHAT_WEBSOCKET_JSON_DEPTH", 32, 1..=MAX_JSON_DEPTH)? as usize,
            max_connections: number("CHAT_WEBSOCKET_MAX_CONNECTIONS", 1024, 1..=1_000_000)?
                as usize,
            max_per_agent: number("CHAT_WEBSOCKET_MAX_PER_AGENT", 32, 1..=1_000_000)? as usize,
            max_unauthenticated: number("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", 128, 1..=1_000_000)?
                as usize,
            handshake_timeout: seconds(variables, "CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", 10, 1..=300)?,
            handshake_bytes: number(
                "CHAT_WEBSOCKET_HANDSHAKE_BYTES",
                MAX_HEAD_BYTES as u64,
                1024..=1 << 20,
            )? as usize,
            auth_timeout: seconds(variables, "CHAT_WEBSOCKET_AUTH_TIMEOUT", 10, 1..=300)?,
            ping_interval: seconds(variables, "CHAT_WEBSOCKET_PING_INTERVAL", 25, 1..=3600)?,
            idle_timeout: seconds(variables, "CHAT_WEBSOCKET_IDLE_TIMEOUT", 60, 2..=7200)?,
            queue_bytes: number(
                "CHAT_WEBSOCKET_QUEUE_BYTES",
                1024 * 1024,
                128 * 1024..=1 << 30,
            )? as usize,
            queue_age: seconds(variables, "CHAT_WEBSOCKET_QUEUE_SECONDS", 30, 1..=3600)?,
            health_peers: health_peers(variables)?,
        };
        if limits.ping_interval >= limits.idle_timeout {
            return Err(ConfigError(format!(
                "CHAT_WEBSOCKET_PING_INTERVAL ({} s) must be below CHAT_WEBSOCKET_IDLE_TIMEOUT ({} s), else a healthy \
                 browser is dropped; lower the first or raise the second",
                limits.ping_interval.as_secs(),
                limits.idle_timeout.as_secs()
            )));
        }
        Ok(limits)
    }
}

fn health_peers(variables: &Variables) -> Result<Peers, ConfigError> {
    const NAME: &str = "CHAT_WEBSOCKET_HEALTH_PEERS";
    let list = variables.get(NAME).unwrap_or_default();
    list.parse().map_err(|word| {
        ConfigError(format!(
            "{} has {word:?}, which is no address; give loopback, any, or addresses and networks such as 10.0.0.5, \
             192.0.2.0/24",
            variables.origin(NAME)
        ))
    })
}

impl Default for Limits {
    fn default() -> Self {
        Limits::from_variables(&Variables::default()).expect("defaults are in range")
    }
}
