//! The people of one round: senders and listeners, each with a socket and a thread, and what can be seen of them while
//! they talk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::faults::{Fault, Toll};
use crate::random::Random;
use crate::support::chat::{Answer, Message, Place, Voice, places_of};
use crate::support::wait;
use crate::support::ws::FrameSpec;

const SENDERS: [i64; 6] = [1, 2, 2, 3, 4, 8];
const LISTENERS: [i64; 3] = [1, 2, 3];

pub struct Crowd {
    people: Vec<Person>,
    is_wordy: bool,
}

struct Person {
    voice: Voice,
    is_sender: bool,
    /// He was there when this was the newest message.
    since: i64,
}

/// What can be seen from outside.
pub struct Signs {
    stop: AtomicBool,
    /// Whoever may is to hang up, in the middle of a frame.
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

impl Signs {
    fn sum(&self, of: fn(&Sender) -> &AtomicUsize) -> usize {
        let counts = self.senders.iter().map(of);
        counts.map(|count| count.load(Ordering::SeqCst)).sum()
    }

    fn is_anybody_left(&self) -> bool {
        let mut senders = self.senders.iter();
        senders.any(|sender| !sender.is_gone.load(Ordering::SeqCst))
    }

    /// Waits until so many more messages have been answered as stored.
    pub fn await_stored(&self, more: usize) -> Result<(), String> {
        let wanted = self.sum(|sender| &sender.stored) + more;
        self.until("nothing is stored any more", || {
            self.sum(|sender| &sender.stored) >= wanted
        })
    }

    /// Waits until somebody else is refused.
    pub fn await_refused(&self) -> Result<(), String> {
        let before = self.sum(|sender| &sender.refused);
        self.until("nobody is refused", || {
            self.sum(|sender| &sender.refused) > before
        })
    }

    /// Tells whether every sender who is left has had a message stored since this was called.
    pub fn recovery(&self) -> impl Fn() -> bool + '_ {
        let count = |sender: &Sender| sender.stored.load(Ordering::SeqCst);
        let before: Vec<usize> = self.senders.iter().map(count).collect();
        move || {
            let mut senders = self.senders.iter().zip(&before);
            senders.all(|(one, before)| count(one) > *before || one.is_gone.load(Ordering::SeqCst))
        }
    }

    /// Waits until every sender who is left has a message stored from now on.
    pub fn await_everybody(&self) -> Result<(), String> {
        self.until("somebody's messages are not stored again", self.recovery())
    }

    /// Makes half of the senders hang up; returns how many that are.
    pub fn hang_up(&self) -> Result<usize, String> {
        let half = self.senders.len() / 2;
        self.hang_up.store(true, Ordering::SeqCst);
        self.until("nobody hangs up", || {
            self.hung_up.load(Ordering::SeqCst) >= half
        })?;
        Ok(half)
    }

    fn until(&self, complaint: &str, is_so: impl Fn() -> bool) -> Result<(), String> {
        let seen = wait::until(wait::LIMIT, || match is_so() {
            true => Some(Ok(())),
            false if self.is_anybody_left() => None,
            false => Some(Err(format!("{complaint}: no sender is left"))),
        });
        seen.unwrap_or_else(|| Err(complaint.to_owned()))
    }
}

impl Crowd {
    /// Everybody logs in.
    pub fn enter(port: u16, fault: Fault, since: i64) -> Result<Crowd, String> {
        let mut crowd = Crowd {
            people: Vec::new(),
            is_wordy: fault == Fault::DatabaseFull,
        };
        crowd.login(port, &SENDERS, true, since)?;
        crowd.login(port, &LISTENERS, false, since)?;
        Ok(crowd)
    }

    fn login(
        &mut self,
        port: u16,
        agents: &[i64],
        is_sender: bool,
        since: i64,
    ) -> Result<(), String> {
        for agent in agents {
            let voice = Voice::login(port, *agent).map_err(|e| format!("login: {e:?}"))?;
            self.people.push(Person {
                voice,
                is_sender,
                since,
            });
        }
        Ok(())
    }

    /// Whoever's connection has ended comes again, and is heard; what he hears is for `await_all_heard`.
    pub fn enter_again(&mut self, port: u16, since: i64) -> Result<(), String> {
        let from = self.people.len();
        let gone = self.people.iter().filter(|one| one.voice.ended.is_some());
        let gone: Vec<_> = gone
            .map(|one| (one.voice.agent_id, one.is_sender))
            .collect();
        for (agent, is_sender) in gone {
            self.login(port, &[agent], is_sender, since)?;
        }
        for person in &mut self.people[from..] {
            for place in places_of(person.voice.agent_id) {
                let answer = person.voice.ask(*place).map_err(|e| format!("{e:?}"))?;
                if !matches!(answer, Some(Answer::Stored(_))) {
                    return Err(format!("after it all, in {place:?}: {answer:?}"));
                }
            }
        }
        Ok(())
    }

    /// Everybody talks or listens until `meanwhile` returns, and then until all that was said is answered.
    pub fn talk<T>(
        &mut self,
        seed: u64,
        meanwhile: impl FnOnce(&Signs) -> Result<T, String>,
    ) -> Result<T, String> {
        let signs = Signs {
            stop: AtomicBool::new(false),
            hang_up: AtomicBool::new(false),
            hung_up: AtomicUsize::new(0),
            senders: SENDERS.iter().map(|_| Sender::default()).collect(),
        };
        let is_wordy = self.is_wordy;
        thread::scope(|scope| {
            let signs = &signs;
            let threads: Vec<_> = self
                .people
                .iter_mut()
                .enumerate()
                .map(|(number, person)| {
                    scope.spawn(move || {
                        let voice = &mut person.voice;
                        if !person.is_sender {
                            return listen(voice, &signs.stop);
                        }
                        let random = Random::new(seed.wrapping_add(number as u64));
                        let said = say_things(voice, random, number, is_wordy, signs);
                        signs.senders[number].is_gone.store(true, Ordering::SeqCst);
                        said
                    })
                })
                .collect();
            let happened = meanwhile(signs);
            signs.stop.store(true, Ordering::SeqCst);
            let mut complaints = Vec::new();
            for thread in threads {
                match thread.join() {
                    Ok(said) => complaints.extend(said.err()),
                    Err(_) => complaints.push("a thread has panicked, see above".to_owned()),
                }
            }
            match complaints.first() {
                // A sender that got no answer says more than whoever waited for him.
                Some(complaint) => Err(format!("{complaint}; {:?}", happened.err())),
                None => happened,
            }
        })
    }

    /// How many connections of these people a fault may end, and does.
    pub fn victims(&self, toll: Toll) -> usize {
        match toll {
            Toll::Nobody => 0,
            Toll::Some(count) => count,
            Toll::Everybody => self.people.len(),
        }
    }

    /// Fails unless so many connections have ended.
    pub fn has_lost(&mut self, count: usize) -> Result<(), String> {
        let mut ends = Vec::new();
        for Person { voice, .. } in &mut self.people {
            if voice.ended.is_none() {
                voice.catch_up().map_err(|e| format!("{e:?}"))?;
            }
            if let Some(end) = voice.ended {
                ends.push(format!("agent {}: {end:?}", voice.agent_id));
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

    /// Waits until everybody who is left has heard all that is stored; `stored_above` has it.
    pub fn await_all_heard(
        &mut self,
        mut stored_above: impl FnMut(i64) -> BTreeMap<i64, Message>,
    ) -> Result<(), String> {
        let mut missing = String::new();
        let complete = wait::until(wait::LIMIT, || {
            for person in &mut self.people {
                if person.voice.ended.is_none()
                    && let Err(fault) = person.voice.catch_up()
                {
                    return Some(Err(format!("{fault:?}")));
                }
            }
            let first = self.people.iter().map(|one| one.since).min()?;
            let table = stored_above(first);
            for one in self.people.iter().filter(|one| one.voice.ended.is_none()) {
                if let Some(message) = one.first_missing(&table, i64::MAX) {
                    missing = format!("agent {} never heard {message:?}", one.voice.agent_id);
                    return None;
                }
            }
            Some(Ok(()))
        });
        complete.unwrap_or(Err(missing))
    }

    /// What somebody has heard whose connection has ended is the beginning of what there is, but for messages of which
    /// nobody knew for a while whether they were stored.
    pub fn has_no_holes(&self, table: &BTreeMap<i64, Message>) -> Result<(), String> {
        for one in self.people.iter().filter(|one| one.voice.ended.is_some()) {
            let mut last: HashMap<Place, i64> = HashMap::new();
            for message in &one.voice.heard {
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
                        one.voice.agent_id
                    ));
                }
            }
        }
        Ok(())
    }

    fn was_unknown(&self, body: &str) -> bool {
        let mut sent = self.people.iter().flat_map(|one| &one.voice.sent);
        sent.any(|sent| sent.was_unknown && sent.body == body)
    }

    pub fn voices(&self) -> Vec<&Voice> {
        self.people.iter().map(|person| &person.voice).collect()
    }
}

impl Person {
    /// The first message up to this one that he should have heard and has not.
    fn first_missing<'a>(
        &self,
        table: &'a BTreeMap<i64, Message>,
        until: i64,
    ) -> Option<&'a Message> {
        let heard: HashSet<i64> = self.voice.heard.iter().map(|m| m.id).collect();
        let places = places_of(self.voice.agent_id);
        let above = table.range(self.since + 1..).map(|(_, message)| message);
        let mut until = above.take_while(|message| message.id <= until);
        until.find(|message| places.contains(&message.place) && !heard.contains(&message.id))
    }
}

fn listen(voice: &mut Voice, stop: &AtomicBool) -> Result<(), String> {
    while !stop.load(Ordering::SeqCst) && voice.ended.is_none() {
        voice.catch_up().map_err(|e| format!("{e:?}"))?;
    }
    Ok(())
}

fn say_things(
    voice: &mut Voice,
    mut random: Random,
    number: usize,
    is_wordy: bool,
    signs: &Signs,
) -> Result<(), String> {
    let places = places_of(voice.agent_id);
    let tail = " and so on".repeat(if is_wordy { 300 } else { 0 });
    while !signs.stop.load(Ordering::SeqCst) && voice.ended.is_none() {
        if number % 2 == 1 && signs.hang_up.load(Ordering::SeqCst) {
            let frame = FrameSpec::text(&places[0].event("never said", "x")).encode();
            voice.say_many(places[0], 2);
            voice
                .client
                .write(&frame[..1 + random.below(frame.len() - 1)]);
            voice.client.hang_up();
            voice.await_end().map_err(|e| format!("{e:?}"))?;
            signs.hung_up.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
        let from = voice.sent.len();
        // Some wait for each answer, some say a few things at once.
        match random.below(3) {
            0 => {
                let (place, count) = (places[random.below(places.len())], 2 + random.below(6));
                voice.say_many(place, count);
            }
            _ => {
                let body = format!("{}{tail}", voice.body());
                voice.say(places[random.below(places.len())], &body);
            }
        }
        voice.await_answers().map_err(|e| format!("{e:?}"))?;
        let sender = &signs.senders[number];
        for sent in &voice.sent[from..] {
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
