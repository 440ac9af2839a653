//! A private MariaDB with its own defaults, durability included, and an install's tables with as many agents and
//! channels as the measurements need.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};

use super::process::Owned;
use super::reaper;

/// Agents, with ids from 1.
pub const AGENTS: u64 = 10_100;
/// Members of the channels of [`group_channel`].
pub const GROUP: u64 = 10;
const FIRST_GROUP_CHANNEL: u64 = 100_000;

/// The database and who may use it; the server behind it ends with it.
pub struct Database {
    pub name: &'static str,
    pub user: &'static str,
    pub password: &'static str,
    pub socket: PathBuf,
    server: Owned,
}

/// The channel that the agents 1 to `members` are in.
pub fn channel_of(members: u64) -> u64 {
    members
}

/// The channel of ten that an agent is in.
pub fn group_channel(agent: u64) -> u64 {
    FIRST_GROUP_CHANNEL + (agent - 1) / GROUP
}

impl Database {
    /// A new server with a new database, with channels of these sizes.
    pub fn start(sizes: &[u64]) -> Database {
        let dir = reaper::scratch().join("database");
        fs::create_dir_all(&dir).expect("make the database's folder");
        install(&dir);
        let socket = dir.join("sock");
        let child = Command::new(program("mariadbd"))
            .args(common_arguments(&dir))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--port={}", free_port()))
            .arg(format!("--pid-file={}", dir.join("pid").display()))
            .arg(format!("--log-error={}", dir.join("log").display()))
            .args(["--bind-address=127.0.0.1", "--default-time-zone=+00:00"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start mariadbd");
        reaper::watch(&child);
        let database = Database {
            name: "helpdesk",
            user: "root",
            password: "",
            socket,
            server: Owned(child),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut conn = loop {
            match database.connect(None) {
                Ok(conn) => break conn,
                Err(error) if Instant::now() > deadline => {
                    panic!("MariaDB does not start: {error}")
                }
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        conn.query_drop(
            "CREATE DATABASE helpdesk CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
        )
        .and_then(|()| conn.query_drop("USE helpdesk"))
        .expect("create the database");
        seed(&mut conn, sizes);
        database
    }

    /// A connection of one's own.
    pub fn conn(&self) -> Conn {
        self.connect(Some(self.name)).expect("connect to MariaDB")
    }

    fn connect(&self, name: Option<&str>) -> mysql::Result<Conn> {
        Conn::new(
            OptsBuilder::new()
                .socket(Some(self.socket.display().to_string()))
                .user(Some(self.user))
                .pass(Some(self.password))
                .db_name(name),
        )
    }

    pub fn version(&self) -> String {
        let version: Option<String> = self.conn().query_first("SELECT VERSION()").ok().flatten();
        version.unwrap_or_default()
    }

    /// A number of `SHOW GLOBAL STATUS`.
    pub fn status(&self, conn: &mut Conn, name: &str) -> u64 {
        let row: Option<(String, u64)> = conn
            .query_first(format!("SHOW GLOBAL STATUS LIKE '{name}'"))
            .expect("the server's counters");
        row.map_or(0, |(_, value)| value)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.stop();
        reaper::forget_pid(self.server.pid());
    }
}

fn seed(conn: &mut Conn, sizes: &[u64]) {
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/schema.sql");
    let schema = fs::read_to_string(schema).expect("read the schema");
    let code: Vec<&str> = schema
        .lines()
        .map(|line| line.split_once("--").map_or(line, |(code, _)| code))
        .collect();
    for statement in code.join("\n").split(';').filter(|s| !s.trim().is_empty()) {
        run(conn, statement);
    }
    run(
        conn,
        "UPDATE settings SET value = '1' WHERE key_name = 'chat_enabled'",
    );
    run(conn, "BEGIN");
    rows(
        conn,
        "INSERT INTO agents (id, name, email, password_hash, chat_handle) VALUES ",
        (1..=AGENTS).map(|id| format!("({id},'Agent {id}','a{id}@example.test','x','agent{id}')")),
    );
    let groups = AGENTS.div_ceil(GROUP);
    let channels = sizes
        .iter()
        .map(|size| channel_of(*size))
        .chain((0..groups).map(|group| FIRST_GROUP_CHANNEL + group));
    rows(
        conn,
        "INSERT INTO chat_channels (id, name, slug) VALUES ",
        channels.map(|id| format!("({id},'Channel {id}','channel-{id}')")),
    );
    let members = sizes
        .iter()
        .flat_map(|size| (1..=*size).map(|agent| (channel_of(*size), agent)))
        .chain((1..=AGENTS).map(|agent| (group_channel(agent), agent)));
    rows(
        conn,
        "INSERT INTO chat_channel_members (channel_id, agent_id) VALUES ",
        members.map(|(channel, agent)| format!("({channel},{agent})")),
    );
    run(conn, "COMMIT");
}

fn rows(conn: &mut Conn, start: &str, tuples: impl Iterator<Item = String>) {
    let tuples: Vec<String> = tuples.collect();
    for part in tuples.chunks(1000) {
        run(conn, &format!("{start}{}", part.join(",")));
    }
}

fn run(conn: &mut Conn, statement: &str) {
    conn.query_drop(statement)
        .unwrap_or_else(|error| panic!("{statement:.200}: {error}"));
}

fn install(dir: &Path) {
    let output = Command::new(program("mariadb-install-db"))
        .args(common_arguments(dir))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .stdin(Stdio::null())
        .output()
        .expect("start mariadb-install-db; is MariaDB installed?");
    assert!(
        output.status.success(),
        "mariadb-install-db: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn common_arguments(dir: &Path) -> Vec<String> {
    // First, or it is refused: the machine's own configuration must not leak in.
    let mut arguments = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", dir.join("data").display()),
    ];
    if rustix::process::geteuid().is_root() {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .map_or(33_306, |address| address.port())
}
