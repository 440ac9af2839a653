//! `start`, `stop` and `restart`: what the buttons on the administrator's page do (contract: operations.md). In cron
//! mode they leave a request for the supervisor; in external mode the service manager has to be asked, and that it
//! was tried stands in the audit log.

use std::io::Write;

use serde_json::json;

use super::{Database, Problem};
use crate::exit_code;
use crate::settings::{Rows, key};
use crate::store::operations::AuditEntry;
use crate::supervise::Mode;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// That the service run from now on.
    Start,
    /// That it run no longer.
    Stop,
    /// That it be ended and started again.
    Restart,
}

impl Request {
    fn word(self) -> &'static str {
        match self {
            Request::Start => "start",
            Request::Stop => "stop",
            Request::Restart => "restart",
        }
    }

    fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Request::Start => &[
                ("chat_websocket_enabled", "1"),
                ("chat_websocket_autostart", "1"),
                (key::STOP_REQUESTED, "0"),
            ],
            Request::Stop => &[
                (key::STOP_REQUESTED, "1"),
                ("chat_websocket_autostart", "0"),
            ],
            Request::Restart => &[(key::RESTART_REQUESTED, "1")],
        }
    }
}

/// The audit row of a request.
fn audit(request: Request, mode: Mode) -> AuditEntry {
    let (suffix, mode) = match mode {
        Mode::Cron => ("", "cron"),
        Mode::External => ("_external", "external"),
    };
    AuditEntry {
        action: format!("chat_websocket_{}_requested{suffix}", request.word()),
        subject_type: "chat_websocket",
        payload: json!({"ip": "cli", "mode": mode}).to_string(),
    }
}

/// Leaves the request.
///
/// # Errors
/// The database cannot be asked, this install lacks a row that is needed, or the service manager has to be asked.
pub fn request(
    request: Request,
    database: &mut Database,
    out: &mut dyn Write,
) -> Result<u8, Problem> {
    let rows = database.run_again(|store| store.settings())?;
    let word = request.word();
    let mode = Mode::of(&rows);
    if mode == Mode::External {
        database.run(|store| store.change(&[], &audit(request, mode)))?;
        return Err(Problem::new(
            exit_code::FAILED,
            format!(
                "nothing was {}: a service manager runs this install's chat service (management mode external); ask \
                 it, for example with: systemctl {word} andrea-chat-websocket",
                past(request)
            ),
        ));
    }
    let flags = request.flags();
    if let Some((missing, _)) = flags.iter().find(|(name, _)| !rows.contains(name)) {
        return Err(Problem::new(
            exit_code::FAILED,
            format!(
                "this install has no setting {missing}; it needs Andrea Helpdesk 1.4.13 or later"
            ),
        ));
    }
    database.run(|store| store.change(flags, &audit(request, mode)))?;
    writeln!(
        out,
        "{word} requested; the supervisor, which cron runs every minute, carries it out"
    )
    .map_err(|error| Problem::of_output(&error))?;
    if let Some(obstacle) = obstacle(request, &rows) {
        writeln!(out, "{obstacle}").map_err(|error| Problem::of_output(&error))?;
    }
    Ok(exit_code::OK)
}

fn past(request: Request) -> &'static str {
    match request {
        Request::Start => "started",
        Request::Stop => "stopped",
        Request::Restart => "restarted",
    }
}

/// What will keep the supervisor from starting anything all the same.
fn obstacle(request: Request, rows: &Rows) -> Option<&'static str> {
    if request == Request::Stop {
        return None;
    }
    if !rows.boolean("chat_enabled", false) {
        return Some("but nothing is started while chat_enabled is 0: settings set chat_enabled 1");
    }
    let needs_start = request == Request::Restart
        && !(rows.boolean("chat_websocket_enabled", true)
            && rows.boolean("chat_websocket_autostart", true));
    needs_start.then_some("but the service is switched off, so nothing is started: use start")
}
