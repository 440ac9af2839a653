//! Attacks while two members chat: all their messages arrive in order, and the test prints the latency for each attack
//! (`cargo test --release --test main attacks:: -- --nocapture --test-threads 1`). Machines differ, so only one very
//! generous latency fails a test. On every machine no message is lost, no member is shut out, and many clients that
//! reconnect at once are in within the promised time.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use andrea_chat_websocket::config::limits::Limits;
use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::hits;
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::ops::seeded;
use crate::support::seed;
use crate::support::stopwatch::Stopwatch;
use crate::support::wait;
use crate::support::ws::{Client, Frame, FrameSpec, PING, REQUEST};

/// Below the rate that one socket may send at.
const BETWEEN_MESSAGES: Duration = Duration::from_millis(60);
/// Messages before an attack, and at least so many while it lasts.
const MESSAGES: usize = 15;

/// The longest latency of one message during an attack, while no program waits for a processor. Milliseconds are typical.
const NOTICEABLE: Duration = Duration::from_secs(5);

/// Two who talk until they are told to stop. Returns how long each message took from one to the other.
fn talk(
    ann: &mut Client,
    bob: &mut Client,
    first: usize,
    is_over: impl Fn(usize) -> bool,
) -> Vec<Duration> {
    let mut times = Vec::new();
    while !is_over(times.len()) {
        let number = first + times.len();
        let (begun, counted) = (Instant::now(), Stopwatch::start());
        ann.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{number}"}}"#
        ));
        hear(bob, number);
        times.push(begun.elapsed());
        let took = counted.elapsed();
        assert!(took < NOTICEABLE, "a message took {took:?}");
        hear(ann, number);
        wait::pass(BETWEEN_MESSAGES);
    }
    times
}

/// The very next message is this one: none is missing, doubled or out of order.
fn hear(client: &mut Client, number: usize) {
    let event = client
        .until_type("chat.channel.message.created")
        .expect("the message");
    let body = event.need("message").need("body_text").str();
    assert_eq!(body, Some(number.to_string().as_str()));
}

fn figures(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    format!(
        "{} messages, median {:.1} ms, 95 % {:.1} ms, worst {:.1} ms",
        times.len(),
        at(0.5),
        at(0.95),
        at(1.0)
    )
}

/// Lets members talk before and during an attack, and a newcomer in afterwards.
fn under_attack<T: Send>(what: &str, daemon: &Daemon, attack: impl FnOnce() -> T + Send) -> T {
    let (mut ann, mut bob) = (daemon.login(1).unwrap(), daemon.login(2).unwrap());
    // The first message waits for a gap in the ids before it that never fills.
    talk(&mut ann, &mut bob, 0, |said| said >= 1);
    let before = talk(&mut ann, &mut bob, 1, |said| said >= MESSAGES);
    let is_over = AtomicBool::new(false);
    let (outcome, during) = thread::scope(|scope| {
        let members = scope.spawn(|| {
            let said_enough = |said| said >= MESSAGES && is_over.load(Ordering::Acquire);
            talk(&mut ann, &mut bob, MESSAGES + 1, said_enough)
        });
        let attacker = scope.spawn(attack);
        let outcome = attacker.join();
        // Also where the attack failed, or the members would talk for ever.
        is_over.store(true, Ordering::Release);
        (outcome, members.join().expect("members are undisturbed"))
    });
    let over = Instant::now();
    wait::until(wait::LIMIT, || daemon.login(4).ok()).expect("a newcomer is let in");
    println!(
        "attack: {what}\n    before {}\n    during {}\n    a newcomer was in {:.1} s after its last blow",
        figures(&before),
        figures(&during),
        over.elapsed().as_secs_f64()
    );
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn daemon(options: &Options) -> (Database, Daemon) {
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, options);
    (database, daemon)
}

/// Ends a connection by a reset, whatever is under way.
fn reset(stream: TcpStream) {
    // The other end may have been quicker.
    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
}

fn open(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).expect("connect")
}

#[test]
fn a_hundred_requests_that_come_in_drips() {
    needs!(MariaDb);
    let options = Options::new().env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "2");
    let (_database, daemon) = daemon(&options);
    under_attack("slow loris, 100 sockets", &daemon, || {
        let mut sockets: Vec<Client> = (0..100).map(|_| Client::open(daemon.port())).collect();
        for byte in REQUEST.bytes().take(30) {
            for socket in &mut sockets {
                socket.write(&[byte]);
            }
            wait::pass(Duration::from_millis(50));
        }
        for socket in &mut sockets {
            assert_eq!(socket.response().unwrap().status(), 408);
        }
    });
}

#[test]
fn peers_that_say_nothing_or_are_gone_without_a_word() {
    needs!(MariaDb);
    let options = Options::new()
        .env("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "2")
        .env("CHAT_WEBSOCKET_AUTH_TIMEOUT", "2")
        .env("CHAT_WEBSOCKET_PING_INTERVAL", "2")
        .env("CHAT_WEBSOCKET_IDLE_TIMEOUT", "8");
    let (_database, daemon) = daemon(&options);
    under_attack("silent and half-open peers, 120 sockets", &daemon, || {
        let port = daemon.port();
        let silent: Vec<Client> = (0..60).map(|_| Client::open(port)).collect();
        let nameless: Vec<Client> = (0..30).map(|_| daemon.connect().unwrap()).collect();
        // To the service a peer whose machine lost its power is one that answers no ping.
        let gone: Vec<Client> = (0..30).map(|_| daemon.login(3).unwrap()).collect();
        for mut client in silent.into_iter().chain(nameless).chain(gone) {
            client.rest().unwrap();
        }
    });
}

#[test]
fn connections_that_are_reset_in_the_middle_of_anything() {
    needs!(MariaDb);
    const ROUNDS: usize = 400;
    let (_database, mut daemon) =
        daemon(&Options::new().env("CHAT_WEBSOCKET_MAX_PER_AGENT", "1000"));
    under_attack("reset in mid-frame, 2,000 connections", &daemon, || {
        let message = FrameSpec::text(
            r#"{"type":"chat.channel.message.send","channel_id":2,"body":"never whole"}"#,
        )
        .encode();
        let mut fragment = FrameSpec::text(r#"{"type":"#);
        fragment.fin = false;
        let fragment = fragment.encode();
        for round in 0..ROUNDS {
            let mut stream = open(daemon.port());
            let cut = 1 + round % (REQUEST.len() - 1);
            let _ = stream.write_all(&REQUEST.as_bytes()[..cut]);
            reset(stream);
            // In a frame's header, in its payload, between fragments, and with a whole request behind.
            for part in [
                &message[..1],
                &message[..3 + round % 60],
                &fragment[..],
                &message[..message.len() - 1],
            ] {
                let mut stream = open(daemon.port());
                let _ = stream.write_all(REQUEST.as_bytes());
                let _ = stream.write_all(part);
                reset(stream);
            }
        }
    });
    daemon.check_life().unwrap();
}

fn flood(client: &mut Client, frame: &FrameSpec, count: usize) {
    let packet = frame.encode().repeat(100);
    for _ in 0..count / 100 {
        // The peer may end the connection at any time; what it said last is what counts.
        client.write_unwatched(&packet);
    }
}

#[test]
fn floods_of_frames_from_thirty_sockets_at_once() {
    needs!(MariaDb);
    const ATTACKERS: usize = 30;
    const WAVES: usize = 4;
    let mut open_fragment = FrameSpec::new(0, "");
    open_fragment.fin = false;
    for (what, frame, codes, limit) in [
        (
            "50,000 tiny events four times from each of 30 sockets",
            FrameSpec::text("{}"),
            [1008, 1008],
            "flood",
        ),
        (
            "50,000 pings four times from each of 30 sockets",
            FrameSpec::new(PING, "x"),
            [1008, 1008],
            "control",
        ),
        (
            "50,000 empty fragments four times from each of 30 sockets",
            open_fragment,
            [1009, 1002],
            "message_bytes",
        ),
    ] {
        let options = Options::new().env("CHAT_WEBSOCKET_MAX_PER_AGENT", "500");
        let (_database, mut daemon) = daemon(&options);
        let ends: Vec<Option<u16>> = under_attack(what, &daemon, || {
            thread::scope(|scope| {
                let attackers: Vec<_> = (0..ATTACKERS)
                    .map(|_| {
                        scope.spawn(|| {
                            let wave = |_| {
                                let mut client = daemon.login(3).unwrap();
                                if frame.opcode == 0 {
                                    let mut first = FrameSpec::text("");
                                    first.fin = false;
                                    client.send_frame(&first);
                                }
                                flood(&mut client, &frame, 50_000);
                                let mut said = client.rest().expect("an end");
                                let frames = std::iter::from_fn(|| Frame::decode(&mut said));
                                frames.filter_map(|frame| frame.close_code()).last()
                            };
                            // A closed client connects again and continues.
                            (0..WAVES).map(wave).collect::<Vec<_>>()
                        })
                    })
                    .collect();
                let attackers = attackers.into_iter();
                attackers
                    .flat_map(|one| one.join().expect("no panic"))
                    .collect()
            })
        });
        // Each of them was closed for what it did, and none for anything else.
        assert_eq!(hits(daemon.port())[limit], (ATTACKERS * WAVES) as u64);
        // None where the end came as a reset while it was still writing.
        let told: Vec<u16> = ends.into_iter().flatten().collect();
        println!("    {} of {} heard why", told.len(), ATTACKERS * WAVES);
        assert!(!told.is_empty(), "no attacker is told why");
        assert!(told.iter().all(|code| codes.contains(code)), "{told:?}");
        daemon.check_life().unwrap();
    }
}

/// How often each answer came: the status, or that there is an end without one, or none so far.
fn tally(sockets: &[TcpStream]) -> BTreeMap<&'static str, usize> {
    let mut answers = BTreeMap::new();
    for mut socket in sockets {
        socket.set_nonblocking(true).expect("do not wait");
        let mut head = [0; 12];
        let answer = match socket.read(&mut head) {
            Ok(0) => "end",
            Ok(_) => match &head {
                b"HTTP/1.1 101" => "101",
                b"HTTP/1.1 408" => "408",
                b"HTTP/1.1 503" => "503",
                other => panic!("{:?}", String::from_utf8_lossy(other)),
            },
            Err(e) if e.kind() == ErrorKind::WouldBlock => "none",
            Err(_) => "end",
        };
        *answers.entry(answer).or_default() += 1;
    }
    answers
}

/// As many sockets as this process may have, up to `wanted`.
fn room_for_sockets(wanted: usize) -> usize {
    const OTHERS: u64 = 2000;
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let _ = setrlimit(Resource::Nofile, raised);
    let files = getrlimit(Resource::Nofile).current;
    files.map_or(wanted, |files| {
        wanted.min(files.saturating_sub(OTHERS) as usize)
    })
}

#[test]
fn ten_thousand_connections_from_one_address() {
    needs!(MariaDb, Time);
    const WANTED: usize = 10_000;
    const THREADS: usize = 4;
    let (_database, mut daemon) = daemon(&Options::new());
    let count = room_for_sockets(WANTED);
    if count < WANTED {
        println!("only {count} connections: the limit of open files allows no more");
    }
    let what = format!("{count} connections from one address");
    let port = daemon.port();
    let held = under_attack(&what, &daemon, || {
        let left = AtomicUsize::new(count);
        let held: Vec<Vec<TcpStream>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|number| {
                    let left = &left;
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        while left
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                                left.checked_sub(1)
                            })
                            .is_ok()
                        {
                            let mut stream = open(port);
                            // A third says nothing, a third half of a request, a third all of it.
                            let said =
                                [0, REQUEST.len() / 2, REQUEST.len()][(held.len() + number) % 3];
                            let _ = stream.write_all(&REQUEST.as_bytes()[..said]);
                            held.push(stream);
                        }
                        held
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .collect()
        });
        held.into_iter().flatten().collect::<Vec<_>>()
    });
    // Each was let in, and had to go when another came; each that went was counted.
    let answers = tally(&held);
    println!("    {answers:?}");
    let of = |answer| answers.get(answer).copied().unwrap_or(0);
    assert_eq!(of("503"), 0, "{answers:?}");
    let inside = Limits::default().max_unauthenticated;
    let gone = wait::until(wait::LIMIT, || {
        let counted = hits(daemon.port()).get("unauthenticated").copied();
        counted.filter(|counted| *counted as usize + inside >= count)
    });
    assert!(gone.is_some(), "{answers:?}");
    // And the log is no attack's to fill.
    let lines = daemon.log().matches("is closed for a newcomer").count();
    assert!((1..=10).contains(&lines), "{lines} lines");
    drop(held);
    daemon.check_life().unwrap();
}

/// Holds `count` sockets that never authenticate, every third with half a request, and connects again as soon as one is
/// closed, until `is_over`. Returns how many were closed.
fn hold_and_come_back(port: u16, count: usize, is_over: &AtomicBool) -> usize {
    let open_one = |number: usize| {
        let mut stream = open(port);
        let said = match number % 3 {
            0 => REQUEST.len() / 2,
            _ => REQUEST.len(),
        };
        let _ = stream.write_all(&REQUEST.as_bytes()[..said]);
        stream.set_nonblocking(true).expect("do not wait");
        stream
    };
    let mut held: Vec<TcpStream> = (0..count).map(open_one).collect();
    let mut closed = 0;
    while !is_over.load(Ordering::Acquire) {
        for (number, stream) in held.iter_mut().enumerate() {
            let mut buffer = [0; 512];
            let is_open = match stream.read(&mut buffer) {
                // The answer to its request, and perhaps a close frame.
                Ok(1..) => true,
                Ok(0) => false,
                Err(e) => e.kind() == ErrorKind::WouldBlock,
            };
            if !is_open {
                *stream = open_one(number);
                closed += 1;
            }
        }
        thread::yield_now();
    }
    closed
}

/// How many sockets the attackers hold; more than may be unauthenticated. `ANDREA_ATTACK_SOCKETS` asks for another number.
const HELD: usize = 600;

#[test]
fn s3_silent_sockets_that_come_back_keep_no_newcomer_out() {
    needs!(MariaDb);
    const ATTACKERS: usize = 4;
    const NEWCOMERS: usize = 12;
    let named = std::env::var("ANDREA_ATTACK_SOCKETS").ok();
    let held = named.map_or(HELD, |text| text.parse().expect("a number"));
    let held = room_for_sockets(held);
    let limit = (2 * held).max(Limits::default().max_connections);
    let options = Options::new().env("CHAT_WEBSOCKET_MAX_CONNECTIONS", &limit.to_string());
    let (_database, mut daemon) = daemon(&options);
    let port = daemon.port();
    let what = format!("{held} silent sockets that come back when they are closed");
    let mut waits = under_attack(&what, &daemon, || {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let attackers: Vec<_> = (0..ATTACKERS)
                .map(|_| scope.spawn(|| hold_and_come_back(port, held / ATTACKERS, &is_over)))
                .collect();
            // The attack is under way once a socket had to go for another, if there are enough of them for that.
            let evicted = || daemon.log().contains("is closed for a newcomer");
            if held > Limits::default().max_unauthenticated {
                wait::until(wait::LIMIT, || evicted().then_some(())).expect("the door is full");
            }
            let waits: Vec<Duration> = (0..NEWCOMERS)
                .map(|_| {
                    let begun = Instant::now();
                    daemon.login(4).expect("a newcomer is let in");
                    begun.elapsed()
                })
                .collect();
            is_over.store(true, Ordering::Release);
            let closed: usize = attackers
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .sum();
            println!("    {closed} of their sockets were closed meanwhile");
            waits
        })
    });
    println!("    newcomers: {}", figures(&waits));
    waits.sort_unstable();
    assert_eq!(waits.len(), NEWCOMERS);
    daemon.check_life().unwrap();
}

#[test]
fn a_thousand_clients_that_come_back_at_the_same_moment() {
    needs!(MariaDb);
    const CLIENTS: usize = 1000;
    const THREADS: usize = 8;
    const FIRST: i64 = 1001;
    let (database, mut conn) = seeded();
    let agents: Vec<Json> = (0..CLIENTS as i64)
        .map(|number| {
            let id = FIRST + number;
            Json::object([
                ("id", id.into()),
                ("name", format!("Agent {id}").as_str().into()),
                ("email", format!("agent{id}@example.test").as_str().into()),
                ("password_hash", "!".into()),
                ("role", "agent".into()),
                ("is_active", 1.into()),
            ])
        })
        .collect();
    seed::insert(&mut conn, "agents", &agents);
    let mut daemon = Daemon::start(&database, &Options::new());
    let port = daemon.port();
    let again = AtomicUsize::new(0);
    let took = under_attack("1,000 clients come back at once", &daemon, || {
        let begun = Instant::now();
        let (sender, arrivals) = mpsc::channel();
        let clients: Vec<Vec<Client>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|thread| {
                    let (sender, again) = (sender.clone(), &again);
                    scope.spawn(move || {
                        let agents = (0..CLIENTS).skip(thread).step_by(THREADS);
                        let mut sockets: Vec<(i64, Client)> = agents
                            .map(|number| {
                                let mut client = Client::open(port);
                                client.write(REQUEST.as_bytes());
                                (FIRST + number as i64, client)
                            })
                            .collect();
                        for (agent, client) in &mut sockets {
                            // Who is not let in yet waits. A thread that plays many may be too slow for the limits
                            // of time where the machine is busy; then it does as a client does, and comes again.
                            let is_in = client.response().is_ok_and(|head| head.status() == 101)
                                && client.auth(*agent).is_ok();
                            if !is_in {
                                again.fetch_add(1, Ordering::Relaxed);
                                *client =
                                    wait::until(wait::LIMIT, || Client::login(port, *agent).ok())
                                        .expect("a client that reconnects is admitted");
                            }
                            sender.send(begun.elapsed()).expect("the receiver exists");
                        }
                        sockets.into_iter().map(|(_, client)| client).collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .collect()
        });
        drop(sender);
        let mut arrivals: Vec<Duration> = arrivals.iter().collect();
        arrivals.sort_unstable();
        assert_eq!(arrivals.len(), CLIENTS);
        assert_eq!(clients.iter().map(Vec::len).sum::<usize>(), CLIENTS);
        arrivals[CLIENTS - 1]
    });
    let hits = hits(daemon.port());
    println!(
        "    all {CLIENTS} were back after {:.2} s, {} of them with a second try; limits hit: {hits:?}",
        took.as_secs_f64(),
        again.load(Ordering::Relaxed)
    );
    // That they are so many is no reason to refuse one. A client whose thread here was silent for a second may have given
    // its place to another, and came again.
    for limit in ["connections", "per_agent"] {
        assert_eq!(hits[limit], 0, "{limit}: {hits:?}");
    }
    daemon.check_life().unwrap();
}
