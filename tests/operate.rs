//! `status`, `start`, `stop`, `restart`, `settings` and `token`, called as by an administrator or a script.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use mysql::prelude::Queryable;
use rustix::process::Signal;

use crate::support::cron::{
    Cron, LAST_SEEN, LONG_AGO, PROGRAM, RESTART_REQUESTED, STATUS, STOP_REQUESTED, is_alive, signal,
};
use crate::support::json::Json;
use crate::support::mariadb::{self, Server};
use crate::support::{rows, wait, ws};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal")
}

/// Exit code, standard output, standard error.
fn run(cron: &Cron, subcommand: &str, arguments: &[&str]) -> (i32, String, String) {
    let output = cron.install.run(subcommand, arguments);
    (code(&output), text(&output.stdout), text(&output.stderr))
}

fn status(cron: &Cron) -> (i32, Json) {
    let (code, stdout, stderr) = run(cron, "status", &["--json"]);
    assert_eq!(stderr, "");
    let json = Json::parse(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    (code, json)
}

/// The rows that were added to the audit log, without their ids and times.
fn audited(cron: &mut Cron) -> Vec<String> {
    let query = "SELECT actor_type, actor_id, action, subject_type, subject_id, payload, ip_address FROM audit_log \
                 ORDER BY id";
    let mut found = rows::select(&mut cron.conn, query);
    for row in &mut found {
        row.member("payload").map(mariadb::as_stored);
    }
    cron.conn
        .query_drop("DELETE FROM audit_log")
        .expect("empty the audit log");
    found.iter().map(Json::to_string).collect()
}

fn audit_row(action: &str, payload: &Json) -> String {
    let mut payload = payload.to_string().into();
    mariadb::as_stored(&mut payload);
    Json::object([
        ("actor_type", "system".into()),
        ("actor_id", Json::Null),
        ("action", action.into()),
        ("subject_type", "chat_websocket".into()),
        ("subject_id", 0.into()),
        ("payload", payload),
        ("ip_address", Json::Null),
    ])
    .to_string()
}

fn flags(cron: &mut Cron) -> [String; 4] {
    [
        "chat_websocket_enabled",
        "chat_websocket_autostart",
        STOP_REQUESTED,
        RESTART_REQUESTED,
    ]
    .map(|key| cron.setting(key))
}

#[test]
fn status_follows_the_service_through_its_life() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let (code, report) = status(&cron);
    assert_eq!((code, report.need("status").str()), (1, Some("stopped")));
    assert_eq!(report.need("pid"), &Json::Null);
    assert_eq!(report.need("answers"), &Json::Bool(false));

    let pid = cron.started();
    let (code, report) = status(&cron);
    assert_eq!((code, report.need("status").str()), (0, Some("running")));
    assert_eq!(report.need("pid").int(), Some(i64::from(pid)));
    assert_eq!(report.need("alive"), &Json::Bool(true));
    assert_eq!(report.need("started_by").str(), Some("cron"));
    assert_eq!(report.need("answers"), &Json::Bool(true));
    let address = format!("127.0.0.1:{}", cron.port);
    assert_eq!(report.need("address").str(), Some(address.as_str()));
    let age = report
        .need("heartbeat_age_seconds")
        .int()
        .expect("a number");
    assert!((0..15).contains(&age), "{age}");
    assert_eq!(report.need("wanted"), &Json::Bool(true));

    cron.set(RESTART_REQUESTED, "1");
    let (_, report) = status(&cron);
    assert_eq!(report.need("restart_requested"), &Json::Bool(true));
    cron.set(RESTART_REQUESTED, "0");

    cron.freeze(pid);
    cron.set(LAST_SEEN, LONG_AGO);
    let (code, report) = status(&cron);
    assert_eq!((code, report.need("status").str()), (2, Some("stale")));
    assert_eq!(report.need("recorded_status").str(), Some("running"));
    assert_eq!(report.need("answers"), &Json::Bool(false), "{report}");

    // A crash leaves a heartbeat behind that is fresh for a while.
    signal(pid, Signal::KILL);
    wait::until(wait::LIMIT, || (!is_alive(pid)).then_some(())).expect("it ends");
    let (_, now, _) = run(&cron, "status", &[]);
    assert!(now.contains(&format!("{pid}, not alive")), "{now}");
    let (code, report) = status(&cron);
    assert_eq!((code, report.need("alive")), (2, &Json::Bool(false)));

    cron.set(STATUS, "failed");
    assert_eq!(status(&cron).0, 3);
}

#[test]
fn a_status_that_cannot_be_told_says_why_and_what_is_known_all_the_same() {
    needs!(MariaDb);
    let mut server = Server::own();
    let mut cron = Cron::on(&server.fresh());
    // The daemon stays while its database goes.
    let pid = cron.started();
    server.stop();
    let (code, report) = status(&cron);
    assert_eq!((code, report.need("status").str()), (4, Some("unknown")));
    let problem = report.need("problem").str().expect("a reason");
    assert!(
        problem.contains("refused") && problem.contains("helpdesk@"),
        "{problem}"
    );
    assert!(!problem.contains("password"), "{problem}");
    assert_eq!(report.need("pid").int(), Some(i64::from(pid)));
    assert_eq!(report.need("alive"), &Json::Bool(true));

    std::fs::write(cron.install.root().join(".env"), "JWT_SECRET=short\n").expect("write .env");
    let (code, report) = status(&cron);
    assert_eq!(code, 4);
    let problem = report.need("problem").str().expect("a reason");
    assert!(problem.contains("DB_DATABASE"), "{problem}");
}

/// `script` gives the command a terminal.
fn on_terminal(cron: &Cron, variables: &[(&str, &str)]) -> String {
    let output = Command::new("script")
        .args([
            "-qec",
            &format!("{PROGRAM} status --root {}", cron.root()),
            "/dev/null",
        ])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("script (util-linux) runs");
    text(&output.stdout)
}

#[test]
fn status_for_people_is_coloured_on_a_terminal_alone() {
    needs!(Script, MariaDb);
    let mut cron = Cron::new();
    cron.started();
    let coloured = on_terminal(&cron, &[]);
    assert!(
        coloured.contains("chat service: \u{1b}[32mrunning\u{1b}[0m"),
        "{coloured:?}"
    );
    let plain = on_terminal(&cron, &[("NO_COLOR", "1")]);
    assert!(plain.contains("chat service: running"), "{plain:?}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let (_, piped, _) = run(&cron, "status", &[]);
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
    for word in [
        "recorded",
        "process",
        "heartbeat",
        "address",
        "mode",
        "requests",
    ] {
        assert!(piped.contains(&format!("\n  {word}")), "{piped}");
    }
}

#[test]
fn d26_colours_are_for_a_terminal_unless_they_are_asked_for() {
    needs!(MariaDb);
    let cron = Cron::new();
    let with = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let root = cron.root();
        let output = command
            .args(arguments)
            .args(["--root", &root])
            .env_clear()
            .env("TERM", "dumb")
            .env("NO_COLOR", "1")
            .output()
            .expect("run");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        text(&output.stdout).contains('\u{1b}')
    };
    for subcommand in ["status", "check"] {
        for (when, is_coloured) in [("always", true), ("auto", false), ("never", false)] {
            let option = format!("--color={when}");
            assert_eq!(with(&[subcommand, &option]), is_coloured, "{when}");
            assert_eq!(with(&["--color", when, subcommand]), is_coloured, "{when}");
        }
        assert!(!with(&[subcommand, "--json", "--color=always"]));
    }
    let (code, _, stderr) = run(&cron, "status", &["--color", "loud"]);
    assert_eq!(code, 64);
    assert!(stderr.contains("always"), "{stderr}");
}

#[test]
fn d26_the_version_has_features_and_commit() {
    let output = Command::new(PROGRAM)
        .arg("--version")
        .output()
        .expect("run");
    let said = text(&output.stdout);
    let name = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    assert!(said.starts_with(name), "{said}");
    let git = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let head = git.ok().filter(|output| output.status.success());
    let is_checkout = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.git")).exists();
    if let (true, Some(head)) = (is_checkout, head) {
        let head = text(&head.stdout);
        let wanted = format!(" (commit {})\n", head.trim());
        assert!(said.contains(&wanted), "{wanted}: {said}");
    }
    for (feature, is_on) in [
        ("push", cfg!(feature = "push")),
        ("embedded", cfg!(feature = "embedded")),
        ("bus", cfg!(feature = "bus")),
        ("db-tls", cfg!(feature = "db-tls")),
    ] {
        let features = said.split_once("\nfeatures: ").expect("features").1;
        let mut named = features.trim().split(", ");
        assert_eq!(named.any(|one| one == feature), is_on, "{feature}: {said}");
    }
}

#[test]
fn start_stop_and_restart_leave_the_request_that_the_buttons_leave() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let cron_payload = Json::object([("ip", "cli".into()), ("mode", "cron".into())]);
    for (subcommand, before, after) in [
        ("start", ["0", "0", "1", "0"], ["1", "1", "0", "0"]),
        ("stop", ["1", "1", "0", "0"], ["1", "0", "1", "0"]),
        ("restart", ["1", "1", "0", "0"], ["1", "1", "0", "1"]),
    ] {
        for (key, value) in [
            "chat_websocket_enabled",
            "chat_websocket_autostart",
            STOP_REQUESTED,
            RESTART_REQUESTED,
        ]
        .into_iter()
        .zip(before)
        {
            cron.set(key, value);
        }
        let (code, stdout, stderr) = run(&cron, subcommand, &[]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{subcommand}");
        assert!(
            stdout.contains(&format!("{subcommand} requested")),
            "{stdout}"
        );
        assert_eq!(flags(&mut cron), after, "{subcommand}");
        let action = format!("chat_websocket_{subcommand}_requested");
        assert_eq!(audited(&mut cron), [audit_row(&action, &cron_payload)]);
    }
    cron.set("chat_enabled", "0");
    let (_, stdout, _) = run(&cron, "start", &[]);
    assert!(stdout.contains("chat_enabled is 0"), "{stdout}");
}

#[test]
fn the_supervisor_carries_the_requests_out() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    cron.set("chat_websocket_autostart", "0");
    assert_eq!(run(&cron, "start", &[]).0, 0);
    let first = cron.started();
    assert_eq!(run(&cron, "restart", &[]).0, 0);
    assert_ne!(cron.started(), first);
    let second = cron.pid().expect("a pid");
    assert_eq!(run(&cron, "stop", &[]).0, 0);
    wait::until(wait::LIMIT, || (!is_alive(second)).then_some(())).expect("it stops by itself");
    cron.run();
    assert_eq!(status(&cron).0, 1);
    assert_eq!(cron.setting(STOP_REQUESTED), "0");
}

#[test]
fn in_external_mode_the_service_manager_has_to_be_asked() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    cron.set("chat_websocket_management_mode", "external");
    let before = flags(&mut cron);
    let payload = Json::object([("ip", "cli".into()), ("mode", "external".into())]);
    for subcommand in ["start", "stop", "restart"] {
        let (code, stdout, stderr) = run(&cron, subcommand, &[]);
        assert_eq!((code, stdout.as_str()), (1, ""));
        assert!(
            stderr.contains(&format!("systemctl {subcommand}")),
            "{stderr}"
        );
        assert_eq!(flags(&mut cron), before);
        let action = format!("chat_websocket_{subcommand}_requested_external");
        assert_eq!(audited(&mut cron), [audit_row(&action, &payload)]);
    }
}

#[test]
fn settings_are_listed_read_and_set_with_the_applications_rules() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let (code, stdout, _) = run(&cron, "settings", &["list", "--json"]);
    assert_eq!(code, 0);
    let list = Json::parse(&stdout).expect("JSON");
    assert_eq!(list.entries().len(), 10);
    assert_eq!(list.need("chat_max_message_length").str(), Some("4000"));
    let (_, stdout, _) = run(&cron, "settings", &["list"]);
    assert_eq!(stdout.lines().count(), 10, "{stdout}");

    let set = |cron: &Cron, key: &str, value: &str| run(cron, "settings", &["set", key, value]);
    let (code, stdout, _) = set(&cron, "chat_websocket_management_mode", "external");
    assert_eq!(code, 0);
    assert!(stdout.contains("external (was cron)"), "{stdout}");
    assert_eq!(cron.setting("chat_websocket_management_mode"), "external");
    let payload = "{\"from\":\"cron\",\"ip\":\"cli\",\"key\":\"chat_websocket_management_mode\",\"to\":\"external\"}";
    let payload = Json::parse(payload).expect("JSON");
    let row = audit_row("chat_websocket_settings_updated", &payload);
    assert_eq!(audited(&mut cron), [row]);
    let (code, stdout, _) = run(
        &cron,
        "settings",
        &["get", "chat_websocket_management_mode"],
    );
    assert_eq!((code, stdout.as_str()), (0, "external\n"));

    for (key, value) in [
        ("chat_websocket_management_mode", "systemd"),
        ("chat_websocket_host", "http://127.0.0.1"),
        ("chat_websocket_port", "65536"),
        ("chat_websocket_port", "-1"),
        ("chat_enabled", "maybe"),
    ] {
        let before = cron.setting(key);
        let (code, stdout, stderr) = set(&cron, key, value);
        assert_eq!((code, stdout.as_str()), (64, ""), "{key} {value}");
        assert!(
            stderr.contains(key) && stderr.contains("must be"),
            "{stderr}"
        );
        assert_eq!(cron.setting(key), before);
    }
    let (code, _, stderr) = run(&cron, "settings", &["get", "push_vapid_private_key"]);
    assert_eq!(code, 64);
    assert!(stderr.contains("possible values"), "{stderr}");
    assert_eq!(audited(&mut cron), [""; 0], "nothing changed");

    // What is so already is no change.
    assert_eq!(set(&cron, "chat_enabled", "on").0, 0);
    assert_eq!(audited(&mut cron), [""; 0]);
    cron.conn
        .query_drop("DELETE FROM settings WHERE key_name = 'chat_enabled'")
        .expect("delete a row");
    let (code, _, stderr) = set(&cron, "chat_enabled", "1");
    assert_eq!(code, 1);
    assert!(stderr.contains("no setting chat_enabled"), "{stderr}");
}

#[test]
fn d21_a_setting_that_a_variable_wins_over_is_shown_as_it_counts() {
    needs!(MariaDb);
    let cron = Cron::new();
    let under = |arguments: &[&str]| {
        let mut command = cron.install.command("settings", arguments);
        command
            .env("CHAT_WEBSOCKET_PORT", "8098")
            .env("CHAT_WEBSOCKET_HOST", "0");
        text(&command.output().expect("run").stdout)
    };
    assert_eq!(under(&["get", "chat_websocket_port"]), "8098\n");
    let list = Json::parse(&under(&["list", "--json"])).expect("JSON");
    assert_eq!(list.need("chat_websocket_port").str(), Some("8098"));
    assert_eq!(list.need("chat_websocket_host").str(), Some("127.0.0.1"));
    let list = under(&["list"]);
    let line = list
        .lines()
        .find(|line| line.starts_with("chat_websocket_port"));
    let wanted = format!(
        "8098        listen port; from the environment variable CHAT_WEBSOCKET_PORT, the settings have {}",
        cron.port
    );
    assert!(line.expect("a line").ends_with(&wanted), "{list}");
    assert_eq!(list.matches("; from ").count(), 1, "{list}");
    let mut command = cron
        .install
        .command("settings", &["set", "chat_websocket_port", "8099"]);
    let output = command
        .env("CHAT_WEBSOCKET_PORT", "8098")
        .output()
        .expect("run");
    let said = text(&output.stdout);
    assert!(said.contains("CHAT_WEBSOCKET_PORT wins over it"), "{said}");
    // As the service, it takes one of "0" as unset.
    for (key, value, variable) in [
        ("chat_websocket_port", "8097", "CHAT_WEBSOCKET_PORT"),
        ("chat_websocket_host", "127.0.0.2", "CHAT_WEBSOCKET_HOST"),
    ] {
        let mut command = cron.install.command("settings", &["set", key, value]);
        let said = text(&command.env(variable, "0").output().expect("run").stdout);
        assert!(
            said.contains(value) && !said.contains("wins over"),
            "{said}"
        );
    }
}

#[test]
fn a_token_lets_its_agent_in_for_its_time() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    cron.started();
    let (code, token, notes) = run(&cron, "token", &["--agent", "2", "--ttl", "60"]);
    assert_eq!(code, 0);
    assert!(
        notes.contains("agent 2, Bob Brown") && notes.contains("60 s"),
        "{notes}"
    );
    let mut client = ws::Client::connect(cron.port).unwrap();
    let event = Json::object([("type", "auth".into()), ("token", token.trim_end().into())]);
    client.send(&event.to_string());
    let answer = client.until_type("auth.ok").unwrap();
    assert_eq!(answer.need("agent_id").int(), Some(2));

    let (code, token, notes) = run(&cron, "token", &["--agent", "999"]);
    assert_eq!(code, 1);
    assert!(
        token.len() > 100 && notes.contains("does not exist"),
        "{notes}"
    );
    for arguments in [
        &["--agent", "0"][..],
        &["--agent", "x"],
        &[],
        &["--agent", "1", "--ttl", "0"],
        &["--agent", "1", "--ttl", "3601"],
    ] {
        assert_eq!(run(&cron, "token", arguments).0, 64, "{arguments:?}");
    }
}

#[test]
fn every_subcommand_has_its_help_without_an_install() {
    for subcommand in [
        "serve",
        "supervise",
        "status",
        "start",
        "stop",
        "restart",
        "settings",
        "config",
        "connections",
        "prune",
        "check",
        "healthcheck",
        "token",
    ] {
        let mut command = Command::new(PROGRAM);
        let output = command
            .args([subcommand, "--help"])
            .env_clear()
            .current_dir("/")
            .output()
            .expect("run");
        assert_eq!(code(&output), 0, "{subcommand}");
        let help = text(&output.stdout);
        assert!(help.contains("Exit codes: 0"), "{subcommand}: {help}");
        assert!(!help.contains("__detached") && !help.contains("--supervised"));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn d26_config_shows_every_option_with_its_value_and_its_source() {
    needs!(MariaDb);
    let cron = Cron::new();
    let arguments = ["--json", "--rate", "7"];
    let output = cron
        .install
        .command("config", &arguments)
        .env("CHAT_WEBSOCKET_BURST", "8")
        .output()
        .expect("run");
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let entries: Vec<serde_json::Value> = serde_json::from_str(&said).expect("JSON");
    for (name, value, source) in [
        ("CHAT_WEBSOCKET_RATE", "7", "option"),
        ("CHAT_WEBSOCKET_BURST", "8", "environment"),
        ("JWT_SECRET", "***", "env_file"),
        ("CHAT_WEBSOCKET_QUEUE_SECONDS", "30", "default"),
        ("chat_max_message_length", "4000", "setting"),
    ] {
        let wanted = serde_json::json!({"name": name, "value": value, "source": source});
        assert!(entries.contains(&wanted), "{wanted}: {said}");
    }
    let document = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/configuration.md"
    ));
    let document = document.expect("docs/configuration.md");
    let rows = document.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    for name in cells.flat_map(|cell| cell.split(", ")) {
        let name = name.trim().trim_matches('`');
        let is_variable = name.starts_with("CHAT_") || name.starts_with("DB_");
        assert!(
            !is_variable || said.contains(&format!("\"{name}\"")),
            "{name}: {said}"
        );
    }
    // Without a database what is known is shown all the same.
    let mut command = cron.install.command("config", &[]);
    let output = command
        .env("DB_PORT", "1")
        .env("DB_HOST", "127.0.0.1")
        .output()
        .expect("run");
    assert_eq!(code(&output), 69);
    assert!(
        text(&output.stdout).contains("environment  1\n"),
        "{}",
        text(&output.stdout)
    );
    let mut command = cron.install.command("config", &[]);
    let output = command.env("DB_PORT", "x").output().expect("run");
    assert_eq!(code(&output), 78);
    assert!(
        text(&output.stdout).contains("environment  x\n"),
        "{}",
        text(&output.stdout)
    );
}

/// What `settings set` says and what the document says is one.
#[test]
fn d20_a_setting_is_followed_within_the_second_that_is_told() {
    needs!(MariaDb);
    let cron = Cron::new();
    let set = ["set", "chat_max_message_length", "3000"];
    let said = text(&cron.install.run("settings", &set).stdout);
    assert!(said.contains("follows it within a second"), "{said}");
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let document = std::fs::read_to_string(document).expect("the document");
    assert!(document.contains("again every second"));
}
