//! The hub with threads that speak at once, a round that panics, and agents who are active no longer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A socket that keeps what it is told, and that which was written of it.
#[derive(Default)]
struct Ear {
    id: u64,
    pending: Mutex<Vec<Vec<u8>>>,
    written: Mutex<Vec<Vec<u8>>>,
    closed: Mutex<Option<CloseCode>>,
    panics: AtomicBool,
}

impl Ear {
    fn new(id: u64) -> Arc<Self> {
        Arc::new(Ear {
            id,
            ..Ear::default()
        })
    }

    fn written(&self) -> Vec<Vec<u8>> {
        self.written.lock().expect("no panic").clone()
    }
}

impl Subscriber for Ear {
    fn id(&self) -> SubscriberId {
        SubscriberId(self.id)
    }

    fn push(&self, frame: &Frame, _: Weight) -> bool {
        assert!(
            !self.panics.load(Ordering::Relaxed),
            "as the test wishes it"
        );
        let mut pending = self.pending.lock().expect("no panic");
        pending.push(frame.bytes().to_vec());
        pending.len() == 1
    }

    fn push_all(&self, frames: &Frames, skipped: usize, _: Weight) -> bool {
        let mut pending = self.pending.lock().expect("no panic");
        let first = pending.is_empty();
        pending.extend(frames.iter_from(skipped).map(<[u8]>::to_vec));
        first && !pending.is_empty()
    }

    fn write_all(&self, frames: &Frames, skipped: usize, weight: Weight) {
        self.push_all(frames, skipped, weight);
        self.flush();
    }

    fn flush(&self) {
        let mut pending = self.pending.lock().expect("no panic");
        let mut written = self.written.lock().expect("no panic");
        written.append(&mut pending);
    }

    fn close(&self, code: CloseCode) {
        *self.closed.lock().expect("no panic") = Some(code);
    }

    fn resume(&self) {}
}

fn start() -> (Hub, JoinHandle<()>, Receiver<()>) {
    let config = HubConfig {
        max_per_agent: 10,
        presence_grace: Duration::ZERO,
        presence: |agent, online| Frame::text(&format!("agent {} {online}", agent.0)),
        online: |agents| agents.len().to_string(),
        on_presence: Box::new(|_, _| {}),
    };
    let (broken, is_broken) = channel();
    let (hub, thread) = Hub::start(config, move || {
        let _ = broken.send(());
    })
    .expect("a thread");
    (hub, thread, is_broken)
}

fn newcomer(ear: &Arc<Ear>, agent: u64, asked: Instant) -> Newcomer {
    Newcomer {
        subscriber: Arc::clone(ear) as SubscriberRef,
        agent: AgentId(agent),
        asked,
        welcome: Box::new(|online, _| Frame::text(online)),
        refusal: Frame::text("too many"),
        hold: false,
    }
}

fn said(audience: &Arc<[AgentId]>, text: &str) -> Publication {
    Publication {
        message: None,
        audience: Arc::clone(audience),
        frame: Frame::text(text),
        weight: Weight::Essential,
        own: None,
        resume: None,
    }
}

/// Waits for something that other threads are about to do.
fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

#[test]
fn all_hear_one_order_whoever_runs_the_rounds() {
    const SPEAKERS: usize = 4;
    const WORDS: usize = 3000;
    let (hub, thread, _broken) = start();
    let ears: Vec<_> = (1..=3).map(Ear::new).collect();
    for ear in &ears {
        hub.join(newcomer(ear, ear.id, Instant::now()));
    }
    let all: Arc<[AgentId]> = (1..=3).map(AgentId).collect();
    thread::scope(|scope| {
        for speaker in 0..SPEAKERS {
            let (hub, all) = (&hub, &all);
            scope.spawn(move || {
                // Words in a row, and who writes them, from a seed of his own.
                let mut seed = speaker as u64 * 7919 + 1;
                let mut word = 0;
                while word < WORDS {
                    seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
                    let held = (seed >> 62 > 0).then(|| hub.hold());
                    for _ in 0..=(seed >> 40) % 7 {
                        hub.publish(said(all, &format!("{speaker} {word}")));
                        word += 1;
                    }
                    if let Some(held) = held
                        && seed >> 61 & 1 == 0
                    {
                        held.pass_on();
                    }
                    if seed >> 50 & 15 == 0 {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    let words = |ear: &Ear| -> Vec<(usize, usize)> {
        let frames = ear.written();
        let texts = frames
            .iter()
            .map(|frame| String::from_utf8_lossy(&frame[2..]).into_owned());
        texts
            .filter_map(|text| {
                let (speaker, word) = text.split_once(' ')?;
                Some((speaker.parse().ok()?, word.parse().ok()?))
            })
            .collect()
    };
    let complete = until(|| ears.iter().all(|ear| words(ear).len() >= SPEAKERS * WORDS));
    assert!(complete, "somebody waits for what was said");
    let heard = words(&ears[0]);
    for ear in &ears {
        assert_eq!(words(ear), heard, "two listeners heard two orders");
    }
    for speaker in 0..SPEAKERS {
        let of_him = heard.iter().filter(|(by, _)| *by == speaker);
        let in_order = of_him.enumerate().all(|(place, (_, word))| place == *word);
        assert!(
            in_order,
            "what {speaker} said is lost, doubled or out of order"
        );
    }
    hub.stop();
    thread.join().expect("the hub");
}

#[test]
fn a_panic_in_a_round_of_any_thread_is_reported_and_holds_up_nobody() {
    for by_the_hub in [false, true] {
        let (hub, thread, broken) = start();
        let ear = Ear::new(1);
        hub.join(newcomer(&ear, 1, Instant::now()));
        ear.panics.store(true, Ordering::Relaxed);
        let me: Arc<[AgentId]> = Arc::from([AgentId(1)]);
        if by_the_hub {
            // A full queue is what the hub's thread takes while its speaker holds back.
            let held = hub.hold();
            for _ in 0..6000 {
                hub.answer(Arc::clone(&ear) as SubscriberRef, Frame::text("?"), false);
            }
            drop(held);
        } else {
            let hub = hub.clone();
            let me = Arc::clone(&me);
            let speaker = thread::Builder::new()
                .spawn(move || hub.publish(said(&me, "?")))
                .expect("a thread");
            let outcome = speaker.join();
            assert!(outcome.is_err());
        }
        let told = broken.recv_timeout(Duration::from_secs(20));
        assert_eq!(told, Ok(()), "by the hub: {by_the_hub}");
        // More than there is room for.
        for _ in 0..10_000 {
            hub.publish(said(&me, "is anybody there?"));
        }
        assert_eq!(hub.queued(), 0);
        assert_eq!(thread.join().is_err(), by_the_hub);
    }
}

#[test]
fn a_stop_writes_what_was_left_to_the_hub() {
    let (hub, thread, broken) = start();
    let ear = Ear::new(1);
    hub.join(newcomer(&ear, 1, Instant::now()));
    let me: Arc<[AgentId]> = Arc::from([AgentId(1)]);
    for _ in 0..200 {
        let held = hub.hold();
        hub.publish(said(&me, "x"));
        held.pass_on();
    }
    hub.stop();
    thread.join().expect("the hub");
    assert_eq!(ear.written().len(), 201);
    assert!(broken.recv().is_err(), "it was not broken");
}

#[test]
fn who_was_known_to_be_active_before_the_check_is_held_to_it() {
    let (hub, thread, _broken) = start();
    let begin = Instant::now();
    let times = [0, 1, 2, 3].map(|milliseconds| begin + Duration::from_millis(milliseconds));
    let ears: Vec<_> = (0..5).map(Ear::new).collect();
    hub.join(newcomer(&ears[0], 1, times[0]));
    hub.join(newcomer(&ears[1], 2, times[0]));
    hub.join(newcomer(&ears[2], 3, times[2]));
    hub.close_inactive(HashSet::from([AgentId(2)]), times[1]);
    // Who comes after the check by what was known before it.
    hub.join(newcomer(&ears[3], 4, times[0]));
    hub.join(newcomer(&ears[4], 4, times[3]));
    let closed = |ear: &Arc<Ear>| *ear.closed.lock().expect("no panic");
    let closed: Vec<_> = ears.iter().map(closed).collect();
    let gone = Some(CloseCode::Deactivated);
    assert_eq!(closed, [gone, None, None, gone, None]);
    hub.stop();
    thread.join().expect("the hub");
}

#[test]
fn who_has_come_is_known_before_what_he_says() {
    let (hub, thread, _broken) = start();
    let (ear, other) = (Ear::new(1), Ear::new(2));
    hub.join(newcomer(&ear, 1, Instant::now()));
    let held = hub.hold();
    hub.join(newcomer(&other, 2, Instant::now()));
    hub.publish(said(&Arc::from([AgentId(1), AgentId(2)]), "hello"));
    drop(held);
    let texts = |ear: &Ear| -> Vec<String> {
        let text = |frame: &Vec<u8>| String::from_utf8_lossy(&frame[2..]).into_owned();
        ear.written().iter().map(text).collect()
    };
    assert_eq!(texts(&ear), ["1", "agent 2 true", "hello"]);
    assert_eq!(texts(&other), ["2", "hello"]);
    hub.stop();
    thread.join().expect("the hub");
}
