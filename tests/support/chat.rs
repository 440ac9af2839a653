//! People who talk, each over a socket of his own, what each of them heard, and whether the database agrees with
//! all of them afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use mysql::Conn;

use super::json::Json;
use super::rows;
use super::wait;
use super::ws::{Client, Closed, Event, Frame, Outcome};

/// The code of an error that says neither yes nor no.
const UNKNOWN: &str = "outcome_unknown";

/// Where something is said.
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

    /// The event that says this here.
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

/// Where an agent of the seed may say something: agents 1 and 2 are in both channels and the first thread, agents 2 and 3
/// in the other one.
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

/// What a sender was told of his message.
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
    /// He was told that nobody knows; perhaps somebody found out later.
    pub was_unknown: bool,
}

/// Somebody with a socket.
pub struct Voice {
    pub agent_id: i64,
    pub client: Client,
    /// Every message that came, in order.
    pub heard: Vec<Message>,
    pub sent: Vec<Sent>,
    /// How the connection ended, once it has.
    pub ended: Option<Closed>,
    /// The newest message there was when he came; he hears whatever comes behind it.
    pub since: i64,
    name: u32,
}

impl Voice {
    pub fn login(port: u16, agent_id: i64) -> Outcome<Voice> {
        // A `ref` makes a message one that was sent before, also over another socket of the same agent.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut client = Client::connect(port)?;
        let welcome = client.auth(agent_id)?;
        Ok(Voice {
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
        let reference = format!("voice {}, {}", self.name, self.sent.len());
        self.client.send(&place.event(body, &reference));
        self.sent.push(Sent {
            place,
            body: body.to_owned(),
            reference,
            answer: None,
            was_unknown: false,
        });
    }

    /// Sends so many messages with bodies of their own, all in one write.
    pub fn say_many(&mut self, place: Place, count: usize) {
        let mut packet = Vec::new();
        for _ in 0..count {
            let number = self.sent.len();
            let reference = format!("voice {}, {number}", self.name);
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

    /// Sends what somebody else has sent, under the same references.
    pub fn say_again(&mut self, other: &Voice) {
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
        format!("voice {} says {}", self.name, self.sent.len())
    }

    /// Sends one and waits for what becomes of it; none if the connection ends before.
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

    /// Reads until this many messages have come, or the connection has ended.
    pub fn await_heard(&mut self, count: usize) -> Outcome<()> {
        while self.ended.is_none() && self.heard.len() < count {
            self.hear()?;
        }
        Ok(())
    }

    /// Reads until a message with this id, or a later one, has come, or the connection has ended.
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

    /// Reads everything that the daemon had for this socket when it was asked.
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

/// Whether what everybody heard and was told is what the table holds: each message that anybody heard is there,
/// as it was heard, and nobody heard it twice; each conversation came in the order of the ids; nothing is stored
/// twice; who was told that his message is stored finds it, and who was told that nothing was saved does not.
pub fn audit(conn: &mut Conn, voices: &[&Voice]) -> Result<BTreeMap<i64, Message>, String> {
    let table = stored(conn);
    audit_against(&table, voices)?;
    Ok(table)
}

/// The same for a part of the table, which must hold whatever these were shown or told of.
pub fn audit_against(table: &BTreeMap<i64, Message>, voices: &[&Voice]) -> Result<(), String> {
    let mut bodies: HashMap<&str, i64> = HashMap::new();
    for message in table.values() {
        if let Some(other) = bodies.insert(&message.body, message.id) {
            return Err(format!(
                "stored twice, as {other} and {}: {:?}",
                message.id, message.body
            ));
        }
    }
    // These may become visible late, behind others that were stored after them.
    let told_unknown: HashSet<i64> = voices
        .iter()
        .flat_map(|voice| &voice.sent)
        .filter(|sent| sent.was_unknown)
        .filter_map(|sent| bodies.get(sent.body.as_str()).copied())
        .collect();
    for voice in voices {
        let who = format!("voice {} of agent {}", voice.name, voice.agent_id);
        let mut last: HashMap<Place, i64> = HashMap::new();
        let mut once = HashSet::new();
        for message in &voice.heard {
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
        for sent in &voice.sent {
            let id = bodies.get(sent.body.as_str()).copied();
            let agrees = match &sent.answer {
                Some(Answer::Stored(told)) => id == Some(*told),
                // Whoever gets this one knows that he does not know.
                Some(Answer::Refused(code)) if code == UNKNOWN => true,
                Some(Answer::Refused(_)) => id.is_none(),
                None => voice.ended.is_some(),
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

/// Waits until this socket has heard everything that the table has of these places: what somebody was in doubt about
/// is found out in the end.
pub fn await_heard_all(conn: &mut Conn, voice: &mut Voice, places: &[Place]) {
    let mut missing = Ok(());
    wait::until(wait::LIMIT, || {
        voice.catch_up().unwrap();
        missing = heard_all(&stored(conn), voice, places);
        missing.is_ok().then_some(())
    });
    missing.unwrap();
}

/// Whether this socket heard everything that the table has of these places.
pub fn heard_all(
    table: &BTreeMap<i64, Message>,
    voice: &Voice,
    places: &[Place],
) -> Result<(), String> {
    for place in places {
        let in_table: Vec<&Message> = table.values().filter(|m| m.place == *place).collect();
        // The order is for `audit` to judge.
        let mut heard: Vec<&Message> = voice.heard.iter().filter(|m| m.place == *place).collect();
        heard.sort_by_key(|message| message.id);
        if in_table != heard {
            let missing = in_table.iter().find(|m| !heard.contains(m));
            return Err(format!(
                "voice {} of agent {} heard {} of {} messages of {place:?}; the first one missing: {missing:?}",
                voice.name,
                voice.agent_id,
                heard.len(),
                in_table.len(),
            ));
        }
    }
    Ok(())
}
