//! A soak: churn, bursts and slow readers, for a few seconds in every run and for half an hour on request. Afterwards the
//! daemon must have released its resources, and in the long form its memory must not grow.
//!
//! ```sh
//! cargo build --release --locked
//! ANDREA_SOAK_MINUTES=30 ANDREA_TEST_PROGRAM=target/release/andrea-chat-websocket contrib/test soak:: -- --nocapture
//! ```

mod figures;
mod load;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use andrea_chat_websocket::supervisor::ALLOCATOR;

use self::figures::{Sample, Slope, means};
use self::load::Done;
use crate::support::daemon::{Daemon, Options};
use crate::support::ops::seeded;
use crate::support::wait;
use crate::support::ws::Client;

/// The short form, at least.
const SHORT: Duration = Duration::from_secs(8);
/// So long everything happens that happens once: threads start, connections to the database are opened, buffers grow.
const WARM_UP: Duration = Duration::from_secs(4);
const BETWEEN_SAMPLES: Duration = Duration::from_secs(1);
/// Samples that make one point of the fit.
const SAMPLES_A_POINT: usize = 15;
/// Nothing before this is looked at for growth: a message that was sent within the last ten minutes is known by its `ref`,
/// so that memory grows for so long, and the allocator keeps the most that it ever needed at once.
const SETTLING: Duration = Duration::from_secs(12 * 60);

/// A connection to the database that has received much is exchanged when it has rested for a minute or two; what was sent
/// with which `ref` is forgotten after ten minutes.
const REST: Duration = Duration::from_secs(12 * 60);
/// What a daemon that rests may have kept of what it took: what the allocator has in pieces.
const KEPT_KB: u64 = 8 * 1024;

/// The duration of the long form, if requested; 30 minutes if the variable holds no number.
fn long() -> Option<Duration> {
    let minutes = std::env::var("ANDREA_SOAK_MINUTES").ok()?;
    let minutes: f64 = match minutes.as_str() {
        "" => 30.0,
        text => text.parse().expect("ANDREA_SOAK_MINUTES is a number"),
    };
    Some(Duration::from_secs_f64(minutes * 60.0))
}

/// Keeps the daemon busy for so long, and until it has dropped so many slow readers, and looks at it meanwhile.
fn soak(
    daemon: &Daemon,
    seed: u64,
    time: Duration,
    drops: u64,
    done: &Done,
) -> Vec<(Duration, Sample)> {
    let stop = AtomicBool::new(false);
    let mut samples = Vec::new();
    thread::scope(|scope| {
        let load = scope.spawn(|| load::run(daemon, seed, &stop, done));
        let begun = Instant::now();
        let is_over = || {
            let at = begun.elapsed();
            at >= time && (dropped(daemon) >= drops || at >= time + 10 * wait::LIMIT)
        };
        while !is_over() && !stop.load(Ordering::SeqCst) {
            wait::pass(BETWEEN_SAMPLES);
            samples.push((begun.elapsed(), Sample::of(daemon.pid())));
            if samples.len() % 60 == 0 {
                let (at, sample) = samples.last().expect("just pushed");
                println!("{:5} s: {sample}", at.as_secs());
            }
        }
        stop.store(true, Ordering::SeqCst);
        load.join().expect("no client met an unexpected event");
    });
    samples
}

#[test]
fn what_a_soak_takes_is_given_back() {
    needs!(MariaDb, Time);
    let time = long().unwrap_or(SHORT);
    let (database, _) = seeded();
    // As the unit starts it.
    let options = ALLOCATOR
        .iter()
        .fold(Options::new(), |options, (name, value)| options.env(name, value))
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_MAX_PER_AGENT", "1000")
        .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "0")
        // Slow readers are to be dropped often.
        .env("CHAT_WEBSOCKET_QUEUE_SECONDS", "3");
    let mut daemon = Daemon::start(&database, &options);
    soak(&daemon, 1, WARM_UP, 0, &Done::default());
    let settled = || {
        let sample = Sample::of(daemon.pid());
        let is_idle = connections(&daemon) == 0;
        is_idle.then_some(sample)
    };
    let before = wait::until(wait::LIMIT, settled).expect("everybody is gone");

    let done = Done::default();
    let dropped_before = dropped(&daemon);
    let samples = soak(&daemon, 100, time, dropped_before + 1, &done);

    let is_as_before = |sample: &Sample| {
        sample.threads <= before.threads && sample.descriptors <= before.descriptors
    };
    let after = wait::until(wait::LIMIT, || settled().filter(is_as_before));
    let after = after.unwrap_or_else(|| {
        panic!(
            "before: {before}; and now, without clients: {}",
            Sample::of(daemon.pid())
        )
    });
    let most = samples.iter().map(|(_, sample)| sample.resident_kb).max();
    let dropped = dropped(&daemon) - dropped_before;
    let [connections, messages, refused] = [&done.connections, &done.messages, &done.refused]
        .map(|count| count.load(Ordering::Relaxed));
    println!(
        "{time:?}: {connections} connections ({refused} refused), {messages} messages, {dropped} slow readers dropped"
    );
    println!("before: {before}");
    println!("after:  {after}; at most {} KB", most.unwrap_or(0));
    let later: Vec<_> = samples
        .into_iter()
        .filter(|(at, _)| *at >= SETTLING)
        .collect();
    if let Some(slope) = Slope::fit(&means(&later, SAMPLES_A_POINT)) {
        println!("memory over the run, after {SETTLING:?}: {slope}");
        assert!(!slope.is_growth(), "memory grows by {slope}");
    }
    if long().is_some() {
        let rested = wait::until(REST, || {
            settled().filter(|sample| sample.resident_kb <= before.resident_kb + KEPT_KB)
        });
        println!("rested: {}", Sample::of(daemon.pid()));
        assert!(rested.is_some(), "memory is kept by a daemon that rests");
    }
    assert!(dropped > 0, "a reader that reads nothing is dropped");
    daemon.check_life().unwrap();
}

/// How many sockets it has, as the kernel counts them.
fn connections(daemon: &Daemon) -> usize {
    let sockets = format!("/proc/{}/net/tcp", daemon.pid());
    let table = std::fs::read_to_string(sockets).expect("the table of sockets");
    // Local address and state: established ones of the daemon's port.
    let port = format!(":{:04X}", daemon.port());
    let ours = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().unwrap_or_default();
        let state = words.nth(1).unwrap_or_default();
        local.ends_with(&port) && ["01", "08"].contains(&state)
    };
    table.lines().filter(ours).count()
}

/// How many sockets it has dropped for reading too slowly.
fn dropped(daemon: &Daemon) -> u64 {
    let mut client = Client::open(daemon.port());
    client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let text = String::from_utf8(client.rest().unwrap()).expect("text");
    let sample = |line: &str| {
        let (name, value) = line.trim_end().rsplit_once(' ')?;
        name.ends_with("connections_slow_total")
            .then(|| value.parse().ok())?
    };
    text.lines().find_map(sample).expect("a metric")
}
