//! The shipped units and crontab, with the facts of one install filled in.

use std::path::Path;

use super::Installation;
use crate::admin::Problem;
use crate::platform::exit_code;
use crate::platform::paths::SUPERVISOR_LOG;

const SERVICE: &str = include_str!("../../../contrib/systemd/andrea-chat-websocket.service");
const SOCKET: &str = include_str!("../../../contrib/systemd/andrea-chat-websocket.socket");

/// Keys that may occur several times in a unit; an empty value clears the earlier ones.
pub(super) const LISTS: [&str; 2] = ["ExecStart", "ReadWritePaths"];

/// A complete unit.
pub(super) fn service(found: &Installation) -> String {
    let mut text = without_introduction(SERVICE);
    for (key, value) in directives(found) {
        set(&mut text, key, &value);
    }
    if !found.needs_server {
        set(&mut text, "After", "network.target");
    }
    text
}

/// A drop-in with what differs from the package's unit.
pub(super) fn drop_in(found: &Installation) -> String {
    let mut text = "[Service]\n".to_owned();
    for (key, value) in directives(found) {
        if LISTS.contains(&key) {
            text.push_str(&format!("{key}=\n"));
        }
        text.push_str(&format!("{key}={value}\n"));
    }
    text
}

/// The socket unit.
pub(super) fn socket(found: &Installation) -> Result<String, Problem> {
    let mut text = without_introduction(SOCKET);
    let address = found.socket_address()?.to_string();
    set(&mut text, "ListenStream", &address);
    Ok(text)
}

/// The supervisor's line.
pub(super) fn crontab(found: &Installation) -> Result<String, Problem> {
    if found.user.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Problem::new(
            exit_code::FAILED,
            format!("user {} has no name, and cron takes no number", found.user),
        ));
    }
    Ok(crontab_line(
        &found.user,
        &found.program,
        &found.root,
        &found.storage,
    ))
}

fn crontab_line(user: &str, program: &Path, root: &Path, storage: &Path) -> String {
    let log = storage.join("logs").join(SUPERVISOR_LOG);
    let [program, root, log] = [program, root, &log].map(|path| for_shell(&path.to_string_lossy()));
    format!("* * * * * {user} {program} supervise --root {root} >>{log} 2>&1\n")
}

/// The keys of `[Service]` that depend on the install.
pub(super) fn directives(found: &Installation) -> Vec<(&'static str, String)> {
    let [program, root] = [&found.program, &found.root].map(|path| path.to_string_lossy());
    let command = format!("{} serve --root {}", for_unit(&program), for_unit(&root));
    let writes = found.writes.iter();
    let writes: Vec<String> = writes
        .map(|path| quoted(path, &path.replace('%', "%%")))
        .collect();
    let mut directives = vec![
        ("WorkingDirectory", root.replace('%', "%%")),
        ("ExecStart", command),
        ("User", found.user.clone()),
        ("Group", found.group.clone()),
        ("ReadWritePaths", writes.join(" ")),
    ];
    if found.reaches_below(&["/home", "/root", "/run/user"]) {
        directives.push(("ProtectHome", "read-only".to_owned()));
    }
    if found.reaches_below(&["/tmp", "/var/tmp"]) {
        directives.push(("PrivateTmp", "no".to_owned()));
    }
    let demand = &found.demand;
    let shipped = |key: &str| {
        let value = value(SERVICE, key).unwrap_or_default();
        value.trim_end_matches('M').parse::<u64>().unwrap_or(0)
    };
    if demand.files > shipped("LimitNOFILE") {
        directives.push(("LimitNOFILE", demand.files.to_string()));
    }
    if demand.threads > shipped("TasksMax") {
        directives.push(("TasksMax", (demand.threads + 64).to_string()));
    }
    let megabytes = demand.full_bytes.div_ceil(1 << 20);
    if megabytes > shipped("MemoryMax") {
        directives.push(("MemoryMax", format!("{}M", megabytes + megabytes / 16)));
    }
    directives
}

/// The value of a key that occurs once.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

fn set(text: &mut String, key: &str, value: &str) {
    let lines = text.lines().map(|line| {
        match line
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('='))
        {
            true => format!("{key}={value}\n"),
            false => format!("{line}\n"),
        }
    });
    *text = lines.collect();
}

/// Cuts off the comment at the top, which is about copying the file by hand.
fn without_introduction(text: &str) -> String {
    let start = text.find("[Unit]").unwrap_or(0);
    text[start..].to_owned()
}

/// A word of a command line in a unit, where `%` and `$` are special.
fn for_unit(word: &str) -> String {
    quoted(word, &word.replace('%', "%%").replace('$', "$$"))
}

/// Quotes a word for a unit if necessary; `doubled` is the word with its special characters doubled.
fn quoted(word: &str, doubled: &str) -> String {
    match is_plain(word) {
        true => doubled.to_owned(),
        false => format!("\"{}\"", doubled.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// The words of a value in a unit, unquoted.
pub(super) fn words(value: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_quoted = false;
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => is_quoted = !is_quoted,
            c if c.is_whitespace() && !is_quoted => words.push(String::new()),
            c => {
                let escaped = (c == '\\').then(|| characters.next()).flatten();
                if let Some(word) = words.last_mut() {
                    word.push(escaped.unwrap_or(c));
                }
            }
        }
    }
    words.retain(|word| !word.is_empty());
    words.iter().map(|word| word.replace("%%", "%")).collect()
}

/// A word of a command in a crontab, where an unescaped `%` would mean a line feed.
fn for_shell(word: &str) -> String {
    match is_plain(word) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''").replace('%', "\\%")),
    }
}

fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    word.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_crontab_has_the_same_line() {
        let shipped = include_str!("../../../contrib/cron/andrea-chat-websocket");
        let [program, root, storage] = [
            "/usr/local/bin/andrea-chat-websocket",
            "/var/www/andrea-helpdesk",
            "/var/www/andrea-helpdesk/storage",
        ]
        .map(Path::new);
        assert!(shipped.ends_with(&crontab_line("www-data", program, root, storage)));
    }
}
