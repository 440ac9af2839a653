//! Connecting as a client, within a limit.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Connects to a listen host (a name, an IPv4 address, or an IPv6 address in brackets) and port, each of its
/// addresses for so long.
///
/// # Errors
/// That of the last address, or that there is none.
pub fn connect(host: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for address in format!("{host}:{port}").to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
