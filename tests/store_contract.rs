//! The store's contract with the chat rules: one suite for both engines, MariaDB and SQLite. Without MariaDB only SQLite's
//! half runs, in a build without the embedded store only MariaDB's.

mod feed;
mod operations;
mod posting;
mod reading;
#[cfg(feature = "embedded")]
mod schema;
mod transactions;

use andrea_chat_websocket::config::{DatabaseConfig, TlsConfig};
use andrea_chat_websocket::model::{
    AgentId, ChannelId, Conversation, Message, MessageId, ThreadId,
};
use andrea_chat_websocket::store::mysql::MysqlStore;
use andrea_chat_websocket::store::{DatabaseConnection, Failure, NewMessage, Result, Store};
use mysql::prelude::Queryable;

use crate::support::json::Json;
use crate::support::mariadb::{Database, Server};
use crate::support::sql::Sql;
use crate::support::{rows, seed};

/// A store over freshly seeded rows, and a separate connection to the same database.
struct StoreFixture {
    store: Box<dyn Store>,
    sql: Box<dyn Sql>,
    /// Goes last: its folder goes with it.
    #[cfg(feature = "embedded")]
    _file: Option<crate::support::embedded::File>,
}

impl StoreFixture {
    fn mariadb() -> StoreFixture {
        StoreFixture::on(Database::fresh())
    }

    fn on(database: Database) -> StoreFixture {
        let config = DatabaseConfig {
            host: database.host.to_owned(),
            port: database.port,
            socket: None,
            name: database.name.clone(),
            user: database.user.to_owned(),
            password: database.password.to_owned(),
            charset: "utf8mb4".to_owned(),
            collation: "utf8mb4_unicode_ci".to_owned(),
            tls: TlsConfig::default(),
            server_key: None,
        };
        let mut sql = database.conn();
        seed::reset(&mut sql);
        StoreFixture {
            store: Box::new(MysqlStore::new(config)),
            sql: Box::new(sql),
            #[cfg(feature = "embedded")]
            _file: None,
        }
    }

    #[cfg(feature = "embedded")]
    fn sqlite() -> StoreFixture {
        use andrea_chat_websocket::store::sqlite::SqliteStore;
        let file = crate::support::embedded::File::none();
        let store = SqliteStore::new(file.path());
        store.connect().expect("create the tables");
        let mut sql = file.conn();
        seed::reset(&mut sql);
        StoreFixture {
            store: Box::new(store),
            sql: Box::new(sql),
            _file: Some(file),
        }
    }

    fn connect(&self) -> DatabaseConnection {
        self.store
            .connect()
            .unwrap_or_else(|e| panic!("{}: {e}", self.store.describe()))
    }

    fn insert(&mut self, table: &str, rows: &str) {
        seed::insert(self.sql.as_mut(), table, json(rows).items());
    }

    fn run(&mut self, statement: &str) {
        self.sql.run(statement, vec![]);
    }

    /// The rows of a query as JSON, one a line.
    fn rows(&mut self, query: &str) -> Vec<String> {
        let rows = rows::select(self.sql.as_mut(), query);
        rows.iter().map(Json::to_string).collect()
    }

    /// The one number that a query asks for.
    fn number(&mut self, query: &str) -> i64 {
        let rows = rows::select(self.sql.as_mut(), query);
        let (_, number) = &rows[0].entries()[0];
        number.int().unwrap_or_else(|| panic!("{query}: {number}"))
    }

    /// Inserts messages in a committed transaction and returns their ids.
    fn post(&self, messages: &[NewMessage]) -> Vec<MessageId> {
        let mut connection = self.connect();
        let posted = connection.begin().and_then(|()| {
            let ids = connection.insert_messages(messages)?;
            connection.commit()?;
            Ok(ids)
        });
        posted.expect("post messages")
    }

    /// Asserts that a time is now by the database's clock.
    fn assert_now(&mut self, time: &str) {
        let (from, to) = (self.sql.clock(-5), self.sql.clock(5));
        assert!(
            from.len() == time.len() && from.as_str() <= time && time <= to.as_str(),
            "{time:?} is not between {from} and {to}"
        );
    }
}

const GENERAL: Conversation = Conversation::Channel(ChannelId(1));
const QUIET: Conversation = Conversation::Channel(ChannelId(2));
const ANN_AND_BOB: Conversation = Conversation::Direct(ThreadId(1));
const ANN: AgentId = AgentId(1);
const BOB: AgentId = AgentId(2);
const CELIK: AgentId = AgentId(3);
/// In no row, and more than an engine with signed integers has room for.
const UNKNOWN_ID: u64 = u64::MAX;

fn message(conversation: Conversation, sender: AgentId, body: &str) -> NewMessage {
    NewMessage {
        conversation,
        sender,
        body_text: body.to_owned(),
        body_rendered_html: format!("<p>{body}</p>"),
        metadata_json: None,
        created_at: "2026-05-01 10:00:00".to_owned(),
    }
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn assert_refused<T: std::fmt::Debug>(result: Result<T>) {
    let error = result.expect_err("the database refuses this");
    let is_final = matches!(error.failure, Failure::Refused | Failure::TooLarge);
    assert!(is_final, "{error}");
}

macro_rules! on_both_engines {
    ($($module:ident { $($check:ident)* })*) => {
        mod on_mariadb {
            $($(
                #[test]
                fn $check() {
                    needs!(MariaDb);
                    super::$module::$check(&mut super::StoreFixture::mariadb());
                }
            )*)*
        }

        #[cfg(feature = "embedded")]
        mod on_sqlite {
            $($(
                #[test]
                fn $check() {
                    super::$module::$check(&mut super::StoreFixture::sqlite());
                }
            )*)*
        }
    };
}

on_both_engines! {
    reading {
        settings_are_read_as_they_are
        settings_are_updated_and_never_inserted
        an_agent_is_found_while_active
        an_audience_is_of_an_active_channel_or_a_thread
        a_marker_never_goes_back_nor_beyond_the_newest_message
        a_marker_is_touched_even_where_it_stays
        reading_deletes_the_notifications_of_that_conversation_alone
        a_marker_of_an_unknown_agent_is_refused
    }
    feed {
        the_newest_ids_come_in_order
        messages_come_whole_and_in_order
        changes_are_found_by_their_time
        a_search_finds_letters_whatever_their_case_and_nothing_else
        a_search_looks_at_so_many_rows_and_says_where_it_goes_on
        a_history_is_of_one_conversation_and_ends_before
        what_was_missed_is_what_may_be_seen
        many_are_read_to_the_last
        no_more_is_read_than_there_is_room_for
        what_is_unread_is_counted_from_the_marker
        of_very_many_messages_the_newest_are_looked_at
        recent_messages_with_metadata_are_found
    }
    posting {
        a_context_tells_all_that_posting_asks
        a_context_of_nothing_holds_only_the_clock
        handles_are_equal_without_case_and_accents
        tickets_are_found_by_id_and_by_number_unless_deleted
        preferences_come_as_they_are
        a_batch_gets_ascending_ids_in_its_order
        text_is_stored_to_the_last_byte_and_no_longer
        mentions_are_written_once
        a_thread_is_touched_alone
        a_notification_is_written_once
    }
    operations {
        a_change_of_settings_and_its_audit_row_are_one
        channels_say_how_long_they_keep
        old_messages_are_found_part_by_part_and_marked_once
        a_time_in_the_past_is_by_the_databases_clock
        a_look_finds_tables_rights_and_clock_in_order
    }
    transactions {
        what_is_committed_is_there_when_opened_again
        what_is_rolled_back_was_never_there
        what_a_lost_connection_left_open_was_never_there
        a_refused_statement_leaves_the_rest_as_it_is
        the_committed_are_told_from_the_lost
        a_question_about_an_open_transaction_waits_for_its_end
        several_connections_post_at_once
        a_lock_that_is_held_too_long_is_a_conflict
        what_has_read_may_still_write
        a_reader_waits_for_no_writer
    }
}

/// Messages above an id that are not deleted, as the tail finds them.
fn above(connection: &mut DatabaseConnection, id: MessageId, most: usize) -> Vec<Message> {
    let ids = connection.ids_above(id, 1000).expect("ask for ids");
    assert!(ids.is_sorted());
    let mut messages = connection.messages(&ids).expect("ask for messages");
    messages.retain(|one| one.deleted_at.is_none());
    messages.truncate(most);
    messages
}

/// As on one of several servers that write the same tables.
#[test]
fn ids_that_the_server_hands_out_in_steps_are_those_of_their_messages() {
    needs!(MariaDb);
    let server = Server::own();
    server
        .admin()
        .query_drop("SET GLOBAL auto_increment_increment = 3")
        .expect("set the step");
    let mut fixture = StoreFixture::on(server.fresh());
    let batch = ["one", "two", "three"].map(|body| message(GENERAL, ANN, body));
    let ids = fixture.post(&batch);
    assert_eq!(ids[2].0 - ids[0].0, 6, "{ids:?}");
    let rows = fixture.rows("SELECT id, body_text FROM chat_messages ORDER BY id");
    let told = ids.iter().zip(["one", "two", "three"]);
    let told: Vec<_> = told
        .map(|(id, body)| format!(r#"{{"id":{id},"body_text":"{body}"}}"#))
        .collect();
    assert_eq!(rows, told);
}
