//! Which push is sent next, which waits and until when, and which is given up. Pure: told what happened and what time
//! it is.
//!
//! A push service that is slow or away holds up nobody but itself: at most two pushes are on their way to one place,
//! and a place that does not answer is left alone for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reach::Endpoint;
use crate::store::push::Subscription;

/// Pushes that are ready; while there are more, no further notices are taken.
const MOST_READY: usize = 256;
/// Pushes that wait for a better time; more are given up.
const MOST_WAITING: usize = 1024;
/// Pushes on their way to one place at once.
const MOST_TO_ONE_PLACE: usize = 2;
/// Pauses before a push is tried again, where the service names none; after the last one it is given up.
const RETRIES: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// Longest pause that a push service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Pauses of a place that does not answer, by how often it has not.
const PLACE_PAUSES: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(15),
    Duration::from_secs(60),
    LONGEST_PAUSE,
];
/// A push that is older is of no use: whoever was away for so long looks by himself.
const MOST_AGE: Duration = Duration::from_secs(600);

/// One push to one browser.
#[derive(Debug)]
pub struct Delivery {
    /// What it says.
    pub payload: Arc<[u8]>,
    /// The browser.
    pub subscription: Subscription,
    /// Where it is pushed to.
    pub endpoint: Endpoint,
    /// When it was asked for.
    pub since: Instant,
    /// How often it was tried.
    pub tries: usize,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The push service has it.
    Accepted,
    /// The subscription is no more.
    Gone,
    /// It will never work.
    Refused(String),
    /// The service asks to come back, perhaps after so long.
    Later(Option<Duration>, String),
    /// There was no answer.
    Silent(String),
}

/// What there is to do.
#[derive(Debug)]
pub enum Next {
    /// Send this.
    Send(Delivery),
    /// Say that this one failed.
    GiveUp(Delivery, String),
    /// Nothing now.
    Nothing,
}

/// What became of a push that was sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is done.
    Done,
    /// Its subscription is to be forgotten.
    Forget,
    /// It failed for good.
    Failed(String),
    /// It is tried again; why it has to be.
    Waits(String),
}

/// All pushes that wait or are on their way.
#[derive(Debug, Default)]
pub struct Schedule {
    ready: VecDeque<Delivery>,
    waiting: Vec<(Instant, Delivery)>,
    places: HashMap<String, Place>,
}

#[derive(Debug, Default)]
struct Place {
    on_their_way: usize,
    silences: usize,
    paused_until: Option<Instant>,
}

impl Schedule {
    /// Whether more may be added now.
    pub fn has_room(&self) -> bool {
        self.ready.len() < MOST_READY
    }

    /// How many wait, or are ready.
    pub fn len(&self) -> usize {
        self.ready.len() + self.waiting.len()
    }

    /// Forgets all that waits.
    pub fn clear(&mut self) {
        self.ready.clear();
        self.waiting.clear();
    }

    /// Adds a push.
    pub fn add(&mut self, delivery: Delivery) {
        self.ready.push_back(delivery);
    }

    /// When the next of those that wait is to be looked at.
    pub fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|(due, _)| *due).min()
    }

    /// What to do now. What is to be sent counts as on its way until it is settled.
    pub fn next(&mut self, now: Instant) -> Next {
        let mut place = 0;
        while place < self.waiting.len() {
            match self.waiting[place].0 <= now {
                true => self.ready.push_back(self.waiting.swap_remove(place).1),
                false => place += 1,
            }
        }
        let mut place = 0;
        while let Some(delivery) = self.ready.get(place) {
            let origin = self
                .places
                .entry(delivery.endpoint.origin.clone())
                .or_default();
            let paused = origin.paused_until.filter(|until| *until > now);
            if paused.is_none() && origin.on_their_way >= MOST_TO_ONE_PLACE {
                place += 1;
                continue;
            }
            let delivery = self.ready.remove(place).expect("it was there just now");
            if now.duration_since(delivery.since) > MOST_AGE {
                let why = format!(
                    "{} has not answered for long",
                    delivery.endpoint.authority()
                );
                return Next::GiveUp(delivery, why);
            }
            let Some(until) = paused else {
                origin.on_their_way += 1;
                return Next::Send(delivery);
            };
            if self.waiting.len() >= MOST_WAITING {
                let why = format!(
                    "{} has not answered for long",
                    delivery.endpoint.authority()
                );
                return Next::GiveUp(delivery, why);
            }
            self.waiting.push((until, delivery));
        }
        self.places.retain(|_, one| one.is_of_interest(now));
        Next::Nothing
    }

    /// Takes in what came of a push that was sent.
    pub fn settle(&mut self, mut delivery: Delivery, outcome: Outcome, now: Instant) -> Settled {
        let place = self
            .places
            .entry(delivery.endpoint.origin.clone())
            .or_default();
        place.on_their_way = place.on_their_way.saturating_sub(1);
        let is_silent = matches!(outcome, Outcome::Silent(_));
        let (asked, why) = match outcome {
            Outcome::Silent(why) => (None, why),
            Outcome::Later(asked, why) => (asked, why),
            done => {
                place.silences = 0;
                return match done {
                    Outcome::Gone => Settled::Forget,
                    Outcome::Refused(why) => Settled::Failed(why),
                    _ => Settled::Done,
                };
            }
        };
        if is_silent {
            let pause = PLACE_PAUSES[place.silences.min(PLACE_PAUSES.len() - 1)];
            place.silences += 1;
            place.pause(now + pause);
        } else {
            place.silences = 0;
            if let Some(asked) = asked {
                place.pause(now + asked.min(LONGEST_PAUSE));
            }
        }
        let pause = RETRIES
            .get(delivery.tries)
            .map(|usual| asked.unwrap_or(*usual));
        delivery.tries += 1;
        match pause {
            Some(pause) if pause <= LONGEST_PAUSE && self.waiting.len() < MOST_WAITING => {
                self.waiting.push((now + pause, delivery));
                Settled::Waits(why)
            }
            _ => Settled::Failed(why),
        }
    }
}

impl Place {
    fn is_of_interest(&self, now: Instant) -> bool {
        let remembered = match self.silences {
            0 => Duration::ZERO,
            _ => MOST_AGE,
        };
        let is_remembered = |until| until + remembered > now;
        self.on_their_way > 0 || self.paused_until.is_some_and(is_remembered)
    }

    fn pause(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(host: &str, now: Instant) -> Delivery {
        Delivery {
            payload: Arc::from(*b"x"),
            subscription: Subscription::default(),
            endpoint: Endpoint::parse(&format!("https://{host}/x"), &[]).expect("a URL"),
            since: now,
            tries: 0,
        }
    }

    fn sent(schedule: &mut Schedule, now: Instant) -> Delivery {
        match schedule.next(now) {
            Next::Send(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    fn is_quiet(schedule: &mut Schedule, now: Instant) -> bool {
        matches!(schedule.next(now), Next::Nothing)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_busy_place_holds_up_no_other() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for host in ["a.test", "a.test", "a.test", "b.test"] {
            schedule.add(to(host, now));
        }
        let order: Vec<String> = (0..3)
            .map(|_| sent(&mut schedule, now).endpoint.origin)
            .collect();
        assert_eq!(
            order,
            ["https://a.test", "https://a.test", "https://b.test"]
        );
        assert!(is_quiet(&mut schedule, now));
        let settled = schedule.settle(to("a.test", now), Outcome::Accepted, now);
        assert_eq!(settled, Settled::Done);
        assert_eq!(sent(&mut schedule, now).endpoint.origin, "https://a.test");
    }

    #[test]
    fn a_service_that_asks_to_come_back_is_left_alone_until_then() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to("a.test", now));
        schedule.add(to("a.test", now));
        let delivery = sent(&mut schedule, now);
        let later = Outcome::Later(Some(7 * SECOND), "429".to_owned());
        let settled = schedule.settle(delivery, later, now);
        assert_eq!(settled, Settled::Waits("429".to_owned()));
        assert!(is_quiet(&mut schedule, now + 6 * SECOND));
        assert_eq!(schedule.due(), Some(now + 7 * SECOND));
        sent(&mut schedule, now + 7 * SECOND);
        sent(&mut schedule, now + 7 * SECOND);
        assert!(is_quiet(&mut schedule, now + 7 * SECOND));
    }

    #[test]
    fn a_failing_push_is_given_up_after_the_last_pause_or_at_once_where_it_would_take_too_long() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to("a.test", now));
        let failed = || Outcome::Later(None, "500".to_owned());
        for pause in RETRIES {
            let delivery = sent(&mut schedule, now);
            let settled = schedule.settle(delivery, failed(), now);
            assert_eq!(settled, Settled::Waits("500".to_owned()));
            assert!(is_quiet(&mut schedule, now + pause - SECOND));
            now += pause;
        }
        let delivery = sent(&mut schedule, now);
        let settled = schedule.settle(delivery, failed(), now);
        assert_eq!(settled, Settled::Failed("500".to_owned()));
        schedule.add(to("a.test", now));
        let delivery = sent(&mut schedule, now);
        let tomorrow = Outcome::Later(Some(86_400 * SECOND), "503".to_owned());
        let settled = schedule.settle(delivery, tomorrow, now);
        assert_eq!(settled, Settled::Failed("503".to_owned()));
        schedule.add(to("a.test", now));
        assert!(
            is_quiet(&mut schedule, now),
            "the place is paused all the same"
        );
        sent(&mut schedule, now + LONGEST_PAUSE);
    }

    #[test]
    fn a_silent_place_is_asked_ever_more_rarely_and_forgiven_when_it_answers() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        for pause in PLACE_PAUSES {
            schedule.add(to("a.test", now));
            let delivery = sent(&mut schedule, now);
            schedule.settle(delivery, Outcome::Silent("no answer".to_owned()), now);
            schedule.waiting.clear();
            schedule.add(to("a.test", now));
            assert!(is_quiet(&mut schedule, now + pause - SECOND));
            assert_eq!(schedule.due(), Some(now + pause));
            schedule.waiting.clear();
            now += pause;
        }
        schedule.add(to("a.test", now));
        let delivery = sent(&mut schedule, now);
        assert_eq!(
            schedule.settle(delivery, Outcome::Gone, now),
            Settled::Forget
        );
        assert!(is_quiet(&mut schedule, now));
        assert!(schedule.places.is_empty());
    }

    #[test]
    fn what_is_too_old_or_too_much_is_given_up() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to("a.test", now));
        let late = now + MOST_AGE + SECOND;
        assert!(matches!(schedule.next(late), Next::GiveUp(..)));
        schedule.add(to("a.test", now));
        let delivery = sent(&mut schedule, now);
        schedule.settle(delivery, Outcome::Silent(String::new()), now);
        for _ in schedule.waiting.len()..=MOST_WAITING {
            schedule.add(to("a.test", now));
        }
        assert!(!schedule.has_room());
        assert!(matches!(schedule.next(now), Next::GiveUp(..)));
        assert_eq!(schedule.len(), MOST_WAITING);
    }
}
