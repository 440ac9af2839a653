//! Connection churn: connections a second when each only authenticates and leaves, and how a burst of new connections
//! affects itself and existing clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::client_pool::{ClientPool, End, Listener};
use super::database::{Database, channel_of};
use super::servers::{Contestant, Server};
use super::stats::Times;
use super::{process, wire};

/// How a client leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// With a close frame, waiting for the server's.
    Close,
    /// It ends its side of the connection without a word.
    Drop,
}

/// What a run of comings and goings showed.
pub struct Churn {
    pub connections_per_second: f64,
    /// Processor time of the server for one connection, in microseconds.
    pub cpu_us: f64,
}

struct Visitors {
    goodbye: Goodbye,
    arrived: Vec<usize>,
    gone: u64,
    strange: Vec<String>,
}

impl Listener for Visitors {
    fn active(&mut self, client: usize) {
        self.arrived.push(client);
    }

    fn text(&mut self, _seat: usize, payload: &[u8]) {
        if !payload.starts_with(b"{\"type\":\"presence.updated\"") {
            self.strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
    }

    fn ended(&mut self, client: usize, how: End) {
        if self.goodbye == Goodbye::Close && how == End::Closed(1000) {
            self.gone += 1;
        } else {
            self.strange.push(format!("client {client} lost: {how:?}"));
        }
    }
}

/// `at_once` clients at any time connect, authenticate and leave, for `time`.
pub fn churn(
    contestant: &Contestant,
    database: &Database,
    at_once: usize,
    goodbye: Goodbye,
    time: Duration,
) -> Result<Churn, String> {
    let server = contestant.start(database, &[]);
    let mut pool = ClientPool::new(server.address, 1).map_err(|error| error.to_string())?;
    let auths: Vec<_> = (1..=at_once as u64)
        .map(|agent| contestant.auth(agent))
        .collect();
    let mut visitors = Visitors {
        goodbye,
        arrived: Vec::new(),
        gone: 0,
        strange: Vec::new(),
    };
    let begin = Instant::now();
    let warm = begin + time / 5;
    let end = warm + time;
    let (mut from, mut opened) = (None, 0_u64);
    loop {
        let now = Instant::now();
        if from.is_none() && now >= warm {
            from = Some((now, visitors.gone, process::cpu_ns_of_all(server.pid())));
        }
        if now >= end || !visitors.strange.is_empty() {
            break;
        }
        while opened - visitors.gone < at_once as u64 {
            let auth = Arc::clone(&auths[(opened % at_once as u64) as usize]);
            pool.open(auth)
                .map_err(|error| format!("connection {opened}: {error}"))?;
            opened += 1;
        }
        pool.poll(Duration::from_millis(20), &mut visitors);
        for client in std::mem::take(&mut visitors.arrived) {
            match goodbye {
                Goodbye::Close => pool.close(client),
                Goodbye::Drop => {
                    pool.drop_client(client);
                    visitors.gone += 1;
                }
            }
        }
    }
    if let Some(first) = visitors.strange.first() {
        return Err(first.clone());
    }
    let (since, gone, cpu) = from.ok_or("nothing was measured")?;
    let count = (visitors.gone - gone) as f64;
    Ok(Churn {
        connections_per_second: count / since.elapsed().as_secs_f64(),
        cpu_us: (process::cpu_ns_of_all(server.pid()) - cpu) as f64 / 1e3 / count,
    })
}

/// Figures of a burst of new connections.
pub struct ConnectBurst {
    /// Until the last of them was authenticated.
    pub seconds: f64,
    pub refused: u64,
    /// Typing events that did not reach all members: they may be left out where a queue fills up.
    pub left_out: u64,
    /// Of the members who were there before: from typing to the last receipt, in microseconds.
    pub typing_p50_us: f64,
    pub typing_p99_us: f64,
    /// From sending a message to one's own receipt.
    pub message_p99_us: f64,
}

/// What the members measure: nothing yet, everything, and that it is over.
const CALM: u8 = 0;
const CONNECT_BURST: u8 = 1;
const OVER: u8 = 2;

struct Arrivals {
    active: u64,
    refused: u64,
    strange: Vec<String>,
}

impl Listener for Arrivals {
    fn active(&mut self, _seat: usize) {
        self.active += 1;
    }

    fn text(&mut self, _seat: usize, payload: &[u8]) {
        if !payload.starts_with(b"{\"type\":\"presence.updated\"") {
            self.strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
    }

    fn ended(&mut self, _seat: usize, how: End) {
        match how {
            End::Refused(_) => self.refused += 1,
            how => self.strange.push(format!("a client was lost: {how:?}")),
        }
    }
}

/// Lets `connections` clients of `agents` agents connect at once while 50 members talk.
pub fn connect_burst(
    contestant: &Contestant,
    database: &Database,
    connections: u64,
    agents: u64,
) -> Result<ConnectBurst, String> {
    const FIRST_GUEST: u64 = 100;
    let server = contestant.start(database, &["--max-unauthenticated", "20000"]);
    let act = AtomicU8::new(CALM);
    let auths: Vec<_> = (0..agents)
        .map(|agent| contestant.auth(FIRST_GUEST + agent))
        .collect();
    std::thread::scope(|scope| {
        let members = scope.spawn(|| talk(contestant, &server, &act));
        std::thread::sleep(Duration::from_secs(1));
        act.store(CONNECT_BURST, Ordering::Relaxed);
        let arrived = arrive(&server, &auths, connections);
        act.store(OVER, Ordering::Relaxed);
        let members = members
            .join()
            .map_err(|_| "the members' thread failed".to_owned())?;
        let (mut typing, mut messages, left_out) = members?;
        let (seconds, refused) = arrived?;
        Ok(ConnectBurst {
            seconds,
            refused,
            left_out,
            typing_p50_us: typing.percentile(0.5),
            typing_p99_us: typing.percentile(0.99),
            message_p99_us: messages.percentile(0.99),
        })
    })
}

fn arrive(server: &Server, auths: &[Arc<[u8]>], connections: u64) -> Result<(f64, u64), String> {
    let mut pool = ClientPool::new(server.address, 1).map_err(|error| error.to_string())?;
    let mut arrivals = Arrivals {
        active: 0,
        refused: 0,
        strange: Vec::new(),
    };
    let begin = Instant::now();
    for number in 0..connections {
        let auth = Arc::clone(&auths[(number % auths.len() as u64) as usize]);
        pool.open(auth)
            .map_err(|error| format!("connection {number}: {error}"))?;
        // Those that are connected already do not wait for the others: a thread that opened all of them first would
        // make them miss the time that they have for authenticating.
        if number % 64 == 0 {
            pool.poll(Duration::ZERO, &mut arrivals);
        }
    }
    let opened = begin.elapsed();
    while arrivals.active + arrivals.refused < connections {
        pool.poll(Duration::from_millis(20), &mut arrivals);
        if begin.elapsed() > Duration::from_secs(60) || !arrivals.strange.is_empty() {
            return Err(format!(
                "{} of {connections} authenticated, {} refused, {:?}; all opened after {opened:?}, this after {:?}; {}",
                arrivals.active,
                arrivals.refused,
                arrivals.strange.first(),
                begin.elapsed(),
                pool.stages(),
            ));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    pool.reset_all();
    Ok((seconds, arrivals.refused))
}

/// Fifty members: one types a hundred times a second, another sends message after message.
struct Members {
    /// When each event was sent, how many receipts are missing, and whether its time counts.
    typed: Vec<(Instant, u32, bool)>,
    complete: usize,
    record: bool,
    heard: Vec<u32>,
    typing: Times,
    sent: Option<Instant>,
    messages: Times,
    strange: Vec<String>,
}

impl Listener for Members {
    fn text(&mut self, client: usize, payload: &[u8]) {
        if payload.starts_with(b"{\"type\":\"chat.typing\"") {
            let event = self.heard[client] as usize;
            self.heard[client] += 1;
            let (sent, missing, counts) = &mut self.typed[event];
            *missing -= 1;
            if *missing == 0 {
                self.complete += 1;
                if *counts {
                    self.typing.add(sent.elapsed());
                }
            }
        } else if payload.starts_with(b"{\"type\":\"chat.channel.message.created\"") {
            if client == 1
                && let Some(sent) = self.sent.take()
                && self.record
            {
                self.messages.add(sent.elapsed());
            }
        } else if !payload.starts_with(b"{\"type\":\"presence.updated\"") {
            self.strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
    }

    fn ended(&mut self, client: usize, how: End) {
        self.strange
            .push(format!("member {} lost: {how:?}", client + 1));
    }
}

fn talk(
    contestant: &Contestant,
    server: &Server,
    act: &AtomicU8,
) -> Result<(Times, Times, u64), String> {
    const MEMBERS: usize = 50;
    const INTERVAL: Duration = Duration::from_millis(10);
    let channel = channel_of(MEMBERS as u64);
    let mut pool = ClientPool::new(server.address, 0).map_err(|error| error.to_string())?;
    let auths: Vec<_> = (1..=MEMBERS as u64)
        .map(|agent| contestant.auth(agent))
        .collect();
    pool.gather(&auths, 16, Duration::from_secs(10))?;
    let typing =
        format!("{{\"type\":\"chat.typing\",\"scope\":\"channel\",\"channel_id\":{channel}}}");
    let typing = wire::masked(wire::TEXT, typing.as_bytes());
    let message = format!(
        "{{\"type\":\"chat.channel.message.send\",\"channel_id\":{channel},\"body\":\"still here?\"}}"
    );
    let message = wire::masked(wire::TEXT, message.as_bytes());
    let mut members = Members {
        typed: Vec::new(),
        complete: 0,
        record: false,
        heard: vec![0; MEMBERS],
        typing: Times::default(),
        sent: None,
        messages: Times::default(),
        strange: Vec::new(),
    };
    let mut due = Instant::now();
    while act.load(Ordering::Relaxed) != OVER {
        members.record = act.load(Ordering::Relaxed) == CONNECT_BURST;
        while due <= Instant::now() {
            let record = members.record;
            members
                .typed
                .push((Instant::now(), MEMBERS as u32 - 1, record));
            pool.send(0, &typing);
            due += INTERVAL;
        }
        if members.sent.is_none() {
            members.sent = Some(Instant::now());
            pool.send(1, &message);
        }
        pool.poll(due.saturating_duration_since(Instant::now()), &mut members);
    }
    // What is still on its way counts as well.
    let deadline = Instant::now() + Duration::from_secs(5);
    while members.complete < members.typed.len() && Instant::now() < deadline {
        pool.poll(Duration::from_millis(20), &mut members);
    }
    match members.strange.first() {
        Some(first) => Err(first.clone()),
        None => {
            let left_out = (members.typed.len() - members.complete) as u64;
            Ok((members.typing, members.messages, left_out))
        }
    }
}
