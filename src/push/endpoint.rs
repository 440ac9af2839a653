//! Checks push endpoints. The URL comes from a browser and is untrusted: only `https`, port 443 and public addresses are
//! allowed. The check follows name resolution, and connections go to the checked addresses.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::ip_filter::is_public;
use super::schedule::Unsent;

/// Longest endpoint; those of browsers have some 200 characters.
const MAX_CHARS: usize = 2048;
/// The port of HTTPS.
const HTTPS: u16 = 443;

/// A URL that may be called, as far as is known before its host is resolved.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    host: Host,
    port: u16,
    /// Allowed by name: called even if its address is not public.
    is_allowed: bool,
    /// Scheme, host and port: the audience of a token, and the key of kept connections.
    pub origin: String,
    /// Path and query. Names the subscription, so it is never logged.
    pub target: String,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

fn no_url() -> Unsent {
    Unsent::refused("the endpoint is no URL that can be called")
}

impl Endpoint {
    /// Reads a subscription's endpoint. A host and port in `allow` need be neither public nor 443.
    ///
    /// # Errors
    /// It may not be called, whatever its host resolves to.
    pub(super) fn parse(text: &str, allow: &[(String, u16)]) -> Result<Self, Unsent> {
        if text.len() > MAX_CHARS {
            return Err(no_url());
        }
        let url = Url::parse(text).map_err(|_| no_url())?;
        if url.scheme() != "https" {
            return Err(Unsent::refused(
                "the endpoint is not https, and is never called",
            ));
        }
        let host = url.host().ok_or_else(no_url)?.to_owned();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(no_url());
        }
        let port = url.port().unwrap_or(HTTPS);
        let is_allowed = allow
            .iter()
            .any(|(name, number)| *number == port && *name == host.to_string());
        if port != HTTPS && !is_allowed {
            return Err(Unsent::refused(format!(
                "the endpoint has port {port} instead of 443, and is never called"
            )));
        }
        let mut target = url.path().to_owned();
        if let Some(query) = url.query() {
            target.push('?');
            target.push_str(query);
        }
        Ok(Endpoint {
            origin: url.origin().ascii_serialization(),
            host,
            port,
            is_allowed,
            target,
        })
    }

    /// The addresses that may be called.
    ///
    /// # Errors
    /// The host is unknown, or has no public address.
    pub(super) fn addresses(&self) -> Result<Vec<SocketAddr>, Unsent> {
        self.judged(|name, port| Ok((name, port).to_socket_addrs()?.collect()))
    }

    fn judged(
        &self,
        look_up: impl FnOnce(&str, u16) -> io::Result<Vec<SocketAddr>>,
    ) -> Result<Vec<SocketAddr>, Unsent> {
        let addresses = match &self.host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, self.port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, self.port))],
            Host::Domain(name) => look_up(name, self.port).map_err(|error| Unsent {
                why: format!("cannot look up {name}: {error}"),
                is_final: false,
            })?,
        };
        let reachable: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| self.is_allowed || is_public(address.ip()))
            .collect();
        match reachable.is_empty() {
            true => Err(Unsent::refused(format!(
                "{} is inside or reserved, not a public address, and is never called",
                self.host
            ))),
            false => Ok(reachable),
        }
    }

    /// Host, and the port where it is not the usual one, as in the `Host` header.
    pub(super) fn authority(&self) -> &str {
        self.origin.strip_prefix("https://").unwrap_or(&self.origin)
    }

    /// Host, as a certificate names it.
    pub(super) fn name(&self) -> Result<ServerName<'static>, Unsent> {
        ServerName::try_from(match &self.host {
            Host::Domain(name) => name.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        })
        .map_err(|_| no_url())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_URL: &str = "no URL";
    const SCHEME: &str = "not https";
    const PORT: &str = "instead of 443";
    const INSIDE: &str = "is inside or reserved";

    /// Whether it is refused for this reason.
    fn is<T>(found: &Result<T, Unsent>, why: &str) -> bool {
        let unsent = found.as_ref().err();
        unsent.is_some_and(|unsent| unsent.is_final && unsent.why.contains(why))
    }

    fn addresses(text: &str) -> Result<Vec<SocketAddr>, Unsent> {
        Endpoint::parse(text, &[])?.judged(|_, _| panic!("nothing to look up in {text}"))
    }

    #[test]
    fn an_inside_address_is_known_in_every_disguise() {
        for text in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://017700000001/",
            "https://10.1.2.3/x",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[fd00::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://[64:ff9b::10.0.0.1]/",
            "https://１２７.0.0.1/",
            "https:127.0.0.1/",
            "https://0/",
        ] {
            assert!(
                is(&addresses(text), INSIDE) || is(&addresses(text), NO_URL),
                "{text}"
            );
        }
        let public = addresses("https://1.1.1.1/x").expect("public");
        assert_eq!(public, ["1.1.1.1:443".parse().expect("address")]);
    }

    #[test]
    fn only_https_at_its_port_is_called() {
        let parse = |text: &str| Endpoint::parse(text, &[]);
        for text in [
            "http://push.test/",
            "ftp://push.test/",
            "file:///etc/passwd",
            "wss://push.test/",
        ] {
            assert!(is(&parse(text), SCHEME), "{text}");
        }
        for text in [
            "https://push.test:80/",
            "https://push.test:8443/",
            "https://1.1.1.1:22/",
        ] {
            assert!(is(&parse(text), PORT), "{text}");
        }
        let long = format!("https://push.test/{}", "x".repeat(MAX_CHARS));
        for text in [
            "",
            "push.test",
            "https://",
            "https://a b/",
            "https://u:p@push.test/",
            &long,
        ] {
            assert!(is(&parse(text), NO_URL), "{text}");
        }
        let endpoint = parse("HTTPS://Push.Test:443/a%20b/é?c=1&d#e").expect("a URL");
        assert_eq!(endpoint.origin, "https://push.test");
        assert_eq!(endpoint.authority(), "push.test");
        assert_eq!(endpoint.target, "/a%20b/%C3%A9?c=1&d");
        assert_eq!(format!("{endpoint:?}"), "https://push.test");
        let split = parse("https://push.test/a\r\nX: y").map(|one| one.target);
        assert_eq!(split.expect("line ends are taken out"), "/aX:%20y");
    }

    #[test]
    fn a_name_is_judged_by_what_it_means_now() {
        let endpoint = Endpoint::parse("https://push.test/x", &[]).expect("a URL");
        let of = |addresses: &[&str]| {
            let found = addresses
                .iter()
                .map(|one| one.parse().expect("address"))
                .collect();
            endpoint.judged(|name, port| {
                assert_eq!((name, port), ("push.test", 443));
                Ok(found)
            })
        };
        assert!(is(&of(&["127.0.0.1:443", "[fd00::1]:443"]), INSIDE));
        assert!(is(&of(&[]), INSIDE));
        assert_eq!(
            of(&["10.0.0.1:443", "1.1.1.1:443"]).expect("one is public"),
            ["1.1.1.1:443".parse().expect("address")]
        );
        let failed = endpoint.judged(|_, _| Err(io::Error::other("no such host")));
        assert!(failed.is_err_and(|unsent| !unsent.is_final));
    }

    #[test]
    fn what_is_allowed_may_be_inside() {
        let allow = [("localhost".to_owned(), 8443), ("[::1]".to_owned(), 443)];
        let found = |text: &str| {
            Endpoint::parse(text, &allow)?
                .judged(|_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]))
        };
        assert_eq!(
            found("https://LOCALHOST:8443/x").expect("allowed"),
            ["127.0.0.1:8443".parse().expect("address")]
        );
        assert!(found("https://[::1]/x").is_ok());
        assert!(is(&found("https://localhost/x"), INSIDE));
        assert!(is(&found("https://localhost:8444/x"), PORT));
        assert!(is(&found("https://127.0.0.1:8443/x"), PORT));
        assert!(is(&found("http://localhost:8443/x"), SCHEME));
    }
}
