//! The subcommands around the daemon: arguments in, lines and an exit code out. What they do stands in
//! `supervise` and `operate`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::{Stop, absolute};
use crate::config::{Config, Variables};
use crate::store::Store;
use crate::{daemon, exit_code, supervise};

#[derive(Subcommand)]
pub enum Operate {
    /// Look after the service once; run by cron every minute
    #[command(
        long_about = "Look after the service once: start, stop or restart it as the settings ask. Run it from cron \
                      every minute, as the web server's user.\n\n\
                      In management mode external it only writes how things stand. Only one supervisor runs at a \
                      time; a second one, and the PHP application's own, ends at once and silently.",
        after_help = "Exit codes: 0 done, or another supervisor runs; 1 the daemon does not start or does not end, \
                      or the database does not answer; 64 wrong command line; 78 wrong configuration."
    )]
    Supervise(Root),
    /// Become another subcommand in a session of its own
    #[command(name = supervise::DETACHED, hide = true)]
    Detached {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[derive(Args)]
pub struct Root {
    /// Folder of the helpdesk install, where its .env is
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
}

/// An install whose configuration is valid; its database is not asked yet.
struct Install {
    root: PathBuf,
    config: Config,
    store: Arc<dyn Store>,
}

impl Install {
    fn open(root: &Path) -> Result<Self, Stop> {
        let root = absolute(root)?;
        let config = Variables::load(&root)
            .and_then(|variables| Config::from_variables(&root, &variables))
            .map_err(|error| (error.to_string(), exit_code::CONFIG))?;
        let store = daemon::open_store(&config);
        Ok(Install {
            root,
            config,
            store,
        })
    }
}

/// Runs one of them; the exit code.
pub fn run(command: Operate) -> Result<u8, Stop> {
    match command {
        Operate::Supervise(Root { root }) => {
            let Install {
                root,
                config,
                store,
            } = Install::open(&root)?;
            Ok(supervise::run(
                &root,
                &config,
                store,
                &mut io::stdout().lock(),
            ))
        }
        Operate::Detached { arguments } => Err((
            format!("cannot run: {}", supervise::serve_detached(&arguments)),
            exit_code::SOFTWARE,
        )),
    }
}
