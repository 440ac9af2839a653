//! The tests' access to a database of either engine: statements with `?` for values, rows as JSON, and the few expressions
//! that differ between engines.

use mysql::consts::ColumnType;
use mysql::prelude::Queryable;
use mysql::{Conn, Row, Value};

use super::json::Json;

/// A connection. A failure is a broken recording or a broken harness, so every method panics on it.
pub trait Sql {
    /// Runs a statement.
    fn run(&mut self, statement: &str, values: Vec<Value>);

    /// The rows of a query, each an object with its columns in order: whole numbers as numbers, all else as text.
    fn select(&mut self, query: &str) -> Vec<Json>;

    /// The database's clock so many seconds from now.
    fn clock(&mut self, seconds: i64) -> String;

    /// Makes the next row of `chat_messages` get this id.
    fn set_next_message_id(&mut self, id: u32);
}

impl Sql for Conn {
    fn run(&mut self, statement: &str, values: Vec<Value>) {
        let done = if values.is_empty() {
            self.query_drop(statement)
        } else {
            self.exec_drop(statement, values)
        };
        done.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    fn select(&mut self, query: &str) -> Vec<Json> {
        let rows: Vec<Row> = self.query(query).unwrap_or_else(|e| panic!("{query}: {e}"));
        rows.into_iter().map(row_to_json).collect()
    }

    fn clock(&mut self, seconds: i64) -> String {
        let query = format!("SELECT CAST(NOW() + INTERVAL {seconds} SECOND AS CHAR)");
        let time: Option<String> = self
            .query_first(&query)
            .unwrap_or_else(|e| panic!("{query}: {e}"));
        time.expect("the database has a clock")
    }

    fn set_next_message_id(&mut self, id: u32) {
        Sql::run(
            self,
            &format!("ALTER TABLE chat_messages AUTO_INCREMENT = {id}"),
            vec![],
        );
    }
}

fn row_to_json(row: Row) -> Json {
    let columns = row.columns();
    let cells = columns.iter().zip(row.unwrap_raw()).map(|(column, value)| {
        let value = match value {
            None | Some(Value::NULL) => Json::Null,
            Some(Value::Bytes(bytes)) => {
                let text = String::from_utf8(bytes).expect("the database sends UTF-8");
                if is_integer(column.column_type()) {
                    Json::Number(text)
                } else {
                    Json::String(text)
                }
            }
            Some(other) => panic!("the text protocol sends text, not {other:?}"),
        };
        (column.name_str().into_owned(), value)
    });
    Json::Object(cells.collect())
}

fn is_integer(kind: ColumnType) -> bool {
    matches!(
        kind,
        ColumnType::MYSQL_TYPE_TINY
            | ColumnType::MYSQL_TYPE_SHORT
            | ColumnType::MYSQL_TYPE_INT24
            | ColumnType::MYSQL_TYPE_LONG
            | ColumnType::MYSQL_TYPE_LONGLONG
    )
}
