//! `install` and `uninstall`: the unit, drop-in, socket unit or crontab line of one install. The shipped files of
//! contrib/ are the templates; the facts of the install are filled in.

mod compare;
mod files;
mod found;
mod unit;

use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) use self::compare::{compare, has_unit};
use self::files::FileChange;
pub(crate) use self::found::{Installation, would_make_database};
use super::{Problem, say};
use crate::platform::exit_code;

/// Name of the units and files; the shipped ones have it too.
const NAME: &str = env!("CARGO_PKG_NAME");
/// The administrator's units.
const UNITS: &str = "/etc/systemd/system";
/// The units of packages.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Crontabs of packages and programs.
const CRONTABS: &str = "/etc/cron.d";
/// Exists only if systemd has booted the machine (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// What starts the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceManager {
    /// systemd: a unit, and a socket unit if wanted.
    Systemd {
        /// Whether the port stays open while the service is restarted.
        socket: bool,
    },
    /// Cron: a crontab line that runs the supervisor.
    Cron,
}

/// Writes what this install needs, or with `dry_run` shows it.
///
/// # Errors
/// A file cannot be written, every possible name is taken, or a port below 1024 is wanted without a socket unit.
pub(crate) fn install(
    way: ServiceManager,
    found: &Installation,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<(), Problem> {
    let (changes, next) = match way {
        ServiceManager::Systemd { socket } => systemd(found, socket)?,
        ServiceManager::Cron => (vec![cron(found)?], String::new()),
    };
    if dry_run {
        return changes.iter().try_for_each(|change| change.show(out));
    }
    let (storage, user, group) = (found.storage.display(), &found.user, &found.group);
    let whose = format!("{storage} belongs to {user}:{group}, who runs the service\n");
    say(out, &whose)?;
    let mut has_changed = false;
    for change in changes.iter().filter(|change| !change.is_there()) {
        change.carry_out(out)?;
        has_changed = true;
    }
    let mode = match way {
        ServiceManager::Systemd { .. } => "external",
        ServiceManager::Cron => "cron",
    };
    if !has_changed {
        say(out, "nothing to do: all is as it should be\n")?;
    } else if mode == "external" {
        systemctl(&["daemon-reload"])?;
    }
    if found.mode.as_ref().is_some_and(|has| has != mode) {
        let root = found.root.display();
        let what = format!(
            "the management mode is another one; as {user}: {NAME} settings set chat_websocket_management_mode {mode} --root {root}\n"
        );
        say(out, &what)?;
    }
    say(out, &next)
}

/// Stops the service of this install and removes what [`install`] has written for it; with `dry_run` only lists it.
///
/// # Errors
/// The service manager refuses, or a file cannot be removed.
pub(crate) fn uninstall(root: &Path, dry_run: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let written = files::written_for(root)?;
    if written.is_empty() {
        let root = root.display();
        return say(
            out,
            &format!("nothing to do: nothing is installed for {root}\n"),
        );
    }
    let units = written.iter().filter_map(|path| files::unit_of(path));
    let units: Vec<String> = units.collect();
    if !dry_run && !units.is_empty() {
        let units = units.iter().map(String::as_str);
        let words: Vec<&str> = ["disable", "--now"].into_iter().chain(units).collect();
        systemctl(&words)?;
    }
    for path in &written {
        match dry_run {
            true => say(out, &format!("would remove {}\n", path.display()))?,
            false => files::remove(path, out)?,
        }
    }
    match dry_run || units.is_empty() {
        true => Ok(()),
        false => systemctl(&["daemon-reload"]),
    }
}

/// The files of a unit, and the commands to run next.
fn systemd(found: &Installation, socket: bool) -> Result<(Vec<FileChange>, String), Problem> {
    let name = files::name_of_unit(&found.root)?;
    let header = files::header("systemd", &found.root);
    let template = match name.contains('@') {
        true => format!("{NAME}@.service"),
        false => format!("{NAME}.service"),
    };
    let mut packaged = PACKAGED
        .map(|folder| Path::new(folder).join(&template))
        .into_iter();
    let is_packaged = packaged.any(|path| path.exists());
    let whole = Path::new(UNITS).join(format!("{name}.service"));
    // A whole unit in /etc hides the package's, so a drop-in would apply to that one.
    let service = match is_packaged && !whole.exists() {
        true => FileChange {
            path: Path::new(UNITS).join(format!("{name}.service.d/install.conf")),
            text: header.clone() + &unit::drop_in(found),
        },
        false => FileChange {
            path: whole,
            text: header.clone() + &unit::service(found),
        },
    };
    let mut changes = vec![service];
    let path = Path::new(UNITS).join(format!("{name}.socket"));
    // An existing socket unit is kept up to date even without --socket.
    let socket = socket || files::is_written_for(&path, &found.root);
    if socket {
        let text = header + &unit::socket(found)?;
        changes.push(FileChange { path, text });
    } else {
        let (_, port) = found.address()?;
        if port < 1024 {
            let what = format!(
                "port {port} is only for root: choose one from 1024 on, or let systemd open it: --socket"
            );
            return Err(Problem::new(exit_code::FAILED, what));
        }
    }
    let then = match socket {
        // systemd cannot open the port while the service itself holds it.
        true => format!(
            " {name}.socket && systemctl stop {name} && systemctl start {name}.socket {name}"
        ),
        false => format!(" && systemctl restart {name}"),
    };
    Ok((changes, format!("next: systemctl enable {name}{then}\n")))
}

/// The crontab of one line.
fn cron(found: &Installation) -> Result<FileChange, Problem> {
    let name = files::name_of_crontab(&found.root)?;
    let logs = found.storage.join("logs");
    if !logs.is_dir() {
        let (logs, user) = (logs.display(), &found.user);
        let what = format!(
            "{logs} is not there, and the supervisor's output goes there; make it: sudo -u {user} mkdir {logs}"
        );
        return Err(Problem::new(exit_code::FAILED, what));
    }
    Ok(FileChange {
        path: Path::new(CRONTABS).join(name),
        text: files::header("cron", &found.root) + &unit::crontab(found)?,
    })
}

/// Runs `systemctl`, if systemd runs the machine.
fn systemctl(words: &[&str]) -> Result<(), Problem> {
    if !Path::new(BOOTED).exists() {
        return Ok(());
    }
    let failed = || {
        let what = format!("systemctl {} has failed", words.join(" "));
        Problem::new(exit_code::FAILED, what)
    };
    let output = std::process::Command::new("systemctl")
        .args(words)
        .output()
        .map_err(|error| failed().because(error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed().because(String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Path of the running program.
///
/// # Errors
/// The file was removed or replaced.
pub(crate) fn program() -> Result<PathBuf, Problem> {
    std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .map_err(|error| {
            Problem::new(exit_code::FAILED, "cannot tell where this program is")
                .because(error)
                .with_remedy("run it by its whole path")
        })
}
