//! The little of Redis' protocol (RESP 2) that the bus and the helpdesk's query cache need. Written by hand for its
//! limits: a client library accepts whatever the server sends, and a publisher can make it send 512 MB.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Instant;

use crate::platform::net::{self, Wire};

/// Longest line of an answer, in bytes; the bytes of a bulk string do not count.
const LINE_BYTES: u64 = 1024;
/// Longest list; a message of a channel has three parts.
const LIST_LENGTH: usize = 8;
/// Most characters of an error's text that are shown.
const ERROR_CHARS: usize = 100;

/// Address of a server, and the user who logs in.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct RedisAddress {
    /// A name or an address; IPv6 in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `None`: the server's default user.
    pub user: Option<String>,
    /// `None`: without authentication.
    pub password: Option<String>,
    /// Number of the database.
    pub database: i64,
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// What a server answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A simple or a bulk string.
    Text(Vec<u8>),
    /// A number.
    Number(i64),
    /// No value.
    Nothing,
    /// A text that was too long to be kept.
    TooLong,
    /// Several of these.
    List(Vec<Reply>),
}

/// A connection to a server.
pub(crate) struct RedisConnection {
    input: BufReader<Wire>,
    largest: usize,
}

impl RedisConnection {
    /// Connects and authenticates until `deadline`. A text above `largest` bytes is discarded.
    ///
    /// # Errors
    /// The server cannot be reached, or refuses.
    pub(crate) fn open(
        address: &RedisAddress,
        largest: usize,
        deadline: Instant,
    ) -> io::Result<Self> {
        let socket = net::connect(&address.host, address.port, net::left(deadline)?)?;
        socket.set_nodelay(true)?;
        let input = BufReader::new(Wire { socket, deadline });
        let mut connection = RedisConnection { input, largest };
        if let Some(password) = &address.password {
            let user = address.user.as_deref();
            let words = ["AUTH"].into_iter().chain(user).chain([password.as_str()]);
            let words: Vec<&[u8]> = words.map(str::as_bytes).collect();
            connection.call(&words, deadline)?;
        }
        if address.database > 0 {
            let database = address.database.to_string();
            connection.call(&[b"SELECT", database.as_bytes()], deadline)?;
        }
        Ok(connection)
    }

    /// Sends a command, and returns its answer.
    ///
    /// # Errors
    /// The connection's, the server's, or `TimedOut`.
    pub(crate) fn call(&mut self, words: &[&[u8]], deadline: Instant) -> io::Result<Reply> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            command.extend(format!("${}\r\n", word.len()).into_bytes());
            command.extend(*word);
            command.extend(b"\r\n");
        }
        let wire = self.input.get_mut();
        wire.deadline = deadline;
        wire.write_all(&command)?;
        self.reply(deadline)
    }

    /// The server's next reply.
    ///
    /// # Errors
    /// As of [`RedisConnection::call`].
    pub(crate) fn reply(&mut self, deadline: Instant) -> io::Result<Reply> {
        self.input.get_mut().deadline = deadline;
        read(&mut self.input, self.largest, true)
    }
}

fn read(input: &mut impl BufRead, largest: usize, may_be_list: bool) -> io::Result<Reply> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LINE_BYTES)
        .read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let Some((kind, rest)) = line
        .strip_suffix(b"\r\n")
        .and_then(|line| line.split_first())
    else {
        return Err(unexpected());
    };
    let text = String::from_utf8_lossy(rest);
    match kind {
        b'+' => Ok(Reply::Text(rest.to_vec())),
        b'-' => {
            let words: String = text.escape_debug().take(ERROR_CHARS).collect();
            Err(io::Error::other(format!("the server answers {words:?}")))
        }
        b':' => text.parse().map(Reply::Number).map_err(|_| unexpected()),
        b'$' | b'*' if text == "-1" => Ok(Reply::Nothing),
        b'$' => {
            let length = length(&text, usize::MAX - 2)?;
            if length > largest {
                let rest = length as u64 + 2;
                return match io::copy(&mut input.by_ref().take(rest), &mut io::sink())? {
                    all if all == rest => Ok(Reply::TooLong),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
            let mut bytes = vec![0; length + 2];
            input.read_exact(&mut bytes)?;
            bytes.truncate(length);
            Ok(Reply::Text(bytes))
        }
        b'*' if may_be_list => {
            let length = length(&text, LIST_LENGTH)?;
            let parts = (0..length).map(|_| read(input, largest, false));
            parts.collect::<io::Result<_>>().map(Reply::List)
        }
        _ => Err(unexpected()),
    }
}

fn length(text: &str, largest: usize) -> io::Result<usize> {
    let length = text.parse().ok().filter(|length| *length <= largest);
    length.ok_or_else(|| io::Error::other(format!("the server sends more than {largest} at once")))
}

fn unexpected() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "what answers is no Redis, or a broken one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mut bytes: &[u8]) -> io::Result<Reply> {
        read(&mut bytes, 100, true)
    }

    #[test]
    fn what_a_server_says_is_read() {
        let text = |text: &str| Reply::Text(text.as_bytes().to_vec());
        for (bytes, reply) in [
            ("+OK\r\n", text("OK")),
            (":-7\r\n", Reply::Number(-7)),
            ("$-1\r\n", Reply::Nothing),
            ("$4\r\n\r\n\r\n\r\n", text("\r\n\r\n")),
            (
                "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n",
                Reply::List(vec![text("message"), text("c"), Reply::Number(1)]),
            ),
        ] {
            assert_eq!(of(bytes.as_bytes()).expect(bytes), reply);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_passed_over() {
        let long = format!("*2\r\n$101\r\n{}\r\n+OK\r\n", "x".repeat(101));
        let reply = Reply::List(vec![Reply::TooLong, Reply::Text(b"OK".to_vec())]);
        assert_eq!(of(long.as_bytes()).expect("a list"), reply);
    }

    #[test]
    fn what_is_too_much_or_no_answer_is_an_error_and_takes_no_room() {
        let line = format!("+{}\r\n", "x".repeat(5000));
        for bytes in [
            "",
            "\r\n",
            "+OK",
            "HTTP/1.1 400 Bad Request\r\n",
            ":x\r\n",
            "$-2\r\n",
            "$536870912\r\nx",
            "$99999999999999999999\r\n",
            "$3\r\nab",
            "*9\r\n",
            "*2147483647\r\n",
            "*1\r\n*1\r\n*1\r\n",
            &line,
        ] {
            assert!(of(bytes.as_bytes()).is_err(), "{bytes:?}");
        }
        let refused = of(b"-ERR \x1b[31m no\xff\r\n").expect_err("an error");
        assert!(!refused.to_string().contains('\u{1b}'), "{refused}");
    }
}
