//! The last test by name, so that it starts when all others have: what the run left out.

use std::time::Duration;

use crate::support::{needs, wait};

#[test]
fn the_run_says_what_it_left_out() {
    // Those that have just started decide in their first line.
    wait::pass(Duration::from_millis(300));
    if let Some(summary) = needs::summary() {
        needs::say(&summary);
    }
}
