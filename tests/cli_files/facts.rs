//! What only the man pages and the tables of docs/operations.md say: files, variables of the environment, related pages,
//! and what to do about an exit code of `serve`.

use andrea_chat_websocket::cli::manual::{self, MANUALS};

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

/// A path, and what it is for.
pub type File = (&'static str, &'static str);
/// A variable of the environment, and what it changes.
pub type Variable = (&'static str, &'static str);

/// What a page says besides the help.
pub struct Facts {
    pub name: &'static str,
    /// Whether it reads `.env` and the variables in it.
    pub is_configured: bool,
    /// Files that it reads or writes, except `.env`.
    pub files: &'static [File],
    /// Variables that count only in the environment, not in `.env`.
    pub variables: &'static [Variable],
    /// Subcommands whose pages a reader may want next.
    pub related: &'static [&'static str],
}

/// Those of a subcommand that reads `.env` and no other file.
const PLAIN: Facts = Facts {
    name: "",
    is_configured: true,
    files: &[],
    variables: &[],
    related: &[],
};

/// The configuration, read by every subcommand that is configured.
pub const ENV_FILE: File = (
    "ROOT/.env",
    "configuration of the helpdesk and of this service",
);
const PID_FILE: File = (
    "STORAGE_PATH/runtime/chat-websocket.pid",
    "process id of the service, which keeps the file locked while it runs",
);
const INSPECTION_SOCKET: File = (
    "STORAGE_PATH/runtime/chat-websocket.sock",
    "Unix socket on which the service answers `connections`",
);
const SUPERVISOR_LOCK: File = (
    "STORAGE_PATH/runtime/chat-supervisor.lock",
    "lock of the supervisor; its time is that of the last pass",
);
const LOG_FILE: File = (
    "STORAGE_PATH/logs/chat-websocket.log",
    "log of the service; reopened after logrotate has moved or truncated it",
);
const SUPERVISOR_LOG: File = (
    "STORAGE_PATH/logs/chat-supervisor.log",
    "output of the supervisor, where the crontab line of `install cron` sends it",
);
const UNIT: File = (
    "/etc/systemd/system/andrea-chat-websocket.service",
    "unit of the service; a second install gets `andrea-chat-websocket@NAME.service`",
);
const SOCKET_UNIT: File = (
    "/etc/systemd/system/andrea-chat-websocket.socket",
    "socket unit, with `install systemd --socket`",
);
const DROP_IN: File = (
    "/etc/systemd/system/andrea-chat-websocket.service.d/install.conf",
    "drop-in, where the Debian package has the unit",
);
const CRONTAB: File = (
    "/etc/cron.d/andrea-chat-websocket",
    "crontab line of the supervisor",
);
const KEPT_UNIT: File = (
    "/etc/systemd/system/*.before-install",
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

const NO_COLOR: Variable = (
    "NO_COLOR",
    "if set and not empty, `--color auto` does not colour",
);
const TERM: Variable = ("TERM", "if unset or `dumb`, `--color auto` does not colour");
const PATH: Variable = ("PATH", "where `systemctl` is found");
const SSL_CERT_FILE: Variable = (
    "SSL_CERT_FILE",
    "file of the certificates to trust in place of this machine's, besides Mozilla's roots",
);

/// Variables by which a service manager or `serve` itself controls the process.
const SERVICE_MANAGER: [Variable; 5] = [
    (
        "NOTIFY_SOCKET",
        "where the service tells systemd that it is ready, and its status",
    ),
    (
        "WATCHDOG_USEC",
        "interval of the watchdog, with `WATCHDOG_PID`; the service then reports its progress",
    ),
    (
        "LISTEN_FDS",
        "with `LISTEN_PID`: the service takes the listening socket from systemd",
    ),
    (
        "JOURNAL_STREAM",
        "if standard error is that journal, the log goes there as well, with priorities",
    ),
    (
        "MALLOC_ARENA_MAX",
        "heaps of the C library; the service sets it to 1 where its address space is limited to less than 1 GiB",
    ),
];

/// What to do about each code of `serve`.
pub const REMEDIES: [&str; 7] = [
    "nothing",
    "free the address, or end that process",
    "see `--help`",
    "start it, or correct `DB_HOST`, `DB_PORT`, `DB_SOCKET`",
    "see the log, and please report it",
    "fix its permissions, or `STORAGE_PATH`",
    "correct the variable or line that the message names",
];

/// By subcommand, in the order of the groups in the help.
#[rustfmt::skip]
pub const ALL: [Facts; 17] = [
    Facts { name: "serve", files: &[PID_FILE, INSPECTION_SOCKET, LOG_FILE], variables: &SERVICE_MANAGER,
        related: &["supervise", "install", "status", "config"], ..PLAIN },
    Facts { name: "supervise", files: &[PID_FILE, SUPERVISOR_LOCK, LOG_FILE, SUPERVISOR_LOG],
        related: &["serve", "install", "status"], ..PLAIN },
    Facts { name: "install", files: &[UNIT, SOCKET_UNIT, DROP_IN, CRONTAB, KEPT_UNIT], variables: &[PATH],
        related: &["uninstall", "serve", "supervise", "check"], ..PLAIN },
    Facts { name: "uninstall", is_configured: false, files: &[UNIT, SOCKET_UNIT, DROP_IN, CRONTAB, KEPT_UNIT],
        variables: &[PATH], related: &["install"] },
    Facts { name: "status", files: &[PID_FILE, LOG_FILE], variables: &[NO_COLOR, TERM],
        related: &["healthcheck", "check", "connections"], ..PLAIN },
    Facts { name: "start", related: &["stop", "restart", "status", "supervise"], ..PLAIN },
    Facts { name: "stop", related: &["start", "restart", "status", "supervise"], ..PLAIN },
    Facts { name: "restart", related: &["start", "stop", "status", "supervise"], ..PLAIN },
    Facts { name: "connections", files: &[INSPECTION_SOCKET], related: &["status"], ..PLAIN },
    Facts { name: "settings", related: &["config", "restart"], ..PLAIN },
    Facts { name: "config", related: &["settings", "serve", "check"], ..PLAIN },
    Facts { name: "prune", related: &["settings"], ..PLAIN },
    Facts { name: "check", files: &[PID_FILE, SUPERVISOR_LOCK, LOG_FILE, UNIT, CRONTAB],
        variables: &[NO_COLOR, TERM, SSL_CERT_FILE], related: &["status", "config", "install"], ..PLAIN },
    Facts { name: "healthcheck", related: &["status"], ..PLAIN },
    Facts {
        name: "demo",
        files: &[
            ("DIR/.env", "secret of the demo and place of its database, made at the first start; because of it, the \
                          other subcommands work on the demo with `--root DIR`"),
            ("DIR/chat.sqlite", "database of the demo"),
            ("DIR/demo.lock", "keeps a second demo off the folder"),
            ("DIR/logs/chat-websocket.log", "log of the service"),
        ],
        related: &["serve", "chat"],
        ..PLAIN
    },
    Facts { name: "chat", related: &["token", "connections"], ..PLAIN },
    Facts { name: "token", related: &["chat", "check"], ..PLAIN },
];

/// Those of a subcommand.
#[track_caller]
pub fn of(name: &str) -> &'static Facts {
    ALL.iter()
        .find(|one| one.name == name)
        .expect("a subcommand")
}

/// The tables of `docs/operations.md`, each with its heading.
pub fn document() -> Vec<(&'static str, String)> {
    let files = FILES.map(|(path, about)| format!("| `{path}` | {about} |\n"));
    let serve = manual::of("serve").expect("serve").codes.iter();
    let serve = serve
        .zip(REMEDIES)
        .map(|((code, meaning), remedy)| format!("| {code} | {meaning} | {remedy} |\n"));
    let others = MANUALS.iter().filter(|manual| manual.name != "serve");
    let others = others.map(|manual| {
        let codes = manual.codes.iter();
        let codes: Vec<String> = codes
            .map(|(code, meaning)| format!("{code} {meaning}"))
            .collect();
        format!("| `{}` | {} |\n", manual.name, codes.join("; "))
    });
    let table = |head: &str, rows: String| format!("{head}\n{rows}");
    vec![
        (
            "## Files",
            table("| file | what it is |\n|---|---|", files.concat()),
        ),
        (
            "## Exit codes of `serve`",
            table(
                "| code | meaning | what to do |\n|---|---|---|",
                serve.collect(),
            ),
        ),
        (
            "## Exit codes of the other subcommands",
            table("| subcommand | exit codes |\n|---|---|", others.collect()),
        ),
    ]
}
