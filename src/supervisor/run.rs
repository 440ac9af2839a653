//! One run: takes the lock, observes the service, and carries out the decision.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, futimens};
use rustix::process::Signal;

use super::launch::{self, Launched};
use super::{Daemon, Effects, Error, Observed, carry_out, decide};
use crate::config::limits::STORE_TIMEOUT;
use crate::config::settings::{Rows, key};
use crate::config::{Config, listen_address};
use crate::platform::exit_code;
use crate::platform::net;
use crate::platform::owned_file::{self, Use};
use crate::platform::paths::{PathError, Paths};
use crate::platform::pid_file::{self, Holder};
use crate::platform::printable::printable;
use crate::store::{Pool, Store};

/// How long a daemon may take to end; its own limit (`SHUTDOWN_LIMIT`) is below that.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a killed process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a daemon may take to show its heartbeat and to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the address may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Does one run for the install at `root`, prints to `out`, and returns the exit code.
pub fn run(root: &Path, config: &Config, store: Arc<dyn Store>, out: &mut dyn Write) -> u8 {
    let mut supervisor = Supervisor {
        root,
        config,
        places: config.paths(),
        pool: Pool::single(store),
        out,
    };
    supervisor.supervise().unwrap_or_else(|error| {
        supervisor.say(&format!("ERROR: {error}"));
        exit_code::FAILED
    })
}

/// The hidden subcommand: leaves the caller's session and becomes the program with these arguments. Returns only if
/// that fails.
pub fn serve_detached(arguments: &[OsString]) -> io::Error {
    launch::detach_and_become(arguments)
}

struct Supervisor<'a> {
    root: &'a Path,
    config: &'a Config,
    places: Paths,
    pool: Pool,
    out: &'a mut dyn Write,
}

impl Supervisor<'_> {
    fn supervise(&mut self) -> Result<u8, Error> {
        self.places.make_folders()?;
        self.places = self.config.paths();
        // The daemon does not inherit this lock, which would block every later run.
        let path = self.places.supervisor_lock.clone();
        let lock = owned_file::open(&path, Use::Change).map_err(PathError::of("open", &path))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(exit_code::OK),
            Err(error) => return Err(PathError::of("lock", &path)(error).into()),
        }
        // `check` and the manual take this time as that of the last run. UTIME_NOW needs only write permission.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let _ = futimens(&lock, &times);
        let rows = self.rows()?;
        let holder =
            pid_file::holder(&self.places).map_err(PathError::of("read", &self.places.pid_file))?;
        let age = self
            .config
            .clock
            .seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        carry_out(decide(&Observed::new(&rows, holder, age)), self)
    }

    fn rows(&mut self) -> Result<Rows, Error> {
        Ok(self.pool.run(|store| store.settings())?)
    }

    /// Whether the started daemon is up: its rows are written and its address answers. An error if it has ended.
    fn is_up(&mut self, launched: &mut Launched) -> Result<bool, Error> {
        let pid = launched.child.id();
        let ended = launched
            .child
            .try_wait()
            .map_err(|error| Error::Watch(pid, error))?;
        if let Some(status) = ended {
            return Err(Error::Ended(status, launched.last_words()));
        }
        let rows = self.rows()?;
        let shows = rows.text(key::PID, "") == pid.to_string()
            && rows.text(key::STATUS, "") == "running"
            && self
                .config
                .clock
                .seconds_since(rows.text(key::LAST_SEEN_AT, ""))
                .is_some_and(|age| age.unsigned_abs() <= START_TIMEOUT.as_secs() + 1);
        // The first heartbeat comes before the address is bound.
        let (host, port, _) = listen_address(self.config, &rows);
        Ok(shows && net::connect(&host, port, CONNECT_TIMEOUT).is_ok())
    }
}

impl Effects for Supervisor<'_> {
    fn say(&mut self, line: &str) {
        // If standard output is closed, there is nowhere to report it.
        let line = printable(line);
        let _ = writeln!(self.out, "[{}] {line}", self.config.clock.now_text());
    }

    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), Error> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        Ok(self
            .pool
            .run_until(deadline, |store| store.update_settings(rows))?)
    }

    fn terminate(&mut self, holder: Holder) -> Daemon {
        let has_ended = match pid_file::process_of(holder, &self.places) {
            Some(process) => {
                if let Err(error) = process.signal(Signal::TERM) {
                    self.say(&format!("cannot signal process {}: {error}", holder.pid));
                }
                process.ended_within(STOP_TIMEOUT)
            }
            None => self.is_gone_within(STOP_TIMEOUT),
        };
        Daemon::of(has_ended)
    }

    fn kill(&mut self, holder: Holder) -> Daemon {
        let process = pid_file::process_of(holder, &self.places);
        Daemon::of(process.is_some_and(|process| {
            process.signal(Signal::KILL).is_ok() && process.ended_within(KILL_TIMEOUT)
        }))
    }

    fn start(&mut self) -> Result<u32, Error> {
        let log = &self.places.log_file;
        let mut launched =
            launch::launch(self.root, log).map_err(|error| Error::Launch(log.to_owned(), error))?;
        let pid = launched.child.id();
        let deadline = Instant::now() + START_TIMEOUT;
        let mut seen_before = false;
        loop {
            thread::sleep(LOOK_AGAIN);
            // Seen twice: if another program holds the address, the daemon ends between the two looks.
            let seen = self.is_up(&mut launched)?;
            if seen && seen_before {
                return Ok(pid);
            }
            seen_before = seen;
            if Instant::now() >= deadline {
                let log = self.places.log_file.clone();
                return Err(Error::Silent(pid, START_TIMEOUT.as_secs(), log));
            }
        }
    }
}

impl Supervisor<'_> {
    /// Whether a daemon that cannot be signalled ends by itself in time.
    fn is_gone_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            if pid_file::holder(&self.places).is_ok_and(|holder| holder.is_none()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}
