//! Plays one recorded scenario of WebSocket events against a fresh daemon on freshly seeded rows.

use std::time::Duration;

use super::daemon::{Daemon, Options};
use super::expect::Known;
use super::fixtures;
use super::json::Json;
use super::mariadb::Database;
use super::outcome::{Observed, Wanted};
use super::sql::Sql;
use super::ws::{Client, FrameSpec, TEXT};
use super::{jwt, rows, seed, wait};

/// A database of one's own, used for one scenario after the other.
pub struct Stage {
    database: Database,
    options: Options,
    conn: Box<dyn Sql>,
    #[cfg(feature = "embedded")]
    _file: Option<super::embedded::File>,
}

impl Stage {
    pub fn new() -> Stage {
        let database = Database::fresh();
        Stage {
            conn: Box::new(database.conn()),
            database,
            options: Options::new(),
            #[cfg(feature = "embedded")]
            _file: None,
        }
    }

    /// The same on an SQLite file.
    #[cfg(feature = "embedded")]
    pub fn embedded() -> Stage {
        use super::embedded::File;
        let file = File::fresh();
        Stage {
            database: File::server(),
            options: file.options(),
            conn: Box::new(file.conn()),
            _file: Some(file),
        }
    }
}

impl Stage {
    /// For what no engine matters to: SQLite, which needs no server; MariaDB for a daemon that may not know SQLite.
    pub fn of_any_engine() -> Stage {
        #[cfg(feature = "embedded")]
        if super::daemon::foreign().is_none() || std::env::var_os("ANDREA_TEST_SQLITE").is_some() {
            return Stage::embedded();
        }
        Stage::new()
    }

    /// A daemon on the rows of the seed.
    pub fn start(&mut self, more: impl FnOnce(Options) -> Options) -> Daemon {
        seed::reset(self.conn.as_mut());
        Daemon::start(&self.database, &more(self.options.clone()))
    }
}

/// A client of the scenario.
struct Peer {
    name: String,
    agent_id: Option<i64>,
    /// None once the connection is gone.
    client: Option<Client>,
}

struct Play<'a> {
    scenario: &'a Json,
    conn: &'a mut dyn Sql,
    daemon: Daemon,
    peers: Vec<Peer>,
    known: Known,
}

/// Plays a scenario; the complaint says what differed, step and all.
pub fn play(stage: &mut Stage, scenario: &Json) -> Result<(), String> {
    let conn = stage.conn.as_mut();
    seed::reset(conn);
    let known = prepare(conn, scenario)?;
    let options = stage
        .options
        .clone()
        .env("CHAT_WEBSOCKET_TYPING_INTERVAL", "0")
        .env("CHAT_WEBSOCKET_RATE", "0")
        // A slow machine must not make an agent go offline in the middle of a scenario.
        .env("CHAT_WEBSOCKET_PRESENCE_GRACE", "60");
    let daemon = Daemon::try_start(&stage.database, &options)?;
    let mut play = Play {
        scenario,
        conn,
        daemon,
        peers: Vec::new(),
        known,
    };
    play.run().map_err(|complaint| {
        let stderr = play.daemon.stderr();
        if stderr.is_empty() {
            complaint
        } else {
            format!("{complaint}\n      stderr: {stderr}")
        }
    })
}

/// The scenario's own changes to the seed, and the ids that its placeholders count from.
fn prepare(conn: &mut dyn Sql, scenario: &Json) -> Result<Known, String> {
    for (key, value) in scenario
        .get("settings")
        .map(Json::entries)
        .unwrap_or_default()
    {
        seed::set(conn, key, value);
    }
    for change in scenario.get("rows").map(Json::items).unwrap_or_default() {
        seed::apply(conn, change);
    }
    let mut known = Known::default();
    let kinds = [
        ("msg", "chat_messages"),
        ("note", "agent_notifications"),
        ("read", "chat_message_reads"),
    ];
    for (kind, table) in kinds {
        let rows = rows::select(conn, &format!("SELECT id FROM {table} ORDER BY id"));
        for (place, row) in rows.iter().enumerate() {
            let placeholder = format!("{kind}:{}", place + 1);
            known.bind(&placeholder, &row.need("id").to_string())?;
        }
    }
    known.db_now.0 = conn.clock(-2);
    known.unix_now.0 = jwt::unix_now() - 2;
    Ok(known)
}

impl Play<'_> {
    fn run(&mut self) -> Result<(), String> {
        self.connect_clients()
            .map_err(|e| format!("      before step 0: {e}"))?;
        let steps = self.scenario.need("steps").items();
        for (place, step) in steps.iter().enumerate() {
            let expected = self.scenario.get("expected");
            let expected = expected.and_then(|e| e.get(&place.to_string()));
            let wanted = Wanted::new(step, expected);
            self.step(step, &wanted)
                .map_err(|e| format!("      step {place}, {}:\n        {e}", describe(step)))?;
        }
        self.check_life()
            .map_err(|e| format!("      at the end: {e}"))
    }

    fn connect_clients(&mut self) -> Result<(), String> {
        for client in self.scenario.need("clients").items() {
            let agent_id = client.need("authenticated_as").int();
            let name = client.need("name").str().expect("a client has a name");
            self.connect(name, agent_id)?;
        }
        // What came until here is not part of the scenario.
        for place in 0..self.peers.len() {
            self.drain(place, &mut Observed::default())?;
        }
        Ok(())
    }

    fn connect(&mut self, name: &str, agent_id: Option<i64>) -> Result<(), String> {
        let mut client = self
            .daemon
            .connect()
            .map_err(|e| format!("{name}: {e:?}"))?;
        if let Some(agent_id) = agent_id {
            client
                .auth(agent_id)
                .map_err(|e| format!("{name}: {e:?}"))?;
        }
        let peer = Peer {
            name: name.to_owned(),
            agent_id,
            client: Some(client),
        };
        match self.peers.iter_mut().find(|p| p.name == name) {
            Some(old) => *old = peer,
            None => self.peers.push(peer),
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        let place = self.peers.iter().position(|p| p.name == name);
        place.ok_or(format!("no client {name}"))
    }

    fn is_stuck(&self, name: &str) -> bool {
        let expected = self.scenario.get("expected");
        let stuck = expected.and_then(|e| e.get("stuck")).map(Json::items);
        stuck
            .unwrap_or_default()
            .iter()
            .any(|s| s.str() == Some(name))
    }

    fn step(&mut self, step: &Json, wanted: &Wanted<'_>) -> Result<(), String> {
        // Far back, so that a touch within the same second shows as a change.
        for (table, column) in [
            ("chat_threads", "last_message_at"),
            ("chat_message_reads", "last_read_at"),
        ] {
            let statement = format!("UPDATE {table} SET {column} = '2001-01-01 00:00:00'");
            seed::run(self.conn, &statement, vec![]);
        }
        for change in step.get("db").map(Json::items).unwrap_or_default() {
            seed::apply(self.conn, change);
        }
        let before = rows::snapshot(self.conn);
        let actor = self.act(step, wanted)?;
        let mut observed = self.observe(actor, wanted)?;
        observed.changes = rows::diff(&before, &rows::snapshot(self.conn));
        self.known.db_now.1 = self.conn.clock(2);
        self.known.unix_now.1 = jwt::unix_now() + 2;
        let name = actor.map(|place| self.peers[place].name.clone());
        wanted
            .judge(name.as_deref(), &observed, &mut self.known)
            .map_err(|e| format!("{e}{observed}"))?;
        if let (Some(name), true) = (name, wanted.reopens()) {
            let agent_id = self.peers[self.place(&name)?].agent_id;
            self.connect(&name, agent_id)?;
        }
        Ok(())
    }

    /// Does what the step says, and returns the client that did it.
    fn act(&mut self, step: &Json, wanted: &Wanted<'_>) -> Result<Option<usize>, String> {
        if let Some(name) = step.get("connect").and_then(Json::str) {
            self.connect(name, None)?;
            return self.place(name).map(Some);
        }
        if let Some(name) = step.get("close").and_then(Json::str) {
            let place = self.place(name)?;
            self.peers[place].client = None;
            return Ok(None);
        }
        for pause in ["sleep", "wait"] {
            if let Some(Json::Number(seconds)) = wanted.member(pause) {
                let seconds = seconds.parse().expect("a number of seconds");
                wait::pass(Duration::from_secs_f64(seconds));
            }
        }
        let Some(name) = step.get("client").and_then(Json::str) else {
            return Ok(None);
        };
        let place = self.place(name)?;
        let writes = self.writes(step)?;
        if let Some(client) = &mut self.peers[place].client {
            for (count, bytes) in writes.iter().enumerate() {
                if count > 0 {
                    // The recording's own distance between the two halves of a frame.
                    wait::pass(Duration::from_millis(150));
                }
                client.write(bytes);
            }
        }
        Ok(Some(place))
    }

    /// The bytes of the step, one piece a write.
    fn writes(&self, step: &Json) -> Result<Vec<Vec<u8>>, String> {
        let hex = |word| step.get(word).and_then(Json::str).map(fixtures::from_hex);
        if let Some(bytes) = hex("bytes_hex") {
            return Ok(vec![bytes]);
        }
        let mut bytes = Vec::new();
        match step.get("packet") {
            Some(frames) => {
                for frame in frames.items() {
                    bytes.extend(self.frame(frame)?.encode());
                }
            }
            None => bytes = self.frame(step)?.encode(),
        }
        bytes.extend(hex("then_bytes_hex").unwrap_or_default());
        let split = step.get("split_at").and_then(Json::int);
        Ok(match split.and_then(|at| usize::try_from(at).ok()) {
            Some(at) => vec![bytes[..at].to_vec(), bytes[at..].to_vec()],
            None => vec![bytes],
        })
    }

    fn frame(&self, step: &Json) -> Result<FrameSpec, String> {
        let payload = if let Some(event) = step.get("send") {
            self.known.resolve(event)?.to_string().into_bytes()
        } else if let Some(text) = step.get("text").and_then(Json::str) {
            text.as_bytes().to_vec()
        } else if let Some(hex) = step.get("hex").and_then(Json::str) {
            fixtures::from_hex(hex)
        } else if let Some(body) = step.get("body_of") {
            let unit = body.need("char").str().expect("a character to repeat");
            let times = body
                .need("times")
                .int()
                .and_then(|n| usize::try_from(n).ok());
            let event = Json::object([
                ("type", "chat.channel.message.send".into()),
                ("channel_id", 1.into()),
                ("body", unit.repeat(times.expect("how often")).into()),
            ]);
            event.to_string().into_bytes()
        } else {
            return Err(format!("unknown action: {}", describe(step)));
        };
        let number = |word: &str| match step.get(word) {
            Some(Json::Number(digits)) => digits.parse::<u64>().ok(),
            _ => None,
        };
        let small = |word: &str| number(word).and_then(|n| u8::try_from(n).ok());
        let is_false = |word: &str| step.get(word) == Some(&Json::Bool(false));
        let mut frame = FrameSpec::new(small("opcode").unwrap_or(TEXT), payload);
        frame.fin = !is_false("fin");
        frame.mask = !is_false("mask");
        frame.rsv = small("rsv").unwrap_or(0);
        frame.length_form = small("length_form");
        frame.claimed_length = number("claimed_length");
        Ok(frame)
    }

    /// Gathers what everybody received. The acting client comes first: once it has its answer, what its event
    /// caused has been handed to the others.
    fn observe(&mut self, actor: Option<usize>, wanted: &Wanted<'_>) -> Result<Observed, String> {
        let mut observed = Observed::default();
        if let Some(place) = actor {
            self.observe_actor(place, wanted, &mut observed)?;
        }
        for place in 0..self.peers.len() {
            if Some(place) != actor && !self.is_stuck(&self.peers[place].name) {
                self.drain(place, &mut observed)?;
            }
        }
        Ok(observed)
    }

    fn observe_actor(
        &mut self,
        place: usize,
        wanted: &Wanted<'_>,
        observed: &mut Observed,
    ) -> Result<(), String> {
        let name = self.peers[place].name.clone();
        if wanted.forbids_barrier() {
            let count = wanted.least_frames(&name);
            return self.take_frames(place, count, observed);
        }
        if !wanted.ends(&name) {
            return self.drain(place, observed);
        }
        let peer = &mut self.peers[place];
        if let Some(client) = &mut peer.client {
            let (frames, closed) = client.until_end().map_err(|e| format!("{name}: {e:?}"))?;
            observed.received.insert(name.clone(), frames);
            observed.closed.insert(name, closed);
            peer.client = None;
        }
        Ok(())
    }

    /// Takes just so many frames, where no barrier can show that there are no more.
    fn take_frames(
        &mut self,
        place: usize,
        count: usize,
        observed: &mut Observed,
    ) -> Result<(), String> {
        use super::ws::Event;
        let peer = &mut self.peers[place];
        let Some(client) = &mut peer.client else {
            return Ok(());
        };
        let mut frames = Vec::new();
        while frames.len() < count {
            match client.next().map_err(|e| format!("{}: {e:?}", peer.name))? {
                Event::Frame(frame) => frames.push(frame),
                Event::End => {
                    observed.closed.insert(peer.name.clone(), None);
                    peer.client = None;
                    break;
                }
            }
        }
        observed.received.insert(peer.name.clone(), frames);
        Ok(())
    }

    /// Takes everything that a client has been sent up to now.
    fn drain(&mut self, place: usize, observed: &mut Observed) -> Result<(), String> {
        let peer = &mut self.peers[place];
        let Some(client) = &mut peer.client else {
            return Ok(());
        };
        let (frames, closed) = client
            .ping_barrier()
            .map_err(|e| format!("{}: {e:?}", peer.name))?;
        observed.received.insert(peer.name.clone(), frames);
        if let Some(closed) = closed {
            observed.closed.insert(peer.name.clone(), closed);
            peer.client = None;
        }
        Ok(())
    }

    /// Whatever a scenario did, the daemon lives and serves the next client.
    fn check_life(&mut self) -> Result<(), String> {
        let mut client = self.daemon.connect().map_err(|e| format!("{e:?}"))?;
        let answer = client.ping_barrier().map_err(|e| format!("{e:?}"))?;
        if let (_, Some(closed)) = answer {
            return Err(format!(
                "a new client is disconnected (close code {closed:?})"
            ));
        }
        self.daemon.check_life()
    }
}

/// The action of a step, for a reader.
fn describe(step: &Json) -> String {
    let after = ["received", "rows_changed", "process", "stderr_says"];
    let action = step
        .entries()
        .iter()
        .filter(|(key, _)| !after.contains(&key.as_str()));
    let text = Json::Object(action.cloned().collect()).to_string();
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
