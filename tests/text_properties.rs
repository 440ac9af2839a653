//! What holds for every body, tried on bodies made of the pieces that are most likely to break it.

use andrea_chat_websocket::text::{self, Ticket, Tickets};

use crate::random::{Random, each_seed};
use crate::text_model;

const PIECES: [&str; 85] = [
    "http://",
    "HTTPS://",
    "https:/",
    "http://.",
    "x.test",
    "/",
    "//",
    "?a=1&b=2",
    "(",
    ")",
    "_(b)",
    ").",
    "'",
    "\"",
    "<",
    ">",
    "&",
    "&amp;",
    "&#039;",
    "<b>",
    "</a>",
    "<br>",
    ".",
    ",",
    ";",
    ":",
    "!",
    "?",
    "-",
    "_",
    "=",
    "\\",
    "#",
    "#1",
    "#12",
    "#0012",
    "#42",
    "#12345678901",
    "ticket",
    "Ticket ",
    "ticket\n",
    "ticket\t\r\n",
    "tickets ",
    "ticket\x0b\x0c",
    "HD-2026-05-12-131",
    "#HD-2026-05-12-131",
    "#hd-2026-05-12-131",
    "#R&D-2026-06-01-5",
    "-2026-05-12-1",
    "#A-2026",
    "-01-01",
    "-1",
    "#1-2026-05-12-1",
    "kb:",
    "KB:Vpn",
    "kb:vpn-",
    "kb:a_",
    "vpn",
    "@",
    "@bob",
    "@Bob-",
    "@@",
    "@a",
    "@9lives",
    "@jjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjjj",
    "a",
    "1",
    "é",
    "世",
    "😀",
    "\u{301}",
    " ",
    " ",
    "  ",
    "\n",
    "\r",
    "\r\n",
    "\n\r",
    "\t",
    "\u{a0}",
    "\u{85}",
    "\u{2028}",
    ":)",
    "xd",
    "\0",
];

fn tickets() -> Vec<Ticket> {
    let ticket = |id, number: &str| Ticket {
        id,
        number: number.to_owned(),
    };
    vec![
        ticket(1, "A-2026-01-01-1"),
        ticket(12, "HD-2026-05-12-131"),
        ticket(42, "R&D-2026-06-01-5"),
        ticket(2026, "\"><b>"),
    ]
}

#[test]
fn the_html_and_the_mentions_are_those_of_the_slow_model() {
    let known = tickets();
    let found = Tickets::new(known.clone());
    let body = |seed| Random::new(seed).text_of(&PIECES, 20);
    each_seed("slow_model", 0..10_000, body, |_, body| {
        for links in [true, false] {
            let html = text::render(body, links, &found);
            assert_eq!(
                html,
                text_model::render(body, links, &known),
                "links {links}"
            );
        }
        assert_eq!(text::mentions(body), text_model::mentions(body));
    });
}

#[test]
fn the_html_has_only_the_tags_of_the_contract_and_says_what_was_typed() {
    let found = Tickets::new(tickets());
    let body = |seed| Random::new(seed).text_of(&PIECES, 24);
    each_seed("html_tags", 100_000..115_000, body, |seed, body| {
        let html = text::render(body, seed % 2 == 0, &found);
        if let Err(problem) = read_back(&html, body) {
            panic!("{problem}\nhtml {html:?}");
        }
    });
}

#[test]
fn what_has_to_be_looked_up_is_what_would_be_linked() {
    let body = |seed| Random::new(seed).text_of(&PIECES, 24);
    each_seed("looked_up", 200_000..210_000, body, |_, body| {
        let references = text::ticket_references(body);
        let by_id = references.ids.iter().map(|id| Ticket {
            id: *id,
            number: format!("N-{id}"),
        });
        // Ids of their own, beyond those that ten digits can refer to.
        let by_number = references.numbers.iter().zip(10_000_000_000..);
        let by_number = by_number.map(|(number, id)| Ticket {
            id,
            number: number.clone(),
        });
        let all: Vec<Ticket> = by_id.chain(by_number).collect();
        let html = text::render(body, true, &Tickets::new(all.clone()));
        for ticket in &all {
            let link = format!("href=\"#/tickets/{}\"", ticket.id);
            assert!(html.contains(&link), "{link} is missing");
        }
        let none = text::render(body, true, &Tickets::default());
        assert!(!none.contains("#/tickets/"), "{none}");
    });
}

#[test]
fn the_stored_text_is_trimmed_and_the_preview_is_short() {
    const BLANKS: [char; 6] = [' ', '\t', '\n', '\r', '\0', '\x0b'];
    let raw = |seed| Random::new(seed).text_of(&PIECES, 60);
    each_seed("trimmed", 300_000..310_000, raw, |_, raw| {
        let body = text::normalise(raw);
        assert_eq!(body.trim_matches(BLANKS), body);
        const EMOJI: [char; 18] = [
            '🙂', '😉', '😃', '😆', '😛', '😮', '🙁', '🥲', '😢', '😕', '😐', '😘', '😡', '😳',
            '\u{2764}', '💔', '👍', '👎',
        ];
        let as_typed = raw.trim_matches(BLANKS);
        assert!(body == as_typed || body.contains(EMOJI), "{body:?}");
        let preview = text::preview(&body);
        assert!(preview.chars().count() <= text::PREVIEW_CHARS);
        assert!(!preview.contains("  ") && !preview.contains(['\n', '\r', '\t']));
        assert_eq!(preview.trim_matches(' '), preview);
    });
}

/// Reads `html` as a strict reader would, tag by tag, and holds what it shows against `body`.
fn read_back(html: &str, body: &str) -> Result<(), String> {
    let mut rest = html;
    let mut body = body;
    while !rest.is_empty() {
        if let Some(link) = rest.strip_prefix("<a href=\"#/tickets/") {
            let (id, link) = cut(link, "\" class=\"chat-internal-link\">")?;
            let (shown, after) = cut(link, "</a>")?;
            body = read_ticket(id, &unescape(shown, true)?, body)?;
            rest = after;
        } else if let Some(link) = rest.strip_prefix("<a href=\"#/kb/") {
            let (slug, link) = cut(link, "\" class=\"chat-internal-link\">kb:")?;
            let (shown, after) = cut(link, "</a>")?;
            if shown != slug {
                return Err(format!("article {slug} shown as {shown}"));
            }
            body = take(body, &format!("kb:{slug}"), true)?;
            rest = after;
        } else if let Some(link) = rest.strip_prefix("<a href=\"") {
            let (url, link) = cut(link, "\" target=\"_blank\" rel=\"noopener noreferrer\">")?;
            let (shown, after) = cut(link, "</a>")?;
            if shown != url {
                return Err(format!("link to {url} shown as {shown}"));
            }
            let url = unescape(url, false)?;
            let lower = url.to_ascii_lowercase();
            if !lower.starts_with("http://") && !lower.starts_with("https://") {
                return Err(format!("link to {url}"));
            }
            body = take(body, &url, false)?;
            rest = after;
        } else if let Some(mention) = rest.strip_prefix("<span class=\"chat-mention\">") {
            let (shown, after) = cut(mention, "</span>")?;
            body = take(body, &unescape(shown, false)?, true)?;
            rest = after;
        } else {
            // Text up to the next tag that is not a line break.
            let end = rest
                .match_indices('<')
                .find(|(i, _)| !rest[*i..].starts_with("<br>"));
            let (text, after) = rest.split_at(end.map_or(rest.len(), |(i, _)| i));
            if text.is_empty() {
                return Err(format!("unknown tag at {after}"));
            }
            body = take(body, &unescape(text, true)?, false)?;
            rest = after;
        }
    }
    if body.is_empty() {
        Ok(())
    } else {
        Err(format!("not shown: {body}"))
    }
}

/// A ticket is shown as typed, or by its number where its id was typed.
fn read_ticket<'a>(id: &str, shown: &str, body: &'a str) -> Result<&'a str, String> {
    if let Ok(after) = take(body, shown, false) {
        return Ok(after);
    }
    let (word, number) = shown.split_once('#').ok_or(format!("no # in {shown}"))?;
    let known = tickets();
    if !known
        .iter()
        .any(|ticket| ticket.id.to_string() == id && ticket.number == number)
    {
        return Err(format!("ticket {id} shown as {shown}"));
    }
    let digits = take(take(body, word, false)?, "#", false)?;
    let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let typed = digits.len() - after.len();
    match digits[..typed].parse::<u64>() {
        Ok(typed) if typed.to_string() == id => Ok(after),
        _ => Err(format!("ticket {id} for {digits}")),
    }
}

fn cut<'a>(text: &'a str, separator: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(separator)
        .ok_or_else(|| format!("no {separator} in {text}"))
}

fn take<'a>(body: &'a str, expected: &str, ignore_case: bool) -> Result<&'a str, String> {
    let start = body.get(..expected.len()).unwrap_or("");
    let fits = start == expected || ignore_case && start.to_ascii_lowercase() == expected;
    if fits {
        Ok(&body[expected.len()..])
    } else {
        Err(format!("{expected:?} shown for {body:?}"))
    }
}

/// Undoes the escapes, and takes out each `<br>`, where they are allowed; anything else that is special in HTML, and
/// a line break without its `<br>`, is an error.
fn unescape(html: &str, breaks: bool) -> Result<String, String> {
    const ESCAPES: [(&str, char); 5] = [
        ("&amp;", '&'),
        ("&lt;", '<'),
        ("&gt;", '>'),
        ("&quot;", '"'),
        ("&#039;", '\''),
    ];
    let mut text = String::new();
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        if let Some((escape, plain)) = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape)) {
            text.push(*plain);
            rest = &rest[escape.len()..];
        } else if let Some(after) = rest.strip_prefix("<br>").filter(|_| breaks) {
            let length = match after.as_bytes() {
                [b'\r', b'\n', ..] | [b'\n', b'\r', ..] => 2,
                [b'\r' | b'\n', ..] => 1,
                _ => return Err(format!("<br> without a break in {html}")),
            };
            text.push_str(&after[..length]);
            rest = &after[length..];
        } else if matches!(c, '&' | '<' | '>' | '"' | '\'' | '\r' | '\n') {
            return Err(format!("bare {c:?} in {html}"));
        } else {
            text.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(text)
}
