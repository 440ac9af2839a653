//! What help and man pages say about a subcommand besides its arguments: exit codes, files, variables, examples, related
//! pages. The tables of `docs/operations.md` are made from it too; `tests/cli_files.rs` writes pages and tables.

use crate::admin::install::{CRONTABS, UNITS};
use crate::platform::exit_code::{self as codes};
use crate::platform::paths;

/// What the program is for.
pub const OVERVIEW: &str = "andrea-chat-websocket carries the agents' internal chat of Andrea Helpdesk over WebSocket. It replaces the \
                            helpdesk's own PHP daemon, and works with the same settings, database, storage and browser client. \
                            A service manager or cron runs it; the other subcommands operate it, check it, and talk to it.";

/// Placeholders at the beginning of the paths of [`FILES`], and what they mean.
pub const FOLDERS: [(&str, &str); 2] = [
    ("ROOT", "ROOT is the install's folder, from `--root`."),
    (
        "STORAGE_PATH",
        "STORAGE_PATH is that variable of `.env`; without it, the folder is ROOT/storage.",
    ),
];

/// How variables of `.env` and of the environment relate.
pub const SAME_IN_ENVIRONMENT: &str = "Each variable that may stand in `.env` may also be set in the environment, and then overrides it.";

/// What a manual says about a subcommand besides its arguments.
#[derive(Debug)]
pub struct Manual {
    /// Its name.
    pub name: &'static str,
    /// The codes it ends with.
    pub codes: &'static [Code],
    /// Whether it reads `.env` and the variables in it.
    pub is_configured: bool,
    /// Files that it reads or writes, except `.env`.
    pub files: &'static [File],
    /// Variables that count only in the environment, not in `.env`.
    pub variables: &'static [Variable],
    /// The purpose, and the command line without the program's name.
    pub examples: &'static [(&'static str, &'static str)],
    /// Subcommands whose pages a reader may want next.
    pub related: &'static [&'static str],
}

/// An exit code of a subcommand.
#[derive(Debug)]
pub struct Code {
    /// See [`crate::platform::exit_code`].
    pub code: u8,
    /// When it is given.
    pub meaning: &'static str,
    /// What to do; empty for all subcommands but `serve`.
    pub remedy: &'static str,
}

/// A file.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// Its folder.
    pub folder: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is for.
    pub about: &'static str,
}

impl File {
    /// Its whole path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }
}

/// A variable of the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it changes.
    pub about: &'static str,
}

const fn code(code: u8, meaning: &'static str) -> Code {
    Code {
        code,
        meaning,
        remedy: "",
    }
}

const fn file(folder: &'static str, name: &'static str, about: &'static str) -> File {
    File {
        folder,
        name,
        about,
    }
}

const fn variable(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about }
}

const DONE: Code = code(codes::OK, "done");
const UNWRITABLE: Code = code(codes::FAILED, "cannot write to standard output");
const USAGE: Code = code(codes::USAGE, "wrong command line");
const DATABASE: Code = code(codes::UNAVAILABLE, "no database");
const STORAGE: Code = code(codes::CANNOT_CREATE, "cannot use the storage folder");
const CONFIG: Code = code(codes::CONFIG, "wrong configuration");

/// The configuration, read by every subcommand that [is configured](Manual::is_configured).
pub const ENV_FILE: File = file(
    "ROOT",
    ".env",
    "configuration of the helpdesk and of this service",
);
const RUNTIME: &str = "STORAGE_PATH/runtime";
const LOGS: &str = "STORAGE_PATH/logs";
const PID_FILE: File = file(
    RUNTIME,
    paths::PID_FILE,
    "process id of the service, which keeps the file locked while it runs",
);
const INSPECTION_SOCKET: File = file(
    RUNTIME,
    paths::INSPECTION_SOCKET,
    "Unix socket on which the service answers `connections`",
);
const SUPERVISOR_LOCK: File = file(
    RUNTIME,
    paths::SUPERVISOR_LOCK,
    "lock of the supervisor; its time is that of the last pass",
);
const LOG_FILE: File = file(
    LOGS,
    paths::LOG_FILE,
    "log of the service; reopened after logrotate has moved or truncated it",
);
const SUPERVISOR_LOG: File = file(
    LOGS,
    paths::SUPERVISOR_LOG,
    "output of the supervisor, where the crontab line of `install cron` sends it",
);
const UNIT: File = file(
    UNITS,
    "andrea-chat-websocket.service",
    "unit of the service; a second install gets `andrea-chat-websocket@NAME.service`",
);
const SOCKET_UNIT: File = file(
    UNITS,
    "andrea-chat-websocket.socket",
    "socket unit, with `install systemd --socket`",
);
const DROP_IN: File = file(
    UNITS,
    "andrea-chat-websocket.service.d/install.conf",
    "drop-in, where the Debian package has the unit",
);
const CRONTAB: File = file(
    CRONTABS,
    "andrea-chat-websocket",
    "crontab line of the supervisor",
);

const KEPT_UNIT: File = file(
    UNITS,
    "*.before-install",
    "what was in the place of a file that `install` wrote; `uninstall` restores it",
);

/// Files of an install, in the order in which people read them.
pub const FILES: [File; 6] = [
    ENV_FILE,
    PID_FILE,
    INSPECTION_SOCKET,
    SUPERVISOR_LOCK,
    LOG_FILE,
    SUPERVISOR_LOG,
];

const NO_COLOR: Variable = variable(
    "NO_COLOR",
    "if set to anything, `--color auto` does not colour",
);
const TERM: Variable = variable("TERM", "if unset or `dumb`, `--color auto` does not colour");
const PATH: Variable = variable("PATH", "where `systemctl` is found");

/// Variables by which a service manager or `serve` itself controls the process.
const SERVICE_MANAGER: [Variable; 5] = [
    variable(
        "NOTIFY_SOCKET",
        "where the service tells systemd that it is ready, and its status",
    ),
    variable(
        "WATCHDOG_USEC",
        "interval of the watchdog, with `WATCHDOG_PID`; the service then reports its progress",
    ),
    variable(
        "LISTEN_FDS",
        "with `LISTEN_PID`: the service takes the listening socket from systemd",
    ),
    variable(
        "JOURNAL_STREAM",
        "if standard error is that journal, the log goes there as well, with priorities",
    ),
    variable(
        "MALLOC_ARENA_MAX",
        "heaps of the C library; the service sets it to 1 where its address space is limited to less than 1 GiB",
    ),
];

const CONTROL: [Code; 6] = [
    code(codes::OK, "the request is recorded for the supervisor"),
    code(
        codes::FAILED,
        "use the service manager instead (management mode external)",
    ),
    USAGE,
    DATABASE,
    STORAGE,
    CONFIG,
];
const INSTALLATION: [Code; 3] = [
    code(codes::OK, "done, or nothing to do"),
    code(codes::FAILED, "failed"),
    USAGE,
];

/// Headings of the help, and the subcommands below each.
pub const GROUPS: [(&str, &[&str]); 3] = [
    (
        "Run the service",
        &["serve", "supervise", "install", "uninstall"],
    ),
    (
        "Operate it",
        &[
            "status",
            "start",
            "stop",
            "restart",
            "connections",
            "settings",
            "config",
            "prune",
            "check",
            "healthcheck",
        ],
    ),
    ("Try it, and develop", &["demo", "chat", "token", "help"]),
];

/// The examples of the help without a subcommand: purpose, and command line without the program's name.
pub const EXAMPLES: [(&str, &str); 4] = [
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

/// The table of the codes of `serve`, in Markdown.
fn codes_of_serve() -> String {
    let serve = of("serve").map_or(&[][..], |manual| manual.codes);
    let head = "| code | meaning | what to do |\n|---|---|---|\n".to_owned();
    serve.iter().fold(head, |table, one| {
        format!(
            "{table}| {} | {} | {} |\n",
            one.code, one.meaning, one.remedy
        )
    })
}

/// The tables of `docs/operations.md`, each with its heading.
pub fn document() -> Vec<(&'static str, String)> {
    let others = MANUALS.iter().filter(|manual| manual.name != "serve");
    let head = "| subcommand | exit codes |\n|---|---|\n".to_owned();
    let others = others.fold(head, |table, manual| {
        let codes = manual.codes.iter();
        let codes: Vec<String> = codes
            .map(|one| format!("{} {}", one.code, one.meaning))
            .collect();
        format!("{table}| `{}` | {} |\n", manual.name, codes.join("; "))
    });
    let head = "| file | what it is |\n|---|---|\n".to_owned();
    let files = FILES.iter().fold(head, |table, file| {
        format!("{table}| `{}` | {} |\n", file.path(), file.about)
    });
    vec![
        ("## Files", files),
        ("## Exit codes of `serve`", codes_of_serve()),
        ("## Exit codes of the other subcommands", others),
    ]
}

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
            Code { code: codes::OK, meaning: "stopped as asked, or a healthy daemon is already running (standard error says which)",
                remedy: "nothing" },
            Code { code: codes::FAILED, meaning: "the address cannot be bound, or a daemon without a heartbeat holds the pid file",
                remedy: "free the address, or end that process" },
            Code { code: codes::USAGE, meaning: "wrong command line", remedy: "see `--help`" },
            Code { code: codes::UNAVAILABLE, meaning: "the database did not answer within 30 s",
                remedy: "start it, or correct `DB_HOST`, `DB_PORT`, `DB_SOCKET`" },
            Code { code: codes::SOFTWARE, meaning: "an internal fault", remedy: "see the log, and please report it" },
            Code { code: codes::CANNOT_CREATE, meaning: "a folder or file of the storage cannot be created or written",
                remedy: "fix its permissions, or `STORAGE_PATH`" },
            Code { code: codes::CONFIG,
                meaning: "`.env`, environment or settings are wrong, the database denies access, or the system provides no \
                          random numbers",
                remedy: "correct the variable or line that the message names" },
        ],
        is_configured: true,
        files: &[PID_FILE, INSPECTION_SOCKET, LOG_FILE],
        variables: &SERVICE_MANAGER,
        examples: &[
            ("In the foreground, from the install's folder", "serve"),
            ("With every event on this terminal", "serve --root /var/www/andrea-helpdesk --log-level debug --log-stderr always"),
        ],
        related: &["supervise", "install", "status", "config"],
    },
    Manual {
        name: "supervise",
        codes: &[
            code(codes::OK, "done, or another supervisor runs"),
            code(codes::FAILED, "the daemon does not start or does not end, or the database does not answer"),
            USAGE, STORAGE, CONFIG,
        ],
        is_configured: true,
        files: &[PID_FILE, SUPERVISOR_LOCK, LOG_FILE, SUPERVISOR_LOG],
        variables: &[],
        examples: &[("As cron runs it", "supervise --root /var/www/andrea-helpdesk")],
        related: &["serve", "install", "status"],
    },
    Manual {
        name: "install",
        codes: &INSTALLATION,
        is_configured: true,
        files: &[UNIT, SOCKET_UNIT, DROP_IN, CRONTAB, KEPT_UNIT],
        variables: &[PATH],
        examples: &[
            ("Show the unit, write nothing", "install systemd --dry-run"),
            ("Keep the port open during a restart", "install systemd --socket --root /var/www/andrea-helpdesk"),
            ("A line for cron", "install cron"),
        ],
        related: &["uninstall", "serve", "supervise", "check"],
    },
    Manual {
        name: "uninstall",
        codes: &INSTALLATION,
        is_configured: false,
        files: &[UNIT, SOCKET_UNIT, DROP_IN, CRONTAB, KEPT_UNIT],
        variables: &[PATH],
        examples: &[
            ("List what would be removed", "uninstall --dry-run"),
            ("Remove it", "uninstall --root /var/www/andrea-helpdesk"),
        ],
        related: &["install"],
    },
    Manual {
        name: "status",
        codes: &[
            code(codes::OK, "running"),
            code(codes::FAILED, "stopped"),
            code(codes::STALE, "stale: recorded as running, but without a heartbeat"),
            code(codes::START_FAILED, "the last start failed"),
            code(codes::CANNOT_TELL, "cannot tell"),
            USAGE,
        ],
        is_configured: true,
        files: &[PID_FILE, LOG_FILE],
        variables: &[NO_COLOR, TERM],
        examples: &[
            ("Once", "status --root /var/www/andrea-helpdesk"),
            ("Until Ctrl-C", "status --watch"),
            ("For a script", "status --json | jq -r .status"),
        ],
        related: &["healthcheck", "check", "connections"],
    },
    Manual {
        name: "start",
        codes: &CONTROL,
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[("At the supervisor's next pass", "start --root /var/www/andrea-helpdesk")],
        related: &["stop", "restart", "status", "supervise"],
    },
    Manual {
        name: "stop",
        codes: &CONTROL,
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[("Until the next start", "stop --root /var/www/andrea-helpdesk")],
        related: &["start", "restart", "status", "supervise"],
    },
    Manual {
        name: "restart",
        codes: &CONTROL,
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[("After a change of .env", "restart --root /var/www/andrea-helpdesk")],
        related: &["start", "stop", "status", "supervise"],
    },
    Manual {
        name: "connections",
        codes: &[
            DONE, UNWRITABLE, USAGE, code(codes::UNAVAILABLE, "no service answers"), STORAGE, CONFIG,
        ],
        is_configured: true,
        files: &[INSPECTION_SOCKET],
        variables: &[],
        examples: &[
            ("Who is connected", "connections"),
            ("Each agent once", "connections --json | jq '[.[].agent] | unique'"),
        ],
        related: &["status"],
    },
    Manual {
        name: "settings",
        codes: &[
            DONE,
            code(codes::FAILED, "this install lacks the setting, or cannot write to standard output"),
            code(codes::USAGE, "wrong command line, no such setting, or an invalid value"),
            DATABASE, STORAGE, CONFIG,
        ],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[
            ("All of them", "settings list"),
            ("One value, for a script", "settings get chat_websocket_port"),
            ("Longer messages", "settings set chat_max_message_length 8000"),
        ],
        related: &["config", "restart"],
    },
    Manual {
        name: "config",
        codes: &[
            DONE, UNWRITABLE, USAGE, code(codes::UNAVAILABLE, "no database, so the settings are left out"),
            code(codes::CONFIG, "wrong configuration; the known values are shown all the same"),
        ],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[
            ("What differs from the defaults", "config | grep -v ' default '"),
            ("What serve would use with this option", "config --rate 50 --json"),
        ],
        related: &["settings", "serve", "check"],
    },
    Manual {
        name: "prune",
        codes: &[DONE, code(codes::FAILED, "interrupted, or no such channel"), USAGE, DATABASE, STORAGE, CONFIG],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[
            ("Only count", "prune"),
            ("Mark old direct messages, and report for a program", "prune --run --scope direct --json"),
        ],
        related: &["settings"],
    },
    Manual {
        name: "check",
        codes: &[
            code(codes::OK, "passed, perhaps with warnings"), code(codes::FAILED, "a check failed"), USAGE,
            code(codes::CONFIG, "cannot open the install's folder"),
        ],
        is_configured: true,
        files: &[PID_FILE, SUPERVISOR_LOCK, LOG_FILE, UNIT, CRONTAB],
        variables: &[
            NO_COLOR, TERM,
            variable("SSL_CERT_FILE", "file of the certificates to trust in place of this machine's, besides Mozilla's roots"),
        ],
        examples: &[
            ("Before the first start", "check"),
            ("Also through the web server, as a browser does", "check --url wss://helpdesk.example/ws/chat"),
        ],
        related: &["status", "config", "install"],
    },
    Manual {
        name: "healthcheck",
        codes: &[code(codes::OK, "healthy"), code(codes::FAILED, "unhealthy, or no answer in time"), USAGE],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[("Within two seconds", "healthcheck --timeout 2")],
        related: &["status"],
    },
    Manual {
        name: "demo",
        codes: &[
            code(codes::OK, "stopped"), code(codes::FAILED, "no port free, or a demo with this data runs already"), USAGE,
            code(codes::UNAVAILABLE, "the database cannot be used"), code(codes::SOFTWARE, "fault of the service"),
            code(codes::CANNOT_CREATE, "cannot write to the folder"), CONFIG,
        ],
        is_configured: true,
        files: &[
            file("DIR", ".env", "secret of the demo and place of its database, made at the first start; because of it, the \
                                 other subcommands work on the demo with `--root DIR`"),
            file("DIR", "chat.sqlite", "database of the demo"),
            file("DIR", "demo.lock", "keeps a second demo off the folder"),
            file("DIR/logs", paths::LOG_FILE, "log of the service"),
        ],
        variables: &[],
        examples: &[("In a folder of its own", "demo --data /tmp/chat-demo")],
        related: &["serve", "chat"],
    },
    Manual {
        name: "chat",
        codes: &[
            DONE, code(codes::FAILED, "the service refuses, or cannot write to standard output"), USAGE,
            code(codes::UNAVAILABLE, "no service or no database"), STORAGE, CONFIG,
        ],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[
            ("Follow a channel", "chat tail --agent 7 --channel 1"),
            ("Say something", "chat send --agent 7 --channel 1 'Back at 14:00'"),
            ("Send the output of a command", "chat send --agent 7 --thread 3 - <report.txt"),
        ],
        related: &["token", "connections"],
    },
    Manual {
        name: "token",
        codes: &[
            DONE, code(codes::FAILED, "no such active agent; the token is written all the same"), USAGE, STORAGE, CONFIG,
        ],
        is_configured: true,
        files: &[],
        variables: &[],
        examples: &[("For a minute", "token --agent 7 --ttl 60")],
        related: &["chat", "check"],
    },
];
