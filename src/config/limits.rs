//! Limits and intervals (contract: operations.md, protocol.md). The ping interval must be below the idle timeout, which
//! is checked, and below the proxy's timeout, which cannot be checked here.

use std::time::Duration;

use crate::config::peers::Peers;
use crate::config::{Error, Variables, is_listen_host};

/// Longest request head, and longest body of a page's request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pings and pongs that a socket may send at once, above its rate.
pub const CONTROL_BURST: u32 = 100;
/// How long a query may take before its connection is given up, and how long storing a message is retried.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often agents are checked for deactivation. A deactivated agent may stay for 5 s; this leaves room for a slow query
/// and a stall of the machine.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(2);
/// How long memberships (for typing) and agents' rows (for reconnects) are cached. With the query before and the delivery
/// after it, a removed agent still stops receiving within the promised 5 s.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(4);
/// How long to wait for a database that is down at the start.
pub const STORE_START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two heartbeats; after 90 s without one the daemon counts as stale.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Time limit of a clean stop; the supervisor waits for 5 s.
pub const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);
/// With more sockets than this, a stop closes them one after the other, so that not all clients reconnect at once.
pub const SPREAD_CLOSES_ABOVE: usize = 200;
/// Longest time over which a stop spreads the closes.
pub const SPREAD_CLOSES_OVER: Duration = Duration::from_secs(2);
/// How long a peer may take to answer a close frame before its socket is dropped.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// The limits, from options, environment and `.env`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `CHAT_WEBSOCKET_TYPING_INTERVAL`, ms: shortest interval between forwarded typing events of one socket in one
    /// conversation; 0 forwards all.
    pub typing_interval: Duration,
    /// `CHAT_WEBSOCKET_PRESENCE_GRACE`, s: delay before an agent without a socket is shown as offline.
    pub presence_grace: Duration,
    /// `CHAT_WEBSOCKET_ENFORCE_EXPIRY`: close a socket 30 s after its token's `exp`.
    pub enforce_expiry: bool,
    /// `CHAT_WEBSOCKET_RATE`: events a second that a socket may send; 0 is no limit.
    pub rate: u32,
    /// `CHAT_WEBSOCKET_BURST`: events that it may send at once.
    pub burst: u32,
    /// `CHAT_WEBSOCKET_AGENT_RATE`: events a second that all sockets of an agent may send; 0 is no limit.
    pub agent_rate: u32,
    /// `CHAT_WEBSOCKET_AGENT_BURST`: events that all sockets of an agent may send at once.
    pub agent_burst: u32,
    /// `CHAT_WEBSOCKET_CONTROL_RATE`: pings and pongs a second that a socket may send; 0 is no limit.
    pub control_rate: u32,
    /// `CHAT_WEBSOCKET_MESSAGE_BYTES`: largest message; `None`: as large as `chat_max_message_length` needs.
    pub message_bytes: Option<usize>,
    /// `CHAT_WEBSOCKET_MAX_CONNECTIONS`: total sockets.
    pub max_connections: usize,
    /// `CHAT_WEBSOCKET_MAX_PER_AGENT`: sockets of one agent.
    pub max_per_agent: usize,
    /// `CHAT_WEBSOCKET_MAX_UNAUTHENTICATED`: sockets that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// `CHAT_WEBSOCKET_DB_CONNECTIONS`: total connections to the database.
    pub db_connections: usize,
    /// `CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT`, s: time limit for the whole request head.
    pub handshake_timeout: Duration,
    /// `CHAT_WEBSOCKET_AUTH_TIMEOUT`, s: time limit from the handshake to an accepted `auth`.
    pub auth_timeout: Duration,
    /// `CHAT_WEBSOCKET_PING_INTERVAL`, s: a peer that is silent for so long is pinged.
    pub ping_interval: Duration,
    /// `CHAT_WEBSOCKET_IDLE_TIMEOUT`, s: a peer that is silent for so long is dropped.
    pub idle_timeout: Duration,
    /// `CHAT_WEBSOCKET_QUEUE_BYTES`: most bytes that may be queued for one socket.
    pub queue_bytes: usize,
    /// `CHAT_WEBSOCKET_QUEUE_SECONDS`: longest time that bytes may be queued for one socket.
    pub queue_age: Duration,
    /// `CHAT_WEBSOCKET_HEALTH_PEERS`: peers besides this machine that may read `/healthz` and `/metrics`.
    pub health_peers: Peers,
    /// `CHAT_WEBSOCKET_METRICS_HOSTS`: host names accepted for `/metrics`.
    pub metrics_hosts: Vec<String>,
}

impl Limits {
    /// From the variables; those that are not set have their defaults.
    ///
    /// # Errors
    /// A value out of its range, or a ping interval that is not below the idle timeout.
    pub fn from_variables(variables: &Variables) -> Result<Self, Error> {
        let number = |name: &str| variables.number(name);
        let rate = number("CHAT_WEBSOCKET_RATE")?;
        let burst = number("CHAT_WEBSOCKET_BURST")?;
        let limits = Limits {
            typing_interval: Duration::from_millis(number("CHAT_WEBSOCKET_TYPING_INTERVAL")?),
            presence_grace: variables.seconds("CHAT_WEBSOCKET_PRESENCE_GRACE")?,
            enforce_expiry: number("CHAT_WEBSOCKET_ENFORCE_EXPIRY")? == 1,
            rate: rate as u32,
            burst: burst as u32,
            agent_rate: variables.number_or("CHAT_WEBSOCKET_AGENT_RATE", 3 * rate)? as u32,
            agent_burst: variables.number_or("CHAT_WEBSOCKET_AGENT_BURST", 3 * burst)? as u32,
            control_rate: number("CHAT_WEBSOCKET_CONTROL_RATE")? as u32,
            message_bytes: match number("CHAT_WEBSOCKET_MESSAGE_BYTES")? {
                0 => None,
                bytes => Some(bytes.max(1024) as usize),
            },
            max_connections: number("CHAT_WEBSOCKET_MAX_CONNECTIONS")? as usize,
            max_per_agent: number("CHAT_WEBSOCKET_MAX_PER_AGENT")? as usize,
            max_unauthenticated: number("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED")? as usize,
            db_connections: number("CHAT_WEBSOCKET_DB_CONNECTIONS")? as usize,
            handshake_timeout: variables.seconds("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT")?,
            auth_timeout: variables.seconds("CHAT_WEBSOCKET_AUTH_TIMEOUT")?,
            ping_interval: variables.seconds("CHAT_WEBSOCKET_PING_INTERVAL")?,
            idle_timeout: variables.seconds("CHAT_WEBSOCKET_IDLE_TIMEOUT")?,
            queue_bytes: number("CHAT_WEBSOCKET_QUEUE_BYTES")? as usize,
            queue_age: variables.seconds("CHAT_WEBSOCKET_QUEUE_SECONDS")?,
            health_peers: health_peers(variables)?,
            metrics_hosts: metrics_hosts(variables)?,
        };
        if limits.ping_interval >= limits.idle_timeout {
            let error = Error::Conflict(format!(
                "CHAT_WEBSOCKET_PING_INTERVAL ({} s) must be below CHAT_WEBSOCKET_IDLE_TIMEOUT ({} s), else a healthy \
                 browser is dropped; lower the first or raise the second",
                limits.ping_interval.as_secs(),
                limits.idle_timeout.as_secs()
            ));
            return variables.accept(Err(error), limits);
        }
        Ok(limits)
    }
}

fn health_peers(variables: &Variables) -> Result<Peers, Error> {
    const NAME: &str = "CHAT_WEBSOCKET_HEALTH_PEERS";
    let list = variables.get(NAME).unwrap_or_default();
    let mut words = list.split([',', ' ']).filter(|word| !word.is_empty());
    let peers = words.try_fold(Peers::default(), |peers, word| {
        peers.with(word).ok_or_else(|| {
            let remedy =
                "give loopback, any, or addresses and networks such as 10.0.0.5, 192.0.2.0/24";
            variables.wrong(NAME, format!("has {word:?}, which is no address; {remedy}"))
        })
    });
    variables.accept(peers, Peers::default())
}

fn metrics_hosts(variables: &Variables) -> Result<Vec<String>, Error> {
    const NAME: &str = "CHAT_WEBSOCKET_METRICS_HOSTS";
    let list = variables.get(NAME).unwrap_or_default();
    let words = list.split([',', ' ']).filter(|word| !word.is_empty());
    let hosts: Vec<String> = words.map(str::to_owned).collect();
    let hosts = match hosts.iter().find(|host| !is_listen_host(host)) {
        None => Ok(hosts),
        Some(word) => {
            let remedy = "give names such as chat.example.org, without a port";
            Err(variables.wrong(
                NAME,
                format!("has {word:?}, which is no host name; {remedy}"),
            ))
        }
    };
    variables.accept(hosts, Vec::new())
}

impl Default for Limits {
    fn default() -> Self {
        Limits::from_variables(&Variables::default()).expect("defaults are in range")
    }
}
