//! The JavaScript client, contrib/client, against the real service: in rounds in which the service is killed, ended,
//! frozen, cut off and slowed; in one situation each; and its types against the protocol's document. What is done in
//! JavaScript stands in tests/client. `ANDREA_CLIENT_ROUNDS` is how many rounds.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;
use serde_json::Value;

use crate::support::chat::stored;
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::needs::{Need, node_modules};
use crate::support::proxy::Proxy;
use crate::support::{jwt, script, seed};

/// Each takes about half a second. Of the nine things that break, one that is done in 40 rounds is left out in one run of
/// a hundred.
const ROUNDS: i64 = 40;
/// Where the tests may take very long, and where they are to be quick.
const MANY_ROUNDS: i64 = 200;
const FEW_ROUNDS: i64 = 10;
const DELAY: Duration = Duration::from_millis(40);

fn agent(id: i64) -> Json {
    Json::object([("id", id.into()), ("token", jwt::good(id).into())])
}

fn rounds() -> i64 {
    let rounds = env::var("ANDREA_CLIENT_ROUNDS").ok();
    match rounds {
        Some(text) => text.parse().expect("a number of rounds"),
        None if Need::Time.missing().is_some() => FEW_ROUNDS,
        None if Need::MuchTime.missing().is_some() => ROUNDS,
        None => MANY_ROUNDS,
    }
}

fn modules() -> PathBuf {
    node_modules().expect("what is not missing is somewhere")
}

/// What a word does to the way to the service; false where it is no such word.
fn disturb(proxy: &Proxy, word: &str) -> bool {
    match word {
        "CUT" => proxy.cut_all(),
        "SLOW" => proxy.delay(DELAY),
        "EVEN" => proxy.delay(Duration::ZERO),
        "LOSE" => proxy.lose(true),
        "FIND" => {
            proxy.lose(false);
            proxy.cut_lossy();
        }
        _ => return false,
    }
    true
}

/// Two agents, one of them in two windows, in a channel and a thread.
fn task(what: &str, port: u16) -> Json {
    Json::object([
        ("what", what.into()),
        ("url", format!("ws://127.0.0.1:{port}/ws/chat").into()),
        ("modules", modules().display().to_string().into()),
        ("rounds", rounds().into()),
        ("agents", Json::Array(vec![agent(1), agent(2), agent(1)])),
        (
            "conversations",
            Json::Array(vec![
                Json::object([("channel_id", 2.into())]),
                Json::object([("thread_id", 1.into())]),
            ]),
        ),
    ])
}

/// So that no client is refused for being too quick.
fn unlimited() -> Options {
    Options::new()
        .env("CHAT_WEBSOCKET_RATE", "0")
        .env("CHAT_WEBSOCKET_CONTROL_RATE", "0")
}

/// What the scripts' words do to the service and the way to it.
struct Service {
    daemon: Daemon,
    options: Options,
    proxy: Proxy,
}

impl Service {
    fn start(database: &Database) -> Service {
        Service::start_with(database, unlimited())
    }

    fn start_with(database: &Database, options: Options) -> Service {
        let port = mariadb::free_port();
        let options = options.port(port);
        Service {
            daemon: Daemon::start(database, &options),
            proxy: Proxy::start(port),
            options,
        }
    }

    fn start_again(&mut self) {
        self.daemon = Daemon::start_in(self.daemon.install.clone(), &self.options);
    }

    /// True where it was such a word.
    fn obey(&mut self, word: &str) -> bool {
        match word {
            "KILL" => {
                self.daemon.signal(rustix::process::Signal::KILL);
                self.daemon.wait_exit(crate::support::wait::LIMIT);
                self.start_again();
            }
            "TERM" => {
                assert!(self.daemon.stop().success(), "the daemon did not end well");
                self.start_again();
            }
            "FREEZE" => self.daemon.freeze(),
            "THAW" => self.daemon.thaw(),
            _ => return disturb(&self.proxy, word),
        }
        true
    }
}

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

/// Rows of another writer, a third of them in the thread.
fn write(conn: &mut Conn, bodies: &[String]) {
    let rows = bodies.iter().enumerate().map(|(number, body)| {
        let place = match number % 3 {
            2 => "'direct', NULL, 1",
            _ => "'channel', 2, NULL",
        };
        format!("({place}, 2, '{body}', '{body}', NOW())")
    });
    let rows = rows.collect::<Vec<_>>().join(",");
    let insert = format!(
        "INSERT INTO chat_messages (message_scope, channel_id, thread_id, sender_agent_id, body_text, \
         body_rendered_html, created_at) VALUES {rows}"
    );
    conn.query_drop(insert).expect("write");
}

/// Plays one case of tests/client/cases.mjs; the types of the events that the clients have sent.
fn case(what: &str, options: Options) -> BTreeSet<String> {
    let document = crate::support::document::get();
    let mut sent = BTreeSet::new();
    let database = seeded();
    let mut service = Service::start_with(&database, options);
    let mut late = database.conn();
    let task = task(what, service.proxy.port());
    script::run("client/cases.mjs", &[script::NODE], &task, |line| {
        let (word, body) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "FRAME" => {
                let event: Value = serde_json::from_str(body).expect("JSON");
                let verdict = document.judge_event(&event);
                verdict.unwrap_or_else(|e| panic!("{body} is not as the document says: {e}"));
                sent.insert(event["type"].as_str().expect("a type").to_owned());
                return None;
            }
            "BEGIN" => {
                late.query_drop("BEGIN").expect("begin");
                write(&mut late, &[body.to_owned()]);
            }
            "COMMIT" => late.query_drop("COMMIT").expect("commit"),
            "WRITE" => write(&mut database.conn(), &[body.to_owned()]),
            "DEACTIVATE" => {
                let change = "UPDATE agents SET is_active = 0 WHERE id = 2";
                database.conn().query_drop(change).expect("write");
            }
            _ if !service.obey(word) => return None,
            _ => {}
        }
        Some("DONE".to_owned())
    });
    sent
}

macro_rules! cases {
    ($($name:ident: $what:literal $(, $variable:literal = $value:literal)*;)+) => {
        $(#[test]
        fn $name() {
            needs!(NodeJs, MariaDb);
            case($what, unlimited()$(.env($variable, $value))*);
        })+
    };
}

cases! {
    node_has_one_socket_at_a_time: "one_socket";
    node_connects_with_one_token_however_late_they_come: "slow_tokens";
    node_waits_longer_after_each_failure_and_never_as_others_do: "pauses";
    node_stays_away_where_there_are_too_many: "crowded", "CHAT_WEBSOCKET_MAX_PER_AGENT" = "1";
    node_gives_up_after_three_refused_tokens: "refused_tokens";
    node_stays_away_once_its_agent_is_deactivated: "deactivated";
    node_notices_a_connection_that_is_dead: "dead_connection";
    node_gets_a_row_that_was_committed_late_while_it_was_away: "late_rows";
    node_has_in_the_storage_what_it_sends: "queue_in_storage";
    node_looks_in_the_history_for_what_it_sent_long_ago: "long_unanswered";
    node_tells_nothing_of_what_was_discarded_while_it_looked_for_it: "discarded_while_checking";
    node_keeps_the_order_where_it_is_told_to_slow_down: "too_quick", "CHAT_WEBSOCKET_RATE" = "5", "CHAT_WEBSOCKET_BURST" = "1";
    node_is_told_which_message_was_refused: "refused_messages";
    node_stays_closed_where_a_listener_closes_it: "closed_by_a_listener";
}

#[test]
fn node_sends_each_event_as_the_document_describes_it() {
    needs!(NodeJs, MariaDb);
    let sent = case("every_event", unlimited());
    assert_eq!(sent, crate::support::document::get().event_types());
}

#[test]
fn node_loses_doubles_and_misorders_nothing_whatever_breaks() {
    needs!(NodeJs, MariaDb);
    let database = seeded();
    let mut service = Service::start(&database);
    let mut said = 0;
    let task = task("rounds", service.proxy.port());
    script::run("client/rounds.mjs", &[script::NODE], &task, |word| {
        if let Some(count) = word.strip_prefix("SAID ") {
            said = count.parse().expect("a number");
        }
        service.obey(word).then(|| "DONE".to_owned())
    });
    // What was shown is stored, each once.
    let mut times = BTreeMap::new();
    for message in stored(&mut database.conn()).into_values() {
        *times.entry(message.body).or_insert(0) += 1;
    }
    times.retain(|body, _| body.starts_with("message "));
    assert!(said > 0 && times.len() == said, "{said} {}", times.len());
    assert!(times.values().all(|count| *count == 1), "{times:?}");
}

/// The demo is the same service, and serves the client to a page.
#[cfg(feature = "embedded")]
#[test]
fn chromium_loses_doubles_and_misorders_nothing_whatever_breaks() {
    needs!(Python, Browser);
    use crate::support::demo::{Demo, new_folder};
    use rustix::process::Signal;

    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    let port = demo.port();
    let proxy = Proxy::start(port);
    let task = Json::object([
        ("url", format!("http://127.0.0.1:{}/", proxy.port()).into()),
        ("rounds", rounds().into()),
    ]);
    let programs = [script::PYTHON, script::CHROMEDRIVER, script::CHROMIUM];
    script::run("browser/rounds.py", &programs, &task, |word| {
        match word {
            "KILL" | "TERM" => {
                demo.end(if word == "KILL" {
                    Signal::KILL
                } else {
                    Signal::TERM
                });
                demo = Demo::start(&data, port);
            }
            "FREEZE" => demo.signal(Signal::STOP),
            "THAW" => demo.signal(Signal::CONT),
            _ if !disturb(&proxy, word) => return None,
            _ => {}
        }
        Some("DONE".to_owned())
    });
}

#[test]
fn node_reads_in_the_history_what_the_service_does_not_send_again() {
    needs!(NodeJs, MariaDb);
    const MISSED: usize = 2500;
    let database = seeded();
    let mut service = Service::start(&database);
    let mut heard = Json::Null;
    let task = task("missed", service.proxy.port());
    script::run("client/rounds.mjs", &[script::NODE], &task, |word| {
        if let Some(list) = word.strip_prefix("HEARD ") {
            heard = Json::parse(list).expect("a list");
        }
        if word != "WRITE" {
            return service.obey(word).then(|| "DONE".to_owned());
        }
        let bodies: Vec<String> = (0..MISSED).map(|number| format!("m{number}")).collect();
        write(&mut database.conn(), &bodies);
        Some("DONE".to_owned())
    });
    let ids = |list: &Json| -> Vec<i64> { list.items().iter().filter_map(Json::int).collect() };
    let stored: Vec<i64> = stored(&mut database.conn()).into_keys().collect();
    let missed = &stored[stored.len() - MISSED..];
    assert_eq!(ids(heard.need("heard")), missed);
    assert_eq!(heard.need("gaps").to_string(), "[true]");
    // One that reads no more than 1,500 has the newest of them, and knows it.
    let part = heard.need("part");
    let (some, gaps) = (ids(part.need("heard")), part.need("gaps"));
    assert!((1500..MISSED).contains(&some.len()), "{}", some.len());
    assert_eq!(gaps.items()[0].to_string(), "false");
    let gap = |end: &str| gaps.items()[1].need(end).int().expect("an id");
    let behind = missed.iter().filter(|id| **id >= gap("before_id"));
    assert!(some.ends_with(&behind.copied().collect::<Vec<_>>()));
    // There was no message before.
    assert_eq!(gap("after_id"), 0);
}

fn contrib(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("contrib/client")
        .join(file)
}

/// After a change of the document: `ANDREA_TEST_WRITE=1 cargo test --test main client::types_follow` writes it anew.
#[test]
fn types_follow_the_document() {
    let made = crate::support::typescript::of(&crate::support::document::get().json);
    let path = contrib("protocol.d.ts");
    if env::var_os("ANDREA_TEST_WRITE").is_some() {
        fs::write(&path, &made).expect("write the types");
    }
    let shipped = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        shipped == made,
        "{} does not follow the document",
        path.display()
    );
}

/// The compiler takes a program that uses everything, and the client has what its types promise.
#[test]
fn node_compiles_a_strict_program_against_the_types() {
    needs!(NodeJs);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/sample.ts");
    let node = |arguments: &[&Path]| {
        let mut command = Command::new("node");
        let output = command.args(arguments).current_dir(modules()).output();
        output.unwrap_or_else(|e| panic!("start node: {e}"))
    };
    let compiler = modules().join("node_modules/typescript/bin/tsc");
    let options = "--noEmit --strict --target es2022 --module nodenext".split(' ');
    let options: Vec<&Path> = options.map(Path::new).collect();
    let output = node(&[&[&*compiler], &options[..], &[&*sample]].concat());
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let members = node(&[&sample.with_file_name("members.mjs")]);
    let members = String::from_utf8_lossy(&members.stdout).into_owned();
    let types = fs::read_to_string(contrib("andrea-chat.d.ts")).expect("types");
    let class = types
        .split("export class ChatClient {")
        .nth(1)
        .expect("a class");
    let mut declared: Vec<&str> = class
        .split("\n}")
        .next()
        .expect("its end")
        .lines()
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .map(|line| line.trim_start_matches("readonly "))
        .filter_map(|line| line.split(['(', ':', '<']).next())
        .collect();
    declared.sort_unstable();
    assert_eq!(declared.join(" "), members.trim());
    let readme = fs::read_to_string(contrib("README.md")).expect("the README");
    let is_told = |name: &&str| {
        ["`", "(", ">"]
            .iter()
            .any(|end| readme.contains(&format!("`{name}{end}")))
    };
    let untold: Vec<&str> = declared.into_iter().filter(|name| !is_told(name)).collect();
    assert_eq!(untold, ["constructor"]);
}
