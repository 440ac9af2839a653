//! The options of Web Push (contract: operations.md, "Web Push").

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Error, Variables};

/// The options of Web Push, fixed for the life of the process.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// `CHAT_WEBSOCKET_PUSH_ALLOW`: hosts and ports that may be connected to although they are not public.
    pub allow: Vec<(String, u16)>,
    /// `CHAT_WEBSOCKET_PUSH_CA`: file of additional trusted certificates.
    pub ca_file: Option<PathBuf>,
    /// `CHAT_WEBSOCKET_PUSH_TIMEOUT`, s: time limit for one push, from the look-up of its host to the end of the answer.
    pub timeout: Duration,
    /// `CHAT_WEBSOCKET_PUSH_QUEUE`: most notices that may wait to be pushed.
    pub queue: usize,
}

impl PushOptions {
    /// From the variables of an install at `root`.
    ///
    /// # Errors
    /// A value cannot be used.
    pub fn from_variables(root: &Path, variables: &Variables) -> Result<Self, Error> {
        const ALLOW: &str = "CHAT_WEBSOCKET_PUSH_ALLOW";
        let allow = variables.get(ALLOW).unwrap_or_default();
        let allow = allow
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
            .map(|entry| {
                host_and_port(entry).ok_or_else(|| {
                    variables.wrong(
                        ALLOW,
                        format!(
                            "has {entry:?}, expected HOST:PORT, several separated by commas; leave it out unless push \
                             services of your own stand inside your network"
                        ),
                    )
                })
            })
            .collect::<Result<_, _>>();
        let allow = variables.accept(allow, Vec::new())?;
        Ok(PushOptions {
            allow,
            ca_file: variables
                .get("CHAT_WEBSOCKET_PUSH_CA")
                .map(|path| root.join(path)),
            timeout: variables.seconds("CHAT_WEBSOCKET_PUSH_TIMEOUT")?,
            queue: variables.number("CHAT_WEBSOCKET_PUSH_QUEUE")? as usize,
        })
    }
}

/// The host in lower case (an IPv6 address needs its brackets) and the port.
fn host_and_port(entry: &str) -> Option<(String, u16)> {
    let (host, port) = entry.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_bracketed || !host.contains(':'));
    is_host.then(|| (host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowed_place_is_a_host_and_a_port() {
        assert_eq!(
            host_and_port("LocalHost:8443"),
            Some(("localhost".to_owned(), 8443))
        );
        assert_eq!(host_and_port("[::1]:443"), Some(("[::1]".to_owned(), 443)));
        for bad in [
            "",
            "localhost",
            ":443",
            "localhost:0",
            "localhost:x",
            "::1:443",
            "a:65536",
        ] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
