//! contrib/asyncapi.yaml, the protocol as a document: that it is sound AsyncAPI by AsyncAPI's own parser, that it says
//! no more and no less than the service does, and that the tests would notice if a frame did not fit it.
//!
//! Every frame of every other test is held to it by `support/watch.rs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use andrea_chat_websocket::model::{
    Agent, AgentId, AuthFailure, ChannelId, CloseCode, Conversation, Message, MessageId, Refusal,
    ThreadId, Unread,
};
use andrea_chat_websocket::protocol::{self, Event, Ref};
use serde_json::{Value, json};

use crate::support::document;
use crate::support::needs;
use crate::support::watch::Watch;
use crate::support::ws::FrameSpec;

/// Every variant of an enum; one that is missing does not compile.
macro_rules! all {
    ($kind:ident: $($variant:ident $(($value:expr))?,)*) => {{
        let every = [$($kind::$variant $(($value))?),*];
        for one in every {
            match one {
                $($kind::$variant { .. } => {})*
            }
        }
        every
    }};
}

#[test]
fn asyncapi_parser_finds_no_fault_and_reads_what_the_tests_read() {
    needs!(NodeJs);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/asyncapi/parse.mjs");
    let output = Command::new("node")
        .arg(script)
        .arg(document::path())
        .current_dir(needs::node_modules().expect("a folder"))
        .output()
        .unwrap_or_else(|e| panic!("start node: {e}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaints}");
    let result: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(result["findings"], json!([]));
    assert_eq!(result["parsed"], json!(true));
    assert_eq!(
        result["read"],
        document::get().json,
        "two readers of YAML differ"
    );
}

/// Name and text of each message, and whether clients send it.
fn messages() -> Vec<(String, Value, bool)> {
    let document = document::get();
    let operations = document::members(&document.json, "/operations");
    let mut from_clients = BTreeSet::new();
    for operation in operations {
        let operation = &document.json["operations"][&operation];
        if operation["action"] == "receive" {
            let references = operation["messages"].as_array().expect("messages");
            let names = references.iter().filter_map(|r| r["$ref"].as_str());
            from_clients.extend(
                names
                    .filter_map(|r| r.rsplit('/').next())
                    .map(str::to_owned),
            );
        }
    }
    let names = document::members(&document.json, "/components/messages");
    let message = |name: String| {
        let message = document.json["components"]["messages"][&name].clone();
        let is_event = from_clients.contains(&name);
        (name, message, is_event)
    };
    names.into_iter().map(message).collect()
}

fn judge(value: &Value, is_event: bool) -> Result<(), String> {
    match is_event {
        true => document::get().judge_event(value),
        false => document::get().judge_answer(value),
    }
}

fn examples(message: &Value) -> Vec<Value> {
    let examples = message["examples"].as_array().expect("examples");
    examples.iter().map(|e| e["payload"].clone()).collect()
}

#[test]
fn every_message_has_examples_and_every_example_fits() {
    for (name, message, is_event) in messages() {
        let examples = examples(&message);
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            judge(&example, is_event).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(example["type"], message["name"], "{name}");
        }
    }
}

#[test]
fn every_message_is_told_of_by_the_channel_and_used_by_an_operation() {
    let document = document::get();
    let of_channel = document::members(&document.json, "/channels/chat/messages");
    let known = document::members(&document.json, "/components/messages");
    assert_eq!(of_channel, known);
    let used = document.event_types().len() + document.answer_types().len();
    assert_eq!(used, known.len());
}

/// A member more, a member less, a member that is null or of another type: of what the service sends nothing may vary.
#[test]
fn what_the_service_sends_is_told_exactly() {
    for (name, message, is_event) in messages() {
        for example in examples(&message) {
            if is_event {
                let mut more = example;
                more["more"] = json!(1);
                judge(&more, true).unwrap_or_else(|e| panic!("{name}: {e}"));
                continue;
            }
            let mut changed = Vec::new();
            vary(&example, &mut |one| changed.push(one));
            for one in changed {
                assert!(judge(&one, false).is_err(), "{name}: {one}");
            }
        }
    }
}

/// Calls `take` with the value, changed in one place, once for each change.
fn vary(value: &Value, take: &mut dyn FnMut(Value)) {
    match value {
        Value::Object(members) => {
            let mut more = value.clone();
            more["more"] = json!(1);
            take(more);
            for (name, member) in members {
                if name != "ref" {
                    let mut less = members.clone();
                    less.remove(name);
                    take(Value::Object(less));
                }
                let mut odd = value.clone();
                odd[name] = json!({"odd": true});
                take(odd);
                vary(member, &mut |changed| {
                    let mut other = value.clone();
                    other[name] = changed;
                    take(other);
                });
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                vary(item, &mut |changed| {
                    let mut other = value.clone();
                    other[place] = changed;
                    take(other);
                });
            }
        }
        _ => {}
    }
}

fn message(conversation: Conversation) -> Message {
    Message {
        id: MessageId(42),
        conversation,
        sender: AgentId(7),
        body_text: "a".to_owned(),
        body_rendered_html: None,
        metadata_json: None,
        created_at: "2026-05-01 09:30:00".to_owned(),
        edited_at: Some("2026-12-31 23:59:59".to_owned()),
        deleted_at: None,
        deleted_by: None,
        sender_name: "Ana".to_owned(),
        sender_chat_handle: Some("ana".to_owned()),
    }
}

#[test]
fn all_that_the_service_can_say_stands_in_the_document_and_nothing_else() {
    let agent = Agent {
        id: AgentId(7),
        name: "Ana".to_owned(),
        role: "admin".to_owned(),
    };
    let refusals = all!(Refusal:
        InvalidEvent, UnsupportedType, ChatDisabled, CannotPost, EmptyMessage, MessageTooLong(4000), MessageTooLarge,
        NoChannelAccess, NoThreadAccess, RecipientInactive, ChannelIdRequired, ThreadIdRequired, InvalidQuery, RateLimited,
        TooManyConnections, Unavailable, OutcomeUnknown, Internal,
    );
    let failures = all!(AuthFailure:
        InvalidToken, NotAnAgentToken, UnknownAgent, OtherAgent, NotAuthenticated,
    );
    let mut said: Vec<String> = refusals.map(protocol::error).to_vec();
    said.extend(failures.map(protocol::auth_failed));
    said.push(protocol::auth_ok(
        &agent,
        &protocol::agent_ids(&[AgentId(7)]),
        MessageId(0),
    ));
    said.push(protocol::resumed(MessageId(0), false));
    said.push(protocol::pong(1));
    said.push(protocol::presence_updated(AgentId(7), true));
    for conversation in [
        Conversation::Channel(ChannelId(3)),
        Conversation::Direct(ThreadId(9)),
    ] {
        let message = message(conversation);
        let deleted = Message {
            deleted_at: Some(message.created_at.clone()),
            ..message.clone()
        };
        let unread = Unread {
            conversation,
            unread: 0,
            last_read: MessageId(0),
        };
        said.extend([
            protocol::message_created(&message),
            protocol::message_updated(&message),
            protocol::message_deleted(&deleted),
            protocol::typing(conversation, &agent),
            protocol::read_updated(conversation, agent.id, MessageId(0)),
            protocol::found(&[], Some(message.id)),
            protocol::found(std::slice::from_ref(&message), None),
            protocol::history(conversation, &[message], true),
            protocol::unread(&[unread]),
        ]);
    }
    let document = document::get();
    let mut types = BTreeSet::new();
    for text in &said {
        let answer: Value = serde_json::from_str(text).unwrap();
        document
            .judge_answer(&answer)
            .unwrap_or_else(|e| panic!("{text}: {e}"));
        types.insert(answer["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(types, document.answer_types());

    let of_schema = |pointer: &str| -> BTreeSet<String> {
        let values = document.json.pointer(pointer).and_then(Value::as_array);
        let values = values.unwrap_or_else(|| panic!("no {pointer}"));
        values
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        of_schema("/components/schemas/Error/properties/code/enum"),
        refusals.map(|one| one.code().to_owned()).into()
    );
    assert_eq!(
        of_schema("/components/schemas/AuthFailed/properties/message/enum"),
        failures.map(|one| one.to_string()).into()
    );
}

#[test]
fn the_table_of_close_codes_is_the_services() {
    let description = &document::get().json["info"]["description"];
    let lines = description.as_str().expect("a description").lines();
    let cells = lines.filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let table: Vec<u16> = cells.filter_map(|cell| cell.parse().ok()).collect();
    // The answer to a peer's close is the peer's own, 1000 to one without.
    let codes = all!(CloseCode:
        Answer(1000), GoingAway, ProtocolError, Unsupported, InvalidUtf8, Policy, TooBig, Internal, TryAgainLater,
        Unauthorised, Deactivated, AuthTimeout,
    );
    assert_eq!(table, codes.map(CloseCode::number));
}

#[test]
fn the_document_is_of_this_version() {
    let version = &document::get().json["info"]["version"];
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
}

/// Values that are an id, almost one, or none at all; the first is no member.
fn ids() -> Vec<Option<Value>> {
    let values = json!([
        1, 7, 18446744073709551615_u64, "7", "07", 0, -1, 1.5, "0", "00", "", " 1", "1 ", "1a", "-1", "+1", "1.0",
        "１", true, false, null, [1], [], {"id": 1}
    ]);
    let values = values.as_array().unwrap().iter().cloned().map(Some);
    [None].into_iter().chain(values).collect()
}

/// Events of this type with each value of each member, in every combination.
fn combine(kind: &str, members: &[(&str, Vec<Option<Value>>)]) -> Vec<Value> {
    let mut events = vec![json!({ "type": kind })];
    for (name, values) in members {
        let mut more = Vec::new();
        for event in &events {
            for value in values {
                let mut event = event.clone();
                if let Some(value) = value {
                    event[*name] = value.clone();
                }
                more.push(event);
            }
        }
        events = more;
    }
    events
}

/// Whether the service takes an event that comes from the right agent at the right time.
fn is_taken(event: &Value) -> bool {
    let Ok(request) = protocol::decode(&event.to_string()) else {
        return false;
    };
    match request.event {
        Event::Auth { token, .. } => token.is_some(),
        Event::Send { target, body } => {
            let body =
                andrea_chat_websocket::text::normalise(&body.map_or(String::new(), |body| body.0));
            target.conversation().is_ok() && !body.is_empty()
        }
        Event::Typing { target } | Event::Read { target, .. } | Event::History { target, .. } => {
            target.conversation().is_ok()
        }
        Event::Search { target, query, .. } => {
            target.is_none_or(|target| target.conversation().is_ok())
                && query
                    .is_some_and(|query| protocol::QUERY_CHARS.contains(&query.0.chars().count()))
        }
        Event::Unread | Event::Ping => true,
        Event::Unsupported => false,
    }
}

fn long_query(letters: usize) -> String {
    "é".repeat(letters)
}

#[test]
fn the_document_is_as_liberal_as_the_service() {
    let values = |values: Value| -> Vec<Option<Value>> {
        let values = values.as_array().unwrap().iter().cloned().map(Some);
        [None].into_iter().chain(values).collect()
    };
    let bodies = values(json!([
        "x",
        " x ",
        "\u{2003}",
        "",
        " \t\r\n\u{0}\u{b}",
        ":)",
        5,
        null,
        ["x"]
    ]));
    let scopes = values(json!([
        "channel",
        "direct",
        "Direct",
        "",
        5,
        null,
        ["direct"]
    ]));
    // Every value of either id beside few of the other.
    let few_ids = || values(json!([7, "07", 0, null]));
    let mut conversations = Vec::new();
    for (channels, threads) in [(ids(), few_ids()), (few_ids(), ids())] {
        let members = [
            ("scope", scopes.clone()),
            ("channel_id", channels),
            ("thread_id", threads),
        ];
        conversations.push(members);
    }
    let tokens = values(json!(["x", "", 5, null]));
    let numbers = values(json!([3, -5, "x", null]));
    let mut events = combine("auth", &[("token", tokens), ("after_id", ids())]);
    for (kind, id) in [
        ("chat.channel.message.send", "channel_id"),
        ("chat.direct.message.send", "thread_id"),
    ] {
        events.extend(combine(kind, &[(id, ids()), ("body", bodies.clone())]));
    }
    for kind in ["chat.typing", "chat.read", "chat.history"] {
        for members in &conversations {
            events.extend(combine(kind, members));
        }
        let members = ["last_read_message_id", "before_id", "limit"].map(|m| (m, numbers.clone()));
        let channel = [("channel_id", vec![Some(json!(1))])];
        events.extend(combine(kind, &[&channel[..], &members[..]].concat()));
    }
    let queries = values(json!(["ab", " é ", "é\u{301}", "", "x", 5, null]));
    for members in &conversations {
        let queries = [("query", queries.clone())];
        events.extend(combine(
            "chat.search",
            &[&members[..], &queries[..]].concat(),
        ));
    }
    for query in [long_query(100), long_query(101)] {
        events.push(json!({ "type": "chat.search", "query": query }));
    }
    for kind in ["chat.unread", "ping", "PING", "", "auth.ok", "pong"] {
        events.extend(combine(kind, &[("channel_id", ids())]));
    }
    for event in events {
        let judged = document::get().judge_event(&event);
        assert_eq!(judged.is_ok(), is_taken(&event), "{event}: {judged:?}");
    }
}

#[test]
fn a_ref_that_comes_back_is_one_by_the_document_and_no_other_is() {
    let long = |letters| "é".repeat(letters);
    for reference in [
        json!("a"),
        json!(""),
        json!(long(64)),
        json!(long(65)),
        json!(0),
        json!(-5),
        json!(u64::MAX),
        json!(1.5),
        json!(true),
        json!(null),
        json!([1]),
        json!({}),
    ] {
        let event = json!({"type": "ping", "ref": reference});
        let comes_back = protocol::decode(&event.to_string()).unwrap().reference;
        document::get().judge_event(&event).unwrap();
        let is_ref = document::get().fits("Ref", &reference);
        assert_eq!(is_ref, comes_back.is_some(), "{reference}");
        let metadata = comes_back.as_ref().map(Ref::metadata);
        assert_eq!(
            is_ref,
            metadata.is_some_and(|m| Ref::of_metadata(&m) == comes_back)
        );
    }
}

/// A socket that has sent this, each a text frame.
fn watch(sent: &[&str]) -> Watch {
    let mut watch = Watch::default();
    watch.write(b"GET /ws/chat HTTP/1.1\r\n\r\n");
    watch.upgraded();
    for text in sent {
        // In two writes, so that no frame comes in one piece.
        let bytes = FrameSpec::text(text).encode();
        let (start, end) = bytes.split_at(bytes.len() / 2);
        watch.write(start);
        watch.write(end);
    }
    watch
}

#[test]
fn frames_that_the_document_does_not_have_are_noticed() {
    let created = |reference: &str| {
        let text = protocol::message_created(&message(Conversation::Channel(ChannelId(3))));
        format!("{},\"ref\":{reference}}}", &text[..text.len() - 1])
    };
    const SAY: &str = r#"{"type":"chat.channel.message.send","channel_id":3,"body":"x","ref":1}"#;
    const SAY_NOTHING: &str =
        r#"{"type":"chat.channel.message.send","channel_id":3,"body":"","ref":1}"#;
    const PING: &str = r#"{"type":"ping","ref":2}"#;
    const PONG: &str = r#"{"type":"pong","time":1,"ref":2}"#;
    const EMPTY: &str =
        r#"{"type":"error","message":"Message cannot be empty","code":"message_empty","ref":1}"#;
    const UNSUPPORTED: &str = r#"{"type":"error","message":"Unsupported websocket event type","code":"unsupported_type"}"#;
    let created = created("1");
    let fine: [(&[&str], &[&str]); 6] = [
        (&[], &[r#"{"type":"pong","time":1}"#]),
        (&[SAY, PING], &[&created, PONG]),
        (&[SAY_NOTHING, PING], &[EMPTY, PONG]),
        (&["nonsense", PING], &[UNSUPPORTED, PONG]),
        // The ping was answered before anybody looked at the nonsense.
        (&[PING, "nonsense"], &[PONG]),
        (&[SAY_NOTHING, SAY], &[EMPTY, &created]),
    ];
    let wrong: [(&[&str], &[&str]); 10] = [
        (&[], &["pong"]),
        (&[], &[r#"{"type":"pong","time":"1"}"#]),
        (&[], &[r#"{"type":"pong","time":1,"more":1}"#]),
        (&[], &[r#"{"type":"ping"}"#]),
        (
            &[],
            &[r#"{"type":"error","message":"Internal error","code":"message_empty"}"#],
        ),
        (&[], &[PONG]),
        (&[PING], &[PONG, PONG]),
        (&[SAY_NOTHING], &[&created]),
        (&[SAY], &[EMPTY]),
        (&["nonsense", PING], &[PONG]),
    ];
    for (sent, received) in fine {
        let mut watch = watch(sent);
        for text in received {
            watch.receive(text).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    for (sent, received) in wrong {
        let mut watch = watch(sent);
        let (last, before) = received.split_last().unwrap();
        for text in before {
            watch.receive(text).unwrap_or_else(|e| panic!("{e}"));
        }
        assert!(watch.receive(last).is_err(), "{last} after {sent:?}");
    }
    // A text in fragments, with a frame of another kind between them.
    let mut watch = watch(&[]);
    for (opcode, fin, text) in [
        (1, false, r#"{"type":"#),
        (9, true, ""),
        (0, true, r#""ping","ref":2}"#),
    ] {
        let mut frame = FrameSpec::new(opcode, text);
        frame.fin = fin;
        watch.write(&frame.encode());
    }
    watch.receive(PONG).unwrap();
}
