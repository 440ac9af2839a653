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
    /// What and why, and perhaps what to do about it.
    pub message: String,
    /// What to do about it, where the message does not say so.
    pub remedy: Option<&'static str>,
    /// See [`exit_code`].
    pub code: u8,
}

impl Problem {
    /// A problem with its exit code.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Problem {
            message: message.into(),
            remedy: None,
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
        f.write_str(&self.message)?;
        match self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

/// The database of a subcommand.
pub struct Database {
    link: Link,
    store: Arc<dyn Store>,
}

impl Database {
    /// That of an install; not connected yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Database {
            link: Link::new(Arc::clone(&store), Arc::new(AtomicBool::new(true))),
            store,
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
        Problem {
            remedy: Some(self.store.remedy(error.failure)),
            ..Problem::new(code, format!("{error} ({})", self.store.describe()))
        }
    }
}
