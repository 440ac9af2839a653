//! The demo without a browser: its start and end, the files it leaves, and which clients its pages answer.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::support::daemon::program;
use crate::support::demo::{Demo, command, new_folder};
use crate::support::json::Json;
use crate::support::wait;
use crate::support::ws::Client;

/// The whole response to a request that is sent as it is.
fn exchange(port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(wait::LIMIT)).expect("a limit");
    stream.write_all(request.as_bytes()).expect("send");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("read");
    String::from_utf8_lossy(&response).into_owned()
}

fn get(port: u16, path: &str) -> String {
    exchange(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
    )
}

/// A POST as a browser sends it from a page of `origin`, or without that header.
fn post(port: u16, host: &str, origin: Option<&str>, path: &str, body: &str) -> String {
    let origin = origin.map_or_else(String::new, |origin| format!("Origin: {origin}\r\n"));
    exchange(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

fn post_from_page(port: u16, path: &str, body: &str) -> String {
    let host = format!("127.0.0.1:{port}");
    post(port, &host, Some(&format!("http://{host}")), path, body)
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or(response)
}

fn body(response: &str) -> Json {
    let text = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Json::parse(text).unwrap_or_else(|e| panic!("{e} in {response}"))
}

/// A socket that has authenticated with a token from the page's server side.
fn login(port: u16, agent: i64) -> Client {
    let answer = post_from_page(port, "/demo/token", &format!("{{\"agent\":{agent}}}"));
    let token = body(&answer).need("token").str().expect("text").to_owned();
    let mut client = Client::connect(port).expect("upgrade");
    client.send(
        &Json::object([("type", "auth".into()), ("token", token.as_str().into())]).to_string(),
    );
    client.until_type("auth.ok").expect("accepted");
    client
}

fn say(client: &mut Client, text: &str) {
    let event = Json::object([
        ("type", "chat.channel.message.send".into()),
        ("channel_id", 1.into()),
        ("body", text.into()),
    ]);
    client.send(&event.to_string());
    client
        .until_type("chat.channel.message.created")
        .expect("stored");
}

/// Texts of the first channel's messages, as the page of agent 1 gets them.
fn history(port: u16) -> Vec<String> {
    let state = body(&get(port, "/demo/state?agent=1"));
    let channel = &state.need("channels").items()[0];
    let messages = channel.need("messages").items().iter();
    messages
        .map(|event| {
            event
                .need("message")
                .need("body_text")
                .str()
                .expect("text")
                .to_owned()
        })
        .collect()
}

#[test]
fn every_file_of_the_page_is_served_under_a_policy_without_inline_script() {
    let demo = Demo::start(&new_folder(), 0);
    let page = get(demo.port(), "/");
    let mut paths: Vec<String> = page
        .split('"')
        .filter(|word| word.starts_with('/') && word.contains('.'))
        .map(str::to_owned)
        .collect();
    assert!(paths.len() >= 5, "{paths:?}");
    let mut at = 0;
    // What the scripts import, and what those import.
    while at < paths.len() {
        let response = get(demo.port(), &paths[at]);
        assert_eq!(status(&response), "200", "{}", paths[at]);
        let kind = match paths[at].rsplit_once('.').map(|(_, ending)| ending) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            other => panic!("{other:?}"),
        };
        for header in [
            format!("Content-Type: {kind}\r\n"),
            "X-Content-Type-Options: nosniff\r\n".to_owned(),
            "Cache-Control: no-store\r\n".to_owned(),
            "Referrer-Policy: no-referrer\r\n".to_owned(),
        ] {
            assert!(response.contains(&header), "{header} in {}", paths[at]);
        }
        for (_, import) in response
            .match_indices("from './")
            .map(|(place, word)| (place, &response[place + word.len()..]))
        {
            let name = import.split('\'').next().unwrap_or_default();
            let path = format!("/{name}");
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
        at += 1;
    }
    assert!(paths.contains(&"/safe_html.js".to_owned()), "{paths:?}");
    assert!(page.contains(
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self';"
    ));
    for inline in ["<script>", " onclick=", " style=", "<style"] {
        assert!(!page.contains(inline), "{inline}");
    }
    assert_eq!(status(&get(demo.port(), "/nothing.js")), "404");
    assert_eq!(status(&get(demo.port(), "/../Cargo.toml")), "404");
    let head = exchange(demo.port(), "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn only_a_page_of_this_origin_gets_a_token() {
    let demo = Demo::start(&new_folder(), 0);
    let port = demo.port();
    let host = format!("127.0.0.1:{port}");
    let own = format!("http://{host}");
    let other_port = format!("http://127.0.0.1:{}", port.wrapping_add(1));
    let rebound = format!("evil.example:{port}");
    let (agent, path) = ("{\"agent\":1}", "/demo/token");
    for (host, origin, expected) in [
        (host.as_str(), Some(own.as_str()), "200"),
        (&host, None, "403"),
        (&host, Some("null"), "403"),
        (&host, Some("https://evil.example"), "403"),
        (&host, Some(other_port.as_str()), "403"),
        (&host, Some("http://localhost"), "403"),
        // A foreign name that resolves to this machine (DNS rebinding).
        (&rebound, Some(&format!("http://{rebound}")), "403"),
    ] {
        let response = post(port, host, origin, path, agent);
        assert_eq!(status(&response), expected, "{host} {origin:?}: {response}");
        assert_eq!(response.contains("token\":"), expected == "200");
        for button in [
            "/demo/threads",
            "/demo/service/stop",
            "/demo/service/settings",
        ] {
            let refused = status(&post(port, host, origin, button, "")) == "403";
            assert_eq!(refused, expected == "403", "{button} {host} {origin:?}");
        }
    }
    for path in ["/", "/demo/state?agent=1", "/demo/service"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {rebound}\r\n\r\n");
        assert_eq!(status(&exchange(port, &request)), "403", "{path}");
    }
    assert_eq!(status(&get(port, path)), "405");
    for (agent, expected) in [("{\"agent\":99}", "404"), ("{}", "400"), ("[", "400")] {
        assert_eq!(
            status(&post_from_page(port, path, agent)),
            expected,
            "{agent}"
        );
    }
}

#[test]
fn a_second_start_finds_what_was_said_before() {
    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    let first = history(demo.port());
    let mut zoe = login(demo.port(), 1);
    say(&mut zoe, "said in the first run");
    let ended = demo.end(Signal::INT);
    assert!(ended.success(), "{ended}");
    assert!(!data.join("runtime/chat-websocket.pid").exists());
    assert!(!demo.output().contains("panicked"), "{}", demo.output());

    let mut demo = Demo::start(&data, 0);
    let mut zoe = login(demo.port(), 1);
    say(&mut zoe, "said in the second run");
    // As a crash does it.
    demo.end(Signal::KILL);

    let demo = Demo::start(&data, 0);
    let mut expected = first;
    expected.extend(["said in the first run", "said in the second run"].map(str::to_owned));
    assert_eq!(history(demo.port()), expected);
    let mode = |name: &str| {
        fs::metadata(data.join(name))
            .expect(name)
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(".env"), 0o600);
    assert_eq!(mode("."), 0o700);
    let log = fs::read_to_string(data.join("logs/chat-websocket.log")).expect("a log");
    let dotenv = fs::read_to_string(data.join(".env")).expect("a configuration");
    let secret = dotenv
        .lines()
        .find_map(|line| line.strip_prefix("JWT_SECRET="));
    assert!(
        !log.contains(secret.expect("a secret")) && !log.contains("said in"),
        "{log}"
    );
}

/// The demo's folder is an install: subcommands find the secret and the address there.
#[test]
fn subcommands_work_on_the_demos_folder() {
    let data = new_folder();
    let demo = Demo::start(&data, 0);
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(program());
        command.env_clear().args(arguments).arg("--root").arg(&data);
        command.output().expect("run")
    };
    let minted = run(&["token", "--agent", "2"]);
    assert!(minted.status.success(), "{minted:?}");
    let mut client = Client::connect(demo.port()).expect("upgrade");
    let token = String::from_utf8(minted.stdout).expect("text");
    let auth = Json::object([("type", "auth".into()), ("token", token.trim().into())]);
    client.send(&auth.to_string());
    let accepted = client.until_type("auth.ok").expect("accepted");
    assert_eq!(accepted.need("agent_id").int(), Some(2));
    let status = run(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{status:?}");
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(
        said.contains(&format!("127.0.0.1:{}", demo.port())),
        "{said}"
    );
}

#[test]
fn a_direct_thread_is_made_once_and_works() {
    let demo = Demo::start(&new_folder(), 0);
    let port = demo.port();
    let ask = |agents: &str| post_from_page(port, "/demo/threads", agents);
    let id = |agents: &str| body(&ask(agents)).need("id").int().expect("an id");
    let made = id(r#"{"agent":4,"with":3}"#);
    assert_eq!(id(r#"{"agent":3,"with":4}"#), made);
    assert_eq!(id(r#"{"agent":3,"with":1}"#), 1);
    let mut client = login(port, 3);
    let event = format!(r#"{{"type":"chat.direct.message.send","thread_id":{made},"body":"new"}}"#);
    client.send(&event);
    client
        .until_type("chat.direct.message.created")
        .expect("stored");
    for (agents, expected) in [
        (r#"{"agent":3,"with":3}"#, "404"),
        (r#"{"agent":3,"with":99}"#, "404"),
        (r#"{"agent":3}"#, "400"),
    ] {
        assert_eq!(status(&ask(agents)), expected, "{agents}");
    }
}

#[test]
fn two_demos_get_a_port_each_and_one_folder_has_one_demo() {
    let data = new_folder();
    let first = Demo::start(&data, 0);
    let second = Demo::start(&new_folder(), first.port());
    assert!(second.port() > first.port());
    let third = command(&data, 0).output().expect("run");
    assert_eq!(third.status.code(), Some(1));
    let said = String::from_utf8_lossy(&third.stderr);
    assert!(said.contains(first.url()), "{said}");
    assert!(!history(first.port()).is_empty());
}

/// What the page's panel is told; none for a request that meets the very end of the service, and is refused.
fn service_of(port: u16) -> Option<Json> {
    let answer = get(port, "/demo/service");
    (status(&answer) == "200").then(|| body(&answer))
}

#[test]
fn a_stopped_service_leaves_its_page_and_is_started_from_there() {
    let demo = Demo::start(&new_folder(), 0);
    let port = demo.port();
    let service = || body(&get(port, "/demo/service"));
    let until = |expected: &str| {
        let seen = wait::until(wait::LIMIT, || {
            (service_of(port)?.need("effective_status").str() == Some(expected)).then_some(())
        });
        seen.unwrap_or_else(|| panic!("never {expected}: {}", service()));
    };
    let press =
        |button: &str| post_from_page(port, &format!("/demo/service/{button}"), "{\"agent\":1}");
    until("running");
    let mut zoe = login(port, 1);
    assert_eq!(status(&press("stop")), "200");
    until("stopped");
    let (_, closed) = zoe.until_end().expect("an end");
    assert_eq!(closed, Some(1001));
    assert!(service().need("pid").int().is_none());
    assert_eq!(status(&get(port, "/")), "200");
    assert!(!history(port).is_empty());
    let mut refused = Client::open(port);
    refused.write(
        format!(
            "GET /ws/chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        .as_bytes(),
    );
    assert_eq!(refused.response().expect("an answer").status(), 503);

    press("start");
    until("running");
    // Those of the service's earlier life are not counted on.
    let health = body(&get(port, "/healthz"));
    assert_eq!(health.need("connections").int(), Some(0), "{health}");
    say(&mut login(port, 1), "back again");
    assert_eq!(history(port).last().map(String::as_str), Some("back again"));

    // In external mode the buttons do nothing but say whose part it is.
    let external = r#"{"values":{"chat_websocket_management_mode":"external"}}"#;
    assert_eq!(
        status(&post_from_page(port, "/demo/service/settings", external)),
        "200"
    );
    let answer = body(&press("stop"));
    assert!(!answer.need("done").is_true());
    assert!(
        answer
            .need("message")
            .str()
            .is_some_and(|text| text.contains("service manager"))
    );
    let now = service();
    assert_eq!(now.need("requested").items().len(), 0);
    let actions = now.need("audit").items().iter();
    let actions: Vec<_> = actions.filter_map(|row| row.need("action").str()).collect();
    assert_eq!(
        actions,
        [
            "chat_websocket_stop_requested_external",
            "chat_websocket_settings_updated",
            "chat_websocket_start_requested",
            "chat_websocket_stop_requested"
        ]
    );
    say(&mut login(port, 1), "still here");
}

#[test]
fn settings_are_checked_and_set_all_or_none() {
    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    let port = demo.port();
    let set = |values: &str| {
        post_from_page(
            port,
            "/demo/service/settings",
            &format!("{{\"values\":{values}}}"),
        )
    };
    let value = |key: &str| {
        let state = body(&get(port, "/demo/service"));
        let mut settings = state.need("settings").items().iter();
        let row = settings.find(|row| row.need("key").str() == Some(key));
        row.expect(key)
            .need("value")
            .str()
            .expect("text")
            .to_owned()
    };
    let refused = set(r#"{"chat_websocket_port":"0","chat_max_message_length":"10"}"#);
    assert_eq!(status(&refused), "422");
    assert_eq!(body(&refused).need("errors").entries().len(), 1);
    assert_eq!(value("chat_max_message_length"), "4000");
    for unknown in ["chat_websocket_pid", "push_vapid_private_key", "app_url"] {
        assert_eq!(
            status(&set(&format!("{{\"{unknown}\":\"1\"}}"))),
            "422",
            "{unknown}"
        );
    }
    assert_eq!(status(&set("[]")), "400");
    assert_eq!(
        status(&set(
            r#"{"chat_websocket_host":"[::1]","chat_websocket_port":"09000","chat_allow_external_links":"off"}"#
        )),
        "200"
    );
    // Taken and stored as by the subcommand `settings set`.
    assert_eq!(value("chat_websocket_port"), "9000");
    assert_eq!(value("chat_allow_external_links"), "0");

    // A demo whose service is stopped ends as well as any other, and starts it again next time.
    post_from_page(port, "/demo/service/stop", "{\"agent\":1}");
    let stopped = wait::until(wait::LIMIT, || {
        let answer = get(port, "/demo/service");
        // A request that meets the very end of the service is refused.
        let recorded =
            (status(&answer) == "200").then(|| body(&answer).need("recorded_status").to_string());
        (recorded? == "\"stopped\"").then_some(())
    });
    assert_eq!(stopped, Some(()));
    let ended = demo.end(Signal::TERM);
    assert!(ended.success(), "{ended}");
    let demo = Demo::start(&data, 0);
    login(demo.port(), 1);
}

#[test]
fn a19_nothing_is_called_stored_once_the_demos_folder_was_taken_away() {
    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    let mut zoe = login(demo.port(), 1);
    say(&mut zoe, "before");
    fs::remove_dir_all(&data).expect("take it away");
    for body in ["five", "six"] {
        zoe.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{body}"}}"#
        ));
        let told = zoe.until_type("error").expect("refused");
        let code = told.need("code").str();
        assert_eq!(code, Some("database_unavailable"), "{told}");
    }
    demo.end(Signal::TERM);
    let demo = Demo::start(&data, 0);
    say(&mut login(demo.port(), 1), "in the new one");
}

/// As the first demos made it: tables that an older SQLite neither reads nor restores.
#[test]
fn a20_a_demo_of_the_first_form_is_brought_up_to_date_on_its_next_start() {
    let data = new_folder();
    let mut demo = Demo::start(&data, 0);
    say(&mut login(demo.port(), 1), "said in the first form");
    let said = history(demo.port());
    demo.end(Signal::TERM);
    let open = || rusqlite::Connection::open(data.join("chat.sqlite")).expect("open");
    open()
        .execute_batch(
            "PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = replace(replace(sql, 'metadata_json IS NULL OR ', ''), 'payload IS NULL OR ', '') || ' STRICT' \
             WHERE type = 'table' AND name NOT LIKE 'sqlite_%'; \
             PRAGMA writable_schema = RESET; PRAGMA user_version = 1",
        )
        .expect("the first form");
    let text = |query: &str| -> String {
        open()
            .query_row(query, (), |row| row.get(0))
            .expect("a row")
    };
    let definitions = "SELECT group_concat(sql, ';') FROM sqlite_schema";
    assert!(text(definitions).contains("STRICT"));
    let mut demo = Demo::start(&data, 0);
    assert_eq!(history(demo.port()), said);
    say(&mut login(demo.port(), 1), "and in the second");
    demo.end(Signal::TERM);
    let definitions = text(definitions);
    assert!(!definitions.contains("STRICT"), "{definitions}");
    for column in ["metadata_json", "payload"] {
        let check = format!("CHECK ({column} IS NULL OR json_valid({column}))");
        assert!(definitions.contains(&check), "{definitions}");
    }
    assert_eq!(text("PRAGMA integrity_check"), "ok");
}
