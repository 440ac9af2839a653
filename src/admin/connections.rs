//! `connections`: lists the connected clients, as the running service reports them over its own Unix socket.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::{Problem, json_of, say};
use crate::platform::exit_code;
use crate::platform::owned_file;
use crate::platform::printable::printable;
use crate::websocket::ConnectionReport;

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds the memory for a peer that is not the service: more than any list of connections has.
const MAX_BYTES: u64 = 256 << 20;

/// Asks the service at `path` for its connections and writes them, for people or as a JSON array.
///
/// # Errors
/// No service answers there, or standard output cannot be written.
pub(crate) fn list(path: &Path, as_json: bool, out: &mut dyn Write) -> Result<(), Problem> {
    let json = ask(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run it as the user of the service, or as root",
            _ => "is the service running? status says so",
        };
        Problem::of_path("ask the service at", path, error)
            .with_code(exit_code::UNAVAILABLE)
            .with_remedy(remedy)
    })?;
    let mut list: Vec<ConnectionReport> = serde_json::from_str(&json).map_err(|error| {
        let path = path.display();
        let what = format!("what answers at {path} is no list of connections");
        Problem::new(exit_code::UNAVAILABLE, what).because(error)
    })?;
    list.sort_by_key(|one| one.connection);
    let text = match as_json {
        true => json_of(&list),
        false => text(&list),
    };
    say(out, &text)
}

fn ask(path: &Path) -> io::Result<String> {
    let stream = owned_file::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut json = String::new();
    stream.take(MAX_BYTES).read_to_string(&mut json)?;
    match json.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it answers neither this user nor after its stop",
        )),
        false => Ok(json),
    }
}

fn text(list: &[ConnectionReport]) -> String {
    if list.is_empty() {
        return "no connections\n".to_owned();
    }
    let head = ["CONNECTION", "AGENT", "SINCE", "ADDRESS", "BYTES WAITING"].map(str::to_owned);
    let rows = list.iter().map(|one| {
        [
            one.connection.to_string(),
            one.agent.map_or("-".to_owned(), |agent| agent.to_string()),
            printable(&one.since),
            printable(&one.address),
            one.waiting_bytes.to_string(),
        ]
    });
    let rows: Vec<[String; 5]> = [head].into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let [a, b, c, d] = [0, 1, 2, 3].map(width);
    let line = |[connection, agent, since, address, waiting]: &[String; 5]| {
        format!("{connection:a$}  {agent:b$}  {since:c$}  {address:d$}  {waiting}\n")
    };
    rows.iter().map(line).collect()
}
