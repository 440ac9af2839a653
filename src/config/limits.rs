//! Limits and intervals: each one configurable, each with a default that serves (contract: operations.md,
//! protocol.md). Relations that must hold: ping interval < idle timeout < the proxy's timeout.

use std::time::Duration;

use crate::config::peers::Peers;
use crate::config::{Variables, is_listen_host};
use crate::platform::problem::Problem;

/// Longest request head, and longest body of a page's request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pings and pongs that a socket may send at once.
pub const CONTROL_BURST: u32 = 100;
/// How long a query may take before its connection is given up, and how long a message that cannot be stored is
/// tried again.
pub const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the activity of agents is looked at again: with a slow look, and a pause of the machine, still well within
/// the 5 s that an agent who was deactivated may stay.
pub const ACTIVITY_INTERVAL: Duration = Duration::from_secs(2);
/// How long memberships (for typing) and agents' rows (for reconnects) are cached. With the query before and the delivery
/// after it, a removed agent still stops receiving within the promised 5 s.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(4);
/// How long a database that is down at start is waited for.
pub const STORE_START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
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
    /// `CHAT_WEBSOCKET_AGENT_RATE`: events a second that all sockets of an agent may send; 0 is no limit.
    pub agent_rate: u32,
    /// `CHAT_WEBSOCKET_AGENT_BURST`: events that they may send at once.
    pub agent_burst: u32,
    /// `CHAT_WEBSOCKET_CONTROL_RATE`: pings and pongs a second that a socket may send; 0 is no limit.
    pub control_rate: u32,
    /// `CHAT_WEBSOCKET_MESSAGE_BYTES`: largest message; `None`: as `chat_max_message_length` needs it.
    pub message_bytes: Option<usize>,
    /// `CHAT_WEBSOCKET_MAX_CONNECTIONS`: sockets in all.
    pub max_connections: usize,
    /// `CHAT_WEBSOCKET_MAX_PER_AGENT`: sockets of one agent.
    pub max_per_agent: usize,
    /// `CHAT_WEBSOCKET_MAX_UNAUTHENTICATED`: sockets that have not authenticated yet.
    pub max_unauthenticated: usize,
    /// `CHAT_WEBSOCKET_DB_CONNECTIONS`: connections to the database, all of them.
    pub db_connections: usize,
    /// `CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT`, s: for the whole request head.
    pub handshake_timeout: Duration,
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
    /// `CHAT_WEBSOCKET_METRICS_HOSTS`: names under which `/metrics` is asked for.
    pub metrics_hosts: Vec<String>,
}

impl Limits {
    /// From the variables; what is not named has its default.
    ///
    /// # Errors
    /// A value out of its range, or a ping interval that is not below the idle timeout.
    pub fn from_variables(variables: &Variables) -> Result<Self, Problem> {
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
            let error = Problem::of_config(format!(
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

fn health_peers(variables: &Variables) -> Result<Peers, Problem> {
    const NAME: &str = "CHAT_WEBSOCKET_HEALTH_PEERS";
    let list = variables.get(NAME).unwrap_or_default();
    let peers = list.parse().map_err(|error| {
        variables.wrong(
            NAME,
            format!(
                "has {error}; give loopback, any, or addresses and networks such as 10.0.0.5, 192.0.2.0/24"
            ),
        )
    });
    variables.accept(peers, Peers::default())
}

fn metrics_hosts(variables: &Variables) -> Result<Vec<String>, Problem> {
    const NAME: &str = "CHAT_WEBSOCKET_METRICS_HOSTS";
    let list = variables.get(NAME).unwrap_or_default();
    let words = list.split([',', ' ']).filter(|word| !word.is_empty());
    let host = |word: &str| {
        match is_listen_host(word) {
        true => Ok(word.to_owned()),
        false => Err(variables.wrong(
            NAME,
            format!(
                "has {word:?}, which is no host name; give names such as chat.example.org, without a port"
            ),
        )),
    }
    };
    variables.accept(words.map(host).collect(), Vec::new())
}

impl Default for Limits {
    fn default() -> Self {
        Limits::from_variables(&Variables::default()).expect("defaults are in range")
    }
}
