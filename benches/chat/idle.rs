//! Cost at rest: memory, processor time and wake-ups of a daemon without clients, and of one with many authenticated
//! connections, each of which has sent a message and received ten.

use std::time::{Duration, Instant};

use super::client_pool::{ClientPool, End, Listener};
use super::database::{Database, GROUP, group_channel};
use super::process;
use super::servers::Contestant;
use super::wire;

/// What a run showed.
pub struct Idle {
    pub rss: u64,
    pub anonymous: u64,
    /// Beyond what the daemon had once it had served one connection, for each connection.
    pub rss_each: f64,
    /// Processor time in a second, in milliseconds.
    pub cpu_ms: f64,
    /// Times that a thread woke up, in a second.
    pub wakes: f64,
    /// Threads of the process.
    pub threads: usize,
}

#[derive(Default)]
struct SilentListener {
    messages: u64,
    presence: u64,
    strange: Vec<String>,
}

impl Listener for SilentListener {
    fn text(&mut self, _seat: usize, payload: &[u8]) {
        if payload.starts_with(b"{\"type\":\"chat.channel.message.created\"") {
            self.messages += 1;
        } else if payload.starts_with(b"{\"type\":\"presence.updated\"") {
            self.presence += 1;
        } else {
            self.strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
    }

    fn ended(&mut self, client: usize, how: End) {
        self.strange.push(format!("client {client} lost: {how:?}"));
    }
}

/// By then a daemon has let go of what it needed for its start.
const STARTED: Duration = Duration::from_secs(7);

/// Connects `connections` clients of as many agents, lets each say something to its channel of ten, and watches the
/// daemon rest for `time`.
pub fn rest(
    contestant: &Contestant,
    database: &Database,
    connections: u64,
    time: Duration,
) -> Result<Idle, String> {
    let server = contestant.start(database, &[]);
    let pid = server.pid();
    let mut pool = ClientPool::new(server.address, 0).map_err(|error| error.to_string())?;
    let mut listener = SilentListener::default();
    let settle = |pool: &mut ClientPool, listener: &mut SilentListener, time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            pool.poll(Duration::from_millis(50), listener);
        }
    };
    settle(&mut pool, &mut listener, STARTED);
    if connections > 0 {
        // Code that runs for the first connection is no part of what the others cost.
        let mut first = ClientPool::new(server.address, 0).map_err(|error| error.to_string())?;
        first.gather(&[contestant.auth(1)], 1, Duration::from_secs(10))?;
        first.send(0, &wire::masked(wire::TEXT, hello(1).as_bytes()));
        let mut alone = SilentListener::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        while alone.messages == 0 && Instant::now() < deadline {
            first.poll(Duration::from_millis(20), &mut alone);
        }
        drop(first);
        settle(&mut pool, &mut listener, Duration::from_secs(1));
    }
    let empty = process::rss(pid);
    let auths: Vec<_> = (1..=connections)
        .map(|agent| contestant.auth(agent))
        .collect();
    pool.gather(&auths, 64, Duration::from_secs(120))?;
    let mut expected = 0;
    for agent in 1..=connections {
        pool.send(
            agent as usize - 1,
            &wire::masked(wire::TEXT, hello(agent).as_bytes()),
        );
        let first = (agent - 1) / GROUP * GROUP;
        expected += (connections - first).min(GROUP);
        if agent % 64 == 0 {
            pool.poll(Duration::from_millis(1), &mut listener);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while listener.messages < expected && Instant::now() < deadline && listener.strange.is_empty() {
        pool.poll(Duration::from_millis(20), &mut listener);
    }
    settle(&mut pool, &mut listener, Duration::from_secs(2));
    if let Some(first) = listener.strange.first() {
        return Err(first.clone());
    }
    if listener.messages != expected {
        return Err(format!(
            "{} of {expected} messages arrived",
            listener.messages
        ));
    }
    let (since, cpu, sleeps) = (Instant::now(), process::cpu_ns(pid), process::sleeps(pid));
    settle(&mut pool, &mut listener, time);
    let seconds = since.elapsed().as_secs_f64();
    let rss = process::rss(pid);
    Ok(Idle {
        rss,
        anonymous: process::anonymous(pid),
        rss_each: rss.saturating_sub(empty) as f64 / connections.max(1) as f64,
        cpu_ms: (process::cpu_ns(pid) - cpu) as f64 / 1e6 / seconds,
        wakes: (process::sleeps(pid) - sleeps) as f64 / seconds,
        threads: process::threads(pid),
    })
}

/// The message that an agent sends to its channel of ten.
fn hello(agent: u64) -> String {
    format!(
        "{{\"type\":\"chat.channel.message.send\",\"channel_id\":{},\"body\":\"hello from {agent}\"}}",
        group_channel(agent)
    )
}
