//! A private disk of a few megabytes: a file system in memory, mounted in its own mount namespace, so that filling it
//! affects nothing else. Needs root or user namespaces.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate};

use super::reaper;

/// Mounts, says so, and keeps the namespace for as long as we live.
const SCRIPT: &str =
    r#"mount -t tmpfs -o "size=$2m" tmpfs "$1" && echo mounted && exec cat >/dev/null"#;

pub struct SmallDisk {
    folder: PathBuf,
    keeper: Child,
}

impl SmallDisk {
    /// Mounts one at this folder, which is made; none where the system forbids it.
    pub fn mount(folder: &Path, megabytes: u32) -> Option<SmallDisk> {
        fs::create_dir(folder).unwrap_or_else(|e| panic!("make {}: {e}", folder.display()));
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.args(["--user", "--map-current-user", "--keep-caps"]);
        }
        let mut keeper = unshare
            .args(["--mount", "sh", "-c", SCRIPT, "sh"])
            .arg(folder)
            .arg(megabytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        reaper::watch(&keeper);
        let mut line = String::new();
        let stdout = keeper.stdout.take().expect("stdout is a pipe");
        let read = BufReader::new(stdout).read_line(&mut line);
        let disk = SmallDisk {
            folder: folder.to_owned(),
            keeper,
        };
        (read.is_ok() && line == "mounted\n").then_some(disk)
    }

    /// A command that sees the disk.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--mount"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Its folder as it looks from outside.
    fn seen(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.keeper.id()));
        root.join(self.folder.strip_prefix("/").expect("an absolute path"))
    }

    fn filler(&self) -> PathBuf {
        self.seen().join("filler")
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let file = File::create(self.filler()).expect("make the filler");
        let mut length = 0;
        let mut step = 64 << 20;
        while step >= 4096 {
            match fallocate(&file, FallocateFlags::empty(), length, step) {
                Ok(()) => length += step,
                Err(_) => step /= 2,
            }
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("remove the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        reaper::forget(&self.keeper);
    }
}
