//! What happens to the daemon.

use std::fs;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::crowd::Signs;
use super::faults::{Struck, Toll, moment};
use super::world::World;
use crate::random::Random;
use crate::support::chat::{Answer, Place, Voice};
use crate::support::ws::{Client, FrameSpec};
use crate::support::{jwt, wait};

/// Where a line goes that the log file does not take.
const SAID_ELSEWHERE: &str = "(the log file cannot be written)";
/// What the accept loop says where the system gives it no descriptor.
const NOT_ACCEPTED: &str = "cannot accept a connection";
/// How far the daemon's clock may seem to be from where it was put, in seconds.
const CLOCK_TOLERANCE: i64 = 5;

/// In `/metrics`: how often it was out of descriptors.
const OPEN_FILES: &str = "andrea_chat_limits_total{limit=\"open_files\"}";
/// In `/metrics`: what clients have sent.
const EVENTS: &str = "andrea_chat_events_total";
/// Pings whose answers, 175 bytes each, are more than a socket takes and less than may wait for one.
const PINGS: usize = 40_000;

/// Threads whose panic ends the process, as their fault points call them.
pub const THREADS: [&str; 14] = [
    "accept loop",
    "hub",
    "commit path",
    "tail",
    "query",
    "timer",
    "keeper",
    "worker",
    "flusher",
    "bus-in",
    "bus-out",
    "app-cache",
    "watch",
    "signals",
];

pub fn kill(world: &mut World) -> Struck {
    world.daemon.signal(Signal::KILL);
    world.daemon.wait_exit(wait::LIMIT);
    world.restart_daemon();
    Ok((Toll::Everybody, 1))
}

pub fn terminate(world: &mut World) -> Struck {
    let status = world.daemon.stop();
    if !status.success() {
        return Err(format!("it was asked to end, and did so with {status}"));
    }
    world.check_panics()?;
    world.restart_daemon();
    Ok((Toll::Everybody, 1))
}

pub fn freeze(world: &World, random: &mut Random) -> Struck {
    world.daemon.freeze();
    moment(random, 400);
    world.daemon.thaw();
    Ok((Toll::Nobody, 1))
}

/// Makes it write to its log, which takes nothing; returns how many lines it said elsewhere.
fn lose_lines(world: &World, signs: &Signs) -> Result<u64, String> {
    let told = || world.daemon.stderr().matches(SAID_ELSEWHERE).count();
    let before = told();
    world.daemon.signal(Signal::HUP);
    world.proxy.cut_all();
    wait::until(wait::LIMIT, || (told() > before).then_some(()))
        .ok_or("what its log does not take it says nowhere")?;
    signs.await_stored(2)?;
    Ok((told() - before) as u64)
}

/// With a log that can be written again, the next line stands there.
fn await_line(world: &World) -> Result<(), String> {
    let before = world.daemon.log().len();
    world.daemon.signal(Signal::HUP);
    wait::until(wait::LIMIT, || {
        (world.daemon.log().len() > before).then_some(())
    })
    .ok_or_else(|| "it does not come back to its log".to_owned())
}

/// Something that is no folder stands in its place, so that root cannot write there either.
pub fn take_log_folder(world: &World, signs: &Signs) -> Struck {
    let folder = world.install.log_file();
    let folder = folder.parent().expect("a folder");
    let aside = folder.with_file_name("logs.aside");
    fs::rename(folder, &aside).map_err(|e| e.to_string())?;
    fs::write(folder, "in the way").map_err(|e| e.to_string())?;
    let lost = lose_lines(world, signs);
    fs::remove_file(folder).map_err(|e| e.to_string())?;
    fs::rename(&aside, folder).map_err(|e| e.to_string())?;
    let lost = lost?;
    await_line(world)?;
    Ok((Toll::Nobody, lost))
}

/// The log's name leads to a file that has no room for anything.
pub fn fill_log_disk(world: &World, signs: &Signs) -> Struck {
    let log = world.install.log_file();
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink("/dev/full", &log).map_err(|e| e.to_string())?;
    let lost = lose_lines(world, signs);
    fs::rename(&aside, &log).map_err(|e| e.to_string())?;
    let lost = lost?;
    await_line(world)?;
    Ok((Toll::Nobody, lost))
}

/// By how much the daemon's clock is ahead of ours, in seconds.
fn clock_shift(client: &mut Client) -> Result<i64, String> {
    client.send(r#"{"type":"ping"}"#);
    let pong = client.until_type("pong").map_err(|e| format!("{e:?}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs() as i64;
    Ok(pong.need("time").int().expect("a number") - now)
}

/// Hours ahead and back behind, as by a clock that somebody sets.
pub fn step_clock(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let clock = world.clock.as_ref().ok_or("this daemon has our clock")?;
    // Before the first step: after one, a token may be no good.
    let mut client = Client::login(world.port(), 8).map_err(|e| format!("{e:?}"))?;
    let mut struck = 0;
    let mut stored = Ok(());
    for _ in 0..1 + random.below(4) {
        let span = 1 << random.below(30);
        let seconds = 1 + random.below(span) as i64;
        let seconds = match random.below(2) {
            0 => seconds,
            _ => -seconds,
        };
        clock.step(seconds);
        let is_seen = clock_shift(&mut client)?.abs_diff(seconds) <= CLOCK_TOLERANCE as u64;
        struck += u64::from(is_seen && seconds.abs() > CLOCK_TOLERANCE);
        stored = stored.and_then(|()| signs.await_stored(1 + random.below(6)));
    }
    // What it says in its log has another time, and the process another idea of its age.
    world.daemon.signal(Signal::HUP);
    clock.step(0);
    stored.map(|()| (Toll::Nobody, struck))
}

/// No descriptor is left, so that nobody comes in, and its connections to the database go: those who are in are served all
/// the same, and others come in later.
pub fn limit_files(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let refusals = || world.daemon.log().matches(NOT_ACCEPTED).count();
    let (before, counted) = (refusals(), world.metric(OPEN_FILES)?);
    let pid = i32::try_from(world.daemon.pid())
        .ok()
        .and_then(Pid::from_raw);
    let open = fs::read_dir(format!("/proc/{}/fd", world.daemon.pid()));
    let open = open.map_err(|e| e.to_string())?.count() as u64;
    let old = prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: Some(open + random.below(3) as u64),
            // It has inherited ours.
            maximum: getrlimit(Resource::Nofile).maximum,
        },
    );
    let old = old.map_err(|e| format!("lower the limit of files: {e}"))?;
    let crowd: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(("127.0.0.1", world.port())))
        .collect();
    let refused = wait::until(wait::LIMIT, || (refusals() > before).then_some(()));
    let mut admin = world.server.admin();
    let query = format!(
        "SELECT id FROM information_schema.processlist WHERE db = '{}'",
        world.database.name
    );
    let ids: Vec<u64> = admin.query(query).map_err(|e| e.to_string())?;
    for id in ids {
        // It may have gone by itself.
        let _ = admin.query_drop(format!("KILL {id}"));
    }
    moment(random, 300);
    drop(crowd);
    prlimit(pid, Resource::Nofile, old).map_err(|e| format!("raise the limit of files: {e}"))?;
    refused.ok_or("it says nothing of connections that it cannot accept")?;
    signs.await_stored(1)?;
    let newcomer = Voice::login(world.port(), 8);
    let answer = newcomer.and_then(|mut newcomer| newcomer.ask(Place::Channel(1)));
    match answer.map_err(|e| format!("a newcomer: {e:?}"))? {
        Some(Answer::Stored(_)) => match world.metric(OPEN_FILES)? - counted {
            0 => Err("it has not counted that it was out of descriptors".to_owned()),
            count => Ok((Toll::Nobody, count)),
        },
        answer => Err(format!("a newcomer was told {answer:?}")),
    }
}

/// Returns once the thread of this name has met with it; `provoke` makes it come by.
fn ask_for_panic(
    world: &mut World,
    name: &str,
    provoke: impl FnOnce(&World) -> Option<Client>,
) -> Result<(), String> {
    let panics = world.panics.as_ref();
    let file = panics.ok_or("this daemon panics for nobody")?.join(name);
    world.panics_asked += 1;
    fs::write(&file, "").map_err(|e| e.to_string())?;
    let _client = provoke(world);
    wait::until(wait::LIMIT, || (!file.exists()).then_some(()))
        .ok_or_else(|| format!("{name} never comes by"))
}

pub fn panic_in_connection(world: &mut World, signs: &Signs) -> Struck {
    ask_for_panic(world, "connection", |_| None)?;
    signs.await_stored(1)?;
    Ok((Toll::Some(1), 1))
}

/// Asks for more than its socket takes and reads it late, so that the flusher has to write it.
fn fall_behind(world: &World) -> Option<Client> {
    let mut client = Client::login(world.port(), 8).ok()?;
    let reference = "é".repeat(64);
    let ping = FrameSpec::text(&format!(r#"{{"type":"ping","ref":"{reference}"}}"#)).encode();
    let before = world.metric(EVENTS).ok()?;
    client.write_unwatched(&ping.repeat(PINGS));
    wait::until(wait::LIMIT, || {
        let events = world.metric(EVENTS).ok()?;
        (events >= before + PINGS as u64).then_some(())
    })?;
    // Until the process is gone.
    let _ = client.rest();
    Some(client)
}

/// Any thread but a connection's takes the process with it, and whoever looks after the service starts it again.
pub fn panic_in_thread(world: &mut World, name: &str) -> Struck {
    ask_for_panic(world, name, |world| match name {
        "signals" => {
            world.daemon.signal(Signal::HUP);
            None
        }
        "flusher" => fall_behind(world),
        _ => {
            // Nobody is asked anything while all are in; what somebody missed is remembered nowhere.
            let mut client = Client::connect(world.port()).ok()?;
            let token = jwt::good(1);
            client.send(&format!(
                r#"{{"type":"auth","token":"{token}","after_id":0}}"#
            ));
            Some(client)
        }
    })?;
    let ended = wait::until(wait::LIMIT, || world.daemon.exit_now());
    let status = ended.ok_or_else(|| format!("the daemon goes on without its thread {name}"))?;
    if status.code() != Some(70) {
        return Err(format!("after a panic of {name} it ended with {status}"));
    }
    world.restart_daemon();
    Ok((Toll::Everybody, 1))
}
