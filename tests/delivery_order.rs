//! Delivery from the commit thread to the sockets while many clients send, listen, connect and disconnect. Bursts are
//! separated by silence and listeners send nothing, so that a lost wake-up is not hidden by a later one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::random::Random;
use crate::support::chat::{Answer, Participant, Place, audit, places_of};
use crate::support::daemon::{Daemon, Options};
use crate::support::ops::seeded;

const SEED: u64 = 1;
const BURSTS: usize = 60;
const SENDERS: [i64; 5] = [1, 2, 3, 4, 8];
const LISTENERS_EACH: usize = 5;
const COMERS: usize = 3;

/// Sockets that come in the middle of it, hear what there is to be heard, and go. Returns what they heard.
fn come_and_go(
    port: u16,
    mut random: Random,
    stop: &AtomicBool,
    come: &AtomicUsize,
) -> Vec<Participant> {
    let mut gone = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let agent = SENDERS[random.below(SENDERS.len())];
        let mut participant = Participant::login(port, agent).unwrap();
        come.fetch_add(1, Ordering::SeqCst);
        for _ in 0..random.below(3) {
            participant.catch_up().unwrap();
        }
        // Some ask for an answer before they go, which passes through all the same hands.
        if random.below(3) == 0 {
            participant.ask(Place::Channel(1)).unwrap();
        }
        assert_eq!(participant.ended, None);
        gone.push(participant);
        let last = gone.last_mut().expect("just pushed");
        last.client.hang_up();
    }
    gone
}

#[test]
fn every_socket_hears_everything_once_in_order_and_nothing_is_stuck() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "0")
        .env("CHAT_WEBSOCKET_MAX_PER_AGENT", "1000");
    let mut daemon = Daemon::start(&database, &options);
    let port = daemon.port();
    let login = |agent: i64| Participant::login(port, agent).unwrap();
    let mut senders: Vec<Participant> = SENDERS.map(login).into();
    let listeners = SENDERS.iter().flat_map(|agent| [*agent; LISTENERS_EACH]);
    let mut listeners: Vec<Participant> = listeners.map(login).collect();
    let (stop, come) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut random = Random::new(SEED);
    let gone: Vec<Participant> = thread::scope(|scope| {
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
    let everybody: Vec<&Participant> = senders.iter().chain(&listeners).chain(&gone).collect();
    let table = audit(&mut conn, &everybody).unwrap();
    for participant in everybody {
        let heard = participant.heard.iter().map(|message| message.id);
        let heard: Vec<i64> = heard.collect();
        let last = heard.iter().copied().max().unwrap_or(0);
        let of_his = |id: &&i64| places_of(participant.agent_id).contains(&table[id].place);
        // Everything from the login to the last received message, in one order across all places.
        let there = table
            .keys()
            .filter(|id| **id > participant.since && **id <= last);
        let there: Vec<i64> = there.filter(of_his).copied().collect();
        assert_eq!(
            heard, there,
            "agent {} since {}",
            participant.agent_id, participant.since
        );
    }
    daemon.check_life().unwrap();
}

/// All senders send several messages at once and then wait for them, as the listeners do. No client sends anything more,
/// so only the daemon itself can deliver what is still queued.
fn burst(senders: &mut [Participant], listeners: &mut [Participant], random: &mut Random) {
    let plans: Vec<(Place, usize)> = senders
        .iter()
        .map(|participant| {
            let places = places_of(participant.agent_id);
            (places[random.below(places.len())], 1 + random.below(4))
        })
        .collect();
    let last_ids: Vec<i64> = thread::scope(|scope| {
        let sending: Vec<_> = senders
            .iter_mut()
            .zip(&plans)
            .map(|(participant, (place, count))| scope.spawn(|| send(participant, *place, *count)))
            .collect();
        let sending = sending.into_iter();
        sending.map(|one| one.join().expect("no panic")).collect()
    });
    thread::scope(|scope| {
        for participant in listeners {
            let places = places_of(participant.agent_id);
            let his = plans.iter().zip(&last_ids);
            let his = his.filter(|((place, _), _)| places.contains(place));
            let last = his.map(|(_, id)| *id).max().unwrap_or(0);
            scope.spawn(move || {
                participant.await_id(last).unwrap();
                assert_eq!(participant.ended, None);
            });
        }
    });
}

/// Sends so many and returns the id of the last one once all are stored.
fn send(participant: &mut Participant, place: Place, count: usize) -> i64 {
    participant.say_many(place, count);
    participant.await_answers().unwrap();
    let of_now = &participant.sent[participant.sent.len() - count..];
    let ids = of_now.iter().map(|sent| match &sent.answer {
        Some(Answer::Stored(id)) => *id,
        other => panic!("expected it stored, found {other:?}"),
    });
    ids.max().expect("one at least")
}
