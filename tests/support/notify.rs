//! A service manager's socket, as `NOTIFY_SOCKET` names it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::reaper;

pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    pub fn new() -> Manager {
        Manager::at(&reaper::path("notify"))
    }

    /// At this place, where there may be one of an earlier service; any user may speak to it.
    pub fn at(path: &Path) -> Manager {
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).expect("a socket");
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        Manager {
            socket,
            path: path.to_owned(),
        }
    }

    pub fn address(&self) -> String {
        self.path.display().to_string()
    }

    /// What is said next, if anything is within `limit`.
    pub fn hear(&self, limit: Duration) -> Option<String> {
        let limit = limit.max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(limit))
            .expect("a time-out");
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// Everything that is said up to the first thing that begins so, that included.
    pub fn hear_until(&self, wanted: &str, limit: Duration) -> Vec<String> {
        let end = Instant::now() + limit;
        let mut heard = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(words) = self.hear(left) else {
                panic!("{wanted:?} was not said within {limit:?}, but {heard:?}");
            };
            let is_last = words.starts_with(wanted);
            heard.push(words);
            if is_last {
                return heard;
            }
        }
    }

    /// Everything that is said for so long.
    pub fn hear_for(&self, time: Duration) -> Vec<String> {
        let end = Instant::now() + time;
        let mut heard = Vec::new();
        while let Some(words) = self.hear(end.saturating_duration_since(Instant::now())) {
            heard.push(words);
            if Instant::now() >= end {
                break;
            }
        }
        heard
    }
}
