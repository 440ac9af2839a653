//! Sends the recorded message bodies through the daemon to a channel: the frame, the stored text and HTML and
//! the stored mentions are what the file says.

use mysql::Conn;

use crate::support::daemon::{Daemon, Options};
use crate::support::fixtures;
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::workers;
use crate::support::ws::Client;
use crate::support::{rows, seed};

/// How many messages are under way at once: enough to hide the round trip, and far below what any outgoing
/// queue must hold.
const WINDOW: usize = 16;

const SECTIONS: usize = 5;
const CASES: usize = 1095;

#[test]
fn every_recorded_body_is_rendered_stored_and_sent_as_the_contract_asks() {
    needs!(MariaDb);
    let recording = fixtures::golden("render");
    let sections = recording.need("sections").items();
    let count: usize = sections.iter().map(|s| s.need("cases").items().len()).sum();
    assert_eq!(
        (sections.len(), count),
        (SECTIONS, CASES),
        "the recording is whole"
    );

    let database = Database::fresh();
    let mut complaints = Vec::new();
    for section in sections {
        let name = section.need("name").str().expect("a section has a name");
        for complaint in play(&database, section) {
            complaints.push((complaints.len(), format!("  {name} {complaint}")));
        }
    }
    workers::judge("bodies", CASES, &complaints);
}

/// Plays a section on a fresh seed and a fresh process, since look-ups of tickets may be remembered.
fn play(database: &Database, section: &Json) -> Vec<String> {
    let mut conn = database.conn();
    seed::reset(&mut conn);
    for (key, value) in section.need("settings").entries() {
        seed::set(&mut conn, key, value);
    }
    for (table, rows) in section
        .get("extra_rows")
        .map(Json::entries)
        .unwrap_or_default()
    {
        seed::insert(&mut conn, table, rows.items());
    }
    let options = Options::new().env("CHAT_WEBSOCKET_RATE", "0");
    let mut daemon = Daemon::start(database, &options);
    let mut client = daemon.login(1).expect("log in");
    let cases = section.need("cases").items();
    let answers = send_all(&mut client, cases);
    let stored = Stored::read(&mut conn);
    let judged = cases.iter().zip(&answers).enumerate();
    let mut complaints: Vec<String> = judged
        .filter_map(|(place, (case, answer))| {
            let complaint = judge(case, answer, &stored).err()?;
            let group = case.need("group").str().unwrap_or_default();
            let body: String = case.need("body").to_string().chars().take(200).collect();
            Some(format!("#{place} {group}: {body}\n      {complaint}"))
        })
        .collect();
    complaints.extend(daemon.check_life().err());
    let sent = cases
        .iter()
        .filter(|case| case.get("error").is_none())
        .count();
    if stored.messages.len() != sent {
        complaints.push(format!(
            "expected {sent} stored messages, found {}",
            stored.messages.len()
        ));
    }
    complaints
}

/// Sends all bodies over one socket and returns the answers, which come in the order sent.
fn send_all(client: &mut Client, cases: &[Json]) -> Vec<Json> {
    let mut answers = Vec::new();
    for (sent, case) in cases.iter().enumerate() {
        if sent - answers.len() >= WINDOW {
            answers.push(client.next_json().expect("an answer"));
        }
        let event = Json::object([
            ("type", "chat.channel.message.send".into()),
            ("channel_id", 1.into()),
            ("body", case.need("body").clone()),
        ]);
        client.send(&event.to_string());
    }
    while answers.len() < cases.len() {
        answers.push(client.next_json().expect("an answer"));
    }
    answers
}

struct Stored {
    messages: Vec<Json>,
    mentions: Vec<Json>,
}

impl Stored {
    fn read(conn: &mut Conn) -> Stored {
        let messages = "SELECT id, body_text, body_rendered_html FROM chat_messages ORDER BY id";
        let mentions =
            "SELECT message_id, mentioned_agent_id FROM chat_message_mentions ORDER BY 1, 2";
        Stored {
            messages: rows::select(conn, messages),
            mentions: rows::select(conn, mentions),
        }
    }
}

fn judge(case: &Json, answer: &Json, stored: &Stored) -> Result<(), String> {
    let kind = answer.get("type").and_then(Json::str);
    if let Some(error) = case.get("error") {
        return if kind == Some("error") && answer.get("message") == Some(error) {
            Ok(())
        } else {
            Err(format!("expected the error {error}, found {answer}"))
        };
    }
    let message = answer
        .get("message")
        .filter(|_| kind == Some("chat.channel.message.created"))
        .ok_or(format!("expected a message, found {answer}"))?;
    let id = message.need("id");
    let mut rows = stored.messages.iter();
    let row = rows
        .find(|row| row.get("id") == Some(id))
        .ok_or(format!("no row {id}"))?;
    let text = case.need("stored_body_text");
    let html = case.get("better").unwrap_or_else(|| case.need("html"));
    let places = [
        ("the frame's text", message.get("body_text"), text),
        ("the frame's HTML", message.get("body_rendered_html"), html),
        ("the stored text", row.get("body_text"), text),
        ("the stored HTML", row.get("body_rendered_html"), html),
    ];
    for (place, found, wanted) in places {
        if found != Some(wanted) {
            let found = found.map(Json::to_string).unwrap_or_default();
            return Err(format!(
                "{place}:\n        expected {wanted}\n        found    {found}"
            ));
        }
    }
    let mentions = stored
        .mentions
        .iter()
        .filter(|row| row.get("message_id") == Some(id));
    let mentions = mentions.map(|row| row.need("mentioned_agent_id").clone());
    let mentions = Json::Array(mentions.collect());
    if mentions != *case.need("mentions") {
        return Err(format!(
            "expected the mentions {}, found {mentions}",
            case.need("mentions")
        ));
    }
    Ok(())
}
