//! Replaces the bus in a build without the feature `bus`: no value of these types ever exists.

use std::io;

use super::BadAddress;
use crate::hub::Hub;
use crate::model::{Agent, AgentId, Conversation, MessageId};
use crate::platform::threads::Threads;

/// The way onto the bus.
#[derive(Clone, Debug)]
pub enum Bus {}

/// A bus that is not running yet.
pub(crate) enum Connector {}

/// The threads of the bus.
pub(crate) enum BusThreads {}

/// There is no bus, whatever the address.
///
/// # Errors
/// None.
pub(crate) fn prepare(_: &str, _: &str) -> Result<Option<(Bus, Connector)>, BadAddress> {
    Ok(None)
}

impl Bus {
    /// Cannot be called.
    pub fn posted(&self) {
        match *self {}
    }

    /// Cannot be called.
    pub fn presence(&self, _: AgentId, _: bool) {
        match *self {}
    }

    /// Cannot be called.
    pub fn typing(&self, _: Conversation, _: &Agent, _: &[AgentId]) {
        match *self {}
    }

    /// Cannot be called.
    pub fn read(&self, _: Conversation, _: AgentId, _: MessageId, _: &[AgentId]) {
        match *self {}
    }
}

impl Connector {
    /// Cannot be called.
    ///
    /// # Errors
    /// None.
    pub(crate) fn start(
        self,
        _: &Threads,
        _: &Hub,
        _: &Bus,
        _: impl Fn() + Send + 'static,
    ) -> io::Result<BusThreads> {
        match self {}
    }
}

impl BusThreads {
    /// Cannot be called.
    pub(crate) fn stop(self, _: &Bus) {
        match self {}
    }
}
