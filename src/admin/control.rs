//! `start`, `stop` and `restart`, like the buttons on the administrator's page (contract: operations.md). In cron mode they
//! record a request for the supervisor; in external mode they refer to the service manager, and the audit log records the
//! attempt.

use std::io::Write;

use serde_json::json;

use super::{Database, Problem, say, settings};
use crate::config::settings::{Rows, key};
use crate::platform::exit_code;
use crate::store::DatabaseConnection;
use crate::store::operations::AuditEntry;
use crate::supervisor::{Mode, Observed};

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
    store: &mut DatabaseConnection,
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
) -> Result<(), Problem> {
    let rows = database.run_again(|store| store.settings())?;
    let word = request.word();
    let mode = Mode::of(&rows);
    if mode == Mode::External {
        database.run(|store| leave(request, mode, store, "cli"))?;
        return Err(Problem::new(
            exit_code::FAILED,
            format!(
                "nothing was done: a service manager runs this install's chat service (management mode external); ask \
                 it, for example with: systemctl {word} andrea-chat-websocket"
            ),
        ));
    }
    for (name, _) in request.flags() {
        settings::require(&rows, name)?;
    }
    database.run(|store| leave(request, mode, store, "cli"))?;
    let obstacle = obstacle(request, &rows);
    say(
        out,
        &format!(
            "{word} requested; the supervisor, which cron runs every minute, carries it out\n{obstacle}"
        ),
    )
}

/// What keeps the supervisor from starting the service despite the request, if anything does.
fn obstacle(request: ControlRequest, rows: &Rows) -> &'static str {
    let seen = Observed::new(rows, None, None);
    match request {
        ControlRequest::Start | ControlRequest::Restart if !seen.chat_enabled => {
            "but nothing is started while chat_enabled is 0: settings set chat_enabled 1\n"
        }
        ControlRequest::Restart if !seen.is_wanted() => {
            "but the service is switched off, so nothing is started: use start\n"
        }
        _ => "",
    }
}
