//! Counts the fragments of messages in the bytes that a peer sends, before the WebSocket crate puts them together:
//! a message in a million fragments of one byte is small and still costs a million frames. Pure.

/// Longest frame header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// Where in the stream of frames the next byte stands.
#[derive(Debug, Default)]
pub struct Fragments {
    header: [u8; MAX_HEADER],
    have: usize,
    /// Bytes of payload still to come.
    payload: u64,
    /// Frames of the message that is not complete yet.
    count: u32,
}

impl Fragments {
    /// Looks at bytes as they come. False once a message has more than `limit` frames.
    pub fn take(&mut self, mut bytes: &[u8], limit: u32) -> bool {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len() as u64);
                self.payload -= skipped;
                bytes = &bytes[skipped as usize..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have == self.length_of_header() {
                self.have = 0;
                self.payload = self.length_of_payload();
                if !self.count_frame(limit) {
                    return false;
                }
            }
        }
        true
    }

    fn length_of_header(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 != 0 { 4 } else { 0 };
        mask + match self.header[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        }
    }

    fn length_of_payload(&self) -> u64 {
        let bytes = |range: std::ops::Range<usize>| {
            self.header[range]
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        match self.header[1] & 0x7f {
            126 => bytes(2..4),
            127 => bytes(2..10),
            short => u64::from(short),
        }
    }

    fn count_frame(&mut self, limit: u32) -> bool {
        let (is_final, is_control) = (self.header[0] & 0x80 != 0, self.header[0] & 0x08 != 0);
        if is_control {
            return true;
        }
        self.count = self.count.saturating_add(1);
        let within = self.count <= limit;
        if is_final {
            self.count = 0;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame of so many bytes.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(0x80 | length as u8),
            126..=0xffff => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend([0xff; 4]);
        bytes.resize(bytes.len() + length, 0x00);
        bytes
    }

    #[test]
    fn frames_of_one_message_are_counted_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for length in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            stream.extend(frame(0x81, length));
        }
        // A message of three frames with a ping in between.
        stream.extend(frame(0x01, 5));
        stream.extend(frame(0x89, 3));
        stream.extend(frame(0x00, 200));
        stream.extend(frame(0x80, 0));
        for size in [1, 2, 3, 7, 1024, stream.len()] {
            let take = |limit| {
                let mut fragments = Fragments::default();
                stream.chunks(size).all(|one| fragments.take(one, limit))
            };
            assert!(take(3), "{size}");
            assert!(!take(2), "{size}");
        }
    }
}
