//! Random input that is the same in every run. Never for anything but tests.

/// Marsaglia's 64-bit xorshift.
pub struct Random(u64);

impl Random {
    /// `seed` names the sequence; a failing test prints it, so that it can be repeated.
    pub fn new(seed: u64) -> Self {
        // The state must not be 0, and neighbouring seeds should differ in more than a bit.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// 0 up to but without `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Up to `most` of `pieces`, one behind the other.
    pub fn text_of(&mut self, pieces: &[&str], most: usize) -> String {
        let count = self.below(most + 1);
        (0..count)
            .map(|_| pieces[self.below(pieces.len())])
            .collect()
    }
}
