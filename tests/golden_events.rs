//! Replays the recorded scenarios of WebSocket events against the daemon and a real database of each engine: who
//! received which frames, which rows changed, which connections were closed, and that the daemon lives on.

use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::replay::{self, Stage};
use crate::support::workers;

/// To look into a few of them: `GOLDEN_EVENTS=12,53 cargo test golden_events`.
const CHOICE: &str = "GOLDEN_EVENTS";

#[test]
fn every_recorded_scenario_is_played_as_the_contract_asks() {
    needs!(MariaDb);
    play_all(Stage::new);
}

#[test]
#[cfg(feature = "embedded")]
fn every_recorded_scenario_is_played_on_sqlite_as_well() {
    play_all(Stage::embedded);
}

fn play_all(stage: impl Fn() -> Stage + Sync) {
    let events = fixtures::golden("events");
    let scenarios = events.need("scenarios").items();
    let chosen = chosen(scenarios.len());
    let complaints = workers::run(chosen.len(), stage, |stage, job| {
        let number = chosen[job];
        let scenario = &scenarios[number];
        let text = |key| scenario.need(key).str().unwrap_or_default().to_owned();
        replay::play(stage, scenario).map_err(|complaint| {
            format!(
                "  #{number} {}: {} ({}; {})\n{complaint}",
                text("group"),
                text("name"),
                text("class"),
                text("why")
            )
        })
    });
    workers::judge("scenarios", chosen.len(), &complaints);
}

fn chosen(count: usize) -> Vec<usize> {
    match std::env::var(CHOICE) {
        Ok(list) => list
            .split(',')
            .map(|number| number.trim().parse().expect("a number of a scenario"))
            .collect(),
        Err(_) => (0..count).collect(),
    }
}

/// A recording that lost its tail would pass for a shorter one, and a word that the replay does not know would
/// be passed over in silence.
#[test]
fn the_recording_of_events_is_whole_and_says_nothing_unknown() {
    let events = fixtures::golden("events");
    let scenarios = events.need("scenarios").items();
    let of_class = |class: &str| {
        let fits = |s: &&Json| s.need("class").str() == Some(class);
        scenarios.iter().filter(fits).count()
    };
    assert_eq!(scenarios.len(), 204);
    assert_eq!(
        [of_class("strict"), of_class("better"), of_class("free")],
        [99, 89, 16]
    );
    for scenario in scenarios {
        for step in scenario.need("steps").items() {
            assert_known(
                step,
                &ACTIONS,
                &["received", "rows_changed", "process", "stderr_says"],
            );
        }
        for (key, value) in scenario
            .get("expected")
            .map(Json::entries)
            .unwrap_or_default()
        {
            if key.bytes().all(|b| b.is_ascii_digit()) {
                assert_known(
                    value,
                    &OUTCOME,
                    &["any_of", "no_barrier", "reopen", "sleep", "wait"],
                );
                for choice in value.get("any_of").map(Json::items).unwrap_or_default() {
                    assert_known(choice, &OUTCOME, &[]);
                }
            } else {
                // A loose end needs nothing here: such a client is never asked for a barrier.
                assert!(
                    ["stuck", "loose_end"].contains(&key.as_str()),
                    "unknown: {key}"
                );
            }
        }
    }
}

const ACTIONS: [&str; 19] = [
    "client",
    "send",
    "text",
    "hex",
    "bytes_hex",
    "packet",
    "then_bytes_hex",
    "split_at",
    "body_of",
    "opcode",
    "fin",
    "rsv",
    "mask",
    "length_form",
    "claimed_length",
    "connect",
    "close",
    "db",
    "sleep",
];

const OUTCOME: [&str; 4] = ["received", "rows_changed", "closed", "free"];

fn assert_known(object: &Json, words: &[&str], more: &[&str]) {
    for (key, _) in object.entries() {
        let known = words.contains(&key.as_str()) || more.contains(&key.as_str());
        assert!(known, "the replay does not know {key:?} in {object}");
    }
}
