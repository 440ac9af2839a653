//! Rounds of faults: people talk and listen, one thing breaks at a moment nobody chose, and afterwards everything that
//! anybody saw is stored, once and in order, whoever lost a message was told, and the service has recovered by itself.
//!
//! ```sh
//! ANDREA_ROUNDS=1000 contrib/test rounds:: -- --nocapture              # many, from a seed that it prints
//! ANDREA_SEED=4711 ANDREA_ROUNDS=1 contrib/test rounds:: -- --nocapture    # the round of this seed again
//! ```
//!
//! A seed says what breaks, for how long and who says what; which packet that meets is the machine's affair.

mod break_daemon;
mod break_database;
mod break_line;
mod clock;
mod crowd;
mod faults;
mod figures;
mod world;

use std::time::{SystemTime, UNIX_EPOCH};

use self::break_daemon::THREADS;
use self::crowd::{Crowd, Signs};
use self::faults::{Fault, Struck, Toll};
use self::figures::Figures;
use self::world::World;
use crate::random::Random;
use crate::support::chat::audit_against;

/// Each kind of fault once.
const SHORT: u64 = Fault::ALL.len() as u64;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|e| panic!("{name}={text:?}: {e}")))
}

#[test]
fn whatever_breaks_nothing_that_anybody_saw_is_lost_doubled_or_out_of_order() {
    let rounds = number("ANDREA_ROUNDS").unwrap_or(SHORT);
    let first = number("ANDREA_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_secs()
    });
    println!("{rounds} rounds from seed {first}");
    let mut world = World::with_small_disk();
    let mut figures = Figures::default();
    for seed in first..first + rounds {
        let fault = Fault::of(seed);
        if let Some(obstacle) = fault.obstacle(&world) {
            figures.skip(fault, obstacle);
            continue;
        }
        let strike = |world: &mut World, random: &mut Random, signs: &Signs| {
            fault.strike(world, random, signs)
        };
        let outcome = round(&mut world, fault, strike, seed, &mut figures);
        outcome.unwrap_or_else(|e| {
            panic!(
                "{fault:?}: {e}\nThe same again: ANDREA_SEED={seed} ANDREA_ROUNDS=1\n{figures}\n{}",
                world.last_words()
            )
        });
        figures.count(fault);
        if figures.rounds() % 50 == 0 {
            println!("{figures}");
            world.tidy();
        }
    }
    println!("{figures}");
    figures.have_all_struck().unwrap();
}

/// Each of those once from whom the rounds above choose one.
#[test]
fn whatever_thread_panics_the_process_ends_and_nothing_that_anybody_saw_is_lost() {
    let mut world = World::new();
    let fault = Fault::ThreadPanics;
    if let Some(obstacle) = fault.obstacle(&world) {
        println!("SKIPPED: {obstacle}");
        return;
    }
    let mut figures = Figures::default();
    for (seed, name) in (0..).zip(THREADS) {
        let strike = |world: &mut World, _: &mut Random, _: &Signs| {
            break_daemon::panic_in_thread(world, name)
        };
        let outcome = round(&mut world, fault, strike, seed, &mut figures);
        outcome.unwrap_or_else(|e| panic!("{name}: {e}\n{}", world.last_words()));
    }
}

fn round(
    world: &mut World,
    fault: Fault,
    strike: impl FnOnce(&mut World, &mut Random, &Signs) -> Struck,
    seed: u64,
    figures: &mut Figures,
) -> Result<(), String> {
    let mut random = Random::new(seed);
    fault.prepare(world);
    let before = world.newest_id();
    world.weather(&mut random);
    let mut crowd = Crowd::enter(world.port(), fault, before)?;
    let (toll, struck) = crowd.talk(seed, |signs| {
        signs.await_stored(3 + random.below(20))?;
        let struck = strike(world, &mut random, signs)?;
        world.clear_weather();
        if struck.0 != Toll::Everybody {
            signs.await_everybody()?;
        }
        Ok(struck)
    })?;
    let victims = crowd.victims(toll);
    crowd.has_lost(victims)?;
    crowd.enter_again(world.port(), world.newest_id())?;
    crowd.await_all_heard(|id| world.stored_above(id))?;
    crowd.has_lost(victims)?;
    let table = world.stored_above(world.newest_before(before));
    audit_against(&table, &crowd.voices())?;
    crowd.has_no_holes(&table)?;
    figures.add(fault, &crowd, &table, struck);
    world.check()?;
    world.remember(before);
    Ok(())
}
