//! Reads `DB_HOST` in every spelling that PHP's driver takes: a name or an address, with a port that overrides
//! `DB_PORT`, `[::1]`, a prefix `p:`, and `localhost` without a port for the Unix socket.

use std::fs;
use std::net::{Ipv4Addr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;

use crate::config::DatabaseConfig;
use crate::platform::net::is_localhost;

/// Where a server's Unix socket is looked for, after `DB_SOCKET`.
const SOCKET_PATHS: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/tmp/mysql.sock",
];

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerAddress {
    /// The path of its socket.
    Unix(String),
    /// Name or address, without brackets, and port.
    Tcp(String, u16),
}

impl ServerAddress {
    /// The configured server; looks for its socket if `DB_HOST` is `localhost`.
    pub(super) fn of(config: &DatabaseConfig) -> Self {
        let paths = config.socket.iter().map(String::as_str).chain(SOCKET_PATHS);
        let is_socket =
            |path: &&str| fs::metadata(path).is_ok_and(|file| file.file_type().is_socket());
        Self::read(&config.host, config.port, || {
            paths.into_iter().find(is_socket).map(str::to_owned)
        })
    }

    /// What `text` names; calls `socket` only for `localhost`.
    fn read(text: &str, port: u16, socket: impl FnOnce() -> Option<String>) -> Self {
        let text = text.trim();
        let text = text.strip_prefix("p:").unwrap_or(text);
        if text.starts_with('/') {
            return ServerAddress::Unix(text.to_owned());
        }
        // Every MySQL client takes `localhost` for the Unix socket, and often nothing else is open.
        if text.eq_ignore_ascii_case("localhost")
            && let Some(path) = socket()
        {
            return ServerAddress::Unix(path);
        }
        let (host, within) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => match text.split_once(':') {
                // More than one colon is an IPv6 address without brackets.
                Some((host, rest)) if !rest.contains(':') => (host, Some(rest)),
                _ => (text, None),
            },
        };
        if let Some(path) = within.filter(|path| path.starts_with('/')) {
            return ServerAddress::Unix(path.to_owned());
        }
        // Read as C's `atoi` does; without digits, or with 0, the configured port applies.
        let digits = within.unwrap_or_default().trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let within = digits[..end.unwrap_or(digits.len())].parse().ok();
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // Such a name means this machine even if the system cannot resolve it.
        let host = match is_localhost(&host) {
            true => Ipv4Addr::LOCALHOST.to_string(),
            false => host,
        };
        ServerAddress::Tcp(host, within.filter(|port| *port > 0).unwrap_or(port))
    }

    /// Whether only this machine can answer there.
    pub(super) fn is_this_machine(&self) -> bool {
        match self {
            ServerAddress::Unix(_) => true,
            ServerAddress::Tcp(host, port) => (host.as_str(), *port)
                .to_socket_addrs()
                .is_ok_and(|mut all| all.all(|one| one.ip().to_canonical().is_loopback())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_host_that_php_takes_is_read_alike() {
        let tcp = |host: &str, port| ServerAddress::Tcp(host.to_owned(), port);
        for (text, wanted) in [
            ("db.example", tcp("db.example", 3306)),
            ("DB.Example.", tcp("db.example", 3306)),
            ("127.0.0.1:22306", tcp("127.0.0.1", 22306)),
            ("db:3307x", tcp("db", 3307)),
            ("db:", tcp("db", 3306)),
            ("db:0", tcp("db", 3306)),
            ("p:db:3307", tcp("db", 3307)),
            ("p:db", tcp("db", 3306)),
            ("::1", tcp("::1", 3306)),
            ("[::1]", tcp("::1", 3306)),
            ("[::1]:3307", tcp("::1", 3307)),
            ("fe80::1%eth0", tcp("fe80::1%eth0", 3306)),
            ("localhost:3307", tcp("127.0.0.1", 3307)),
            ("db.localhost", tcp("127.0.0.1", 3306)),
            (" 10.0.0.5 ", tcp("10.0.0.5", 3306)),
            ("localhost", ServerAddress::Unix("/sock".to_owned())),
            ("p:LocalHost", ServerAddress::Unix("/sock".to_owned())),
            ("/my.sock", ServerAddress::Unix("/my.sock".to_owned())),
            ("p:[::1]:3307", tcp("::1", 3307)),
            ("localhost:", tcp("127.0.0.1", 3306)),
            ("localhost:0", tcp("127.0.0.1", 3306)),
            (
                "localhost:/my.sock",
                ServerAddress::Unix("/my.sock".to_owned()),
            ),
        ] {
            let found = ServerAddress::read(text, 3306, || Some("/sock".to_owned()));
            assert_eq!(found, wanted, "{text}");
        }
        let found = ServerAddress::read("localhost", 3306, || None);
        assert_eq!(found, tcp("127.0.0.1", 3306));
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for (host, is_this) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("::1", true),
            ("10.0.0.5", false),
            ("0.0.0.0", false),
            ("", false),
        ] {
            let address = ServerAddress::Tcp(host.to_owned(), 3306);
            assert_eq!(address.is_this_machine(), is_this, "{host}");
        }
    }
}
