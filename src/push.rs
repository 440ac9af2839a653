//! Web Push: tells agents who have no window open of what they were notified of (contract: operations.md, "Web Push").
//! What stands in this file is the door: the posting thread hands notices in and waits for nothing. What is behind it
//! stands in `push/` and only in a build with the feature `push`.
//!
//! One thread, `push`, owns all that waits, and a connection to the database once there is something to do; up to four
//! others, which come when they are needed and go when they are not, each send one push at a time.

#[cfg(not(feature = "push"))]
mod absent;
#[cfg(feature = "push")]
mod answer;
#[cfg(feature = "push")]
mod crypt;
#[cfg(feature = "push")]
mod dispatch;
#[cfg(feature = "push")]
mod http;
#[cfg(feature = "push")]
mod key;
#[cfg(feature = "push")]
mod payload;
#[cfg(feature = "push")]
mod public;
#[cfg(feature = "push")]
mod reach;
#[cfg(feature = "push")]
mod schedule;
#[cfg(feature = "push")]
mod sender;
#[cfg(feature = "push")]
mod start;
#[cfg(feature = "push")]
mod vapid;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

#[cfg(not(feature = "push"))]
pub use self::absent::{Starter, Worker, prepare};
#[cfg(feature = "push")]
pub use self::start::{Starter, Worker, prepare};

use crate::config::{ConfigError, Variables, seconds};
use crate::model::AgentId;
use crate::settings::Rows;
use crate::store::NewNotification;

/// What one agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who.
    pub agent: AgentId,
    /// Heading.
    pub title: String,
    /// Sender and preview.
    pub body: String,
    /// Route within the application.
    pub link: String,
    /// What a later push with the same key replaces in the browser.
    pub dedupe_key: String,
}

impl From<&NewNotification> for Notice {
    fn from(row: &NewNotification) -> Self {
        Notice {
            agent: row.agent,
            title: row.title.to_owned(),
            body: row.body.clone(),
            link: row.link.clone(),
            dedupe_key: row.dedupe_key.clone(),
        }
    }
}

/// The rows of `settings` that name who pushes.
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
    /// In boxes: the queue takes all of its room from the beginning.
    notices: Sender<Box<Notice>>,
    shared: Arc<Shared>,
}

/// What both ends of the queue see.
#[derive(Debug, Default)]
struct Shared {
    settings: Mutex<PushSettings>,
    is_wanted: AtomicBool,
    dropped: AtomicUsize,
}

impl Shared {
    fn settings(&self) -> MutexGuard<'_, PushSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Whether this install pushes.
    pub fn is_wanted(&self) -> bool {
        self.shared.is_wanted.load(Ordering::Relaxed)
    }

    /// Takes over settings that were looked at again.
    pub fn configure(&self, settings: PushSettings) {
        let mut current = self.shared.settings();
        if *current != settings {
            let is_wanted = settings.are_complete();
            self.shared.is_wanted.store(is_wanted, Ordering::Relaxed);
            *current = settings;
        }
    }

    /// Hands notices in. Where too many wait already they are dropped, counted, and it is logged now and then.
    pub fn offer(&self, notices: Vec<Notice>) {
        for notice in notices {
            if self.notices.try_send(Box::new(notice)).is_err() {
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// What the service is told of pushing before it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// `CHAT_WEBSOCKET_PUSH_ALLOW`: hosts and ports that may be called although they are not public.
    pub allow: Vec<(String, u16)>,
    /// `CHAT_WEBSOCKET_PUSH_CA`: a file of certificates that are trusted beside the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// `CHAT_WEBSOCKET_PUSH_TIMEOUT`, s: for one push, from the look-up of its host to the last byte of the answer.
    pub timeout: Duration,
    /// `CHAT_WEBSOCKET_PUSH_QUEUE`: notices that may wait.
    pub queue: usize,
}

impl Options {
    /// From the variables of an install at `root`.
    ///
    /// # Errors
    /// A value is none that can be used.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, ConfigError> {
        const ALLOW: &str = "CHAT_WEBSOCKET_PUSH_ALLOW";
        let allow = variables.get(ALLOW).unwrap_or_default();
        let allow = allow
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                host_and_port(entry).ok_or_else(|| {
                    ConfigError(format!(
                        "{} has {entry:?}, expected HOST:PORT, several separated by commas; leave it out unless push \
                         services of your own stand inside your network",
                        variables.origin(ALLOW)
                    ))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Options {
            allow,
            ca_file: variables
                .get("CHAT_WEBSOCKET_PUSH_CA")
                .map(|path| root.join(path)),
            timeout: seconds(variables, "CHAT_WEBSOCKET_PUSH_TIMEOUT", 10, 1..=60)?,
            queue: variables.number("CHAT_WEBSOCKET_PUSH_QUEUE", 1000, 1..=100_000)? as usize,
        })
    }
}

/// A host, an IPv6 address in brackets, lower-cased, and a port.
fn host_and_port(entry: &str) -> Option<(String, u16)> {
    let (host, port) = entry.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains(':'));
    is_host.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_place_is_a_host_and_a_port() {
        assert_eq!(
            host_and_port("LocalHost:8443"),
            Some(("localhost".to_owned(), 8443))
        );
        assert_eq!(host_and_port("[::1]:443"), Some(("[::1]".to_owned(), 443)));
        for bad in [
            "",
            "localhost",
            ":443",
            "localhost:0",
            "localhost:x",
            "::1:443",
            "a:65536",
        ] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }

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
