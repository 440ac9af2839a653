//! What must hold whatever comes in, written once: for the fuzz targets beside it, which need a nightly compiler, and for
//! tests/fuzz.rs, which does not. A function panics where something does not hold.

use andrea_chat_websocket::auth::TokenVerifier;
use andrea_chat_websocket::config::env_file;
use andrea_chat_websocket::config::limits::MAX_HEAD_BYTES;
use andrea_chat_websocket::model::{ChannelId, ThreadId};
use andrea_chat_websocket::protocol::{self, ConversationName, Event};
use andrea_chat_websocket::text::{self, Ticket, Tickets};
use andrea_chat_websocket::websocket::handshake::{Head, Policy, examine};
use serde_json::Value;

/// The secret of the token target.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// When the token target's tokens are looked at, in seconds since 1970.
pub const NOW: u64 = 1_000_000;
/// Whom a good token of the token target names, alone.
pub const AGENT: u64 = 7;

/// A request head: answered with whole HTTP or granted, never both ways by the same bytes in other packets.
pub fn handshake(bytes: &[u8]) {
    let policy = Policy {
        is_enabled: true,
        app_urls: ["https://helpdesk.example", "https://[2001:db8::1]:8443/x"],
        peer: ([127, 0, 0, 1], 9).into(),
        site: None,
    };
    let whole = examine(bytes, &policy);
    match &whole {
        Head::Incomplete => assert!(bytes.len() <= MAX_HEAD_BYTES),
        Head::Answered { response, .. } => {
            let text = std::str::from_utf8(response).expect("a response in ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
            assert!(
                head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 503 "),
                "{head}"
            );
            // A HEAD, which may follow an empty line (RFC 9112 section 2.2), has no body, and the length of the one that a GET
            // would have.
            let is_head = bytes.trim_ascii_start().starts_with(b"HEAD ") && body.is_empty();
            assert!(
                is_head || head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{head}"
            );
            assert!(head.contains("\r\nConnection: close"), "{head}");
            // The response repeats nothing of the request, so no request can inject a response.
            assert!(text.len() < 400 && text.is_ascii(), "{text}");
        }
        Head::Granted { response, length } => {
            assert!(*length <= bytes.len().min(MAX_HEAD_BYTES));
            let head = String::from_utf8_lossy(&bytes[..*length]).to_lowercase();
            assert!(
                head.ends_with("\n\r\n") || head.ends_with("\n\n"),
                "{head:?}"
            );
            assert!(response.starts_with(b"HTTP/1.1 101 ") && response.ends_with(b"\r\n\r\n"));
            for line in [
                "/ws/chat",
                "host:",
                "upgrade:",
                "connection:",
                "sec-websocket-version:",
                "sec-websocket-key:",
            ] {
                assert!(head.contains(line), "{line} is not in {head:?}");
            }
            // No stranger's page. A page of the host that the request itself names is none: that of an absolute target (RFC
            // 9112 section 3.2.2), or of `Host`.
            let values = |name: &str| {
                let lines = head.lines();
                let of_name = lines.filter_map(|line| line.strip_prefix(name));
                of_name
                    .map(str::trim)
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            };
            let without_port = |host: &str| host.split(':').next().map(str::to_owned);
            let target = head.lines().next().and_then(|line| line.split(' ').nth(1));
            let authority_of = |url: &str| {
                let rest = url.split("://").nth(1)?;
                rest.split(['/', '?', '#']).next().map(str::to_owned)
            };
            let authority = target.and_then(authority_of);
            let host = values("host:").into_iter().next();
            let own = authority.or(host).and_then(|host| without_port(&host));
            for origin in values("origin:") {
                let host = authority_of(&origin).expect("a scheme");
                assert!(
                    !host.contains("evil") || without_port(&host) == own,
                    "{origin:?} came in, own host {own:?}"
                );
            }
            // The same head is granted without what follows it, and nothing shorter is.
            assert!(
                matches!(examine(&bytes[..*length], &policy), Head::Granted { length: same, .. } if same == *length)
            );
            assert_eq!(examine(&bytes[..*length - 1], &policy), Head::Incomplete);
        }
    }
}

/// A text frame: what a slow and simple reading finds in it, and its `ref` as it came.
pub fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let decoded = protocol::decode(text);
    let value: Option<Value> = serde_json::from_str(text).ok();
    let kind = value.as_ref().and_then(|value| value.get("type")?.as_str());
    match (kind.filter(|kind| !kind.is_empty()), &decoded, &value) {
        (Some(kind), Ok(request), Some(value)) => says_the_same(kind, value, &request.event),
        (None, Err(_), _) => {}
        _ => panic!("{decoded:?}"),
    }
    let reference = match &decoded {
        Ok(request) => request.reference.as_ref(),
        Err(reference) => reference.as_ref(),
    };
    // Whatever is carried back, the answer is one JSON object that has it.
    let answer = protocol::with_ref(protocol::pong(1), reference);
    assert_eq!(
        protocol::reference_of(&answer).as_ref(),
        reference,
        "{answer}"
    );
    if let Some(reference) = reference {
        let metadata = reference.metadata();
        assert_eq!(
            protocol::Ref::of_metadata(&metadata).as_ref(),
            Some(reference),
            "{metadata}"
        );
    }
    // A frame of ours is one line, whatever was in it.
    assert!(
        !answer.contains(['\n', '\r', '\u{2028}', '\u{2029}', '\0']),
        "{answer:?}"
    );
}

/// Every type that the service knows.
const KINDS: [&str; 9] = [
    "auth",
    "chat.channel.message.send",
    "chat.direct.message.send",
    "chat.typing",
    "chat.read",
    "chat.history",
    "chat.search",
    "chat.unread",
    "ping",
];

/// Whether an event says what its JSON says, member by member.
fn says_the_same(kind: &str, json: &Value, event: &Event) {
    let number = |name: &str| -> Option<u64> {
        match json.get(name)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    };
    let id = |name: &str| number(name).filter(|number| *number > 0);
    let text = |name: &str| json.get(name).and_then(Value::as_str);
    let channel = ConversationName::Channel(id("channel_id").map(ChannelId));
    let thread = ConversationName::Direct(id("thread_id").map(ThreadId));
    let scoped = match text("scope") {
        Some("direct") => thread,
        _ => channel,
    };
    let same = match event {
        Event::Auth { token, after } => {
            kind == "auth"
                && token.as_ref().map(|token| token.0.as_str()) == text("token")
                && after.map(|after| after.0) == number("after_id")
        }
        Event::Send { target, body } => {
            let expected = match kind {
                "chat.channel.message.send" => Some(channel),
                "chat.direct.message.send" => Some(thread),
                _ => None,
            };
            Some(*target) == expected && body.as_ref().map(|body| body.0.as_str()) == text("body")
        }
        Event::Typing { target } => kind == "chat.typing" && *target == scoped,
        Event::Read { target, last_read } => {
            kind == "chat.read"
                && *target == scoped
                && last_read.0 == id("last_read_message_id").unwrap_or(0)
        }
        Event::History {
            target,
            before,
            limit,
        } => {
            // A thread's id alone says enough.
            let expected = match (id("channel_id"), id("thread_id")) {
                (None, Some(_)) => thread,
                _ => scoped,
            };
            let most = id("limit").unwrap_or(protocol::DEFAULT_HISTORY as u64);
            kind == "chat.history"
                && *target == expected
                && before.map(|before| before.0) == id("before_id")
                && *limit as u64 == most.min(protocol::MAX_HISTORY as u64)
        }
        Event::Search {
            target,
            query,
            sender,
            before,
            limit,
        } => {
            let expected = match (id("channel_id"), id("thread_id")) {
                (None, None) if json.get("scope").is_none() => None,
                (None, Some(_)) => Some(thread),
                _ => Some(scoped),
            };
            let most = id("limit").unwrap_or(protocol::DEFAULT_HISTORY as u64);
            kind == "chat.search"
                && *target == expected
                && query.as_ref().map(|query| query.0.as_str()) == text("query").map(str::trim)
                && sender.map(|sender| sender.0) == id("sender_agent_id")
                && before.map(|before| before.0) == id("before_id")
                && *limit as u64 == most.min(protocol::MAX_SEARCH as u64)
        }
        Event::Unread => kind == "chat.unread",
        Event::Ping => kind == "ping",
        Event::Unsupported => !KINDS.contains(&kind),
    };
    assert!(same, "{event:?}");
}

/// A message's way from what was typed to what is stored and shown.
pub fn body(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else {
        return;
    };
    let body = text::normalise(raw);
    let references = text::ticket_references(&body);
    assert!(references.ids.len() + references.numbers.len() <= 2 * text::MAX_TICKET_REFERENCES);
    let by_id = references.ids.iter().map(|id| Ticket {
        id: *id,
        number: format!("A&\"<'>-2026-01-01-{id}"),
    });
    let by_number = references
        .numbers
        .iter()
        .zip(1..)
        .map(|(number, id)| Ticket {
            id,
            number: number.clone(),
        });
    let by_number = Tickets::new(by_number.collect());
    let known = Tickets::new(by_id.collect());
    for handle in text::mentions(&body) {
        assert!(
            body.to_lowercase().contains(&handle.to_lowercase()),
            "{handle:?}"
        );
    }
    for links in [true, false] {
        // Without tickets what is shown is what was typed, to the letter.
        let html = text::render(&body, links, &Tickets::default());
        assert_eq!(shown(&html), fold(&body), "{html}");
        // A ticket that was named by its number is linked, and shown as it was named.
        let html = text::render(&body, links, &by_number);
        if references.ids.is_empty() {
            assert_eq!(shown(&html), fold(&body), "{html}");
        }
        // One that was named by its id is shown by its number, in the same few tags.
        shown(&text::render(&body, links, &known));
    }
    assert!(text::preview(&body).chars().count() <= text::PREVIEW_CHARS);
}

/// What a reader sees of `html`, which must have no other tags and attributes than the contract's.
pub fn shown(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    let mut open: Vec<&str> = Vec::new();
    while let Some(c) = rest.chars().next() {
        if c == '<' {
            let (tag, after) = rest
                .split_once('>')
                .unwrap_or_else(|| panic!("an open < in {html}"));
            let name = tag_of(&tag[1..]).unwrap_or_else(|| panic!("{tag}> in {html}"));
            match name {
                "br" => {}
                "/a" | "/span" => assert_eq!(open.pop(), Some(&name[1..]), "{html}"),
                other => {
                    // A link in a link, or in a mention, is what a browser takes apart in its own way.
                    assert!(open.is_empty(), "{html}");
                    open.push(other);
                }
            }
            rest = after;
        } else if c == '&' {
            let (plain, after) = entity(rest).unwrap_or_else(|| panic!("a bare & in {html}"));
            text.push(plain);
            rest = after;
        } else {
            assert!(!matches!(c, '>' | '"' | '\''), "a bare {c} in {html}");
            text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    assert!(open.is_empty(), "{html}");
    fold(&text)
}

/// Mentions and articles are shown in lower case, which is not what is looked at here.
fn fold(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn entity(text: &str) -> Option<(char, &str)> {
    [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&#039;", '\''),
    ]
    .into_iter()
    .find_map(|(entity, plain)| Some((plain, text.strip_prefix(entity)?)))
}

/// The name of a tag that is allowed, with a slash where it ends one.
fn tag_of(tag: &str) -> Option<&'static str> {
    let safe = |value: &str| !value.contains(['"', '<', '>', '\'']);
    match tag {
        "br" => return Some("br"),
        "/a" => return Some("/a"),
        "/span" => return Some("/span"),
        "span class=\"chat-mention\"" => return Some("span"),
        _ => {}
    }
    let href = tag.strip_prefix("a href=\"")?;
    if let Some(place) = href.strip_suffix("\" class=\"chat-internal-link\"") {
        return (place.starts_with("#/tickets/") || place.starts_with("#/kb/"))
            .then_some(place)
            .filter(|place| safe(place))
            .map(|_| "a");
    }
    let url = href.strip_suffix("\" target=\"_blank\" rel=\"noopener noreferrer\"")?;
    let lower = url.to_ascii_lowercase();
    let is_web = lower.starts_with("http://") || lower.starts_with("https://");
    (is_web && safe(url)).then_some("a")
}

/// A `.env` file: read or refused, and no value in what is said about it.
pub fn dotenv(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let lookup = |name: &str| (name == "HOME").then(|| "/home".to_owned());
    match env_file::parse(text, &lookup) {
        Ok(rows) => {
            for name in rows.keys() {
                assert!(
                    !name.is_empty()
                        && name
                            .chars()
                            .all(|c| c.is_alphanumeric() || c == '_' || c == '.'),
                    "{name:?}"
                );
            }
        }
        Err(error) => {
            // A carriage return alone ends a line as well.
            let lines = 1 + text.matches(['\r', '\n']).count();
            assert!((1..=lines).contains(&error.line), "{error}");
            // The words are the program's own: an error has no room for any other.
            assert!(error.to_string().len() < 200, "{error}");
        }
    }
}

/// A token: good only where its signature is, and then its agent's.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let verifier = TokenVerifier::new(SECRET);
    if let Ok(claims) = verifier.verify(text, NOW) {
        // The corpus has valid tokens of one agent; no mutation makes them valid for another agent.
        assert_eq!(claims.agent.0, AGENT, "{text}");
        assert!(claims.expires > NOW);
        assert_eq!(text.split('.').count(), 3);
    }
    let other = TokenVerifier::new("ffffffffffffffffffffffffffffffff");
    assert!(other.verify(text, NOW).is_err());
}
