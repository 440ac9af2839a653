//! Every order that two speakers and the hub's thread can take the queue's steps in. A step is what happens under
//! one lock: whatever lies between two of them may happen to anybody else. The queue itself is the real one; the
//! few lines that use it, in `Hub::deliver` and `Hub::run`, are written out here once more, step by step.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::{Line, Woken};

/// Commands of one round.
const BATCH: usize = 2;
/// Commands that may wait.
const ROOM: usize = 3;

/// What a speaker does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Speaker {
    /// Adds a command; `waiting` for room.
    Speaks { waiting: bool },
    /// Tries for the round.
    Tries,
    /// Has it, and does something.
    Rounds(Rounds),
    /// Looks at the queue once more.
    LooksAgain,
}

/// The steps of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Rounds {
    Takes,
    NotesWhatIsDue,
    GivesBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Thread {
    LiesDown,
    /// Looks whether to go on.
    Looks,
    Sleeps,
    /// Waits for the lock of the round.
    Wants,
    Rounds(Rounds),
    LooksAgain,
    Ended,
}

/// A speaker's words: commands in a row, of which the round at the end of each group is his own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Mouth {
    name: u8,
    left: Vec<Group>,
    said: u8,
    does: Speaker,
}

/// Commands that are held back for one round, and whether that writes to those who wait alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Group {
    commands: u8,
    passes_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    line: Line<(u8, u8)>,
    /// Whose round it is.
    lock: Option<u8>,
    speakers: Vec<Mouth>,
    thread: Thread,
    /// The sleeping thread was told.
    told: bool,
    /// Those who wait for room were told.
    room: bool,
    heard: Vec<(u8, u8)>,
    /// Told but not written.
    unwritten: bool,
    stops: bool,
    epoch: Instant,
}

const THREAD: u8 = 99;

impl World {
    fn new(speakers: &[&[Group]], stops: bool) -> Self {
        let mouth = |(name, groups): (usize, &&[Group])| Mouth {
            name: name as u8,
            left: groups.to_vec(),
            said: 0,
            does: Speaker::Speaks { waiting: false },
        };
        World {
            line: Line::new(ROOM),
            lock: None,
            speakers: speakers.iter().enumerate().map(mouth).collect(),
            thread: Thread::LiesDown,
            told: false,
            room: false,
            heard: Vec::new(),
            unwritten: false,
            stops,
            epoch: Instant::now(),
        }
    }

    /// A step of a round; `None` once its lock is given back.
    fn round(&mut self, step: Rounds, passes_on: bool) -> Option<Rounds> {
        match step {
            Rounds::Takes => {
                let mut taken = Vec::new();
                self.room |= self.line.take(BATCH, &mut taken);
                self.unwritten |= !taken.is_empty();
                self.heard.extend(taken);
                self.unwritten &= passes_on;
                Some(Rounds::NotesWhatIsDue)
            }
            Rounds::NotesWhatIsDue => {
                let due = self.unwritten.then_some(self.epoch);
                self.told |= self.line.set_due(due);
                Some(Rounds::GivesBack)
            }
            Rounds::GivesBack => {
                self.lock = None;
                None
            }
        }
    }

    /// What a speaker's next step leads to; `None` where he has nothing to do or cannot go on.
    fn after_speaker(&self, place: usize) -> Option<World> {
        let mut world = self.clone();
        let mouth = &self.speakers[place];
        let group = mouth.left.first()?;
        let mut next = mouth.clone();
        match mouth.does {
            Speaker::Speaks { waiting } => {
                if waiting && !self.room {
                    return None;
                }
                if world.line.is_full() {
                    world.told |= world.line.call_for_room();
                    world.room = false;
                    next.does = Speaker::Speaks { waiting: true };
                } else {
                    world.line.push((mouth.name, mouth.said));
                    next.said += 1;
                    next.left[0].commands -= 1;
                    next.does = match next.left[0].commands {
                        0 => Speaker::Tries,
                        _ => Speaker::Speaks { waiting: false },
                    };
                }
            }
            Speaker::Tries => {
                if world.lock.is_none() && !world.line.commands.is_empty() {
                    world.lock = Some(mouth.name);
                    next.does = Speaker::Rounds(Rounds::Takes);
                } else {
                    next.left.remove(0);
                    next.does = Speaker::Speaks { waiting: false };
                }
            }
            Speaker::Rounds(step) => {
                next.does = world
                    .round(step, group.passes_on)
                    .map_or(Speaker::LooksAgain, Speaker::Rounds);
            }
            Speaker::LooksAgain => {
                world.told |= world.line.hand_over();
                next.left.remove(0);
                next.does = Speaker::Speaks { waiting: false };
            }
        }
        world.speakers[place] = next;
        Some(world)
    }

    fn after_thread(&self) -> Option<World> {
        let mut world = self.clone();
        world.thread = match self.thread {
            Thread::LiesDown => {
                world.line.lie_down();
                // The same lock is held for the first look.
                world.look()
            }
            Thread::Looks => world.look(),
            Thread::Sleeps if self.told => {
                world.told = false;
                Thread::Looks
            }
            Thread::Wants if self.lock.is_none() => {
                world.lock = Some(THREAD);
                Thread::Rounds(Rounds::Takes)
            }
            Thread::Rounds(step) => world
                .round(step, false)
                .map_or(Thread::LooksAgain, Thread::Rounds),
            Thread::LooksAgain => {
                world.line.hand_over();
                Thread::LiesDown
            }
            Thread::Sleeps | Thread::Wants | Thread::Ended => return None,
        };
        Some(world)
    }

    fn look(&mut self) -> Thread {
        let later = self.epoch + Duration::from_millis(1);
        match self.line.wake(later) {
            Some(Woken::ForWork) => Thread::Wants,
            Some(Woken::ToEnd) => Thread::Ended,
            None => {
                self.told = false;
                Thread::Sleeps
            }
        }
    }

    /// The stop comes when everybody has spoken, which is when the daemon asks for it.
    fn after_stop(&self) -> Option<World> {
        let silent = self.speakers.iter().all(|mouth| mouth.left.is_empty());
        if !self.stops || !silent || self.line.stopping {
            return None;
        }
        let mut world = self.clone();
        world.line.stopping = true;
        world.told = true;
        Some(world)
    }

    fn next(&self) -> Vec<World> {
        let speakers = (0..self.speakers.len()).filter_map(|place| self.after_speaker(place));
        speakers
            .chain(self.after_thread())
            .chain(self.after_stop())
            .collect()
    }

    /// Nothing can happen any more: then everything must have happened.
    fn check_end(&self) {
        assert!(
            self.speakers.iter().all(|mouth| mouth.left.is_empty()),
            "somebody waits for ever: {self:?}"
        );
        assert!(self.line.commands.is_empty(), "something is left: {self:?}");
        assert!(!self.unwritten, "something is not written: {self:?}");
        let end = match self.stops {
            true => Thread::Ended,
            false => Thread::Sleeps,
        };
        assert_eq!(self.thread, end, "{self:?}");
        for mouth in &self.speakers {
            let of_him = self.heard.iter().filter(|(name, _)| *name == mouth.name);
            let numbers: Vec<u8> = of_him.map(|(_, number)| *number).collect();
            let all: Vec<u8> = (0..mouth.said).collect();
            assert_eq!(numbers, all, "lost, doubled or out of order: {self:?}");
        }
    }
}

/// Goes through all orders; how many states there are.
fn explore(speakers: &[&[Group]], stops: bool) -> usize {
    let begin = World::new(speakers, stops);
    let mut seen = HashSet::from([begin.clone()]);
    let mut left = vec![begin];
    while let Some(world) = left.pop() {
        let next = world.next();
        if next.is_empty() {
            world.check_end();
        }
        left.extend(next.into_iter().filter(|world| seen.insert(world.clone())));
    }
    seen.len()
}

const ONE: Group = Group {
    commands: 1,
    passes_on: false,
};
const TWO_PASSED_ON: Group = Group {
    commands: 2,
    passes_on: true,
};

#[test]
fn nothing_is_left_lost_or_out_of_order_in_any_order_of_steps() {
    let states = explore(&[&[ONE, TWO_PASSED_ON], &[ONE]], false);
    assert!(states > 1000, "only {states} states");
}

#[test]
fn whoever_finds_the_queue_full_while_holding_back_gets_room() {
    // More than there is room for, held back for one round at the end.
    let many = Group {
        commands: ROOM as u8 + 2,
        passes_on: false,
    };
    explore(&[&[many], &[ONE]], false);
}

#[test]
fn the_thread_ends_after_the_last_word_whoever_writes_it() {
    explore(&[&[ONE], &[TWO_PASSED_ON]], true);
}
