//! What other processes wrote: newest ids, new and changed messages.

use andrea_chat_websocket::model::{AgentId, Message, MessageId};

use super::{ANN, ANN_AND_BOB, BOB, CELIK, GENERAL, Ground, NOBODY, message};

pub fn the_newest_ids_come_in_order(ground: &mut Ground) {
    let mut connection = ground.connect();
    let (now, none) = connection.newest_ids(3).expect("ask for ids");
    ground.assert_now(&now);
    assert_eq!(none, []);
    let ids = ground.post(&["one", "two", "three", "four"].map(|body| message(GENERAL, ANN, body)));
    let mut newest = |most| connection.newest_ids(most).expect("ask for ids").1;
    assert_eq!(newest(3), ids[1..]);
    assert_eq!(newest(10), ids);
}

pub fn messages_come_whole_and_in_order(ground: &mut Ground) {
    let ids = ground.post(&[
        message(ANN_AND_BOB, BOB, "between us 😀"),
        message(GENERAL, CELIK, "deleted"),
        message(GENERAL, CELIK, "edited"),
        message(GENERAL, AgentId(8), "plain"),
    ]);
    ground.run(
        "UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'deleted'",
    );
    ground.run(
        "UPDATE chat_messages SET metadata_json = '{\"a\": [1, \"é\"]}', edited_at = '2026-06-01 00:00:01', \
         body_rendered_html = NULL WHERE body_text = 'edited'",
    );
    let mut connection = ground.connect();
    let mut above = |id, most| {
        connection
            .messages_above(id, most)
            .expect("ask for messages")
    };
    let bodies = |messages: &[Message]| -> Vec<String> {
        messages.iter().map(|one| one.body_text.clone()).collect()
    };
    let all = above(MessageId(0), 10);
    assert_eq!(bodies(&all), ["between us 😀", "edited", "plain"]);
    assert_eq!(bodies(&above(ids[0], 1)), ["edited"]);
    assert_eq!(above(ids[3], 10), []);
    assert_eq!(above(MessageId(NOBODY), 10), []);
    let first = Message {
        id: ids[0],
        conversation: ANN_AND_BOB,
        sender: BOB,
        body_text: "between us 😀".to_owned(),
        body_rendered_html: Some("<p>between us 😀</p>".to_owned()),
        metadata_json: None,
        created_at: "2026-05-01 10:00:00".to_owned(),
        edited_at: None,
        deleted_at: None,
        deleted_by: None,
        sender_name: "Bob Brown".to_owned(),
        sender_chat_handle: Some("bob".to_owned()),
    };
    assert_eq!(all[0], first);
    assert_eq!(all[1].body_rendered_html, None);
    assert_eq!(all[1].metadata_json.as_deref(), Some(r#"{"a": [1, "é"]}"#));
    assert_eq!(all[1].edited_at.as_deref(), Some("2026-06-01 00:00:01"));
    assert_eq!(all[2].conversation, GENERAL);
    assert_eq!(all[2].sender_chat_handle, None);
}

pub fn changes_are_found_by_their_time(ground: &mut Ground) {
    let ids = ground.post(&["a", "b", "c", "d", "e"].map(|body| message(GENERAL, ANN, body)));
    for (set, body) in [
        ("edited_at = '2026-06-01 00:00:00'", "a"),
        ("edited_at = '2026-06-01 00:00:01'", "b"),
        (
            "deleted_at = '2026-06-01 00:00:02', deleted_by_agent_id = 2",
            "c",
        ),
        ("edited_at = '2026-06-01 00:00:03'", "d"),
    ] {
        ground.run(&format!(
            "UPDATE chat_messages SET {set} WHERE body_text = '{body}'"
        ));
    }
    let mut connection = ground.connect();
    let mut changed = |above, since| {
        connection
            .changed_messages(above, since)
            .expect("ask for changes")
    };
    let (now, found) = changed(MessageId(0), "2026-06-01 00:00:01");
    ground.assert_now(&now);
    assert_eq!(
        found.iter().map(|one| one.id).collect::<Vec<_>>(),
        ids[1..4]
    );
    assert_eq!(found[1].deleted_at.as_deref(), Some("2026-06-01 00:00:02"));
    assert_eq!(found[1].deleted_by, Some(BOB));
    let (_, found) = changed(ids[2], "2026-06-01 00:00:01");
    assert_eq!(found.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[3]]);
    assert_eq!(changed(MessageId(0), "2026-07-01 00:00:00").1, []);
}
