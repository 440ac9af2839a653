//! A second reading of the tables in rendering.md and database.md: slow, by trying every length at every place, and
//! sharing nothing with `text`. Never made fast: what it is for is to be obviously right.

use andrea_chat_websocket::text::Ticket;

/// The HTML of `body`, with these tickets.
pub fn render(body: &str, external_links: bool, tickets: &[Ticket]) -> String {
    let mut html = String::new();
    let mut at = 0;
    while at < body.len() {
        let before = body[..at].chars().next_back();
        if let Some((length, written)) = token(before, &body[at..], external_links, tickets) {
            html.push_str(&written);
            at += length;
        } else {
            // A line break is told from its neighbours only as a whole, so text is escaped a character at a time
            // but for CR LF and LF CR.
            let rest = &body[at..];
            let length = if rest.starts_with("\r\n") || rest.starts_with("\n\r") {
                2
            } else {
                rest.chars().next().map_or(0, char::len_utf8)
            };
            html.push_str(&escape(&rest[..length]));
            at += length;
        }
    }
    html
}

/// The handles in `body`, in order and each once.
pub fn mentions(body: &str) -> Vec<String> {
    let mut handles: Vec<String> = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let before = body[..at].chars().next_back();
        let length = if word(before) {
            None
        } else {
            longest(&body[at..], is_mention)
        };
        if let Some(length) = length {
            let handle = body[at + 1..at + length].to_lowercase();
            if !handles.contains(&handle) {
                handles.push(handle);
            }
        }
        at += length.unwrap_or_else(|| body[at..].chars().next().map_or(0, char::len_utf8));
    }
    handles
}

fn token(
    before: Option<char>,
    rest: &str,
    external_links: bool,
    tickets: &[Ticket],
) -> Option<(usize, String)> {
    if word(before) {
        return None;
    }
    if let Some(length) = url_length(rest) {
        let url = escape(&rest[..length]);
        let link =
            format!("<a href=\"{url}\" target=\"_blank\" rel=\"noopener noreferrer\">{url}</a>");
        return Some((length, if external_links { link } else { url }));
    }
    if !matches!(before, Some('/' | '-')) {
        if let Some(length) = longest(rest, is_ticket_number) {
            let text = &rest[..length];
            let (_, number) = text.split_once('#')?;
            let ticket = tickets
                .iter()
                .find(|ticket| ticket.number.eq_ignore_ascii_case(number));
            return Some((length, ticket_link(ticket, text, text)));
        }
        if let Some(length) = longest(rest, is_ticket_id) {
            let text = &rest[..length];
            let (word, digits) = text.split_once('#')?;
            let ticket = tickets
                .iter()
                .find(|ticket| digits.parse() == Ok(ticket.id));
            let shown = format!("{word}#{}", ticket.map_or("", |ticket| &ticket.number));
            return Some((length, ticket_link(ticket, &shown, text)));
        }
        if let Some(length) = longest(rest, is_article) {
            let slug = rest[3..length].to_lowercase();
            let link =
                format!("<a href=\"#/kb/{slug}\" class=\"chat-internal-link\">kb:{slug}</a>");
            return Some((length, link));
        }
    }
    let length = longest(rest, is_mention)?;
    let handle = rest[..length].to_lowercase();
    Some((
        length,
        format!("<span class=\"chat-mention\">{handle}</span>"),
    ))
}

fn ticket_link(ticket: Option<&Ticket>, shown: &str, typed: &str) -> String {
    match ticket {
        Some(Ticket { id, .. }) => {
            let shown = escape(shown);
            format!("<a href=\"#/tickets/{id}\" class=\"chat-internal-link\">{shown}</a>")
        }
        None => escape(typed),
    }
}

/// The greatest length of `rest` that is a token and ends at a word boundary.
fn longest(rest: &str, is_token: fn(&str) -> bool) -> Option<usize> {
    // No other token starts like this; without it the tests take minutes.
    if !rest.starts_with(['#', 't', 'T', 'k', 'K', '@']) {
        return None;
    }
    (1..=rest.len()).rev().find(|&length| {
        rest.is_char_boundary(length) && {
            let (token, behind) = rest.split_at(length);
            word(token.chars().next_back()) != word(behind.chars().next()) && is_token(token)
        }
    })
}

fn word(c: Option<char>) -> bool {
    c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn alphanumeric(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit())
}

/// Takes white space one character at a time off the front, and every mark off the end that has to go.
fn url_length(rest: &str) -> Option<usize> {
    let lower = rest.to_ascii_lowercase();
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| lower.starts_with(scheme))?
        .len();
    let stop = |c: char| c.is_whitespace() || "<>\"".contains(c);
    let mut url: Vec<char> = rest.chars().take_while(|c| !stop(*c)).collect();
    while url.len() > scheme {
        let goes = match url.last() {
            Some(')') => !closes_something(&url),
            Some(c) => ".,;:!?'".contains(*c),
            None => false,
        };
        if !goes {
            break;
        }
        url.pop();
    }
    (url.len() > scheme).then(|| url.iter().map(|c| c.len_utf8()).sum())
}

/// Whether the last of `url`, a closing parenthesis, has an opening one: going back from it, there is a place where
/// both are equal in number.
fn closes_something(url: &[char]) -> bool {
    let mut open = 0;
    url.iter().rev().any(|c| {
        match c {
            ')' => open += 1,
            '(' => open -= 1,
            _ => {}
        }
        open == 0
    })
}

fn behind_ticket_word(text: &str) -> Option<&str> {
    let lower = text.to_ascii_lowercase();
    let rest = if lower.starts_with("ticket") {
        text[6..].trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c'])
    } else {
        text
    };
    rest.strip_prefix('#')
}

fn is_ticket_number(text: &str) -> bool {
    let Some(number) = behind_ticket_word(text) else {
        return false;
    };
    let parts: Vec<&str> = number.rsplitn(5, '-').collect();
    let [n, day, month, year, prefix] = parts[..] else {
        return false;
    };
    digits(n, 1..=10)
        && digits(day, 2..=2)
        && digits(month, 2..=2)
        && digits(year, 4..=4)
        && (1..=25).contains(&prefix.len())
        && alphanumeric(&prefix.chars().take(1).collect::<String>())
        && alphanumeric(&prefix.replace(['-', '_'], ""))
}

fn is_ticket_id(text: &str) -> bool {
    behind_ticket_word(text).is_some_and(|id| digits(id, 1..=10))
}

fn is_article(text: &str) -> bool {
    let slug = text.to_ascii_lowercase();
    slug.strip_prefix("kb:").is_some_and(|slug| {
        slug.len() <= 121
            && !slug.is_empty()
            && !slug.starts_with('-')
            && alphanumeric(&slug.replace('-', ""))
    })
}

fn is_mention(text: &str) -> bool {
    text.strip_prefix('@').is_some_and(|handle| {
        (2..=80).contains(&handle.len())
            && !handle.starts_with(['-', '_'])
            && alphanumeric(&handle.replace(['-', '_'], ""))
    })
}

fn escape(text: &str) -> String {
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#039;");
    let mut html = String::new();
    let mut rest = escaped.as_str();
    while let Some(at) = rest.find(['\r', '\n']) {
        let both = rest[at..].starts_with("\r\n") || rest[at..].starts_with("\n\r");
        let end = at + if both { 2 } else { 1 };
        html.push_str(&rest[..at]);
        html.push_str("<br>");
        html.push_str(&rest[at..end]);
        rest = &rest[end..];
    }
    html + rest
}
