//! Why a run of the supervisor fails, or a daemon does not come up.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::platform::paths::PathError;
use crate::store::StoreError;

/// What failed.
#[derive(Debug)]
pub enum Error {
    /// Using a file or folder of the service.
    Path(PathError),
    /// Reading or writing the settings.
    Database(StoreError),
    /// Starting the daemon's process, whose output goes to this log.
    Launch(PathBuf, io::Error),
    /// Watching this process.
    Watch(u32, io::Error),
    /// The daemon ended before it was up; the last line of its log, if there is one.
    Ended(ExitStatus, Option<String>),
    /// This process was not up within so many seconds; its log.
    Silent(u32, u64, PathBuf),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Path(error) => write!(f, "{error}; run the supervisor as the web server's user"),
            Error::Database(error) => error.fmt(f),
            Error::Launch(log, error) => write!(f, "{error} (log file {})", log.display()),
            Error::Watch(pid, error) => write!(f, "cannot watch process {pid}: {error}"),
            Error::Ended(_, Some(words)) => f.write_str(words),
            Error::Ended(status, None) => write!(f, "it ended at once ({status})"),
            Error::Silent(pid, seconds, log) => write!(
                f,
                "process {pid} has shown no heartbeat within {seconds} s; {} says more",
                log.display()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Path(error) => Some(error),
            Error::Database(error) => Some(error),
            Error::Launch(_, error) | Error::Watch(_, error) => Some(error),
            Error::Ended(..) | Error::Silent(..) => None,
        }
    }
}

impl From<PathError> for Error {
    fn from(error: PathError) -> Self {
        Error::Path(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Error::Database(error)
    }
}
