//! Runs many independent jobs on a few threads and collects their failures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Enough to keep two cores busy while others wait for the database; more would only fight for them.
pub const COUNT: usize = 4;

/// Calls `job` for every place from 0 to `jobs`, each worker with the tools that `equip` made for it. Returns
/// what the jobs complained of, in order; a panic in a job is a complaint.
pub fn run<T>(
    jobs: usize,
    equip: impl Fn() -> T + Sync,
    job: impl Fn(&mut T, usize) -> Result<(), String> + Sync,
) -> Vec<(usize, String)> {
    let next = AtomicUsize::new(0);
    let complaints = Mutex::new(Vec::new());
    let work = || {
        let mut tools = equip();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            if place >= jobs {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(|| job(&mut tools, place)));
            let result = result.unwrap_or_else(|panic| {
                // The tools may be half used; the next job must not suffer for it.
                tools = equip();
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                Err(format!("panicked: {}", text.unwrap_or("(no text)")))
            });
            if let Err(complaint) = result {
                complaints
                    .lock()
                    .expect("no panic under this lock")
                    .push((place, complaint));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..COUNT.min(jobs) {
            scope.spawn(work);
        }
    });
    let mut complaints = complaints.into_inner().expect("no panic under this lock");
    complaints.sort();
    complaints
}

/// Fails the test if there are complaints, and prints them all.
pub fn judge(subject: &str, jobs: usize, complaints: &[(usize, String)]) {
    if complaints.is_empty() {
        return;
    }
    let mut text = String::new();
    for (_, complaint) in complaints {
        text.push_str(complaint);
        text.push('\n');
    }
    panic!("{} of {jobs} {subject} failed:\n{text}", complaints.len());
}
