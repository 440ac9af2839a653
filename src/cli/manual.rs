//! What the help says about a subcommand besides its arguments: exit codes and examples. The man pages and the tables of
//! `docs/operations.md` are made from it too (`tests/cli_files.rs`), with more that only they say.

use crate::platform::exit_code as codes;

/// A purpose, and the command line for it without the program's name.
pub type Example = (&'static str, &'static str);
/// An exit code, and when it is given.
pub type Code = (u8, &'static str);

/// What the help says about a subcommand.
#[derive(Debug)]
pub struct Manual {
    /// Its name.
    pub name: &'static str,
    /// The codes it ends with.
    pub codes: &'static [Code],
    /// How it is used.
    pub examples: &'static [Example],
}

const DONE: Code = (codes::OK, "done");
const UNWRITABLE: Code = (codes::FAILED, "cannot write to standard output");
const USAGE: Code = (codes::USAGE, "wrong command line");
const DATABASE: Code = (codes::UNAVAILABLE, "no database");
const STORAGE: Code = (codes::CANNOT_CREATE, "cannot use the storage folder");
const CONFIG: Code = (codes::CONFIG, "wrong configuration");

const CONTROL: [Code; 6] = [
    (codes::OK, "the request is recorded for the supervisor"),
    (
        codes::FAILED,
        "use the service manager instead (management mode external)",
    ),
    USAGE,
    DATABASE,
    STORAGE,
    CONFIG,
];
const INSTALLATION: [Code; 3] = [
    (codes::OK, "done, or nothing to do"),
    (codes::FAILED, "failed"),
    USAGE,
];

/// Headings of the help, and the subcommands below each.
pub const GROUPS: [(&str, &str); 3] = [
    ("Run the service", "serve supervise install uninstall"),
    (
        "Operate it",
        "status start stop restart connections settings config prune check healthcheck",
    ),
    ("Try it, and develop", "demo chat token help"),
];

/// The examples of the help without a subcommand.
pub const EXAMPLES: [Example; 4] = [
    ("See the chat without a helpdesk", "demo"),
    (
        "Check an install before the first start",
        "check --root /var/www/andrea-helpdesk",
    ),
    (
        "Let systemd run its service",
        "install systemd --root /var/www/andrea-helpdesk",
    ),
    (
        "See how the service is",
        "status --root /var/www/andrea-helpdesk",
    ),
];

/// The manual of a subcommand.
pub fn of(name: &str) -> Option<&'static Manual> {
    MANUALS.iter().find(|manual| manual.name == name)
}

/// All manuals, in the order of the groups in the help.
#[rustfmt::skip]
pub const MANUALS: [Manual; 17] = [
    Manual {
        name: "serve",
        codes: &[
            (codes::OK, "stopped as asked, or a healthy daemon is already running (standard error says which)"),
            (codes::FAILED, "the address cannot be bound, or a daemon without a heartbeat holds the pid file"),
            (codes::USAGE, "wrong command line"),
            (codes::UNAVAILABLE, "the database did not answer within 30 s"),
            (codes::SOFTWARE, "an internal fault"),
            (codes::CANNOT_CREATE, "a folder or file of the storage cannot be created or written"),
            (codes::CONFIG, "`.env`, environment or settings are wrong, the database denies access, or the system provides no \
                          random numbers"),
        ],
        examples: &[
            ("In the foreground, from the install's folder", "serve"),
            ("With every event on this terminal", "serve --root /var/www/andrea-helpdesk --log-level debug --log-stderr always"),
        ],
    },
    Manual {
        name: "supervise",
        codes: &[
            (codes::OK, "done, or another supervisor runs"),
            (codes::FAILED, "the daemon does not start or does not end, or the database does not answer"),
            USAGE, STORAGE, CONFIG,
        ],
        examples: &[("As cron runs it", "supervise --root /var/www/andrea-helpdesk")],
    },
    Manual {
        name: "install",
        codes: &INSTALLATION,
        examples: &[
            ("Show the unit, write nothing", "install systemd --dry-run"),
            ("Keep the port open during a restart", "install systemd --socket --root /var/www/andrea-helpdesk"),
            ("A line for cron", "install cron"),
        ],
    },
    Manual {
        name: "uninstall",
        codes: &INSTALLATION,
        examples: &[
            ("List what would be removed", "uninstall --dry-run"),
            ("Remove it", "uninstall --root /var/www/andrea-helpdesk"),
        ],
    },
    Manual {
        name: "status",
        codes: &[
            (codes::OK, "running"),
            (codes::FAILED, "stopped"),
            (codes::STALE, "stale: recorded as running, but without a heartbeat"),
            (codes::START_FAILED, "the last start failed"),
            (codes::CANNOT_TELL, "cannot tell"),
            USAGE,
        ],
        examples: &[
            ("Once", "status --root /var/www/andrea-helpdesk"),
            ("Until Ctrl-C", "status --watch"),
            ("For a script", "status --json | jq -r .status"),
        ],
    },
    Manual {
        name: "start",
        codes: &CONTROL,
        examples: &[("At the supervisor's next pass", "start --root /var/www/andrea-helpdesk")],
    },
    Manual {
        name: "stop",
        codes: &CONTROL,
        examples: &[("Until the next start", "stop --root /var/www/andrea-helpdesk")],
    },
    Manual {
        name: "restart",
        codes: &CONTROL,
        examples: &[("After a change of .env", "restart --root /var/www/andrea-helpdesk")],
    },
    Manual {
        name: "connections",
        codes: &[
            DONE, UNWRITABLE, USAGE, (codes::UNAVAILABLE, "no service answers"), STORAGE, CONFIG,
        ],
        examples: &[
            ("Who is connected", "connections"),
            ("Each agent once", "connections --json | jq '[.[].agent] | unique'"),
        ],
    },
    Manual {
        name: "settings",
        codes: &[
            DONE,
            (codes::FAILED, "this install lacks the setting, or cannot write to standard output"),
            (codes::USAGE, "wrong command line, no such setting, or an invalid value"),
            DATABASE, STORAGE, CONFIG,
        ],
        examples: &[
            ("All of them", "settings list"),
            ("One value, for a script", "settings get chat_websocket_port"),
            ("Longer messages", "settings set chat_max_message_length 8000"),
        ],
    },
    Manual {
        name: "config",
        codes: &[
            DONE, UNWRITABLE, USAGE, (codes::UNAVAILABLE, "no database, so the settings are left out"),
            (codes::CONFIG, "wrong configuration; the known values are shown all the same"),
        ],
        examples: &[
            ("What differs from the defaults", "config | grep -v ' default '"),
            ("What serve would use with this option", "config --rate 50 --json"),
        ],
    },
    Manual {
        name: "prune",
        codes: &[DONE, (codes::FAILED, "interrupted, or no such channel"), USAGE, DATABASE, STORAGE, CONFIG],
        examples: &[
            ("Only count", "prune"),
            ("Mark old direct messages, and report for a program", "prune --run --scope direct --json"),
        ],
    },
    Manual {
        name: "check",
        codes: &[
            (codes::OK, "passed, perhaps with warnings"), (codes::FAILED, "a check failed"), USAGE,
            (codes::CONFIG, "cannot open the install's folder"),
        ],
        examples: &[
            ("Before the first start", "check"),
            ("Also through the web server, as a browser does", "check --url wss://helpdesk.example/ws/chat"),
        ],
    },
    Manual {
        name: "healthcheck",
        codes: &[(codes::OK, "healthy"), (codes::FAILED, "unhealthy, or no answer in time"), USAGE],
        examples: &[("Within two seconds", "healthcheck --timeout 2")],
    },
    Manual {
        name: "demo",
        codes: &[
            (codes::OK, "stopped"), (codes::FAILED, "no port free, or a demo with this data runs already"), USAGE,
            (codes::UNAVAILABLE, "the database cannot be used"), (codes::SOFTWARE, "fault of the service"),
            (codes::CANNOT_CREATE, "cannot write to the folder"), CONFIG,
        ],
        examples: &[("In a folder of its own", "demo --data /tmp/chat-demo")],
    },
    Manual {
        name: "chat",
        codes: &[
            DONE, (codes::FAILED, "the service refuses, or cannot write to standard output"), USAGE,
            (codes::UNAVAILABLE, "no service or no database"), STORAGE, CONFIG,
        ],
        examples: &[
            ("Follow a channel", "chat tail --agent 7 --channel 1"),
            ("Say something", "chat send --agent 7 --channel 1 'Back at 14:00'"),
            ("Send the output of a command", "chat send --agent 7 --thread 3 - <report.txt"),
        ],
    },
    Manual {
        name: "token",
        codes: &[
            DONE, (codes::FAILED, "no such active agent; the token is written all the same"), USAGE, STORAGE, CONFIG,
        ],
        examples: &[("For a minute", "token --agent 7 --ttl 60")],
    },
];
