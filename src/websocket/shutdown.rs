//! The shutdown of the sockets, step by step: no new connections, no new events, close frames to all, then the sockets.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::error;

use super::Server;
use super::outbox::Closing;
use crate::config::limits::{CLOSE_LINGER, SPREAD_CLOSES_ABOVE, SPREAD_CLOSES_OVER};
use crate::http::Refused;
use crate::model::CloseCode;

/// Time for bytes to arrive that were sent before the stop.
const IN_FLIGHT: Duration = Duration::from_millis(50);
/// Time for events to be handled that arrived before the stop.
const READ_TIMEOUT: Duration = Duration::from_millis(200);
/// How often a stop looks whether what it waits for has happened.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long the connection that ends the wait in `accept` may take.
const WAKE_TIMEOUT: Duration = Duration::from_millis(200);
/// How long threads may take to end once their sockets are gone.
const THREAD_TIMEOUT: Duration = Duration::from_millis(100);

impl Server {
    /// Accepts no more connections. What has arrived is handled, for a moment; after that no event is.
    pub fn stop_reading(&self) {
        self.is_stopping.store(true, Ordering::Release);
        // If this fails, the accept loop ends at its next sign of life.
        let _ = wake_accept(self.address);
        thread::sleep(IN_FLIGHT);
        self.wait_until_idle(Instant::now() + READ_TIMEOUT);
        self.is_closing.store(true, Ordering::Release);
    }

    /// Waits until every thread is back in its read, or `until`. Then all answers but those to messages are in the hub's
    /// channel.
    pub fn wait_until_idle(&self, until: Instant) {
        wait(until, || {
            self.registry.all().iter().all(|one| !one.is_busy())
        });
    }

    /// Answers the senders of messages that are still on their way.
    pub fn refuse_pending_posts(&self) {
        for connection in self.registry.all() {
            if let Some(post) = connection.post() {
                self.chat.refuse_overdue(&post, None);
            }
        }
    }

    /// Sends close frames to all sockets, spread over time if they are many, waits a moment for the peers, then shuts down
    /// the sockets and ends the threads.
    pub fn say_goodbye(&self, threads: Vec<JoinHandle<()>>, until: Instant) {
        let all = self.registry.all();
        let pause = match all.len() > SPREAD_CLOSES_ABOVE {
            true => SPREAD_CLOSES_OVER / all.len() as u32,
            false => Duration::ZERO,
        };
        let mut due = Instant::now();
        for connection in &all {
            connection.end(Refused::Disabled, CloseCode::GoingAway, Closing::Gracefully);
            due += pause;
            let ahead = due.saturating_duration_since(Instant::now());
            // A shorter sleep costs more than it spreads.
            if ahead > Duration::from_millis(10) && Instant::now() < until {
                thread::sleep(ahead);
            }
        }
        drop(all);
        let is_empty = || self.registry.len() == 0;
        wait(until.min(Instant::now() + CLOSE_LINGER), is_empty);
        for connection in self.registry.all() {
            connection.kill();
        }
        wait(Instant::now() + THREAD_TIMEOUT, is_empty);
        self.flusher.end();
        for thread in threads {
            // Wakes `deadlines`, which may be parked between two sweeps.
            thread.thread().unpark();
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                error!("thread \"{name}\" panicked");
            }
        }
    }
}

/// Blocks until something has happened, or `until`.
fn wait(until: Instant, has_happened: impl Fn() -> bool) {
    while !has_happened() && Instant::now() < until {
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Connects to the listener, which ends its wait in `accept`.
fn wake_accept(address: SocketAddr) -> io::Result<TcpStream> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    TcpStream::connect_timeout(&SocketAddr::new(ip, address.port()), WAKE_TIMEOUT)
}
