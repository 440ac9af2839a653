//! HTTP responses of the demo's pages, with the headers that keep foreign pages and foreign code out. Pure.

use serde_json::Value;

/// A response by its status line, type and body.
pub(super) struct PageResponse {
    status: &'static str,
    content_type: &'static str,
    extra: &'static str,
    body: Vec<u8>,
}

impl PageResponse {
    /// A file of the page.
    pub(super) fn file(content_type: &'static str, body: &'static [u8]) -> Self {
        PageResponse {
            status: "200 OK",
            content_type,
            extra: "",
            body: body.to_vec(),
        }
    }

    /// JSON for the page's scripts.
    pub(super) fn ok(value: &Value) -> Self {
        PageResponse::json("200 OK", value)
    }

    /// The same with another status.
    pub(super) fn json(status: &'static str, value: &Value) -> Self {
        PageResponse {
            status,
            content_type: "application/json",
            extra: "",
            body: value.to_string().into_bytes(),
        }
    }

    /// An error in the form that the page's scripts expect.
    pub(super) fn refusal(status: &'static str, reason: &str) -> Self {
        PageResponse::json(status, &serde_json::json!({ "error": reason }))
    }

    /// 405 with an `Allow` header line.
    pub(super) fn method(allow: &'static str) -> Self {
        PageResponse {
            extra: allow,
            ..PageResponse::refusal("405 Method Not Allowed", "this method is not allowed here")
        }
    }

    /// The bytes on the wire; `host` is this server's address as the browser knows it.
    pub(super) fn bytes(self, host: &str) -> Vec<u8> {
        // Not every browser takes 'self' to include ws://.
        let socket = format!("ws://{host}");
        let mut bytes = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
             connect-src 'self' {socket}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types andrea-message\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n\
             Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Resource-Policy: same-origin\r\n{}\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.extra,
        )
        .into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Whether a `Host` header is a loopback name or address. A foreign name that resolves to this machine (DNS rebinding)
/// is not.
pub(super) fn is_loopback(host: &str) -> bool {
    let end = match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => colon,
        _ => host.len(),
    };
    let (name, port) = host.split_at(end);
    let port_fits = port.is_empty() || port[1..].parse::<u16>().is_ok();
    let name = name.to_ascii_lowercase();
    port_fits && ["127.0.0.1", "localhost", "[::1]"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "127.0.0.1:8090",
            "localhost",
            "LocalHost:80",
            "[::1]:8090",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            ":8090",
            "evil.example:8090",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8090",
            "localhost:8090@evil.example",
            "localhost: 8090; script-src *",
            "localhost:99999",
            "[::1",
            "[::1]x",
            "[::2]:8090",
            "::1",
            "0.0.0.0:8090",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn no_inline_script_is_allowed_and_nothing_is_kept() {
        let response = PageResponse::file("text/html; charset=utf-8", b"<p>").bytes("localhost:1");
        let text = String::from_utf8(response).expect("text");
        let policy = text
            .lines()
            .find(|line| line.starts_with("Content-Security-Policy: "))
            .expect("a policy");
        assert!(policy.contains("default-src 'none'; script-src 'self';"));
        assert!(policy.contains("connect-src 'self' ws://localhost:1;"));
        assert!(!policy.contains("unsafe") && !policy.contains('*'));
        assert!(text.contains("\r\nCache-Control: no-store\r\n"));
        assert!(text.ends_with("\r\n\r\n<p>"));
    }
}
