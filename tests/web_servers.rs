//! The shipped nginx and Apache files in front of a real daemon: chat works, connections survive silence longer than the
//! proxy's timeout, and a restart of the daemon costs only a new connection.

use std::time::{Duration, Instant};

use crate::support::cron::Cron;
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{self, Database};
use crate::support::web_server::{WebServer, snippet};
use crate::support::ws::{Client, Outcome};
use crate::support::{seed, wait};

/// The proxies' time-out in these tests, in seconds, and how long a connection is then silent.
const TIMEOUT: u64 = 3;
/// Of its own and the snippet's time-out Apache takes the longer.
const APACHE_TIMEOUT: &str = "Timeout 3\nProxyTimeout 3\n";
const SILENCE: Duration = Duration::from_secs(7);

/// The ways through a web server that are shipped.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The documented snippets.
    Nginx,
    Apache,
    /// Ours beside them.
    NginxTuned,
    ApacheTuned,
}

const WAYS: [Way; 4] = [Way::Nginx, Way::Apache, Way::NginxTuned, Way::ApacheTuned];

impl Way {
    fn open(self, port: u16) -> WebServer {
        let address = format!("127.0.0.1:{port}");
        let address = ("127.0.0.1:8090", address.as_str());
        let seconds = |before: &str, after: &str| format!("{before}{TIMEOUT}{after}");
        match self {
            Way::Nginx => {
                let timeout = seconds("proxy_read_timeout ", ";");
                let changes = [address, ("proxy_read_timeout 3600;", &timeout)];
                WebServer::nginx(&snippet("nginx/andrea-chat-websocket.conf", &changes))
            }
            Way::NginxTuned => {
                let changes = [address, ("120s", &seconds("", "s"))];
                WebServer::nginx(&snippet("nginx/andrea-chat-websocket-tuned.conf", &changes))
            }
            Way::Apache => {
                let documented = snippet("apache/andrea-chat-websocket.conf", &[address]);
                let modules = ["proxy", "proxy_wstunnel", "rewrite"];
                WebServer::apache(&modules, &format!("{documented}\n{APACHE_TIMEOUT}"))
            }
            Way::ApacheTuned => {
                let timeout = seconds("timeout=", "");
                let changes = [address, ("timeout=120", &timeout)];
                let tuned = snippet("apache/andrea-chat-websocket-tuned.conf", &changes);
                WebServer::apache(
                    &["proxy", "proxy_http"],
                    &format!("{tuned}\n{APACHE_TIMEOUT}"),
                )
            }
        }
    }
}

/// Upgrades as a browser does whose page is at another address than `APP_URL`: let in by the `Host` that the proxy
/// passes on, or not at all.
fn connect(port: u16, path: &str) -> Outcome<(u16, Client)> {
    let mut client = Client::open(port);
    client.write(
        format!(
            "GET {path} HTTP/1.1\r\nHost: chat.example.org\r\nOrigin: https://chat.example.org\r\n\
             Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .as_bytes(),
    );
    let status = client.response()?.status();
    Ok((status, client))
}

fn login(port: u16, agent: i64) -> Client {
    let (status, mut client) = connect(port, "/ws/chat").unwrap();
    assert_eq!(status, 101);
    client.auth(agent).unwrap();
    client
}

fn say(client: &mut Client, body: &str) {
    let event = Json::object([
        ("type", "chat.channel.message.send".into()),
        ("channel_id", 1.into()),
        ("body", body.into()),
    ]);
    client.send(&event.to_string());
}

fn hear(client: &mut Client, body: &str) {
    let event = client.until_type("chat.channel.message.created").unwrap();
    assert_eq!(event.need("message").need("body_text").str(), Some(body));
}

fn daemon_on(port: u16, database: &Database, ping: u32) -> Daemon {
    let options = Options::new()
        .port(port)
        .env("CHAT_WEBSOCKET_PING_INTERVAL", &ping.to_string());
    Daemon::start(database, &options)
}

fn seeded() -> Database {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    database
}

#[test]
fn two_chat_through_every_way_and_stay_through_silence() {
    needs!(MariaDb, Nginx, Apache);
    std::thread::scope(|scope| {
        for way in WAYS {
            scope.spawn(move || {
                let database = seeded();
                let daemon = daemon_on(mariadb::free_port(), &database, 1);
                let proxy = way.open(daemon.port());
                let (mut ann, mut bob) = (login(proxy.port, 1), login(proxy.port, 2));
                let long = "x".repeat(4000);
                for body in ["hello", "ünïcödé 😀", &long] {
                    say(&mut ann, body);
                    hear(&mut bob, body);
                    hear(&mut ann, body);
                }
                // A short frame is not held back until a buffer is full.
                say(&mut bob, "quick");
                hear(&mut ann, "quick");
                hear(&mut bob, "quick");

                // No client sends anything; the daemon's pings keep the proxy's connection open.
                for client in [&mut ann, &mut bob] {
                    client.limit = SILENCE / 2;
                    let silent = client.until_type("chat.channel.message.created");
                    let fault = silent.expect_err("no client sends anything");
                    assert!(fault.what.contains("nothing came"), "{way:?}: {fault:?}");
                    client.limit = wait::LIMIT;
                }
                say(&mut ann, "still here");
                hear(&mut bob, "still here");
            });
        }
    });
}

/// The other half of the test above: a time-out that is below the ping's interval does cut a connection, so what
/// stayed there stayed because of the pings.
#[test]
fn a_time_out_below_the_pings_interval_cuts_a_silent_connection() {
    needs!(MariaDb, Nginx, Apache);
    let database = seeded();
    let daemon = daemon_on(mariadb::free_port(), &database, 25);
    for way in [Way::NginxTuned, Way::ApacheTuned] {
        let proxy = way.open(daemon.port());
        let mut client = login(proxy.port, 1);
        let begun = Instant::now();
        client.until_end().unwrap();
        // The daemon itself ends no connection that is authenticated and silent.
        let took = begun.elapsed().as_secs();
        assert!(took >= TIMEOUT - 1, "{way:?}: {took} s");
    }
}

#[test]
fn a_restart_behind_every_way_costs_a_new_connection_and_no_more() {
    needs!(MariaDb, Nginx, Apache);
    let database = seeded();
    let port = mariadb::free_port();
    let mut daemon = daemon_on(port, &database, 25);
    let proxies = WAYS.map(|way| (way, way.open(port)));
    let mut clients: Vec<Client> = proxies
        .iter()
        .map(|(_, proxy)| login(proxy.port, 1))
        .collect();
    assert!(daemon.stop().success());
    for client in &mut clients {
        // The goodbye itself comes through, so the browser knows that it may come back.
        assert_eq!(client.until_end().unwrap().1, Some(1001));
    }
    for (way, proxy) in &proxies {
        // Apache takes a failed try for a reason to try no more for a minute, unless it is told not to.
        if !matches!(way, Way::Apache) {
            let (status, _) = connect(proxy.port, "/ws/chat").unwrap();
            assert!([502, 503].contains(&status), "{way:?}: {status}");
        }
    }
    let _again = daemon_on(port, &database, 25);
    for (way, proxy) in &proxies {
        println!("{way:?}");
        let mut client = login(proxy.port, 1);
        say(&mut client, "back");
        hear(&mut client, "back");
    }
}

#[test]
fn only_the_chat_is_behind_the_proxy() {
    needs!(MariaDb, Nginx, Apache);
    let database = seeded();
    let daemon = daemon_on(mariadb::free_port(), &database, 25);
    for way in WAYS {
        let proxy = way.open(daemon.port());
        for path in ["/healthz", "/metrics", "/ws/healthz"] {
            let mut client = Client::open(proxy.port);
            client.write(
                format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
            );
            let status = client.response().unwrap().status();
            let body = String::from_utf8_lossy(&client.rest().unwrap()).into_owned();
            assert!(
                status >= 400 && !body.contains("heartbeat"),
                "{way:?} {path}: {status} {body}"
            );
        }
    }
}

#[test]
fn two_installs_below_one_host_each_have_their_own_chat() {
    needs!(MariaDb, Nginx, Apache);
    let (one, two) = (seeded(), seeded());
    let daemons = [&one, &two].map(|database| daemon_on(mariadb::free_port(), database, 25));
    let addresses = daemons
        .each_ref()
        .map(|daemon| format!("127.0.0.1:{}", daemon.port()));
    let changes = [
        ("127.0.0.1:8091", addresses[0].as_str()),
        ("127.0.0.1:8092", addresses[1].as_str()),
    ];
    let proxies = [
        WebServer::nginx(&snippet(
            "nginx/andrea-chat-websocket-several.conf",
            &changes,
        )),
        WebServer::apache(
            &["proxy", "proxy_http"],
            &snippet("apache/andrea-chat-websocket-several.conf", &changes),
        ),
    ];
    for proxy in &proxies {
        let mut clients = ["/desk-one/ws/chat", "/desk-two/ws/chat"].map(|path| {
            let (status, mut client) = connect(proxy.port, path).unwrap();
            assert_eq!(status, 101, "{path}");
            client.auth(1).unwrap();
            client
        });
        say(&mut clients[0], "in the first");
        hear(&mut clients[0], "in the first");
        say(&mut clients[1], "in the second");
        // The first thing that it hears.
        hear(&mut clients[1], "in the second");
    }
}

#[test]
fn check_goes_through_the_web_server_with_and_without_tls() {
    needs!(MariaDb, Nginx, Apache, OpenSsl);
    let mut cron = Cron::new();
    cron.started();
    let address = format!("127.0.0.1:{}", cron.port);
    let tuned = snippet(
        "nginx/andrea-chat-websocket-tuned.conf",
        &[("127.0.0.1:8090", &address)],
    );
    let check = |url: &str, certificate: Option<&std::path::Path>| {
        let mut command = cron.install.command("check", &["--url", url]);
        if let Some(certificate) = certificate {
            command.env("SSL_CERT_FILE", certificate);
        }
        let output = command.output().expect("run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    let plain = WebServer::nginx(&tuned);
    let (code, line) = check(&format!("http://127.0.0.1:{}/ws/chat", plain.port), None);
    assert!(code == Some(0) && line.contains("both ways"), "{line}");

    for way in [Way::Apache, Way::ApacheTuned] {
        let apache = way.open(cron.port);
        let (code, line) = check(&format!("http://127.0.0.1:{}/ws/chat", apache.port), None);
        assert!(
            code == Some(0) && line.contains("both ways"),
            "{way:?}: {line}"
        );
    }

    let (secure, certificate) = WebServer::nginx_with_tls(&tuned);
    let url = format!("wss://localhost:{}/ws/chat", secure.port);
    let (code, line) = check(&url, Some(&certificate));
    assert!(code == Some(0) && line.contains("both ways"), "{line}");
    // `check` rejects an untrusted certificate and one for another name.
    let (code, line) = check(&url, None);
    assert!(code == Some(1) && line.contains("self-signed"), "{line}");
    let other = format!("wss://127.0.0.1:{}/ws/chat", secure.port);
    let (code, line) = check(&other, Some(&certificate));
    assert!(code == Some(1) && line.contains("another name"), "{line}");

    // A location that does not pass the upgrade on is what most go wrong with.
    let lame = format!("location /ws/chat {{ proxy_pass http://{address}; }}");
    let lame = WebServer::nginx(&lame);
    let (code, line) = check(&format!("ws://127.0.0.1:{}/ws/chat", lame.port), None);
    assert!(code == Some(1) && line.contains("Upgrade"), "{line}");
}

/// A client of another address of this machine.
fn from_address(address: [u8; 4], port: u16) -> std::net::TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    use std::net::{Ipv4Addr, SocketAddrV4};

    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(address.into(), 0)).expect("bind");
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("connect");
    socket.into()
}

/// Through nginx the address's own limit keeps it from more than half of the places. Apache has no such limit: there the
/// daemon lets the oldest silent socket go, as long as Apache has a worker for the newcomer.
#[test]
fn s3_silent_sockets_of_one_address_keep_no_newcomer_of_another_out() {
    needs!(MariaDb, Nginx, Apache);
    let database = seeded();
    for (way, places, tried) in [(Way::NginxTuned, "512", 400), (Way::ApacheTuned, "64", 150)] {
        let options = Options::new().env("CHAT_WEBSOCKET_MAX_UNAUTHENTICATED", places);
        let daemon = Daemon::start(&database, &options);
        let proxy = way.open(daemon.port());
        let mut silent = Vec::new();
        let mut statuses = std::collections::BTreeMap::new();
        for _ in 0..tried {
            let (status, client) = connect(proxy.port, "/ws/chat").unwrap();
            *statuses.entry(status).or_insert(0) += 1;
            silent.push(client);
        }
        let mut waits = Vec::new();
        for _ in 0..12 {
            let begun = Instant::now();
            let mut newcomer = Client::of(from_address([127, 0, 0, 2], proxy.port));
            newcomer.write(crate::support::ws::REQUEST.as_bytes());
            assert_eq!(newcomer.response().unwrap().status(), 101, "{way:?}");
            newcomer.auth(4).unwrap();
            waits.push(begun.elapsed());
        }
        waits.sort_unstable();
        println!("{way:?}: {statuses:?} for one address, newcomers of another {waits:?}");
        if matches!(way, Way::NginxTuned) {
            assert!(
                statuses[&101] <= 257 && statuses[&429] > 100,
                "{statuses:?}"
            );
        }
    }
}
