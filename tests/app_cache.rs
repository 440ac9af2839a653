//! The helpdesk's query cache: a PHP script plays the application and answers SELECTs from a cache, in a real Redis or a
//! real folder. A write that bypasses the cache leaves it stale; a write of the service invalidates it.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use rustix::process::Signal;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::mariadb::{self, Database};
use crate::support::needs::{self, Need};
use crate::support::redis::Redis;
use crate::support::stopwatch::Stopwatch;
use crate::support::ws::Client;
use crate::support::{reaper, seed, wait};

/// The product's, whose rows tell the cache as well.
const BETWEEN_HEARTBEATS: Duration = Duration::from_secs(10);

/// As it is in the settings, and as it is cleaned.
const PREFIX: (&str, &str) = ("_my shop's:", "my_shop_s");
const DATABASE: i64 = 3;
const COUNT: &str = "SELECT COUNT(*) FROM chat_messages";

/// The application, with its cache.
struct Application {
    child: Child,
    queries: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Application {
    fn start(database: &Database, cache: &[&str]) -> Application {
        needs::demand(Need::PhpExtensions);
        let mut child = Command::new("php")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/application.php"))
            .arg(&database.socket)
            .args([&database.name, database.user, database.password])
            .args(cache)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start php: {e}"));
        reaper::watch(&child);
        Application {
            queries: child.stdin.take().expect("stdin is a pipe"),
            answers: BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines(),
            child,
        }
    }

    fn with_redis(database: &Database, redis: &Redis) -> Application {
        let (port, number) = (redis.port().to_string(), DATABASE.to_string());
        Application::start(database, &["redis", "127.0.0.1", &port, &number, PREFIX.1])
    }

    fn with_files(database: &Database, folder: &Path) -> Application {
        Application::start(database, &["file", &folder.display().to_string()])
    }

    /// What it shows for this SELECT.
    fn shows(&mut self, query: &str) -> String {
        writeln!(self.queries, "{query}").expect("ask the application");
        let answer = self.answers.next().expect("an answer");
        answer.expect("UTF-8")
    }

    /// Waits until it shows this.
    fn await_showing(&mut self, query: &str, value: &str) {
        let begun = Stopwatch::start();
        let shown = wait::until(wait::LIMIT, || (self.shows(query) == value).then_some(()));
        // The next heartbeat would show it as well.
        assert!(begun.elapsed() < BETWEEN_HEARTBEATS);
        assert!(
            shown.is_some(),
            "{query}: {:?} instead of {value:?}",
            self.shows(query)
        );
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        reaper::forget(&self.child);
    }
}

fn database(redis_port: u16) -> Database {
    let database = mariadb::Database::fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    for (key, value) in [
        ("cache_enabled", "1"),
        ("redis_port", &redis_port.to_string()),
        ("redis_prefix", PREFIX.0),
        ("redis_database", &DATABASE.to_string()),
    ] {
        seed::set(&mut conn, key, &value.into());
    }
    database
}

fn say(client: &mut Client, body: &str) {
    client.send(&format!(
        r#"{{"type":"chat.direct.message.send","thread_id":1,"body":"{body}"}}"#
    ));
    let created = client.until_type("chat.direct.message.created");
    created.expect("a message");
}

/// How many messages there are, past the cache.
fn stored(database: &Database) -> String {
    let count: Option<i64> = database.conn().query_first(COUNT).expect("count");
    count.unwrap_or_default().to_string()
}

/// Writes a message past everybody.
fn insert(database: &Database) {
    database
        .conn()
        .query_drop(
            "INSERT INTO chat_messages (message_scope, thread_id, sender_agent_id, body_text) VALUES ('direct', 1, 1, 'x')",
        )
        .expect("insert a message");
}

/// The version in Redis, 0 where there is none.
fn version(redis: &Redis) -> i64 {
    let client = redis::Client::open(format!("{}{DATABASE}", redis.url())).expect("a URL");
    let mut connection = client.get_connection().expect("connect to Redis");
    let found: Option<i64> = redis::cmd("GET")
        .arg(format!("{}:version", PREFIX.1))
        .query(&mut connection)
        .expect("GET");
    found.unwrap_or_default()
}

/// Waits until the version has been the same for longer than the service ever waits.
fn quiet_version(redis: &Redis) -> i64 {
    let mut last = version(redis);
    let mut since = Instant::now();
    let quiet = wait::until(wait::LIMIT, || {
        let now = version(redis);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(1300)).then_some(now)
    });
    quiet.expect("writes come to an end")
}

/// Reads, goes stale, and gets fresh, whatever the cache is made of.
fn goes_stale_and_fresh(database: &Database, application: &mut Application) {
    let read = "SELECT last_read_message_id FROM chat_message_reads WHERE agent_id = 1";
    let mut daemon = Daemon::start_in(Install::new(database, &Options::new()), &Options::new());
    let mut ann = daemon.login(1).expect("login");
    application.await_showing(
        "SELECT value FROM settings WHERE key_name = 'chat_websocket_status'",
        "running",
    );
    // The application does not see a write that bypasses the cache. The service may write in between.
    let stale = wait::until(wait::LIMIT, || {
        let before = application.shows(COUNT);
        insert(database);
        (application.shows(COUNT) == before).then_some(())
    });
    assert!(stale.is_some(), "nothing is cached");
    say(&mut ann, "hello");
    application.await_showing(COUNT, &stored(database));
    assert_eq!(application.shows(read), "");
    ann.send(
        r#"{"type":"chat.read","scope":"direct","thread_id":1,"last_read_message_id":700001}"#,
    );
    ann.until_type("chat.read.updated").expect("read");
    application.await_showing(read, "700001");
    assert!(daemon.stop().success());
    // What is written last is told before the process ends.
    assert_eq!(
        application.shows("SELECT value FROM settings WHERE key_name = 'chat_websocket_status'"),
        "stopped"
    );
}

#[test]
fn the_helpdesk_sees_in_redis_what_the_service_wrote() {
    needs!(Redis, MariaDb);
    let redis = Redis::start();
    let database = database(redis.port());
    let mut application = Application::with_redis(&database, &redis);
    goes_stale_and_fresh(&database, &mut application);
}

#[test]
fn the_helpdesk_sees_in_files_what_the_service_wrote() {
    needs!(MariaDb, PhpExtensions);
    // Redis is not there, and of that the log says so once.
    let database = database(mariadb::free_port());
    let options = Options::new().env("CACHE_HOME", "storage/app cache");
    let install = Install::new(&database, &options);
    let home = install.root().join("storage/app cache");
    fs::create_dir_all(&home).expect("make the folder");
    let mut application = Application::with_files(&database, &home);
    let daemon = Daemon::start_in(install, &options);
    let mut ann = daemon.login(1).expect("login");
    for count in 1..=3 {
        say(&mut ann, "hello");
        application.await_showing(COUNT, &count.to_string());
    }
    let is_clean = wait::until(wait::LIMIT, || {
        let names = fs::read_dir(&home).expect("list the folder");
        let mut names = names.map(|entry| entry.expect("an entry").file_name());
        names
            .all(|name| !name.to_string_lossy().starts_with('.'))
            .then_some(())
    });
    assert!(is_clean.is_some(), "temporary files are left");
    let log = daemon.log();
    assert_eq!(log.matches(" in Redis at ").count(), 1, "{log}");
}

#[test]
fn the_helpdesk_is_told_at_most_once_a_second_and_after_the_last_write() {
    needs!(Redis, MariaDb);
    let redis = Redis::start();
    let database = database(redis.port());
    let mut application = Application::with_redis(&database, &redis);
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    let before = quiet_version(&redis);
    assert!(before > 0, "the service wrote at its start");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        say(&mut ann, "hello");
        // Caches the current result until it is invalidated.
        application.shows(COUNT);
    }
    let told = version(&redis) - before;
    let most = i64::try_from(begun.elapsed().as_millis() / 1000).expect("few") + 1;
    assert!((1..=most).contains(&told), "{told} times, at most {most}");
    application.await_showing(COUNT, &stored(&database));
}

#[test]
fn a_cache_that_is_off_is_told_nothing_until_it_is_on() {
    needs!(Redis, MariaDb);
    let redis = Redis::start();
    let database = database(redis.port());
    seed::set(&mut database.conn(), "cache_enabled", &"0".into());
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    let install = Install::new(&database, &options);
    let home = install.root().join("cache");
    fs::create_dir(&home).expect("make the folder");
    let daemon = Daemon::start_in(install, &options);
    let mut ann = daemon.login(1).expect("login");
    say(&mut ann, "hello");
    wait::pass(Duration::from_millis(300));
    assert_eq!(version(&redis), 0);
    assert_eq!(fs::read_dir(&home).expect("list the folder").count(), 0);

    seed::set(&mut database.conn(), "cache_enabled", &"1".into());
    let told = wait::until(wait::LIMIT, || {
        say(&mut ann, "hello");
        (version(&redis) > 0 && home.join("version").is_file()).then_some(())
    });
    assert!(told.is_some());
    drop(daemon);

    // The environment wins.
    let before = quiet_version(&redis);
    let daemon = Daemon::start(&database, &options.env("CACHE", "off"));
    say(&mut daemon.login(1).expect("login"), "hello");
    wait::pass(Duration::from_millis(300));
    assert_eq!(version(&redis), before);
}

#[test]
fn commands_tell_the_cache_before_they_end() {
    needs!(Redis, MariaDb);
    let redis = Redis::start();
    let database = database(redis.port());
    let install = Install::new(&database, &Options::new());
    let mut before = version(&redis);
    for arguments in [
        &["settings", "set", "chat_websocket_port", "8123"][..],
        &["start"],
        &["stop"],
        &["supervise"],
    ] {
        let output = install.run(arguments[0], &arguments[1..]);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let after = version(&redis);
        assert!(after > before, "{arguments:?} invalidated nothing");
        before = after;
    }
    // What writes nothing tells nothing.
    install.run("status", &[]);
    assert_eq!(version(&redis), before);
}

#[test]
fn a_redis_that_hangs_delays_nothing() {
    needs!(Redis, MariaDb);
    let redis = Redis::start();
    let database = database(redis.port());
    let mut daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut ann = daemon.login(1).expect("login");
    quiet_version(&redis);
    redis.signal(Signal::STOP);
    let begun = Instant::now();
    // If each of them waited for Redis it would be more than the limit, on any machine.
    for _ in 0..100 {
        say(&mut ann, "hello");
    }
    assert!(begun.elapsed() < wait::LIMIT, "{:?}", begun.elapsed());
    daemon.await_log(" in Redis at ");
    assert!(daemon.stop().success());
    assert_eq!(daemon.log().matches(" in Redis at ").count(), 1);
    redis.signal(Signal::CONT);
}

#[test]
fn an_invalidation_that_was_lost_is_made_up_for() {
    let mut redis = Redis::start();
    let database = database(redis.port());
    let daemon = Daemon::start(&database, &Options::new());
    let mut ann = daemon.login(1).expect("login");
    quiet_version(&redis);
    redis.kill();
    say(&mut ann, "hello");
    daemon.await_log(" in Redis at ");
    // Without anything in it, so what is there then was told after this.
    let redis = Redis::on(redis.port());
    let begun = Stopwatch::start();
    let told = wait::until(wait::LIMIT, || (version(&redis) > 0).then_some(()));
    assert!(told.is_some(), "{}", daemon.log());
    assert!(begun.elapsed() < BETWEEN_HEARTBEATS);
}
