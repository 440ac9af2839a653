//! The address, free or ours, and the way to it through the public proxy.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use super::Finding;
use crate::config::{Config, listen_address};
use crate::connection::client::Answer;
use crate::operate::probe::{self, Url};
use crate::pid_file;
use crate::places::Places;
use crate::settings::Rows;

/// How long the address may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the service could listen, or does.
pub fn listen(config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "address";
    let (host, port, warnings) = listen_address(config, rows);
    for warning in warnings {
        findings.push(Finding::warning(ABOUT, warning, "correct it: settings set"));
    }
    let address = format!("{host}:{port}");
    let error = match TcpListener::bind(&address) {
        Ok(_) => return findings.push(Finding::ok(ABOUT, format!("{address} is free"))),
        Err(error) => error,
    };
    if error.kind() != io::ErrorKind::AddrInUse {
        return findings.push(Finding::failed(
            ABOUT,
            format!("cannot listen on {address}: {error}"),
            "choose an address of this machine and a port above 1023: chat_websocket_host, chat_websocket_port",
        ));
    }
    let holder = pid_file::holder(&Places::of(config).pid_file);
    let answers = matches!(
        probe::listener(&host, port, PATIENCE),
        Ok(Answer::WebSocket | Answer::Http(503, _))
    );
    findings.push(match (holder, answers) {
        (Ok(Some(holder)), true) => Finding::ok(
            ABOUT,
            format!("{address} is this install's service's, process {}", holder.pid),
        ),
        (Ok(Some(holder)), false) => Finding::failed(
            ABOUT,
            format!(
                "{address} is taken, and nothing that chats answers there, although process {} runs",
                holder.pid
            ),
            "see status and the log; restart the service",
        ),
        _ => Finding::failed(
            ABOUT,
            format!("{address} is taken by another program"),
            format!("end it (ss -ltnp 'sport = {port}' names it), or choose another port; a systemd socket unit of \
                     this service is meant to hold it"),
        ),
    });
}

/// Whether a browser's handshake comes through.
pub fn proxy(config: &Config, url: &Url, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "proxy";
    let site = Url::parse(&config.app_url).ok();
    let origin = site.map_or_else(|| url.origin(), |site| site.origin());
    let place = format!("{}{}", url.origin(), url.path);
    findings.push(match probe::through(url, &origin) {
        Ok(Ok(text)) if text.contains("\"auth.failed\"") => Finding::ok(
            ABOUT,
            format!("{place} passes WebSockets both ways to the chat service"),
        ),
        Ok(Ok(text)) => Finding::failed(
            ABOUT,
            format!(
                "at {place} a WebSocket server answers that is not the chat's: {:?}",
                text.chars().take(80).collect::<String>()
            ),
            "let the web server pass /ws/chat to this install's port",
        ),
        Ok(Err(Answer::Http(code, reason))) => Finding::failed(
            ABOUT,
            format!("{place} answers {code} {reason}"),
            advice(code),
        ),
        Ok(Err(Answer::Other(what))) => {
            Finding::failed(ABOUT, format!("{place}: {what}"), advice(0))
        }
        Ok(Err(Answer::WebSocket)) => Finding::ok(ABOUT, place),
        Err(error) => Finding::failed(
            ABOUT,
            format!("{place}: {error}"),
            "is the web server running, and does its certificate fit?",
        ),
    });
}

fn advice(code: u16) -> &'static str {
    match code {
        301 | 302 | 307 | 308 => "give the address that it leads to, usually with https",
        400 | 426 => {
            "the proxy must pass the headers Upgrade and Connection on; see contrib/nginx, contrib/apache"
        }
        403 => {
            "the proxy must pass the browser's Host on, or APP_URL must be the helpdesk's address"
        }
        404 => {
            "the web server must pass /ws/chat to the service; see contrib/nginx, contrib/apache"
        }
        502..=504 => {
            "is the service running, on the port that the web server passes to, and switched on?"
        }
        _ => "the web server must pass /ws/chat to the service; see contrib/nginx, contrib/apache",
    }
}
