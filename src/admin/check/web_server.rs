//! Follows a browser's way to the service: DNS, TCP, TLS, handshake and, on request, a token, a message and a silence.
//! Each finding says what was tried, what came back, what that means and what to do; the first failure ends the check.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::refusal::Refusal;
use super::symptoms;
use super::tls::{self, Stream};
use super::{Finding, address, login};
use crate::admin::Database;
use crate::admin::client::{Client, Heard};
use crate::admin::probe::{self, Url, exchange};
use crate::admin::response::{HandshakeResponse, request};
use crate::config::Config;
use crate::config::settings::Rows;
use crate::model::{AgentId, ThreadId};
use crate::platform::net;
use crate::platform::printable::printable;

/// How long each step may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// How long each read of the body may take: the status is known, and the body only adds detail.
const REST: Duration = Duration::from_millis(500);
/// Bytes of a body that are read at most: more than any refusal of the service has.
const MAX_BODY: usize = 2048;
const ABOUT: &str = "proxy";

/// What to try.
#[derive(Clone, Debug)]
pub struct WebServerCheck {
    /// Where a browser connects.
    pub url: Url,
    /// A file of additional trusted certificates.
    pub ca: Option<PathBuf>,
    /// The token to log in with, if a login is requested.
    pub login: Option<Login>,
    /// The direct thread to send a message to.
    pub thread: Option<ThreadId>,
}

/// The token to log in with.
#[derive(Clone, Debug)]
pub enum Login {
    /// A token made for this agent.
    Agent(AgentId),
    /// The file of a token that the helpdesk made.
    File(PathBuf),
}

/// An open socket of the chat.
pub(super) struct Open {
    pub client: Client<Box<dyn Stream>>,
    pub socket: TcpStream,
}

/// The configuration, if it can be read, and the settings, if they or `.env` tell the listen address.
pub(super) type Install<'a> = Option<(&'a Config, Option<&'a Rows>)>;

/// Takes the steps up to the first failure. Without a readable configuration it stops before the login.
pub(super) fn follow(
    way: &WebServerCheck,
    install: Install<'_>,
    database: Option<Database>,
    notes: &mut dyn io::Write,
    findings: &mut Vec<Finding>,
) {
    if let Err(failure) = steps(way, install, database, notes, findings) {
        findings.push(failure);
    }
}

fn steps(
    way: &WebServerCheck,
    install: Install<'_>,
    database: Option<Database>,
    notes: &mut dyn io::Write,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let addresses = resolve(&way.url, findings)?;
    let Some(socket) = connect(&way.url.host, &addresses, findings) else {
        return Ok(());
    };
    let stream = tls::agree(way, &socket, findings)?;
    let client = upgrade(way, install, stream, &socket)?;
    let mut open = Open { client, socket };
    findings.push(passes_both_ways(way, &mut open)?);
    let Some((config, rows)) = install else {
        return Ok(());
    };
    app_url(way, config, findings);
    let (local, who) = address::who_answers(config, rows);
    if let Some(symptom) = local.trouble() {
        let tried = "look who answers at the service's address";
        return Err(symptom.failed(ABOUT, tried, format!("taken{who}")));
    }
    match &way.login {
        Some(login) => {
            let install = (config, rows);
            login::follow(login, way, install, database, &mut open, notes, findings)
        }
        None => Ok(()),
    }
}

fn resolve(url: &Url, findings: &mut Vec<Finding>) -> Result<Vec<SocketAddr>, Finding> {
    const ABOUT: &str = "DNS";
    let tried = format!("look up {}", url.host);
    let addresses = net::addresses(&url.host, url.port)
        .map_err(|error| symptoms::NAME_UNKNOWN.failed(ABOUT, &tried, error))?;
    if addresses.is_empty() {
        return Err(symptoms::NAME_UNKNOWN.failed(ABOUT, tried, "it has no address"));
    }
    // No finding for an IP address, which needs no look-up.
    if bare(&url.host).parse::<IpAddr>().is_err() {
        let all: Vec<String> = addresses.iter().map(|one| one.ip().to_string()).collect();
        findings.push(Finding::ok(ABOUT, format!("{tried}: {}", all.join(", "))));
    }
    Ok(addresses)
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Connects to the first address that answers. Tries the others too, because a browser may begin with any of them.
fn connect(host: &str, addresses: &[SocketAddr], findings: &mut Vec<Finding>) -> Option<TcpStream> {
    const ABOUT: &str = "TCP";
    let mut found = None;
    let mut failed = Vec::new();
    for address in addresses {
        let tried = format!("connect to {address}");
        match TcpStream::connect_timeout(address, TIMEOUT) {
            Ok(_) => {
                findings.push(Finding::ok(ABOUT, format!("{tried}: accepted")));
                found = found.or(Some(address));
            }
            Err(error) => failed.push((tried, error)),
        }
    }
    for (tried, error) in failed {
        let symptom = match error.kind() {
            io::ErrorKind::ConnectionRefused => &symptoms::REFUSED,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => &symptoms::DROPPED,
            _ => &symptoms::UNREACHABLE,
        };
        match found {
            // `localhost` has an IPv4 and an IPv6 address everywhere, and few servers listen on both.
            Some(_) if net::is_localhost(host) => {}
            Some(_) => findings.push(symptoms::DEAD_ADDRESS.warning(ABOUT, tried, error)),
            None => findings.push(symptom.failed(ABOUT, tried, error)),
        }
    }
    // A new connection: the server may have closed the silent one while the other addresses were tried.
    let stream = TcpStream::connect_timeout(found?, TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(TIMEOUT)).ok()?;
    Some(stream)
}

/// The WebSocket handshake, with the headers that a browser sends from a page of the same site.
fn upgrade(
    way: &WebServerCheck,
    install: Install<'_>,
    mut stream: Box<dyn Stream>,
    socket: &TcpStream,
) -> Result<Client<Box<dyn Stream>>, Finding> {
    let url = &way.url;
    let origin = url.origin();
    let tried = format!("GET {origin}{} with Origin {origin}", url.path);
    let request = request(&url.authority(), Some(&url.path), Some(&origin));
    let (answer, head, rest) = exchange(&mut stream, &request)
        .map_err(|error| symptoms::SILENT.failed(ABOUT, &tried, error))?;
    Err(match answer {
        HandshakeResponse::WebSocket => return Ok(Client::new(stream, rest)),
        HandshakeResponse::Other(what) => {
            let symptom = match rest[..] {
                // HTTP/2 begins with a SETTINGS frame (type 4), a TLS server with an alert (record type 21).
                [0, _, _, 4, ..] => &symptoms::HTTP2_ONLY,
                [21, 3, ..] => &symptoms::TLS_IS_ASKED,
                _ if !head.is_empty() => &symptoms::OTHER_SERVER,
                _ => &symptoms::NOT_PASSED,
            };
            symptom.failed(ABOUT, tried, what)
        }
        HandshakeResponse::Http(code, reason) => {
            let refusal = Refusal {
                code,
                server: header(&head, "Server").unwrap_or_default(),
                to: header(&head, "Location").unwrap_or_default(),
                body: body(&mut stream, socket, &head, rest),
            };
            let came = refusal.in_words(&reason);
            let (symptom, more) = refusal.symptom(way, install);
            symptom.failed(ABOUT, tried, format!("{came}{more}"))
        }
    })
}

fn header(head: &[u8], name: &str) -> Option<String> {
    String::from_utf8_lossy(head)
        .lines()
        .skip(1)
        .find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
}

/// The beginning of a refusal's body, with white space collapsed.
fn body(
    stream: &mut Box<dyn Stream>,
    socket: &TcpStream,
    head: &[u8],
    mut rest: Vec<u8>,
) -> String {
    let length = header(head, "Content-Length").and_then(|length| length.parse().ok());
    let length = length.unwrap_or(MAX_BODY).min(MAX_BODY);
    let begun = Instant::now();
    let may_wait = socket.set_read_timeout(Some(REST)).is_ok();
    while may_wait
        && rest.len() < length
        && begun.elapsed() < TIMEOUT
        && probe::read_more(stream, &mut rest).is_ok()
    {}
    let text = String::from_utf8_lossy(&rest).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether frames pass both ways: the service answers any event before a login with `auth.failed`.
fn passes_both_ways(way: &WebServerCheck, open: &mut Open) -> Result<Finding, Finding> {
    let place = format!("{}{}", way.url.origin(), way.url.path);
    let answer = open
        .client
        .send(&serde_json::json!({ "type": "ping" }))
        .and_then(|()| open.client.hear());
    let (symptom, came) = match answer {
        Ok(Heard::Event(event)) if event["type"] == "auth.failed" => {
            let detail = format!("{place} passes WebSockets both ways to the chat service");
            return Ok(Finding::ok(ABOUT, detail));
        }
        Ok(Heard::Event(event)) => {
            let start: String = event.to_string().chars().take(80).collect();
            (&symptoms::OTHER_SERVER, printable(&start))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            (&symptoms::OTHER_SERVER, format!("no event: {error}"))
        }
        Ok(Heard::Closed(why)) => (login::of_close(&why, &symptoms::OTHER_SERVER), why),
        Ok(Heard::Ping) => (&symptoms::OTHER_SERVER, "a ping".to_owned()),
        Err(error) => (&symptoms::HELD_BACK, login::silence_or(&error)),
    };
    Err(symptom.failed(ABOUT, format!("a frame through {place}"), came))
}

/// Whether `APP_URL` is the address that the browser uses.
fn app_url(way: &WebServerCheck, config: &Config, findings: &mut Vec<Finding>) {
    if let Ok(app) = Url::parse(&config.app_url)
        && !is_at_app_url(way, config)
    {
        let tried = format!("APP_URL is {}", app.origin());
        let came = format!("the URL here is of {}", way.url.host);
        findings.push(symptoms::APP_URL_OTHER.warning("APP_URL", tried, came));
    }
}

/// Whether the host of `APP_URL` is that of the way.
pub(super) fn is_at_app_url(way: &WebServerCheck, config: &Config) -> bool {
    Url::parse(&config.app_url).is_ok_and(|app| app.host.eq_ignore_ascii_case(&way.url.host))
}
