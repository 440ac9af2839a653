//! MariaDB for tests: one private server for the whole test process, started when first asked for, and
//! servers of one's own for tests that stop, kill or freeze theirs. Each has its own folder, Unix socket and
//! loopback port, and the defaults of an install: durability, SQL mode, and a clock in UTC.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use rustix::process::{Pid, Signal, kill_process};

use super::disk::SmallDisk;
use super::{reaper, seed, wait};

/// A cold start on a busy machine takes a few seconds.
const START_LIMIT: Duration = Duration::from_secs(90);

pub struct Server {
    dir: PathBuf,
    port: u16,
    running: Option<Child>,
    disk: Option<SmallDisk>,
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

impl Server {
    /// A server for the caller alone; gone when dropped.
    pub fn own() -> Server {
        Server::begin(new_folder(), None)
    }

    /// The same with its data on a disk of this size that can be filled; an ordinary one where the system does not
    /// let us mount such a thing.
    pub fn with_small_disk(megabytes: u32) -> Server {
        let dir = new_folder();
        let disk = SmallDisk::mount(&dir.join("data"), megabytes);
        Server::begin(dir, disk)
    }

    fn begin(dir: PathBuf, disk: Option<SmallDisk>) -> Server {
        create_system_tables(&dir, disk.as_ref());
        let mut server = Server {
            dir,
            port: 0,
            running: None,
            disk,
        };
        // Somebody else may take the port between our look and the server's start: then another one.
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
        let server = command("mariadbd", self.disk.as_ref())
            .args(common_arguments(&self.dir))
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
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(stderr)
            // A terminal's Ctrl-C is for the tests, which may want to use the server until they end.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("start mariadbd: {e}"));
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
        // Small, so that a new server takes half a second and 40 MB; of no consequence for durability.
        "--innodb-log-file-size=16M".to_owned(),
    ];
    if rustix::process::geteuid().is_root() {
        arguments.push("--user=root".to_owned());
    }
    arguments
}

fn new_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = reaper::scratch().join(format!("db-{count}"));
    fs::create_dir(&dir).unwrap_or_else(|e| panic!("make {}: {e}", dir.display()));
    dir
}

/// A program of MariaDB's, where it sees its disk.
fn command(name: &str, disk: Option<&SmallDisk>) -> Command {
    match disk {
        Some(disk) => disk.command(&program(name)),
        None => Command::new(program(name)),
    }
}

fn create_system_tables(dir: &Path, disk: Option<&SmallDisk>) {
    // Two at once have been seen to fail.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let output = command("mariadb-install-db", disk)
        .args(common_arguments(dir))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("start mariadb-install-db (is MariaDB installed?): {e}"));
    assert!(
        output.status.success(),
        "mariadb-install-db failed:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The server lies in `sbin` on many systems, which an ordinary user's PATH does not have.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| PathBuf::from(name))
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
