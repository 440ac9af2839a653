//! The listen address: option before environment before `.env` before settings, each checked by the application's rules.

use std::net::{Ipv6Addr, ToSocketAddrs};

use super::{Config, Error, Variables};
use crate::config::settings::{Rows, key};

/// Address if the settings name none, or an invalid one.
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// Port if the settings have no such row.
pub const DEFAULT_PORT: u16 = 8090;
const MAX_HOST_CHARS: usize = 255;

/// `CHAT_WEBSOCKET_HOST`. As in the PHP daemon, an empty value and "0" count as unset.
///
/// # Errors
/// It is not a listen host.
pub fn host_variable(variables: &Variables) -> Result<Option<String>, Error> {
    const NAME: &str = "CHAT_WEBSOCKET_HOST";
    match variables.get(NAME).filter(|host| host != "0") {
        None => Ok(None),
        Some(host) if is_listen_host(&host) => Ok(Some(host)),
        Some(host) => Err(variables.wrong(
            NAME,
            format!(
                "is {host:?}, which is no listen host; give a host name, an IPv4 address or an IPv6 address in brackets, \
                 without scheme, port, path or blanks"
            ),
        )),
    }
}

/// `CHAT_WEBSOCKET_PORT`, 1 to 65535. 0 counts as unset, except as an option, where it means any free port.
///
/// # Errors
/// It is not a port.
pub fn port_variable(variables: &Variables) -> Result<Option<u16>, Error> {
    const NAME: &str = "CHAT_WEBSOCKET_PORT";
    let from_option = variables.is_option(NAME);
    let port = variables.get(NAME);
    let Some(port) = port.filter(|port| from_option || port != "0") else {
        return Ok(None);
    };
    match port.parse() {
        Ok(number) if from_option || number > 0 => Ok(Some(number)),
        _ => {
            let least = match from_option {
                true => "0, which takes any that is free,",
                false => "1",
            };
            let range = format!("give a number from {least} to 65535");
            Err(variables.wrong(NAME, format!("is {port:?}, which is no port; {range}")))
        }
    }
}

/// Host and port to listen on, and a warning for each setting that is invalid and was replaced.
pub fn listen_address(config: &Config, rows: &Rows) -> (String, u16, Vec<String>) {
    let mut warnings = Vec::new();
    let host = config.host.clone().unwrap_or_else(|| {
        let host = rows.text(key::HOST, DEFAULT_HOST).trim();
        if is_listen_host(host) {
            return host.to_owned();
        }
        warnings.push(format!(
            "setting chat_websocket_host is {host:?}, which is no listen host; listening on {DEFAULT_HOST} instead"
        ));
        DEFAULT_HOST.to_owned()
    });
    // Clamped as the helpdesk clamps it, so that its pages name the port that the proxy needs.
    let port = config.port.unwrap_or_else(|| {
        let wanted = rows.integer(key::PORT, i64::from(DEFAULT_PORT));
        let port = wanted.clamp(1, i64::from(u16::MAX)) as u16;
        if i64::from(port) != wanted {
            warnings.push(format!(
                "setting chat_websocket_port is {:?}, which is no port; listening on {port} instead",
                rows.text(key::PORT, "")
            ));
        }
        port
    });
    (host, port, warnings)
}

/// A warning if an address means every address of this machine.
pub fn everywhere(address: impl ToSocketAddrs) -> Option<&'static str> {
    let mut addresses = address.to_socket_addrs().ok()?;
    addresses.any(|address| address.ip().is_unspecified()).then_some(
        "this is every address of this machine: who reaches the port reaches the chat past the web server and its TLS; \
         listen on 127.0.0.1 unless the web server is another machine or container",
    )
}

/// Whether a text is a host name, an IPv4 address or an IPv6 address in brackets.
pub fn is_listen_host(host: &str) -> bool {
    if host.is_empty() || host.chars().count() > MAX_HOST_CHARS {
        return false;
    }
    if let Some(inner) = host.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    host.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_host_is_a_name_or_an_address() {
        for good in [
            "127.0.0.1",
            "localhost",
            "LOCALHOST",
            "a-b_c.d",
            "[::1]",
            "127.1",
        ] {
            assert!(is_listen_host(good), "{good}");
        }
        for bad in [
            "",
            " ",
            "::1",
            "[::1",
            "[::1]:80",
            "[zz]",
            "[127.0.0.1]",
            "http://a",
            "a/b",
            "a:1",
            "a b",
            "a\\b",
        ] {
            assert!(!is_listen_host(bad), "{bad}");
        }
        assert!(!is_listen_host(&"x".repeat(256)));
    }
}
