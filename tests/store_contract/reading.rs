//! Settings, agents, audiences, read markers.

use andrea_chat_websocket::model::{Agent, AgentId, ChannelId, Conversation, MessageId, ThreadId};

use super::{
    ANN, ANN_AND_BOB, BOB, GENERAL, QUIET, StoreFixture, UNKNOWN_ID, assert_refused, message,
};
use crate::support::json::Json;
use crate::support::{rows, seed};

pub fn settings_are_read_as_they_are(fixture: &mut StoreFixture) {
    fixture.run("UPDATE settings SET value = NULL WHERE key_name = 'chat_max_message_length'");
    fixture.run("DELETE FROM settings WHERE key_name = 'chat_allow_external_links'");
    let url = Json::from("https://日本.example/😀?a='\"\\");
    seed::set(fixture.sql.as_mut(), "app_url", &url);
    let rows = fixture.connect().settings().expect("read the settings");
    assert_eq!(rows.text("chat_enabled", "default"), "1");
    assert_eq!(rows.text("chat_websocket_pid", "default"), "");
    assert_eq!(rows.text("chat_max_message_length", "default"), "");
    assert_eq!(rows.text("chat_allow_external_links", "default"), "default");
    assert_eq!(Some(rows.text("app_url", "default")), url.str());
}

pub fn settings_are_updated_and_never_inserted(fixture: &mut StoreFixture) {
    fixture.run("UPDATE settings SET updated_at = '2001-01-01 00:00:00'");
    let before = rows::select(
        fixture.sql.as_mut(),
        "SELECT key_name, value FROM settings ORDER BY 1",
    );
    let values = [
        ("app_url", "é 😀 ' \" \\ ?"),
        ("no_such_setting", "x"),
        ("chat_enabled", "0"),
    ];
    fixture
        .connect()
        .update_settings(&values)
        .expect("update the settings");
    let after = rows::select(
        fixture.sql.as_mut(),
        "SELECT key_name, value FROM settings ORDER BY 1",
    );
    let change = rows::table_diff(&["key_name"], &before, &after);
    assert_eq!((change.inserted.len(), change.deleted.len()), (0, 0));
    assert_eq!(
        change.updated,
        [
            Json::object([
                ("key_name", "app_url".into()),
                ("value", values[0].1.into())
            ]),
            Json::object([("key_name", "chat_enabled".into()), ("value", "0".into())]),
        ]
    );
    let touched =
        "SELECT key_name FROM settings WHERE updated_at > '2001-01-01 00:00:00' ORDER BY 1";
    assert_eq!(
        fixture.rows(touched),
        [
            r#"{"key_name":"app_url"}"#,
            r#"{"key_name":"chat_enabled"}"#
        ]
    );
}

pub fn an_agent_is_found_while_active(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let mut found = |id| connection.active_agent(AgentId(id)).expect("read an agent");
    let celik = Agent {
        id: AgentId(3),
        name: "Çelik O'Neil & <Co>".to_owned(),
        role: "agent".to_owned(),
    };
    assert_eq!(found(3), Some(celik));
    assert_eq!(found(1).map(|ann| ann.role).as_deref(), Some("admin"));
    for unknown in [5, 77, 0, 1 << 32, UNKNOWN_ID] {
        assert_eq!(found(unknown), None, "{unknown}");
    }
    fixture.run("UPDATE agents SET is_active = 0 WHERE id = 3");
    let mut connection = fixture.connect();
    assert_eq!(connection.active_agent(AgentId(3)).expect("read"), None);
    let active = connection.active_agents().expect("read the agents");
    let mut active: Vec<u64> = active.into_iter().map(|id| id.0).collect();
    active.sort_unstable();
    assert_eq!(active, [1, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 99]);
}

pub fn an_audience_is_of_an_active_channel_or_a_thread(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let channel = |id| Conversation::Channel(ChannelId(id));
    let thread = |id| Conversation::Direct(ThreadId(id));
    let cases: [(Conversation, &[u64]); 9] = [
        // Inactive agents and those who may only read are members, too.
        (channel(1), &[1, 2, 3, 4, 5, 7, 8]),
        (channel(2), &[1, 2]),
        // Inactive, unknown, out of range.
        (channel(3), &[]),
        (channel(77), &[]),
        (channel(UNKNOWN_ID), &[]),
        (thread(1), &[1, 2]),
        (thread(2), &[1, 5]),
        (thread(77), &[]),
        (thread(UNKNOWN_ID), &[]),
    ];
    for (conversation, agents) in cases {
        let audience = connection.audience(conversation).expect("read an audience");
        let audience: Vec<u64> = audience.into_iter().map(|id| id.0).collect();
        assert_eq!(audience, agents, "{conversation}");
    }
}

pub fn a_marker_never_goes_back_nor_beyond_the_newest_message(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(GENERAL, ANN, "one"),
        message(GENERAL, ANN, "two"),
        message(ANN_AND_BOB, ANN, "between us"),
        message(QUIET, ANN, "three"),
    ]);
    let [one, two, direct, three] = ids[..] else {
        panic!("{ids:?}");
    };
    let mut connection = fixture.connect();
    let mut mark = |agent, conversation, id| {
        connection
            .mark_read(agent, conversation, id)
            .expect("mark as read")
    };
    let zero = MessageId(0);
    assert_eq!(mark(BOB, GENERAL, zero), zero);
    assert_eq!(mark(BOB, GENERAL, one), one);
    assert_eq!(mark(BOB, GENERAL, zero), one);
    // Messages of other conversations have higher ids.
    assert_eq!(mark(BOB, GENERAL, three), two);
    assert_eq!(mark(BOB, GENERAL, one), two);
    assert_eq!(mark(BOB, GENERAL, MessageId(UNKNOWN_ID)), two);
    assert_eq!(mark(ANN, GENERAL, one), one);
    assert_eq!(mark(BOB, ANN_AND_BOB, MessageId(UNKNOWN_ID)), direct);
    assert_eq!(mark(BOB, ANN_AND_BOB, zero), direct);
    let empty = Conversation::Channel(ChannelId(4));
    assert_eq!(mark(BOB, empty, three), zero);
    assert_eq!(
        fixture.rows(
            "SELECT agent_id, message_scope, channel_id, thread_id, last_read_message_id \
             FROM chat_message_reads ORDER BY agent_id, channel_id, thread_id"
        ),
        [
            format!(
                r#"{{"agent_id":1,"message_scope":"channel","channel_id":1,"thread_id":null,"last_read_message_id":{one}}}"#
            ),
            format!(
                r#"{{"agent_id":2,"message_scope":"direct","channel_id":null,"thread_id":1,"last_read_message_id":{direct}}}"#
            ),
            format!(
                r#"{{"agent_id":2,"message_scope":"channel","channel_id":1,"thread_id":null,"last_read_message_id":{two}}}"#
            ),
            r#"{"agent_id":2,"message_scope":"channel","channel_id":4,"thread_id":null,"last_read_message_id":0}"#
                .to_owned(),
        ]
    );
}

pub fn a_marker_is_touched_even_where_it_stays(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[message(GENERAL, ANN, "one")]);
    let mut connection = fixture.connect();
    for _ in 0..2 {
        fixture.run("UPDATE chat_message_reads SET last_read_at = '2001-01-01 00:00:00'");
        connection
            .mark_read(BOB, GENERAL, ids[0])
            .expect("mark as read");
        let read = rows::select(
            fixture.sql.as_mut(),
            "SELECT last_read_at FROM chat_message_reads",
        );
        assert_eq!(read.len(), 1);
        let time = read[0].need("last_read_at").str().expect("a time");
        fixture.assert_now(time);
    }
}

/// Kind, `data_json`, and the scope whose conversation 1 it belongs to.
const NOTIFICATIONS: [(&str, Option<&str>, Option<&str>); 24] = [
    ("chat_mention", Some(r#"{"channel_id":1}"#), Some("channel")),
    (
        "chat_channel_message",
        Some(r#"{"channel_id":1}"#),
        Some("channel"),
    ),
    ("chat_mention", Some(r#"{"channel_id":2}"#), None),
    ("chat_mention", Some(r#"{"channel_id":11}"#), None),
    (
        "chat_direct_message",
        Some(r#"{"thread_id":1}"#),
        Some("direct"),
    ),
    ("chat_direct_message", Some(r#"{"thread_id":3}"#), None),
    (
        "chat_direct_message",
        Some(r#"{"channel_id":1,"thread_id":1}"#),
        Some("direct"),
    ),
    ("chat_direct_message", Some(r#"{"channel_id":1}"#), None),
    (
        "chat_mention",
        Some(r#"{"channel_id":1,"thread_id":1}"#),
        Some("channel"),
    ),
    ("chat_mention", Some(r#"{"thread_id":1}"#), None),
    (
        "chat_mention",
        Some(r#"{"channel_id":"1"}"#),
        Some("channel"),
    ),
    (
        "chat_mention",
        Some(r#"{"channel_id":1.0}"#),
        Some("channel"),
    ),
    ("chat_mention", Some(r#"{"channel_id":1.5}"#), None),
    ("chat_mention", Some(r#"{"channel_id":"1abc"}"#), None),
    ("chat_mention", Some(r#"{"channel_id":"word"}"#), None),
    ("chat_mention", Some(r#"{"channel_id":true}"#), None),
    ("chat_mention", Some(r#"{"channel_id":[1]}"#), None),
    ("chat_mention", Some(r#"{"channel_id":null}"#), None),
    ("chat_mention", Some("{}"), None),
    ("chat_mention", Some("[1]"), None),
    ("chat_mention", Some("word"), None),
    ("chat_mention", Some(""), None),
    ("chat_mention", None, None),
    (
        "ticket_created",
        Some(r#"{"channel_id":1,"thread_id":1}"#),
        None,
    ),
];

pub fn reading_deletes_the_notifications_of_that_conversation_alone(fixture: &mut StoreFixture) {
    for (agent, first) in [(2, 1), (3, 101)] {
        for (id, (kind, data, _)) in (first..).zip(NOTIFICATIONS) {
            let row = Json::object([
                ("id", Json::from(id)),
                ("agent_id", agent.into()),
                ("type", kind.into()),
                ("title", "t".into()),
                ("data_json", data.map_or(Json::Null, Json::from)),
            ]);
            seed::insert(fixture.sql.as_mut(), "agent_notifications", &[row]);
        }
    }
    let left = |fixture: &mut StoreFixture| {
        rows::select(
            fixture.sql.as_mut(),
            "SELECT id FROM agent_notifications ORDER BY id",
        )
        .iter()
        .map(|row| row.need("id").int().expect("an id"))
        .collect::<Vec<_>>()
    };
    let mut connection = fixture.connect();
    let mut expected = left(fixture);
    let thread_1 = Conversation::Direct(ThreadId(1));
    for (scope, conversation) in [("channel", GENERAL), ("direct", thread_1)] {
        connection
            .mark_read(BOB, conversation, MessageId(0))
            .expect("mark as read");
        for (id, (_, _, of)) in (1..).zip(NOTIFICATIONS) {
            if of == Some(scope) {
                expected.retain(|left| *left != id);
            }
        }
        assert_eq!(left(fixture), expected, "after reading {conversation}");
    }
    // Where there is nothing to delete, nothing is.
    connection
        .mark_read(ANN, GENERAL, MessageId(0))
        .expect("mark as read");
    assert_eq!(left(fixture), expected);
}

pub fn a_marker_of_an_unknown_agent_is_refused(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    assert_refused(connection.mark_read(AgentId(77), GENERAL, MessageId(0)));
    let nowhere = Conversation::Channel(ChannelId(77));
    assert_refused(connection.mark_read(ANN, nowhere, MessageId(0)));
    assert_refused(connection.mark_read(ANN, Conversation::Direct(ThreadId(77)), MessageId(0)));
    assert_eq!(fixture.number("SELECT COUNT(*) FROM chat_message_reads"), 0);
    // The connection is as good as before.
    connection
        .mark_read(ANN, GENERAL, MessageId(0))
        .expect("mark as read");
}
