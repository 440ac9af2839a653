//! [`PushStore`] over the helpdesk's tables.

use mysql::Value;

use super::posting::ROWS_PER_INSERT;
use super::{MysqlConnection, columns, ids, marks};
use crate::model::AgentId;
use crate::store::push::{PushStore, Subscription};
use crate::store::{NewNotification, Result};

impl PushStore for MysqlConnection {
    fn insert_new_notifications(
        &mut self,
        notifications: &[NewNotification],
    ) -> Result<Vec<usize>> {
        let mut new = Vec::with_capacity(notifications.len());
        for (number, chunk) in notifications.chunks(ROWS_PER_INSERT).enumerate() {
            let places = (0..chunk.len()).map(|place| number * ROWS_PER_INSERT + place);
            self.insert_notification_rows(chunk)?;
            match self.conn.affected_rows() {
                0 => {}
                // A key holds the id of a message that was written just now, so this is all but always so.
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

    fn subscriptions(&mut self, agents: &[AgentId]) -> Result<Vec<Subscription>> {
        const OPERATION: &str = "read push subscriptions";
        if agents.is_empty() {
            return Ok(Vec::new());
        }
        self.rows(
            OPERATION,
            &format!(
                "SELECT id, agent_id, endpoint, endpoint_hash, p256dh, auth, content_encoding \
                 FROM agent_push_subscriptions WHERE agent_id IN ({}) ORDER BY id",
                marks(agents.len())
            ),
            ids(agents.iter().map(|id| id.0)),
        )?
        .into_iter()
        .map(|row| {
            let (id, agent, endpoint, endpoint_hash, p256dh, auth, content_encoding) =
                columns(row, OPERATION)?;
            Ok(Subscription {
                id,
                agent,
                endpoint,
                endpoint_hash,
                p256dh,
                auth,
                content_encoding,
            })
        })
        .collect()
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
    /// Agent and key of what the last insert of `count` notifications wrote. An insert with a known number of rows gets
    /// its ids in one piece, in the steps of this session, also for rows that are passed over; nobody else's are among
    /// them.
    fn rows_of_last_insert(&mut self, count: usize) -> Result<Vec<(u64, String)>> {
        const OPERATION: &str = "look which notifications are new";
        let first = self.conn.last_insert_id();
        let step = self.posting.map_or(1, |posting| posting.id_step);
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
