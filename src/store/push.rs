//! What Web Push asks of a database.

use std::fmt;

use super::Result;
use super::connection::DatabaseConnection;
use crate::model::AgentId;

/// Most subscriptions of one agent that are pushed to.
const MAX_SUBSCRIPTIONS: usize = 20;

/// A row of `agent_push_subscriptions`: a browser of an agent.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct PushSubscription {
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

impl DatabaseConnection {
    /// The newest [`MAX_SUBSCRIPTIONS`] of each of these agents.
    pub(crate) fn subscriptions(&mut self, agents: &[AgentId]) -> Result<Vec<PushSubscription>> {
        // One query for each agent: an agent may have any number of rows, and each has its own limit.
        let sql = format!(
            "SELECT id, agent_id, endpoint, endpoint_hash, p256dh, auth, content_encoding \
             FROM agent_push_subscriptions WHERE agent_id = ? ORDER BY id DESC LIMIT {MAX_SUBSCRIPTIONS}"
        );
        let mut found = Vec::new();
        for agent in agents {
            found.extend(self.rows("read push subscriptions", &sql, [agent], |row| {
                Ok(PushSubscription {
                    id: row.take()?,
                    agent: row.take()?,
                    endpoint: row.take()?,
                    endpoint_hash: row.take()?,
                    p256dh: row.take()?,
                    auth: row.take()?,
                    content_encoding: row.take()?,
                })
            })?);
        }
        Ok(found)
    }

    /// Forgets a subscription that the push service no longer knows.
    pub(crate) fn delete_subscription(&mut self, endpoint_hash: &str) -> Result<()> {
        let sql = "DELETE FROM agent_push_subscriptions WHERE endpoint_hash = ?";
        self.execute("delete a push subscription", sql, [endpoint_hash])
            .map(drop)
    }
}
