//! An install in cron mode: runs the supervisor as cron does, and starts processes that interfere.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

use mysql::Conn;
use mysql::prelude::Queryable;
use rustix::process::{Pid, Signal, kill_process};

use super::daemon::{Install, Options, is_stamp};
use super::mariadb::{self, Database};
use super::{reaper, seed, wait, ws};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_andrea-chat-websocket");
pub const STATUS: &str = "chat_websocket_status";
pub const LAST_SEEN: &str = "chat_websocket_last_seen_at";
pub const STOP_REQUESTED: &str = "chat_websocket_stop_requested";
pub const RESTART_REQUESTED: &str = "chat_websocket_restart_requested";
/// Long over, in every time zone.
pub const LONG_AGO: &str = "2001-01-01 00:00:00";

/// An install in cron mode; the daemon that the supervisor leaves behind ends with it.
pub struct Cron {
    pub conn: Conn,
    pub install: Arc<Install>,
    pub port: u16,
    started: Vec<u32>,
}

impl Cron {
    pub fn new() -> Cron {
        Cron::on(&Database::fresh())
    }

    pub fn on(database: &Database) -> Cron {
        let mut conn = database.conn();
        seed::reset(&mut conn);
        let port = mariadb::free_port();
        seed::set(&mut conn, "chat_websocket_port", &i64::from(port).into());
        Cron {
            conn,
            install: Install::new(database, &Options::new()),
            port,
            started: Vec::new(),
        }
    }

    /// One run as cron makes it: hardly an environment, no terminal, another working directory.
    pub fn command(&self) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("{PROGRAM} supervise --root {}", self.root())])
            .env_clear()
            .envs([
                ("HOME", "/"),
                ("PATH", "/usr/bin:/bin"),
                ("SHELL", "/bin/sh"),
            ])
            .current_dir("/")
            .stdin(Stdio::null());
        command
    }

    /// One run: exit code and lines, without their times. Reads to the end of its output, which a daemon that
    /// has kept cron's pipe would put off for ever.
    pub fn run(&mut self) -> (i32, Vec<String>) {
        let output = self.command().output().expect("run the supervisor");
        self.note_daemon();
        said(&output)
    }

    pub fn note_daemon(&mut self) {
        if let Some(pid) = self.pid()
            && !self.started.contains(&pid)
        {
            reaper::watch_pid(pid);
            self.started.push(pid);
        }
    }

    pub fn pid(&self) -> Option<u32> {
        fs::read_to_string(self.install.pid_file())
            .ok()?
            .parse()
            .ok()
    }

    pub fn root(&self) -> String {
        self.install.root().display().to_string()
    }

    pub fn set(&mut self, key: &str, value: &str) {
        seed::set(&mut self.conn, key, &value.into());
    }

    pub fn setting(&mut self, key: &str) -> String {
        let found: Option<Option<String>> = self
            .conn
            .exec_first("SELECT value FROM settings WHERE key_name = ?", (key,))
            .expect("read a setting");
        found.flatten().unwrap_or_default()
    }

    /// Starts a daemon by a run of the supervisor; its process id.
    pub fn started(&mut self) -> u32 {
        let (code, lines) = self.run();
        let pid = self
            .pid()
            .unwrap_or_else(|| panic!("no pid file: {lines:?}"));
        let line = format!("started chat websocket daemon pid={pid}");
        assert_eq!((code, lines), (0, vec![line]), "{}", self.install.log());
        pid
    }

    /// Stops the daemon; returns once the database has carried out what it was asked last, so that a heartbeat that was
    /// under way is followed by none.
    pub fn freeze(&mut self, pid: u32) {
        freeze(pid);
        let is_quiet = format!(
            "SELECT COUNT(*) = 0 FROM {} WHERE db = DATABASE() AND id <> CONNECTION_ID() AND command <> 'Sleep'",
            mariadb::processlist()
        );
        let quiet = wait::until(wait::LIMIT, || {
            let quiet: Option<bool> = self.conn.query_first(&is_quiet).expect("ask");
            quiet.filter(|quiet| *quiet)
        });
        quiet.expect("the daemon asks nothing more");
    }

    pub fn serves(&self) {
        let mut client = ws::Client::login(self.port, 1).unwrap();
        client.ping_barrier().unwrap();
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log:\n{}", self.install.log());
        }
        for pid in &self.started {
            signal(*pid, Signal::KILL);
            reaper::forget_pid(*pid);
        }
    }
}

pub fn said(output: &Output) -> (i32, Vec<String>) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(text(&output.stderr), "");
    let lines = text(&output.stdout)
        .lines()
        .map(|line| {
            let (stamp, words) = line.split_once("] ").expect("a line has its time");
            assert!(is_stamp(stamp), "{line}");
            words.to_owned()
        })
        .collect();
    (output.status.code().expect("no signal"), lines)
}

pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let _ = kill_process(pid.expect("a pid"), signal);
}

/// Stops a process; returns once each of its threads has stopped.
pub fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
    let tasks = format!("/proc/{pid}/task");
    let is_stopped = |task: &fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // The state stands behind the name, which may hold anything.
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    };
    wait::until(wait::LIMIT, || {
        let mut tasks = fs::read_dir(&tasks).expect("list the threads").flatten();
        tasks.all(|task| is_stopped(&task)).then_some(())
    })
    .expect("every thread stops");
}

/// Whether a process runs, or is stopped: until its last thread has ended and its files are closed, which is later than
/// when its first is a zombie.
pub fn is_alive(pid: u32) -> bool {
    andrea_chat_websocket::platform::process::Process::open(pid).is_some()
}

pub fn state(pid: u32) -> Option<String> {
    stat(pid).map(|fields| fields[0].clone())
}

/// The fields of `/proc/PID/stat` from the state on: state, parent, group, session, terminal.
pub fn stat(pid: u32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

/// A process that is no daemon of this program; killed when dropped.
pub struct Other(Child);

impl Other {
    pub fn start(mut command: Command) -> Other {
        let child = command.stdin(Stdio::piped()).spawn().expect("spawn");
        reaper::watch(&child);
        Other(child)
    }

    /// Takes the place of the PHP daemon and does not hear SIGTERM.
    pub fn deaf_php_daemon(root: &Path) -> Other {
        let script = root.join("bin/chat-websocket-server.php");
        fs::create_dir_all(script.parent().expect("a folder")).expect("make a folder");
        fs::write(&script, "trap '' TERM\n: >ready\nread wait\n").expect("write a script");
        let mut command = Command::new("sh");
        command
            .arg("bin/chat-websocket-server.php")
            .current_dir(root);
        let other = Other::start(command);
        wait::until(wait::LIMIT, || root.join("ready").exists().then_some(())).expect("it is deaf");
        other
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        reaper::forget(&self.0);
    }
}

pub fn write_pid_file(install: &Install, pid: u32) {
    let file = install.pid_file();
    fs::create_dir_all(file.parent().expect("a folder")).expect("make the folder");
    fs::write(file, pid.to_string()).expect("write the pid file");
}
