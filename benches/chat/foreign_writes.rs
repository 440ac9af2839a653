//! Messages that another process writes into the database, messages that a client missed, and the statements that an
//! idle daemon sends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mysql::Conn;
use mysql::prelude::Queryable;
use serde_json::{Value, json};

use super::database::{Database, channel_of};
use super::servers::Contestant;
use super::stats::Times;
use super::wire;

/// Of the channel that is written into.
pub const MEMBERS: u64 = 50;
/// How long an event may take to come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Delays of messages of another writer, from the return of their commit to a member.
pub struct DeliveryDelay {
    pub p50_us: f64,
    pub p99_us: f64,
}

/// What a daemon asks the database in a minute.
pub struct Asked {
    pub queries: f64,
}

/// One client that waits for what it is sent.
struct Client {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    fn connect(
        contestant: &Contestant,
        address: std::net::SocketAddr,
        agent: u64,
        after: Option<u64>,
    ) -> io::Result<Client> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.write_all(&wire::request())?;
        let mut client = Client {
            socket,
            bytes: Vec::new(),
        };
        let head = loop {
            if let Some(end) = client.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            client.read()?;
        };
        client.bytes.drain(..head);
        client
            .socket
            .write_all(&contestant.auth_after(agent, after))?;
        Ok(client)
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        match self.socket.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&buffer[..count]);
                Ok(())
            }
        }
    }

    /// The next event of this kind; others are passed over.
    fn await_event(&mut self, kind: &str) -> io::Result<Value> {
        loop {
            while let Some(frame) = wire::parse(&self.bytes) {
                let event: Option<Value> = (frame.opcode == wire::TEXT)
                    .then(|| serde_json::from_slice(frame.payload).ok())
                    .flatten();
                let length = frame.length;
                self.bytes.drain(..length);
                match event {
                    Some(event) if event["type"] == kind => return Ok(event),
                    _ => {}
                }
            }
            self.read()?;
        }
    }
}

/// Writes messages into the database for `time` as the application does, one after the other, and waits for each.
pub fn write_beside(
    contestant: &Contestant,
    database: &Database,
    time: Duration,
) -> Result<DeliveryDelay, String> {
    let server = contestant.start(database, &[]);
    let mut conn = database.conn();
    let failed = |error: io::Error| error.to_string();
    let mut client = Client::connect(contestant, server.address, 1, None).map_err(failed)?;
    client.await_event("auth.ok").map_err(failed)?;
    let mut times = Times::default();
    let end = Instant::now() + time;
    let mut number = 0_u64;
    while Instant::now() < end {
        // Without it each message would come right behind a look at the database.
        std::thread::sleep(Duration::from_millis(number * 37 % 250));
        number += 1;
        let id = insert(&mut conn, number);
        let committed = Instant::now();
        let event = client
            .await_event("chat.channel.message.created")
            .map_err(failed)?;
        times.add(committed.elapsed());
        if event["message"]["id"] != json!(id) {
            return Err(format!("message {id} was expected, and {event} came"));
        }
    }
    Ok(DeliveryDelay {
        p50_us: times.percentile(0.5),
        p99_us: times.percentile(0.99),
    })
}

/// How long a client that missed `missed` messages waits from its `auth` until it has them all, in seconds.
pub fn come_back(contestant: &Contestant, database: &Database, missed: u64) -> Result<f64, String> {
    let server = contestant.start(database, &[]);
    let mut conn = database.conn();
    let failed = |error: io::Error| error.to_string();
    let last: Option<u64> = conn
        .query_first("SELECT COALESCE(MAX(id), 0) FROM chat_messages")
        .map_err(|error| error.to_string())?;
    let last = last.unwrap_or(0);
    for number in 1..=missed {
        insert(&mut conn, number);
    }
    let begin = Instant::now();
    let mut client = Client::connect(contestant, server.address, 1, Some(last)).map_err(failed)?;
    let mut before = last;
    for _ in 0..missed {
        let event = client
            .await_event("chat.channel.message.created")
            .map_err(failed)?;
        let id = event["message"]["id"].as_u64().unwrap_or(0);
        if id <= before {
            return Err(format!("message {id} came behind {before}"));
        }
        before = id;
    }
    let event = client.await_event("chat.resumed").map_err(failed)?;
    if event["complete"] != true {
        return Err(format!("{event} is not complete"));
    }
    Ok(begin.elapsed().as_secs_f64())
}

/// Counts what a daemon with so many resting sockets asks its database during `time`.
pub fn count_queries(
    contestant: &Contestant,
    database: &Database,
    sockets: u64,
    time: Duration,
) -> Result<Asked, String> {
    let server = contestant.start(database, &[]);
    let mut conn = database.conn();
    let mut clients = Vec::new();
    for agent in 1..=sockets {
        let client = Client::connect(contestant, server.address, agent, None)
            .and_then(|mut client| client.await_event("auth.ok").map(|_| client));
        clients.push(client.map_err(|error| error.to_string())?);
    }
    // The start has its own queries.
    std::thread::sleep(Duration::from_secs(2));
    let (before, since) = (database.status(&mut conn, "Questions"), Instant::now());
    std::thread::sleep(time);
    // The question for the counter is one itself.
    let asked = database.status(&mut conn, "Questions") - before - 1;
    Ok(Asked {
        queries: asked as f64 * 60.0 / since.elapsed().as_secs_f64(),
    })
}

fn insert(conn: &mut Conn, number: u64) -> u64 {
    let body = format!("message {number} of another writer, of ordinary length");
    conn.exec_drop(
        "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, created_at) \
         VALUES ('channel', ?, 2, ?, ?, NOW())",
        (channel_of(MEMBERS), &body, &body),
    )
    .expect("write a message");
    conn.last_insert_id()
}
