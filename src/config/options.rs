//! The table of all options: variable, option of `serve`, default, range, meaning. `serve --help`, `config`, the check
//! for unknown names and `docs/configuration.md` are made from it, and numbers are parsed by it.

use std::ops::RangeInclusive;

use super::env_file::FORM;

/// Which source of an option wins, in Markdown, for documents and man pages.
pub const PRECEDENCE: &str = "An option of `serve` overrides the environment, the environment overrides the `.env` file, and \
                              `.env` overrides the helpdesk's settings.";

/// Which settings take effect without a restart.
pub const RELOADED: &str = "The settings `chat_enabled`, `chat_max_message_length`, `chat_allow_external_links`, \
                            `chat_websocket_enabled` and `app_url` are read again every second, and at once on SIGHUP.";

/// What holds for all options of the helpdesk's query cache.
pub const CACHE_NOTE: &str = "Without variable and setting, the cache is off, at `127.0.0.1`, \
                              port 6379, with prefix `andrea_helpdesk` and database 1, and its files are in `cache`.";

/// An example of `.env`, for documents and man pages.
pub const EXAMPLE: &str = "\
# The helpdesk's own.
APP_URL=https://helpdesk.example
APP_TIMEZONE=Europe/Rome
JWT_SECRET=put-the-64-digits-of-openssl-rand-hex-32-here
DB_HOST=localhost
DB_DATABASE=helpdesk
DB_USERNAME=helpdesk
DB_PASSWORD='p4ss # word'

# The service's own.
CHAT_WEBSOCKET_PORT=8091
CHAT_WEBSOCKET_MAX_CONNECTIONS=400
";

/// What an option is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The helpdesk has it as well.
    Helpdesk,
    /// The service's own.
    Service,
    /// Web Push.
    Push,
    /// Overrides a setting of the helpdesk's query cache.
    Cache,
    /// No longer used; accepted and ignored, with a warning.
    Retired,
}

impl Topic {
    /// The documented topics, in their order.
    pub const SHOWN: [Topic; 4] = [Topic::Helpdesk, Topic::Service, Topic::Push, Topic::Cache];

    /// The heading over its options.
    pub fn heading(self) -> &'static str {
        match self {
            Topic::Helpdesk => "Shared with the helpdesk",
            Topic::Service => "The service's own",
            Topic::Push => "Web Push",
            Topic::Cache => "The helpdesk's query cache",
            Topic::Retired => "No longer used",
        }
    }
}

/// An option: a variable of the environment or of `.env`, and perhaps an option of `serve`.
#[derive(Debug)]
pub struct Spec {
    /// What it is about.
    pub topic: Topic,
    /// The variable.
    pub name: &'static str,
    /// The option of `serve`, with its hyphens.
    pub flag: Option<&'static str>,
    /// The unit, or the kind of value, as help shows it.
    pub unit: &'static str,
    /// Its value if it is not set; empty for none.
    pub default: &'static str,
    /// The accepted range of a number.
    pub range: Option<RangeInclusive<u64>>,
    /// Whether its value is never shown.
    pub is_secret: bool,
    /// What it means: a part of a sentence, in Markdown.
    pub meaning: &'static str,
}

impl Spec {
    /// The unit as it follows a number, after a space; empty if there is none.
    pub fn unit_word(&self) -> &'static str {
        match self.unit {
            "S" => " s",
            "MS" => " ms",
            "BYTES" => " bytes",
            _ => "",
        }
    }
}

const fn text(
    topic: Topic,
    name: &'static str,
    default: &'static str,
    meaning: &'static str,
) -> Spec {
    Spec {
        topic,
        name,
        flag: None,
        unit: "TEXT",
        default,
        range: None,
        is_secret: false,
        meaning,
    }
}

const fn secret(topic: Topic, name: &'static str, meaning: &'static str) -> Spec {
    let mut spec = text(topic, name, "", meaning);
    spec.is_secret = true;
    spec
}

/// An option of `serve`: the variable's name without `CHAT_WEBSOCKET_`, the flag, unit, default, range and meaning.
macro_rules! serve {
    ($letters:literal, $flag:literal, $unit:literal, $default:literal, $range:expr, $meaning:literal) => {
        Spec {
            topic: Topic::Service,
            name: concat!("CHAT_WEBSOCKET_", $letters),
            flag: Some(concat!("--", $flag)),
            unit: $unit,
            default: $default,
            range: $range,
            is_secret: false,
            meaning: $meaning,
        }
    };
}

/// All options, in the order of the documentation.
#[rustfmt::skip]
pub const OPTIONS: &[Spec] = &[
    secret(Topic::Helpdesk, "JWT_SECRET",
        "the helpdesk's secret, at least 32 bytes; without it the service does not start"),
    text(Topic::Helpdesk, "APP_URL", "", "address of the helpdesk; its host is an allowed `Origin`"),
    text(Topic::Helpdesk, "APP_TIMEZONE", "UTC",
        "time zone (IANA name) of log lines and of times in the settings; the program contains the zone data"),
    text(Topic::Helpdesk, "STORAGE_PATH", "storage", "folder that contains `runtime/` and `logs/`, relative to the install's folder"),
    text(Topic::Helpdesk, "DB_CONNECTION", "mysql",
        "`sqlite` means a database of its own in the file `DB_DATABASE`, created on first use; the other `DB_` variables are then \
         ignored"),
    text(Topic::Helpdesk, "DB_HOST", "localhost",
        "host of the database; `localhost` means its Unix socket: `DB_SOCKET`, then the usual places, then TCP to 127.0.0.1; it may \
         contain a port, which overrides `DB_PORT` (`db:3307`, `[::1]:3307`), or be the path of a socket"),
    Spec { range: Some(0..=65535), ..text(Topic::Helpdesk, "DB_PORT", "3306", "port of the database") },
    text(Topic::Helpdesk, "DB_SOCKET", "", "Unix socket of the database"),
    text(Topic::Helpdesk, "DB_DATABASE", "", "name of the database, as in the helpdesk"),
    text(Topic::Helpdesk, "DB_USERNAME", "", "user of the database, as in the helpdesk"),
    secret(Topic::Helpdesk, "DB_PASSWORD", "password of that user, as in the helpdesk"),
    text(Topic::Helpdesk, "DB_CHARSET", "utf8mb4",
        "only checked: the database is unusable if its server refuses it; the service itself always uses utf8mb4"),
    text(Topic::Helpdesk, "DB_COLLATION", "utf8mb4_unicode_ci", "as `DB_CHARSET`"),
    text(Topic::Helpdesk, "DB_SSL_MODE", "disabled",
        "protection of the connection to the database: `disabled`, `preferred` (encrypted if the server can), `required` (encrypted, not \
         verified), `verify-ca`, `verify-identity` (the default with `DB_SSL_CA`); has no effect on a Unix socket"),
    text(Topic::Helpdesk, "DB_SSL_CA", "", "file with the certificates of the trusted authorities; no others are trusted"),
    text(Topic::Helpdesk, "DB_SSL_CERT", "", "file with this program's own certificate, if the account requires one"),
    text(Topic::Helpdesk, "DB_SSL_KEY", "", "file with the key of `DB_SSL_CERT`"),
    text(Topic::Helpdesk, "DB_SERVER_PUBLIC_KEY", "",
        "file with a copy of the server's `public_key.pem`; an account with `caching_sha2_password` on another machine needs it \
         on a connection without TLS"),
    Spec { flag: Some("--host"), ..text(Topic::Service, "CHAT_WEBSOCKET_HOST", "127.0.0.1",
        "listen host: a name, an IPv4 address, or an IPv6 address in brackets; if unset, the setting `chat_websocket_host` counts") },
    Spec { flag: Some("--port"), ..text(Topic::Service, "CHAT_WEBSOCKET_PORT", "8090",
        "listen port; `--port 0` takes any free one, which the log names; if unset, the setting `chat_websocket_port` counts") },
    serve!("LOG_STDERR", "log-stderr", "WHEN", "auto", None,
        "whether the log also goes to standard error: `auto` (if that is a terminal or a journal), `always`, `never`"),
    serve!("TYPING_INTERVAL", "typing-interval", "MS", "1000", Some(0..=60_000),
        "minimum interval between forwarded typing events of one socket in one conversation; 0 forwards all"),
    serve!("PRESENCE_GRACE", "presence-grace", "S", "5", Some(0..=300), "delay before an agent without a socket is shown as offline"),
    serve!("ENFORCE_EXPIRY", "enforce-expiry", "0|1", "0", Some(0..=1), "1 closes a socket 30 s after its token expires"),
    serve!("RATE", "rate", "N", "20", Some(0..=1_000_000), "events a second that one socket may send; 0 for no limit"),
    serve!("BURST", "burst", "N", "60", Some(1..=1_000_000), "events that one socket may send at once"),
    serve!("AGENT_RATE", "agent-rate", "N", "60", Some(0..=3_000_000),
        "events a second that all sockets of an agent may send together; 0 for no limit; if unset, three times \
         `CHAT_WEBSOCKET_RATE`"),
    serve!("AGENT_BURST", "agent-burst", "N", "180", Some(1..=3_000_000),
        "events that all sockets of an agent may send at once; if unset, three times `CHAT_WEBSOCKET_BURST`"),
    serve!("CONTROL_RATE", "control-rate", "N", "10", Some(0..=1_000_000),
        "WebSocket pings and pongs a second that one socket may send; 0 for no limit"),
    serve!("MESSAGE_BYTES", "message-bytes", "BYTES", "0", Some(0..=16_777_216),
        "largest message; less than 1024 counts as 1024, and 0 as 65536, or as more if `chat_max_message_length` needs it"),
    serve!("MAX_CONNECTIONS", "max-connections", "N", "1024", Some(1..=1_000_000),
        "total sockets, bounded by the limits of open files and threads"),
    serve!("MAX_PER_AGENT", "max-per-agent", "N", "32", Some(1..=1_000_000), "sockets of one agent"),
    serve!("MAX_UNAUTHENTICATED", "max-unauthenticated", "N", "512", Some(1..=1_000_000),
        "sockets that have not authenticated yet; a newcomer closes the oldest silent one"),
    serve!("DB_CONNECTIONS", "db-connections", "N", "3", Some(1..=64),
        "total database connections, opened when needed and closed after 60 s without use; one works, but is slower"),
    serve!("HANDSHAKE_TIMEOUT", "handshake-timeout", "S", "10", Some(1..=300), "time limit for a complete request head"),
    serve!("AUTH_TIMEOUT", "auth-timeout", "S", "10", Some(1..=300), "time limit from the handshake to an accepted `auth`"),
    serve!("PING_INTERVAL", "ping-interval", "S", "25", Some(1..=3600), "ping a peer that has been silent for this long"),
    serve!("IDLE_TIMEOUT", "idle-timeout", "S", "60", Some(2..=7200), "drop a peer that has been silent for this long"),
    serve!("QUEUE_BYTES", "queue-bytes", "BYTES", "1048576", Some(131_072..=1_073_741_824),
        "most bytes queued for one slow reader before it is dropped"),
    serve!("QUEUE_SECONDS", "queue-seconds", "S", "30", Some(1..=3600), "longest time that bytes may be queued for one slow reader before it is dropped"),
    serve!("HEALTH_PEERS", "health-peers", "LIST", "loopback", None,
        "peers besides this machine that may read `/healthz` and `/metrics`: addresses, networks, `any`"),
    serve!("METRICS_HOSTS", "metrics-hosts", "LIST", "", None,
        "host names accepted for `/metrics`, besides `localhost`, addresses and the listen host; any other is answered 421"),
    secret(Topic::Service, "CHAT_BUS_URL", "Redis that connects several daemons on one database: `redis://HOST:6379/`"),
    Spec { range: Some(1..=60), ..text(Topic::Push, "CHAT_WEBSOCKET_PUSH_TIMEOUT", "10",
        "seconds for one push, from the look-up of the host to the end of the answer") },
    Spec { range: Some(1..=100_000), ..text(Topic::Push, "CHAT_WEBSOCKET_PUSH_QUEUE", "1000", "notices that may wait to be pushed") },
    text(Topic::Push, "CHAT_WEBSOCKET_PUSH_ALLOW", "",
        "push services inside your own network, as `HOST:PORT`, separated by commas"),
    text(Topic::Push, "CHAT_WEBSOCKET_PUSH_CA", "",
        "PEM file of additional trusted certificates, relative to the install's folder"),
    text(Topic::Cache, "CACHE", "", "overrides `cache_enabled`: any value but `0`, `off`, `no`, `false`, `none` means on"),
    text(Topic::Cache, "CACHE_HOME", "", "overrides `cache_home`: the cache's folder, relative to the install's; ignored if it does not exist"),
    text(Topic::Cache, "CACHEHOME", "", "as `CACHE_HOME`, which overrides it"),
    text(Topic::Cache, "REDIS_HOST", "", "overrides `redis_host`"),
    text(Topic::Cache, "REDIS_PORT", "", "overrides `redis_port`"),
    text(Topic::Cache, "REDIS_PREFIX", "", "overrides `redis_prefix`"),
    text(Topic::Cache, "REDIS_DATABASE", "", "overrides `redis_database`"),
    Spec { flag: Some("--control-burst"), ..text(Topic::Retired, "CHAT_WEBSOCKET_CONTROL_BURST", "", "no longer used") },
    Spec { flag: Some("--handshake-bytes"), ..text(Topic::Retired, "CHAT_WEBSOCKET_HANDSHAKE_BYTES", "", "no longer used") },
    Spec { flag: Some("--fragments"), ..text(Topic::Retired, "CHAT_WEBSOCKET_FRAGMENTS", "", "no longer used") },
    Spec { flag: Some("--json-depth"), ..text(Topic::Retired, "CHAT_WEBSOCKET_JSON_DEPTH", "", "no longer used") },
];

/// The option whose variable has this name.
pub fn spec(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.name == name)
}

fn form() -> String {
    let head = "| in the file | what it means |\n|---|---|\n".to_owned();
    FORM.iter().fold(head, |table, (form, meaning)| {
        format!("{table}| `{form}` | {meaning} |\n")
    })
}

/// The tables of `docs/configuration.md`, each with its heading.
pub fn document() -> Vec<(String, String)> {
    let table = |topic: Topic| {
        let rows = OPTIONS.iter().filter(|spec| spec.topic == topic);
        let rows = rows.map(|spec| {
            let flag = spec.flag.map_or(String::new(), |flag| format!("`{flag}`"));
            let default = match spec.default {
                "" => "none".to_owned(),
                default => format!("`{default}`"),
            };
            let range = spec.range.as_ref().map_or(String::new(), |range| {
                format!("{} to {}", range.start(), range.end())
            });
            let (unit, name, meaning) = (spec.unit_word(), spec.name, spec.meaning);
            format!("| `{name}` | {flag} | {default}{unit} | {range} | {meaning} |\n")
        });
        let head =
            "| variable | option of `serve` | default | range | meaning |\n|---|---|---|---|---|\n";
        std::iter::once(head.to_owned()).chain(rows).collect()
    };
    let tables = Topic::SHOWN.map(|topic| (format!("## {}", topic.heading()), table(topic)));
    let form = ("## The form of the file".to_owned(), form());
    std::iter::once(form).chain(tables).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_within_their_range() {
        for (at, spec) in OPTIONS.iter().enumerate() {
            assert!(
                OPTIONS[..at].iter().all(|one| one.name != spec.name),
                "{}",
                spec.name
            );
            if let Some(range) = &spec.range {
                let default = spec.default.parse().expect("a number");
                assert!(range.contains(&default), "{}", spec.name);
            }
        }
    }

    #[test]
    fn the_example_can_be_used() {
        let pairs = crate::config::env_file::parse(EXAMPLE, &|_| None).expect("it can be read");
        assert_eq!(pairs.len(), EXAMPLE.matches('=').count());
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert!(pairs.iter().all(|(name, _)| spec(name).is_some()));
        let variables = crate::config::Variables::of_file(&pairs);
        let folder = std::path::Path::new("/srv/helpdesk");
        crate::config::Config::from_variables(folder, &variables).expect("it is valid");
    }
}
