//! A private Redis server for one test, on a free loopback port; dies with the test process.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::mariadb::free_port;
use super::needs::{self, Need};
use super::{reaper, wait};

/// A running Redis server without persistence.
pub struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    /// Starts one.
    pub fn start() -> Redis {
        Redis::on(free_port())
    }

    /// Starts one on this port.
    pub fn on(port: u16) -> Redis {
        needs::demand(Need::Redis);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir", "/tmp"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start redis-server: {e}"));
        reaper::watch(&child);
        wait::until(wait::LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok())
            .expect("redis-server answers");
        Redis { child, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Stops or goes on, as a machine that hangs.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), signal).unwrap_or_else(|e| panic!("signal Redis: {e}"));
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        reaper::forget(&self.child);
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
