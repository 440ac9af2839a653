//! What was said: newest ids, new and changed messages, histories, what is unread.

use andrea_chat_websocket::model::{
    AgentId, ChannelId, Conversation, Message, MessageId, Private, Search, ThreadId, Unread,
};
use andrea_chat_websocket::store::{
    MessagePage, NewMessage, PageLimit, Result, SEARCH_SCAN_LIMIT, Sent,
};

use super::{ANN, ANN_AND_BOB, BOB, CELIK, GENERAL, QUIET, StoreFixture, UNKNOWN_ID, message};

pub fn the_newest_ids_come_in_order(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let (now, none) = connection.newest_ids(3).expect("ask for ids");
    fixture.assert_now(&now);
    assert_eq!(none, []);
    let ids =
        fixture.post(&["one", "two", "three", "four"].map(|body| message(GENERAL, ANN, body)));
    let mut newest = |most| connection.newest_ids(most).expect("ask for ids").1;
    assert_eq!(newest(3), ids[1..]);
    assert_eq!(newest(10), ids);
}

pub fn messages_come_whole_and_in_order(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(ANN_AND_BOB, BOB, "between us 😀"),
        message(GENERAL, CELIK, "deleted"),
        message(GENERAL, CELIK, "edited"),
        message(GENERAL, AgentId(8), "plain"),
    ]);
    fixture.run(
        "UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'deleted'",
    );
    fixture.run(
        "UPDATE chat_messages SET metadata_json = '{\"a\": [1, \"é\"]}', edited_at = '2026-06-01 00:00:01', \
         body_rendered_html = NULL WHERE body_text = 'edited'",
    );
    let mut connection = fixture.connect();
    let mut above = |id, most| super::above(&mut connection, id, most);
    let bodies = |messages: &[Message]| -> Vec<String> {
        messages.iter().map(|one| one.body_text.clone()).collect()
    };
    let all = above(MessageId(0), 10);
    assert_eq!(bodies(&all), ["between us 😀", "edited", "plain"]);
    assert_eq!(bodies(&above(ids[0], 1)), ["edited"]);
    assert_eq!(above(ids[3], 10), []);
    assert_eq!(above(MessageId(UNKNOWN_ID), 10), []);
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

pub fn changes_are_found_by_their_time(fixture: &mut StoreFixture) {
    let ids = fixture.post(&["a", "b", "c", "d", "e"].map(|body| message(GENERAL, ANN, body)));
    for (set, body) in [
        ("edited_at = '2026-06-01 00:00:00'", "a"),
        ("edited_at = '2026-06-01 00:00:01'", "b"),
        (
            "deleted_at = '2026-06-01 00:00:02', deleted_by_agent_id = 2",
            "c",
        ),
        ("edited_at = '2026-06-01 00:00:03'", "d"),
    ] {
        fixture.run(&format!(
            "UPDATE chat_messages SET {set} WHERE body_text = '{body}'"
        ));
    }
    let mut connection = fixture.connect();
    let mut changed = |above, since| {
        connection
            .changed_messages(above, since)
            .expect("ask for changes")
    };
    let (now, found) = changed(MessageId(0), "2026-06-01 00:00:01");
    fixture.assert_now(&now);
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

fn room(messages: usize, bytes: usize) -> PageLimit {
    PageLimit { messages, bytes }
}

/// Ids, and whether there are older messages.
fn newest_of(found: Result<MessagePage>) -> (Vec<MessageId>, bool) {
    let found = found.expect("ask for messages");
    let ids = found.messages.iter().map(|one| one.id);
    (ids.collect(), found.has_older)
}

pub fn a_history_is_of_one_conversation_and_ends_before(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(GENERAL, ANN, "one"),
        message(QUIET, ANN, "elsewhere"),
        message(GENERAL, BOB, "two"),
        message(ANN_AND_BOB, ANN, "between us"),
        message(GENERAL, ANN, "deleted"),
        message(GENERAL, ANN, "three"),
    ]);
    fixture.run(
        "UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'deleted'",
    );
    let mut connection = fixture.connect();
    let mut history = |conversation, before, most| {
        newest_of(connection.history(conversation, before, room(most, 1 << 20)))
    };
    let all = |ids: &[MessageId]| (ids.to_vec(), false);
    assert_eq!(history(GENERAL, None, 10), all(&[ids[0], ids[2], ids[5]]));
    assert_eq!(history(GENERAL, None, 3), all(&[ids[0], ids[2], ids[5]]));
    assert_eq!(history(GENERAL, None, 2), (vec![ids[2], ids[5]], true));
    assert_eq!(history(GENERAL, Some(ids[5]), 10), all(&[ids[0], ids[2]]));
    assert_eq!(history(GENERAL, Some(ids[0]), 10), all(&[]));
    assert_eq!(history(ANN_AND_BOB, None, 10), all(&[ids[3]]));
    for nowhere in [
        Conversation::Channel(ChannelId(77)),
        Conversation::Direct(ThreadId(UNKNOWN_ID)),
    ] {
        assert_eq!(history(nowhere, None, 10), all(&[]));
    }
    let one = connection.messages(&[ids[4]]).expect("read messages").pop();
    assert_eq!(one.map(|one| one.body_text).as_deref(), Some("deleted"));
    for unknown in [0, ids[5].0 + 1, UNKNOWN_ID] {
        let none = connection.messages(&[MessageId(unknown)]);
        assert_eq!(none.expect("read messages"), []);
    }
}

fn looked_for(text: &str) -> Search {
    Search {
        agent: BOB,
        conversation: None,
        text: Private(text.to_owned()),
        sender: None,
        before: None,
    }
}

pub fn a_search_finds_letters_whatever_their_case_and_nothing_else(fixture: &mut StoreFixture) {
    let hidden = Conversation::Channel(ChannelId(4));
    let ids = fixture.post(&[
        message(GENERAL, ANN, "The Café closes at 50%"),
        message(GENERAL, BOB, "cafe_latte, 500 of them!"),
        message(ANN_AND_BOB, ANN, "CAFÉ? (deleted)"),
        message(hidden, AgentId(6), "cafe, not his"),
        message(ANN_AND_BOB, ANN, "no café today"),
    ]);
    fixture.run("UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text LIKE '%deleted%'");
    let mut connection = fixture.connect();
    let mut found = |search: Search, most| {
        let found = connection
            .search(&search, room(most, 1 << 20))
            .expect("search");
        let ids = found.messages.iter().map(|one| one.id).collect::<Vec<_>>();
        (ids, found.next_before)
    };
    for text in ["cafe", "CAFÉ", "afé"] {
        let expected = (vec![ids[0], ids[1], ids[4]], None);
        assert_eq!(found(looked_for(text), 10), expected, "{text}");
    }
    for (text, expected) in [
        ("50%", vec![ids[0]]),
        ("e_l", vec![ids[1]]),
        ("m!", vec![ids[1]]),
        ("%", vec![ids[0]]),
        ("a_e", vec![]),
        ("' OR 1=1 -- ", vec![]),
    ] {
        assert_eq!(found(looked_for(text), 10), (expected, None), "{text}");
    }
    let here = |conversation| Search {
        conversation: Some(conversation),
        ..looked_for("caf")
    };
    assert_eq!(found(here(ANN_AND_BOB), 10), (vec![ids[4]], None));
    assert_eq!(found(here(hidden), 10), (vec![ids[3]], None));
    let of_ann = Search {
        sender: Some(ANN),
        ..looked_for("caf")
    };
    assert_eq!(found(of_ann, 10), (vec![ids[0], ids[4]], None));
    let (newest, next) = found(looked_for("caf"), 2);
    assert_eq!((newest, next), (vec![ids[1], ids[4]], Some(ids[1])));
    let rest = Search {
        before: next,
        ..looked_for("caf")
    };
    assert_eq!(found(rest, 2), (vec![ids[0]], None));
}

pub fn a_search_looks_at_so_many_rows_and_says_where_it_goes_on(fixture: &mut StoreFixture) {
    let needle = fixture.post(&[message(GENERAL, ANN, "needle")]);
    let hay = vec![message(GENERAL, ANN, "hay"); 1000];
    for _ in 0..SEARCH_SCAN_LIMIT / 1000 {
        fixture.post(&hay);
    }
    let mut connection = fixture.connect();
    for conversation in [None, Some(GENERAL)] {
        let mut search = Search {
            conversation,
            ..looked_for("needle")
        };
        let first = connection
            .search(&search, room(10, 1 << 20))
            .expect("search");
        assert_eq!(first.messages, []);
        assert!(
            first.next_before.is_some_and(|id| id > needle[0]),
            "{first:?}"
        );
        search.before = first.next_before;
        let second = connection
            .search(&search, room(10, 1 << 20))
            .expect("search");
        assert_eq!(second.messages.len(), 1);
        assert_eq!(second.next_before, None);
    }
}

pub fn what_was_missed_is_what_may_be_seen(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(GENERAL, ANN, "before"),
        message(GENERAL, ANN, "one"),
        message(Conversation::Channel(ChannelId(4)), AgentId(6), "not his"),
        message(Conversation::Channel(ChannelId(3)), ANN, "archived"),
        message(ANN_AND_BOB, ANN, "between us"),
        message(
            Conversation::Direct(ThreadId(4)),
            CELIK,
            "between two others",
        ),
        message(QUIET, BOB, "his own"),
    ]);
    let mut connection = fixture.connect();
    let mut missed =
        |agent, after, most| newest_of(connection.missed(agent, after, room(most, 1 << 20)));
    let all = |ids: &[MessageId]| (ids.to_vec(), false);
    assert_eq!(missed(BOB, ids[0], 10), all(&[ids[1], ids[4], ids[6]]));
    assert_eq!(missed(BOB, ids[0], 2), (vec![ids[4], ids[6]], true));
    assert_eq!(missed(BOB, ids[6], 10), all(&[]));
    assert_eq!(
        missed(CELIK, MessageId(0), 10),
        all(&[ids[0], ids[1], ids[5]])
    );
    assert_eq!(missed(AgentId(UNKNOWN_ID), MessageId(0), 10), all(&[]));
}

pub fn many_are_read_to_the_last(fixture: &mut StoreFixture) {
    let bodies: Vec<String> = (0..250).map(|number| number.to_string()).collect();
    let rows: Vec<NewMessage> = bodies.iter().map(|b| message(GENERAL, ANN, b)).collect();
    let ids = fixture.post(&rows);
    let mut connection = fixture.connect();
    for count in [99, 100, 101, 249, 250, 251] {
        let expected = &ids[ids.len().saturating_sub(count)..];
        let expected = (expected.to_vec(), count < ids.len());
        let history = connection.history(GENERAL, None, room(count, 1 << 20));
        assert_eq!(newest_of(history), expected, "{count}");
        let missed = connection.missed(BOB, MessageId(0), room(count, 1 << 20));
        assert_eq!(newest_of(missed), expected, "{count}");
    }
    let missed = connection.missed(BOB, ids[149], room(1000, 1 << 20));
    assert_eq!(newest_of(missed), (ids[150..].to_vec(), false));
}

pub fn no_more_is_read_than_there_is_room_for(fixture: &mut StoreFixture) {
    let long = "x".repeat(20_000);
    let ids =
        fixture.post(&["one", &long, "two", &long, "three"].map(|b| message(GENERAL, ANN, b)));
    let mut connection = fixture.connect();
    // Text and HTML of a long one are some 40,000 bytes.
    for (bytes, expected) in [
        (1 << 20, &ids[..]),
        (81_500, &ids[1..]),
        (50_000, &ids[2..]),
        (1_000, &ids[4..]),
        (0, &ids[4..]),
    ] {
        let expected = (expected.to_vec(), expected.len() < ids.len());
        let history = connection.history(GENERAL, None, room(10, bytes));
        assert_eq!(newest_of(history), expected, "{bytes}");
        let missed = connection.missed(BOB, MessageId(0), room(10, bytes));
        assert_eq!(newest_of(missed), expected, "{bytes}");
    }
    // One is read however long it is.
    let missed = connection.history(GENERAL, Some(ids[4]), room(10, 0));
    assert_eq!(newest_of(missed), (vec![ids[3]], true));
}

pub fn what_is_unread_is_counted_from_the_marker(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(GENERAL, ANN, "one"),
        message(GENERAL, ANN, "two"),
        message(GENERAL, BOB, "his own"),
        message(GENERAL, ANN, "deleted"),
        message(GENERAL, CELIK, "three"),
        message(ANN_AND_BOB, ANN, "between us"),
    ]);
    fixture.run(
        "UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'deleted'",
    );
    let mut connection = fixture.connect();
    for (agent, conversation, id) in [
        (BOB, GENERAL, ids[0]),
        (BOB, ANN_AND_BOB, ids[5]),
        (ANN, GENERAL, ids[4]),
    ] {
        connection
            .mark_read(agent, conversation, id)
            .expect("mark as read");
    }
    let unread = |conversation, unread, last_read| Unread {
        conversation,
        unread,
        last_read,
    };
    // Not of the archived channel.
    assert_eq!(
        connection.unread(BOB).expect("count"),
        [
            unread(GENERAL, 2, ids[0]),
            unread(QUIET, 0, MessageId(0)),
            unread(ANN_AND_BOB, 0, ids[5]),
            unread(Conversation::Direct(ThreadId(3)), 0, MessageId(0)),
        ]
    );
    let celik = connection.unread(CELIK).expect("count");
    assert_eq!(celik[0], unread(GENERAL, 3, MessageId(0)));
    assert_eq!(connection.unread(AgentId(UNKNOWN_ID)).expect("count"), []);
}

pub fn of_very_many_messages_the_newest_are_looked_at(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[
        message(GENERAL, ANN, "the oldest"),
        message(GENERAL, ANN, "x"),
    ]);
    // 8,192 and the oldest.
    for _ in 0..13 {
        fixture.run(
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, created_at) \
             SELECT message_scope, channel_id, sender_agent_id, body_text, created_at FROM chat_messages \
             WHERE body_text = 'x'",
        );
    }
    let mut connection = fixture.connect();
    assert_eq!(connection.unread(BOB).expect("count")[0].unread, 1000);
    fixture
        .run("UPDATE chat_messages SET deleted_at = '2026-06-01 00:00:00' WHERE body_text = 'x'");
    assert_eq!(connection.unread(BOB).expect("count")[0].unread, 0);
    let mut history =
        |before, most| newest_of(connection.history(GENERAL, before, room(most, 1 << 20)));
    assert_eq!(history(None, 10), (vec![], false));
    assert_eq!(
        history(Some(MessageId(ids[1].0 + 1)), 10),
        (vec![ids[0]], false)
    );
}

pub fn recent_messages_with_metadata_are_found(fixture: &mut StoreFixture) {
    let now = fixture.sql.clock(0);
    let new = |sender, metadata: Option<&str>, created_at: &str| NewMessage {
        metadata_json: metadata.map(str::to_owned),
        created_at: created_at.to_owned(),
        ..message(GENERAL, sender, "b")
    };
    let metadata = r#"{"client": "é 1"}"#;
    let json = Some(metadata);
    let old = fixture.sql.clock(-700);
    let ids = fixture.post(&[
        new(ANN, json, &old),
        new(ANN, json, &now),
        new(ANN, None, &now),
        new(BOB, json, &now),
        new(CELIK, json, &now),
    ]);
    let mut connection = fixture.connect();
    let mut recent = |senders: &[AgentId], until, seconds| -> Vec<MessageId> {
        let found =
            connection.recent_with_metadata(senders, until, MessageId(u64::MAX >> 1), seconds);
        let found = found.expect("ask").into_iter();
        let like_it = |one: &Sent| one.metadata_json == metadata && one.conversation == GENERAL;
        found.filter(like_it).map(|one| one.id).collect()
    };
    assert_eq!(
        recent(&[ANN, BOB, AgentId(77)], ids[4], 600),
        [ids[1], ids[3]]
    );
    assert_eq!(recent(&[ANN, BOB], ids[1], 600), [ids[1]]);
    assert_eq!(recent(&[ANN], ids[4], 1000), [ids[0], ids[1]]);
    assert_eq!(recent(&[AgentId(77)], MessageId(i64::MAX as u64), 600), []);
}
