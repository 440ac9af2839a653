//! Where the application's query cache is, if it is on. Variables win over rows of the settings.

use crate::platform::number::leading_integer;
use std::path::{Path, PathBuf};

use crate::config::Variables;
use crate::config::settings::Rows;
use crate::platform::redis::RedisAddress;

const DEFAULT_PREFIX: &str = "andrea_helpdesk";
const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_HOME: &str = "cache";

/// What the variables about the cache say; each wins over its row of the settings.
#[derive(Clone, Debug, Default)]
pub struct CacheOverrides {
    root: PathBuf,
    rows: Vec<(&'static str, String)>,
}

impl CacheOverrides {
    /// The cache is off, whatever the rows say.
    pub fn off() -> Self {
        CacheOverrides {
            root: PathBuf::new(),
            rows: vec![("cache_enabled", "0".to_owned())],
        }
    }

    /// From the variables of an install at `root`.
    pub fn from_variables(root: &Path, variables: &Variables) -> Self {
        let enabled = variables
            .get("CACHE")
            .map(|word| u8::from(is_yes(&word)).to_string());
        let home = variables.get("CACHE_HOME");
        let rows = [
            ("cache_enabled", enabled),
            ("cache_home", home.or_else(|| variables.get("CACHEHOME"))),
            ("redis_host", variables.get("REDIS_HOST")),
            // A container link sets it to a URL (tcp://172.17.0.3:6379), which is not a port: the row counts then.
            (
                "redis_port",
                variables
                    .get("REDIS_PORT")
                    .filter(|port| self::port(leading_integer(port)).is_some()),
            ),
            ("redis_prefix", variables.get("REDIS_PREFIX")),
            ("redis_database", variables.get("REDIS_DATABASE")),
        ];
        let rows = rows
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)));
        CacheOverrides {
            root: root.to_owned(),
            rows: rows.collect(),
        }
    }
}

fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}

/// Where the cache is, if it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheTargets {
    /// The folder of the file cache.
    pub home: PathBuf,
    /// Where Redis is.
    pub redis: RedisAddress,
    /// The Redis key of the cache's version, which an invalidation increments.
    pub key: String,
}

impl CacheTargets {
    /// The targets; `None` if the cache is off.
    pub(crate) fn of(overrides: &CacheOverrides, rows: &Rows) -> Option<Self> {
        let rows = rows.with(&overrides.rows);
        if !rows.boolean("cache_enabled", false) {
            return None;
        }
        let text = |key: &str, default: &str| match rows.text(key, default).trim() {
            "" => default.to_owned(),
            value => value.to_owned(),
        };
        let host = text("redis_host", DEFAULT_HOST);
        let wanted = rows.integer("redis_port", i64::from(DEFAULT_PORT));
        Some(CacheTargets {
            home: overrides.root.join(text("cache_home", DEFAULT_HOME)),
            redis: RedisAddress {
                host: match host.contains(':') && !host.starts_with('[') {
                    true => format!("[{host}]"),
                    false => host,
                },
                port: port(wanted).unwrap_or(DEFAULT_PORT),
                database: rows.integer("redis_database", 1).max(0),
                ..RedisAddress::default()
            },
            key: format!(
                "{}:version",
                clean_prefix(&text("redis_prefix", DEFAULT_PREFIX))
            ),
        })
    }
}

/// Every word but a no means yes: a needless invalidation costs a query, a missing one leaves stale data on a page.
fn is_yes(word: &str) -> bool {
    let word = word.trim().to_ascii_lowercase();
    !matches!(
        word.as_str(),
        "" | "0" | "false" | "off" | "no" | "none" | "null"
    )
}

/// Cleans a prefix as the application does.
fn clean_prefix(prefix: &str) -> String {
    let clean: String = prefix
        .chars()
        .map(|c| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | ':' | '_' | '-' => c,
            _ => '_',
        })
        .collect();
    match clean.trim_matches([':', '_', '-']) {
        "" => DEFAULT_PREFIX.to_owned(),
        clean => clean.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(&str, &str)]) -> Rows {
        let pairs = pairs.iter();
        Rows::new(pairs.map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))))
    }

    fn redis(host: &str, port: u16, database: i64) -> RedisAddress {
        RedisAddress {
            host: host.to_owned(),
            port,
            database,
            ..RedisAddress::default()
        }
    }

    fn overrides(variables: &[(&str, &str)]) -> CacheOverrides {
        CacheOverrides::from_variables(Path::new("/srv/helpdesk"), &Variables::of_file(variables))
    }

    #[test]
    fn a_prefix_is_cleaned_as_the_application_cleans_it() {
        for (prefix, clean) in [
            ("andrea_helpdesk", "andrea_helpdesk"),
            ("my shop: 1", "my_shop:_1"),
            ("_:-a:b-c_:-", "a:b-c"),
            ("été", "t"),
            ("a.b/c", "a_b_c"),
            ("::", "andrea_helpdesk"),
        ] {
            assert_eq!(clean_prefix(prefix), clean, "{prefix:?}");
        }
    }

    #[test]
    fn without_any_word_the_cache_is_off_and_with_one_its_places_are_the_usual_ones() {
        assert_eq!(CacheTargets::of(&overrides(&[]), &Rows::default()), None);
        assert_eq!(
            CacheTargets::of(&overrides(&[]), &rows(&[("cache_enabled", "0")])),
            None
        );
        let places =
            CacheTargets::of(&overrides(&[]), &rows(&[("cache_enabled", "1")])).expect("on");
        let usual = CacheTargets {
            home: PathBuf::from("/srv/helpdesk/cache"),
            redis: redis("127.0.0.1", 6379, 1),
            key: "andrea_helpdesk:version".to_owned(),
        };
        assert_eq!(places, usual);
        let empty = rows(&[
            ("cache_enabled", "1"),
            ("cache_home", ""),
            ("redis_host", " "),
            ("redis_port", "0"),
            ("redis_prefix", ""),
            ("redis_database", "1"),
        ]);
        assert_eq!(CacheTargets::of(&overrides(&[]), &empty), Some(usual));
    }

    #[test]
    fn variables_win_over_rows() {
        let rows = rows(&[
            ("cache_enabled", "0"),
            ("cache_home", "/a"),
            ("redis_host", "a"),
            ("redis_port", "1"),
            ("redis_prefix", "a"),
            ("redis_database", "7"),
        ]);
        let all = overrides(&[
            ("CACHE", "true"),
            ("CACHE_HOME", "b"),
            ("REDIS_HOST", "[::1]"),
            ("REDIS_PORT", "2"),
            ("REDIS_PREFIX", "b b"),
            ("REDIS_DATABASE", "3"),
        ]);
        assert_eq!(
            CacheTargets::of(&all, &rows),
            Some(CacheTargets {
                home: PathBuf::from("/srv/helpdesk/b"),
                redis: redis("[::1]", 2, 3),
                key: "b_b:version".to_owned(),
            })
        );
        let some = overrides(&[("CACHE", "1"), ("REDIS_PORT", "tcp://172.17.0.3:6379")]);
        let places = CacheTargets::of(&some, &rows).expect("on");
        assert_eq!((places.redis.port, places.redis.database), (1, 7));
        assert_eq!(places.home, Path::new("/a"));
        for (word, is_on) in [
            ("no", false),
            ("Off", false),
            ("0", false),
            ("on", true),
            ("redis", true),
        ] {
            let one = overrides(&[("CACHE", word)]);
            assert_eq!(CacheTargets::of(&one, &rows).is_some(), is_on, "{word}");
        }
    }
}
