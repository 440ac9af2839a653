//! Settings rows and log lines as ops.json has them, against those of a running or ended daemon.

use mysql::Conn;

use super::clock;
use super::daemon::{Daemon, is_stamp};
use super::fixtures;
use super::json::Json;
use super::mariadb::Database;
use super::rows;
use super::seed;
use super::wait;

/// A time within so many seconds is "now": a slow machine may take a while to look.
const NOW_SECONDS: i64 = 60;

pub fn recorded(topic: &str) -> Json {
    fixtures::golden("ops").need(topic).clone()
}

/// A database of one's own with the rows that every recording starts from.
pub fn seeded() -> (Database, Conn) {
    let database = Database::fresh();
    let mut conn = database.conn();
    seed::reset(&mut conn);
    (database, conn)
}

/// The value of a settings row; none where it is NULL or missing.
pub fn setting(conn: &mut Conn, key: &str) -> Option<String> {
    let query = format!("SELECT value FROM settings WHERE key_name = '{key}'");
    let rows = rows::select(conn, &query);
    rows.first()?.need("value").str().map(str::to_owned)
}

pub fn set(conn: &mut Conn, key: &str, value: &str) {
    seed::set(conn, key, &value.into());
}

/// Compares recorded rows; `pids` says what its placeholders for processes stand for.
pub fn check_settings(
    conn: &mut Conn,
    recorded: &Json,
    pids: &[(&str, u32)],
) -> Result<(), String> {
    for (key, wanted) in recorded.entries() {
        let found = setting(conn, key);
        let wanted = wanted.str().unwrap_or_default();
        let pid = pids.iter().find(|(placeholder, _)| *placeholder == wanted);
        let fits = match (wanted, &found, pid) {
            ("<app-now>", Some(time), _) => is_now(time),
            (_, Some(text), Some((_, pid))) => *text == pid.to_string(),
            (_, Some(text), None) => text == wanted,
            (_, None, _) => false,
        };
        if !fits {
            return Err(format!("{key}: expected {wanted:?}, found {found:?}"));
        }
    }
    Ok(())
}

fn is_now(text: &str) -> bool {
    clock::seconds_since(text).is_some_and(|age| (-1..=NOW_SECONDS).contains(&age))
}

/// Compares recorded log lines. `renamed` are the ports of the recording and those that stand in for them. Why
/// an address cannot be bound each system says in its own words.
pub fn check_log(log: &str, recorded: &Json, renamed: &[(String, String)]) -> Result<(), String> {
    let lines: Vec<&str> = log.lines().collect();
    let wanted = recorded.items();
    if lines.len() != wanted.len() {
        return Err(format!("expected {recorded}, found the log\n{log}"));
    }
    for (line, wanted) in lines.iter().zip(wanted) {
        let mut wanted = wanted.str().unwrap_or_default().to_owned();
        for (from, to) in renamed {
            wanted = wanted.replace(from, to);
        }
        let text = wanted.strip_prefix("[<app-now>] ").unwrap_or(&wanted);
        let found = now_text(line)?;
        let fits = match text.strip_prefix("failed to listen on ") {
            Some(rest) => {
                // An address may hold a colon, and the recording's reason two of them.
                let reason_start = rest.find(": ").unwrap_or(rest.len());
                let start = format!("failed to listen on {}: ", &rest[..reason_start]);
                found.len() > start.len() && found.starts_with(&start)
            }
            None => found == text,
        };
        if !fits {
            return Err(format!("expected the log line {text:?}, found {found:?}"));
        }
    }
    Ok(())
}

/// The text of a line of the log, whose time must be now.
fn now_text(line: &str) -> Result<&str, String> {
    let parted = line.split_once("] ");
    let (stamp, text) = parted.ok_or(format!("no line of a log: {line:?}"))?;
    match is_stamp(stamp) && is_now(&stamp[1..]) {
        true => Ok(text),
        false => Err(format!("the time of {line:?} is not now")),
    }
}

/// Returns once the daemon has looked at all rows that were written before this call.
pub fn await_look(daemon: &Daemon, conn: &mut Conn) {
    const CHANGED: &str = "settings changed";
    let count = || daemon.log().matches(CHANGED).count();
    let before = count();
    let length = setting(conn, "chat_max_message_length").expect("a row of the seed");
    let length: i64 = length.parse().expect("a number");
    set(conn, "chat_max_message_length", &(length + 1).to_string());
    daemon.signal(rustix::process::Signal::HUP);
    wait::until(wait::LIMIT, || (count() > before).then_some(()))
        .expect("the daemon looks at its settings");
}

/// Returns once the daemon has gone through a whole turn of looking and writing its heartbeat that began after
/// this call.
pub fn await_turn(daemon: &Daemon, conn: &mut Conn) {
    // The first look may be that of a turn that had begun before.
    await_look(daemon, conn);
    await_look(daemon, conn);
}

/// What stands in the pid file.
pub fn pid_file(daemon: &Daemon) -> Option<String> {
    std::fs::read_to_string(daemon.install.pid_file()).ok()
}

pub fn ensure(truth: bool, complaint: impl FnOnce() -> String) -> Result<(), String> {
    match truth {
        true => Ok(()),
        false => Err(complaint()),
    }
}
