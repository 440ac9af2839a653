//! Nothing that the benchmark starts outlives it, however it ends: a small shell waits on a pipe from us, is told of
//! every child, and when the pipe closes kills those that are left and removes the folder of temporary files.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};

const SCRIPT: &str = r#"
dir=$1
pids=' '
while read -r word pid; do
    case $word in
    +) pids="$pids$pid " ;;
    -) pids="${pids%% $pid *} ${pids#* $pid }" ;;
    esac
done
kill -9 $pids
for try in 1 2 3 4 5; do
    rm -rf "$dir" && break
    sleep 0.2
done
"#;

struct Reaper {
    scratch: PathBuf,
    pipe: Mutex<ChildStdin>,
}

#[expect(
    clippy::zombie_processes,
    reason = "the shell outlives us: that is what it is for"
)]
fn reaper() -> &'static Reaper {
    static REAPER: OnceLock<Reaper> = OnceLock::new();
    REAPER.get_or_init(|| {
        let scratch =
            std::env::temp_dir().join(format!("andrea-chat-bench-{}", std::process::id()));
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).expect("make the folder of temporary files");
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start a shell");
        Reaper {
            scratch,
            pipe: Mutex::new(shell.stdin.take().expect("a pipe")),
        }
    })
}

/// The folder of temporary files; on the disk whose commits are measured.
pub fn scratch() -> &'static Path {
    &reaper().scratch
}

/// A process that is to end with us.
pub fn watch(pid: u32) {
    tell('+', pid);
}

/// A process that has ended.
pub fn forget(pid: u32) {
    tell('-', pid);
}

fn tell(word: char, pid: u32) {
    let mut pipe = reaper().pipe.lock().expect("no panic under this lock");
    // One write a line, so that no line is read in half.
    let _ = pipe.write_all(format!("{word} {pid}\n").as_bytes());
}
