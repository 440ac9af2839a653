//! Why a configuration cannot be used. The text ends with what to do about it.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::env_file::DotenvError;
use crate::platform::exit_code;
use crate::platform::problem::Problem;

/// What cannot be read, or which value is wrong.
#[derive(Debug)]
pub enum Error {
    /// This `.env` cannot be read, why, and what to do about it.
    Unreadable(PathBuf, io::Error, &'static str),
    /// This `.env` is in UTF-16.
    Utf16(PathBuf),
    /// A line of this `.env` cannot be parsed.
    Line(PathBuf, DotenvError),
    /// This variable of the environment is not UTF-8.
    NotUtf8(String),
    /// This folder is not a helpdesk's, by what is there.
    WrongFolder(&'static str, PathBuf),
    /// This variable is not set, and what to do about it.
    Unset(String, String),
    /// A variable has a value that it cannot have.
    Wrong {
        /// The variable, and where its value comes from.
        origin: String,
        /// What is wrong with the value.
        what: String,
        /// Whether the value comes from the command line.
        is_option: bool,
    },
    /// A variable names a file that cannot be read.
    File {
        /// The variable, and where its value comes from.
        origin: String,
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// Two variables do not go together.
    Conflict(String),
}

impl Error {
    /// Whether the command line is at fault.
    pub(super) fn is_usage(&self) -> bool {
        matches!(self, Error::Wrong { is_option, .. } if *is_option)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unreadable(file, error, remedy) => {
                write!(f, "cannot read {}: {error}; {remedy}", file.display())
            }
            Error::Utf16(file) => write!(
                f,
                "{} is in UTF-16, which the helpdesk cannot read either; save it as UTF-8",
                file.display()
            ),
            Error::Line(file, error) => {
                write!(f, "{}, {error}; correct that line", file.display())
            }
            Error::NotUtf8(name) => write!(
                f,
                "the environment variable {name} has bytes that are no UTF-8; set it in UTF-8, or unset it and put it \
                 into .env"
            ),
            Error::WrongFolder(found, folder) => write!(
                f,
                "{found} in {}; is this the helpdesk's folder? Name it with --root DIR",
                folder.display()
            ),
            Error::Unset(name, remedy) => write!(f, "{name} is not set; {remedy}"),
            Error::Wrong { origin, what, .. } => write!(f, "{origin} {what}"),
            Error::File {
                origin,
                path,
                source,
            } => write!(
                f,
                "{origin} names {}, which cannot be read: {source}; correct the path, or let the user the service runs \
                 as read it",
                path.display()
            ),
            Error::Conflict(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Unreadable(_, error, _) => Some(error),
            Error::Line(_, error) => Some(error),
            Error::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let code = match error.is_usage() {
            true => exit_code::USAGE,
            false => exit_code::CONFIG,
        };
        Problem::of(code, error)
    }
}
