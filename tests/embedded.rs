//! The daemon on a database of its own: what two clients see, what is in the file then, what a crash leaves, and the
//! demo's data.

use std::sync::Arc;

use rustix::process::Signal;

use andrea_chat_websocket::demo::data;
use andrea_chat_websocket::model::{AgentId, Conversation};
use andrea_chat_websocket::store::sqlite::SqliteStore;
use andrea_chat_websocket::store::{PageLimit, Store};

use crate::support::daemon::{Daemon, Install, Options};
use crate::support::embedded::File;
use crate::support::json::Json;
use crate::support::sql::Sql;
use crate::support::ws::{Client, Event};
use crate::support::{rows, seed, wait};

/// A file with the rows that the recordings start from.
fn seeded() -> File {
    let file = File::fresh();
    seed::reset(&mut file.conn());
    file
}

fn channel_message(channel_id: i64, body: &str) -> String {
    Json::object([
        ("type", "chat.channel.message.send".into()),
        ("channel_id", channel_id.into()),
        ("body", body.into()),
    ])
    .to_string()
}

fn ids(file: &File, query: &str) -> Vec<i64> {
    let rows = file.conn().select(query);
    rows.iter()
        .map(|row| row.need("id").int().expect("an id"))
        .collect()
}

fn assert_sound(file: &File) {
    let check = file.conn().select("PRAGMA integrity_check");
    assert_eq!(check[0].to_string(), r#"{"integrity_check":"ok"}"#);
    assert_eq!(file.conn().select("PRAGMA foreign_key_check"), []);
}

#[test]
fn two_clients_chat_over_a_file() {
    let file = seeded();
    let mut daemon = Daemon::start(&File::server(), &file.options());
    let mut ann = daemon.login(1).expect("log in");
    let mut bob = daemon.login(2).expect("log in");
    let online = ann.until_type("presence.updated").expect("presence");
    assert_eq!(
        online.to_string(),
        r#"{"type":"presence.updated","agent_id":2,"online":true}"#
    );

    bob.send(r#"{"type":"chat.typing","scope":"direct","thread_id":1}"#);
    let typing = ann.until_type("chat.typing").expect("typing");
    assert_eq!(typing.need("agent_name").str(), Some("Bob Brown"));

    let body = "Hello @BOB 😀, see #hd-2026-01-01-1";
    ann.send(&channel_message(1, body));
    for client in [&mut ann, &mut bob] {
        let created = client
            .until_type("chat.channel.message.created")
            .expect("a message");
        let message = created.need("message");
        assert_eq!(message.need("id").int(), Some(700_001));
        assert_eq!(message.need("body_text").str(), Some(body));
        assert_eq!(
            message.need("body_rendered_html").str(),
            Some(
                "Hello <span class=\"chat-mention\">@bob</span> 😀, see \
                 <a href=\"#/tickets/1\" class=\"chat-internal-link\">#hd-2026-01-01-1</a>"
            )
        );
    }
    let mut conn = file.conn();
    assert_eq!(
        rows::select(
            &mut conn,
            "SELECT agent_id, type, dedupe_key FROM agent_notifications"
        ),
        [Json::object([
            ("agent_id", 2.into()),
            ("type", "chat_mention".into()),
            ("dedupe_key", "chat:mention:700001".into()),
        ])]
    );

    bob.send(r#"{"type":"chat.read","channel_id":1,"last_read_message_id":800000}"#);
    let read = ann.until_type("chat.read.updated").expect("a marker");
    assert_eq!(read.need("last_read_message_id").int(), Some(700_001));
    bob.until_type("chat.read.updated").expect("a marker");
    assert_eq!(conn.select("SELECT id FROM agent_notifications"), []);

    bob.send(r#"{"type":"chat.direct.message.send","thread_id":1,"body":"psst"}"#);
    ann.until_type("chat.direct.message.created")
        .expect("a message");
    let touched = "SELECT id FROM chat_threads WHERE last_message_at IS NOT NULL";
    assert_eq!(ids(&file, touched), [1]);

    // What another program writes into the file is shown, too.
    let foreign = r#"[{"id":700100,"message_scope":"channel","channel_id":1,"sender_agent_id":3,"body_text":"by post"}]"#;
    let foreign = Json::parse(foreign).expect("JSON");
    seed::insert(&mut conn, "chat_messages", foreign.items());
    let created = bob
        .until_type("chat.channel.message.created")
        .expect("a message");
    assert_eq!(created.need("message").need("id").int(), Some(700_100));

    daemon.check_life().expect("the daemon is well");
    assert!(daemon.stop().success());
    assert_sound(&file);
}

/// Reads until so many messages have come, or the connection has ended; all ids and bodies that came.
fn gather(client: &mut Client, most: usize) -> Vec<(i64, String)> {
    let mut seen = Vec::new();
    while seen.len() < most {
        let Ok(Event::Frame(frame)) = client.next() else {
            break;
        };
        let Some(event) = frame.json() else { continue };
        if event.get("type").and_then(Json::str) != Some("chat.channel.message.created") {
            continue;
        }
        let message = event.need("message");
        let body = message.need("body_text").str().expect("a body").to_owned();
        seen.push((message.need("id").int().expect("an id"), body));
    }
    seen
}

#[test]
fn a_kill_in_a_burst_loses_nothing_that_was_seen() {
    let file = seeded();
    let options = file.options().env("CHAT_WEBSOCKET_RATE", "0");
    let install = Install::new(&File::server(), &options);
    let mut all = Vec::new();
    for round in 0..3 {
        let mut daemon = Daemon::start_in(Arc::clone(&install), &options);
        let mut reader = daemon.login(1).expect("log in");
        let mut writers: Vec<Client> = [2, 3, 4, 8]
            .into_iter()
            .map(|agent| daemon.login(agent).expect("log in"))
            .collect();
        for (number, writer) in writers.iter_mut().enumerate() {
            for n in 0..300 {
                writer.send(&channel_message(1, &format!("{round} {number} {n}")));
            }
        }
        let mut seen = gather(&mut reader, 100);
        daemon.signal(Signal::KILL);
        // What had left the daemon by then counts as seen.
        seen.extend(gather(&mut reader, usize::MAX));
        daemon.wait_exit(wait::LIMIT);
        assert!(
            (100..1200).contains(&seen.len()),
            "killed too late, or never: {}",
            seen.len()
        );
        all.extend(seen);
        assert_sound(&file);
    }
    let stored = file
        .conn()
        .select("SELECT id, body_text FROM chat_messages ORDER BY id");
    let stored: Vec<(i64, String)> = stored
        .iter()
        .map(|row| {
            let body = row.need("body_text").str().expect("a body").to_owned();
            (row.need("id").int().expect("an id"), body)
        })
        .collect();
    // The order of the ids is the order in which they were seen; none is there twice.
    assert!(all.is_sorted_by(|one, next| one.0 < next.0));
    let lost: Vec<_> = all.iter().filter(|one| !stored.contains(one)).collect();
    assert_eq!(lost, Vec::<&(i64, String)>::new());

    let mut daemon = Daemon::start_in(install, &options);
    let mut ann = daemon.login(1).expect("log in");
    ann.send(&channel_message(1, "still here"));
    let next = gather(&mut ann, 1);
    assert!(next[0].0 > stored.last().expect("messages").0);
    assert!(daemon.stop().success());
}

#[test]
fn what_was_said_is_there_after_a_restart() {
    let file = seeded();
    let options = file.options();
    let install = Install::new(&File::server(), &options);
    for round in 0..3 {
        let mut daemon = Daemon::start_in(Arc::clone(&install), &options);
        let mut ann = daemon.login(1).expect("log in");
        ann.send(&channel_message(1, &format!("round {round}")));
        gather(&mut ann, 1);
        assert!(daemon.stop().success());
        let status = "SELECT value FROM settings WHERE key_name = 'chat_websocket_status'";
        assert_eq!(
            file.conn().select(status)[0].to_string(),
            r#"{"value":"stopped"}"#
        );
    }
    assert_eq!(
        ids(&file, "SELECT id FROM chat_messages ORDER BY id"),
        [700_001, 700_002, 700_003]
    );
    assert_sound(&file);
}

#[test]
fn a_file_that_cannot_be_made_ends_the_start() {
    let file = File::none();
    let missing = file.path().join("no/such/folder.sqlite");
    let options = Options::new()
        .dotenv("DB_CONNECTION", "sqlite")
        .dotenv("DB_DATABASE", &missing.display().to_string());
    let mut daemon = Daemon::spawn(Install::new(&File::server(), &options), &options);
    assert_eq!(daemon.wait_exit(wait::LIMIT).code(), Some(78));
    let stderr = daemon.stderr();
    assert!(
        stderr.contains("cannot create the database") && stderr.contains("correct DB_DATABASE"),
        "{stderr}"
    );
}

#[test]
fn a_demo_is_filled_once_and_what_was_said_stays() {
    let file = File::none();
    let store = SqliteStore::new(file.path());
    // Of two that start at once, one fills it.
    let filled = std::thread::scope(|scope| {
        let starts = [(); 2].map(|()| scope.spawn(|| data::fill(&store).expect("fill")));
        starts.map(|start| start.join().expect("a start"))
    });
    assert!(filled[0] != filled[1], "{filled:?}");
    let mut conn = file.conn();
    let mut count = |table: &str| {
        let rows = conn.select(&format!("SELECT COUNT(*) AS id FROM {table}"));
        rows[0].need("id").int().expect("a number")
    };
    let before = ["agents", "chat_channels", "chat_threads", "chat_messages"].map(&mut count);
    assert_eq!(before, [5, 3, 2, 18]);
    assert_eq!(count("tickets"), 4);
    assert!(count("chat_message_mentions") > 0);
    assert!(count("chat_channel_members WHERE can_post = 0") > 0);
    // As they were typed they are not stored; as they are stored, they look right.
    let looks = |like: &str| format!("chat_messages WHERE body_rendered_html LIKE '%{like}%'");
    for html in [
        "#/tickets/1\"",
        "#/tickets/2\"",
        "#/kb/vpn-setup",
        "🙂",
        "&lt;b&gt;",
    ] {
        assert!(count(&looks(html)) > 0, "{html}");
    }
    assert_eq!(count(&looks("<b>")), 0);
    assert_eq!(
        count("chat_messages WHERE created_at > CURRENT_TIMESTAMP"),
        0
    );
    assert_sound(&file);

    let mut daemon = Daemon::start(&File::server(), &file.options());
    let mut zoe = daemon.login(1).expect("log in");
    zoe.send(&channel_message(2, "New: a chat"));
    gather(&mut zoe, 1);
    let mut aicha = daemon.login(3).expect("log in");
    aicha.send(&channel_message(2, "May I?"));
    let refused = aicha.until_type("error").expect("an error");
    assert_eq!(refused.need("code").str(), Some("cannot_post"));
    assert!(daemon.stop().success());
    assert!(!data::fill(&store).expect("fill"));
    let after = ["agents", "chat_channels", "chat_threads", "chat_messages"].map(count);
    assert_eq!(after, [5, 3, 2, 19]);
}

#[test]
fn a_page_finds_what_an_agent_may_see_and_what_is_new_to_him() {
    let file = File::none();
    let store = SqliteStore::new(file.path());
    data::fill(&store).expect("fill");
    let mut connection = store.connect().expect("open");
    let agents = connection.agents().expect("read the agents");
    let handles: Vec<_> = agents
        .iter()
        .filter_map(|one| one.chat_handle.as_deref())
        .collect();
    assert_eq!(handles, ["zoe", "joerg", "aicha", "lukasz", "sakura"]);
    assert!(agents.iter().all(|one| one.is_active));

    let sakura = AgentId(5);
    let channels = connection.channels_of(sakura).expect("read channels");
    let names: Vec<&str> = channels.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["General", "Announcements"]);
    let [general, announcements] = &channels[..] else {
        panic!("{channels:?}");
    };
    // She has read up to her own last message, and nothing of what is announced.
    let unread = connection.unread(sakura).expect("count");
    let unread: Vec<u64> = unread.iter().map(|one| one.unread).collect();
    assert_eq!(unread, [3, 2]);
    let mut members = announcements.members.iter();
    assert!(members.any(|one| one.agent == sakura && !one.can_post));
    assert_eq!(connection.threads_of(sakura).expect("read threads"), []);
    let threads = connection.threads_of(AgentId(1)).expect("read threads");
    assert_eq!(threads[0].agents, [AgentId(1), AgentId(3)]);
    assert_eq!(threads[0].markers.len(), 2);

    let place = Conversation::Channel(general.id);
    let room = PageLimit {
        messages: 50,
        bytes: 1 << 20,
    };
    let all = connection
        .history(place, None, room)
        .expect("read")
        .messages;
    assert_eq!(all.len(), 8);
    assert_eq!(general.markers.last(), Some(&(sakura, all[4].id)));
}
