//! The rules of session and chat without a socket and without a server: text in, text out, over SQLite (`desk`).

mod desk;

use std::time::Instant;

use andrea_chat_websocket::config::settings::Settings;
use andrea_chat_websocket::model::AgentId;
use serde_json::{Value, json};

use self::desk::{Desk, token};

/// Of the seed: agents 1, 2 and 3 are in channel 1, agents 1 and 2 in channel 2 and thread 1.
const GENERAL: u64 = 1;
/// Is in no channel.
const OUTSIDER: u64 = 6;
/// May read channel 1, and not write there.
const READER: u64 = 7;
const INACTIVE: u64 = 5;

const STORED: &str = "SELECT COUNT(*) AS n FROM chat_messages";
const NEWEST: &str = "SELECT MAX(id) AS id FROM chat_messages";

fn created(told: &[Value]) -> Vec<&Value> {
    let of_kind = |one: &&Value| {
        one["type"]
            .as_str()
            .is_some_and(|t| t.ends_with(".created"))
    };
    told.iter().filter(of_kind).collect()
}

fn bodies(told: &[Value]) -> Vec<&str> {
    created(told)
        .iter()
        .map(|one| one["message"]["body_text"].as_str().expect("a body"))
        .collect()
}

fn ids(told: &[Value]) -> Vec<u64> {
    created(told)
        .iter()
        .map(|one| one["message"]["id"].as_u64().expect("an id"))
        .collect()
}

fn codes(told: &[Value]) -> Vec<&str> {
    told.iter().filter_map(|one| one["code"].as_str()).collect()
}

#[test]
fn a_message_goes_to_all_members_and_its_ref_to_its_sender_alone() {
    let desk = Desk::open();
    let [mut ann, mut bob, mut fay] = [1, 2, OUTSIDER].map(|agent| desk.login(agent));
    let mut second = desk.login(1);
    ann.post(GENERAL, "  good *morning* ", "r1");
    let told = ann.hear();
    assert_eq!(bodies(&told), ["good *morning*"], "{told:?}");
    assert_eq!(created(&told)[0]["ref"], "r1");
    for other in [&mut bob, &mut second] {
        let told = other.hear();
        assert_eq!(bodies(&told), ["good *morning*"], "{told:?}");
        assert_eq!(created(&told)[0].get("ref"), None, "{told:?}");
    }
    assert_eq!(bodies(&fay.hear()), [""; 0]);
    assert_eq!(desk.number(STORED), 1);
}

#[test]
fn what_may_not_be_said_is_refused_and_not_stored() {
    let desk = Desk::open();
    let long = "x".repeat(4001);
    for (agent, channel, body, code) in [
        (1, GENERAL, " \r\n ", "message_empty"),
        (1, GENERAL, &*long, "message_too_long"),
        (OUTSIDER, GENERAL, "hello", "cannot_post"),
        (READER, GENERAL, "hello", "cannot_post"),
        (1, 4711, "hello", "cannot_post"),
    ] {
        let mut person = desk.login(agent);
        person.post(channel, body, "r");
        let told = person.hear();
        assert_eq!(codes(&told), [code], "{told:?}");
        assert_eq!(told.last().expect("an answer")["ref"], "r");
    }
    let mut fay = desk.login(OUTSIDER);
    fay.say(&json!({"type": "chat.direct.message.send", "thread_id": 1, "body": "hello"}));
    assert_eq!(codes(&fay.hear()), ["no_thread_access"]);
    assert_eq!(desk.number(STORED), 0);
}

#[test]
fn nothing_is_done_for_who_has_not_shown_a_token_of_an_active_agent() {
    let desk = Desk::open();
    let mut person = desk.connect();
    person.post(GENERAL, "hello", "r");
    assert_eq!(person.hear()[0]["type"], "auth.failed");
    assert_eq!(person.closed(), None);
    for bad in [token(INACTIVE), token(4711), token(1) + "x", String::new()] {
        let mut person = desk.connect();
        person.say(&json!({"type": "auth", "token": bad}));
        let told = person.await_told(|one| one["type"] == "auth.failed");
        assert_eq!(told.len(), 1, "{told:?}");
        person.await_told(|_| false);
        assert_eq!(person.closed(), Some(4401), "{told:?}");
    }
    assert_eq!(desk.number(STORED), 0);
}

#[test]
fn one_ref_from_two_sockets_in_one_batch_is_stored_once() {
    let desk = Desk::without_commit();
    let [mut one, mut two] = [1, 1].map(|agent| desk.login(agent));
    let mut bob = desk.login(2);
    one.post(GENERAL, "once", "same");
    two.post(GENERAL, "once", "same");
    // Another agent's same `ref` is another message.
    bob.post(GENERAL, "bob's", "same");
    desk.start_commit();
    let told = [one.hear(), two.hear()];
    let answers = told.each_ref().map(|told| {
        let own = created(told).into_iter().find(|one| one["ref"] == "same");
        own.expect("an answer")["message"]["id"].clone()
    });
    assert_eq!(answers[0], answers[1], "{told:?}");
    assert_eq!(desk.number(STORED), 2);
    let mut heard = bodies(&bob.hear()).join(" ");
    heard.retain(|c| c != '\'');
    assert!(["once bobs", "bobs once"].contains(&&*heard), "{heard}");
}

#[test]
fn a_message_that_is_sent_again_later_gets_the_first_answer() {
    let desk = Desk::open();
    let mut ann = desk.login(1);
    ann.post(GENERAL, "once", "same");
    let first = ids(&ann.hear());
    ann.post(GENERAL, "edited meanwhile", "same");
    let told = ann.hear();
    assert_eq!((ids(&told), bodies(&told)), (first.clone(), vec!["once"]));
    // On another socket, and in another channel, where it is another message.
    let mut again = desk.login(1);
    again.post(GENERAL, "once", "same");
    assert_eq!(ids(&again.hear()), first);
    again.post(2, "once", "same");
    assert_ne!(ids(&again.hear()), first);
    assert_eq!(desk.number(STORED), 2);
}

#[test]
fn a_batch_is_told_in_the_order_of_its_ids_to_everybody() {
    const MESSAGES: usize = 20;
    let desk = Desk::without_commit();
    let mut people = [1, 1, 2, 2, 3].map(|agent| desk.login(agent));
    let mut senders: Vec<_> = (0..MESSAGES)
        .map(|number| {
            let mut sender = desk.login(1 + number as u64 % 3);
            sender.post(GENERAL, &format!("message {number}"), "");
            sender
        })
        .collect();
    desk.start_commit();
    senders.iter_mut().for_each(|sender| sender.await_stored());
    let orders = people.each_mut().map(|person| ids(&person.hear()));
    assert_eq!(orders[0].len(), senders.len());
    assert!(orders[0].is_sorted_by(|a, b| a < b), "{:?}", orders[0]);
    assert!(orders.iter().all(|order| *order == orders[0]));
}

#[test]
fn the_answer_to_a_message_comes_before_the_answer_to_what_was_asked_after_it() {
    let desk = Desk::open();
    let mut ann = desk.login(1);
    for number in 0..50 {
        ann.post(GENERAL, &format!("message {number}"), "m");
        ann.say(&json!({"type": "ping", "ref": "p"}));
    }
    let told = ann.hear();
    let refs: Vec<_> = told.iter().filter_map(|one| one["ref"].as_str()).collect();
    assert_eq!(refs, ["m", "p"].repeat(50));
}

#[test]
fn a_message_whose_time_is_over_is_refused_once_and_never_stored() {
    let desk = Desk::without_commit();
    let mut ann = desk.login(1);
    ann.post(GENERAL, "too late", "r");
    ann.refuse_overdue(Some(Instant::now()));
    assert_eq!(desk.number(STORED), 0, "its time is not over yet");
    ann.refuse_overdue(None);
    ann.refuse_overdue(None);
    desk.start_commit();
    let told = ann.hear();
    assert_eq!(codes(&told), ["database_unavailable"], "{told:?}");
    // What comes behind it is stored, so the thread has been past it.
    ann.post(GENERAL, "in time", "s");
    assert_eq!(bodies(&ann.hear()), ["in time"]);
    assert_eq!(desk.number(STORED), 1);
}

#[test]
fn who_resumes_gets_what_was_missed_once_in_order_and_nothing_deleted() {
    let desk = Desk::open();
    let mut ann = desk.login(1);
    for number in 0..6 {
        ann.post(GENERAL, &format!("message {number}"), "");
    }
    let all = ids(&ann.hear());
    desk.run(&format!(
        "UPDATE chat_messages SET deleted_at = created_at WHERE id = {}",
        all[3]
    ));
    let (mut bob, told) = desk.resume(2, Some(all[1]));
    assert_eq!(ids(&told), [all[2], all[4], all[5]], "{told:?}");
    let end = told.last().expect("an end");
    assert_eq!(
        (&end["type"], &end["complete"]),
        (&json!("chat.resumed"), &json!(true))
    );
    ann.post(GENERAL, "after", "");
    ann.await_stored();
    assert_eq!(bodies(&bob.hear()), ["after"]);
    let (_, told) = desk.resume(OUTSIDER, Some(0));
    assert_eq!(
        bodies(&told),
        [""; 0],
        "what an agent may not see is not missed"
    );
}

#[test]
fn who_resumes_while_others_talk_misses_nothing_and_hears_nothing_twice() {
    let desk = Desk::open();
    let mut ann = desk.login(1);
    ann.post(GENERAL, "before", "");
    let first = ids(&ann.hear())[0];
    let mut heard = Vec::new();
    for number in 0..20 {
        ann.post(GENERAL, &format!("one {number}"), "");
        // Not awaited: it is stored while the other comes.
        let (mut bob, mut told) = desk.resume(2, Some(first));
        ann.post(GENERAL, &format!("two {number}"), "");
        ann.await_stored();
        told.extend(bob.hear());
        heard = ids(&told);
        assert!(heard.is_sorted_by(|a, b| a < b), "{heard:?}");
    }
    assert_eq!(heard.len(), 40, "{heard:?}");
}

#[test]
fn rows_of_another_writer_are_told_once_and_those_that_come_deleted_never() {
    let desk = Desk::open();
    let mut bob = desk.login(2);
    let insert = |body: &str, deleted: &str| {
        desk.run(&format!(
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, created_at, \
             deleted_at) VALUES ('channel', 1, 1, '{body}', '{body}', datetime('now'), {deleted})"
        ));
    };
    insert("first", "NULL");
    bob.await_told(|one| one["message"]["body_text"] == "first");
    desk.run("BEGIN");
    insert("gone already", "datetime('now')");
    insert("secret", "NULL");
    desk.run("UPDATE chat_messages SET deleted_at = datetime('now') WHERE body_text = 'secret'");
    desk.run("COMMIT");
    insert("last", "NULL");
    let told = bob.await_told(|one| one["message"]["body_text"] == "last");
    assert_eq!(bodies(&told), ["last"], "{told:?}");
    let text = json!(told).to_string();
    assert!(!text.contains("secret") && !text.contains("gone"), "{text}");
    assert_eq!(ids(&told), [desk.number(NEWEST) as u64]);
}

#[test]
fn typing_reaches_the_other_members_alone() {
    let desk = Desk::open();
    let [mut ann, mut bob, mut fay] = [1, 2, OUTSIDER].map(|agent| desk.login(agent));
    ann.say(&json!({"type": "chat.typing", "scope": "direct", "thread_id": 1}));
    assert!(ann.hear().iter().all(|one| one["type"] != "chat.typing"));
    assert!(bob.hear().iter().any(|one| one["type"] == "chat.typing"));
    fay.hear();
    fay.say(&json!({"type": "chat.typing", "scope": "direct", "thread_id": 1, "ref": "r"}));
    assert_eq!(codes(&fay.hear()), ["no_thread_access"]);
    assert_eq!(bob.hear(), [] as [Value; 0]);
}

#[test]
fn a_read_marker_goes_forward_alone_and_all_members_are_told() {
    let desk = Desk::open();
    let [mut ann, mut bob] = [1, 2].map(|agent| desk.login(agent));
    for number in 0..3 {
        ann.post(GENERAL, &format!("message {number}"), "");
    }
    let all = ids(&ann.hear());
    bob.hear();
    let read = |id: u64| json!({"type": "chat.read", "scope": "channel", "channel_id": 1, "last_read_message_id": id, "ref": "r"});
    for (asked, stored) in [(all[1], all[1]), (all[0], all[1]), (all[2] + 1000, all[2])] {
        bob.say(&read(asked));
        for told in [bob.hear(), ann.hear()] {
            let marker = told.last().expect("told");
            assert_eq!(marker["last_read_message_id"], stored, "{told:?}");
        }
    }
    let mut fay = desk.login(OUTSIDER);
    fay.say(&read(all[0]));
    assert_eq!(codes(&fay.hear()), ["no_channel_access"]);
}

#[test]
fn older_messages_and_what_is_unread_are_of_ones_own_conversations() {
    let desk = Desk::open();
    let [mut ann, mut fay] = [1, OUTSIDER].map(|agent| desk.login(agent));
    for number in 0..5 {
        ann.post(GENERAL, &format!("message {number}"), "");
    }
    let all = ids(&ann.hear());
    let ask = json!({"type": "chat.history", "scope": "channel", "channel_id": 1, "before_id": all[4], "limit": 2, "ref": "r"});
    ann.say(&ask);
    let told = ann.hear();
    let messages = told[0]["messages"].as_array().expect("messages");
    let found: Vec<_> = messages
        .iter()
        .filter_map(|one| one["id"].as_u64())
        .collect();
    assert_eq!(found, [all[2], all[3]], "{told:?}");
    fay.hear();
    fay.say(&ask);
    let told = fay.hear();
    assert_eq!(codes(&told), ["no_channel_access"], "{told:?}");
    fay.say(&json!({"type": "chat.unread"}));
    assert!(!json!(fay.hear()).to_string().contains("message 0"));
}

#[test]
fn an_agent_that_is_deactivated_is_closed_and_let_in_no_more() {
    let desk = Desk::open();
    let [mut ann, mut bob] = [1, 2].map(|agent| desk.login(agent));
    desk.run("UPDATE agents SET is_active = 0 WHERE id = 2");
    let active = [1, 3].map(AgentId).into_iter().collect();
    desk.chat.close_inactive(active, Instant::now());
    bob.await_told(|_| false);
    assert!(bob.closed().is_some());
    ann.hear();
    assert_eq!(ann.closed(), None);
    // The agent was remembered a moment ago; the token is as good as before.
    let mut again = desk.connect();
    again.say(&json!({"type": "auth", "token": token(2)}));
    let told = again.await_told(|one| one["type"] != "chat.presence.updated");
    assert_eq!(told[0]["type"], "auth.failed", "{told:?}");
}

#[test]
fn no_agent_has_more_sockets_than_allowed() {
    let desk = Desk::open();
    let allowed = desk.chat.limits.max_per_agent;
    let sockets: Vec<_> = (0..allowed).map(|_| desk.login(1)).collect();
    let mut one_more = desk.connect();
    one_more.say(&json!({"type": "auth", "token": token(1)}));
    let told = one_more.await_told(|one| one["code"] == "too_many_connections");
    assert_eq!(codes(&told), ["too_many_connections"]);
    one_more.await_told(|_| false);
    assert_eq!(one_more.closed(), Some(1008));
    drop(sockets);
}

#[test]
fn a_message_whose_html_does_not_fit_its_column_is_too_large_and_one_that_fits_is_not() {
    let desk = Desk::open();
    desk.chat.set_settings(Settings {
        max_message_chars: 60_000,
        ..(*desk.chat.settings()).clone()
    });
    let mut ann = desk.login(1);
    // Each of them takes six bytes in HTML, and one in the text.
    ann.post(GENERAL, &"'".repeat(65_535 / 6 + 1), "r");
    assert_eq!(codes(&ann.hear()), ["message_too_large"]);
    ann.post(GENERAL, &"'".repeat(65_535 / 6), "s");
    ann.await_stored();
    assert_eq!(desk.number(STORED), 1);
}
