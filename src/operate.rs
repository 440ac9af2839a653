//! What an administrator asks of the service from the command line, beside running it: how it is, that it start or
//! stop, its settings, old messages, a look before the first start. No argument parser and no printing here: the
//! caller passes a writer in and gets an exit code or a [`Problem`] back.

pub mod check;
pub mod control;
pub mod probe;
pub mod prune;
pub mod settings;
pub mod status;
pub mod style;
pub mod token;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::exit_code;
use crate::limits::STORE_PATIENCE;
use crate::store::{Connection, Failure, Link, Store, StoreError};

/// Why something was not done: one line for people, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What, why, and what to do about it.
    pub message: String,
    /// See [`exit_code`].
    pub code: u8,
}

impl Problem {
    /// A problem with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            code,
        }
    }

    /// Standard output cannot be written.
    fn of_output(error: &std::io::Error) -> Self {
        Problem::new(
            exit_code::FAILED,
            format!("cannot write to standard output: {error}"),
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The database of a subcommand.
pub struct Database {
    link: Link,
    name: String,
}

impl Database {
    /// That of an install; not connected yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        let name = store.describe();
        Database {
            link: Link::new(store, Arc::new(AtomicBool::new(true))),
            name,
        }
    }

    /// Does one operation.
    ///
    /// # Errors
    /// The operation failed.
    pub fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut dyn Connection) -> crate::store::Result<T>,
    ) -> Result<T, Problem> {
        let result = self.link.run(operation);
        result.map_err(|error| self.problem(&error))
    }

    /// Does one operation that may be repeated where the database is lost or in conflict.
    ///
    /// # Errors
    /// The last failure.
    pub fn run_again<T>(
        &mut self,
        operation: impl FnMut(&mut dyn Connection) -> crate::store::Result<T>,
    ) -> Result<T, Problem> {
        let result = self
            .link
            .run_until(Instant::now() + STORE_PATIENCE, operation);
        result.map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &StoreError) -> Problem {
        let code = match error.failure {
            Failure::Lost | Failure::Conflict => exit_code::UNAVAILABLE,
            Failure::Denied => exit_code::CONFIG,
            Failure::Refused => exit_code::FAILED,
        };
        Problem::new(code, format!("{error} ({})", self.name))
    }
}
