//! The database: it is reachable, its version is known to work, the helpdesk's tables and rows exist, the account has
//! the required rights, and its clock agrees with this machine's.

use super::Finding;
use crate::admin::{Database, Problem};
use crate::config::settings::{Rows, key};
use crate::config::{Config, Database as ConfiguredDatabase, TlsMode};
use crate::platform::clock::epoch_seconds;
use crate::supervisor::{Mode, Observed};

/// Tables that the service reads or writes, each with the columns.
const COLUMNS: [&str; 12] = [
    "settings key_name value",
    "agents id name role notification_preferences_json chat_handle is_active",
    "tickets id ticket_number deleted_at",
    "chat_channels id name is_active retention_days",
    "chat_channel_members channel_id agent_id can_post",
    "chat_threads id agent_one_id agent_two_id last_message_at",
    "chat_messages id message_scope channel_id thread_id sender_agent_id body_text body_rendered_html metadata_json \
     created_at edited_at deleted_at deleted_by_agent_id",
    "chat_message_mentions message_id mentioned_agent_id",
    "chat_message_reads agent_id message_scope channel_id thread_id last_read_message_id last_read_at",
    "chat_channel_notification_preferences agent_id channel_id notify_enabled",
    "agent_notifications id agent_id type severity title body link data_json dedupe_key",
    "audit_log actor_type actor_id action subject_type subject_id payload",
];

/// Rows of `settings` that the service updates but never inserts.
const WRITTEN_ROWS: [&str; 6] = [
    key::STATUS,
    key::PID,
    key::LAST_SEEN_AT,
    key::LAST_STARTED_AT,
    key::STOP_REQUESTED,
    key::RESTART_REQUESTED,
];

/// Bytes of a message whose text and HTML both fill their 64 KiB columns, with 1 KiB for the rest of the row.
const LARGEST_ROW: u64 = 2 * 64 * 1024 + 1024;

/// Seconds that the clocks may differ without a warning.
const CLOCKS_APART: u64 = 2;

/// Runs all database checks and returns the settings if they can be read.
pub(super) fn look(
    config: &Config,
    database: &mut Database,
    findings: &mut Vec<Finding>,
) -> Option<Rows> {
    let version = database.run(|store| store.server_version());
    let answers = version.is_ok();
    let mut add = |about, found: Result<Vec<Finding>, Problem>| match found {
        Ok(found) => findings.extend(found),
        Err(problem) => {
            let remedy = problem.remedy().unwrap_or("see what it says");
            findings.push(Finding::failed(about, problem.detail(), remedy));
        }
    };
    add(
        "database",
        version.map(|version| vec![of_version(&version)]),
    );
    if !answers {
        let why = "the database does not answer";
        super::skip(findings, &super::OF_DATABASE, why);
        return None;
    }
    add("line", line(config, database));
    add("tables", narrow_columns(database));
    add("tables", missing_columns(database));
    let rows = database.run(|store| store.settings());
    let known = rows.as_ref().ok().cloned();
    add("settings", rows.map(|rows| vec![settings(&rows)]));
    add("rights", rights(database));
    add("clocks", clocks(database));
    known
}

fn of_version(version: &str) -> Finding {
    let detail = format!("answers, version {version}");
    match is_known(version) {
        true => Finding::ok("database", detail),
        false => Finding::warning(
            "database",
            detail,
            "MySQL 8 and MariaDB 10.4 are the oldest that this service is tried with",
        ),
    }
}

/// Whether the connection is encrypted, and allows the connections and message sizes that the limits need.
fn line(config: &Config, database: &mut Database) -> Result<Vec<Finding>, Problem> {
    const ABOUT: &str = "line";
    let line = database.run(|store| store.line())?;
    #[cfg_attr(
        not(feature = "embedded"),
        expect(
            clippy::infallible_destructuring_match,
            reason = "with the embedded database there are two"
        )
    )]
    let mysql = match &config.database {
        ConfiguredDatabase::Mysql(mysql) => mysql,
        #[cfg(feature = "embedded")]
        ConfiguredDatabase::Sqlite(_) => return Ok(Vec::new()),
    };
    let is_verified = matches!(mysql.tls.mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let mut findings = vec![match line.cipher {
        Some(cipher) if is_verified => Finding::ok(ABOUT, format!("encrypted with {cipher}")),
        Some(cipher) => Finding::warning(
            ABOUT,
            format!("encrypted with {cipher}, but whose the server is was not verified"),
            "set DB_SSL_CA to the certificate of the server's authority",
        ),
        None if mysql.tls.mode == TlsMode::Preferred => Finding::warning(
            ABOUT,
            "not encrypted: the server offers no TLS",
            "let the server have a certificate, then set DB_SSL_CA",
        ),
        None => Finding::ok(ABOUT, "not encrypted"),
    }];
    let wanted = config.limits.db_connections as u64;
    findings.extend(line.connections.map(|most| match most <= wanted {
        true => Finding::warning(
            ABOUT,
            format!("{wanted} connections to the database are wanted, and this account may have {most}, the helpdesk's included"),
            "raise max_user_connections of the account, or lower CHAT_WEBSOCKET_DB_CONNECTIONS",
        ),
        false => Finding::ok(
            ABOUT,
            format!("{wanted} connections of the {most} that this account may have"),
        ),
    }));
    let small = line.packet.filter(|bytes| *bytes < LARGEST_ROW);
    findings.extend(small.map(|packet| {
        Finding::warning(
            ABOUT,
            format!("max_allowed_packet is {packet} bytes; longer messages are refused"),
            format!("raise it to {LARGEST_ROW} bytes or more on the server"),
        )
    }));
    Ok(findings)
}

/// MySQL reports `8.0.36-…`, MariaDB `10.11.6-MariaDB-…`.
fn is_known(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    let version_parts: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version.contains("SQLite") {
        true
    } else if version.contains("MariaDB") {
        version_parts >= (10, 4)
    } else {
        version_parts >= (8, 0)
    }
}

fn narrow_columns(database: &mut Database) -> Result<Vec<Finding>, Problem> {
    let narrow = database.run(|store| store.narrow_columns())?;
    if narrow.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::warning(
        "tables",
        format!("what does not fit is refused: {}", narrow.join(", ")),
        "convert it: ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4, with columns of messages of type TEXT",
    )])
}

fn missing_columns(database: &mut Database) -> Result<Vec<Finding>, Problem> {
    let tables = COLUMNS.map(|line| line.split_once(' ').unwrap_or_default());
    let there = database.run(|store| store.columns(&tables.map(|(table, _)| table)))?;
    let mut missing = Vec::new();
    for (table, columns) in tables {
        let has = |column: &&str| there.contains(&(table.to_owned(), (*column).to_owned()));
        let (found, lacking): (Vec<&str>, Vec<&str>) = columns.split(' ').partition(has);
        match found.is_empty() {
            true => missing.push(format!("table {table}")),
            false => missing.extend(lacking.iter().map(|column| format!("{table}.{column}"))),
        }
    }
    Ok(vec![match missing.is_empty() {
        true => Finding::ok("tables", "all tables and columns are there"),
        false => Finding::failed(
            "tables",
            format!("missing: {}", missing.join(", ")),
            "is this the helpdesk's database, of version 1.4.13 or later, with its migrations run?",
        ),
    }])
}

fn settings(rows: &Rows) -> Finding {
    const ABOUT: &str = "settings";
    let missing = WRITTEN_ROWS.into_iter().filter(|key| !rows.contains(key));
    let missing: Vec<&str> = missing.collect();
    let seen = Observed::new(rows, None, None);
    let mut off = seen.off();
    off.retain(|key| *key != key::AUTOSTART);
    if !missing.is_empty() {
        Finding::failed(
            ABOUT,
            format!("missing rows: {}", missing.join(", ")),
            "the service inserts none; run the helpdesk's migrations",
        )
    } else if !off.is_empty() {
        Finding::warning(
            ABOUT,
            format!("switched off: {}", off.join(", ")),
            format!("settings set {} 1", off[0]),
        )
    } else {
        let mode = match seen.mode {
            Mode::Cron => "cron: the supervisor starts and stops the service",
            Mode::External => "external: a service manager starts and stops the service",
        };
        Finding::ok(ABOUT, format!("chat is on; mode {mode}"))
    }
}

fn rights(database: &mut Database) -> Result<Vec<Finding>, Problem> {
    const ABOUT: &str = "rights";
    let refused = database.run(|store| store.refused_writes())?;
    let all: Vec<&str> = refused.iter().map(|(what, _)| *what).collect();
    Ok(vec![match refused.first() {
        None => Finding::ok(ABOUT, "the database user may write what the service writes"),
        Some((what, cause)) => Finding::failed(
            ABOUT,
            format!("refused: {} ({what}: {cause})", all.join(", ")),
            "grant the database user SELECT, INSERT, UPDATE and DELETE on the helpdesk's tables",
        ),
    }])
}

fn clocks(database: &mut Database) -> Result<Vec<Finding>, Problem> {
    const ABOUT: &str = "clocks";
    let theirs = database.run(|store| store.server_epoch())?;
    let apart = theirs.abs_diff(epoch_seconds());
    Ok(vec![match apart <= CLOCKS_APART {
        true => Finding::ok(ABOUT, "this machine's and the database's agree"),
        false => Finding::warning(
            ABOUT,
            format!("the database's clock is {apart} s off this machine's"),
            "let both follow a time server; tokens are judged by this machine's clock, messages dated by the database's",
        ),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_known_by_their_version() {
        for (version, known) in [
            ("10.11.6-MariaDB-0+deb12u1", true),
            ("10.4.34-MariaDB", true),
            ("10.3.39-MariaDB", false),
            ("11.4.2-MariaDB-log", true),
            ("8.0.36", true),
            ("9.1.0", true),
            ("5.7.44-log", false),
            ("3.50.2 (SQLite)", true),
            ("", false),
        ] {
            assert_eq!(is_known(version), known, "{version}");
        }
    }
}
