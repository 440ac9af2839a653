//! Fuzzing without a special compiler: inputs that are mostly right, mutated, against what must always hold
//! (`fuzz/src/lib.rs`, which cargo-fuzz uses too). A failure prints its seed; `ANDREA_FUZZ_SEED=N` repeats it, and
//! `ANDREA_FUZZ_SECONDS=600 cargo test --release --test main fuzz::` goes on for longer, with seeds that no run has had.

use std::fmt;

use crate::random::{Random, each_seed};
use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::jwt;
use crate::support::ws::REQUEST;

#[path = "../fuzz/src/lib.rs"]
pub mod invariants;

/// Fixed inputs of one target: about five seconds in an unoptimised build.
const ROUNDS: u64 = 100_000;
/// Mutations of one input at most.
const MUTATIONS: usize = 6;
/// Longest input, in bytes.
const MAX_BYTES: usize = 8192;

/// Changes an input in one of the ways that break parsers.
fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], random: &mut Random) {
    const BYTES: &[u8] =
        b"\0\t\n\r \"#$&'()*+,-./019:;<=>?@AZ[\\]^_`az{|}~\x7f\x80\xbf\xc3\xe2\xf0\xff";
    let place = random.below(input.len() + 1);
    let end = (place + random.below(17)).min(input.len());
    match random.below(10) {
        0 => input.insert(place, BYTES[random.below(BYTES.len())]),
        1 => drop(input.drain(place..end)),
        2 if place < input.len() => input[place] ^= 1 << random.below(8),
        3 if place < input.len() => input[place] = BYTES[random.below(BYTES.len())],
        4 => input.truncate(place),
        5 => {
            let piece: Vec<u8> = input[place..end].to_vec();
            let piece = piece.repeat(1 + random.below(40));
            input.splice(place..place, piece);
        }
        6 => {
            // Head of one, tail of another.
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            input.splice(place.., other[from..].iter().copied());
        }
        7 => {
            let letters = random.text_of(
                &["é", "世", "😀", "\u{301}", "\u{2028}", "\u{ad}", "\u{202e}"],
                4,
            );
            input.splice(place..place, letters.into_bytes());
        }
        8 if input.len() > 1 => {
            let other = random.below(input.len());
            let place = place.min(input.len() - 1);
            input.swap(place, other);
        }
        _ => {
            let word = words[random.below(words.len())];
            input.splice(place..place, word.bytes());
        }
    }
    input.truncate(MAX_BYTES);
}

fn input(seed: u64, corpus: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..random.below(MUTATIONS + 1) {
        mutate(&mut input, corpus, words, &mut random);
    }
    input
}

/// Holds what is in the corpus, and what becomes of it, to what must be so.
fn fuzz(target: &str, corpus: &[Vec<u8>], words: &[&str], holds: fn(&[u8])) {
    for one in corpus {
        holds(one);
    }
    let make = |seed| Shown(input(seed, corpus, words));
    each_seed(target, 0..ROUNDS, make, |_, input| holds(&input.0));
}

/// Bytes that are mostly text.
struct Shown(Vec<u8>);

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

fn bytes(texts: impl IntoIterator<Item = impl Into<String>>) -> Vec<Vec<u8>> {
    texts
        .into_iter()
        .map(|text| text.into().into_bytes())
        .collect()
}

/// Every text at any place of a recording that is not absurdly long.
fn texts_of(json: &Json, texts: &mut Vec<String>) {
    match json {
        Json::String(text) if text.len() < 2000 => texts.push(text.clone()),
        Json::Array(items) => items.iter().for_each(|one| texts_of(one, texts)),
        Json::Object(entries) => entries.iter().for_each(|(_, one)| texts_of(one, texts)),
        _ => {}
    }
}

fn recorded(file: &str) -> Vec<String> {
    let mut texts = Vec::new();
    texts_of(&fixtures::golden(file), &mut texts);
    texts
}

#[test]
fn a_request_head_is_granted_or_answered_whole() {
    let head = REQUEST.trim_end();
    let mut corpus = bytes([
        REQUEST.to_owned(),
        format!("{head}\r\nOrigin: https://helpdesk.example\r\n\r\n"),
        format!("{head}\r\nOrigin: https://evil.example\r\n\r\n"),
        format!("{head}\r\nOrigin: https://[2001:db8::1]\r\nContent-Length: 0\r\n\r\n\x01\x02"),
        format!(
            "{head}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n"
        ),
        format!("{head}\r\n folded\r\nX: {}\r\n\r\n", "x".repeat(4000)),
    ]);
    corpus.extend(bytes(recorded("handshake")));
    const WORDS: &[&str] = &[
        "\r\n",
        "\r\n\r\n",
        "\n\n",
        "Origin: ",
        "https://evil.example",
        "@",
        "https://helpdesk.example",
        "Host: x\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Content-Length: 5\r\n",
        "GET /ws/chat HTTP/1.1\r\n",
        " ",
        "\t",
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "HTTP/1.0",
        "/ws/chat?",
        "%2f",
    ];
    fuzz("handshake", &corpus, WORDS, invariants::handshake);
}

#[test]
fn an_event_is_decoded_or_refused_and_its_ref_comes_back() {
    let mut corpus = bytes([
        r#"{"type":"auth","token":"x","after_id":"12","ref":"é\u2028\"\\"}"#,
        r#"{"type":"chat.channel.message.send","channel_id":"3","body":"text","ref":-7}"#,
        r#"{"type":"chat.history","thread_id":9,"before_id":18446744073709551615,"limit":1e3}"#,
        r#"{"type":"chat.read","scope":"direct","thread_id":1,"last_read_message_id":-1,"a":[[{"b":{}}]]}"#,
        r#"{"type":"chat.typing","scope":"channel","channel_id":00}"#,
        r#"{"type":"ping","ref":18446744073709551615,"type":"chat.unread"}"#,
    ]);
    corpus.extend(bytes(
        recorded("events")
            .into_iter()
            .filter(|text| text.starts_with('{')),
    ));
    const WORDS: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\",
        "\\u0000",
        "\\ud83d",
        "\\ude00",
        "\"type\":",
        "\"ref\":",
        "\"ping\"",
        "null",
        "true",
        "1e999",
        "-0",
        "0.1",
        "18446744073709551616",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "\u{feff}",
    ];
    fuzz("event", &corpus, WORDS, invariants::event);
}

#[test]
fn a_body_becomes_html_of_a_few_tags_that_says_what_was_typed() {
    let corpus = bytes(recorded("render"));
    const WORDS: &[&str] = &[
        "http://",
        "https://x.test/",
        "(",
        ")",
        "#12",
        "ticket #1",
        "#HD-2026-05-12-131",
        "kb:vpn",
        "@bob",
        " ",
        "\r\n",
        "\n",
        "<script>",
        "</a>",
        "<br>",
        "\" onmouseover=\"",
        "'",
        "&amp;",
        "&#39;",
        "javascript:",
        ":)",
        ":-(",
        "xd",
        "\0",
        "http://x.test/\"><b>",
        "<img src=x onerror=alert(1)>",
        "&lt;",
    ];
    fuzz("body", &corpus, WORDS, invariants::body);
}

#[test]
fn a_dotenv_file_is_read_or_refused_without_a_value_in_the_reason() {
    let mut corpus = bytes([
        "JWT_SECRET=\"a b\"\nDB_PASSWORD='x$y'\nexport A=$HOME/x # comment\n",
        "A=1\nB=${A}2\nC=\"${B} \\\" \\n\n more\"\n",
        "A\nB=\n#\n\n=x\n",
    ]);
    corpus.extend(bytes(recorded("dotenv")));
    const WORDS: &[&str] = &[
        "=", "\n", "\r\n", "\"", "'", "\\", "${", "}", "$A", "${A}", "export ", "#", " ", "\t",
        "A=", "HOME", "\u{feff}",
    ];
    fuzz("dotenv", &corpus, WORDS, invariants::dotenv);
}

#[test]
fn a_token_is_good_only_if_it_was_signed() {
    let claims =
        |agent: u64, exp: u64| format!(r#"{{"sub":{agent},"type":"agent","iat":1,"exp":{exp}}}"#);
    let hs256 = r#"{"typ":"JWT","alg":"HS256"}"#;
    let (ours, others) = (invariants::SECRET, "another secret, of thirty-two bytes");
    let corpus = bytes([
        jwt::forge(hs256, &claims(invariants::AGENT, 2_000_000), "HS256", ours),
        jwt::forge(hs256, &claims(invariants::AGENT, 1), "HS256", ours),
        jwt::forge(hs256, &claims(8, 2_000_000), "HS256", others),
        jwt::forge(r#"{"alg":"none"}"#, &claims(8, 2_000_000), "none", ours),
        jwt::forge(r#"{"alg":"HS512"}"#, &claims(8, 2_000_000), "HS512", ours),
        jwt::forge(
            r#"{"alg":"RS256","kid":"../x"}"#,
            &claims(8, 2_000_000),
            "HS256",
            ours,
        ),
        "..".to_owned(),
    ]);
    const WORDS: &[&str] = &[
        ".",
        "=",
        "-",
        "_",
        "+",
        "/",
        "eyJhbGciOiJub25lIn0",
        "e30",
        " ",
        "\0",
        "Bearer ",
    ];
    fuzz("token", &corpus, WORDS, invariants::token);
}
