//! Rate limit for a socket's events. Pure; the time is passed in.

use std::time::Instant;

/// Whether an event is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Granted,
    /// No, but later ones may be.
    Refused,
    /// No, and neither is any further one: the socket is to be closed.
    Abuse,
}

/// A token bucket: `rate` events a second, `burst` at once. A peer that exceeds it by far is no normal client.
#[derive(Debug)]
pub struct RateLimiter {
    rate: f64,
    burst: f64,
    tokens: f64,
    refilled: Instant,
}

impl RateLimiter {
    /// The debt at which the socket is closed, in bursts.
    const ABUSE_BURSTS: f64 = 4.0;

    /// A full bucket.
    pub fn new(rate: u32, burst: u32, now: Instant) -> Self {
        RateLimiter {
            rate: f64::from(rate),
            burst: f64::from(burst),
            tokens: f64::from(burst),
            refilled: now,
        }
    }

    /// Takes one event.
    pub fn take(&mut self, now: Instant) -> Admission {
        if self.rate == 0.0 {
            return Admission::Granted;
        }
        self.tokens = self.refilled_by(now).min(self.burst);
        self.refilled = now;
        // Refused events cost as well: otherwise a client that never pauses would be served at the full rate for ever.
        self.tokens -= 1.0;
        if self.tokens >= 0.0 {
            Admission::Granted
        } else if self.tokens > -Self::ABUSE_BURSTS * self.burst {
            // But only half, so that a client that slows down is soon served again.
            self.tokens += 0.5;
            Admission::Refused
        } else {
            Admission::Abuse
        }
    }

    /// Whether the bucket is full, so that a new one would do as well.
    pub fn is_full(&self, now: Instant) -> bool {
        self.refilled_by(now) >= self.burst
    }

    fn refilled_by(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.refilled);
        self.tokens + elapsed.as_secs_f64() * self.rate
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The bucket, drop by drop: units of 1/512 event, refilled in steps of 1/512 s, so that everything is whole.
    struct SlowBucket {
        rate: i64,
        burst: i64,
        units: i64,
    }

    impl SlowBucket {
        fn pass(&mut self, steps: u32) {
            for _ in 0..steps {
                self.units = (self.units + self.rate).min(self.burst * 512);
            }
        }

        fn take(&mut self) -> &'static str {
            self.units -= 512;
            if self.units >= 0 {
                return "granted";
            }
            if self.units <= -4 * self.burst * 512 {
                return "abuse";
            }
            self.units += 256;
            "refused"
        }
    }

    #[test]
    fn the_rate_limiter_does_what_a_slow_bucket_does() {
        const STEP: Duration = Duration::from_nanos(1_953_125);
        for seed in 1..1000_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut below = |end: u64| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % end
            };
            let (rate, burst) = (1 + below(40) as u32, 1 + below(80) as u32);
            let mut now = Instant::now();
            let begun = now;
            let mut limiter = RateLimiter::new(rate, burst, now);
            let mut model = SlowBucket {
                rate: i64::from(rate),
                burst: i64::from(burst),
                units: i64::from(burst) * 512,
            };
            let pace = [1, 3, 60, 1500][below(4) as usize];
            let mut granted = 0_u64;
            for number in 0..300 {
                let steps = below(pace) as u32;
                now += STEP * steps;
                model.pass(steps);
                let found = match limiter.take(now) {
                    Admission::Granted => "granted",
                    Admission::Refused => "refused",
                    Admission::Abuse => "abuse",
                };
                assert_eq!(found, model.take(), "seed {seed}, event {number}");
                granted += u64::from(found == "granted");
                // Whatever the pattern, never more than the burst and what time has earned.
                let earned = u64::from(rate) * (now - begun).as_millis() as u64 / 1000;
                assert!(
                    granted <= u64::from(burst) + earned + 1,
                    "seed {seed}, event {number}"
                );
            }
        }
    }
}
