//! Parses the text of the install's `.env` file by the rules of the PHP application's own reader.
//!
//! It opens no file, does not change the environment, and puts no value into an error: the line may hold the database's
//! password.
//!
//! A line is `NAME=value`, optionally after `export`, or `NAME` alone, or a comment. A value in `'…'` is literal and
//! stays on one line. A value in `"…"` may span lines and has escapes and variables. A value without quotes has
//! variables but no escapes; it ends at a `#` or at white space, and only a comment may follow. White space outside
//! values is ASCII; NUL counts as white space at the ends of a line, name or value. A name may be quoted.

use std::collections::HashMap;
use std::fmt;

/// Bytes of all values together: variables within variables could otherwise double them on every line.
const MAX_BYTES: usize = 1 << 20;

/// The syntax of the file, for documents and man pages: a form, and in Markdown what it means.
pub const FORM: [(&str, &str); 7] = [
    (
        "NAME=value",
        "a variable, perhaps with `export` before it; the last line of a name counts",
    ),
    (
        "NAME",
        "the variable is not set, whatever a line above says",
    ),
    ("# text", "a comment, on a line of its own or after a value"),
    (
        "value",
        "ends at white space or `#`; has variables, but no escapes",
    ),
    ("'value'", "stands on one line, and is taken as it is"),
    (
        "\"value\"",
        "may span lines; has variables, and the escapes `\\\"`, `\\\\`, `\\$`, `\\f`, `\\n`, `\\r`, `\\t`, `\\v`",
    ),
    (
        "${OTHER}",
        "is replaced by that variable of the environment, or else of a line above; where neither has it, it stays as it is",
    ),
];

/// Why a file cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotenvError {
    /// The line on which the variable starts, counted from 1. In a value that spans lines the mistake may be further down.
    pub line: usize,
    /// What is wrong there.
    pub reason: DotenvReason,
}

/// What is wrong with a line. Words of this file alone, so that no part of the line can reach a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DotenvReason(&'static str);

const BAD_NAME: DotenvReason =
    DotenvReason("expected a name of letters, digits, `_` and `.`, perhaps followed by `=`");
const UNQUOTED_WHITE_SPACE: DotenvReason =
    DotenvReason("expected quotes around a value that contains white space");
const TEXT_AFTER_QUOTE: DotenvReason =
    DotenvReason("expected nothing but a comment after the closing quote");
/// A single quote must be closed on its own line.
const UNCLOSED_QUOTE: DotenvReason = DotenvReason("expected a quote to close the value");
const UNKNOWN_ESCAPE: DotenvReason = DotenvReason(
    "expected one of `\"`, `\\`, `$`, `f`, `n`, `r`, `t`, `v` after a backslash in double quotes",
);
/// For example because of variables within variables.
const TOO_LONG: DotenvReason = DotenvReason("expected no more than 1 MiB of values in all");

impl fmt::Display for DotenvReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for DotenvReason {}

impl fmt::Display for DotenvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for DotenvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.reason)
    }
}

/// The text of a `.env` file, and the numbers of the lines with invalid UTF-8. Each invalid sequence becomes one `?`, as
/// in the application's reader.
pub fn decode(bytes: &[u8]) -> (String, Vec<usize>) {
    let mut text = String::new();
    let mut bad_lines = Vec::new();
    let mut line = 1;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let ends = valid.matches(['\n', '\r']).count() - valid.matches("\r\n").count();
        line += ends;
        text.push_str(valid);
        if !chunk.invalid().is_empty() {
            text.push('?');
            if bad_lines.last() != Some(&line) {
                bad_lines.push(line);
            }
        }
    }
    (text, bad_lines)
}

/// The variables of a `.env` file.
///
/// The last line of a name wins; if that has no `=`, the variable is unset and left out. `${OTHER}` is replaced by the
/// value of `OTHER` in `environment`, else in a line above; if neither has it, the text stays as it is, like any other
/// `$`. Otherwise the environment is left to the caller: the result has the file's value even for a variable that the
/// environment sets too.
///
/// # Errors
///
/// The first line that cannot be read.
pub fn parse(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<HashMap<String, String>, DotenvError> {
    let mut lines = Lines {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        number: 0,
    };
    let mut variables: HashMap<String, String> = HashMap::new();
    let mut bytes = 0;
    while let Some(line) = lines.next() {
        let number = lines.number;
        let failed = |reason| DotenvError {
            line: number,
            reason,
        };
        // The end is not trimmed: it may belong to a value that goes on in the next line.
        let line = line.trim_start_matches(is_margin);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, written) = line.split_once('=').unzip();
        let name = read_name(name.unwrap_or(line)).ok_or(failed(BAD_NAME))?;
        let Some(written) = written else {
            variables.remove(name);
            continue;
        };
        let lookup = |other: &str| environment(other).or_else(|| variables.get(other).cloned());
        let value = read_value(written, &mut lines, &lookup).map_err(failed)?;
        bytes += value.len();
        if bytes > MAX_BYTES {
            return Err(failed(TOO_LONG));
        }
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

/// The lines of a file, which end in LF, CR LF or CR, and the number of the last one returned.
struct Lines<'a> {
    rest: &'a str,
    number: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.number += 1;
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        let (line, rest) = self.rest.split_at(end);
        let rest = rest.strip_prefix('\r').unwrap_or(rest);
        self.rest = rest.strip_prefix('\n').unwrap_or(rest);
        Some(line)
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0b' | '\x0c')
}

/// Whether a character is trimmed around lines, names and values.
fn is_margin(c: char) -> bool {
    is_blank(c) || c == '\0'
}

/// The name in the text before the `=`, without `export` and quotes.
fn read_name(written: &str) -> Option<&str> {
    let written = written.trim_matches(is_margin);
    let name = match written.strip_prefix("export") {
        Some(rest) if rest.starts_with(is_blank) => rest.trim_start_matches(is_blank),
        _ => written,
    };
    let inside = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    let name = inside('"').or_else(|| inside('\'')).unwrap_or(name);
    let is_name = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
    is_name.then_some(name)
}

/// The value in the text after the `=`; takes more lines from `lines` while a double quote is open.
fn read_value<'a>(
    written: &'a str,
    lines: &mut Lines<'a>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String, DotenvReason> {
    let written = written.trim_start_matches(is_margin);
    let (value, rest) = if let Some(inside) = written.strip_prefix('\'') {
        let (value, rest) = inside.split_once('\'').ok_or(UNCLOSED_QUOTE)?;
        (value.to_owned(), rest)
    } else if let Some(inside) = written.strip_prefix('"') {
        read_double_quoted(inside, lines, lookup)?
    } else {
        let written = written.trim_end_matches(is_margin);
        let end = written
            .find(|c| c == '#' || is_blank(c))
            .unwrap_or(written.len());
        let (value, rest) = written.split_at(end);
        if !is_end(rest) {
            return Err(UNQUOTED_WHITE_SPACE);
        }
        (expand(value, lookup)?, rest)
    };
    if is_end(rest) {
        Ok(value)
    } else {
        Err(TEXT_AFTER_QUOTE)
    }
}

/// Whether only white space and a comment follow a value.
fn is_end(rest: &str) -> bool {
    let rest = rest.trim_matches(is_margin);
    rest.is_empty() || rest.starts_with('#')
}

/// The value up to the closing quote, and the rest of the closing quote's line.
fn read_double_quoted<'a>(
    inside: &'a str,
    lines: &mut Lines<'a>,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, &'a str), DotenvReason> {
    let mut value = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find(['"', '\\', '$']).unwrap_or(rest.len());
        value.push_str(&rest[..end]);
        rest = &rest[end..];
        if let Some(behind) = rest.strip_prefix('"') {
            return Ok((value, behind));
        } else if let Some(behind) = rest.strip_prefix('\\') {
            let mut chars = behind.chars();
            value.push(match chars.next() {
                Some(c @ ('"' | '\\' | '$')) => c,
                Some('f') => '\x0c',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some('v') => '\x0b',
                _ => return Err(UNKNOWN_ESCAPE),
            });
            rest = chars.as_str();
        } else if rest.is_empty() {
            rest = lines.next().ok_or(UNCLOSED_QUOTE)?;
            value.push('\n');
        } else {
            rest = push_variable(&mut value, rest, lookup)?;
        }
    }
}

fn expand(written: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, DotenvReason> {
    let mut value = String::new();
    let mut rest = written;
    while let Some(dollar) = rest.find('$') {
        value.push_str(&rest[..dollar]);
        rest = push_variable(&mut value, &rest[dollar..], lookup)?;
    }
    value.push_str(rest);
    Ok(value)
}

/// `rest` begins with `$`: appends what it stands for, and returns what follows. The value of a variable is not expanded
/// again, so a `$` in a password stays as it is.
fn push_variable<'a>(
    value: &mut String,
    rest: &'a str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<&'a str, DotenvReason> {
    let known = rest.strip_prefix("${").and_then(|inside| {
        let length = inside
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'))
            .count();
        let behind = inside[length..].strip_prefix('}')?;
        Some((lookup(&inside[..length])?, behind))
    });
    if let Some((held, behind)) = known {
        value.push_str(&held);
        match value.len() <= MAX_BYTES {
            true => Ok(behind),
            false => Err(TOO_LONG),
        }
    } else {
        value.push('$');
        Ok(&rest[1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HashMap<String, String>, DotenvError> {
        parse(text, &|name| (name == "HOME").then(|| String::from("/$A")))
    }

    fn value(text: &str) -> String {
        let mut variables = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        variables.remove("A").expect("A is set")
    }

    #[test]
    fn the_last_line_of_a_name_wins_also_if_it_unsets() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = HashMap::from([pair("A", "3"), pair("B", "2")]);
        assert_eq!(read("A=1\nB=2\nA=3"), Ok(both));
        assert_eq!(read("A=1\nB=2\nA"), Ok(HashMap::from([pair("B", "2")])));
    }

    #[test]
    fn the_environment_wins_over_a_line_above_within_a_value_only() {
        assert_eq!(value("A=1\nHOME=2\nA=${A}${HOME}${NONE}"), "1/$A${NONE}");
        assert_eq!(read("HOME=2").expect("valid")["HOME"], "2");
        assert_eq!(value("A=${B}\nB=1"), "${B}");
        assert_eq!(value("b.c=1\nA=\"${b.c}${}${b-c}\""), "1${}${b-c}");
    }

    #[test]
    fn quotes_escapes_and_comments() {
        assert_eq!(
            value("\u{feff}export A = \"a\\\\\\\"\\$A\\f\\v\" # c"),
            "a\\\"$A\x0c\x0b"
        );
        assert_eq!(value("A= \"1 \r\n\r\n #2\r3\"\r\nB=1"), "1 \n\n #2\n3");
        assert_eq!(value("A='$A\\' # it's"), "$A\\");
        assert_eq!(value("A=\\n'\"$${x}#c"), "\\n'\"$${x}");
    }

    #[test]
    fn names_in_quotes_and_bytes_of_zero_are_read_as_php_reads_them() {
        for text in [
            "'A'=1",
            "export \"A\" = 1",
            "A\0=1\0",
            "\0A= \0 1\0\n",
            "A='1'\0",
        ] {
            assert_eq!(value(text), "1", "{text:?}");
        }
        assert_eq!(value("A=x\0y"), "x\0y");
        for text in ["'A\"=1", "''=1", "'A=1", "'A'B=1"] {
            assert_eq!(read(text).expect_err(text).reason, BAD_NAME);
        }
    }

    #[test]
    fn a02_bytes_that_are_no_utf_8_become_question_marks_and_their_lines_are_known() {
        for (bytes, text, lines) in [
            (&b"# f\xfcr das\nA=1"[..], "# f?r das\nA=1", &[1][..]),
            (
                b"A=\xe4\xf6\r\nB=\xfc\rC=1\n\nD='\xff'",
                "A=??\r\nB=?\rC=1\n\nD='?'",
                &[1, 2, 5],
            ),
            ("A=\u{fffd}ü".as_bytes(), "A=\u{fffd}ü", &[]),
            (b"A=\xf0\x9f\x99", "A=?", &[1]),
            (b"A=\xed\xa0\x80", "A=???", &[1]),
        ] {
            assert_eq!(decode(bytes), (text.to_owned(), lines.to_vec()));
        }
    }

    #[test]
    fn s17_variables_within_variables_do_not_grow_for_ever() {
        let doubled = format!("A=0123456789\n{}", "A=\"${A}${A}\"\n".repeat(26));
        let chained: String = (1..40)
            .map(|i| format!("V{i}=${{V{}}}${{V{}}}\n", i - 1, i - 1))
            .collect();
        let wide = format!(
            "A={}\n{}",
            "x".repeat(60_000),
            "B=\"${A}${A}${A}\"\n".repeat(9)
        );
        for text in [doubled, format!("V0=0123456789\n{chained}"), wide] {
            let error = read(&text).expect_err("too long");
            assert_eq!(error.reason, TOO_LONG);
        }
    }

    #[test]
    fn an_error_names_the_line_and_never_what_stands_on_it() {
        let cases = [
            ("A=1\n\nsecret x=1", 3, BAD_NAME),
            ("=secret", 1, BAD_NAME),
            ("\rA=secret x", 2, UNQUOTED_WHITE_SPACE),
            ("A='secret'x", 1, TEXT_AFTER_QUOTE),
            ("A='secret\n'", 1, UNCLOSED_QUOTE),
            ("#\r\nA=\"secret\nB=1\n", 2, UNCLOSED_QUOTE),
            ("A=\"\nsecret\\x\"", 1, UNKNOWN_ESCAPE),
        ];
        for (text, line, reason) in cases {
            let error = read(text).expect_err(text);
            assert_eq!(error, DotenvError { line, reason }, "{text}");
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("line {line}: expected ")),
                "{error}"
            );
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
