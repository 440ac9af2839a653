//! What the service tells systemd, by its own protocol: datagrams to the socket that `NOTIFY_SOCKET` names. Twenty
//! lines, so no crate. Started by anything else, it tells nobody.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use log::warn;

/// How long a full socket is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The way to whoever started the service.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok();
        let to = variable("NOTIFY_SOCKET").and_then(|address| {
            let opened = open(&address);
            if let Err(error) = &opened {
                warn!("cannot notify the service manager at NOTIFY_SOCKET: {error}");
            }
            opened.ok()
        });
        // For this process alone, not for one that inherited the variable.
        let is_meant =
            variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC")
            .and_then(|interval| interval.parse().ok())
            .filter(|interval| is_meant && *interval > 0)
            .map(Duration::from_micros);
        Notifier { to, watchdog }
    }

    /// Whether anybody listens.
    pub fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// Within which time [`Notifier::alive`] is expected, again and again.
    pub fn watchdog(&self) -> Option<Duration> {
        self.to.as_ref().and(self.watchdog)
    }

    /// The service can be used.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// How things stand, in one line.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// The service goes on.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.to {
            // A listener that has gone away misses nothing that could be told it otherwise.
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }
}

fn open(address: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_address_are_reached() {
        let path = env::temp_dir().join(format!("andrea-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let name = format!("andrea-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let listeners = [
            (path.display().to_string(), UnixDatagram::bind(&path)),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name)),
        ];
        for (address, listener) in listeners {
            let listener = listener.expect("bound");
            let notifier = Notifier {
                to: open(&address).ok(),
                watchdog: None,
            };
            notifier.ready();
            notifier.status("two\nlines");
            assert_eq!(heard(&listener), "READY=1");
            assert_eq!(heard(&listener), "STATUS=two lines");
            drop(listener);
            notifier.stopping();
        }
        std::fs::remove_file(&path).expect("clean up");
    }
}
