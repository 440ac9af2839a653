//! The shipped completions and man pages are those of the present command line. After a change of it:
//! `ANDREA_TEST_WRITE=1 cargo test cli_files` writes them anew, and the tables of docs/operations.md.

mod facts;
mod pages;
mod roff;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use andrea_chat_websocket::cli::{self, manual};
use clap_complete::{Shell, generate};

use crate::support::daemon::PROGRAM;
use crate::support::{reaper, tables};

const NAME: &str = env!("CARGO_PKG_NAME");

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib")
}

/// The parser without what is not for people, which the generators would show.
fn visible(command: &clap::Command) -> clap::Command {
    let mut shown = clap::Command::new(command.get_name().to_owned().leak() as &str)
        .args(command.get_arguments().filter(|one| !one.is_hide_set()))
        .groups(command.get_groups().filter(|one| one.is_required_set()))
        .subcommands(
            command
                .get_subcommands()
                .filter(|one| !one.is_hide_set())
                .map(visible),
        );
    for (set, text) in [
        (
            clap::Command::about as fn(_, clap::builder::StyledStr) -> _,
            command.get_about(),
        ),
        (clap::Command::long_about, command.get_long_about()),
        (clap::Command::after_help, command.get_after_help()),
    ] {
        if let Some(text) = text {
            shown = set(shown, text.clone());
        }
    }
    shown
}

fn parser() -> clap::Command {
    visible(&cli::command()).version(env!("CARGO_PKG_VERSION"))
}

/// When the shipped page was written.
fn date_of(page: &str) -> String {
    let text = fs::read_to_string(contrib().join("man").join(page)).unwrap_or_default();
    let head = text.lines().next().unwrap_or_default();
    head.split(' ').nth(3).unwrap_or("1970-01-01").to_owned()
}

/// A page that is no longer the shipped one, with the date of this day.
fn dated(page: &str, text: &str) -> String {
    let output = Command::new("date").args(["-u", "+%F"]).output();
    let today = String::from_utf8(output.expect("date runs").stdout).expect("UTF-8");
    text.replacen(&date_of(page), today.trim(), 1)
}

/// Every file by its path below contrib/.
fn generated() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (shell, file) in [
        (Shell::Bash, format!("{NAME}.bash")),
        (Shell::Zsh, format!("_{NAME}")),
        (Shell::Fish, format!("{NAME}.fish")),
    ] {
        let mut text = Vec::new();
        generate(shell, &mut parser(), NAME, &mut text);
        let text = String::from_utf8(text).expect("UTF-8");
        // The generator for bash calls a command with hyphens by two names, and then never finds it (clap_complete
        // 4.6.11).
        let text = text.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__"));
        files.insert(format!("completions/{file}"), text);
    }
    let mut command = parser();
    command.build();
    for (file, page) in pages::all(&command, &date_of) {
        files.insert(format!("man/{file}"), page);
    }
    files
}

#[test]
fn shipped_completions_and_man_pages_are_those_of_the_command_line() {
    let write = std::env::var_os("ANDREA_TEST_WRITE").is_some();
    let files = generated();
    for (file, text) in &files {
        let path = contrib().join(file);
        let shipped = fs::read_to_string(&path).unwrap_or_default();
        if write && shipped != *text {
            let text = match file.strip_prefix("man/") {
                Some(page) => dated(page, text),
                None => text.clone(),
            };
            fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            fs::write(&path, text).expect("write");
            continue;
        }
        assert!(
            shipped == *text,
            "contrib/{file} is not what the command line is now; ANDREA_TEST_WRITE=1 cargo test cli_files writes it"
        );
    }
    for folder in ["completions", "man"] {
        for entry in fs::read_dir(contrib().join(folder)).expect("the folder") {
            let name = entry.expect("an entry").file_name();
            let name = format!("{folder}/{}", name.to_str().expect("UTF-8"));
            assert!(
                files.contains_key(&name),
                "contrib/{name} is of no subcommand"
            );
        }
    }
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let file = reaper::path("completions.bash");
    let text = &generated()[&format!("completions/{NAME}.bash")];
    fs::write(&file, text).expect("write");
    let function = format!("_{}", NAME.replace('-', "__"));
    let complete = |words: &str, cursor: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({NAME} {words}); COMP_CWORD={cursor}; \
             {function} {NAME} \"${{COMP_WORDS[{cursor}]}}\" \"${{COMP_WORDS[{}]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display(),
            cursor - 1
        );
        let output = Command::new("bash")
            .args(["-c", &script])
            .output()
            .expect("bash runs");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let subcommands = complete("''", 1);
    for name in ["serve", "supervise", "status", "prune", "check", "token"] {
        assert!(subcommands.contains(&name.to_owned()), "{subcommands:?}");
    }
    assert!(!subcommands.iter().any(|name| name.starts_with("__")));
    assert_eq!(complete("pru", 1), ["prune"]);
    assert_eq!(complete("prune --scope d", 3), ["direct"]);
    assert!(complete("serve --queue", 2).contains(&"--queue-bytes".to_owned()));
    assert!(!complete("serve --sup", 2).contains(&"--supervised".to_owned()));
    assert_eq!(
        complete("settings get chat_websocket_po", 3),
        ["chat_websocket_port"]
    );
}

/// What a reader of man pages shows, and what it complains about.
fn shown(page: &Path, width: &str) -> (String, String) {
    let output = Command::new("man")
        .args(["--warnings=w", "--local-file"])
        .arg(page)
        .env("MANWIDTH", width)
        .env("LC_ALL", "C.UTF-8")
        .env("PAGER", "cat")
        .env("MANPAGER", "cat")
        .output()
        .expect("man runs");
    assert!(output.status.success(), "{}", page.display());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn shipped_pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(contrib().join("man")).expect("the pages");
    let mut pages: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    pages.sort();
    assert_eq!(pages.len(), 19);
    pages
}

const OF_COMMANDS: [&str; 9] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS",
    "EXIT STATUS",
    "FILES",
    "ENVIRONMENT",
    "EXAMPLES",
    "SEE ALSO",
];
const OF_FILES: [&str; 8] = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "VARIABLES",
    "FILES",
    "ENVIRONMENT",
    "EXAMPLES",
    "SEE ALSO",
];

/// What is wrong with the source of a page, among these pages.
fn faults(name: &str, text: &str, pages: &[&str]) -> Vec<String> {
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .map(|heading| heading.trim_matches('"'))
        .collect();
    let wanted = match name.ends_with(".5") {
        true => &OF_FILES[..],
        false => &OF_COMMANDS[..],
    };
    let missing = wanted.iter().filter(|one| !headings.contains(one));
    let mut faults: Vec<String> = missing.map(|one| format!("lacks {one}")).collect();
    // In their usual order, one after the other.
    let places = wanted
        .iter()
        .filter_map(|one| headings.iter().position(|heading| heading == one));
    if !places.is_sorted() {
        faults.push("has its sections in another order".to_owned());
    }
    if headings.contains(&"EXTRA") {
        faults.push("has a section EXTRA".to_owned());
    }
    if text.contains("__detached") || text.contains("supervised") {
        faults.push("shows what is not for people".to_owned());
    }
    let plain = text
        .replace('\\', "")
        .replace("fB", "")
        .replace("fR", "")
        .replace('%', "");
    for word in plain.split([' ', '\n', ',', '.']) {
        let Some((page, section)) = word.trim_end_matches(')').rsplit_once('(') else {
            continue;
        };
        let page = format!("{page}.{section}");
        if word.starts_with(NAME) && !pages.contains(&page.as_str()) {
            faults.push(format!("refers to {page}, which does not exist"));
        }
    }
    faults
}

#[test]
fn man_pages_have_all_sections_and_refer_to_pages_that_exist() {
    let pages = shipped_pages();
    let names: Vec<&str> = pages
        .iter()
        .map(|page| page.file_name().expect("a name").to_str().expect("UTF-8"))
        .collect();
    for (page, name) in pages.iter().zip(&names) {
        let text = fs::read_to_string(page).expect("a page");
        assert_eq!(faults(name, &text, &names), Vec::<String>::new(), "{name}");
    }
    // And each fault is found.
    let name = format!("{NAME}-serve.1");
    let text = fs::read_to_string(contrib().join("man").join(&name)).expect("a page");
    for heading in OF_COMMANDS {
        let quoted = [format!(".SH {heading}\n"), format!(".SH \"{heading}\"\n")];
        let without = quoted
            .iter()
            .fold(text.clone(), |text, line| text.replace(line, ".SH EXTRA\n"));
        let found = faults(&name, &without, &names);
        assert_eq!(
            found,
            [format!("lacks {heading}"), "has a section EXTRA".to_owned()]
        );
    }
    let others: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !name.contains("status"))
        .collect();
    let found = faults(&name, &text, &others);
    let gone = format!("refers to {NAME}-status.1, which does not exist");
    assert_eq!(found, [gone]);
}

/// Header or footer of a page: its parts stand apart.
#[track_caller]
fn assert_has_parts(line: &str, parts: &[&str], page: &Path) {
    let mut rest = line;
    for (at, part) in parts.iter().enumerate() {
        let (before, behind) = rest
            .split_once(part)
            .unwrap_or_else(|| panic!("{}: no {part} in {line:?}", page.display()));
        assert!(before.trim().is_empty(), "{}: {line:?}", page.display());
        assert!(
            at == 0 || before.starts_with(' '),
            "{}: {line:?}",
            page.display()
        );
        rest = behind;
    }
    assert_eq!(rest, "", "{}: {line:?}", page.display());
}

#[test]
#[should_panic(expected = "A(1)General A(1)")]
fn a_header_whose_parts_touch_is_a_fault() {
    assert_has_parts(
        "A(1)General A(1)",
        &["A(1)", "General", "A(1)"],
        Path::new("a.1"),
    );
}

#[test]
fn man_shows_each_page_without_a_complaint_and_with_a_header_that_fits() {
    needs!(Man);
    for page in shipped_pages() {
        let source = fs::read_to_string(&page).expect("a page");
        let mut head = source.lines().next().expect("a head").split(' ').skip(1);
        let (title, section) = (head.next().expect("title"), head.next().expect("section"));
        let title = format!("{title}({section})");
        for width in ["60", "80", "100"] {
            let (text, complaints) = shown(&page, width);
            // The longest path does not fit.
            assert!(width == "60" || complaints.is_empty(), "{complaints}");
            let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
            let (first, last) = (lines[0], lines[lines.len() - 1]);
            assert_has_parts(first, &[&title, &title], &page);
            if width != "60" {
                let version = format!("Andrea chat {}", env!("CARGO_PKG_VERSION"));
                let date = head.clone().next().expect("a date");
                assert_has_parts(last, &[&version, date, &title], &page);
            }
        }
        // The name by which apropos finds it.
        let output = Command::new("lexgrog").arg(&page).output();
        let output = output.expect("lexgrog runs");
        assert!(output.status.success(), "{}", page.display());
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = page.file_stem().expect("a name").to_string_lossy();
        assert!(found.contains(&format!("\"{name} - ")), "{found}");
    }
}

#[test]
fn mandoc_has_no_complaint_about_a_page() {
    needs!(Mandoc);
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "style"])
        .args(shipped_pages())
        .output()
        .expect("mandoc runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// After a change of exit codes or files: `ANDREA_TEST_WRITE=1 cargo test cli_files`.
#[test]
fn the_tables_of_the_operations_document_are_those_of_the_source() {
    tables::assert_stand_in("docs/operations.md", &facts::document());
}

/// Each variable that a page names alone is one that the source asks for.
#[test]
fn variables_of_the_pages_are_asked_for() {
    let mut source = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                source += &fs::read_to_string(&path).expect("source");
            }
        }
    }
    for (variable, _) in facts::ALL.iter().flat_map(|one| one.variables) {
        // By the system, for programs that it looks up; by a crate, for the socket.
        let is_ours = !["PATH", "LISTEN_FDS"].contains(variable);
        let named = format!("\"{variable}\"");
        assert!(!is_ours || source.contains(&named), "{variable}");
    }
}

#[test]
fn each_page_refers_to_others_that_there_are() {
    assert_eq!(
        facts::ALL.map(|one| one.name),
        manual::MANUALS.map(|one| one.name)
    );
    for one in &facts::ALL {
        for related in one.related {
            assert!(manual::of(related).is_some(), "{}: {related}", one.name);
            assert_ne!(*related, one.name);
        }
    }
    let serve = manual::of("serve").expect("serve").codes;
    assert_eq!(serve.len(), facts::REMEDIES.len());
}

/// Without a helpdesk, and with a wrong command line, each ends with a code that its page has.
#[test]
fn subcommands_without_an_install_end_with_a_code_of_their_page() {
    let folder = reaper::folder("no-install");
    let missing = folder.join("missing");
    for manual in &manual::MANUALS {
        let (name, rest): (&str, &[&str]) = match manual.name {
            "demo" | "uninstall" => continue,
            "settings" => ("settings", &["list"]),
            "install" => ("install", &["cron", "--dry-run"]),
            "token" => ("token", &["--agent", "1"]),
            "chat" => ("chat", &["send", "--agent", "1", "--channel", "1", "text"]),
            name => (name, &[]),
        };
        let run = |root: &Path, more: &[&str]| {
            let output = Command::new(PROGRAM)
                .arg(name)
                .args(rest)
                .arg("--root")
                .arg(root)
                .args(more)
                .env_clear()
                .stdin(Stdio::null())
                .output()
                .expect("it runs");
            let code = output.status.code().expect("a code");
            let known = manual.codes.iter().any(|(one, _)| i32::from(*one) == code);
            assert!(known && code != 0, "{name}: {code} {output:?}");
            code
        };
        run(&missing, &[]);
        run(&folder, &[]);
        assert_eq!(run(&folder, &["--no-such-option"]), 64, "{name}");
    }
}
