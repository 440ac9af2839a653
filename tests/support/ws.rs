//! A raw client: bytes over TCP, arbitrary handshakes and WebSocket frames. It uses no WebSocket library, since no library
//! would send half of what the tests send.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::json::Json;
use super::jwt;
use super::wait;
use super::watch::Watch;

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// The request of RFC 6455's own example; `ACCEPT` is the answer to its key.
pub const REQUEST: &str = "GET /ws/chat HTTP/1.1\r\nHost: helpdesk.example.test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What went wrong on a connection, and what had gone over it until then.
pub struct Fault {
    pub what: String,
    transcript: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.what)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}; the connection until then:", self.what)?;
        for line in &self.transcript {
            writeln!(out, "    {line}")?;
        }
        Ok(())
    }
}

pub type Outcome<T> = Result<T, Fault>;

/// A frame to send, by default a whole, masked text frame with the shortest length form.
#[derive(Clone, Debug)]
pub struct FrameSpec {
    pub opcode: u8,
    pub fin: bool,
    pub rsv: u8,
    pub mask: bool,
    /// 7, 16 or 64 bits; none: as the length asks.
    pub length_form: Option<u8>,
    /// What the header says; none: the truth.
    pub claimed_length: Option<u64>,
    pub payload: Vec<u8>,
}

impl FrameSpec {
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> FrameSpec {
        FrameSpec {
            opcode,
            fin: true,
            rsv: 0,
            mask: true,
            length_form: None,
            claimed_length: None,
            payload: payload.into(),
        }
    }

    pub fn text(text: &str) -> FrameSpec {
        FrameSpec::new(TEXT, text)
    }

    pub fn encode(&self) -> Vec<u8> {
        let length = self.claimed_length.unwrap_or(self.payload.len() as u64);
        let form = self.length_form.unwrap_or(match length {
            0..=125 => 7,
            126..=0xffff => 16,
            _ => 64,
        });
        let mask_bit = if self.mask { 0x80 } else { 0 };
        let first = u8::from(self.fin) << 7 | self.rsv << 4 | self.opcode;
        let mut bytes = vec![first];
        match form {
            7 => bytes.push(mask_bit | (length as u8 & 0x7f)),
            16 => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            64 => {
                bytes.push(mask_bit | 127);
                bytes.extend(length.to_be_bytes());
            }
            other => panic!("no length has {other} bits"),
        }
        if self.mask {
            // Any mask will do; one without zeros shows when it is not undone.
            let mask = [0x5a, 0xc3, 0x1e, 0x97];
            bytes.extend(mask);
            let masked = self.payload.iter().zip(mask.iter().cycle());
            bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    pub first_byte: u8,
    pub masked: bool,
    /// 7, 16 or 64.
    pub length_bits: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn opcode(&self) -> u8 {
        self.first_byte & 0x0f
    }

    /// Takes a frame off the front of `bytes` once it is there whole.
    pub fn decode(bytes: &mut Vec<u8>) -> Option<Frame> {
        let (&first_byte, &second) = (bytes.first()?, bytes.get(1)?);
        let masked = second & 0x80 != 0;
        let (length_bits, mut header, length) = match second & 0x7f {
            126 => {
                let field = bytes.get(2..4)?.try_into().expect("two bytes");
                (16, 4, usize::from(u16::from_be_bytes(field)))
            }
            127 => {
                let field = bytes.get(2..10)?.try_into().expect("eight bytes");
                let length = usize::try_from(u64::from_be_bytes(field));
                (64, 10, length.expect("a length that fits this machine"))
            }
            short => (7, 2, usize::from(short)),
        };
        let mask = masked.then(|| bytes.get(header..header + 4).map(<[u8]>::to_vec));
        let mask = match mask {
            Some(None) => return None,
            Some(Some(mask)) => {
                header += 4;
                mask
            }
            None => vec![0],
        };
        let payload = bytes.get(header..header.checked_add(length)?)?;
        let unmasked = payload.iter().zip(mask.iter().cycle());
        let payload = unmasked.map(|(byte, mask)| byte ^ mask).collect();
        bytes.drain(..header + length);
        Some(Frame {
            first_byte,
            masked,
            length_bits,
            payload,
        })
    }

    /// The text of a text frame.
    pub fn text(&self) -> Option<&str> {
        (self.opcode() == TEXT).then(|| std::str::from_utf8(&self.payload).ok())?
    }

    /// The JSON of a text frame.
    pub fn json(&self) -> Option<Json> {
        Json::parse(self.text()?).ok()
    }

    /// The code of a close frame; 1005, as RFC 6455 counts it, where it has none.
    pub fn close_code(&self) -> Option<u16> {
        (self.opcode() == CLOSE).then(|| match self.payload[..] {
            [high, low, ..] => u16::from_be_bytes([high, low]),
            _ => 1005,
        })
    }

    fn describe(&self) -> String {
        match (self.opcode(), self.text(), self.close_code()) {
            (_, Some(text), _) => shorten(text),
            (_, _, Some(code)) => format!("close {code}"),
            (opcode, ..) => format!("opcode {opcode}, {} bytes", self.payload.len()),
        }
    }
}

fn shorten(text: &str) -> String {
    const ENOUGH: usize = 400;
    if text.chars().count() <= ENOUGH {
        return text.to_owned();
    }
    let start: String = text.chars().take(ENOUGH).collect();
    format!("{start}… ({} bytes)", text.len())
}

/// What came over a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Frame(Frame),
    /// The end of the TCP connection, by end of stream or reset.
    End,
}

/// How the server ended a connection: the code of its close frame, none if it sent none.
pub type Closed = Option<u16>;

/// The head of an HTTP response, and nothing of what follows it.
#[derive(Clone, Debug)]
pub struct Response {
    pub status_line: String,
    pub headers: Vec<(String, String)>,
}

impl Response {
    pub fn status(&self) -> u16 {
        let word = self.status_line.split(' ').nth(1);
        word.and_then(|w| w.parse().ok()).unwrap_or(0)
    }

    /// The values under a header's name, which has no case.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// A TCP connection to the daemon, before, during and after the upgrade.
pub struct Client {
    stream: TcpStream,
    /// What came and was not yet asked for.
    unread: Vec<u8>,
    ended: bool,
    closed: Closed,
    pings_wanted: u32,
    transcript: Vec<String>,
    /// Holds all text frames, in and out, to the protocol's document.
    watch: Watch,
    /// How long to wait for what should come.
    pub limit: Duration,
}

impl Client {
    /// Connects, and sends nothing.
    pub fn open(port: u16) -> Client {
        Client::open_at(&format!("127.0.0.1:{port}"))
    }

    /// The same at `host:port`, an IPv6 address in brackets.
    pub fn open_at(address: &str) -> Client {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|e| panic!("connect to {address}: {e}"));
        Client::of(stream)
    }

    /// On a connection that is there.
    pub fn of(stream: TcpStream) -> Client {
        stream
            .set_nodelay(true)
            .expect("switch Nagle's algorithm off");
        Client {
            stream,
            unread: Vec::new(),
            ended: false,
            closed: None,
            pings_wanted: 0,
            transcript: Vec::new(),
            watch: Watch::default(),
            limit: wait::LIMIT,
        }
    }

    /// Connects and upgrades.
    pub fn connect(port: u16) -> Outcome<Client> {
        Client::open(port).upgrade()
    }

    /// Sends the request to upgrade.
    pub fn upgrade(mut self) -> Outcome<Client> {
        self.write(REQUEST.as_bytes());
        let response = self.response()?;
        if response.status() == 101 {
            Ok(self)
        } else {
            Err(self.fault(format!("refused: {}", response.status_line)))
        }
    }

    /// Connects, upgrades and authenticates.
    pub fn login(port: u16, agent_id: i64) -> Outcome<Client> {
        let mut client = Client::connect(port)?;
        client.auth(agent_id)?;
        Ok(client)
    }

    pub fn fault(&self, what: String) -> Fault {
        Fault {
            what,
            transcript: self.transcript.clone(),
        }
    }

    /// Sends bytes. A connection that the server has closed swallows them: what that means is seen on reading.
    pub fn write(&mut self, bytes: &[u8]) {
        self.watch.write(bytes);
        if self.stream.write_all(bytes).is_err() {
            self.transcript.push("(write failed)".to_owned());
        }
    }

    /// The same without the check against the document: a flood's sender must not be busier than the daemon.
    pub fn write_unwatched(&mut self, bytes: &[u8]) {
        if self.stream.write_all(bytes).is_err() {
            self.transcript.push("(write failed)".to_owned());
        }
    }

    pub fn send_frame(&mut self, frame: &FrameSpec) {
        let text = String::from_utf8_lossy(&frame.payload).into_owned();
        let kind = match (frame.opcode, frame.fin) {
            (TEXT, true) => String::new(),
            (opcode, fin) => format!("(opcode {opcode}, fin {fin}) "),
        };
        self.transcript.push(format!("> {kind}{}", shorten(&text)));
        self.write(&frame.encode());
    }

    /// Sends a text frame.
    pub fn send(&mut self, text: &str) {
        self.send_frame(&FrameSpec::text(text));
    }

    /// Sends a close frame.
    pub fn send_close(&mut self, code: u16) {
        self.send_frame(&FrameSpec::new(CLOSE, code.to_be_bytes()));
    }

    /// Where it comes from, as the service sees it.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a local address")
    }

    /// Shrinks the kernel's receive buffer, so that little arrives while the test does not read.
    pub fn shrink_receive_buffer(&self) {
        rustix::net::sockopt::set_socket_recv_buffer_size(&self.stream, 4096)
            .expect("set the receive buffer");
    }

    /// Ends the connection without a word.
    pub fn hang_up(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Says that nothing more will be sent; what the server sends can still be read.
    pub fn finish_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The head of the response to a request; what came behind it stays for `body` or `next`.
    pub fn response(&mut self) -> Outcome<Response> {
        let deadline = Instant::now() + self.limit;
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break end;
            }
            if !self.fill(deadline)? {
                let got = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(self.fault(format!("the connection ended inside a response: {got:?}")));
            }
        };
        let head = String::from_utf8_lossy(&self.unread[..end]).into_owned();
        self.unread.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default().to_owned();
        self.transcript.push(format!("< {status_line}"));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.to_owned(), value.trim().to_owned())
        });
        let response = Response {
            status_line,
            headers: headers.collect(),
        };
        if response.status() == 101 {
            self.watch.upgraded();
        }
        Ok(response)
    }

    /// Everything up to the end of the connection.
    pub fn rest(&mut self) -> Outcome<Vec<u8>> {
        let deadline = Instant::now() + self.limit;
        while self.fill(deadline)? {}
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads some more; false at the end of the connection.
    fn fill(&mut self, deadline: Instant) -> Outcome<bool> {
        if self.ended {
            return Ok(false);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.fault(format!("nothing came within {:?}", self.limit)));
        }
        let timeout = self.stream.set_read_timeout(Some(left));
        timeout.map_err(|e| self.fault(format!("set the read timeout: {e}")))?;
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.unread.extend(&buffer[..count]),
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    return Err(self.fault(format!("nothing came within {:?}", self.limit)));
                }
                io::ErrorKind::Interrupted => {}
                // A server that closes while we are still sending makes a reset of it.
                _ => self.ended = true,
            },
        }
        if self.ended {
            self.transcript.push("< (end of the connection)".to_owned());
        }
        Ok(!self.ended)
    }

    /// The next frame. Pings are answered and passed over, unless asked for.
    pub fn next(&mut self) -> Outcome<Event> {
        let deadline = Instant::now() + self.limit;
        loop {
            let frame = loop {
                if let Some(frame) = Frame::decode(&mut self.unread) {
                    break frame;
                }
                if !self.fill(deadline)? {
                    return Ok(Event::End);
                }
            };
            self.transcript.push(format!("< {}", frame.describe()));
            if frame.masked {
                return Err(self.fault("a masked frame from the server".to_owned()));
            }
            if let Some(code) = frame.close_code() {
                self.closed = Some(code);
            }
            if frame.opcode() == TEXT
                && let Err(complaint) = self.watch.receive(&String::from_utf8_lossy(&frame.payload))
            {
                // Louder than a fault, which some tests take for the end of a connection.
                panic!("{:?}", self.fault(complaint));
            }
            if frame.opcode() != PING {
                return Ok(Event::Frame(frame));
            }
            self.send_frame(&FrameSpec::new(PONG, frame.payload.clone()));
            if self.pings_wanted > 0 {
                self.pings_wanted -= 1;
                return Ok(Event::Frame(frame));
            }
        }
    }

    /// Makes `next` show the next WebSocket ping of the server too.
    pub fn show_next_ping(&mut self) {
        self.pings_wanted += 1;
    }

    /// The next frame, as JSON.
    pub fn next_json(&mut self) -> Outcome<Json> {
        match self.next()? {
            Event::Frame(frame) => match frame.json() {
                Some(json) => Ok(json),
                None => Err(self.fault(format!("expected JSON, found {}", frame.describe()))),
            },
            Event::End => Err(self.fault("expected JSON, found the end".to_owned())),
        }
    }

    /// The next event of this type; others before it are passed over.
    pub fn until_type(&mut self, kind: &str) -> Outcome<Json> {
        loop {
            let json = self.next_json()?;
            if json.get("type").and_then(Json::str) == Some(kind) {
                return Ok(json);
            }
        }
    }

    /// Authenticates, and returns the `auth.ok`. Events of others may come before it.
    pub fn auth(&mut self, agent_id: i64) -> Outcome<Json> {
        let event = Json::object([
            ("type", "auth".into()),
            ("token", jwt::good(agent_id).into()),
        ]);
        self.send(&event.to_string());
        self.until_type("auth.ok")
    }

    /// Sends a ping event and returns what came before its answer: by then everything that the service had
    /// done for this socket has arrived. Known by its `ref`, so a pong that is under test is not taken for it.
    /// The second value says how the connection ended, if it did so instead of answering.
    pub fn ping_barrier(&mut self) -> Outcome<(Vec<Frame>, Option<Closed>)> {
        let mark = format!("barrier {}", self.transcript.len());
        let ping = Json::object([("type", "ping".into()), ("ref", mark.as_str().into())]);
        self.send(&ping.to_string());
        self.collect_until(|frame| {
            let json = frame.json();
            json.and_then(|json| Some(json.get("ref")?.str()? == mark)) == Some(true)
        })
    }

    /// Everything up to the end of the connection, and how it ended.
    pub fn until_end(&mut self) -> Outcome<(Vec<Frame>, Closed)> {
        let (frames, closed) = self.collect_until(|_| false)?;
        Ok((frames, closed.expect("nothing else ends this")))
    }

    fn collect_until(
        &mut self,
        mut is_last: impl FnMut(&Frame) -> bool,
    ) -> Outcome<(Vec<Frame>, Option<Closed>)> {
        let mut frames = Vec::new();
        loop {
            match self.next()? {
                Event::End => return Ok((frames, Some(self.closed))),
                Event::Frame(frame) if frame.opcode() == CLOSE => {}
                Event::Frame(frame) if is_last(&frame) => return Ok((frames, None)),
                Event::Frame(frame) => frames.push(frame),
            }
        }
    }
}
