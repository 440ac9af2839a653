//! Notifications to systemd by its own protocol (sd_notify(3)): datagrams to the socket that `NOTIFY_SOCKET` names. The
//! service reports readiness and status, and pings the watchdog while all watched threads make progress. The pinging thread
//! waits for no other thread and not for the database, so an unavailable database does not stop the pings, but a hung thread
//! does.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{error, warn};

use crate::platform::failpoint;
use crate::platform::threads::{Progress, Threads};

/// How long a full socket is waited for.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest time between two lines of status.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Pings within the time that the watchdog allows.
const FEEDINGS: u32 = 3;
const STACK_BYTES: usize = 128 * 1024;

/// The way to the service manager, if one listens.
#[derive(Debug)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok();
        let to = variable("NOTIFY_SOCKET").and_then(|address| {
            let opened = open(&address);
            if let Err(error) = &opened {
                warn!("cannot notify the service manager at NOTIFY_SOCKET: {error}");
            }
            opened.ok()
        });
        // For this process alone, not for one that inherited the variable.
        let is_meant =
            variable("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = variable("WATCHDOG_USEC")
            .and_then(|interval| interval.parse().ok())
            .filter(|interval| is_meant && *interval > 0)
            .map(Duration::from_micros);
        Notifier { to, watchdog }
    }

    /// Reports the state of the service, in one line.
    pub(crate) fn status(&self, text: &str) {
        self.send(&format!("STATUS={}", text.replace('\n', " ")));
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.to {
            // There is no other way to reach a listener that is gone.
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

fn open(address: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok((socket, address))
}

/// The thread that tells the service manager how the service is.
pub(crate) struct Watch {
    notifier: Arc<Notifier>,
    thread: Option<(JoinHandle<()>, Sender<()>)>,
}

impl Watch {
    /// Reports that the service is ready; from then on reports the state that `describe` returns.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(
        notifier: Notifier,
        threads: &Threads,
        describe: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        notifier.send("READY=1");
        let notifier = Arc::new(notifier);
        let mut thread = None;
        if notifier.to.is_some() {
            let (stop, stopped) = bounded(0);
            let (to, watched) = (Arc::clone(&notifier), threads.watched());
            let spawned = threads.spawn("watch", STACK_BYTES, move || {
                run(&to, &watched, describe, &stopped);
            })?;
            thread = Some((spawned, stop));
        }
        Ok(Watch { notifier, thread })
    }

    /// Reports that the service ends, and nothing after that.
    pub(crate) fn stop(self) {
        if let Some((thread, stop)) = self.thread {
            drop(stop);
            if thread.join().is_err() {
                error!("thread \"watch\" panicked");
            }
        }
        self.notifier.send("STOPPING=1");
    }
}

fn run(
    notifier: &Notifier,
    watched: &[Arc<Progress>],
    describe: impl Fn() -> String,
    stopped: &Receiver<()>,
) {
    let allowed = notifier.watchdog;
    let interval = allowed.map_or(STATUS_INTERVAL, |allowed| {
        (allowed / FEEDINGS).min(STATUS_INTERVAL)
    });
    let mut was_hung = false;
    loop {
        failpoint::reach("watch");
        let hung = allowed.and_then(|allowed| hung(watched, allowed));
        match &hung {
            None if allowed.is_some() => notifier.send("WATCHDOG=1"),
            Some(complaint) if !was_hung => {
                error!("{complaint}; the watchdog is not fed any more");
            }
            _ => {}
        }
        was_hung = hung.is_some();
        notifier.status(&hung.unwrap_or_else(&describe));
        if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Which threads have made no progress for longer than `allowed`, in words.
fn hung(watched: &[Arc<Progress>], allowed: Duration) -> Option<String> {
    let hung: Vec<String> = watched
        .iter()
        .filter(|one| one.silence() > allowed)
        .map(|one| {
            let seconds = one.silence().as_secs();
            format!(
                "the {} has shown no sign of life for {seconds} s",
                one.label()
            )
        })
        .collect();
    (!hung.is_empty()).then(|| hung.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_address_are_reached() {
        let path = env::temp_dir().join(format!("andrea-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let name = format!("andrea-notify-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        let listeners = [
            (path.display().to_string(), UnixDatagram::bind(&path)),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_name)),
        ];
        for (address, listener) in listeners {
            let listener = listener.expect("bound");
            let notifier = Notifier {
                to: open(&address).ok(),
                watchdog: None,
            };
            notifier.send("READY=1");
            notifier.status("two\nlines");
            assert_eq!(heard(&listener), "READY=1");
            assert_eq!(heard(&listener), "STATUS=two lines");
            drop(listener);
            notifier.send("STOPPING=1");
        }
        std::fs::remove_file(&path).expect("clean up");
    }
}
