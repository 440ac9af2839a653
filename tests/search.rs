//! `chat.search` over the wire, and over a million messages.

use mysql::prelude::Queryable;

use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::{Database, Server};
use crate::support::seed;
use crate::support::ws::Client;

fn search(client: &mut Client, members: &str) -> Json {
    client.send(&format!(r#"{{"type":"chat.search","ref":1{members}}}"#));
    loop {
        let answer = client.next_json().expect("an answer");
        if answer.get("ref").is_some() {
            return answer;
        }
    }
}

fn bodies(answer: &Json) -> Vec<&str> {
    let messages = answer.need("messages").items().iter();
    messages
        .filter_map(|one| one.need("body_text").str())
        .collect()
}

#[test]
fn a_search_answers_what_may_be_read_and_refuses_the_rest() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let daemon = Daemon::start(&database, &Options::new().env("CHAT_WEBSOCKET_RATE", "0"));
    let mut bob = daemon.login(2).expect("login");
    for body in ["first needle", "second NEEDLE", "hay"] {
        bob.send(&format!(
            r#"{{"type":"chat.channel.message.send","channel_id":2,"body":"{body}"}}"#
        ));
        bob.until_type("chat.channel.message.created")
            .expect("stored");
    }
    let all = search(&mut bob, r#","query":"  needle ""#);
    assert_eq!(bodies(&all), ["second NEEDLE", "first needle"]);
    assert!(!all.need("has_more").is_true());
    assert_eq!(*all.need("next_before_id"), Json::Null);
    let page = search(&mut bob, r#","query":"needle","channel_id":2,"limit":1"#);
    assert_eq!(bodies(&page), ["second NEEDLE"]);
    let next = page.need("next_before_id").int().expect("an id");
    let rest = search(
        &mut bob,
        &format!(r#","query":"needle","before_id":{next}"#),
    );
    assert_eq!(bodies(&rest), ["first needle"]);
    let elsewhere = search(&mut bob, r#","query":"needle","channel_id":1"#);
    assert!(bodies(&elsewhere).is_empty());
    let others = search(&mut bob, r#","query":"needle","sender_agent_id":1"#);
    assert!(bodies(&others).is_empty());
    for (members, code) in [
        (r#","query":"x""#.to_owned(), "invalid_query"),
        (r#","query":"  x  ""#.to_owned(), "invalid_query"),
        (
            format!(r#","query":"{}""#, "x".repeat(101)),
            "invalid_query",
        ),
        (r#","query":7"#.to_owned(), "invalid_query"),
        (String::new(), "invalid_query"),
        (
            r#","query":"needle","channel_id":999"#.to_owned(),
            "no_channel_access",
        ),
        (
            r#","query":"needle","channel_id":4"#.to_owned(),
            "no_channel_access",
        ),
        (
            r#","query":"needle","thread_id":999"#.to_owned(),
            "no_thread_access",
        ),
        (
            r#","query":"needle","scope":"direct""#.to_owned(),
            "thread_id_required",
        ),
    ] {
        let refused = search(&mut bob, &members);
        assert_eq!(refused.need("code").str(), Some(code), "{members}");
    }
    let wide = search(&mut bob, &format!(r#","query":"{}""#, "é".repeat(100)));
    assert!(bodies(&wide).is_empty());
}

/// The rows that the server has read so far, by whatever way.
fn rows_read(server: &Server) -> u64 {
    let rows: Vec<(String, u64)> = server
        .admin()
        .query("SHOW GLOBAL STATUS WHERE Variable_name LIKE 'Handler_read%'")
        .expect("ask for counters");
    rows.into_iter().map(|(_, count)| count).sum()
}

#[test]
fn a_search_among_a_million_messages_looks_at_twenty_thousand() {
    needs!(MariaDb, Time);
    const MESSAGES: i64 = 1_000_000;
    const OUTSIDER: i64 = 77;
    let server = Server::own();
    let database = server.fresh();
    seed::reset(&mut database.conn());
    let insert = format!(
        "INSERT INTO chat_messages (message_scope, channel_id, sender_agent_id, body_text, body_rendered_html, \
         created_at) SELECT 'channel', 1 + seq % 2, 1 + seq % 2, CONCAT('message number ', seq, ' of a long talk'), \
         'x', NOW() FROM {} ORDER BY seq",
        seed::sequence(MESSAGES)
    );
    database.conn().query_drop(insert).expect("write a million");
    let outsider = format!(
        "INSERT INTO agents (id, name, email, password_hash) VALUES ({OUTSIDER}, 'Out', 'out@x.example', '')"
    );
    database.conn().query_drop(outsider).expect("add an agent");
    let daemon = Daemon::start(&database, &Options::new());
    let mut bob = daemon.login(2).expect("login");
    let mut outsider = daemon.login(OUTSIDER).expect("login");
    let ask = |asker: &mut Client, members: &str| {
        // The daemon looks for new and changed messages meanwhile, four times a second: the least is what the search reads.
        let mut least = u64::MAX;
        for _ in 0..5 {
            let before = rows_read(&server);
            let answer = search(asker, members);
            assert!(answer.need("has_more").is_true(), "{answer}");
            assert!(answer.need("next_before_id").int().is_some(), "{answer}");
            least = least.min(rows_read(&server) - before);
        }
        println!("{members}: {least} rows");
        assert!(least <= 20_000, "{members}: {least} rows");
    };
    for members in [
        r#","query":"number""#,
        r#","query":"not there""#,
        r#","query":"not there","channel_id":1"#,
        r#","query":"not there","sender_agent_id":1"#,
        r#","query":"not there","channel_id":1,"sender_agent_id":2"#,
        r#","query":"not there","channel_id":1,"before_id":1500000"#,
    ] {
        ask(&mut bob, members);
    }
    // All of them fit, and none may be read.
    ask(&mut outsider, r#","query":"number""#);
}
