//! `install` and `uninstall`: the unit, drop-in, socket unit or crontab line of one install, made from what is found. The
//! shipped files of contrib/ are the templates; what differs from install to install is filled in.

mod compare;
mod files;
mod found;
mod unit;

use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) use self::compare::{compare, has_unit};
use self::files::{FileChange, UnitPlace};
pub(crate) use self::found::{Installation, would_make_database};
use super::Problem;
use crate::platform::exit_code;

/// Name of units and files, as of the shipped ones.
const NAME: &str = env!("CARGO_PKG_NAME");
/// Where the administrator's units are.
pub(crate) const UNITS: &str = "/etc/systemd/system";
/// Where those of packages are.
const PACKAGED: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where crontabs of one job are.
pub(crate) const CRONTABS: &str = "/etc/cron.d";
/// There where systemd is what runs the machine.
const BOOTED: &str = "/run/systemd/system";

/// By what the service is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceManager {
    /// Its unit, and its socket unit if wanted.
    Systemd {
        /// Whether the port stays open while the service is restarted.
        socket: bool,
    },
    /// A line of the supervisor's.
    Cron,
}

/// Writes what this install needs, or with `dry_run` shows it.
///
/// # Errors
/// It cannot be written, or another program's files would be in the way.
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
    say(
        out,
        &format!(
            "{} belongs to {}:{}, who runs the service\n",
            found.storage.display(),
            found.user,
            found.group
        ),
    )?;
    let mut has_changed = false;
    for change in changes.iter().filter(|change| !change.is_there()) {
        change.carry_out(out)?;
        has_changed = true;
    }
    if !has_changed {
        say(out, "nothing to do: all is as it should be\n")?;
    }
    let mode = match way {
        ServiceManager::Systemd { .. } if has_changed => {
            systemctl(&["daemon-reload"])?;
            "external"
        }
        ServiceManager::Systemd { .. } => "external",
        ServiceManager::Cron => "cron",
    };
    if found.mode.as_ref().is_some_and(|has| has != mode) {
        let root = found.root.display();
        say(
            out,
            &format!(
                "the management mode is another one; as {}: {NAME} settings set chat_websocket_management_mode {mode} --root {root}\n",
                found.user
            ),
        )?;
    }
    say(out, &next)
}

/// Ends the service of this install and removes what [`install`] has written for it, or with `dry_run` says so.
///
/// # Errors
/// The service manager refuses, or a file cannot be removed.
pub(crate) fn uninstall(root: &Path, dry_run: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let written = files::written_for(root)?;
    if written.is_empty() {
        return say(
            out,
            &format!(
                "nothing to do: nothing is installed for {}\n",
                root.display()
            ),
        );
    }
    let units: Vec<String> = written
        .iter()
        .filter_map(|path| files::unit_of(path))
        .collect();
    if !dry_run && !units.is_empty() {
        let words = units.iter().map(String::as_str);
        systemctl(
            &["disable", "--now"]
                .into_iter()
                .chain(words)
                .collect::<Vec<_>>(),
        )?;
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

/// The files of a unit, and what to do once they are there.
fn systemd(found: &Installation, socket: bool) -> Result<(Vec<FileChange>, String), Problem> {
    let place = UnitPlace::of_unit(&found.root)?;
    let name = &place.name;
    let header = files::header("systemd", &found.root);
    let template = name
        .split_once('@')
        .map_or(NAME.to_owned(), |_| format!("{NAME}@"));
    let is_packaged = PACKAGED.iter().any(|folder| {
        Path::new(folder)
            .join(format!("{template}.service"))
            .exists()
    });
    let whole = Path::new(UNITS).join(format!("{name}.service"));
    // A unit in /etc hides the package's, so a drop-in would be one of that.
    let service = match is_packaged && !whole.exists() {
        true => FileChange {
            path: Path::new(UNITS).join(format!("{name}.service.d/install.conf")),
            text: header.clone() + &unit::drop_in(found)?,
        },
        false => FileChange {
            path: whole,
            text: header.clone() + &unit::service(found)?,
        },
    };
    let mut changes = vec![service];
    let path = Path::new(UNITS).join(format!("{name}.socket"));
    // One that is there is kept up to date.
    let socket = socket || files::is_written_for(&path, &found.root);
    if socket {
        let text = header + &unit::socket(found)?;
        changes.push(FileChange { path, text });
    } else {
        let (_, port) = found.address()?;
        if port < 1024 {
            return Err(Problem::new(
                exit_code::FAILED,
                format!(
                    "port {port} is only for root: choose one from 1024 on, or let systemd open it: --socket"
                ),
            ));
        }
    }
    let mut next = format!("next: systemctl enable {name}");
    if socket {
        // A port is not opened for a service that runs.
        next.push_str(&format!(
            " {name}.socket && systemctl stop {name} && systemctl start {name}.socket {name}\n"
        ));
    } else {
        next.push_str(&format!(" && systemctl restart {name}\n"));
    }
    Ok((changes, next))
}

/// The crontab of one line.
fn cron(found: &Installation) -> Result<FileChange, Problem> {
    let place = UnitPlace::of_crontab(&found.root)?;
    let logs = found.storage.join("logs");
    if !logs.is_dir() {
        return Err(Problem::new(
            exit_code::FAILED,
            format!(
                "{} is not there, and the supervisor's output goes there; make it: sudo -u {} mkdir {}",
                logs.display(),
                found.user,
                logs.display()
            ),
        ));
    }
    Ok(FileChange {
        path: Path::new(CRONTABS).join(place.name),
        text: files::header("cron", &found.root) + &unit::crontab(found)?,
    })
}

/// Asks the service manager, where there is one.
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

fn say(out: &mut dyn Write, text: &str) -> Result<(), Problem> {
    out.write_all(text.as_bytes()).map_err(Problem::of_output)
}

/// The program that runs now, where it lies.
///
/// # Errors
/// It is gone.
pub(crate) fn program() -> Result<PathBuf, Problem> {
    std::env::current_exe()
        .and_then(|path| path.canonicalize())
        .map_err(|error| {
            Problem::new(exit_code::FAILED, "cannot tell where this program is")
                .because(error)
                .with_remedy("run it by its whole path")
        })
}
