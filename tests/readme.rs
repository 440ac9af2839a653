//! The way from the PHP daemon to this one and back: every command of docs/migrate-from-php.md, as it stands there, in its
//! order, on a machine of its own (`support/machine.rs`), with a minute of cron's after each. What runs there as the PHP
//! daemon and its supervisor plays them as they were recorded.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::json::Json;
use crate::support::machine::{Kind, Machine, ROOT, USER};
use crate::support::ws::Client;

const CHAPTER: &str = "Migrate from the PHP daemon";
const UNIT: &str = "andrea-chat-websocket";
const UNIT_FILE: &str = "/etc/systemd/system/andrea-chat-websocket.service";

/// As the helpdesk documents it.
const PHP_UNIT: &str = "\
[Unit]
Description=Andrea Helpdesk Chat WebSocket Server
After=network.target mysql.service

[Service]
Type=simple
WorkingDirectory=/var/www/andrea-helpdesk
ExecStart=/usr/bin/php bin/chat-websocket-server.php
Restart=always
RestartSec=5
User=www-data
Group=www-data

[Install]
WantedBy=multi-user.target
";

/// Its commands by the heading above them, each block as it stands.
fn chapter() -> BTreeMap<String, Vec<String>> {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migrate-from-php.md");
    let text = fs::read_to_string(document).expect("the document");
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut heading = String::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (line.trim(), &mut block) {
            ("```sh", None) => block = Some(Vec::new()),
            ("```", Some(lines)) => {
                let commands = lines.join("\n");
                blocks.entry(heading.clone()).or_default().push(commands);
                block = None;
            }
            (_, Some(lines)) => lines.push(line.trim_start()),
            (words, None) => {
                assert!(!words.starts_with("```"), "commands are `sh`: {line}");
                if let Some(words) = words.strip_prefix('#') {
                    heading = words.trim_start_matches('#').trim().to_owned();
                }
            }
        }
    }
    assert_eq!(block, None);
    blocks
}

/// Walks through the chapter; which blocks were run is held against all that there are.
struct Reader {
    machine: Machine,
    chapter: BTreeMap<String, Vec<String>>,
}

impl Reader {
    fn new() -> Reader {
        Reader {
            machine: Machine::new(),
            chapter: chapter(),
        }
    }

    /// Runs a block; what it has said.
    #[track_caller]
    fn does(&mut self, heading: &str, number: usize) -> String {
        let blocks = self.chapter.get(heading);
        let commands = blocks
            .and_then(|blocks| blocks.get(number))
            .unwrap_or_else(|| panic!("no block {number} below {heading:?}"))
            .clone();
        let said = self.machine.run(&commands);
        assert_eq!(said.code, Some(0), "{commands}\n{}", said.text);
        said.text
    }

    #[track_caller]
    fn installs(&mut self) {
        self.machine.await_daemon(Kind::Php);
        let said = self.does(CHAPTER, 0);
        assert!(
            said.contains("this install's service's, process"),
            "the PHP daemon's address is no fault: {said}"
        );
    }

    /// The status that the last step shows, and chat.
    #[track_caller]
    fn sees_it_run(&mut self, heading: &str, number: usize) {
        let pid = self.machine.await_daemon(Kind::Ours);
        let said = self.does(heading, number);
        assert!(said.starts_with("chat service: running\n"), "{said}");
        assert!(said.contains(&pid.to_string()), "{said}");
        let mut clients = [1, 2].map(|agent| Client::login(self.machine.port, agent).unwrap());
        let event = Json::object([
            ("type", "chat.channel.message.send".into()),
            ("channel_id", 1.into()),
            ("body", "over".into()),
        ]);
        clients[0].send(&event.to_string());
        for client in &mut clients {
            client.until_type("chat.channel.message.created").unwrap();
        }
    }

    /// The PHP supervisor's line, as helpdesks have it.
    fn php_supervisor(&mut self) {
        let line = format!("* * * * * cd {ROOT} && php bin/chat-supervisor.php >/dev/null 2>&1\n");
        let table = format!("# of this user\n{line}");
        self.machine
            .write(&format!("/var/spool/cron/crontabs/{USER}"), &table);
    }

    /// The same daemon runs on after a minute.
    #[track_caller]
    fn stays(&mut self, kind: Kind) {
        let pid = self.machine.await_daemon(kind);
        self.machine.minute();
        assert_eq!(self.machine.await_daemon(kind), pid);
    }

    fn ends(&mut self, pid: u32) {
        self.machine.await_end(pid);
        assert_eq!(self.machine.daemon(), None);
    }
}

/// Every block of the chapter is in one of the tests below, or they would not test what the document says.
#[test]
fn the_chapter_has_the_steps_that_are_tried_here() {
    let counts: Vec<(String, usize)> = chapter()
        .into_iter()
        .map(|(heading, blocks)| (heading, blocks.len()))
        .collect();
    let expected = [
        (CHAPTER, 1),
        ("Migrate with cron", 4),
        ("Migrate with systemd", 4),
        ("Roll back with cron", 2),
        ("Roll back with systemd", 3),
        ("Where the crontab cannot be changed", 2),
    ];
    assert_eq!(
        counts,
        expected.map(|(heading, count)| (heading.to_owned(), count))
    );
}

#[test]
fn from_a_unit_of_the_php_daemon_to_ours_and_back() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader
        .machine
        .set("chat_websocket_management_mode", "external");
    reader.machine.write(UNIT_FILE, PHP_UNIT);
    let started = "sudo systemctl daemon-reload; sudo systemctl enable --now andrea-chat-websocket";
    let said = reader.machine.run(started);
    assert_eq!(said.code, Some(0), "{}", said.text);
    reader.machine.await_daemon(Kind::Php);
    // Twice, since what the way back leaves is what the next way over finds.
    for _ in 0..2 {
        reader.installs();
        reader.does("Migrate with systemd", 0);
        reader.does("Migrate with systemd", 2);
        reader.sees_it_run("Migrate with systemd", 3);
        assert!(reader.machine.is_active(UNIT));
        let heard = reader.machine.heard(UNIT);
        assert!(heard.contains(&"WATCHDOG=1".to_owned()), "{heard:?}");

        reader.does("Roll back with systemd", 0);
        assert_eq!(reader.machine.daemon(), None);
        reader.does("Roll back with systemd", 1);
        reader.machine.await_daemon(Kind::Php);
        assert!(reader.machine.is_active(UNIT));
        assert_eq!(reader.machine.read(UNIT_FILE), PHP_UNIT);
    }
}

#[test]
fn from_the_php_supervisor_to_our_unit_and_back() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader.php_supervisor();
    reader.machine.minute();
    for _ in 0..2 {
        reader.stays(Kind::Php);
        reader.installs();
        reader.does("Migrate with systemd", 0);
        reader.stays(Kind::Php);
        let php = reader.machine.await_daemon(Kind::Php);
        reader.does("Migrate with systemd", 1);
        reader.ends(php);
        reader.machine.minute();
        assert_eq!(reader.machine.daemon(), None, "no supervisor starts any");
        reader.does("Migrate with systemd", 2);
        reader.sees_it_run("Migrate with systemd", 3);
        reader.stays(Kind::Ours);
        assert!(reader.machine.is_active(UNIT));

        reader.does("Roll back with systemd", 0);
        reader.machine.minute();
        assert_eq!(reader.machine.daemon(), None);
        reader.does("Roll back with systemd", 2);
        reader.machine.minute();
    }
    reader.stays(Kind::Php);
}

#[test]
fn from_the_php_supervisor_to_ours_and_back() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader.php_supervisor();
    reader.machine.minute();
    for _ in 0..2 {
        reader.stays(Kind::Php);
        reader.installs();
        for step in 0..2 {
            reader.does("Migrate with cron", step);
            reader.stays(Kind::Php);
        }
        let php = reader.machine.await_daemon(Kind::Php);
        reader.does("Migrate with cron", 2);
        reader.ends(php);
        reader.machine.minute();
        reader.sees_it_run("Migrate with cron", 3);
        reader.stays(Kind::Ours);
        let said = reader
            .machine
            .read(&format!("{ROOT}/storage/logs/chat-supervisor.log"));
        assert!(
            said.contains("started chat websocket daemon pid="),
            "{said}"
        );

        let ours = reader.machine.await_daemon(Kind::Ours);
        reader.does("Roll back with cron", 0);
        reader.stays(Kind::Ours);
        reader.does("Roll back with cron", 1);
        reader.machine.minute();
        reader.machine.await_end(ours);
    }
    reader.stays(Kind::Php);
    let table = reader
        .machine
        .read(&format!("/var/spool/cron/crontabs/{USER}"));
    assert!(table.contains("\n* * * * * cd"), "as it was: {table}");
}

/// What the document gives as the reason for a kill in place of a restart.
#[test]
fn while_the_php_daemon_holds_its_supervisors_lock_a_restart_is_not_carried_out() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader.php_supervisor();
    reader.machine.minute();
    reader.installs();
    reader.does("Migrate with cron", 0);
    reader.does("Migrate with cron", 1);
    reader.does("Roll back with cron", 1);
    reader.stays(Kind::Php);
}

#[test]
fn where_the_crontab_stays_the_php_supervisor_starts_ours_and_again_its_own() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader.php_supervisor();
    reader.machine.minute();
    for _ in 0..2 {
        reader.stays(Kind::Php);
        reader.installs();
        let php = reader.machine.await_daemon(Kind::Php);
        reader.does("Where the crontab cannot be changed", 0);
        reader.machine.await_end(php);
        reader.machine.minute();
        reader.sees_it_run("Migrate with cron", 3);
        reader.stays(Kind::Ours);

        let ours = reader.machine.await_daemon(Kind::Ours);
        reader.does("Where the crontab cannot be changed", 1);
        reader.machine.minute();
        reader.machine.await_end(ours);
    }
    reader.stays(Kind::Php);
}

/// The third thing that may start the PHP daemon's script: the unit that the helpdesk documents.
#[test]
fn the_documented_unit_of_the_php_daemon_starts_ours_where_our_script_is_in_its_place() {
    needs!(MariaDb, Namespaces);
    let mut reader = Reader::new();
    reader
        .machine
        .set("chat_websocket_management_mode", "external");
    reader.machine.write(UNIT_FILE, PHP_UNIT);
    let begin = "sudo systemctl daemon-reload; sudo systemctl enable --now andrea-chat-websocket";
    assert_eq!(reader.machine.run(begin).code, Some(0));
    reader.machine.await_daemon(Kind::Php);
    reader.installs();
    reader.does("Where the crontab cannot be changed", 0);
    let end = "sudo systemctl disable --now andrea-chat-websocket";
    assert_eq!(reader.machine.run(end).code, Some(0));
    assert_eq!(reader.machine.run(begin).code, Some(0));
    reader.sees_it_run("Migrate with cron", 3);
    assert!(reader.machine.is_active(UNIT));
    assert_eq!(reader.machine.run(end).code, Some(0));
    assert_eq!(
        reader.machine.daemon(),
        None,
        "the unit's main process is the daemon"
    );
}
