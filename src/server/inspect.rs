//! The Unix socket for `connections`: lists the connected clients, only to the service's user and root, never over the
//! port. A client only connects and gets a JSON array, which contains no token.

use std::io::{self, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::Shutdown;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

use crate::platform::clock::AppClock;
use crate::platform::owned_file;
use crate::websocket::Server;

const STACK_BYTES: usize = 256 * 1024;
/// How long a client may take to read; the next one waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after the system refused a socket.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The socket and its thread. Not critical: without it the chat goes on.
pub(super) struct Inspection {
    path: PathBuf,
    listener: Arc<UnixListener>,
}

impl Inspection {
    /// Listens at `path`, and replaces a socket that a dead daemon left there.
    ///
    /// # Errors
    /// The socket or the thread cannot be made.
    pub(super) fn start(path: PathBuf, server: Arc<Server>, clock: AppClock) -> io::Result<Self> {
        let listener = Arc::new(owned_file::listen(&path)?);
        let its_listener = Arc::clone(&listener);
        // Never joined: where its wait cannot be ended, it ends with the process.
        thread::Builder::new()
            .name("inspect".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&its_listener, &server, &clock))?;
        Ok(Inspection { path, listener })
    }

    /// Removes the socket and ends the thread's wait in `accept`.
    pub(super) fn stop(self) {
        owned_file::remove_socket(&self.path);
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
    }
}

fn run(listener: &UnixListener, server: &Server, clock: &AppClock) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                // A client that hangs up is no error.
                let _ = answer(&stream, server, clock);
            }
            // The listener was shut down.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(_) => thread::sleep(ERROR_PAUSE),
        }
    }
}

fn answer(mut stream: &UnixStream, server: &Server, clock: &AppClock) -> io::Result<()> {
    let peer = socket_peercred(stream)?.uid;
    // The mode of the socket says so too, but its folder may belong to others.
    if !peer.is_root() && peer != geteuid() {
        return Ok(());
    }
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let json = serde_json::to_vec(&server.connections(clock))?;
    stream.write_all(&json)
}
