//! The files that `install` writes: which of them belong to this install, and how they are written and removed.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{CRONTABS, NAME, UNITS};
use crate::admin::{Problem, say};
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
    Written,
    /// Missing, or not written by `install` but naming this one: made by hand, or for the PHP daemon.
    Free,
    AnotherInstall,
}

fn owner(path: &Path, root: &Path) -> Owner {
    let Ok(text) = fs::read_to_string(path) else {
        return match path.exists() {
            true => Owner::AnotherInstall,
            false => Owner::Free,
        };
    };
    let first = text.lines().next().unwrap_or_default();
    let mut words = text.split(|c: char| c.is_whitespace() || c == '=');
    match first.strip_prefix(&mark("")) {
        Some(rest) if rest.ends_with(&of(root)) => Owner::Written,
        None if words.any(|word| Path::new(word).starts_with(root)) => Owner::Free,
        _ => Owner::AnotherInstall,
    }
}

/// Whether `install` wrote this file for this install.
pub(super) fn is_written_for(path: &Path, root: &Path) -> bool {
    owner(path, root) == Owner::Written
}

/// The name of the unit that this install has, or can take: the plain one, else an instance named after the folder, else
/// one named after its whole path.
pub(super) fn name_of_unit(root: &Path) -> Result<String, Problem> {
    free_name(root, '@', |name| {
        ["service", "socket", "service.d/install.conf"]
            .map(|end| Path::new(UNITS).join(format!("{name}.{end}")))
            .to_vec()
    })
}

/// The same for the crontab, with `-`, because cron ignores files with other characters in their names.
pub(super) fn name_of_crontab(root: &Path) -> Result<String, Problem> {
    free_name(root, '-', |name| vec![Path::new(CRONTABS).join(name)])
}

fn free_name(
    root: &Path,
    joint: char,
    files: impl Fn(&str) -> Vec<PathBuf>,
) -> Result<String, Problem> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let named_after = |path: &OsStr| {
        let path = path.to_string_lossy();
        let plain = path.trim_matches('/').replace(|c: char| !is_plain(c), "-");
        format!("{NAME}{joint}{plain}")
    };
    let candidates = [
        NAME.to_owned(),
        named_after(root.file_name().unwrap_or_default()),
        named_after(root.as_os_str()),
    ];
    let has = |name: &&String, of| files(name).iter().any(|path| owner(path, root) == of);
    let own = candidates.iter().find(|name| has(name, Owner::Written));
    let free = candidates
        .iter()
        .find(|name| !has(name, Owner::AnotherInstall));
    own.or(free).cloned().ok_or_else(|| {
        let all = candidates.join(", ");
        let what = format!("{all} are all taken by others; remove one of them");
        Problem::new(exit_code::FAILED, what)
    })
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
    let mut found = [ours(Path::new(UNITS))?, ours(Path::new(CRONTABS))?].concat();
    for path in &mut found {
        if path.extension().is_some_and(|end| end == "d") && path.is_dir() {
            path.push("install.conf");
        }
    }
    found.retain(|path| is_written_for(path, root));
    Ok(found)
}

/// Entries of a folder whose names begin with ours.
pub(super) fn ours(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut paths = match listed(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(|error| cannot("list", folder, error))?,
    };
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(NAME)
    });
    Ok(paths)
}

/// Entries of a folder, by name.
pub(super) fn listed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<PathBuf> = entries.collect();
    paths.sort();
    Ok(paths)
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
