//! The listener and its sockets: one thread per connection, which reads it from its first byte to its last. The only folder
//! that names the WebSocket crate; no JSON, no SQL and no permissions here.
//!
//! | thread | what it does with sockets |
//! |---|---|
//! | `accept` | gives each connection a thread, or answers 503 |
//! | `conn`, one per connection | reads one socket; answers its request and its WebSocket pings |
//! | `hub` | writes events and answers, as far as a socket takes them |
//! | `flusher` | writes the rest to sockets that are behind |
//! | `deadlines` | ends sockets that are over time |

mod accept;
mod connection;
mod deadlines;
mod flusher;
pub mod handshake;
mod outbox;
mod registry;
mod report;
mod shutdown;
mod stream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use self::connection::Connection;
use self::flusher::Flusher;
use self::registry::Registry;
pub use self::report::ConnectionReport;
use crate::chat::Chat;
use crate::http::Site;

/// Stack of a connection's thread, in bytes. Only the part that was ever used costs memory. It can be small, because the
/// database driver runs on other threads. Without optimisation, stack frames are several times as large.
pub const CONNECTION_STACK_BYTES: usize = match cfg!(debug_assertions) {
    true => 1024 * 1024,
    false => 128 * 1024,
};
/// Stack of the other threads of this module, in bytes.
const STACK_BYTES: usize = 256 * 1024;

/// What all connections of one listener share.
pub struct Server {
    chat: Arc<Chat>,
    app_url: String,
    site: Option<Box<dyn Site>>,
    max_connections: usize,
    /// Where it listens.
    address: SocketAddr,
    registry: Registry,
    flusher: Flusher,
    /// Hands connections to threads that have none.
    idle: (Sender<Arc<Connection>>, Receiver<Arc<Connection>>),
    /// No connection is accepted any more.
    is_stopping: AtomicBool,
    /// No event is handled any more.
    is_closing: AtomicBool,
}

impl Server {
    /// Starts to serve, and returns the threads for [`Server::say_goodbye`]. `app_url` is one of the allowed origins, `site`
    /// the pages beside the chat.
    ///
    /// # Errors
    /// The system is out of threads or descriptors.
    pub fn start(
        chat: Arc<Chat>,
        app_url: String,
        site: Option<Box<dyn Site>>,
        max_connections: usize,
        listener: TcpListener,
    ) -> io::Result<(Arc<Self>, Vec<JoinHandle<()>>)> {
        let server = Arc::new(Server {
            chat,
            app_url,
            site,
            max_connections,
            address: listener.local_addr()?,
            registry: Registry::default(),
            flusher: Flusher::new()?,
            idle: bounded(0),
            is_stopping: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
        });
        accept::prepare(&listener)?;
        let [of_flusher, of_deadlines, of_accept] = [(); 3].map(|()| Arc::clone(&server));
        let critical = &server.chat.threads;
        let flusher = critical.spawn("flusher", STACK_BYTES, move || {
            of_flusher.flusher.run(&of_flusher.registry);
        })?;
        let deadlines =
            critical.spawn_watched("deadlines", "deadlines", STACK_BYTES, move |progress| {
                deadlines::run(&of_deadlines, progress);
            })?;
        let accept =
            critical.spawn_watched("accept", "accept loop", STACK_BYTES, move |progress| {
                accept::run(&of_accept, &listener, progress);
            })?;
        Ok((server, vec![accept, flusher, deadlines]))
    }

    /// The chat that it serves.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// How many sockets are an agent's.
    pub fn authenticated(&self) -> usize {
        let all = self.registry.all();
        all.iter().filter(|one| one.agent.get().is_some()).count()
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}
