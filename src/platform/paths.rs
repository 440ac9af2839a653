//! Where an install's service keeps its files, and the folders they lie in (contract: operations.md, "Files").

use std::io;
use std::path::{Path, PathBuf};

use crate::platform::owned_file;

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o775;

/// What to do where the file system knows no locks.
pub const LOCKS_REMEDY: &str = "pid file and supervisor need locks (flock): let the file system have them (on NFS: lockd runs, and it is \
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
    /// Those of the install at `root` whose storage folder is `storage`. Links are followed once: where the folder of a release is swapped for
    /// the next one's, the files stay where they are.
    pub fn of(root: &Path, storage: &Path) -> Self {
        let folder = |name| owned_file::resolve(storage.join(name));
        let (runtime, logs) = (folder("runtime"), folder("logs"));
        Paths {
            root: root.to_owned(),
            pid_file: runtime.join("chat-websocket.pid"),
            inspection_socket: runtime.join("chat-websocket.sock"),
            supervisor_lock: runtime.join("chat-supervisor.lock"),
            log_file: logs.join("chat-websocket.log"),
            runtime,
            logs,
        }
    }

    /// Makes the folders that are missing.
    ///
    /// # Errors
    /// Which folder cannot be made, and why.
    pub fn make_folders(&self) -> Result<(), (PathBuf, io::Error)> {
        for folder in [&self.runtime, &self.logs] {
            owned_file::make_folder(folder, FOLDER_MODE, false)
                .map_err(|error| (folder.clone(), error))?;
        }
        Ok(())
    }
}
