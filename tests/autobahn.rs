//! The Autobahn test suite against the daemon's own WebSocket module, which a debug build lets echo in place of the chat.
//! Cases 1 to 7 and 10; binary messages, which the chat refuses with 1003, are left out by name.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::daemon::Daemon;
use crate::support::{embedded, needs, reaper};

const CASES: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];
const BINARY: [&str; 1] = ["1.2.*"];
/// The suite waits a second for an answer, which is no fault of the daemon where the machine is busy: a case that failed is
/// tried again by itself, and a fault fails each time.
const TRIES: usize = 4;

/// What the suite says of an answer, and of its end.
type Verdict = (String, String);

#[test]
fn every_case_that_is_not_binary_is_ok_or_non_strict() {
    needs!(Autobahn);
    let file = embedded::File::none();
    let options = file
        .options()
        .env("ANDREA_TEST_ECHO", "1")
        .env("CHAT_WEBSOCKET_AUTH_TIMEOUT", "300")
        .env("CHAT_WEBSOCKET_CONTROL_RATE", "0")
        // Case 7.1.6 has one of 256 KiB.
        .env("CHAT_WEBSOCKET_MESSAGE_BYTES", "1048576");
    let mut daemon = Daemon::start(&embedded::File::server(), &options);
    let mut verdicts = try_cases(&daemon, &CASES);
    assert!(verdicts.len() > 200, "{}", verdicts.len());
    for _ in 1..TRIES {
        let bad = bad_cases(&verdicts);
        if bad.is_empty() {
            break;
        }
        verdicts.extend(try_cases(&daemon, &bad));
    }
    let mut counts = BTreeMap::new();
    for verdict in verdicts.values() {
        *counts.entry(verdict).or_insert(0) += 1;
    }
    println!("{counts:?}");
    let bad = bad_cases(&verdicts);
    assert!(bad.is_empty(), "{bad:?}: {verdicts:?}");
    daemon.check_life().unwrap();
}

fn bad_cases(verdicts: &BTreeMap<String, Verdict>) -> Vec<String> {
    let is_well = |word: &str| matches!(word, "OK" | "NON-STRICT" | "INFORMATIONAL");
    let bad = verdicts
        .iter()
        .filter(|(_, (answer, end))| !is_well(answer) || !is_well(end));
    bad.map(|(case, _)| case.clone()).collect()
}

fn try_cases<S: AsRef<str>>(daemon: &Daemon, cases: &[S]) -> BTreeMap<String, Verdict> {
    let folder = reaper::folder("autobahn");
    let url = format!("ws://127.0.0.1:{}/ws/chat", daemon.port());
    let cases: Vec<&str> = cases.iter().map(AsRef::as_ref).collect();
    let spec = json!({
        "outdir": folder,
        "servers": [{"agent": "andrea-chat-websocket", "url": url}],
        "cases": cases,
        "exclude-cases": BINARY,
        "exclude-agent-cases": {},
    });
    let spec_file = folder.join("spec.json");
    fs::write(&spec_file, spec.to_string()).expect("write");
    let wstest = needs::wstest().expect("it is there");
    let mut command = Command::new(wstest);
    command.args(["-m", "fuzzingclient", "-s"]).arg(&spec_file);
    let output = command.current_dir(&folder).output().expect("run wstest");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = fs::read_to_string(folder.join("index.json")).unwrap_or_else(|e| {
        panic!(
            "no result: {e}\n{said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let index: Value = serde_json::from_str(&text).expect("JSON");
    let cases = index["andrea-chat-websocket"].as_object().expect("cases");
    let word = |result: &Value, name: &str| result[name].as_str().expect(name).to_owned();
    let verdict = |result: &Value| (word(result, "behavior"), word(result, "behaviorClose"));
    let verdicts = cases.iter();
    verdicts
        .map(|(case, result)| (case.clone(), verdict(result)))
        .collect()
}
