//! From the thread that commits to the sockets: many send, many listen, and many come and go meanwhile. Bursts with
//! silence between them, and listeners that say nothing, so that a wake-up that is lost stays lost and is seen.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::random::Random;
use crate::support::chat::{Answer, Place, Voice, audit, places_of};
use crate::support::daemon::{Daemon, Options};
use crate::support::ops::seeded;

const SEED: u64 = 1;
const BURSTS: usize = 60;
const SENDERS: [i64; 5] = [1, 2, 3, 4, 8];
const LISTENERS_EACH: usize = 5;
const COMERS: usize = 3;

/// Sockets that come in the middle of it, hear what there is to be heard, and go. Returns what they heard.
fn come_and_go(port: u16, mut random: Random, stop: &AtomicBool, come: &AtomicUsize) -> Vec<Voice> {
    let mut gone = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let agent = SENDERS[random.below(SENDERS.len())];
        let mut voice = Voice::login(port, agent).unwrap();
        come.fetch_add(1, Ordering::SeqCst);
        for _ in 0..random.below(3) {
            voice.catch_up().unwrap();
        }
        // Some ask for an answer before they go, which passes through all the same hands.
        if random.below(3) == 0 {
            voice.ask(Place::Channel(1)).unwrap();
        }
        assert_eq!(voice.ended, None);
        gone.push(voice);
        let last = gone.last_mut().expect("just pushed");
        last.client.hang_up();
    }
    gone
}

#[test]
fn every_socket_hears_everything_once_in_order_and_nothing_is_stuck() {
    let (database, mut conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "0")
        .env("CHAT_WEBSOCKET_MAX_PER_AGENT", "1000");
    let mut daemon = Daemon::start(&database, &options);
    let port = daemon.port();
    let login = |agent: i64| Voice::login(port, agent).unwrap();
    let mut senders: Vec<Voice> = SENDERS.map(login).into();
    let listeners = SENDERS.iter().flat_map(|agent| [*agent; LISTENERS_EACH]);
    let mut listeners: Vec<Voice> = listeners.map(login).collect();
    let (stop, come) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut random = Random::new(SEED);
    let gone: Vec<Voice> = thread::scope(|scope| {
        let (stop, come) = (&stop, &come);
        let comers: Vec<_> = (0..COMERS)
            .map(|number| {
                let random = Random::new(SEED + 1 + number as u64);
                scope.spawn(move || come_and_go(port, random, stop, come))
            })
            .collect();
        for _ in 0..BURSTS {
            burst(&mut senders, &mut listeners, &mut random);
        }
        stop.store(true, Ordering::SeqCst);
        let comers = comers.into_iter();
        comers
            .flat_map(|one| one.join().expect("no panic"))
            .collect()
    });
    assert!(come.load(Ordering::SeqCst) >= COMERS);
    let everybody: Vec<&Voice> = senders.iter().chain(&listeners).chain(&gone).collect();
    let table = audit(&mut conn, &everybody).unwrap();
    for voice in everybody {
        let heard = voice.heard.iter().map(|message| message.id);
        let heard: Vec<i64> = heard.collect();
        let last = heard.iter().copied().max().unwrap_or(0);
        let of_his = |id: &&i64| places_of(voice.agent_id).contains(&table[id].place);
        // From the moment he came to the last that he heard: all of it, in one order for all places.
        let there = table.keys().filter(|id| **id > voice.since && **id <= last);
        let there: Vec<i64> = there.filter(of_his).copied().collect();
        assert_eq!(
            heard, there,
            "agent {} since {}",
            voice.agent_id, voice.since
        );
    }
    daemon.check_life().unwrap();
}

/// Everybody sends some at once, and then waits, as the listeners do, for what was sent. Nobody says anything more, so
/// nothing but the daemon itself can push on what it has left lying.
fn burst(senders: &mut [Voice], listeners: &mut [Voice], random: &mut Random) {
    let plans: Vec<(Place, usize)> = senders
        .iter()
        .map(|voice| {
            let places = places_of(voice.agent_id);
            (places[random.below(places.len())], 1 + random.below(4))
        })
        .collect();
    let last_ids: Vec<i64> = thread::scope(|scope| {
        let sending: Vec<_> = senders
            .iter_mut()
            .zip(&plans)
            .map(|(voice, (place, count))| scope.spawn(|| send(voice, *place, *count)))
            .collect();
        let sending = sending.into_iter();
        sending.map(|one| one.join().expect("no panic")).collect()
    });
    thread::scope(|scope| {
        for voice in listeners {
            let places = places_of(voice.agent_id);
            let his = plans.iter().zip(&last_ids);
            let his = his.filter(|((place, _), _)| places.contains(place));
            let last = his.map(|(_, id)| *id).max().unwrap_or(0);
            scope.spawn(move || {
                voice.await_id(last).unwrap();
                assert_eq!(voice.ended, None);
            });
        }
    });
}

/// Sends so many and returns the id of the last one once all are stored.
fn send(voice: &mut Voice, place: Place, count: usize) -> i64 {
    voice.say_many(place, count);
    voice.await_answers().unwrap();
    let of_now = &voice.sent[voice.sent.len() - count..];
    let ids = of_now.iter().map(|sent| match &sent.answer {
        Some(Answer::Stored(id)) => *id,
        other => panic!("expected it stored, found {other:?}"),
    });
    ids.max().expect("one at least")
}
