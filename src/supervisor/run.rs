//! One run: takes the lock, observes the service, and carries out the decision.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, futimens};
use rustix::process::Signal;

use super::launch::{self, Launched};
use super::{Effects, Observed, carry_out, decide};
use crate::config::limits::STORE_TIMEOUT;
use crate::config::settings::{Rows, key};
use crate::config::{Config, listen_address};
use crate::platform::exit_code;
use crate::platform::net::{self, Wire};
use crate::platform::owned_file::{self, Use};
use crate::platform::paths::Paths;
use crate::platform::pid_file::{self, Holder};
use crate::platform::printable::printable;
use crate::platform::problem::Problem;
use crate::store::{Pool, Store, StoreError};

/// What to do about a file or folder that cannot be used.
const FOLDER_REMEDY: &str = "run the supervisor as the web server's user";
/// How long a daemon may take to end; its own limit (`SHUTDOWN_LIMIT`) is below that.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a killed process may take to end.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a daemon may take to show its heartbeat and to listen.
const START_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the address may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Does one run for an install, prints to `out`, and returns the exit code.
pub fn run(config: &Config, store: Arc<dyn Store>, out: &mut dyn Write) -> u8 {
    let mut supervisor = Supervisor {
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

fn cannot(operation: &str, path: &Path, error: impl Into<io::Error>) -> Problem {
    Problem::of_path(operation, path, error).with_remedy(FOLDER_REMEDY)
}

fn no_database(error: StoreError) -> Problem {
    Problem::of(exit_code::FAILED, error)
}

struct Supervisor<'a> {
    config: &'a Config,
    places: Paths,
    pool: Pool,
    out: &'a mut dyn Write,
}

impl Supervisor<'_> {
    fn supervise(&mut self) -> Result<u8, Problem> {
        let made = self.places.make_folders();
        made.map_err(|problem| problem.with_remedy(FOLDER_REMEDY))?;
        self.places = self.config.paths();
        // The daemon does not inherit this lock, which would block every later run.
        let path = self.places.supervisor_lock.clone();
        let lock =
            owned_file::open(&path, Use::Change).map_err(|error| cannot("open", &path, error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(exit_code::OK),
            Err(error) => return Err(cannot("lock", &path, error)),
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
        let holder = pid_file::holder(&self.places)
            .map_err(|error| cannot("read", &self.places.pid_file, error))?;
        let age = self
            .config
            .clock
            .seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        carry_out(decide(&Observed::new(&rows, holder, age)), self)
    }

    fn rows(&mut self) -> Result<Rows, Problem> {
        self.pool.run(|store| store.settings()).map_err(no_database)
    }

    /// Whether the started daemon is up: its rows are written and its address answers. An error if it has ended.
    fn is_up(&mut self, launched: &mut Launched) -> Result<bool, Problem> {
        let pid = launched.child.id();
        let ended = launched.child.try_wait().map_err(|error| {
            Problem::new(exit_code::FAILED, format!("cannot watch process {pid}")).because(error)
        })?;
        if let Some(status) = ended {
            let words = launched.last_words();
            let words = words.unwrap_or_else(|| format!("it ended at once ({status})"));
            return Err(Problem::new(exit_code::FAILED, words));
        }
        let rows = self.rows()?;
        let shows = rows.text(key::PID, "") == pid.to_string()
            && rows.text(key::STATUS, "") == "running"
            && self
                .config
                .clock
                .seconds_since(rows.text(key::LAST_SEEN_AT, ""))
                .is_some_and(|age| age.unsigned_abs() <= START_TIMEOUT.as_secs() + 1);
        // Its rows show that it has the address; an answer, that its threads run.
        let (host, port, _) = listen_address(self.config, &rows);
        Ok(shows && answers(&host, port).is_ok())
    }
}

/// Whether the service at a listen address answers, whatever it says.
fn answers(host: &str, port: u16) -> io::Result<()> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let socket = net::connect(host, port, ANSWER_TIMEOUT)?;
    let mut wire = Wire { socket, deadline };
    write!(
        wire,
        "GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    )?;
    wire.read_exact(&mut [0])
}

impl Effects for Supervisor<'_> {
    fn say(&mut self, line: &str) {
        // If standard output is closed, there is nowhere to report it.
        let line = printable(line);
        let _ = writeln!(self.out, "[{}] {line}", self.config.clock.now_text());
    }

    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), Problem> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        self.pool
            .run_until(deadline, |store| store.update_settings(rows))
            .map_err(no_database)
    }

    fn ends_when_told(&mut self, holder: Holder) -> bool {
        match pid_file::process_of(holder, &self.places) {
            Some(process) => {
                if let Err(error) = process.signal(Signal::TERM) {
                    self.say(&format!("cannot signal process {}: {error}", holder.pid));
                }
                process.has_ended_within(STOP_TIMEOUT)
            }
            None => self.is_gone_within(STOP_TIMEOUT),
        }
    }

    fn ends_when_killed(&mut self, holder: Holder) -> bool {
        let process = pid_file::process_of(holder, &self.places);
        process.is_some_and(|process| {
            process.signal(Signal::KILL).is_ok() && process.has_ended_within(KILL_TIMEOUT)
        })
    }

    fn start(&mut self) -> Result<u32, Problem> {
        let log = self.places.log_file.clone();
        let failed = |what: String| Problem::new(exit_code::FAILED, what);
        let mut launched = launch::launch(&self.config.root, &log)
            .map_err(|error| failed(format!("{error} (log file {})", log.display())))?;
        let pid = launched.child.id();
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            thread::sleep(LOOK_AGAIN);
            if self.is_up(&mut launched)? {
                return Ok(pid);
            }
            if Instant::now() >= deadline {
                return Err(failed(format!(
                    "process {pid} has shown no heartbeat within {} s; {} says more",
                    START_TIMEOUT.as_secs(),
                    log.display()
                )));
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
