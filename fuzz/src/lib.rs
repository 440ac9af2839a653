//! What must hold whatever comes in, written once: for the fuzz targets beside it, which need a nightly compiler, and for
//! tests/fuzz.rs, which does not. A function panics where something does not hold.

use andrea_chat_websocket::auth::TokenVerifier;
use andrea_chat_websocket::connection::handshake::{Head, Policy, examine};
use andrea_chat_websocket::text::{self, Ticket, Tickets};
use andrea_chat_websocket::{dotenv, protocol};

/// The secret of the token target.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// When the token target's tokens are looked at, in seconds since 1970.
pub const NOW: u64 = 1_000_000;
/// Whom a good token of the token target names, alone.
pub const AGENT: u64 = 7;

const MAX_HEAD_BYTES: usize = 4096;

/// A request head: answered with whole HTTP or granted, never both ways by the same bytes in other packets.
pub fn handshake(bytes: &[u8]) {
    let policy = Policy {
        enabled: true,
        app_urls: ["https://helpdesk.example", "https://[2001:db8::1]:8443/x"],
        peer: ([127, 0, 0, 1], 9).into(),
        max_head_bytes: MAX_HEAD_BYTES,
        site: None,
    };
    let whole = examine(bytes, &policy);
    match &whole {
        Head::Incomplete => assert!(bytes.len() <= MAX_HEAD_BYTES),
        Head::Answered(response) => {
            let text = std::str::from_utf8(response).expect("a response in ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
            assert!(
                head.starts_with("HTTP/1.1 4") || head.starts_with("HTTP/1.1 503 "),
                "{head}"
            );
            assert!(
                head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
                "{head}"
            );
            assert!(head.contains("\r\nConnection: close"), "{head}");
            // Nothing of a request comes back, so nobody can make a response of his own.
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
            // No stranger's page.
            for line in head.lines().filter_map(|line| line.strip_prefix("origin:")) {
                let host = line.trim().split("://").nth(1).expect("a scheme");
                assert!(!host.contains("evil"), "{line:?} came in");
            }
            // The same head is granted without what follows it, and nothing shorter is.
            assert!(
                matches!(examine(&bytes[..*length], &policy), Head::Granted { length: same, .. } if same == *length)
            );
            assert_eq!(examine(&bytes[..*length - 1], &policy), Head::Incomplete);
        }
    }
}

/// A text frame: the same request however often it is decoded, its `ref` as it came, and no deeper than was said.
pub fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let decoded = protocol::decode(text);
    assert_eq!(decoded, protocol::decode(text));
    for depth in [1, 32, 127] {
        if protocol::is_deeper_than(text, depth) {
            continue;
        }
        assert!(!protocol::is_deeper_than(text, depth + 1));
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

/// A message's way from what was typed to what is stored and shown.
pub fn body(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else {
        return;
    };
    let body = text::normalise(raw);
    let references = text::ticket_references(&body);
    assert!(references.ids.len() + references.numbers.len() <= 2 * text::MAX_TICKET_REFERENCES);
    let known = |ids: &[u64]| -> Vec<Ticket> {
        let numbered = ids.iter().map(|id| Ticket {
            id: *id,
            number: format!("A&\"<'>-2026-01-01-{id}"),
        });
        numbered.collect()
    };
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
        // With them other numbers may stand there, in the same few tags.
        shown(&text::render(
            &body,
            links,
            &Tickets::new(known(&references.ids)),
        ));
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
    match dotenv::parse(text, &lookup) {
        Ok(rows) => {
            for (place, (name, _)) in rows.iter().enumerate() {
                assert!(
                    !name.is_empty()
                        && name
                            .chars()
                            .all(|c| c.is_alphanumeric() || c == '_' || c == '.'),
                    "{name:?}"
                );
                assert!(
                    rows[..place].iter().all(|(other, _)| other != name),
                    "{name:?} twice"
                );
            }
        }
        Err(error) => {
            // A carriage return alone ends a line as well.
            let lines = 1 + text.matches(['\r', '\n']).count();
            assert!((1..=lines).contains(&error.line), "{error}");
            // The words are the program's own.
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
        // The corpus has good tokens of one agent; nobody makes another's out of them.
        assert_eq!(claims.agent.0, AGENT, "{text}");
        assert!(claims.expires > NOW);
        assert_eq!(text.split('.').count(), 3);
    }
    let other = TokenVerifier::new("ffffffffffffffffffffffffffffffff");
    assert!(other.verify(text, NOW).is_err());
}
