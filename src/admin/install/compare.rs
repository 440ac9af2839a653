//! Compares the installed units, merged as systemd merges them, and crontab lines with what the install needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::files::{listed, ours};
use super::{CRONTABS, Installation, PACKAGED, UNITS, unit};

/// A unit or crontab of this install, and its faults.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Name of the unit, or path of the crontab.
    pub of: String,
    /// `systemd` or `cron`, the argument of `install`.
    pub way: &'static str,
    /// What does not fit; empty if everything does.
    pub faults: Vec<String>,
}

/// Compares every unit and crontab line of this install.
pub(crate) fn compare(found: &Installation) -> Vec<Misfit> {
    let wanted = unit::directives(found);
    let mut misfits: Vec<Misfit> = units_of(&found.root)
        .map(|(name, unit)| Misfit {
            faults: faults(&unit, &wanted),
            of: format!("{name}.service"),
            way: "systemd",
        })
        .collect();
    for path in ours(Path::new(CRONTABS)).unwrap_or_default() {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'));
        for line in lines.filter(|line| line.contains(" supervise ") && is_of(line, &found.root)) {
            let user = line.split_whitespace().nth(5).unwrap_or_default();
            let (storage, owner) = (found.storage.display(), &found.user);
            let fault = format!("runs as {user}, and {storage} belongs to {owner}");
            misfits.push(Misfit {
                of: path.display().to_string(),
                way: "cron",
                faults: Vec::from_iter((user != owner).then_some(fault)),
            });
        }
    }
    misfits
}

/// Whether a unit starts the service of the install in this folder.
pub(crate) fn has_unit(root: &Path) -> bool {
    units_of(root).next().is_some()
}

/// The units that start the service of the install in this folder.
fn units_of(root: &Path) -> impl Iterator<Item = (String, BTreeMap<String, String>)> {
    let units = unit_names().into_iter().map(|name| {
        let unit = effective(&name);
        (name, unit)
    });
    units.filter(move |(_, unit)| {
        let command = unit.get("ExecStart");
        command.is_some_and(|command| is_of(command, root))
    })
}

/// Whether a command names this install's folder.
fn is_of(command: &str, root: &Path) -> bool {
    let root = root.to_string_lossy();
    let plain = command.replace(['"', '\''], "").replace("%%", "%");
    plain.split_once("--root ").is_some_and(|(_, rest)| {
        rest.strip_prefix(&*root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    })
}

/// Our units that an administrator has written or enabled; a unit that is only in a package does not count.
fn unit_names() -> BTreeSet<String> {
    [UNITS.to_owned(), format!("{UNITS}/multi-user.target.wants")]
        .iter()
        .flat_map(|folder| ours(Path::new(folder)).unwrap_or_default())
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.trim_end_matches(".d");
            Some(name.strip_suffix(".service")?.to_owned())
        })
        .filter(|name| !name.ends_with('@'))
        .collect()
}

/// The unit as systemd sees it: the unit file, or that of its template, with the drop-ins of both.
fn effective(name: &str) -> BTreeMap<String, String> {
    let (template, instance) = match name.split_once('@') {
        Some((prefix, instance)) => (Some(format!("{prefix}@")), instance),
        None => (None, ""),
    };
    let folders = [&[UNITS][..], &PACKAGED].concat();
    let names: Vec<&str> = [name].into_iter().chain(template.as_deref()).collect();
    let fragment = names.iter().find_map(|name| {
        let mut files = folders
            .iter()
            .map(|folder| format!("{folder}/{name}.service"));
        files.find_map(|file| fs::read_to_string(file).ok())
    });
    let mut texts: Vec<String> = fragment.into_iter().collect();
    for name in names.iter().rev() {
        let paths = listed(format!("{UNITS}/{name}.service.d").as_ref()).unwrap_or_default();
        texts.extend(
            paths
                .iter()
                .filter_map(|path| fs::read_to_string(path).ok()),
        );
    }
    let mut unit: BTreeMap<String, String> = BTreeMap::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim().replace("%i", instance));
        let entry = unit.entry(key.to_owned()).or_default();
        *entry = match unit::LISTS.contains(&key) && !value.is_empty() {
            true => format!("{entry} {value}").trim().to_owned(),
            false => value,
        };
    }
    unit
}

fn faults(unit: &BTreeMap<String, String>, wanted: &[(&str, String)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (key, value) in wanted {
        let has = unit.get(*key).map_or("", String::as_str);
        match *key {
            "ExecStart" => {
                let program = unit::words(has).into_iter().next().unwrap_or_default();
                if !Path::new(&program).exists() {
                    faults.push(format!("starts {program}, which is not there"));
                }
            }
            // More paths than needed are no fault, and a path with a hyphen need not exist.
            "ReadWritePaths" => {
                let paths = unit::words(has);
                let needed = unit::words(value);
                let lacks = |path: &&String| !path.starts_with('-') && !is_covered(path, &paths);
                let lacking = needed.iter().filter(lacks);
                faults.extend(lacking.map(|path| format!("{key} lacks {path}")));
                let is_gone = |path: &&String| path.starts_with('/') && !Path::new(path).exists();
                let gone = paths.iter().filter(is_gone);
                faults.extend(gone.map(|path| format!("{key} has {path}, which is not there")));
            }
            "ProtectHome" if ["no", "false"].contains(&has) => {}
            "LimitNOFILE" | "TasksMax" | "MemoryMax" => {
                let number = |text: &str| text.trim_end_matches('M').parse::<u64>().ok();
                if let (Some(has), Some(wanted)) = (number(has), number(value))
                    && has < wanted
                {
                    faults.push(format!("{key} is {has}, and the limits add up to {value}"));
                }
            }
            _ if has.trim_end_matches('/') == value => {}
            _ => faults.push(format!("{key} is {has:?}, this install needs {value:?}")),
        }
    }
    faults
}

/// Whether `path` is one of `paths`, or below one.
fn is_covered(path: &str, paths: &[String]) -> bool {
    paths
        .iter()
        .any(|one| Path::new(path).starts_with(one.trim_start_matches('-')))
}
