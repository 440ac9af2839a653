//! What the service is told before it starts: command line over environment over `.env` over the rows of
//! `settings`, validated whole before anything acts (contract: operations.md, "Where it runs"). Every error
//! names the file or the variable, the reason and the remedy, and never a value that may be a secret.

mod address;

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use address::{
    DEFAULT_HOST, DEFAULT_PORT, host_variable, is_listen_host, listen_address, port_variable,
};

use crate::app_cache;
use crate::auth::MIN_SECRET_BYTES;
use crate::clock::AppClock;
use crate::dotenv;
use crate::limits::Limits;
use crate::push;

/// A configuration that cannot be used; ends the start with [`crate::exit_code::CONFIG`].
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The variables that count: the environment's, then those of `.env`, then those given on the command line on
/// top of both.
#[derive(Default)]
pub struct Variables {
    file: HashMap<String, String>,
    options: HashMap<&'static str, (&'static str, String)>,
    environment: Option<fn(&str) -> Option<String>>,
    source: String,
}

impl Variables {
    /// Reads `ROOT/.env`, if there is one, under the process's environment.
    ///
    /// # Errors
    /// The file cannot be read, or a line of it cannot be understood.
    pub fn load(root: &Path) -> Result<Self, ConfigError> {
        let path = root.join(".env");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(ConfigError(format!(
                    "cannot read {}: {error}; make it readable for the user the service runs as",
                    path.display()
                )));
            }
        };
        let rows = dotenv::parse(&text, &process_variable).map_err(|error| {
            ConfigError(format!("{}, {error}; correct that line", path.display()))
        })?;
        Ok(Variables {
            file: rows.into_iter().collect(),
            options: HashMap::new(),
            environment: Some(process_variable),
            source: path.display().to_string(),
        })
    }

    /// Puts the value of the command-line option `flag` above all else.
    pub fn set_option(&mut self, name: &'static str, flag: &'static str, value: Option<String>) {
        if let Some(value) = value {
            self.options.insert(name, (flag, value));
        }
    }

    /// The value of a variable; an empty one counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    fn raw(&self, name: &str) -> Option<String> {
        self.options
            .get(name)
            .map(|(_, value)| value.clone())
            .or_else(|| self.environment.and_then(|lookup| lookup(name)))
            .or_else(|| self.file.get(name).cloned())
    }

    /// Where the value of a variable came from, for messages.
    pub fn origin(&self, name: &str) -> String {
        if let Some((flag, _)) = self.options.get(name) {
            format!("{flag} ({name})")
        } else if self.environment.and_then(|lookup| lookup(name)).is_some() {
            format!("the environment variable {name}")
        } else if self.file.contains_key(name) {
            format!("{name} in {}", self.source)
        } else {
            format!(
                "{name} (set neither in the environment nor in {})",
                self.source
            )
        }
    }

    /// A whole number of a variable within `range`.
    ///
    /// # Errors
    /// The value is no such number.
    pub fn number(
        &self,
        name: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        match self.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| range.contains(number))
                .ok_or_else(|| {
                    ConfigError(format!(
                        "{} must be a whole number from {} to {}; correct it or leave it out for {default}",
                        self.origin(name),
                        range.start(),
                        range.end()
                    ))
                }),
        }
    }
}

fn process_variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Where the database is and who asks it.
#[derive(Clone)]
pub struct DatabaseConfig {
    /// `DB_HOST`; `localhost` means the Unix socket.
    pub host: String,
    /// `DB_PORT`.
    pub port: u16,
    /// `DB_SOCKET`, looked at first where the host is `localhost`.
    pub socket: Option<String>,
    /// `DB_DATABASE`.
    pub name: String,
    /// `DB_USERNAME`.
    pub user: String,
    /// `DB_PASSWORD`.
    pub password: String,
    /// `DB_CHARSET`, letters, digits and `_`.
    pub charset: String,
    /// `DB_COLLATION`, letters, digits and `_`.
    pub collation: String,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.name)
    }
}

/// Which engine the database is of.
#[derive(Clone)]
pub enum Database {
    /// The helpdesk's own.
    Mysql(DatabaseConfig),
    /// A file of ours.
    #[cfg(feature = "embedded")]
    Sqlite(PathBuf),
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::Mysql(config) => config.fmt(f),
            #[cfg(feature = "embedded")]
            Database::Sqlite(path) => path.fmt(f),
        }
    }
}

/// Everything that is fixed for the life of the process.
#[derive(Clone)]
pub struct Config {
    /// Signs and verifies tokens.
    pub jwt_secret: String,
    /// `APP_URL`, perhaps empty.
    pub app_url: String,
    /// Clock of `APP_TIMEZONE`.
    pub clock: AppClock,
    /// Parent of `runtime/` and `logs/`.
    pub storage: PathBuf,
    /// Host from option or environment, valid.
    pub host: Option<String>,
    /// Port from option or environment; 0 from the option alone: any free one.
    pub port: Option<u16>,
    /// The database.
    pub database: Database,
    /// `CHAT_BUS_URL`: Redis between several daemons on one database; may hold a password.
    pub bus_url: Option<String>,
    /// Limits and intervals.
    pub limits: Limits,
    /// Web Push.
    pub push: push::Options,
    /// The application's query cache.
    pub cache: app_cache::Overrides,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("storage", &self.storage)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// From the variables of an install at `root`.
    ///
    /// # Errors
    /// A variable is missing or wrong; the first one found is named.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, ConfigError> {
        let text = |name: &str, default: &str| variables.get(name).unwrap_or(default.to_owned());
        Ok(Config {
            jwt_secret: jwt_secret(variables)?,
            app_url: text("APP_URL", ""),
            clock: clock(variables)?,
            storage: root.join(text("STORAGE_PATH", "storage")),
            host: host_variable(variables)?,
            port: port_variable(variables)?,
            database: database(root, variables)?,
            bus_url: variables.get("CHAT_BUS_URL"),
            limits: Limits::from_variables(variables)?,
            push: push::Options::from_variables(root, variables)?,
            cache: app_cache::Overrides::from_variables(root, variables),
        })
    }
}

/// `JWT_SECRET`.
///
/// # Errors
/// It is missing or too short.
pub fn jwt_secret(variables: &Variables) -> Result<String, ConfigError> {
    let secret = variables.get("JWT_SECRET").ok_or_else(|| {
        ConfigError(format!(
            "JWT_SECRET is not set; put the helpdesk's secret into {} or the environment, without it no agent can be \
             recognised",
            variables.source
        ))
    })?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err(ConfigError(format!(
            "{} has {} bytes, at least {MIN_SECRET_BYTES} are needed; make a longer one with: openssl rand -hex 32 \
             (the helpdesk must use the same)",
            variables.origin("JWT_SECRET"),
            secret.len()
        )));
    }
    Ok(secret)
}

/// The clock of `APP_TIMEZONE`.
///
/// # Errors
/// There is no such zone.
pub fn clock(variables: &Variables) -> Result<AppClock, ConfigError> {
    const NAME: &str = "APP_TIMEZONE";
    let zone = variables.get(NAME).unwrap_or("UTC".to_owned());
    AppClock::of_zone(&zone).ok_or_else(|| {
        ConfigError(format!(
            "{} is {zone:?}, which is no IANA time zone; use a name such as Europe/Rome or UTC",
            variables.origin(NAME)
        ))
    })
}

/// The database of `DB_…`.
///
/// # Errors
/// A variable is missing or wrong.
pub fn database(root: &Path, variables: &Variables) -> Result<Database, ConfigError> {
    const NAME: &str = "DB_CONNECTION";
    // Any other word is the application's own business: the service knows the helpdesk's database and its own.
    match variables.get(NAME) {
        Some(engine) if engine.eq_ignore_ascii_case("sqlite") => sqlite(root, variables, NAME),
        _ => mysql(variables).map(Database::Mysql),
    }
}

#[cfg(feature = "embedded")]
fn sqlite(root: &Path, variables: &Variables, name: &str) -> Result<Database, ConfigError> {
    let path = variables.get("DB_DATABASE").ok_or_else(|| {
        ConfigError(format!(
            "DB_DATABASE is not set; with {name}=sqlite it is the path of the database's file, put it into {} or the \
             environment",
            variables.source
        ))
    })?;
    Ok(Database::Sqlite(root.join(path)))
}

#[cfg(not(feature = "embedded"))]
fn sqlite(_: &Path, variables: &Variables, name: &str) -> Result<Database, ConfigError> {
    Err(ConfigError(format!(
        "{} is sqlite, which this program was built without; build it with the feature embedded, or leave {name} out",
        variables.origin(name)
    )))
}

fn mysql(variables: &Variables) -> Result<DatabaseConfig, ConfigError> {
    let word = |name: &str, default: &str| {
        variables
            .get(name)
            .filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
            .unwrap_or(default.to_owned())
    };
    let required = |name: &str| {
        variables.get(name).ok_or_else(|| {
            ConfigError(format!(
                "{name} is not set; put the helpdesk's database settings (DB_HOST, DB_DATABASE, DB_USERNAME, DB_PASSWORD) \
                 into {} or the environment, or name the install's folder with --root",
                variables.source
            ))
        })
    };
    Ok(DatabaseConfig {
        host: variables.get("DB_HOST").unwrap_or("localhost".to_owned()),
        port: variables.number("DB_PORT", 3306, 1..=65535)? as u16,
        socket: variables.get("DB_SOCKET"),
        name: required("DB_DATABASE")?,
        user: required("DB_USERNAME")?,
        password: variables.raw("DB_PASSWORD").unwrap_or_default(),
        charset: word("DB_CHARSET", "utf8mb4"),
        collation: word("DB_COLLATION", "utf8mb4_unicode_ci"),
    })
}

/// Seconds of a variable as a duration.
///
/// # Errors
/// As [`Variables::number`].
pub fn seconds(
    variables: &Variables,
    name: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    variables
        .number(name, default, range)
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Rows;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        Variables {
            file: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            source: ".env".to_owned(),
            ..Variables::default()
        }
    }

    const COMPLETE: [(&str, &str); 4] = [
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("DB_DATABASE", "helpdesk"),
        ("DB_USERNAME", "helpdesk"),
        ("DB_PASSWORD", ""),
    ];

    fn with(extra: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut pairs = COMPLETE.to_vec();
        pairs.extend_from_slice(extra);
        Config::from_variables(Path::new("/srv/helpdesk"), &variables(&pairs))
    }

    #[test]
    fn what_is_not_named_has_its_default() {
        let config = with(&[]).expect("complete");
        assert_eq!(config.storage, Path::new("/srv/helpdesk/storage"));
        match config.database {
            Database::Mysql(database) => {
                assert_eq!(database.host, "localhost");
                assert_eq!(database.collation, "utf8mb4_unicode_ci");
            }
            #[cfg(feature = "embedded")]
            other => panic!("{other:?}"),
        }
        assert_eq!((config.host, config.port), (None, None));
    }

    #[test]
    #[cfg(feature = "embedded")]
    fn a_file_needs_its_path_and_nobody_to_log_in() {
        let of = |pairs: &[(&str, &str)]| {
            let mut all = vec![COMPLETE[0], ("DB_CONNECTION", "SQLite")];
            all.extend_from_slice(pairs);
            Config::from_variables(Path::new("/srv/helpdesk"), &variables(&all))
        };
        for (name, path) in [
            ("chat.sqlite", "/srv/helpdesk/chat.sqlite"),
            ("/var/lib/chat.sqlite", "/var/lib/chat.sqlite"),
        ] {
            match of(&[("DB_DATABASE", name)]).expect(name).database {
                Database::Sqlite(found) => assert_eq!(found, Path::new(path)),
                other => panic!("{other:?}"),
            }
        }
        let error = of(&[]).expect_err("no path").to_string();
        assert!(error.contains("DB_DATABASE is not set"), "{error}");
    }

    #[test]
    #[cfg(not(feature = "embedded"))]
    fn a_file_is_refused_where_it_cannot_be_opened() {
        let error = with(&[("DB_CONNECTION", "sqlite")]).expect_err("no engine");
        assert!(error.to_string().contains("DB_CONNECTION in .env"));
    }

    #[test]
    fn any_other_connection_is_the_helpdesks() {
        for engine in ["mysql", "mariadb", ""] {
            let config = with(&[("DB_CONNECTION", engine)]).expect(engine);
            assert!(matches!(config.database, Database::Mysql(_)), "{engine}");
        }
    }

    #[test]
    fn an_error_names_the_variable_and_never_its_secret() {
        let error = Config::from_variables(
            Path::new("/"),
            &variables(&[("JWT_SECRET", "short-secret")]),
        )
        .expect_err("short")
        .to_string();
        assert!(
            error.contains("JWT_SECRET in .env has 12 bytes") && !error.contains("short-secret")
        );
        for (name, value) in [
            ("CHAT_WEBSOCKET_PORT", "abc"),
            ("CHAT_WEBSOCKET_PORT", "65536"),
            ("CHAT_WEBSOCKET_PORT", "-1"),
            ("CHAT_WEBSOCKET_HOST", "::1"),
            ("CHAT_WEBSOCKET_HOST", " 127.0.0.1"),
            ("CHAT_WEBSOCKET_HOST", "127.0.0.1:9"),
            ("APP_TIMEZONE", "Nowhere/Land"),
            ("DB_PORT", "x"),
            ("CHAT_WEBSOCKET_RATE", "many"),
        ] {
            let error = with(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn empty_and_zero_listen_variables_leave_it_to_the_settings() {
        for (name, value) in [
            ("CHAT_WEBSOCKET_HOST", ""),
            ("CHAT_WEBSOCKET_HOST", "0"),
            ("CHAT_WEBSOCKET_PORT", ""),
            ("CHAT_WEBSOCKET_PORT", "0"),
        ] {
            let config = with(&[(name, value)]).expect(value);
            assert_eq!((config.host, config.port), (None, None));
        }
    }

    #[test]
    fn a_port_of_the_settings_is_brought_into_its_range() {
        let config = with(&[]).expect("complete");
        let port = |value: &str| {
            let row = ("chat_websocket_port".to_owned(), Some(value.to_owned()));
            let (_, port, warnings) = listen_address(&config, &Rows::new([row]));
            (port, warnings.len())
        };
        assert_eq!(port(" 8091x"), (8091, 0));
        for (value, wanted) in [("", 1), ("abc", 1), ("-5", 1), ("0", 1), ("65536", 65535)] {
            assert_eq!(port(value), (wanted, 1), "{value}");
        }
        assert_eq!(listen_address(&config, &Rows::default()).1, DEFAULT_PORT);
    }
}
