//! What the recorded daemon made of message bodies, replayed through `text`. Never a database: the rows of the
//! fixtures stand in for it.

use std::path::Path;

use andrea_chat_websocket::text::{self, Ticket, TicketReferences, Tickets};
use serde_json::Value;

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/golden")
        .join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn string<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key} in {row}"))
}

fn id(row: &Value) -> u64 {
    row["id"]
        .as_u64()
        .unwrap_or_else(|| panic!("no id in {row}"))
}

/// As the query that finds tickets would answer it.
fn look_up(rows: &[&Value], references: &TicketReferences) -> Tickets {
    let found = rows.iter().filter(|row| {
        let number = string(row, "ticket_number");
        row["deleted_at"].is_null()
            && (references.ids.contains(&id(row))
                || references
                    .numbers
                    .iter()
                    .any(|other| other.eq_ignore_ascii_case(number)))
    });
    let found = found.map(|row| Ticket {
        id: id(row),
        number: string(row, "ticket_number").to_owned(),
    });
    Tickets::new(found.collect())
}

/// Of what the database's collation holds equal, as much as the seed needs.
fn fold(handle: &str) -> String {
    handle.to_lowercase().replace('é', "e")
}

fn agents_of(rows: &[Value], handles: &[String]) -> Vec<u64> {
    let mentioned = rows.iter().filter(|row| {
        row["is_active"] == 1
            && row["chat_handle"]
                .as_str()
                .is_some_and(|handle| handles.iter().any(|other| fold(other) == fold(handle)))
    });
    let mut ids: Vec<u64> = mentioned.map(id).collect();
    ids.sort_unstable();
    ids
}

/// `Ok` or what is different.
fn replay(
    case: &Value,
    max_chars: usize,
    external_links: bool,
    tickets: &[&Value],
    agents: &[Value],
) -> Result<(), String> {
    let body = text::normalise(string(case, "body"));
    if let Some(error) = case["error"].as_str() {
        let too_long = format!("Message cannot exceed {max_chars} characters");
        let refused = if body.is_empty() {
            String::from("Message cannot be empty")
        } else if body.chars().count() > max_chars {
            too_long
        } else {
            String::from("no error")
        };
        return same("error", &refused, error);
    }
    same("length", &(body.chars().count() <= max_chars), &true)?;
    same("body_text", &body, string(case, "stored_body_text"))?;
    let found = look_up(tickets, &text::ticket_references(&body));
    let expected = if case["better"].is_null() {
        "html"
    } else {
        "better"
    };
    same(
        "html",
        &text::render(&body, external_links, &found),
        string(case, expected),
    )?;
    let mentioned: Vec<u64> = list(&case["mentions"])
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    same(
        "mentions",
        &agents_of(agents, &text::mentions(&body)),
        &mentioned,
    )
}

fn same<A, B>(what: &str, got: &A, expected: &B) -> Result<(), String>
where
    A: std::fmt::Debug + PartialEq<B> + ?Sized,
    B: std::fmt::Debug + ?Sized,
{
    if got == expected {
        Ok(())
    } else {
        Err(format!("{what}\n     got {got:?}\nexpected {expected:?}"))
    }
}

#[test]
fn every_recorded_body_is_stored_and_rendered_as_recorded_or_better() {
    let seed = fixture("seed.json");
    let recorded = fixture("render.json");
    let agents = list(&seed["tables"]["agents"]);
    let mut replayed = 0;
    let mut failures = Vec::new();
    for section in list(&recorded["sections"]) {
        let setting = |name: &str| {
            let value = section["settings"][name].as_str();
            value
                .or(seed["settings"][name].as_str())
                .unwrap_or_else(|| panic!("no setting {name}"))
        };
        let max_chars = setting("chat_max_message_length")
            .parse()
            .expect("a number");
        let external_links = setting("chat_allow_external_links") == "1";
        let extra = list(&section["extra_rows"]["tickets"]);
        let tickets: Vec<&Value> = list(&seed["tables"]["tickets"])
            .iter()
            .chain(extra)
            .collect();
        for case in list(&section["cases"]) {
            replayed += 1;
            if let Err(difference) = replay(case, max_chars, external_links, &tickets, agents) {
                failures.push(format!(
                    "{} {}: {difference}",
                    section["name"], case["body"]
                ));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {replayed}\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(replayed, 1095, "the fixture has another number of cases");
}

#[test]
fn every_recorded_notification_shows_the_preview() {
    let recorded = fixture("events.json");
    let mut replayed = 0;
    for scenario in list(&recorded["scenarios"]) {
        for step in list(&scenario["steps"]) {
            let Some(body) = step["send"]["body"].as_str() else {
                continue;
            };
            for row in list(&step["rows_changed"]["agent_notifications"]["inserted"]) {
                let shown = string(row, "body");
                let preview = shown.split_once(" · ").map_or("", |(_, preview)| preview);
                assert_eq!(
                    preview,
                    text::preview(&text::normalise(body)),
                    "{}",
                    scenario["name"]
                );
                replayed += 1;
            }
        }
    }
    assert!(
        replayed > 50,
        "only {replayed} notifications in the fixture"
    );
}
