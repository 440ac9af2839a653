//! Chat participants, each over its own socket: what they sent and received, and whether the database agrees with them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use mysql::Conn;

use super::json::Json;
use super::rows;
use super::wait;
use super::ws::{Client, Closed, Event, Frame, Outcome};

/// The code of the error for an unknown outcome.
const UNKNOWN: &str = "outcome_unknown";

/// A conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Channel(i64),
    Direct(i64),
}

impl Place {
    fn of(message: &Json) -> Place {
        match message.need("channel_id").int() {
            Some(id) => Place::Channel(id),
            None => Place::Direct(message.need("thread_id").int().expect("a thread")),
        }
    }

    /// The event that posts this body here.
    pub fn event(self, body: &str, reference: &str) -> String {
        let (kind, key, id) = match self {
            Place::Channel(id) => ("chat.channel.message.send", "channel_id", id),
            Place::Direct(id) => ("chat.direct.message.send", "thread_id", id),
        };
        Json::object([
            ("type", kind.into()),
            (key, id.into()),
            ("body", body.into()),
            ("ref", reference.into()),
        ])
        .to_string()
    }
}

/// Where an agent of the seed may post: agents 1 and 2 are in both channels and the first thread, agents 2 and 3 in the
/// other one.
pub fn places_of(agent_id: i64) -> &'static [Place] {
    use Place::{Channel, Direct};
    match agent_id {
        1 => &[Channel(1), Channel(2), Direct(1)],
        2 => &[Channel(1), Channel(2), Direct(1), Direct(3)],
        3 => &[Channel(1), Direct(3)],
        _ => &[Channel(1)],
    }
}

/// A message as a socket or the table shows it.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub id: i64,
    pub place: Place,
    pub sender: i64,
    pub body: String,
}

impl fmt::Debug for Message {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.body.chars().take(60).collect();
        write!(
            out,
            "{} by {} in {:?}: {start:?}",
            self.id, self.sender, self.place
        )
    }
}

impl Message {
    fn of(row: &Json) -> Message {
        let int = |key| row.need(key).int().expect("a number");
        Message {
            id: int("id"),
            place: Place::of(row),
            sender: int("sender_agent_id"),
            body: row.need("body_text").str().expect("a body").to_owned(),
        }
    }
}

/// How the daemon answered a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Stored(i64),
    /// The `code` of the error.
    Refused(String),
}

pub struct Sent {
    pub place: Place,
    pub body: String,
    reference: String,
    pub answer: Option<Answer>,
    /// The answer was at first that the outcome is unknown.
    pub was_unknown: bool,
}

/// An agent with a socket.
pub struct Participant {
    pub agent_id: i64,
    pub client: Client,
    /// Every message received, in order.
    pub heard: Vec<Message>,
    pub sent: Vec<Sent>,
    /// How the connection ended, once it has.
    pub ended: Option<Closed>,
    /// The newest message at the time of the login; the socket receives those after it.
    pub since: i64,
    name: u32,
}

impl Participant {
    pub fn login(port: u16, agent_id: i64) -> Outcome<Participant> {
        // An agent's repeated `ref` marks a repeated message, also on another socket.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut client = Client::connect(port)?;
        let welcome = client.auth(agent_id)?;
        Ok(Participant {
            agent_id,
            client,
            since: welcome.need("last_id").int().expect("a number"),
            heard: Vec::new(),
            sent: Vec::new(),
            ended: None,
            name: COUNT.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// Sends a message and waits for nothing.
    pub fn say(&mut self, place: Place, body: &str) {
        let reference = format!("participant {}, {}", self.name, self.sent.len());
        self.client.send(&place.event(body, &reference));
        self.sent.push(Sent {
            place,
            body: body.to_owned(),
            reference,
            answer: None,
            was_unknown: false,
        });
    }

    /// Sends this many messages with distinct bodies, all in one write.
    pub fn say_many(&mut self, place: Place, count: usize) {
        let mut packet = Vec::new();
        for _ in 0..count {
            let number = self.sent.len();
            let reference = format!("participant {}, {number}", self.name);
            let body = self.body();
            let event = place.event(&body, &reference);
            packet.extend(super::ws::FrameSpec::text(&event).encode());
            self.sent.push(Sent {
                place,
                body,
                reference,
                answer: None,
                was_unknown: false,
            });
        }
        self.client.write(&packet);
    }

    /// Sends the messages of another participant again, under the same references.
    pub fn say_again(&mut self, other: &Participant) {
        for sent in &other.sent {
            self.client
                .send(&sent.place.event(&sent.body, &sent.reference));
            self.sent.push(Sent {
                place: sent.place,
                body: sent.body.clone(),
                reference: sent.reference.clone(),
                answer: None,
                was_unknown: false,
            });
        }
    }

    /// A body that no other message has.
    pub fn body(&self) -> String {
        format!("participant {} says {}", self.name, self.sent.len())
    }

    /// Sends one message and waits for its answer; none if the connection ends first.
    pub fn ask(&mut self, place: Place) -> Outcome<Option<Answer>> {
        let body = self.body();
        self.say(place, &body);
        self.await_answers()?;
        Ok(self.sent.last().expect("just sent").answer.clone())
    }

    /// Reads until everything sent is answered, or the connection has ended.
    pub fn await_answers(&mut self) -> Outcome<()> {
        while self.ended.is_none() && self.sent.iter().any(|sent| sent.answer.is_none()) {
            self.hear()?;
        }
        Ok(())
    }

    /// Reads until this many messages have arrived, or the connection has ended.
    pub fn await_heard(&mut self, count: usize) -> Outcome<()> {
        while self.ended.is_none() && self.heard.len() < count {
            self.hear()?;
        }
        Ok(())
    }

    /// Reads until a message with this id or a later one has arrived, or the connection has ended.
    pub fn await_id(&mut self, id: i64) -> Outcome<()> {
        while self.ended.is_none() && self.heard.last().is_none_or(|last| last.id < id) {
            self.hear()?;
        }
        Ok(())
    }

    /// Reads until the connection has ended.
    pub fn await_end(&mut self) -> Outcome<Closed> {
        while self.ended.is_none() {
            self.hear()?;
        }
        Ok(self.ended.expect("just ended"))
    }

    /// Reads everything that the daemon had queued for this socket at the time of the call.
    pub fn catch_up(&mut self) -> Outcome<()> {
        let (frames, ended) = self.client.ping_barrier()?;
        for frame in frames {
            self.note(&frame);
        }
        self.ended = self.ended.or(ended);
        Ok(())
    }

    fn hear(&mut self) -> Outcome<()> {
        match self.client.next()? {
            Event::Frame(frame) => {
                if let Some(code) = frame.close_code() {
                    self.client.finish_writing();
                    self.ended = Some(Some(code));
                }
                self.note(&frame);
            }
            Event::End => self.ended = self.ended.or(Some(None)),
        }
        Ok(())
    }

    fn note(&mut self, frame: &Frame) {
        let Some(event) = frame.json() else {
            return;
        };
        let answer = match event.need("type").str() {
            Some("chat.channel.message.created" | "chat.direct.message.created") => {
                let message = Message::of(event.need("message"));
                let id = message.id;
                self.heard.push(message);
                Answer::Stored(id)
            }
            Some("error") => Answer::Refused(event.need("code").str().expect("a code").to_owned()),
            _ => return,
        };
        let Some(reference) = event.get("ref").and_then(Json::str) else {
            return;
        };
        let sent = self.sent.iter_mut().find(|s| s.reference == reference);
        let sent = sent.expect("an answer to something sent");
        sent.was_unknown |= answer == Answer::Refused(UNKNOWN.to_owned());
        sent.answer = Some(answer);
    }
}

/// All messages of the table, by id.
pub fn stored(conn: &mut Conn) -> BTreeMap<i64, Message> {
    stored_above(conn, 0)
}

/// Those with an id above this one.
pub fn stored_above(conn: &mut Conn, id: i64) -> BTreeMap<i64, Message> {
    let query = format!(
        "SELECT id, channel_id, thread_id, sender_agent_id, body_text FROM chat_messages WHERE id > {id}"
    );
    let rows = rows::select(conn, &query);
    let messages = rows.iter().map(Message::of);
    messages.map(|message| (message.id, message)).collect()
}

/// Checks the participants against the table: each message that a socket received is there, unchanged; no socket
/// received it twice; each conversation arrived in the order of ids; no message is stored twice; a message answered as
/// stored is there, and one answered as refused is not.
pub fn audit(
    conn: &mut Conn,
    participants: &[&Participant],
) -> Result<BTreeMap<i64, Message>, String> {
    let table = stored(conn);
    audit_against(&table, participants)?;
    Ok(table)
}

/// The same against a part of the table, which must hold all messages that these participants sent or received.
pub fn audit_against(
    table: &BTreeMap<i64, Message>,
    participants: &[&Participant],
) -> Result<(), String> {
    let mut bodies: HashMap<&str, i64> = HashMap::new();
    for message in table.values() {
        if let Some(other) = bodies.insert(&message.body, message.id) {
            return Err(format!(
                "stored twice, as {other} and {}: {:?}",
                message.id, message.body
            ));
        }
    }
    // These may become visible after messages that were stored later.
    let told_unknown: HashSet<i64> = participants
        .iter()
        .flat_map(|participant| &participant.sent)
        .filter(|sent| sent.was_unknown)
        .filter_map(|sent| bodies.get(sent.body.as_str()).copied())
        .collect();
    for participant in participants {
        let who = format!(
            "participant {} of agent {}",
            participant.name, participant.agent_id
        );
        let mut last: HashMap<Place, i64> = HashMap::new();
        let mut once = HashSet::new();
        for message in &participant.heard {
            if table.get(&message.id) != Some(message) {
                return Err(format!("{who} heard what the table lacks: {message:?}"));
            }
            if !once.insert(message.id) {
                return Err(format!("{who} heard twice: {message:?}"));
            }
            if told_unknown.contains(&message.id) {
                continue;
            }
            let before = last.insert(message.place, message.id);
            if before.is_some_and(|before| before > message.id) {
                return Err(format!("{who} heard {message:?} behind {before:?}"));
            }
        }
        for sent in &participant.sent {
            let id = bodies.get(sent.body.as_str()).copied();
            let agrees = match &sent.answer {
                Some(Answer::Stored(told)) => id == Some(*told),
                // Either outcome agrees with this answer.
                Some(Answer::Refused(code)) if code == UNKNOWN => true,
                Some(Answer::Refused(_)) => id.is_none(),
                None => participant.ended.is_some(),
            };
            if !agrees {
                return Err(format!(
                    "{who} was told {:?} of {:?}, which the table has as {id:?}",
                    sent.answer, sent.body
                ));
            }
        }
    }
    Ok(())
}

/// Waits until this socket has received every message of these places in the table: unknown outcomes are resolved in the
/// end.
pub fn await_heard_all(conn: &mut Conn, participant: &mut Participant, places: &[Place]) {
    let mut missing = Ok(());
    wait::until(wait::LIMIT, || {
        participant.catch_up().unwrap();
        missing = heard_all(&stored(conn), participant, places);
        missing.is_ok().then_some(())
    });
    missing.unwrap();
}

/// Whether this socket received every message of these places in the table.
pub fn heard_all(
    table: &BTreeMap<i64, Message>,
    participant: &Participant,
    places: &[Place],
) -> Result<(), String> {
    for place in places {
        let in_table: Vec<&Message> = table.values().filter(|m| m.place == *place).collect();
        // `audit` checks the order.
        let mut heard: Vec<&Message> = participant
            .heard
            .iter()
            .filter(|m| m.place == *place)
            .collect();
        heard.sort_by_key(|message| message.id);
        if in_table != heard {
            let missing = in_table.iter().find(|m| !heard.contains(m));
            return Err(format!(
                "participant {} of agent {} heard {} of {} messages of {place:?}; the first one missing: {missing:?}",
                participant.name,
                participant.agent_id,
                heard.len(),
                in_table.len(),
            ));
        }
    }
    Ok(())
}
