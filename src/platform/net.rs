//! Resolves names, connects as a client, and reads and writes with a deadline.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The addresses of a listen host (a name, an IPv4 address, or an IPv6 address in brackets) and port, IPv4 first: the
/// proxy looks for the service there. `localhost` is this machine's loopback whatever `/etc/hosts` says or lacks (RFC 6761
/// section 6.3).
///
/// # Errors
/// The name has no address.
pub(crate) fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if is_localhost(host) {
        return Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    let mut addresses: Vec<SocketAddr> = format!("{host}:{port}").to_socket_addrs()?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    Ok(addresses)
}

/// Whether a name is `localhost` or below it.
pub(crate) fn is_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Connects to a host as [`addresses`] takes it; each of its addresses has `timeout`.
///
/// # Errors
/// That of the last address, or that there is none.
pub(crate) fn connect(host: &str, port: u16, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in addresses(host, port)? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket that is read and written until a deadline. A time-out of the socket bounds one call; a peer that sends one byte
/// at a time would stretch that without end.
pub(crate) struct Wire {
    /// The socket.
    pub socket: TcpStream,
    /// When reads and writes begin to fail with `TimedOut`.
    pub deadline: Instant,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(left(self.deadline)?))?;
        self.socket.read(buffer).map_err(timed_out)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.set_write_timeout(Some(left(self.deadline)?))?;
        self.socket.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The time that is left until `deadline`.
///
/// # Errors
/// `TimedOut`: there is none.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left),
    }
}

/// Names a time-out, for which the system says `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a16_localhost_is_loopback_in_every_spelling() {
        for name in ["localhost", "LocalHost", "localhost.", "chat.localhost"] {
            let found = addresses(name, 8090).expect(name);
            assert_eq!(found[0].to_string(), "127.0.0.1:8090", "{name}");
        }
        assert!(!is_localhost("localhost.example") && !is_localhost("mylocalhost"));
    }
}
