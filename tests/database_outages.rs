//! A database that is not up yet, goes away, crashes, hangs or refuses writes, on the test's own server. Afterwards every
//! message that a client received is in the table once, in order, and every sender of a lost message was told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;

use crate::support::chat::{Answer, Participant, Place, audit, await_heard_all};
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::json::Json;
use crate::support::jwt;
use crate::support::mariadb::{Database, Server};
use crate::support::seed;
use crate::support::stopwatch::Stopwatch;
use crate::support::ws::Client;

const CHANNEL: Place = Place::Channel(1);
const THREAD: Place = Place::Direct(1);

/// The contract's five seconds, one for the clock that looks, and some for what a test does meanwhile.
const REFUSED_WITHIN: Duration = Duration::from_secs(9);

fn own_server() -> (Server, Database) {
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    (server, database)
}

fn options() -> Options {
    Options::new().env("CHAT_WEBSOCKET_RATE", "0")
}

fn login(daemon: &Daemon, agent_id: i64) -> Participant {
    Participant::login(daemon.port(), agent_id).unwrap()
}

fn refused(code: &str) -> Option<Answer> {
    Some(Answer::Refused(code.to_owned()))
}

fn is_stored(answer: Option<&Answer>) -> bool {
    matches!(answer, Some(Answer::Stored(_)))
}

/// The service has recovered by itself: the same sockets are heard, and heard by each other.
fn assert_recovered(database: &Database, participants: &mut [Participant]) {
    let mut conn = database.conn();
    for participant in participants.iter_mut() {
        participant.client.limit = crate::support::wait::LIMIT;
        for place in [CHANNEL, THREAD] {
            let answer = participant.ask(place).unwrap();
            assert!(is_stored(answer.as_ref()), "{answer:?}");
        }
    }
    for participant in participants.iter_mut() {
        await_heard_all(&mut conn, participant, &[CHANNEL, THREAD]);
        assert_eq!(participant.ended, None, "its socket stayed");
    }
    let participants: Vec<&Participant> = participants.iter().collect();
    audit(&mut conn, &participants).unwrap();
}

#[test]
fn a_database_that_comes_late_is_waited_for_with_one_line_a_try() {
    needs!(MariaDb);
    let (mut server, database) = own_server();
    server.stop();
    let mut daemon = Daemon::spawn(Install::new(&database, &options()), &options());
    let waiting = |log: &str| log.matches("] warning: waiting for the database ").count();
    let tries = crate::support::wait::until(crate::support::wait::LIMIT, || {
        let count = waiting(&daemon.log());
        (count >= 3).then_some(count)
    });
    assert!(tries.is_some(), "{}", daemon.log());
    server.start();
    daemon.await_listening();
    let log = daemon.log();
    // What this machine is warned of comes behind them.
    let is_try = |line: &&str| line.contains("] warning: waiting for the database ");
    let tries = log.lines().take_while(is_try).count();
    assert_eq!(waiting(&log), tries, "{log}");
    login(&daemon, 1).ask(CHANNEL).unwrap();
}

#[test]
fn a_database_that_restarts_costs_no_socket_and_no_message() {
    needs!(MariaDb);
    let (mut server, database) = own_server();
    let mut daemon = Daemon::start(&database, &options());
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    server.stop();
    for participant in &mut participants {
        let body = participant.body();
        participant.say(CHANNEL, &body);
    }
    server.start();
    for participant in &mut participants {
        participant.await_answers().unwrap();
        let answer = participant.sent[0].answer.clone();
        // In time it is stored, else it is refused.
        assert!(
            is_stored(answer.as_ref()) || answer == refused("database_unavailable"),
            "{answer:?}"
        );
    }
    assert_recovered(&database, &mut participants);
    daemon.await_log("the database is not available");
    daemon.await_log("the database is available again");
    daemon.check_life().unwrap();
}

#[test]
fn while_the_database_is_down_every_client_is_told_and_none_waits() {
    needs!(MariaDb);
    let (mut server, database) = own_server();
    let daemon = Daemon::start(&database, &options());
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    let mut reader = daemon.login(3).unwrap();
    let mut typist = daemon.login(4).unwrap();
    let mut bystander = daemon.login(8).unwrap();
    server.kill();
    let begun = Stopwatch::start();
    for participant in &mut participants {
        let body = participant.body();
        participant.say(THREAD, &body);
    }
    reader.send(r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1,"ref":1}"#);
    typist.send(r#"{"type":"chat.typing","channel_id":1,"ref":2}"#);
    let mut newcomer = Client::connect(daemon.port()).unwrap();
    let token = jwt::good(1);
    // The agent's row is cached, but not the missed messages.
    newcomer.send(&format!(
        r#"{{"type":"auth","token":"{token}","after_id":0,"ref":3}}"#
    ));
    // A client that needs nothing from the database does not notice.
    for _ in 0..20 {
        bystander.ping_barrier().unwrap();
    }
    for participant in &mut participants {
        participant.await_answers().unwrap();
        assert_eq!(participant.sent[0].answer, refused("database_unavailable"));
    }
    let clients = [&mut reader, &mut typist, &mut newcomer];
    for (client, reference) in clients.into_iter().zip(1..) {
        let error = client.until_type("error").unwrap();
        assert_eq!(error.need("code").str(), Some("database_unavailable"));
        assert_eq!(error.need("ref"), &Json::from(reference));
    }
    let took = begun.elapsed();
    assert!(took < REFUSED_WITHIN, "{took:?}");
    // The one who could not be let in comes back by itself.
    assert_eq!(newcomer.until_end().unwrap().1, Some(1013));
    server.start();
    assert_recovered(&database, &mut participants);
    login(&daemon, 1);
}

/// Talks until told to stop; returns once every message is answered.
fn talk(mut participant: Participant, stop: &AtomicBool) -> Participant {
    while !stop.load(Ordering::SeqCst) {
        for place in [CHANNEL, THREAD] {
            participant.ask(place).unwrap();
        }
    }
    participant
}

#[test]
fn a_database_that_crashes_among_senders_loses_and_doubles_nothing() {
    needs!(MariaDb);
    let (mut server, database) = own_server();
    let mut daemon = Daemon::start(&database, &options());
    let participants = [1, 2, 1, 2].map(|agent| login(&daemon, agent));
    let mut listener = login(&daemon, 1);
    let stop = AtomicBool::new(false);
    let mut participants: Vec<Participant> = thread::scope(|scope| {
        let talkers = participants.map(|participant| scope.spawn(|| talk(participant, &stop)));
        for round in 1..=3 {
            listener.await_heard(round * 40).unwrap();
            server.kill();
            server.start();
        }
        let heard = listener.heard.len();
        listener.await_heard(heard + 40).unwrap();
        stop.store(true, Ordering::SeqCst);
        talkers
            .map(|talker| talker.join().expect("no panic"))
            .into()
    });
    participants.push(listener);
    assert_recovered(&database, &mut participants);
    daemon.check_life().unwrap();
}

#[test]
fn a_database_that_hangs_is_noticed_by_those_alone_who_ask_it() {
    needs!(MariaDb);
    let (server, database) = own_server();
    let daemon = Daemon::start(&database, &options());
    let mut participants = [1, 2, 1, 2].map(|agent| login(&daemon, agent));
    let mut bystander = daemon.login(8).unwrap();
    let answer = participants[0].ask(CHANNEL).unwrap();
    assert!(is_stored(answer.as_ref()));
    server.pause();
    // One after the other, so that each finds the commit thread in another place of its waiting.
    thread::scope(|scope| {
        for (participant, place) in participants
            .iter_mut()
            .zip([CHANNEL, THREAD, CHANNEL, THREAD])
        {
            let body = participant.body();
            participant.say(place, &body);
            let begun = Stopwatch::start();
            bystander.ping_barrier().unwrap();
            crate::support::wait::pass(Duration::from_millis(900));
            scope.spawn(move || {
                participant.await_answers().unwrap();
                let answer = participant.sent.last().expect("one").answer.clone();
                assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
                let took = begun.elapsed();
                assert!(took < REFUSED_WITHIN, "{took:?}");
                // Nor is the socket of any use for nothing but refusals.
                participant.client.ping_barrier().unwrap();
            });
        }
    });
    bystander.ping_barrier().unwrap();
    server.resume();
    assert_recovered(&database, &mut participants);
}

/// More wait than the database has connections, and each for longer than the database lets it: those at the end of the
/// queue are told no later than those at its beginning.
#[test]
fn while_the_database_hangs_all_who_wait_for_it_are_answered() {
    needs!(MariaDb);
    let (server, database) = own_server();
    let options = options().env("CHAT_WEBSOCKET_DB_CONNECTIONS", "1");
    let daemon = Daemon::start(&database, &options);
    let agents = [1, 2, 3, 8].repeat(8);
    let mut clients: Vec<Client> = agents
        .into_iter()
        .map(|agent| daemon.login(agent).expect("login"))
        .collect();
    server.pause();
    for (place, client) in clients.iter_mut().enumerate() {
        client.send(match place % 2 {
            0 => r#"{"type":"chat.read","channel_id":1,"last_read_message_id":1}"#,
            _ => r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#,
        });
    }
    for client in &mut clients {
        let error = client.until_type("error").expect("an answer");
        assert_eq!(
            error.need("code").str(),
            Some("database_unavailable"),
            "{error}"
        );
    }
    server.resume();
}

#[test]
fn a_database_that_only_reads_refuses_messages_until_it_writes_again() {
    needs!(MariaDb);
    let (server, database) = own_server();
    let mut daemon = Daemon::start(&database, &options());
    let mut participants = [login(&daemon, 1), login(&daemon, 2)];
    let mut admin = server.admin();
    let mut set = |value: i32| {
        let statement = format!("SET GLOBAL read_only = {value}");
        admin.query_drop(statement).expect("set read_only");
    };
    set(1);
    for participant in &mut participants {
        let body = participant.body();
        participant.say(CHANNEL, &body);
    }
    for participant in &mut participants {
        participant.await_answers().unwrap();
        assert_eq!(participant.sent[0].answer, refused("database_unavailable"));
    }
    // Agents can still be looked up.
    login(&daemon, 3);
    set(0);
    assert_recovered(&database, &mut participants);
    daemon.check_life().unwrap();
}
