//! The other end of a handshake, for looks at a running service: the request, and what its answer says of who
//! answers. Pure.

use tungstenite::handshake::derive_accept_key;

use super::handshake::PATH;

/// Nobody has to guess it: it keeps caches apart, nothing else (RFC 6455 section 10.3).
const KEY: &str = "YW5kcmVhLWNoYXQtY2hlYw==";
const MAX_HEADERS: usize = 64;

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A WebSocket server that switched protocols.
    WebSocket,
    /// Something that speaks HTTP and did not: its status line.
    Http(u16, String),
    /// Something that switched protocols and got the key wrong, or speaks no HTTP.
    Other(&'static str),
}

/// The request for `path`, or for the chat's own. `host` as a browser would send it, `origin` if any.
pub fn request(host: &str, path: Option<&str>, origin: Option<&str>) -> String {
    let path = path.unwrap_or(PATH);
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{origin}\r\n"
    )
}

/// Who answered with these bytes, and how many of them are the response's head; `None` while it is not complete.
pub fn judge(bytes: &[u8]) -> Option<(Answer, usize)> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return Some((Answer::Other("what answers there speaks no HTTP"), 0)),
    };
    let code = response.code.unwrap_or(0);
    if code != 101 {
        let reason = response.reason.unwrap_or_default().to_owned();
        return Some((Answer::Http(code, reason), length));
    }
    let expected = derive_accept_key(KEY.as_bytes());
    let accepted = response.headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case("Sec-WebSocket-Accept")
            && header.value == expected.as_bytes()
    });
    let answer = match accepted {
        true => Answer::WebSocket,
        false => Answer::Other("what answers there got the WebSocket key wrong"),
    };
    Some((answer, length))
}

/// A short text as one masked frame, as a client has to send it.
pub fn text_frame(text: &str) -> Vec<u8> {
    // The mask may be any; zeros leave the text as it is.
    let length = text.len().min(125) as u8;
    let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    frame.extend(text.bytes().take(125));
    frame
}

/// The text of the first frame in `bytes`, if it is there whole and short.
pub fn first_text(bytes: &[u8]) -> Option<&str> {
    let (head, rest) = bytes.split_at_checked(2)?;
    let (length, rest) = match (head[0], head[1]) {
        (0x81, length @ 0..=125) => (usize::from(length), rest),
        (0x81, 126) => {
            let (length, rest) = rest.split_at_checked(2)?;
            (
                usize::from(u16::from_be_bytes([length[0], length[1]])),
                rest,
            )
        }
        _ => return None,
    };
    std::str::from_utf8(rest.get(..length)?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::handshake::{Head, Policy, examine};
    use super::*;

    #[test]
    fn our_own_server_grants_the_request_and_the_answer_is_known() {
        let policy = Policy {
            enabled: true,
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
        assert_eq!(judge(&more), Some((Answer::WebSocket, length)));
    }

    #[test]
    fn other_answers_are_told_apart() {
        let of = |text: &str| judge(text.as_bytes()).map(|(answer, _)| answer);
        assert_eq!(
            of("HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            Some(Answer::Http(502, "Bad Gateway".to_owned()))
        );
        assert!(matches!(
            of("HTTP/1.1 101 Ok\r\n\r\n"),
            Some(Answer::Other(_))
        ));
        assert!(matches!(of("SSH-2.0-OpenSSH\r\n"), Some(Answer::Other(_))));
    }

    #[test]
    fn a_frame_goes_out_masked_and_comes_in_plain() {
        assert_eq!(text_frame("hi"), b"\x81\x82\0\0\0\0hi");
        assert_eq!(first_text(b"\x81\x02hi\x89\x00"), Some("hi"));
        assert_eq!(first_text(b"\x81\x02h"), None);
        assert_eq!(first_text(b"\x88\x00"), None);
        let long = [b"\x81\x7e\x00\xc8".to_vec(), vec![b'x'; 200]].concat();
        assert_eq!(first_text(&long).map(str::len), Some(200));
    }
}
