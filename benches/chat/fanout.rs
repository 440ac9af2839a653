//! Typing events in one channel: the maximum of deliveries a second, their cost, and their latency at a given rate. Every
//! member counts what it receives from each sender; all listeners must see the same order.

use std::time::{Duration, Instant};

use super::client_pool::{ClientPool, End, Listener};
use super::database::{Database, channel_of};
use super::process;
use super::servers::{Contestant, Server};
use super::stats::Times;
use super::wire;

/// Members who send; the others only listen.
const SENDERS: usize = 10;
/// Clients that connect at the same time.
const AT_ONCE: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a run with everything saturated showed.
pub struct Saturated {
    pub deliveries_per_second: f64,
    /// Processor time of the server for one delivery, in microseconds.
    pub cpu_us: f64,
}

/// What a run at a given rate showed.
pub struct Paced {
    pub deliveries_per_second: f64,
    pub cpu_us: f64,
    /// From sending to the last member's receipt, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// A channel whose members are all there.
struct Channel {
    pool: ClientPool,
    members: usize,
    senders: usize,
    /// Many events in a row, as one sender writes them.
    events: Vec<u8>,
    event: usize,
    sent: Vec<u64>,
    heard: Heard,
}

/// What was received.
struct Heard {
    senders: usize,
    counts: Vec<u32>,
    orders: Vec<u64>,
    received: u64,
    /// Frames that are no typing event of a sender, and ends of connections.
    strange: Vec<String>,
    /// Events on their way, where their times are wanted.
    pending: Option<Pending>,
}

struct Pending {
    /// When each was sent, and how many receipts are missing.
    events: Vec<(Instant, u32)>,
    times: Times,
    record: bool,
}

impl Listener for Heard {
    #[inline]
    fn text(&mut self, client: usize, payload: &[u8]) {
        const TYPING: &[u8] = b"{\"type\":\"chat.typing\",\"scope\":\"channel\",\"channel_id\":";
        const AGENT: &[u8] = b",\"thread_id\":null,\"agent_id\":";
        let sender = payload.strip_prefix(TYPING).and_then(|rest| {
            let digits = rest.iter().position(|b| !b.is_ascii_digit())?;
            wire::digits(rest[digits..].strip_prefix(AGENT)?)
        });
        let Some(sender) = sender.filter(|id| (1..=self.senders as u64).contains(id)) else {
            return self.other(payload);
        };
        let sender = sender as usize - 1;
        let count = &mut self.counts[client * self.senders + sender];
        *count += 1;
        self.received += 1;
        self.orders[client] = self.orders[client]
            .wrapping_mul(31)
            .wrapping_add(sender as u64 + 1);
        if let Some(pending) = &mut self.pending {
            // Senders take turns, and the events of one arrive in their order.
            let event = (*count as usize - 1) * self.senders + sender;
            let (sent, missing) = &mut pending.events[event];
            *missing -= 1;
            if *missing == 0 && pending.record {
                pending.times.add(sent.elapsed());
            }
        }
    }

    fn ended(&mut self, client: usize, how: End) {
        self.strange
            .push(format!("member {} lost: {how:?}", client + 1));
    }
}

impl Heard {
    #[cold]
    fn other(&mut self, payload: &[u8]) {
        if !payload.starts_with(b"{\"type\":\"presence.updated\"") {
            self.strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
    }
}

impl Channel {
    fn gather(contestant: &Contestant, server: &Server, members: usize) -> Result<Channel, String> {
        let mut pool = ClientPool::new(server.address, 0).map_err(|error| error.to_string())?;
        let auths: Vec<_> = (1..=members as u64)
            .map(|agent| contestant.auth(agent))
            .collect();
        pool.gather(&auths, AT_ONCE, TIMEOUT)?;
        let text = format!(
            "{{\"type\":\"chat.typing\",\"scope\":\"channel\",\"channel_id\":{}}}",
            channel_of(members as u64)
        );
        let event = wire::masked(wire::TEXT, text.as_bytes());
        let senders = SENDERS.min(members - 1);
        let mut channel = Channel {
            pool,
            members,
            senders,
            event: event.len(),
            events: event.repeat(1024),
            sent: vec![0; senders],
            heard: Heard {
                senders,
                counts: vec![0; members * senders],
                orders: vec![0; members],
                received: 0,
                strange: Vec::new(),
                pending: None,
            },
        };
        // Presence of those who came last.
        let quiet_until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < quiet_until {
            channel.poll(Duration::from_millis(50));
        }
        Ok(channel)
    }

    fn poll(&mut self, timeout: Duration) {
        self.pool.poll(timeout, &mut self.heard);
    }

    fn send(&mut self, sender: usize, count: usize) {
        self.pool.send(sender, &self.events[..count * self.event]);
        self.sent[sender] += count as u64;
    }

    fn expected(&self) -> u64 {
        self.sent.iter().sum::<u64>() * (self.members as u64 - 1)
    }

    /// Waits for what is on its way; then nothing may be lost, doubled or out of order.
    fn finish(&mut self) -> Result<(), String> {
        let mut last = (self.heard.received, Instant::now());
        while self.heard.received < self.expected() && last.1.elapsed() < Duration::from_secs(3) {
            self.poll(Duration::from_millis(20));
            if self.heard.received > last.0 {
                last = (self.heard.received, Instant::now());
            }
        }
        // Whatever comes now was not expected.
        self.poll(Duration::from_millis(20));
        if let Some(first) = self.heard.strange.first() {
            return Err(format!(
                "{} strange things, the first: {first}",
                self.heard.strange.len()
            ));
        }
        for member in 0..self.members {
            for sender in (0..self.senders).filter(|sender| *sender != member) {
                let heard = u64::from(self.heard.counts[member * self.senders + sender]);
                if heard != self.sent[sender] {
                    return Err(format!(
                        "of {} events of sender {} member {} heard {heard}",
                        self.sent[sender],
                        sender + 1,
                        member + 1
                    ));
                }
            }
        }
        let orders = &self.heard.orders[self.senders..];
        if orders.iter().any(|order| *order != orders[0]) {
            return Err("two listeners saw two orders".to_owned());
        }
        Ok(())
    }
}

/// Keeps `window` events on their way for `time`.
pub fn saturate(
    contestant: &Contestant,
    database: &Database,
    members: usize,
    window: usize,
    time: Duration,
) -> Result<Saturated, String> {
    let server = contestant.start(database, &[]);
    let mut channel = Channel::gather(contestant, &server, members)?;
    let burst = (window / 2 / channel.senders).clamp(1, 1024);
    let window = window as u64 * (members as u64 - 1);
    let begin = Instant::now();
    let warm = begin + time / 5;
    let end = warm + time;
    let mut from = None;
    let mut progress = (0, begin);
    loop {
        let now = Instant::now();
        if from.is_none() && now >= warm {
            from = Some((now, channel.heard.received, process::cpu_ns(server.pid())));
        }
        if now >= end {
            break;
        }
        if channel.heard.received > progress.0 {
            progress = (channel.heard.received, now);
        } else if now - progress.1 > Duration::from_secs(3) {
            break;
        }
        while channel.expected() - channel.heard.received <= window / 2 {
            for sender in 0..channel.senders {
                channel.send(sender, burst);
            }
        }
        channel.poll(Duration::from_millis(20));
    }
    let (since, received, cpu) = from.unwrap_or((begin, 0, 0));
    let (elapsed, received) = (since.elapsed(), channel.heard.received - received);
    let cpu = process::cpu_ns(server.pid()) - cpu;
    channel.finish()?;
    Ok(Saturated {
        deliveries_per_second: received as f64 / elapsed.as_secs_f64(),
        cpu_us: cpu as f64 / 1e3 / received as f64,
    })
}

/// Sends so many events that about `rate` deliveries a second are to be made, for `time`.
pub fn pace(
    contestant: &Contestant,
    database: &Database,
    members: usize,
    rate: f64,
    time: Duration,
) -> Result<Paced, String> {
    let server = contestant.start(database, &[]);
    let mut channel = Channel::gather(contestant, &server, members)?;
    let interval = Duration::from_secs_f64((members as f64 - 1.0) / rate);
    channel.heard.pending = Some(Pending {
        events: Vec::new(),
        times: Times::default(),
        record: false,
    });
    let begin = Instant::now();
    let warm = begin + time / 5;
    let end = warm + time;
    let mut due = begin;
    let mut from = None;
    loop {
        let now = Instant::now();
        if from.is_none() && now >= warm {
            from = Some((now, channel.heard.received, process::cpu_ns(server.pid())));
            channel.pending().record = true;
        }
        if now >= end {
            break;
        }
        while due <= Instant::now() {
            let members = channel.members as u32;
            let pending = channel.pending();
            let sender = pending.events.len();
            pending.events.push((Instant::now(), members - 1));
            let sender = sender % channel.senders;
            channel.send(sender, 1);
            due += interval;
        }
        let wait = due.saturating_duration_since(Instant::now());
        channel.poll(wait.min(Duration::from_millis(20)));
        let behind = channel.expected() - channel.heard.received;
        if behind as f64 > rate * 2.0 {
            return Err(format!("{behind} deliveries behind"));
        }
    }
    let (since, received, cpu) = from.unwrap_or((begin, 0, 0));
    let (elapsed, received) = (since.elapsed(), channel.heard.received - received);
    let cpu = process::cpu_ns(server.pid()) - cpu;
    channel.pending().record = false;
    channel.finish()?;
    let times = &mut channel.pending().times;
    Ok(Paced {
        deliveries_per_second: received as f64 / elapsed.as_secs_f64(),
        cpu_us: cpu as f64 / 1e3 / received as f64,
        p50_us: times.percentile(0.5),
        p99_us: times.percentile(0.99),
    })
}

impl Channel {
    fn pending(&mut self) -> &mut Pending {
        self.heard.pending.as_mut().expect("a paced run")
    }
}
