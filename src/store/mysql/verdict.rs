//! What an error of server, driver or line means: by SQLSTATE class first, by number where a class is too coarse. Pure.
//! The text names the error; it repeats the server's own words only where they cannot contain a client's text.

use std::error::Error as _;
use std::io;

use mysql::error::DriverError;
use mysql::{Error as MysqlError, MySqlError};

use crate::store::{Failure, StoreError};

/// What to do about an error.
struct Remedy {
    words: &'static str,
    /// The error does not pass by itself.
    is_needed: bool,
}

const RIGHTS: &str =
    "grant the database user SELECT, INSERT, UPDATE and DELETE on the helpdesk's tables";
const HOST: &str = "let the database user come from this machine (CREATE USER 'name'@'host')";
const EXPIRED: &str = "give the database user a new password (ALTER USER … IDENTIFIED BY)";
const WORDS: &str = "correct DB_CHARSET or DB_COLLATION, which have to belong together";
const LOGIN: &str = "correct DB_DATABASE, DB_USERNAME or DB_PASSWORD, or set DB_SSL_MODE where the account asks for an encrypted line";
const NAME: &str = "correct DB_DATABASE, DB_USERNAME or DB_PASSWORD, or grant the database user rights on that database";
const NO_PASSWORD: &str = "give the database user a password, or let the service run as the user that may log in without one, with DB_HOST=localhost";
const LOCKED: &str = "unlock the database user (ALTER USER … ACCOUNT UNLOCK; FLUSH PRIVILEGES where wrong passwords have locked it)";
const ENCRYPTED: &str =
    "set DB_SSL_MODE=required, or DB_SSL_CA to the certificate of its authority";
const WRITABLE: &str = "name the server that takes writes in DB_HOST, or switch its read_only off";
const OPEN_LINE: &str = "set DB_SSL_CA to the certificate of the server's authority, or DB_SERVER_PUBLIC_KEY to a copy of its public_key.pem";
const PLUGIN: &str =
    "give the database user a password by caching_sha2_password or mysql_native_password";
const DISK: &str = "make room on the disk of the database's server";
const ACCOUNT_IS_FULL: &str = "let the database user have more (ALTER USER … WITH MAX_USER_CONNECTIONS), or lower CHAT_WEBSOCKET_DB_CONNECTIONS";
const SERVER_IS_FULL: &str =
    "raise max_connections on the server, or lower CHAT_WEBSOCKET_DB_CONNECTIONS";

const SILENT: &str = "it did not answer in time";
/// A server that ends an idle connection says so unasked, which the driver takes for packets out of order.
const ENDED: &str = "the server has ended the connection";
const UNKNOWN: &str = "its answer cannot be understood";

const RIGHTLESS: &str = "the database user may not do this";
const READ_ONLY: &str = "it is read only";

/// What was being done when it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// A connection was being opened, or its session set up.
    Connecting,
    /// A statement without a client's text.
    Asking,
    /// A statement with a client's text in it, which the server may repeat.
    Writing,
}

/// What `error` means.
pub(super) fn failed(operation: &'static str, doing: Doing, error: &MysqlError) -> StoreError {
    let found = match error {
        MysqlError::MySqlError(server) => {
            let failure = of_server(doing, server.code, &server.state);
            let remedy = remedy(server.code, &server.state);
            (failure, words(server, doing), remedy)
        }
        MysqlError::IoError(error) => of_line(error),
        #[cfg(feature = "db-tls")]
        MysqlError::TlsError(error) => {
            let (cause, remedy) = super::tls::of_files(error.source());
            denied(cause, remedy)
        }
        MysqlError::CodecError(error) => match error.source().and_then(|one| one.downcast_ref()) {
            Some(error) => of_line(error),
            None => (Failure::Lost, ENDED.into(), None),
        },
        MysqlError::DriverError(error) => of_driver(error),
        _ => (Failure::Lost, UNKNOWN.into(), None),
    };
    told(operation, found)
}

/// What a panic of the driver means, in its words.
pub(super) fn panicked(operation: &'static str, words: &str) -> StoreError {
    // The driver knows two authentication plugins only by name, and names them in the panic.
    let mut parts = words.split('`');
    let found = match (words.contains("authentication plugin"), parts.nth(1)) {
        (true, Some(plugin)) => of_plugin(plugin),
        _ => (Failure::Lost, UNKNOWN.into(), None),
    };
    told(operation, found)
}

fn told(operation: &'static str, (failure, cause, remedy): Found) -> StoreError {
    StoreError {
        remedy: remedy.as_ref().map(|remedy| remedy.words),
        is_remedy_needed: remedy.is_some_and(|remedy| remedy.is_needed),
        ..StoreError::new(operation, failure, cause)
    }
}

/// What an error of the server means for what was asked.
fn of_server(doing: Doing, code: u16, state: &str) -> Failure {
    let failure = match (state.get(..2).unwrap_or_default(), code) {
        // Larger than a packet, a row, a column, a transaction or its log may be.
        (_, 1118 | 1153 | 1162 | 1197 | 1301 | 1406 | 1705 | 1713) => Failure::TooLarge,
        // Account, database, charset or authentication: no connection can be opened like this.
        ("28", _)
        | (_, 1044 | 1049 | 1115 | 1129 | 1130 | 1251 | 1253 | 1273 | 1524)
        | (_, 1820 | 1862 | 3118 | 3159 | 3955 | 4150 | 4151) => Failure::Denied,
        // A prepared statement that is no longer valid; a connection that was killed, or closed for being idle.
        (_, 1243 | 1412 | 1461 | 1615 | 1927 | 3169 | 4031) => Failure::Stale,
        (_, 1969 | 3024) => Failure::TookTooLong,
        // Shutting down, or at the limit of the server or the account, which are in unrelated classes; a proxy's errors
        // about the servers behind it.
        ("08", _) | (_, 1040 | 1053 | 1203 | 1226 | 9001..=9010) => Failure::Lost,
        // Deadlock, interrupted; a lock that was not granted, a row that has changed since.
        ("40" | "70", _) | (_, 1020 | 1205 | 1206 | 1689 | 3572) => Failure::Conflict,
        // Read only; no room on a disk or in memory; gone, shutting down, or cut off from its cluster.
        ("25", 1792)
        | ("HY", 1016 | 1021 | 1023 | 1024 | 1026 | 1030 | 1037 | 1038 | 1041 | 1077 | 1079)
        | ("HY", 1114 | 1135 | 1180 | 1290 | 1297 | 1637 | 1836 | 1874 | 1878 | 1881)
        | ("HY", 2002..=2013 | 2055 | 3032 | 3100 | 3168 | 3170 | 3796..=3798) => Failure::Lost,
        _ => Failure::Refused,
    };
    match failure {
        Failure::Lost | Failure::Denied => failure,
        _ if doing != Doing::Connecting => failure,
        // A proxy uses this number for everything.
        Failure::Refused if code == 1105 => Failure::Lost,
        _ if failure.is_lasting() => Failure::Denied,
        _ => Failure::Lost,
    }
}

/// What to do about an error.
fn remedy(code: u16, state: &str) -> Option<Remedy> {
    let (words, is_needed) = match (code, state) {
        (1021 | 1114 | 1878, _) => (DISK, false),
        (1040, _) => (SERVER_IS_FULL, false),
        (1203 | 1226, _) => (ACCOUNT_IS_FULL, false),
        (1044 | 1049, _) => (NAME, true),
        (1115 | 1231 | 1253 | 1273, _) => (WORDS, true),
        (1130, _) => (HOST, true),
        (1129, _) => ("let the server take this machine again (FLUSH HOSTS)", true),
        (1142 | 1143 | 1227 | 1370, _) => (RIGHTS, true),
        (1193, _) => ("use MySQL 8, MariaDB 10.4 or a later version", true),
        (1251 | 1524, _) => (PLUGIN, true),
        (1290 | 1792 | 1836 | 1874 | 1881, _) => (WRITABLE, true),
        (1698, _) => (NO_PASSWORD, true),
        (1820 | 1862, _) => (EXPIRED, true),
        (3118 | 3955 | 4150 | 4151, _) => (LOCKED, true),
        (3159, _) => (ENCRYPTED, true),
        (_, "28000") => (LOGIN, true),
        _ => return None,
    };
    Some(Remedy { words, is_needed })
}

/// The text for an error of the server, whose own words may repeat a client's text. Errors that docs/troubleshooting.md
/// names get the same text for reads and writes: one server refuses a locking read where another refuses the write.
fn words(error: &MySqlError, doing: Doing) -> String {
    let MySqlError {
        code,
        state,
        message,
    } = error;
    let known = match code {
        1142 | 1143 => RIGHTLESS,
        1205 => "Lock wait timeout",
        1213 => "Deadlock",
        1021 | 1114 => "its disk is full",
        1062 => "there is a row of that key already",
        1118 => "longer than a row",
        1290 | 1792 | 1836 | 1874 | 1881 => READ_ONLY,
        1366 | 1977 | 3988 => "a column cannot hold a character",
        1406 => "longer than a column",
        1452 => "a row that it refers to is gone",
        1644 => "a trigger refuses it",
        1969 | 3024 => "it took longer than a statement may",
        _ => "",
    };
    match (doing, known) {
        (Doing::Writing, "") => format!("ERROR {code} ({state})"),
        (Doing::Writing, known) => format!("ERROR {code} ({state}): {known}"),
        (Doing::Asking, known @ (RIGHTLESS | READ_ONLY)) => {
            format!("ERROR {code} ({state}): {known}: {message}")
        }
        _ => format!("ERROR {code} ({state}): {message}"),
    }
}

type Found = (Failure, String, Option<Remedy>);

fn denied(cause: impl Into<String>, words: &'static str) -> Found {
    let is_needed = true;
    let remedy = Remedy { words, is_needed };
    (Failure::Denied, cause.into(), Some(remedy))
}

fn of_line(error: &io::Error) -> Found {
    use io::ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    #[cfg(feature = "db-tls")]
    if let Some((cause, remedy)) = super::tls::of_line(error) {
        return denied(cause, remedy);
    }
    if error.kind() == io::ErrorKind::NotADirectory {
        // The driver tried to open `NO_KEY`, see `connect`.
        let cause = "the account logs in by caching_sha2_password, whose password is not sent over an open line";
        return denied(cause, OPEN_LINE);
    }
    let cause = match error.kind() {
        WouldBlock | TimedOut => SILENT.to_owned(),
        UnexpectedEof | ConnectionReset => ENDED.to_owned(),
        _ => error.to_string(),
    };
    (Failure::Lost, cause, None)
}

fn of_plugin(name: &str) -> Found {
    let cause = format!("the account logs in by {name}, which this program does not know");
    denied(cause, PLUGIN)
}

fn of_driver(error: &DriverError) -> Found {
    match error {
        DriverError::ConnectTimeout => (Failure::Lost, SILENT.into(), None),
        DriverError::UnexpectedPacket | DriverError::PacketOutOfSync => {
            (Failure::Lost, ENDED.into(), None)
        }
        DriverError::CouldNotConnect(Some((address, why, _))) => {
            (Failure::Lost, format!("{address}: {why}"), None)
        }
        DriverError::UnknownAuthPlugin(name) => of_plugin(name),
        DriverError::OldMysqlPasswordDisabled | DriverError::CleartextPluginDisabled => denied(
            "the account's way to log in would send its password unprotected",
            PLUGIN,
        ),
        DriverError::TlsNotSupported => denied(
            "the server offers no encrypted line",
            "let the server have a certificate, or set DB_SSL_MODE=disabled",
        ),
        other => (Failure::Lost, other.to_string(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_number_and_its_class_mean() {
        use Failure::{Conflict, Denied, Lost, Refused, Stale, TooLarge, TookTooLong};
        // In a statement, and while connecting.
        for (code, state, writing, connecting) in [
            (1016, "HY000", Lost, Lost),
            (1020, "HY000", Conflict, Lost),
            (1021, "HY000", Lost, Lost),
            (1040, "08004", Lost, Lost),
            // Before the client has named its version, the server sends no class.
            (1040, "HY000", Lost, Lost),
            (1044, "42000", Denied, Denied),
            (1045, "28000", Denied, Denied),
            (1047, "08S01", Lost, Lost),
            (1049, "42000", Denied, Denied),
            (1053, "08S01", Lost, Lost),
            (1062, "23000", Refused, Denied),
            (1105, "HY000", Refused, Lost),
            (1114, "HY000", Lost, Lost),
            (1118, "42000", TooLarge, Denied),
            (1129, "HY000", Denied, Denied),
            (1130, "HY000", Denied, Denied),
            (1142, "42000", Refused, Denied),
            (1146, "42S02", Refused, Denied),
            (1153, "08S01", TooLarge, Denied),
            (1158, "08S01", Lost, Lost),
            (1184, "08S01", Lost, Lost),
            (1203, "42000", Lost, Lost),
            (1205, "HY000", Conflict, Lost),
            (1213, "40001", Conflict, Lost),
            (1226, "42000", Lost, Lost),
            (1231, "42000", Refused, Denied),
            (1264, "22003", Refused, Denied),
            (1290, "HY000", Lost, Lost),
            (1317, "70100", Conflict, Lost),
            (1366, "22007", Refused, Denied),
            (1406, "22001", TooLarge, Denied),
            (1452, "23000", Refused, Denied),
            (1615, "HY000", Stale, Lost),
            (1644, "45000", Refused, Denied),
            (1644, "40001", Conflict, Lost),
            (1698, "28000", Denied, Denied),
            (1792, "25006", Lost, Lost),
            (1836, "HY000", Lost, Lost),
            (1927, "70100", Stale, Lost),
            (1969, "70100", TookTooLong, Lost),
            (2006, "HY000", Lost, Lost),
            (3024, "HY000", TookTooLong, Lost),
            (3101, "40000", Conflict, Lost),
            (3572, "HY000", Conflict, Lost),
            (3819, "HY000", Refused, Denied),
            (3955, "HY000", Denied, Denied),
            (4025, "23000", Refused, Denied),
            (4031, "HY000", Stale, Lost),
            (9001, "Y0000", Lost, Lost),
            (9002, "28000", Denied, Denied),
            (7777, "08777", Lost, Lost),
            (7777, "28777", Denied, Denied),
            (7777, "40777", Conflict, Lost),
            (7777, "HY000", Refused, Denied),
        ] {
            let found = of_server(Doing::Writing, code, state);
            assert_eq!(found, writing, "{code} {state}");
            let found = of_server(Doing::Connecting, code, state);
            assert_eq!(found, connecting, "{code} {state} while connecting");
        }
    }

    #[test]
    fn a_way_to_log_in_that_the_driver_was_built_without_is_named() {
        let words =
            "Can't create response for `ed25519` authentication plugin — `a/feature` is disabled.";
        let error = panicked("connect", words);
        assert_eq!(error.failure, Failure::Denied);
        let cause = error.cause.to_string();
        assert!(cause.contains("by ed25519, which"), "{cause}");
        let error = panicked("connect", "called `Option::unwrap()` on a `None` value");
        assert_eq!(
            (error.failure, error.cause.to_string().as_str()),
            (Failure::Lost, UNKNOWN)
        );
    }

    #[test]
    fn what_the_documents_name_is_called_alike_whatever_was_asked() {
        for (doing, code, words) in [
            (
                Doing::Writing,
                1142,
                "(42000): the database user may not do this",
            ),
            (
                Doing::Asking,
                1142,
                "(42000): the database user may not do this: denied",
            ),
            (Doing::Connecting, 1142, "(42000): denied"),
            (Doing::Writing, 1290, "(42000): it is read only"),
            (Doing::Asking, 1290, "(42000): it is read only: denied"),
            (Doing::Writing, 1146, "(42000)"),
            (Doing::Asking, 1146, "(42000): denied"),
        ] {
            let error = MySqlError {
                state: "42000".to_owned(),
                message: "denied".to_owned(),
                code,
            };
            let expected = format!("ERROR {code} {words}");
            assert_eq!(super::words(&error, doing), expected);
        }
    }
}
