//! The stream adapter for the WebSocket crate: reads block, writes (pongs) go to the outbox.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustix::net::{SendFlags, send};
use tungstenite::protocol::WebSocketConfig;

use super::connection::{Connection, READ_BYTES};

/// Most bytes of frame headers in one message: enough for ten thousand fragments, at six bytes each.
const FRAGMENT_OVERHEAD: usize = 64 * 1024;

/// The crate's limits, and buffers that cost a silent socket next to nothing.
pub(super) fn websocket_config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        // Everything goes straight to the outbox, which has the limit.
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// Most bytes that one message may take on the line, headers included. The crate bounds only its size, which endless empty
/// fragments never reach.
pub(super) fn max_bytes_on_line(config: &WebSocketConfig) -> usize {
    let max_message = config.max_message_size.unwrap_or(usize::MAX);
    max_message.saturating_add(FRAGMENT_OVERHEAD)
}

/// The stream.
pub(super) struct WsStream<'a> {
    pub(super) connection: &'a Connection,
    /// Counts what is read, up to a little more than `max_bytes`.
    pub(super) message_bytes: &'a mut usize,
    pub(super) max_bytes: usize,
}

impl Read for WsStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.message_bytes > self.max_bytes {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.connection.read(buffer)?;
        *self.message_bytes += count;
        Ok(count)
    }
}

impl Write for WsStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.send(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to a blocking socket only what it takes at once.
pub(super) struct NonBlocking<'a>(pub(super) &'a TcpStream);

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(
            self.0,
            bytes,
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
