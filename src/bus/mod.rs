//! Carries typing, read markers, presence, and a nudge to look for new messages between the daemons of one database,
//! over Redis pub/sub (`CHAT_BUS_URL`, feature `bus`). Messages go through the database; without the bus they come up
//! to a quarter of a second later, and none is lost.
//!
//! Redis is not trusted. It can read the notes: ids of agents, conversations and messages, and the name of an agent who
//! types. A note is taken only if a daemon with the same `JWT_SECRET` has sealed it (`note.rs`).

use std::fmt;

#[cfg(not(feature = "bus"))]
mod disabled;
#[cfg(feature = "bus")]
mod note;
#[cfg(feature = "bus")]
mod threads;

#[cfg(not(feature = "bus"))]
pub(crate) use self::disabled::{Bus, BusThreads, Connector, prepare};
#[cfg(feature = "bus")]
pub(crate) use self::threads::{Bus, BusThreads, Connector, prepare};

/// The warning if the variable is set and the feature is missing.
pub(crate) const NOT_IN_THIS_BUILD: &str = "CHAT_BUS_URL is set, but this build has no bus: typing, presence and read markers \
     stay on this machine, and messages of other machines come up to a quarter of a second later";
/// What to do about it.
pub(crate) const BUILD_WITH_IT: &str = "build with the feature bus, or leave the variable out";

/// The address of the bus cannot be used. It may hold a password, so it is not repeated.
#[derive(Debug)]
pub(crate) struct BadAddress;

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is no URL of Redis, such as redis://[USER:PASSWORD@]127.0.0.1:6379/")
    }
}

impl std::error::Error for BadAddress {}
