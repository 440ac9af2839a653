//! Database connections that are lost at every point: killed by an administrator, or cut around a COMMIT by a proxy. In
//! every case a stored message is stored once and delivered once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place, audit, await_heard_all, stored};
use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::{self, Database};
use crate::support::ops::seeded;
use crate::support::proxy::{Cut, Proxy};
use crate::support::wait;

const CHANNEL: Place = Place::Channel(1);
const THREAD: Place = Place::Direct(1);

fn options() -> Options {
    Options::new().env("CHAT_WEBSOCKET_RATE", "0")
}

fn login(daemon: &Daemon, agent_id: i64) -> Participant {
    Participant::login(daemon.port(), agent_id).unwrap()
}

/// Everybody has heard everything, in the end, and it is what the table has.
fn assert_agreed(database: &Database, participants: &mut [Participant]) {
    let mut conn = database.conn();
    for participant in participants.iter_mut() {
        await_heard_all(&mut conn, participant, &[CHANNEL, THREAD]);
        assert_eq!(participant.ended, None);
    }
    let participants: Vec<&Participant> = participants.iter().collect();
    audit(&mut conn, &participants).unwrap();
}

#[test]
fn connections_that_are_killed_at_any_moment_lose_and_double_nothing() {
    needs!(MariaDb);
    const KILLS: usize = 150;
    let (database, _) = seeded();
    let mut daemon = Daemon::start(&database, &options());
    let participants = [1, 2, 3, 4].map(|agent| login(&daemon, agent));
    let mut listener = login(&daemon, 1);
    let stop = AtomicBool::new(false);
    let mut admin = mariadb::common().admin();
    let mut participants: Vec<Participant> = thread::scope(|scope| {
        let talkers = participants.map(|mut participant| {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    participant.ask(CHANNEL).unwrap();
                }
                participant
            })
        });
        let mut kills = 0;
        while kills < KILLS {
            // All of the daemon's: of the commit thread, of the queries, of the timer.
            let query = format!(
                "SELECT id FROM {} WHERE db = '{}'",
                mariadb::processlist(),
                database.name
            );
            let ids: Vec<u64> = admin.query(query).expect("list the connections");
            for id in ids {
                // It may have gone by itself.
                if admin.query_drop(format!("KILL {id}")).is_ok() {
                    kills += 1;
                }
            }
            // Some messages between, so that every phase of a transaction has its turn.
            let heard = listener.heard.len();
            listener.await_heard(heard + 1 + kills % 7).unwrap();
        }
        stop.store(true, Ordering::SeqCst);
        talkers
            .map(|talker| talker.join().expect("no panic"))
            .into()
    });
    participants.push(listener);
    assert_agreed(&database, &mut participants);
    let sent = participants
        .iter()
        .flat_map(|participant| &participant.sent);
    let stored = sent.filter(|s| matches!(s.answer, Some(Answer::Stored(_))));
    assert!(stored.count() > KILLS / 7, "most are stored all the same");
    daemon.check_life().unwrap();
}

/// A database behind a proxy, and a daemon that knows no other way.
fn behind_a_proxy() -> (Proxy, Database, Daemon) {
    let (database, _) = seeded();
    let proxy = Proxy::start(database.port);
    let mut through = database.clone();
    through.port = proxy.port();
    let daemon = Daemon::start(&through, &options());
    (proxy, database, daemon)
}

#[test]
fn a_connection_that_is_cut_around_a_commit_makes_no_double_and_no_loss() {
    needs!(MariaDb);
    let (proxy, database, mut daemon) = behind_a_proxy();
    let mut participants: Vec<Participant> = [1, 2, 1, 2].map(|agent| login(&daemon, agent)).into();
    let mut cuts = 0;
    for round in 0..6 {
        for cut in [Cut::After, Cut::Before] {
            proxy.cut_next(cut);
            // One alone, then several that share a transaction, as far as they come together.
            let senders = 1 + round % participants.len();
            for (number, participant) in participants.iter_mut().take(senders).enumerate() {
                let place = if number % 2 == 0 { CHANNEL } else { THREAD };
                let body = participant.body();
                participant.say(place, &body);
            }
            for participant in participants.iter_mut().take(senders) {
                participant.await_answers().unwrap();
                let answer = participant.sent.last().expect("one").answer.clone();
                assert!(
                    matches!(answer, Some(Answer::Stored(_))),
                    "{cut:?}: {answer:?}"
                );
            }
            cuts += 1;
            assert_eq!(proxy.cuts(), cuts);
        }
    }
    assert_agreed(&database, &mut participants);
    daemon.await_log("was lost in a commit");
    daemon.check_life().unwrap();
}

/// The sender is told that the outcome is unknown; if the message turns out to be stored, every member receives it once.
#[test]
fn a_commit_whose_fate_is_unknown_for_long_is_shown_when_it_is_known() {
    needs!(MariaDb);
    let (proxy, database, mut daemon) = behind_a_proxy();
    let mut participants: Vec<Participant> = [1, 2, 1].map(|agent| login(&daemon, agent)).into();
    let answer = participants[0].ask(CHANNEL).unwrap();
    assert!(matches!(answer, Some(Answer::Stored(_))));
    proxy.cut_next(Cut::Hold);
    let answer = participants[0].ask(CHANNEL).unwrap();
    proxy.await_hold();
    assert_eq!(answer, Some(Answer::Refused("outcome_unknown".to_owned())));
    // Others are told too, in time: they are behind it.
    participants[1].ask(THREAD).unwrap();
    proxy.let_go();
    let body = participants[0].sent.last().expect("one").body.clone();
    let mut conn = database.conn();
    // The server has yet to carry the COMMIT out.
    wait::until(wait::LIMIT, || {
        stored(&mut conn).values().find(|m| m.body == body).cloned()
    })
    .expect("the message is stored in the end");
    await_heard_all(&mut conn, &mut participants[2], &[CHANNEL]);
    assert!(
        participants[2]
            .heard
            .iter()
            .any(|message| message.body == body)
    );
    let answer = participants[2].ask(CHANNEL).unwrap();
    assert!(matches!(answer, Some(Answer::Stored(_))), "{answer:?}");
    assert_agreed(&database, &mut participants);
    daemon.check_life().unwrap();
}
