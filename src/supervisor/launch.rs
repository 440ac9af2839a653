//! Starts a daemon that outlives the supervisor: in its own session, without cron's descriptors, its output in the log.
//! Safe Rust cannot make a child call `setsid`, so the child is this program again, with a hidden subcommand that calls
//! it and then becomes `serve`.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::platform::owned_file::{self, Use};

/// The hidden subcommand.
pub const DETACHED: &str = "__detached";
/// Option by which `status` recognises, in the daemon's command line, that the supervisor started it.
pub const SUPERVISED: &str = "--supervised";
/// Closes descriptors that cron or a wrapper such as `flock` has left open: a daemon that inherited a lock would block
/// every later run. Safe Rust cannot close a descriptor that it did not open; a shell can, up to 9.
const CLOSE_OTHERS: &str = r#"for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done; exec "$@""#;
/// Variables of a service manager that are meant only for the process that it started itself.
const NOT_FOR_THE_DAEMON: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
/// Limits what the C library caches per thread and for reuse. Blocks of 1 MiB and more go back to the system when they are
/// freed; the buffers of a database connection have 4 MiB each. The units in `contrib/` set the same.
pub const ALLOCATOR: [(&str, &str); 2] = [
    ("MALLOC_ARENA_MAX", "2"),
    (
        "GLIBC_TUNABLES",
        "glibc.malloc.tcache_count=0:glibc.malloc.mmap_threshold=1048576:glibc.malloc.trim_threshold=2097152",
    ),
];
/// How much of the log's end is read.
const LOG_TAIL_BYTES: u64 = 16 * 1024;

/// A daemon that was started and is watched until it is up.
pub(super) struct Launched {
    /// The process; its id is the daemon's.
    pub child: Child,
    log: PathBuf,
    log_start: u64,
}

/// Starts `serve` for the install at `root`.
///
/// # Errors
/// The log cannot be opened or the process cannot be made.
pub(super) fn launch(root: &Path, log: &Path) -> io::Result<Launched> {
    let output = owned_file::append_log(log)?;
    let log_start = output.metadata()?.len();
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args([DETACHED, "serve", SUPERVISED, "--root"])
        .arg(root)
        .current_dir(root)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    for name in NOT_FOR_THE_DAEMON {
        command.env_remove(name);
    }
    for (name, value) in ALLOCATOR {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    Ok(Launched {
        child: command.spawn()?,
        log: log.to_owned(),
        log_start,
    })
}

impl Launched {
    /// The last line of the log since the start, as the reason of a failure.
    pub(super) fn last_words(&self) -> Option<String> {
        let lines = log_end(&self.log, self.log_start)?;
        // The time stamp [YYYY-MM-DD HH:MM:SS] is not part of the reason.
        let mut words = lines.iter().rev().map(|line| match line.split_once("] ") {
            Some((stamp, words)) if stamp.starts_with('[') => words,
            _ => line,
        });
        let last = words.next()?;
        // The contract fixes this line, so the remedy is on the next one; the reason needs both.
        let recorded = words
            .next()
            .filter(|line| line.starts_with("failed to listen on "));
        Some(match recorded {
            Some(what) => format!("{what}; {last}"),
            None => last.to_owned(),
        })
    }
}

/// The last lines of a log that are not blank, from its byte `start` on.
pub(crate) fn log_end(log: &Path, start: u64) -> Option<Vec<String>> {
    let mut file = owned_file::open(log, Use::Read).ok()?;
    let length = file.metadata().ok()?.len();
    // If it was rotated, everything in the present file is newer.
    let start = if start > length { 0 } else { start };
    let begin = start.max(length.saturating_sub(LOG_TAIL_BYTES));
    file.seek(SeekFrom::Start(begin)).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The first line may be cut off at its beginning.
    let lines = text.lines().skip(usize::from(begin > start));
    let lines = lines.filter(|line| !line.trim().is_empty());
    Some(lines.map(str::to_owned).collect())
}

/// The hidden subcommand: leaves the caller's session and becomes the program with these arguments. Returns only if
/// that fails.
pub fn serve_detached(arguments: &[OsString]) -> io::Error {
    // Fails only for the leader of a process group: not for the supervisor's child, and without harm in a shell.
    let _ = rustix::process::setsid();
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    // Returns only if there is no shell.
    let _ = Command::new("/bin/sh")
        .args(["-c", CLOSE_OTHERS, "sh"])
        .arg(&program)
        .args(arguments)
        .exec();
    Command::new(program).args(arguments).exec()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_words_are_those_since_the_start() {
        let log = std::env::temp_dir().join(format!("andrea-launch-{}.log", std::process::id()));
        let words = |text: &str, log_start| {
            fs::write(&log, text).expect("written");
            let child = Command::new("true").spawn().expect("spawned");
            let mut launched = Launched {
                child,
                log: log.clone(),
                log_start,
            };
            launched.child.wait().expect("waited");
            launched.last_words()
        };
        let stamp = "[2026-05-01 10:00:00]";
        let old = format!("{stamp} old\n");
        let start = old.len() as u64;
        assert_eq!(words(&old, start), None);
        let new = format!("{old}{stamp} one\n{stamp} two] 2\n\n");
        assert_eq!(words(&new, start).as_deref(), Some("two] 2"));
        let raw = format!("{old}cannot execute");
        assert_eq!(words(&raw, start).as_deref(), Some("cannot execute"));
        assert_eq!(words(&old, 1000).as_deref(), Some("old"), "rotated");
        let long = format!("{old}{stamp} first\n{}{stamp} last\n", "x\n".repeat(20_000));
        assert_eq!(words(&long, start).as_deref(), Some("last"));
        fs::remove_file(&log).expect("clean up");
    }
}
