//! Replaces Web Push in a build without the feature `push`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::Queue;
use crate::config::PushOptions;
use crate::platform::clock::AppClock;
use crate::platform::problem::Problem;
use crate::store::Pool;

/// There is none.
#[derive(Debug)]
pub(crate) enum Starter {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Worker {}

/// This build pushes nothing.
///
/// # Errors
/// None.
pub(crate) fn prepare(_: &PushOptions) -> Result<Option<(Queue, Starter)>, Problem> {
    Ok(None)
}

impl Starter {
    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub(crate) fn start(self, _: Arc<Pool>, _: AppClock, _: String) -> io::Result<Worker> {
        match self {}
    }
}

impl Worker {
    /// Cannot be called.
    pub(crate) fn finish_by(&self, _: Instant) {
        match *self {}
    }

    /// Cannot be called.
    pub(crate) fn wait(&self, _: Instant) {
        match *self {}
    }
}
