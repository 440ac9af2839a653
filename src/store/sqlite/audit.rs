//! The log of what was asked of the service, for the demo's page; in an install it is the helpdesk's application that
//! shows it.

use super::connection::SqliteConnection;
use super::rows::{key, select};
use crate::model::AgentId;
use crate::store::Result;

/// A row of `audit_log` about the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// What was done.
    pub action: String,
    /// When, by the database's clock.
    pub created_at: String,
}

impl SqliteConnection {
    /// Writes that an agent at this machine asked something of the service.
    ///
    /// # Errors
    /// As every method here: the failure of the statement.
    pub fn insert_audit(&mut self, agent: AgentId, action: &str, payload_json: &str) -> Result<()> {
        self.write("write the audit log", |conn| {
            conn.execute(
                "INSERT INTO audit_log (actor_type, actor_id, action, subject_type, subject_id, payload, ip_address) \
                 VALUES ('agent', ?, ?, 'chat_websocket', 0, ?, '127.0.0.1')",
                (key(agent.0), action, payload_json),
            )
            .map(drop)
        })
    }

    /// The rows about the service, the newest first, at most `most`.
    pub fn service_audit(&mut self, most: usize) -> Result<Vec<AuditRow>> {
        self.read("read the audit log", |conn| {
            select(
                conn,
                "SELECT action, created_at FROM audit_log WHERE subject_type = 'chat_websocket' \
                 ORDER BY id DESC LIMIT ?",
                (most,),
                |row| {
                    Ok(AuditRow {
                        action: row.get(0)?,
                        created_at: row.get(1)?,
                    })
                },
            )
        })
    }
}
