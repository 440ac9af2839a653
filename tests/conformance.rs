//! `contrib/conformance`, which holds any daemon to the recordings: that ours passes, and that one that does not speak the
//! protocol fails.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::cron::PROGRAM;

/// Plays a few recordings against the daemon of this command, as the script does.
fn held_to_the_recordings(daemon: &str) -> Output {
    let names = [
        "golden_events::every_recorded_scenario_is_played_on_sqlite_as_well",
        "golden_handshake::every_recorded_request_is_answered_as_the_contract_asks",
    ];
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/conformance");
    let script = std::fs::read_to_string(script).expect("the script");
    for name in names
        .into_iter()
        .chain(["ANDREA_TEST_DAEMON", "ANDREA_TEST_SQLITE"])
    {
        assert!(script.contains(name), "the script does not name {name}");
    }
    Command::new(std::env::current_exe().expect("a path of our own"))
        .arg("--exact")
        .args(names)
        .env("ANDREA_TEST_DAEMON", daemon)
        .env("ANDREA_TEST_SQLITE", "1")
        .env("GOLDEN_EVENTS", "0,12,53")
        .env("GOLDEN_HANDSHAKE", "0,1,2,3")
        .output()
        .expect("run ourselves")
}

#[test]
fn our_own_program_passes_as_any_daemon_would() {
    let output =
        held_to_the_recordings(&format!("{PROGRAM} serve --root {{root}} --port {{port}}"));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("2 passed"), "{said}");
}

#[test]
fn a_daemon_that_ends_or_says_something_else_fails() {
    let output = held_to_the_recordings("false {root} {port}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(101), "{said}");
    assert!(said.contains("ended before it listened"), "{said}");
}

#[test]
fn the_script_says_what_is_wrong_with_its_arguments() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/conformance");
    for arguments in [&[][..], &["--daemon"], &["--daemon", "x {root}"]] {
        let output = Command::new(&script)
            .args(arguments)
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {said}");
        assert!(said.contains("{root} and {port}"), "{said}");
    }
}
