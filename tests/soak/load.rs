//! The soak's load: clients that connect, send, read, do not read, and disconnect. Connections are short, so that the
//! test's own records do not grow with the run.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::support::chat::{Participant, Place};
use crate::support::daemon::Daemon;
use crate::support::json::Json;
use crate::support::wait;
use crate::support::ws::{Client, FrameSpec, REQUEST};

const CHANNEL: Place = Place::Channel(1);
const THREAD: Place = Place::Direct(1);
/// The pause between two actions of a client: the load is many clients, not one at full speed.
const PACE: Duration = Duration::from_millis(20);

/// What was done.
#[derive(Default)]
pub struct Done {
    pub connections: AtomicU64,
    pub messages: AtomicU64,
    /// Logins refused because the database was too slow.
    pub refused: AtomicU64,
}

impl Done {
    /// Logs in a new client; none where it is refused, which may happen on a busy machine.
    fn login(&self, port: u16, agent: i64) -> Option<Participant> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let participant = Participant::login(port, agent).ok();
        self.refused
            .fetch_add(u64::from(participant.is_none()), Ordering::Relaxed);
        participant
    }
}

/// Ends the whole soak when one of its threads met with something unexpected.
struct Alarm<'a>(&'a AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

/// Keeps the daemon busy until `stop`; no client is connected when this returns.
pub fn run(daemon: &Daemon, seed: u64, stop: &AtomicBool, done: &Done) {
    let port = daemon.port();
    thread::scope(|scope| {
        for number in 0..2 {
            scope.spawn(move || churn(port, Random::new(seed + number), stop, done));
        }
        scope.spawn(|| bursts(port, stop, done));
        scope.spawn(|| listeners(port, stop, done));
        for _ in 0..2 {
            scope.spawn(|| slow_readers(port, stop, done));
        }
    });
}

fn goes_on(stop: &AtomicBool) -> bool {
    wait::pass(PACE);
    !stop.load(Ordering::SeqCst)
}

/// Connections of every kind that last for a moment, and every way to leave.
fn churn(port: u16, mut random: Random, stop: &AtomicBool, done: &Done) {
    let _alarm = Alarm(stop);
    let agents = [1, 2, 3, 4, 8];
    while goes_on(stop) {
        let kind = random.below(8);
        if kind < 3 {
            done.connections.fetch_add(1, Ordering::Relaxed);
            match kind {
                // Says nothing at all.
                0 => drop(Client::open(port)),
                // Goes in the middle of the handshake.
                1 => Client::open(port).write(&REQUEST.as_bytes()[..random.below(REQUEST.len())]),
                // Is a socket and never an agent.
                _ => drop(Client::connect(port).unwrap()),
            }
            continue;
        }
        let agent = agents[random.below(agents.len())];
        let Some(mut participant) = done.login(port, agent) else {
            continue;
        };
        match kind {
            // Goes in the middle of a frame.
            3 => {
                let frame = FrameSpec::text(&CHANNEL.event("cut off", "")).encode();
                participant
                    .client
                    .write(&frame[..1 + random.below(frame.len() - 1)]);
            }
            // Goes before the answers come.
            4 => {
                participant.say_many(CHANNEL, 3);
                done.messages.fetch_add(3, Ordering::Relaxed);
            }
            // Asks for what there was, and says goodbye.
            5 => {
                let client = &mut participant.client;
                client.send(r#"{"type":"chat.history","channel_id":1,"limit":20,"ref":1}"#);
                await_answer(client, 1);
                client.send(r#"{"type":"chat.unread","ref":2}"#);
                await_answer(client, 2);
                client.send_close(1000);
                client.until_end().unwrap();
            }
            _ => {
                participant
                    .client
                    .send(r#"{"type":"chat.typing","channel_id":1}"#);
                participant.ask(CHANNEL).unwrap();
                done.messages.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Whatever the answer is: on a machine that is busy enough the database may be too late for one.
fn await_answer(client: &mut Client, reference: i64) {
    while client.next_json().unwrap().get("ref") != Some(&Json::from(reference)) {}
}

/// Sends a hundred messages at once, long ones among them, and waits for all answers.
fn bursts(port: u16, stop: &AtomicBool, done: &Done) {
    let _alarm = Alarm(stop);
    let long = "long ".repeat(800);
    while goes_on(stop) {
        let Some(mut participant) = done.login(port, 1) else {
            continue;
        };
        participant.say_many(THREAD, 50);
        for _ in 0..50 {
            participant.say(CHANNEL, &long);
        }
        participant.await_answers().unwrap();
        done.messages.fetch_add(100, Ordering::Relaxed);
        // A dozen listeners in one thread, who hold every frame to the document, must be able to keep up.
        wait::pass(Duration::from_secs(1));
    }
}

/// A dozen who stay for a while and read everything.
fn listeners(port: u16, stop: &AtomicBool, done: &Done) {
    let _alarm = Alarm(stop);
    while goes_on(stop) {
        let agents = [1, 2, 3, 4, 8, 2, 3, 4, 8, 2, 3, 4];
        let participants = agents.into_iter();
        let mut participants: Vec<Participant> = participants
            .filter_map(|agent| done.login(port, agent))
            .collect();
        let until = Instant::now() + Duration::from_secs(5);
        while goes_on(stop) && Instant::now() < until {
            for participant in &mut participants {
                participant.catch_up().unwrap();
                assert_eq!(participant.ended, None, "a reader that keeps up is dropped");
            }
        }
    }
}

/// A client that reads nothing, and so never sees that it is dropped.
fn slow_readers(port: u16, stop: &AtomicBool, done: &Done) {
    let _alarm = Alarm(stop);
    while goes_on(stop) {
        let Some(participant) = done.login(port, 4) else {
            continue;
        };
        participant.client.shrink_receive_buffer();
        let until = Instant::now() + Duration::from_secs(60);
        while goes_on(stop) && Instant::now() < until {}
    }
}
