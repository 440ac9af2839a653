//! The beginning of a body, as a notification shows it. Plain text, never HTML: the page that shows it escapes it.

/// Longest preview in characters (code points), as database.md requires for `agent_notifications.body`.
pub const PREVIEW_CHARS: usize = 140;

/// The first [`PREVIEW_CHARS`] characters of `body` on one line; see [`collapse`].
pub fn preview(body: &str) -> String {
    collapse(body, PREVIEW_CHARS)
}

/// The first `most` characters of `text` on one line.
///
/// Each run of ASCII white space becomes one space, and none is left at the ends, so a preview that is cut off between two
/// words may be one character shorter. Other white space, for example a no-break space, stays. Empty if the text is only
/// ASCII white space.
pub fn collapse(text: &str, most: usize) -> String {
    let words = text.split(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let line: String = words.join(" ").chars().take(most).collect();
    line.trim_end_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_collapsed_and_the_ends_have_none() {
        assert_eq!(preview("\x0c a  b\n\nc\td\r\ne\x0b\x0c"), "a b c d e");
        assert_eq!(
            preview("a\u{a0}\u{a0}b\u{2003}\u{2003}c Åsa à"),
            "a\u{a0}\u{a0}b\u{2003}\u{2003}c Åsa à"
        );
        assert_eq!(preview("\x0c"), "");
    }

    #[test]
    fn it_is_cut_by_characters_and_does_not_end_in_a_space() {
        assert_eq!(preview(&"日".repeat(141)), "日".repeat(140));
        let almost = "x".repeat(139);
        assert_eq!(preview(&format!("{almost} yz")), almost);
        assert_eq!(preview(&format!("{almost}  \n")), almost);
        assert_eq!(preview(&"y ".repeat(80)).chars().count(), 139);
    }
}
