//! What the subcommands ask: requests with their row in the audit log, retention, and the looks of `check`.

use andrea_chat_websocket::model::{ChannelId, MessageId};
use andrea_chat_websocket::store::operations::{AuditEntry, Window};

use super::{ANN, ANN_AND_BOB, GENERAL, QUIET, StoreFixture, message};

fn entry() -> AuditEntry {
    AuditEntry {
        action: "chat_prune_run".to_owned(),
        subject_type: "chat_messages",
        payload: "{\"ip\": \"cli\"}".to_owned(),
    }
}

pub fn a_change_of_settings_and_its_audit_row_are_one(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let settings = [("chat_websocket_autostart", "0"), ("no such row", "1")];
    connection.change(&settings, &entry()).expect("change");
    connection
        .change(&[], &entry())
        .expect("an audit row alone");
    let audit = fixture.rows(
        "SELECT actor_type, actor_id, action, subject_type, subject_id, payload FROM audit_log ORDER BY id",
    );
    let row = "{\"actor_type\":\"system\",\"actor_id\":null,\"action\":\"chat_prune_run\",\
               \"subject_type\":\"chat_messages\",\"subject_id\":0,\"payload\":\"{\\\"ip\\\": \\\"cli\\\"}\"}";
    assert_eq!(audit, [row, row]);
    let settings = connection.settings().expect("settings");
    assert_eq!(settings.text("chat_websocket_autostart", "?"), "0");
    assert!(!settings.contains("no such row"));

    // A payload that the audit log does not take spoils the settings as well.
    let broken = AuditEntry {
        payload: "{".to_owned(),
        ..entry()
    };
    let refused = connection.change(&[("chat_websocket_autostart", "1")], &broken);
    refused.expect_err("no JSON");
    let settings = connection.settings().expect("settings");
    assert_eq!(settings.text("chat_websocket_autostart", "?"), "0");
    connection
        .change(&[], &entry())
        .expect("the connection goes on");
}

pub fn channels_say_how_long_they_keep(fixture: &mut StoreFixture) {
    let found = fixture.connect().channel_retentions().expect("channels");
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.id.0, one.name.as_str(), one.days))
        .collect();
    let expected = [
        (1, "General", None),
        (2, "Quiet", Some(7)),
        (3, "Archived", None),
        (4, "Elsewhere", None),
    ];
    assert_eq!(found, expected);
}

pub fn old_messages_are_found_part_by_part_and_marked_once(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    assert_eq!(connection.message_ids().expect("ids"), None);
    let ids = fixture.post(&[
        message(GENERAL, ANN, "a"),
        message(ANN_AND_BOB, ANN, "b"),
        message(QUIET, ANN, "deleted"),
        message(QUIET, ANN, "new"),
        message(QUIET, ANN, "e"),
    ]);
    fixture.run(
        "UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'deleted'",
    );
    fixture
        .run("UPDATE chat_messages SET created_at = '2026-05-01 10:00:01' WHERE body_text = 'new'");
    assert_eq!(
        connection.message_ids().expect("ids"),
        Some((ids[0], ids[4]))
    );
    let before = "2026-05-01 10:00:01";
    let mut part = |above, rows| connection.old_messages(above, rows, before).expect("look");
    let of = |window: &Window| -> Vec<(MessageId, Option<ChannelId>)> {
        let messages = window.messages.iter();
        messages.map(|one| (one.id, one.channel)).collect()
    };
    let first = part(MessageId(0), 2);
    assert_eq!(of(&first), [(ids[0], Some(ChannelId(1))), (ids[1], None)]);
    assert_eq!(first.messages[0].created_at, "2026-05-01 10:00:00");
    assert_eq!(first.end, Some(ids[1]));
    let second = part(ids[1], 2);
    assert_eq!((of(&second), second.end), (vec![], Some(ids[3])));
    let third = part(ids[3], 2);
    assert_eq!(of(&third), [(ids[4], Some(ChannelId(2)))]);
    assert_eq!(part(ids[4], 2), Window::default());
    assert_eq!(part(MessageId(0), 10).messages.len(), 3);

    let marked = connection.mark_deleted(&ids[..3]).expect("mark");
    assert_eq!(marked, 2, "one was marked before");
    assert_eq!(connection.mark_deleted(&ids[..3]).expect("again"), 0);
    assert_eq!(connection.mark_deleted(&[]).expect("none"), 0);
    let rows = fixture.rows(
        "SELECT body_text, deleted_by_agent_id AS deleted_by FROM chat_messages WHERE deleted_at IS NOT NULL \
         ORDER BY id",
    );
    assert_eq!(rows[0], "{\"body_text\":\"a\",\"deleted_by\":null}");
    assert_eq!(rows.len(), 3);
}

pub fn a_time_in_the_past_is_by_the_databases_clock(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let now = connection.days_ago(0).expect("ask").expect("a time");
    fixture.assert_now(&now);
    let day = connection.days_ago(1).expect("ask").expect("a time");
    let (from, to) = (fixture.sql.clock(-86_405), fixture.sql.clock(-86_395));
    assert!(from <= day && day <= to, "{day}");
    for days in [4_294_967_295, u64::MAX / 2] {
        assert_eq!(connection.days_ago(days).expect("ask"), None, "{days}");
    }
}

pub fn a_look_finds_tables_rights_and_clock_in_order(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    assert!(!connection.server_version().expect("ask").is_empty());
    let epoch = connection.server_epoch().expect("ask");
    let here = andrea_chat_websocket::platform::clock::epoch_seconds();
    assert!(epoch.abs_diff(here) < 60, "{epoch}");
    let columns = connection
        .columns(&["settings", "audit_log", "no_such_table"])
        .expect("look");
    let has = |table: &str, column: &str| columns.contains(&(table.to_owned(), column.to_owned()));
    assert!(has("settings", "key_name") && has("audit_log", "payload"));
    assert!(!has("settings", "payload"));
    assert!(!columns.iter().any(|(table, _)| table == "no_such_table"));
    assert_eq!(connection.refused_writes().expect("try"), []);
}
