//! Plain HTTP on the chat's listener: requests, the pages beside the chat, and refusals of one line. Pure.

pub(crate) mod refusal;

use std::net::SocketAddr;

use crate::config::limits::MAX_HEAD_BYTES;

/// The path of the chat.
pub(crate) const PATH: &str = "/ws/chat";
/// Most headers of a request: the parser needs room for all in advance.
pub(crate) const MAX_HEADERS: usize = 100;

/// A plain HTTP request, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteRequest<'a> {
    /// `GET`, `POST` …, as sent; a HEAD is a GET whose body is not sent.
    pub method: &'a str,
    /// Path without its query.
    pub path: &'a str,
    /// What stands behind the `?`, perhaps nothing.
    pub query: &'a str,
    /// Host and port: of an absolute target, else of the `Host` header, if there is exactly one.
    pub host: Option<&'a str>,
    /// The first `Origin` header.
    pub origin: Option<&'a str>,
    /// The body, empty where there is none.
    pub body: &'a [u8],
    /// Who sent it.
    pub peer: SocketAddr,
}

/// The target of a request, in origin form or absolute form (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Host and port, in the absolute form; they replace those of the header `Host`.
    pub authority: Option<&'a str>,
    /// Path without its query.
    pub path: &'a str,
    /// What stands behind the `?`, perhaps nothing.
    pub query: &'a str,
}

impl<'a> Target<'a> {
    /// Takes `/path?query` or `http://host/path?query` apart.
    pub(crate) fn of(text: &'a str) -> Self {
        let schemes = ["http", "https", "ws", "wss"];
        let absolute = text.split_once("://").filter(|(scheme, _)| {
            schemes
                .iter()
                .any(|known| known.eq_ignore_ascii_case(scheme))
        });
        let (authority, rest) = match absolute {
            Some((_, rest)) => {
                let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), rest)
            }
            None => (None, text),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = if path.is_empty() { "/" } else { path };
        Target {
            authority,
            path,
            query,
        }
    }
}

/// All values of a header.
pub(crate) fn values<'a>(
    request: &httparse::Request<'_, 'a>,
    name: &str,
) -> impl Iterator<Item = &'a [u8]> {
    let headers = request.headers.iter();
    headers.filter_map(move |header| {
        header
            .name
            .eq_ignore_ascii_case(name)
            .then_some(header.value)
    })
}

/// The host and port that a request is for, perhaps empty; `None`: a request of HTTP/1.0 that names none.
///
/// # Errors
/// The header `Host` is missing or doubled (RFC 9112 section 3.2), or an absolute target has an empty host.
pub(crate) fn host<'a>(
    request: &httparse::Request<'_, 'a>,
    target: &Target<'a>,
) -> Result<Option<&'a str>, Refused> {
    let mut hosts = values(request, "Host");
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Some(std::str::from_utf8(host).unwrap_or("\\")),
        (None, _) if request.version == Some(0) => None,
        _ => {
            return Err(Refused::BadRequest("exactly one Host header is required"));
        }
    };
    // RFC 9110 section 4.2.1: a URI with an empty host is invalid.
    if target.authority == Some("") {
        return Err(Refused::BadRequest(
            "a target in absolute form names a host",
        ));
    }
    Ok(target.authority.or(host))
}

/// The host of `host[:port]`, an IPv6 address with its brackets; `None` if it is invalid, for example with a user name.
pub(crate) fn without_port(authority: &str) -> Option<&str> {
    let (host, port) = match authority.starts_with('[') {
        true => authority.split_at(authority.find(']')? + 1),
        false => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_host = match host.strip_prefix('[') {
        Some(inside) => inside
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b":.]%".contains(&b)),
        None => host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&b)),
    };
    let is_port = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()),
    };
    (!host.is_empty() && is_host && is_port).then_some(host)
}

/// Turns the response to a GET into the one to a HEAD.
pub(crate) fn drop_body(response: &mut Vec<u8>) {
    let head = response.windows(4).position(|four| four == b"\r\n\r\n");
    response.truncate(head.map_or(response.len(), |end| end + 4));
}

/// Pages that are served on the same listener. Called on the thread of its connection.
pub trait Site: Send + Sync {
    /// The complete HTTP response, `Connection: close` and `Content-Length` included; `None`: no such page.
    fn answer(&self, request: &SiteRequest<'_>) -> Option<Vec<u8>>;
}

/// What `site` answers to a request whose head is complete and whose body begins with `rest`. `None`: the body is not
/// complete yet.
///
/// # Errors
/// There is no such page, or the body has no usable length: at most `MAX_HEAD_BYTES`, given once, not chunked.
pub(crate) fn page<'a>(
    site: &dyn Site,
    peer: SocketAddr,
    request: &httparse::Request<'_, 'a>,
    target: &Target<'a>,
    rest: &[u8],
) -> Result<Option<Vec<u8>>, Refused> {
    let text = |value| std::str::from_utf8(value).unwrap_or_default();
    if values(request, "Transfer-Encoding").next().is_some() {
        return Err(Refused::BadRequest("a body needs a Content-Length"));
    }
    let mut lengths = values(request, "Content-Length").map(text);
    let length = match (lengths.next(), lengths.next()) {
        (None, _) => Some(0),
        (Some(length), None) => length.parse().ok(),
        _ => None,
    };
    let Some(length) = length.filter(|length| *length <= MAX_HEAD_BYTES) else {
        return Err(Refused::BadRequest("a body of 16 KiB is the largest"));
    };
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let answer = site.answer(&SiteRequest {
        method: match request.method.unwrap_or_default() {
            "HEAD" => "GET",
            method => method,
        },
        path: target.path,
        query: target.query,
        // If it is missing or doubled, a page that needs it refuses in its own words.
        host: host(request, target).unwrap_or(None),
        origin: values(request, "Origin").next().map(text),
        body,
        peer,
    });
    answer.map(Some).ok_or(Refused::NotFound)
}

/// A complete response, after which the connection ends. `extra` are further header lines, each with its end.
pub(crate) fn response(status: &str, kind: &str, extra: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n{extra}\r\n{body}"
    )
    .into_bytes()
}

/// The same of one line of text.
pub(crate) fn text_response(status: &str, extra: &str, text: &str) -> Vec<u8> {
    let kind = "text/plain; charset=utf-8";
    response(status, kind, extra, &format!("{text}\n"))
}

/// A refusal: its status, its headers and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
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
    fn status_line(self) -> &'static str {
        match self {
            Refused::BadRequest(_) => "400 Bad Request",
            Refused::Origin => "403 Forbidden",
            Refused::NotFound => "404 Not Found",
            Refused::Method => "405 Method Not Allowed",
            Refused::Timeout => "408 Request Timeout",
            Refused::UpgradeRequired => "426 Upgrade Required",
            Refused::HeadTooLarge => "431 Request Header Fields Too Large",
            Refused::Disabled | Refused::Full => "503 Service Unavailable",
        }
    }

    /// The number of its status.
    pub(crate) fn status(self) -> &'static str {
        &self.status_line()[..3]
    }

    /// Its line of text.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Refused::BadRequest(reason) => reason,
            Refused::Origin => "this Origin may not open a chat connection",
            Refused::NotFound => "the chat WebSocket is at /ws/chat",
            Refused::Method => "only GET is allowed here",
            Refused::Timeout => "the request was not complete in time",
            Refused::UpgradeRequired => "this is a WebSocket of version 13",
            Refused::HeadTooLarge => "the request head is too large",
            Refused::Disabled => "the chat WebSocket service is switched off",
            Refused::Full => "too many chat connections",
        }
    }

    /// The complete HTTP response: one line of text, and the connection ends.
    pub(crate) fn response(self) -> Vec<u8> {
        let headers = match self {
            Refused::Method => "Allow: GET\r\n",
            Refused::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            Refused::Disabled => "Retry-After: 60\r\n",
            Refused::Full => "Retry-After: 5\r\n",
            _ => "",
        };
        text_response(self.status_line(), headers, self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a13_a_target_in_absolute_form_has_a_path_in_any_case_of_the_scheme() {
        for (text, authority, path, query) in [
            ("/ws/chat?a=/b", None, "/ws/chat", "a=/b"),
            (
                "http://127.0.0.1:22012/ws/chat",
                Some("127.0.0.1:22012"),
                "/ws/chat",
                "",
            ),
            (
                "HTTPS://Desk.example/ws/chat?x",
                Some("Desk.example"),
                "/ws/chat",
                "x",
            ),
            (
                "wS://[::1]:8090/ws/chat",
                Some("[::1]:8090"),
                "/ws/chat",
                "",
            ),
            ("http://desk.example", Some("desk.example"), "/", ""),
            (
                "http://desk.example?x=/ws/chat",
                Some("desk.example"),
                "/",
                "x=/ws/chat",
            ),
            (
                "ftp://desk.example/ws/chat",
                None,
                "ftp://desk.example/ws/chat",
                "",
            ),
            ("/x?y=http://a/ws/chat", None, "/x", "y=http://a/ws/chat"),
        ] {
            let target = Target {
                authority,
                path,
                query,
            };
            assert_eq!(Target::of(text), target, "{text}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for (text, host) in [
            ("desk.example", Some("desk.example")),
            ("de_sk.example:8090", Some("de_sk.example")),
            ("desk.example:", Some("desk.example")),
            ("[::1]:80", Some("[::1]")),
            ("[::1", None),
            ("[::1]x", None),
            ("a b", None),
            ("a/b", None),
            ("user@a", None),
            ("a:b", None),
            ("a:1:2", None),
            ("http://a", None),
            ("bücher.example", None),
        ] {
            assert_eq!(without_port(text), host, "{text}");
        }
    }
}
