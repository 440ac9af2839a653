//! `status` beside the log: its last error, its last lines, and `--watch`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::cron::{Cron, PROGRAM, signal};
use crate::support::json::Json;
use crate::support::{reaper, wait};

/// What `status` says with these arguments.
fn status(cron: &Cron, arguments: &[&str]) -> String {
    let output = cron.install.run("status", arguments);
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Watches until standard output holds `count` of what `part` is, then ends it by a signal; code and output.
fn watch(cron: &Cron, arguments: &[&str], part: &str, count: usize) -> (i32, String) {
    let path = reaper::path("watched");
    let file = fs::File::create(&path).expect("a file");
    let mut child = cron
        .install
        .command("status", &[&["--watch"], arguments].concat())
        .stdout(file)
        .spawn()
        .expect("run");
    reaper::watch(&child);
    let said = || fs::read_to_string(&path).unwrap_or_default();
    let seen = wait::until(wait::LIMIT, || {
        (said().matches(part).count() >= count).then_some(())
    });
    signal(child.id(), Signal::INT);
    let code = child.wait().expect("its end").code();
    reaper::forget(&child);
    seen.unwrap_or_else(|| panic!("{}", said()));
    (code.expect("no signal"), said())
}

#[test]
fn d19_status_shows_the_last_lines_of_the_log_and_watches() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    cron.started();
    let now = status(&cron, &[]);
    let (_, lines) = now.split_once("\n  log ").expect("the log");
    assert!(lines.contains("] listening on "), "{now}");
    assert!(!now.contains("last error"), "{now}");

    let (code, blocks) = watch(&cron, &[], "chat service: running", 2);
    assert_eq!(code, 0);
    assert!(blocks.contains("\n\nchat service: running\n"), "{blocks}");
    assert!(!blocks.contains('\u{1b}'), "{blocks:?}");
    let (code, lines) = watch(&cron, &["--json"], "\n", 2);
    assert_eq!(code, 0);
    for line in lines.lines() {
        let report = Json::parse(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(report.need("status").str(), Some("running"));
    }

    // What went wrong is told, whatever was logged after it, and also of a service that runs.
    let log = cron.install.log_file();
    let mut text = fs::read_to_string(&log).expect("the log");
    text.push_str("[2026-01-02 03:04:05] error: it broke \u{1b}[2J\n");
    for number in 0..9 {
        text.push_str(&format!("[2026-01-02 03:04:06] warning: later {number}\n"));
    }
    fs::write(&log, text).expect("write");
    let report = Json::parse(&status(&cron, &["--json"])).expect("JSON");
    let error = report.need("last_error").str();
    assert_eq!(
        error,
        Some("[2026-01-02 03:04:05] error: it broke \\u{1b}[2J")
    );
    assert_eq!(report.need("log_lines").items().len(), 5);
    let now = status(&cron, &[]);
    assert!(
        now.contains("\n  last error [2026-01-02 03:04:05] error: it broke"),
        "{now}"
    );
    assert!(
        now.ends_with("\n    [2026-01-02 03:04:06] warning: later 8\n"),
        "{now}"
    );
}

#[test]
fn a_watch_redraws_a_terminal_until_ctrl_c() {
    needs!(Script, MariaDb);
    let mut cron = Cron::new();
    cron.started();
    let path = reaper::path("terminal");
    let file = fs::File::create(&path).expect("a file");
    // `script` hands it to a shell, which would end by the same Ctrl-C and answer for it.
    let command = format!("exec {PROGRAM} status --watch --root {}", cron.root());
    let mut child = Command::new("script")
        .args(["-qefc", &command, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()
        .expect("script (util-linux) runs");
    reaper::watch(&child);
    let shown = || fs::read_to_string(&path).unwrap_or_default();
    let drawn = || shown().matches("\u{1b}[Hchat service: ").count();
    let redrawn = wait::until(wait::LIMIT, || (drawn() >= 3).then_some(()));
    let mut keys = child.stdin.take().expect("a terminal");
    keys.write_all(b"\x03").expect("pressed");
    let status = child.wait().expect("its end");
    reaper::forget(&child);
    redrawn.unwrap_or_else(|| panic!("{}", shown()));
    assert_eq!(status.code(), Some(0), "{:?}", shown());
    assert!(shown().contains("Ctrl-C ends it"), "{:?}", shown());
    assert!(
        shown().contains("\u{1b}[32mrunning\u{1b}[0m"),
        "{:?}",
        shown()
    );
}
