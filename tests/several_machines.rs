//! Several daemons on one database: what one of them is told reaches the sockets of the others, with a bus at once,
//! without one through the database; and nothing is lost or doubled while any of them dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mysql::prelude::Queryable;
use rustix::process::Signal;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::jwt;
use crate::support::mariadb::{Database, Server, free_port};
use crate::support::redis::Redis;
use crate::support::seed;
use crate::support::wait;
use crate::support::ws::{Client, Outcome};

fn options(redis: &Redis, port: u16) -> Options {
    Options::new()
        .port(port)
        .env("CHAT_BUS_URL", &redis.url())
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0")
        .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "1")
}

fn database() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

fn say(client: &mut Client, event: &str) {
    client.send(event);
}

#[test]
fn typing_presence_markers_and_messages_cross_machines() {
    needs!(Redis, MariaDb);
    let (redis, database) = (Redis::start(), database());
    let daemons: Vec<Daemon> = (0..3)
        .map(|_| Daemon::start(&database, &options(&redis, free_port())))
        .collect();
    let mut ann = daemons[0].login(1).expect("login");
    let mut bob = daemons[1].connect().expect("connect");
    // The bus of a daemon that has just started may still be connecting.
    let welcome = wait::until(wait::LIMIT, || {
        let mut bob = daemons[1].connect().ok()?;
        let welcome = bob.auth(2).ok()?;
        let online = welcome.need("online_agent_ids").items();
        online
            .iter()
            .any(|id| id.int() == Some(1))
            .then_some(welcome)
    });
    assert!(welcome.is_some(), "the second daemon hears of agent 1");
    bob.auth(2).expect("auth.ok");
    let mut celik = daemons[2].login(3).expect("login");
    let came = ann.until_type("presence.updated").expect("presence");
    assert_eq!(came.need("agent_id").int(), Some(2));
    say(
        &mut ann,
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#,
    );
    let created = |client: &mut Client| {
        let event = client
            .until_type("chat.channel.message.created")
            .expect("a message");
        event.need("message").need("id").int().expect("an id")
    };
    let id = created(&mut ann);
    assert_eq!(created(&mut bob), id);
    assert_eq!(created(&mut celik), id);
    say(&mut celik, r#"{"type":"chat.typing","channel_id":1}"#);
    for client in [&mut ann, &mut bob] {
        let typing = client.until_type("chat.typing").expect("typing");
        assert_eq!(typing.need("agent_id").int(), Some(3));
    }
    say(
        &mut bob,
        &format!(r#"{{"type":"chat.read","channel_id":1,"last_read_message_id":{id}}}"#),
    );
    for client in [&mut ann, &mut celik] {
        let read = client.until_type("chat.read.updated").expect("a marker");
        assert_eq!(read.need("last_read_message_id").int(), Some(id));
    }
    drop(celik);
    let gone = bob.until_type("presence.updated").expect("presence");
    assert_eq!(gone.need("agent_id").int(), Some(3));
    assert!(!gone.need("online").is_true());
}

#[test]
fn without_the_bus_messages_cross_all_the_same() {
    needs!(Redis, MariaDb);
    let (mut redis, database) = (Redis::start(), database());
    let one = Daemon::start(&database, &options(&redis, free_port()));
    let other = Daemon::start(&database, &options(&redis, free_port()));
    redis.kill();
    one.await_log("the bus is not available");
    let (mut ann, mut bob) = (one.login(1).expect("login"), other.login(2).expect("login"));
    say(
        &mut ann,
        r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#,
    );
    bob.until_type("chat.channel.message.created")
        .expect("a message");
    let _redis = Redis::on(redis.port());
    one.await_log("the bus is available again");
}

/// A sender that gives up nothing: it sends each message again, with its `ref`, until it is answered.
fn send_all(ports: &[u16], agent: i64, count: usize) {
    let mut client: Option<Client> = None;
    let mut turn = 0;
    for number in 0..count {
        let reference = format!("{agent}-{number}");
        loop {
            if client.is_none() {
                turn += 1;
                client = login(ports[turn % ports.len()], agent, None).ok();
            }
            let sent = client.as_mut().map(|client| send_one(client, &reference));
            match sent {
                Some(Ok(true)) => break,
                Some(Ok(false)) => {}
                Some(Err(_)) | None => {
                    client = None;
                    wait::pass(Duration::from_millis(20));
                }
            }
        }
    }
}

/// Whether the message is stored; `Ok(false)`: to be sent again.
fn send_one(client: &mut Client, reference: &str) -> Outcome<bool> {
    client.send(&format!(
        r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{reference}","ref":"{reference}"}}"#
    ));
    loop {
        let event = client.next_json()?;
        if event.get("ref").and_then(Json::str) == Some(reference) {
            return Ok(event.need("type").str() == Some("chat.channel.message.created"));
        }
    }
}

fn login(port: u16, agent: i64, after: Option<i64>) -> Outcome<Client> {
    let mut client = Client::connect(port)?;
    let after = after.map_or(String::new(), |after| format!(r#","after_id":{after}"#));
    client.send(&format!(
        r#"{{"type":"auth","token":"{}"{after}}}"#,
        jwt::good(agent)
    ));
    client.until_type("auth.ok")?;
    Ok(client)
}

/// Reads until told to stop, coming back with its position after every loss. A client that wants to be safe against
/// ids that become visible late asks from a little before its newest one, and passes over what it has.
fn read_all(
    ports: &[u16],
    agent: i64,
    expected: usize,
    given_up: &AtomicBool,
) -> BTreeMap<i64, String> {
    let mut seen: BTreeMap<i64, String> = BTreeMap::new();
    let mut turn = 0;
    while seen.len() < expected && !given_up.load(Ordering::Relaxed) {
        turn += 1;
        let after = seen.keys().next_back().map_or(0, |newest| newest - 60);
        let Ok(mut client) = login(ports[turn % ports.len()], agent, Some(after)) else {
            wait::pass(Duration::from_millis(20));
            continue;
        };
        let mut on_this_socket = BTreeSet::new();
        client.limit = Duration::from_secs(5);
        while seen.len() < expected {
            let Ok(event) = client.next_json() else {
                break;
            };
            if event.need("type").str() == Some("chat.channel.message.created") {
                let message = event.need("message");
                let id = message.need("id").int().expect("an id");
                assert!(
                    on_this_socket.insert(id),
                    "message {id} came twice on one socket"
                );
                let body = message.need("body_text").str().expect("a body");
                seen.insert(id, body.to_owned());
            }
        }
    }
    seen
}

#[test]
fn nothing_is_lost_or_doubled_while_daemons_bus_and_database_die() {
    needs!(Redis, MariaDb);
    const EACH: usize = 120;
    let mut redis = Redis::start();
    let mut server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let ports: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let mut daemons: Vec<Daemon> = ports
        .iter()
        .map(|port| Daemon::start(&database, &options(&redis, *port)))
        .collect();
    let given_up = AtomicBool::new(false);
    let (seen, done) = thread::scope(|scope| {
        let (ports, given_up) = (&ports, &given_up);
        let readers: Vec<_> = [4, 8]
            .into_iter()
            .map(|agent| scope.spawn(move || read_all(ports, agent, EACH * 3, given_up)))
            .collect();
        let senders: Vec<_> = [1, 2, 3]
            .into_iter()
            .map(|agent| scope.spawn(move || send_all(ports, agent, EACH)))
            .collect();
        for round in 0..6 {
            wait::pass(Duration::from_millis(400));
            match round {
                0 | 3 => {
                    let victim = round % 3;
                    daemons[victim].signal(Signal::KILL);
                    daemons[victim].wait_exit(wait::LIMIT);
                    daemons[victim] = Daemon::start(&database, &options(&redis, ports[victim]));
                }
                1 => {
                    redis.kill();
                    wait::pass(Duration::from_millis(300));
                    redis = Redis::on(redis.port());
                }
                2 => {
                    server.kill();
                    server.start();
                }
                4 => {
                    daemons[1].stop();
                    daemons[1] = Daemon::start(&database, &options(&redis, ports[1]));
                }
                _ => {
                    server.stop();
                    server.start();
                }
            }
        }
        let sent = senders.into_iter().all(|sender| sender.join().is_ok());
        let all = wait::until(wait::LIMIT, || {
            readers
                .iter()
                .all(|reader| reader.is_finished())
                .then_some(())
        });
        given_up.store(true, Ordering::Relaxed);
        let seen: Vec<_> = readers
            .into_iter()
            .map(|reader| reader.join().expect("a reader"))
            .collect();
        (seen, sent && all.is_some())
    });
    let stored: BTreeMap<i64, String> = database
        .conn()
        .query("SELECT id, body_text FROM chat_messages ORDER BY id")
        .expect("messages")
        .into_iter()
        .collect();
    let bodies: BTreeSet<&String> = stored.values().collect();
    assert_eq!(bodies.len(), stored.len(), "a message was stored twice");
    assert_eq!(stored.len(), EACH * 3, "a message was not stored");
    for seen in &seen {
        let missing: Vec<_> = stored.keys().filter(|id| !seen.contains_key(id)).collect();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        assert_eq!(seen, &stored);
    }
    assert!(done);
}

/// Two daemons that know of each other: an agent at each, and what was said on their channel meanwhile.
struct TwoMachines {
    daemons: [Daemon; 2],
    ann: Client,
    bob: Client,
    channel: String,
    redis: redis::Connection,
    heard: Vec<Vec<u8>>,
    _database: Database,
}

fn two_machines(server: &Redis) -> TwoMachines {
    let database = database();
    let mut spy = redis::Client::open(server.url())
        .and_then(|client| client.get_connection())
        .expect("connect to Redis");
    let mut spy = spy.as_pubsub();
    spy.psubscribe("*").expect("subscribe to everything");
    let one = Daemon::start(&database, &options(server, free_port()));
    let other = Daemon::start(&database, &options(server, free_port()));
    let mut bob = other.login(2).expect("login");
    // Presence is told again until it is heard: both are connected then.
    let mut ann = wait::until(wait::LIMIT, || {
        let mut ann = one.connect().ok()?;
        let welcome = ann.auth(1).ok()?;
        let online = welcome.need("online_agent_ids").items().iter();
        online.map(Json::int).any(|id| id == Some(2)).then_some(ann)
    })
    .expect("the daemons hear of each other");
    types(&mut ann, &mut bob, 1);
    let mut heard: Vec<Vec<u8>> = Vec::new();
    let mut channel = String::new();
    while !heard.iter().any(|note| contains(note, b"typing")) {
        let message = spy.get_message().expect("a note");
        channel = message.get_channel_name().to_owned();
        heard.push(message.get_payload_bytes().to_vec());
    }
    TwoMachines {
        daemons: [one, other],
        ann,
        bob,
        channel,
        redis: redis::Client::open(server.url())
            .and_then(|client| client.get_connection())
            .expect("connect to Redis"),
        heard,
        _database: database,
    }
}

fn contains(note: &[u8], word: &[u8]) -> bool {
    note.windows(word.len()).any(|part| part == word)
}

/// What the first types, the second sees.
fn types(one: &mut Client, other: &mut Client, agent: i64) {
    one.send(r#"{"type":"chat.typing","channel_id":1}"#);
    let typing = other.until_type("chat.typing").expect("typing");
    assert_eq!(typing.need("agent_id").int(), Some(agent));
}

impl TwoMachines {
    /// As anyone who may use this Redis.
    fn publish(&mut self, note: &[u8]) {
        let heard: redis::RedisResult<i64> = redis::cmd("PUBLISH")
            .arg(&self.channel)
            .arg(note)
            .query(&mut self.redis);
        heard.expect("publish");
    }

    /// What Bob was told until a message came that Ann sends now. Messages go through the database.
    fn told_to_bob(&mut self, body: &str) -> Vec<Json> {
        say(
            &mut self.ann,
            &format!(r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{body}"}}"#),
        );
        let mut told = Vec::new();
        loop {
            let event = self.bob.next_json().expect("an event");
            if event.need("type").str() == Some("chat.channel.message.created") {
                return told;
            }
            told.push(event);
        }
    }
}

/// Forged in every way that needs no secret.
fn forged(genuine: &[u8]) -> Vec<Vec<u8>> {
    let online = (1000..51_000).map(|id| id.to_string());
    let online = online.collect::<Vec<_>>().join(",");
    let of_old = |rest: &str| format!(r#"{{"from":1,{rest}}}"#).into_bytes();
    let mut altered = genuine.to_vec();
    let place = altered.len() - 3;
    altered[place] ^= 1;
    let mut grown = genuine.to_vec();
    grown.extend(b" ");
    let agents =
        format!(r#"{{"from":9,"number":1,"at":1,"note":{{"kind":"agents","agents":[{online}]}}}}"#);
    let mut invented = genuine[..32].to_vec();
    invented.extend(agents.as_bytes());
    vec![
        of_old(
            r#""kind":"relay","audience":[1,2],"ephemeral":false,"text":"<script>alert(1)</script>""#,
        ),
        of_old(r#""kind":"relay","audience":[1,2],"ephemeral":false,"text":"no JSON""#),
        of_old(&format!(r#""kind":"agents","agents":[{online}]"#)),
        of_old(r#""kind":"presence","agent":2,"online":false"#),
        invented,
        altered,
        grown,
        genuine[32..].to_vec(),
        vec![0xff; 1000],
        vec![b'x'; 60_000],
        Vec::new(),
        b"{}".to_vec(),
    ]
}

#[test]
fn s4_forged_notes_in_redis_are_ignored() {
    let redis = Redis::start();
    let mut machines = two_machines(&redis);
    let heard = machines.heard.clone();
    let typing = heard.iter().find(|note| contains(note, b"typing"));
    let typing = typing.expect("a note about typing").clone();
    for note in forged(&typing) {
        machines.publish(&note);
    }
    // Everything that was ever said, once more.
    for note in &heard {
        machines.publish(note);
    }
    let told = machines.told_to_bob("still here");
    assert!(told.is_empty(), "{told:?}");
    let TwoMachines { ann, bob, .. } = &mut machines;
    types(bob, ann, 2);
    types(ann, bob, 1);
}

#[test]
fn s4_what_was_recorded_before_a_daemon_came_is_not_taken_after() {
    let redis = Redis::start();
    let mut machines = two_machines(&redis);
    let recorded = machines.heard.clone();
    machines.daemons[0].stop();
    let [_, other] = &mut machines.daemons;
    let port = other.port();
    other.stop();
    let database = &machines._database;
    let alone = Daemon::start(database, &options(&redis, port));
    let mut bob = alone.login(2).expect("login");
    // The channel is listened to once what a daemon says to itself comes back.
    wait::until(wait::LIMIT, || {
        let subscribers: Vec<(String, i64)> = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(&machines.channel)
            .query(&mut machines.redis)
            .expect("NUMSUB");
        (subscribers[0].1 == 1).then_some(())
    })
    .expect("the daemon listens");
    for note in &recorded {
        machines.publish(note);
    }
    bob.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#);
    let told = std::iter::from_fn(|| {
        let event = bob.next_json().expect("an event");
        (event.need("type").str() != Some("chat.channel.message.created")).then_some(event)
    });
    assert_eq!(told.collect::<Vec<_>>(), Vec::<Json>::new());
    let welcome = alone.connect().and_then(|mut bob| bob.auth(2));
    let welcome = welcome.expect("auth.ok");
    assert_eq!(welcome.need("online_agent_ids").to_string(), "[2]");
}

#[test]
fn s4_a_flood_on_the_bus_and_notes_of_any_size_cost_no_message() {
    let redis = Redis::start();
    let mut machines = two_machines(&redis);
    let huge = vec![b'x'; 3_000_000];
    machines.publish(&huge);
    let mut pipeline = redis::pipe();
    for _ in 0..2_000 {
        pipeline
            .cmd("PUBLISH")
            .arg(&machines.channel)
            .arg("x")
            .ignore();
        pipeline
            .cmd("PUBLISH")
            .arg(&machines.channel)
            .arg(&huge[..60_000])
            .ignore();
    }
    for number in 0..5 {
        let () = pipeline.query(&mut machines.redis).expect("publish");
        let told = machines.told_to_bob(&format!("message {number}"));
        let types: Vec<_> = told.iter().map(|event| event.need("type").str()).collect();
        assert!(
            types.iter().all(|one| *one == Some("presence.updated")),
            "{types:?}"
        );
    }
    for daemon in &machines.daemons {
        daemon.await_log("the bus");
        let log = daemon.log();
        assert!(log.matches("the bus").count() < 20, "{log}");
    }
}
