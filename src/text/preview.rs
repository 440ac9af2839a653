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
    let mut out = String::with_capacity(text.len().min(most));
    let mut count = 0;
    let mut space = false;
    for c in text.chars() {
        if c.is_ascii_whitespace() || c == '\x0b' {
            space = count > 0;
            continue;
        }
        if count + usize::from(space) >= most {
            break;
        }
        if space {
            out.push(' ');
            count += 1;
            space = false;
        }
        out.push(c);
        count += 1;
    }
    out
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
