//! What an event did to the database: snapshots of all tables, and the difference of two of them in the words
//! of the recorded files.

use std::collections::BTreeMap;

use super::json::Json;
use super::sql::Sql;

/// Each table, and the columns that tell its rows apart.
const KEYS: [(&str, &[&str]); 13] = [
    ("settings", &["key_name"]),
    ("agents", &["id"]),
    ("tickets", &["id"]),
    ("chat_channels", &["id"]),
    ("chat_channel_members", &["channel_id", "agent_id"]),
    ("chat_threads", &["id"]),
    ("chat_messages", &["id"]),
    (
        "chat_message_mentions",
        &["message_id", "mentioned_agent_id"],
    ),
    ("chat_message_reads", &["id"]),
    (
        "chat_channel_notification_preferences",
        &["agent_id", "channel_id"],
    ),
    ("agent_notifications", &["id"]),
    ("agent_push_subscriptions", &["id"]),
    ("audit_log", &["id"]),
];

/// Rows that the service writes by the clock, whatever clients do.
const HEARTBEAT: [&str; 5] = [
    "chat_websocket_status",
    "chat_websocket_pid",
    "chat_websocket_last_seen_at",
    "chat_websocket_last_started_at",
    "chat_websocket_stop_requested",
];

/// All rows of all tables, without `updated_at` and without the heartbeat.
pub struct Snapshot {
    tables: Vec<Vec<Json>>,
}

/// What happened to one table. `updated` rows have their key and the columns that changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    pub inserted: Vec<Json>,
    pub updated: Vec<Json>,
    pub deleted: Vec<Json>,
}

pub type Changes = BTreeMap<String, Change>;

impl Change {
    pub fn is_none(&self) -> bool {
        *self == Change::default()
    }

    pub fn kinds(&self) -> [(&'static str, &[Json]); 3] {
        [
            ("inserted", &self.inserted),
            ("updated", &self.updated),
            ("deleted", &self.deleted),
        ]
    }
}

pub fn snapshot(conn: &mut dyn Sql) -> Snapshot {
    let tables = KEYS.map(|(table, key)| {
        let mut rows = select(
            conn,
            &format!("SELECT * FROM {table} ORDER BY {}", key.join(", ")),
        );
        for row in &mut rows {
            row.remove("updated_at");
        }
        if table == "settings" {
            rows.retain(|row| {
                let name = row.need("key_name").str();
                !HEARTBEAT.iter().any(|heartbeat| name == Some(heartbeat))
            });
        }
        rows
    });
    Snapshot {
        tables: tables.into(),
    }
}

/// The rows of a query, as [`Sql::select`] gives them.
pub fn select(conn: &mut dyn Sql, query: &str) -> Vec<Json> {
    conn.select(query)
}

pub fn diff(before: &Snapshot, after: &Snapshot) -> Changes {
    let mut changes = Changes::new();
    for (place, (table, key)) in KEYS.iter().enumerate() {
        let change = table_diff(key, &before.tables[place], &after.tables[place]);
        if !change.is_none() {
            changes.insert((*table).to_owned(), change);
        }
    }
    changes
}

/// The difference of two states of one table, rows told apart by `key`.
pub fn table_diff(key: &[&str], before: &[Json], after: &[Json]) -> Change {
    let same = |a: &Json, b: &Json| key.iter().all(|column| a.get(column) == b.get(column));
    let mut change = Change::default();
    for new in after {
        match before.iter().find(|old| same(old, new)) {
            None => change.inserted.push(new.clone()),
            Some(old) if old == new => {}
            Some(old) => {
                let columns = new.entries().iter().filter(|(column, value)| {
                    key.contains(&column.as_str()) || old.get(column) != Some(value)
                });
                change
                    .updated
                    .push(Json::Object(columns.cloned().collect()));
            }
        }
    }
    let gone = before
        .iter()
        .filter(|old| !after.iter().any(|new| same(old, new)));
    change.deleted = gone.cloned().collect();
    change
}
