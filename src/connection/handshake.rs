//! From the bytes of a request to the switch of protocols or to a refusal: RFC 6455 section 4.2, the path, the
//! Origin rule (contract: protocol.md, "Handshake"). Pure.

use std::net::SocketAddr;

use crate::limits::MAX_HEAD_BYTES;

/// The path that is served.
pub const PATH: &str = "/ws/chat";
const MAX_HEADERS: usize = 100;
/// Seconds after which a client may come back where the service is switched off.
const RETRY_AFTER_DISABLED: u32 = 60;
/// Seconds after which a client may come back where there is no room.
const RETRY_AFTER_FULL: u32 = 5;

/// What the answer depends on beside the request.
pub struct Policy<'a> {
    /// `chat_websocket_enabled`.
    pub enabled: bool,
    /// URLs whose hosts are allowed as origins, beside the request's own host.
    pub app_urls: [&'a str; 2],
    /// Who sent the request.
    pub peer: SocketAddr,
    /// Longest request head, in bytes.
    pub max_head_bytes: usize,
    /// What is served beside the chat, never under `/ws/`.
    pub site: Option<&'a dyn Site>,
}

/// A plain HTTP request, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRequest<'a> {
    /// `GET`, `POST` …, as sent.
    pub method: &'a str,
    /// Path without its query.
    pub path: &'a str,
    /// What stands behind the `?`, perhaps nothing.
    pub query: &'a str,
    /// The one `Host` header, if there is just one.
    pub host: Option<&'a str>,
    /// The first `Origin` header.
    pub origin: Option<&'a str>,
    /// The body, empty where there is none.
    pub body: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
}

/// Pages that are served on the same listener. Called on a worker thread, so it must answer quickly.
pub trait Site: Send + Sync {
    /// The complete HTTP response, `Connection: close` and `Content-Length` included; `None`: no such page.
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>>;
}

/// What the bytes read so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// Not complete yet.
    Incomplete,
    /// A request that is answered with this response and no more: refused, or a page.
    Answered(Vec<u8>),
    /// A request that is granted with this response; frames begin after so many bytes.
    Granted {
        /// The response.
        response: Vec<u8>,
        /// Length of the request head.
        length: usize,
    },
}

/// A status line with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 400.
    BadRequest(&'static str),
    /// 403.
    Origin,
    /// 404.
    NotFound,
    /// 405.
    Method,
    /// 408.
    Timeout,
    /// 426.
    UpgradeRequired,
    /// 431.
    HeadTooLarge,
    /// 503, switched off.
    Disabled,
    /// 503, no room.
    Full,
}

impl Refused {
    /// The complete HTTP response: one line of text, and the connection ends.
    pub fn response(self) -> Vec<u8> {
        let (status, extra, text) = match self {
            Refused::BadRequest(reason) => ("400 Bad Request", String::new(), reason),
            Refused::Origin => (
                "403 Forbidden",
                String::new(),
                "this Origin may not open a chat connection",
            ),
            Refused::NotFound => (
                "404 Not Found",
                String::new(),
                "the chat WebSocket is at /ws/chat",
            ),
            Refused::Method => (
                "405 Method Not Allowed",
                "Allow: GET\r\n".to_owned(),
                "only GET is allowed here",
            ),
            Refused::Timeout => (
                "408 Request Timeout",
                String::new(),
                "the request was not complete in time",
            ),
            Refused::UpgradeRequired => (
                "426 Upgrade Required",
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n".to_owned(),
                "this is a WebSocket of version 13",
            ),
            Refused::HeadTooLarge => (
                "431 Request Header Fields Too Large",
                String::new(),
                "the request head is too large",
            ),
            Refused::Disabled => (
                "503 Service Unavailable",
                format!("Retry-After: {RETRY_AFTER_DISABLED}\r\n"),
                "the chat WebSocket service is switched off",
            ),
            Refused::Full => (
                "503 Service Unavailable",
                format!("Retry-After: {RETRY_AFTER_FULL}\r\n"),
                "too many chat connections",
            ),
        };
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n{extra}\r\n{text}\n",
            text.len() + 1
        )
        .into_bytes()
    }
}

/// Looks at what was read so far.
pub fn examine(bytes: &[u8], policy: &Policy<'_>) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let refused = match request.parse(bytes) {
        Ok(httparse::Status::Partial) if bytes.len() <= policy.max_head_bytes => {
            return Head::Incomplete;
        }
        Ok(httparse::Status::Complete(length)) if length <= policy.max_head_bytes => {
            if let Some(site) = policy.site
                && !request.path.is_some_and(|path| path.starts_with("/ws/"))
            {
                return at_site(site, policy.peer, &request, &bytes[length..]);
            }
            match decide(&request, policy) {
                Ok(key) => {
                    return Head::Granted {
                        response: switching_protocols(key),
                        length,
                    };
                }
                Err(refused) => refused,
            }
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Refused::HeadTooLarge,
        Err(_) => Refused::BadRequest("this is no HTTP/1.1 request"),
    };
    Head::Answered(refused.response())
}

fn at_site(
    site: &dyn Site,
    peer: SocketAddr,
    request: &httparse::Request<'_, '_>,
    rest: &[u8],
) -> Head {
    let header = |name: &str| {
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| std::str::from_utf8(header.value).unwrap_or_default())
            .collect::<Vec<_>>()
    };
    if !header("Transfer-Encoding").is_empty() {
        return Head::Answered(Refused::BadRequest("a body needs a Content-Length").response());
    }
    let length = match header("Content-Length")[..] {
        [] => Some(0),
        [length] => length
            .parse()
            .ok()
            .filter(|length| *length <= MAX_HEAD_BYTES),
        _ => None,
    };
    let Some(length) = length else {
        return Head::Answered(Refused::BadRequest("a body of 16 KiB is the largest").response());
    };
    let Some(body) = rest.get(..length) else {
        return Head::Incomplete;
    };
    let target = request.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let answer = site.answer(&SiteRequest {
        method: request.method.unwrap_or_default(),
        path,
        query,
        host: match header("Host")[..] {
            [host] => Some(host),
            _ => None,
        },
        origin: header("Origin").first().copied(),
        body,
        peer,
    });
    Head::Answered(answer.unwrap_or_else(|| Refused::NotFound.response()))
}

fn switching_protocols(key: &[u8]) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        tungstenite::handshake::derive_accept_key(key)
    )
    .into_bytes()
}

/// The key of a request that may switch protocols.
fn decide<'h>(
    request: &httparse::Request<'_, 'h>,
    policy: &Policy<'_>,
) -> Result<&'h [u8], Refused> {
    let path = request.path.unwrap_or_default();
    if path.split_once('?').map_or(path, |(path, _)| path) != PATH {
        return Err(Refused::NotFound);
    }
    if request.method != Some("GET") {
        return Err(Refused::Method);
    }
    if request.version != Some(1) {
        return Err(Refused::BadRequest("HTTP/1.1 is required"));
    }
    let values = |name: &'static str| {
        request
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let mut hosts = values("Host");
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refused::BadRequest("exactly one Host header is required"));
    };
    // A body would be taken for frames.
    if values("Transfer-Encoding").next().is_some()
        || values("Content-Length").any(|length| length != b"0")
    {
        return Err(Refused::BadRequest("a request with a body cannot upgrade"));
    }
    if !has_token(values("Upgrade"), b"websocket") || !has_token(values("Connection"), b"upgrade") {
        return Err(Refused::UpgradeRequired);
    }
    let mut versions = values("Sec-WebSocket-Version");
    if versions.next() != Some(b"13") || versions.next().is_some() {
        return Err(Refused::UpgradeRequired);
    }
    let mut keys = values("Sec-WebSocket-Key");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(Refused::BadRequest(
            "exactly one Sec-WebSocket-Key header is required",
        ));
    };
    if !is_key(key) {
        return Err(Refused::BadRequest(
            "Sec-WebSocket-Key is not 16 bytes in base64",
        ));
    }
    let mut origins = values("Origin");
    if let Some(origin) = origins.next()
        && (origins.next().is_some() || !is_allowed(origin, host, policy))
    {
        return Err(Refused::Origin);
    }
    if !policy.enabled {
        return Err(Refused::Disabled);
    }
    Ok(key)
}

fn has_token<'v>(values: impl Iterator<Item = &'v [u8]>, token: &[u8]) -> bool {
    values
        .flat_map(|value| value.split(|b| *b == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(token))
}

fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn is_allowed(origin: &[u8], host: &[u8], policy: &Policy<'_>) -> bool {
    let Some(origin) = std::str::from_utf8(origin).ok().and_then(host_of_url) else {
        return false;
    };
    let own = std::str::from_utf8(host).ok().and_then(without_port);
    own.into_iter()
        .chain(policy.app_urls.iter().filter_map(|url| host_of_url(url)))
        .any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Host of `scheme://host[:port][/…]`, an IPv6 address with its brackets. A user name, a backslash or a blank
/// has no place in an origin and makes it none.
fn host_of_url(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    without_port(authority)
}

fn without_port(authority: &str) -> Option<&str> {
    if authority.contains(|c: char| c == '@' || c == '\\' || c.is_whitespace() || c.is_control()) {
        return None;
    }
    let (host, port) = if authority.starts_with('[') {
        let end = authority.find(']')? + 1;
        (&authority[..end], &authority[end..])
    } else {
        authority.split_at(authority.find(':').unwrap_or(authority.len()))
    };
    let port_is_number = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
    };
    (!host.is_empty() && port_is_number).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy<'static> = Policy {
        enabled: true,
        app_urls: ["https://helpdesk.example", ""],
        max_head_bytes: MAX_HEAD_BYTES,
        peer: SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9),
        site: None,
    };
    const GOOD: &str = "GET /ws/chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
                        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn status(head: &str) -> String {
        match examine(head.as_bytes(), &POLICY) {
            Head::Incomplete => "incomplete".to_owned(),
            Head::Granted { length, .. } => format!("granted {}", head.len() - length),
            Head::Answered(response) => String::from_utf8_lossy(&response[9..12]).into_owned(),
        }
    }

    #[test]
    fn a_request_in_pieces_is_granted_when_it_is_whole() {
        let whole = format!("{GOOD}\r\nframes");
        for end in 1..GOOD.len() + 2 {
            assert_eq!(status(&whole[..end]), "incomplete", "{end}");
        }
        assert_eq!(status(&whole), "granted 6");
    }

    #[test]
    fn a_head_of_16_kib_is_the_largest() {
        let padded = |bytes: usize| {
            let pad = bytes - GOOD.len() - 10;
            format!("{GOOD}X-Pad: {}\r\n\r\n", "p".repeat(pad - 1))
        };
        assert_eq!(padded(MAX_HEAD_BYTES).len(), MAX_HEAD_BYTES);
        assert_eq!(status(&padded(MAX_HEAD_BYTES)), "granted 0");
        assert_eq!(status(&padded(MAX_HEAD_BYTES + 1)), "431");
        let endless = "x".repeat(MAX_HEAD_BYTES + 1);
        assert_eq!(status(&format!("{GOOD}X: {endless}")), "431");
    }

    #[test]
    fn bodies_and_doubled_headers_are_refused() {
        for extra in [
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Host: b.example",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
            " folded",
        ] {
            assert_eq!(status(&format!("{GOOD}{extra}\r\n\r\n")), "400", "{extra}");
        }
    }

    #[test]
    fn the_origin_is_the_app_or_the_host_itself() {
        let with = |origin: &str| status(&format!("{GOOD}Origin: {origin}\r\n\r\n"));
        for allowed in ["https://HELPDESK.example:8443", "http://a.example"] {
            assert_eq!(with(allowed), "granted 0", "{allowed}");
        }
        for refused in [
            "null",
            "https://evil.example",
            "https://helpdesk.example@evil.example",
            "https://evil.example\\@helpdesk.example",
            "https://helpdesk.example.",
            "https://",
            "https://helpdesk.example https://evil.example",
        ] {
            assert_eq!(with(refused), "403", "{refused}");
        }
        let twice = format!("{GOOD}Origin: http://a.example\r\nOrigin: http://a.example\r\n\r\n");
        assert_eq!(status(&twice), "403");
    }
}
