//! Random input: the same in every run, plus one new seed. For tests only.

use std::fmt::Debug;
use std::iter;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// The seeds that have failed once, one a line: the name of the test's input, and the seed.
const KNOWN: &str = include_str!("fixtures/seeds.txt");

/// A number that no run has had.
pub fn new_seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_nanos() as u64 >> 1
}

/// Those of the known seeds that are of this name.
pub fn known_seeds(name: &str) -> Vec<u64> {
    let words = KNOWN.lines().filter_map(|line| line.split_once(' '));
    words
        .filter(|(of, _)| *of == name)
        .map(|(_, seed)| seed.trim().parse().expect("a seed"))
        .collect()
}

/// Holds what `make` makes of a seed to what must be so: for the fixed seeds, the known ones, and one that is new in each
/// run. `ANDREA_FUZZ_SEED=N` tries one alone; `ANDREA_FUZZ_SECONDS=600` tries new ones for so long.
pub fn each_seed<T: Debug>(
    name: &str,
    fixed: Range<u64>,
    make: impl Fn(u64) -> T,
    holds: impl Fn(u64, &T),
) {
    let number = |variable| std::env::var(variable).ok()?.parse::<u64>().ok();
    let (time, new) = (number("ANDREA_FUZZ_SECONDS"), new_seed());
    let end = time.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let is_over = || end.is_some_and(|end| Instant::now() >= end);
    let seeds: Box<dyn Iterator<Item = u64>> = match number("ANDREA_FUZZ_SEED") {
        Some(seed) => Box::new(iter::once(seed)),
        None => {
            let last = if time.is_some() { u64::MAX } else { new + 1 };
            Box::new(fixed.clone().chain(known_seeds(name)).chain(new..last))
        }
    };
    for seed in seeds {
        let input = make(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| holds(seed, &input)));
        if let Err(panic) = outcome {
            eprintln!(
                "{name}: seed {seed}, input {input:?}\n\
                 Once more: ANDREA_FUZZ_SEED={seed}. To keep it, add this line to tests/fixtures/seeds.txt:\n{name} {seed}"
            );
            resume_unwind(panic);
        }
        if seed >= new && is_over() {
            break;
        }
    }
}

#[test]
fn a_new_seed_that_fails_says_how_to_keep_it() {
    let failed = catch_unwind(|| {
        each_seed("none", 0..3, |seed| seed, |seed, _| assert!(seed < 3));
    });
    assert!(failed.is_err(), "a new one is tried");
    assert!(
        known_seeds("handshake").starts_with(&[898_000_655_401_962_404, 898_000_901_266_311_623]),
        "the first that were kept"
    );
}
