//! What happens to the line between the daemon and the database.

use std::time::Duration;

use super::crowd::Signs;
use super::faults::{Struck, Toll, is_long, moment};
use super::world::World;
use crate::random::Random;
use crate::support::proxy::Cut;

pub fn delay(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let ms = 5 + random.below(60) as u64;
    world.proxy.delay(Duration::from_millis(ms));
    signs.await_stored(1 + random.below(8))?;
    world.proxy.delay(Duration::ZERO);
    Ok((Toll::Nobody, 1))
}

/// A connection that lost something is broken for good; it ends soon, or the daemon has to find out by itself.
pub fn lose(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    world.proxy.lose(true);
    moment(random, 300);
    let is_found_out = is_long(random);
    let refused = match is_found_out {
        true => signs.await_refused(),
        false => Ok(()),
    };
    world.proxy.lose(false);
    if !is_found_out {
        world.proxy.cut_maimed();
    }
    refused.map(|()| (Toll::Nobody, 1))
}

pub fn cut(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    let times = 1 + random.below(4);
    for _ in 0..times {
        world.proxy.cut_all();
        signs.await_stored(1 + random.below(6))?;
    }
    Ok((Toll::Nobody, times as u64))
}

pub fn cut_commit(world: &World, is_after: bool, random: &mut Random, signs: &Signs) -> Struck {
    let before = world.proxy.cuts();
    for _ in 0..1 + random.below(4) {
        world.proxy.cut_next(match is_after {
            true => Cut::After,
            false => Cut::Before,
        });
        signs.await_stored(1 + random.below(6))?;
    }
    Ok((Toll::Nobody, u64::from(world.proxy.cuts() - before)))
}

/// For a moment, or until its senders are told that nobody knows.
pub fn hold_commit(world: &World, random: &mut Random, signs: &Signs) -> Struck {
    world.proxy.cut_next(Cut::Hold);
    world.proxy.await_hold();
    let refused = match is_long(random) {
        true => signs.await_refused(),
        false => {
            moment(random, 600);
            Ok(())
        }
    };
    world.proxy.let_go();
    refused.map(|()| (Toll::Nobody, 1))
}
