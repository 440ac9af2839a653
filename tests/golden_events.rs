//! Replays the recorded scenarios of WebSocket events against the daemon and a real database: who received
//! which frames, which rows changed, which connections were closed, and that the daemon lives on.

use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::replay::{self, Stage};
use crate::support::workers;

/// To look into a few of them: `GOLDEN_EVENTS=12,53 cargo test golden_events`.
const CHOICE: &str = "GOLDEN_EVENTS";

#[test]
fn every_recorded_scenario_is_played_as_the_contract_asks() {
    let events = fixtures::golden("events");
    let scenarios = events.need("scenarios").items();
    let chosen = chosen(scenarios.len());
    let complaints = workers::run(chosen.len(), Stage::new, |stage, job| {
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

/// A recording that lost its tail would pass for a shorter one.
#[test]
fn the_recording_of_events_is_whole() {
    let events = fixtures::golden("events");
    let scenarios = events.need("scenarios").items();
    assert_eq!(scenarios.len(), 204);
    let of_class = |class: &str| {
        let fits = |s: &&Json| s.need("class").str() == Some(class);
        scenarios.iter().filter(fits).count()
    };
    assert_eq!(
        [of_class("strict"), of_class("better"), of_class("free")],
        [99, 89, 16]
    );
}
