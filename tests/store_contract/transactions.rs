//! What a transaction promises.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use andrea_chat_websocket::model::{AgentId, ChannelId, MessageId, ThreadId};
use andrea_chat_websocket::store::{Failure, NewMessage};

use super::{ANN, ANN_AND_BOB, BOB, GENERAL, StoreFixture, above, assert_refused, message};
use crate::support::wait;

const COUNT: &str = "SELECT COUNT(*) FROM chat_messages";

pub fn what_is_committed_is_there_when_opened_again(fixture: &mut StoreFixture) {
    let new = message(GENERAL, ANN, "for good");
    let ids = fixture.post(std::slice::from_ref(&new));
    let mut connection = fixture.connect();
    let stored = above(&mut connection, MessageId(0), 10);
    assert_eq!(stored.len(), 1);
    assert_eq!(
        (stored[0].id, stored[0].body_text.as_str()),
        (ids[0], "for good")
    );
    // The same connection goes on with the next batch.
    for round in 0..3 {
        connection.begin().expect("begin");
        let body = format!("round {round}");
        connection
            .insert_messages(&[message(ANN_AND_BOB, BOB, &body)])
            .expect("insert");
        connection
            .touch_threads(&[ThreadId(1)])
            .expect("touch a thread");
        connection.commit().expect("commit");
        drop(fixture.connect());
    }
    assert_eq!(fixture.number(COUNT), 4);
}

pub fn what_is_rolled_back_was_never_there(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    let ids = connection
        .insert_messages(&[message(ANN_AND_BOB, ANN, "taken back")])
        .expect("insert");
    connection
        .insert_mentions(&[(ids[0], BOB)])
        .expect("mention");
    connection.touch_threads(&[ThreadId(1)]).expect("touch");
    // No other connection has seen any of it.
    assert_eq!(fixture.number(COUNT), 0);
    connection.rollback().expect("roll back");
    for table in ["chat_messages", "chat_message_mentions"] {
        assert_eq!(fixture.number(&format!("SELECT COUNT(*) FROM {table}")), 0);
    }
    let touched = "SELECT COUNT(*) FROM chat_threads WHERE last_message_at IS NOT NULL";
    assert_eq!(fixture.number(touched), 0);
    // Again, with nothing to take back, and then for good.
    connection.rollback().expect("roll back nothing");
    connection.begin().expect("begin");
    connection
        .insert_messages(&[message(GENERAL, ANN, "kept")])
        .expect("insert");
    connection.commit().expect("commit");
    assert_eq!(fixture.number(COUNT), 1);
}

/// What tells a message that was committed from another one.
fn row(id: MessageId, new: &NewMessage) -> (MessageId, AgentId, &str) {
    (id, new.sender, &new.body_text)
}

pub fn what_a_lost_connection_left_open_was_never_there(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    let new = message(GENERAL, ANN, "lost");
    let ids = connection
        .insert_messages(std::slice::from_ref(&new))
        .expect("insert");
    drop(connection);
    let stored = fixture.connect().were_committed(&[row(ids[0], &new)]);
    assert!(!stored.expect("ask"));
    assert_eq!(fixture.number(COUNT), 0);
}

pub fn a_refused_statement_leaves_the_rest_as_it_is(fixture: &mut StoreFixture) {
    let mut connection = fixture.connect();
    connection.begin().expect("begin");
    let ids = connection
        .insert_messages(&[message(GENERAL, ANN, "stays")])
        .expect("insert");
    let unknown = AgentId(77);
    assert_refused(connection.insert_mentions(&[(ids[0], BOB), (ids[0], unknown)]));
    assert_refused(connection.insert_messages(&[
        message(GENERAL, ANN, "goes"),
        message(GENERAL, unknown, "is refused"),
    ]));
    connection.commit().expect("commit");
    assert_eq!(
        fixture.rows("SELECT body_text FROM chat_messages"),
        [r#"{"body_text":"stays"}"#]
    );
    assert_eq!(
        fixture.number("SELECT COUNT(*) FROM chat_message_mentions"),
        0
    );
}

pub fn the_committed_are_told_from_the_lost(fixture: &mut StoreFixture) {
    let new = [
        message(GENERAL, ANN, "one 😀"),
        message(ANN_AND_BOB, BOB, "two"),
    ];
    let ids = fixture.post(&new);
    let mut connection = fixture.connect();
    let mut ask = |rows: &[(MessageId, &NewMessage)]| {
        let rows: Vec<_> = rows.iter().map(|(id, new)| row(*id, new)).collect();
        let rows = &rows[..];
        let answer = connection.were_committed(rows).expect("ask");
        // On a connection that posts, too, and as often as one likes.
        connection.begin().expect("begin");
        assert_eq!(connection.were_committed(rows).expect("ask"), answer);
        answer
    };
    assert!(ask(&[(ids[0], &new[0]), (ids[1], &new[1])]));
    let unused = MessageId(ids[1].0 + 1);
    assert!(!ask(&[(unused, &new[0])]));
    assert!(!ask(&[(ids[0], &new[0]), (unused, &new[1])]));
    // The id belongs to another message by now.
    assert!(!ask(&[(ids[0], &message(GENERAL, ANN, "ONE 😀"))]));
    assert!(!ask(&[(ids[0], &message(GENERAL, BOB, "one 😀"))]));
    // The question has left nothing open that would block a writer.
    fixture.post(&[message(GENERAL, ANN, "three")]);
}

pub fn a_question_about_an_open_transaction_waits_for_its_end(fixture: &mut StoreFixture) {
    let new = message(GENERAL, ANN, "in doubt");
    for commits in [true, false] {
        let mut writer = fixture.connect();
        writer.begin().expect("begin");
        let ids = writer
            .insert_messages(std::slice::from_ref(&new))
            .expect("insert");
        let mut asker = fixture.connect();
        let (sender, answer) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| sender.send(asker.were_committed(&[row(ids[0], &new)])));
            wait::pass(Duration::from_millis(300));
            assert!(answer.try_recv().is_err(), "answered before the end");
            match commits {
                true => writer.commit().expect("commit"),
                false => writer.rollback().expect("roll back"),
            }
            let answer = answer.recv_timeout(wait::LIMIT).expect("an answer");
            assert_eq!(answer.expect("ask"), commits);
        });
    }
}

pub fn several_connections_post_at_once(fixture: &mut StoreFixture) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 10;
    const BATCH: usize = 7;
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let mut connection = fixture.connect();
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let batch: Vec<NewMessage> = (0..BATCH)
                        .map(|n| message(GENERAL, ANN, &format!("{writer} {round} {n}")))
                        .collect();
                    connection.begin().expect("begin");
                    let ids = connection.insert_messages(&batch).expect("insert");
                    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
                    let rows = ids.iter().zip(&batch).map(|(id, new)| row(*id, new));
                    let rows: Vec<_> = rows.collect();
                    connection.commit().expect("commit");
                    assert!(connection.were_committed(&rows).expect("ask"));
                }
            });
        }
        // One who reads and one who marks, meanwhile.
        let mut connection = fixture.connect();
        scope.spawn(move || {
            let mut marker = MessageId(0);
            for _ in 0..ROUNDS {
                let next = connection
                    .mark_read(BOB, GENERAL, MessageId(u64::MAX))
                    .expect("mark as read");
                assert!(next >= marker);
                marker = next;
                connection.settings().expect("read the settings");
            }
        });
    });
    let count = i64::try_from(WRITERS * ROUNDS * BATCH).expect("a small number");
    assert_eq!(fixture.number(COUNT), count);
    assert_eq!(
        fixture.number("SELECT COUNT(DISTINCT body_text) FROM chat_messages"),
        count
    );
}

pub fn a_lock_that_is_held_too_long_is_a_conflict(fixture: &mut StoreFixture) {
    let mut holder = fixture.connect();
    holder.begin().expect("begin");
    holder.touch_threads(&[ThreadId(1)]).expect("touch");
    let mut other = fixture.connect();
    let result = other
        .begin()
        .and_then(|()| other.touch_threads(&[ThreadId(1)]));
    let error = result.expect_err("the row is locked");
    assert_eq!(error.failure, Failure::Conflict, "{error}");
    other.rollback().expect("roll back");
    holder.commit().expect("commit");
    // The same connection may try again.
    other.begin().expect("begin");
    other.touch_threads(&[ThreadId(1)]).expect("touch");
    other.commit().expect("commit");
}

pub fn what_has_read_may_still_write(fixture: &mut StoreFixture) {
    let mut poster = fixture.connect();
    let mut other = fixture.connect();
    poster.begin().expect("begin");
    poster
        .posting_context(&[ChannelId(1)], &[], &[ANN])
        .expect("read");
    thread::scope(|scope| {
        // At once, or once the poster is done: as the engine likes.
        let writes = scope.spawn(move || other.update_settings(&[("chat_websocket_pid", "7")]));
        wait::pass(Duration::from_millis(200));
        poster
            .insert_messages(&[message(GENERAL, ANN, "read, then written")])
            .expect("insert");
        poster.commit().expect("commit");
        writes.join().expect("no panic").expect("update");
    });
    assert_eq!(fixture.number(COUNT), 1);
    let rows = fixture.connect().settings().expect("read the settings");
    assert_eq!(rows.text("chat_websocket_pid", ""), "7");
}

pub fn a_reader_waits_for_no_writer(fixture: &mut StoreFixture) {
    let mut writer = fixture.connect();
    writer.begin().expect("begin");
    writer
        .insert_messages(&[message(GENERAL, ANN, "not yet")])
        .expect("insert");
    writer
        .update_settings(&[("chat_websocket_status", "running")])
        .expect("update");
    let mut reader = fixture.connect();
    let rows = reader.settings().expect("read the settings");
    assert_eq!(rows.text("chat_websocket_status", ""), "stopped");
    assert_eq!(above(&mut reader, MessageId(0), 1), []);
    reader.audience(GENERAL).expect("read an audience");
    writer.commit().expect("commit");
    assert_eq!(above(&mut reader, MessageId(0), 1).len(), 1);
}
