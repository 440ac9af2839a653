//! The service under systemd: its notifications to the manager, socket activation, and the unit files, checked by
//! systemd's own programs.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::support::cron::PROGRAM;
use crate::support::daemon::{Daemon, Install, Options};
use crate::support::mariadb::{self, Database, Server};
use crate::support::notify::Manager;
use crate::support::stopwatch::Stopwatch;
use crate::support::{reaper, rows, seed, wait, ws};

const UNITS: [&str; 4] = [
    "andrea-chat-websocket.service",
    "andrea-chat-websocket@.service",
    "andrea-chat-websocket.socket",
    "andrea-chat-websocket@.socket",
];

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

fn managed(manager: &Manager, watchdog_seconds: u32) -> Options {
    let options = Options::new().env("NOTIFY_SOCKET", &manager.address());
    match watchdog_seconds {
        0 => options,
        seconds => options.env("WATCHDOG_USEC", &format!("{seconds}000000")),
    }
}

#[test]
fn a_manager_is_told_of_readiness_status_life_and_end_in_this_order() {
    needs!(MariaDb);
    let manager = Manager::new();
    let database = seeded();
    let mut daemon = Daemon::start(&database, &managed(&manager, 3));
    let heard = manager.hear_until("READY=1", wait::LIMIT);
    assert_eq!(heard, ["STATUS=waiting for the database", "READY=1"]);
    let mut client = daemon.login(1).unwrap();
    let _other = daemon.login(1).unwrap();
    manager.hear_until("STATUS=agents: 1, connections: 2", wait::LIMIT);
    // Every third of 3 s, so four of them take two seconds at least.
    let begun = Instant::now();
    for _ in 0..4 {
        manager.hear_until("WATCHDOG=1", wait::LIMIT);
    }
    assert!(begun.elapsed() > Duration::from_secs(2));
    daemon.signal(Signal::TERM);
    let heard = manager.hear_until("STOPPING=1", wait::LIMIT);
    // Said first, not when all is over.
    assert_eq!(client.until_end().unwrap().1, Some(1001));
    assert!(daemon.wait_exit(wait::LIMIT).success());
    let after = manager.hear_for(Duration::from_millis(100));
    assert_eq!(after, [""; 0], "nothing after the end: {heard:?}");
}

#[test]
fn readiness_is_said_once_the_database_has_answered_and_the_socket_listens() {
    needs!(MariaDb);
    let mut server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    server.stop();
    let manager = Manager::new();
    let options = managed(&manager, 0);
    let mut daemon = Daemon::spawn(Install::new(&database, &options), &options);
    assert_eq!(manager.hear_until("STATUS=", wait::LIMIT).len(), 1);
    let early = manager.hear_for(Duration::from_millis(1500));
    assert_eq!(early, [""; 0], "it waits for the database");
    server.start();
    manager.hear_until("READY=1", wait::LIMIT);
    // No further look: it listens, and its rows are there.
    let status = "SELECT value FROM settings WHERE key_name = 'chat_websocket_status'";
    let status = rows::select(&mut database.conn(), status);
    assert_eq!(status[0].need("value").str(), Some("running"));
    daemon.await_listening();
    daemon.login(1).unwrap();
}

#[test]
fn a_variable_that_is_meant_for_another_process_feeds_no_watchdog() {
    needs!(MariaDb);
    let manager = Manager::new();
    let options = managed(&manager, 1).env("WATCHDOG_PID", "1");
    let _daemon = Daemon::start(&seeded(), &options);
    manager.hear_until("READY=1", wait::LIMIT);
    let heard = manager.hear_for(Duration::from_millis(1500));
    assert!(!heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");
}

#[test]
fn a_manager_that_cannot_be_reached_is_no_reason_not_to_serve() {
    needs!(MariaDb);
    for address in ["/nowhere/at/all", "", "relative", "@missing"] {
        let options = Options::new().env("NOTIFY_SOCKET", address);
        let daemon = Daemon::start(&seeded(), &options);
        daemon.login(1).unwrap();
    }
}

/// Stops one thread of a daemon, as a fault of its own would, until this is dropped. The tracer is the thread that
/// makes it.
struct Hang(Pid);

impl Hang {
    fn of(daemon: &Daemon, name: &str) -> Hang {
        let tasks = format!("/proc/{}/task", daemon.pid());
        let thread = fs::read_dir(tasks)
            .expect("the daemon's threads")
            .filter_map(Result::ok)
            .find(|task| {
                fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
            });
        let thread = thread
            .unwrap_or_else(|| panic!("no thread {name}"))
            .file_name();
        let thread = thread
            .to_str()
            .and_then(|id| id.parse().ok())
            .expect("a number");
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, ptrace::Options::empty()).expect("seize the thread");
        ptrace::interrupt(thread).expect("stop the thread");
        waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
        Hang(thread)
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

/// Hangs one thread and sees the feeding stop; lets it go and sees it go on.
fn hang(thread: &str, part: &str) {
    const SECONDS: u32 = 6;
    let manager = Manager::new();
    let daemon = Daemon::start(&seeded(), &managed(&manager, SECONDS));
    let mut client = daemon.login(1).unwrap();
    manager.hear_until("READY=1", wait::LIMIT);
    let well = manager.hear_for(Duration::from_secs(9));
    let fed = |heard: &[String]| heard.iter().any(|words| words == "WATCHDOG=1");
    assert!(fed(&well), "{well:?}");
    assert!(
        !well.iter().any(|words| words.contains("no sign")),
        "{well:?}"
    );

    let hang = Hang::of(&daemon, thread);
    let complaint = format!("STATUS=the {part} has shown no sign of life for ");
    manager.hear_until(&complaint, wait::LIMIT);
    // For longer than the manager would wait before it kills.
    let hung = manager.hear_for(Duration::from_secs(u64::from(SECONDS) + 1));
    assert!(!fed(&hung), "{thread} hangs: {hung:?}");
    daemon.await_log(&format!("the {part} has shown no sign of life"));

    drop(hang);
    manager.hear_until("WATCHDOG=1", wait::LIMIT);
    client.ping_barrier().unwrap();
}

#[test]
fn a_hung_accept_loop_starves_the_watchdog() {
    needs!(MariaDb, Time);
    hang("accept", "accept loop");
}

#[test]
fn a_hung_hub_starves_the_watchdog() {
    needs!(MariaDb, Time);
    hang("hub", "hub");
}

#[test]
fn a_hung_commit_path_starves_the_watchdog() {
    needs!(MariaDb, Time);
    hang("commit", "commit path");
}

#[test]
fn a_database_that_hangs_or_is_gone_does_not_starve_the_watchdog() {
    needs!(MariaDb);
    const SECONDS: u64 = 15;
    let mut server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let manager = Manager::new();
    let daemon = Daemon::start(&database, &managed(&manager, 15));
    let mut client = daemon.login(1).unwrap();
    manager.hear_until("READY=1", wait::LIMIT);
    let mut fed = Stopwatch::start();
    let mut longest = Duration::ZERO;
    let mut heard = Vec::new();
    for is_gone in [false, true] {
        match is_gone {
            false => server.pause(),
            true => {
                server.resume();
                server.stop();
            }
        }
        let time = if is_gone { 5 } else { SECONDS + 2 };
        let end = Instant::now() + Duration::from_secs(time);
        while Instant::now() < end {
            // So that the commit path has something to try all the time.
            client.send(r#"{"type":"chat.channel.message.send","channel_id":1,"body":"x"}"#);
            for words in manager.hear_for(Duration::from_millis(900)) {
                if words == "WATCHDOG=1" {
                    longest = longest.max(fed.elapsed());
                    fed = Stopwatch::start();
                }
                heard.push(words);
            }
        }
    }
    longest = longest.max(fed.elapsed());
    assert!(
        longest.as_secs() < SECONDS / 2,
        "not fed for {longest:?}: {heard:?}"
    );
    let told = heard
        .iter()
        .any(|words| words.contains("the database does not answer"));
    assert!(told, "{heard:?}");
}

/// A daemon whose socket the service manager has opened.
struct Activated {
    child: Child,
}

impl Activated {
    /// As a service manager starts it: the socket is descriptor 3, and the variables say so.
    fn start(install: &Install, socket: OwnedFd) -> Activated {
        let script = format!(
            "LISTEN_PID=$$ LISTEN_FDS=1 exec {PROGRAM} serve --root {} 3<&0 </dev/null",
            install.root().display()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the daemon");
        reaper::watch(&child);
        Activated { child }
    }

    fn stop(mut self) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a pid"), Signal::TERM).expect("signal it");
        assert!(self.child.wait().expect("wait").success());
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        reaper::forget(&self.child);
    }
}

#[test]
fn a_socket_that_the_manager_keeps_stays_open_over_a_restart() {
    needs!(MariaDb);
    let database = seeded();
    let install = Install::new(&database, &Options::new());
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = socket.local_addr().expect("an address").port();
    let handed = || OwnedFd::from(socket.try_clone().expect("another handle"));

    let first = Activated::start(&install, handed());
    // No client is refused while the daemon is still starting.
    let mut client = ws::Client::login(port, 1).unwrap();
    assert!(
        install
            .log()
            .contains(&format!("listening on 127.0.0.1:{port}"))
    );
    let warned = format!("has opened 127.0.0.1:{port}, which counts, and not 127.0.0.1:18090");
    assert!(install.log().contains(&warned), "{}", install.log());
    first.stop();
    assert_eq!(client.until_end().unwrap().1, Some(1001));

    // No daemon runs now, and a connection is still accepted.
    let mut waiting = ws::Client::open(port);
    waiting.write(ws::REQUEST.as_bytes());
    let _second = Activated::start(&install, handed());
    assert_eq!(waiting.response().unwrap().status(), 101);
    waiting.auth(2).unwrap();
}

#[test]
fn systemd_socket_activate_starts_the_service_with_the_first_connection() {
    needs!(Systemd, MariaDb);
    let database = seeded();
    let install = Install::new(&database, &Options::new());
    let port = mariadb::free_port();
    let child = Command::new("systemd-socket-activate")
        .arg(format!("--listen=127.0.0.1:{port}"))
        .args([PROGRAM, "serve", "--root"])
        .arg(install.root())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate (package systemd) runs");
    reaper::watch(&child);
    let activated = Activated { child };
    wait::until(wait::LIMIT, || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    })
    .expect("it listens");
    let mut client = ws::Client::login(port, 1).unwrap();
    client.ping_barrier().unwrap();
    activated.stop();
}

#[test]
fn a_socket_of_the_wrong_kind_is_refused_with_words() {
    needs!(MariaDb);
    let database = seeded();
    let install = Install::new(&database, &Options::new());
    let path = reaper::path("wrong-kind");
    let socket = std::os::unix::net::UnixListener::bind(path).expect("a socket");
    let mut activated = Activated::start(&install, OwnedFd::from(socket));
    assert_eq!(activated.child.wait().expect("wait").code(), Some(78));
    let mut said = String::new();
    let mut stderr = activated.child.stderr.take().expect("a pipe");
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("its words");
    assert!(said.contains("ListenStream="), "{said}");
    assert!(!install.pid_file().exists());
}

/// The shipped units, but with the program that is tested in place of one that may not be installed.
fn units() -> (PathBuf, Vec<String>) {
    let folder = reaper::folder("units");
    let names = UNITS.map(|name| {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("contrib/systemd")
            .join(name);
        let unit = fs::read_to_string(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let unit = unit.replace("/usr/local/bin/andrea-chat-websocket", PROGRAM);
        fs::write(folder.join(name), unit).expect("write the unit");
        name.replace("@.", "@desk-one.")
    });
    (folder, names.into())
}

fn analyze(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_PAGER", "")
        .output()
        .expect("systemd-analyze (package systemd) runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn systemd_finds_nothing_to_say_about_the_units() {
    needs!(Systemd);
    let (folder, names) = units();
    for name in names {
        let unit = folder.join(&name).display().to_string();
        let (is_well, said) = analyze(&["verify", "--man=no", "--recursive-errors=no", &unit]);
        assert!(is_well && said.trim().is_empty(), "{name}: {said}");
    }
}

#[test]
fn the_units_are_as_closed_as_they_can_be() {
    needs!(Systemd);
    let (folder, names) = units();
    for name in names.iter().filter(|name| name.ends_with(".service")) {
        let unit = folder.join(name).display().to_string();
        // 12 is an exposure of 1.2 of 10.
        let (is_closed, said) = analyze(&[
            "security",
            "--offline=true",
            "--threshold=12",
            "--no-pager",
            &unit,
        ]);
        assert!(
            is_closed && said.contains("Overall exposure level"),
            "{name}: {said}"
        );
    }
}

/// A waiting browser starts the service again at once, whatever its exit code: the service's own limit of starts has to end
/// that, before the socket's, and what goes on from there is said for both units.
#[test]
fn o7_a_start_that_fails_under_the_socket_unit_ends_by_the_limit_of_starts() {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(source.join(name)).expect("readable");
    let number = |unit: &str, key: &str| -> u64 {
        let mut lines = unit.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.expect(key).parse().expect("a number")
    };
    for instance in ["", "@"] {
        let service = read(&format!(
            "contrib/systemd/andrea-chat-websocket{instance}.service"
        ));
        let socket = read(&format!(
            "contrib/systemd/andrea-chat-websocket{instance}.socket"
        ));
        let starts = number(&service, "StartLimitBurst");
        assert!(number(&socket, "TriggerLimitBurst") > starts);
        assert!(
            number(&socket, "TriggerLimitIntervalSec") <= number(&service, "StartLimitIntervalSec")
        );
        assert!(service.contains("RestartPreventExitStatus=64 78"));
        for words in ["systemctl reset-failed", "systemctl restart", ".socket "] {
            assert!(service.contains(words), "{words}");
        }
    }
    let help = read("docs/install.md");
    for words in [
        "systemctl reset-failed andrea-chat-websocket.service andrea-chat-websocket.socket",
        "systemctl restart andrea-chat-websocket.socket andrea-chat-websocket.service",
    ] {
        assert!(help.contains(words), "{words}");
    }
}

/// What a unit allows must fit what the program takes; its constants are not the unit's.
#[test]
fn the_units_limits_fit_the_service() {
    needs!(MariaDb);
    use andrea_chat_websocket::config::limits;
    use andrea_chat_websocket::config::resource_limits;
    use andrea_chat_websocket::platform::exit_code;
    use andrea_chat_websocket::platform::threads;
    for name in &UNITS[..2] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("contrib/systemd")
            .join(name);
        let unit = fs::read_to_string(path).expect("the unit");
        let value = |key: &str| {
            let mut lines = unit
                .lines()
                .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            lines
                .next()
                .unwrap_or_else(|| panic!("{name} lacks {key}"))
                .to_owned()
        };
        let seconds = |key: &str| Duration::from_secs(value(key).parse().expect("seconds"));
        assert!(seconds("TimeoutStopSec") > limits::SHUTDOWN_LIMIT);
        assert!(seconds("TimeoutStartSec") > limits::STORE_START_TIMEOUT);
        assert!(
            seconds("WatchdogSec") > 2 * threads::PROGRESS_INTERVAL + 3 * limits::STORE_TIMEOUT
        );
        let codes = [exit_code::USAGE, exit_code::CONFIG].map(|code| code.to_string());
        assert_eq!(value("RestartPreventExitStatus"), codes.join(" "));
        // Not reached by what is tried again every RestartSec, but soon by a socket that starts it again at once.
        let burst: u64 = value("StartLimitBurst").parse().expect("a number");
        assert!(seconds("StartLimitIntervalSec") < burst as u32 * seconds("RestartSec"));
        let files: usize = value("LimitNOFILE").parse().expect("a number");
        assert!(files > limits::Limits::default().max_connections + 64);
        assert_eq!(value("Type"), "notify");
        assert_eq!(value("TasksMax"), "1152");
        // Also the query cache that the helpdesk keeps in files; `-`: not every install has one.
        let root = value("WorkingDirectory");
        let written = format!("{root}/storage -{root}/cache");
        assert_eq!(value("ReadWritePaths"), written);
    }
    // How many threads there are is seen while it runs.
    const CLIENTS: usize = 50;
    let daemon = Daemon::start(&seeded(), &Options::new());
    let clients: Vec<_> = (0..CLIENTS).map(|_| daemon.connect().unwrap()).collect();
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .expect("tasks")
        .count();
    drop(clients);
    let others = tasks - CLIENTS;
    let connections = limits::Limits::default().max_connections;
    let allowed = resource_limits::connections_by_threads(1152) as usize;
    assert!(allowed >= connections, "TasksMax=1152 allows {allowed}");
    assert!(others <= 24, "{others} threads beside the connections");
}
