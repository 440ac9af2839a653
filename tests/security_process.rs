//! Exposure by the process itself: secrets that other users can see, files that other users can write, privileges that it
//! does not need.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use andrea_chat_websocket::auth::TokenVerifier;
use andrea_chat_websocket::config::{Config, Variables};

use crate::support::cron::Cron;
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::jwt;
use crate::support::ops::seeded;

fn proc_file(pid: u32, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).expect("a file of the process");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_secret_is_in_the_command_line_or_what_a_panic_could_show() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let install = Install::new(&database, &Options::new());
    let daemon = Daemon::start_in(install.clone(), &Options::new());
    daemon.login(1).unwrap();
    for place in ["cmdline", "comm"] {
        let text = proc_file(daemon.pid(), place);
        for secret in [jwt::SECRET, database.password] {
            assert!(!text.contains(secret), "{place}: {text}");
        }
    }
    // A panic prints what is formatted, which for everything that holds a secret leaves it out.
    let variables = Variables::load(install.root()).expect("the variables");
    let config = Config::from_variables(install.root(), &variables).expect("the configuration");
    assert_eq!(config.jwt_secret, jwt::SECRET);
    let shown = format!(
        "{config:?} {:?} {:?}",
        config.database,
        TokenVerifier::new(jwt::SECRET)
    );
    for secret in [jwt::SECRET, database.password] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// The supervisor has read `.env` when it starts the daemon, and what it hands over could be seen there.
#[test]
fn the_supervisor_hands_no_secret_to_the_daemon_that_it_starts() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let mut cron = Cron::on(&database);
    let pid = cron.started();
    cron.serves();
    for (place, there) in [("cmdline", "serve"), ("environ", "PATH=")] {
        let text = proc_file(pid, place);
        assert!(text.contains(there), "{place}: {text}");
        for secret in [jwt::SECRET, database.password] {
            assert!(!text.contains(secret), "{place}: {text}");
        }
    }
}

#[test]
fn every_file_is_closed_to_others_writing_whatever_the_umask() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().through(&["sh", "-c", "umask 000; exec \"$@\"", "sh"]);
    let daemon = Daemon::start(&database, &options);
    let storage = daemon.install.root().join("storage");
    let mut seen = 0;
    let mut folders = vec![storage];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let path = entry.path();
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o002, 0, "{} has {mode:o}", path.display());
            seen += 1;
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(seen >= 4, "{seen} files and folders");
}

#[cfg(feature = "embedded")]
#[test]
fn the_services_own_database_is_unreadable_to_others() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new()
        .dotenv("DB_CONNECTION", "sqlite")
        .dotenv("DB_DATABASE", "chat.sqlite")
        .through(&["sh", "-c", "umask 000; exec \"$@\"", "sh"]);
    let daemon = Daemon::start(&database, &options);
    for entry in fs::read_dir(daemon.install.root())
        .expect("the folder")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("chat.sqlite") {
            let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
            assert_eq!(mode & 0o007, 0, "{name} has {mode:o}");
        }
    }
    assert!(daemon.install.root().join("chat.sqlite").exists());
}

#[test]
fn no_thread_can_gain_rights_and_root_is_warned_of() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let daemon = Daemon::start(&database, &Options::new());
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("the threads");
    let mut count = 0;
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        assert!(
            status.is_empty() || status.contains("NoNewPrivs:\t1"),
            "{status}"
        );
        count += 1;
    }
    assert!(count > 5, "{count} threads");
    let is_root = rustix::process::geteuid().is_root();
    assert_eq!(daemon.log().contains("the service runs as root"), is_root);
}
