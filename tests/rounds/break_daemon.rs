//! What happens to the daemon.

use std::fs;
use std::net::TcpStream;

use mysql::prelude::Queryable;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::crowd::Signs;
use super::faults::{Struck, Toll, moment};
use super::world::World;
use crate::random::Random;
use crate::support::ws::Client;
use crate::support::{jwt, wait};

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

/// Makes it want to write to its log.
fn provoke_a_line(world: &World, signs: &Signs) -> Result<(), String> {
    world.daemon.signal(Signal::HUP);
    world.proxy.cut_all();
    signs.await_stored(2)
}

/// Something that is no folder stands in its place, so that root cannot write there either.
pub fn take_log_folder(world: &World, signs: &Signs) -> Struck {
    let folder = world.install.log_file();
    let folder = folder.parent().expect("a folder");
    let aside = folder.with_file_name("logs.aside");
    fs::rename(folder, &aside).map_err(|e| e.to_string())?;
    fs::write(folder, "in the way").map_err(|e| e.to_string())?;
    let stored = provoke_a_line(world, signs);
    fs::remove_file(folder).map_err(|e| e.to_string())?;
    fs::rename(&aside, folder).map_err(|e| e.to_string())?;
    stored.map(|()| (Toll::Nobody, 1))
}

/// The log's name leads to a file that has no room for anything.
pub fn fill_log_disk(world: &World, signs: &Signs) -> Struck {
    let log = world.install.log_file();
    let aside = log.with_extension("aside");
    fs::rename(&log, &aside).map_err(|e| e.to_string())?;
    std::os::unix::fs::symlink("/dev/full", &log).map_err(|e| e.to_string())?;
    let stored = provoke_a_line(world, signs);
    fs::rename(&aside, &log).map_err(|e| e.to_string())?;
    stored.map(|()| (Toll::Nobody, 1))
}

/// Hours ahead and back behind, as by a clock that somebody sets.
pub fn step_clock(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let Some(clock) = &world.clock else {
        return Ok((Toll::Nobody, 0));
    };
    let times = 1 + random.below(4);
    let mut stored = Ok(());
    for _ in 0..times {
        let span = 1 << random.below(30);
        let seconds = 1 + random.below(span) as i64;
        clock.step(match random.below(2) {
            0 => seconds,
            _ => -seconds,
        });
        stored = stored.and_then(|()| signs.await_stored(1 + random.below(6)));
    }
    // What it says in its log has another time, and the process another idea of its age.
    world.daemon.signal(Signal::HUP);
    clock.step(0);
    stored.map(|()| (Toll::Nobody, times as u64))
}

/// No descriptor is left, and its connections to the database go: those who are in are served all the same.
pub fn limit_files(world: &World, random: &mut Random, signs: &Signs) -> Struck {
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
    signs.await_stored(1)?;
    Ok((Toll::Nobody, 1))
}

/// Returns once the thread of this name has met with it; `provoke` makes it come by. False where nobody can be asked.
fn ask_for_panic(
    world: &mut World,
    name: &str,
    provoke: impl FnOnce(u16) -> Option<Client>,
) -> Result<bool, String> {
    let Some(file) = world.panics.as_ref().map(|panics| panics.join(name)) else {
        return Ok(false);
    };
    world.panics_asked += 1;
    fs::write(&file, "").map_err(|e| e.to_string())?;
    let _client = provoke(world.port());
    wait::until(wait::LIMIT, || (!file.exists()).then_some(true))
        .ok_or_else(|| format!("{name} never comes by"))
}

pub fn panic_in_connection(world: &mut World, signs: &Signs) -> Struck {
    if !ask_for_panic(world, "connection", |_| None)? {
        return Ok((Toll::Nobody, 0));
    }
    signs.await_stored(1)?;
    Ok((Toll::Some, 1))
}

/// Any other thread takes the process with it, and whoever looks after the service starts it again.
pub fn panic_in_thread(world: &mut World, random: &mut Random) -> Struck {
    let names = [
        "accept loop",
        "hub",
        "commit path",
        "tail",
        "query",
        "timer",
        "keeper",
        "worker",
    ];
    let name = names[random.below(names.len())];
    // Nobody is asked anything while all are in; what somebody missed is remembered nowhere.
    let is_asked = ask_for_panic(world, name, |port| {
        let mut client = Client::connect(port).ok()?;
        let token = jwt::good(1);
        client.send(&format!(
            r#"{{"type":"auth","token":"{token}","after_id":0}}"#
        ));
        Some(client)
    })?;
    if !is_asked {
        return Ok((Toll::Nobody, 0));
    }
    let ended = wait::until(wait::LIMIT, || world.daemon.exit_now());
    let status = ended.ok_or_else(|| format!("the daemon goes on without its thread {name}"))?;
    if status.code() != Some(70) {
        return Err(format!("after a panic of {name} it ended with {status}"));
    }
    world.restart_daemon();
    Ok((Toll::Everybody, 1))
}
