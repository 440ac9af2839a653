//! Counts over all rounds: messages sent, how they were answered, and how often each fault occurred.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Instant;

use super::faults::Fault;
use super::participants::Participants;
use crate::support::chat::{Answer, Message};

/// After this many rounds of one kind, its fault must have occurred at least once.
const FEW: u64 = 4;

#[derive(Default)]
struct Kind {
    rounds: u64,
    /// How often the fault's effect was seen; an attempt may have none (a deadlock needs two parties).
    occurrences: u64,
    /// Why this machine cannot inject it.
    obstacle: Option<&'static str>,
}

pub struct Figures {
    kinds: BTreeMap<Fault, Kind>,
    sent: usize,
    stored: usize,
    refused: usize,
    unknown: usize,
    /// The connection ended before the answer.
    unanswered: usize,
    unanswered_stored: usize,
    heard: usize,
    begun: Instant,
}

impl Default for Figures {
    fn default() -> Self {
        Figures {
            kinds: BTreeMap::new(),
            sent: 0,
            stored: 0,
            refused: 0,
            unknown: 0,
            unanswered: 0,
            unanswered_stored: 0,
            heard: 0,
            begun: Instant::now(),
        }
    }
}

impl Figures {
    pub fn count(&mut self, fault: Fault) {
        self.kinds.entry(fault).or_default().rounds += 1;
    }

    /// Records that this machine cannot inject the fault.
    pub fn skip(&mut self, fault: Fault, obstacle: &'static str) {
        let kind = self.kinds.entry(fault).or_default();
        if kind.obstacle.replace(obstacle).is_none() {
            println!("SKIPPED {fault:?}: {obstacle}");
        }
    }

    /// Fails where a kind was injected repeatedly and never had an effect.
    pub fn have_all_occurred(&self) -> Result<(), String> {
        let idle = |kind: &Kind| kind.rounds >= FEW && kind.occurrences == 0;
        let mut kinds = self.kinds.iter();
        match kinds.find(|(_, kind)| idle(kind)) {
            Some((fault, kind)) => Err(format!("{fault:?}: {} rounds without effect", kind.rounds)),
            None => Ok(()),
        }
    }

    pub fn rounds(&self) -> u64 {
        self.kinds.values().map(|kind| kind.rounds).sum()
    }

    pub fn add(
        &mut self,
        fault: Fault,
        group: &Participants,
        table: &BTreeMap<i64, Message>,
        occurrences: u64,
    ) {
        self.kinds.entry(fault).or_default().occurrences += occurrences;
        let bodies: HashSet<&str> = table.values().map(|m| m.body.as_str()).collect();
        for participant in group.participants() {
            self.heard += participant.heard.len();
            self.sent += participant.sent.len();
            for sent in &participant.sent {
                self.unknown += usize::from(sent.was_unknown);
                match &sent.answer {
                    Some(Answer::Stored(_)) => self.stored += 1,
                    Some(Answer::Refused(_)) if sent.was_unknown => {}
                    Some(Answer::Refused(_)) => self.refused += 1,
                    None => {
                        self.unanswered += 1;
                        let is_stored = bodies.contains(sent.body.as_str());
                        self.unanswered_stored += usize::from(is_stored);
                    }
                }
            }
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "{} rounds in {} s: {} messages sent, {} answered as stored, {} refused, {} answered as unknown, {} \
             without an answer on a connection that ended ({} of them stored); heard {} times",
            self.rounds(),
            self.begun.elapsed().as_secs(),
            self.sent,
            self.stored,
            self.refused,
            self.unknown,
            self.unanswered,
            self.unanswered_stored,
            self.heard,
        )?;
        writeln!(out, "    {:<20} {:>6} {:>6}", "kind", "rounds", "seen")?;
        for (fault, kind) in &self.kinds {
            let (name, rounds, occurrences) = (format!("{fault:?}"), kind.rounds, kind.occurrences);
            match kind.obstacle {
                Some(obstacle) => writeln!(out, "    {name:<20} SKIPPED: {obstacle}")?,
                None => writeln!(out, "    {name:<20} {rounds:>6} {occurrences:>6}")?,
            }
        }
        Ok(())
    }
}
