//! What operators learn of connections: who is connected, and what the log says.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use serde::{Deserialize, Serialize};

use super::Server;
use super::connection::{Connection, Phase};
use crate::model::CloseCode;
use crate::platform::clock::AppClock;
use crate::platform::metrics::{Limit, METRICS};
use crate::platform::threads::lock;
use crate::protocol;

/// One connection.
#[derive(Debug, Deserialize, Serialize)]
pub struct ConnectionReport {
    /// Its number in the log.
    pub connection: u64,
    /// The agent that it belongs to, once that is known.
    pub agent: Option<u64>,
    /// When it became a WebSocket, or before that was accepted, in the install's time zone.
    pub since: String,
    /// The client's address, as the log has it.
    pub address: String,
    /// Bytes that are queued for it.
    pub waiting_bytes: usize,
}

impl Server {
    /// All connections, in no particular order.
    pub fn connections(&self, clock: &AppClock) -> Vec<ConnectionReport> {
        let all = self.registry.all();
        let report = |one: &Arc<Connection>| {
            let since = lock(&one.state).since;
            ConnectionReport {
                connection: one.id.0,
                agent: one.agent.get().map(|agent| agent.0),
                since: clock.text_ago(since.elapsed().as_secs()),
                address: one.address(),
                waiting_bytes: lock(&one.outbox).backlog(),
            }
        };
        all.iter().map(report).collect()
    }
}

impl Connection {
    /// The client's address: the one that a proxy on this machine names, else the peer's.
    pub(super) fn address(&self) -> String {
        match self.forwarded.get() {
            Some(client) => client.to_string(),
            None => self.peer.to_string(),
        }
    }

    /// Logs an event's type and size, never its text.
    #[inline(never)]
    pub(super) fn tell_event(&self, text: &str) {
        let bytes = text.len();
        debug!("{self}: event {}, {bytes} bytes", protocol::kind_of(text));
    }

    /// Logs the end of a connection, and how it came.
    pub(super) fn tell_end(&self, phase: &Phase, since: Instant) {
        debug!(
            "{self}: ended after {} s, {}",
            since.elapsed().as_secs(),
            match (phase, self.closed.get()) {
                (Phase::Request, _) => "without a request".to_owned(),
                (Phase::Answered, _) => "its request was answered".to_owned(),
                (_, Some(CloseCode::Answer(code))) => format!("closed by the client with {code}"),
                (_, Some(code)) => format!("closed with {}", code.number()),
                (_, None) => "without a close frame".to_owned(),
            }
        );
    }

    /// Drops a socket that reads too slowly.
    pub(super) fn drop_slow(&self) {
        METRICS.slow.add(1);
        self.server.chat.limit_log.hit(Limit::Queue, || {
            let outbox = lock(&self.outbox);
            let seconds = outbox.behind_since().map_or(0, |since| since.elapsed().as_secs());
            let backlog = outbox.backlog();
            format!(
                "{self}: dropped, reads too slowly: {backlog} bytes queued for {seconds} s (CHAT_WEBSOCKET_QUEUE_BYTES, \
                 CHAT_WEBSOCKET_QUEUE_SECONDS)"
            )
        });
        self.kill();
    }
}

/// How the log calls it.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {}", self.id.0)?;
        if let Some(agent) = self.agent.get() {
            write!(f, " (agent {agent})")?;
        }
        write!(f, " from {}", self.address())
    }
}
