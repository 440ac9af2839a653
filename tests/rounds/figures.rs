//! What was done and what became of it, over all rounds.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Instant;

use super::crowd::Crowd;
use super::faults::Fault;
use crate::support::chat::{Answer, Message};

/// After so many rounds of a kind, one of them has struck.
const FEW: u64 = 4;

#[derive(Default)]
struct Kind {
    rounds: u64,
    /// How often what was tried was seen to come about: a deadlock needs two.
    struck: u64,
    /// Why it cannot be tried here.
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

    /// It cannot be tried here.
    pub fn skip(&mut self, fault: Fault, obstacle: &'static str) {
        let kind = self.kinds.entry(fault).or_default();
        if kind.obstacle.replace(obstacle).is_none() {
            println!("SKIPPED {fault:?}: {obstacle}");
        }
    }

    /// Fails where a kind was tried again and again and never came about.
    pub fn have_all_struck(&self) -> Result<(), String> {
        let idle = |kind: &Kind| kind.rounds >= FEW && kind.struck == 0;
        let mut kinds = self.kinds.iter();
        match kinds.find(|(_, kind)| idle(kind)) {
            Some((fault, kind)) => Err(format!("{fault:?}: {} rounds, none struck", kind.rounds)),
            None => Ok(()),
        }
    }

    pub fn rounds(&self) -> u64 {
        self.kinds.values().map(|kind| kind.rounds).sum()
    }

    pub fn add(
        &mut self,
        fault: Fault,
        crowd: &Crowd,
        table: &BTreeMap<i64, Message>,
        struck: u64,
    ) {
        self.kinds.entry(fault).or_default().struck += struck;
        let bodies: HashSet<&str> = table.values().map(|m| m.body.as_str()).collect();
        for voice in crowd.voices() {
            self.heard += voice.heard.len();
            self.sent += voice.sent.len();
            for sent in &voice.sent {
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
            "{} rounds in {} s: {} messages sent, {} answered as stored, {} refused, {} told that nobody knows, {} \
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
        writeln!(out, "    {:<20} {:>6} {:>6}", "kind", "rounds", "struck")?;
        for (fault, kind) in &self.kinds {
            let (name, rounds, struck) = (format!("{fault:?}"), kind.rounds, kind.struck);
            match kind.obstacle {
                Some(obstacle) => writeln!(out, "    {name:<20} SKIPPED: {obstacle}")?,
                None => writeln!(out, "    {name:<20} {rounds:>6} {struck:>6}")?,
            }
        }
        Ok(())
    }
}
