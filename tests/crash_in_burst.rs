//! A thousand messages at once: what a crash of the daemon in the middle leaves, and that all readers see one order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mysql::Conn;
use rustix::process::Signal;

use crate::support::chat::{Answer, Message, Participant, Place, audit, heard_all, places_of};
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::mariadb::Database;
use crate::support::ops::seeded;
use crate::support::seed;
use crate::support::wait;

const MESSAGES: usize = 1_000;
const PLACES: [Place; 4] = [
    Place::Channel(1),
    Place::Channel(2),
    Place::Direct(1),
    Place::Direct(3),
];

fn options() -> Options {
    Options::new().env("CHAT_WEBSOCKET_RATE", "0")
}

/// A socket for each of these agents, which posts to all its conversations in turn.
fn participants(daemon: &Daemon, agents: &[i64]) -> Vec<Participant> {
    let login = |agent: &i64| Participant::login(daemon.port(), *agent).unwrap();
    agents.iter().map(login).collect()
}

/// Kills the daemon once the fastest listener has heard this many of a thousand messages.
fn kill_after(heard: usize, database: &Database, conn: &mut Conn) -> BTreeMap<i64, Message> {
    let mut daemon = Daemon::start(database, &options());
    let mut listeners = participants(&daemon, &[1, 2, 3]);
    let senders = participants(&daemon, &[1, 2, 3, 4, 8]);
    let each = MESSAGES / senders.len();
    let mut everybody: Vec<Participant> = thread::scope(|scope| {
        let talking: Vec<_> = senders
            .into_iter()
            .map(|mut participant| {
                scope.spawn(move || {
                    let places = places_of(participant.agent_id);
                    // Some wait for each answer, some push everything out at once.
                    if participant.agent_id % 2 == 0 {
                        participant.say_many(Place::Channel(1), each);
                    }
                    for number in participant.sent.len()..each {
                        participant.ask(places[number % places.len()]).unwrap();
                        if participant.ended.is_some() {
                            break;
                        }
                    }
                    participant.await_end().unwrap();
                    participant
                })
            })
            .collect();
        let [first, others @ ..] = &mut listeners[..] else {
            panic!("there are listeners");
        };
        let hearing: Vec<_> = others
            .iter_mut()
            .map(|participant| scope.spawn(move || participant.await_end().unwrap()))
            .collect();
        first.await_heard(heard).unwrap();
        daemon.signal(Signal::KILL);
        first.await_end().unwrap();
        for listener in hearing {
            listener.join().expect("no panic");
        }
        let talking = talking.into_iter();
        talking.map(|one| one.join().expect("no panic")).collect()
    });
    daemon.wait_exit(wait::LIMIT);
    everybody.append(&mut listeners);
    let everybody: Vec<&Participant> = everybody.iter().collect();
    // Whatever anybody saw is there, and nothing was shown that is not.
    let table = audit(conn, &everybody).unwrap();
    assert_prefixes(&table, &everybody);
    table
}

/// What a socket has heard of a conversation is its beginning: nothing is left out in the middle.
fn assert_prefixes(table: &BTreeMap<i64, Message>, participants: &[&Participant]) {
    for participant in participants {
        for place in PLACES {
            let heard: Vec<&Message> = participant
                .heard
                .iter()
                .filter(|m| m.place == place)
                .collect();
            let stored: Vec<&Message> = table.values().filter(|m| m.place == place).collect();
            assert!(
                stored.starts_with(&heard),
                "agent {} missed some of {place:?}",
                participant.agent_id
            );
        }
    }
}

#[test]
fn a_daemon_that_is_killed_in_a_burst_loses_nothing_that_anybody_saw() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    for heard in [1, 40, 200, 450, 800] {
        seed::reset(&mut conn);
        let table = kill_after(heard, &database, &mut conn);
        assert!(table.len() >= heard, "{} of {heard}", table.len());
    }
}

#[test]
fn what_a_killed_daemon_left_unanswered_is_stored_once_when_it_is_sent_again() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let install = Install::new(&database, &options());
    let mut daemon = Daemon::start_in(Arc::clone(&install), &options());
    let mut before = Participant::login(daemon.port(), 1).unwrap();
    before.say_many(Place::Channel(1), 200);
    before.await_heard(50).unwrap();
    daemon.signal(Signal::KILL);
    before.await_end().unwrap();
    daemon.wait_exit(wait::LIMIT);
    let daemon = Daemon::start_in(install, &options());
    let mut after = Participant::login(daemon.port(), 1).unwrap();
    // The same messages under the same `ref`, as a client does that does not know.
    after.say_again(&before);
    after.await_answers().unwrap();
    let stored =
        |sent: &&crate::support::chat::Sent| matches!(sent.answer, Some(Answer::Stored(_)));
    assert_eq!(after.sent.iter().filter(stored).count(), 200);
    let table = audit(&mut conn, &[&before, &after]).unwrap();
    assert_eq!(table.len(), 200);
}

#[test]
fn eight_senders_at_once_are_seen_in_one_order_by_everybody() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let mut daemon = Daemon::start(&database, &options());
    let mut listeners = participants(&daemon, &[1, 2, 3, 1]);
    let senders = participants(&daemon, &[1, 2, 3, 4, 8, 1, 2, 3]);
    let each = MESSAGES / senders.len();
    let done = AtomicBool::new(false);
    let senders: Vec<Participant> = thread::scope(|scope| {
        let hearing: Vec<_> = listeners
            .iter_mut()
            .map(|participant| {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Ordering::SeqCst) {
                        participant.catch_up().unwrap();
                    }
                    participant.catch_up().unwrap();
                })
            })
            .collect();
        let talking: Vec<_> = senders
            .into_iter()
            .map(|mut participant| {
                scope.spawn(move || {
                    let places = places_of(participant.agent_id);
                    for number in 0..each {
                        let body = participant.body();
                        participant.say(places[number % places.len()], &body);
                        // A few on their way at any time.
                        if number % 5 == 4 {
                            participant.await_answers().unwrap();
                        }
                    }
                    participant.await_answers().unwrap();
                    participant
                })
            })
            .collect();
        let talking = talking.into_iter();
        let senders = talking.map(|one| one.join().expect("no panic")).collect();
        done.store(true, Ordering::SeqCst);
        for listener in hearing {
            listener.join().expect("no panic");
        }
        senders
    });
    let mut everybody: Vec<Participant> = senders.into_iter().chain(listeners).collect();
    for participant in &mut everybody {
        participant.catch_up().unwrap();
    }
    let all: Vec<&Participant> = everybody.iter().collect();
    let table = audit(&mut conn, &all).unwrap();
    assert_eq!(table.len(), MESSAGES);
    for participant in &everybody {
        heard_all(&table, participant, places_of(participant.agent_id)).unwrap();
        // Every message is answered, and a sender's messages in one conversation are stored in the order sent.
        for place in PLACES {
            let sent = participant.sent.iter().filter(|sent| sent.place == place);
            let sent: Vec<&str> = sent.map(|sent| sent.body.as_str()).collect();
            let stored = table.values().map(|message| message.body.as_str());
            let stored: Vec<&str> = stored.filter(|body| sent.contains(body)).collect();
            assert_eq!(stored, sent);
        }
    }
    daemon.check_life().unwrap();
}
