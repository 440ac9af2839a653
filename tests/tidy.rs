//! The rules of the source that the compiler does not know: which folder uses which, where a foreign crate, printing, SQL and
//! the wire's JSON may stand, what is no error, how long a file and a function are, words that are not used. Each rule is shown
//! failing once.

use std::fs;
use std::path::Path;

/// Folders of `src`, each using only those that stand behind it. `model`, `config` and `platform` know nothing of the chat.
const LAYERS: [&str; 21] = [
    "cli",
    "demo",
    "server",
    "admin",
    "supervisor",
    "websocket",
    "chat",
    "session",
    "feed",
    "notifications",
    "bus",
    "push",
    "hub",
    "store",
    "text",
    "protocol",
    "auth",
    "http",
    "config",
    "platform",
    "model",
];

/// Entries at the top of `src` that a reader can take in at once.
const TOP_ENTRIES: usize = 24;
const FILE_LINES: usize = 600;
/// Lines of code, blank ones and comments not counted.
const FUNCTION_LINES: usize = 80;

/// Who may name a foreign crate: beginnings of paths.
const CRATES: [(&str, &[&str]); 15] = [
    ("tungstenite", &["websocket/", "admin/client.rs"]),
    (
        "httparse",
        &[
            "http/",
            "websocket/",
            "admin/response.rs",
            "push/response.rs",
        ],
    ),
    ("jsonwebtoken", &["auth.rs"]),
    ("mysql", &["store/mysql/", "store/row.rs"]),
    ("rusqlite", &["store/sqlite/"]),
    ("jiff", &["platform/clock.rs"]),
    ("simplelog", &["platform/log_file.rs"]),
    ("clap", &["cli/"]),
    ("listenfd", &["server/startup.rs"]),
    ("signal_hook", &["server/mod.rs", "cli/"]),
    (
        "rustls",
        &["push/", "store/mysql/tls.rs", "admin/check/tls.rs"],
    ),
    (
        "ring",
        &["push/", "store/mysql/tls.rs", "admin/check/tls.rs"],
    ),
    ("aes", &["push/key.rs"]),
    ("cbc", &["push/key.rs"]),
    ("hmac", &["auth.rs", "bus/note.rs"]),
];

/// The wire's JSON is `protocol`'s. The others read or write JSON of their own: what a subcommand prints, an agent's row, a
/// token, a note of the bus, a push.
const JSON: [&str; 18] = [
    "protocol/",
    "admin/",
    "auth.rs",
    "bus/note.rs",
    "notifications.rs",
    "demo/",
    "platform/printable.rs",
    "push/payload.rs",
    "push/vapid.rs",
    "server/health/",
    "server/inspect.rs",
    "session/mod.rs",
    "store/mod.rs",
    "cli/",
    "store/operations.rs",
    "push/response.rs",
    "config/",
    "text/",
];

/// The lines for people: the command line's own, and the log's on standard error. `startup` says one line of the contract.
const PRINTING: [&str; 3] = ["cli/", "platform/log_file.rs", "server/startup.rs"];

/// Files whose header says that they are pure: no clock, no file, no thread, no socket.
const IMPURE: [&str; 7] = [
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::thread",
    "TcpStream",
    "Command::new",
    "crate::store::Pool",
];

/// Words for persons are not used for programs and sockets.
const WORDS: [&str; 3] = ["whoever", "nobody", "somebody"];

/// A source file: its path within the repository, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn of(path: &str, text: &str) -> Self {
        File {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Its path within `src`.
    fn inner(&self) -> &str {
        self.path.strip_prefix("src/").expect("a file of src")
    }

    /// What is compiled into the program: without the unit tests, which stand last.
    fn product(&self) -> &str {
        if self.path.ends_with("/tests.rs") {
            return "";
        }
        let tests = self.text.find("#[cfg(test)]\nmod tests {");
        &self.text[..tests.unwrap_or(self.text.len())]
    }

    /// Its lines of code, comments left out, with their numbers.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.product().lines().enumerate();
        lines
            .map(|(number, line)| (number + 1, line))
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

fn find(folder: &Path, ends: &[&str], files: &mut Vec<File>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let entries = fs::read_dir(folder).expect("a folder of the repository");
    for entry in entries {
        let path = entry.expect("an entry").path();
        let is_ours = !path.ends_with("target") && !path.ends_with("node_modules");
        if path.is_dir() && is_ours && !path.ends_with("tests/fixtures") {
            find(&path, ends, files);
        } else if ends.iter().any(|end| path.to_string_lossy().ends_with(end)) {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root).expect("within");
            files.push(File::of(&path.to_string_lossy(), &text));
        }
    }
}

fn files(folders: &[&str], ends: &[&str]) -> Vec<File> {
    let mut files = Vec::new();
    for folder in folders {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        find(&folder, ends, &mut files);
    }
    assert!(files.len() > 10, "{folders:?}");
    files
}

fn may(path: &str, list: &[&str]) -> bool {
    list.iter().any(|begin| path.starts_with(begin))
}

/// Whether a line names this word, not a part of a longer one, followed by `::` or within `use`.
fn names_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

// --- rules: each takes a file, and returns its breaches -----------------------------------------------------------------

fn layers(file: &File) -> Vec<String> {
    let path = file.inner();
    let top = path.split(['/', '.']).next().unwrap_or_default();
    let Some(own) = LAYERS.iter().position(|layer| *layer == top) else {
        return match path {
            "lib.rs" | "main.rs" => Vec::new(),
            _ => vec![format!("{path}: {top} is in no layer")],
        };
    };
    let mut breaches = Vec::new();
    for (number, line) in file.code() {
        if line.contains("crate::{") || line.contains("super::super::") {
            breaches.push(format!("src/{path}:{number}: hides what it uses"));
        }
        for (at, _) in line.match_indices("crate::") {
            let rest = &line[at + "crate::".len()..];
            let mut names = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
            let used = names.next().unwrap_or_default();
            if LAYERS[..own].contains(&used) {
                breaches.push(format!("src/{path}:{number}: {top} uses {used}"));
            }
        }
    }
    breaches
}

fn crates(file: &File) -> Vec<String> {
    let path = file.inner();
    let mut breaches = Vec::new();
    for (name, allowed) in CRATES {
        if may(path, allowed) {
            continue;
        }
        let found = file.code().find(|(_, line)| names_crate(line, name));
        breaches.extend(
            found.map(|(number, _)| format!("src/{path}:{number}: names the crate {name}")),
        );
    }
    if !may(path, &JSON) {
        let found = file
            .code()
            .find(|(_, line)| names_crate(line, "serde_json"));
        breaches.extend(found.map(|(number, _)| format!("src/{path}:{number}: JSON")));
    }
    breaches
}

fn printing(file: &File) -> Vec<String> {
    let path = file.inner();
    let prints = |line: &str| line.contains("print!(") || line.contains("println!(");
    let found = file
        .code()
        .filter(|(_, line)| prints(line) && !may(path, &PRINTING));
    found
        .map(|(number, _)| format!("src/{path}:{number}: prints"))
        .collect()
}

fn sql(file: &File) -> Vec<String> {
    let path = file.inner();
    let is_sql = |line: &str| {
        [
            "\"SELECT ",
            "\"INSERT ",
            "\"UPDATE ",
            "\"DELETE FROM",
            "\"CREATE TABLE",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    let found = file
        .code()
        .filter(|(_, line)| is_sql(line) && !path.starts_with("store/"));
    found
        .map(|(number, _)| format!("src/{path}:{number}: SQL"))
        .collect()
}

/// What stands between the brackets behind which `text` begins, at its commas.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut before) = (0, 0, ' ');
    let mut arguments = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' if before == '-' => {}
            '>' | ')' | ']' | ',' if depth == 0 => {
                arguments.push(text[begin..at].trim());
                begin = at + 1;
                if c != ',' {
                    break;
                }
            }
            '>' | ')' | ']' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    arguments
}

/// An error has a type of its own, with its cause; a text, a tuple or a result within a result has none.
fn errors(file: &File) -> Vec<String> {
    let path = file.inner();
    let code: Vec<&str> = file.code().map(|(_, line)| line).collect();
    let code = code.join("\n");
    let is_result = |kind: &str| {
        let path = kind.split('<').next().unwrap_or_default();
        path.rsplit("::").next() == Some("Result")
    };
    let is_typeless =
        |error: &str| ["String", "&'static str"].contains(&error) || error.starts_with('(');
    let mut breaches = Vec::new();
    for outer in ["Result<", "Option<"] {
        for (at, _) in code.match_indices(outer) {
            let arguments = arguments(&code[at + outer.len()..]);
            let is_nested = arguments.first().is_some_and(|inner| is_result(inner));
            if is_nested || arguments.get(1).is_some_and(|error| is_typeless(error)) {
                breaches.push(format!("src/{path}: {outer}{}>", arguments.join(", ")));
            }
        }
    }
    let aliases = ["type Err = String", "type Error = String"];
    let found = aliases.into_iter().filter(|alias| code.contains(alias));
    breaches.extend(found.map(|alias| format!("src/{path}: {alias}")));
    breaches
}

/// A bool has a name that says what it means: it stands in no tuple, and no comment says what `true` or `false` is.
fn bools(file: &File) -> Vec<String> {
    let path = file.inner();
    let is_nameless = |line: &str| {
        let mut lists = line.match_indices('(');
        lists.any(|(at, _)| {
            let types = arguments(&line[at + 1..]);
            types.len() > 1 && types.contains(&"bool")
        })
    };
    let found = file.code().filter(|(_, line)| is_nameless(line));
    let mut breaches: Vec<String> = found
        .map(|(number, _)| format!("src/{path}:{number}: a bool without a name"))
        .collect();
    let lines = file.product().lines().map(str::trim_start);
    let docs = lines.filter_map(|line| line.strip_prefix("///"));
    let words: Vec<&str> = docs.flat_map(str::split_whitespace).collect();
    for pair in words.windows(2) {
        let is_value = ["true", "false"].contains(&&*pair[0].trim_matches('`').to_lowercase());
        if is_value && ["if", "where", "when", "at", "for"].contains(&pair[1]) {
            breaches.push(format!("src/{path}: {} …", pair.join(" ")));
        }
    }
    breaches
}

fn header(file: &File) -> Vec<String> {
    if !file.text.starts_with("//!") {
        return vec![format!("{}: says not what lives here", file.path)];
    }
    let header: String = file
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let is_pure =
        header.contains(" Pure.") || header.ends_with(" pure") || header.contains("; pure");
    let found = file
        .code()
        .filter(|(_, line)| is_pure && IMPURE.iter().any(|word| line.contains(word)));
    found
        .map(|(number, _)| format!("{}:{number}: is not pure, as its header says", file.path))
        .collect()
}

fn lengths(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut breaches = Vec::new();
    if lines.len() > FILE_LINES {
        breaches.push(format!("{}: {} lines", file.path, lines.len()));
    }
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "const fn ",
            "pub const fn ",
        ]
        .iter()
        .any(|begin| words.starts_with(begin));
        let end = format!("{}}}", " ".repeat(indent));
        let body = lines[at..].iter().take_while(|line| **line != end);
        let code = body.filter(|line| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with("//")
        });
        let code = if is_function { code.count() } else { 0 };
        let is_whole = lines[at..].contains(&end.as_str());
        if is_whole && code > FUNCTION_LINES {
            breaches.push(format!(
                "{}:{}: a function of {code} lines",
                file.path,
                at + 1
            ));
        }
    }
    breaches
}

fn words(file: &File) -> Vec<String> {
    let mut breaches = Vec::new();
    for (at, line) in file.text.lines().enumerate() {
        let lower = line.to_lowercase();
        let found = lower
            .split(|c: char| !c.is_alphanumeric())
            .find(|word| WORDS.contains(word));
        breaches.extend(found.map(|word| format!("{}:{}: {word}", file.path, at + 1)));
    }
    breaches
}

// --- tests --------------------------------------------------------------------------------------------------------------

#[track_caller]
fn holds(rule: fn(&File) -> Vec<String>, files: &[File]) {
    let breaches: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(breaches.is_empty(), "\n{}", breaches.join("\n"));
}

#[track_caller]
fn is_broken_by(rule: fn(&File) -> Vec<String>, path: &str, text: &str) {
    assert_ne!(
        rule(&File::of(path, text)),
        Vec::<String>::new(),
        "{path}:\n{text}"
    );
}

#[test]
fn the_top_of_the_source_can_be_taken_in_at_once() {
    let top = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let count = top.expect("src").count();
    assert!(count <= TOP_ENTRIES, "{count} entries");
}

#[test]
fn folders_use_those_below_them() {
    holds(layers, &files(&["src"], &[".rs"]));
    is_broken_by(layers, "src/hub/mod.rs", "use crate::websocket::Server;");
    is_broken_by(
        layers,
        "src/platform/clock.rs",
        "fn f() { crate::config::x(); }",
    );
    is_broken_by(layers, "src/session/mod.rs", "use crate::chat;");
    is_broken_by(layers, "src/utils/mod.rs", "");
    is_broken_by(layers, "src/hub/mod.rs", "use crate::{websocket, model};");
}

#[test]
fn a_foreign_crate_has_one_door() {
    holds(crates, &files(&["src"], &[".rs"]));
    is_broken_by(crates, "src/chat/mod.rs", "use mysql::Row;");
    is_broken_by(
        crates,
        "src/hub/state.rs",
        "let text = serde_json::to_string(&event);",
    );
    assert!(
        crates(&File::of(
            "src/chat/mod.rs",
            "use crate::store::mysql::Row;"
        ))
        .is_empty()
    );
}

#[test]
fn the_command_line_prints_and_nothing_else() {
    holds(printing, &files(&["src"], &[".rs"]));
    is_broken_by(printing, "src/admin/status.rs", "    println!(\"up\");");
    is_broken_by(printing, "src/chat/mod.rs", "eprint!(\"here\");");
}

#[test]
fn sql_stands_in_the_store() {
    holds(sql, &files(&["src"], &[".rs"]));
    is_broken_by(sql, "src/chat/mod.rs", "    \"SELECT id FROM agents\",");
}

#[test]
fn an_error_has_a_type_and_stands_in_no_other_result() {
    holds(errors, &files(&["src"], &[".rs"]));
    for broken in [
        "fn f() -> Result<u8, String> {",
        "fn f() -> Result<\n    Vec<(u8, u8)>,\n    String,\n> {",
        "fn f() -> Result<(), (Refusal, Option<Ref>)> {",
        "fn f() -> Result<Result<u8, io::Error>> {",
        "fn f() -> io::Result<std::result::Result<u8, Refusal>> {",
        "fn f() -> Option<store::Result<u8>> {",
        "fn f(g: impl Fn(&str) -> Result<u8, String>) {",
        "fn f() -> Result<u8, &'static str> {",
        "fn f() -> Result<u8, ()> {",
        "    type Err = String;",
    ] {
        is_broken_by(errors, "src/hub/new.rs", broken);
    }
    for good in [
        "fn f() -> Result<String, Problem> {",
        "fn f() -> Result<(u8, String), Box<dyn Error>> {",
        "fn f(of: Result<String, Problem>, text: String) -> Result<Option<u8>> {",
        "fn f() -> Result<impl Fn(u8) -> u8, io::Error> {",
        "fn f() -> Result<SearchResult> {",
    ] {
        assert!(
            errors(&File::of("src/hub/new.rs", good)).is_empty(),
            "{good}"
        );
    }
}

#[test]
fn a_bool_has_a_name() {
    holds(bools, &files(&["src"], &[".rs"]));
    for broken in [
        "fn f() -> (Vec<u8>, bool) {",
        "    agents: [(AgentId, bool); 2],",
        "    told: Box<dyn Fn(AgentId, bool) + Send>,",
        "/// Waits. False\n/// if it is over.\nfn f() -> bool {",
    ] {
        is_broken_by(bools, "src/hub/new.rs", broken);
    }
    let good = "/// Whether it is over.\nfn is_over(text: &str, is_last: bool) -> Option<bool> {";
    assert!(bools(&File::of("src/hub/new.rs", good)).is_empty());
}

#[test]
fn a_file_says_what_lives_in_it_and_keeps_to_it() {
    holds(
        header,
        &files(&["src", "tests", "benches", "fuzz"], &[".rs"]),
    );
    is_broken_by(header, "src/text/new.rs", "use std::fmt;");
    is_broken_by(
        header,
        "src/text/new.rs",
        "//! Words. Pure.\nfn f() { std::fs::read(p); }",
    );
}

#[test]
fn files_and_functions_have_an_end() {
    holds(
        lengths,
        &files(&["src", "tests", "benches", "fuzz"], &[".rs"]),
    );
    is_broken_by(lengths, "src/text/new.rs", &"//!\n".repeat(FILE_LINES + 1));
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(FUNCTION_LINES));
    is_broken_by(lengths, "src/text/new.rs", &long);
    let comments = format!("fn f() {{\n{}}}\n", "    // why\n".repeat(FUNCTION_LINES));
    assert!(lengths(&File::of("src/text/new.rs", &comments)).is_empty());
}

#[test]
fn programs_and_sockets_are_no_persons() {
    let ends = [".rs", ".md", ".js", ".css", ".html"];
    let mut files = files(
        &["src", "tests", "benches", "fuzz", "docs", "contrib"],
        &ends,
    );
    // The list itself, and the Unix user of such a name.
    files.retain(|file| !["tests/tidy.rs", "tests/install.rs"].contains(&file.path.as_str()));
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        files.push(File::of(name, &fs::read_to_string(path).expect(name)));
    }
    holds(words, &files);
    for word in WORDS {
        is_broken_by(words, "docs/a.md", &format!("It is told to {word}."));
    }
}

/// `contrib/mutants` plants them one by one; a fault whose place has changed would be passed over there.
#[test]
fn each_fault_to_plant_has_one_place_in_the_source() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = fs::read_to_string(root.join("tests/mutants.txt")).expect("the faults");
    for fault in faults
        .split("\n\n")
        .filter(|fault| fault.contains("\nfile: "))
    {
        let of = |word: &str| {
            let lines = fault.lines().filter_map(|line| line.strip_prefix(word));
            lines.collect::<Vec<_>>().join("\n")
        };
        let text = fs::read_to_string(root.join(of("file: "))).unwrap_or_default();
        assert_eq!(text.matches(&of("- ")).count(), 1, "{fault}");
    }
}
