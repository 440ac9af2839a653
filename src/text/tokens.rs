//! Finds the tokens of a body: URL, ticket number, ticket id, article, mention. One scan, left to right; each byte of a body
//! belongs to one token at most.
//!
//! Writes no HTML and does not know which tickets exist: only the form makes a token.
//!
//! Two things keep the time linear. Tokens other than URLs have a greatest length, so a failed attempt costs a bounded
//! number of steps. Two runs have no bound: a URL, and the white space between `ticket` and `#`. Where an attempt at one
//! fails, no other can start inside it: a URL fails only if all of it is punctuation, and white space is no letter.

/// Longest handle in bytes, without the `@`.
const HANDLE_MAX: usize = 80;
/// Longest slug of an article in bytes.
const SLUG_MAX: usize = 121;
/// Longest part before the date of a ticket number, in bytes.
const NUMBER_PREFIX_MAX: usize = 25;
/// Most digits in a ticket id, and in the last part of a ticket number.
const DIGITS_MAX: usize = 10;

/// A piece of a body that may become a link or a mention. All text is as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextToken<'a> {
    /// `http://…` or `https://…`, without the punctuation that follows it.
    Url(&'a str),
    /// `#number`, without the `#`, perhaps with the word `ticket` before it.
    TicketNumber { number: &'a str },
    /// `word` is the word `ticket` with the white space after it, or empty.
    TicketId { word: &'a str, id: u64 },
    /// `kb:slug`, without the `kb:`.
    Article { slug: &'a str },
    /// Without the `@`.
    Mention { handle: &'a str },
}

/// A token and where it stands, in bytes of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenMatch<'a> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) token: TextToken<'a>,
}

/// The first token that starts at `from` or later, where `from` is 0 or the `end` of the token before.
pub(super) fn next_token(body: &str, from: usize) -> Option<TokenMatch<'_>> {
    let bytes = body.as_bytes();
    let mut start = from;
    loop {
        start += bytes
            .get(start..)?
            .iter()
            .position(|&byte| begins_token(byte))?;
        let before = start.checked_sub(1).map(|i| bytes[i]);
        if !before.is_some_and(is_word)
            && let Some((end, token)) = token_at(body, start, before)
        {
            return Some(TokenMatch { start, end, token });
        }
        start += 1;
    }
}

/// The first mention whose `@` stands at `from` or later, even inside a URL: its handle, and its end in bytes.
pub(super) fn next_mention(body: &str, from: usize) -> Option<(&str, usize)> {
    let bytes = body.as_bytes();
    let mut start = from;
    loop {
        start += bytes.get(start..)?.iter().position(|&byte| byte == b'@')?;
        if !start.checked_sub(1).is_some_and(|i| is_word(bytes[i]))
            && let Some(end) = handle_end(bytes, start + 1)
        {
            return Some((&body[start + 1..end], end));
        }
        start += 1;
    }
}

fn begins_token(byte: u8) -> bool {
    matches!(byte, b'#' | b'@' | b'h' | b'H' | b'k' | b'K' | b't' | b'T')
}

/// ASCII letters, digits and `_`, and no byte of any other character.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// `before` is the byte before `start` and is known not to be a letter, a digit or `_`.
fn token_at(body: &str, start: usize, before: Option<u8>) -> Option<(usize, TextToken<'_>)> {
    let bytes = body.as_bytes();
    // Behind `/` or `-`, a ticket or an article is more likely a part of a path or of a longer word.
    let apart = !matches!(before, Some(b'/' | b'-'));
    match bytes[start] {
        b'h' | b'H' => url_at(body, start),
        b'#' | b't' | b'T' if apart => ticket_at(body, start),
        b'k' | b'K' if apart => article_at(body, start),
        b'@' => {
            let end = handle_end(bytes, start + 1)?;
            let handle = &body[start + 1..end];
            Some((end, TextToken::Mention { handle }))
        }
        _ => None,
    }
}

fn url_at(body: &str, start: usize) -> Option<(usize, TextToken<'_>)> {
    let bytes = body.as_bytes();
    let mut at = after_ignoring_case(bytes, start, b"http")?;
    if matches!(bytes.get(at), Some(b's' | b'S')) {
        at += 1;
    }
    let rest = after_ignoring_case(bytes, at, b"://")?;
    let run = body[rest..]
        .find(|c: char| matches!(c, '<' | '>' | '"') || c.is_whitespace())
        .unwrap_or(body.len() - rest);
    let kept = without_trailing_punctuation(&bytes[rest..rest + run]);
    if kept == 0 {
        return None;
    }
    let end = rest + kept;
    Some((end, TextToken::Url(&body[start..end])))
}

/// The length of `url` without the punctuation behind it.
///
/// A closing parenthesis stays if it belongs to an opening one in the URL, so `http://x/a_(b)` stays whole, even within
/// parentheses.
fn without_trailing_punctuation(url: &[u8]) -> usize {
    let is_mark =
        |byte: &u8| matches!(byte, b'.' | b',' | b';' | b':' | b'!' | b'?' | b'\'' | b')');
    let marks = url
        .iter()
        .rposition(|byte| !is_mark(byte))
        .map_or(0, |i| i + 1);
    let mut open = 0_usize;
    for &byte in &url[..marks] {
        match byte {
            b'(' => open += 1,
            b')' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    // The marks contain no opening parenthesis: the first `open` closing ones have their counterparts before the marks, and
    // the URL ends with the last of these.
    let closing = url[marks..]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b')');
    closing
        .take(open)
        .last()
        .map_or(marks, |(i, _)| marks + i + 1)
}

fn ticket_at(body: &str, start: usize) -> Option<(usize, TextToken<'_>)> {
    let bytes = body.as_bytes();
    let hash = match after_ignoring_case(bytes, start, b"ticket") {
        Some(at) => {
            at + bytes[at..]
                .iter()
                .take_while(|byte| is_ascii_space(**byte))
                .count()
        }
        None => start,
    };
    if bytes.get(hash) != Some(&b'#') {
        return None;
    }
    let at = hash + 1;
    if let Some(end) = number_end(bytes, at) {
        let number = &body[at..end];
        return Some((end, TextToken::TicketNumber { number }));
    }
    let end = digits_end(bytes, at)?;
    // At most ten digits, so this cannot fail.
    let id = body[at..end].parse().ok()?;
    let word = &body[start..hash];
    Some((end, TextToken::TicketId { word, id }))
}

/// The end of the longest ticket number that starts at `at`.
fn number_end(bytes: &[u8], at: usize) -> Option<usize> {
    if !bytes.get(at)?.is_ascii_alphanumeric() {
        return None;
    }
    let prefix = bytes[at..]
        .iter()
        .take(NUMBER_PREFIX_MAX)
        .take_while(|byte| is_word(**byte) || **byte == b'-')
        .count();
    (1..=prefix).rev().find_map(|length| {
        let date = bytes.get(at + length..at + length + 12)?;
        let fits = date.iter().enumerate().all(|(i, byte)| match i {
            0 | 5 | 8 | 11 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        if fits {
            digits_end(bytes, at + length + 12)
        } else {
            None
        }
    })
}

/// The end of the digits at `at`: 1 to [`DIGITS_MAX`] of them, with neither a letter nor `_` behind them.
fn digits_end(bytes: &[u8], at: usize) -> Option<usize> {
    let digits = bytes
        .get(at..)?
        .iter()
        .take(DIGITS_MAX)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let end = at + digits;
    let bounded = digits > 0 && !bytes.get(end).is_some_and(|byte| is_word(*byte));
    bounded.then_some(end)
}

fn article_at(body: &str, start: usize) -> Option<(usize, TextToken<'_>)> {
    let bytes = body.as_bytes();
    let at = after_ignoring_case(bytes, start, b"kb:")?;
    let end = name_end(bytes, at, 1..=SLUG_MAX, |byte| {
        byte.is_ascii_alphanumeric() || byte == b'-'
    })?;
    let slug = &body[at..end];
    Some((end, TextToken::Article { slug }))
}

fn handle_end(bytes: &[u8], at: usize) -> Option<usize> {
    name_end(bytes, at, 2..=HANDLE_MAX, |byte| {
        is_word(byte) || byte == b'-'
    })
}

/// The end of the longest name at `at` that begins with a letter or digit, goes on with `allowed` bytes, has one of
/// `lengths` and ends at a word boundary.
///
/// Behind a `-` is a word boundary only if a letter, digit or `_` follows. So a name ends in `-` only if it is cut off there
/// at the greatest length: the recorded daemon reads it that way.
fn name_end(
    bytes: &[u8],
    at: usize,
    lengths: std::ops::RangeInclusive<usize>,
    allowed: impl Fn(u8) -> bool,
) -> Option<usize> {
    if !bytes.get(at)?.is_ascii_alphanumeric() {
        return None;
    }
    let run = bytes[at..]
        .iter()
        .take(*lengths.end())
        .take_while(|byte| allowed(**byte))
        .count();
    let is_boundary =
        |end: usize| is_word(bytes[end - 1]) != bytes.get(end).is_some_and(|byte| is_word(*byte));
    (at + lengths.start()..=at + run)
        .rev()
        .find(|end| is_boundary(*end))
}

fn after_ignoring_case(bytes: &[u8], at: usize, expected: &[u8]) -> Option<usize> {
    let end = at + expected.len();
    bytes
        .get(at..end)?
        .eq_ignore_ascii_case(expected)
        .then_some(end)
}

/// White space between `ticket` and `#` is ASCII: with a no-break space there, the word stays outside the link.
fn is_ascii_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'\x0b'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(body: &str) -> TextToken<'_> {
        let found = next_token(body, 0).unwrap_or_else(|| panic!("no token in {body}"));
        assert_eq!((found.start, found.end), (0, body.len()), "{body}");
        found.token
    }

    fn url(body: &str) -> Option<&str> {
        match next_token(body, 0)?.token {
            TextToken::Url(url) => Some(url),
            other => panic!("{other:?} in {body}"),
        }
    }

    #[test]
    fn each_kind_is_found_as_typed() {
        assert_eq!(only("HtTps://X"), TextToken::Url("HtTps://X"));
        let number = "a_B-9-2026-06-30-0007";
        assert_eq!(
            only("Ticket\r\n#a_B-9-2026-06-30-0007"),
            TextToken::TicketNumber { number }
        );
        let word = "tIcKeT \t\n\x0b\x0c\r";
        assert_eq!(
            only("tIcKeT \t\n\x0b\x0c\r#7"),
            TextToken::TicketId { word, id: 7 }
        );
        assert_eq!(
            only("#0000000012"),
            TextToken::TicketId { word: "", id: 12 }
        );
        assert_eq!(only("Kb:V-1"), TextToken::Article { slug: "V-1" });
        assert_eq!(only("@Bob_x"), TextToken::Mention { handle: "Bob_x" });
    }

    #[test]
    fn a_url_keeps_the_parentheses_that_it_opened() {
        assert_eq!(url("(http://x/a_(b))."), Some("http://x/a_(b)"));
        assert_eq!(url("http://x/a_(b).)"), Some("http://x/a_(b)"));
        assert_eq!(url("http://x/((a)))."), Some("http://x/((a))"));
        assert_eq!(url("http://x/(a.).)"), Some("http://x/(a.)"));
        assert_eq!(url("http://x/)a(b)"), Some("http://x/)a(b)"));
        assert_eq!(url("http://)"), None);
        assert_eq!(url("http://(?"), Some("http://("));
    }

    #[test]
    fn the_longest_number_wins_and_a_number_wins_over_an_id() {
        let number = "A-2026-01-01-2026-01-01-1";
        assert_eq!(
            only("#A-2026-01-01-2026-01-01-1"),
            TextToken::TicketNumber { number }
        );
        let number = "1-2026-05-12-1";
        assert_eq!(only("#1-2026-05-12-1"), TextToken::TicketNumber { number });
        let prefix = "P".repeat(26);
        assert_eq!(next_token(&format!("#{prefix}-2026-05-12-1"), 0), None);
        let id = next_token("#1-2026-05-12-12345678901", 0).expect("an id");
        assert_eq!(
            (id.end, id.token),
            (2, TextToken::TicketId { word: "", id: 1 })
        );
    }

    #[test]
    fn a_mention_is_found_inside_a_url_by_itself() {
        assert_eq!(next_mention("http://x/@bob", 0), Some(("bob", 13)));
        assert_eq!(next_mention("@bob@ann x@ann @i", 0), Some(("bob", 4)));
        assert_eq!(next_mention("@bob@ann x@ann @i", 4), None);
    }

    #[test]
    fn a_name_ends_at_a_word_boundary() {
        let cut = format!("@{}-j", "j".repeat(79));
        assert_eq!(next_mention(&cut, 0), Some((&cut[1..81], 81)));
        assert_eq!(next_mention(&format!("@{}", "j".repeat(81)), 0), None);
        assert_eq!(next_mention("@ann-lee--!", 0), Some(("ann-lee", 8)));
        assert_eq!(next_mention("@a-!", 0), None);
        assert_eq!(next_token("kb:vpn_", 0), None);
    }
}
