//! Thousands of clients in one thread: one epoll instance, one read buffer, frames looked at where they lie.

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
    fn text(&mut self, seat: usize, payload: &[u8]);
    /// The connection is gone, other than by [`Crowd::drop_client`].
    fn ended(&mut self, seat: usize, how: End);
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

struct Seat {
    socket: Option<OwnedFd>,
    /// Tells events of an earlier connection in this seat from those of the present one.
    generation: u32,
    stage: Stage,
    /// The start of a frame that is not complete.
    carry: Vec<u8>,
    /// What the socket did not take yet.
    out: Vec<u8>,
    auth: Arc<[u8]>,
}

/// Many clients of one server.
pub struct Crowd {
    epoll: OwnedFd,
    /// Those who are looked at now and then, see [`Crowd::set_aside`].
    aside: OwnedFd,
    server: SocketAddr,
    seats: Vec<Seat>,
    free: Vec<usize>,
    opened: u32,
    first_source: u32,
    buffer: Vec<u8>,
    events: Vec<Event>,
    request: Vec<u8>,
}

impl Crowd {
    /// Nobody yet. Crowds that run at the same time differ in `source_block`, so that they share no port.
    pub fn new(server: SocketAddr, source_block: u32) -> io::Result<Crowd> {
        Ok(Crowd {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            aside: epoll::create(CreateFlags::CLOEXEC)?,
            server,
            seats: Vec::new(),
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
            self.seats.push(Seat {
                socket: None,
                generation: 0,
                stage: Stage::Free,
                carry: Vec::new(),
                out: Vec::new(),
                auth: Arc::clone(&auth),
            });
            self.seats.len() - 1
        });
        let seat = &mut self.seats[index];
        seat.generation = seat.generation.wrapping_add(1);
        seat.stage = Stage::Connecting;
        seat.auth = auth;
        // On the loopback the connection usually stands already.
        let flags = match rustix::io::write(&socket, &self.request) {
            Ok(_) => {
                seat.stage = Stage::Upgrading;
                EventFlags::IN
            }
            Err(_) => EventFlags::OUT,
        };
        let data = EventData::new_u64(index as u64 | u64::from(seat.generation) << 32);
        epoll::add(&self.epoll, &socket, data, flags)?;
        seat.socket = Some(socket);
        Ok(index)
    }

    /// Opens a connection for each of `auths`, at most `at_once` at a time, and waits until all are authenticated.
    pub fn gather(
        &mut self,
        auths: &[Arc<[u8]>],
        at_once: usize,
        patience: Duration,
    ) -> Result<(), String> {
        struct Gathering {
            active: usize,
            failed: Option<End>,
        }
        impl Listener for Gathering {
            fn active(&mut self, _seat: usize) {
                self.active += 1;
            }
            fn text(&mut self, _seat: usize, _payload: &[u8]) {}
            fn ended(&mut self, _seat: usize, how: End) {
                self.failed = Some(how);
            }
        }
        let mut gathering = Gathering {
            active: 0,
            failed: None,
        };
        let deadline = Instant::now() + patience;
        let mut opened = 0;
        while gathering.active < auths.len() {
            while opened < auths.len() && opened - gathering.active < at_once {
                self.open(Arc::clone(&auths[opened]))
                    .map_err(|error| format!("connection {opened}: {error}"))?;
                opened += 1;
            }
            self.poll(Duration::from_millis(100), &mut gathering);
            if let Some(end) = &gathering.failed {
                return Err(format!("after {} clients: {end:?}", gathering.active));
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "only {} of {} clients were authenticated in {patience:?}",
                    gathering.active,
                    auths.len()
                ));
            }
        }
        Ok(())
    }

    /// Writes to one client's connection; what does not fit goes out later.
    #[inline]
    pub fn send(&mut self, index: usize, bytes: &[u8]) {
        let seat = &mut self.seats[index];
        let Some(socket) = &seat.socket else { return };
        let mut written = 0;
        if seat.out.is_empty() {
            match rustix::io::write(socket, bytes) {
                Ok(count) => written = count,
                // A dead connection shows when it is read.
                Err(_) => written = 0,
            }
        }
        if written < bytes.len() {
            let first = seat.out.is_empty();
            seat.out.extend_from_slice(&bytes[written..]);
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
        let seat = &mut self.seats[index];
        if seat.socket.take().is_some() {
            seat.stage = Stage::Free;
            seat.carry = Vec::new();
            seat.out = Vec::new();
            self.free.push(index);
        }
    }

    fn watch(&self, index: usize, flags: EventFlags) {
        let seat = &self.seats[index];
        if let Some(socket) = &seat.socket {
            let data = EventData::new_u64(index as u64 | u64::from(seat.generation) << 32);
            epoll::modify(&self.epoll, socket, data, flags).expect("a socket that was added");
        }
    }

    /// From now on [`Crowd::poll_aside`] looks at this client, and [`Crowd::poll`] no more. It must have nothing to send:
    /// who only listens, on a machine of his own, takes no time of the server's, and wakes nobody here.
    pub fn set_aside(&mut self, index: usize) {
        let seat = &self.seats[index];
        if let Some(socket) = &seat.socket {
            assert!(seat.out.is_empty(), "client {index} has something to send");
            let data = EventData::new_u64(index as u64 | u64::from(seat.generation) << 32);
            epoll::delete(&self.epoll, socket).expect("a socket that was added");
            epoll::add(&self.aside, socket, data, EventFlags::IN).expect("a socket");
        }
    }

    /// Waits for something to happen, at most so long, and deals with it.
    pub fn poll(&mut self, patience: Duration, listener: &mut impl Listener) {
        self.poll_in(false, patience, listener);
    }

    /// Deals with what has happened to those who were set aside; true if anything had.
    pub fn poll_aside(&mut self, listener: &mut impl Listener) -> bool {
        self.poll_in(true, Duration::ZERO, listener) > 0
    }

    fn poll_in(&mut self, aside: bool, patience: Duration, listener: &mut impl Listener) -> usize {
        let timeout = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: i64::from(patience.subsec_nanos()),
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
            if self.seats[index].generation != generation || self.seats[index].socket.is_none() {
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
        let seat = &mut self.seats[index];
        let Some(socket) = &seat.socket else { return };
        if seat.stage == Stage::Connecting {
            seat.stage = Stage::Upgrading;
            seat.out.splice(0..0, self.request.iter().copied());
        }
        match rustix::io::write(socket, &seat.out) {
            Ok(count) => drop(seat.out.drain(..count)),
            Err(Errno::AGAIN) => {}
            Err(_) => seat.out.clear(),
        }
        if seat.out.is_empty() {
            self.watch(index, EventFlags::IN);
        }
    }

    fn readable(&mut self, index: usize, listener: &mut impl Listener) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let seat = &mut self.seats[index];
            let Some(socket) = &seat.socket else { break };
            let carried = seat.carry.len();
            if carried + 4096 > buffer.len() {
                buffer.resize(carried * 2, 0);
            }
            buffer[..carried].copy_from_slice(&seat.carry);
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
            seat.carry.clear();
            let bytes = &buffer[..carried + count];
            let used = self.take(index, bytes, listener);
            let seat = &mut self.seats[index];
            if seat.socket.is_some() && used < bytes.len() {
                seat.carry.extend_from_slice(&bytes[used..]);
            }
            if count < room {
                break;
            }
        }
        self.buffer = buffer;
    }

    fn end(&mut self, index: usize, listener: &mut impl Listener) {
        let seat = &mut self.seats[index];
        let how = match seat.stage {
            Stage::Closing(code) => End::Closed(code),
            Stage::Upgrading if !seat.carry.is_empty() => {
                End::Refused(String::from_utf8_lossy(&seat.carry).into_owned())
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
        if self.seats[index].stage == Stage::Upgrading {
            let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else {
                return 0;
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return 0;
            }
            at = end + 4;
            self.seats[index].stage = Stage::Authenticating;
            let auth = Arc::clone(&self.seats[index].auth);
            self.send(index, &auth);
        }
        while let Some(frame) = wire::parse(&bytes[at..]) {
            at += frame.length;
            match frame.opcode {
                wire::TEXT if self.seats[index].stage == Stage::Active => {
                    listener.text(index, frame.payload);
                }
                wire::TEXT if frame.payload.starts_with(b"{\"type\":\"auth.ok\"") => {
                    self.seats[index].stage = Stage::Active;
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
                    self.seats[index].stage = Stage::Closing(code);
                }
                _ => {}
            }
        }
        at
    }
}
