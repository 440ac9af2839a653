//! Critical threads: if one panics, the service ends with an error, for its service manager to start it again; a
//! process that goes on without one would keep its sockets and serve no client. Some of them also report progress all
//! the time, with or without work, so that a watchdog sees a hang without asking them.
//!
//! Not critical are a connection's thread, `push`, `push-send` and `inspect`, which survive a panic, and `stop-limit` and `last-rows`,
//! which run only while the process ends anyway.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::platform::failpoint;

/// Longest time between two reports of progress of a watched thread, even if it is idle.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// The critical threads of one service; cheap to clone.
#[derive(Clone)]
pub struct Threads(Arc<Shared>);

struct Shared {
    on_panic: Box<dyn Fn(&str) + Send + Sync>,
    watched: Mutex<Vec<Arc<Progress>>>,
}

impl Threads {
    /// `on_panic` gets the name of a thread that panics; it must not block.
    pub fn new(on_panic: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Threads(Arc::new(Shared {
            on_panic: Box::new(on_panic),
            watched: Mutex::default(),
        }))
    }

    /// The threads of a command, which does not end because one of them panics.
    pub fn of_command() -> Self {
        Threads::new(|_| {})
    }

    /// Starts a critical thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn(
        &self,
        name: &str,
        stack_bytes: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let report = PanicReport(self.clone());
        Builder::new()
            .name(name.to_owned())
            .stack_size(stack_bytes)
            .spawn(move || {
                let _report = report;
                run();
            })
    }

    /// The same for a thread that is watched under `label`: it has to call [`Progress::made`] at least every
    /// [`PROGRESS_INTERVAL`].
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn spawn_watched(
        &self,
        name: &str,
        label: &'static str,
        stack_bytes: usize,
        run: impl FnOnce(&Progress) + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let progress = Arc::new(Progress::new(label));
        lock(&self.0.watched).push(Arc::clone(&progress));
        self.spawn(name, stack_bytes, move || run(&progress))
    }

    /// The watched threads, in the order of their start.
    pub fn watched(&self) -> Vec<Arc<Progress>> {
        lock(&self.0.watched).clone()
    }
}

/// Dropped by its thread, at the end or in a panic.
struct PanicReport(Threads);

impl Drop for PanicReport {
    fn drop(&mut self) {
        if thread::panicking() {
            (self.0.0.on_panic)(thread::current().name().unwrap_or("without a name"));
        }
    }
}

/// When a watched thread made progress last.
#[derive(Debug)]
pub struct Progress {
    label: &'static str,
    started: Instant,
    /// Milliseconds since the start.
    last: AtomicU64,
}

impl Progress {
    /// Counts from now.
    pub fn new(label: &'static str) -> Self {
        Progress {
            label,
            started: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    /// The thread's name in reports.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Reports progress.
    pub fn made(&self) {
        failpoint::reach(self.label);
        self.last.store(self.age(), Ordering::Relaxed);
    }

    /// For how long it has made none.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.age().saturating_sub(self.last.load(Ordering::Relaxed)))
    }

    fn age(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

/// Locks a mutex whose data is sound after a panic of another holder: a panic in a critical thread ends the process, and
/// one in a connection's thread holds no lock but the connection's own.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn two_services_in_one_process_hear_of_their_own_threads_alone() {
        let service = || {
            let (sender, heard) = channel();
            let threads = Threads::new(move |name| sender.send(name.to_owned()).expect("heard"));
            (threads, heard)
        };
        let ((first, of_first), (second, of_second)) = (service(), service());
        let run = |threads: &Threads, name, panics: bool| {
            let thread = threads.spawn_watched(name, name, 64 * 1024, move |progress| {
                progress.made();
                assert!(!panics, "as the test wants it");
            });
            assert_eq!(thread.expect("a thread").join().is_err(), panics);
        };
        run(&first, "healthy", false);
        run(&first, "broken", true);
        run(&second, "other", false);
        assert_eq!(of_first.try_iter().collect::<Vec<_>>(), ["broken"]);
        assert_eq!(of_second.try_iter().count(), 0);
        let labels = |threads: &Threads| {
            let watched = threads.watched();
            watched.iter().map(|one| one.label()).collect::<Vec<_>>()
        };
        assert_eq!(labels(&first), ["healthy", "broken"]);
        assert_eq!(labels(&second), ["other"]);
    }

    #[test]
    fn silence_grows_until_the_next_progress() {
        let progress = Progress::new("part");
        std::thread::sleep(Duration::from_millis(30));
        assert!(progress.silence() >= Duration::from_millis(29));
        progress.made();
        assert!(progress.silence() < Duration::from_millis(30));
    }
}
