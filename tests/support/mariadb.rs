//! MariaDB, or the server that ANDREA_TEST_MYSQLD names, for tests: one private server for the whole test process, started
//! when first asked for, and servers of one's own for tests that stop, kill or freeze theirs. Each has its own folder,
//! Unix socket and loopback port, and the defaults of an install: durability, SQL mode, and a clock in UTC.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::SmallDisk;
use super::json::Json;
use super::needs::{self, Need};
use super::{reaper, seed, wait};

/// A cold start on a busy machine takes a few seconds.
const START_LIMIT: Duration = Duration::from_secs(90);

pub struct Server {
    dir: PathBuf,
    port: u16,
    running: Option<Child>,
    disk: Option<SmallDisk>,
    arguments: Vec<String>,
}

/// One database, and who may use it.
#[derive(Clone, Debug)]
pub struct Database {
    pub name: String,
    pub user: &'static str,
    pub password: &'static str,
    pub host: &'static str,
    pub port: u16,
    pub socket: PathBuf,
}

const USER: &str = "helpdesk";
const PASSWORD: &str = "helpdesk-password";

/// The server that all tests of this process use.
pub fn common() -> &'static Server {
    static COMMON: OnceLock<Server> = OnceLock::new();
    COMMON.get_or_init(Server::own)
}

impl Database {
    /// A new database with the tables of an install and no rows but its settings.
    pub fn fresh() -> Database {
        common().fresh()
    }

    /// A connection, as the service's own user.
    pub fn conn(&self) -> Conn {
        let options = OptsBuilder::new()
            .socket(Some(self.socket.display().to_string()))
            .user(Some(self.user))
            .pass(Some(self.password))
            .db_name(Some(&self.name));
        Conn::new(options).unwrap_or_else(|e| panic!("connect to {}: {e}", self.name))
    }
}

/// Makes alike the texts of JSON that were the same before they were stored. MariaDB keeps the text; MySQL has spaces and
/// an order of keys of its own.
pub fn as_stored(text: &mut Json) {
    if is_mysql()
        && let Json::String(written) = text
    {
        *written = Json::parse(written).expect("JSON").sorted().to_string();
    }
}

/// The table of a server's connections. The usual one fails on MySQL while a statement with an emoji in it runs.
pub fn processlist() -> &'static str {
    match is_mysql() {
        true => "performance_schema.processlist",
        false => "information_schema.processlist",
    }
}

/// Ends every connection of the service's account, as an administrator or a failing proxy does.
pub fn kill_all(admin: &mut Conn) {
    let of_service = format!("SELECT id FROM {} WHERE user = '{USER}'", processlist());
    let ids: Vec<u64> = admin.query(of_service).expect("the list of connections");
    for id in ids {
        // It may have gone by itself.
        let _ = admin.query_drop(format!("KILL {id}"));
    }
}

impl Server {
    /// A server for the caller alone; gone when dropped.
    pub fn own() -> Server {
        Server::with_arguments(&[])
    }

    /// The same, started with these arguments besides.
    pub fn with_arguments(arguments: &[String]) -> Server {
        Server::begin(reaper::folder("db"), None, arguments)
    }

    /// The same with its data on a disk of this size that can be filled; an ordinary one where the system does not
    /// let us mount such a thing.
    pub fn with_small_disk(megabytes: u32) -> Server {
        let dir = reaper::folder("db");
        let disk = SmallDisk::mount(&dir.join("data"), megabytes);
        Server::begin(dir, disk, &[])
    }

    fn begin(dir: PathBuf, disk: Option<SmallDisk>, arguments: &[String]) -> Server {
        needs::demand(Need::MariaDb);
        let copied = command(Path::new("cp"), disk.as_ref())
            .args(["-a", "-T"])
            .args([system_tables(), &dir.join("data")])
            .status();
        assert!(copied.is_ok_and(|end| end.success()), "copy system tables");
        let mut server = Server {
            dir,
            port: 0,
            running: None,
            disk,
            arguments: arguments.to_vec(),
        };
        // Another process may take the port before the server starts; then another one is tried.
        let started = (0..5).any(|_| {
            server.port = free_port();
            server.try_start()
        });
        assert!(started, "MariaDB did not start:\n{}", server.log());
        let mut admin = server.admin();
        for host in ["localhost", "127.0.0.1"] {
            let who = format!("'{USER}'@'{host}'");
            admin
                .query_drop(format!("CREATE USER {who} IDENTIFIED BY '{PASSWORD}'"))
                .and_then(|()| admin.query_drop(format!("GRANT ALL ON `helpdesk\\_%`.* TO {who}")))
                .unwrap_or_else(|e| panic!("create the user {who}: {e}"));
        }
        server
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The disk of its own, if it has one.
    pub fn disk(&self) -> Option<&SmallDisk> {
        self.disk.as_ref()
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }

    /// The folder of its data.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A connection with all rights.
    pub fn admin(&self) -> Conn {
        self.try_admin()
            .unwrap_or_else(|e| panic!("connect to {}: {e}", self.dir.display()))
    }

    fn try_admin(&self) -> mysql::Result<Conn> {
        let options = OptsBuilder::new()
            .socket(Some(self.socket().display().to_string()))
            .user(Some("root"));
        Conn::new(options)
    }

    pub fn fresh(&self) -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let database = Database {
            name: format!("helpdesk_{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            user: USER,
            password: PASSWORD,
            host: "127.0.0.1",
            port: self.port,
            socket: self.socket(),
        };
        let mut admin = self.admin();
        admin
            .query_drop(format!(
                "CREATE DATABASE {} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci",
                database.name
            ))
            .unwrap_or_else(|e| panic!("create {}: {e}", database.name));
        seed::create_tables(&mut database.conn());
        database
    }

    /// What the server has written about itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// Starts it again, on the same data and port.
    pub fn start(&mut self) {
        assert!(self.running.is_none(), "the server runs already");
        assert!(self.try_start(), "MariaDB did not start:\n{}", self.log());
    }

    /// Whether it has ended by itself; then it can be started again.
    pub fn has_ended(&mut self) -> bool {
        let running = self.running.as_mut();
        let end = running.and_then(|server| server.try_wait().expect("ask for MariaDB's end"));
        if end.is_some() {
            reaper::forget(&self.running.take().expect("it ran"));
        }
        self.running.is_none()
    }

    /// Stops it in good order and waits for its end.
    pub fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Kills it, as a crash or the kernel would, and waits for its end.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    /// Freezes it: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let server = self.running.as_ref().expect("the server runs");
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).unwrap_or_else(|e| panic!("signal MariaDB: {e}"));
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let mut server = self.running.take().expect("the server runs");
        server.wait().expect("wait for MariaDB's end");
        reaper::forget(&server);
    }

    fn try_start(&mut self) -> bool {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("server.log"))
            .unwrap_or_else(|e| panic!("open MariaDB's log: {e}"));
        let stderr = log.try_clone().expect("a second handle of a file");
        let server = command(&server_program(), self.disk.as_ref())
            .args(common_arguments(&self.dir))
            .args(is_mysql().then_some("--mysqlx=OFF"))
            .arg(format!("--socket={}", self.socket().display()))
            .arg(format!("--port={}", self.port))
            .arg(format!("--pid-file={}", self.dir.join("pid").display()))
            .args([
                "--bind-address=127.0.0.1",
                "--default-time-zone=+00:00",
                "--innodb-buffer-pool-size=64M",
                "--max-connections=500",
                "--skip-log-bin",
            ])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            // A terminal's Ctrl-C is for the tests, which may want to use the server until they end.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("start the database server: {e}"));
        reaper::watch(&server);
        self.running = Some(server);
        let up = wait::until(START_LIMIT, || {
            if self.try_admin().is_ok() {
                return Some(true);
            }
            let server = self.running.as_mut().expect("the server runs");
            let end = server.try_wait().expect("ask for MariaDB's end");
            end.map(|_| false)
        });
        if up == Some(true) {
            return true;
        }
        let mut server = self.running.take().expect("the server runs");
        let _ = server.kill();
        let _ = server.wait();
        reaper::forget(&server);
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.running.is_some() {
            self.kill();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn common_arguments(dir: &Path) -> Vec<String> {
    let mut arguments = vec![
        // First, or it is refused. The machine's own configuration must not leak in.
        "--no-defaults".to_owned(),
        format!("--datadir={}", dir.join("data").display()),
        // Two servers that share a folder for these delete each other's.
        format!("--tmpdir={}", dir.display()),
        // Small, so that a new server takes half a second and 40 MB; of no consequence for durability. MariaDB's name
        // for it, and MySQL's.
        "--loose-innodb-log-file-size=16M".to_owned(),
        "--loose-innodb-redo-log-capacity=16M".to_owned(),
        // Its default is a folder that the package of MySQL's service makes.
        "--secure-file-priv=".to_owned(),
    ];
    if rustix::process::geteuid().is_root() {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

/// A program of the server's, where it sees its disk.
fn command(program: &Path, disk: Option<&SmallDisk>) -> Command {
    match disk {
        Some(disk) => disk.command(program),
        None => Command::new(program),
    }
}

fn server_program() -> PathBuf {
    needs::database_server().expect("needs! has seen it")
}

/// Whether the server is Oracle's, which makes its system tables itself.
pub fn is_mysql() -> bool {
    static IS_MYSQL: OnceLock<bool> = OnceLock::new();
    *IS_MYSQL.get_or_init(|| {
        let version = Command::new(server_program())
            .args(["--no-defaults", "--version"])
            .output()
            .expect("ask the server for its version");
        !String::from_utf8_lossy(&version.stdout).contains("MariaDB")
    })
}

/// The command that makes the system tables: of the server's own install where it is not the system's.
fn installer(dir: &Path) -> Command {
    const MARIADB: &str = "mariadb-install-db";
    let server = server_program();
    if is_mysql() {
        let mut command = Command::new(server);
        command
            .args(common_arguments(dir))
            .arg("--initialize-insecure");
        return command;
    }
    let base = server.parent().and_then(Path::parent);
    let base = base.filter(|_| needs::is_another_server());
    let of_its_own = base.and_then(|base| {
        let mut places = ["scripts", "bin"]
            .map(|folder| base.join(folder).join(MARIADB))
            .into_iter();
        places.find(|file| file.is_file())
    });
    let mut command = Command::new(of_its_own.unwrap_or_else(|| needs::program(MARIADB)));
    command
        .args(common_arguments(dir))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .args(base.map(|base| format!("--basedir={}", base.display())));
    command
}

/// Data with the system tables alone, of which every server gets a copy: MySQL takes five seconds to make them.
fn system_tables() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = reaper::folder("db");
        let output = installer(&dir)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("make the system tables: {e}"));
        assert!(
            output.status.success(),
            "the system tables were not made:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        let data = dir.join("data");
        // MySQL's name for this one server; without it each takes one of its own.
        let _ = fs::remove_file(data.join("auto.cnf"));
        data
    })
}

/// A port below the range that the kernel hands out by itself, so that a stopped server finds it free again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = std::process::id().wrapping_mul(17);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(start.wrapping_add(step) % 10_000).expect("below 10,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
