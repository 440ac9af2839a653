//! Outgoing WebSocket frames (RFC 6455 section 5.2): encoded once, their bytes shared by all recipients. A server does not
//! mask.

use std::sync::Arc;

use crate::model::CloseCode;

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const FINAL: u8 = 0x80;

/// One complete frame, ready to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Arc<[u8]>);

impl Frame {
    /// A text frame.
    pub fn text(text: &str) -> Self {
        Frame::encode(TEXT, text.as_bytes())
    }

    /// A close frame without a reason; the code says all that a client needs.
    pub fn close(code: CloseCode) -> Self {
        Frame::encode(CLOSE, &code.number().to_be_bytes())
    }

    /// An empty ping.
    pub fn ping() -> Self {
        Frame::encode(PING, &[])
    }

    /// Several frames as one piece.
    pub fn joined(frames: &[&Frame]) -> Self {
        let pieces: Vec<&[u8]> = frames.iter().map(|frame| frame.bytes()).collect();
        Frame(pieces.concat().into())
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn encode(opcode: u8, payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len() + 10);
        bytes.push(FINAL | opcode);
        match payload.len() {
            length @ 0..=125 => bytes.push(length as u8),
            length @ 126..=0xFFFF => {
                bytes.push(126);
                bytes.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                bytes.push(127);
                bytes.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        Frame(bytes.into())
    }
}

/// Several frames in a row, in one piece for recipients that get all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where each frame ends.
    ends: Vec<usize>,
}

impl From<&Frame> for Frames {
    fn from(frame: &Frame) -> Self {
        let mut frames = Frames::default();
        frames.push(frame);
        frames
    }
}

impl Frames {
    /// Appends a frame.
    pub fn push(&mut self, frame: &Frame) {
        self.bytes.extend_from_slice(frame.bytes());
        self.ends.push(self.bytes.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all but the first `skipped` frames.
    pub fn bytes_from(&self, skipped: usize) -> &[u8] {
        &self.bytes[self.start_of(skipped)..]
    }

    /// All but the first `skipped` frames, one by one.
    pub fn iter_from(&self, skipped: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(self.start_of(skipped));
        let ends = self.ends.iter().skip(skipped).copied();
        starts
            .chain(ends.clone())
            .zip(ends)
            .map(|(start, end)| &self.bytes[start..end])
    }

    /// Takes the first `count` frames out.
    pub fn drop_first(&mut self, count: usize) {
        let start = self.start_of(count);
        self.bytes.drain(..start);
        self.ends.drain(..count);
        for end in &mut self.ends {
            *end -= start;
        }
    }

    fn start_of(&self, place: usize) -> usize {
        match place {
            0 => 0,
            place => self.ends[place - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_has_the_shortest_of_its_three_forms() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (65_535, vec![0x81, 126, 0xFF, 0xFF]),
            (65_536, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = Frame::text(&"a".repeat(length));
            assert_eq!(&frame.bytes()[..header.len()], header);
            assert_eq!(frame.bytes().len(), header.len() + length);
        }
    }

    #[test]
    fn a_close_frame_carries_its_code() {
        assert_eq!(
            Frame::close(CloseCode::Unauthorised).bytes(),
            [0x88, 2, 0x11, 0x31]
        );
    }

    #[test]
    fn frames_in_a_row_are_taken_apart_where_they_were_joined() {
        let mut frames = Frames::default();
        for text in ["one", "three", "two"] {
            frames.push(&Frame::text(text));
        }
        let parts: Vec<&[u8]> = frames.iter_from(1).collect();
        assert_eq!(parts, [&b"\x81\x05three"[..], b"\x81\x03two"]);
        assert_eq!(frames.bytes_from(1), b"\x81\x05three\x81\x03two");
        frames.drop_first(2);
        assert_eq!(
            (frames.len(), frames.bytes_from(0)),
            (1, &b"\x81\x03two"[..])
        );
    }
}
