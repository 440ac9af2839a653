//! `connections`: lists the connected clients, as the running service reports them over its own Unix socket.

use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use super::Problem;
use crate::platform::exit_code;
use crate::platform::owned_file;
use crate::platform::printable::{printable, printable_json};
use crate::websocket::ConnectionReport;

/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bounds the memory for a peer that is not the service: more than any list of connections has.
const MAX_BYTES: u64 = 256 << 20;

/// Asks the service at `path` for its connections and writes them, for people or as a JSON array.
///
/// # Errors
/// No service answers there, or standard output cannot be written.
pub(crate) fn list(path: &Path, as_json: bool, out: &mut dyn Write) -> Result<u8, Problem> {
    let json = ask(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "run it as the user of the service, or as root",
            _ => "is the service running? status says so",
        };
        Problem::of_path("ask the service at", path, error)
            .with_code(exit_code::UNAVAILABLE)
            .with_remedy(remedy)
    })?;
    let no_list = |error: serde_json::Error| {
        let what = format!(
            "what answers at {} is no list of connections",
            path.display()
        );
        Problem::new(exit_code::UNAVAILABLE, what).because(error)
    };
    let mut list: Vec<ConnectionReport> = serde_json::from_str(&json).map_err(no_list)?;
    list.sort_by_key(|one| one.connection);
    let text = match as_json {
        true => printable_json(&(serde_json::to_string_pretty(&list).map_err(no_list)? + "\n")),
        false => text(&list),
    };
    out.write_all(text.as_bytes()).map_err(Problem::of_output)?;
    Ok(exit_code::OK)
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
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 5]| {
        let [a, b, c, d] = widths;
        let [connection, agent, since, address, waiting] = row;
        format!("{connection:a$}  {agent:b$}  {since:c$}  {address:d$}  {waiting}\n")
    };
    rows.iter().map(line).collect()
}
