//! Encrypted connections to the database, and a password that goes only to a verified server.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::fake_mysql::{FakeMysql, Reply};
use crate::support::mariadb::{self, Database, Server};
use crate::support::{reaper, seed, wait};

/// A folder with an authority and what it has signed.
struct Authority(PathBuf);

impl Authority {
    fn new() -> Authority {
        let folder = reaper::folder("authority");
        let authority = Authority(folder);
        authority.openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
        authority
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .expect("openssl runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments}: {said}");
    }

    /// A certificate for this name (`IP:…` or `DNS:…`), perhaps one of long ago, and its key.
    fn sign(&self, file: &str, name: &str, expired: bool) {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={file} -keyout {file}.key -out {file}.csr"
        ));
        self.sign_request(file, &format!("subjectAltName={name}"), expired);
    }

    /// The same for a request that is there.
    fn sign_request(&self, file: &str, extension: &str, expired: bool) {
        fs::write(self.0.join("extensions"), format!("{extension}\n")).expect("write them");
        let (from, until) = match expired {
            true => ("200101000000Z", "200102000000Z"),
            false => ("200101000000Z", "491231000000Z"),
        };
        fs::write(self.0.join("index"), "").expect("write the list of the authority");
        fs::write(
            self.0.join("ca.conf"),
            "[ca]\ndefault_ca=it\n[it]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\npolicy=any\n\
             unique_subject=no\nrand_serial=yes\n[any]\ncommonName=supplied\n",
        )
        .expect("write the rules of the authority");
        self.openssl(&format!(
            "ca -batch -config ca.conf -cert ca.pem -keyfile ca.key -startdate {from} -enddate {until} -notext \
             -extfile extensions -in {file}.csr -out {file}.pem"
        ));
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// A server with the certificate `server`.
    fn server(&self) -> (Server, Database) {
        let server = Server::with_arguments(&[
            format!("--ssl-ca={}", self.file("ca.pem")),
            format!("--ssl-cert={}", self.file("server.pem")),
            format!("--ssl-key={}", self.file("server.key")),
        ]);
        let database = server.fresh();
        seed::reset(&mut database.conn());
        (server, database)
    }

    /// Gives the running server the certificate `file` instead.
    fn replace(&self, server: &Server, file: &str) {
        for ending in ["pem", "key"] {
            let to = self.0.join(format!("server.{ending}"));
            fs::copy(self.0.join(format!("{file}.{ending}")), to).expect("copy a certificate");
        }
        let reload = match mariadb::is_mysql() {
            true => "ALTER INSTANCE RELOAD TLS",
            false => "FLUSH SSL",
        };
        server
            .admin()
            .query_drop(reload)
            .expect("a new certificate");
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn serves(database: &Database, options: &Options) -> String {
    let mut daemon = Daemon::start(database, options);
    daemon.login(1).expect("login");
    let check = daemon
        .install
        .command("check", &[])
        .envs(options.environment())
        .output();
    let check = String::from_utf8_lossy(&check.expect("check runs").stdout).into_owned();
    assert!(daemon.stop().success());
    check
}

fn refuses(database: &Database, options: &Options, words: &[&str]) {
    let mut daemon = Daemon::spawn(Install::new(database, options), options);
    let status = daemon.wait_exit(wait::LIMIT);
    let said = daemon.stderr();
    assert_eq!(status.code(), Some(78), "{said}");
    assert!(
        words.iter().all(|word| said.contains(word)),
        "{words:?}: {said}"
    );
}

fn with_ca(ca: &str) -> Options {
    Options::new().env("DB_SSL_CA", ca)
}

#[test]
fn o4_a_line_that_is_verified_is_used_and_any_other_is_refused_with_the_reason() {
    needs!(MariaDb, OpenSsl);
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.sign("server", "IP:127.0.0.1", false);
    ours.sign("good", "IP:127.0.0.1", false);
    ours.sign("other-name", "DNS:db.example.test", false);
    ours.sign("expired", "IP:127.0.0.1", true);
    let (server, database) = ours.server();
    server
        .admin()
        .query_drop("SET GLOBAL require_secure_transport = 1")
        .expect("TLS alone");
    let ca = ours.file("ca.pem");

    refuses(&database, &Options::new(), &["DB_SSL_MODE"]);
    let check = serves(&database, &with_ca(&ca));
    assert!(check.contains("encrypted with TLS"), "{check}");
    for mode in ["required", "preferred", "REQUIRED"] {
        let check = serves(&database, &Options::new().env("DB_SSL_MODE", mode));
        assert!(check.contains("was not verified"), "{check}");
    }
    refuses(
        &database,
        &with_ca(&theirs.file("ca.pem")),
        &["no authority that is trusted", "DB_SSL_CA"],
    );

    ours.replace(&server, "other-name");
    refuses(&database, &with_ca(&ca), &["another name", "DB_HOST"]);
    serves(&database, &with_ca(&ca).env("DB_SSL_MODE", "verify-ca"));
    refuses(
        &database,
        &with_ca(&theirs.file("ca.pem")).env("DB_SSL_MODE", "verify_ca"),
        &["no authority that is trusted"],
    );

    if mariadb::is_mysql() {
        return println!("left out: MySQL itself takes no certificate that has expired");
    }
    ours.replace(&server, "expired");
    refuses(&database, &with_ca(&ca), &["has expired"]);
    refuses(
        &database,
        &with_ca(&ca).env("DB_SSL_MODE", "verify-ca"),
        &["has expired"],
    );
    serves(&database, &Options::new().env("DB_SSL_MODE", "required"));
}

#[test]
fn o4_an_account_that_asks_for_a_certificate_gets_one() {
    needs!(MariaDb, OpenSsl);
    let ours = Authority::new();
    ours.sign("server", "IP:127.0.0.1", false);
    ours.sign("client", "DNS:client", false);
    let (server, database) = ours.server();
    let mut admin = server.admin();
    for statement in [
        "CREATE USER 'careful'@'%' IDENTIFIED BY 'careful' REQUIRE X509".to_owned(),
        format!("GRANT ALL ON {}.* TO 'careful'@'%'", database.name),
    ] {
        admin.query_drop(statement).expect("make the account");
    }
    let as_careful = |options: Options| {
        options
            .env("DB_USERNAME", "careful")
            .env("DB_PASSWORD", "careful")
    };
    let ca = ours.file("ca.pem");
    refuses(&database, &as_careful(Options::new()), &["DB_SSL_MODE"]);
    refuses(&database, &as_careful(with_ca(&ca)), &["ERROR 1045"]);
    let (certificate, key) = (ours.file("client.pem"), ours.file("client.key"));
    let both = with_ca(&ca)
        .env("DB_SSL_CERT", &certificate)
        .env("DB_SSL_KEY", &key);
    serves(&database, &as_careful(both));
    refuses(
        &database,
        &with_ca(&ca).env("DB_SSL_CERT", &certificate),
        &["DB_SSL_KEY"],
    );
    refuses(
        &database,
        &with_ca("/no/such/file"),
        &["DB_SSL_CA", "cannot be read"],
    );
    refuses(
        &database,
        &Options::new().env("DB_SSL_MODE", "always"),
        &["verify-identity"],
    );
}

#[test]
fn o4_keys_of_every_form_and_chains_are_taken() {
    needs!(MariaDb, OpenSsl);
    let ours = Authority::new();
    // The server's certificate is of an authority between, which it sends along.
    let between = Authority::new();
    between.openssl("req -newkey rsa:2048 -nodes -subj /CN=between -keyout ca.key -out ca.csr");
    fs::copy(between.0.join("ca.csr"), ours.0.join("between.csr")).expect("copy a request");
    ours.sign_request("between", "basicConstraints=critical,CA:TRUE", false);
    fs::copy(ours.0.join("between.pem"), between.0.join("ca.pem")).expect("copy a certificate");
    between.sign("server", "IP:127.0.0.1", false);
    let chain = ["server.pem", "ca.pem"].map(|file| fs::read(between.0.join(file)));
    let chain = chain.map(|file| file.expect("a certificate")).concat();
    fs::write(ours.0.join("server.pem"), chain).expect("write the chain");
    fs::copy(between.0.join("server.key"), ours.0.join("server.key")).expect("copy a key");
    let (server, database) = ours.server();
    let mut admin = server.admin();
    for statement in [
        "CREATE USER 'careful'@'%' IDENTIFIED BY 'careful' REQUIRE X509".to_owned(),
        format!("GRANT ALL ON {}.* TO 'careful'@'%'", database.name),
    ] {
        admin.query_drop(statement).expect("make the account");
    }
    ours.sign("client", "DNS:client", false);
    ours.openssl("rsa -in client.key -traditional -out client1.key");
    fs::copy(ours.0.join("client.pem"), ours.0.join("client1.pem")).expect("copy a certificate");
    ours.openssl("ecparam -name prime256v1 -genkey -noout -out curve.key");
    ours.openssl("req -new -key curve.key -subj /CN=curve -out curve.csr");
    ours.sign_request("curve", "subjectAltName=DNS:client", false);
    for (key, head) in [
        ("client", "-----BEGIN PRIVATE KEY"),
        ("client1", "-----BEGIN RSA PRIVATE KEY"),
        ("curve", "-----BEGIN EC PRIVATE KEY"),
    ] {
        let text = fs::read_to_string(ours.0.join(format!("{key}.key"))).expect("a key");
        assert!(text.starts_with(head), "{key}: {text}");
        let options = with_ca(&ours.file("ca.pem"))
            .env("DB_USERNAME", "careful")
            .env("DB_PASSWORD", "careful")
            .env("DB_SSL_CERT", &ours.file(&format!("{key}.pem")))
            .env("DB_SSL_KEY", &ours.file(&format!("{key}.key")));
        let check = serves(&database, &options);
        assert!(check.contains("encrypted with TLS"), "{key}: {check}");
    }
    fs::write(ours.0.join("empty"), "").expect("write a file");
    fs::write(ours.0.join("text"), "no certificate\n").expect("write a file");
    let (ca, certificate, key) = (
        ours.file("ca.pem"),
        ours.file("client.pem"),
        ours.file("client.key"),
    );
    for (ca, certificate, key, word) in [
        (&ca, &certificate, &ours.file("curve.key"), "DB_SSL_KEY"),
        (&ca, &certificate, &ours.file("text"), "DB_SSL_KEY"),
        (&ca, &ours.file("text"), &key, "DB_SSL_CERT"),
        (&ca, &certificate, &ours.file("empty"), "DB_SSL_KEY"),
        (&ours.file("text"), &certificate, &key, "DB_SSL_CA"),
        (&ours.file("empty"), &certificate, &key, "DB_SSL_CA"),
    ] {
        let options = with_ca(ca)
            .env("DB_SSL_CERT", certificate)
            .env("DB_SSL_KEY", key);
        refuses(&database, &options, &[word]);
    }
}

#[test]
fn o4_what_a_server_has_made_itself_is_verified_where_it_can_be() {
    needs!(MariaDb, OpenSsl);
    let ours = Authority::new();
    // A certificate that signs itself, as those are that servers and hurried people make.
    ours.openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 \
         -keyout server.key -out server.pem",
    );
    let (server, database) = ours.server();
    refuses(
        &database,
        &with_ca(&ours.file("server.pem")),
        &["none that can be verified", "DB_SSL_MODE=required"],
    );
    serves(&database, &Options::new().env("DB_SSL_MODE", "required"));
    drop(server);
    if !mariadb::is_mysql() {
        return println!("left out: MariaDB's own certificate is on no disk");
    }
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let options = with_ca(&server.data().join("ca.pem").display().to_string());
    refuses(&database, &options, &["another name"]);
    let check = serves(&database, &options.env("DB_SSL_MODE", "verify-ca"));
    assert!(check.contains("encrypted with TLS"), "{check}");
}

#[test]
fn o4_a_server_without_tls_is_used_only_where_that_is_allowed() {
    needs!(MariaDb, OpenSsl);
    // MariaDB 11.4 and MySQL 8 make themselves a certificate otherwise.
    let without = ["--loose-skip-ssl", "--loose-tls-version="].map(str::to_owned);
    let server = Server::with_arguments(&without);
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let check = serves(&database, &Options::new().env("DB_SSL_MODE", "preferred"));
    assert!(check.contains("offers no TLS"), "{check}");
    refuses(
        &database,
        &Options::new().env("DB_SSL_MODE", "required"),
        &["no encrypted line", "DB_SSL_MODE"],
    );
    // A Unix socket needs none.
    let socket = database.socket.display().to_string();
    let options = Options::new().env("DB_SSL_MODE", "required");
    serves(
        &database,
        &options
            .dotenv("DB_HOST", "localhost")
            .dotenv("DB_SOCKET", &socket),
    );
}

/// An address of this machine that is not a loopback one, if it has one.
fn outer_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback()).then(|| address.to_string())
}

fn key_file(folder: &Path) -> String {
    for arguments in [
        "genrsa -out rsa.key 2048",
        "rsa -in rsa.key -pubout -out public_key.pem",
    ] {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output();
        assert!(made.expect("openssl runs").status.success());
    }
    folder.join("public_key.pem").display().to_string()
}

#[test]
fn s16_a_password_is_not_given_to_an_unknown_server_with_a_key() {
    needs!(MariaDb, OpenSsl);
    let Some(outer) = outer_address() else {
        return println!("left out: no address but loopback here");
    };
    let folder = Authority::new();
    let key = key_file(&folder.0);
    let database = Server::own().fresh();
    let away = |server: &FakeMysql| {
        let host = format!("{outer}:{}", server.port);
        Options::new().dotenv("DB_HOST", &host)
    };
    let thief = FakeMysql::start("0.0.0.0", Reply::WholePassword);
    refuses(
        &database,
        &away(&thief),
        &["caching_sha2_password", "DB_SERVER_PUBLIC_KEY"],
    );
    // Nothing but a goodbye: neither the password nor a wish for a key.
    assert!(
        thief.heard().iter().all(|said| *said == [1]),
        "{:?}",
        thief.heard()
    );

    let known = FakeMysql::start("0.0.0.0", Reply::WholePassword);
    let options = away(&known).env("DB_SERVER_PUBLIC_KEY", &key);
    let mut daemon = Daemon::spawn(Install::new(&database, &options), &options);
    daemon.await_log("waiting for the database");
    daemon.stop();
    let sent = known.heard();
    let is_encrypted = |one: &Vec<u8>| one.len() == 256;
    assert!(
        !sent.is_empty() && sent.iter().all(is_encrypted),
        "by the key that is known"
    );
}

#[test]
fn s16_a_key_that_is_none_ends_no_process() {
    needs!(MariaDb, OpenSsl);
    let server = FakeMysql::start("127.0.0.1", Reply::Key(b"no key"));
    let mut database = Server::own().fresh();
    database.port = server.port;
    let options = Options::new();
    let daemon = Daemon::spawn(Install::new(&database, &options), &options);
    daemon.await_log("waiting for the database");
    // The server on this machine may be asked.
    assert_eq!(server.heard()[0], [2]);
}
