//! `healthcheck`: whether the listener answers now, for a container engine or a load balancer. Unlike `status`, it does
//! not depend on what is recorded: it asks the running service itself.

use std::io::{self, Read, Write};
use std::time::Instant;

use super::{Problem, probe};
use crate::platform::exit_code;
use crate::platform::net::{self, Wire};

/// Most bytes that are read: the answer is a line or two.
const MAX_ANSWER: u64 = 4096;

/// Asks the service at a listen address; a problem quotes its answer.
///
/// # Errors
/// It is not healthy, does not answer by `deadline`, or something else answers.
pub(crate) fn ask(host: &str, port: u16, deadline: Instant) -> Result<(), Problem> {
    // A service that listens on every address is reached at loopback.
    let host = match host {
        "0.0.0.0" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let failed = |what: String| Problem::new(exit_code::FAILED, what);
    let nothing =
        |error: io::Error| failed(format!("{host}:{port} does not answer")).because(error);
    let answer = exchange(host, port, deadline).map_err(nothing)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    let what = match status.split(' ').nth(1) {
        Some("200") => return Ok(()),
        // The service hides this page from peers that are not loopback or listed. Then a handshake must do.
        Some("404") => {
            let shaken = net::left(deadline).and_then(|left| probe::listener(host, port, left));
            match shaken.map_err(nothing)?.0.refusal() {
                Some(refusal) => format!(": {refusal}"),
                None => return Ok(()),
            }
        }
        Some(_) => format!(" answers {status}: {}", body.trim()),
        None => " speaks no HTTP".to_owned(),
    };
    Err(failed(format!("{host}:{port}{what}")))
}

fn exchange(host: &str, port: u16, deadline: Instant) -> io::Result<String> {
    let socket = net::connect(host, port, net::left(deadline)?)?;
    let mut wire = Wire { socket, deadline };
    write!(
        wire,
        "GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    wire.take(MAX_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
