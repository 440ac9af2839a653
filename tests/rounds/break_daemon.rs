//! Faults of the daemon.

use std::fs;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use mysql::prelude::Queryable;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::environment::Environment;
use super::faults::{Injected, LostConnections, pause};
use super::participants::Progress;
use crate::random::Random;
use crate::support::chat::{Answer, Participant, Place};
use crate::support::ws::{Client, FrameSpec};
use crate::support::{jwt, mariadb, wait};

/// Marks a line that went to standard error because the log file could not be written.
const SAID_ELSEWHERE: &str = "(the log file cannot be written)";
/// What the accept loop logs when no descriptor is left.
const NOT_ACCEPTED: &str = "cannot accept a connection";
/// How far the daemon's clock may deviate from the time it was set to, in seconds.
const CLOCK_TOLERANCE: i64 = 5;

/// In `/metrics`: how often the daemon ran out of descriptors.
const OPEN_FILES: &str = "andrea_chat_limits_total{limit=\"open_files\"}";
/// In `/metrics`: events received from clients.
const EVENTS: &str = "andrea_chat_events_total";
/// Pings whose answers, 175 bytes each, exceed a socket's buffer but not the limit of the queue behind it.
const PINGS: usize = 40_000;

/// Threads whose panic ends the process, as their fault points call them.
pub const THREADS: [&str; 12] = [
    "accept loop",
    "hub",
    "commit path",
    "poller",
    "query",
    "timer",
    "deadlines",
    "flusher",
    "bus-in",
    "bus-out",
    "watch",
    "signals",
];

pub fn kill(environment: &mut Environment) -> Injected {
    environment.daemon.signal(Signal::KILL);
    environment.daemon.wait_exit(wait::LIMIT);
    environment.restart_daemon();
    Ok((LostConnections::All, 1))
}

pub fn terminate(environment: &mut Environment) -> Injected {
    let status = environment.daemon.stop();
    if !status.success() {
        return Err(format!("the daemon answered SIGTERM with {status}"));
    }
    environment.check_panics()?;
    environment.restart_daemon();
    Ok((LostConnections::All, 1))
}

pub fn freeze(environment: &Environment, random: &mut Random) -> Injected {
    environment.daemon.freeze();
    pause(random, 400);
    environment.daemon.thaw();
    Ok((LostConnections::None, 1))
}

/// Makes the daemon log while its file cannot be written; returns how many lines went to standard error.
fn lose_lines(environment: &Environment, progress: &Progress) -> Result<u64, String> {
    let told = || environment.daemon.stderr().matches(SAID_ELSEWHERE).count();
    let before = told();
    environment.daemon.signal(Signal::HUP);
    environment.proxy.cut_all();
    wait::until(wait::LIMIT, || (told() > before).then_some(()))
        .ok_or("lines that the log file refuses are lost")?;
    progress.await_stored(2)?;
    Ok((told() - before) as u64)
}

/// Checks that the next line is in the log file once it can be written again.
fn await_line(environment: &Environment) -> Result<(), String> {
    let before = environment.daemon.log().len();
    environment.daemon.signal(Signal::HUP);
    wait::until(wait::LIMIT, || {
        (environment.daemon.log().len() > before).then_some(())
    })
    .ok_or_else(|| "the daemon does not return to its log file".to_owned())
}

/// Puts a file in the folder's place, so that root cannot write there either.
pub fn take_log_folder(environment: &Environment, progress: &Progress) -> Injected {
    let folder = environment.install.log_file();
    let folder = folder.parent().expect("a folder");
    let aside = folder.with_file_name("logs.aside");
    fs::rename(folder, &aside).map_err(|e| e.to_string())?;
    fs::write(folder, "in the way").map_err(|e| e.to_string())?;
    let lost = lose_lines(environment, progress);
    fs::remove_file(folder).map_err(|e| e.to_string())?;
    fs::rename(&aside, folder).map_err(|e| e.to_string())?;
    let lost = lost?;
    await_line(environment)?;
    Ok((LostConnections::None, lost))
}

/// Links the log's name to /dev/full.
pub fn fill_log_disk(environment: &Environment, progress: &Progress) -> Injected {
    let log = environment.install.log_file();
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink("/dev/full", &log).map_err(|e| e.to_string())?;
    let lost = lose_lines(environment, progress);
    fs::rename(&aside, &log).map_err(|e| e.to_string())?;
    let lost = lost?;
    await_line(environment)?;
    Ok((LostConnections::None, lost))
}

/// How far the daemon's clock is ahead of ours, in seconds.
fn clock_shift(client: &mut Client) -> Result<i64, String> {
    client.send(r#"{"type":"ping"}"#);
    let pong = client.until_type("pong").map_err(|e| format!("{e:?}"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("after 1970").as_secs() as i64;
    Ok(pong.need("time").int().expect("a number") - now)
}

/// Steps the clock forward and back, as an administrator's correction does.
pub fn step_clock(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    let clock = environment
        .clock
        .as_ref()
        .ok_or("this daemon has our clock")?;
    // Before the first step: after one, a token may be invalid.
    let mut client = Client::login(environment.port(), 8).map_err(|e| format!("{e:?}"))?;
    let mut occurrences = 0;
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
        occurrences += u64::from(is_seen && seconds.abs() > CLOCK_TOLERANCE);
        stored = stored.and_then(|()| progress.await_stored(1 + random.below(6)));
    }
    // Log lines carry the shifted time, and the process computes another age.
    environment.daemon.signal(Signal::HUP);
    clock.step(0);
    stored.map(|()| (LostConnections::None, occurrences))
}

/// Leaves no descriptor, so that the daemon can accept no connection, and kills its database connections. The daemon
/// must still serve connected members, and accept others later.
pub fn limit_files(
    environment: &Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let refusals = || environment.daemon.log().matches(NOT_ACCEPTED).count();
    let (before, counted) = (refusals(), environment.metric(OPEN_FILES)?);
    let pid = i32::try_from(environment.daemon.pid())
        .ok()
        .and_then(Pid::from_raw);
    let open = fs::read_dir(format!("/proc/{}/fd", environment.daemon.pid()));
    let open = open.map_err(|e| e.to_string())?.count() as u64;
    let old = prlimit(
        pid,
        Resource::Nofile,
        Rlimit {
            current: Some(open + random.below(3) as u64),
            // Inherited from this process.
            maximum: getrlimit(Resource::Nofile).maximum,
        },
    );
    let old = old.map_err(|e| format!("lower the limit of files: {e}"))?;
    let group: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(("127.0.0.1", environment.port())))
        .collect();
    let refused = wait::until(wait::LIMIT, || (refusals() > before).then_some(()));
    let mut admin = environment.server.admin();
    let query = format!(
        "SELECT id FROM {} WHERE db = '{}'",
        mariadb::processlist(),
        environment.database.name
    );
    let ids: Vec<u64> = admin.query(query).map_err(|e| e.to_string())?;
    for id in ids {
        // It may have ended by itself.
        let _ = admin.query_drop(format!("KILL {id}"));
    }
    pause(random, 300);
    drop(group);
    prlimit(pid, Resource::Nofile, old).map_err(|e| format!("raise the limit of files: {e}"))?;
    refused.ok_or("the daemon does not log that it cannot accept")?;
    progress.await_stored(1)?;
    let newcomer = Participant::login(environment.port(), 8);
    let answer = newcomer.and_then(|mut newcomer| newcomer.ask(Place::Channel(1)));
    match answer.map_err(|e| format!("a newcomer: {e:?}"))? {
        Some(Answer::Stored(_)) => match environment.metric(OPEN_FILES)? - counted {
            0 => Err("the daemon has not counted that it ran out of descriptors".to_owned()),
            count => Ok((LostConnections::None, count)),
        },
        answer => Err(format!("a newcomer was told {answer:?}")),
    }
}

/// Makes the thread of this name panic and waits until it has; `provoke` makes the thread reach its failpoint.
fn ask_for_panic(
    environment: &mut Environment,
    name: &str,
    provoke: impl FnOnce(&Environment) -> Option<Client>,
) -> Result<(), String> {
    let panics = environment.panics.as_ref();
    let file = panics.ok_or("this daemon has no failpoints")?.join(name);
    environment.panics_asked += 1;
    fs::write(&file, "").map_err(|e| e.to_string())?;
    let _client = provoke(environment);
    wait::until(wait::LIMIT, || (!file.exists()).then_some(()))
        .ok_or_else(|| format!("{name} never reaches its failpoint"))
}

pub fn panic_in_connection(environment: &mut Environment, progress: &Progress) -> Injected {
    ask_for_panic(environment, "connection", |_| None)?;
    progress.await_stored(1)?;
    Ok((LostConnections::Count(1), 1))
}

/// A client that asks for more than its socket takes and reads late, so that the flusher has to write.
fn fall_behind(environment: &Environment) -> Option<Client> {
    let mut client = Client::login(environment.port(), 8).ok()?;
    let reference = "é".repeat(64);
    let ping = FrameSpec::text(&format!(r#"{{"type":"ping","ref":"{reference}"}}"#)).encode();
    let before = environment.metric(EVENTS).ok()?;
    client.write_unwatched(&ping.repeat(PINGS));
    wait::until(wait::LIMIT, || {
        let events = environment.metric(EVENTS).ok()?;
        (events >= before + PINGS as u64).then_some(())
    })?;
    // Until the process is gone.
    let _ = client.rest();
    Some(client)
}

/// A panic of any thread except a connection's ends the process, and the service manager starts it again.
pub fn panic_in_thread(environment: &mut Environment, name: &str) -> Injected {
    ask_for_panic(environment, name, |environment| match name {
        "signals" => {
            environment.daemon.signal(Signal::HUP);
            None
        }
        "flusher" => fall_behind(environment),
        _ => {
            // A query thread works only when a client logs in or asks for what it missed.
            let mut client = Client::connect(environment.port()).ok()?;
            let token = jwt::good(1);
            client.send(&format!(
                r#"{{"type":"auth","token":"{token}","after_id":0}}"#
            ));
            Some(client)
        }
    })?;
    let ended = wait::until(wait::LIMIT, || environment.daemon.exit_now());
    let status =
        ended.ok_or_else(|| format!("the daemon keeps running without its thread {name}"))?;
    if status.code() != Some(70) {
        return Err(format!("after a panic of {name} it ended with {status}"));
    }
    environment.restart_daemon();
    Ok((LostConnections::All, 1))
}
