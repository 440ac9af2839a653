//! What the help has that the definitions of the arguments do not: subcommands by what one wants, and examples.

use std::fmt::Write;

use clap::Command;

/// Headings, and what stands under them.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Run the service", &["serve", "demo", "supervise"]),
    (
        "See how it is",
        &["status", "connections", "config", "check", "healthcheck"],
    ),
    (
        "Change it",
        &["start", "stop", "restart", "settings", "prune"],
    ),
    ("Set it up", &["install", "uninstall"]),
    ("Chat, and test", &["chat", "token", "help"]),
];

/// The name of a subcommand, and its examples: what for, and what follows the program's name.
type Examples = (&'static str, &'static [(&'static str, &'static str)]);

/// An install's folder, as in the documents.
const EXAMPLES: [Examples; 17] = [
    (
        "serve",
        &[
            ("In the foreground, from the install's folder", "serve"),
            (
                "All that a client does, on this terminal",
                "serve --root /var/www/andrea-helpdesk --log-level debug --log-stderr always",
            ),
        ],
    ),
    (
        "demo",
        &[("In a folder of its own", "demo --data /tmp/chat-demo")],
    ),
    (
        "supervise",
        &[(
            "As cron runs it",
            "supervise --root /var/www/andrea-helpdesk",
        )],
    ),
    (
        "status",
        &[
            ("Once", "status --root /var/www/andrea-helpdesk"),
            ("Until Ctrl-C", "status --watch"),
            ("For a script", "status --json | jq -r .status"),
        ],
    ),
    ("start", &[("With the supervisor", "start")]),
    ("stop", &[("For good", "stop")]),
    ("restart", &[("After a change of .env", "restart")]),
    (
        "settings",
        &[
            ("All of them", "settings list"),
            (
                "Longer messages",
                "settings set chat_max_message_length 8000",
            ),
        ],
    ),
    (
        "config",
        &[
            (
                "What differs from the defaults",
                "config | grep -v ' default '",
            ),
            ("What serve would be told", "config --rate 50 --json"),
        ],
    ),
    (
        "connections",
        &[
            ("Who is connected", "connections"),
            (
                "Agents, each once",
                "connections --json | jq '[.[].agent] | unique'",
            ),
        ],
    ),
    (
        "prune",
        &[
            ("What would be marked", "prune"),
            (
                "Old direct messages, with a report for a program",
                "prune --run --scope direct --json",
            ),
        ],
    ),
    (
        "check",
        &[
            ("Before the first start", "check"),
            (
                "Also a browser's way",
                "check --url wss://helpdesk.example/ws/chat",
            ),
        ],
    ),
    (
        "install",
        &[
            ("Show the unit, write nothing", "install systemd --dry-run"),
            ("A line for cron", "install cron"),
        ],
    ),
    (
        "uninstall",
        &[("Show what would go", "uninstall --dry-run")],
    ),
    (
        "healthcheck",
        &[("Within two seconds", "healthcheck --timeout 2")],
    ),
    ("token", &[("For a minute", "token --agent 7 --ttl 60")]),
    (
        "chat",
        &[
            ("Follow a channel", "chat tail --agent 7 --channel 1"),
            (
                "Say something",
                "chat send --agent 7 --channel 1 'Back at 14:00'",
            ),
        ],
    ),
];

/// Adds both.
pub(super) fn complete(mut command: Command) -> Command {
    let name = command.get_name().to_owned();
    for (subcommand, examples) in EXAMPLES {
        // Not every build has the demo.
        if command.find_subcommand(subcommand).is_none() {
            continue;
        }
        command = command.mut_subcommand(subcommand, |one| {
            let mut text = one
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            text.push_str("\n\nExamples:");
            for (purpose, line) in examples {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n  {purpose}:\n    {name} {line}");
            }
            one.after_help(text)
        });
    }
    let groups = groups(&command);
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{groups}Options:\n{{options}}\n"
    ))
}

fn groups(command: &Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        let _ = writeln!(text, "{heading}:");
        for name in names {
            let about = match *name {
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

    #[test]
    fn d26_each_subcommand_stands_in_one_group_and_has_examples_that_parse() {
        let command = crate::cli::command();
        let shown = command.clone().render_long_help().to_string();
        for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            let name = one.get_name();
            let places = GROUPS.iter().filter(|(_, names)| names.contains(&name));
            assert_eq!(places.count(), 1, "{name}");
            assert!(shown.contains(&format!("\n  {name} ")), "{name}: {shown}");
            assert!(EXAMPLES.iter().any(|(other, _)| *other == name), "{name}");
        }
        for (name, examples) in EXAMPLES {
            for (_, line) in examples {
                let line = line.split(" | ").next().expect("a command");
                let words = line.replace("'Back at 14:00'", "text");
                let parsed = command
                    .clone()
                    .try_get_matches_from(["program"].into_iter().chain(words.split(' ')));
                assert!(
                    parsed.is_ok() || command.find_subcommand(name).is_none(),
                    "{line}: {parsed:?}"
                );
            }
        }
    }
}
