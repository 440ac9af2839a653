//! `start`, `stop` and `restart`, like the buttons on the administrator's page (contract: operations.md). In cron mode they
//! record a request for the supervisor; in external mode they refer to the service manager, and the audit log records the
//! attempt.

use std::io::Write;

use serde_json::json;

use super::{Database, Problem};
use crate::config::settings::{Rows, key};
use crate::platform::exit_code;
use crate::store::DatabaseConnection;
use crate::store::operations::AuditEntry;
use crate::supervisor::Mode;

/// What is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlRequest {
    /// Run from now on.
    Start,
    /// Stop, and stay stopped.
    Stop,
    /// Stop and start again.
    Restart,
}

impl ControlRequest {
    /// The request of this name.
    #[cfg_attr(
        not(feature = "embedded"),
        allow(dead_code, reason = "the demo alone uses it")
    )]
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        let all = [
            ControlRequest::Start,
            ControlRequest::Stop,
            ControlRequest::Restart,
        ];
        all.into_iter().find(|request| request.word() == word)
    }

    /// Its name.
    pub(crate) fn word(self) -> &'static str {
        match self {
            ControlRequest::Start => "start",
            ControlRequest::Stop => "stop",
            ControlRequest::Restart => "restart",
        }
    }

    fn flags(self) -> &'static [(&'static str, &'static str)] {
        match self {
            ControlRequest::Start => &[
                (key::WEBSOCKET_ENABLED, "1"),
                (key::AUTOSTART, "1"),
                (key::STOP_REQUESTED, "0"),
            ],
            ControlRequest::Stop => &[(key::STOP_REQUESTED, "1"), (key::AUTOSTART, "0")],
            ControlRequest::Restart => &[(key::RESTART_REQUESTED, "1")],
        }
    }
}

/// Records a request: in cron mode the flags that the supervisor acts on, and in every mode a row in the audit log,
/// with `from` as its origin.
///
/// # Errors
/// The database refuses the change or does not answer.
pub(crate) fn leave(
    request: ControlRequest,
    mode: Mode,
    store: &mut dyn DatabaseConnection,
    from: &str,
) -> crate::store::Result<()> {
    let (flags, suffix) = match mode {
        Mode::Cron => (request.flags(), ""),
        Mode::External => (&[][..], "_external"),
    };
    let audit = AuditEntry {
        action: format!("chat_websocket_{}_requested{suffix}", request.word()),
        subject_type: "chat_websocket",
        payload: json!({"ip": from, "mode": mode.as_str()}).to_string(),
    };
    store.change(flags, &audit)
}

/// Records the request of a subcommand, and says what becomes of it.
///
/// # Errors
/// The database cannot be asked, this install lacks a required row, or a service manager runs the service.
pub(crate) fn request(
    request: ControlRequest,
    database: &mut Database,
    out: &mut dyn Write,
) -> Result<u8, Problem> {
    let rows = database.run_again(|store| store.settings())?;
    let word = request.word();
    let mode = Mode::of(&rows);
    if mode == Mode::External {
        database.run(|store| leave(request, mode, store, "cli"))?;
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
    database.run(|store| leave(request, mode, store, "cli"))?;
    writeln!(
        out,
        "{word} requested; the supervisor, which cron runs every minute, carries it out"
    )
    .map_err(Problem::of_output)?;
    if let Some(obstacle) = obstacle(request, &rows) {
        writeln!(out, "{obstacle}").map_err(Problem::of_output)?;
    }
    Ok(exit_code::OK)
}

fn past(request: ControlRequest) -> &'static str {
    match request {
        ControlRequest::Start => "started",
        ControlRequest::Stop => "stopped",
        ControlRequest::Restart => "restarted",
    }
}

/// What keeps the supervisor from starting the service despite the request.
fn obstacle(request: ControlRequest, rows: &Rows) -> Option<&'static str> {
    if request == ControlRequest::Stop {
        return None;
    }
    if !rows.boolean(key::CHAT_ENABLED, false) {
        return Some("but nothing is started while chat_enabled is 0: settings set chat_enabled 1");
    }
    let needs_start = request == ControlRequest::Restart
        && !(rows.boolean(key::WEBSOCKET_ENABLED, true) && rows.boolean(key::AUTOSTART, true));
    needs_start.then_some("but the service is switched off, so nothing is started: use start")
}
