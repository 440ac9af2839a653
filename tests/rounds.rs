//! Fault injection in rounds: members chat, one fault occurs at a random moment, and afterwards every message that a
//! socket received is stored, once and in order, every sender of a lost message was told, and the service has recovered
//! by itself.
//!
//! ```sh
//! ANDREA_ROUNDS=1000 contrib/test rounds:: -- --nocapture                  # many rounds, from a new seed
//! ANDREA_SEED=4711 ANDREA_ROUNDS=1 contrib/test rounds:: -- --nocapture    # the round of this seed again
//! ```
//!
//! A seed determines the fault, its duration and what the members send; which packet it hits depends on the machine.

mod break_daemon;
mod break_database;
mod break_network;
pub mod clock;
mod environment;
mod faults;
mod figures;
mod participants;

use self::break_daemon::THREADS;
use self::environment::Environment;
use self::faults::{Fault, Injected, LostConnections};
use self::figures::Figures;
use self::participants::{Participants, Progress};
use crate::random::{Random, known_seeds, new_seed};
use crate::support::chat::audit_against;

/// Each kind of fault once.
const SHORT: u64 = Fault::ALL.len() as u64;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|e| panic!("{name}={text:?}: {e}")))
}

#[test]
fn no_fault_loses_doubles_or_reorders_a_delivered_message() {
    needs!(MariaDb, Redis);
    let seeds: Vec<u64> = match (number("ANDREA_ROUNDS"), number("ANDREA_SEED")) {
        (None, None) => {
            let fixed = (0..SHORT).chain(known_seeds("round"));
            fixed.chain([new_seed()]).collect()
        }
        (rounds, first) => {
            let first = first.unwrap_or_else(new_seed);
            (first..first + rounds.unwrap_or(1)).collect()
        }
    };
    println!(
        "{} rounds, the last from seed {:?}",
        seeds.len(),
        seeds.last()
    );
    let mut environment = Environment::with_small_disk();
    let mut figures = Figures::default();
    for seed in seeds {
        let fault = Fault::of(seed);
        if let Some(obstacle) = fault.obstacle(&environment) {
            figures.skip(fault, obstacle);
            continue;
        }
        let inject = |environment: &mut Environment, random: &mut Random, progress: &Progress| {
            fault.inject(environment, random, progress)
        };
        let outcome = round(&mut environment, fault, inject, seed, &mut figures);
        outcome.unwrap_or_else(|e| {
            panic!(
                "{fault:?}: {e}\nThe same again: ANDREA_SEED={seed} ANDREA_ROUNDS=1. To keep it, add this line to \
                 tests/fixtures/seeds.txt:\nround {seed}\n{figures}\n{}",
                environment.database_log_tail()
            )
        });
        figures.count(fault);
        if figures.rounds() % 50 == 0 {
            println!("{figures}");
            environment.tidy();
        }
    }
    println!("{figures}");
    figures.have_all_occurred().unwrap();
}

/// Panics each thread once; the rounds above choose one at random.
#[test]
fn a_panic_of_any_thread_ends_the_process_and_loses_no_delivered_message() {
    needs!(MariaDb, Redis, Time);
    let mut environment = Environment::new();
    let fault = Fault::ThreadPanics;
    if let Some(obstacle) = fault.obstacle(&environment) {
        println!("SKIPPED: {obstacle}");
        return;
    }
    let mut figures = Figures::default();
    for (seed, name) in (0..).zip(THREADS) {
        let inject = |environment: &mut Environment, _: &mut Random, _: &Progress| {
            break_daemon::panic_in_thread(environment, name)
        };
        let outcome = round(&mut environment, fault, inject, seed, &mut figures);
        outcome.unwrap_or_else(|e| panic!("{name}: {e}\n{}", environment.database_log_tail()));
    }
}

fn round(
    environment: &mut Environment,
    fault: Fault,
    inject: impl FnOnce(&mut Environment, &mut Random, &Progress) -> Injected,
    seed: u64,
    figures: &mut Figures,
) -> Result<(), String> {
    let mut random = Random::new(seed);
    fault.prepare(environment);
    let before = environment.newest_id();
    environment.vary_latency(&mut random);
    let mut group = Participants::connect(environment.port(), fault, before)?;
    let (lost, occurrences) = group.talk(seed, |progress| {
        progress.await_stored(3 + random.below(20))?;
        let occurrences = inject(environment, &mut random, progress)?;
        environment.reset_latency();
        if occurrences.0 != LostConnections::All {
            progress.await_recovery()?;
        }
        Ok(occurrences)
    })?;
    let victims = group.victims(lost);
    group.assert_lost(victims)?;
    group.reconnect(environment.port(), environment.newest_id())?;
    group.await_all_heard(|id| environment.stored_above(id))?;
    group.assert_lost(victims)?;
    let table = environment.stored_above(environment.newest_before(before));
    audit_against(&table, &group.participants())?;
    group.assert_no_gaps(&table)?;
    figures.add(fault, &group, &table, occurrences);
    environment.check()?;
    environment.remember(before);
    Ok(())
}
