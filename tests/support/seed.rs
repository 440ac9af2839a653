//! The tables and rows that every recorded scenario starts from, and the recordings' small language for changes of rows
//! (`insert`, `update`, `delete`).

use std::sync::OnceLock;

use mysql::Value;

use super::fixtures;
use super::json::Json;
use super::sql::Sql;

/// The first id of `chat_messages` in every recording; one of them has it in a key of a seeded row.
const FIRST_MESSAGE_ID: u32 = 700_001;

/// Children before parents, as foreign keys want it. `settings` comes last for no reason but order.
const TABLES: [&str; 13] = [
    "agent_push_subscriptions",
    "agent_notifications",
    "chat_channel_notification_preferences",
    "chat_message_reads",
    "chat_message_mentions",
    "chat_messages",
    "chat_threads",
    "chat_channel_members",
    "chat_channels",
    "tickets",
    "audit_log",
    "agents",
    "settings",
];

fn statements() -> &'static Vec<String> {
    static STATEMENTS: OnceLock<Vec<String>> = OnceLock::new();
    STATEMENTS.get_or_init(|| {
        let schema = fixtures::text("schema.sql");
        let code = schema.lines().map(|line| {
            let end = line.find("--").unwrap_or(line.len());
            &line[..end]
        });
        let code = code.collect::<Vec<_>>().join("\n");
        let parts = code.split(';').map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty()).collect()
    })
}

fn seed() -> &'static Json {
    static SEED: OnceLock<Json> = OnceLock::new();
    SEED.get_or_init(|| fixtures::golden("seed"))
}

pub fn create_tables(conn: &mut dyn Sql) {
    for statement in statements() {
        run(conn, statement, vec![]);
    }
}

/// Empties the database and puts in the rows of a fresh scenario. Rows are deleted, not truncated: a truncated
/// table is created anew, which takes ten times as long.
pub fn reset(conn: &mut dyn Sql) {
    run(conn, "BEGIN", vec![]);
    for table in TABLES {
        run(conn, &format!("DELETE FROM {table}"), vec![]);
    }
    let settings = statements()
        .iter()
        .find(|s| s.starts_with("INSERT INTO settings"));
    run(conn, settings.expect("schema.sql has the settings"), vec![]);
    for (key, value) in seed().need("settings").entries() {
        set(conn, key, value);
    }
    for (table, rows) in seed().need("tables").entries() {
        insert(conn, table, rows.items());
    }
    run(conn, "COMMIT", vec![]);
    conn.set_next_message_id(FIRST_MESSAGE_ID);
}

/// A table of the numbers from 1 to `most` in its column `seq`. MariaDB alone has such tables itself.
pub fn sequence(most: i64) -> String {
    let digits = (0..10).map(|digit| format!("SELECT {digit} AS digit"));
    let digits = digits.collect::<Vec<_>>().join(" UNION ALL ");
    let places = 0..(most - 1).to_string().len();
    let tables = places
        .clone()
        .map(|place| format!("({digits}) AS place_{place}"));
    let tables = tables.collect::<Vec<_>>().join(", ");
    let number = places.map(|place| format!("1{} * place_{place}.digit", "0".repeat(place)));
    let number = number.collect::<Vec<_>>().join(" + ");
    format!("(SELECT 1 + {number} AS seq FROM {tables} HAVING seq <= {most}) AS numbers")
}

/// Sets the value of a settings row.
pub fn set(conn: &mut dyn Sql, key: &str, value: &Json) {
    let statement = "UPDATE settings SET value = ? WHERE key_name = ?";
    run(conn, statement, vec![sql_value(value), Value::from(key)]);
}

pub fn insert(conn: &mut dyn Sql, table: &str, rows: &[Json]) {
    for row in rows {
        let columns: Vec<&str> = row.entries().iter().map(|(k, _)| k.as_str()).collect();
        let places = vec!["?"; columns.len()].join(", ");
        let statement = format!(
            "INSERT INTO {table} ({}) VALUES ({places})",
            columns.join(", ")
        );
        let values = row.entries().iter().map(|(_, v)| sql_value(v)).collect();
        run(conn, &statement, values);
    }
}

/// One recorded change: `{"insert": table, "rows": […]}`, `{"update": table, "where": …, "set": …}` or
/// `{"delete": table, "where": …}`.
pub fn apply(conn: &mut dyn Sql, change: &Json) {
    let table = |word| change.get(word).and_then(Json::str);
    if let Some(table) = table("insert") {
        insert(conn, table, change.need("rows").items());
    } else if let Some(table) = table("update") {
        let (set, mut values) = equations(change.need("set"), ", ");
        let (place, more) = equations(change.need("where"), " AND ");
        values.extend(more);
        run(
            conn,
            &format!("UPDATE {table} SET {set} WHERE {place}"),
            values,
        );
    } else if let Some(table) = table("delete") {
        let (place, values) = equations(change.need("where"), " AND ");
        run(conn, &format!("DELETE FROM {table} WHERE {place}"), values);
    } else {
        panic!("unknown change of rows: {change}");
    }
}

fn equations(columns: &Json, between: &str) -> (String, Vec<Value>) {
    let (terms, values): (Vec<_>, Vec<_>) = columns
        .entries()
        .iter()
        .map(|(column, value)| (format!("{column} = ?"), sql_value(value)))
        .unzip();
    (terms.join(between), values)
}

fn sql_value(value: &Json) -> Value {
    match value {
        Json::Null => Value::NULL,
        Json::Bool(truth) => Value::Int(i64::from(*truth)),
        Json::String(text) => Value::from(text),
        Json::Number(digits) => Value::from(digits),
        other => panic!("no column holds {other}"),
    }
}

/// Runs a statement; a failure is a broken recording or a broken harness.
pub fn run(conn: &mut dyn Sql, statement: &str, values: Vec<Value>) {
    conn.run(statement, values);
}
