//! One run: takes the lock, looks, and does to the real world what was decided.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use super::launch::{self, Launched};
use super::{Observed, World, carry_out, decide};
use crate::config::{Config, listen_address};
use crate::exit_code;
use crate::limits::STORE_PATIENCE;
use crate::net;
use crate::pid_file::{self, Holder};
use crate::places::Places;
use crate::settings::{Rows, key};
use crate::store::{Link, Store};

/// How long a daemon may take to end; its own limit is below that.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end a process that it was told to kill.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// How long a daemon may take to show its heartbeat.
const START_PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the address may take to answer.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// Does one run for the install at `root`, with its lines on `out`; the exit code.
pub fn run(root: &Path, config: &Config, store: Arc<dyn Store>, out: &mut dyn Write) -> u8 {
    let mut supervisor = Supervisor {
        root,
        config,
        places: Places::of(config),
        link: Link::new(store, Arc::new(AtomicBool::new(true))),
        out,
    };
    supervisor.supervise().unwrap_or_else(|reason| {
        supervisor.say(&format!("ERROR: {reason}"));
        exit_code::FAILED
    })
}

/// The hidden subcommand: leaves the caller's session and runs the program with these arguments. Returns only
/// where that failed.
pub fn serve_detached(arguments: &[OsString]) -> io::Error {
    launch::detach_and_become(arguments)
}

struct Supervisor<'a> {
    root: &'a Path,
    config: &'a Config,
    places: Places,
    link: Link,
    out: &'a mut dyn Write,
}

impl Supervisor<'_> {
    fn supervise(&mut self) -> Result<u8, String> {
        let describe = |what: &str, path: &Path, error: &io::Error| {
            format!(
                "cannot {what} {}: {error}; run the supervisor as the web server's user",
                path.display()
            )
        };
        self.places
            .make_folders()
            .map_err(|(folder, error)| describe("make the folder", &folder, &error))?;
        // Closed in the daemon that is started: it must not keep later runs from their work.
        let path = self.places.supervisor_lock.clone();
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| describe("open", &path, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(exit_code::OK),
            Err(error) => return Err(describe("lock", &path, &error.into())),
        }
        let rows = self.rows()?;
        let holder = pid_file::holder(&self.places.pid_file)
            .map_err(|error| describe("read", &self.places.pid_file, &error))?;
        let age = self
            .config
            .clock
            .seconds_since(rows.text(key::LAST_SEEN_AT, ""));
        carry_out(decide(&Observed::new(&rows, holder, age)), self)
    }

    fn rows(&mut self) -> Result<Rows, String> {
        self.link
            .run(|store| store.settings())
            .map_err(|error| error.to_string())
    }

    /// Why the daemon that was started does not run, or `None` while that is open, or that it does.
    fn look_at(&mut self, launched: &mut Launched) -> Result<bool, String> {
        let pid = launched.child.id();
        let ended = launched
            .child
            .try_wait()
            .map_err(|error| format!("cannot watch process {pid}: {error}"))?;
        if let Some(status) = ended {
            return Err(launched
                .last_words()
                .unwrap_or_else(|| format!("it ended at once ({status})")));
        }
        let rows = self.rows()?;
        let shows = rows.text(key::PID, "") == pid.to_string()
            && rows.text(key::STATUS, "") == "running"
            && self
                .config
                .clock
                .seconds_since(rows.text(key::LAST_SEEN_AT, ""))
                .is_some_and(|age| age <= START_PATIENCE.as_secs() as i64 + 1);
        // The first heartbeat comes before the address is bound.
        let (host, port, _) = listen_address(self.config, &rows);
        Ok(shows && net::connect(&host, port, CONNECT_PATIENCE).is_ok())
    }
}

impl World for Supervisor<'_> {
    fn say(&mut self, line: &str) {
        // Nobody is left to tell where standard output is gone.
        let _ = writeln!(self.out, "[{}] {line}", self.config.clock.now_text());
    }

    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), String> {
        self.link
            .run_until(Instant::now() + STORE_PATIENCE, |store| {
                store.update_settings(rows)
            })
            .map_err(|error| error.to_string())
    }

    fn terminate(&mut self, holder: Holder) -> bool {
        match pid_file::process_of(holder, &self.places.pid_file) {
            Some(process) => {
                if let Err(error) = process.signal(Signal::TERM) {
                    self.say(&format!("cannot signal process {}: {error}", holder.pid));
                }
                process.ended_within(STOP_PATIENCE)
            }
            None => self.is_gone_within(STOP_PATIENCE),
        }
    }

    fn kill(&mut self, holder: Holder) -> bool {
        pid_file::process_of(holder, &self.places.pid_file).is_some_and(|process| {
            process.signal(Signal::KILL).is_ok() && process.ended_within(KILL_PATIENCE)
        })
    }

    fn start(&mut self) -> Result<u32, String> {
        let log = &self.places.log_file;
        let mut launched = launch::launch(self.root, log)
            .map_err(|error| format!("{error} (log file {})", log.display()))?;
        let pid = launched.child.id();
        let deadline = Instant::now() + START_PATIENCE;
        let mut seen_before = false;
        loop {
            thread::sleep(LOOK_AGAIN);
            // Seen twice, because another program may be what answers at an address that cannot be bound.
            let seen = self.look_at(&mut launched)?;
            if seen && seen_before {
                return Ok(pid);
            }
            seen_before = seen;
            if Instant::now() >= deadline {
                return Err(format!(
                    "process {pid} has shown no heartbeat within {} s; {} says more",
                    START_PATIENCE.as_secs(),
                    self.places.log_file.display()
                ));
            }
        }
    }
}

impl Supervisor<'_> {
    /// Whether a daemon that cannot be signalled ends by itself.
    fn is_gone_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if pid_file::holder(&self.places.pid_file).is_ok_and(|holder| holder.is_none()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}
