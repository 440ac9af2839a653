//! The accept loop: blocks in `accept`, and gives each socket its thread, or answers 503.
//!
//! At the limit of unauthenticated sockets the oldest silent one is closed: a browser authenticates within milliseconds of
//! its handshake. While none is silent, new connections wait in the kernel's queue; so a thousand browsers that reconnect at
//! once are admitted at the pace of the database, and silent sockets keep no client out.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, set_tcp_nodelay};
use rustix::net::{RecvFlags, recv};

use super::connection::Connection;
use super::stream::NonBlocking;
use super::{CONNECTION_STACK_BYTES, Server};
use crate::http::Refused;
use crate::platform::metrics::{Limit, METRICS};
use crate::platform::threads::{PROGRESS_INTERVAL, Progress};

/// Pause after `accept` failed, for lack of descriptors for example: trying again at once would only spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// How long a thread whose connection has ended waits for another one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a free place is looked for: short compared with a handshake, long compared with the cost of the look.
const PLACE_INTERVAL: Duration = Duration::from_millis(5);

/// Makes a listener ready for [`run`].
///
/// # Errors
/// A socket option cannot be set, which is not expected.
pub(super) fn prepare(listener: &TcpListener) -> io::Result<()> {
    // A service manager or an earlier run may have left it non-blocking.
    listener.set_nonblocking(false)?;
    // The timeout is for signs of life. Accepted sockets inherit both options.
    set_socket_timeout(listener, Timeout::Recv, Some(PROGRESS_INTERVAL))?;
    set_tcp_nodelay(listener, true)?;
    Ok(())
}

/// Runs until the server stops. What had been accepted by then is served; what still waits in the kernel's queue is left
/// to the next process that listens on the socket.
pub(super) fn run(server: &Arc<Server>, listener: &TcpListener, progress: &Progress) {
    let mut accepted = VecDeque::new();
    let max_unauthenticated = server.chat.limits.max_unauthenticated;
    while !server.is_stopping() {
        progress.made();
        let has_place = server.registry.unauthenticated() + accepted.len() < max_unauthenticated;
        if accepted.is_empty() || has_place && is_waiting(listener) {
            accepted.extend(accept(server, listener));
        } else if let Some((stream, peer)) = accepted.pop_front() {
            admit(server, stream, peer, progress);
        }
    }
    for (stream, peer) in accepted {
        admit(server, stream, peer, progress);
    }
}

/// Whether the kernel's queue holds a connection. In a crowd the queue is emptied before threads are made, which takes
/// longer: the kernel drops what exceeds the queue, and such a client tries again only after a second.
fn is_waiting(listener: &TcpListener) -> bool {
    let mut look = [PollFd::new(listener, PollFlags::IN)];
    poll(&mut look, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

fn accept(server: &Server, listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    let failed = |error: &io::Error| {
        let limit = match Errno::from_io_error(error) {
            Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Some(Errno::MFILE | Errno::NFILE) => Limit::OpenFiles,
            _ => Limit::Accept,
        };
        server.chat.limit_log.hit(limit, || {
            format!(
                "cannot accept a connection: {error}; raise the limit of open files if this stays"
            )
        });
        thread::sleep(ERROR_PAUSE);
    };
    listener.accept().inspect_err(failed).ok()
}

fn admit(server: &Arc<Server>, stream: TcpStream, peer: SocketAddr, progress: &Progress) {
    let limit = server.max_connections;
    if server.registry.len() >= limit {
        return refuse(server, &stream, Limit::Connections, || {
            format!(
                "a connection from {peer} was refused with 503: {limit} are open, which is the limit \
                 (CHAT_WEBSOCKET_MAX_CONNECTIONS)"
            )
        });
    }
    wait_for_place(server, progress);
    if stream.set_read_timeout(None).is_err() {
        return;
    }
    let new = |id| Connection::new(id, stream, peer, Arc::clone(server));
    let connection = server.registry.insert(new);
    if let Err(error) = hand_over(server, Arc::clone(&connection)) {
        server.registry.remove(connection.id);
        refuse(server, &connection.stream, Limit::Threads, || {
            format!(
                "a connection from {peer} was refused with 503: the system refuses a thread for it ({error}); raise the limit of processes \
                 (TasksMax, ulimit -u) or lower CHAT_WEBSOCKET_MAX_CONNECTIONS"
            )
        });
    }
}

/// Gives a connection to a thread whose own has just ended, or to a new thread.
fn hand_over(server: &Server, connection: Arc<Connection>) -> io::Result<()> {
    let Err(TrySendError::Full(connection) | TrySendError::Disconnected(connection)) =
        server.idle.0.try_send(connection)
    else {
        return Ok(());
    };
    let next = server.idle.1.clone();
    thread::Builder::new()
        .name("conn".to_owned())
        .stack_size(CONNECTION_STACK_BYTES)
        .spawn(move || {
            connection.run();
            drop(connection);
            while let Ok(connection) = next.recv_timeout(IDLE_TIMEOUT) {
                connection.run();
            }
        })?;
    Ok(())
}

/// While the limit of unauthenticated sockets is reached, closes the oldest silent one, or waits until one is silent.
fn wait_for_place(server: &Server, progress: &Progress) {
    let limit = server.chat.limits.max_unauthenticated;
    while server.registry.unauthenticated() >= limit && !server.is_stopping() {
        progress.made();
        match server.registry.oldest_silent(Instant::now()) {
            Some(silent) => {
                server.chat.limit_log.hit(Limit::Unauthenticated, || {
                    format!(
                        "{silent} is closed for a newcomer: it has not authenticated, and {limit} connections have not, \
                         which is the limit"
                    )
                });
                silent.evict();
            }
            None => thread::sleep(PLACE_INTERVAL),
        }
    }
}

/// Answers 503 without a thread.
fn refuse(server: &Server, stream: &TcpStream, limit: Limit, why: impl FnOnce() -> String) {
    // During a stop this is the connection that ends the wait in `accept`, not a client's.
    if server.is_stopping() {
        return;
    }
    METRICS.full.add(1);
    METRICS.refused.count(Refused::Full.status());
    server.chat.limit_log.hit(limit, why);
    // Unread bytes would make the kernel reset the connection on close, and the response might be lost.
    let mut request = [0; 2048];
    let _ = recv(stream, &mut request[..], RecvFlags::DONTWAIT);
    let _ = NonBlocking(stream).write(&Refused::Full.response());
    let _ = stream.shutdown(Shutdown::Write);
    if let Ok(stream) = stream.try_clone() {
        server.registry.keep_refused(stream);
    }
}
