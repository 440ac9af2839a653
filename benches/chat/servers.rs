//! The measured servers, as processes that speak the same protocol: the daemon (or several builds of it), the two bare
//! loops, and on demand a peer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::database::Database;
use super::process::Owned;
use super::{reaper, wire};

const SECRET: &str = "a secret for benchmarks only, longer than 32 bytes";

/// Something that can be measured.
#[derive(Clone, Debug)]
pub struct Contestant {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// A build of the daemon.
    Daemon(PathBuf),
    /// This program itself, as one of the bare loops.
    Floor(&'static str),
    /// Another server that was named.
    Peer(PathBuf),
}

/// A running contestant.
pub struct Server {
    process: Owned,
    pub address: SocketAddr,
    root: Option<PathBuf>,
}

impl Contestant {
    /// The event that authenticates as this agent, as a frame.
    pub fn auth(&self, agent: u64) -> Arc<[u8]> {
        self.auth_after(agent, None)
    }

    /// The same; with a message's id it asks for what came after that one.
    pub fn auth_after(&self, agent: u64, after: Option<u64>) -> Arc<[u8]> {
        let token = match self.kind {
            Kind::Daemon(_) => {
                let now = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |since| since.as_secs());
                let claims = json!({"sub": agent, "type": "agent", "role": "agent", "iat": now, "exp": now + 3600});
                andrea_chat_websocket::auth::sign(SECRET, &claims).expect("a token")
            }
            // The other servers do not verify tokens.
            Kind::Floor(_) | Kind::Peer(_) => agent.to_string(),
        };
        let mut event = json!({"type": "auth", "token": token});
        if let Some(after) = after {
            event["after_id"] = after.into();
        }
        wire::masked(wire::TEXT, event.to_string().as_bytes()).into()
    }

    /// What the unit sets for the daemon; nothing for one whose name begins with `bare`.
    fn environment(&self) -> Vec<(String, String)> {
        const UNIT: &str = include_str!("../../contrib/systemd/andrea-chat-websocket.service");
        if self.name.starts_with("bare") {
            return Vec::new();
        }
        UNIT.lines()
            .filter_map(|line| line.strip_prefix("Environment="))
            .flat_map(str::split_whitespace)
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Starts it and waits until it listens.
    pub fn start(&self, database: &Database, options: &[&str]) -> Server {
        match &self.kind {
            Kind::Daemon(program) => start_daemon(program, database, options, &self.environment()),
            Kind::Floor(mode) => {
                let program = std::env::current_exe().expect("our own path");
                let mut command = Command::new(program);
                command.args(["--serve-floor", mode]);
                start_printing_port(command)
            }
            Kind::Peer(program) => start_printing_port(Command::new(program)),
        }
    }
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub fn log(&self) -> String {
        self.root
            .as_ref()
            .and_then(|root| fs::read_to_string(root.join("storage/logs/chat-websocket.log")).ok())
            .unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.stop();
        reaper::forget_pid(self.process.pid());
        if let Some(root) = &self.root {
            let _ = fs::remove_dir_all(root);
        }
    }
}

fn start_printing_port(mut command: Command) -> Server {
    let mut child = command
        // It ends when this pipe does.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    reaper::watch(&child);
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a pipe");
    let read = BufReader::new(stdout).read_line(&mut line);
    let port: u16 = read
        .ok()
        .and_then(|_| line.trim().parse().ok())
        .unwrap_or_else(|| panic!("{command:?} printed {line:?} and no port"));
    Server {
        process: Owned(child),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        root: None,
    }
}

fn start_daemon(
    program: &PathBuf,
    database: &Database,
    options: &[&str],
    environment: &[(String, String)],
) -> Server {
    let root = reaper::scratch().join(format!("root-{}", next_number()));
    fs::create_dir_all(&root).expect("make the install's folder");
    let dotenv = format!(
        "JWT_SECRET=\"{SECRET}\"\nDB_HOST=localhost\nDB_SOCKET={}\nDB_DATABASE={}\nDB_USERNAME={}\nDB_PASSWORD={}\n",
        database.socket.display(),
        database.name,
        database.user,
        database.password
    );
    fs::write(root.join(".env"), dotenv).expect("write .env");
    let child = Command::new(program)
        .args(["serve", "--port", "0", "--root"])
        .arg(&root)
        .args([
            "--rate",
            "0",
            "--typing-interval",
            "0",
            "--max-connections",
            "20000",
            "--max-per-agent",
            "20000",
        ])
        .args(options)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("start {}: {error}", program.display()));
    reaper::watch(&child);
    let mut server = Server {
        process: Owned(child),
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        root: Some(root),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.address.port() == 0 {
        let log = server.log();
        let port = log
            .split_once("listening on ")
            .and_then(|(_, rest)| rest.split_once('\n'))
            .and_then(|(address, _)| address.rsplit_once(':')?.1.parse().ok());
        if let Some(port) = port {
            server.address.set_port(port);
        }
        assert!(
            Instant::now() < deadline,
            "the daemon does not listen:\n{log}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    server
}

fn next_number() -> u32 {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
