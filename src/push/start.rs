//! Start and end of the thread that pushes.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{error, warn};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::dispatch::Dispatcher;
use super::http::Client;
use super::sender::Senders;
use super::{Notice, Options, Queue, Shared};
use crate::clock::AppClock;
use crate::config::ConfigError;
use crate::store::Link;

/// Stack of the thread, in bytes; it talks to the database.
const STACK: usize = 512 * 1024;

/// A thread that is not running yet.
pub struct Starter {
    options: Options,
    roots: Vec<CertificateDer<'static>>,
    shared: Arc<Shared>,
    notices: Receiver<Box<Notice>>,
}

/// The thread that pushes.
#[derive(Debug)]
pub struct Worker {
    stop: Sender<Instant>,
    done: Receiver<()>,
}

/// Reads what has to be read before anything acts.
///
/// # Errors
/// The file of certificates cannot be read, or has none.
pub fn prepare(options: &Options) -> Result<Option<(Queue, Starter)>, ConfigError> {
    let roots = read_roots(options)?;
    let (sender, notices) = bounded(options.queue);
    let shared = Arc::new(Shared::default());
    let queue = Queue {
        notices: sender,
        shared: Arc::clone(&shared),
    };
    let starter = Starter {
        options: options.clone(),
        roots,
        shared,
        notices,
    };
    Ok(Some((queue, starter)))
}

fn read_roots(options: &Options) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let Some(path) = &options.ca_file else {
        return Ok(Vec::new());
    };
    let failed = |why: String| {
        ConfigError(format!(
            "cannot take certificates from {} (CHAT_WEBSOCKET_PUSH_CA): {why}; name a file of certificates in PEM, or \
             leave it out",
            path.display()
        ))
    };
    let roots: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.to_string()))?;
    if roots.is_empty() {
        return Err(failed("there is none".to_owned()));
    }
    match Client::new(&roots, options.timeout) {
        Ok(_) => Ok(roots),
        Err(error) => Err(failed(error.to_string())),
    }
}

impl Starter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(self, link: Link, clock: AppClock, jwt_secret: String) -> io::Result<Worker> {
        let (stop, stopped) = bounded(1);
        let (ended, done) = bounded::<()>(0);
        let senders = Senders::new(self.roots, self.options.timeout);
        let dispatcher = Dispatcher::new(
            link,
            clock,
            jwt_secret,
            self.options,
            senders,
            self.shared,
            (self.notices, stopped),
        );
        // Never joined: it may be waiting for the database, and the process does not wait for it.
        thread::Builder::new()
            .name("push".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _ended = ended;
                dispatcher.run();
            })?;
        Ok(Worker { stop, done })
    }
}

impl Worker {
    /// Lets what is on its way, and what was noticed last, go out until then.
    pub fn finish_by(&self, until: Instant) {
        if self.stop.try_send(until).is_err() {
            error!("the thread that pushes has ended before");
        }
    }

    /// Waits for that.
    pub fn wait(&self, until: Instant) {
        if self
            .done
            .recv_deadline(until)
            .is_err_and(|error| error.is_timeout())
        {
            warn!("a push service does not answer; what was pushed last is given up");
        }
    }
}
