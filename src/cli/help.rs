//! What the help has beyond the definitions of the arguments: subcommands in groups, exit codes, and examples.

use std::fmt::Write;

use clap::Command;

use super::manual::{EXAMPLES, Example, GROUPS, MANUALS, Manual};

/// Adds groups, exit codes and examples.
pub(super) fn complete(mut command: Command) -> Command {
    let name = command.get_name().to_owned();
    for manual in &MANUALS {
        // Not every build has the demo.
        if command.find_subcommand(manual.name).is_some() {
            command = command.mut_subcommand(manual.name, |one| explain(one, &name, manual));
        }
    }
    let groups = groups(&command);
    let examples = examples(&name, EXAMPLES.iter());
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\n\n{examples}\n"
    ))
}

/// Adds exit codes and examples to a subcommand and to those below it.
fn explain(command: Command, program: &str, manual: &'static Manual) -> Command {
    let below: Vec<String> = command
        .get_subcommands()
        .map(|one| one.get_name().to_owned())
        .collect();
    let codes = codes(manual);
    let whole = examples(program, manual.examples.iter());
    let command = command.after_help(format!("{codes}\n\n{whole}"));
    below.into_iter().fold(command, |command, name| {
        let path = format!("{} {name} ", manual.name);
        let own = manual.examples.iter();
        let own = own.filter(|(_, line)| format!("{line} ").starts_with(&path));
        let text = format!("{codes}\n\n{}", examples(program, own));
        command.mut_subcommand(name, |one| one.after_help(text))
    })
}

fn codes(manual: &Manual) -> String {
    let codes = manual.codes.iter();
    let codes: Vec<String> = codes
        .map(|(code, meaning)| format!("{code} {}", meaning.replace('`', "")))
        .collect();
    format!("Exit codes: {}.", codes.join("; "))
}

fn examples<'a>(program: &str, examples: impl Iterator<Item = &'a Example>) -> String {
    examples.fold("Examples:".to_owned(), |text, (purpose, line)| {
        format!("{text}\n  {purpose}:\n    {program} {line}")
    })
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{heading}:");
        for name in names.split(' ') {
            let about = match name {
                "help" => Some("Explain a subcommand, as its --help does".to_owned()),
                name => command
                    .find_subcommand(name)
                    .and_then(|one| one.get_about())
                    .map(ToString::to_string),
            };
            if let Some(about) = about {
                let _ = writeln!(text, "  {name:<13}{about}");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::manual;

    fn assert_has_examples(command: &Command, path: &str) {
        let mut command = command.clone();
        let help = command.render_long_help().to_string();
        assert!(help.contains("\nExamples:\n  "), "{path}: {help}");
        for one in command.get_subcommands() {
            if !one.is_hide_set() && one.get_name() != "help" {
                assert_has_examples(one, &format!("{path} {}", one.get_name()));
            }
        }
    }

    #[test]
    fn d26_each_subcommand_stands_in_one_group_and_has_examples_that_parse() {
        let command = crate::cli::command();
        let shown = command.clone().render_long_help().to_string();
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let name = one.get_name();
            let places = GROUPS
                .iter()
                .filter(|(_, names)| names.split(' ').any(|one| one == name));
            assert_eq!(places.count(), 1, "{name}");
            assert!(shown.contains(&format!("\n  {name} ")), "{name}: {shown}");
            assert!(manual::of(name).is_some(), "{name}");
        }
        assert_has_examples(&command, command.get_name());
        let all = MANUALS.iter().flat_map(|manual| manual.examples);
        for (_, line) in all.chain(&EXAMPLES) {
            let words = line.split(['|', '<']).next().expect("a command").trim_end();
            let words = words.replace("'Back at 14:00'", "text");
            let parsed = command
                .clone()
                .try_get_matches_from(["program"].into_iter().chain(words.split(' ')));
            let name = words.split(' ').next().expect("a name");
            assert!(
                parsed.is_ok() || command.find_subcommand(name).is_none(),
                "{line}: {parsed:?}"
            );
        }
    }

    #[test]
    fn manuals_name_codes_that_there_are() {
        use crate::platform::exit_code;

        for manual in &MANUALS {
            let codes: Vec<u8> = manual.codes.iter().map(|(code, _)| *code).collect();
            assert!(codes.is_sorted_by(|a, b| a < b), "{}", manual.name);
            let known = |code: &u8| exit_code::ALL.iter().any(|(one, _)| one == code);
            assert!(codes.iter().all(known), "{}", manual.name);
        }
    }
}
