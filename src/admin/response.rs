//! The client's end of a WebSocket handshake, for probes of a running service: builds the request, and tells from the
//! response what kind of server answers. Pure.

use crate::http::PATH;
use crate::websocket::handshake::accept_key;

/// Need not be random: the key only guards against caching intermediaries (RFC 6455 section 10.3).
const KEY: &str = "YW5kcmVhLWNoYXQtY2hlYw==";
const MAX_HEADERS: usize = 64;
/// Most interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 8;

/// The kind of server that answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HandshakeResponse {
    /// A WebSocket server that switched protocols.
    WebSocket,
    /// An HTTP server that did not switch: status and reason.
    Http(u16, String),
    /// A server that switched protocols with a wrong key, or does not speak HTTP.
    Other(&'static str),
}

impl HandshakeResponse {
    /// What it says in place of a chat service's answer.
    pub(crate) fn refusal(self) -> Option<String> {
        match self {
            HandshakeResponse::WebSocket => None,
            HandshakeResponse::Http(code, reason) => Some(format!("it answers {code} {reason}")),
            HandshakeResponse::Other(what) => Some(what.to_owned()),
        }
    }
}

/// The request for `path`, or for the chat's own path; `host` and `origin` are the headers as a browser sends them.
pub(crate) fn request(host: &str, path: Option<&str>, origin: Option<&str>) -> String {
    let path = path.unwrap_or(PATH);
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{origin}\r\n"
    )
}

/// The kind of server that sent these bytes, and the length of the response's head; `None` while that is incomplete.
pub(crate) fn judge(bytes: &[u8]) -> Option<(HandshakeResponse, usize)> {
    let mut begin = 0;
    for _ in 0..MAX_INTERIM {
        match judge_one(&bytes[begin..])? {
            // Continue, Processing and Early Hints precede the final response.
            (HandshakeResponse::Http(100 | 102 | 103, _), length) => begin += length,
            (answer, length) => return Some((answer, begin + length)),
        }
    }
    let endless = HandshakeResponse::Other("what answers there never comes to its answer");
    Some((endless, begin))
}

fn judge_one(bytes: &[u8]) -> Option<(HandshakeResponse, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(_) => {
            return Some((
                HandshakeResponse::Other("what answers there speaks no HTTP"),
                0,
            ));
        }
    };
    let code = response.code.unwrap_or(0);
    if code != 101 {
        let reason = response.reason.unwrap_or_default().to_owned();
        return Some((HandshakeResponse::Http(code, reason), length));
    }
    let expected = accept_key(KEY.as_bytes());
    let accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept")
            && header.value == expected.as_bytes()
    });
    let answer = match accepted {
        true => HandshakeResponse::WebSocket,
        false => HandshakeResponse::Other("what answers there got the WebSocket key wrong"),
    };
    Some((answer, length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::handshake::{Head, Policy, examine};

    #[test]
    fn our_own_server_grants_the_request_and_the_answer_is_known() {
        let policy = Policy {
            is_enabled: true,
            app_urls: ["https://helpdesk.example", ""],
            peer: ([127, 0, 0, 1], 9).into(),
            site: None,
        };
        let request = request("a.example", None, Some("https://helpdesk.example"));
        let Head::Granted { response, .. } = examine(request.as_bytes(), &policy) else {
            panic!("not granted");
        };
        assert_eq!(judge(&response[..20]), None);
        let length = response.len();
        let mut more = response;
        more.extend(b"frames");
        assert_eq!(judge(&more), Some((HandshakeResponse::WebSocket, length)));
    }

    #[test]
    fn other_answers_are_told_apart() {
        let of = |text: &str| judge(text.as_bytes()).map(|(answer, _)| answer);
        assert_eq!(
            of("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            Some(HandshakeResponse::Http(502, "Bad Gateway".to_owned()))
        );
        assert!(matches!(
            of("HTTP/1.1 101 Ok\r\n\r\n"),
            Some(HandshakeResponse::Other(_))
        ));
        assert!(matches!(
            of("SSH-2.0-OpenSSH\r\n"),
            Some(HandshakeResponse::Other(_))
        ));
    }
}
