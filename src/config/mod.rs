//! The configuration, read and validated completely before anything acts (contract: operations.md, "Where it runs").
//! The command line wins over the environment, `.env` and the rows of `settings`, in this order. Every error names the
//! file or variable, the reason and the remedy, but never a value that may be a secret.

mod address;
mod app_url;
pub(crate) mod cache;
pub mod env_file;
mod error;
pub mod limits;
pub mod options;
pub mod peers;
mod push;
pub mod resource_limits;
pub mod settings;
mod tls;
mod variables;

use std::fmt;
use std::path::{Path, PathBuf};

pub use address::{
    DEFAULT_HOST, DEFAULT_PORT, everywhere, host_variable, is_listen_host, listen_address,
    port_variable,
};
pub use app_url::{APP_URL_REMEDY, app_url_doubt, host_of_app_url};
pub use error::Error;
pub use push::PushOptions;
pub use variables::Variables;

pub use tls::{TlsConfig, TlsMode};

use crate::config::limits::Limits;
use crate::platform::clock::AppClock;
use crate::platform::log_file::LogStderr;
use crate::platform::paths::Paths;

/// Shortest secret that is accepted, in bytes: as long as a SHA-256 hash (RFC 7518 section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;

/// Where the database server is, and the account to use; empty while it is unknown.
#[derive(Clone, Default)]
pub struct DatabaseConfig {
    /// `DB_HOST`; `localhost` means the Unix socket.
    pub host: String,
    /// `DB_PORT`.
    pub port: u16,
    /// `DB_SOCKET`, tried first if the host is `localhost`.
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
    /// How the connection is protected.
    pub tls: TlsConfig,
    /// `DB_SERVER_PUBLIC_KEY`: file of the key that encrypts the password on a connection without TLS.
    pub server_key: Option<PathBuf>,
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}/{}", self.user, self.host, self.port, self.name)
    }
}

/// The database engine.
#[derive(Clone)]
pub enum Database {
    /// The helpdesk's MySQL or MariaDB server.
    Mysql(Box<DatabaseConfig>),
    /// An SQLite file that only this program uses.
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
    /// The install's folder.
    pub root: PathBuf,
    /// `JWT_SECRET`, which signs and verifies tokens.
    pub jwt_secret: String,
    /// `APP_URL`, perhaps empty.
    pub app_url: String,
    /// Clock of `APP_TIMEZONE`.
    pub clock: AppClock,
    /// Parent of `runtime/` and `logs/`.
    pub storage: PathBuf,
    /// Valid listen host from the option, the environment or `.env`.
    pub host: Option<String>,
    /// Listen port from the option, the environment or `.env`; 0, only from the option, is any free port.
    pub port: Option<u16>,
    /// The database.
    pub database: Database,
    /// `CHAT_BUS_URL`: Redis that connects several daemons on one database; may hold a password.
    pub bus_url: Option<String>,
    /// Limits and intervals.
    pub limits: Limits,
    /// When the log also goes to standard error.
    pub log_stderr: LogStderr,
    /// Web Push.
    pub push: PushOptions,
    /// The application's query cache.
    pub cache: cache::CacheOverrides,
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
    /// The files of the install's service.
    pub fn paths(&self) -> Paths {
        Paths::of(&self.root, &self.storage)
    }

    /// From the variables of an install at `root`.
    ///
    /// # Errors
    /// A variable is missing or wrong; the first one found is named.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, Error> {
        Ok(Config {
            jwt_secret: jwt_secret(variables)?,
            ..Config::without_secret(root, variables)?
        })
    }

    /// The same with an empty secret, for subcommands that neither sign nor verify tokens.
    ///
    /// # Errors
    /// A variable is missing or wrong.
    pub fn without_secret(root: &Path, variables: &Variables) -> Result<Self, Error> {
        let text = |name: &str, default: &str| variables.get(name).unwrap_or(default.to_owned());
        Ok(Config {
            root: root.to_owned(),
            jwt_secret: String::new(),
            app_url: text("APP_URL", ""),
            clock: variables.accept(clock(variables), AppClock::utc())?,
            storage: root.join(text("STORAGE_PATH", "storage")),
            host: variables.accept(host_variable(variables), None)?,
            port: variables.accept(port_variable(variables), None)?,
            database: variables
                .accept(database(root, variables), Database::Mysql(Box::default()))?,
            bus_url: variables.get("CHAT_BUS_URL"),
            limits: Limits::from_variables(variables)?,
            log_stderr: variables.accept(log_stderr(variables), LogStderr::Auto)?,
            push: PushOptions::from_variables(root, variables)?,
            cache: cache::CacheOverrides::from_variables(root, variables),
        })
    }
}

/// `JWT_SECRET`.
///
/// # Errors
/// It is missing or too short.
pub fn jwt_secret(variables: &Variables) -> Result<String, Error> {
    const NAME: &str = "JWT_SECRET";
    let secret = variables.required(NAME, |source| {
        format!(
            "put the helpdesk's secret into {source} or the environment, without it no agent can be recognised"
        )
    })?;
    if secret.len() < MIN_SECRET_BYTES {
        return Err(variables.wrong(
            NAME,
            format!(
                "has {} bytes, at least {MIN_SECRET_BYTES} are needed; make a longer one with: openssl rand -hex 32 \
                 (the helpdesk must use the same)",
                secret.len()
            ),
        ));
    }
    Ok(secret)
}

fn log_stderr(variables: &Variables) -> Result<LogStderr, Error> {
    const NAME: &str = "CHAT_WEBSOCKET_LOG_STDERR";
    match variables.get(NAME).as_deref() {
        None | Some("auto") => Ok(LogStderr::Auto),
        Some("always") => Ok(LogStderr::Always),
        Some("never") => Ok(LogStderr::Never),
        Some(other) => {
            Err(variables.wrong(NAME, format!("is {other:?}; give auto, always or never")))
        }
    }
}

/// The clock of `APP_TIMEZONE`.
///
/// # Errors
/// There is no such zone.
pub fn clock(variables: &Variables) -> Result<AppClock, Error> {
    const NAME: &str = "APP_TIMEZONE";
    let zone = variables.get(NAME).unwrap_or("UTC".to_owned());
    AppClock::of_zone(&zone).ok_or_else(|| {
        variables.wrong(
            NAME,
            format!(
                "is {zone:?}, which is no IANA time zone; use a name such as Europe/Rome or UTC"
            ),
        )
    })
}

/// The database of `DB_…`.
///
/// # Errors
/// A variable is missing or wrong.
pub fn database(root: &Path, variables: &Variables) -> Result<Database, Error> {
    const NAME: &str = "DB_CONNECTION";
    // Any other word is for the application: the helpdesk's database is always MySQL or MariaDB.
    match variables.get(NAME) {
        Some(engine) if engine.eq_ignore_ascii_case("sqlite") => sqlite(root, variables, NAME),
        _ => mysql(root, variables).map(|config| Database::Mysql(Box::new(config))),
    }
}

#[cfg(feature = "embedded")]
fn sqlite(root: &Path, variables: &Variables, name: &str) -> Result<Database, Error> {
    let path = variables.required("DB_DATABASE", |source| {
        format!(
            "with {name}=sqlite it is the path of the database's file, put it into {source} or the environment"
        )
    })?;
    Ok(Database::Sqlite(root.join(path)))
}

#[cfg(not(feature = "embedded"))]
fn sqlite(_: &Path, variables: &Variables, name: &str) -> Result<Database, Error> {
    Err(variables.wrong(
        name,
        format!(
            "is sqlite, which this program was built without; build it with the feature embedded, or leave {name} out"
        ),
    ))
}

fn mysql(root: &Path, variables: &Variables) -> Result<DatabaseConfig, Error> {
    let word = |name: &str, default: &str| {
        variables
            .get(name)
            .filter(|word| word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
            .unwrap_or(default.to_owned())
    };
    let required = |name: &str| {
        variables.required(name, |source| {
            format!(
                "put the helpdesk's database settings (DB_HOST, DB_DATABASE, DB_USERNAME, DB_PASSWORD) into {source} or \
                 the environment, or name the install's folder with --root"
            )
        })
    };
    Ok(DatabaseConfig {
        host: variables.get("DB_HOST").unwrap_or("localhost".to_owned()),
        port: match variables.number("DB_PORT")? {
            0 => 3306,
            port => port as u16,
        },
        socket: variables.get("DB_SOCKET"),
        name: required("DB_DATABASE")?,
        user: required("DB_USERNAME")?,
        password: variables.get("DB_PASSWORD").unwrap_or_default(),
        charset: word("DB_CHARSET", "utf8mb4"),
        collation: word("DB_COLLATION", "utf8mb4_unicode_ci"),
        tls: TlsConfig::from_variables(root, variables)?,
        server_key: tls::readable(root, variables, "DB_SERVER_PUBLIC_KEY")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Rows;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        Variables::of_file(pairs)
    }

    const COMPLETE: [(&str, &str); 4] = [
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("DB_DATABASE", "helpdesk"),
        ("DB_USERNAME", "helpdesk"),
        ("DB_PASSWORD", ""),
    ];

    fn with(extra: &[(&str, &str)]) -> Result<Config, Error> {
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
    fn an_sqlite_file_needs_a_path_and_no_login() {
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
