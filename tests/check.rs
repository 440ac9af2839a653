//! `check`, on installs that are well and on installs that each lack one thing.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use andrea_chat_websocket::auth::TokenVerifier;
use mysql::prelude::Queryable;

use crate::support::cron::Cron;
use crate::support::json::Json;
use crate::support::jwt;
use crate::support::mariadb::Server;
use crate::support::ws::Frame;

/// Exit code and findings.
fn check(cron: &Cron, arguments: &[&str]) -> (i32, Vec<Json>) {
    judge(
        &cron
            .install
            .run("check", &[&["--json"], arguments].concat()),
    )
}

fn judge(output: &Output) -> (i32, Vec<Json>) {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr, "", "{stdout}");
    let findings = Json::parse(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"));
    let code = output.status.code().expect("no signal");
    let failed = findings
        .items()
        .iter()
        .any(|one| one.need("level").str() == Some("failed"));
    assert_eq!(code, i32::from(failed), "{findings}");
    (code, findings.items().to_vec())
}

fn of<'a>(findings: &'a [Json], about: &str) -> Vec<&'a Json> {
    findings
        .iter()
        .filter(|one| one.need("about").str() == Some(about))
        .collect()
}

/// The one finding about this is of this level, and says these words and what to do.
#[track_caller]
fn says(findings: &[Json], about: &str, level: &str, words: &[&str]) {
    let all: Vec<String> = findings.iter().map(Json::to_string).collect();
    let found = of(findings, about);
    let fits = |one: &&&Json| {
        let text = one.to_string();
        one.need("level").str() == Some(level)
            && words.iter().all(|word| text.contains(word))
            && (level == "ok") == (one.need("remedy") == &Json::Null)
    };
    assert!(
        found.iter().any(|one| fits(&one)),
        "{about} {words:?}: {all:#?}"
    );
}

fn private(cron: &Cron) {
    let mode = fs::Permissions::from_mode(0o640);
    fs::set_permissions(cron.install.root().join(".env"), mode).expect("chmod");
}

#[test]
fn an_install_that_is_well_is_told_so_before_and_while_it_runs() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    private(&cron);
    let (code, findings) = check(&cron, &[]);
    assert_eq!(code, 0);
    let not_ok = findings
        .iter()
        // Tests may run as root, and nothing has started the service.
        .filter(|one| {
            let about = one.need("about").str();
            one.need("level").str() != Some("ok") && !["user", "service"].map(Some).contains(&about)
        });
    assert_eq!(not_ok.count(), 0, "{findings:#?}");
    says(&findings, "service", "warning", &["never run"]);
    says(&findings, "address", "ok", &["is free"]);
    for about in [
        ".env",
        "secret",
        "time zone",
        "limits",
        "room",
        "storage",
        "database",
        "tables",
        "settings",
        "rights",
        "clocks",
    ] {
        assert_eq!(of(&findings, about).len(), 1, "{about}");
    }
    // It changed nothing, not even a folder.
    assert!(!cron.install.root().join("storage").exists());

    cron.started();
    let (code, findings) = check(&cron, &[]);
    assert_eq!(code, 0, "{findings:#?}");
    says(&findings, "address", "ok", &["this install's service's"]);

    let text = cron.install.run("check", &[]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with("ok       .env "), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn a_configuration_that_lacks_something_is_told_what() {
    needs!(MariaDb);
    let cron = Cron::new();
    let file = cron.install.root().join(".env");
    let whole = fs::read_to_string(&file).expect("readable");
    let with = |line: &str| {
        fs::write(&file, format!("{whole}{line}\n")).expect("write .env");
        check(&cron, &[]).1
    };
    says(&with(""), ".env", "warning", &["by everybody", "chmod o-r"]);
    says(
        &with("JWT_SECRET=short"),
        "secret",
        "failed",
        &["5 bytes", "openssl rand"],
    );
    says(
        &with("APP_TIMEZONE=Mars/Olympus"),
        "time zone",
        "failed",
        &["Mars/Olympus"],
    );
    says(
        &with("CHAT_WEBSOCKET_PORT=0x1"),
        "configuration",
        "failed",
        &["CHAT_WEBSOCKET_PORT"],
    );
    says(
        &with("CHAT_WEBSOCKET_RATE=x"),
        "limits",
        "failed",
        &["CHAT_WEBSOCKET_RATE"],
    );
    says(
        &with("DB_PORT=none"),
        "configuration",
        "failed",
        &["DB_PORT"],
    );
    says(&with("APP_URL="), "APP_URL", "warning", &["is not set"]);
    let findings = with("this is no line");
    says(&findings, "configuration", "failed", &["line 9"]);
    assert!(!format!("{findings:?}").contains("this is no"));
    fs::remove_file(&file).expect("remove .env");
    let (_, findings) = check(&cron, &[]);
    says(
        &findings,
        "configuration",
        "failed",
        &["there is no .env in", "--root DIR"],
    );
    let mut command = cron.install.command("check", &["--json"]);
    command.env("DB_USERNAME", "helpdesk");
    let (_, findings) = judge(&command.output().expect("run"));
    says(&findings, ".env", "warning", &["is not there", "--root"]);
    says(&findings, "secret", "failed", &["JWT_SECRET is not set"]);
    says(&findings, "configuration", "failed", &["DB_DATABASE"]);
}

/// An account that may read, and change the settings alone.
fn add_reader(run: &mut dyn FnMut(&str), database: &str) {
    run("CREATE USER reader@'%' IDENTIFIED BY 'reader'");
    run(&format!("GRANT SELECT ON {database}.* TO reader@'%'"));
    run(&format!(
        "GRANT UPDATE ON {database}.settings TO reader@'%'"
    ));
}

#[test]
fn a_database_that_lacks_something_is_told_what() {
    needs!(MariaDb);
    let mut server = Server::own();
    let database = server.fresh();
    let mut cron = Cron::on(&database);
    let mut admin = server.admin();
    let mut run = |statement: &str| {
        admin
            .query_drop(format!("USE {}", database.name))
            .and_then(|()| admin.query_drop(statement))
            .unwrap_or_else(|e| panic!("{statement}: {e}"));
    };
    cron.set("chat_enabled", "0");
    says(
        &check(&cron, &[]).1,
        "settings",
        "warning",
        &["chat_enabled", "settings set"],
    );
    run("DELETE FROM settings WHERE key_name = 'chat_websocket_pid'");
    says(
        &check(&cron, &[]).1,
        "settings",
        "failed",
        &["chat_websocket_pid"],
    );
    run("ALTER TABLE chat_messages DROP COLUMN edited_at");
    says(
        &check(&cron, &[]).1,
        "tables",
        "failed",
        &["chat_messages.edited_at"],
    );
    run("DROP TABLE audit_log");
    says(
        &check(&cron, &[]).1,
        "tables",
        "failed",
        &["table audit_log"],
    );

    add_reader(&mut run, &database.name);
    let as_user = |user: &str, password: &str| {
        let mut command = cron.install.command("check", &["--json"]);
        command
            .env("DB_USERNAME", user)
            .env("DB_PASSWORD", password);
        judge(&command.output().expect("run")).1
    };
    let findings = as_user("reader", "reader");
    says(
        &findings,
        "rights",
        "failed",
        &["INSERT INTO chat_messages", "denied", "grant"],
    );
    assert!(
        !of(&findings, "rights")[0]
            .to_string()
            .contains("UPDATE settings")
    );
    let findings = as_user("helpdesk", "wrong-password");
    says(
        &findings,
        "database",
        "failed",
        &["Access denied", "DB_PASSWORD"],
    );
    assert!(!format!("{findings:?}").contains("wrong-password"));

    server.stop();
    says(
        &check(&cron, &[]).1,
        "database",
        "failed",
        &["refused", "DB_HOST"],
    );
}

#[test]
fn what_a_database_that_is_down_leaves_unchecked_is_told() {
    needs!(MariaDb);
    let cron = Cron::new();
    let mut command = cron.install.command("check", &["--json"]);
    command.env("DB_PORT", crate::support::mariadb::free_port().to_string());
    let (_, findings) = judge(&command.output().expect("run"));
    says(&findings, "database", "failed", &[]);
    for about in ["line", "tables", "settings", "rights", "clocks"] {
        let found = of(&findings, about);
        assert_eq!(found.len(), 1, "{about}: {findings:#?}");
        assert_eq!(found[0].need("level").str(), Some("skipped"), "{about}");
    }
}

fn spawn(run: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("listening-in".to_owned());
    thread.spawn(run).expect("a thread");
}

/// Passes everything on to the service at `to` and back, and gives its port and what the client has sent.
fn listening_in(to: u16) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = channel();
    spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut service = TcpStream::connect(("127.0.0.1", to)).expect("connect");
            let mut back = (
                service.try_clone().expect("a handle"),
                client.try_clone().expect("a handle"),
            );
            spawn(move || {
                let _ = io::copy(&mut back.0, &mut back.1);
            });
            let tell = tell.clone();
            spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = client.read(&mut piece) {
                    let _ = tell.send(piece[..length].to_vec());
                    if service.write_all(&piece[..length]).is_err() {
                        break;
                    }
                }
                let _ = service.shutdown(Shutdown::Both);
            });
        }
    });
    (port, told)
}

/// The token in what a client has sent over one connection.
fn token_in(mut sent: Vec<u8>) -> String {
    let end = sent.windows(4).position(|four| four == b"\r\n\r\n");
    sent.drain(..end.expect("the end of the request") + 4);
    while let Some(frame) = Frame::decode(&mut sent) {
        if let Some(token) = frame.json().as_ref().and_then(|event| event.get("token")) {
            return token.str().expect("text").to_owned();
        }
    }
    panic!("no token was sent");
}

/// A service that closes sockets of expired tokens would cut them off.
#[test]
fn a_token_outlives_what_is_done_with_it() {
    needs!(MariaDb);
    const SILENCE: u64 = 400;
    let mut cron = Cron::new();
    crate::doctor::append(&cron, "CHAT_WEBSOCKET_PING_INTERVAL=1");
    cron.started();
    let (port, sent) = listening_in(cron.port);
    let place = format!("ws://127.0.0.1:{port}");
    let check = ["--json", "--url", &place, "--agent", "1"];
    let mut check = cron.install.command("check", &check);
    check.env("CHAT_WEBSOCKET_PING_INTERVAL", SILENCE.to_string());
    check.env("CHAT_WEBSOCKET_IDLE_TIMEOUT", "1000");
    let chat = ["tail", "--agent", "1", "--channel", "1", "--no-follow"];
    let mut chat = cron.install.command("chat", &chat);
    chat.env("CHAT_WEBSOCKET_PORT", port.to_string());
    for (mut command, life) in [(check, SILENCE), (chat, 3590)] {
        let now = u64::try_from(jwt::unix_now()).expect("after 1970");
        let output = command.output().expect("run");
        let token = token_in(sent.try_iter().flatten().collect());
        let judged = TokenVerifier::new(jwt::SECRET).verify(&token, now + life);
        assert!(judged.is_ok(), "{command:?}: {judged:?}, {output:?}");
    }
}

#[test]
fn a_database_whose_clock_is_off_is_a_warning() {
    needs!(MariaDb);
    let server = Server::own();
    let cron = Cron::on(&server.fresh());
    // The clock of every connection that is made from now on: it stands still from then, so a second or two may be added.
    let mut admin = server.admin();
    admin
        .query_drop("SET GLOBAL init_connect = 'SET timestamp = UNIX_TIMESTAMP() - 6000'")
        .expect("set");
    says(
        &check(&cron, &[]).1,
        "clocks",
        "warning",
        &[" 600", " s off"],
    );
}

#[test]
fn an_address_that_cannot_be_had_is_told_why() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let other = std::net::TcpListener::bind(("127.0.0.1", cron.port)).expect("the port is free");
    says(
        &check(&cron, &[]).1,
        "address",
        "failed",
        &["another program", "ss -ltnp"],
    );
    drop(other);
    cron.set("chat_websocket_host", "203.0.113.5");
    says(&check(&cron, &[]).1, "address", "failed", &["203.0.113.5"]);
    cron.set("chat_websocket_host", "http://127.0.0.1");
    says(
        &check(&cron, &[]).1,
        "address",
        "warning",
        &["no listen host"],
    );
}

#[test]
fn a_storage_that_the_services_user_cannot_write_is_told_so() {
    needs!(Setpriv, MariaDb);
    let cron = Cron::new();
    let storage = cron.install.root().join("storage");
    fs::create_dir(&storage).expect("make the folder");
    let mode =
        |mode| fs::set_permissions(&storage, fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o555);
    let plain = cron.install.command("check", &["--json"]);
    let mut command = if rustix::process::geteuid().is_root() {
        // Root may write anywhere, so another user has to try.
        let mut command = std::process::Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(plain.get_program())
            .args(plain.get_args());
        command
    } else {
        plain
    };
    let (_, findings) = judge(&command.output().expect("run"));
    mode(0o755);
    let shown = storage.display().to_string();
    says(
        &findings,
        "storage",
        "failed",
        &[&shown, "cannot make", "web server's user"],
    );
}

/// What `serve` refuses in the place of its files, `check` sees.
#[test]
fn k14_what_is_no_file_where_the_service_writes_is_told_so() {
    needs!(MariaDb);
    let cron = Cron::new();
    let storage = cron.install.root().join("storage");
    for name in [
        "runtime/chat-websocket.pid",
        "runtime/chat-supervisor.lock",
        "logs/chat-websocket.log",
    ] {
        let file = storage.join(name);
        fs::create_dir_all(file.parent().expect("a folder")).expect("make the folder");
        let _ = fs::remove_file(&file);
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.expect("runs").success());
        let (code, findings) = check(&cron, &[]);
        assert_eq!(code, 1, "{name}");
        says(
            &findings,
            "storage",
            "failed",
            &[name, "no regular file", "move it away"],
        );
        // The lock is the supervisor's alone.
        if !name.ends_with("lock") {
            let started = cron.install.run("serve", &[]);
            let said = String::from_utf8_lossy(&started.stderr).into_owned();
            assert_eq!(started.status.code(), Some(73), "{name}: {said}");
            assert!(said.contains("; move it away"), "{name}: {said}");
        }
        fs::remove_file(&file).expect("remove");
    }
}

#[test]
fn a_handshake_is_made_through_the_address_that_browsers_use() {
    needs!(MariaDb);
    let mut cron = Cron::new();
    let url = format!("ws://127.0.0.1:{}", cron.port);
    let through = |cron: &Cron, url: &str| check(cron, &["--url", url]).1;
    says(
        &through(&cron, &url),
        "TCP",
        "failed",
        &["refused", "start the web server"],
    );
    cron.started();
    says(
        &through(&cron, &url),
        "proxy",
        "ok",
        &["/ws/chat", "both ways"],
    );
    let elsewhere = format!("http://127.0.0.1:{}/chat", cron.port);
    says(
        &through(&cron, &elsewhere),
        "proxy",
        "failed",
        &["404", "pass /ws/chat on unchanged"],
    );
    cron.set("chat_websocket_enabled", "0");
    let off = crate::support::wait::until(crate::support::wait::LIMIT, || {
        let findings = through(&cron, &url);
        let text = format!("{:?}", of(&findings, "proxy"));
        text.contains("503").then_some(text)
    });
    assert!(off.expect("it is switched off").contains("switched off"));

    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let findings = through(&cron, &format!("ws://127.0.0.1:{port}/"));
    says(&findings, "proxy", "failed", &["says nothing"]);
    let output = cron.install.run("check", &["--url", "helpdesk.example"]);
    assert_eq!(output.status.code(), Some(64));
}
