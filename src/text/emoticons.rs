//! From typed text to `chat_messages.body_text`: trims it and replaces emoticons by emoji.
//!
//! Changes nothing else: escaping happens only in the HTML.

/// Emoticons, in lower case, and what they become. None is a prefix of another, so at most one matches at any place, and
/// their order does not matter; a test checks the table.
const EMOTICONS: [(&str, &str); 37] = [
    (":)", "🙂"),
    (":-)", "🙂"),
    ("=)", "🙂"),
    (";)", "😉"),
    (";-)", "😉"),
    (":d", "😃"),
    (":-d", "😃"),
    ("=d", "😃"),
    ("xd", "😆"),
    (":p", "😛"),
    (":-p", "😛"),
    ("=p", "😛"),
    (":o", "😮"),
    (":-o", "😮"),
    (":(", "🙁"),
    (":-(", "🙁"),
    ("=(", "🙁"),
    (":')", "🥲"),
    (":'-)", "🥲"),
    (":'(", "😢"),
    (":'-(", "😢"),
    (":/", "😕"),
    (":-/", "😕"),
    (":\\", "😕"),
    (":-\\", "😕"),
    (":|", "😐"),
    (":-|", "😐"),
    (":*", "😘"),
    (":-*", "😘"),
    (":@", "😡"),
    (":-@", "😡"),
    (":$", "😳"),
    (":-$", "😳"),
    ("<3", "\u{2764}\u{fe0f}"),
    ("</3", "💔"),
    (":+1:", "👍"),
    (":-1:", "👎"),
];

/// The body as it is stored: without space, tab, LF, CR, NUL and vertical tab at its ends (a no-break space stays),
/// and with emoji for emoticons.
///
/// The result may be empty, or longer than the settings allow: the caller checks both. In bytes it is at most three times
/// as long as `raw`: the two bytes of a heart become six.
pub fn normalise(raw: &str) -> String {
    let body = raw.trim_matches([' ', '\t', '\n', '\r', '\0', '\x0b']);
    let mut out = String::with_capacity(body.len() + 8);
    let mut copied = 0;
    let mut at = 0;
    let bytes = body.as_bytes();
    while at < bytes.len() {
        if begins_emoticon(bytes[at])
            && may_stand_before(&body[..at])
            && let Some((length, emoji)) = emoticon(&body[at..])
        {
            out.push_str(&body[copied..at]);
            out.push_str(emoji);
            at += length;
            copied = at;
        } else {
            at += 1;
        }
    }
    out.push_str(&body[copied..]);
    out
}

fn begins_emoticon(byte: u8) -> bool {
    matches!(byte, b':' | b';' | b'=' | b'<' | b'x' | b'X')
}

/// The length in bytes and the emoji of the emoticon that `rest` begins with, if what follows it allows it there.
fn emoticon(rest: &str) -> Option<(usize, &'static str)> {
    let (token, emoji) = EMOTICONS.iter().find(|(token, _)| {
        rest.as_bytes()
            .get(..token.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(token.as_bytes()))
    })?;
    may_stand_after(&rest[token.len()..]).then_some((token.len(), *emoji))
}

/// The character before counts as typed, even if it belongs to an emoticon: `:(;)` is two of them.
fn may_stand_before(before: &str) -> bool {
    before
        .chars()
        .next_back()
        .is_none_or(|c| matches!(c, '(' | '[' | '{') || c.is_whitespace())
}

fn may_stand_after(after: &str) -> bool {
    after.chars().next().is_none_or(|c| {
        matches!(c, ')' | ']' | '}' | ',' | '.' | '!' | '?' | ';') || c.is_whitespace()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_lower_case_and_no_emoticon_begins_another() {
        for (i, (token, emoji)) in EMOTICONS.iter().enumerate() {
            assert!(begins_emoticon(token.as_bytes()[0]), "{token}");
            assert_eq!(*token, token.to_ascii_lowercase());
            assert!(emoji.len() <= token.len() * 3, "{token}: the stated bound");
            for (j, (other, _)) in EMOTICONS.iter().enumerate() {
                assert!(
                    i == j || !other.starts_with(token),
                    "{token} begins {other}"
                );
            }
        }
    }

    #[test]
    fn the_ends_are_trimmed_and_emoji_are_put_in() {
        assert_eq!(normalise(" \t\n\r\0\x0b"), "");
        assert_eq!(normalise("\u{a0} a \u{a0}"), "\u{a0} a \u{a0}");
        assert_eq!(normalise(" :) "), "🙂");
        assert_eq!(
            normalise("(:)) [:)] {:)} :), :). :)! :)? :);"),
            "(🙂) [🙂] {🙂} 🙂, 🙂. 🙂! 🙂? 🙂;"
        );
        assert_eq!(
            normalise("So XD, (:-P) é <3"),
            "So 😆, (😛) é \u{2764}\u{fe0f}"
        );
    }

    #[test]
    fn a_neighbour_that_does_not_fit_leaves_the_text_alone() {
        for text in [
            "a:)",
            ":)b",
            ":):)",
            "é:)",
            ":)é",
            "<3>",
            ":-1",
            "x",
            ":",
            "\u{200b}:)",
        ] {
            assert_eq!(normalise(text), text);
        }
    }

    #[test]
    fn the_neighbour_is_what_was_typed_also_where_it_is_replaced() {
        assert_eq!(normalise(":(;)"), "🙁😉");
        assert_eq!(normalise(":-(:-("), ":-(🙁");
        assert_eq!(normalise(";);)"), "😉;)");
    }
}
