//! The facts of an install: its folders, their owner, and what the service has to reach.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::admin::Problem;
use crate::config::resource_limits::Demand;
use crate::config::settings::{Rows, Settings, key};
use crate::config::{Config, Database, listen_address};
use crate::platform::{exit_code, net};

/// The facts of one install.
pub(crate) struct Installation {
    /// Its folder.
    pub root: PathBuf,
    /// Path of the program to run.
    pub program: PathBuf,
    /// `STORAGE_PATH`.
    pub storage: PathBuf,
    /// Owner of the storage folder, as which the service runs.
    pub user: String,
    /// That user's group.
    pub group: String,
    /// Paths that the service writes; a leading hyphen marks one that need not exist, as systemd has it.
    pub writes: Vec<String>,
    /// Whether the database is a server, so that the unit starts after it.
    pub needs_server: bool,
    /// What the limits add up to.
    pub demand: Demand,
    /// The management mode, if the settings name one.
    pub mode: Option<String>,
    /// Every path that the service must be able to open.
    reaches: Vec<PathBuf>,
    /// The listen address, or why the settings cannot be read.
    address: Result<(String, u16), Problem>,
}

impl Installation {
    /// Gathers the facts; `rows` are the settings, or why they cannot be read.
    ///
    /// # Errors
    /// The storage folder is missing or belongs to root, or a path cannot be written into a unit.
    pub(crate) fn look(
        program: PathBuf,
        config: &Config,
        rows: Result<Rows, Problem>,
    ) -> Result<Self, Problem> {
        let root = &config.root;
        let cannot = |operation, path: &Path, error: io::Error| {
            Problem::of_path(operation, path, error).with_code(exit_code::FAILED)
        };
        let storage = config.storage.canonicalize().map_err(|error| {
            cannot("open the storage folder", &config.storage, error)
                .with_remedy("make it, and give it to the user that the helpdesk's PHP runs as")
        })?;
        let metadata =
            fs::metadata(&storage).map_err(|error| cannot("look at", &storage, error))?;
        if metadata.uid() == 0 {
            let storage = storage.display();
            let what = format!(
                "{storage} belongs to root, which the service does not run as; give it to the user that the helpdesk's \
                 PHP runs as: chown -R www-data: {storage}"
            );
            return Err(Problem::new(exit_code::FAILED, what));
        }
        let (user, group) = names(metadata.uid(), metadata.gid());
        let mut reaches = vec![root.to_owned(), storage.clone(), program.clone()];
        let mut writes = vec![shown(&storage)?];
        writes.push(format!("-{}", shown(&root.join("cache"))?));
        match &config.database {
            Database::Mysql(database) => reaches.extend(database.socket.iter().map(PathBuf::from)),
            #[cfg(feature = "embedded")]
            Database::Sqlite(file) => {
                let folder = file.parent().unwrap_or(root);
                if !folder.starts_with(&storage) {
                    writes.push(shown(folder)?);
                }
                reaches.push(file.clone());
            }
        }
        let empty = Rows::default();
        let message_bytes =
            Settings::from_rows(rows.as_ref().unwrap_or(&empty)).max_message_bytes(&config.limits);
        for path in &reaches {
            shown(path)?;
        }
        Ok(Installation {
            root: root.to_owned(),
            program,
            storage,
            user,
            group,
            writes,
            needs_server: matches!(config.database, Database::Mysql(_)),
            demand: Demand::of(&config.limits, message_bytes),
            mode: rows.as_ref().ok().and_then(|rows| {
                let mode = rows.text(key::MANAGEMENT_MODE, "");
                (!mode.is_empty()).then(|| mode.to_owned())
            }),
            reaches,
            address: rows.map(|rows| {
                let (host, port, _) = listen_address(config, &rows);
                (host, port)
            }),
        })
    }

    /// Host and port of the listener.
    pub(super) fn address(&self) -> Result<(&str, u16), Problem> {
        match &self.address {
            Ok((host, port)) => Ok((host, *port)),
            Err(problem) => {
                let what = format!("cannot tell the port, which is in the settings: {problem}");
                Err(Problem::new(exit_code::FAILED, what))
            }
        }
    }

    /// The same as an IP address and port, because systemd resolves no names.
    pub(super) fn socket_address(&self) -> Result<SocketAddr, Problem> {
        let (host, port) = self.address()?;
        let found = net::addresses(host, port).unwrap_or_default();
        found.first().copied().ok_or_else(|| {
            let what = "has no address; set chat_websocket_host to one of this machine's";
            Problem::new(exit_code::FAILED, format!("{host} {what}"))
        })
    }

    /// Whether the service needs a path below one of these folders.
    pub(super) fn reaches_below(&self, folders: &[&str]) -> bool {
        let is_below = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder));
        self.reaches.iter().any(is_below)
    }
}

/// Whether opening the database would create its file. Root would own it, and the service could not write it.
pub(crate) fn would_make_database(config: &Config) -> bool {
    match &config.database {
        Database::Mysql(_) => false,
        #[cfg(feature = "embedded")]
        Database::Sqlite(file) => !file.exists(),
    }
}

/// The path as text, without control characters: `.env` is not root's, and a line feed could inject a line into a unit.
fn shown(path: &Path) -> Result<String, Problem> {
    let text = path.to_str();
    let text = text.filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        let what = format!("{path:?} cannot stand in a unit or crontab; choose another folder");
        Problem::new(exit_code::FAILED, what)
    })
}

/// The names of a user and of its primary group; numbers where there are no names.
fn names(uid: u32, gid: u32) -> (String, String) {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let row = |text: &str, id: u32| {
        text.lines()
            .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
            .find(|fields| fields.get(2).is_some_and(|field| *field == id.to_string()))
    };
    let user = row(&passwd, uid);
    let gid = user
        .as_ref()
        .and_then(|fields| fields.get(3)?.parse().ok())
        .unwrap_or(gid);
    let name = |row: Option<Vec<String>>, id: u32| {
        row.and_then(|mut fields| fields.drain(..).next())
            .unwrap_or(id.to_string())
    };
    (name(user, uid), name(row(&groups, gid), gid))
}
