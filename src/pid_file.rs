//! `storage/runtime/chat-websocket.pid`: the process id in decimal and nothing else, locked for as long as the
//! daemon lives, so that of two that start in the same second one wins (contract: operations.md, "Only one").

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};

/// Words in a command line that mark a process as a chat daemon: this one, or the PHP one that it replaces.
const DAEMON_MARKS: [&str; 2] = [env!("CARGO_PKG_NAME"), "chat-websocket-server.php"];

/// The lock and the file, held by the running daemon.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// What stands in the way of holding the pid file.
#[derive(Debug)]
pub enum Occupied {
    /// A live daemon; it holds the lock, or (the PHP one, which knows no lock) its pid stands in the file.
    ByDaemon {
        /// Its process id, 0 where the file does not say.
        pid: u32,
        /// Whether it holds the lock.
        locked: bool,
    },
    /// The file cannot be opened, locked or read.
    ByError(io::Error),
}

impl PidFile {
    /// Locks the pid file without changing its content.
    ///
    /// # Errors
    /// Another live daemon, or a file that cannot be used.
    pub fn lock(path: &Path) -> Result<Self, Occupied> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(Occupied::ByError)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(Occupied::ByDaemon {
                        pid: read_pid(&mut file).unwrap_or(0),
                        locked: true,
                    });
                }
                Err(error) => return Err(Occupied::ByError(error.into())),
            }
            // The one that held the lock may have removed the file meanwhile; then this lock guards nothing.
            if !is_same_file(&file, path) {
                continue;
            }
            return match read_pid(&mut file) {
                Some(pid) if is_live_daemon(pid) => Err(Occupied::ByDaemon { pid, locked: false }),
                _ => Ok(PidFile {
                    path: path.to_owned(),
                    file,
                }),
            };
        }
    }

    /// Locks the pid file although the process that it names lives; for a daemon whose heartbeat is long over.
    ///
    /// # Errors
    /// As [`PidFile::lock`], but for that process.
    pub fn take_over(path: &Path) -> Result<Self, Occupied> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(Occupied::ByError)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Occupied::ByDaemon {
            pid: 0,
            locked: true,
        })?;
        Ok(PidFile {
            path: path.to_owned(),
            file,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes this process's id.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{}", std::process::id())
    }

    /// Removes the file, where its name still means this file, and gives up the lock.
    pub fn remove(self) {
        if is_same_file(&self.file, &self.path) {
            // A file that is left behind names a dead process, which the next start recognises.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let pid = crate::settings::leading_integer(&text);
    u32::try_from(pid).ok().filter(|&pid| pid > 0)
}

/// Whether `pid` is a live process, another one than this, and a chat daemon. Where `/proc` does not say what a
/// process is, a live one counts as a daemon.
pub fn is_live_daemon(pid: u32) -> bool {
    // In a container every daemon is process 1, the one that left the file included.
    if pid == std::process::id() {
        return false;
    }
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    if test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    match fs::read(format!("/proc/{pid}/cmdline")) {
        // A zombie has no command line.
        Ok(command) => {
            let command = String::from_utf8_lossy(&command);
            DAEMON_MARKS.iter().any(|mark| command.contains(mark))
        }
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("andrea-pid-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_second_lock_finds_the_first_and_its_pid() {
        let path = path("second");
        let mut first = PidFile::lock(&path).expect("free");
        first.write().expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("text"),
            std::process::id().to_string()
        );
        match PidFile::lock(&path) {
            Err(Occupied::ByDaemon { pid, locked: true }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        first.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_names_no_live_daemon_is_free() {
        let path = path("free");
        for content in ["", "abc", "0", "-1", "1", " 1 \n", "1abc", "4194304"] {
            fs::write(&path, content).expect("written");
            PidFile::lock(&path).expect(content).remove();
        }
    }
}
