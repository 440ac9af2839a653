//! The administrator's subcommands: status, start and stop, settings, retention, checks, installation. No argument parser
//! and no printing here: the caller passes a writer in and gets an exit code or a [`Problem`] back.

pub mod check;
mod client;
pub(crate) mod connections;
pub(crate) mod control;
pub(crate) mod healthcheck;
pub(crate) mod install;
pub(crate) mod options;
pub(crate) mod probe;
pub(crate) mod prune;
pub(crate) mod response;
pub mod settings;
pub(crate) mod status;
pub(crate) mod style;
pub(crate) mod talk;
pub(crate) mod token;

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::config::limits::STORE_TIMEOUT;
use crate::platform::exit_code;
use crate::platform::printable::printable_json;
pub use crate::platform::problem::Problem;
use crate::store::{DatabaseConnection, Failure, Pool, Store, StoreError};

/// Writes a text to standard output.
pub(crate) fn say(out: &mut dyn Write, text: &str) -> Result<(), Problem> {
    out.write_all(text.as_bytes()).map_err(Problem::of_output)
}

/// A value in JSON, for programs.
pub(crate) fn json_of(value: &impl Serialize) -> String {
    // Only a map whose keys are no texts cannot be written.
    printable_json(&serde_json::to_string_pretty(value).unwrap_or_default()) + "\n"
}

/// The database of a subcommand.
pub struct Database {
    pool: Pool,
    store: Arc<dyn Store>,
}

impl Database {
    /// The database of an install; connects on first use.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Database {
            pool: Pool::single(Arc::clone(&store)),
            store,
        }
    }

    /// Runs one operation.
    ///
    /// # Errors
    /// The operation failed.
    pub fn run<T>(
        &mut self,
        operation: impl FnOnce(&mut DatabaseConnection) -> crate::store::Result<T>,
    ) -> Result<T, Problem> {
        let result = self.pool.run(operation);
        result.map_err(|error| self.problem(error))
    }

    /// Runs one operation, and repeats it for up to `STORE_TIMEOUT` if the connection is lost or a lock conflicts.
    ///
    /// # Errors
    /// The last failure.
    pub fn run_again<T>(
        &mut self,
        operation: impl FnMut(&mut DatabaseConnection) -> crate::store::Result<T>,
    ) -> Result<T, Problem> {
        let result = self
            .pool
            .run_until(Instant::now() + STORE_TIMEOUT, operation);
        result.map_err(|error| self.problem(error))
    }

    fn problem(&self, error: StoreError) -> Problem {
        let code = match error.failure {
            _ if error.remedy.is_some() && error.is_lasting() => exit_code::CONFIG,
            Failure::Denied => exit_code::CONFIG,
            Failure::Refused | Failure::TooLarge => exit_code::FAILED,
            _ => exit_code::UNAVAILABLE,
        };
        let remedy = error.remedy;
        let remedy = remedy.unwrap_or_else(|| self.store.remedy(error.failure));
        Problem::of(code, error.at(self.store.describe())).with_remedy(remedy)
    }
}
