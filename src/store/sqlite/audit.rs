//! The audit log for the demo's page; in an install the helpdesk's application shows it.

use super::connection::SqliteConnection;
use super::rows::select;
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
    /// The rows about the service, the newest first, at most `most`.
    ///
    /// # Errors
    /// The failure of the statement.
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
