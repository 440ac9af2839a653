//! `prune`: which messages it marks, which it does not, and its effect on other readers.

use std::process::{Command, Stdio};
use std::time::Instant;

use mysql::prelude::Queryable;

use crate::support::cron::{Cron, PROGRAM};
use crate::support::json::Json;
use crate::support::{rows, wait};

/// Channel 1 has the default, channel 2 keeps for 7 days, thread 1 is direct.
fn write(cron: &mut Cron, place: &str, days: i64, count: usize) {
    let (scope, channel, thread) = match place {
        "channel 1" => ("channel", "1", "NULL"),
        "channel 2" => ("channel", "2", "NULL"),
        "direct" => ("direct", "NULL", "1"),
        other => panic!("unknown place {other}"),
    };
    let row = format!(
        "('{scope}', {channel}, {thread}, 1, 'old', NOW() - INTERVAL {days} DAY - INTERVAL 60 SECOND)"
    );
    for rest in (0..count).step_by(1000) {
        let rows = vec![row.as_str(); (count - rest).min(1000)].join(", ");
        cron.conn
            .query_drop(format!(
                "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, created_at) \
                 VALUES {rows}"
            ))
            .expect("insert messages");
    }
}

/// One of every kind that is old enough and one that is not.
fn mixed(cron: &mut Cron) {
    for (place, days) in [
        ("channel 1", 90),
        ("channel 1", 89),
        ("channel 2", 7),
        ("channel 2", 6),
        ("direct", 30),
        ("direct", 29),
    ] {
        write(cron, place, days, 1);
    }
    cron.set("chat_direct_retention_days", "30");
}

fn report(cron: &Cron, arguments: &[&str]) -> Json {
    let output = cron.install.run("prune", arguments);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), stderr.as_str()),
        (Some(0), ""),
        "{stdout}"
    );
    Json::parse(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
}

fn counts(report: &Json) -> [i64; 4] {
    [
        "channel_messages",
        "direct_messages",
        "channel_messages_deleted",
        "direct_messages_deleted",
    ]
    .map(|key| report.need(key).int().expect("a number"))
}

/// Age in days and place of those that are marked.
fn marked(cron: &mut Cron) -> Vec<String> {
    let query = "SELECT message_scope AS scope, channel_id, DATEDIFF(NOW(), created_at) AS days, \
                 deleted_by_agent_id AS deleted_by, TIMESTAMPDIFF(SECOND, deleted_at, NOW()) < 60 AS just_now \
                 FROM chat_messages WHERE deleted_at IS NOT NULL ORDER BY id";
    rows::select(&mut cron.conn, query)
        .iter()
        .map(Json::to_string)
        .collect()
}

fn audited(cron: &mut Cron) -> Vec<Json> {
    rows::select(
        &mut cron.conn,
        "SELECT actor_type, action, subject_type, subject_id, payload FROM audit_log ORDER BY id",
    )
}

#[test]
fn a_preview_counts_and_changes_nothing() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    mixed(&mut cron);
    for arguments in [&[][..], &["--dry-run"]] {
        let report = report(&cron, arguments);
        assert_eq!(counts(&report), [2, 1, 0, 0]);
        assert!(report.need("dry_run").is_true());
        let rules = report.need("rules").items();
        let of = |id: i64| {
            let rule = rules
                .iter()
                .find(|rule| rule.need("channel_id").int() == Some(id));
            rule.expect("a rule").need("retention_days").int()
        };
        assert_eq!((of(1), of(2), of(3)), (Some(90), Some(7), Some(90)));
    }
    assert_eq!(marked(&mut cron), [""; 0]);
    assert_eq!(audited(&mut cron), []);
}

#[test]
fn a_run_marks_what_is_too_old_and_says_so_in_the_audit_log() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    mixed(&mut cron);
    let first = report(&cron, &["--run"]);
    assert_eq!(counts(&first), [2, 1, 2, 1]);
    let row = |scope: &str, channel: &str, days: i64| {
        format!(
            "{{\"scope\":\"{scope}\",\"channel_id\":{channel},\"days\":{days},\"deleted_by\":null,\"just_now\":1}}"
        )
    };
    let expected = [
        row("channel", "1", 90),
        row("channel", "2", 7),
        row("direct", "null", 30),
    ];
    assert_eq!(marked(&mut cron), expected);
    let again = report(&cron, &["--run"]);
    assert_eq!(counts(&again), [0, 0, 0, 0]);
    let audit = audited(&mut cron);
    assert_eq!(audit.len(), 2);
    let row = &audit[0];
    for (key, value) in [
        ("actor_type", "system"),
        ("action", "chat_prune_run"),
        ("subject_type", "chat_messages"),
    ] {
        assert_eq!(row.need(key).str(), Some(value));
    }
    assert_eq!(row.need("subject_id").int(), Some(0));
    let payload = Json::parse(row.need("payload").str().expect("text")).expect("JSON");
    assert_eq!(payload.need("ip").str(), Some("cli"));
    assert_eq!(payload.need("scope").str(), Some("all"));
    assert_eq!(payload.need("channel_id"), &Json::Null);
    assert_eq!(payload.need("channel_messages_deleted").int(), Some(2));
    assert_eq!(payload.need("direct_messages_deleted").int(), Some(1));
}

#[test]
fn a_scope_and_a_channel_leave_the_others_alone() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    for (arguments, expected) in [
        (&["--scope", "direct"][..], [0, 1]),
        (&["--scope", "channel"], [2, 0]),
        (&["--channel-id", "2"], [1, 0]),
        (&["--channel-id", "2", "--scope", "channel"], [1, 0]),
        (&["--channel-id", "4"], [0, 0]),
    ] {
        cron.conn
            .query_drop("DELETE FROM chat_messages")
            .expect("empty");
        mixed(&mut cron);
        let report = report(&cron, &[arguments, &["--run"]].concat());
        let [channel, direct, ..] = expected_counts(&report);
        assert_eq!([channel, direct], expected, "{arguments:?}");
        let sum = usize::try_from(expected[0] + expected[1]).expect("small");
        assert_eq!(marked(&mut cron).len(), sum, "{arguments:?}");
    }
    for arguments in [
        &["--scope", "direct", "--channel-id", "1"][..],
        &["--scope", "everything"],
        &["--run", "--dry-run"],
        &["--channel-id", "x"],
    ] {
        let output = cron.install.run("prune", arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
    }
    let output = cron.install.run("prune", &["--channel-id", "99"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no channel 99"));
}

fn expected_counts(report: &Json) -> [i64; 4] {
    let counts = counts(report);
    assert_eq!(counts[..2], counts[2..], "all that was found is marked");
    counts
}

#[test]
fn nought_days_are_no_days_at_all() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    mixed(&mut cron);
    cron.set("chat_direct_retention_days", "0");
    cron.set("chat_default_channel_retention_days", "");
    cron.conn
        .query_drop("UPDATE chat_channels SET retention_days = 4294967295 WHERE id = 2")
        .expect("update");
    assert_eq!(counts(&report(&cron, &["--run"])), [0, 0, 0, 0]);
}

#[test]
fn a_large_table_is_pruned_while_others_write_to_it() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    write(&mut cron, "channel 1", 100, 23_000);
    // Ids far apart, as a cluster or a restored backup has them.
    cron.conn
        .query_drop("ALTER TABLE chat_messages AUTO_INCREMENT = 4611686018427387904")
        .expect("alter");
    write(&mut cron, "direct", 100, 1500);
    write(&mut cron, "channel 1", 1, 500);
    let started = Instant::now();
    let mut run = cron
        .install
        .command("prune", &["--run"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    // Another connection keeps posting and touching old rows; neither it nor the prune waits long for the other.
    let mut longest = std::time::Duration::ZERO;
    while run.try_wait().expect("ask").is_none() {
        let begun = Instant::now();
        for statement in [
            "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text) \
             VALUES ('channel', 1, 1, 'new')",
            "UPDATE chat_messages SET edited_at = NOW() WHERE channel_id = 1 ORDER BY id LIMIT 50",
        ] {
            cron.conn
                .query_drop(statement)
                .expect("written beside a prune");
        }
        longest = longest.max(begun.elapsed());
        wait::pass(std::time::Duration::from_millis(5));
    }
    let whole = started.elapsed();
    let output = run.wait_with_output().expect("its output");
    let report = Json::parse(&String::from_utf8_lossy(&output.stdout)).expect("JSON");
    assert_eq!(counts(&report), [23_000, 1500, 23_000, 1500]);
    assert!(
        longest < whole / 2,
        "a writer waited for {longest:?} of {whole:?}"
    );
    assert_eq!(counts(&self::report(&cron, &[])), [0, 0, 0, 0]);
}

#[test]
fn an_interrupted_run_reports_what_it_has_done() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    write(&mut cron, "channel 1", 100, 12_000);
    let mut run = cron
        .install
        .command("prune", &["--run"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("run");
    let some = wait::until(wait::LIMIT, || {
        let marked = "SELECT 1 FROM chat_messages WHERE deleted_at IS NOT NULL LIMIT 1";
        let found: Option<u8> = cron.conn.query_first(marked).expect("look");
        found
    });
    some.expect("it has begun");
    crate::support::cron::signal(run.id(), rustix::process::Signal::INT);
    let status = run.wait().expect("its end");
    let mut stdout = run.stdout.take().expect("a pipe");
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut said).expect("its output");
    let report = Json::parse(&said).expect("JSON");
    let deleted = counts(&report)[2];
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(report.need("complete"), &Json::Bool(false));
    assert!(deleted > 0 && deleted < 12_000, "{deleted}");
    let marked: Option<i64> = cron
        .conn
        .query_first("SELECT COUNT(*) FROM chat_messages WHERE deleted_at IS NOT NULL")
        .expect("count");
    assert_eq!(marked, Some(deleted));
    let audit = audited(&mut cron);
    let payload = Json::parse(audit[0].need("payload").str().expect("text")).expect("JSON");
    assert_eq!(
        payload.need("channel_messages_deleted").int(),
        Some(deleted)
    );
}

#[test]
fn progress_is_shown_on_a_terminal_and_the_report_stays_clean() {
    needs!(Script, MariaDb);
    let mut cron = Cron::new();
    mixed(&mut cron);
    let report = cron.install.root().join("report.json");
    let command = format!(
        "{PROGRAM} prune --root {} >{}",
        cron.root(),
        report.display()
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) runs");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let bar = "100 % [########################]  3 too old, 0 deleted";
    assert!(shown.contains(bar), "{shown:?}");
    let report = std::fs::read_to_string(report).expect("a report");
    assert_eq!(counts(&Json::parse(&report).expect("JSON")), [2, 1, 0, 0]);
}
