//! Durable messages: throughput, latency from sending to the sender's own receipt, and for comparison the time that the
//! database takes for the same rows through the same driver.

use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::client_pool::{ClientPool, End, Listener};
use super::database::{Database, channel_of};
use super::process;
use super::servers::Contestant;
use super::stats::Times;
use super::wire;

const TIMEOUT: Duration = Duration::from_secs(60);
/// What may happen between two looks at the clock.
const SLICE: Duration = Duration::from_millis(20);

/// What a run showed.
pub struct Posted {
    pub messages_per_second: f64,
    /// From sending to one's own receipt, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
    /// Messages of one transaction, on average.
    pub batch: f64,
    /// Processor time of the server for one message, in microseconds.
    pub cpu_us: f64,
}

/// What the database took.
pub struct Written {
    pub messages_per_second: f64,
    /// Of one transaction, in microseconds.
    pub p50_us: f64,
    pub p99_us: f64,
}

struct Talk {
    senders: usize,
    /// By sender: the number of the message that is on its way, and when it was sent.
    own: Vec<(u64, Instant)>,
    /// Senders whose message has come back.
    ready: Vec<usize>,
    /// By member: last id, and how many of each sender.
    last_id: Vec<u64>,
    heard: Vec<u64>,
    received: u64,
    completed: u64,
    times: Times,
    record: bool,
    strange: Vec<String>,
}

impl Listener for Talk {
    fn text(&mut self, client: usize, payload: &[u8]) {
        const CREATED: &[u8] = b"{\"type\":\"chat.channel.message.created\",\"message\":{\"id\":";
        let Some(rest) = payload.strip_prefix(CREATED) else {
            if !payload.starts_with(b"{\"type\":\"presence.updated\"") {
                self.strange
                    .push(String::from_utf8_lossy(payload).into_owned());
            }
            return;
        };
        let id = wire::digits(rest).unwrap_or(0);
        let body = wire::after(rest, b"\"body_text\":\"sender ");
        let sender = body.and_then(wire::digits).unwrap_or(0) as usize;
        let number = body
            .and_then(|body| wire::digits(wire::after(body, b"number ")?))
            .unwrap_or(0);
        if sender >= self.senders {
            return self
                .strange
                .push(String::from_utf8_lossy(payload).into_owned());
        }
        let heard = &mut self.heard[client * self.senders + sender];
        if number != *heard + 1 || id <= self.last_id[client] {
            self.strange.push(format!(
                "member {} heard message {number} of sender {sender} with id {id} after message {heard}, id {}",
                client + 1,
                self.last_id[client]
            ));
        }
        *heard = number;
        self.last_id[client] = id;
        self.received += 1;
        if client == sender && number == self.own[client].0 {
            if self.record {
                self.times.add(self.own[client].1.elapsed());
                self.completed += 1;
            }
            self.ready.push(client);
        }
    }

    fn ended(&mut self, client: usize, how: End) {
        self.strange
            .push(format!("member {} lost: {how:?}", client + 1));
    }
}

/// `senders` of `members` send, each as soon as its last message has come back, for `time`. The others are looked at
/// every `pause`, or as soon as they have something where that is zero.
pub fn post(
    contestant: &Contestant,
    database: &Database,
    (members, senders): (usize, usize),
    time: Duration,
    pause: Duration,
) -> Result<Posted, String> {
    let server = contestant.start(database, &[]);
    let mut conn = database.conn();
    let mut pool = ClientPool::new(server.address, 0).map_err(|error| error.to_string())?;
    let auths: Vec<_> = (1..=members as u64)
        .map(|agent| contestant.auth(agent))
        .collect();
    pool.gather(&auths, 64, TIMEOUT)?;
    let mut talk = Talk {
        senders,
        own: vec![(0, Instant::now()); senders],
        ready: (0..senders).collect(),
        last_id: vec![0; members],
        heard: vec![0; members * senders],
        received: 0,
        completed: 0,
        times: Times::default(),
        record: false,
        strange: Vec::new(),
    };
    let aside = if pause.is_zero() { members } else { senders };
    (aside..members).for_each(|listener| pool.set_aside(listener));
    let channel = channel_of(members as u64);
    let begin = Instant::now();
    let mut look_due = begin;
    let warm = begin + (time / 5).max(Duration::from_millis(500));
    let end = warm + time;
    let mut from = None;
    let mut sent = 0;
    loop {
        let now = Instant::now();
        if from.is_none() && now >= warm {
            let commits = database.status(&mut conn, "Com_commit");
            talk.record = true;
            from = Some((Instant::now(), commits, process::cpu_ns(server.pid())));
        }
        if now >= end || !talk.strange.is_empty() {
            break;
        }
        for sender in std::mem::take(&mut talk.ready) {
            let number = talk.own[sender].0 + 1;
            let event = format!(
                "{{\"type\":\"chat.channel.message.send\",\"channel_id\":{channel},\"body\":\"{}\"}}",
                body(sender, number)
            );
            talk.own[sender] = (number, Instant::now());
            pool.send(sender, &wire::masked(wire::TEXT, event.as_bytes()));
            sent += 1;
        }
        if pause.is_zero() {
            pool.poll(SLICE, &mut talk);
            continue;
        }
        if now >= look_due {
            pool.poll_aside(&mut talk);
            look_due = now + pause;
        }
        pool.poll(look_due.saturating_duration_since(now), &mut talk);
    }
    let (since, commits, cpu) = from.ok_or("nothing was measured")?;
    let (elapsed, completed) = (since.elapsed(), talk.completed);
    talk.record = false;
    let commits = database.status(&mut conn, "Com_commit") - commits;
    let cpu = process::cpu_ns(server.pid()) - cpu;
    take_the_rest(&mut pool, &mut talk, sent * members as u64)?;
    Ok(Posted {
        messages_per_second: completed as f64 / elapsed.as_secs_f64(),
        p50_us: talk.times.percentile(0.5),
        p99_us: talk.times.percentile(0.99),
        batch: completed as f64 / commits as f64,
        cpu_us: cpu as f64 / 1e3 / completed as f64,
    })
}

/// Until all have received what was sent.
fn take_the_rest(pool: &mut ClientPool, talk: &mut Talk, expected: u64) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(6);
    while talk.received < expected && Instant::now() < deadline {
        if !pool.poll_aside(talk) {
            pool.poll(SLICE, talk);
        }
    }
    pool.poll_aside(talk);
    pool.poll(SLICE, talk);
    if let Some(first) = talk.strange.first() {
        return Err(format!(
            "{} strange things, the first: {first}",
            talk.strange.len()
        ));
    }
    if talk.received != expected {
        return Err(format!("of {expected} receipts {} came", talk.received));
    }
    Ok(())
}

/// About 60 characters, as people write.
fn body(sender: usize, number: u64) -> String {
    format!("sender {sender} number {number} says a thing of an ordinary length")
}

/// Writes the rows of such messages for `time`, `batch` a transaction on average.
pub fn write_rows(database: &Database, members: usize, batch: f64, time: Duration) -> Written {
    let mut conn = database.conn();
    conn.query_drop("SET autocommit = 0")
        .expect("a session variable");
    let begin = Instant::now();
    let warm = begin + (time / 5).max(Duration::from_millis(500));
    let end = warm + time;
    let (mut times, mut messages, mut owed) = (Times::default(), 0_u64, 0.0);
    let mut from = None;
    let mut number = 0;
    loop {
        let now = Instant::now();
        if from.is_none() && now >= warm {
            from = Some(now);
            messages = 0;
            times = Times::default();
        }
        if now >= end {
            break;
        }
        owed += batch;
        let count = (owed.floor() as u64).max(1);
        owed -= count as f64;
        let before = Instant::now();
        write(&mut conn, members, count, &mut number);
        times.add(before.elapsed());
        messages += count;
    }
    let elapsed = from.unwrap_or(begin).elapsed();
    Written {
        messages_per_second: messages as f64 / elapsed.as_secs_f64(),
        p50_us: times.percentile(0.5),
        p99_us: times.percentile(0.99),
    }
}

fn write(conn: &mut Conn, members: usize, count: u64, number: &mut u64) {
    let tuples = vec!["(?, ?, ?, ?, ?, ?, ?)"; count as usize].join(", ");
    let mut params: Vec<mysql::Value> = Vec::with_capacity(count as usize * 7);
    for sender in 0..count {
        *number += 1;
        let body = body(sender as usize, *number);
        params.extend([
            "channel".into(),
            channel_of(members as u64).into(),
            mysql::Value::NULL,
            (sender % 10 + 1).into(),
            body.as_str().into(),
            body.as_str().into(),
            "2026-01-01 00:00:00".into(),
        ]);
    }
    conn.exec_drop(
        format!(
            "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
             body_rendered_html, created_at) VALUES {tuples}"
        ),
        params,
    )
    .and_then(|()| conn.query_drop("COMMIT"))
    .expect("write rows");
}
