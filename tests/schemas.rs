//! What programs read, held to its description in docs/schemas: real output of each subcommand, and of `/healthz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use boon::{Compiler, Draft, Schemas};
use serde_json::Value;

use crate::support::cron::Cron;
use crate::support::mariadb::Server;
use crate::support::ws::Client;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schemas")
}

fn schema(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(format!("{name}.json"))).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

/// Whether the schema of this name takes the value. The compiler judges the schema itself by the rules of its draft.
fn judge(name: &str, value: &Value) -> Result<(), String> {
    let place = format!("https://helpdesk.example.test/{name}.json");
    let (mut compiler, mut schemas) = (Compiler::new(), Schemas::new());
    compiler.set_default_draft(Draft::V2020_12);
    let schema = schema(name);
    compiler.add_resource(&place, schema).expect("a resource");
    let compiled = compiler.compile(&place, &mut schemas);
    let compiled = compiled.unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let judged = schemas.validate(value, compiled);
    judged.map_err(|error| format!("{error:#}"))
}

#[track_caller]
fn fits(name: &str, text: &str) -> Value {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}: {text}"));
    if let Err(error) = judge(name, &value) {
        panic!("{name}: {error}\n{value:#}");
    }
    value
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The members that the schema names, at any depth.
fn members(schema: &Value, into: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        into.extend(properties.keys().cloned());
        for one in properties.values() {
            members(one, into);
        }
    }
    if schema["items"].is_object() {
        members(&schema["items"], into);
    }
}

fn page(port: u16) -> String {
    let mut client = Client::open(port);
    client.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response().unwrap();
    String::from_utf8(client.rest().unwrap()).expect("UTF-8")
}

#[test]
fn d27_what_programs_read_is_what_the_schemas_say() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let run = |cron: &Cron, subcommand: &str, arguments: &[&str]| {
        stdout(&cron.install.run(subcommand, arguments))
    };
    let stopped = fits("status", &run(&cron, "status", &["--json"]));
    assert_eq!(stopped["status"], "stopped");
    cron.started();
    let ann = Client::login(cron.port, 1).unwrap();
    let stranger = Client::connect(cron.port).unwrap();
    let running = fits("status", &run(&cron, "status", &["--json"]));
    assert_eq!(running["status"], "running");
    assert!(!running["log_lines"].as_array().expect("lines").is_empty());
    let list = fits("connections", &run(&cron, "connections", &["--json"]));
    assert_eq!(list.as_array().map(Vec::len), Some(2));
    fits("config", &run(&cron, "config", &["--json"]));
    fits("check", &run(&cron, "check", &["--json"]));
    for arguments in [
        &["--json"][..],
        &["--json", "--run"],
        &["--json", "--channel-id", "1"],
    ] {
        fits("prune", &run(&cron, "prune", arguments));
    }
    assert_eq!(fits("healthz", &page(cron.port))["status"], "ok");
    drop((ann, stranger));
}

#[test]
fn d27_the_schemas_hold_also_while_something_is_wrong() {
    needs!(MariaDb);
    let mut server = Server::own();
    let mut cron = Cron::on(&server.fresh());
    cron.started();
    server.stop();
    let run = |subcommand: &str| stdout(&cron.install.run(subcommand, &["--json"]));
    assert_eq!(fits("status", &run("status"))["status"], "unknown");
    let entries = fits("config", &run("config"));
    assert!(entries.as_array().expect("a list").len() > 40);
    let failed = fits("check", &run("check"));
    let levels = failed.as_array().expect("a list");
    assert!(levels.iter().any(|one| one["level"] == "failed"));
    fits("healthz", &page(cron.port));
    fs::write(cron.install.root().join(".env"), "JWT_SECRET=short\n").expect("write .env");
    fits("status", &run("status"));
    fits("check", &run("check"));
}

#[test]
fn each_schema_is_strict_and_described() {
    let document =
        fs::read_to_string(folder().join("../operations.md")).expect("docs/operations.md");
    let files = fs::read_dir(folder()).expect("the folder");
    let names: BTreeSet<String> = files
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_str()
                .expect("UTF-8")
                .to_owned()
        })
        .collect();
    let wanted = [
        "check",
        "config",
        "connections",
        "healthz",
        "prune",
        "status",
    ];
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    for name in &names {
        assert!(document.contains(&format!("schemas/{name}.json")), "{name}");
        assert!(judge(name, &Value::from(1)).is_err(), "{name}");
        let wrong = serde_json::json!([{ "unknown": 1 }]);
        assert!(
            judge(name, &wrong).is_err() && judge(name, &wrong[0]).is_err(),
            "{name}"
        );
        let mut all = BTreeSet::new();
        members(&schema(name), &mut all);
        for member in all {
            assert!(
                document.contains(&format!("`{member}`")),
                "{name}: {member}"
            );
        }
    }
}
