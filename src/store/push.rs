//! Web Push's interface to a database, apart from [`DatabaseConnection`](super::DatabaseConnection): an engine without it pushes nothing.

use std::fmt;

use super::{NewNotification, Result};
use crate::model::AgentId;

/// Most subscriptions of one agent that are pushed to.
pub(crate) const MAX_SUBSCRIPTIONS: usize = 20;

/// A row of `agent_push_subscriptions`: a browser of an agent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PushSubscription {
    /// Key of the row.
    pub id: u64,
    /// Whose it is, `agent_id`.
    pub agent: u64,
    /// URL at the push service. It grants the right to push, so it is never logged.
    pub endpoint: String,
    /// SHA-256 of it, lower-case hex.
    pub endpoint_hash: String,
    /// The browser's public key, base64url.
    pub p256dh: String,
    /// The secret that it shares only with us, base64url.
    pub auth: String,
    /// `aes128gcm` or `aesgcm`.
    pub content_encoding: String,
}

impl fmt::Debug for PushSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "subscription {} of agent {}", self.id, self.agent)
    }
}

/// A connection that can be asked about subscriptions.
pub trait PushStore {
    /// As [`Posting::insert_notifications`](super::Posting::insert_notifications), and returns the indices of the new
    /// ones, ascending.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    fn insert_new_notifications(&mut self, notifications: &[NewNotification])
    -> Result<Vec<usize>>;

    /// The newest [`MAX_SUBSCRIPTIONS`] of each of these agents.
    fn subscriptions(&mut self, agents: &[AgentId]) -> Result<Vec<PushSubscription>>;

    /// Forgets a subscription that the push service no longer knows.
    fn delete_subscription(&mut self, endpoint_hash: &str) -> Result<()>;
}
