//! What a batch of messages reads and writes.

use andrea_chat_websocket::model::{AgentId, ChannelId, ThreadId};
use andrea_chat_websocket::store::{
    Member, NewMessage, NewNotification, Participant, Sender, StoreError, Thread,
};
use andrea_chat_websocket::text::{Ticket, TicketReferences};

use super::{
    ANN, ANN_AND_BOB, BOB, CELIK, GENERAL, QUIET, StoreFixture, UNKNOWN_ID, assert_refused, message,
};
use crate::support::rows;

pub fn a_context_tells_all_that_posting_asks(fixture: &mut StoreFixture) {
    fixture.insert(
        "chat_channel_notification_preferences",
        r#"[{"agent_id":2,"channel_id":1,"notify_enabled":1},{"agent_id":3,"channel_id":1,"notify_enabled":0},
            {"agent_id":1,"channel_id":2,"notify_enabled":1},{"agent_id":5,"channel_id":1,"notify_enabled":1},{"agent_id":6,"channel_id":1,"notify_enabled":1}]"#,
    );
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    let context = connection
        .posting_context(
            &[1, 2, 3, 77, UNKNOWN_ID].map(ChannelId),
            &[1, 2, 77, UNKNOWN_ID].map(ThreadId),
            &[1, 3, 5, 7, 8, 77, UNKNOWN_ID].map(AgentId),
        )
        .expect("read the context");
    connection.rollback().expect("roll back");
    fixture.assert_now(&context.now);
    let member = |channel, agent, can_post, watches| Member {
        channel: ChannelId(channel),
        agent: AgentId(agent),
        can_post,
        watches,
    };
    // Not of channel 3, which is inactive. Agent 5 is not active, 7 cannot post, and 2 and 4 send nothing.
    assert_eq!(
        context.members,
        [
            member(1, 1, true, false),
            member(1, 2, false, true),
            member(1, 3, true, false),
            member(1, 4, false, false),
            member(1, 5, false, false),
            member(1, 7, false, false),
            member(1, 8, true, false),
            member(2, 1, true, true),
            member(2, 2, false, false),
        ]
    );
    let mut threads = context.threads;
    threads.sort_by_key(|thread| thread.id);
    let thread = |id, agents: [(AgentId, bool); 2]| Thread {
        id: ThreadId(id),
        agents: agents.map(|(agent, is_active)| Participant { agent, is_active }),
    };
    assert_eq!(
        threads,
        [
            thread(1, [(ANN, true), (BOB, true)]),
            thread(2, [(ANN, true), (AgentId(5), false)]),
        ]
    );
    let mut senders = context.senders;
    senders.sort_by_key(|sender| sender.id);
    let sender = |id, name: &str, handle: Option<&str>| Sender {
        id: AgentId(id),
        name: name.to_owned(),
        chat_handle: handle.map(str::to_owned),
    };
    assert_eq!(
        senders,
        [
            sender(1, "Ann Admin", Some("ann")),
            sender(3, "Çelik O'Neil & <Co>", Some("celik")),
            sender(5, "Eve Inactive", Some("eve")),
            sender(7, "Gus Read Only", Some("gus")),
            sender(8, "Hal No Handle", None),
        ]
    );
}

pub fn a_context_of_nothing_holds_only_the_clock(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    let context = connection
        .posting_context(&[ChannelId(3)], &[ThreadId(77)], &[AgentId(77)])
        .expect("read the context");
    assert_eq!((context.members, context.threads), (vec![], vec![]));
    assert_eq!(context.senders, []);
}

pub fn handles_are_equal_without_case_and_accents(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    let mut found = |handles: &[&str]| -> Vec<u64> {
        let handles: Vec<String> = handles.iter().map(|&handle| handle.to_owned()).collect();
        let agents = connection.agents_by_handle(&handles).expect("look up");
        agents.into_iter().map(|id| id.0).collect()
    };
    assert_eq!(found(&["bob", "ann"]), [1, 2]);
    assert_eq!(found(&["ann", "ANN", "Ann"]), [1]);
    assert_eq!(found(&["otto"]), [14]);
    // The handle is josé.
    assert_eq!(found(&["jose", "JOSÉ"]), [11]);
    assert_eq!(
        found(&["dee_dash", "ann-lee", "9lives", "i"]),
        [4, 9, 12, 13]
    );
    // Inactive, unknown, no pattern.
    assert_eq!(
        found(&["eve", "unknown", "%", "_", "a__", "dee-dash"]),
        [0; 0]
    );
    assert_eq!(found(&[]), [0; 0]);
    let many: Vec<String> = (0..2000).map(|n| format!("unknown{n}")).collect();
    let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
    many.push("zed");
    assert_eq!(found(&many), [99]);
}

pub fn tickets_are_found_by_id_and_by_number_unless_deleted(fixture: &mut StoreFixture) {
    fixture.insert(
        "tickets",
        r#"[{"id":50,"ticket_number":"Böse-2026-01-01-1","subject":"s"}]"#,
    );
    let mut connection = fixture.connect();
    let mut found = |ids: &[u64], numbers: &[&str]| {
        let references = TicketReferences {
            ids: ids.to_vec(),
            numbers: numbers.iter().map(|&number| number.to_owned()).collect(),
        };
        let mut tickets = connection.tickets(&references).expect("look up tickets");
        tickets.sort_by_key(|ticket| ticket.id);
        tickets
            .into_iter()
            .map(|Ticket { id, number }| (id, number))
            .collect::<Vec<_>>()
    };
    let ticket = |id: u64, number: &str| (id, number.to_owned());
    let first = || ticket(1, "HD-2026-01-01-1");
    assert_eq!(found(&[], &[]), []);
    assert_eq!(found(&[1, 0, 77, UNKNOWN_ID], &[]), [first()]);
    assert_eq!(found(&[], &["hd-2026-01-01-1"]), [first()]);
    assert_eq!(
        found(&[], &["HD-2026-07-01-9"]),
        [ticket(44, "hd-2026-07-01-9")]
    );
    assert_eq!(
        found(&[], &["BOSE-2026-01-01-1"]),
        [ticket(50, "Böse-2026-01-01-1")]
    );
    // The same one both ways is one.
    assert_eq!(found(&[1], &["HD-2026-01-01-1"]), [first()]);
    assert_eq!(
        found(&[1_234_567_890, 1], &["r&d-2026-06-01-5"]),
        [
            first(),
            ticket(42, "R&D-2026-06-01-5"),
            ticket(1_234_567_890, "HD-2026-08-01-77"),
        ]
    );
    // Deleted, unknown, no pattern.
    assert_eq!(
        found(&[13], &["HD-2026-05-12-132", "HD-2027-01-01-1", "HD-%"]),
        []
    );
}

pub fn preferences_come_as_they_are(fixture: &mut StoreFixture) {
    fixture.run("UPDATE agents SET notification_preferences_json = '{broken ' WHERE id = 2");
    fixture.run("UPDATE agents SET notification_preferences_json = '' WHERE id = 3");
    let mut connection = fixture.connect();
    let mut found = connection
        .notification_preferences(&[3, 1, 2, 77].map(AgentId))
        .expect("read preferences");
    found.sort_unstable();
    assert_eq!(
        found,
        [
            (ANN, None),
            (BOB, Some("{broken ".to_owned())),
            (CELIK, Some(String::new())),
        ]
    );
    let none = connection.notification_preferences(&[]);
    assert_eq!(none.expect("read nothing"), []);
}

pub fn a_batch_gets_ascending_ids_in_its_order(fixture: &mut StoreFixture) {
    let batch: Vec<NewMessage> = (0..256)
        .map(|n| {
            let conversation = [GENERAL, ANN_AND_BOB, QUIET][n % 3];
            message(conversation, [ANN, BOB][n % 2], &format!("message {n}"))
        })
        .collect();
    let ids = fixture.post(&batch);
    assert_eq!(ids.len(), batch.len());
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
    let columns = "SELECT id, message_scope, channel_id, thread_id, sender_agent_id, body_text, body_rendered_html, \
                   metadata_json, created_at, edited_at, deleted_at, deleted_by_agent_id FROM chat_messages ORDER BY id";
    let stored = fixture.rows(columns);
    assert_eq!(stored.len(), batch.len());
    for ((row, id), new) in stored.iter().zip(&ids).zip(&batch) {
        let number = |id: Option<u64>| id.map_or("null".to_owned(), |id| id.to_string());
        let expected = format!(
            r#"{{"id":{id},"message_scope":"{}","channel_id":{},"thread_id":{},"sender_agent_id":{},"body_text":"{}","body_rendered_html":"{}","metadata_json":null,"created_at":"2026-05-01 10:00:00","edited_at":null,"deleted_at":null,"deleted_by_agent_id":null}}"#,
            new.conversation.scope(),
            number(new.conversation.channel_id().map(|id| id.0)),
            number(new.conversation.thread_id().map(|id| id.0)),
            new.sender,
            new.body_text,
            new.body_rendered_html,
        );
        assert_eq!(*row, expected);
    }
    // An id that was given once is not given again.
    fixture.run("DELETE FROM chat_messages");
    let next = fixture.post(&[message(GENERAL, ANN, "later")]);
    assert!(next[0] > ids[255], "{next:?}");
}

pub fn text_is_stored_to_the_last_byte_and_no_longer(fixture: &mut StoreFixture) {
    let special = "'\"\\%_; -- 日本 😀 \u{1f468}\u{200d}\u{1f469} \u{7f} \r\n\t \u{0} end ";
    let full = format!("{}é", "😀".repeat(16_383)) + "x";
    assert_eq!(full.len(), 65_535);
    for body in [special, &full, ""] {
        let mut new = message(GENERAL, ANN, "");
        new.body_text = body.to_owned();
        new.body_rendered_html = body.to_owned();
        let id = fixture.post(&[new])[0];
        let mut connection = fixture.connect();
        let above = super::above(&mut connection, id, 1);
        assert_eq!(above, []);
        let below = andrea_chat_websocket::model::MessageId(id.0 - 1);
        let stored = super::above(&mut connection, below, 1);
        assert_eq!(stored[0].body_text, body);
        assert_eq!(stored[0].body_rendered_html.as_deref(), Some(body));
    }
    let before = fixture.number("SELECT COUNT(*) FROM chat_messages");
    let too_long = format!("{full}x");
    for is_html in [false, true] {
        let mut new = message(GENERAL, ANN, "fits");
        let text = match is_html {
            true => &mut new.body_rendered_html,
            false => &mut new.body_text,
        };
        text.clone_from(&too_long);
        let mut connection = fixture.connect();
        connection.begin().expect("begin");
        // As a whole: the one that fits goes with the one that does not.
        assert_refused(connection.insert_messages(&[message(GENERAL, ANN, "fits"), new]));
        connection.rollback().expect("roll back");
    }
    assert_eq!(fixture.number("SELECT COUNT(*) FROM chat_messages"), before);
}

pub fn mentions_are_written_once(fixture: &mut StoreFixture) {
    let ids = fixture.post(&[message(GENERAL, ANN, "one"), message(GENERAL, ANN, "two")]);
    let mut connection = fixture.connect();
    let mut insert = |mentions: &[_]| {
        connection.begin()?;
        connection.insert_mentions(mentions)?;
        connection.commit()
    };
    insert(&[(ids[0], BOB), (ids[0], ANN), (ids[1], BOB)]).expect("insert mentions");
    let stored = fixture.rows(
        "SELECT message_id, mentioned_agent_id FROM chat_message_mentions ORDER BY message_id, mentioned_agent_id",
    );
    let row =
        |message, agent| format!(r#"{{"message_id":{message},"mentioned_agent_id":{agent}}}"#);
    assert_eq!(
        stored,
        [row(ids[0], ANN), row(ids[0], BOB), row(ids[1], BOB)]
    );
    for refused in [(ids[0], BOB), (ids[1], AgentId(77))] {
        let mut connection = fixture.connect();
        connection.begin().expect("begin");
        assert_refused(connection.insert_mentions(&[(ids[1], CELIK), refused]));
    }
    assert_eq!(
        fixture.number("SELECT COUNT(*) FROM chat_message_mentions"),
        3
    );
}

pub fn a_thread_is_touched_alone(fixture: &mut StoreFixture) {
    fixture.run("UPDATE chat_threads SET updated_at = '2001-01-01 00:00:00'");
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    connection
        .touch_threads(&[1, 4, 77].map(ThreadId))
        .expect("touch threads");
    connection.commit().expect("commit");
    let threads = rows::select(
        fixture.sql.as_mut(),
        "SELECT id, last_message_at, updated_at FROM chat_threads ORDER BY id",
    );
    for thread in &threads {
        let time = |column| thread.need(column).str().unwrap_or("never").to_owned();
        if [Some(1), Some(4)].contains(&thread.need("id").int()) {
            fixture.assert_now(&time("last_message_at"));
            fixture.assert_now(&time("updated_at"));
        } else {
            assert_eq!(time("last_message_at"), "never");
            assert_eq!(time("updated_at"), "2001-01-01 00:00:00");
        }
    }
}

pub fn a_notification_is_written_once(fixture: &mut StoreFixture) {
    fixture.insert(
        "agent_notifications",
        r#"[{"agent_id":2,"type":"chat_mention","title":"old","dedupe_key":"chat:mention:1"},
            {"agent_id":2,"type":"other","title":"old"}]"#,
    );
    let note = |agent: u64, key: &str| NewNotification {
        agent: AgentId(agent),
        kind: "chat_mention",
        title: "You were mentioned in chat",
        body: "Çelik · 😀 'quoted'".to_owned(),
        link: "/chat/channels/1".to_owned(),
        data_json: r#"{"message_id":1}"#.to_owned(),
        dedupe_key: key.to_owned(),
    };
    let mut connection = fixture.connect();
    let mut insert = |notes: &[NewNotification]| {
        connection.begin()?;
        let new = connection.insert_notifications(notes)?;
        connection.commit()?;
        Ok::<_, StoreError>(new)
    };
    insert(&[
        // There already; in another case, too.
        note(2, "chat:mention:1"),
        note(2, "CHAT:mention:1"),
        note(1, "chat:mention:1"),
        note(2, "chat:mention:2"),
        note(2, "chat:mention:2"),
        // A notification for an unknown agent is skipped.
        note(77, "chat:mention:1"),
    ])
    .expect("insert notifications");
    insert(&[note(1, "chat:mention:1")]).expect("insert one again");
    let new = insert(&[
        note(2, "chat:mention:1"),
        note(4, "chat:mention:9"),
        note(77, "chat:mention:9"),
    ]);
    assert_eq!(new.expect("insert one that is new"), [1]);
    let many: Vec<NewNotification> = (0..1200).map(|n| note(3, &format!("k{n}"))).collect();
    insert(&many).expect("insert many");
    assert_eq!(
        fixture.rows(
            "SELECT agent_id, title, dedupe_key FROM agent_notifications WHERE agent_id < 3 \
             ORDER BY agent_id, dedupe_key"
        ),
        [
            r#"{"agent_id":1,"title":"You were mentioned in chat","dedupe_key":"chat:mention:1"}"#,
            r#"{"agent_id":2,"title":"old","dedupe_key":null}"#,
            r#"{"agent_id":2,"title":"old","dedupe_key":"chat:mention:1"}"#,
            r#"{"agent_id":2,"title":"You were mentioned in chat","dedupe_key":"chat:mention:2"}"#,
        ]
    );
    assert_eq!(
        fixture.rows(
            "SELECT type, severity, body, link, data_json, read_at FROM agent_notifications WHERE agent_id = 1"
        ),
        [
            r#"{"type":"chat_mention","severity":"info","body":"Çelik · 😀 'quoted'","link":"/chat/channels/1","data_json":"{\"message_id\":1}","read_at":null}"#
        ]
    );
    assert_eq!(
        fixture.number("SELECT COUNT(*) FROM agent_notifications WHERE agent_id = 3"),
        1200
    );
    let created = rows::select(
        fixture.sql.as_mut(),
        "SELECT created_at FROM agent_notifications WHERE agent_id = 1",
    );
    fixture.assert_now(created[0].need("created_at").str().expect("a time"));
}

/// Every letter that may stand in a name of a country with Latin script is found alike. One agent a letter, so MariaDB's
/// unique key is dropped.
#[test]
#[cfg(feature = "embedded")]
fn every_latin_letter_is_equal_to_the_same_letters_on_both_engines() {
    needs!(MariaDb);
    let letters: Vec<char> = ('\u{a1}'..='\u{236}')
        .chain('\u{1e00}'..='\u{1e99}')
        .chain('\u{1ea0}'..='\u{1ef9}')
        .chain(['\u{301}', 'a', 'Z', '7'])
        .collect();
    let rows: Vec<String> = letters
        .iter()
        .enumerate()
        .map(|(place, letter)| {
            let id = 1000 + place;
            format!(
                r#"{{"id":{id},"name":"n","email":"{id}@example.test","password_hash":"!","chat_handle":"x{letter}y"}}"#
            )
        })
        .collect();
    let rows = format!("[{}]", rows.join(","));
    let found = |mut fixture: StoreFixture, before: &[&str]| {
        for statement in before {
            fixture.run(statement);
        }
        fixture.insert("agents", &rows);
        let mut connection = fixture.connect();
        let mut find = |inner: String| {
            let handle = [format!("x{inner}y")];
            let agents = connection.agents_by_handle(&handle).expect("look up");
            agents.into_iter().map(|id| id.0).collect::<Vec<_>>()
        };
        let ascii = ('a'..='z').chain('0'..='9').map(String::from);
        let pairs = ["", "ss", "oe", "ae", "ij", "dz", "lj", "nj", "th"].map(str::to_owned);
        ascii
            .chain(pairs)
            .chain(letters.iter().map(char::to_string))
            .map(|inner| (inner.clone(), find(inner)))
            .collect::<Vec<_>>()
    };
    let mariadb = found(
        StoreFixture::mariadb(),
        &["ALTER TABLE agents DROP KEY uq_agents_chat_handle"],
    );
    // Accents are no matter of the key there.
    let sqlite = found(StoreFixture::sqlite(), &[]);
    let differ: Vec<_> = mariadb
        .iter()
        .zip(&sqlite)
        .filter(|(m, s)| m != s)
        .collect();
    assert!(differ.is_empty(), "MariaDB and SQLite: {differ:?}");
}
