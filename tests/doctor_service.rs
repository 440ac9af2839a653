//! `check --url` on a service that is stopped, hangs, is not its install's, or lacks its database or its disk: each set-up
//! is named, with its remedy.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use andrea_chat_websocket::admin::check::symptoms;
use mysql::prelude::Queryable;
use rustix::process::Signal;

use crate::doctor::{UPGRADE, apart, append, check, good, location, logged, run, url};
use crate::support::cron::{Cron, Other, PROGRAM, signal, write_pid_file};
use crate::support::disk::SmallDisk;
use crate::support::mariadb::Server;
use crate::support::web_server::WebServer;
use crate::support::{jwt, wait};

#[test]
fn a_service_that_does_not_run_is_told_with_what_should_start_it() {
    needs!(MariaDb, Nginx, Apache);
    let mut cron = Cron::new();
    let nginx = WebServer::nginx(&good(cron.port));
    let inner = format!("ProxyPass /ws/chat ws://127.0.0.1:{}/ws/chat", cron.port);
    let apache = WebServer::apache(&["proxy", "proxy_wstunnel"], &inner);
    let both = |cron: &Cron, symptom| {
        for server in [&nginx, &apache] {
            check(cron, &url(server), &[]).has("failed", "proxy", symptom);
        }
    };
    both(&cron, &symptoms::NO_CRON);
    check(&cron, &url(&nginx), &[]).has("warning", "service", &symptoms::NO_CRON);
    cron.set("chat_websocket_management_mode", "external");
    both(&cron, &symptoms::NO_UNIT);
    check(&cron, &url(&nginx), &[]).has("warning", "service", &symptoms::NO_UNIT);
    cron.set("chat_websocket_management_mode", "cron");
    cron.set("chat_enabled", "0");
    both(&cron, &symptoms::CHAT_OFF);
    cron.set("chat_enabled", "1");
    cron.set("chat_websocket_enabled", "0");
    both(&cron, &symptoms::SERVICE_OFF);
    cron.set("chat_websocket_enabled", "1");

    let pid = cron.started();
    check(&cron, &url(&nginx), &[]).is_ok("service", "runs");
    let lock = cron
        .install
        .root()
        .join("storage/runtime/chat-supervisor.lock");
    let pass = |ago: u64| {
        let lock = File::options().write(true).open(&lock).expect("the lock");
        let time = SystemTime::now() - Duration::from_secs(ago);
        lock.set_modified(time).expect("set its time");
    };
    pass(3600);
    let late = check(&cron, &url(&nginx), &[]);
    late.has("warning", "service", &symptoms::NO_CRON);
    signal(pid, Signal::KILL);
    wait::until(wait::LIMIT, || {
        (!crate::support::cron::is_alive(pid)).then_some(())
    });
    both(&cron, &symptoms::NO_CRON);
    pass(0);
    both(&cron, &symptoms::STOPPED);
}

#[test]
fn a_service_that_hangs_is_told_apart_from_a_wrong_port() {
    needs!(MariaDb, Nginx);
    let mut cron = Cron::new();
    let pid = cron.started();
    let pass = format!(
        "proxy_pass http://127.0.0.1:{}; {UPGRADE} proxy_read_timeout 1s;",
        cron.port
    );
    let server = WebServer::nginx(&location(&pass));
    cron.freeze(pid);
    let said = check(&cron, &url(&server), &[]);
    signal(pid, Signal::CONT);
    said.has("failed", "address", &symptoms::HANGS);
    said.has("failed", "proxy", &symptoms::HANGS);
}

#[test]
fn another_program_install_or_daemon_on_the_port_is_told_apart() {
    needs!(MariaDb, Nginx);
    let mut cron = Cron::new();
    let other = WebServer::nginx("location / { return 200 hello; }");
    let own = cron.port;
    cron.set("chat_websocket_port", &other.port.to_string());
    let wrong = WebServer::nginx(&good(other.port));
    let said = check(&cron, &url(&wrong), &[]);
    said.has("failed", "address", &symptoms::OTHER_PROGRAM);
    said.has("failed", "proxy", &symptoms::OTHER_PROGRAM);

    let mut neighbour = Cron::new();
    let dotenv = neighbour.install.root().join(".env");
    let whole = fs::read_to_string(&dotenv).expect("readable");
    let secret = "another secret for tests, longer than 32 bytes";
    fs::write(&dotenv, whole.replace(jwt::SECRET, secret)).expect("write .env");
    neighbour.started();
    cron.set("chat_websocket_port", &neighbour.port.to_string());
    let there = WebServer::nginx(&good(neighbour.port));
    let said = check(&cron, &url(&there), &["--agent", "1"]);
    said.has("failed", "address", &symptoms::OTHER_INSTALL);
    said.has("failed", "proxy", &symptoms::OTHER_INSTALL);

    cron.set("chat_websocket_port", &own.to_string());
    cron.started();
    let said = check(&cron, &url(&there), &["--agent", "1"]);
    said.has("failed", "token", &symptoms::LED_ELSEWHERE);
}

#[test]
fn a_php_daemon_that_is_still_there_is_told() {
    needs!(MariaDb, Nginx, Php);
    let cron = Cron::new();
    let nginx = WebServer::nginx(&good(cron.port));
    let php = Other::deaf_php_daemon(cron.install.root());
    write_pid_file(&cron.install, php.pid());
    check(&cron, &url(&nginx), &[]).has("warning", "service", &symptoms::PHP_DAEMON);
    drop(php);

    // One that no pid file names, and that answers.
    let script = cron.install.root().join("bin/chat-websocket-server.php");
    let text = format!(
        "<?php $s = stream_socket_server('tcp://127.0.0.1:{}'); touch('listens');\n\
         while ($c = stream_socket_accept($s, -1)) {{ fwrite($c, \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\"); fclose($c); }}\n",
        cron.port
    );
    fs::write(&script, text).expect("write the script");
    let mut command = std::process::Command::new("php");
    command.arg(&script).current_dir(cron.install.root());
    let _php = Other::start(command);
    let listens = cron.install.root().join("listens");
    wait::until(wait::LIMIT, || listens.exists().then_some(())).expect("it listens");
    let said = check(&cron, &url(&nginx), &[]);
    said.has("warning", "service", &symptoms::PHP_DAEMON);
    said.has("warning", "address", &symptoms::PHP_DAEMON);
    said.has("failed", "proxy", &symptoms::PHP_DAEMON);
}

#[test]
fn limits_and_switches_of_the_service_are_told_apart() {
    needs!(MariaDb, Nginx);
    let mut cron = Cron::new();
    append(&cron, "CHAT_WEBSOCKET_MAX_CONNECTIONS=1");
    cron.started();
    let nginx = WebServer::nginx(&good(cron.port));
    // What looked for the service may hold the one place for a moment.
    let held = wait::until(wait::LIMIT, || {
        crate::support::ws::Client::login(cron.port, 1).ok()
    });
    assert!(held.is_some());
    check(&cron, &url(&nginx), &[]).has("failed", "proxy", &symptoms::SERVICE_FULL);
    logged(&cron, &symptoms::SERVICE_FULL);
    drop(held);
    cron.set("chat_websocket_enabled", "0");
    let off = wait::until(wait::LIMIT, || {
        let said = check(&cron, &url(&nginx), &[]);
        said.text
            .contains(symptoms::SERVICE_OFF.means)
            .then_some(said)
    });
    off.expect("it is switched off")
        .has("failed", "proxy", &symptoms::SERVICE_OFF);
    logged(&cron, &symptoms::SERVICE_OFF);

    let mut cron = Cron::new();
    append(&cron, "CHAT_WEBSOCKET_MAX_PER_AGENT=1");
    cron.started();
    let _held = crate::support::ws::Client::login(cron.port, 1).unwrap();
    let place = format!("ws://127.0.0.1:{}/ws/chat", cron.port);
    let full = check(&cron, &place, &["--agent", "1"]);
    full.has("failed", "token", &symptoms::AGENT_FULL);
    logged(&cron, &symptoms::AGENT_FULL);
}

#[test]
fn a_database_that_fails_is_told_through_the_way() {
    needs!(MariaDb);
    let mut server = Server::own();
    let database = server.fresh();
    let mut cron = Cron::on(&database);
    append(&cron, "CHAT_WEBSOCKET_PING_INTERVAL=2");
    cron.started();
    let place = format!("ws://127.0.0.1:{}/ws/chat", cron.port);
    let write = ["--agent", "1", "--thread", "1"];
    let mut admin = server.admin();
    admin
        .query_drop("SET GLOBAL read_only = ON")
        .expect("read only");
    let said = check(&cron, &place, &write);
    said.has("failed", "message", &symptoms::DATABASE_READ_ONLY);
    logged(&cron, &symptoms::DATABASE_READ_ONLY);
    admin
        .query_drop("SET GLOBAL read_only = OFF")
        .expect("writable");

    // Rights hold for statements to come, also of connections that are open.
    let name = &database.name;
    for statement in [
        "REVOKE ALL ON `helpdesk\\_%`.* FROM 'helpdesk'@'127.0.0.1'".to_owned(),
        format!("GRANT SELECT ON {name}.* TO 'helpdesk'@'127.0.0.1'"),
        format!("GRANT UPDATE ON {name}.settings TO 'helpdesk'@'127.0.0.1'"),
    ] {
        admin.query_drop(statement).expect("change the rights");
    }
    let may_not = wait::until(wait::LIMIT, || {
        let said = check(&cron, &place, &write);
        said.text
            .contains(symptoms::DATABASE_RIGHTS.means)
            .then_some(said)
    });
    let may_not = may_not.expect("it lacks rights");
    may_not.has("failed", "message", &symptoms::DATABASE_RIGHTS);
    logged(&cron, &symptoms::DATABASE_RIGHTS);

    drop(admin);
    server.stop();
    // An agent whose row is not remembered.
    let said = check(&cron, &place, &["--agent", "3"]);
    said.has("failed", "token", &symptoms::DATABASE_DOWN);
    logged(&cron, &symptoms::DATABASE_DOWN);
}

#[test]
fn a_storage_that_is_full_or_read_only_is_told() {
    needs!(MariaDb, Namespaces);
    let cron = Cron::new();
    let storage = cron.install.root().join("storage");
    let plain = cron.install.command("check", &[]);
    let only = format!(
        "mkdir {0} && mount -t tmpfs -o ro tmpfs {0}",
        storage.display()
    );
    apart(&plain, &only).has("failed", "storage", &symptoms::STORAGE_READ_ONLY);
    fs::remove_dir(&storage).expect("remove the folder");

    let disk = SmallDisk::mount(&storage, 1).expect("a disk");
    disk.fill();
    let mut command = disk.command(Path::new(PROGRAM));
    command.args(plain.get_args());
    run(command).has("failed", "storage", &symptoms::STORAGE_FULL);
}
