//! Lower bounds for the fan-out: bare epoll loops in one thread that forward frames and know nothing else of the protocol.
//! One makes a system call for each frame, the other one for all frames that wait for a socket.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use rustix::process::{Signal, getpid, kill_process};

use super::wire;

/// One write a frame.
pub const SINGLE: &str = "single";
/// One write a socket and round.
pub const BATCHED: &str = "batched";

const LISTENER: u64 = u64::MAX;
const UPGRADE: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct Client {
    socket: OwnedFd,
    input: Vec<u8>,
    out: Vec<u8>,
    upgraded: bool,
    /// What the others get for each event of this client; empty until it has authenticated.
    frame: Vec<u8>,
    waits_for_room: bool,
}

struct Loop {
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    batched: bool,
    touched: Vec<usize>,
}

/// Serves until standard input ends.
pub fn serve(mode: &str) -> ! {
    let ends = std::thread::Builder::new().spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        // The parent has exited; there is nothing to clean up.
        let _ = kill_process(getpid(), Signal::KILL);
    });
    ends.expect("a thread");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    rustix::net::listen(&listener, 4096).expect("listen");
    listener.set_nonblocking(true).expect("non-blocking");
    println!("{}", listener.local_addr().expect("an address").port());
    std::io::stdout().flush().expect("standard output");
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )
    .expect("epoll");
    let mut this = Loop {
        epoll,
        clients: Vec::new(),
        batched: mode == BATCHED,
        touched: Vec::new(),
    };
    let mut events: Vec<Event> = Vec::with_capacity(512);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        events.clear();
        match epoll::wait(&this.epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("cannot wait: {error}"),
        }
        for event in &events {
            let id = { event.data }.u64();
            if id == LISTENER {
                this.accept(&listener);
                continue;
            }
            let flags = event.flags;
            if flags.contains(EventFlags::OUT) {
                this.flush(id as usize);
            }
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                this.read(id as usize, &mut buffer);
            }
        }
        let touched = std::mem::take(&mut this.touched);
        for index in &touched {
            this.flush(*index);
        }
        this.touched = touched;
        this.touched.clear();
    }
}

impl Loop {
    fn accept(&mut self, listener: &TcpListener) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(socket) = rustix::net::accept_with(listener, flags) {
            sockopt::set_tcp_nodelay(&socket, true).expect("an option");
            let data = EventData::new_u64(self.clients.len() as u64);
            epoll::add(&self.epoll, &socket, data, EventFlags::IN).expect("epoll");
            self.clients.push(Some(Client {
                socket,
                input: Vec::new(),
                out: Vec::new(),
                upgraded: false,
                frame: Vec::new(),
                waits_for_room: false,
            }));
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        let count = match rustix::io::read(&client.socket, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(0) | Err(_) => {
                self.clients[index] = None;
                return;
            }
            Ok(count) => count,
        };
        let mut input = std::mem::take(&mut client.input);
        input.extend_from_slice(&buffer[..count]);
        let mut at = 0;
        if !client.upgraded && input.ends_with(b"\r\n\r\n") {
            client.upgraded = true;
            at = input.len();
            self.write(index, UPGRADE);
        }
        while self.clients[index].as_ref().is_some_and(|c| c.upgraded)
            && let Some((opcode, start, end)) = masked_frame(&input[at..])
        {
            let frame = &input[at..at + end];
            at += end;
            if opcode == wire::TEXT {
                self.event(index, &frame[start - 4..start], &frame[start..]);
            }
        }
        input.drain(..at);
        if let Some(client) = &mut self.clients[index] {
            client.input = input;
        }
    }

    fn event(&mut self, index: usize, mask: &[u8], masked: &[u8]) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        if client.frame.is_empty() {
            let text: Vec<u8> = masked
                .iter()
                .zip(mask.iter().cycle())
                .map(|(b, m)| b ^ m)
                .collect();
            let agent = wire::after(&text, b"\"token\":\"")
                .and_then(wire::digits)
                .unwrap_or(0);
            client.frame = frame(&typing(agent));
            let answer = format!("{{\"type\":\"auth.ok\",\"agent_id\":{agent}}}");
            return self.write(index, &frame(&answer));
        }
        let frame = std::mem::take(&mut client.frame);
        for other in 0..self.clients.len() {
            if other == index {
                continue;
            }
            if !self.batched {
                self.write(other, &frame);
            } else if let Some(client) = &mut self.clients[other] {
                if client.out.is_empty() {
                    self.touched.push(other);
                }
                client.out.extend_from_slice(&frame);
            }
        }
        if let Some(client) = &mut self.clients[index] {
            client.frame = frame;
        }
    }

    fn write(&mut self, index: usize, bytes: &[u8]) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        if !client.upgraded {
            return;
        }
        let written = match client.out.is_empty() {
            true => rustix::io::write(&client.socket, bytes).unwrap_or(0),
            false => 0,
        };
        if written < bytes.len() {
            client.out.extend_from_slice(&bytes[written..]);
            self.watch(index);
        }
    }

    fn flush(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        match rustix::io::write(&client.socket, &client.out) {
            Ok(count) if count == client.out.len() => client.out.clear(),
            Ok(count) => drop(client.out.drain(..count)),
            Err(Errno::AGAIN) => {}
            Err(_) => client.out.clear(),
        }
        self.watch(index);
    }

    /// Waits for room exactly while something is left.
    fn watch(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else {
            return;
        };
        if client.waits_for_room == client.out.is_empty() {
            client.waits_for_room = !client.out.is_empty();
            let flags = match client.waits_for_room {
                true => EventFlags::IN | EventFlags::OUT,
                false => EventFlags::IN,
            };
            let data = EventData::new_u64(index as u64);
            epoll::modify(&self.epoll, &client.socket, data, flags).expect("epoll");
        }
    }
}

/// What the daemon would say.
fn typing(agent: u64) -> String {
    format!(
        "{{\"type\":\"chat.typing\",\"scope\":\"channel\",\"channel_id\":50,\"thread_id\":null,\"agent_id\":{agent},\
         \"agent_name\":\"Agent {agent}\"}}"
    )
}

fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..=125 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Opcode, where the payload starts and where it ends.
fn masked_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&[first, second], rest) = bytes.split_first_chunk::<2>()?;
    let (start, length) = match second & 0x7F {
        126 => (8, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => return None,
        length => (6, usize::from(length)),
    };
    (bytes.len() >= start + length).then_some((first & 0x0F, start, start + length))
}
