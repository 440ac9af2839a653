//! The frames queued for one socket: whole frames only, bounded, and nothing after the close frame. Pure except for the
//! writer passed in.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::config::limits::CLOSE_LINGER;
use crate::hub::{Queued, Weight};
use crate::protocol::frame::Frames;

/// Once more than the limit divided by this is queued, ephemeral frames are dropped: the rest is for essential ones.
const EPHEMERAL_SHARE: usize = 4;
/// From this size in bytes on, a piece is written directly instead of being copied into the outbox.
const WRITE_THROUGH_BYTES: usize = 8 * 1024;
/// How long the last words to an evicted socket may take to be written.
const EVICTION_TIMEOUT: Duration = Duration::from_secs(1);

/// Outgoing bytes of one socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pending: Vec<u8>,
    /// How much of `pending` is written.
    written: usize,
    closing: Option<(Closing, Instant)>,
    is_broken: bool,
    /// Since when the socket has not taken everything.
    behind_since: Option<Instant>,
}

/// How a socket is closed once its last words are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// The peer has a moment, [`CLOSE_LINGER`], to read them and close its side.
    Gracefully,
    /// Both directions end as soon as they are written.
    AtOnce,
}

/// The frame does not fit: this reader is too slow to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// The last words of a socket are queued already, or it is broken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AlreadyClosing;

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Everything is out.
    All,
    /// Everything is out, the last words included.
    LastWords(Closing),
    /// The socket takes no more now.
    Blocked,
    /// The socket has failed.
    Broken,
}

impl Outbox {
    /// Queues one frame; an empty outbox takes any, however large. If there is no room, the socket is written first: one
    /// batch may hold more for a reader than the limit, and a reader that keeps reading is not too slow.
    pub(super) fn push(
        &mut self,
        frame: &[u8],
        weight: Weight,
        limit: usize,
        socket: &mut impl Write,
    ) -> Result<Queued, Overflow> {
        if self.is_closing() {
            return Ok(Queued::Nothing);
        }
        let is_full = |backlog| backlog > 0 && backlog + frame.len() > limit;
        let backlog = self.backlog();
        if weight == Weight::Ephemeral && (is_full(backlog) || backlog > limit / EPHEMERAL_SHARE) {
            return Ok(Queued::Nothing);
        }
        if is_full(backlog) {
            self.write_to(socket);
            if self.is_broken {
                return Ok(Queued::Nothing);
            }
            if is_full(self.backlog()) {
                self.is_broken = true;
                return Err(Overflow);
            }
        }
        Ok(self.append(frame))
    }

    fn append(&mut self, bytes: &[u8]) -> Queued {
        let is_first = self.backlog() == 0 && !bytes.is_empty();
        self.pending.extend_from_slice(bytes);
        match is_first {
            true => Queued::NeedsFlush,
            false => Queued::Nothing,
        }
    }

    /// Queues all but the first `skipped` of these frames: in one piece if they stay within the limit divided by
    /// `EPHEMERAL_SHARE`, else one by one. A large piece is written at once if nothing waits before it, and only the rest
    /// is queued: a copy in every recipient's outbox would halve the rate of a saturated fan-out.
    pub(super) fn push_all(
        &mut self,
        frames: &Frames,
        skipped: usize,
        weight: Weight,
        limit: usize,
        socket: &mut impl Write,
    ) -> Result<Queued, Overflow> {
        let bytes = frames.bytes_from(skipped);
        let backlog = self.backlog();
        if !self.is_closing() && backlog + bytes.len() <= limit / EPHEMERAL_SHARE {
            let count = match backlog == 0 && bytes.len() >= WRITE_THROUGH_BYTES {
                // The next write finds a broken socket.
                true => socket.write(bytes).unwrap_or(0),
                false => 0,
            };
            return Ok(self.append(&bytes[count..]));
        }
        let mut outcome = Queued::Nothing;
        for frame in frames.iter_from(skipped) {
            if self.push(frame, weight, limit, socket)? == Queued::NeedsFlush {
                outcome = Queued::NeedsFlush;
            }
        }
        Ok(outcome)
    }

    /// Queues the last words.
    pub(super) fn close(&mut self, words: &[u8], closing: Closing) -> Result<(), AlreadyClosing> {
        if self.is_closing() {
            return Err(AlreadyClosing);
        }
        self.pending.extend_from_slice(words);
        self.closing = Some((closing, Instant::now()));
        Ok(())
    }

    /// Whether the last words are queued, or the socket is of no further use.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some() || self.is_broken
    }

    /// Whether the peer's time after the last words is over.
    pub(super) fn is_close_overdue(&self, now: Instant) -> bool {
        self.closing.is_some_and(|(closing, since)| {
            let limit = match closing {
                Closing::Gracefully => CLOSE_LINGER,
                Closing::AtOnce => EVICTION_TIMEOUT,
            };
            now.saturating_duration_since(since) >= limit
        })
    }

    /// Since when the socket has not taken everything.
    pub(super) fn behind_since(&self) -> Option<Instant> {
        self.behind_since
    }

    /// Bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Writes as much as the socket takes.
    pub(super) fn write_to(&mut self, mut socket: impl Write) -> Written {
        while self.written < self.pending.len() {
            if self.is_broken {
                return Written::Broken;
            }
            match socket.write(&self.pending[self.written..]) {
                Ok(0) => self.is_broken = true,
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.behind_since.get_or_insert_with(Instant::now);
                    self.compact();
                    return Written::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.is_broken = true,
            }
        }
        // An idle socket keeps no buffer.
        self.pending = Vec::new();
        self.written = 0;
        self.behind_since = None;
        match (self.is_broken, self.closing) {
            (true, _) => Written::Broken,
            (false, Some((closing, _))) => Written::LastWords(closing),
            (false, None) => Written::All,
        }
    }

    fn compact(&mut self) {
        if self.written > self.pending.len() / 2 {
            self.pending.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Frame;

    /// Takes `room` bytes, then no more.
    #[derive(Default)]
    struct Socket {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room);
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= count;
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_does_not_fit_waits_and_comes_out_in_order() {
        let mut socket = Socket {
            room: 5,
            taken: Vec::new(),
        };
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.push(b"abcd", Weight::Essential, 100, &mut socket),
            Ok(Queued::NeedsFlush)
        );
        assert_eq!(
            outbox.push(b"efgh", Weight::Essential, 100, &mut socket),
            Ok(Queued::Nothing)
        );
        assert_eq!(outbox.write_to(&mut socket), Written::Blocked);
        assert_eq!(
            (outbox.backlog(), outbox.behind_since().is_some()),
            (3, true)
        );
        socket.room = 100;
        assert_eq!(outbox.close(b"!", Closing::Gracefully), Ok(()));
        assert_eq!(
            outbox.push(b"more", Weight::Essential, 100, &mut socket),
            Ok(Queued::Nothing)
        );
        assert_eq!(
            outbox.write_to(&mut socket),
            Written::LastWords(Closing::Gracefully)
        );
        assert_eq!(socket.taken, b"abcdefgh!");
    }

    #[test]
    fn typing_is_left_out_before_a_slow_reader_is_dropped() {
        let mut socket = Socket::default();
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.push(&[0; 300], Weight::Essential, 100, &mut socket),
            Ok(Queued::NeedsFlush)
        );
        let mut outbox = Outbox::default();
        let _ = outbox.push(&[0; 26], Weight::Essential, 100, &mut socket);
        assert_eq!(
            outbox.push(&[0], Weight::Ephemeral, 100, &mut socket),
            Ok(Queued::Nothing)
        );
        assert_eq!(
            outbox.push(&[0; 70], Weight::Essential, 100, &mut socket),
            Ok(Queued::Nothing)
        );
        assert_eq!(
            outbox.push(&[0; 70], Weight::Essential, 100, &mut socket),
            Err(Overflow)
        );
        assert!(outbox.is_closing());
    }

    #[test]
    fn a_reader_who_takes_everything_is_not_dropped_for_a_round_that_is_larger_than_the_limit() {
        let mut frames = Frames::default();
        for _ in 0..50 {
            frames.push(&Frame::text("12345678"));
        }
        let mut socket = Socket {
            room: 1000,
            ..Socket::default()
        };
        let mut outbox = Outbox::default();
        let pushed = outbox.push_all(&frames, 0, Weight::Essential, 100, &mut socket);
        assert_eq!(pushed, Ok(Queued::NeedsFlush));
        for _ in 0..5 {
            let pushed = outbox.push(&[0; 40], Weight::Essential, 100, &mut socket);
            assert_ne!(pushed, Err(Overflow));
            assert!(outbox.backlog() <= 100);
        }
        // Now it takes nothing more.
        socket.room = 0;
        let mut pushed = Ok(Queued::Nothing);
        while pushed == Ok(Queued::Nothing) {
            pushed = outbox.push(&[0; 40], Weight::Essential, 100, &mut socket);
        }
        assert_eq!(pushed, Err(Overflow));
    }

    #[test]
    fn a_large_piece_is_written_at_once_and_its_rest_comes_first() {
        const LIMIT: usize = 4 * WRITE_THROUGH_BYTES;
        let piece = |bytes: usize| {
            let mut frames = Frames::default();
            frames.push(&Frame::text(&"a".repeat(bytes)));
            frames
        };
        let large = piece(WRITE_THROUGH_BYTES - 4);
        let bytes = large.bytes_from(0).to_vec();
        let mut socket = Socket {
            room: bytes.len() - 3,
            taken: Vec::new(),
        };
        let mut outbox = Outbox::default();
        let push = |outbox: &mut Outbox, frames: &Frames, socket: &mut Socket| {
            outbox.push_all(frames, 0, Weight::Essential, LIMIT, socket)
        };
        let pushed = push(&mut outbox, &large, &mut socket);
        assert_eq!((pushed, outbox.backlog()), (Ok(Queued::NeedsFlush), 3));
        let pushed = push(&mut outbox, &piece(3), &mut socket);
        assert_eq!((pushed, outbox.backlog()), (Ok(Queued::Nothing), 8));
        socket.room = 2 * bytes.len();
        assert_eq!(outbox.write_to(&mut socket), Written::All);
        assert_eq!(socket.taken, [&bytes[..], piece(3).bytes_from(0)].concat());
        // If the socket takes all of it, nothing is left to flush. A small piece is queued.
        let pushed = push(&mut outbox, &large, &mut socket);
        assert_eq!((pushed, outbox.backlog()), (Ok(Queued::Nothing), 0));
        let pushed = push(&mut outbox, &piece(3), &mut socket);
        assert_eq!((pushed, outbox.backlog()), (Ok(Queued::NeedsFlush), 5));
        assert_eq!(outbox.write_to(&mut socket), Written::All);
        // Nothing is written behind the last words.
        assert_eq!(outbox.close(b"!", Closing::Gracefully), Ok(()));
        let taken = socket.taken.len();
        let pushed = push(&mut outbox, &large, &mut socket);
        assert_eq!((pushed, socket.taken.len()), (Ok(Queued::Nothing), taken));
    }

    #[test]
    fn frames_in_a_row_are_left_out_one_by_one() {
        let mut frames = Frames::default();
        for _ in 0..4 {
            frames.push(&Frame::text("12345678"));
        }
        let mut socket = Socket::default();
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.push_all(&frames, 1, Weight::Ephemeral, 160, &mut socket),
            Ok(Queued::NeedsFlush)
        );
        assert_eq!(outbox.backlog(), 30);
        // The backlog before a frame decides: 30 and 40 are within a quarter of the limit, 50 is not.
        assert_eq!(
            outbox.push_all(&frames, 0, Weight::Ephemeral, 160, &mut socket),
            Ok(Queued::Nothing)
        );
        assert_eq!(outbox.backlog(), 50);
        assert_eq!(
            outbox.push_all(&frames, 0, Weight::Essential, 80, &mut socket),
            Err(Overflow)
        );
    }
}
