//! A socket as the WebSocket crate is shown it.

use std::io::{self, Read, Write};

use tungstenite::protocol::WebSocketConfig;

use super::fragments::Fragments;
use super::unread::Unread;
use super::{BYTES_PER_TURN, Connection, READ_BYTES};
use crate::hub::Weight;

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

/// A socket as the WebSocket crate sees it: reads come from the socket, as far as its turn goes; writes (pongs) go to
/// the outbox.
pub(super) struct Port<'a> {
    pub(super) connection: &'a Connection,
    pub(super) unread: &'a mut Unread,
    pub(super) read: &'a mut usize,
    pub(super) fragments: &'a mut Fragments,
    pub(super) is_shredded: &'a mut bool,
}

impl Read for Port<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if *self.read >= BYTES_PER_TURN || *self.is_shredded {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A socket that takes nothing has its next turn when bytes arrive: none may lie here then.
        let takes_all = || self.connection.outbox().behind_since().is_none();
        let count = self
            .unread
            .read(&self.connection.stream, buffer, takes_all)?;
        *self.read += count;
        let limit = self.connection.reactor.service().limits.fragments;
        *self.is_shredded = !self.fragments.take(&buffer[..count], limit);
        Ok(count)
    }
}

impl Write for Port<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.push_bytes(bytes, Weight::Essential);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
