//! Text for people as the source of man pages: `code` in Markdown's quotes is bold, lines are short, nothing at the start of
//! one is taken for a request.

const WIDTH: usize = 78;

/// Characters as they are, for what is typed.
pub fn literal(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '"' => out.push_str("\\(dq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

/// In one piece: readers break words at their hyphens.
pub fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", whole(text))
}

pub fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", whole(text))
}

fn whole(text: &str) -> String {
    let words = text.split(' ');
    words
        .map(|word| match word.contains('-') {
            true => format!("\\%{}", literal(word)),
            false => literal(word),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Prose without markup.
fn plain(text: &str) -> String {
    let text = text.replace('\\', "\\e");
    let word = |word: &str| match word.trim_start_matches('(').starts_with('-') {
        true => word.replace('-', "\\-"),
        false => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A paragraph's text, from Markdown.
pub fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: String = parts
        .map(|(at, part)| match at % 2 {
            0 => plain(part),
            _ => bold(part),
        })
        .collect();
    wrap(&parts)
}

/// A sentence from a part of one.
pub fn sentence(text: &str) -> String {
    let text = text.trim_end_matches('.');
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), letters.as_str())
}

/// Several paragraphs of prose.
pub fn paragraphs(text: &str) -> String {
    let parts = text.split("\n\n").map(prose);
    parts.collect::<Vec<_>>().join(".PP\n")
}

/// In a list: what is explained, ready for roff, and the explanation in Markdown.
pub fn item(tag: &str, text: &str) -> String {
    format!(".TP\n{}\n{}", guard(tag), prose(text))
}

/// A command or the lines of a file, as they are typed.
pub fn typed(text: &str) -> String {
    let lines = text.lines().map(|line| guard(&literal(line)) + "\n");
    let lines: String = lines.collect();
    format!(".PP\n.RS 4\n.EX\n{lines}.EE\n.RE\n")
}

fn guard(line: &str) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    }
}

/// Short lines.
pub fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            out += &(guard(&line) + "\n");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    out + &guard(&line) + "\n"
}
