//! Parses and checks a request, and answers with the switch of protocols or a refusal: RFC 6455 section 4.2, the path, the
//! Origin rule (contract: protocol.md, "Handshake"). Pure.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::config::host_of_app_url;
use crate::config::limits::MAX_HEAD_BYTES;
use crate::http::{self, MAX_HEADERS, PATH, Refused, Site, Target, refusal, without_port};

/// What the answer depends on besides the request.
pub struct Policy<'a> {
    /// `chat_websocket_enabled`.
    pub is_enabled: bool,
    /// URLs whose hosts are allowed as origins, besides the request's own host.
    pub app_urls: [&'a str; 2],
    /// Who sent the request.
    pub peer: SocketAddr,
    /// The pages beside the chat, never under `/ws/`.
    pub site: Option<&'a dyn Site>,
}

/// What the bytes read so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// Not complete yet.
    Incomplete,
    /// A request that is answered with a page or a refusal.
    Answered {
        /// The response.
        response: Vec<u8>,
        /// For the log, if a handshake was refused: the status, the reason and the remedy. `None` for a page.
        refusal: Option<(&'static str, String)>,
    },
    /// A request that is granted with this response. Frames begin behind its head.
    Granted {
        /// The response.
        response: Vec<u8>,
        /// Length of the request head.
        length: usize,
    },
}

impl Head {
    /// The answer to a request that is no handshake.
    pub(super) fn page(response: Vec<u8>) -> Self {
        Head::Answered {
            response,
            refusal: None,
        }
    }
}

/// Parses and checks what was read so far.
pub fn examine(bytes: &[u8], policy: &Policy<'_>) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let is_complete = matches!(parsed, Ok(httparse::Status::Complete(_)));
    let outcome = match parsed {
        Ok(httparse::Status::Partial) if bytes.len() <= MAX_HEAD_BYTES => Ok(Head::Incomplete),
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => {
            answer(&request, policy, bytes, length)
        }
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(Refused::HeadTooLarge),
        Err(_) => Err(Refused::BadRequest("this is no HTTP/1.1 request")),
    };
    let mut head = outcome.unwrap_or_else(|refused| {
        let why = refusal::explain(refused, &request, is_complete, bytes, &policy.app_urls);
        Head::Answered {
            response: refused.response(),
            refusal: why.map(|why| (refused.status(), why)),
        }
    });
    if let Head::Answered { response, .. } = &mut head
        && request.method == Some("HEAD")
    {
        http::drop_body(response);
    }
    head
}

/// Answers a request whose head is complete and `length` bytes long.
fn answer(
    request: &httparse::Request<'_, '_>,
    policy: &Policy<'_>,
    bytes: &[u8],
    length: usize,
) -> Result<Head, Refused> {
    let target = Target::of(request.path.unwrap_or_default());
    if let Some(site) = policy.site
        && !target.path.starts_with("/ws/")
    {
        let page = http::page(site, policy.peer, request, &target, &bytes[length..])?;
        return Ok(page.map_or(Head::Incomplete, Head::page));
    }
    let response = switching_protocols(decide(request, &target, policy)?);
    Ok(Head::Granted { response, length })
}

fn switching_protocols(key: &[u8]) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    )
    .into_bytes()
}

/// The answer to a request's key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &[u8]) -> String {
    const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    STANDARD.encode(Sha1::new().chain_update(key).chain_update(GUID).finalize())
}

/// The key of a request that may switch protocols.
fn decide<'h>(
    request: &httparse::Request<'_, 'h>,
    target: &Target<'h>,
    policy: &Policy<'_>,
) -> Result<&'h [u8], Refused> {
    let bad = |why| Err(Refused::BadRequest(why));
    if target.path != PATH {
        return Err(Refused::NotFound);
    }
    if request.method != Some("GET") {
        return Err(Refused::Method);
    }
    if request.version != Some(1) {
        return bad("HTTP/1.1 is required");
    }
    let values = |name| http::values(request, name);
    let host = http::host(request, target)?.unwrap_or_default();
    if !host.is_empty() && without_port(host).is_none() {
        return bad("the Host is no host with or without a port");
    }
    // A body would be taken for frames.
    if values("Transfer-Encoding").next().is_some()
        || values("Content-Length").any(|length| length != b"0")
    {
        return bad("a request with a body cannot upgrade");
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
        return bad("exactly one Sec-WebSocket-Key header is required");
    };
    if !is_key(key) {
        return bad("Sec-WebSocket-Key is not 16 bytes in base64");
    }
    let mut origins = values("Origin");
    if let Some(origin) = origins.next()
        && (origins.next().is_some() || !is_allowed(origin, host, policy))
    {
        return Err(Refused::Origin);
    }
    if !policy.is_enabled {
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
    STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
}

fn is_allowed(origin: &[u8], host: &str, policy: &Policy<'_>) -> bool {
    let Some(origin) = std::str::from_utf8(origin).ok().and_then(host_of_url) else {
        return false;
    };
    let urls = policy.app_urls.iter();
    let apps = urls.filter_map(|url| host_of_app_url(url));
    let mut hosts = without_port(host).into_iter().chain(apps);
    hosts.any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// Host of `scheme://host[:port][/…]`, an IPv6 address with its brackets. `None` if there is a user name, a backslash
/// or a blank, which no origin has.
fn host_of_url(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    without_port(rest.split(['/', '?', '#']).next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy<'static> = Policy {
        is_enabled: true,
        app_urls: ["https://helpdesk.example", ""],
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
            Head::Answered { response, .. } => {
                String::from_utf8_lossy(&response["HTTP/1.1 ".len()..][..3]).into_owned()
            }
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
    fn a13_the_path_of_an_absolute_target_counts_and_its_host_is_the_requests() {
        let to = |target: &str, rest: &str| {
            status(&format!(
                "{}{rest}\r\n",
                GOOD.replacen("/ws/chat", target, 1)
            ))
        };
        for target in [
            "http://a.example/ws/chat",
            "HTTP://b.example:80/ws/chat?x",
            "wss://[::1]/ws/chat",
        ] {
            assert_eq!(to(target, ""), "granted 0", "{target}");
        }
        for target in [
            "http://a.example/",
            "http://a.example",
            "http://a.example/x/ws/chat",
            "x://a/ws/chat",
        ] {
            assert_eq!(to(target, ""), "404", "{target}");
        }
        for target in ["http://u@a.example/ws/chat", "http:///ws/chat"] {
            assert_eq!(to(target, ""), "400", "{target}");
        }
        let absolute = "http://b.example/ws/chat";
        assert_eq!(to(absolute, "Origin: http://b.example\r\n"), "granted 0");
        assert_eq!(to(absolute, "Origin: http://a.example\r\n"), "403");
    }

    #[test]
    fn a_host_that_is_none_is_refused_and_a_head_has_no_body() {
        for host in ["a b", "a/b", "u@a", "[::1", "a:x", "b\u{fc}cher"] {
            let head = GOOD.replacen("a.example", host, 1);
            assert_eq!(status(&format!("{head}\r\n")), "400", "{host}");
        }
        for (target, code) in [("/ws/chat", "405"), ("/other", "404")] {
            let head = GOOD.replacen("GET /ws/chat", &format!("HEAD {target}"), 1);
            let head = examine(format!("{head}\r\n").as_bytes(), &POLICY);
            let Head::Answered { response, .. } = head else {
                panic!("refused");
            };
            let text = String::from_utf8(response).expect("text");
            assert!(text.starts_with(&format!("HTTP/1.1 {code} ")), "{text}");
            assert!(
                text.ends_with("\r\n\r\n") && text.contains("Content-Length: "),
                "{text}"
            );
        }
    }

    #[test]
    fn a14_the_host_of_the_app_is_found_as_php_finds_it() {
        let with = |app_url, origin: &str| {
            let policy = Policy {
                app_urls: ["", app_url],
                ..POLICY
            };
            let head = format!("{GOOD}Origin: {origin}\r\n\r\n");
            matches!(examine(head.as_bytes(), &policy), Head::Granted { .. })
        };
        let origin = "https://desk.example.com";
        for app_url in [
            "https://user:pw@desk.example.com/",
            "//DESK.example.com",
            "desk.example.com:443/x",
        ] {
            assert!(with(app_url, origin), "{app_url}");
        }
        for app_url in [
            "desk.example.com",
            "https://",
            "https://desk.example.com@evil.example",
        ] {
            assert!(!with(app_url, origin), "{app_url}");
        }
        assert!(!with(origin, "https://user:pw@desk.example.com"));
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
        // A host with a user name is invalid, even if it is the same in both headers.
        let user = GOOD.replace("Host: a.example", "Host: user@a.example");
        let user = format!("{user}Origin: https://user@a.example\r\n\r\n");
        assert_eq!(status(&user), "400");
        let twice = format!("{GOOD}Origin: http://a.example\r\nOrigin: http://a.example\r\n\r\n");
        assert_eq!(status(&twice), "403");
    }
}
