//! Thousands of clients in one thread: one epoll instance, one read buffer, frames parsed in place.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::wire;

/// What is read at once, over all sockets.
const BUFFER: usize = 256 * 1024;
/// Connections from one loopback address before the next one is used: one has 28,000 ports, and each may rest for
/// a minute after its connection.
const PER_SOURCE: u32 = 2_000;

/// Told of everything that happens.
pub trait Listener {
    /// The client is authenticated.
    fn active(&mut self, _seat: usize) {}
    /// An event arrived.
    fn text(&mut self, client: usize, payload: &[u8]);
    /// The connection is gone, other than by [`ClientPool::drop_client`].
    fn ended(&mut self, client: usize, how: End);
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Instead of an upgrade came this.
    Refused(String),
    /// The server closed with this code.
    Closed(u16),
    /// The stream ended, or was reset, without a close frame.
    Cut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Free,
    Connecting,
    Upgrading,
    Authenticating,
    Active,
    /// A close frame came or went.
    Closing(u16),
}

struct PooledClient {
    socket: Option<OwnedFd>,
    /// Tells events of an earlier connection in this slot from those of the present one.
    generation: u32,
    stage: Stage,
    /// The start of a frame that is not complete.
    carry: Vec<u8>,
    /// What the socket did not take yet.
    out: Vec<u8>,
    auth: Arc<[u8]>,
}

/// Many clients of one server.
pub struct ClientPool {
    epoll: OwnedFd,
    /// Clients that are read only now and then, see [`ClientPool::set_aside`].
    aside: OwnedFd,
    server: SocketAddr,
    clients: Vec<PooledClient>,
    free: Vec<usize>,
    opened: u32,
    first_source: u32,
    buffer: Vec<u8>,
    events: Vec<Event>,
    request: Vec<u8>,
}

impl ClientPool {
    /// An empty pool. Pools that run at the same time differ in `source_block`, so that they share no port.
    pub fn new(server: SocketAddr, source_block: u32) -> io::Result<ClientPool> {
        Ok(ClientPool {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            aside: epoll::create(CreateFlags::CLOEXEC)?,
            server,
            clients: Vec::new(),
            free: Vec::new(),
            opened: 0,
            first_source: source_block * 64,
            buffer: vec![0; BUFFER],
            events: Vec::with_capacity(512),
            request: wire::request(),
        })
    }

    /// Begins a connection; its first event will be `auth`.
    pub fn open(&mut self, auth: Arc<[u8]>) -> io::Result<usize> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        let source = self.first_source + self.opened / PER_SOURCE % 64;
        let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 0, 1, 1)) + source);
        rustix::net::bind(&socket, &SocketAddrV4::new(source, 0))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &self.server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        self.opened += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.clients.push(PooledClient {
                socket: None,
                generation: 0,
                stage: Stage::Free,
                carry: Vec::new(),
                out: Vec::new(),
                auth: Arc::clone(&auth),
            });
            self.clients.len() - 1
        });
        let client = &mut self.clients[index];
        client.generation = client.generation.wrapping_add(1);
        client.stage = Stage::Connecting;
        client.auth = auth;
        // On the loopback the connection usually stands already.
        let flags = match rustix::io::write(&socket, &self.request) {
            Ok(_) => {
                client.stage = Stage::Upgrading;
                EventFlags::IN
            }
            Err(_) => EventFlags::OUT,
        };
        let data = EventData::new_u64(index as u64 | u64::from(client.generation) << 32);
        epoll::add(&self.epoll, &socket, data, flags)?;
        client.socket = Some(socket);
        Ok(index)
    }

    /// Opens a connection for each of `auths`, at most `at_once` at a time, and waits until all are authenticated.
    pub fn gather(
        &mut self,
        auths: &[Arc<[u8]>],
        at_once: usize,
        timeout: Duration,
    ) -> Result<(), String> {
        struct LoginCounter {
            active: usize,
            failed: Option<End>,
        }
        impl Listener for LoginCounter {
            fn active(&mut self, _seat: usize) {
                self.active += 1;
            }
            fn text(&mut self, _seat: usize, _payload: &[u8]) {}
            fn ended(&mut self, _seat: usize, how: End) {
                self.failed = Some(how);
            }
        }
        let mut logins = LoginCounter {
            active: 0,
            failed: None,
        };
        let deadline = Instant::now() + timeout;
        let mut opened = 0;
        while logins.active < auths.len() {
            while opened < auths.len() && opened - logins.active < at_once {
                self.open(Arc::clone(&auths[opened]))
                    .map_err(|error| format!("connection {opened}: {error}"))?;
                opened += 1;
            }
            self.poll(Duration::from_millis(100), &mut logins);
            if let Some(end) = &logins.failed {
                return Err(format!("after {} clients: {end:?}", logins.active));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "only {} of {} clients were authenticated in {timeout:?}",
                    logins.active,
                    auths.len()
                ));
            }
        }
        Ok(())
    }

    /// Writes to one client's connection; what does not fit goes out later.
    #[inline]
    pub fn send(&mut self, index: usize, bytes: &[u8]) {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else { return };
        let mut written = 0;
        if client.out.is_empty() {
            match rustix::io::write(socket, bytes) {
                Ok(count) => written = count,
                // A dead connection shows when it is read.
                Err(_) => written = 0,
            }
        }
        if written < bytes.len() {
            let first = client.out.is_empty();
            client.out.extend_from_slice(&bytes[written..]);
            if first {
                self.watch(index, EventFlags::IN | EventFlags::OUT);
            }
        }
    }

    /// Says goodbye; [`Listener::ended`] follows.
    pub fn close(&mut self, index: usize) {
        let frame = wire::masked(wire::CLOSE, &1000_u16.to_be_bytes());
        self.send(index, &frame);
    }

    /// Goes without a word.
    pub fn drop_client(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.socket.take().is_some() {
            client.stage = Stage::Free;
            client.carry = Vec::new();
            client.out = Vec::new();
            self.free.push(index);
        }
    }

    /// Ends all connections with a reset, so that none rests for a minute: thousands of them make it slow to open new ones.
    pub fn reset_all(&mut self) {
        for client in &mut self.clients {
            if let Some(socket) = client.socket.take() {
                // Closed either way.
                let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
            }
        }
    }

    /// How many connections are how far, for a report of what went wrong.
    pub fn stages(&self) -> String {
        let count = |stage| {
            self.clients
                .iter()
                .filter(|client| client.stage == stage)
                .count()
        };
        format!(
            "{} connecting, {} upgrading, {} authenticating",
            count(Stage::Connecting),
            count(Stage::Upgrading),
            count(Stage::Authenticating)
        )
    }

    fn watch(&self, index: usize, flags: EventFlags) {
        let client = &self.clients[index];
        if let Some(socket) = &client.socket {
            let data = EventData::new_u64(index as u64 | u64::from(client.generation) << 32);
            epoll::modify(&self.epoll, socket, data, flags).expect("a socket that was added");
        }
    }

    /// From now on [`ClientPool::poll_aside`] reads this client, and [`ClientPool::poll`] no longer does. It must have nothing to
    /// send: it stands for a listener on another machine, which takes no processor time of the server's.
    pub fn set_aside(&mut self, index: usize) {
        let client = &self.clients[index];
        if let Some(socket) = &client.socket {
            assert!(
                client.out.is_empty(),
                "client {index} has something to send"
            );
            let data = EventData::new_u64(index as u64 | u64::from(client.generation) << 32);
            epoll::delete(&self.epoll, socket).expect("a socket that was added");
            epoll::add(&self.aside, socket, data, EventFlags::IN).expect("a socket");
        }
    }

    /// Waits for something to happen, at most so long, and deals with it.
    pub fn poll(&mut self, timeout: Duration, listener: &mut impl Listener) {
        self.poll_in(false, timeout, listener);
    }

    /// Deals with what has happened to those who were set aside; true if anything had.
    pub fn poll_aside(&mut self, listener: &mut impl Listener) -> bool {
        self.poll_in(true, Duration::ZERO, listener) > 0
    }

    fn poll_in(&mut self, aside: bool, timeout: Duration, listener: &mut impl Listener) -> usize {
        let timeout = Timespec {
            tv_sec: timeout.as_secs() as i64,
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let epoll = if aside { &self.aside } else { &self.epoll };
        match epoll::wait(epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("cannot wait for sockets: {error}"),
        }
        for event in &events {
            let data = { event.data }.u64();
            let (index, generation) = (data as u32 as usize, (data >> 32) as u32);
            let flags = event.flags;
            if self.clients[index].generation != generation || self.clients[index].socket.is_none()
            {
                continue;
            }
            if flags.contains(EventFlags::OUT) {
                self.writable(index);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.readable(index, listener);
            }
        }
        let count = events.len();
        self.events = events;
        count
    }

    fn writable(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(socket) = &client.socket else { return };
        if client.stage == Stage::Connecting {
            client.stage = Stage::Upgrading;
            client.out.splice(0..0, self.request.iter().copied());
        }
        match rustix::io::write(socket, &client.out) {
            Ok(count) => drop(client.out.drain(..count)),
            Err(Errno::AGAIN) => {}
            Err(_) => client.out.clear(),
        }
        if client.out.is_empty() {
            self.watch(index, EventFlags::IN);
        }
    }

    fn readable(&mut self, index: usize, listener: &mut impl Listener) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let client = &mut self.clients[index];
            let Some(socket) = &client.socket else { break };
            let carried = client.carry.len();
            if carried + 4096 > buffer.len() {
                buffer.resize(carried * 2, 0);
            }
            buffer[..carried].copy_from_slice(&client.carry);
            let room = buffer.len() - carried;
            let count = match rustix::io::read(socket, &mut buffer[carried..]) {
                Ok(0) => {
                    self.end(index, listener);
                    break;
                }
                Ok(count) => count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(_) => {
                    self.end(index, listener);
                    break;
                }
            };
            client.carry.clear();
            let bytes = &buffer[..carried + count];
            let used = self.take(index, bytes, listener);
            let client = &mut self.clients[index];
            if client.socket.is_some() && used < bytes.len() {
                client.carry.extend_from_slice(&bytes[used..]);
            }
            if count < room {
                break;
            }
        }
        self.buffer = buffer;
    }

    fn end(&mut self, index: usize, listener: &mut impl Listener) {
        let client = &mut self.clients[index];
        let how = match client.stage {
            Stage::Closing(code) => End::Closed(code),
            Stage::Upgrading if !client.carry.is_empty() => {
                End::Refused(String::from_utf8_lossy(&client.carry).into_owned())
            }
            _ => End::Cut,
        };
        self.drop_client(index);
        listener.ended(index, how);
    }

    /// Deals with what arrived; how much of it was complete.
    #[inline]
    fn take(&mut self, index: usize, bytes: &[u8], listener: &mut impl Listener) -> usize {
        let mut at = 0;
        if self.clients[index].stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
                return 0;
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return 0;
            }
            at = end + 4;
            self.clients[index].stage = Stage::Authenticating;
            let auth = Arc::clone(&self.clients[index].auth);
            self.send(index, &auth);
        }
        while let Some(frame) = wire::parse(&bytes[at..]) {
            at += frame.length;
            match frame.opcode {
                wire::TEXT if self.clients[index].stage == Stage::Active => {
                    listener.text(index, frame.payload);
                }
                wire::TEXT if frame.payload.starts_with(b"{\"type\":\"auth.ok\"") => {
                    self.clients[index].stage = Stage::Active;
                    listener.active(index);
                }
                wire::TEXT => listener.text(index, frame.payload),
                wire::PING => {
                    let pong = wire::masked(wire::PONG, frame.payload);
                    self.send(index, &pong);
                }
                wire::CLOSE => {
                    let code = frame
                        .payload
                        .first_chunk()
                        .map_or(0, |b| u16::from_be_bytes(*b));
                    self.clients[index].stage = Stage::Closing(code);
                }
                _ => {}
            }
        }
        at
    }
}
