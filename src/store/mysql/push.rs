//! [`PushStore`] over the helpdesk's tables.

use mysql::Value;

use super::{MysqlConnection, columns, marks};
use crate::model::AgentId;
use crate::store::push::{MAX_SUBSCRIPTIONS, PushStore, PushSubscription};
use crate::store::{NewNotification, Result};

impl PushStore for MysqlConnection {
    fn insert_new_notifications(
        &mut self,
        notifications: &[NewNotification],
    ) -> Result<Vec<usize>> {
        let mut new = Vec::with_capacity(notifications.len());
        let mut begun = 0;
        for chunk in self.parts_of_notifications(notifications) {
            let places = begun..begun + chunk.len();
            begun = places.end;
            self.insert_notification_rows(chunk)?;
            match self.conn.affected_rows() {
                0 => {}
                // A key contains the id of a new message, so this is nearly always the case.
                count if count == chunk.len() as u64 => new.extend(places),
                _ => {
                    let written = self.rows_of_last_insert(chunk.len())?;
                    let is_new = |row: &NewNotification| {
                        written
                            .iter()
                            .any(|(agent, key)| *agent == row.agent.0 && *key == row.dedupe_key)
                    };
                    new.extend(
                        places
                            .zip(chunk)
                            .filter_map(|(place, row)| is_new(row).then_some(place)),
                    );
                }
            }
        }
        Ok(new)
    }

    fn subscriptions(&mut self, agents: &[AgentId]) -> Result<Vec<PushSubscription>> {
        const OPERATION: &str = "read push subscriptions";
        // One query for each agent: an agent may have any number of rows, and each has its own limit.
        let sql = format!(
            "SELECT id, agent_id, endpoint, endpoint_hash, p256dh, auth, content_encoding \
             FROM agent_push_subscriptions WHERE agent_id = ? ORDER BY id DESC LIMIT {MAX_SUBSCRIPTIONS}"
        );
        let mut found = Vec::new();
        for agent in agents {
            for row in self.rows(OPERATION, &sql, (agent.0,))? {
                let (id, agent, endpoint, endpoint_hash, p256dh, auth, content_encoding) =
                    columns(row, OPERATION)?;
                found.push(PushSubscription {
                    id,
                    agent,
                    endpoint,
                    endpoint_hash,
                    p256dh,
                    auth,
                    content_encoding,
                });
            }
        }
        Ok(found)
    }

    fn delete_subscription(&mut self, endpoint_hash: &str) -> Result<()> {
        self.execute(
            "delete a push subscription",
            "DELETE FROM agent_push_subscriptions WHERE endpoint_hash = ?",
            (endpoint_hash,),
        )
    }
}

impl MysqlConnection {
    /// Agent and key of the rows that the last insert of `count` notifications wrote: their ids are contiguous in the
    /// steps of this session, skipped rows included. If the first rows were skipped, the range ends too late.
    fn rows_of_last_insert(&mut self, count: usize) -> Result<Vec<(u64, String)>> {
        const OPERATION: &str = "look which notifications are new";
        let first = self.conn.last_insert_id();
        let step = self.id_step;
        let own = (0..count as u64).map(|place| Value::from(first + place * step));
        self.rows(
            OPERATION,
            &format!(
                "SELECT agent_id, dedupe_key FROM agent_notifications WHERE id IN ({})",
                marks(count)
            ),
            own.collect::<Vec<_>>(),
        )?
        .into_iter()
        .map(|row| columns(row, OPERATION))
        .collect()
    }
}
