//! A probe of the service: parses its URL and does a handshake as a client.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Problem;
use super::response::{HandshakeResponse, judge, request};
use crate::platform::{exit_code, net};

/// Bounds the memory for a peer that never ends its head: more than any answer to these requests has.
const MAX_ANSWER: usize = 64 * 1024;

/// A parsed URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether the connection uses TLS.
    pub is_secure: bool,
    /// The host; an IPv6 address keeps its brackets.
    pub host: String,
    /// The port, or the scheme's default.
    pub port: u16,
    /// The path with its query; the chat's own if the URL has none.
    pub path: String,
}

impl Url {
    /// From `ws://`, `wss://`, `http://` or `https://`.
    ///
    /// # Errors
    /// It is not such a URL, or has a user name.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |what| Problem::new(exit_code::USAGE, what);
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            wrong(format!(
                "{text:?} is no URL; give one such as wss://HOST/ws/chat"
            ))
        })?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(wrong(format!("{scheme}:// is not ws, wss, http or https"))),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rfind(':') {
            Some(colon) if !authority[colon..].contains(']') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        let default = if is_secure { 443 } else { 80 };
        let port = port.map_or(Some(default), |port| port.parse().ok());
        match port {
            Some(port) if crate::config::is_listen_host(host) => Ok(Url {
                is_secure,
                host: host.to_owned(),
                port,
                path: match path {
                    "" | "/" => crate::http::PATH.to_owned(),
                    path if path.starts_with('?') => format!("/{path}"),
                    path => path.to_owned(),
                },
            }),
            _ if authority.contains('@') => Err(wrong(
                "leave user and password out of it; a browser's WebSocket has none".to_owned(),
            )),
            _ if !authority.is_ascii() => Err(wrong(format!(
                "write {authority} in its xn-- form, as a browser sends it"
            ))),
            _ => Err(wrong(format!(
                "{authority:?} is no host with or without a port"
            ))),
        }
    }

    /// `host`, with the port where it is not the scheme's own: what a browser sends as `Host`.
    pub fn authority(&self) -> String {
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// What a browser sends as `Origin` from a page of the same site.
    pub fn origin(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

/// Does a handshake at a listen address: the kind of server that answers, the connection, and what was read beyond the
/// response.
///
/// # Errors
/// Nothing answers.
pub(super) fn listener(
    host: &str,
    port: u16,
    timeout: Duration,
) -> io::Result<(HandshakeResponse, TcpStream, Vec<u8>)> {
    let mut stream = net::connect(host, port, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = request(&format!("{host}:{port}"), None, None);
    let (answer, _, rest) = exchange(&mut stream, &request)?;
    Ok((answer, stream, rest))
}

/// Sends the request; the kind of server that answers, its response's head, and what was read beyond that.
pub(super) fn exchange(
    stream: &mut (impl Read + Write),
    request: &str,
) -> io::Result<(HandshakeResponse, Vec<u8>, Vec<u8>)> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    loop {
        if let Some((answer, length)) = judge(&bytes) {
            let rest = bytes.split_off(length);
            return Ok((answer, bytes, rest));
        }
        read_more(stream, &mut bytes)?;
    }
}

/// Reads once and appends to `bytes`.
pub(super) fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let count = stream
        .read(&mut chunk)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                "it takes the connection and says nothing",
            ),
            _ => error,
        })?;
    if count == 0 || bytes.len() > MAX_ANSWER {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it takes the connection and ends it without an answer",
        ));
    }
    bytes.extend_from_slice(&chunk[..count]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("wss://helpdesk.example/ws/chat").expect("good");
        assert_eq!((url.is_secure, url.port), (true, 443));
        assert_eq!(url.authority(), "helpdesk.example");
        assert_eq!(url.origin(), "https://helpdesk.example");
        let url = Url::parse("http://[::1]:8080/desk/ws/chat?a#b").expect("good");
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 8080));
        assert_eq!(url.path, "/desk/ws/chat?a");
        assert_eq!(url.origin(), "http://[::1]:8080");
        let bare = Url::parse("HTTPS://helpdesk.example").expect("good");
        assert_eq!(bare.path, "/ws/chat");
        for bad in [
            "helpdesk.example",
            "ftp://a",
            "ws://",
            "ws://a:b",
            "ws://a:99999",
            "ws://a b/",
            "ws://u@a/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
