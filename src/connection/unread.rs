//! What was read from a socket before the WebSocket crate asked for it. The crate keeps a buffer for each connection, which
//! is small for that reason; a socket that has more than fits into it is read in larger pieces, which cost a system call
//! each, and has a buffer of its own for as long as it is busy.

use std::io::{self, Read};
use std::net::TcpStream;

use rustix::buffer::spare_capacity;

/// The larger pieces, in bytes.
pub const PIECE_BYTES: usize = 16 * 1024;

/// The rest of such a piece.
#[derive(Debug, Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    /// How much of it was taken.
    taken: usize,
    /// Whether the last read got all that there was room for.
    is_busy: bool,
}

impl Unread {
    /// Reads like the socket, from what is here first; no more than that where nothing may be read `ahead`.
    ///
    /// # Errors
    /// The socket's; nothing is here then.
    pub(super) fn read(
        &mut self,
        mut stream: &TcpStream,
        buffer: &mut [u8],
        ahead: impl FnOnce() -> bool,
    ) -> io::Result<usize> {
        if self.taken == self.bytes.len() {
            if !self.is_busy || !ahead() {
                let count = stream.read(buffer)?;
                self.is_busy = count == buffer.len();
                return Ok(count);
            }
            self.forget();
            self.bytes.reserve_exact(PIECE_BYTES);
            let count = rustix::io::read(stream, spare_capacity(&mut self.bytes));
            if !matches!(count, Ok(1..)) {
                self.forget();
            }
            self.is_busy = count? >= PIECE_BYTES;
        }
        let rest = &self.bytes[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.bytes.len() {
            // A socket that rests has no buffer.
            let is_busy = self.is_busy;
            self.forget();
            self.is_busy = is_busy;
        }
        Ok(count)
    }

    /// Throws it away.
    pub(super) fn forget(&mut self) {
        *self = Unread::default();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).expect("connect");
        let (server, _) = listener.accept().expect("accept");
        server.set_nonblocking(true).expect("non-blocking");
        (client, server)
    }

    /// Everything until the socket has no more, in reads of `size`.
    fn drain(unread: &mut Unread, server: &TcpStream, size: usize) -> (Vec<u8>, io::Result<()>) {
        let (mut all, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            match unread.read(server, &mut buffer, || true) {
                Ok(0) => return (all, Ok(())),
                Ok(count) => all.extend_from_slice(&buffer[..count]),
                Err(error) => return (all, Err(error)),
            }
        }
    }

    #[test]
    fn every_byte_comes_once_and_in_order_whatever_the_sizes() {
        let (mut client, server) = pair();
        let mut unread = Unread::default();
        let sizes = [
            0,
            1,
            1023,
            1024,
            1025,
            2048,
            PIECE_BYTES,
            PIECE_BYTES + 1024,
            40_000,
        ];
        for size in sizes {
            let sent: Vec<u8> = (0..size).map(|place| (place * 7 + size) as u8).collect();
            client.write_all(&sent).expect("send");
            let (mut got, mut end) = (Vec::new(), None);
            // The loopback device may deliver it in parts.
            while got.len() < sent.len() || end.is_none() {
                let (part, how) = drain(&mut unread, &server, 1024);
                got.extend(part);
                end = Some(how.expect_err("it is open").kind());
            }
            assert_eq!(got, sent, "{size}");
            assert_eq!(end, Some(io::ErrorKind::WouldBlock));
            assert_eq!(
                unread.bytes.capacity(),
                0,
                "a socket that rests has no buffer"
            );
        }
    }

    #[test]
    fn nothing_is_read_ahead_where_it_may_not() {
        let (mut client, server) = pair();
        client.write_all(&[7; 5000]).expect("send");
        server.set_nonblocking(false).expect("blocking");
        let (mut unread, mut buffer) = (Unread::default(), [0; 1000]);
        for _ in 0..5 {
            let count = unread.read(&server, &mut buffer, || false);
            assert_eq!(count.expect("bytes"), 1000);
            assert!(unread.bytes.is_empty());
        }
    }

    #[test]
    fn the_end_of_the_stream_comes_after_all_bytes() {
        let (mut client, server) = pair();
        client.write_all(&[5; 30_000]).expect("send");
        drop(client);
        server.set_nonblocking(false).expect("blocking");
        let mut unread = Unread::default();
        let (all, end) = drain(&mut unread, &server, 1000);
        assert_eq!(all, vec![5; 30_000]);
        end.expect("an end and no error");
    }
}
