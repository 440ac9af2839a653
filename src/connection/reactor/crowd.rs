//! Whether newcomers wait while many have yet to say who they are.

use std::time::{Duration, Instant};

/// How long newcomers are left waiting while none of those before them gets on; then they are refused.
const CROWD_PATIENCE: Duration = Duration::from_secs(1);

/// Where as many sockets as may be have yet to say who they are, those that come wait in the kernel's queue for as long
/// as others get on: a thousand clients that come back in one moment are let in at the pace of the database, and none
/// is refused. Where nobody gets on, those inside are no clients, and waiting for them would shut everybody out.
pub(super) struct Crowd {
    admitted: usize,
    moved: Instant,
}

impl Crowd {
    pub(super) fn new() -> Self {
        Crowd {
            admitted: 0,
            moved: Instant::now(),
        }
    }

    /// Whether newcomers are left waiting, by the number of those who ever got on.
    pub(super) fn should_wait(&mut self, is_crowded: bool, admitted: usize, now: Instant) -> bool {
        if !is_crowded || self.admitted != admitted {
            self.admitted = admitted;
            self.moved = now;
        }
        is_crowded && now.saturating_duration_since(self.moved) < CROWD_PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_wait_while_others_get_on_and_no_longer() {
        let mut crowd = Crowd::new();
        let after = |halves: u32| Instant::now() + CROWD_PATIENCE / 2 * halves;
        // Nobody has got on for long, but then nobody had to.
        assert!(!crowd.should_wait(false, 0, after(9)));
        assert!(crowd.should_wait(true, 0, after(10)));
        assert!(crowd.should_wait(true, 1, after(11)));
        assert!(crowd.should_wait(true, 1, after(12)));
        assert!(!crowd.should_wait(true, 1, after(14)));
        assert!(crowd.should_wait(true, 2, after(15)));
        assert!(!crowd.should_wait(false, 2, after(16)));
    }
}
