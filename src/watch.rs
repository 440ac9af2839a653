//! Tells systemd how the service is while it runs: a line with its agents and connections, and, where a watchdog is
//! wanted, that all parts go on. It asks nobody and waits for nobody, so a dead database does not keep it from that,
//! and a part that hangs does: then it stops feeding the watchdog, and the service is started anew.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::error;

use crate::fault;
use crate::notify::Notifier;
use crate::pulse::{self, Pulse};
use crate::vital;

/// Between two lines of status.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Feedings within the time that the watchdog allows.
const FEEDINGS: u32 = 3;
const STACK: usize = 128 * 1024;

/// The thread, and its end.
pub struct Watch {
    notifier: Arc<Notifier>,
    thread: Option<(JoinHandle<()>, Sender<()>)>,
}

impl Watch {
    /// Says that the service is ready, and goes on to say how it is: `describe` is asked for that.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        notifier: Notifier,
        describe: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        let notifier = Arc::new(notifier);
        notifier.ready();
        if !notifier.is_heard() {
            return Ok(Watch {
                notifier,
                thread: None,
            });
        }
        let (stop, stopped) = bounded(0);
        let speaker = Arc::clone(&notifier);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _vital = vital::thread();
                run(&speaker, describe, &stopped);
            })?;
        Ok(Watch {
            notifier,
            thread: Some((thread, stop)),
        })
    }

    /// Says that the service ends, and says no more.
    pub fn stop(self) {
        if let Some((thread, stop)) = self.thread {
            drop(stop);
            if thread.join().is_err() {
                error!("the watch had failed");
            }
        }
        self.notifier.stopping();
    }
}

fn run(notifier: &Notifier, describe: impl Fn() -> String, stopped: &Receiver<()>) {
    let allowed = notifier.watchdog();
    let interval = allowed.map_or(STATUS_INTERVAL, |allowed| {
        (allowed / FEEDINGS).min(STATUS_INTERVAL)
    });
    let mut said = String::new();
    let mut said_at = None;
    let mut has_complained = false;
    loop {
        fault::point("watch");
        let hung = allowed.and_then(|allowed| silent(&pulse::all(), allowed));
        match &hung {
            None => {
                has_complained = false;
                if allowed.is_some() {
                    notifier.alive();
                }
            }
            Some(complaint) if !has_complained => {
                has_complained = true;
                error!("{complaint}; the watchdog is not fed any more");
            }
            Some(_) => {}
        }
        let is_due = said_at.is_none_or(|at: Instant| at.elapsed() >= STATUS_INTERVAL);
        if is_due || hung.is_some() {
            let text = hung.unwrap_or_else(&describe);
            if text != said {
                notifier.status(&text);
                said = text;
            }
            said_at = Some(Instant::now());
        }
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Which part has been silent for longer than `allowed`, in words.
pub fn silent(parts: &[&Pulse], allowed: Duration) -> Option<String> {
    let hung: Vec<String> = parts
        .iter()
        .filter(|part| part.silence() > allowed)
        .map(|part| {
            let seconds = part.silence().as_secs();
            format!(
                "the {} has shown no sign of life for {seconds} s",
                part.name()
            )
        })
        .collect();
    (!hung.is_empty()).then(|| hung.join(", "))
}
