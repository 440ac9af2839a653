//! A push service and the browsers that subscribed at it (`tests/clients/push_service.py`), and the rows that make an
//! install push to them.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mysql::prelude::Queryable;
use mysql::{Conn, params};
use sha2::{Digest, Sha256};

use super::daemon::Options;
use super::json::Json;
use super::needs::{self, Need};
use super::{jwt, reaper, wait};

pub const SUBJECT: &str = "mailto:admin@example.test";

/// A running push service; killed when dropped.
pub struct PushService {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    start: Json,
}

/// A push as the service got it.
#[derive(Clone, Debug)]
pub struct Push {
    /// Of the subscription.
    pub name: String,
    /// Seconds, by a clock of the service's own.
    pub at: f64,
    /// What tells connections apart.
    pub connection: i64,
    pub headers: Json,
    /// Public key, subject and token, once it is verified.
    pub vapid: Json,
    /// What it said, once it is decrypted.
    pub payload: Json,
}

impl PushService {
    pub fn start() -> PushService {
        let folder = reaper::folder("push-service");
        needs::demand(Need::PythonPackages);
        let python = needs::python_with_packages().expect("what is not missing is somewhere");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/push_service.py");
        let mut child = Command::new(&python)
            .arg(script)
            .arg(&folder)
            .arg(jwt::SECRET)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUTF8", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", python.display()));
        reaper::watch(&child);
        let orders = child.stdin.take().expect("stdin is a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let line = answers.next().expect("the service starts").expect("UTF-8");
        PushService {
            child,
            orders,
            answers,
            start: Json::parse(&line).expect("JSON"),
        }
    }

    fn order(&mut self, order: &Json) -> Json {
        writeln!(self.orders, "{order}").expect("tell the push service");
        let line = self.answers.next().expect("an answer").expect("UTF-8");
        Json::parse(&line).expect("JSON")
    }

    fn started(&self, key: &str) -> &str {
        self.start.need(key).str().expect("a text")
    }

    /// The file with the certificate of its authority.
    pub fn authority(&self) -> &str {
        self.started("authority")
    }

    /// Where it listens.
    pub fn port(&self) -> i64 {
        self.start.need("port").int().expect("a port")
    }

    /// The port that no client may call.
    pub fn trap(&self) -> i64 {
        self.start.need("trap").int().expect("a port")
    }

    /// How often that port was called.
    pub fn trapped(&mut self) -> i64 {
        let answer = self.order(&Json::object([("do", "trapped".into())]));
        answer.need("trapped").int().expect("a number")
    }

    /// A key of the install's pair: `public`, `private` or `encrypted`.
    pub fn key(&self, kind: &str) -> &str {
        self.start.need("keys").need(kind).str().expect("a key")
    }

    /// The URL of a subscription.
    pub fn endpoint(&self, name: &str) -> String {
        format!("https://localhost:{}/push/{name}", self.port())
    }

    /// What a daemon needs to know to reach it.
    pub fn options(&self) -> Options {
        Options::new()
            .env(
                "CHAT_WEBSOCKET_PUSH_ALLOW",
                &format!("localhost:{}", self.port()),
            )
            .env("CHAT_WEBSOCKET_PUSH_CA", self.authority())
    }

    /// Puts the install's keys into its settings, the private one as it is stored.
    pub fn give_keys(&self, conn: &mut Conn, private: &str) {
        for (key, value) in [
            ("push_vapid_public_key", self.key("public")),
            ("push_vapid_private_key", private),
            ("push_vapid_subject", SUBJECT),
        ] {
            super::seed::set(conn, key, &value.into());
        }
    }

    /// A browser of this agent subscribes.
    pub fn subscribe(&mut self, conn: &mut Conn, agent: i64, name: &str, encoding: &str) {
        let endpoint = self.endpoint(name);
        self.subscribe_at(conn, agent, name, encoding, &endpoint);
    }

    /// The same, with another endpoint than that of the service.
    pub fn subscribe_at(
        &mut self,
        conn: &mut Conn,
        agent: i64,
        name: &str,
        encoding: &str,
        endpoint: &str,
    ) {
        let keys = self.order(&Json::object([
            ("do", "subscribe".into()),
            ("name", name.into()),
            ("encoding", encoding.into()),
        ]));
        let hash = Sha256::digest(endpoint.as_bytes());
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        conn.exec_drop(
            "INSERT INTO agent_push_subscriptions (agent_id, endpoint, endpoint_hash, p256dh, auth, content_encoding) \
             VALUES (:agent, :endpoint, :hash, :p256dh, :auth, :encoding)",
            params! {
                "agent" => agent,
                "endpoint" => endpoint,
                "hash" => hash,
                "p256dh" => keys.need("p256dh").str(),
                "auth" => keys.need("auth").str(),
                "encoding" => encoding,
            },
        )
        .expect("insert a subscription");
    }

    /// What the next pushes of a subscription are answered, as a JSON list; the last answer stays.
    pub fn answer(&mut self, name: &str, answers: &str) {
        self.order(&Json::object([
            ("do", "answer".into()),
            ("name", name.into()),
            ("with", Json::parse(answers).expect("JSON")),
        ]));
    }

    /// All pushes so far. Each was decrypted and verified, or the test ends here.
    pub fn pushes(&mut self) -> Vec<Push> {
        let answer = self.order(&Json::object([("do", "pushes".into())]));
        let pushes = answer.need("pushes").items();
        pushes.iter().map(Push::of).collect()
    }

    /// The pushes, once there are so many.
    pub fn await_pushes(&mut self, count: usize) -> Vec<Push> {
        let pushes = wait::until(wait::LIMIT, || {
            let pushes = self.pushes();
            (pushes.len() >= count).then_some(pushes)
        });
        pushes.unwrap_or_else(|| panic!("only {:?} came, not {count}", self.pushes()))
    }
}

impl Push {
    fn of(json: &Json) -> Push {
        if let Some(fault) = json.get("fault") {
            panic!("a push that cannot be read: {fault} in {json}");
        }
        let at = match json.need("at") {
            Json::Number(digits) => digits.parse().expect("a number"),
            other => panic!("no time: {other}"),
        };
        Push {
            name: json.need("name").str().expect("a name").to_owned(),
            at,
            connection: json.need("connection").int().expect("a number"),
            headers: json.need("headers").clone(),
            vapid: json.need("vapid").clone(),
            payload: json.need("payload").clone(),
        }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Json::str)
    }

    pub fn text(&self, key: &str) -> &str {
        self.payload.need(key).str().expect("a text")
    }
}

impl Drop for PushService {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        reaper::forget(&self.child);
    }
}
