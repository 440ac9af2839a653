//! Follows a browser's way to the service: DNS, TCP, TLS, handshake and, on request, a token, a message and a silence.
//! Each finding says what was tried, what came back, what that means and what to do; the first failure ends the check.

use std::fs;
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
    let Some(mut open) = open(way, install, findings) else {
        return;
    };
    let Some((config, rows)) = install else {
        return;
    };
    app_url(way, config, findings);
    let (local, who) = address::who_answers(config, rows);
    if let Some(symptom) = local.trouble() {
        let tried = "look who answers at the service's address";
        return findings.push(symptom.failed(ABOUT, tried, format!("taken{who}")));
    }
    if let Some(login) = &way.login {
        login::follow(
            login,
            way,
            (config, rows),
            database,
            &mut open,
            notes,
            findings,
        );
    }
}

fn open(way: &WebServerCheck, install: Install<'_>, findings: &mut Vec<Finding>) -> Option<Open> {
    let addresses = resolve(&way.url, findings)?;
    let socket = connect(&way.url.host, &addresses, findings)?;
    let stream: Box<dyn Stream> = match (way.url.secure, socket.try_clone().ok()?) {
        (false, stream) => Box::new(stream),
        (true, stream) => match tls::agree(&way.url, stream, way.ca.as_deref()) {
            Ok((stream, version)) => {
                let authority = way.url.authority();
                let detail = format!("TLS with {authority}: {version}, and the certificate fits");
                findings.push(Finding::ok("TLS", detail));
                stream
            }
            Err(finding) => {
                findings.push(*finding);
                return None;
            }
        },
    };
    let mut open = upgrade(way, install, stream, socket, findings)?;
    passes_both_ways(way, &mut open, findings).then_some(open)
}

fn resolve(url: &Url, findings: &mut Vec<Finding>) -> Option<Vec<SocketAddr>> {
    const ABOUT: &str = "DNS";
    let tried = format!("look up {}", url.host);
    let bare = url.host.trim_start_matches('[').trim_end_matches(']');
    match net::addresses(&url.host, url.port) {
        Ok(addresses) if !addresses.is_empty() => {
            // No finding for an IP address, which needs no look-up.
            if bare.parse::<IpAddr>().is_err() {
                let all: Vec<String> = addresses.iter().map(|one| one.ip().to_string()).collect();
                findings.push(Finding::ok(ABOUT, format!("{tried}: {}", all.join(", "))));
            }
            Some(addresses)
        }
        Ok(_) => {
            findings.push(symptoms::NAME_UNKNOWN.failed(ABOUT, tried, "it has no address"));
            None
        }
        Err(error) => {
            findings.push(symptoms::NAME_UNKNOWN.failed(ABOUT, tried, error));
            None
        }
    }
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
    socket: TcpStream,
    findings: &mut Vec<Finding>,
) -> Option<Open> {
    let url = &way.url;
    let origin = url.origin();
    let tried = format!("GET {}{} with Origin {origin}", url.origin(), url.path);
    let request = request(&url.authority(), Some(&url.path), Some(&origin));
    let (answer, head, rest) = match exchange(&mut stream, &request) {
        Ok(answer) => answer,
        Err(error) => {
            findings.push(symptoms::SILENT.failed(ABOUT, tried, error));
            return None;
        }
    };
    findings.push(match answer {
        HandshakeResponse::WebSocket => {
            let client = Client::new(stream, rest);
            return Some(Open { client, socket });
        }
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
                body: body(&mut stream, &socket, &head, rest),
            };
            let came = refusal.in_words(&reason);
            let (symptom, more) = refusal.symptom(way, install);
            symptom.failed(ABOUT, tried, format!("{came}{more}"))
        }
    });
    None
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head).into_owned();
    head.lines().skip(1).find_map(|line| {
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
fn passes_both_ways(way: &WebServerCheck, open: &mut Open, findings: &mut Vec<Finding>) -> bool {
    let place = format!("{}{}", way.url.origin(), way.url.path);
    let tried = format!("a frame through {place}");
    let answer = open
        .client
        .send(&serde_json::json!({ "type": "ping" }))
        .and_then(|()| open.client.hear());
    findings.push(match answer {
        Ok(Heard::Event(event)) if event["type"] == "auth.failed" => {
            let detail = format!("{place} passes WebSockets both ways to the chat service");
            findings.push(Finding::ok(ABOUT, detail));
            return true;
        }
        Ok(Heard::Event(event)) => {
            let start: String = event.to_string().chars().take(80).collect();
            symptoms::OTHER_SERVER.failed(ABOUT, tried, printable(&start))
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            symptoms::OTHER_SERVER.failed(ABOUT, tried, format!("no event: {error}"))
        }
        Ok(Heard::Closed(why)) => {
            let symptom = login::of_close(&why, &symptoms::OTHER_SERVER);
            symptom.failed(ABOUT, tried, why)
        }
        Ok(Heard::Ping) => symptoms::OTHER_SERVER.failed(ABOUT, tried, "a ping"),
        Err(error) if login::is_silence(&error) => {
            symptoms::HELD_BACK.failed(ABOUT, tried, "no answer")
        }
        Err(error) => symptoms::HELD_BACK.failed(ABOUT, tried, error),
    });
    false
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

/// Reads a token from a file.
pub(super) fn read_token(file: &std::path::Path) -> io::Result<String> {
    fs::read_to_string(file).map(|text| text.trim().to_owned())
}

/// The time since `begun`, in words.
pub(super) fn since(begun: Instant) -> String {
    format!("after {} s", begun.elapsed().as_secs())
}
