//! Text for a terminal or a line of a log: what an agent, a setting or another program says may hold characters that
//! move the cursor, change what was printed before, or reverse the order of letters.

/// The text with every such character escaped, as Rust writes it; line feeds too.
pub(crate) fn printable(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => plain.extend(c.escape_default()),
            _ if is_plain(c) => plain.push(c),
            _ => plain.extend(c.escape_unicode()),
        }
    }
    plain
}

/// The same for JSON, whose own escapes leave some of them out. They are only in strings, so the value is the same.
pub(crate) fn printable_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        match is_plain(c) || c == '\n' {
            true => plain.push(c),
            false => plain.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    plain
}

/// What stands for a secret.
pub(crate) const HIDDEN: &str = "***";

/// A URL without a user's name and password.
pub(crate) fn without_password(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("//") else {
        return value.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((_, host)) => format!("{scheme}//{HIDDEN}@{host}{}", &rest[end..]),
        None => value.to_owned(),
    }
}

/// Neither a control character nor one that changes the direction or the lines of a text.
fn is_plain(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_steers_a_terminal_or_turns_a_text_round() {
        for (text, plain) in [
            ("Ann Ünïcödé 😀 \\ \"x\"", "Ann Ünïcödé 😀 \\ \"x\""),
            ("\u{1b}]0;title\u{7}", "\\u{1b}]0;title\\u{7}"),
            ("a\nb\r\tc", "a\\nb\\r\\tc"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}nimda\u{2066}", "\\u{202e}nimda\\u{2066}"),
            ("\u{200f}\u{61c}\u{2028}", "\\u{200f}\\u{61c}\\u{2028}"),
        ] {
            assert_eq!(printable(text), plain);
        }
        let value = serde_json::json!({ "name": "\u{1b}[2J\u{9b}\u{202e}\u{7f}é" });
        let json = printable_json(&format!("{value:#}"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&json).expect("JSON"),
            value
        );
        assert!(json.chars().all(|c| is_plain(c) || c == '\n'), "{json}");
    }
}
