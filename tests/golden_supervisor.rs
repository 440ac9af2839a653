//! Replays the recorded runs of the supervisor (ops.json, `supervisor.table`): what is decided, said and written for
//! each of them, and whether a daemon ends or starts. The world is played by the test; what really happens to
//! processes is tested in `supervisor`.

use andrea_chat_websocket::admin::Problem;
use andrea_chat_websocket::config::settings::Rows;
use andrea_chat_websocket::platform::pid_file::Holder;
use andrea_chat_websocket::supervisor::{Effects, Observed, carry_out, decide};

use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::workers;

const PID: u32 = 812;
const NEW_PID: u32 = 1812;
const SETTINGS: [&str; 5] = [
    "chat_enabled",
    "chat_websocket_enabled",
    "chat_websocket_autostart",
    "chat_websocket_stop_requested",
    "chat_websocket_restart_requested",
];

/// What a run does, in the words of the recording.
#[derive(Debug, Default, PartialEq)]
struct Run {
    exit_code: i64,
    stdout: Vec<String>,
    written: Vec<(String, String)>,
    old_process: Option<&'static str>,
    starts: bool,
}

/// Plays the process that the pid file names.
struct Stage {
    is_deaf: bool,
    run: Run,
}

impl Effects for Stage {
    fn say(&mut self, line: &str) {
        let line = line
            .replace(&format!("={NEW_PID}"), "=<new pid>")
            .replace(&format!("={PID}"), "=<pid>");
        self.run.stdout.push(format!("[<app-now>] {line}"));
    }

    fn write(&mut self, rows: &[(&str, &str)]) -> Result<(), Problem> {
        let rows = rows
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.run.written.extend(rows);
        Ok(())
    }

    fn ends_when_told(&mut self, holder: Holder) -> bool {
        assert_eq!(holder.pid, PID);
        if self.is_deaf {
            return false;
        }
        self.run.old_process = Some("ended");
        true
    }

    fn ends_when_killed(&mut self, holder: Holder) -> bool {
        assert_eq!(holder.pid, PID);
        self.run.old_process = Some("ended");
        true
    }

    fn start(&mut self) -> Result<u32, Problem> {
        assert_ne!(self.run.old_process, Some("alive"), "two at once");
        self.run.starts = true;
        Ok(NEW_PID)
    }
}

fn text<'a>(row: &'a Json, key: &str) -> &'a str {
    row.need(key).str().expect("a text")
}

fn play(row: &Json) -> Run {
    let alive = match text(row, "process") {
        "yes" | "ignores SIGTERM" => true,
        "no pid file" | "dead pid in the file" => false,
        word => panic!("unknown process {word:?}"),
    };
    let rows = SETTINGS
        .iter()
        .map(|key| (*key, text(row, key)))
        .chain([("chat_websocket_management_mode", text(row, "mode"))])
        .map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
    let holder = alive.then_some(Holder {
        pid: PID,
        is_verified: true,
    });
    let age = match text(row, "heartbeat") {
        "fresh" => Some(0),
        "old" => Some(100),
        "empty" => None,
        word => panic!("unknown heartbeat {word:?}"),
    };
    let mut stage = Stage {
        is_deaf: text(row, "process") == "ignores SIGTERM",
        run: Run {
            old_process: alive.then_some("alive"),
            ..Run::default()
        },
    };
    let decision = decide(&Observed::new(&Rows::new(rows), holder, age));
    let exit_code = carry_out(decision, &mut stage).expect("the rows can be written");
    stage.run.exit_code = i64::from(exit_code);
    stage.run
}

fn recorded(row: &Json) -> Run {
    let result = row.need("result");
    let string = |json: &Json| json.str().expect("a text").to_owned();
    Run {
        exit_code: result.need("exit_code").int().expect("a number"),
        stdout: result.need("stdout").items().iter().map(string).collect(),
        written: result
            .need("settings_written_by_the_supervisor")
            .items()
            .iter()
            .map(|write| (string(&write.items()[0]), string(&write.items()[1])))
            .collect(),
        old_process: match result.get("old_process").and_then(Json::str) {
            None => None,
            Some("alive") => Some("alive"),
            Some("ended") => Some("ended"),
            Some(word) => panic!("unknown end {word:?}"),
        },
        starts: result.need("starts_a_daemon").is_true(),
    }
}

fn writes(rows: &[(&str, &str)]) -> Vec<(String, String)> {
    rows.iter()
        .map(|(key, value)| (format!("chat_websocket_{key}"), (*value).to_owned()))
        .collect()
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines
        .iter()
        .map(|line| format!("[<app-now>] {line}"))
        .collect()
}

/// What the contract asks for in place of the recording, and its reason.
fn better(row: &Json) -> Option<(&'static str, Run)> {
    if text(row, "mode") == "external" {
        return None;
    }
    let is_on = |key: &str| text(row, key) == "1";
    let wanted = SETTINGS[..3].iter().all(|key| is_on(key));
    let (stop, restart) = (is_on(SETTINGS[3]), is_on(SETTINGS[4]));
    match text(row, "process") {
        "no pid file" | "dead pid in the file" if stop => Some((
            "a stop request with nothing alive is cleared and starts nothing",
            Run {
                stdout: lines(&["chat websocket status checked"]),
                written: writes(&[("status", "stopped"), ("stop_requested", "0")]),
                ..Run::default()
            },
        )),
        "no pid file" | "dead pid in the file" if wanted && restart => Some((
            "a restart request with nothing alive starts and is cleared",
            Run {
                stdout: lines(&["started chat websocket daemon pid=<new pid>"]),
                written: writes(&[("restart_requested", "0")]),
                starts: true,
                ..Run::default()
            },
        )),
        "ignores SIGTERM" if text(row, "heartbeat") != "fresh" => {
            let killed = "killed hung chat websocket daemon pid=<pid>";
            let started = "started chat websocket daemon pid=<new pid>";
            let (stdout, written, starts) = if stop || !wanted {
                let stopped = "stopped chat websocket daemon pid=<pid>";
                let written = [("pid", ""), ("status", "stopped"), ("stop_requested", "0")];
                (lines(&[killed, stopped]), writes(&written), false)
            } else if restart {
                let written = [("pid", ""), ("restart_requested", "0")];
                (lines(&[killed, started]), writes(&written), true)
            } else {
                let stale = "restarting stale chat websocket daemon pid=<pid>";
                let written = [("status", "stale"), ("pid", "")];
                (lines(&[killed, stale, started]), writes(&written), true)
            };
            Some((
                "a daemon that ignores SIGTERM for 5 s and is not fresh is killed",
                Run {
                    exit_code: 0,
                    stdout,
                    written,
                    old_process: Some("ended"),
                    starts,
                },
            ))
        }
        _ => None,
    }
}

#[test]
fn every_recorded_run_of_the_supervisor_is_repeated_or_bettered() {
    let supervisor = fixtures::golden("ops").need("supervisor").clone();
    let table = supervisor.need("table").items();
    let mut complaints = Vec::new();
    let mut bettered = std::collections::BTreeMap::new();
    for (number, row) in table.iter().enumerate() {
        let wanted = match better(row) {
            None => recorded(row),
            Some((reason, run)) => {
                *bettered.entry(reason).or_insert(0) += 1;
                // An exception that says what was recorded is none.
                assert_ne!(run, recorded(row), "#{number}");
                run
            }
        };
        let run = play(row);
        if run != wanted {
            complaints.push((
                number,
                format!("{row}\n  expected {wanted:?}\n  found    {run:?}"),
            ));
        }
    }
    workers::judge("runs of the supervisor", table.len(), &complaints);
    assert_eq!(table.len(), 108);
    let counts: Vec<i32> = bettered.into_values().collect();
    assert_eq!(counts, [4, 2, 16], "by reason, in their alphabetical order");
}
