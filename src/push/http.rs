//! The HTTPS client for pushes: one POST over HTTP/1.1 to a checked address, with one deadline for the whole exchange, no
//! redirects, and connections kept for the next push to the same server.

use std::fmt;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::endpoint::{Endpoint, Unreachable};
use super::response::{self, Response};
use crate::platform::net::{Wire, left};

/// Longest time for one address to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection is kept for the next push; servers close theirs after a minute or more.
const KEEP: Duration = Duration::from_secs(45);
/// Connections that are kept.
const MOST_KEPT: usize = 8;
/// How long a push service keeps a push for a browser that is away, in seconds.
const TTL: &str = "3600";

/// Calls push services.
pub(super) struct PushClient {
    tls: Arc<ClientConfig>,
    timeout: Duration,
    kept: Mutex<Vec<Kept>>,
}

struct Kept {
    origin: String,
    since: Instant,
    stream: Stream,
}

type Stream = StreamOwned<ClientConnection, Wire>;

/// Why a push has no answer.
#[derive(Debug)]
pub(super) enum PostError {
    /// No connection was attempted.
    Unreachable(Unreachable),
    /// Connecting or the exchange failed.
    Io(io::Error),
}

impl PostError {
    /// Whether another server answered than the intended one: a retry would not help.
    pub(super) fn is_impostor(&self) -> bool {
        let PostError::Io(error) = self else {
            return false;
        };
        let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
        matches!(cause, Some(rustls::Error::InvalidCertificate(_)))
    }
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PostError::Unreachable(why) => why.fmt(f),
            PostError::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                f.write_str("no answer in time")
            }
            PostError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PostError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            PostError::Unreachable(why) => Some(why),
            PostError::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for PostError {
    fn from(error: io::Error) -> Self {
        PostError::Io(error)
    }
}

impl PushClient {
    /// A client that trusts Mozilla's roots and `extra`.
    ///
    /// # Errors
    /// A certificate in `extra` is invalid.
    pub(super) fn new(
        extra: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for certificate in extra {
            roots.add(certificate.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(PushClient {
            tls: Arc::new(tls),
            timeout,
            kept: Mutex::default(),
        })
    }

    /// Posts `body` with these headers.
    ///
    /// # Errors
    /// The endpoint may not be called, or no server answers in time.
    pub(super) fn post(
        &self,
        endpoint: &Endpoint,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Response, PostError> {
        let deadline = Instant::now() + self.timeout;
        let request = request(endpoint, headers, body);
        if let Some(mut stream) = self.take_kept(&endpoint.origin) {
            stream.sock.deadline = deadline;
            match exchange(&mut stream, &request) {
                // The server closed the kept connection just before; try a new one.
                Err(error) if response::is_unanswered(&error) => {}
                Err(error) => return Err(error.into()),
                Ok(answer) => return Ok(self.finished(endpoint, stream, answer)),
            }
        }
        let mut stream = self.connect(endpoint, deadline)?;
        let answer = exchange(&mut stream, &request)?;
        Ok(self.finished(endpoint, stream, answer))
    }

    fn connect(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Stream, PostError> {
        let addresses = endpoint.addresses().map_err(PostError::Unreachable)?;
        let name = ServerName::try_from(endpoint.name())
            .map_err(|_| PostError::Unreachable(Unreachable::NoUrl))?;
        let mut failed = io::Error::from(io::ErrorKind::TimedOut);
        for (place, address) in addresses.iter().enumerate() {
            let share = left(deadline)? / (addresses.len() - place) as u32;
            match TcpStream::connect_timeout(address, share.min(CONNECT_TIMEOUT)) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    let session = ClientConnection::new(Arc::clone(&self.tls), name)
                        .map_err(io::Error::other)?;
                    return Ok(StreamOwned::new(session, Wire { socket, deadline }));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed.into())
    }

    fn finished(&self, endpoint: &Endpoint, stream: Stream, answer: Response) -> Response {
        if answer.may_go_on {
            let mut kept = self.kept();
            kept.retain(|one| one.since.elapsed() < KEEP);
            if kept.len() >= MOST_KEPT {
                kept.remove(0);
            }
            kept.push(Kept {
                origin: endpoint.origin.clone(),
                since: Instant::now(),
                stream,
            });
        }
        answer
    }

    fn take_kept(&self, origin: &str) -> Option<Stream> {
        let mut kept = self.kept();
        kept.retain(|one| one.since.elapsed() < KEEP);
        let place = kept.iter().rposition(|one| one.origin == origin)?;
        Some(kept.remove(place).stream)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn request(endpoint: &Endpoint, headers: &[(&str, String)], body: &[u8]) -> Vec<u8> {
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: andrea-chat-websocket/{}\r\nTTL: {TTL}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {}\r\n",
        endpoint.target,
        endpoint.authority(),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.push_str("\r\n");
    let mut request = head.into_bytes();
    request.extend(body);
    request
}

fn exchange(stream: &mut Stream, request: &[u8]) -> io::Result<Response> {
    stream.write_all(request)?;
    stream.flush()?;
    response::read(stream)
}
