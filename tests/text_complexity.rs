//! Long bodies built to be expensive: the cost of a message must stay linear in its length.

use std::time::{Duration, Instant};

use andrea_chat_websocket::text::{self, Ticket, Tickets};

/// As long as a frame may be in practice, and long enough that quadratic work would take minutes here.
const BYTES: usize = 64 * 1024;
/// For all functions, in an unoptimised build on a busy machine; linear work takes a few hundredths of it.
const LIMIT: Duration = Duration::from_secs(3);

#[test]
fn no_body_of_64_kib_takes_long() {
    const REPEATED: [&str; 36] = [
        "(",
        "((((:",
        "(:",
        "(:-",
        "(:)",
        ":(;)",
        "#",
        "#1",
        "#1#1#1",
        " #1",
        "#1-",
        ".#A-2026-01-01-1",
        "#a-",
        ".#-",
        ".#aaaaaaaaaaaaaaaaaaaaaaaaaa-2026-01-01-1",
        "http://",
        "http://.",
        " http://.",
        "http://)",
        "http://(",
        "http://x)",
        "'http://<",
        "https:///",
        "ticket",
        "ticket ",
        "ticket\t\r\n",
        "@",
        "@a",
        "@a@a@a",
        " @a-",
        " @ab",
        "kb:",
        " kb:a-",
        "\r\n",
        "\n\r\n",
        "&",
    ];
    for piece in REPEATED {
        let body = piece.repeat(BYTES / piece.len());
        check(piece, &body);
    }
}

#[test]
fn one_long_run_behind_each_start_does_not_take_long() {
    for start in [
        "http://",
        "http://(",
        "ticket",
        "#",
        "#A-2026-01-01-",
        "kb:",
        "@",
        ":",
        "(:'",
        "@a",
    ] {
        for run in [
            "a", "1", "-", ".", ")", "(", ":", " ", "é", "\u{2003}", "\0",
        ] {
            check(start, &format!("{start}{}", run.repeat(BYTES / run.len())));
        }
    }
}

#[test]
fn sixteen_thousand_different_handles_do_not_take_long() {
    let body: String = (0..BYTES / 7).map(|i| format!(" @{i:05x}")).collect();
    check("different handles", &body);
    assert_eq!(text::mentions(&body).len(), BYTES / 7);
}

#[test]
fn many_different_references_do_not_take_long() {
    let body: String = (0..BYTES / 8)
        .map(|i| format!(" #{i} #{}", i % 49))
        .collect();
    check("different references", &body);
    assert_eq!(
        text::ticket_references(&body).ids.len(),
        text::MAX_TICKET_REFERENCES
    );
}

fn check(what: &str, body: &str) {
    let number = String::from("A-2026-01-01-1");
    let tickets = Tickets::new(vec![Ticket { id: 1, number }]);
    let start = Instant::now();
    let _ = text::normalise(body);
    let _ = text::mentions(body);
    let _ = text::ticket_references(body);
    let _ = text::render(body, true, &tickets);
    let _ = text::render(body, false, &tickets);
    let _ = text::preview(body);
    let took = start.elapsed();
    assert!(took < LIMIT, "{what:?}, {} bytes: {took:?}", body.len());
}
