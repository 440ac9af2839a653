//! The program under test as a child process: an install's folder with its `.env`, `serve` on a port of the kernel's
//! choice, its log, its signals and its exit. A daemon that is dropped in a panic prints its log and stderr.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::jwt;
use super::mariadb::{self, Database};
use super::ws::{Client, Outcome};
use super::{cron, reaper, wait};

pub const APP_URL: &str = "https://helpdesk.example.test";
pub const TIMEZONE: &str = "Pacific/Auckland";
/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_andrea-chat-websocket");

/// The same, or the build of it that `ANDREA_TEST_PROGRAM` names; it is what `Daemon` runs.
pub fn program() -> String {
    std::env::var("ANDREA_TEST_PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned())
}

/// The command of a daemon that is not ours, `{root}` and `{port}` in it, which is held to the recordings
/// (`contrib/conformance`).
pub fn foreign() -> Option<String> {
    std::env::var("ANDREA_TEST_DAEMON")
        .ok()
        .filter(|line| !line.is_empty())
}

/// The folder of an install: `.env`, and what the service writes. Removed when the last user drops it.
pub struct Install {
    root: PathBuf,
}

/// What a daemon is started with besides the folder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    port: u16,
    port_is_configured: bool,
    wrapper: Vec<String>,
    dotenv: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
}

/// Limits of time for clients, which here are threads of a test: on a busy machine they may be late, and a test is about
/// such a limit only where it sets one.
const PATIENCE: [(&str, &str); 3] = [
    ("CHAT_WEBSOCKET_HANDSHAKE_TIMEOUT", "120"),
    ("CHAT_WEBSOCKET_AUTH_TIMEOUT", "120"),
    ("CHAT_WEBSOCKET_IDLE_TIMEOUT", "600"),
];

impl Options {
    pub fn new() -> Options {
        Options::default()
    }

    /// A line for `.env`, instead of the usual one of that name if there is one.
    pub fn dotenv(mut self, name: &str, value: &str) -> Options {
        self.dotenv.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable in the process's environment, which is otherwise empty.
    pub fn env(mut self, name: &str, value: &str) -> Options {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Whether neither `.env` nor the environment has a variable.
    fn leaves_open(&self, name: &str) -> bool {
        let mut set = self.dotenv.iter().chain(&self.environment);
        set.all(|(other, _)| other != name)
    }

    /// What the environment holds.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.environment.iter();
        pairs.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A port instead of one of the kernel's choice, for a daemon that others must find again after a restart.
    /// `mariadb::free_port` returns ports that no other process takes in between.
    pub fn port(mut self, port: u16) -> Options {
        self.port = port;
        self
    }

    /// No `--port`: the port is what `.env`, environment and settings say.
    pub fn port_as_configured(mut self) -> Options {
        self.port_is_configured = true;
        self
    }

    /// Starts the daemon by way of this command, which must become it (`exec`): `sh -c 'umask 022; exec "$@"' sh`.
    pub fn through(mut self, command: &[&str]) -> Options {
        self.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// One more argument behind `serve --root DIR --port PORT`.
    pub fn arg(mut self, argument: &str) -> Options {
        self.arguments.push(argument.to_owned());
        self
    }
}

impl Install {
    pub fn new(database: &Database, options: &Options) -> Arc<Install> {
        let root = reaper::folder("root");
        let install = Install { root };
        install.write_dotenv(database, options);
        Arc::new(install)
    }

    /// Writes `.env` anew.
    pub fn write_dotenv(&self, database: &Database, options: &Options) {
        let port = database.port.to_string();
        let mut lines = vec![
            ("APP_URL", APP_URL),
            ("APP_TIMEZONE", TIMEZONE),
            ("JWT_SECRET", jwt::SECRET),
            ("DB_HOST", database.host),
            ("DB_PORT", &port),
            ("DB_DATABASE", &database.name),
            ("DB_USERNAME", database.user),
            ("DB_PASSWORD", database.password),
        ];
        lines.retain(|(name, _)| !options.dotenv.iter().any(|(n, _)| n == name));
        let ours = options.dotenv.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        let text: String = lines
            .into_iter()
            .chain(ours)
            .map(|(name, value)| format!("{name}=\"{value}\"\n"))
            .collect();
        let file = self.root.join(".env");
        fs::write(&file, text).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.join("storage/logs/chat-websocket.log")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.root.join("storage/runtime/chat-websocket.pid")
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A command of the program with `--root` behind its name, in an empty environment.
    pub fn command(&self, subcommand: &str, arguments: &[&str]) -> Command {
        self.command_through(&[], subcommand, arguments)
    }

    fn command_through(&self, wrapper: &[String], subcommand: &str, arguments: &[&str]) -> Command {
        let program = program();
        let mut words = wrapper.iter().map(String::as_str).chain([&*program]);
        let mut command = Command::new(words.next().expect("the program at least"));
        command
            .args(words)
            .arg(subcommand)
            .arg("--root")
            .arg(&self.root)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null());
        command
    }

    /// Runs a command that ends by itself.
    pub fn run(&self, subcommand: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(subcommand, arguments);
        command
            .output()
            .unwrap_or_else(|e| panic!("run {subcommand}: {e}"))
    }
}

impl Drop for Install {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The command that serves in this folder, and the port that it was told where its log does not say so.
fn serve(install: &Install, options: &Options) -> (Command, Option<u16>) {
    if let Some(line) = foreign() {
        let port = match options.port {
            0 => mariadb::free_port(),
            port => port,
        };
        let line = line
            .replace("{root}", &install.root.display().to_string())
            .replace("{port}", &port.to_string());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]);
        command.stdin(Stdio::null());
        return (command, Some(port));
    }
    let port = options.port.to_string();
    let arguments = match options.port_is_configured {
        true => &[][..],
        false => &["--port", port.as_str()],
    };
    let mut command = install.command_through(&options.wrapper, "serve", arguments);
    command.args(&options.arguments);
    (command, None)
}

/// A running `serve`; killed when dropped.
pub struct Daemon {
    pub install: Arc<Install>,
    child: Child,
    ended: Option<ExitStatus>,
    port: u16,
    /// Of a daemon that is not ours: where it was told to listen.
    told_port: Option<u16>,
    /// Where this run's part of the log begins.
    log_start: usize,
    output: String,
}

impl Daemon {
    /// Starts a daemon in a folder of its own and waits until it listens.
    pub fn start(database: &Database, options: &Options) -> Daemon {
        Daemon::start_in(Install::new(database, options), options)
    }

    /// The same, for a caller that gathers failures.
    pub fn try_start(database: &Database, options: &Options) -> Result<Daemon, String> {
        let mut daemon = Daemon::spawn(Install::new(database, options), options);
        let listening = daemon.try_await_listening();
        listening.map_err(|e| format!("{e}\n{}", daemon.report()))?;
        Ok(daemon)
    }

    /// Starts a daemon in this folder and waits until it listens.
    pub fn start_in(install: Arc<Install>, options: &Options) -> Daemon {
        let mut daemon = Daemon::spawn(install, options);
        daemon.await_listening();
        daemon
    }

    /// Starts a daemon and waits for nothing.
    pub fn spawn(install: Arc<Install>, options: &Options) -> Daemon {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let output = format!("output-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let file = |kind: &str| {
            let path = install.root.join(format!("{output}.{kind}"));
            File::create(&path).unwrap_or_else(|e| panic!("make {}: {e}", path.display()))
        };
        let log_start = install.log().len();
        let (mut command, told_port) = serve(&install, options);
        command
            .envs(
                PATIENCE
                    .into_iter()
                    .filter(|(name, _)| options.leaves_open(name)),
            )
            .envs(options.environment.iter().map(|(n, v)| (n, v)))
            .stdout(file("stdout"))
            .stderr(file("stderr"));
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("start the daemon: {e}"));
        reaper::watch(&child);
        Daemon {
            install,
            child,
            ended: None,
            port: 0,
            told_port,
            log_start,
            output,
        }
    }

    /// Waits for the log line that names the address.
    pub fn await_listening(&mut self) {
        self.try_await_listening().unwrap_or_else(|e| panic!("{e}"));
    }

    fn try_await_listening(&mut self) -> Result<(), String> {
        let port = wait::until(wait::LIMIT, || match self.listening_port() {
            Some(port) => Some(Ok(port)),
            None => self.exit_now().map(Err),
        });
        match port {
            Some(Ok(port)) => {
                self.port = port;
                Ok(())
            }
            Some(Err(status)) => Err(format!("the daemon ended before it listened: {status}")),
            None => Err("the daemon does not say that it listens".to_owned()),
        }
    }

    fn listening_port(&self) -> Option<u16> {
        if let Some(port) = self.told_port {
            let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
            return answers.then_some(port);
        }
        // A line counts once its end is written.
        let log = self.log();
        let lines = log
            .split_inclusive('\n')
            .filter_map(|l| l.strip_suffix('\n'));
        lines.rev().find_map(|line| {
            let (stamp, text) = line.split_once("] ")?;
            let address = text.strip_prefix("listening on ")?;
            if !is_stamp(stamp) {
                return None;
            }
            address.rsplit_once(':')?.1.parse().ok()
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this run has logged.
    pub fn log(&self) -> String {
        let log = self.install.log();
        log.get(self.log_start..).unwrap_or(&log).to_owned()
    }

    pub fn stdout(&self) -> String {
        self.written("stdout")
    }

    pub fn stderr(&self) -> String {
        self.written("stderr")
    }

    fn written(&self, kind: &str) -> String {
        let path = self.install.root.join(format!("{}.{kind}", self.output));
        fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits for a line of the log that holds this text, and returns it.
    pub fn await_log(&self, text: &str) -> String {
        let line = wait::until(wait::LIMIT, || {
            let log = self.log();
            log.lines()
                .find(|line| line.contains(text))
                .map(str::to_owned)
        });
        line.unwrap_or_else(|| panic!("the daemon never logged {text:?}"))
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal)
            .unwrap_or_else(|e| panic!("signal the daemon: {e}"));
    }

    /// Stops all its threads where they are, until `thaw`.
    pub fn freeze(&self) {
        cron::freeze(self.pid());
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// The exit status, if it has ended.
    pub fn exit_now(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("ask for the daemon's end");
            if self.ended.is_some() {
                reaper::forget(&self.child);
            }
        }
        self.ended
    }

    /// Fails if it has ended, or if a thread of it has panicked: a panic that costs one connection only is
    /// easily overlooked by a test that sent garbage over it.
    pub fn check_life(&mut self) -> Result<(), String> {
        if let Some(status) = self.exit_now() {
            return Err(format!("the daemon has ended: {status}"));
        }
        let panicked = |text: &str| text.contains("panicked");
        if panicked(&self.stderr()) || panicked(&self.log()) {
            return Err(format!("a panic in the daemon:\n{}", self.report()));
        }
        Ok(())
    }

    /// Waits for the daemon to end by itself.
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let status = wait::until(limit, || self.exit_now());
        status.unwrap_or_else(|| panic!("the daemon runs on after {limit:?}"))
    }

    /// SIGTERM, and the exit status.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(wait::LIMIT)
    }

    /// A client that has upgraded.
    pub fn connect(&self) -> Outcome<Client> {
        Client::connect(self.port)
    }

    /// A client that has authenticated.
    pub fn login(&self, agent_id: i64) -> Outcome<Client> {
        Client::login(self.port, agent_id)
    }

    /// What a reader of a failure wants to see.
    pub fn report(&self) -> String {
        format!(
            "--- log\n{}--- stdout\n{}--- stderr\n{}---",
            self.log(),
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon with pid {}:\n{}", self.pid(), self.report());
        }
        if self.exit_now().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            reaper::forget(&self.child);
        }
    }
}

/// `[YYYY-MM-DD HH:MM:SS`, as a line of the log begins.
pub fn is_stamp(text: &str) -> bool {
    const SHAPE: &str = "[0000-00-00 00:00:00";
    text.len() == SHAPE.len()
        && text
            .bytes()
            .zip(SHAPE.bytes())
            .all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
}
