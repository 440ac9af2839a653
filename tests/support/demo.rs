//! `demo` as a child process: its folder, its page's address, its signals and its end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::reaper;
use super::wait;

/// A folder that no demo has been in yet.
pub fn new_folder() -> PathBuf {
    reaper::path("demo")
}

/// The command, with an environment that is empty but for one limit: here agents type faster than people do.
pub fn command(data: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_andrea-chat-websocket"));
    command
        .env_clear()
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0")
        .arg("demo")
        .arg("--data")
        .arg(data)
        .args(["--port", &port.to_string()])
        .stdin(Stdio::null());
    command
}

/// A demo that runs.
pub struct Demo {
    child: Child,
    data: PathBuf,
    output: PathBuf,
    url: String,
    ended: bool,
}

impl Demo {
    /// Starts one and waits until it says where its page is. Port 0 is any.
    pub fn start(data: &Path, port: u16) -> Demo {
        let output = reaper::path("demo-output");
        let file = || {
            File::options()
                .create(true)
                .append(true)
                .open(&output)
                .expect("a file for the output")
        };
        let child = command(data, port)
            .stdout(file())
            .stderr(file())
            .spawn()
            .unwrap_or_else(|e| panic!("start the demo: {e}"));
        reaper::watch(&child);
        let mut demo = Demo {
            child,
            data: data.to_owned(),
            output,
            url: String::new(),
            ended: false,
        };
        let url = wait::until(wait::LIMIT, || demo.announced());
        demo.url = url.unwrap_or_else(|| panic!("the demo does not say where its page is"));
        demo
    }

    fn announced(&self) -> Option<String> {
        let said = self.output();
        let (first, _) = said.split_once('\n')?;
        first.strip_prefix("The chat is at ").map(str::to_owned)
    }

    /// What it has said on both standard streams.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn port(&self) -> u16 {
        let port = self.url.trim_end_matches('/').rsplit_once(':');
        port.and_then(|(_, port)| port.parse().ok())
            .unwrap_or_else(|| panic!("{} has no port", self.url))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal)
            .unwrap_or_else(|e| panic!("signal the demo: {e}"));
    }

    /// Sends a signal and waits for the end.
    pub fn end(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        let ended = || self.child.try_wait().expect("ask for its end");
        let status = wait::until(wait::LIMIT, ended).unwrap_or_else(|| panic!("the demo runs on"));
        self.ended = true;
        reaper::forget(&self.child);
        status
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.data.join("logs/chat-websocket.log"));
            let log = log.unwrap_or_default();
            eprintln!("the demo said:\n{}--- log\n{log}---", self.output());
        }
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
            reaper::forget(&self.child);
        }
    }
}
