//! What waits to be written to one socket: whole frames only, bounded, and nothing after the goodbye. Pure but
//! for the writer that is passed in.

use std::io::{self, Write};

use crate::frame::Frames;
use crate::hub::Weight;

/// Above this part of the limit what may be left out is left out.
const EPHEMERAL_SHARE: usize = 4;

/// Outgoing bytes of one socket.
#[derive(Debug, Default)]
pub struct Outbox {
    pending: Vec<u8>,
    /// How much of `pending` is written.
    written: usize,
    closing: bool,
    broken: bool,
    /// Coarse time since which the socket takes no more.
    behind_since: Option<u32>,
}

/// What became of bytes that were to be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// They are the first that wait: somebody must write them.
    First,
    /// They wait behind others.
    Queued,
    /// They were left out, or the socket takes nothing any more.
    LeftOut,
    /// There is no room for them: this reader is too slow to be kept.
    Overflow,
}

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Everything is out.
    All,
    /// Everything is out, the goodbye included.
    Goodbye,
    /// The socket takes no more now.
    Blocked,
    /// The socket takes nothing any more.
    Broken,
}

impl Outbox {
    /// Queues one frame. A single frame always fits, however large. Where there is no room the socket is tried first:
    /// one round may have more for a reader than may wait, and who reads all the time is not too slow for that.
    pub fn push(
        &mut self,
        frame: &[u8],
        weight: Weight,
        limit: usize,
        socket: &mut impl Write,
        now: u32,
    ) -> Pushed {
        if self.is_closing() {
            return Pushed::LeftOut;
        }
        let is_full = |backlog| backlog > 0 && backlog + frame.len() > limit;
        match weight {
            Weight::Ephemeral
                if is_full(self.backlog()) || self.backlog() > limit / EPHEMERAL_SHARE =>
            {
                return Pushed::LeftOut;
            }
            Weight::Essential if is_full(self.backlog()) => {
                self.write_to(socket, now);
                if self.broken {
                    return Pushed::LeftOut;
                }
                if is_full(self.backlog()) {
                    self.broken = true;
                    return Pushed::Overflow;
                }
            }
            _ => {}
        }
        let is_first = self.backlog() == 0;
        self.pending.extend_from_slice(frame);
        match is_first {
            true => Pushed::First,
            false => Pushed::Queued,
        }
    }

    /// Queues all but the first `skipped` of these frames: in one piece where they fit, else one by one.
    pub fn push_all(
        &mut self,
        frames: &Frames,
        skipped: usize,
        weight: Weight,
        limit: usize,
        socket: &mut impl Write,
        now: u32,
    ) -> Pushed {
        let bytes = frames.bytes_from(skipped);
        let backlog = self.backlog();
        if !self.is_closing() && backlog + bytes.len() <= limit / EPHEMERAL_SHARE {
            self.pending.extend_from_slice(bytes);
            return match (backlog, bytes.len()) {
                (0, 1..) => Pushed::First,
                _ => Pushed::Queued,
            };
        }
        let mut outcome = Pushed::LeftOut;
        for frame in frames.iter_from(skipped) {
            match self.push(frame, weight, limit, socket, now) {
                Pushed::First => outcome = Pushed::First,
                Pushed::Overflow => return Pushed::Overflow,
                Pushed::Queued | Pushed::LeftOut => {}
            }
        }
        outcome
    }

    /// Writes these frames without queueing them first, and queues what the socket does not take. `None`, and nothing
    /// done, where something waits before them or they are too many to be queued in one piece; `now` is coarse.
    pub fn write_through(
        &mut self,
        bytes: &[u8],
        limit: usize,
        mut socket: impl Write,
        now: u32,
    ) -> Option<Written> {
        if self.is_closing() || self.backlog() > 0 || bytes.len() > limit / EPHEMERAL_SHARE {
            return None;
        }
        let mut left = bytes;
        while !left.is_empty() {
            match socket.write(left) {
                Ok(count @ 1..) => left = &left[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.pending = left.to_vec();
                    self.written = 0;
                    self.behind_since.get_or_insert(now);
                    return Some(Written::Blocked);
                }
                Ok(_) | Err(_) => {
                    self.broken = true;
                    return Some(Written::Broken);
                }
            }
        }
        Some(Written::All)
    }

    /// Queues the last frame there is. False where there was one already.
    pub fn close(&mut self, frame: &[u8]) -> bool {
        if self.closing || self.broken {
            return false;
        }
        self.pending.extend_from_slice(frame);
        self.closing = true;
        true
    }

    /// Whether the last frame is queued, or the socket is of no further use.
    pub fn is_closing(&self) -> bool {
        self.closing || self.broken
    }

    /// Coarse time since which the socket takes no more.
    pub fn behind_since(&self) -> Option<u32> {
        self.behind_since
    }

    /// Bytes that wait.
    pub fn backlog(&self) -> usize {
        self.pending.len() - self.written
    }

    /// Writes as much as the socket takes; `now` is coarse.
    pub fn write_to(&mut self, mut socket: impl Write, now: u32) -> Written {
        while self.written < self.pending.len() {
            if self.broken {
                return Written::Broken;
            }
            match socket.write(&self.pending[self.written..]) {
                Ok(0) => self.broken = true,
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.behind_since.get_or_insert(now);
                    self.compact();
                    return Written::Blocked;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        // An idle socket keeps no buffer.
        self.pending = Vec::new();
        self.written = 0;
        self.behind_since = None;
        match (self.broken, self.closing) {
            (true, _) => Written::Broken,
            (false, true) => Written::Goodbye,
            (false, false) => Written::All,
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
    use crate::frame::Frame;

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
            outbox.push(b"abcd", Weight::Essential, 100, &mut socket, 7),
            Pushed::First
        );
        assert_eq!(
            outbox.push(b"efgh", Weight::Essential, 100, &mut socket, 7),
            Pushed::Queued
        );
        assert_eq!(outbox.write_to(&mut socket, 7), Written::Blocked);
        assert_eq!((outbox.backlog(), outbox.behind_since()), (3, Some(7)));
        socket.room = 100;
        assert!(outbox.close(b"!"));
        assert_eq!(
            outbox.push(b"more", Weight::Essential, 100, &mut socket, 7),
            Pushed::LeftOut
        );
        assert_eq!(outbox.write_to(&mut socket, 9), Written::Goodbye);
        assert_eq!(socket.taken, b"abcdefgh!");
    }

    #[test]
    fn typing_is_left_out_before_a_slow_reader_is_dropped() {
        let mut socket = Socket::default();
        let mut outbox = Outbox::default();
        assert_eq!(
            outbox.push(&[0; 300], Weight::Essential, 100, &mut socket, 7),
            Pushed::First
        );
        let mut outbox = Outbox::default();
        outbox.push(&[0; 26], Weight::Essential, 100, &mut socket, 7);
        assert_eq!(
            outbox.push(&[0], Weight::Ephemeral, 100, &mut socket, 7),
            Pushed::LeftOut
        );
        assert_eq!(
            outbox.push(&[0; 70], Weight::Essential, 100, &mut socket, 7),
            Pushed::Queued
        );
        assert_eq!(
            outbox.push(&[0; 70], Weight::Essential, 100, &mut socket, 7),
            Pushed::Overflow
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
        let pushed = outbox.push_all(&frames, 0, Weight::Essential, 100, &mut socket, 7);
        assert_eq!(pushed, Pushed::First);
        for _ in 0..5 {
            let pushed = outbox.push(&[0; 40], Weight::Essential, 100, &mut socket, 7);
            assert_ne!(pushed, Pushed::Overflow);
            assert!(outbox.backlog() <= 100);
        }
        // Now it takes nothing more.
        socket.room = 0;
        let mut pushed = Pushed::Queued;
        while pushed == Pushed::Queued {
            pushed = outbox.push(&[0; 40], Weight::Essential, 100, &mut socket, 7);
        }
        assert_eq!(pushed, Pushed::Overflow);
    }

    #[test]
    fn what_is_written_through_waits_behind_nothing_and_its_rest_comes_first() {
        let mut socket = Socket {
            room: 5,
            taken: Vec::new(),
        };
        let mut outbox = Outbox::default();
        let written = outbox.write_through(b"abcdefgh", 100, &mut socket, 7);
        assert_eq!(written, Some(Written::Blocked));
        assert_eq!((outbox.backlog(), outbox.behind_since()), (3, Some(7)));
        assert_eq!(outbox.write_through(b"ijk", 100, &mut socket, 7), None);
        assert_eq!(
            outbox.push(b"ijk", Weight::Essential, 100, &mut socket, 7),
            Pushed::Queued
        );
        socket.room = 100;
        assert_eq!(outbox.write_to(&mut socket, 8), Written::All);
        let written = outbox.write_through(b"lmn", 100, &mut socket, 8);
        assert_eq!(written, Some(Written::All));
        assert_eq!(outbox.write_through(&[0; 26], 100, &mut socket, 8), None);
        assert_eq!(socket.taken, b"abcdefghijklmn");
        assert!(outbox.close(b"!"));
        assert_eq!(outbox.write_through(b"o", 100, &mut socket, 8), None);
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
            outbox.push_all(&frames, 1, Weight::Ephemeral, 160, &mut socket, 7),
            Pushed::First
        );
        assert_eq!(outbox.backlog(), 30);
        // One more fits below a quarter of the limit, and one beyond it before it shows.
        assert_eq!(
            outbox.push_all(&frames, 0, Weight::Ephemeral, 160, &mut socket, 7),
            Pushed::LeftOut
        );
        assert_eq!(outbox.backlog(), 50);
        assert_eq!(
            outbox.push_all(&frames, 0, Weight::Essential, 80, &mut socket, 7),
            Pushed::Overflow
        );
    }
}
