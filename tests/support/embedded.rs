//! SQLite for tests: a file in a folder of its own, made by the program under test, and a connection beside it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use mysql::Value;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params_from_iter};

use super::daemon::{Daemon, Options};
use super::json::Json;
use super::mariadb::Database;
use super::reaper;
use super::sql::Sql;

/// One database; its folder goes with it.
pub struct File {
    dir: PathBuf,
}

impl File {
    /// A folder without a file yet.
    pub fn none() -> File {
        let dir = reaper::folder("sqlite");
        File { dir }
    }

    /// A database with the tables that a first start makes.
    pub fn fresh() -> File {
        let file = File::none();
        let mut daemon = Daemon::start(&File::server(), &file.options());
        assert!(daemon.stop().success(), "{}", daemon.report());
        file
    }

    pub fn path(&self) -> PathBuf {
        self.dir.join("chat.sqlite")
    }

    /// The server that a daemon on a file is told of: none.
    pub fn server() -> Database {
        Database {
            name: String::new(),
            user: "",
            password: "",
            host: "",
            port: 0,
            socket: PathBuf::new(),
        }
    }

    /// What a daemon on this file is started with.
    pub fn options(&self) -> Options {
        Options::new()
            .dotenv("DB_CONNECTION", "sqlite")
            .dotenv("DB_DATABASE", &self.path().display().to_string())
    }

    /// A connection of another program, which knows nothing of the service.
    pub fn conn(&self) -> Connection {
        let path = self.path();
        let conn =
            Connection::open(&path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
        let set = |name: &str, value: &str| {
            conn.pragma_update(None, name, value)
                .unwrap_or_else(|e| panic!("set {name}: {e}"));
        };
        set("foreign_keys", "ON");
        // What the tests put in need not survive a power failure.
        set("synchronous", "OFF");
        conn.busy_timeout(Duration::from_secs(20))
            .expect("set the busy timeout");
        conn
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Sql for Connection {
    fn run(&mut self, statement: &str, values: Vec<Value>) {
        let values = values.into_iter().map(|value| match value {
            Value::NULL => rusqlite::types::Value::Null,
            Value::Int(number) => number.into(),
            Value::Bytes(bytes) => String::from_utf8(bytes).expect("text is UTF-8").into(),
            other => panic!("no column holds {other:?}"),
        });
        let done = self.execute(statement, params_from_iter(values));
        done.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    fn select(&mut self, query: &str) -> Vec<Json> {
        let read = || {
            let mut statement = self.prepare(query)?;
            let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
            let rows = statement.query_map((), |row| {
                let cells = columns.iter().enumerate().map(|(place, column)| {
                    let value = match row.get_ref(place)? {
                        ValueRef::Null => Json::Null,
                        ValueRef::Integer(number) => number.into(),
                        other => other.as_str()?.into(),
                    };
                    Ok((column.clone(), value))
                });
                cells
                    .collect::<rusqlite::Result<Vec<_>>>()
                    .map(Json::Object)
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    fn clock(&mut self, seconds: i64) -> String {
        let query = format!("SELECT datetime('now', '{seconds} seconds')");
        self.query_row(&query, (), |row| row.get(0))
            .unwrap_or_else(|e| panic!("{query}: {e}"))
    }

    fn set_next_message_id(&mut self, id: u32) {
        Sql::run(
            self,
            "DELETE FROM sqlite_sequence WHERE name = 'chat_messages'",
            vec![],
        );
        Sql::run(
            self,
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('chat_messages', ?)",
            vec![Value::Int(i64::from(id) - 1)],
        );
    }
}
