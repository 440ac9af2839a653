//! Schedules pushes: which is sent next, which waits and until when, and which is given up. Pure; events and the time are
//! passed in.
//!
//! A slow or unavailable push service delays only its own pushes: at most two are in flight to one service, and one that
//! does not answer is paused. Agents do not delay each other either: one push of an agent is in flight at a time, agents are
//! served in turn, and unresponsive endpoints take at most half of the threads.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use crate::store::push::PushSubscription;

/// Pushes that may wait; beyond that, the agent with the most of them gives up its oldest.
const MOST_WAITING: usize = 1024;
/// Pushes on their way to one push service at once.
const MOST_TO_ONE_HOST: usize = 2;
/// Agents with unanswered pushes that are served at once: half of the threads.
const MOST_SILENT: usize = 2;
/// Pauses before a push is tried again, where the service names none; after the last one it is given up.
const RETRIES: [Duration; 3] = [
    Duration::from_secs(2),
    Duration::from_secs(15),
    Duration::from_secs(60),
];
/// Longest pause that a push service may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Pauses of a push service that does not answer, by the number of silences in a row.
const HOST_PAUSES: [Duration; 4] = [RETRIES[0], RETRIES[1], RETRIES[2], LONGEST_PAUSE];
/// An older push is of no use: an agent who was away for so long looks at the chat itself.
const MOST_AGE: Duration = Duration::from_secs(600);

/// One push to one browser.
#[derive(Debug)]
pub(super) struct Delivery {
    /// The payload.
    pub payload: Arc<[u8]>,
    /// The browser.
    pub subscription: PushSubscription,
    /// Where it is pushed to.
    pub endpoint: Endpoint,
    /// When it was asked for.
    pub since: Instant,
    /// Not sent before.
    pub due: Instant,
    /// How often it was tried.
    pub tries: usize,
}

/// What came of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PushOutcome {
    /// The push service has it.
    Accepted,
    /// The subscription no longer exists.
    Gone,
    /// It will never work.
    Refused(String),
    /// The service asks to come back, perhaps after so long.
    Later(Option<Duration>, String),
    /// There was no answer.
    Silent(String),
}

/// Why a push was not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unsent {
    /// In words.
    pub why: String,
    /// Whether it will never work.
    pub is_final: bool,
}

impl Unsent {
    /// It will never work.
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Unsent {
            why: why.into(),
            is_final: true,
        }
    }
}

impl fmt::Display for Unsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Unsent {}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this.
    Send(Delivery),
    /// Say that this one failed.
    GiveUp(Delivery),
    /// Nothing now, but perhaps then.
    Wait(Option<Instant>),
}

/// What became of a push that was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is done.
    Done,
    /// Its subscription is to be forgotten.
    Forget,
    /// It failed for good.
    Failed(String),
    /// It is tried again, for this reason.
    Waits(String),
}

/// All pushes that wait, and what is known of those that are on their way.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    waiting: Vec<Delivery>,
    hosts: HashMap<String, Peer>,
    agents: HashMap<u64, Peer>,
    turn: u64,
}

/// A push service, or an agent.
#[derive(Debug, Default)]
struct Peer {
    on_their_way: usize,
    silences: usize,
    /// Of a push service.
    paused_until: Option<Instant>,
    /// Of an agent: the higher, the later it was served.
    turn: u64,
    used: Option<Instant>,
}

impl Schedule {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Forgets all that waits.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Adds a push; returns one that is given up in its place.
    pub(super) fn add(&mut self, delivery: Delivery) -> Option<Delivery> {
        let given_up = (self.waiting.len() >= MOST_WAITING).then(|| {
            let mut counts: HashMap<u64, usize> = HashMap::new();
            for one in &self.waiting {
                *counts.entry(one.subscription.agent).or_default() += 1;
            }
            let most = |one: &Delivery| counts[&one.subscription.agent];
            // Of equals the last one that it comes across, which is the oldest.
            let places = (0..self.waiting.len()).rev();
            let place = places.max_by_key(|place| most(&self.waiting[*place]));
            self.waiting.remove(place.unwrap_or(0))
        });
        self.waiting.push(delivery);
        given_up
    }

    /// What to do now. A push to be sent counts as on its way until it is settled.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let is_old = |peer: &Peer| peer.used.is_none_or(|used| now > used + MOST_AGE);
        self.hosts
            .retain(|_, host| host.on_their_way > 0 || !is_old(host));
        self.agents
            .retain(|_, agent| agent.on_their_way > 0 || !is_old(agent));
        let silent = self.agents.values();
        let silent = silent.filter(|agent| agent.silences > 0 && agent.on_their_way > 0);
        let has_room_for_silent = silent.count() < MOST_SILENT;
        let mut best = None;
        let mut due: Option<Instant> = None;
        for (place, delivery) in self.waiting.iter().enumerate() {
            if now > delivery.since + MOST_AGE {
                return Next::GiveUp(self.waiting.remove(place));
            }
            let host = self.hosts.get(&delivery.endpoint.origin);
            let paused = host.and_then(|host| host.paused_until);
            let from = paused.map_or(delivery.due, |until| until.max(delivery.due));
            if from > now {
                due = Some(due.map_or(from, |due| due.min(from)));
                continue;
            }
            let agent = self.agents.get(&delivery.subscription.agent);
            let is_silent = agent.is_some_and(|agent| agent.silences > 0);
            let is_busy = host.is_some_and(|host| host.on_their_way >= MOST_TO_ONE_HOST)
                || agent.is_some_and(|agent| agent.on_their_way > 0)
                || is_silent && !has_room_for_silent;
            let rank = (is_silent, agent.map_or(0, |agent| agent.turn));
            if !is_busy && best.is_none_or(|(found, _)| rank < found) {
                best = Some((rank, place));
            }
        }
        let Some((_, place)) = best else {
            return Next::Wait(due);
        };
        let delivery = self.waiting.remove(place);
        let host = self
            .hosts
            .entry(delivery.endpoint.origin.clone())
            .or_default();
        let agent = self.agents.entry(delivery.subscription.agent).or_default();
        self.turn += 1;
        agent.turn = self.turn;
        for peer in [host, agent] {
            peer.on_their_way += 1;
            peer.used = Some(now);
        }
        Next::Send(delivery)
    }

    /// Takes in what came of a push that was sent.
    pub(super) fn settle(
        &mut self,
        mut delivery: Delivery,
        outcome: PushOutcome,
        now: Instant,
    ) -> Settled {
        let host = self
            .hosts
            .entry(delivery.endpoint.origin.clone())
            .or_default();
        let agent = self.agents.entry(delivery.subscription.agent).or_default();
        host.on_their_way = host.on_their_way.saturating_sub(1);
        agent.on_their_way = agent.on_their_way.saturating_sub(1);
        if matches!(outcome, PushOutcome::Silent(_)) {
            let pause = HOST_PAUSES[host.silences.min(HOST_PAUSES.len() - 1)];
            host.paused_until = host.paused_until.max(Some(now + pause));
            host.silences += 1;
            agent.silences += 1;
        } else {
            host.silences = 0;
            agent.silences = agent.silences.saturating_sub(1);
        }
        let (asked, why) = match outcome {
            PushOutcome::Accepted => return Settled::Done,
            PushOutcome::Gone => return Settled::Forget,
            PushOutcome::Refused(why) => return Settled::Failed(why),
            PushOutcome::Silent(why) => (None, why),
            PushOutcome::Later(asked, why) => (asked, why),
        };
        if let Some(asked) = asked {
            let until = now + asked.min(LONGEST_PAUSE);
            host.paused_until = host.paused_until.max(Some(until));
        }
        let usual = RETRIES.get(delivery.tries);
        match usual.map(|usual| asked.unwrap_or(*usual)) {
            Some(pause) if pause <= LONGEST_PAUSE && self.waiting.len() < MOST_WAITING => {
                delivery.due = now + pause;
                delivery.tries += 1;
                self.waiting.push(delivery);
                Settled::Waits(why)
            }
            _ => Settled::Failed(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(agent: u64, host: &str, now: Instant) -> Delivery {
        Delivery {
            payload: Arc::from(*b"x"),
            subscription: PushSubscription {
                agent,
                ..PushSubscription::default()
            },
            endpoint: Endpoint::parse(&format!("https://{host}/x"), &[]).expect("a URL"),
            since: now,
            due: now,
            tries: 0,
        }
    }

    fn sent(schedule: &mut Schedule, now: Instant) -> Delivery {
        match schedule.next(now) {
            Next::Send(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    fn waits(schedule: &mut Schedule, now: Instant) -> Option<Instant> {
        match schedule.next(now) {
            Next::Wait(due) => due,
            other => panic!("{other:?}"),
        }
    }

    fn silent() -> PushOutcome {
        PushOutcome::Silent("no answer".to_owned())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_busy_service_holds_up_no_other_and_an_agent_has_one_push_on_its_way() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for (agent, host) in [
            (1, "a.test"),
            (1, "c.test"),
            (2, "a.test"),
            (3, "a.test"),
            (4, "b.test"),
        ] {
            schedule.add(to(agent, host, now));
        }
        let order: Vec<_> = (0..3)
            .map(|_| sent(&mut schedule, now))
            .map(|one| (one.subscription.agent, one.endpoint.origin))
            .collect();
        let expected = [
            (1, "https://a.test"),
            (2, "https://a.test"),
            (4, "https://b.test"),
        ];
        assert_eq!(
            order,
            expected.map(|(agent, host)| (agent, host.to_owned()))
        );
        assert_eq!(waits(&mut schedule, now), None);
        let settled = schedule.settle(to(1, "a.test", now), PushOutcome::Accepted, now);
        assert_eq!(settled, Settled::Done);
        // Agent 3 was not served yet.
        assert_eq!(sent(&mut schedule, now).subscription.agent, 3);
        assert_eq!(sent(&mut schedule, now).subscription.agent, 1);
    }

    #[test]
    fn agents_are_served_in_turn_and_the_silent_ones_last() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        for browser in 0..40 {
            for agent in 1..=3 {
                schedule.add(to(agent, &format!("{browser}.of-{agent}.test"), now));
            }
        }
        // Four threads: all three are served, none of them answers.
        let first: Vec<Delivery> = (0..3).map(|_| sent(&mut schedule, now)).collect();
        let agents: Vec<u64> = first.iter().map(|one| one.subscription.agent).collect();
        assert_eq!(agents, [1, 2, 3]);
        assert_eq!(waits(&mut schedule, now), None);
        for delivery in first {
            schedule.settle(delivery, silent(), now);
        }
        // From now on they have two threads together, whatever else waits.
        for _ in 0..2 {
            sent(&mut schedule, now);
        }
        assert!(waits(&mut schedule, now).is_some());
        for _ in 0..40 {
            schedule.add(to(4, "good.test", now));
            let good = sent(&mut schedule, now);
            assert_eq!(good.subscription.agent, 4);
            schedule.settle(good, PushOutcome::Accepted, now);
        }
    }

    #[test]
    fn a_service_that_asks_to_come_back_is_left_alone_until_then() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to(1, "a.test", now));
        schedule.add(to(2, "a.test", now));
        let delivery = sent(&mut schedule, now);
        let later = PushOutcome::Later(Some(7 * SECOND), "429".to_owned());
        let settled = schedule.settle(delivery, later, now);
        assert_eq!(settled, Settled::Waits("429".to_owned()));
        assert_eq!(waits(&mut schedule, now), Some(now + 7 * SECOND));
        sent(&mut schedule, now + 7 * SECOND);
        sent(&mut schedule, now + 7 * SECOND);
    }

    #[test]
    fn a_failing_push_is_given_up_after_the_last_pause_or_at_once_where_it_would_take_too_long() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to(1, "a.test", now));
        let failed = || PushOutcome::Later(None, "500".to_owned());
        for pause in RETRIES {
            let delivery = sent(&mut schedule, now);
            let settled = schedule.settle(delivery, failed(), now);
            assert_eq!(settled, Settled::Waits("500".to_owned()));
            assert_eq!(waits(&mut schedule, now), Some(now + pause));
            now += pause;
        }
        let delivery = sent(&mut schedule, now);
        let settled = schedule.settle(delivery, failed(), now);
        assert_eq!(settled, Settled::Failed("500".to_owned()));
        schedule.add(to(1, "a.test", now));
        let delivery = sent(&mut schedule, now);
        let tomorrow = PushOutcome::Later(Some(86_400 * SECOND), "503".to_owned());
        let settled = schedule.settle(delivery, tomorrow, now);
        assert_eq!(settled, Settled::Failed("503".to_owned()));
        schedule.add(to(1, "a.test", now));
        // The service is left alone all the same.
        assert_eq!(waits(&mut schedule, now), Some(now + LONGEST_PAUSE));
    }

    #[test]
    fn a_silent_service_is_asked_ever_more_rarely_and_forgiven_when_it_answers() {
        let mut now = Instant::now();
        let mut schedule = Schedule::default();
        for pause in HOST_PAUSES {
            schedule.clear();
            schedule.add(to(1, "a.test", now));
            let delivery = sent(&mut schedule, now);
            schedule.settle(delivery, silent(), now);
            schedule.clear();
            schedule.add(to(2, "a.test", now));
            assert_eq!(waits(&mut schedule, now), Some(now + pause));
            now += pause;
        }
        let delivery = sent(&mut schedule, now);
        let settled = schedule.settle(delivery, PushOutcome::Gone, now);
        assert_eq!(settled, Settled::Forget);
        assert_eq!(schedule.hosts["https://a.test"].silences, 0);
        waits(&mut schedule, now + MOST_AGE + SECOND);
        assert!(schedule.hosts.is_empty() && schedule.agents.is_empty());
    }

    #[test]
    fn what_is_too_old_or_too_much_is_given_up() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(to(1, "a.test", now));
        assert!(matches!(
            schedule.next(now + MOST_AGE + SECOND),
            Next::GiveUp(_)
        ));
        for number in 0..MOST_WAITING {
            let agent = if number < 10 { 1 } else { 2 };
            assert!(schedule.add(to(agent, "a.test", now)).is_none());
        }
        let given_up = schedule
            .add(to(3, "a.test", now))
            .expect("there is no room");
        assert_eq!(given_up.subscription.agent, 2);
        assert_eq!(schedule.len(), MOST_WAITING);
    }
}
