//! The stream adapter for the WebSocket crate: reads block, writes (pongs) go to the outbox.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use rustix::net::{SendFlags, send};
use tungstenite::protocol::WebSocketConfig;

use super::connection::{Connection, READ_BYTES};

/// Bytes of headers that a message in fragments may have beside its own size: more than ten thousand fragments.
const FRAGMENT_OVERHEAD: usize = 64 * 1024;

/// The crate's limits, and buffers that cost a silent socket next to nothing.
pub(super) fn websocket_config(max_message: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        // Everything goes straight on to the outbox, which is where the limit is.
        .write_buffer_size(0)
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message))
}

/// What one message may take on the line. The crate bounds its size; a message in endless empty fragments never grows,
/// and never ends.
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

/// Writes to a blocking socket as far as it takes something at once.
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
