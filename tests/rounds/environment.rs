//! The environment that many rounds share: a database on a disk that can be full, a proxy that degrades the connection
//! to it, and the daemon. The daemon has a bus, the helpdesk's query cache and a service manager, so that every thread
//! except those of Web Push runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;

use super::clock::Clock;
use crate::random::Random;
use crate::support::chat::{Message, stored_above};
use crate::support::daemon::{Daemon, Install, Options, program};
use crate::support::mariadb::{Database, Server};
use crate::support::notify::Manager;
use crate::support::proxy::Proxy;
use crate::support::reaper;
use crate::support::redis::Redis;
use crate::support::seed;
use crate::support::ws::Client;

/// Size of the database's disk; an empty database takes 130.
const DISK_MB: u32 = 320;

/// The variable that names the folder; a release build does not even hold its name.
const PANIC: &str = "ANDREA_TEST_PANIC";

/// The daemon pings the service manager three times in this interval.
const WATCHDOG_MICROS: &str = "9000000";

/// More than may queue for any socket in a round, so that the daemon drops no slow reader.
const QUEUE_BYTES: &str = "16777216";

pub struct Environment {
    pub daemon: Daemon,
    daemon_started: Instant,
    pub clock: Option<Clock>,
    /// A file in here makes the thread of its name panic; none where the daemon is a release build, which has no
    /// failpoints.
    pub panics: Option<PathBuf>,
    /// How many panics the test has caused in this daemon.
    pub panics_asked: usize,
    pub install: Arc<Install>,
    pub database: Database,
    pub proxy: Proxy,
    pub server: Server,
    manager: Manager,
    /// Serves the bus and the helpdesk's cache.
    _redis: Redis,
    options: Options,
    /// The newest message before the last round; some of that round may have become visible only in this one.
    before: i64,
}

impl Environment {
    /// With a small disk for the database, where the system allows one.
    pub fn with_small_disk() -> Environment {
        Environment::of(Server::with_small_disk(DISK_MB))
    }

    pub fn new() -> Environment {
        Environment::of(Server::own())
    }

    fn of(server: Server) -> Environment {
        let folder = reaper::path("rounds");
        let database = server.fresh();
        seed::reset(&mut database.conn());
        let proxy = Proxy::start(database.port);
        let mut through = database.clone();
        through.port = proxy.port();
        let panics = folder.join("panics");
        fs::create_dir_all(&panics).expect("make the folder");
        let program = fs::read(program()).expect("read the program");
        let can_panic = program.windows(PANIC.len()).any(|w| w == PANIC.as_bytes());
        let clock = Clock::new(&folder);
        let (redis, manager) = (Redis::start(), Manager::new());
        let mut options = Options::new()
            .env("CHAT_WEBSOCKET_RATE", "0")
            .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "0")
            .env("CHAT_WEBSOCKET_QUEUE_BYTES", QUEUE_BYTES)
            .env("CHAT_BUS_URL", &redis.url())
            .env("CACHE", "1")
            .env("REDIS_PORT", &redis.port().to_string())
            .env("NOTIFY_SOCKET", &manager.address())
            .env("WATCHDOG_USEC", WATCHDOG_MICROS)
            .env(PANIC, panics.to_str().expect("UTF-8"));
        for (name, value) in clock.iter().flat_map(Clock::environment) {
            options = options.env(name, value);
        }
        let install = Install::new(&through, &options);
        let daemon_started = Instant::now();
        let daemon = Daemon::start_in(Arc::clone(&install), &options);
        Environment {
            daemon,
            daemon_started,
            clock,
            panics: can_panic.then_some(panics),
            panics_asked: 0,
            install,
            database,
            proxy,
            server,
            manager,
            _redis: redis,
            options,
            before: 0,
        }
    }

    pub fn port(&self) -> u16 {
        self.daemon.port()
    }

    /// A connection that bypasses the proxy.
    pub fn conn(&self) -> Conn {
        self.database.conn()
    }

    pub fn newest_id(&self) -> i64 {
        let newest: Option<Option<i64>> = self
            .conn()
            .query_first("SELECT MAX(id) FROM chat_messages")
            .expect("ask for the newest message");
        newest.flatten().unwrap_or(0)
    }

    pub fn stored_above(&self, id: i64) -> BTreeMap<i64, Message> {
        stored_above(&mut self.conn(), id)
    }

    /// The id above which messages may have become visible in the round that began at this one.
    pub fn newest_before(&self, id: i64) -> i64 {
        self.before.min(id)
    }

    pub fn remember(&mut self, before: i64) {
        self.before = before;
    }

    /// Adds a small latency to the database connection in a quarter of the rounds.
    pub fn vary_latency(&self, random: &mut Random) {
        if random.below(4) == 0 {
            let ms = 1 + random.below(4) as u64;
            self.proxy.delay(std::time::Duration::from_millis(ms));
        }
    }

    pub fn reset_latency(&self) {
        self.proxy.delay(std::time::Duration::ZERO);
    }

    /// Starts the daemon again after its end.
    pub fn restart_daemon(&mut self) {
        self.daemon_started = Instant::now();
        self.daemon = Daemon::start_in(Arc::clone(&self.install), &self.options);
        self.panics_asked = 0;
    }

    /// The daemon's value for this metric, named with its labels.
    pub fn metric(&self, name: &str) -> Result<u64, String> {
        let mut client = Client::open(self.port());
        client.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let page = client.response().and_then(|_| client.rest());
        let page = page.map_err(|e| format!("/metrics: {e:?}"))?;
        let page = String::from_utf8_lossy(&page);
        let mut values = page.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.next().ok_or("there is no such metric")?.trim();
        value
            .parse::<u64>()
            .map_err(|e| format!("{name} {value:?}: {e}"))
    }

    /// Checks that the daemon runs and that no thread panicked except on request.
    pub fn check(&mut self) -> Result<(), String> {
        // A manager that does not read would delay the daemon's exit.
        while self.manager.hear(Duration::ZERO).is_some() {}
        if let Some(status) = self.daemon.exit_now() {
            return Err(format!("the daemon has ended: {status}"));
        }
        // The daemon may lose its database often but must not fill the disk with log lines about it.
        let log = self.daemon.log();
        let losses = log.matches("the database is not available").count() as u64;
        let bound = 1 + self.daemon_started.elapsed().as_secs() / 10;
        if losses > bound {
            return Err(format!(
                "{losses} losses in the log, at most {bound} expected"
            ));
        }
        self.check_panics()
    }

    pub fn check_panics(&self) -> Result<(), String> {
        let said = self.daemon.log() + &self.daemon.stderr();
        let panics = said.matches("panic in thread").count();
        match panics == self.panics_asked {
            true => Ok(()),
            false => Err(format!("{panics} panics, {} asked for", self.panics_asked)),
        }
    }

    /// The end of the database's log, for failure messages.
    pub fn database_log_tail(&self) -> String {
        let log = self.server.log();
        let from = log.len().saturating_sub(2000);
        format!("the database's log:\n{}", log.get(from..).unwrap_or(&log))
    }

    /// Deletes rows that no later round reads, so that the last round takes no longer than the first.
    pub fn tidy(&self) {
        let mut conn = self.conn();
        let old = self.before;
        for statement in [
            format!("DELETE FROM chat_message_mentions WHERE message_id <= {old}"),
            "DELETE FROM agent_notifications".to_owned(),
            format!("DELETE FROM chat_messages WHERE id <= {old}"),
        ] {
            seed::run(&mut conn, &statement, vec![]);
        }
    }
}
