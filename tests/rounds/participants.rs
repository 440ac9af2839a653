//! The members of one round: senders and listeners, each with a socket and a thread, and their progress while they chat.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::faults::{Fault, LostConnections};
use crate::random::Random;
use crate::support::chat::{Answer, Message, Participant, Place, places_of};
use crate::support::wait;
use crate::support::ws::FrameSpec;

const SENDERS: [i64; 6] = [1, 2, 2, 3, 4, 8];
const LISTENERS: [i64; 3] = [1, 2, 3];

pub struct Participants {
    members: Vec<Member>,
    sends_long_bodies: bool,
}

struct Member {
    participant: Participant,
    is_sender: bool,
    /// The newest message when this member connected.
    since: i64,
}

/// Counters and flags that the members share with the fault.
pub struct Progress {
    stop: AtomicBool,
    /// Asks every second sender to hang up in the middle of a frame.
    hang_up: AtomicBool,
    hung_up: AtomicUsize,
    senders: Vec<Sender>,
}

#[derive(Default)]
struct Sender {
    stored: AtomicUsize,
    refused: AtomicUsize,
    is_gone: AtomicBool,
}

impl Progress {
    fn sum(&self, of: fn(&Sender) -> &AtomicUsize) -> usize {
        let counts = self.senders.iter().map(of);
        counts.map(|count| count.load(Ordering::SeqCst)).sum()
    }

    fn is_any_left(&self) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| !sender.is_gone.load(Ordering::SeqCst))
    }

    /// Waits until this many more messages have been answered as stored.
    pub fn await_stored(&self, more: usize) -> Result<(), String> {
        let wanted = self.sum(|sender| &sender.stored) + more;
        self.until("nothing is stored any more", || {
            self.sum(|sender| &sender.stored) >= wanted
        })
    }

    /// Waits until one more message is refused.
    pub fn await_refused(&self) -> Result<(), String> {
        let before = self.sum(|sender| &sender.refused);
        self.until("no sender is refused", || {
            self.sum(|sender| &sender.refused) > before
        })
    }

    /// Returns a check whether every remaining sender has had a message stored since this call.
    pub fn recovery(&self) -> impl Fn() -> bool + '_ {
        let count = |sender: &Sender| sender.stored.load(Ordering::SeqCst);
        let before: Vec<usize> = self.senders.iter().map(count).collect();
        move || {
            let mut senders = self.senders.iter().zip(&before);
            senders.all(|(one, before)| count(one) > *before || one.is_gone.load(Ordering::SeqCst))
        }
    }

    /// Waits until every remaining sender has had a message stored after this call.
    pub fn await_recovery(&self) -> Result<(), String> {
        self.until("a sender's messages are not stored again", self.recovery())
    }

    /// Makes half of the senders hang up; returns their number.
    pub fn hang_up(&self) -> Result<usize, String> {
        let half = self.senders.len() / 2;
        self.hang_up.store(true, Ordering::SeqCst);
        self.until("no sender hangs up", || {
            self.hung_up.load(Ordering::SeqCst) >= half
        })?;
        Ok(half)
    }

    fn until(&self, complaint: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        let seen = wait::until(wait::LIMIT, || match is_so() {
            true => Some(Ok(())),
            false if self.is_any_left() => None,
            false => Some(Err(format!("{complaint}: no sender is left"))),
        });
        seen.unwrap_or_else(|| Err(complaint.to_owned()))
    }
}

impl Participants {
    /// Logs in all members.
    pub fn connect(port: u16, fault: Fault, since: i64) -> Result<Participants, String> {
        let mut group = Participants {
            members: Vec::new(),
            sends_long_bodies: fault == Fault::DatabaseFull,
        };
        group.login(port, &SENDERS, true, since)?;
        group.login(port, &LISTENERS, false, since)?;
        Ok(group)
    }

    fn login(
        &mut self,
        port: u16,
        agents: &[i64],
        is_sender: bool,
        since: i64,
    ) -> Result<(), String> {
        for agent in agents {
            let participant =
                Participant::login(port, *agent).map_err(|e| format!("login: {e:?}"))?;
            self.members.push(Member {
                participant,
                is_sender,
                since,
            });
        }
        Ok(())
    }

    /// Logs in again for each connection that has ended, and sends; `await_all_heard` checks what these receive.
    pub fn reconnect(&mut self, port: u16, since: i64) -> Result<(), String> {
        let from = self.members.len();
        let gone = self
            .members
            .iter()
            .filter(|one| one.participant.ended.is_some());
        let gone: Vec<_> = gone
            .map(|one| (one.participant.agent_id, one.is_sender))
            .collect();
        for (agent, is_sender) in gone {
            self.login(port, &[agent], is_sender, since)?;
        }
        for member in &mut self.members[from..] {
            for place in places_of(member.participant.agent_id) {
                let answer = member
                    .participant
                    .ask(*place)
                    .map_err(|e| format!("{e:?}"))?;
                if !matches!(answer, Some(Answer::Stored(_))) {
                    return Err(format!("after the fault, in {place:?}: {answer:?}"));
                }
            }
        }
        Ok(())
    }

    /// Members send or listen until `meanwhile` returns, and then until every message is answered.
    pub fn talk<T>(
        &mut self,
        seed: u64,
        meanwhile: impl FnOnce(&Progress) -> Result<T, String>,
    ) -> Result<T, String> {
        let progress = Progress {
            stop: AtomicBool::new(false),
            hang_up: AtomicBool::new(false),
            hung_up: AtomicUsize::new(0),
            senders: SENDERS.iter().map(|_| Sender::default()).collect(),
        };
        let sends_long_bodies = self.sends_long_bodies;
        thread::scope(|scope| {
            let progress = &progress;
            let threads: Vec<_> = self
                .members
                .iter_mut()
                .enumerate()
                .map(|(number, member)| {
                    scope.spawn(move || {
                        let participant = &mut member.participant;
                        if !member.is_sender {
                            return listen(participant, &progress.stop);
                        }
                        let random = Random::new(seed.wrapping_add(number as u64));
                        let said =
                            send_messages(participant, random, number, sends_long_bodies, progress);
                        progress.senders[number]
                            .is_gone
                            .store(true, Ordering::SeqCst);
                        said
                    })
                })
                .collect();
            let happened = meanwhile(progress);
            progress.stop.store(true, Ordering::SeqCst);
            let mut complaints = Vec::new();
            for thread in threads {
                match thread.join() {
                    Ok(said) => complaints.extend(said.err()),
                    Err(_) => complaints.push("a thread has panicked, see above".to_owned()),
                }
            }
            match complaints.first() {
                // A sender's own error says more than that of the fault which waited for it.
                Some(complaint) => Err(format!("{complaint}; {:?}", happened.err())),
                None => happened,
            }
        })
    }

    /// How many of these connections the fault must have ended.
    pub fn victims(&self, lost: LostConnections) -> usize {
        match lost {
            LostConnections::None => 0,
            LostConnections::Count(count) => count,
            LostConnections::All => self.members.len(),
        }
    }

    /// Fails unless exactly this many connections have ended.
    pub fn assert_lost(&mut self, count: usize) -> Result<(), String> {
        let mut ends = Vec::new();
        for Member { participant, .. } in &mut self.members {
            if participant.ended.is_none() {
                participant.catch_up().map_err(|e| format!("{e:?}"))?;
            }
            if let Some(end) = participant.ended {
                ends.push(format!("agent {}: {end:?}", participant.agent_id));
            }
        }
        match ends.len() == count {
            true => Ok(()),
            false => Err(format!(
                "{} connections have ended, and not {count}: {}",
                ends.len(),
                ends.join(", ")
            )),
        }
    }

    /// Waits until every connected member has received all stored messages, as `stored_above` returns them.
    pub fn await_all_heard(
        &mut self,
        mut stored_above: impl FnMut(i64) -> BTreeMap<i64, Message>,
    ) -> Result<(), String> {
        let mut missing = String::new();
        let complete = wait::until(wait::LIMIT, || {
            for member in &mut self.members {
                if member.participant.ended.is_none()
                    && let Err(fault) = member.participant.catch_up()
                {
                    return Some(Err(format!("{fault:?}")));
                }
            }
            let first = self.members.iter().map(|one| one.since).min()?;
            let table = stored_above(first);
            for one in self
                .members
                .iter()
                .filter(|one| one.participant.ended.is_none())
            {
                if let Some(message) = one.first_missing(&table, i64::MAX) {
                    missing = format!("agent {} never heard {message:?}", one.participant.agent_id);
                    return None;
                }
            }
            Some(Ok(()))
        });
        complete.unwrap_or(Err(missing))
    }

    /// What an ended connection received must be a prefix of what is stored, except messages whose outcome was unknown
    /// for a while.
    pub fn assert_no_gaps(&self, table: &BTreeMap<i64, Message>) -> Result<(), String> {
        for one in self
            .members
            .iter()
            .filter(|one| one.participant.ended.is_some())
        {
            let mut last: HashMap<Place, i64> = HashMap::new();
            for message in &one.participant.heard {
                let last = last.entry(message.place).or_default();
                *last = message.id.max(*last);
            }
            for (place, last) in last {
                let of_place = table.iter().filter(|(_, m)| m.place == place);
                let of_place = of_place.map(|(id, m)| (*id, m.clone())).collect();
                let missing = one.first_missing(&of_place, last);
                let unknown = missing.is_some_and(|m| self.was_unknown(&m.body));
                if let (Some(message), false) = (missing, unknown) {
                    return Err(format!(
                        "agent {} heard {last} and not {message:?}",
                        one.participant.agent_id
                    ));
                }
            }
        }
        Ok(())
    }

    fn was_unknown(&self, body: &str) -> bool {
        let mut sent = self.members.iter().flat_map(|one| &one.participant.sent);
        sent.any(|sent| sent.was_unknown && sent.body == body)
    }

    pub fn participants(&self) -> Vec<&Participant> {
        self.members
            .iter()
            .map(|member| &member.participant)
            .collect()
    }
}

impl Member {
    /// The first message up to this id that the member should have received and has not.
    fn first_missing<'a>(
        &self,
        table: &'a BTreeMap<i64, Message>,
        until: i64,
    ) -> Option<&'a Message> {
        let heard: HashSet<i64> = self.participant.heard.iter().map(|m| m.id).collect();
        let places = places_of(self.participant.agent_id);
        let above = table.range(self.since + 1..).map(|(_, message)| message);
        let mut until = above.take_while(|message| message.id <= until);
        until.find(|message| places.contains(&message.place) && !heard.contains(&message.id))
    }
}

fn listen(participant: &mut Participant, stop: &AtomicBool) -> Result<(), String> {
    while !stop.load(Ordering::SeqCst) && participant.ended.is_none() {
        participant.catch_up().map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

fn send_messages(
    participant: &mut Participant,
    mut random: Random,
    number: usize,
    sends_long_bodies: bool,
    progress: &Progress,
) -> Result<(), String> {
    let places = places_of(participant.agent_id);
    let tail = " and so on".repeat(if sends_long_bodies { 300 } else { 0 });
    while !progress.stop.load(Ordering::SeqCst) && participant.ended.is_none() {
        if number % 2 == 1 && progress.hang_up.load(Ordering::SeqCst) {
            let frame = FrameSpec::text(&places[0].event("never said", "x")).encode();
            participant.say_many(places[0], 2);
            participant
                .client
                .write(&frame[..1 + random.below(frame.len() - 1)]);
            participant.client.hang_up();
            participant.await_end().map_err(|e| format!("{e:?}"))?;
            progress.hung_up.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let from = participant.sent.len();
        // Some wait for each answer, some send several messages at once.
        match random.below(3) {
            0 => {
                let (place, count) = (places[random.below(places.len())], 2 + random.below(6));
                participant.say_many(place, count);
            }
            _ => {
                let body = format!("{}{tail}", participant.body());
                participant.say(places[random.below(places.len())], &body);
            }
        }
        participant.await_answers().map_err(|e| format!("{e:?}"))?;
        let sender = &progress.senders[number];
        for sent in &participant.sent[from..] {
            let counter = match sent.answer {
                Some(Answer::Stored(_)) => &sender.stored,
                Some(Answer::Refused(_)) => &sender.refused,
                None => continue,
            };
            counter.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}
