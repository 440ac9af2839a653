//! Judges one step of a scenario: compares the observation with the recording, or with the contract where that differs.

use std::collections::BTreeMap;
use std::fmt;

use super::expect::{Known, Match, show};
use super::json::Json;
use super::rows::Changes;
use super::ws::{Closed, Frame};

/// What followed from a step.
#[derive(Debug, Default)]
pub struct Observed {
    pub received: BTreeMap<String, Vec<Frame>>,
    /// Connections that the server ended, and the code of its close frame.
    pub closed: BTreeMap<String, Closed>,
    pub changes: Changes,
}

/// All of it, for a reader who wonders why a step failed.
impl fmt::Display for Observed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, frames) in &self.received {
            for frame in frames {
                write!(out, "\n        seen: {name} received {}", show(frame))?;
            }
        }
        for (name, closed) in &self.closed {
            write!(out, "\n        seen: {name} closed with {closed:?}")?;
        }
        for (table, change) in &self.changes {
            for (kind, rows) in change.kinds() {
                for row in rows {
                    write!(out, "\n        seen: {table} {kind} {row}")?;
                }
            }
        }
        Ok(())
    }
}

/// What a step asks for: the recording, or what is expected instead of it.
pub struct Wanted<'a> {
    recorded: &'a Json,
    expected: Option<&'a Json>,
}

impl<'a> Wanted<'a> {
    pub fn new(recorded: &'a Json, expected: Option<&'a Json>) -> Wanted<'a> {
        Wanted { recorded, expected }
    }

    fn says(&self, word: &str) -> bool {
        self.expected
            .and_then(|e| e.get(word))
            .is_some_and(Json::is_true)
    }

    /// The acting client must not be asked for a pong after this step.
    pub fn forbids_barrier(&self) -> bool {
        self.says("no_barrier")
    }

    /// The client is to be connected again after this step.
    pub fn reopens(&self) -> bool {
        self.says("reopen")
    }

    /// A member of the step, of what is expected before what was recorded.
    pub fn member(&self, word: &str) -> Option<&'a Json> {
        let expected = self.expected.and_then(|e| e.get(word));
        expected.or_else(|| self.recorded.get(word))
    }

    /// The outcomes of which one must hold.
    fn outcomes(&self) -> Vec<Option<&'a Json>> {
        match self.expected.and_then(|e| e.get("any_of")) {
            Some(choices) => choices.items().iter().map(Some).collect(),
            None => vec![self.expected],
        }
    }

    /// Whether every outcome ends this client's connection: then the end is what to wait for.
    pub fn ends(&self, client: &str) -> bool {
        self.outcomes().iter().all(|outcome| {
            let closed = outcome.and_then(|o| o.get("closed"));
            closed.and_then(|c| c.get(client)).is_some()
        })
    }

    /// How many frames this client gets at least, whatever the outcome.
    pub fn least_frames(&self, client: &str) -> usize {
        let counts = self.outcomes().into_iter().map(|outcome| {
            if outcome.is_some_and(|o| o.get("free").is_some()) {
                return 0;
            }
            received(self.recorded, outcome, client).len()
        });
        counts.min().unwrap_or(0)
    }

    /// Judges; on success `known` has learnt the ids of this step.
    pub fn judge(&self, actor: Option<&str>, observed: &Observed, known: &mut Known) -> Match {
        let mut complaints = Vec::new();
        for outcome in self.outcomes() {
            let mut tried = known.clone();
            let result = match outcome.and_then(|o| o.get("free")) {
                Some(free) => judge_free(free, actor, observed),
                None => judge_fixed(self.recorded, outcome, observed, &mut tried),
            };
            match result {
                Ok(()) => {
                    *known = tried;
                    return Ok(());
                }
                Err(complaint) => complaints.push(complaint),
            }
        }
        Err(complaints.join("\n      nor: "))
    }
}

fn named<'a>(recorded: &'a Json, outcome: Option<&'a Json>, word: &str) -> Option<&'a Json> {
    outcome
        .and_then(|o| o.get(word))
        .or_else(|| recorded.get(word))
}

fn received<'a>(recorded: &'a Json, outcome: Option<&'a Json>, client: &str) -> &'a [Json] {
    let frames = named(recorded, outcome, "received").and_then(|r| r.get(client));
    frames.map(Json::items).unwrap_or_default()
}

/// Rows come first: they bind the ids that the frames then speak of.
fn judge_fixed(
    recorded: &Json,
    outcome: Option<&Json>,
    observed: &Observed,
    known: &mut Known,
) -> Match {
    judge_rows(named(recorded, outcome, "rows_changed"), observed, known)?;
    let clients = named(recorded, outcome, "received")
        .map(Json::entries)
        .unwrap_or_default();
    let names = clients
        .iter()
        .map(|(name, _)| name)
        .chain(observed.received.keys());
    for name in names {
        let wanted = received(recorded, outcome, name);
        let got = observed
            .received
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for (place, (wanted, got)) in wanted.iter().zip(got).enumerate() {
            known
                .frame(wanted, got)
                .map_err(|e| format!("{name} received [{place}]: {e}"))?;
        }
        if let Some(missing) = wanted.get(got.len()) {
            return Err(format!("{name} did not receive {missing}"));
        }
        if let Some(excess) = got.get(wanted.len()) {
            return Err(format!("{name} received as well {}", show(excess)));
        }
    }
    judge_closed(outcome.and_then(|o| o.get("closed")), observed)
}

fn judge_rows(wanted: Option<&Json>, observed: &Observed, known: &mut Known) -> Match {
    let wanted = wanted.map(Json::entries).unwrap_or_default();
    for (table, wanted) in wanted {
        if wanted.str() == Some("any") {
            continue;
        }
        let change = observed.changes.get(table).cloned().unwrap_or_default();
        known
            .change(wanted, &change)
            .map_err(|e| format!("rows of {table} {e}"))?;
    }
    for (table, change) in &observed.changes {
        if !wanted.iter().any(|(named, _)| named == table) {
            return Err(format!("rows of {table} changed as well: {change:?}"));
        }
    }
    Ok(())
}

fn judge_closed(wanted: Option<&Json>, observed: &Observed) -> Match {
    let wanted = wanted.map(Json::entries).unwrap_or_default();
    for (name, codes) in wanted {
        let codes = match codes {
            Json::Array(codes) => codes.as_slice(),
            code => std::slice::from_ref(code),
        };
        let codes: Vec<i64> = codes.iter().filter_map(Json::int).collect();
        match observed.closed.get(name) {
            Some(Some(code)) if codes.contains(&i64::from(*code)) => {}
            Some(Some(code)) => {
                return Err(format!("{name} closed with {code}, expected {codes:?}"));
            }
            Some(None) => {
                return Err(format!(
                    "{name} cut off without a close frame, expected {codes:?}"
                ));
            }
            None => {
                return Err(format!(
                    "{name} still connected, expected a close with {codes:?}"
                ));
            }
        }
    }
    for (name, closed) in &observed.closed {
        if !wanted.iter().any(|(named, _)| named == name) {
            return Err(format!("{name} was disconnected (close code {closed:?})"));
        }
    }
    Ok(())
}

/// `free`: no row changes, only the sender receives anything, and the sender gets error events or a close (`true`), or
/// anything (`any`).
fn judge_free(free: &Json, actor: Option<&str>, observed: &Observed) -> Match {
    if !observed.changes.is_empty() {
        return Err(format!("no row may change, but: {:?}", observed.changes));
    }
    if let Some(other) = observed
        .closed
        .keys()
        .find(|name| Some(name.as_str()) != actor)
    {
        return Err(format!("{other} was disconnected"));
    }
    for (name, frames) in &observed.received {
        for frame in frames {
            if Some(name.as_str()) != actor {
                return Err(format!("{name} received {}", show(frame)));
            }
            let kind = frame
                .json()
                .and_then(|event| event.get("type")?.str().map(str::to_owned));
            if free.is_true() && kind.as_deref() != Some("error") {
                return Err(format!(
                    "expected error events, {name} received {}",
                    show(frame)
                ));
            }
        }
    }
    let silent = |name| observed.received.get(name).is_none_or(Vec::is_empty);
    match actor {
        Some(actor) if free.is_true() && silent(actor) && !observed.closed.contains_key(actor) => {
            Err(format!(
                "expected an error event or a close, {actor} got nothing"
            ))
        }
        _ => Ok(()),
    }
}
