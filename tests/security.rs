//! Injection attempts of a peer against authentication, the database, other agents' pages and the log: each is refused or
//! treated as plain text.

use std::time::Duration;

use andrea_chat_websocket::auth::TokenVerifier;

use crate::fuzz::invariants;
use crate::support::daemon::{Daemon, Options, is_stamp};
use crate::support::json::Json;
use crate::support::jwt::{self, SECRET, base64url};
use crate::support::ops::seeded;
use crate::support::rows;
use crate::support::sql::Sql;
use crate::support::wait;
use crate::support::web_server::{WebServer, snippet};
use crate::support::ws::{Client, FrameSpec, REQUEST};

const HS256: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

fn claims(more: &str) -> String {
    let now = jwt::unix_now();
    format!(
        r#"{{"sub":1,"type":"agent","iat":{now},"exp":{}{more}}}"#,
        now + 900
    )
}

/// Signed with the right secret under HS256, whatever the header says.
fn confused(header: &str) -> String {
    jwt::forge(header, &claims(""), "HS256", SECRET)
}

fn with(claims: &str) -> String {
    jwt::forge(HS256, claims, "HS256", SECRET)
}

/// What attacks it, and a token that would let agent 1 in if it came through.
fn bad_tokens() -> Vec<(String, String)> {
    let mut tokens = Vec::new();
    let mut add = |name: &str, token: String| tokens.push((name.to_owned(), token));
    bad_headers(&mut add);
    bad_claims(&mut add);
    bad_forms(&mut add);
    tokens
}

fn bad_headers(add: &mut dyn FnMut(&str, String)) {
    // No signature, by every spelling.
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = format!(r#"{{"typ":"JWT","alg":"{none}"}}"#);
        add(none, jwt::forge(&header, &claims(""), "none", SECRET));
        add(none, confused(&header));
    }
    // Other sizes, each with its own signature; that is what a careless verifier accepts.
    for other in ["HS384", "HS512"] {
        let header = format!(r#"{{"typ":"JWT","alg":"{other}"}}"#);
        add(other, jwt::forge(&header, &claims(""), other, SECRET));
        add(other, confused(&header));
        add(other, jwt::forge(HS256, &claims(""), other, SECRET));
    }
    // The secret as a public key, and keys that the token brings along.
    for header in [
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"RS512","kid":"1"}"#,
        r#"{"alg":"PS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"ES384"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"alg":256}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256\u0000"}"#,
        "null",
        "[]",
        "",
    ] {
        add(header, confused(header));
    }
    let own_key = base64url(b"a key that the attacker has brought");
    for header in [
        format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{own_key}"}}}}"#),
        r#"{"alg":"HS256","kid":"../../../../dev/null"}"#.to_owned(),
        r#"{"alg":"HS256","jku":"http://127.0.0.1/keys"}"#.to_owned(),
    ] {
        let secret = match header.contains("jwk") {
            true => "a key that the attacker has brought",
            false => "",
        };
        add(&header, jwt::forge(&header, &claims(""), "HS256", secret));
    }
}

/// Claims that are missing, odd, or there twice.
fn bad_claims(add: &mut dyn FnMut(&str, String)) {
    let (now, later) = (jwt::unix_now(), jwt::unix_now() + 900);
    for claims in [
        format!(r#"{{"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":1,"exp":{later}}}"#),
        r#"{"sub":1,"type":"agent"}"#.to_owned(),
        format!(r#"{{"sub":null,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":true,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":[1],"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":{{"id":1}},"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":1.0,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":-1,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"+1","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"1 ","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"0x1","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"１","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"1\u0000","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":"1' OR '1'='1","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":18446744073709551617,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":"agent\u0000","exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":["agent"],"exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":"customer","exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":"{later}"}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":[{later}]}}"#),
        r#"{"sub":1,"type":"agent","exp":true}"#.to_owned(),
        r#"{"sub":1,"type":"agent","exp":null}"#.to_owned(),
        r#"{"sub":1,"type":"agent","exp":1e999}"#.to_owned(),
        r#"{"sub":1,"type":"agent","exp":-1}"#.to_owned(),
        format!(r#"{{"sub":1,"type":"agent","exp":{now}}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":{later},"nbf":{later}}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":{later},"iat":{later}}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":{later},"nbf":"0"}}"#),
        format!(r#"{{"sub":2,"sub":1,"type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":"customer","type":"agent","exp":{later}}}"#),
        format!(r#"{{"sub":1,"type":"agent","exp":1,"exp":{later}}}"#),
        "null".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        String::new(),
    ] {
        add(&claims, with(&claims));
    }
}

/// Forms of the token itself.
fn bad_forms(add: &mut dyn FnMut(&str, String)) {
    let good = with(&claims(""));
    let (body, signature) = good.rsplit_once('.').expect("two dots");
    for (name, token) in [
        ("no signature", format!("{body}.")),
        ("two parts", body.to_owned()),
        ("four parts", format!("{good}.x")),
        ("padded", format!("{good}=")),
        ("a NUL behind", format!("{good}\0")),
        ("a NUL before", format!("\0{good}")),
        ("a NUL within", format!("{body}\0.{signature}")),
        ("a line break", format!("{body}.\n{signature}")),
        ("bearer", format!("Bearer {good}")),
        ("swapped parts", format!("{signature}.{body}")),
        ("half a signature", format!("{body}.{}", &signature[..20])),
        ("a longer signature", format!("{body}.{signature}AAAA")),
        (
            "another secret",
            jwt::forge(HS256, &claims(""), "HS256", ""),
        ),
        ("dots alone", ".".repeat(50_000)),
        (
            "a huge header",
            format!("{}.x.y", base64url(&vec![b'['; 30_000])),
        ),
        ("huge rubbish", "A".repeat(60_000)),
        ("a huge signature", format!("{body}.{}", "A".repeat(50_000))),
    ] {
        add(name, token);
    }
}

#[test]
fn no_forged_token_lets_anybody_in() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().arg("--log-level").arg("debug");
    let mut daemon = Daemon::start(&database, &options);
    let verifier = TokenVerifier::new(SECRET);
    let now = u64::try_from(jwt::unix_now()).expect("after 1970");
    let tokens = bad_tokens();
    assert!(tokens.len() > 80, "{}", tokens.len());
    for (name, token) in &tokens {
        assert!(verifier.verify(token, now).is_err(), "{name}: {token}");
        let mut client = daemon.connect().unwrap();
        let event = Json::object([("type", "auth".into()), ("token", token.as_str().into())]);
        client.send(&event.to_string());
        let answer = client.next_json().unwrap();
        assert_eq!(answer.need("type").str(), Some("auth.failed"), "{name}");
        assert_eq!(client.until_end().unwrap().1, Some(4401), "{name}");
    }
    // What else could stand for a token.
    for token in ["null", "1", "true", "[]", "{}", r#"["x"]"#] {
        let mut client = daemon.connect().unwrap();
        client.send(&format!(r#"{{"type":"auth","token":{token}}}"#));
        assert_eq!(client.until_end().unwrap().1, Some(4401), "{token}");
    }
    daemon.check_life().unwrap();
    let mut client = daemon.connect().unwrap();
    client.send(&format!(
        r#"{{"type":"auth","token":"{}"}}"#,
        with(&claims(""))
    ));
    client.until_type("auth.ok").unwrap();
}

/// A head for the chat with these lines in it; `\n` alone stands for a whole line end.
fn head(lines: &str) -> String {
    format!(
        "GET /ws/chat HTTP/1.1\nHost: chat.example.org\nUpgrade: websocket\nConnection: Upgrade\n\
         Sec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n{lines}\n"
    )
    .replace('\n', "\r\n")
}

/// A second request that only this machine may make, to be smuggled in.
const INNER: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What came back over the wire, until its end or until nothing more comes.
fn exchange(port: u16, bytes: &[u8]) -> String {
    let mut client = Client::open(port);
    client.write(bytes);
    let head = match client.response() {
        Ok(response) => format!("{}\n", response.status_line),
        Err(_) => String::new(),
    };
    // A web server takes the end of a request's connection for its client's loss of interest, so there is none before the
    // answers have had their time.
    client.limit = Duration::from_millis(300);
    let rest = client.rest().or_else(|_| {
        client.finish_writing();
        client.limit = wait::LIMIT;
        client.rest()
    });
    head + &String::from_utf8_lossy(&rest.unwrap_or_default())
}

/// The status of the answer to a request; 0 where the connection ends without one.
fn status(port: u16, bytes: &[u8]) -> u16 {
    let mut client = Client::open(port);
    client.write(bytes);
    client.response().map_or(0, |response| response.status())
}

/// Directly, and through the shipped configurations of both web servers.
fn ways(daemon: &Daemon) -> (Vec<(&'static str, u16)>, [WebServer; 2]) {
    let address = format!("127.0.0.1:{}", daemon.port());
    let change = [("127.0.0.1:8090", address.as_str())];
    let servers = [
        WebServer::nginx(&snippet("nginx/andrea-chat-websocket-tuned.conf", &change)),
        WebServer::apache(
            &["proxy", "proxy_http"],
            &snippet("apache/andrea-chat-websocket-tuned.conf", &change),
        ),
    ];
    let ways = vec![
        ("directly", daemon.port()),
        ("nginx", servers[0].port),
        ("Apache", servers[1].port),
    ];
    (ways, servers)
}

#[test]
fn nothing_is_smuggled_in_behind_or_within_a_handshake() {
    needs!(MariaDb, Nginx, Apache);
    let (database, _) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let (ways, _servers) = ways(&daemon);
    let chunk = format!("0\r\n\r\n{INNER}");
    let smuggled = [
        // Behind a request that is granted: these are frames, and broken ones.
        (head(""), INNER.to_owned()),
        // Behind requests that are not.
        (head("Origin: https://evil.example\n"), INNER.to_owned()),
        (head("").replace("/ws/chat", "/ws/other"), INNER.to_owned()),
        // Bodies, and two opinions on where they end.
        (
            head(&format!("Content-Length: {}\n", INNER.len())),
            INNER.to_owned(),
        ),
        (
            head(&format!(
                "Content-Length: 0\nContent-Length: {}\n",
                INNER.len()
            )),
            INNER.to_owned(),
        ),
        (head("Transfer-Encoding: chunked\n"), chunk.clone()),
        (
            head(&format!(
                "Content-Length: {}\nTransfer-Encoding: chunked\n",
                chunk.len()
            )),
            chunk.clone(),
        ),
        (head("Transfer-Encoding: xchunked\n"), chunk.clone()),
        (head("Transfer-Encoding : chunked\n"), chunk.clone()),
        (head("Transfer-Encoding:\n chunked\n"), chunk),
        (head("Content-Length: +0\n"), INNER.to_owned()),
        // A head within a header.
        (head("X: y\r\n\r\nGET /healthz HTTP/1.1\n"), String::new()),
        (head("X: \0\n"), INNER.to_owned()),
    ];
    // By itself it is answered, so what is missing below was never taken for a request.
    let alone = exchange(daemon.port(), INNER.as_bytes());
    assert!(alone.contains("heartbeat_age"), "{alone}");
    for (way, port) in &ways {
        for (head, behind) in &smuggled {
            let answer = exchange(*port, format!("{head}{behind}").as_bytes());
            assert!(answer.starts_with("HTTP/1.1 "), "{way}: {head}\n{answer}");
            // Directly it is a second look at a page that this machine may see, unless it is never looked at.
            assert!(!answer.contains("heartbeat_age"), "{way}: {head}\n{answer}");
            let granted = answer.matches(" 101 ").count();
            assert!(granted <= 1, "{way}: {head}\n{answer}");
        }
        // What is sent early and right is taken: the frames of an eager client.
        let mut client = Client::open(*port);
        let auth = format!(r#"{{"type":"auth","token":"{}"}}"#, jwt::good(1));
        let eager = [head("").into_bytes(), FrameSpec::text(&auth).encode()].concat();
        client.write(&eager);
        assert_eq!(client.response().unwrap().status(), 101, "{way}");
        client.until_type("auth.ok").unwrap();
    }
    daemon.check_life().unwrap();
}

#[test]
fn no_strangers_page_comes_in_by_odd_headers() {
    needs!(MariaDb, Nginx, Apache);
    let (database, _) = seeded();
    let mut daemon = Daemon::start(&database, &Options::new());
    let (ways, _servers) = ways(&daemon);
    let refused = [
        "Origin: https://evil.example\n",
        "Origin: null\n",
        "Origin:\n",
        "Origin: https://chat.example.org\nOrigin: https://evil.example\n",
        "Origin: https://evil.example\nOrigin: https://chat.example.org\n",
        "Origin: https://evil.example, https://chat.example.org\n",
        "Origin: https://evil.example\n https://chat.example.org\n",
        "Origin:\n https://evil.example\n",
        "Origin: https://chat.example.org.evil.example\n",
        "Origin: https://chat.example.org@evil.example\n",
        "Origin: https://evil.example/https://chat.example.org\n",
        "Origin: https://evil.example#chat.example.org\n",
        "Origin: https://evil.example\\.chat.example.org\n",
        "Origin: https://xn--chat.example.org\n",
        "Origin: file://\n",
        "oRiGiN: https://evil.example\n",
        "Origin: https://evil.example\nX-Forwarded-Host: evil.example\nForwarded: host=evil.example\n",
        "Host: evil.example\nOrigin: https://evil.example\n",
    ];
    for (way, port) in &ways {
        for lines in refused {
            let status = status(*port, head(lines).as_bytes());
            assert!((400..500).contains(&status), "{way}: {lines}: {status}");
        }
        let own = head("Origin: https://chat.example.org\n");
        assert_eq!(status(*port, own.as_bytes()), 101, "{way}");
    }
    // What only a careless reader of heads takes; web servers mend some of it, so here directly.
    for lines in [
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\n",
        "Host: chat.example.org\n",
        "Sec-WebSocket-Version: 13\n",
        "X-Folded: a\n b\n",
        "\tX: folded into the line before\n",
        "X : y\n",
        "X\n",
        ": y\n",
        "X: a\0b\n",
    ] {
        let status = status(daemon.port(), head(lines).as_bytes());
        assert!((400..500).contains(&status), "{lines}: {status}");
    }
    daemon.check_life().unwrap();
}

/// Texts that mean something to a database, to a browser, to a log, or to one of the parsers on the way.
const TEXTS: [&str; 22] = [
    "'; DROP TABLE chat_messages; -- ",
    "x' OR '1'='1",
    "\\' OR 1=1 -- ",
    "\" OR \"\"=\"",
    "1 UNION SELECT password_hash FROM agents",
    "%' OR body_text LIKE '%",
    "trailing backslash \\",
    "?, :name, @@version, {{7*7}} ${7*7} %s %n",
    "/*!50000 SLEEP(10) */",
    "\u{5c}\u{27}\u{ff07}\u{2019}\u{bf}'",
    "nul \0 within",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "http://x.test/\"><svg/onload=alert(1)>",
    "http://x.test/' onmouseover='alert(1)",
    "javascript:alert(1) http://javascript:alert(1)",
    "&lt;b&gt; &#60;b&#62; <!-- --> <![CDATA[ ]]>",
    "@bob\"><b> kb:a\"><b> #1\"><b> ticket #12<b>",
    "two\r\n[2026-01-01 00:00:00] forged by a peer",
    "two\u{2028}[2026-01-01 00:00:00] forged\u{85}again",
    "\u{1b}[2J\u{1b}[31mred\u{7}\u{8}\u{9b}31m",
    "\u{202e}txt.exe\u{feff}\u{ad}",
];

fn talkative(options: Options) -> Options {
    options
        .env("CHAT_WEBSOCKET_RATE", "0")
        .arg("--log-level")
        .arg("debug")
}

#[test]
fn no_string_is_more_than_a_text_to_the_database_the_pages_and_the_log() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let daemon = Daemon::start(&database, &talkative(Options::new()));
    every_string_is_a_text(daemon, &mut conn);
}

#[cfg(feature = "embedded")]
#[test]
fn no_string_is_more_than_a_text_to_a_database_of_its_own() {
    use crate::support::{embedded::File, seed};

    let file = File::fresh();
    let mut conn = file.conn();
    seed::reset(&mut conn);
    let daemon = Daemon::start(&File::server(), &talkative(file.options()));
    every_string_is_a_text(daemon, &mut conn);
}

/// In every other place: an id, a scope, a type, a token.
fn within_events(daemon: &Daemon, client: &mut Client, quoted: &str) {
    for event in [
        format!(r#"{{"type":"chat.channel.message.send","channel_id":{quoted},"body":"x"}}"#),
        format!(r#"{{"type":"chat.direct.message.send","thread_id":{quoted},"body":"x"}}"#),
        format!(r#"{{"type":"chat.typing","scope":{quoted},"channel_id":{quoted}}}"#),
        format!(
            r#"{{"type":"chat.read","scope":"direct","thread_id":{quoted},"last_read_message_id":{quoted}}}"#
        ),
        format!(
            r#"{{"type":"chat.history","channel_id":{quoted},"before_id":{quoted},"limit":{quoted}}}"#
        ),
        format!(r#"{{"type":{quoted}}}"#),
        format!(r#"{{{quoted}:{quoted}}}"#),
    ] {
        client.send(&event);
        let answer = client.next_json().unwrap();
        assert_eq!(
            answer.need("type").str(),
            Some("error"),
            "{event}: {answer}"
        );
        // Fixed sentences: nothing of what was sent, nothing of the database.
        assert!(!answer.to_string().contains(quoted), "{answer}");
    }
    let good = Json::from(jwt::good(3).as_str()).to_string();
    for (token, kind) in [(quoted, "auth.failed"), (&good, "auth.ok")] {
        let mut other = daemon.connect().unwrap();
        other.send(&format!(
            r#"{{"type":"auth","token":{token},"after_id":{quoted}}}"#
        ));
        other.until_type(kind).unwrap();
    }
}

/// In a close's reason, in frames that are none, and in the head.
fn outside_of_events(daemon: &Daemon, text: &str) {
    let mut other = daemon.login(3).unwrap();
    let reason: Vec<u8> = 1000_u16
        .to_be_bytes()
        .into_iter()
        .chain(text.bytes())
        .collect();
    other.send_frame(&FrameSpec::new(8, reason));
    other.until_end().unwrap();
    let mut other = daemon.connect().unwrap();
    other.write(text.as_bytes());
    other.finish_writing();
    other.until_end().unwrap();
    for line in [
        format!("Origin: {text}"),
        format!("X-Forwarded-For: {text}"),
        format!("{text}: x"),
    ] {
        let head = REQUEST.trim_end();
        status(
            daemon.port(),
            format!("{head}\r\n{line}\r\n\r\n").as_bytes(),
        );
    }
    let path = REQUEST.replace("/ws/chat", &format!("/ws/chat?{text}"));
    status(daemon.port(), path.as_bytes());
}

/// The log has whole lines of its own alone, and nothing of what was said.
fn holds_only_its_own_lines(log: &str) {
    for line in log.lines() {
        let stamped = line
            .split_once("] ")
            .is_some_and(|(stamp, _)| is_stamp(stamp));
        assert!(stamped, "{line:?} in\n{log}");
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    // But for the Origin of a request that was refused for it, which an administrator has to know.
    let lines = log.lines();
    let others: Vec<&str> = lines
        .filter(|line| !line.contains(": refused with 403: Origin "))
        .collect();
    for word in ["forged", "DROP", "<script", "31m", "onerror"] {
        assert!(
            others.iter().all(|line| !line.contains(word)),
            "{word} in\n{log}"
        );
    }
}

fn every_string_is_a_text(mut daemon: Daemon, conn: &mut dyn Sql) {
    let before = rows::snapshot(conn);
    let mut client = daemon.login(1).unwrap();
    let mut bob = daemon.login(2).unwrap();
    for text in TEXTS {
        let quoted = Json::from(text).to_string();
        // As a body, with itself as `ref`: stored and shown to the letter.
        client.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":{quoted},"ref":{quoted}}}"#
        ));
        let event = client.until_type("chat.channel.message.created").unwrap();
        assert_eq!(event.need("ref").str(), Some(text));
        let heard = bob.until_type("chat.channel.message.created").unwrap();
        let message = heard.need("message");
        let body = message.need("body_text").str().expect("a body");
        assert_eq!(
            body,
            text.trim_matches([' ', '\t', '\n', '\r', '\0', '\x0b'])
        );
        let id = message.need("id").int().expect("an id");
        let found = conn.select(&format!(
            "SELECT body_text, body_rendered_html, metadata_json FROM chat_messages WHERE id = {id}"
        ));
        let column = |name| found[0].need(name).str().expect("a text");
        assert_eq!(column("body_text"), body);
        let html = column("body_rendered_html");
        assert_eq!(Some(html), message.need("body_rendered_html").str());
        let metadata = Json::parse(column("metadata_json")).expect("JSON");
        assert_eq!(metadata.need("ref").str(), Some(text));
        // What the page shows is the text, in no tags but a few; numbers of tickets are the database's.
        let shown = invariants::shown(html);
        assert!(
            shown == body.to_ascii_lowercase() || text.contains('#'),
            "{html}"
        );

        within_events(&daemon, &mut client, &quoted);
        outside_of_events(&daemon, text);
    }
    // The messages, the handles and notifications that came of them, and no other row anywhere.
    let changes = rows::diff(&before, &rows::snapshot(conn));
    let may = [
        "agent_notifications",
        "chat_message_mentions",
        "chat_messages",
    ];
    for (table, change) in &changes {
        let only_new = change.updated.is_empty() && change.deleted.is_empty();
        assert!(
            only_new && may.contains(&table.as_str()),
            "{table}: {change:?}"
        );
    }
    assert_eq!(changes["chat_messages"].inserted.len(), TEXTS.len());
    daemon.check_life().unwrap();
    holds_only_its_own_lines(&daemon.log());
}
