//! What lasts over many rounds: a database on a disk that can be full, a bad line to it, and the daemon. The daemon has
//! a bus, a helpdesk that caches and a service manager, so that all its threads are there but those that push.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Of the database's disk; an empty one takes 130.
const DISK_MB: u32 = 320;

/// The variable that names the folder; a release build does not even hold its name.
const PANIC: &str = "ANDREA_TEST_PANIC";

/// The manager is told three times as often that the service lives.
const WATCHDOG_MICROS: &str = "9000000";

/// More than waits for anybody whom a round is not about: nobody is to be dropped for reading too slowly.
const QUEUE_BYTES: &str = "16777216";

pub struct World {
    pub daemon: Daemon,
    daemon_started: Instant,
    pub clock: Option<Clock>,
    /// A file in here makes the thread of its name panic; none where the daemon is a release build, which knows no such
    /// thing.
    pub panics: Option<PathBuf>,
    /// How often a thread of this daemon has panicked because it was asked to.
    pub panics_asked: usize,
    pub install: Arc<Install>,
    pub database: Database,
    pub proxy: Proxy,
    pub server: Server,
    manager: Manager,
    /// Of the bus and of the helpdesk's cache.
    _redis: Redis,
    options: Options,
    /// The newest message before the last round; it may still have shown some in this one.
    before: i64,
}

impl World {
    /// One whose database's disk can be full, where the system lets us have such a disk.
    pub fn with_small_disk() -> World {
        World::of(Server::with_small_disk(DISK_MB))
    }

    pub fn new() -> World {
        World::of(Server::own())
    }

    fn of(server: Server) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = reaper::scratch().join(format!("rounds-{count}"));
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
        World {
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

    /// A connection past the bad line.
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

    /// From where on messages may have become visible in the round that began at this one.
    pub fn newest_before(&self, id: i64) -> i64 {
        self.before.min(id)
    }

    pub fn remember(&mut self, before: i64) {
        self.before = before;
    }

    /// A line that is a little slow, now and then.
    pub fn weather(&self, random: &mut Random) {
        if random.below(4) == 0 {
            let ms = 1 + random.below(4) as u64;
            self.proxy.delay(std::time::Duration::from_millis(ms));
        }
    }

    pub fn clear_weather(&self) {
        self.proxy.delay(std::time::Duration::ZERO);
    }

    /// Starts the daemon again that has ended.
    pub fn restart_daemon(&mut self) {
        self.daemon_started = Instant::now();
        self.daemon = Daemon::start_in(Arc::clone(&self.install), &self.options);
        self.panics_asked = 0;
    }

    /// What this daemon has counted under this name, its labels included.
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

    /// The daemon runs, and nothing in it has panicked that was not asked to.
    pub fn check(&mut self) -> Result<(), String> {
        // A manager that does not listen would hold up the daemon's end.
        while self.manager.hear(Duration::ZERO).is_some() {}
        if let Some(status) = self.daemon.exit_now() {
            return Err(format!("the daemon has ended: {status}"));
        }
        // However often it lost its database, it does not fill a disk with that.
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

    /// What a reader of a failure wants to see beside the daemon's own words.
    pub fn last_words(&self) -> String {
        let log = self.server.log();
        let from = log.len().saturating_sub(2000);
        format!("the database's log:\n{}", log.get(from..).unwrap_or(&log))
    }

    /// Forgets what nobody will look at again, so that the last round takes no longer than the first.
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
