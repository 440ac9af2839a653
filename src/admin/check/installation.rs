//! The install's folder: its `.env`, the values in it, and the files that the service writes.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, FlockOperation, access, flock, statvfs};
use rustix::io::Errno;

use super::{Finding, symptoms};
use crate::admin::install::{self, Installation};
use crate::bus;
use crate::config::limits::Limits;
use crate::config::resource_limits::{self, Demand, Room};
use crate::config::settings::{Rows, Settings};
use crate::config::{self, APP_URL_REMEDY, Config, Variables, app_url_doubt, host_of_app_url};
use crate::platform::owned_file::{self, Use};
use crate::platform::paths::LOCKS_REMEDY;
use crate::push;

const STORAGE: &str = "storage";

/// Whether `.env` exists and is hidden from other users. A file that cannot be read has been reported before.
pub(super) fn dotenv(root: &Path, findings: &mut Vec<Finding>) {
    const ABOUT: &str = ".env";
    let path = root.join(".env");
    let shown = path.display();
    findings.push(match fs::metadata(&path) {
        Err(_) => Finding::warning(
            ABOUT,
            format!("{shown} is not there, so only the environment counts"),
            "name the helpdesk's folder with --root DIR",
        ),
        Ok(metadata) if metadata.mode() & 0o004 != 0 => Finding::warning(
            ABOUT,
            format!("{shown} can be read by everybody on this machine"),
            format!("it holds secrets: chmod o-r {shown}"),
        ),
        Ok(_) => Finding::ok(ABOUT, shown.to_string()),
    });
}

/// The variables whose form can be checked without anything else.
pub(super) fn variables(variables: &Variables, findings: &mut Vec<Finding>) {
    let mut push = |about, result: Result<String, config::Error>| {
        findings.push(match result {
            Ok(detail) => Finding::ok(about, detail),
            Err(error) => Finding::of_config(about, &error),
        });
    };
    push(
        "secret",
        config::jwt_secret(variables)
            .map(|secret| format!("JWT_SECRET is set and has {} bytes", secret.len())),
    );
    push(
        "time zone",
        config::clock(variables).map(|clock| {
            let zone = variables.get("APP_TIMEZONE").unwrap_or("UTC".to_owned());
            format!("{zone}, where it is {}", clock.now_text())
        }),
    );
    let limits = Limits::from_variables(variables);
    let mut wrong = variables.gathered();
    match limits {
        Err(error) => wrong.push(error),
        Ok(limits) if wrong.is_empty() => {
            let (all, one) = (limits.max_connections, limits.max_per_agent);
            let detail = format!("up to {all} connections, {one} of one agent");
            push("limits", Ok(detail));
        }
        Ok(_) => {}
    }
    for error in wrong {
        push("limits", Err(error));
    }
    for (about, problem) in variables.warnings() {
        findings.push(Finding::doubt(about, &problem));
    }
    if variables.get("APP_TIMEZONE").is_none() {
        findings.push(Finding::warning(
            "time zone",
            "APP_TIMEZONE is not set, so UTC counts",
            "set it to what the application uses, else the administrator's page calls the service stale",
        ));
    }
}

/// Whether a page of the helpdesk may connect. A doubtful `APP_URL` variable is among the variables' warnings already.
pub(super) fn app_url(config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "APP_URL";
    let row = rows.text("app_url", "");
    let url = match config.app_url.as_str() {
        "" => row,
        url => url,
    };
    findings.push(match (app_url_doubt(url), host_of_app_url(url)) {
        (None, Some(host)) => Finding::ok(ABOUT, format!("pages of {host} may connect")),
        (Some(doubt), _) if config.app_url.is_empty() && !row.is_empty() => Finding::warning(
            ABOUT,
            format!("is not set, and the setting app_url {doubt}"),
            APP_URL_REMEDY,
        ),
        _ if config.app_url.is_empty() => Finding::warning(
            ABOUT,
            "is not set",
            "set it to the helpdesk's address; until then a browser is let in only where the proxy passes its Host on",
        ),
        _ => return,
    });
}

/// Connections to other services: the bus and Web Push.
pub(super) fn links(config: &Config, variables: &Variables, findings: &mut Vec<Finding>) {
    if let Some(url) = &config.bus_url {
        findings.push(match bus::prepare(url, "") {
            Ok(Some(_)) => Finding::ok("bus", "CHAT_BUS_URL is an address of Redis"),
            Ok(None) => Finding::warning("bus", bus::NOT_IN_THIS_BUILD, bus::BUILD_WITH_IT),
            Err(error) => Finding::failed(
                "bus",
                format!("{}: {error}", variables.origin("CHAT_BUS_URL")),
                "correct it, or leave it out where one daemon runs alone",
            ),
        });
    }
    if let Err(error) = push::prepare(&config.push) {
        findings.push(Finding::of_config("push", &error));
    }
}

/// Whether the units and crontabs that run the service fit this install.
pub(super) fn installed(root: &Path, config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "installed";
    let found = install::program()
        .and_then(|program| Installation::look(program, config, Ok(rows.clone())));
    let Ok(found) = found else {
        // The storage check has reported the reason.
        return;
    };
    for one in install::compare(&found) {
        if one.faults.is_empty() {
            findings.push(Finding::ok(ABOUT, format!("{} fits this install", one.of)));
        }
        for fault in one.faults {
            findings.push(Finding::failed(
                ABOUT,
                format!("{}: {fault}", one.of),
                format!(
                    "andrea-chat-websocket install {} --root {}, as root",
                    one.way,
                    root.display()
                ),
            ));
        }
    }
}

/// Whether this machine has room for the limits. The service's process may have other bounds than this one.
pub(super) fn room(config: &Config, rows: &Rows, findings: &mut Vec<Finding>) {
    let message_bytes = Settings::from_rows(rows).max_message_bytes(&config.limits);
    let demand = Demand::of(&config.limits, message_bytes);
    let shortages = resource_limits::shortages(&demand, &Room::here());
    if shortages.is_empty() {
        findings.push(Finding::ok("room", format!("for {demand}")));
    }
    for shortage in shortages {
        findings.push(Finding::doubt("room", &shortage));
    }
}

/// Warns if the user is root.
pub(super) fn user(findings: &mut Vec<Finding>) {
    if rustix::process::geteuid().is_root() {
        findings.push(Finding::warning(
            "user",
            "running as root is not needed",
            "run check and the service as the user of the helpdesk's PHP",
        ));
    }
}

/// Whether this user may write where the service does.
pub(super) fn storage(config: &Config, findings: &mut Vec<Finding>) {
    let places = config.paths();
    let folders = [&places.runtime, &places.logs].map(|folder| of_folder(config, folder));
    let files = [&places.pid_file, &places.log_file, &places.supervisor_lock]
        .map(|file| of_file(config, file, file == &places.log_file));
    let mut faults: Vec<Finding> = folders.into_iter().chain(files).flatten().collect();
    // Both folders may be missing for the same reason.
    faults.dedup();
    if faults.is_empty() {
        let detail = format!("{} can be written", config.storage.display());
        faults.push(Finding::ok(STORAGE, detail));
    }
    findings.extend(faults);
}

/// Why the service cannot use a file.
fn of_file(config: &Config, file: &Path, is_log: bool) -> Option<Finding> {
    let shown = file.display();
    if let Some(why) = refusal(file, is_log) {
        let what = format!("{shown} cannot be used: {why}");
        return Some(Finding::failed(STORAGE, what, "move it away"));
    }
    let metadata = fs::metadata(file).ok()?;
    if metadata.is_dir() {
        let what = format!("{shown} is a folder, and a file has to be there");
        return Some(Finding::failed(STORAGE, what, "move it away"));
    }
    if let Err(error) = access(file, Access::READ_OK | Access::WRITE_OK) {
        let what = format!("this user cannot write {shown}: {error}");
        return Some(Finding::failed(STORAGE, what, advice(config)));
    }
    // Root can write any file, so only the owner tells whether the service's user can.
    let storage = fs::metadata(existing(&config.storage)).ok()?;
    let is_foreign = rustix::process::geteuid().is_root() && storage.uid() != metadata.uid();
    is_foreign.then(|| {
        Finding::warning(
            STORAGE,
            format!("{shown} belongs to another user than the folder"),
            format!("chown --reference={} {shown}", config.storage.display()),
        )
    })
}

/// Why the service refuses a file regardless of its permissions, such as another user's link. Creates nothing.
fn refusal(file: &Path, is_log: bool) -> Option<io::Error> {
    let opened = match is_log && file.exists() {
        true => owned_file::append_log(file),
        false => owned_file::open(file, Use::Read),
    };
    // Errors of the system are left to the checks of kind and permissions.
    opened.err().filter(|why| why.raw_os_error().is_none())
}

/// Why the service cannot write in a folder.
fn of_folder(config: &Config, folder: &Path) -> Option<Finding> {
    let there = existing(folder);
    let shown = there.display();
    let failed = |what: String, remedy: &str| Some(Finding::failed(STORAGE, what, remedy));
    let tried = format!("write in {shown}");
    if !there.is_dir() {
        let what = format!("{shown} is no folder");
        return failed(what, "move it away, or set STORAGE_PATH");
    }
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => {}
        Err(error @ Errno::ROFS) => {
            return Some(symptoms::STORAGE_READ_ONLY.failed(STORAGE, tried, error));
        }
        Err(error) => {
            let what = match there == folder {
                true => format!("this user cannot write in {shown}: {error}"),
                false => format!("this user cannot make {}: {error}", folder.display()),
            };
            return failed(what, &advice(config));
        }
    }
    // Shared and non-blocking, so that this neither disturbs a running daemon nor waits for it.
    let locked = fs::File::open(there)
        .and_then(|file| Ok(flock(&file, FlockOperation::NonBlockingLockShared)?));
    if let Err(error) = locked
        && error.kind() != io::ErrorKind::WouldBlock
    {
        let what = format!("files in {shown} cannot be locked: {error}");
        return failed(what, LOCKS_REMEDY);
    }
    let space = statvfs(there).ok()?;
    let is_full = space.f_bavail == 0 || (space.f_files > 0 && space.f_favail == 0);
    is_full.then(|| symptoms::STORAGE_FULL.failed(STORAGE, tried, "its disk is full"))
}

fn advice(config: &Config) -> String {
    format!(
        "run check, supervise and serve as the web server's user, and let that own {}",
        config.storage.display()
    )
}

/// The nearest ancestor that exists (or the path itself): the rest would be created in it.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|one| one.exists())
        .unwrap_or(Path::new("/"))
}
