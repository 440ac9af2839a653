//! `storage/runtime/chat-websocket.pid`: the process id in decimal and nothing else, locked for as long as the
//! daemon lives, so that of two that start in the same second one wins (contract: operations.md, "Only one").
//!
//! The lock shows that a daemon of this install lives, even if its pid means nothing here (another container) or now
//! belongs to another program. The PHP daemon takes no lock; its command line identifies it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::platform::number;
use crate::platform::owned_file::{self, Use, is_named};
use crate::platform::paths::Paths;
use crate::platform::process::{Process, file_name};

/// The PHP daemon that this one replaces.
const PHP_SCRIPT: &str = "chat-websocket-server.php";
/// The lock and the file, held by the running daemon.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// Why the pid file cannot be held.
#[derive(Debug)]
pub enum Occupied {
    /// A live daemon; it holds the lock, or (the PHP one, which knows no lock) its pid stands in the file.
    ByDaemon {
        /// Its process id, 0 where the file does not say.
        pid: u32,
        /// Whether it holds the lock.
        is_locked: bool,
    },
    /// The file cannot be opened, locked or read.
    ByError(io::Error),
}

impl PidFile {
    /// Locks the pid file without changing its content.
    ///
    /// # Errors
    /// Another live daemon, or a file that cannot be used. A process that only inspects the file ([`holder`]) also holds
    /// the lock for a moment; so if the pid is no [`is_live_daemon`], try again.
    pub fn lock(places: &Paths) -> Result<Self, Occupied> {
        let mut locked = PidFile::take_over(&places.pid_file)?;
        match read_pid(&mut locked.file) {
            // Of any install: the caller checks the heartbeat, and only a process to be signalled must be ours.
            Some(pid) if is_php(pid) => Err(Occupied::ByDaemon {
                pid,
                is_locked: false,
            }),
            _ => Ok(locked),
        }
    }

    /// Locks the pid file although the process that it names lives; for a daemon whose last heartbeat is old.
    ///
    /// # Errors
    /// As [`PidFile::lock`], but for that process.
    pub fn take_over(path: &Path) -> Result<Self, Occupied> {
        let path = path.to_owned();
        loop {
            let mut file = owned_file::open(&path, Use::Change).map_err(Occupied::ByError)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if is_named(&file, &path) => return Ok(PidFile { path, file }),
                // The one that held the lock has removed the file meanwhile; this lock guards nothing.
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let (pid, is_locked) = (read_pid(&mut file).unwrap_or(0), true);
                    return Err(Occupied::ByDaemon { pid, is_locked });
                }
                Err(error) => return Err(Occupied::ByError(error.into())),
            }
        }
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

    /// Removes the file, if its path still names it.
    pub fn remove(&self) {
        // A file that is left behind names a dead process, which the next start recognises.
        owned_file::remove(&self.file, &self.path);
    }
}

/// A live daemon of this install, this one or the PHP one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What the pid file says; 0 where it says nothing.
    pub pid: u32,
    /// Whether that number is known to be the daemon's, so that it may be signalled. It is not while a daemon has
    /// locked the file and not yet written it, nor where the daemon runs in another container.
    pub is_verified: bool,
}

/// Who holds the pid file. Makes and changes nothing.
///
/// # Errors
/// The file is there and cannot be read.
pub fn holder(places: &Paths) -> io::Result<Option<Holder>> {
    let mut file = match owned_file::open(&places.pid_file, Use::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Shared, so that two inspections do not take each other for a daemon. Released at once: a process that another thread
    // starts just now has the file open as well, until it runs its program.
    let is_locked = match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {
            flock(&file, FlockOperation::Unlock)?;
            false
        }
        Err(rustix::io::Errno::WOULDBLOCK) => true,
        Err(error) => return Err(error.into()),
    };
    let pid = read_pid(&mut file).unwrap_or(0);
    let is_verified = match is_locked {
        true => is_own_daemon(pid, places),
        false => is_php_daemon(pid, places),
    };
    Ok((is_locked || is_verified).then_some(Holder { pid, is_verified }))
}

/// The process of a holder, if it is one that may be signalled and still is what it was. The descriptor is taken
/// before the look, so what was looked at is what gets the signal.
pub fn process_of(holder: Holder, places: &Paths) -> Option<Process> {
    let process = Process::open(holder.pid)?;
    let now = self::holder(places).ok().flatten()?;
    (holder.is_verified && now == holder).then_some(process)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text).ok()?;
    let pid = number::leading_integer(&text);
    u32::try_from(pid).ok().filter(|&pid| pid > 0)
}

/// Whether `pid` is another live process of this program.
pub fn is_live_daemon(pid: u32) -> bool {
    is_running(pid).is_some()
}

/// The process `pid`, if it is another one of this program that serves.
fn is_running(pid: u32) -> Option<Process> {
    // In a container every daemon is process 1, the one that left the file included.
    if pid == std::process::id() {
        return None;
    }
    let process = Process::open(pid)?;
    let own = std::env::args().next().unwrap_or_default();
    let arguments = process.arguments();
    let [program, command, ..] = &arguments[..] else {
        return None;
    };
    let program = file_name(program);
    let is_named_so = program == env!("CARGO_PKG_NAME") || program == file_name(&own);
    (is_named_so && ["serve", "demo"].contains(&command.as_str())).then_some(process)
}

/// Whether `pid` is another live daemon of this install: another program may be named alike and hold the lock.
fn is_own_daemon(pid: u32, places: &Paths) -> bool {
    let Some(process) = is_running(pid) else {
        return false;
    };
    let arguments = process.arguments();
    // `--root DIR` or `--root=DIR`.
    let mut words = arguments.iter().flat_map(|word| word.splitn(2, '='));
    let is_given = words.any(|word| ["--root", "--data"].contains(&word));
    let folder = words.next().filter(|_| is_given).unwrap_or(".");
    may_be_at(&process, Path::new(folder), places)
}

/// The process `pid`, if it is a PHP daemon, and its script.
fn php_daemon(pid: u32) -> Option<(Process, String)> {
    let process = Process::open(pid)?;
    let mut arguments = process.arguments().into_iter();
    let script = arguments.find(|one| file_name(one) == PHP_SCRIPT)?;
    Some((process, script))
}

/// Whether `pid` is a live PHP daemon, of whichever install.
pub fn is_php(pid: u32) -> bool {
    php_daemon(pid).is_some()
}

/// A PHP daemon of this install, whatever the pid file says. An editor with its script open does not count.
pub fn php_daemon_of(paths: &Paths) -> Option<u32> {
    let is_known = |(process, script): &(Process, String)| {
        let program = process.arguments().into_iter().next();
        // If its working directory cannot be read, only an absolute path of its script tells the install.
        program.is_some_and(|program| file_name(&program).starts_with("php"))
            && (Path::new(script).is_absolute() || process.folder().is_some())
    };
    crate::platform::process::all()
        .find(|pid| php_daemon(*pid).as_ref().is_some_and(is_known) && is_php_daemon(*pid, paths))
}

/// Whether `pid` is a live PHP daemon of this install: its script stands in `bin/` there.
fn is_php_daemon(pid: u32, places: &Paths) -> bool {
    php_daemon(pid).is_some_and(|(process, script)| {
        let bin = Path::new(&script).parent();
        bin.is_some_and(|bin| may_be_at(&process, &bin.join(".."), places))
    })
}

/// Whether a folder, as a process sees it, can be this install, or another release of it with the same storage. If that is
/// unknown, it can: it is another user's process, which this one cannot signal anyway.
fn may_be_at(process: &Process, folder: &Path, places: &Paths) -> bool {
    let folder = match process.folder() {
        _ if folder.is_absolute() => folder.to_owned(),
        Some(working) => working.join(folder),
        None => return true,
    };
    let is_same = |one: &Path, other: &Path| match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.ino() == other.ino() && one.dev() == other.dev(),
        _ => false,
    };
    let its_file = folder.join("storage/runtime/chat-websocket.pid");
    is_same(&folder, &places.root) || is_same(&its_file, &places.pid_file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("andrea-pid-{}-{name}", std::process::id()))
    }

    fn places(pid_file: &Path) -> Paths {
        Paths {
            pid_file: pid_file.to_owned(),
            ..Paths::default()
        }
    }

    #[test]
    fn a_second_lock_finds_the_first_and_its_pid() {
        let path = path("second");
        let mut first = PidFile::lock(&places(&path)).expect("free");
        first.write().expect("written");
        assert_eq!(
            fs::read_to_string(&path).expect("text"),
            std::process::id().to_string()
        );
        match PidFile::lock(&places(&path)) {
            Err(Occupied::ByDaemon {
                pid,
                is_locked: true,
            }) => assert_eq!(pid, std::process::id()),
            other => panic!("{other:?}"),
        }
        first.remove();
        assert!(!path.exists());
    }

    #[test]
    fn of_those_that_start_while_others_stop_one_at_a_time_holds_it() {
        let path = path("starts-and-stops");
        let places = places(&path);
        let holders = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let Ok(held) = PidFile::lock(&places) else {
                            continue;
                        };
                        assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        holders.fetch_sub(1, Ordering::SeqCst);
                        held.remove();
                    }
                });
            }
        });
        assert!(!path.exists());
    }

    #[test]
    fn what_names_no_live_daemon_is_free() {
        let path = path("free");
        for content in ["", "abc", "0", "-1", "1", " 1 \n", "1abc", "4194304"] {
            fs::write(&path, content).expect("written");
            assert_eq!(
                holder(&places(&path)).expect("readable"),
                None,
                "{content:?}"
            );
            PidFile::lock(&places(&path)).expect(content).remove();
        }
    }

    #[test]
    fn a_look_neither_makes_the_file_nor_hides_it_from_another_look() {
        let path = path("look");
        assert_eq!(holder(&places(&path)).expect("no file is no error"), None);
        assert!(!path.exists());
        fs::write(&path, "4194304").expect("written");
        let looking = File::open(&path).expect("open");
        flock(&looking, FlockOperation::NonBlockingLockShared).expect("free");
        assert_eq!(
            holder(&places(&path)).expect("readable"),
            None,
            "two may look"
        );
        flock(&looking, FlockOperation::Unlock).expect("unlock");
        PidFile::lock(&places(&path)).expect("free again").remove();
    }

    #[test]
    fn a_lock_whose_number_means_nothing_here_is_a_daemon_that_is_not_signalled() {
        let path = path("elsewhere");
        let held = PidFile::lock(&places(&path)).expect("free");
        let unverified = |pid| {
            Some(Holder {
                pid,
                is_verified: false,
            })
        };
        assert_eq!(holder(&places(&path)).expect("readable"), unverified(0));
        let mut other = Command::new("sleep").arg("60").spawn().expect("spawned");
        fs::write(&path, other.id().to_string()).expect("written");
        let seen = holder(&places(&path)).expect("readable");
        assert_eq!(seen, unverified(other.id()), "a program of another name");
        assert!(process_of(seen.expect("held"), &places(&path)).is_none());
        other.kill().expect("killed");
        other.wait().expect("waited");
        held.remove();
    }

    #[test]
    fn s15_a_program_of_our_name_that_holds_the_lock_is_ours_only_in_this_install() {
        let elsewhere = path("namesake");
        fs::create_dir_all(&elsewhere).expect("folder");
        let program = elsewhere.join(env!("CARGO_PKG_NAME"));
        fs::copy("/bin/sh", &program).expect("copied");
        fs::write(elsewhere.join("serve"), "read wait").expect("script");
        let pid_file = path("namesake.pid");
        let at = |root: &Path| Paths {
            root: root.to_owned(),
            ..places(&pid_file)
        };
        let own = at(&std::env::temp_dir());
        let held = PidFile::lock(&own).expect("free");
        for (name, argument, place, is_ours) in [
            (&program, "", &own, false),
            (&program, "--root=/", &own, false),
            (&program, "", &at(&elsewhere), true),
            (
                &elsewhere.join("andrea-chat-websocket-2"),
                "",
                &at(&elsewhere),
                false,
            ),
        ] {
            if !name.exists() {
                fs::copy("/bin/sh", name).expect("copied");
            }
            let mut other = Command::new(name)
                .args(["serve", argument])
                .current_dir(&elsewhere)
                .stdin(std::process::Stdio::piped())
                .spawn()
                .expect("spawned");
            let process = Process::open(other.id()).expect("alive");
            while process
                .arguments()
                .get(1)
                .is_none_or(|word| word != "serve")
            {
                std::thread::yield_now();
            }
            fs::write(&pid_file, other.id().to_string()).expect("written");
            let seen = holder(place).expect("readable").expect("held");
            assert_eq!(seen.is_verified, is_ours, "{name:?} {argument:?}");
            assert_eq!(process_of(seen, place).is_some(), is_ours);
            drop(other.stdin.take());
            other.wait().expect("waited");
        }
        held.remove();
        fs::remove_dir_all(elsewhere).expect("clean up");
    }

    #[test]
    fn s15_the_php_daemon_is_known_by_its_script_and_only_in_its_own_install() {
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
        let places = |root: &Path| Paths {
            root: root.to_owned(),
            pid_file: root.join("storage/runtime/chat-websocket.pid"),
            ..Paths::default()
        };
        for root in [&one, &two] {
            let pid_file = places(root).pid_file;
            fs::write(pid_file, daemon.id().to_string()).expect("written");
        }
        let verified = Holder {
            pid: daemon.id(),
            is_verified: true,
        };
        assert_eq!(holder(&places(&one)).expect("readable"), Some(verified));
        assert_eq!(holder(&places(&two)).expect("readable"), None);
        // Also where nothing else says whose it is.
        fs::remove_file(places(&one).pid_file).expect("removed");
        assert_eq!(holder(&places(&two)).expect("readable"), None);
        fs::write(places(&one).pid_file, daemon.id().to_string()).expect("written");
        assert!(process_of(verified, &places(&one)).is_some());
        let refused = PidFile::lock(&places(&one));
        assert!(
            matches!(refused, Err(Occupied::ByDaemon { pid, is_locked: false }) if pid == daemon.id()),
            "{refused:?}"
        );
        drop(daemon.stdin.take());
        daemon.wait().expect("waited");
        assert_eq!(holder(&places(&one)).expect("readable"), None);
        for root in [one, two] {
            fs::remove_dir_all(root).expect("clean up");
        }
    }
}
