//! Where an install's service keeps its files, and the folders they lie in (contract: operations.md, "Files").

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::platform::owned_file;
use crate::platform::problem::Problem;

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o775;

/// In `runtime/`.
pub(crate) const PID_FILE: &str = "chat-websocket.pid";
/// In `runtime/`.
pub(crate) const INSPECTION_SOCKET: &str = "chat-websocket.sock";
/// In `runtime/`.
pub(crate) const SUPERVISOR_LOCK: &str = "chat-supervisor.lock";
/// In `logs/`.
pub(crate) const LOG_FILE: &str = "chat-websocket.log";
/// In `logs/`; written by cron's shell.
pub(crate) const SUPERVISOR_LOG: &str = "chat-supervisor.log";

/// What to do if the file system has no locks.
pub(crate) const LOCKS_REMEDY: &str = "pid file and supervisor need locks (flock): let the file system have them (on NFS: lockd runs, and it is \
                                not mounted with nolock), or set STORAGE_PATH to a local folder";

/// The files under `STORAGE_PATH`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// The install's folder, by which its daemon is known.
    pub root: PathBuf,
    /// `runtime/`.
    pub runtime: PathBuf,
    /// `logs/`.
    pub logs: PathBuf,
    /// The daemon's pid file.
    pub pid_file: PathBuf,
    /// Where the running daemon says who is connected.
    pub inspection_socket: PathBuf,
    /// The lock that only one supervisor holds.
    pub supervisor_lock: PathBuf,
    /// The daemon's log.
    pub log_file: PathBuf,
}

impl Paths {
    /// Those of the install at `root` whose storage folder is `storage`. Links are followed once, so that the files
    /// stay in place when a release's folder is swapped for the next one's.
    pub fn of(root: &Path, storage: &Path) -> Self {
        let folder = |name| owned_file::resolve(storage.join(name));
        let (runtime, logs) = (folder("runtime"), folder("logs"));
        Paths {
            root: root.to_owned(),
            pid_file: runtime.join(PID_FILE),
            inspection_socket: runtime.join(INSPECTION_SOCKET),
            supervisor_lock: runtime.join(SUPERVISOR_LOCK),
            log_file: logs.join(LOG_FILE),
            runtime,
            logs,
        }
    }

    /// Makes the folders that are missing.
    ///
    /// # Errors
    /// One of them cannot be made.
    pub fn make_folders(&self) -> Result<(), Problem> {
        for folder in [&self.runtime, &self.logs] {
            owned_file::make_folder(folder, FOLDER_MODE, false)
                .map_err(|error| cannot("make the folder", folder, error))?;
        }
        Ok(())
    }
}

/// The problem that something cannot be done with a file or folder of the storage.
pub(crate) fn cannot(operation: &str, path: &Path, error: io::Error) -> Problem {
    let remedy = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOLCK | Errno::NOSYS | Errno::OPNOTSUPP) => LOCKS_REMEDY,
        Some(Errno::NOSPC | Errno::DQUOT) => "make room on that disk",
        // Refused by `owned_file`, not by the system.
        None if error.kind() == io::ErrorKind::PermissionDenied => "move it away",
        _ => "let the user the service runs as write there, or set STORAGE_PATH",
    };
    Problem::of_path(operation, path, error).with_remedy(remedy)
}
