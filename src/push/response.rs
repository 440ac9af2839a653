//! The response of a push service: status, `Retry-After`, and the beginning of the body. Reads from any reader and trusts
//! no input.

use std::io::{self, Read};

/// Longest head that is read.
const HEAD_BYTES: usize = 16 * 1024;
/// Longest body that is read to its end; a connection with more waiting is closed.
const BODY_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response {
    /// Three digits.
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// Whether the connection takes another request.
    pub may_go_on: bool,
}

/// Whether a request failed before a byte of an answer came.
pub(super) fn is_unanswered(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
    };
    matches!(
        error.kind(),
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected
    )
}

/// Reads an answer.
///
/// # Errors
/// The connection's, or the answer is not HTTP. An end before the first byte is [`is_unanswered`].
pub(super) fn read(from: &mut impl Read) -> io::Result<Response> {
    let mut reader = ResponseReader {
        from,
        bytes: Vec::new(),
    };
    loop {
        let head = reader.head()?;
        // Interim responses (1xx) come before the answer.
        if head.status >= 200 {
            return Ok(reader.answer(head));
        }
    }
}

struct ResponseHead {
    status: u16,
    retry_after: Option<String>,
    length: BodyLength,
    closes: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Bytes(usize),
    Chunks,
    UntilEnd,
}

#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    is_whole: bool,
}

struct ResponseReader<'a, R> {
    from: &'a mut R,
    bytes: Vec<u8>,
}

impl<R: Read> ResponseReader<'_, R> {
    /// Reads more; at the end of the connection that is an error.
    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 2048];
        let count = match self.from.read(&mut buffer) {
            Ok(count) => count,
            // After the first byte a lost connection is no longer [`is_unanswered`].
            Err(error) if is_unanswered(&error) && !self.bytes.is_empty() => 0,
            Err(error) => return Err(error),
        };
        if count == 0 {
            let kind = match self.bytes.is_empty() {
                true => io::ErrorKind::UnexpectedEof,
                false => io::ErrorKind::InvalidData,
            };
            return Err(io::Error::new(
                kind,
                "the connection ended before the answer did",
            ));
        }
        self.bytes.extend(&buffer[..count]);
        Ok(())
    }

    fn head(&mut self) -> io::Result<ResponseHead> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; HEADERS];
            let mut response = httparse::Response::new(&mut headers);
            let parsed = match self.bytes.is_empty() {
                true => httparse::Status::Partial,
                false => response.parse(&self.bytes).map_err(no_http)?,
            };
            if let httparse::Status::Complete(end) = parsed {
                let head = head_of(&response);
                self.bytes.drain(..end);
                return Ok(head);
            }
            if self.bytes.len() > HEAD_BYTES {
                return Err(no_http("a head without an end"));
            }
            self.more()?;
        }
    }

    /// Reads the rest of an answer. The status is known, so it is an answer whatever happens to the body.
    fn answer(&mut self, head: ResponseHead) -> Response {
        let body = match head.length {
            _ if matches!(head.status, 204 | 304) => self.counted(0),
            BodyLength::Bytes(count) => self.counted(count),
            BodyLength::Chunks => self.chunks(),
            BodyLength::UntilEnd => self.counted(usize::MAX),
        };
        Response {
            status: head.status,
            retry_after: head.retry_after,
            body: body.bytes,
            may_go_on: body.is_whole && !head.closes && self.bytes.is_empty(),
        }
    }

    fn counted(&mut self, count: usize) -> Body {
        let wanted = count.min(BODY_BYTES);
        while self.bytes.len() < wanted && self.more().is_ok() {}
        let end = wanted.min(self.bytes.len());
        let bytes: Vec<u8> = self.bytes.drain(..end).collect();
        Body {
            is_whole: bytes.len() == count,
            bytes,
        }
    }

    fn chunks(&mut self) -> Body {
        let mut body = Body::default();
        while body.bytes.len() <= BODY_BYTES && !body.is_whole {
            let Some(chunk) = self.chunk() else {
                break;
            };
            body.is_whole = chunk.is_empty();
            body.bytes.extend(chunk);
        }
        body
    }

    /// The next chunk, empty at the end.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let (start, size) = loop {
            match httparse::parse_chunk_size(&self.bytes) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) if self.bytes.len() <= BODY_BYTES => {
                    self.more().ok()?;
                }
                _ => return None,
            }
        };
        self.bytes.drain(..start);
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= BODY_BYTES)?;
        // Trailers, which are not used in practice, would hide the end: the connection is closed then.
        while self.bytes.len() < size + 2 {
            self.more().ok()?;
        }
        let chunk = self.bytes.drain(..size).collect();
        let end: Vec<u8> = self.bytes.drain(..2).collect();
        (end == b"\r\n").then_some(chunk)
    }
}

fn head_of(response: &httparse::Response<'_, '_>) -> ResponseHead {
    let values = |name: &str| {
        response
            .headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .map(str::trim)
            .collect::<Vec<_>>()
    };
    let length = match (
        values("transfer-encoding").last(),
        values("content-length").first(),
    ) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => BodyLength::Chunks,
        (None, Some(count)) => count
            .parse()
            .map_or(BodyLength::UntilEnd, BodyLength::Bytes),
        _ => BodyLength::UntilEnd,
    };
    let closes = values("connection")
        .iter()
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("close"));
    ResponseHead {
        status: response.code.unwrap_or_default(),
        retry_after: values("retry-after").first().map(|text| (*text).to_owned()),
        length,
        closes: closes || response.version != Some(1),
    }
}

fn no_http(why: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("expected an HTTP answer: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every place where a packet may end is tried.
    struct Drop(Vec<u8>, usize);

    impl Read for Drop {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(byte) = self.0.get(self.1) else {
                return Ok(0);
            };
            buffer[0] = *byte;
            self.1 += 1;
            Ok(1)
        }
    }

    fn of(text: &str) -> io::Result<Response> {
        let whole = read(&mut text.as_bytes());
        let drops = read(&mut Drop(text.as_bytes().to_vec(), 0));
        match (&whole, &drops) {
            (Ok(one), Ok(other)) => assert_eq!(one.body, other.body),
            (one, other) => assert_eq!(one.is_err(), other.is_err()),
        }
        drops
    }

    fn good(text: &str) -> (u16, String, bool) {
        let answer = of(text).expect(text);
        let body = String::from_utf8(answer.body).expect("UTF-8");
        (answer.status, body, answer.may_go_on)
    }

    #[test]
    fn a_body_ends_where_it_says() {
        for (text, body, may_go_on) in [
            (
                "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
                "",
                true,
            ),
            (
                "HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhello",
                "hello",
                true,
            ),
            (
                "HTTP/1.1 201 X\r\nContent-Length: 5\r\nConnection: TE, Close\r\n\r\nhello",
                "hello",
                false,
            ),
            (
                "HTTP/1.0 201 X\r\nContent-Length: 5\r\n\r\nhello",
                "hello",
                false,
            ),
            (
                "HTTP/1.1 201 X\r\nContent-Length: 9\r\n\r\nhello",
                "hello",
                false,
            ),
            ("HTTP/1.1 201 X\r\n\r\nhello", "hello", false),
            (
                "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
                "hello",
                true,
            ),
            (
                "HTTP/1.1 201 X\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
                "hello",
                false,
            ),
            (
                "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                "",
                false,
            ),
            (
                "HTTP/1.1 201 X\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
                "",
                false,
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\nhi",
                "hi",
                true,
            ),
        ] {
            assert_eq!(good(text), (201, body.to_owned(), may_go_on), "{text:?}");
        }
        assert_eq!(
            good("HTTP/1.1 204 No Content\r\n\r\n"),
            (204, String::new(), true)
        );
    }

    #[test]
    fn more_than_was_announced_ends_the_connection() {
        let answer = read(&mut &b"HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\nhi there"[..]);
        assert!(!answer.expect("an answer").may_go_on);
    }

    #[test]
    fn when_to_come_back_is_passed_on() {
        let answer = of("HTTP/1.1 429 Slow down\r\nretry-AFTER:  7 \r\nContent-Length: 0\r\n\r\n");
        assert_eq!(answer.expect("an answer").retry_after.as_deref(), Some("7"));
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_silence_is_told_apart() {
        assert!(is_unanswered(&of("").expect_err("nothing")));
        let endless = format!("HTTP/1.1 201 X\r\nA: {}", "x".repeat(40_000));
        for text in ["HTTP/1.1 20", "SSH-2.0-x\r\n", "\u{0}", &endless] {
            let error = of(text).expect_err(text);
            assert!(!is_unanswered(&error), "{error}");
        }
    }
}
