//! `check --url` on set-ups that keep a browser from chatting, behind real web servers: each is named, with its remedy.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use andrea_chat_websocket::admin::check::symptoms::{self, Symptom};
use mysql::prelude::Queryable;

use crate::support::cron::Cron;
use crate::support::json::Json;
use crate::support::mariadb;
use crate::support::web_server::{WebServer, snippet};
use crate::support::{jwt, script, wait};

/// What a location needs to pass a WebSocket on.
pub const UPGRADE: &str = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
                       proxy_set_header Connection Upgrade; proxy_set_header Host $http_host;";

/// What `check` says, to people.
pub struct Said {
    code: Option<i32>,
    pub text: String,
    notes: String,
}

impl Said {
    /// There is a line of this level about this step, with the meaning and the remedy of the set-up, and no other cause is
    /// named for the step.
    #[track_caller]
    pub fn has(&self, level: &str, about: &str, symptom: &Symptom) {
        let start = format!("{level:<9}{about:<14}");
        let mut lines = self.text.lines();
        let is_of_step = |line: &&str| line.starts_with(&start);
        let first = lines.find(is_of_step).unwrap_or_default();
        let fits = first.contains(symptom.means)
            && lines
                .next()
                .is_some_and(|line| line.contains(symptom.remedy))
            && !lines.any(|line| line.starts_with(&start));
        assert!(fits, "no {symptom:?} about {about} in\n{}", self.text);
        assert!(self.code == Some(1) || level != "failed", "{:?}", self.code);
        println!("{first}");
    }

    #[track_caller]
    pub fn is_ok(&self, about: &str, words: &str) {
        let start = format!("ok       {about:<14}");
        let mut lines = self.text.lines();
        let fits = lines.any(|line| line.starts_with(&start) && line.contains(words));
        assert!(fits, "no ok line about {about} in\n{}", self.text);
    }
}

pub fn run(mut command: Command) -> Said {
    let output = command.output().expect("run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said {
        code: output.status.code(),
        text: text(&output.stdout),
        notes: text(&output.stderr),
    }
}

pub fn check(cron: &Cron, url: &str, arguments: &[&str]) -> Said {
    run(cron
        .install
        .command("check", &[&["--url", url], arguments].concat()))
}

/// The rows of the document's table, cell by cell: browser, log, line of `check`, set-up, meaning, remedy.
fn rows() -> Vec<Vec<&'static str>> {
    let document = include_str!("../docs/troubleshooting.md");
    let (_, table) = document
        .split_once("|---|---|---|---|---|---|\n")
        .expect("the table");
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches(['|', ' ']).split(" | ").collect())
        .collect()
}

/// The row of a set-up.
#[track_caller]
fn row(symptom: &Symptom) -> Vec<&'static str> {
    let all = rows().into_iter();
    let mut found = all.filter(|row| row[4..] == [symptom.means, symptom.remedy]);
    let row = found
        .next()
        .unwrap_or_else(|| panic!("no row of {symptom:?}"));
    assert_eq!(found.next(), None);
    row
}

/// The log has the words of the set-up.
#[track_caller]
pub fn logged(cron: &Cron, symptom: &Symptom) {
    let words: Vec<&str> = row(symptom)[1].split('`').skip(1).step_by(2).collect();
    assert!(!words.is_empty(), "{symptom:?} leaves nothing there");
    let log = || {
        let log = cron.install.log();
        words.iter().all(|word| log.contains(word)).then_some(())
    };
    let found = wait::until(wait::LIMIT, log);
    assert!(found.is_some(), "{words:?}: {}", cron.install.log());
}

/// An install with a running service that pings after 2 s.
pub fn running() -> Cron {
    pinging(2)
}

/// A service that sends a ping after so many seconds of silence.
fn pinging(seconds: u32) -> Cron {
    let mut cron = Cron::new();
    append(&cron, &format!("CHAT_WEBSOCKET_PING_INTERVAL={seconds}"));
    cron.started();
    cron
}

pub fn append(cron: &Cron, line: &str) {
    let file = cron.install.root().join(".env");
    let whole = fs::read_to_string(&file).expect("readable");
    fs::write(&file, format!("{whole}{line}\n")).expect("write .env");
}

pub fn url(server: &WebServer) -> String {
    format!("ws://127.0.0.1:{}/ws/chat", server.port)
}

pub fn location(inner: &str) -> String {
    format!("location /ws/chat {{ {inner} }}")
}

/// nginx as it should be.
pub fn good(port: u16) -> String {
    let address = format!("127.0.0.1:{port}");
    snippet(
        "nginx/andrea-chat-websocket-tuned.conf",
        &[("127.0.0.1:8090", &address)],
    )
}

#[test]
fn a_machine_that_cannot_be_reached_is_told_why() {
    needs!(MariaDb);
    let cron = Cron::new();
    let unknown = check(&cron, "ws://helpdesk.invalid/", &[]);
    unknown.has("failed", "DNS", &symptoms::NAME_UNKNOWN);
    let refused = format!("ws://127.0.0.1:{}/", mariadb::free_port());
    check(&cron, &refused, &[]).has("failed", "TCP", &symptoms::REFUSED);
    let unreachable = check(&cron, "ws://255.255.255.255:9/", &[]);
    unreachable.has("failed", "TCP", &symptoms::UNREACHABLE);

    // With its backlog full, a listener drops what comes.
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
    let full = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    let local = std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);
    bind(&full, &local).expect("bind");
    listen(&full, 0).expect("listen");
    let address = getsockname(&full).expect("an address");
    let address = std::net::SocketAddrV4::try_from(address).expect("of IPv4");
    let _waiting = std::net::TcpStream::connect(address).expect("the one that fits");
    let dropped = check(&cron, &format!("ws://{address}/"), &[]);
    dropped.has("failed", "TCP", &symptoms::DROPPED);

    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let silent = check(&cron, &format!("ws://127.0.0.1:{port}/"), &[]);
    silent.has("failed", "proxy", &symptoms::SILENT);
}

#[test]
fn tls_that_a_browser_would_not_take_is_told_apart() {
    needs!(MariaDb, Nginx, OpenSsl);
    let cron = running();
    let inner = good(cron.port);
    let (server, certificate) = WebServer::nginx_with_tls(&inner);
    let ca = certificate.to_str().expect("UTF-8");
    let named = |port: u16| format!("https://localhost:{port}/ws/chat");
    let well = check(&cron, &named(server.port), &["--ca", ca]);
    well.is_ok("TLS", "the certificate fits");
    well.is_ok("proxy", "both ways");
    well.has("warning", "APP_URL", &symptoms::APP_URL_OTHER);
    let unknown = check(&cron, &named(server.port), &[]);
    unknown.has("failed", "TLS", &symptoms::CERTIFICATE_UNKNOWN);
    let other = format!("wss://127.0.0.1:{}/ws/chat", server.port);
    let other = check(&cron, &other, &["--ca", ca]);
    other.has("failed", "TLS", &symptoms::CERTIFICATE_NAME);
    let plain = format!("http://localhost:{}/ws/chat", server.port);
    check(&cron, &plain, &[]).has("failed", "proxy", &symptoms::TLS_IS_ASKED);

    let between = |from: &str, to: &str, symptom: &Symptom| {
        let (server, certificate) = WebServer::nginx_with_tls_between(&inner, from, to);
        let ca = certificate.to_str().expect("UTF-8");
        check(&cron, &named(server.port), &["--ca", ca]).has("failed", "TLS", symptom);
    };
    between(
        "20200101000000Z",
        "20210101000000Z",
        &symptoms::CERTIFICATE_EXPIRED,
    );
    between(
        "20480101000000Z",
        "20490101000000Z",
        &symptoms::CERTIFICATE_EARLY,
    );
    let key = certificate.with_file_name("key.pem");
    let pair = format!(
        "ssl_certificate {ca}; ssl_certificate_key {};\n",
        key.display()
    );
    let both = WebServer::nginx_listening("", &format!("{pair}{inner}"), "ssl http2");
    check(&cron, &named(both.port), &["--ca", ca]).is_ok("proxy", "both ways");
    let no_name = WebServer::nginx_listening("", "ssl_reject_handshake on;", "ssl");
    let no_name = check(&cron, &named(no_name.port), &[]);
    no_name.has("failed", "TLS", &symptoms::CERTIFICATE_NAME);
    let alone = WebServer::nginx_listening("", &inner, "http2");
    check(&cron, &url(&alone), &[]).has("failed", "proxy", &symptoms::HTTP2_ONLY);
    let old = format!("ssl_protocols TLSv1.1; ssl_ciphers ALL:@SECLEVEL=0;\n{inner}");
    let (old, certificate) = WebServer::nginx_with_tls(&old);
    let ca = certificate.to_str().expect("UTF-8");
    let old = check(&cron, &named(old.port), &["--ca", ca]);
    old.has("failed", "TLS", &symptoms::TLS_FAILED);
    let none = WebServer::nginx(&inner);
    check(&cron, &named(none.port), &[]).has("failed", "TLS", &symptoms::NO_TLS);
}

#[test]
fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    needs!(MariaDb, Nginx, OpenSsl);
    let cron = running();
    let inner = good(cron.port);
    let folder = crate::support::reaper::folder("authority");
    fs::write(folder.join("ca"), "basicConstraints=critical,CA:TRUE\n").expect("write");
    let names = "subjectAltName=DNS:localhost\n";
    fs::write(folder.join("server"), names).expect("write");
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(&folder);
        let made = run(command);
        assert_eq!(made.code, Some(0), "{}", made.notes);
    };
    let sign = |name: &str, by: &str, kind: &str| {
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA {by}.pem -CAkey {by}.key -CAcreateserial -days 2 -extfile {kind} -out {name}.pem"
        ));
    };
    let own = "-days 2 -addext subjectAltName=DNS:localhost -keyout root.key -out root.pem";
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -subj /CN=root {own}"
    ));
    sign("middle", "root", "ca");
    sign("leaf", "middle", "server");
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("readable");
    let whole = read("leaf.pem") + &read("middle.pem");
    fs::write(folder.join("chain.pem"), whole).expect("write");
    let ca = folder.join("root.pem");
    let shown = |certificate: &str, key: &str| {
        let [certificate, key] = [certificate, key].map(|name| folder.join(name));
        let server = WebServer::nginx_with_certificate(&inner, &key, &certificate);
        let place = format!("https://localhost:{}/ws/chat", server.port);
        check(&cron, &place, &["--ca", ca.to_str().expect("UTF-8")])
    };
    shown("chain.pem", "leaf.key").is_ok("TLS", "the certificate fits");
    let incomplete = shown("leaf.pem", "leaf.key");
    incomplete.has("failed", "TLS", &symptoms::CERTIFICATE_UNKNOWN);
    shown("root.pem", "root.key").has("failed", "TLS", &symptoms::CERTIFICATE_FORM);
}

#[test]
fn one_dead_address_of_several_is_told() {
    needs!(MariaDb, Namespaces);
    let cron = running();
    let hosts = cron.install.root().join("hosts");
    fs::write(&hosts, "::1 helpdesk.test\n127.0.0.1 helpdesk.test\n").expect("write");
    let place = format!("ws://helpdesk.test:{}/ws/chat", cron.port);
    let inner = cron.install.command("check", &["--url", &place]);
    let said = apart(
        &inner,
        &format!("mount --bind {} /etc/hosts", hosts.display()),
    );
    said.has("warning", "TCP", &symptoms::DEAD_ADDRESS);
    said.is_ok("proxy", "both ways");
}

/// What a command says in a mount namespace that this has changed.
pub fn apart(inner: &Command, change: &str) -> Said {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command
        .args([
            "--mount",
            "sh",
            "-c",
            &format!("{change} && exec \"$@\""),
            "sh",
        ])
        .arg(inner.get_program())
        .args(inner.get_args());
    run(command)
}

#[test]
fn nginx_that_passes_the_request_on_wrongly_is_told_how() {
    needs!(MariaDb, Nginx);
    let cron = running();
    let pass = format!("proxy_pass http://127.0.0.1:{};", cron.port);
    let shorn = format!("proxy_pass http://127.0.0.1:{}/chat; {UPGRADE}", cron.port);
    let closed = format!(
        "proxy_pass http://127.0.0.1:{}; {UPGRADE}",
        mariadb::free_port()
    );
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!(
        "proxy_pass http://{}; proxy_read_timeout 1s;",
        silent.local_addr().expect("an address")
    );
    let half = UPGRADE.replace("proxy_set_header Upgrade $http_upgrade;", "");
    let old = UPGRADE.replace("1.1", "1.0");
    // The key of `check` is always the same, so nginx can grant what it does not pass on.
    let key = andrea_chat_websocket::websocket::handshake::accept_key(b"YW5kcmVhLWNoYXQtY2hlYw==");
    let granted = format!(
        "add_header Upgrade websocket always; add_header Connection Upgrade always; \
         add_header Sec-WebSocket-Accept {key} always; return 101"
    );
    for (inner, symptom) in [
        (pass.as_str(), &symptoms::UPGRADE_LOST),
        (
            &format!("{pass} proxy_http_version 1.1;"),
            &symptoms::UPGRADE_LOST,
        ),
        (&format!("{pass} {half}"), &symptoms::UPGRADE_LOST),
        (&format!("{pass} {old}"), &symptoms::UPGRADE_LOST),
        (&shorn, &symptoms::PATH_CHANGED),
        (&closed, &symptoms::PORT_WRONG),
        (&silent, &symptoms::PORT_WRONG),
        (&pass.replace("http://", "https://"), &symptoms::PORT_WRONG),
        ("return 404;", &symptoms::NOT_PASSED),
        ("return 200 '<html>Welcome</html>';", &symptoms::NOT_PASSED),
        (
            "return 301 https://helpdesk.example$request_uri;",
            &symptoms::REDIRECTED,
        ),
        ("return 301 /ws/chat/;", &symptoms::REDIRECTED),
        ("return 302 /login?to=/ws/chat;", &symptoms::SENT_ELSEWHERE),
        ("return 401;", &symptoms::LOGIN_WANTED),
        ("deny all;", &symptoms::FORBIDDEN),
        ("return 406;", &symptoms::FORBIDDEN),
        ("auth_request /none;", &symptoms::SERVER_FAILS),
        ("return 522;", &symptoms::CDN_FAILED),
        ("return 444;", &symptoms::SILENT),
        (
            &format!("keepalive_timeout 0; {granted} '';"),
            &symptoms::HELD_BACK,
        ),
        (&format!("{granted} hello;"), &symptoms::OTHER_SERVER),
    ] {
        let server = WebServer::nginx(&location(inner));
        check(&cron, &url(&server), &[]).has("failed", "proxy", symptom);
    }
    logged(&cron, &symptoms::UPGRADE_LOST);
    logged(&cron, &symptoms::PATH_CHANGED);

    // The Host that nginx sends by itself is that of the service's own address.
    let nameless = UPGRADE.replace("proxy_set_header Host $http_host;", "");
    let server = WebServer::nginx(&location(&format!("{pass} {nameless}")));
    let place = format!("ws://localhost:{}/ws/chat", server.port);
    check(&cron, &place, &[]).has("failed", "proxy", &symptoms::ORIGIN_REFUSED);
    logged(&cron, &symptoms::ORIGIN_REFUSED);
    // The service that runs has read its APP_URL before.
    let dotenv = cron.install.root().join(".env");
    let whole = fs::read_to_string(&dotenv).expect("readable");
    let other = whole.replace("https://helpdesk.example.test", "http://localhost");
    fs::write(&dotenv, other).expect("write .env");
    check(&cron, &place, &[]).has("failed", "proxy", &symptoms::ORIGIN_STALE);
}

#[test]
fn a_limit_of_nginx_is_told() {
    needs!(MariaDb, Nginx);
    let cron = running();
    let pass = format!("proxy_pass http://127.0.0.1:{};", cron.port);
    // The first connection stays open, and the second is one too many.
    for status in ["429", "503"] {
        let limited = format!(
            "limit_conn andrea_chat_connections 1; limit_conn_status {status}; {pass} {UPGRADE}"
        );
        let server = WebServer::nginx(&location(&limited));
        let mut first = crate::support::ws::Client::open(server.port);
        first.write(crate::support::ws::REQUEST.as_bytes());
        assert_eq!(first.response().unwrap().status(), 101);
        check(&cron, &url(&server), &[]).has("failed", "proxy", &symptoms::LIMITED);

        // The first request is let through, and the second comes too early.
        let zone = "limit_req_zone $server_port zone=slow:1m rate=1r/m;";
        let limited = format!("limit_req zone=slow; limit_req_status {status}; {pass} {UPGRADE}");
        let server = WebServer::nginx_listening(zone, &location(&limited), "");
        check(&cron, &url(&server), &[]).is_ok("proxy", "both ways");
        check(&cron, &url(&server), &[]).has("failed", "proxy", &symptoms::LIMITED);
    }
}

#[test]
fn apache_that_passes_the_request_on_wrongly_is_told_how() {
    needs!(MariaDb, Apache);
    let cron = running();
    let pass = |scheme: &str, port: u16| {
        format!("ProxyPreserveHost On\nProxyPass /ws/chat {scheme}://127.0.0.1:{port}/ws/chat")
    };
    let closed = mariadb::free_port();
    for (modules, inner, symptom) in [
        (
            &["proxy", "proxy_http"][..],
            pass("http", cron.port),
            &symptoms::UPGRADE_LOST,
        ),
        (&["proxy"], pass("ws", cron.port), &symptoms::NO_MODULE),
        (
            &["proxy", "proxy_wstunnel"],
            pass("ws", closed),
            &symptoms::PORT_WRONG,
        ),
    ] {
        let server = WebServer::apache(modules, &inner);
        check(&cron, &url(&server), &[]).has("failed", "proxy", symptom);
    }
    // mod_proxy_wstunnel heeds no time-out of the proxy; mod_proxy_http, which may take its place since 2.4.47, does.
    let short = format!(
        "Timeout 1\nProxyTimeout 1\n{} upgrade=websocket",
        pass("http", cron.port)
    );
    let short = WebServer::apache(&["proxy", "proxy_http"], &short);
    let short = check(&cron, &url(&short), &["--agent", "1"]);
    short.has("failed", "silence", &symptoms::TIMEOUT_SHORT);
}

#[test]
fn a_login_a_message_and_a_silence_are_tried_and_said_beforehand() {
    needs!(MariaDb, Nginx);
    // nginx below gives up before the ping, yet not before an answer of a busy machine.
    let mut cron = pinging(8);
    let nginx = WebServer::nginx(&good(cron.port));
    let place = url(&nginx);
    let well = check(&cron, &place, &["--agent", "1", "--thread", "1"]);
    well.is_ok("token", "auth.ok, and a pong");
    well.is_ok("message", "marked deleted");
    well.is_ok("silence", "ping comes through");
    assert!(well.notes.contains("appears online"), "{}", well.notes);
    assert!(well.notes.contains("direct thread 1"), "{}", well.notes);
    let left: Option<u64> = cron
        .conn
        .query_first("SELECT COUNT(*) FROM chat_messages WHERE body_text LIKE 'A test of the chat%' AND deleted_at IS NULL")
        .expect("count");
    assert_eq!(left, Some(0));

    let foreign = check(&cron, &place, &["--agent", "1", "--thread", "99"]);
    foreign.has("failed", "message", &symptoms::MESSAGE_REFUSED);
    let missing = check(&cron, &place, &["--agent", "999"]);
    missing.has("failed", "token", &symptoms::AGENT_INACTIVE);
    logged(&cron, &symptoms::AGENT_INACTIVE);
    cron.conn
        .query_drop("UPDATE agents SET is_active = 0 WHERE id = 2")
        .expect("deactivate");
    let inactive = check(&cron, &place, &["--agent", "2"]);
    inactive.has("failed", "token", &symptoms::AGENT_INACTIVE);

    let short = format!(
        "proxy_pass http://127.0.0.1:{}; {UPGRADE} proxy_read_timeout 5s;",
        cron.port
    );
    let short = WebServer::nginx(&location(&short));
    let short = check(&cron, &url(&short), &["--agent", "1"]);
    short.has("failed", "silence", &symptoms::TIMEOUT_SHORT);

    cron.set("chat_enabled", "0");
    let off = wait::until(wait::LIMIT, || {
        let said = check(&cron, &place, &["--agent", "1", "--thread", "1"]);
        said.text.contains(symptoms::CHAT_OFF.means).then_some(said)
    });
    off.expect("it is switched off")
        .has("failed", "message", &symptoms::CHAT_OFF);
}

#[test]
fn a_token_of_the_helpdesk_tells_secrets_and_clocks_apart() {
    needs!(MariaDb);
    let cron = running();
    let place = format!("ws://127.0.0.1:{}/ws/chat", cron.port);
    let file = cron.install.root().join("token");
    let shown = file.to_str().expect("UTF-8");
    let with = |token: &str| {
        fs::write(&file, format!("{token}\n")).expect("write the token");
        check(&cron, &place, &["--token-file", shown])
    };
    with(&jwt::good(1)).is_ok("token", "auth.ok, and a pong");
    let now = jwt::unix_now();
    let token = |from: i64, secret: &str| {
        let claims = format!(
            r#"{{"sub":1,"type":"agent","iat":{from},"exp":{}}}"#,
            from + 900
        );
        jwt::forge(r#"{"typ":"JWT","alg":"HS256"}"#, &claims, "HS256", secret)
    };
    let other = "another secret for tests, longer than 32 bytes";
    for (token, symptom) in [
        (token(now, other), &symptoms::SECRET_OTHER),
        (token(now - 3600, jwt::SECRET), &symptoms::TOKEN_OLD),
        (token(now + 3600, jwt::SECRET), &symptoms::CLOCK_BEHIND),
        ("no token".to_owned(), &symptoms::TOKEN_REFUSED),
    ] {
        with(&token).has("failed", "token", symptom);
        logged(&cron, symptom);
    }

    let dotenv = cron.install.root().join(".env");
    let whole = fs::read_to_string(&dotenv).expect("readable");
    fs::write(&dotenv, whole.replace(jwt::SECRET, other)).expect("write .env");
    let stale = check(&cron, &place, &["--agent", "1"]);
    stale.has("failed", "token", &symptoms::SECRET_STALE);
}

#[test]
fn the_browsers_console_shows_what_the_table_says() {
    needs!(Nginx, OpenSsl, Python, Browser);
    let answers: String = [301, 302, 401, 403, 404, 429, 444, 500, 502, 522]
        .map(|code| match code {
            301 | 302 => format!("location /{code} {{ return {code} /elsewhere; }}\n"),
            _ => format!("location /{code} {{ return {code}; }}\n"),
        })
        .concat();
    let plain = WebServer::nginx(&format!("{answers} location / {{ return 200 page; }}"));
    let alone = WebServer::nginx_listening("", "location / { return 404; }", "http2");
    let (secure, _) = WebServer::nginx_with_tls("location / { return 404; }");
    let closed = mariadb::free_port();
    let at = |scheme: &str, port: u16, path: &str| format!("{scheme}://127.0.0.1:{port}/{path}");
    let of_code = |code: &str| at("ws", plain.port, code);
    let cases = [
        ("ws://helpdesk.invalid/".to_owned(), &symptoms::NAME_UNKNOWN),
        (at("ws", closed, ""), &symptoms::REFUSED),
        (at("wss", secure.port, ""), &symptoms::CERTIFICATE_UNKNOWN),
        (at("wss", plain.port, ""), &symptoms::NO_TLS),
        (at("ws", secure.port, ""), &symptoms::TLS_IS_ASKED),
        (at("ws", alone.port, ""), &symptoms::HTTP2_ONLY),
        (of_code("301"), &symptoms::REDIRECTED),
        (of_code("302"), &symptoms::SENT_ELSEWHERE),
        (of_code("401"), &symptoms::LOGIN_WANTED),
        (of_code("403"), &symptoms::FORBIDDEN),
        (of_code("404"), &symptoms::NOT_PASSED),
        (of_code("429"), &symptoms::LIMITED),
        (of_code("444"), &symptoms::SILENT),
        (of_code("500"), &symptoms::SERVER_FAILS),
        (of_code("502"), &symptoms::STOPPED),
        (of_code("522"), &symptoms::CDN_FAILED),
    ];
    let cases = cases.map(|(url, symptom)| {
        // The column's first words between backticks; an x is any digit.
        let words = row(symptom)[0].split('`').nth(1).expect("words");
        let words = words.trim_end_matches('x');
        Json::object([("url", url.as_str().into()), ("words", words.into())])
    });
    let task = Json::object([
        ("page", at("http", plain.port, "").as_str().into()),
        ("cases", Json::Array(cases.into())),
    ]);
    let programs = [script::PYTHON, script::CHROMEDRIVER, script::CHROMIUM];
    script::run("browser/console.py", &programs, &task, |_| None);
}

#[test]
fn every_set_up_of_the_table_is_made_by_a_test() {
    let tests = [include_str!("doctor.rs"), include_str!("doctor_service.rs")].concat();
    for (name, symptom) in symptoms::ALL {
        assert!(tests.contains(&format!("&symptoms::{name}")), "{symptom:?}");
    }
}

#[test]
fn the_document_has_the_programs_table() {
    for (at, (_, symptom)) in symptoms::ALL.iter().enumerate() {
        assert_eq!(row(symptom), rows()[at], "the order of the steps");
    }
    assert_eq!(rows().len(), symptoms::ALL.len());
}
