//! The HTTPS client for pushes: one POST over HTTP/1.1 to a checked address, with one deadline for the whole exchange, no
//! redirects, and connections kept for the next push to the same server.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::endpoint::Endpoint;
use super::response::{self, Response};
use super::schedule::Unsent;
use crate::platform::net::{Wire, left};
use crate::platform::threads::lock;

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
    ) -> Result<Response, Unsent> {
        let failed = |error: io::Error| unsent(endpoint, &error);
        let deadline = Instant::now() + self.timeout;
        let request = request(endpoint, headers, body);
        let kept = self.take_kept(&endpoint.origin).and_then(|mut stream| {
            stream.sock.deadline = deadline;
            match exchange(&mut stream, &request) {
                // The server closed the kept connection just before; try a new one.
                Err(error) if response::is_unanswered(&error) => None,
                answer => Some((stream, answer)),
            }
        });
        let (stream, answer) = match kept {
            Some(exchanged) => exchanged,
            None => {
                let (addresses, name) = (endpoint.addresses()?, endpoint.name()?);
                let stream = self.connect(&addresses, name, deadline);
                let mut stream = stream.map_err(failed)?;
                let answer = exchange(&mut stream, &request);
                (stream, answer)
            }
        };
        let answer = answer.map_err(failed)?;
        if answer.may_go_on {
            self.keep(&endpoint.origin, stream);
        }
        Ok(answer)
    }

    fn connect(
        &self,
        addresses: &[SocketAddr],
        name: ServerName<'static>,
        deadline: Instant,
    ) -> io::Result<Stream> {
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
        Err(failed)
    }

    fn keep(&self, origin: &str, stream: Stream) {
        let mut kept = lock(&self.kept);
        if kept.len() >= MOST_KEPT {
            kept.remove(0);
        }
        kept.push(Kept {
            origin: origin.to_owned(),
            since: Instant::now(),
            stream,
        });
    }

    fn take_kept(&self, origin: &str) -> Option<Stream> {
        self.close_old();
        let mut kept = lock(&self.kept);
        let place = kept.iter().rposition(|one| one.origin == origin)?;
        Some(kept.remove(place).stream)
    }

    /// Closes connections that were kept for long.
    pub(super) fn close_old(&self) {
        lock(&self.kept).retain(|one| one.since.elapsed() < KEEP);
    }
}

/// What a failure with a push service means. Another server than the intended one stays that.
fn unsent(endpoint: &Endpoint, error: &io::Error) -> Unsent {
    let place = endpoint.authority();
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    if let Some(rustls::Error::InvalidCertificate(_)) = cause {
        return Unsent::refused(format!("cannot trust {place}: {error}"));
    }
    let why = match error.kind() {
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    };
    Unsent {
        why: format!("cannot reach {place}: {why}"),
        is_final: false,
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
