//! The facts of an install: its folders, their owner, and what the service has to reach.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::admin::Problem;
use crate::config::resource_limits::Demand;
use crate::config::settings::{Rows, Settings};
use crate::config::{Config, Database, listen_address};
use crate::platform::{exit_code, net};

/// Of one install.
pub(crate) struct Installation {
    /// Its folder.
    pub root: PathBuf,
    /// The program that is to run.
    pub program: PathBuf,
    /// `STORAGE_PATH`.
    pub storage: PathBuf,
    /// Who owns that.
    pub user: String,
    /// That user's group.
    pub group: String,
    /// Where the service may write; those that need not be there with a hyphen in front.
    pub writes: Vec<String>,
    /// Whether it needs another service's database.
    pub needs_server: bool,
    /// What the limits add up to.
    pub demand: Demand,
    /// The management mode, where the settings say one.
    pub mode: Option<String>,
    /// Every path that it has to reach, whatever for.
    reaches: Vec<PathBuf>,
    /// Where it listens, as the settings say; or why they cannot be asked.
    address: Result<(String, u16), Problem>,
}

impl Installation {
    /// Looks at an install; `rows` are its settings, or why there are none.
    ///
    /// # Errors
    /// A folder is missing, or belongs to one that the service is not to run as.
    pub(crate) fn look(
        root: &Path,
        program: PathBuf,
        config: &Config,
        rows: Result<Rows, Problem>,
    ) -> Result<Self, Problem> {
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
            return Err(Problem::new(
                exit_code::FAILED,
                format!(
                    "{storage} belongs to root, which the service does not run as; give it to the user that the helpdesk's \
                     PHP runs as: chown -R www-data: {storage}"
                ),
            ));
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
            mode: rows
                .as_ref()
                .ok()
                .map(|rows| rows.text("chat_websocket_management_mode", "").to_owned())
                .filter(|mode| !mode.is_empty()),
            reaches,
            address: rows.map(|rows| {
                let (host, port, _) = listen_address(config, &rows);
                (host, port)
            }),
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> Result<(&str, u16), Problem> {
        match &self.address {
            Ok((host, port)) => Ok((host, *port)),
            Err(problem) => Err(Problem::new(
                exit_code::FAILED,
                format!("cannot tell the port, which is in the settings: {problem}"),
            )),
        }
    }

    /// The same as systemd wants it, which knows no names.
    pub(super) fn socket_address(&self) -> Result<SocketAddr, Problem> {
        let (host, port) = self.address()?;
        let found = net::addresses(host, port).ok();
        found
            .and_then(|addresses| addresses.first().copied())
            .ok_or_else(|| {
                Problem::new(
                    exit_code::FAILED,
                    format!(
                        "{host} has no address; set chat_websocket_host to one of this machine's"
                    ),
                )
            })
    }

    /// Whether something that it needs is below one of these folders.
    pub(super) fn reaches_below(&self, folders: &[&str]) -> bool {
        let is_below = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder));
        self.reaches.iter().any(is_below)
    }
}

/// Whether opening the database would make its file: root's, where root installs, and the service could not write it.
pub(crate) fn would_make_database(config: &Config) -> bool {
    match &config.database {
        Database::Mysql(_) => false,
        #[cfg(feature = "embedded")]
        Database::Sqlite(file) => !file.exists(),
    }
}

/// The path as text. Whatever is not printable could be a line of its own in a unit, and `.env` is not root's.
fn shown(path: &Path) -> Result<String, Problem> {
    path.to_str()
        .filter(|text| !text.chars().any(char::is_control))
        .map(str::to_owned)
        .ok_or_else(|| {
            Problem::new(
                exit_code::FAILED,
                format!("{path:?} cannot stand in a unit or crontab; choose another folder"),
            )
        })
}

/// The names of a user, and of the group that the user has in the first place; numbers where there are none.
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
