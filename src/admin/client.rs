//! The client's end of a chat socket, for subcommands: framing only, over a stream that has done its handshake.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error, Message};

/// A client's socket.
pub(super) struct Client<S = TcpStream>(WebSocket<S>);

/// What a client receives.
pub(super) enum Heard {
    /// An event.
    Event(Value),
    /// A ping; the pong goes out with the next call.
    Ping,
    /// The peer closes, with this code and reason.
    Closed(String),
}

impl<S: Read + Write> Client<S> {
    /// A client over `stream`; `rest` is what was read beyond the handshake.
    pub(super) fn new(stream: S, rest: Vec<u8>) -> Self {
        Client(WebSocket::from_partially_read(
            stream,
            rest,
            Role::Client,
            None,
        ))
    }

    /// Sends an event.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn send(&mut self, event: &Value) -> io::Result<()> {
        self.0
            .send(Message::text(event.to_string()))
            .map_err(io_error)
    }

    /// The next event; pings are answered meanwhile.
    ///
    /// # Errors
    /// The connection is lost, was silent for its read time-out, or a frame is not a JSON event.
    pub(super) fn next_event(&mut self) -> io::Result<Value> {
        loop {
            if let Heard::Event(event) = self.hear()? {
                return Ok(event);
            }
        }
    }

    /// The next event, ping or close.
    ///
    /// # Errors
    /// As [`Client::next_event`].
    pub(super) fn hear(&mut self) -> io::Result<Heard> {
        loop {
            return Ok(match self.0.read().map_err(io_error)? {
                Message::Text(text) => Heard::Event(serde_json::from_str(&text)?),
                Message::Ping(_) => Heard::Ping,
                Message::Close(Some(frame)) => Heard::Closed(format!(
                    "closed with {}, {:?}",
                    u16::from(frame.code),
                    frame.reason.as_str()
                )),
                Message::Close(None) => Heard::Closed("closed without a code".to_owned()),
                _ => continue,
            });
        }
    }
}

fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::ErrorKind::UnexpectedEof.into()
        }
        Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_) => {
            io::Error::new(io::ErrorKind::InvalidData, error.to_string())
        }
        error => io::Error::new(io::ErrorKind::UnexpectedEof, error.to_string()),
    }
}
