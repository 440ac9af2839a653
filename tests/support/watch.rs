//! Checks one socket's frames against the protocol's document: it must describe everything that the service sends and
//! accepts. Tests also send invalid events on purpose; the service must refuse those.
//!
//! Which answer belongs to which event shows in its `ref`. Where there is none, the refusals are counted: what a socket
//! sent before a ping is answered before the pong.

use serde_json::Value;

use super::document;
use super::ws::Frame;

/// Refusals of malformed events, independent of sender and time.
const CODES_OF_FORM: [&str; 5] = [
    "invalid_event",
    "unsupported_type",
    "message_empty",
    "channel_id_required",
    "thread_id_required",
];

/// One socket, from the upgrade on.
#[derive(Default)]
pub struct Watch {
    is_upgraded: bool,
    /// What was written and is no whole frame yet.
    written: Vec<u8>,
    /// The fragments of a text so far.
    fragments: Option<Vec<u8>>,
    sent: Vec<Sent>,
    refusals: usize,
}

struct Sent {
    kind: String,
    reference: Option<Value>,
    /// What the document has against it.
    fault: Option<String>,
    is_answered: bool,
}

impl Watch {
    /// From here on there are frames.
    pub fn upgraded(&mut self) {
        self.is_upgraded = true;
    }

    /// Takes what is written, whatever that is: the pieces of a frame, many frames, or none.
    pub fn write(&mut self, bytes: &[u8]) {
        if !self.is_upgraded {
            return;
        }
        self.written.extend(bytes);
        while let Some(frame) = Frame::decode(&mut self.written) {
            self.take_frame(frame);
        }
    }

    /// Frames that break RFC 6455 are none of the document's business: they end the connection.
    fn take_frame(&mut self, frame: Frame) {
        if !frame.masked {
            return;
        }
        let whole = match (frame.first_byte, self.fragments.take()) {
            (0x81, None) => frame.payload,
            (0x01, None) => {
                self.fragments = Some(frame.payload);
                return;
            }
            (0x00 | 0x80, Some(mut text)) => {
                text.extend(frame.payload);
                if frame.first_byte == 0x00 {
                    self.fragments = Some(text);
                    return;
                }
                text
            }
            (_, fragments) => {
                self.fragments = fragments;
                return;
            }
        };
        if let Ok(text) = String::from_utf8(whole) {
            self.send(&text);
        }
    }

    fn send(&mut self, text: &str) {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let kind = event.get("type").and_then(Value::as_str);
        self.sent.push(Sent {
            kind: kind.unwrap_or_default().to_owned(),
            reference: event.get("ref").cloned(),
            fault: document::get().judge_event(&event).err(),
            is_answered: false,
        });
    }

    /// Takes what came in a text frame.
    pub fn receive(&mut self, text: &str) -> Result<(), String> {
        let document = document::get();
        let answer: Value =
            serde_json::from_str(text).map_err(|e| format!("not even JSON ({e}): {text}"))?;
        let against =
            |what: &str| format!("against contrib/asyncapi.yaml: {what}; received {text}");
        document.judge_answer(&answer).map_err(|e| against(&e))?;
        let kind = answer["type"].as_str().unwrap_or_default();
        let is_refusal = ["error", "auth.failed"].contains(&kind);
        self.refusals += usize::from(is_refusal);
        let Some(reference) = answer.get("ref") else {
            return Ok(());
        };
        let code = answer["code"].as_str().unwrap_or_default();
        let asked = self.sent.iter().position(|sent| {
            !sent.is_answered
                && sent.reference.as_ref() == Some(reference)
                && match &sent.fault {
                    Some(_) => is_refusal,
                    None => !CODES_OF_FORM.contains(&code) && document.is_answer(&sent.kind, kind),
                }
        });
        let Some(place) = asked else {
            return Err(against(&self.why_nothing_fits(reference)));
        };
        // A sender that was told of an unknown outcome may be told the outcome later.
        self.sent[place].is_answered = code != "outcome_unknown";
        let before = self.sent[..place].iter();
        let faults: Vec<&str> = before.filter_map(|sent| sent.fault.as_deref()).collect();
        if kind == "pong" && faults.len() > self.refusals {
            let accepted = faults.len() - self.refusals;
            return Err(against(&format!("{accepted} accepted of: {faults:#?}")));
        }
        Ok(())
    }

    fn why_nothing_fits(&self, reference: &Value) -> String {
        let mut sent = self.sent.iter().rev();
        match sent.find(|sent| sent.reference.as_ref() == Some(reference)) {
            None => "no event was sent with this ref".to_owned(),
            Some(Sent {
                fault: Some(fault), ..
            }) => format!("accepted, although: {fault}"),
            Some(_) => "this does not answer that event, or another answer did before".to_owned(),
        }
    }
}
