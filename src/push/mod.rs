//! Web Push: tells the browsers of agents of their new notifications (contract: operations.md, "Web Push").
//! This file is the interface: the commit thread hands notices in and waits for nothing. The rest is compiled only with the
//! feature `push`.
//!
//! One thread, `push`, finds the recipients; up to four others, started on demand and ended when idle, each send one push at
//! a time, by one schedule.

#[cfg(feature = "push")]
mod crypt;
#[cfg(not(feature = "push"))]
mod disabled;
#[cfg(feature = "push")]
mod dispatch;
#[cfg(feature = "push")]
mod endpoint;
#[cfg(feature = "push")]
mod http;
#[cfg(feature = "push")]
mod ip_filter;
#[cfg(feature = "push")]
mod key;
#[cfg(feature = "push")]
mod payload;
#[cfg(feature = "push")]
mod response;
#[cfg(feature = "push")]
mod schedule;
#[cfg(feature = "push")]
mod send;
#[cfg(feature = "push")]
mod vapid;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

#[cfg(not(feature = "push"))]
pub(crate) use self::disabled::{Starter, Worker, prepare};
#[cfg(feature = "push")]
pub(crate) use self::dispatch::{Starter, Worker, prepare};

use crate::config::settings::Rows;
use crate::platform::metrics::METRICS;
use crate::platform::threads::lock;
use crate::store::NewNotification;

/// The rows of `settings` with the install's VAPID identity.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PushSettings {
    /// `push_vapid_public_key`.
    pub public_key: String,
    /// `push_vapid_private_key`, encrypted or not.
    pub private_key: String,
    /// `push_vapid_subject`.
    pub subject: String,
}

impl PushSettings {
    /// From the rows of the table.
    pub fn from_rows(rows: &Rows) -> Self {
        let text = |key| rows.text(key, "").trim().to_owned();
        PushSettings {
            public_key: text("push_vapid_public_key"),
            private_key: text("push_vapid_private_key"),
            subject: text("push_vapid_subject"),
        }
    }

    /// Whether all of them are set.
    pub fn are_complete(&self) -> bool {
        ![&self.public_key, &self.private_key, &self.subject].contains(&&String::new())
    }
}

impl fmt::Debug for PushSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushSettings")
            .field("public_key", &self.public_key)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// The way to the thread that pushes.
#[derive(Debug)]
pub struct Queue {
    /// Boxed, since a bounded queue allocates all its slots at once.
    notices: Sender<Box<NewNotification>>,
    shared: Arc<PushShared>,
}

/// What both ends of the queue see.
#[derive(Debug, Default)]
struct PushShared {
    settings: Mutex<PushSettings>,
    dropped: AtomicUsize,
}

impl Queue {
    /// Whether this install pushes.
    pub fn is_wanted(&self) -> bool {
        lock(&self.shared.settings).are_complete()
    }

    /// Takes over settings that were read again.
    pub fn configure(&self, settings: PushSettings) {
        *lock(&self.shared.settings) = settings;
    }

    /// Hands notices in. If the queue is full, they are dropped and counted, and the log says so now and then.
    pub fn offer(&self, notices: Vec<NewNotification>) {
        for notice in notices {
            if self.notices.try_send(Box::new(notice)).is_err() {
                METRICS.pushes.count("dropped");
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_not_shown() {
        let settings = PushSettings {
            private_key: "very-private".to_owned(),
            ..PushSettings::default()
        };
        assert!(!format!("{settings:?}").contains("very-private"));
        assert!(!settings.are_complete());
    }
}
