//! The listen address: free, held by this install's service, or taken by another program.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use super::Finding;
use super::symptoms::{self, Symptom};
use crate::admin::probe;
use crate::admin::response::HandshakeResponse;
use crate::config::settings::Rows;
use crate::config::{Config, everywhere, listen_address};
use crate::platform::process::{self, Process};
use crate::platform::{net, pid_file};

/// How long the address may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the service can listen, or already does.
pub(super) fn listen(config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "address";
    let (host, port, warnings) = listen_address(config, rows);
    for warning in warnings {
        findings.push(Finding::warning(ABOUT, warning, "correct it: settings set"));
    }
    let address = format!("{host}:{port}");
    if let Some((detail, remedy)) = everywhere(&address).and_then(|said| said.split_once("; ")) {
        findings.push(Finding::warning(
            ABOUT,
            format!("{address}: {detail}"),
            remedy,
        ));
    }
    let bound = net::addresses(&host, port).and_then(|all| TcpListener::bind(&all[..]));
    let error = match bound {
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
    let (local, who) = who_answers(config, Some(rows));
    // The PHP daemon in the pid file is this install's service until ours takes over.
    let is_ours = match local {
        Local::Php => pid_file::holder(&config.paths()).is_ok_and(|holder| holder.is_some()),
        _ => local == Local::Own,
    };
    findings.push(match local.trouble() {
        _ if is_ours => Finding::ok(ABOUT, format!("{address} is this install's service's{who}")),
        trouble => {
            let what = format!("taken{who}");
            let symptom = trouble.unwrap_or(&symptoms::OTHER_PROGRAM);
            let tried = format!("listen on {address}");
            match local {
                Local::Php => symptom.warning(ABOUT, tried, what),
                _ => symptom.failed(ABOUT, tried, what),
            }
        }
    });
}

/// What answers at the service's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Local {
    /// This install's service, switched on or off.
    Own,
    /// Nothing.
    Nothing,
    /// Not known, because the address is not known.
    Unknown,
    /// This install's service, but it does not answer.
    Hanging,
    /// The chat service of another install.
    OtherInstall,
    /// The PHP daemon.
    Php,
    /// Another program.
    OtherProgram,
}

impl Local {
    /// What is wrong, if anything.
    pub(super) fn trouble(self) -> Option<&'static Symptom> {
        match self {
            Local::Own | Local::Nothing | Local::Unknown => None,
            Local::Hanging => Some(&symptoms::HANGS),
            Local::OtherInstall => Some(&symptoms::OTHER_INSTALL),
            Local::Php => Some(&symptoms::PHP_DAEMON),
            Local::OtherProgram => Some(&symptoms::OTHER_PROGRAM),
        }
    }
}

/// What answers at the service's address, and its process in words, as far as known.
pub(super) fn who_answers(config: &Config, rows: Option<&Rows>) -> (Local, String) {
    let Some(rows) = rows else {
        return (Local::Unknown, String::new());
    };
    let (host, port, _) = listen_address(config, rows);
    // If the pid file cannot be read, the listener is assumed to be ours.
    let holder = pid_file::holder(&config.paths());
    let answer = probe::listener(&host, port, TIMEOUT).map(|(answer, ..)| answer);
    if let Err(error) = &answer
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        return (Local::Nothing, String::new());
    }
    let listening = process::listening(port);
    let is_own = match &holder {
        Ok(None) => false,
        // The pid may come from another container's pid namespace.
        Ok(Some(holder)) => {
            listening.is_empty() || !holder.is_verified || listening.contains(&holder.pid)
        }
        Err(_) => true,
    };
    let held = holder.ok().flatten().map(|holder| holder.pid);
    let pid = match is_own {
        true => held,
        false => listening.first().copied(),
    };
    let words = pid.and_then(Process::open).map(|one| one.arguments());
    let chats = matches!(
        answer,
        Ok(HandshakeResponse::WebSocket | HandshakeResponse::Http(503, _))
    );
    let is_chat = |words: &Vec<String>| {
        let program = words.first().map(|word| process::file_name(word));
        program == Some(env!("CARGO_PKG_NAME"))
    };
    let local = match is_own {
        _ if pid.is_some_and(pid_file::is_php) => Local::Php,
        true if chats => Local::Own,
        true => Local::Hanging,
        false if chats && words.as_ref().is_none_or(is_chat) => Local::OtherInstall,
        false => Local::OtherProgram,
    };
    let shown = match (local, words) {
        (Local::OtherInstall | Local::Php, Some(words)) => format!(" ({})", words.join(" ")),
        // The arguments of another program may hold secrets: only its name is shown.
        (Local::OtherProgram, Some(words)) if !words.is_empty() => {
            format!(" ({})", process::file_name(&words[0]))
        }
        _ => String::new(),
    };
    let number = pid.filter(|pid| *pid > 0);
    let who = number.map_or(String::new(), |pid| format!(", process {pid}{shown}"));
    (local, who)
}
