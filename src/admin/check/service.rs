//! Whether the service runs, and what should start it.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use super::Finding;
use super::symptoms::{self, Symptom};
use crate::admin::install;
use crate::config::Config;
use crate::config::settings::{Rows, key};
use crate::platform::owned_file::{self, Use};
use crate::platform::paths::Paths;
use crate::platform::pid_file;
use crate::supervisor::{Mode, Observed};

/// Cron runs the supervisor every minute; after three missed passes it is late.
const CRON_IS_LATE: Duration = Duration::from_secs(180);
const ABOUT: &str = "service";
const TRIED: &str = "look for its process";

/// Whether the service runs, and whether the supervisor watches it.
pub(super) fn look(config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    let paths = config.paths();
    let holder = pid_file::holder(&paths).ok().flatten();
    let held = holder.map(|holder| holder.pid);
    let php = held.filter(|pid| pid_file::is_php(*pid));
    if let Some(pid) = php.or_else(|| pid_file::php_daemon_of(&paths)) {
        let came = format!("process {pid}");
        // Only a warning: it may run until this service takes over.
        return findings.push(symptoms::PHP_DAEMON.warning(ABOUT, TRIED, came));
    }
    let seen = Observed::new(rows, holder, None);
    let pass = last_pass(&paths);
    let cron_is_late = seen.mode == Mode::Cron && pass.is_some_and(|age| age > CRON_IS_LATE);
    findings.push(match held {
        Some(pid) if cron_is_late => {
            let came = format!("process {pid}; {}", of_pass(pass));
            symptoms::NO_CRON.warning(ABOUT, TRIED, came)
        }
        Some(pid) => Finding::ok(ABOUT, format!("runs, process {pid}")),
        // Expected if it is switched off or asked to stop; the finding `settings` says so.
        None if !seen.is_wanted() || seen.stop_requested => return,
        None => {
            let (symptom, came) = idle(config, rows);
            symptom.warning(ABOUT, TRIED, came)
        }
    });
}

/// Why no service runs here.
pub(super) fn idle(config: &Config, rows: &Rows) -> (&'static Symptom, String) {
    let seen = Observed::new(rows, None, None);
    let pass = last_pass(&config.paths());
    let row = |key: &str| format!("there is none, as the setting {key} wants it");
    match seen.mode {
        Mode::External if install::has_unit(&config.root) => {
            let came = "there is none, although a unit names this install";
            (&symptoms::STOPPED, came.to_owned())
        }
        Mode::External => {
            let came = "there is none, and no unit names this install";
            (&symptoms::NO_UNIT, came.to_owned())
        }
        Mode::Cron if !seen.websocket_enabled => {
            (&symptoms::SERVICE_OFF, row(key::WEBSOCKET_ENABLED))
        }
        Mode::Cron if !seen.chat_enabled => (&symptoms::CHAT_OFF, row(key::CHAT_ENABLED)),
        Mode::Cron if seen.stop_requested => (&symptoms::STOPPED, row(key::STOP_REQUESTED)),
        Mode::Cron if !seen.autostart => (&symptoms::STOPPED, row(key::AUTOSTART)),
        Mode::Cron => {
            let is_run = pass.is_some_and(|age| age <= CRON_IS_LATE);
            let symptom = match is_run {
                true => &symptoms::STOPPED,
                false => &symptoms::NO_CRON,
            };
            (symptom, format!("there is none; {}", of_pass(pass)))
        }
    }
}

/// How long ago the supervisor last ran. `None` where the PHP supervisor runs instead and starts our script
/// (`contrib/php`): it leaves no trace of a pass.
fn last_pass(paths: &Paths) -> Option<Duration> {
    let script = paths.root.join("bin/chat-websocket-server.php");
    let script = owned_file::open(&script, Use::Read).and_then(io::read_to_string);
    if script.is_ok_and(|text| text.contains(env!("CARGO_PKG_NAME"))) {
        return None;
    }
    let ran = fs::metadata(&paths.supervisor_lock).and_then(|lock| lock.modified());
    // A time in the future counts as now.
    ran.ok()
        .map(|ran| SystemTime::now().duration_since(ran).unwrap_or_default())
}

fn of_pass(pass: Option<Duration>) -> String {
    match pass {
        Some(age) => format!("the supervisor ran {} s ago", age.as_secs()),
        None => "the supervisor has never run".to_owned(),
    }
}
