//! Faults of the network between the daemon and the database.

use std::time::Duration;

use super::environment::Environment;
use super::faults::{Injected, LostConnections, is_long, pause};
use super::participants::Progress;
use crate::random::Random;
use crate::support::proxy::Cut;

pub fn delay(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    let ms = 5 + random.below(60) as u64;
    environment.proxy.delay(Duration::from_millis(ms));
    progress.await_stored(1 + random.below(8))?;
    environment.proxy.delay(Duration::ZERO);
    Ok((LostConnections::None, 1))
}

/// A connection that lost bytes never recovers. Either the proxy cuts it, or the daemon must detect it by its timeouts.
pub fn lose(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    environment.proxy.lose(true);
    pause(random, 300);
    let is_timed_out = is_long(random);
    let refused = match is_timed_out {
        true => progress.await_refused(),
        false => Ok(()),
    };
    environment.proxy.lose(false);
    if !is_timed_out {
        environment.proxy.cut_lossy();
    }
    refused.map(|()| (LostConnections::None, 1))
}

pub fn cut(environment: &Environment, random: &mut Random, progress: &Progress) -> Injected {
    let times = 1 + random.below(4);
    for _ in 0..times {
        environment.proxy.cut_all();
        progress.await_stored(1 + random.below(6))?;
    }
    Ok((LostConnections::None, times as u64))
}

pub fn cut_commit(
    environment: &Environment,
    is_after: bool,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    let before = environment.proxy.cuts();
    for _ in 0..1 + random.below(4) {
        environment.proxy.cut_next(match is_after {
            true => Cut::After,
            false => Cut::Before,
        });
        progress.await_stored(1 + random.below(6))?;
    }
    Ok((
        LostConnections::None,
        u64::from(environment.proxy.cuts() - before),
    ))
}

/// Holds the answer to a COMMIT for a short time, or until the senders are told that the outcome is unknown.
pub fn hold_commit(
    environment: &Environment,
    random: &mut Random,
    progress: &Progress,
) -> Injected {
    environment.proxy.cut_next(Cut::Hold);
    environment.proxy.await_hold();
    let refused = match is_long(random) {
        true => progress.await_refused(),
        false => {
            pause(random, 600);
            Ok(())
        }
    };
    environment.proxy.let_go();
    refused.map(|()| (LostConnections::None, 1))
}
