//! Prometheus takes what `/metrics` says, the alert rules in `contrib/prometheus` do what their tests say, and neither they
//! nor the dashboard in `contrib/grafana` name a metric that there is not.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::free_port;
use crate::support::ops::seeded;
use crate::support::ws::Client;
use crate::support::{reaper, wait};

fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib")
}

/// The page `/metrics`.
fn page(port: u16) -> String {
    let mut client = Client::open(port);
    client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.response().unwrap();
    String::from_utf8(client.rest().unwrap()).expect("UTF-8")
}

fn promtool(arguments: &[&str], input: &str) {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(contrib().join("prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(input.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

#[test]
fn prometheus_takes_the_metrics_and_the_alert_rules_do_what_their_tests_say() {
    needs!(MariaDb, Prometheus);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).unwrap();
    ann.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"hello"}"#);
    ann.until_type("chat.channel.message.created").unwrap();
    promtool(&["check", "metrics"], &page(daemon.port()));
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts_test.yml"], "");
}

#[test]
fn a_running_prometheus_scrapes_the_service_by_the_example() {
    needs!(MariaDb, Prometheus);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let folder = reaper::folder("prometheus");
    let job = fs::read_to_string(contrib().join("prometheus/scrape.yml")).expect("the example");
    let job = job.replace("8090", &daemon.port().to_string());
    let rules = contrib().join("prometheus/alerts.yml");
    let config = format!(
        "global: {{scrape_interval: 1s}}\nrule_files: ['{}']\n{job}",
        rules.display()
    );
    fs::write(folder.join("prometheus.yml"), config).expect("write");
    let port = free_port();
    let mut prometheus = Command::new("prometheus")
        .arg(format!(
            "--config.file={}",
            folder.join("prometheus.yml").display()
        ))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("prometheus");
    reaper::watch(&prometheus);
    let up = wait::until(wait::LIMIT, || {
        let answer = get(port, "/api/v1/query?query=andrea_chat_database_up")?;
        answer.contains(r#""job":"andrea-chat""#).then_some(answer)
    });
    // Before anything is asserted: it outlives no test.
    let _ = prometheus.kill();
    let _ = prometheus.wait();
    reaper::forget(&prometheus);
    let up = up.expect("scraped");
    assert!(up.contains(r#""1"]"#), "{up}");
}

/// What an HTTP server answers, once it does.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// The words that begin like a metric of ours.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("andrea_chat_") || word.starts_with("process_"))
        .map(str::to_owned)
        .collect()
}

/// Every metric that there can be: of a service with a bus, whether that answers or not.
fn all_metrics() -> (Daemon, String) {
    let (database, _) = seeded();
    let options = Options::new().env("CHAT_BUS_URL", "redis://127.0.0.1:1/");
    let daemon = Daemon::start(&database, &options);
    let text = page(daemon.port());
    (daemon, text)
}

#[test]
fn d27_the_document_lists_every_metric_and_no_other() {
    needs!(MariaDb);
    let (_daemon, page) = all_metrics();
    let families = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: BTreeSet<(String, String)> = families
        .map(|line| line.split_once(' ').expect("a type"))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    let document = contrib().join("../docs/operations.md");
    let document = fs::read_to_string(document).expect("docs/operations.md");
    let mut listed = BTreeSet::new();
    for row in document.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names = metrics_in(cells[1]);
        let kinds: Vec<&str> = cells[2].split(", ").collect();
        for (place, name) in cells[1]
            .split(", ")
            .filter(|_| !names.is_empty())
            .enumerate()
        {
            let bare = name.trim_matches('`');
            let (name, labels) = bare.split_once('{').unwrap_or((bare, ""));
            for label in labels
                .trim_end_matches('}')
                .split(',')
                .filter(|one| !one.is_empty())
            {
                let sample = format!("\n{name}{{");
                let (_, rest) = page.split_once(&sample).unwrap_or_else(|| panic!("{bare}"));
                let labels = rest.split('}').next().expect("labels");
                assert!(labels.contains(&format!("{label}=")), "{bare}: {labels}");
            }
            let kind = kinds.get(place).or(kinds.last()).expect("a type");
            listed.insert((name.to_owned(), (*kind).to_owned()));
        }
    }
    assert_eq!(listed, there);
}

#[test]
fn rules_and_dashboard_name_only_metrics_that_there_are() {
    needs!(MariaDb);
    let (_daemon, page) = all_metrics();
    let known = metrics_in(&page);
    for file in ["prometheus/alerts.yml", "grafana/andrea-chat.json"] {
        let text = fs::read_to_string(contrib().join(file)).expect("the file");
        let named = metrics_in(&text);
        assert!(named.len() >= 6, "{file}");
        let unknown: Vec<_> = named.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn d27_the_database_and_what_is_pushed_are_counted() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let _ann = daemon.login(1).unwrap();
    let page = page(daemon.port());
    let (_, connections) = page
        .split_once("\nandrea_chat_database_connections ")
        .expect("a gauge");
    let connections: u64 = connections
        .lines()
        .next()
        .expect("a value")
        .parse()
        .expect("a number");
    assert!((1..=3).contains(&connections), "{connections}");
    for line in [
        "andrea_chat_push_waiting 0\n",
        "andrea_chat_push_total{outcome=\"accepted\"} 0\n",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
}
