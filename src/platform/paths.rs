//! Where an install's service keeps its files, and the folders they lie in (contract: operations.md, "Files").

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::platform::owned_file;

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

/// A file or folder that cannot be used.
#[derive(Debug)]
pub struct PathError {
    /// What was to be done with it.
    pub operation: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it cannot be done.
    pub source: io::Error,
}

impl PathError {
    /// For `map_err`.
    pub fn of<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl Fn(E) -> Self {
        move |source| PathError {
            operation,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (operation, path) = (self.operation, self.path.display());
        write!(f, "cannot {operation} {path}: {}", self.source)
    }
}

impl Error for PathError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}

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
    pub fn make_folders(&self) -> Result<(), PathError> {
        for folder in [&self.runtime, &self.logs] {
            owned_file::make_folder(folder, FOLDER_MODE, false)
                .map_err(PathError::of("make the folder", folder))?;
        }
        Ok(())
    }
}
