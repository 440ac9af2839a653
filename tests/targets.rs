//! How a request may name what it asks for, and how the application's own address may be written.

use std::io::Write;

use crate::support::daemon::{Daemon, Options};
use crate::support::mariadb::Database;
use crate::support::{seed, wait};

#[test]
fn a14_a_page_of_the_app_connects_however_its_url_is_written() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let options = Options::new().dotenv("APP_URL", "https://user:pw@desk.example.com/");
    let daemon = Daemon::start(&database, &options);
    for (origin, status) in [
        ("https://desk.example.com", "101"),
        ("https://user:pw@desk.example.com", "403"),
        ("https://desk.example.com.evil.example", "403"),
    ] {
        assert_eq!(shake(&daemon, "/ws/chat", origin), status, "{origin}");
    }
}

#[test]
fn a13_a_target_in_absolute_form_is_served() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new());
    let own = format!("http://127.0.0.1:{}", daemon.port());
    for (path, status) in [
        ("/ws/chat", "101"),
        ("/ws/other", "404"),
        ("/healthz", "200"),
    ] {
        assert_eq!(
            shake(&daemon, &format!("{own}{path}"), &own),
            status,
            "{path}"
        );
    }
    let shouted = format!("HTTP://127.0.0.1:{}/ws/chat", daemon.port());
    assert_eq!(shake(&daemon, &shouted, &own), "101");
}

/// The status that a handshake is answered with.
fn shake(daemon: &Daemon, target: &str, origin: &str) -> String {
    use std::io::Read;

    let mut stream = std::net::TcpStream::connect(("127.0.0.1", daemon.port())).expect("connect");
    stream.set_read_timeout(Some(wait::LIMIT)).expect("set");
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: {origin}\r\n\r\n",
        daemon.port()
    )
    .expect("send");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    String::from_utf8_lossy(&status[9..]).into_owned()
}
