//! In place of all that pushes, in a build without the feature `push`.

use std::io;
use std::time::Instant;

use super::{Options, Queue};
use crate::clock::AppClock;
use crate::config::ConfigError;
use crate::store::Link;

/// There is none.
#[derive(Debug)]
pub enum Starter {}

/// There is none.
#[derive(Debug)]
pub enum Worker {}

/// Nothing pushes.
///
/// # Errors
/// None.
pub fn prepare(_: &Options) -> Result<Option<(Queue, Starter)>, ConfigError> {
    Ok(None)
}

impl Starter {
    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub fn start(self, _: Link, _: AppClock, _: String) -> io::Result<Worker> {
        match self {}
    }
}

impl Worker {
    /// Cannot be called.
    pub fn finish_by(&self, _: Instant) {
        match *self {}
    }

    /// Cannot be called.
    pub fn wait(&self, _: Instant) {
        match *self {}
    }
}
