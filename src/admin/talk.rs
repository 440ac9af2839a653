//! `chat`: reads and sends messages as an agent, for a terminal or a script. It is a client of the running service like
//! any other.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::client::Client;
use super::{Problem, probe, say, token};
use crate::model::{AgentId, Conversation};
use crate::platform::exit_code;
use crate::platform::printable::{printable, printable_json};

/// Time limit to connect, and for each answer: the service answers an event within 5 s.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which the connection counts as lost: the service pings every 25 s by default.
const SILENCE: Duration = Duration::from_secs(60);
/// A token's life. Where the service enforces the expiry, a connection lasts as long; then `tail` connects again.
const TOKEN_SECONDS: u64 = token::MAX_TTL;
/// Pause before another attempt.
const PAUSE: Duration = Duration::from_secs(2);
/// How long to retry a message that was not answered, or was refused for a temporary reason.
const INSIST: Duration = Duration::from_secs(30);
/// Messages in one page of the history, the most that the service sends.
const PAGE: u64 = 200;

/// An agent in a conversation.
pub(crate) struct Talk<'a> {
    /// Signs the token.
    pub secret: &'a str,
    /// Where the service listens.
    pub address: (String, u16),
    /// The agent to act as.
    pub agent: AgentId,
    /// The conversation to read or write.
    pub conversation: Conversation,
    /// JSON instead of lines for people.
    pub json: bool,
}

/// Why an exchange failed.
enum Trouble {
    /// The connection was lost, or the refusal is temporary.
    Passing(String),
    /// Another attempt would fail as well.
    Final(Problem),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Passing(match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
            _ => error.to_string(),
        })
    }
}

impl Trouble {
    /// The trouble in an event that refuses ours.
    fn of(event: &Value) -> Trouble {
        let message = event["message"].as_str().unwrap_or("refused").to_owned();
        match event["code"].as_str() {
            Some("rate_limited" | "database_unavailable" | "outcome_unknown" | "internal") => {
                Trouble::Passing(message)
            }
            _ => Trouble::Final(Problem::new(exit_code::FAILED, message)),
        }
    }
}

impl Talk<'_> {
    /// Sends one message and returns once it is stored.
    ///
    /// # Errors
    /// It was refused, or the service cannot be reached.
    pub(crate) fn send(&self, text: &str, out: &mut dyn Write) -> Result<(), Problem> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        // The same for each attempt, so that the service stores the message only once.
        let reference = format!(
            "{}-{}",
            std::process::id(),
            now.unwrap_or_default().as_nanos()
        );
        let deadline = Instant::now() + INSIST;
        loop {
            match self.send_once(text, &reference) {
                Ok(message) => {
                    let line = match self.json {
                        true => printable_json(&message.to_string()),
                        false => format!("stored as message {}", message["id"]),
                    };
                    return say(out, &(line + "\n"));
                }
                Err(Trouble::Final(problem)) => return Err(problem),
                Err(Trouble::Passing(reason)) if Instant::now() >= deadline => {
                    return Err(self.unreachable(&reason));
                }
                Err(Trouble::Passing(_)) => std::thread::sleep(PAUSE),
            }
        }
    }

    fn send_once(&self, text: &str, reference: &str) -> Result<Value, Trouble> {
        let mut client = self.connect()?;
        let kind = format!("chat.{}.message.send", self.conversation.scope());
        client.send(&self.event(&kind, json!({ "body": text, "ref": reference })))?;
        loop {
            let mut event = client.next_event()?;
            if event["ref"] == reference {
                return match event["type"].as_str() {
                    Some("error") => Err(Trouble::of(&event)),
                    _ => Ok(event["message"].take()),
                };
            }
        }
    }

    /// Shows the newest `lines` messages and, with `follow`, every new one until a signal ends the process.
    ///
    /// # Errors
    /// The service refuses, or cannot be reached for the first time; later losses are retried.
    pub(crate) fn tail(
        &self,
        lines: u64,
        follow: bool,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<(), Problem> {
        let mut shown = Shown::default();
        loop {
            let lost = match self.listen(lines, follow, &mut shown, out) {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(problem)) => return Err(problem),
                Err(Trouble::Passing(reason)) => reason,
            };
            if !shown.begun {
                return Err(self.unreachable(&lost));
            }
            // Only a remark: a failure to write it is ignored.
            let _ = writeln!(
                notes,
                "The connection was lost: {}. Connecting again.",
                printable(&lost)
            );
            std::thread::sleep(PAUSE);
        }
    }

    fn listen(
        &self,
        lines: u64,
        follow: bool,
        shown: &mut Shown,
        out: &mut dyn Write,
    ) -> Result<(), Trouble> {
        let mut client = self.connect()?;
        let mut missed = Vec::new();
        // What was announced while an answer was awaited may be newer than that answer.
        let mut announced = VecDeque::new();
        let mut before = Value::Null;
        // After a lost connection, more than one page may be missing.
        loop {
            let limit = match shown.begun {
                true => PAGE,
                false => lines.clamp(1, PAGE),
            };
            let ask = json!({ "before_id": before, "limit": limit, "ref": "history" });
            client.send(&self.event("chat.history", ask))?;
            let answer = loop {
                let event = client.next_event()?;
                if event["ref"] == "history" {
                    break event;
                }
                announced.push_back(event);
            };
            if answer["type"] == "error" {
                return Err(Trouble::of(&answer));
            }
            let page = answer["messages"].as_array().cloned().unwrap_or_default();
            before = page
                .first()
                .map_or(Value::Null, |first| first["id"].clone());
            let newest = shown.ids.last().copied().unwrap_or_default();
            let reaches = before.as_u64().is_none_or(|id| id <= newest);
            missed.splice(0..0, page);
            if !shown.begun || reaches || answer["has_more"] != true {
                break;
            }
        }
        for message in &missed {
            let is_wanted = lines > 0 || shown.begun;
            self.show(message, is_wanted, shown, out)?;
        }
        shown.begun = true;
        let created = format!("chat.{}.message.created", self.conversation.scope());
        if !follow {
            return Ok(());
        }
        loop {
            let event = match announced.pop_front() {
                Some(event) => event,
                None => client.next_event()?,
            };
            let message = &event["message"];
            if event["type"] == created.as_str() && message[self.key()] == self.id() {
                self.show(message, true, shown, out)?;
            }
        }
    }

    fn show(
        &self,
        message: &Value,
        is_wanted: bool,
        shown: &mut Shown,
        out: &mut dyn Write,
    ) -> Result<(), Trouble> {
        let id = message["id"].as_u64().unwrap_or_default();
        // Older than the first message shown: it was not missed, it was never asked for.
        let is_old = shown.begun && shown.ids.first().is_some_and(|first| id < *first);
        if is_old || !shown.ids.insert(id) || !is_wanted {
            return Ok(());
        }
        let line = match self.json {
            true => printable_json(&message.to_string()),
            false => line_of(message),
        };
        let written = writeln!(out, "{line}").and_then(|()| out.flush());
        written.map_err(|error| {
            Trouble::Final(match error.kind() {
                io::ErrorKind::BrokenPipe => {
                    Problem::new(exit_code::FAILED, "standard output was closed")
                }
                _ => Problem::of_output(error),
            })
        })
    }

    fn connect(&self) -> Result<Client, Trouble> {
        let (host, port) = &self.address;
        let (answer, stream, rest) = probe::listener(host, *port, TIMEOUT)?;
        if let Some(refusal) = answer.refusal() {
            return Err(Trouble::Passing(refusal));
        }
        let patient = stream.try_clone()?;
        let mut client = Client::new(stream, rest);
        let token = token::signed(self.secret, self.agent, "agent", TOKEN_SECONDS)
            .map_err(Trouble::Final)?;
        client.send(&json!({ "type": "auth", "token": token }))?;
        loop {
            let event = client.next_event()?;
            match event["type"].as_str() {
                Some("auth.ok") => break,
                Some("auth.failed" | "error") => return Err(Trouble::of(&event)),
                _ => {}
            }
        }
        patient.set_read_timeout(Some(SILENCE))?;
        Ok(client)
    }

    fn unreachable(&self, reason: &str) -> Problem {
        let (host, port) = &self.address;
        let what = format!("no chat service at {host}:{port}: {reason}");
        Problem::new(exit_code::UNAVAILABLE, what)
            .with_remedy("see whether it runs: andrea-chat-websocket status")
    }

    /// An event that names the conversation.
    fn event(&self, kind: &str, mut members: Value) -> Value {
        members["type"] = kind.into();
        members["scope"] = self.conversation.scope().into();
        members[self.key()] = self.id();
        members
    }

    fn key(&self) -> &'static str {
        match self.conversation {
            Conversation::Channel(_) => "channel_id",
            Conversation::Direct(_) => "thread_id",
        }
    }

    fn id(&self) -> Value {
        match self.conversation {
            Conversation::Channel(id) => id.0.into(),
            Conversation::Direct(id) => id.0.into(),
        }
    }
}

/// What `tail` has shown so far.
#[derive(Default)]
struct Shown {
    begun: bool,
    ids: BTreeSet<u64>,
}

/// A message for a terminal. Its line breaks are kept; other control characters are escaped, so that it draws nothing.
fn line_of(message: &Value) -> String {
    let plain = |member: &str| printable(message[member].as_str().unwrap_or_default());
    let text = message["body_text"].as_str().unwrap_or_default();
    let lines: Vec<String> = text.split('\n').map(printable).collect();
    let (time, name) = (plain("created_at"), plain("sender_name"));
    format!("[{time}] {name}: {}", lines.join("\n    "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_draws_nothing_on_a_terminal() {
        let message = json!({
            "created_at": "2026-05-01 09:30:00",
            "sender_name": "Ana\u{1b}[2J\nBob",
            "body_text": "one\u{7}\u{9b}31m\ntwo\r",
        });
        assert_eq!(
            line_of(&message),
            "[2026-05-01 09:30:00] Ana\\u{1b}[2J\\nBob: one\\u{7}\\u{9b}31m\n    two\\r"
        );
    }
}
