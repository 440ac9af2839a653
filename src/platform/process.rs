//! Other processes of this machine: whether they live, what they are, and their end. A process is held by a
//! descriptor where the kernel has such (Linux 5.3), so that between a look and a signal no other program can take
//! its number.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process,
};

/// Pause between two looks at a process that is to end.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process that was alive when it was opened.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    handle: Option<OwnedFd>,
}

impl Process {
    /// The process with this number; `None` where there is none, or only a zombie.
    pub fn open(pid: u32) -> Option<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Some(handle),
            Err(Errno::SRCH) => return None,
            // An old kernel, or a sandbox that does not know the call.
            Err(_) => None,
        };
        let process = Process { pid, handle };
        process.is_alive().then_some(process)
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        match &self.handle {
            // It becomes readable at the end.
            Some(handle) => {
                let mut ready = [PollFd::new(handle, PollFlags::IN)];
                poll(&mut ready, Some(&Timespec::default())) != Ok(1)
            }
            None => test_kill_process(self.pid) != Err(Errno::SRCH) && !self.is_zombie(),
        }
    }

    /// Its command line, word by word; empty where it cannot be read.
    pub fn arguments(&self) -> Vec<String> {
        let line = fs::read(self.entry("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line)
            .split_terminator('\0')
            .map(str::to_owned)
            .collect()
    }

    /// Where its working directory is, as far as this user may know.
    pub fn folder(&self) -> Option<PathBuf> {
        fs::read_link(self.entry("cwd")).ok()
    }

    /// The systemd unit or the like that it runs in: the last part of its control group.
    pub fn unit(&self) -> Option<String> {
        unit_of(&fs::read_to_string(self.entry("cgroup")).ok()?)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The process has ended, or is another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.handle {
            Some(handle) => pidfd_send_signal(handle, signal)?,
            None => kill_process(self.pid, signal)?,
        }
        Ok(())
    }

    /// Waits for its end, for `timeout` at most.
    pub fn has_ended_within(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
        true
    }

    fn is_zombie(&self) -> bool {
        let stat = fs::read_to_string(self.entry("stat")).unwrap_or_default();
        // The name in front, in parentheses, may hold anything.
        stat.rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('Z'))
    }

    fn entry(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid.as_raw_nonzero()))
    }
}

/// The numbers of all processes of this machine.
pub fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The processes that hold a socket listening on this port, as far as this user may know.
pub fn listening(port: u16) -> Vec<u32> {
    let sockets: Vec<PathBuf> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| socket_links(&fs::read_to_string(table).unwrap_or_default(), port))
        .collect();
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|link| sockets.contains(&link)))
    };
    match sockets.is_empty() {
        true => Vec::new(),
        false => all().filter(holds).collect(),
    }
}

/// The links in `/proc/PID/fd` of the sockets that listen on a port, from a table such as `/proc/net/tcp`.
fn socket_links(table: &str, port: u16) -> Vec<PathBuf> {
    const LISTEN: &str = "0A";
    let port = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect());
    rows.filter_map(|row: Vec<&str>| match row[..] {
        [_, local, _, LISTEN, _, _, _, _, _, inode, ..] if local.ends_with(&port) => {
            Some(format!("socket:[{inode}]").into())
        }
        _ => None,
    })
    .collect()
}

/// The last part of a path.
pub fn file_name(path: &str) -> &str {
    Path::new(path)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or(path)
}

/// The unit's name in the text of `/proc/PID/cgroup`.
fn unit_of(groups: &str) -> Option<String> {
    groups.lines().find_map(|line| {
        let last = line.rsplit('/').next()?;
        let is_unit = last.ends_with(".service") || last.ends_with(".scope");
        is_unit.then(|| last.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_unit_is_the_last_part_of_its_control_group() {
        for (groups, unit) in [
            ("0::/system.slice/chat.service\n", Some("chat.service")),
            (
                "0::/system.slice/system-chat.slice/chat@desk-one.service\n",
                Some("chat@desk-one.service"),
            ),
            (
                "12:pids:/user.slice\n1:name=systemd:/user.slice/user-0.slice/session-3.scope\n",
                Some("session-3.scope"),
            ),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit_of(groups).as_deref(), unit, "{groups:?}");
        }
    }

    #[test]
    fn the_process_that_listens_on_a_port_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        assert!(listening(port).contains(&std::process::id()));
    }

    #[test]
    fn a_process_is_followed_to_its_end() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("spawned");
        let process = Process::open(child.id()).expect("alive");
        // The command line is that of the test until the child has become `sleep`.
        while process.arguments().first().map(String::as_str) != Some("sleep") {
            thread::yield_now();
        }
        assert_eq!(process.arguments(), ["sleep", "60"]);
        assert_eq!(process.folder(), std::env::current_dir().ok());
        assert!(!process.has_ended_within(Duration::from_millis(1)));
        process.signal(Signal::TERM).expect("allowed");
        assert!(process.has_ended_within(Duration::from_secs(10)));
        assert!(
            Process::open(child.id()).is_none(),
            "a zombie is no process"
        );
        child.wait().expect("waited");
        assert!(process.signal(Signal::TERM).is_err());
    }

    #[test]
    fn without_a_descriptor_it_is_followed_by_looking() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("spawned");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = Process {
            pid: pid.expect("a pid"),
            handle: None,
        };
        assert!(process.is_alive());
        process.signal(Signal::KILL).expect("allowed");
        assert!(process.has_ended_within(Duration::from_secs(10)));
        child.wait().expect("waited");
        assert!(!process.is_alive());
    }

    #[test]
    fn numbers_that_are_no_process_are_none() {
        for pid in [0, 4_194_304, u32::MAX] {
            assert!(Process::open(pid).is_none(), "{pid}");
        }
    }
}
