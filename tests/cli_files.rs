//! The shipped completions and man pages are those of the present command line. After a change of it:
//! `ANDREA_TEST_WRITE=1 cargo test cli_files` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use andrea_chat_websocket::cli;
use clap_complete::{Shell, generate};

use crate::support::reaper;

const NAME: &str = env!("CARGO_PKG_NAME");

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib")
}

/// The parser without what is not for people, which the generators would show.
fn visible(command: &clap::Command) -> clap::Command {
    let mut shown = clap::Command::new(command.get_name().to_owned().leak() as &str)
        .args(command.get_arguments().filter(|one| !one.is_hide_set()))
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
    let mut pages = vec![(NAME.to_owned(), command.clone())];
    for subcommand in command
        .get_subcommands()
        .filter(|one| one.get_name() != "help")
    {
        let name = format!("{NAME}-{}", subcommand.get_name());
        pages.push((name, subcommand.clone()));
    }
    for (name, command) in pages {
        let mut page = Vec::new();
        clap_mangen::Man::new(command)
            .title(name.clone())
            .source(format!("{NAME} {}", env!("CARGO_PKG_VERSION")))
            .manual("Andrea Helpdesk")
            .render(&mut page)
            .expect("written to memory");
        let page = String::from_utf8(page).expect("UTF-8");
        files.insert(format!("man/{name}.1"), page);
    }
    files
}

#[test]
fn shipped_completions_and_man_pages_are_those_of_the_command_line() {
    let write = std::env::var_os("ANDREA_TEST_WRITE").is_some();
    let files = generated();
    for (file, text) in &files {
        let path = contrib().join(file);
        if write {
            fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            fs::write(&path, text).expect("write");
        }
        let shipped = fs::read_to_string(&path).unwrap_or_default();
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

#[test]
fn man_pages_have_no_faults_and_say_what_help_says() {
    needs!(Man);
    let files = generated();
    assert_eq!(
        files.keys().filter(|file| file.starts_with("man/")).count(),
        18
    );
    for (file, page) in &files {
        if !file.starts_with("man/") {
            continue;
        }
        let local = reaper::path(&file.replace('/', "-"));
        fs::write(&local, page).expect("write");
        let output = Command::new("man")
            .args(["--warnings=w", "--local-file"])
            .arg(&local)
            .env("MANWIDTH", "100")
            .env("LC_ALL", "C.UTF-8")
            .env("PAGER", "cat")
            .env("MANPAGER", "cat")
            .output()
            .expect("man runs");
        assert!(output.status.success(), "{file}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{file}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        for part in ["NAME", "SYNOPSIS", "OPTIONS"] {
            assert!(text.contains(part), "{file} lacks {part}");
        }
        assert!(
            !page.contains("__detached") && !page.contains("supervised"),
            "{file}"
        );
    }
}
