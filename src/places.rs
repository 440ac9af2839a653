//! Where an install's service keeps its files, and the folders they lie in (contract: operations.md, "Files").

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use crate::config::Config;

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o775;

/// The files under `STORAGE_PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// `runtime/`.
    pub runtime: PathBuf,
    /// `logs/`.
    pub logs: PathBuf,
    /// The daemon's pid file.
    pub pid_file: PathBuf,
    /// The lock that only one supervisor holds.
    pub supervisor_lock: PathBuf,
    /// The daemon's log.
    pub log_file: PathBuf,
}

impl Places {
    /// Those of the install that is configured so.
    pub fn of(config: &Config) -> Self {
        let runtime = config.storage.join("runtime");
        let logs = config.storage.join("logs");
        Places {
            pid_file: runtime.join("chat-websocket.pid"),
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
            DirBuilder::new()
                .recursive(true)
                .mode(FOLDER_MODE)
                .create(folder)
                .map_err(|error| (folder.clone(), error))?;
        }
        Ok(())
    }
}
