//! The hub with threads that publish at the same time, and with agents that were deactivated.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::*;

/// A socket that keeps what was queued for it, and what of that was written.
#[derive(Default)]
struct Recorder {
    id: u64,
    pending: Mutex<Vec<Vec<u8>>>,
    written: Mutex<Vec<Vec<u8>>>,
    closed: Mutex<Option<CloseCode>>,
}

impl Recorder {
    fn new(id: u64) -> Arc<Self> {
        Arc::new(Recorder {
            id,
            ..Recorder::default()
        })
    }

    /// The texts that were written.
    fn texts(&self) -> Vec<String> {
        let written = lock(&self.written);
        let text = |frame: &Vec<u8>| String::from_utf8_lossy(&frame[2..]).into_owned();
        written.iter().map(text).collect()
    }
}

impl Subscriber for Recorder {
    fn id(&self) -> SubscriberId {
        SubscriberId(self.id)
    }

    fn push(&self, frames: &Frames, skipped: usize, _: Weight) -> Queued {
        let mut pending = lock(&self.pending);
        let is_first = pending.is_empty();
        pending.extend(frames.iter_from(skipped).map(<[u8]>::to_vec));
        match is_first && !pending.is_empty() {
            true => Queued::NeedsFlush,
            false => Queued::Nothing,
        }
    }

    fn flush(&self) {
        lock(&self.written).append(&mut lock(&self.pending));
    }

    fn close(&self, code: CloseCode) {
        *lock(&self.closed) = Some(code);
    }
}

fn start() -> (Hub, JoinHandle<()>) {
    Hub::start(
        HubConfig {
            max_per_agent: 10,
            presence_grace: Duration::ZERO,
            presence: |change| {
                Frame::text(&format!("agent {} {}", change.agent.0, change.is_online))
            },
            online: |agents| agents.len().to_string(),
            on_presence: Box::new(|_| {}),
        },
        &Threads::of_command(),
    )
    .expect("a thread")
}

/// Ends the hub, which first writes all that was published.
fn stop(hub: &Hub, thread: JoinHandle<()>) {
    hub.send(Command::Stop);
    thread.join().expect("no panic");
}

fn newcomer(recorder: &Arc<Recorder>, agent: u64, asked: Instant) -> Newcomer {
    Newcomer {
        subscriber: Arc::clone(recorder) as SubscriberRef,
        agent: AgentId(agent),
        asked,
        welcome: Box::new(|online, _| Frame::text(online)),
        refusal: Frame::text("too many"),
        is_held: false,
    }
}

fn publication(audience: &Arc<[AgentId]>, text: &str) -> Publication {
    Publication::new(Arc::clone(audience), Frame::text(text), Weight::Essential)
}

fn message(audience: &Arc<[AgentId]>, id: u64) -> Publication {
    Publication {
        message: Some(MessageId(id)),
        ..publication(audience, &format!("message {id}"))
    }
}

#[test]
fn all_sockets_see_one_order_whichever_threads_publish() {
    const THREADS: usize = 4;
    const WORDS: usize = 3000;
    let (hub, thread) = start();
    let recorders: Vec<_> = (1..=3).map(Recorder::new).collect();
    for recorder in &recorders {
        hub.send(Command::Join(newcomer(
            recorder,
            recorder.id,
            Instant::now(),
        )));
    }
    let all: Arc<[AgentId]> = (1..=3).map(AgentId).collect();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (hub, all, own) = (&hub, &all, &recorders[number % 3]);
            scope.spawn(move || {
                for word in 0..WORDS {
                    let text = format!("{number} {word}");
                    match word % 5 {
                        0 => hub.publish(Publication {
                            own: Some((own.id(), Some(Frame::text(&text)))),
                            ..publication(all, &text)
                        }),
                        _ => hub.publish(publication(all, &text)),
                    }
                }
            });
        }
    });
    stop(&hub, thread);
    let words = |recorder: &Recorder| -> Vec<(usize, usize)> {
        let texts = recorder.texts().into_iter();
        texts
            .filter_map(|text| {
                let (by, word) = text.split_once(' ')?;
                Some((by.parse().ok()?, word.parse().ok()?))
            })
            .collect()
    };
    let seen = words(&recorders[0]);
    assert_eq!(seen.len(), THREADS * WORDS);
    for recorder in &recorders {
        assert_eq!(words(recorder), seen, "two sockets saw two orders");
    }
    for number in 0..THREADS {
        let of_thread = seen.iter().filter(|(by, _)| *by == number);
        let is_in_order = of_thread
            .enumerate()
            .all(|(place, (_, word))| place == *word);
        assert!(
            is_in_order,
            "thread {number}: lost, doubled or out of order"
        );
    }
}

#[test]
fn an_answer_keeps_its_place_between_publications() {
    let (hub, thread) = start();
    let recorder = Recorder::new(1);
    hub.send(Command::Join(newcomer(&recorder, 1, Instant::now())));
    let me: Arc<[AgentId]> = Arc::from([AgentId(1)]);
    for number in 0..5000 {
        match number % 3 {
            0 => hub.answer(
                Arc::clone(&recorder) as SubscriberRef,
                Some(Frame::text(&number.to_string())),
                None,
            ),
            _ => hub.publish(publication(&me, &number.to_string())),
        }
    }
    stop(&hub, thread);
    let expected: Vec<String> = (0..5000).map(|number: i32| number.to_string()).collect();
    assert_eq!(recorder.texts()[1..], expected);
}

#[test]
fn a_publication_says_when_it_is_in_the_channel() {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (hub, thread) = start();
    let done = Arc::new(AtomicUsize::new(0));
    hub.publish(Publication {
        done: Some(Box::new(Count(Arc::clone(&done)))),
        ..publication(&Arc::from([]), "x")
    });
    assert_eq!(done.load(Ordering::SeqCst), 1);
    stop(&hub, thread);
}

#[test]
fn what_a_resumed_socket_knows_is_not_sent_again_and_what_it_does_not_is() {
    let (hub, thread) = start();
    let recorder = Recorder::new(1);
    let me: Arc<[AgentId]> = Arc::from([AgentId(1)]);
    hub.send(Command::Join(Newcomer {
        is_held: true,
        ..newcomer(&recorder, 1, Instant::now())
    }));
    hub.publish(message(&me, 7));
    hub.publish(message(&me, 8));
    let backlog = Backlog {
        messages: vec![(MessageId(7), Frame::text("missed 7"))],
        done: Some(Frame::text("done")),
    };
    hub.send(Command::Release {
        subscriber: Arc::clone(&recorder) as SubscriberRef,
        agent: AgentId(1),
        backlog,
    });
    hub.publish(message(&me, 7));
    hub.publish(message(&me, 9));
    stop(&hub, thread);
    let written: Vec<u8> = lock(&recorder.written).concat();
    let mut expected = Vec::new();
    for text in ["1", "missed 7", "done", "message 8", "message 9"] {
        expected.extend_from_slice(Frame::text(text).bytes());
    }
    assert_eq!(written, expected);
}

#[test]
fn an_agent_known_from_before_the_check_is_held_to_it() {
    let (hub, thread) = start();
    let begin = Instant::now();
    let times = [0, 1, 2, 3].map(|milliseconds| begin + Duration::from_millis(milliseconds));
    let recorders: Vec<_> = (0..5).map(Recorder::new).collect();
    hub.send(Command::Join(newcomer(&recorders[0], 1, times[0])));
    hub.send(Command::Join(newcomer(&recorders[1], 2, times[0])));
    hub.send(Command::Join(newcomer(&recorders[2], 3, times[2])));
    hub.send(Command::CloseInactive(
        HashSet::from([AgentId(2)]),
        times[1],
    ));
    // Joins after the check, with an answer of the database from before it.
    hub.send(Command::Join(newcomer(&recorders[3], 4, times[0])));
    hub.send(Command::Join(newcomer(&recorders[4], 4, times[3])));
    stop(&hub, thread);
    let closed: Vec<_> = recorders.iter().map(|one| *lock(&one.closed)).collect();
    let gone = Some(CloseCode::Deactivated);
    assert_eq!(closed, [gone, None, None, gone, None]);
}

#[test]
fn an_agent_is_known_to_be_online_before_what_it_says() {
    let (hub, thread) = start();
    let (recorder, other) = (Recorder::new(1), Recorder::new(2));
    hub.send(Command::Join(newcomer(&recorder, 1, Instant::now())));
    hub.send(Command::Join(newcomer(&other, 2, Instant::now())));
    hub.publish(publication(&Arc::from([AgentId(1), AgentId(2)]), "hello"));
    stop(&hub, thread);
    let texts = recorder.texts();
    // Whether the other was there when it was welcomed depends on the batch.
    assert!(
        texts == ["1", "agent 2 true", "hello"] || texts == ["2", "hello"],
        "{texts:?}"
    );
    assert_eq!(other.texts(), ["2", "hello"]);
}
