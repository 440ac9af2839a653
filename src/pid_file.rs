//! `storage/runtime/chat-websocket.pid`: the process id in decimal and nothing else, locked for as long as the
//! daemon lives, so that of two that start in the same second one wins (contract: operations.md, "Only one").
//!
//! The lock is what says that a daemon of this install lives, also where its number means nothing here (another
//! container) or has come to mean another program. The PHP daemon knows no lock; it is known by its command line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::places::FILE_MODE;
use crate::process::{Process, file_name};

/// The PHP daemon that this one takes the place of.
const PHP_SCRIPT: &str = "chat-websocket-server.php";
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
    /// Another live daemon, or a file that cannot be used. A lock of somebody who is only looking ([`holder`])
    /// counts as a daemon's; it is gone in a moment, so a pid that is no [`is_live_daemon`]'s is worth another try.
    pub fn lock(path: &Path) -> Result<Self, Occupied> {
        loop {
            let mut file = open_or_make(path).map_err(Occupied::ByError)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let pid = read_pid(&mut file).unwrap_or(0);
                    return Err(Occupied::ByDaemon { pid, locked: true });
                }
                Err(error) => return Err(Occupied::ByError(error.into())),
            }
            // The one that held the lock may have removed the file meanwhile; then this lock guards nothing.
            if !is_same_file(&file, path) {
                continue;
            }
            return match read_pid(&mut file) {
                Some(pid) if is_php_daemon(pid, path) => {
                    Err(Occupied::ByDaemon { pid, locked: false })
                }
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
        let file = open_or_make(path).map_err(Occupied::ByError)?;
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

/// A live daemon of this install, this one or the PHP one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What the pid file says; 0 where it says nothing.
    pub pid: u32,
    /// Whether that number is known to be the daemon's, so that it may be signalled. It is not while a daemon has
    /// locked the file and not yet written it, nor where the daemon runs in another container.
    pub verified: bool,
}

/// Who holds the pid file. Makes and changes nothing.
///
/// # Errors
/// The file is there and cannot be read.
pub fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Shared, so that two who look do not take each other for a daemon; gone with the file at the end.
    let locked = match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => false,
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Err(error) => return Err(error.into()),
    };
    let pid = read_pid(&mut file).unwrap_or(0);
    let verified = match locked {
        true => is_live_daemon(pid),
        false => is_php_daemon(pid, path),
    };
    Ok((locked || verified).then_some(Holder { pid, verified }))
}

/// The process of a holder, if it is one that may be signalled and still is what it was. The descriptor is taken
/// before the look, so what was looked at is what gets the signal.
pub fn process_of(holder: Holder, path: &Path) -> Option<Process> {
    let process = Process::open(holder.pid)?;
    let now = self::holder(path).ok().flatten()?;
    (holder.verified && now == holder).then_some(process)
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)
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

/// Whether `pid` is another live process of this program.
pub fn is_live_daemon(pid: u32) -> bool {
    // In a container every daemon is process 1, the one that left the file included.
    if pid == std::process::id() {
        return false;
    }
    let Some(process) = Process::open(pid) else {
        return false;
    };
    let own = std::env::args().next().unwrap_or_default();
    process.arguments().first().is_some_and(|program| {
        let program = file_name(program);
        program.starts_with(env!("CARGO_PKG_NAME")) || program == file_name(&own)
    })
}

/// Whether `pid` is a live PHP daemon, and not one whose own pid file says so in another install.
fn is_php_daemon(pid: u32, path: &Path) -> bool {
    let Some(process) = Process::open(pid) else {
        return false;
    };
    let arguments = process.arguments();
    let Some(script) = arguments.iter().find(|one| file_name(one) == PHP_SCRIPT) else {
        return false;
    };
    let script = process.folder().unwrap_or_default().join(script);
    // INSTALL/bin/SCRIPT; where that leads nowhere, nothing speaks against this install.
    let Some(other) = script
        .parent()
        .and_then(Path::parent)
        .map(|install| install.join("storage/runtime/chat-websocket.pid"))
    else {
        return true;
    };
    match File::open(&other) {
        Ok(mut file) => is_same_file(&file, path) || read_pid(&mut file) != Some(pid),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

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
            assert_eq!(holder(&path).expect("readable"), None, "{content:?}");
            PidFile::lock(&path).expect(content).remove();
        }
    }

    #[test]
    fn a_look_neither_makes_the_file_nor_hides_it_from_another_look() {
        let path = path("look");
        assert_eq!(holder(&path).expect("no file is no error"), None);
        assert!(!path.exists());
        fs::write(&path, "4194304").expect("written");
        let looking = File::open(&path).expect("open");
        flock(&looking, FlockOperation::NonBlockingLockShared).expect("free");
        assert_eq!(holder(&path).expect("readable"), None, "two may look");
        // A process that another test starts just now has the file open as well, until it runs its program.
        flock(&looking, FlockOperation::Unlock).expect("unlock");
        PidFile::lock(&path).expect("free again").remove();
    }

    #[test]
    fn a_lock_whose_number_means_nothing_here_is_a_daemon_that_is_not_signalled() {
        let path = path("elsewhere");
        let held = PidFile::lock(&path).expect("free");
        let unverified = |pid| {
            Some(Holder {
                pid,
                verified: false,
            })
        };
        assert_eq!(holder(&path).expect("readable"), unverified(0));
        let mut other = Command::new("sleep").arg("60").spawn().expect("spawned");
        fs::write(&path, other.id().to_string()).expect("written");
        let seen = holder(&path).expect("readable");
        assert_eq!(seen, unverified(other.id()), "a program of another name");
        assert!(process_of(seen.expect("held"), &path).is_none());
        other.kill().expect("killed");
        other.wait().expect("waited");
        held.remove();
    }

    #[test]
    fn the_php_daemon_is_known_by_its_script_and_only_in_its_own_install() {
        let [one, two] = ["one", "two"].map(|name| {
            let root = path(name);
            fs::create_dir_all(root.join("storage/runtime")).expect("folder");
            fs::create_dir_all(root.join("bin")).expect("folder");
            fs::write(root.join("bin").join(PHP_SCRIPT), "read wait").expect("script");
            root
        });
        let mut daemon = Command::new("sh")
            .arg(format!("bin/{PHP_SCRIPT}"))
            .current_dir(&one)
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("spawned");
        let process = Process::open(daemon.id()).expect("alive");
        while process.arguments().len() != 2 {
            std::thread::yield_now();
        }
        let pid_file = |root: &Path| root.join("storage/runtime/chat-websocket.pid");
        for root in [&one, &two] {
            fs::write(pid_file(root), daemon.id().to_string()).expect("written");
        }
        let verified = Holder {
            pid: daemon.id(),
            verified: true,
        };
        assert_eq!(holder(&pid_file(&one)).expect("readable"), Some(verified));
        assert_eq!(holder(&pid_file(&two)).expect("readable"), None);
        assert!(process_of(verified, &pid_file(&one)).is_some());
        let refused = PidFile::lock(&pid_file(&one));
        assert!(
            matches!(refused, Err(Occupied::ByDaemon { pid, locked: false }) if pid == daemon.id()),
            "{refused:?}"
        );
        drop(daemon.stdin.take());
        daemon.wait().expect("waited");
        assert_eq!(holder(&pid_file(&one)).expect("readable"), None);
        for root in [one, two] {
            fs::remove_dir_all(root).expect("clean up");
        }
    }
}
