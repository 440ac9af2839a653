//! A look at the service from outside: a handshake as a browser makes it, and one event, whose answer is known
//! without a token. TLS is left to the program `openssl`, which nearly every web server's machine has: a TLS library
//! in this binary would serve this one look alone.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::connection::client::{Answer, first_text, judge, request, text_frame};
use crate::net;

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer to these requests has.
const MAX_ANSWER: usize = 64 * 1024;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS comes first.
    pub secure: bool,
    /// As in the URL; an IPv6 address has its brackets.
    pub host: String,
    /// As in the URL, or the scheme's.
    pub port: u16,
    /// With its query.
    pub path: String,
}

impl Url {
    /// From `ws://`, `wss://`, `http://` or `https://`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| format!("{text:?} is no URL; give one such as wss://HOST/ws/chat"))?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(format!("{scheme}:// is not ws, wss, http or https")),
        };
        let rest = rest.split('#').next().unwrap_or(rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = match authority.rfind(':') {
            Some(colon) if !authority[colon..].contains(']') => {
                (&authority[..colon], Some(&authority[colon + 1..]))
            }
            _ => (authority, None),
        };
        let default = if secure { 443 } else { 80 };
        let port = port.map_or(Some(default), |port| port.parse().ok());
        match port {
            Some(port) if crate::config::is_listen_host(host) => Ok(Url {
                secure,
                host: host.to_owned(),
                port,
                path: match path {
                    "" | "/" => crate::connection::handshake::PATH.to_owned(),
                    path if path.starts_with('?') => format!("/{path}"),
                    path => path.to_owned(),
                },
            }),
            _ => Err(format!("{authority:?} is no host with or without a port")),
        }
    }

    /// `host`, with the port where it is not the scheme's own: what a browser sends as `Host`.
    pub fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// What a browser sends as `Origin` from a page of the same site.
    pub fn origin(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }
}

/// Whether something answers at a listen address, and what.
///
/// # Errors
/// Nothing does.
pub fn listener(host: &str, port: u16, patience: Duration) -> io::Result<Answer> {
    let mut stream = net::connect(host, port, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let (answer, _) = shake_hands(&mut stream, &request(&format!("{host}:{port}"), None, None))?;
    Ok(answer)
}

/// A handshake through whatever stands at the URL, and one event beyond it; its answer, or who answered instead.
///
/// # Errors
/// Nothing answers, or not in time, or TLS cannot be agreed on.
pub fn through(url: &Url, origin: &str) -> io::Result<Result<String, Answer>> {
    let request = request(&url.authority(), Some(&url.path), Some(origin));
    if url.secure {
        let mut stream = Tls::connect(url)?;
        return converse(&mut stream, &request).map_err(|error| stream.explain(error));
    }
    let mut stream: TcpStream = net::connect(&url.host, url.port, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    converse(&mut stream, &request)
}

fn converse(stream: &mut (impl Read + Write), request: &str) -> io::Result<Result<String, Answer>> {
    let (answer, mut rest) = shake_hands(stream, request)?;
    if answer != Answer::WebSocket {
        return Ok(Err(answer));
    }
    stream.write_all(&text_frame(r#"{"type":"ping"}"#))?;
    stream.flush()?;
    loop {
        if let Some(text) = first_text(&rest) {
            return Ok(Ok(text.to_owned()));
        }
        read_more(stream, &mut rest)?;
    }
}

/// Who answered, and what came behind the answer.
fn shake_hands(stream: &mut (impl Read + Write), request: &str) -> io::Result<(Answer, Vec<u8>)> {
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let mut bytes = Vec::new();
    loop {
        if let Some((answer, length)) = judge(&bytes) {
            return Ok((answer, bytes.split_off(length)));
        }
        read_more(stream, &mut bytes)?;
    }
}

fn read_more(stream: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let count = stream
        .read(&mut chunk)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
                io::ErrorKind::TimedOut,
                "it takes the connection and says nothing",
            ),
            _ => error,
        })?;
    if count == 0 || bytes.len() > MAX_ANSWER {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it takes the connection and ends it without an answer",
        ));
    }
    bytes.extend_from_slice(&chunk[..count]);
    Ok(())
}

/// A TLS connection, held by a child process.
struct Tls(Child);

impl Tls {
    fn connect(url: &Url) -> io::Result<Tls> {
        let name = url.host.trim_start_matches('[').trim_end_matches(']');
        let is_address = name.parse::<std::net::IpAddr>().is_ok();
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-quiet", "-verify_return_error"])
            .arg("-connect")
            .arg(format!("{}:{}", url.host, url.port));
        match is_address {
            true => command.args(["-verify_ip", name]),
            false => command.args(["-servername", name, "-verify_hostname", name]),
        };
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().map(Tls).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("https and wss need the program openssl: {error}"),
            )
        })
    }

    /// Why it ended, in the program's words.
    fn explain(&mut self, error: io::Error) -> io::Error {
        let _ = self.0.kill();
        let mut said = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            let _ = stderr.read_to_string(&mut said);
        }
        let reason = said
            .lines()
            .find(|line| line.contains("verify error:") || line.contains("errno="))
            .or(said.lines().last());
        let Some(reason) = reason else {
            return error;
        };
        let number = reason
            .rsplit_once("errno=")
            .map(|(_, number)| number.trim());
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => io::Error::from_raw_os_error(number),
            None => io::Error::other(format!("no TLS connection: {}", reason.trim())),
        }
    }
}

impl Read for Tls {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Some(stdout) = &mut self.0.stdout else {
            return Ok(0);
        };
        // A pipe has no time-out of its own.
        let patience = Timespec::try_from(PATIENCE).unwrap_or_default();
        let mut ready = [PollFd::new(stdout, PollFlags::IN)];
        match poll(&mut ready, Some(&patience))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => stdout.read(bytes),
        }
    }
}

impl Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0.stdin {
            Some(stdin) => stdin.write(bytes),
            None => Ok(0),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.stdin.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = Url::parse("wss://helpdesk.example/ws/chat").expect("good");
        assert_eq!((url.secure, url.port), (true, 443));
        assert_eq!(url.authority(), "helpdesk.example");
        assert_eq!(url.origin(), "https://helpdesk.example");
        let url = Url::parse("http://[::1]:8080/desk/ws/chat?a#b").expect("good");
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 8080));
        assert_eq!(url.path, "/desk/ws/chat?a");
        assert_eq!(url.origin(), "http://[::1]:8080");
        let bare = Url::parse("HTTPS://helpdesk.example").expect("good");
        assert_eq!(bare.path, "/ws/chat");
        for bad in [
            "helpdesk.example",
            "ftp://a",
            "ws://",
            "ws://a:b",
            "ws://a:99999",
            "ws://a b/",
            "ws://u@a/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
