//! `install` and `uninstall`: arguments in, lines and an exit code out. `admin/install/` does the work.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::absolute;
use super::admin::{OpenInstall, Root};
use crate::admin::Problem;
use crate::admin::install::{self, Installation, ServiceManager};
use crate::config::settings::Rows;
use crate::platform::exit_code;

pub(super) const INSTALL: &str = "Set up systemd or cron to run the service: write its unit (or a drop-in of the package's \
                           unit), or the supervisor's crontab line. Folder, owner, port, storage, database and limits \
                           are taken from the install. Run it again after these change; existing files in the same \
                           place are kept, and restored by uninstall.";
pub(super) const UNINSTALL: &str = "Stop the service and remove the unit, drop-in or crontab line that install has written \
                             for this install. The install itself is not changed.";

#[derive(Args)]
pub(super) struct InstallOptions {
    /// What runs the service
    #[arg(value_enum)]
    way: WayWord,
    #[command(flatten)]
    root: Root,
    /// Let systemd keep the port open while the service restarts
    #[arg(long)]
    socket: bool,
    /// Only show the files
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WayWord {
    /// Management mode external
    Systemd,
    /// Management mode cron
    Cron,
}

#[derive(Args)]
pub(super) struct UninstallOptions {
    #[command(flatten)]
    root: Root,
    /// Only list the files
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn install(options: &InstallOptions, out: &mut dyn Write) -> Result<(), Problem> {
    let way = match (options.way, options.socket) {
        (WayWord::Cron, true) => {
            let what = "--socket is for systemd alone";
            return Err(Problem::new(exit_code::USAGE, what));
        }
        (WayWord::Cron, false) => ServiceManager::Cron,
        (WayWord::Systemd, socket) => ServiceManager::Systemd { socket },
    };
    let opened = OpenInstall::read(&options.root.root).map_err(cannot)?;
    let rows = match install::would_make_database(&opened.config) {
        true => Ok(Rows::default()),
        false => opened.database().run(|store| store.settings()),
    };
    let found = Installation::look(install::program()?, &opened.config, rows)?;
    install::install(way, &found, options.dry_run, out)
}

pub(super) fn uninstall(options: &UninstallOptions, out: &mut dyn Write) -> Result<(), Problem> {
    let root = absolute(&options.root.root).map_err(cannot)?;
    install::uninstall(&root, options.dry_run, out)
}

/// Both subcommands have one exit code for every failure.
fn cannot(problem: Problem) -> Problem {
    problem.with_code(exit_code::FAILED)
}
