//! The embedded store has the helpdesk's tables, not tables like them.

use super::StoreFixture;
use crate::support::json::Json;

const TABLES: [&str; 13] = [
    "agent_notifications",
    "agent_push_subscriptions",
    "agents",
    "audit_log",
    "chat_channel_members",
    "chat_channel_notification_preferences",
    "chat_channels",
    "chat_message_mentions",
    "chat_message_reads",
    "chat_messages",
    "chat_threads",
    "settings",
    "tickets",
];

/// `table column kind null default`, in the order of the tables' columns.
fn columns(fixture: &mut StoreFixture, query: &str) -> Vec<String> {
    let rows = fixture.sql.select(query);
    let text = |row: &Json, column: &str| match row.need(column) {
        Json::Null => "none".to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut columns: Vec<String> = rows
        .iter()
        .map(|row| {
            let kind = match text(row, "kind").to_lowercase() {
                kind if kind.contains("int") => "number",
                _ => "text",
            };
            let default = text(row, "column_default").to_lowercase();
            // MariaDB writes texts in quotes, and a call as one.
            let default = default
                .replace(['(', ')', '\''], "")
                .replace("null", "none");
            format!(
                "{} {} {kind} null:{} default:{default}",
                text(row, "table_name"),
                text(row, "column_name"),
                text(row, "nullable"),
            )
        })
        .collect();
    // Within a table they stay in their order.
    let table = |column: &String| column.split(' ').next().map(str::to_owned);
    columns.sort_by_key(table);
    columns
}

#[test]
fn tables_columns_and_defaults_are_the_helpdesks() {
    needs!(MariaDb);
    let mut mariadb = StoreFixture::mariadb();
    let mut sqlite = StoreFixture::sqlite();
    let helpdesk = columns(
        &mut mariadb,
        "SELECT table_name AS table_name, column_name AS column_name, data_type AS kind, \
         CASE WHEN is_nullable = 'YES' THEN 1 ELSE 0 END AS nullable, column_default AS column_default \
         FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position",
    );
    // SQLite calls a key that counts by itself nullable.
    let ours = columns(
        &mut sqlite,
        "SELECT t.name AS table_name, c.name AS column_name, c.type AS kind, \
         CASE WHEN c.\"notnull\" OR c.pk THEN 0 ELSE 1 END AS nullable, c.dflt_value AS column_default \
         FROM sqlite_schema t JOIN pragma_table_info(t.name) c \
         WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' ORDER BY t.name, c.cid",
    );
    assert_same(&ours, &helpdesk);
    assert_eq!(ours, helpdesk);
    let mut tables: Vec<&str> = ours.iter().filter_map(|c| c.split(' ').next()).collect();
    tables.dedup();
    assert_eq!(tables, TABLES);
}

#[test]
fn keys_are_the_helpdesks() {
    needs!(MariaDb);
    let mut mariadb = StoreFixture::mariadb();
    let mut sqlite = StoreFixture::sqlite();
    let sorted = |fixture: &mut StoreFixture, query: &str| {
        let mut rows = fixture.rows(query);
        rows.sort();
        rows
    };
    assert_same(
        &sorted(
            &mut sqlite,
            "SELECT t.name AS one, f.\"from\" AS two, f.\"table\" AS three, f.on_delete AS four \
             FROM sqlite_schema t JOIN pragma_foreign_key_list(t.name) f WHERE t.type = 'table'",
        ),
        &sorted(
            &mut mariadb,
            "SELECT k.table_name AS one, k.column_name AS two, k.referenced_table_name AS three, r.delete_rule AS four \
             FROM information_schema.key_column_usage k JOIN information_schema.referential_constraints r \
             ON r.constraint_schema = k.table_schema AND r.constraint_name = k.constraint_name \
             AND r.table_name = k.table_name WHERE k.table_schema = DATABASE()",
        ),
    );
    assert_same(
        &sorted(
            &mut sqlite,
            "SELECT t.name AS one, (SELECT GROUP_CONCAT(c.name) FROM pragma_index_info(i.name) c) AS two \
             FROM sqlite_schema t JOIN pragma_index_list(t.name) i WHERE t.type = 'table' AND i.\"unique\"",
        ),
        &sorted(
            &mut mariadb,
            "SELECT table_name AS one, GROUP_CONCAT(column_name ORDER BY seq_in_index) AS two \
             FROM information_schema.statistics WHERE table_schema = DATABASE() AND non_unique = 0 \
             GROUP BY table_name, index_name HAVING two <> 'id'",
        ),
    );
}

fn assert_same(ours: &[String], helpdesk: &[String]) {
    let beside = |some: &[String], others: &[String]| {
        let beside = some.iter().filter(|one| !others.contains(one));
        beside.cloned().collect::<Vec<_>>()
    };
    assert_eq!(
        (beside(ours, helpdesk), beside(helpdesk, ours)),
        (vec![], vec![]),
        "only here, only there"
    );
    assert_eq!(ours.len(), helpdesk.len());
}

/// A fresh install's rows, before anybody has changed one.
#[test]
fn a_new_file_has_the_settings_of_a_fresh_install() {
    needs!(MariaDb);
    use andrea_chat_websocket::store::Store;

    use crate::support::embedded::File;
    use crate::support::mariadb::Database;
    use crate::support::rows;
    let query = "SELECT key_name, value, type, group_name, label FROM settings ORDER BY key_name";
    let file = File::none();
    andrea_chat_websocket::store::sqlite::SqliteStore::new(file.path())
        .connect()
        .expect("create the tables");
    let ours = rows::select(&mut file.conn(), query);
    assert_eq!(ours, rows::select(&mut Database::fresh().conn(), query));
}
