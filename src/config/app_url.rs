//! The host of `APP_URL`, found as PHP's `parse_url` finds it, because the helpdesk compares with that. Pure.

/// The remedy for a doubtful `APP_URL`.
pub const APP_URL_REMEDY: &str =
    "give scheme and host as the browser shows them, such as https://helpdesk.example";

/// The host of a URL; an IPv6 address keeps its brackets. `None` where PHP finds none.
pub fn host_of_app_url(url: &str) -> Option<&str> {
    let rest = behind_scheme(url)?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let site = authority
        .rsplit_once('@')
        .map_or(authority, |(_, site)| site);
    let host = match site.rsplit_once(':') {
        _ if site.starts_with('[') && site.ends_with(']') => site,
        Some((host, port)) if begins_with_port(port) || port.is_empty() => host,
        Some(_) => return None,
        None => site,
    };
    (!host.is_empty()).then_some(host)
}

/// The rest of a URL from the host on: after `scheme://` or `//`, or the whole of `host:80`. Anything else is a path.
fn behind_scheme(url: &str) -> Option<&str> {
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    let relative = url.strip_prefix("//");
    let Some((before, rest)) = url.split_once(':') else {
        return relative;
    };
    let has_port = is_port(rest.split('/').next().unwrap_or_default());
    if before.is_empty() || !before.chars().all(is_scheme) {
        return match has_port && !before.contains(['?', '#']) {
            true => relative.or(Some(url)),
            false => relative,
        };
    }
    match rest.strip_prefix("//") {
        // `file:///path` has no host.
        Some(path) if path.starts_with('/') && before.eq_ignore_ascii_case("file") => None,
        Some(rest) => Some(rest),
        None => has_port.then_some(url),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && begins_with_port(text)
}

fn begins_with_port(text: &str) -> bool {
    let text = text.trim_start();
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.len() <= 5 && text[..digits].parse::<u16>().is_ok()
}

/// Why no page can have this URL, worded to follow the variable's name.
pub fn app_url_doubt(url: &str) -> Option<&'static str> {
    match host_of_app_url(url) {
        None => Some("has no scheme and host, so it allows no page to connect"),
        Some(host) if !host.is_ascii() => Some(
            "has a host in other letters than ASCII, but a browser names it in its xn-- form, so it allows no page to connect",
        ),
        Some(host) if host.contains(|c: char| c.is_ascii_whitespace() || c == '\\') => {
            Some("has a host that no browser can have, so it allows no page to connect")
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PHP 8.2 says.
    const HOSTS: [(&str, Option<&str>); 43] = [
        (
            "https://user:pw@desk.example.com/",
            Some("desk.example.com"),
        ),
        ("https://desk.example.com", Some("desk.example.com")),
        ("HTTPS://Desk.Example.COM:8443/x", Some("Desk.Example.COM")),
        ("https://user@desk.example.com", Some("desk.example.com")),
        (
            "https://a:b@c:d@desk.example.com:443/",
            Some("desk.example.com"),
        ),
        ("//desk.example.com", Some("desk.example.com")),
        ("//desk.example.com:80/x", Some("desk.example.com")),
        ("desk.example.com", None),
        ("desk.example.com/chat", None),
        ("desk.example.com:80", Some("desk.example.com")),
        ("desk.example.com:80/x", Some("desk.example.com")),
        ("desk.example.com:99999", None),
        ("desk.example.com:abc", None),
        ("localhost:8080", Some("localhost")),
        ("https://[::1]:8080/", Some("[::1]")),
        ("https://[::1]", Some("[::1]")),
        ("[::1]:8080", None),
        ("http://[::1]x/", Some("[:")),
        ("https://", None),
        ("https:///x", None),
        ("http:desk.example.com", None),
        ("http:/desk.example.com", None),
        ("https://desk.example.com:", Some("desk.example.com")),
        ("https://desk.example.com:99999", None),
        ("https://desk.example.com:x", None),
        ("https://desk.example.com?x", Some("desk.example.com")),
        ("https://desk.example.com#x", Some("desk.example.com")),
        ("https://desk.example.com:80?x", Some("desk.example.com")),
        ("https://:80", None),
        ("https://@desk.example.com", Some("desk.example.com")),
        ("https://user:pw@", None),
        ("file:///x", None),
        ("file://host/x", Some("host")),
        ("://desk.example.com", None),
        (":80", None),
        ("de_sk.example.com:80", Some("de_sk.example.com")),
        ("ht_tp://desk.example.com", None),
        ("https://bücher.example/", Some("bücher.example")),
        ("/desk", None),
        ("", None),
        ("https://desk.example.com:65535", Some("desk.example.com")),
        ("https://desk.example.com:65536", None),
        ("https://desk.example.com: 80", Some("desk.example.com")),
    ];

    #[test]
    fn a14_the_host_is_what_php_finds() {
        for (url, host) in HOSTS {
            assert_eq!(host_of_app_url(url), host, "{url}");
        }
    }

    #[test]
    fn a18_a_url_that_no_page_has_is_doubted() {
        for good in [
            "https://desk.example.com",
            "http://[::1]:8080/desk",
            "//desk.example.com",
        ] {
            assert_eq!(app_url_doubt(good), None, "{good}");
        }
        for bad in [
            "desk.example.com",
            "https://",
            "/desk",
            "https://bücher.example",
            "https://a b/",
        ] {
            assert!(app_url_doubt(bad).is_some(), "{bad}");
        }
    }
}
