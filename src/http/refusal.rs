//! Log lines for refused requests: the reason, the remedy, and the client's address as a proxy on this machine names it.
//! Text from the request is escaped and cut.

use std::net::{IpAddr, SocketAddr};

use super::{MAX_HEADERS, PATH, Refused, values};
use crate::config::host_of_app_url;
use crate::config::limits::MAX_HEAD_BYTES;
use crate::platform::printable::printable;

/// Most characters that a log line shows of a value from a client.
const MAX_CHARS: usize = 200;
/// The first byte of a client that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

type Request<'h, 'a> = httparse::Request<'h, 'a>;

/// The reason of a refusal with its remedy; `None`: the request was for a page, whose refusals are not logged.
pub(crate) fn explain(
    refused: Refused,
    asked: &Request<'_, '_>,
    is_complete: bool,
    bytes: &[u8],
    app_urls: &[&str],
) -> Option<String> {
    let path = asked.path.unwrap_or_default();
    // Without the query, in which a client may have put its token.
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    if is_complete && !asks_for_a_websocket(asked) && !path.contains("/ws/") {
        return None;
    }
    let text = refused.text();
    Some(match refused {
        Refused::BadRequest(_) if bytes.first() == Some(&TLS_HANDSHAKE) => {
            "it speaks TLS, and this port does not; lead it through the web server, whose proxy has to use http://"
                .to_owned()
        }
        Refused::BadRequest(_) => format!(
            "{text}; this is no browser's request, or the proxy changes it: have it speak HTTP/1.1 and pass the headers on"
        ),
        Refused::Origin => wrong_origin(asked, app_urls),
        Refused::NotFound => format!(
            "the path is {}, and the chat is at {PATH}; correct the address of the proxy or the client",
            cut(path.as_bytes())
        ),
        Refused::Method => format!(
            "the method is {}, and a WebSocket begins with GET",
            cut(asked.method.unwrap_or_default().as_bytes())
        ),
        Refused::UpgradeRequired => format!(
            "this asks for no WebSocket of version 13 (Upgrade: {}; Connection: {}; Sec-WebSocket-Version: {}); have the \
             proxy pass Upgrade and Connection on",
            shown(asked, "Upgrade"),
            shown(asked, "Connection"),
            shown(asked, "Sec-WebSocket-Version")
        ),
        Refused::HeadTooLarge => format!(
            "{text}: more than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers; have the proxy leave cookies out"
        ),
        Refused::Disabled => {
            "the service is switched off or stopping; settings set chat_websocket_enabled 1 switches it on".to_owned()
        }
        Refused::Timeout | Refused::Full => text.to_owned(),
    })
}

fn asks_for_a_websocket(asked: &Request<'_, '_>) -> bool {
    values(asked, "Upgrade").any(|value| {
        let value = value.to_ascii_lowercase();
        value.windows(9).any(|nine| nine == b"websocket")
    })
}

/// All values of a header, for people.
fn shown(asked: &Request<'_, '_>, name: &str) -> String {
    let values: Vec<String> = values(asked, name).map(cut).collect();
    match values.is_empty() {
        true => "none".to_owned(),
        false => values.join(" and "),
    }
}

fn wrong_origin(asked: &Request<'_, '_>, app_urls: &[&str]) -> String {
    let hosts = app_urls.iter().filter_map(|url| host_of_app_url(url));
    let mut hosts: Vec<String> = hosts.map(|host| cut(host.as_bytes())).collect();
    // The variable and the row often name the same host.
    hosts.dedup();
    let app = match hosts.is_empty() {
        true => "not set, or without a host".to_owned(),
        false => hosts.join(", "),
    };
    let verb = match values(asked, "Origin").count() {
        1 => "is",
        _ => "are",
    };
    format!(
        "Origin {} {verb} neither the host of APP_URL ({app}) nor the request's Host ({}); set APP_URL, or have the proxy \
         pass Host on",
        shown(asked, "Origin"),
        shown(asked, "Host")
    )
}

/// The client that a proxy on this machine names: the last address in `X-Forwarded-For`, which that proxy has added itself.
/// From any other peer the header proves nothing.
pub(crate) fn forwarded_for(bytes: &[u8], peer: SocketAddr) -> Option<IpAddr> {
    if !peer.ip().to_canonical().is_loopback() {
        return None;
    }
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut asked = Request::new(&mut headers);
    asked.parse(bytes).ok()?;
    values(&asked, "X-Forwarded-For")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .filter_map(|word| {
            let word = word.trim();
            let address = word.trim_matches(['[', ']']).parse().ok();
            address.or_else(|| Some(word.parse::<SocketAddr>().ok()?.ip()))
        })
        .last()
}

fn cut(value: &[u8]) -> String {
    let text = printable(&String::from_utf8_lossy(value));
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::handshake::{Head, Policy, examine};

    const POLICY: Policy<'static> = Policy {
        is_enabled: true,
        app_urls: [
            "https://user:secret@helpdesk.example/",
            "https://helpdesk.example",
        ],
        peer: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9),
        site: None,
    };
    const GOOD: &str = "GET /ws/chat HTTP/1.1\r\nHost: a.example\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn why(head: &[u8], policy: &Policy<'_>) -> String {
        match examine(head, policy) {
            Head::Answered { refusal, .. } => {
                let (status, why) = refusal.expect("a handshake");
                format!("{status}: {why}")
            }
            head => panic!("{head:?}"),
        }
    }

    #[test]
    fn d2_a_refusal_says_why_and_what_to_do() {
        let with = |extra: &str| why(format!("{GOOD}{extra}\r\n\r\n").as_bytes(), &POLICY);
        let origin = with("Origin: https://desk.example");
        assert_eq!(
            origin,
            "403: Origin https://desk.example is neither the host of APP_URL (helpdesk.example) nor the request's Host \
             (a.example); set APP_URL, or have the proxy pass Host on"
        );
        for (from, to, wanted) in [
            (
                "/ws/chat",
                "/ws/chap?token=x",
                "404: the path is /ws/chap, and",
            ),
            ("GET", "POST", "405: the method is POST, "),
            (
                "Upgrade: websocket\r\n",
                "",
                "426: this asks for no WebSocket of version 13 (Upgrade: none; ",
            ),
            ("HTTP/1.1", "HTTP/1.0", "400: HTTP/1.1 is required; "),
            (
                "Host:",
                "Host: b.example\r\nHost:",
                "400: exactly one Host header is required; ",
            ),
        ] {
            let said = why(
                format!("{}\r\n", GOOD.replacen(from, to, 1)).as_bytes(),
                &POLICY,
            );
            assert!(said.starts_with(wanted), "{said}");
        }
        let long = with(&format!("Origin: https://\u{1b}[2J{}", "x".repeat(9000)));
        assert!(
            long.chars().count() < 500 && !long.contains('\u{1b}'),
            "{long}"
        );
        let large = with(&format!("X: {}", "x".repeat(20_000)));
        assert!(
            large.starts_with("431: the request head is too large"),
            "{large}"
        );
        let off = Policy {
            is_enabled: false,
            ..POLICY
        };
        let said = why(format!("{GOOD}\r\n").as_bytes(), &off);
        assert!(
            said.contains("settings set chat_websocket_enabled 1"),
            "{said}"
        );
        assert!(why(b"\x16\x03\x01\x02\0", &POLICY).starts_with("400: it speaks TLS"));
    }

    #[test]
    fn the_proxy_on_this_machine_alone_is_believed_whom_it_asks_for() {
        let of = |value: &str, peer: &str| {
            let head = format!("{GOOD}X-Forwarded-For: {value}\r\n\r\n");
            let found = forwarded_for(head.as_bytes(), peer.parse().expect(peer));
            found.map(|address| address.to_string())
        };
        for (value, client) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("10.9.9.9, 192.0.2.7", Some("192.0.2.7")),
            (
                "10.9.9.9\r\nX-Forwarded-For: [2001:db8::1]:99",
                Some("2001:db8::1"),
            ),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("192.0.2.7, unknown", Some("192.0.2.7")),
            ("unknown", None),
            ("", None),
        ] {
            for peer in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
                assert_eq!(of(value, peer).as_deref(), client, "{value}");
            }
            assert_eq!(of(value, "198.51.100.1:9"), None);
        }
    }
}
