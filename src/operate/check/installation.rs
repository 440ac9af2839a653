//! The install's folder: `.env`, what it says, and where the service writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};

use super::Finding;
use crate::config::{self, Config, Variables};
use crate::limits::Limits;
use crate::places::Places;

/// Whether `.env` is there and read by those alone who should.
pub fn dotenv(root: &Path) -> Vec<Finding> {
    const ABOUT: &str = ".env";
    let path = root.join(".env");
    let shown = path.display();
    let Ok(metadata) = fs::metadata(&path) else {
        return vec![Finding::warning(
            ABOUT,
            format!("{shown} is not there, so only the environment counts"),
            "name the install's folder with --root",
        )];
    };
    if metadata.mode() & 0o004 != 0 {
        return vec![Finding::warning(
            ABOUT,
            format!("{shown} can be read by everybody on this machine"),
            format!("it holds secrets: chmod o-r {shown}"),
        )];
    }
    vec![Finding::ok(ABOUT, shown.to_string())]
}

/// Every variable that has a form.
pub fn variables(root: &Path, variables: &Variables, findings: &mut Vec<Finding>) {
    let mut push = |about, result: Result<String, config::ConfigError>| {
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
    push(
        "limits",
        Limits::from_variables(variables).map(|limits| {
            format!(
                "up to {} connections, {} of one agent",
                limits.max_connections, limits.max_per_agent
            )
        }),
    );
    for error in [
        config::host_variable(variables).err(),
        config::port_variable(variables).err(),
        config::database(root, variables).err(),
    ]
    .into_iter()
    .flatten()
    {
        findings.push(Finding::of_config("configuration", &error));
    }
    if variables.get("APP_TIMEZONE").is_none() {
        findings.push(Finding::warning(
            "time zone",
            "APP_TIMEZONE is not set, so UTC counts",
            "set it to what the application uses, else the administrator's page calls the service stale",
        ));
    }
    if variables.get("APP_URL").is_none() {
        findings.push(Finding::warning(
            "APP_URL",
            "is not set",
            "set it to the helpdesk's address; until then a browser is let in only where the proxy passes its Host on",
        ));
    }
}

/// Whether this user may write where the service does.
pub fn storage(config: &Config, findings: &mut Vec<Finding>) {
    const ABOUT: &str = "storage";
    let places = Places::of(config);
    let mut all_well = true;
    for folder in [&places.runtime, &places.logs] {
        let there = existing(folder);
        let shown = there.display();
        if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
            all_well = false;
            let what = match there == folder.as_path() {
                true => format!("this user cannot write in {shown}: {error}"),
                false => format!("this user cannot make {}: {error}", folder.display()),
            };
            findings.push(Finding::failed(ABOUT, what, advice(config)));
        }
    }
    for file in [&places.pid_file, &places.log_file, &places.supervisor_lock] {
        let Ok(metadata) = fs::metadata(file) else {
            continue;
        };
        let shown = file.display();
        if let Err(error) = access(file, Access::READ_OK | Access::WRITE_OK) {
            all_well = false;
            findings.push(Finding::failed(
                ABOUT,
                format!("this user cannot write {shown}: {error}"),
                advice(config),
            ));
        } else if rustix::process::geteuid().is_root()
            && fs::metadata(existing(&config.storage))
                .is_ok_and(|storage| storage.uid() != metadata.uid())
        {
            // Root may write anything, so only the owner shows what another user will find.
            all_well = false;
            findings.push(Finding::warning(
                ABOUT,
                format!("{shown} belongs to another user than the folder"),
                format!("chown --reference={} {shown}", config.storage.display()),
            ));
        }
    }
    if all_well {
        findings.push(Finding::ok(
            ABOUT,
            format!("{} can be written", config.storage.display()),
        ));
    }
}

fn advice(config: &Config) -> String {
    format!(
        "run check, supervise and serve as the web server's user, and let that own {}",
        config.storage.display()
    )
}

/// The nearest folder above that is there: the rest would be made in it.
fn existing(path: &Path) -> &Path {
    path.ancestors()
        .find(|one| one.exists())
        .unwrap_or(Path::new("/"))
}
