//! Nothing that a test or the benchmark starts outlives that process, however that ends: by a return, a panic, a SIGKILL.
//! A small shell waits on a pipe from us, and is told of every child. When the pipe closes, it kills those that
//! are left and removes the folder that all temporary files lie in. (A parent-death signal would not do: it is
//! tied to the thread that spawned, and test threads come and go.)

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// `+ 12` and `- 12` on the pipe add and strike off a process. A server that is just dying may still write a
/// file into its folder, so removing that may take a second try.
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
for try in 1 2 3 4 5 6 7 8 9; do
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
        // Before the first child.
        super::signals::ignore_none_in_children();
        let name = format!("andrea-chat-test-{}", std::process::id());
        let scratch = std::env::temp_dir().join(name);
        // A folder of that name can only be the rest of an earlier process with our pid.
        let _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).unwrap_or_else(|e| panic!("make {}: {e}", scratch.display()));
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(&scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A terminal's Ctrl-C is for us; the shell then sees the pipe close.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("start a shell: {e}"));
        Reaper {
            scratch,
            pipe: Mutex::new(shell.stdin.take().expect("stdin is a pipe")),
        }
    })
}

/// The folder for all temporary files of this process.
pub fn scratch() -> &'static Path {
    &reaper().scratch
}

/// A path for a temporary file that no other call has given.
pub fn path(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("{name}-{count}"))
}

/// A new folder at such a path.
pub fn folder(name: &str) -> PathBuf {
    let folder = path(name);
    fs::create_dir(&folder).unwrap_or_else(|e| panic!("make {}: {e}", folder.display()));
    folder
}

fn tell(word: char, pid: u32) {
    let mut pipe = reaper().pipe.lock().expect("no panic under this lock");
    // One write a line: a half line would name another process.
    pipe.write_all(format!("{word} {pid}\n").as_bytes())
        .unwrap_or_else(|e| panic!("tell the reaper: {e}"));
}

/// A child that is to die with us.
pub fn watch(child: &Child) {
    tell('+', child.id());
}

/// Registers a process that another process started, so that it also ends with this one.
pub fn watch_pid(pid: u32) {
    tell('+', pid);
}

/// Such a process that has ended.
pub fn forget_pid(pid: u32) {
    tell('-', pid);
}

/// Unregisters a child that was waited for: its pid may now belong to another process.
pub fn forget(child: &Child) {
    tell('-', child.id());
}
