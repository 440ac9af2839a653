//! The files that `install` writes: which of them belong to this install, and how they are written and removed.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{CRONTABS, NAME, UNITS, say};
use crate::admin::Problem;
use crate::platform::{exit_code, owned_file};

/// Suffix for a file that `install` has replaced; `uninstall` restores it.
const KEPT: &str = ".before-install";

/// The first lines of each file. The very first identifies the file, here and in the Debian package.
pub(super) fn header(way: &str, root: &Path) -> String {
    let instead = match way {
        "systemd" => "; changes of your own belong into a drop-in (systemctl edit)",
        _ => "",
    };
    format!(
        "{}{}\n# The next install writes this file anew{instead}.\n\n",
        mark(way),
        of(root)
    )
}

fn mark(way: &str) -> String {
    format!("# Written by: {NAME} install {way}")
}

fn of(root: &Path) -> String {
    format!(" --root {}", root.display())
}

/// To which install a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Missing,
    Written,
    /// Names this install, but `install` did not write it: made by hand, or for the PHP daemon.
    Foreign,
    AnotherInstall,
}

fn owner(path: &Path, root: &Path) -> Owner {
    let Ok(text) = fs::read_to_string(path) else {
        return match path.exists() {
            true => Owner::AnotherInstall,
            false => Owner::Missing,
        };
    };
    let first = text.lines().next().unwrap_or_default();
    let shown = root.to_string_lossy();
    let names_root = text
        .split(|c: char| c.is_whitespace() || c == '=')
        .any(|word| {
            word == shown
                || word
                    .strip_prefix(&*shown)
                    .is_some_and(|rest| rest.starts_with('/'))
        });
    match first.strip_prefix(&mark("")) {
        Some(rest) if rest.ends_with(&of(root)) => Owner::Written,
        Some(_) => Owner::AnotherInstall,
        None if names_root => Owner::Foreign,
        None => Owner::AnotherInstall,
    }
}

/// Whether `install` wrote this file for this install.
pub(super) fn is_written_for(path: &Path, root: &Path) -> bool {
    owner(path, root) == Owner::Written
}

/// The name of the unit or crontab that this install has, or can take.
pub(super) struct UnitPlace {
    pub(super) name: String,
}

impl UnitPlace {
    /// For units: the plain name, else an instance named after the folder, else one named after its whole path.
    pub(super) fn of_unit(root: &Path) -> Result<Self, Problem> {
        Self::free(root, '@', |name| {
            ["service", "socket", "service.d/install.conf"]
                .iter()
                .map(|end| Path::new(UNITS).join(format!("{name}.{end}")))
                .collect()
        })
    }

    /// For crontabs: the same with `-`, because cron ignores files with other characters in their names.
    pub(super) fn of_crontab(root: &Path) -> Result<Self, Problem> {
        Self::free(root, '-', |name| vec![Path::new(CRONTABS).join(name)])
    }

    fn free(
        root: &Path,
        joint: char,
        files: impl Fn(&str) -> Vec<PathBuf>,
    ) -> Result<Self, Problem> {
        let plain = |text: &str| -> String {
            text.trim_matches('/')
                .chars()
                .map(|c| {
                    if c.is_ascii_alphanumeric() || c == '_' {
                        c
                    } else {
                        '-'
                    }
                })
                .collect()
        };
        let folder = root.file_name().unwrap_or_default().to_string_lossy();
        let candidates = [
            NAME.to_owned(),
            format!("{NAME}{joint}{}", plain(&folder)),
            format!("{NAME}{joint}{}", plain(&root.to_string_lossy())),
        ];
        let owners = |name: &str| {
            files(name)
                .iter()
                .map(|path| owner(path, root))
                .collect::<Vec<_>>()
        };
        let has = candidates
            .iter()
            .find(|name| owners(name).contains(&Owner::Written));
        let may_have = candidates
            .iter()
            .find(|name| !owners(name).contains(&Owner::AnotherInstall));
        has.or(may_have)
            .map(|name| UnitPlace { name: name.clone() })
            .ok_or_else(|| {
                Problem::new(
                    exit_code::FAILED,
                    format!(
                        "{} are all taken by others; remove one of them",
                        candidates.join(", ")
                    ),
                )
            })
    }
}

/// A file and its wanted content.
pub(super) struct FileChange {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl FileChange {
    pub(super) fn show(&self, out: &mut dyn Write) -> Result<(), Problem> {
        say(out, &format!("# {}\n{}\n", self.path.display(), self.text))
    }

    /// Whether the file already has this content.
    pub(super) fn is_there(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    /// Writes the file, after moving a foreign one aside.
    pub(super) fn carry_out(&self, out: &mut dyn Write) -> Result<(), Problem> {
        let there = fs::read_to_string(&self.path);
        if there.is_ok_and(|text| !text.starts_with(&mark(""))) {
            let kept = kept(&self.path);
            fs::rename(&self.path, &kept).map_err(|error| cannot("move", &self.path, error))?;
            say(out, &format!("kept what was there as {}\n", kept.display()))?;
        }
        if let Some(folder) = self.path.parent() {
            owned_file::make_folder(folder, 0o755, false)
                .map_err(|error| cannot("make", folder, error))?;
        }
        // Replaced in one step, so that neither systemd nor cron ever reads half of it.
        owned_file::replace(&self.path, &self.text, 0o644)
            .and_then(|()| fs::set_permissions(&self.path, fs::Permissions::from_mode(0o644)))
            .map_err(|error| cannot("write", &self.path, error))?;
        say(out, &format!("wrote {}\n", self.path.display()))
    }
}

fn kept(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(KEPT);
    PathBuf::from(name)
}

fn cannot(operation: &'static str, path: &Path, error: std::io::Error) -> Problem {
    let is_denied = error.kind() == ErrorKind::PermissionDenied;
    let problem = Problem::of_path(operation, path, error).with_code(exit_code::FAILED);
    match is_denied {
        true => problem.with_remedy("run it as root: sudo"),
        false => problem,
    }
}

/// Every file that `install` wrote for this install.
pub(super) fn written_for(root: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut found = Vec::new();
    for folder in [UNITS, CRONTABS] {
        for path in entries(Path::new(folder))? {
            match path.extension().is_some_and(|end| end == "d") && path.is_dir() {
                true => found.push(path.join("install.conf")),
                false => found.push(path),
            }
        }
    }
    found.retain(|path| is_written_for(path, root));
    found.sort();
    Ok(found)
}

/// Entries of a folder whose names begin with ours.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(cannot("list", folder, error)),
    };
    let ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(NAME);
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(ours)
        .map(|name| folder.join(name))
        .collect())
}

/// The unit that a file belongs to; `None` for a crontab.
pub(super) fn unit_of(path: &Path) -> Option<String> {
    let unit = match path.file_name()?.to_str()? {
        "install.conf" => path.parent()?.file_name()?.to_str()?.strip_suffix(".d")?,
        name => name,
    };
    (unit.ends_with(".service") || unit.ends_with(".socket")).then(|| unit.to_owned())
}

/// Removes a file, or replaces it with the one that it had displaced.
pub(super) fn remove(path: &Path, out: &mut dyn Write) -> Result<(), Problem> {
    let kept = kept(path);
    let gone = match kept.exists() {
        true => fs::rename(&kept, path),
        false => fs::remove_file(path),
    };
    gone.map_err(|error| cannot("remove", path, error))?;
    if path.ends_with("install.conf")
        && let Some(folder) = path.parent()
    {
        // Fails, as it should, if the administrator's own drop-ins are in the folder.
        let _ = fs::remove_dir(folder);
    }
    match path.exists() {
        true => say(out, &format!("brought back {}\n", path.display())),
        false => say(out, &format!("removed {}\n", path.display())),
    }
}
