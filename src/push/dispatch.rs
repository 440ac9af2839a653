//! The thread `push`: takes notices, finds the subscriptions they go to, hands out what is to be sent, and writes down
//! what came of it. It waits for the database and for nobody else, and nobody waits for it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, never, select};
use log::{debug, error, info, warn};

use super::payload::payload;
use super::reach::Endpoint;
use super::schedule::{Delivery, Next, Outcome, Schedule, Settled};
use super::sender::{Job, Senders};
use super::vapid::Identity;
use super::{Notice, Options, PushSettings, Shared};
use crate::clock::{AppClock, epoch_seconds};
use crate::limits::STORE_PATIENCE;
use crate::model::AgentId;
use crate::settings::key;
use crate::store::push::PushStore;
use crate::store::{Connection, Link, Result};

/// Notices whose subscriptions are looked for at once.
const BATCH: usize = 64;
/// How often a failure is written down.
const FAILURE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a failure, or that something was dropped, is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection to the database is kept for the next notice.
const KEEP_CONNECTION: Duration = Duration::from_secs(60);
/// Longest `push_last_send_failure`, in characters.
const FAILURE_CHARS: usize = 500;
/// Pause after a fault of this thread.
const FAULT_PAUSE: Duration = Duration::from_secs(10);

/// What the thread is made of.
pub struct Dispatcher {
    link: Link,
    clock: AppClock,
    jwt_secret: String,
    options: Options,
    shared: Arc<Shared>,
    notices: Receiver<Box<Notice>>,
    stop: Receiver<Instant>,
    schedule: Schedule,
    senders: Senders,
    identity: Option<Identity>,
    /// What the identity was made from.
    settings: PushSettings,
    /// A failure that is not written down yet.
    failure: Option<String>,
    failure_due: Instant,
    /// What was not logged yet, of failures.
    unsaid: usize,
    log_due: Instant,
    /// When it may be logged again that something was dropped.
    dropped_due: Instant,
}

impl Dispatcher {
    /// Ready to run.
    pub fn new(
        link: Link,
        clock: AppClock,
        jwt_secret: String,
        options: Options,
        senders: Senders,
        shared: Arc<Shared>,
        (notices, stop): (Receiver<Box<Notice>>, Receiver<Instant>),
    ) -> Self {
        let now = Instant::now();
        Dispatcher {
            link,
            clock,
            jwt_secret,
            options,
            shared,
            notices,
            stop,
            schedule: Schedule::default(),
            senders,
            identity: None,
            settings: PushSettings::default(),
            failure: None,
            failure_due: now,
            unsaid: 0,
            log_due: now,
            dropped_due: now,
        }
    }

    /// Runs until it is told to stop. A fault costs what waited and no more.
    pub fn run(mut self) {
        while catch_unwind(AssertUnwindSafe(|| self.work())).is_err() {
            error!("a fault while pushing; what waited is lost");
            self.schedule = Schedule::default();
            self.senders = self.senders.successors();
            thread::sleep(FAULT_PAUSE);
        }
    }

    fn work(&mut self) {
        let reports = self.senders.reports();
        let mut stop_by = None;
        loop {
            self.hand_out();
            self.write_failure(stop_by.is_some());
            self.say_what_was_dropped();
            if let Some(until) = stop_by {
                let is_done = self.senders.are_idle() && self.notices.is_empty();
                if is_done || Instant::now() >= until {
                    return self.give_up();
                }
            }
            let notices = match self.schedule.has_room() {
                true => self.notices.clone(),
                false => never(),
            };
            // The earliest of all that has a time; with none, the thread sleeps until somebody says something.
            let wake = [
                self.schedule.due().filter(|_| self.senders.are_free()),
                self.failure.as_ref().map(|_| self.failure_due),
                (self.shared.dropped.load(Ordering::Relaxed) > 0).then_some(self.dropped_due),
                self.link
                    .is_connected()
                    .then(|| Instant::now() + KEEP_CONNECTION),
                stop_by,
            ];
            let wake = wake.into_iter().flatten().min();
            let timer = wake.map_or_else(never, crossbeam_channel::at);
            select! {
                recv(notices) -> notice => match notice {
                    Ok(notice) => self.take(notice),
                    // The service is gone; so is the reason to be.
                    Err(_) => return self.give_up(),
                },
                recv(reports) -> report => {
                    if let Ok(report) = report
                        && let Some((delivery, outcome)) = self.senders.take(report)
                    {
                        self.settle(delivery, outcome);
                    }
                }
                recv(self.stop) -> until => {
                    stop_by = Some(until.unwrap_or_else(|_| Instant::now()));
                    self.stop = never();
                }
                recv(timer) -> _ => self.close_idle_connection(),
            }
        }
    }

    fn close_idle_connection(&mut self) {
        if self.senders.are_idle() && self.schedule.len() == 0 && self.failure.is_none() {
            self.link.drop_connection();
        }
    }

    /// Looks for the subscriptions of a notice, and of those that wait with it.
    fn take(&mut self, first: Box<Notice>) {
        let mut notices = vec![first];
        notices.extend(self.notices.try_iter().take(BATCH - 1));
        self.follow_settings();
        if self.identity.is_none() {
            return;
        }
        let mut agents: Vec<AgentId> = notices.iter().map(|notice| notice.agent).collect();
        agents.sort_unstable();
        agents.dedup();
        let found = self.ask(|store| store.subscriptions(&agents));
        let subscriptions = match found {
            Ok(subscriptions) => subscriptions,
            Err(error) => {
                warn!("{error}; {} notifications are not pushed", notices.len());
                return;
            }
        };
        let mut by_agent: HashMap<u64, Vec<_>> = HashMap::new();
        for subscription in subscriptions {
            by_agent
                .entry(subscription.agent)
                .or_default()
                .push(subscription);
        }
        let since = Instant::now();
        for notice in notices {
            let Some(subscriptions) = by_agent.get(&notice.agent.0) else {
                continue;
            };
            let payload: Arc<[u8]> = payload(&notice).into();
            for subscription in subscriptions {
                match Endpoint::parse(&subscription.endpoint, &self.options.allow) {
                    Ok(endpoint) => self.schedule.add(Delivery {
                        payload: Arc::clone(&payload),
                        subscription: subscription.clone(),
                        endpoint,
                        since,
                        tries: 0,
                    }),
                    Err(why) => self.failed(&format!("{subscription:?}"), why.to_string()),
                }
            }
        }
    }

    /// Takes over the keys where the settings have others now.
    fn follow_settings(&mut self) {
        let settings = self.shared.settings().clone();
        if settings == self.settings {
            return;
        }
        self.settings = settings;
        self.identity = None;
        if !self.settings.are_complete() {
            return;
        }
        match Identity::new(&self.settings, &self.jwt_secret) {
            Ok(identity) => self.identity = Some(identity),
            Err(why) => self.failed("Web Push", format!("{why}; nobody is pushed to")),
        }
    }

    fn hand_out(&mut self) {
        if self.identity.is_none() {
            // The keys may have been taken out of the settings while something waited.
            return self.schedule.clear();
        }
        while self.senders.are_free() {
            let delivery = match self.schedule.next(Instant::now()) {
                Next::Send(delivery) => delivery,
                Next::GiveUp(delivery, why) => {
                    self.failed(&format!("{:?}", delivery.subscription), why);
                    continue;
                }
                Next::Nothing => return,
            };
            let Some(identity) = &mut self.identity else {
                return;
            };
            let credentials = identity.credentials(&delivery.endpoint.origin, epoch_seconds());
            if let Err(delivery) = self.senders.send(Job {
                delivery,
                credentials,
            }) {
                let outcome = Outcome::Silent("no thread to push with".to_owned());
                self.settle(*delivery, outcome);
                return;
            }
        }
    }

    fn settle(&mut self, delivery: Delivery, outcome: Outcome) {
        let who = format!("{:?}", delivery.subscription);
        let hash = delivery.subscription.endpoint_hash.clone();
        match self.schedule.settle(delivery, outcome, Instant::now()) {
            Settled::Done => {}
            Settled::Waits(why) => debug!("{who}: {why}; tried again later"),
            Settled::Failed(why) => self.failed(&who, why),
            Settled::Forget => match self.ask(|store| store.delete_subscription(&hash)) {
                Ok(()) => info!("{who} has expired and is deleted"),
                Err(error) => warn!("{error}"),
            },
        }
    }

    fn ask<T>(&mut self, mut operation: impl FnMut(&mut dyn PushStore) -> Result<T>) -> Result<T>
    where
        T: Default,
    {
        let deadline = Instant::now() + STORE_PATIENCE;
        self.link
            .run_until(deadline, |store: &mut dyn Connection| match store.push() {
                Some(store) => operation(store),
                None => Ok(T::default()),
            })
    }

    fn failed(&mut self, who: &str, why: String) {
        if Instant::now() >= self.log_due {
            self.log_due = Instant::now() + LOG_INTERVAL;
            match std::mem::take(&mut self.unsaid) {
                0 => warn!("{who}: {why}"),
                more => {
                    warn!("{who}: {why}; {more} more failures since the last one that was logged")
                }
            }
        } else {
            debug!("{who}: {why}");
            self.unsaid += 1;
        }
        self.failure = Some(why.chars().take(FAILURE_CHARS).collect());
    }

    /// Writes the last failure down for the administrator's page, not more than once a second.
    fn write_failure(&mut self, at_once: bool) {
        let now = Instant::now();
        if now < self.failure_due && !at_once {
            return;
        }
        let Some(failure) = self.failure.take() else {
            return;
        };
        self.failure_due = now + FAILURE_INTERVAL;
        let time = self.clock.now_text();
        let rows = [
            (key::PUSH_LAST_SEND_FAILED_AT, time.as_str()),
            (key::PUSH_LAST_SEND_FAILURE, failure.as_str()),
        ];
        let written = self
            .link
            .run_until(now + STORE_PATIENCE, |store| store.update_settings(&rows));
        if let Err(error) = written {
            warn!("{error}");
        }
    }

    fn say_what_was_dropped(&mut self) {
        if self.shared.dropped.load(Ordering::Relaxed) > 0 && Instant::now() >= self.dropped_due {
            self.dropped_due = Instant::now() + LOG_INTERVAL;
            let dropped = self.shared.dropped.swap(0, Ordering::Relaxed);
            warn!(
                "{dropped} notifications were not pushed: push services are slower than the chat, and {} wait already",
                self.options.queue
            );
        }
    }

    /// The end: what waits is lost, and said so.
    fn give_up(&mut self) {
        let waiting = self.schedule.len() + self.notices.len();
        if waiting > 0 {
            info!("{waiting} pushes that waited are given up");
        }
        self.write_failure(true);
    }
}
