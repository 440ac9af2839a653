//! Two services in one process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use super::*;
use crate::config::Database;
use crate::config::settings::key;
use crate::demo::data;
use crate::platform::clock::AppClock;
use crate::platform::log_file::LogStderr;
use crate::platform::metrics::Limit;
use crate::platform::paths::Paths;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

/// A service on a database of its own, as `demo` starts it but for its pages.
struct Service {
    address: SocketAddr,
    store: Arc<dyn Store>,
    folder: PathBuf,
    running: Running,
}

fn start(name: &str) -> Service {
    let folder = std::env::temp_dir().join(format!("andrea-two-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a folder");
    let path = folder.join("chat.sqlite");
    data::fill(&SqliteStore::new(path.clone())).expect("a database");
    let variables = Variables::default();
    let config = Config {
        root: folder.clone(),
        jwt_secret: "x".repeat(32),
        app_url: String::new(),
        bus_url: None,
        clock: AppClock::utc(),
        storage: folder.clone(),
        host: None,
        port: None,
        database: Database::Sqlite(path),
        limits: Limits::from_variables(&variables).expect("defaults"),
        log_stderr: LogStderr::Never,
        push: crate::config::PushOptions::from_variables(&folder, &variables).expect("defaults"),
        cache: crate::config::cache::CacheOverrides::off(),
    };
    let events = Events::new();
    let store = startup::open_store(&config);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let prepared = Prepared {
        rows: Rows::default(),
        pools: Pools::new(&store, config.limits.db_connections),
        bus: None,
        push: None,
        listener: startup::Listener {
            socket,
            address: address.to_string(),
        },
        pid_file: PidFile::lock(&Paths {
            pid_file: folder.join("pid"),
            ..config.paths()
        })
        .expect("free"),
        events,
        end_wanted: never(),
        site: None,
        config,
    };
    Service {
        address,
        store,
        folder,
        running: Running::begin(prepared).expect("threads"),
    }
}

fn health(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let request = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn two_services_run_in_one_process_without_meeting() {
    let (first, second) = (start("first"), start("second"));
    // What one has logged a moment ago is news in the other, and each watches its own threads.
    for service in [&first, &second] {
        let chat = &service.running.chat;
        let mut is_told = false;
        chat.limit_log.hit(Limit::Rate, || {
            is_told = true;
            String::new()
        });
        assert!(is_told);
        assert_eq!(chat.threads.watched().len(), 5);
    }
    // A critical thread of the first panics: the first ends with an error.
    let threads = first.running.chat.threads.clone();
    let panic = threads.spawn("query-9", 64 * 1024, || panic!("as the test wants it"));
    assert!(panic.expect("a thread").join().is_err());
    let failure = first.running.wait().expect_err("it has lost a thread");
    assert_eq!(failure.code, exit_code::SOFTWARE);
    assert_eq!(health(first.address), None);
    // The second goes on, and ends when its own settings ask for it.
    let answer = health(second.address).expect("an answer");
    assert!(answer.contains(r#""status":"ok""#), "{answer}");
    let mut connection = second.store.connect().expect("a database");
    connection
        .update_settings(&[(key::STOP_REQUESTED, "1")])
        .expect("written");
    assert_eq!(second.running.wait().ok(), Some(Ending::StopRequested));
    for folder in [first.folder, second.folder] {
        std::fs::remove_dir_all(folder).expect("removed");
    }
}
