//! The threads that push. `push` takes notices, finds the subscriptions they go to, and writes down what failed; it
//! waits for the database and for nothing else, and nothing waits for it. Each sender takes one push at a time from the
//! schedule. Senders start with the first push.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, tick};
use log::{debug, error, info, warn};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::endpoint::Endpoint;
use super::http::PushClient;
use super::payload::payload;
use super::schedule::{Delivery, Next, PushOutcome, Schedule, Settled};
use super::send::send;
use super::vapid::Identity;
use super::{PushSettings, PushShared, Queue};
use crate::config::PushOptions;
use crate::config::limits::STORE_TIMEOUT;
use crate::config::settings::key;
use crate::model::AgentId;
use crate::platform::clock::AppClock;
use crate::platform::log_throttle::{self, Line, LogThrottle};
use crate::platform::metrics::METRICS;
use crate::platform::problem::Problem;
use crate::platform::threads::lock;
use crate::store::{self, DatabaseConnection, NewNotification, Pool};

/// Notices whose subscriptions one query reads.
const BATCH: usize = 64;
/// How often the last failure is stored, and dropped notices are reported.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// Longest `push_last_send_failure`, in characters.
const FAILURE_CHARS: usize = 500;
/// Pause after a fault.
const FAULT_PAUSE: Duration = Duration::from_secs(10);
/// Threads that send at once.
const MAX_SENDERS: usize = 4;
/// Stack of each thread, in bytes: `push` talks to the database, and a TLS handshake takes a tenth of it.
const STACK_BYTES: usize = 512 * 1024;

/// A thread that is not running yet.
pub(crate) struct Starter {
    options: PushOptions,
    client: PushClient,
    shared: Arc<PushShared>,
    notices: Receiver<Box<NewNotification>>,
}

/// The thread that pushes.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Sender<Instant>,
    done: Receiver<()>,
}

/// Reads the extra certificates, before anything starts.
///
/// # Errors
/// The file of certificates cannot be read, or has none.
pub(crate) fn prepare(options: &PushOptions) -> Result<Option<(Queue, Starter)>, Problem> {
    let client = client(options)?;
    let (sender, notices) = bounded(options.queue);
    let shared = Arc::new(PushShared::default());
    let queue = Queue {
        notices: sender,
        shared: Arc::clone(&shared),
    };
    let starter = Starter {
        options: options.clone(),
        client,
        shared,
        notices,
    };
    Ok(Some((queue, starter)))
}

fn client(options: &PushOptions) -> Result<PushClient, Problem> {
    let path = options.ca_file.as_deref().unwrap_or(Path::new(""));
    let failed = |why: Box<dyn std::error::Error + Send + Sync>| {
        let path = path.display();
        Problem::of_config(format!(
            "cannot take certificates from {path} (CHAT_WEBSOCKET_PUSH_CA)"
        ))
        .because(why)
        .with_remedy("name a file of certificates in PEM, or leave it out")
    };
    let mut roots = Vec::new();
    if options.ca_file.is_some() {
        // Opening a pipe would block.
        if path.exists() && !path.is_file() {
            return Err(failed("it is no file".into()));
        }
        roots = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error| failed(error.into()))?;
        if roots.is_empty() {
            return Err(failed("there is none".into()));
        }
    }
    PushClient::new(&roots, options.timeout).map_err(|error| failed(error.into()))
}

impl Starter {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(
        self,
        pool: Arc<Pool>,
        clock: AppClock,
        jwt_secret: String,
    ) -> io::Result<Worker> {
        let (stop, stopped) = bounded(1);
        let (ended, done) = bounded::<()>(0);
        let pusher = Arc::new(Pusher {
            pool,
            clock,
            jwt_secret,
            starter: self,
            work: Mutex::default(),
            changed: Condvar::new(),
            failure_log: LogThrottle::default(),
        });
        // Never joined: it may be waiting for the database, and the process does not wait for it.
        thread::Builder::new()
            .name("push".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _ended = ended;
                pusher.run(&stopped);
            })?;
        Ok(Worker { stop, done })
    }
}

impl Worker {
    /// Lets the pushes on their way and the last notices go out until then.
    pub(crate) fn finish_by(&self, until: Instant) {
        if self.stop.try_send(until).is_err() {
            error!("thread \"push\" had ended before the stop");
        }
    }

    /// Waits until `until` at most for what [`Worker::finish_by`] began.
    pub(crate) fn wait(&self, until: Instant) {
        let ended = self.done.recv_deadline(until);
        if ended.is_err_and(|error| error.is_timeout()) {
            warn!("a push service does not answer; what was pushed last is given up");
        }
    }
}

/// What the threads share.
struct Pusher {
    pool: Arc<Pool>,
    clock: AppClock,
    jwt_secret: String,
    starter: Starter,
    work: Mutex<Work>,
    /// There may be something else to send, or a sender has ended.
    changed: Condvar,
    failure_log: LogThrottle,
}

#[derive(Default)]
struct Work {
    schedule: Schedule,
    identity: Option<Arc<Identity>>,
    /// What the identity was made from.
    settings: PushSettings,
    /// A failure that is not stored yet.
    failure: Option<String>,
    /// When it may be logged again that something was dropped.
    dropped_due: Option<Instant>,
    senders: usize,
    /// Subscriptions that have expired, by their hashes.
    expired: Vec<String>,
    is_stopping: bool,
}

impl Pusher {
    /// The thread `push`. A fault costs the notices that were being looked at.
    fn run(self: &Arc<Self>, stop: &Receiver<Instant>) {
        let (notices, tidy) = (&self.starter.notices, tick(TIDY_INTERVAL));
        loop {
            let worked = catch_unwind(AssertUnwindSafe(|| {
                let stop_by = select! {
                    recv(notices) -> notice => match notice {
                        Ok(notice) => {
                            self.take(notice);
                            return false;
                        }
                        // The service is gone, so this thread ends.
                        Err(_) => Some(Instant::now()),
                    },
                    recv(stop) -> until => Some(until.unwrap_or_else(|_| Instant::now())),
                    recv(tidy) -> _ => None,
                };
                if let Some(until) = stop_by {
                    self.finish(until);
                }
                self.tidy();
                stop_by.is_some()
            }));
            match worked {
                Ok(true) => return,
                Ok(false) => {}
                Err(_) => {
                    error!(
                        "thread \"push\" panicked and was restarted (see above); the notifications that it looked at are lost"
                    );
                    thread::sleep(FAULT_PAUSE);
                }
            }
        }
    }

    /// Looks for the subscriptions of a notice, and of those that wait with it.
    fn take(self: &Arc<Self>, first: Box<NewNotification>) {
        let mut notices = vec![first];
        notices.extend(self.starter.notices.try_iter().take(BATCH - 1));
        self.follow_settings();
        if lock(&self.work).identity.is_none() {
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
        let (since, allow) = (Instant::now(), &self.starter.options.allow);
        let mut work = lock(&self.work);
        for notice in notices {
            let payload: Arc<[u8]> = payload(&notice).into();
            let of_agent = subscriptions.iter();
            for subscription in of_agent.filter(|one| one.agent == notice.agent.0) {
                let endpoint = match Endpoint::parse(&subscription.endpoint, allow) {
                    Ok(endpoint) => endpoint,
                    Err(why) => {
                        METRICS.pushes.count("failed");
                        self.failed(&mut work, &format!("{subscription:?}"), why.why);
                        continue;
                    }
                };
                let given_up = work.schedule.add(Delivery {
                    payload: Arc::clone(&payload),
                    subscription: subscription.clone(),
                    endpoint,
                    since,
                    due: since,
                    tries: 0,
                });
                if let Some(delivery) = given_up {
                    self.give_up(&mut work, &delivery, "too many pushes wait");
                }
            }
        }
        self.start_senders(&mut work);
        drop(work);
        self.changed.notify_all();
    }

    /// Takes over the keys if the settings have changed.
    fn follow_settings(&self) {
        let settings = lock(&self.starter.shared.settings).clone();
        let mut work = lock(&self.work);
        if settings != work.settings {
            work.identity = None;
            if settings.are_complete() {
                match Identity::new(&settings, &self.jwt_secret) {
                    Ok(identity) => work.identity = Some(Arc::new(identity)),
                    Err(why) => {
                        self.failed(&mut work, "Web Push", format!("{why}; no push is sent"));
                    }
                }
            }
            work.settings = settings;
        }
    }

    /// Starts the senders as soon as something waits. If the system refuses a thread, the next second tries again.
    fn start_senders(self: &Arc<Self>, work: &mut Work) {
        while work.schedule.len() > 0 && work.senders < MAX_SENDERS {
            let pusher = Arc::clone(self);
            let started = thread::Builder::new()
                .name("push-send".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    // A fault in `send` is caught there; any other ends this thread alone.
                    let _ = catch_unwind(AssertUnwindSafe(|| pusher.send_all()));
                    lock(&pusher.work).senders -= 1;
                    pusher.changed.notify_all();
                });
            if let Err(error) = started {
                self.failure_log
                    .warn(|| format!("cannot start a thread that pushes: {error}"));
                return;
            }
            work.senders += 1;
        }
    }

    /// Sends pushes until the stop.
    fn send_all(&self) {
        let mut work = lock(&self.work);
        loop {
            if work.identity.is_none() {
                // The keys were taken out of the settings while something waited.
                work.schedule.clear();
            }
            let next = work.schedule.next(Instant::now());
            self.count_waiting(&work);
            match next {
                Next::Send(delivery) => {
                    let identity = work.identity.clone();
                    drop(work);
                    let outcome = identity.and_then(|identity| {
                        let sent = || send(&self.starter.client, &delivery, &identity);
                        catch_unwind(AssertUnwindSafe(sent)).ok()
                    });
                    let outcome = outcome.unwrap_or_else(|| {
                        PushOutcome::Refused("a fault of the service".to_owned())
                    });
                    self.settle(delivery, outcome);
                    work = lock(&self.work);
                }
                Next::GiveUp(delivery) => {
                    self.give_up(&mut work, &delivery, "no answer for long");
                }
                Next::Wait(_) if work.is_stopping => return,
                Next::Wait(due) => {
                    let left = due.map(|due| due.saturating_duration_since(Instant::now()));
                    let waited = self
                        .changed
                        .wait_timeout(work, left.unwrap_or(Duration::MAX));
                    work = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn settle(&self, delivery: Delivery, outcome: PushOutcome) {
        let who = format!("{:?}", delivery.subscription);
        let hash = delivery.subscription.endpoint_hash.clone();
        let mut work = lock(&self.work);
        let settled = work.schedule.settle(delivery, outcome, Instant::now());
        METRICS.pushes.count(match &settled {
            Settled::Done => "accepted",
            Settled::Forget => "gone",
            Settled::Failed(_) => "failed",
            Settled::Waits(_) => "retried",
        });
        match settled {
            Settled::Done => {}
            Settled::Failed(why) => self.failed(&mut work, &who, why),
            Settled::Waits(why) => debug!("{who}: {why}; tried again later"),
            Settled::Forget => {
                info!("{who} has expired and is deleted");
                work.expired.push(hash);
            }
        }
        drop(work);
        self.changed.notify_all();
    }

    fn ask<T>(
        &self,
        operation: impl FnMut(&mut DatabaseConnection) -> store::Result<T>,
    ) -> store::Result<T> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        self.pool.run_until(deadline, operation)
    }

    fn give_up(&self, work: &mut Work, delivery: &Delivery, why: &str) {
        METRICS.pushes.count("dropped");
        let why = format!("{}: {why}", delivery.endpoint.authority());
        self.failed(work, &format!("{:?}", delivery.subscription), why);
    }

    fn failed(&self, work: &mut Work, who: &str, why: String) {
        if self.failure_log.warn(|| format!("{who}: {why}")) == Line::LeftOut {
            debug!("{who}: {why}");
        }
        work.failure = Some(why.chars().take(FAILURE_CHARS).collect());
    }

    fn count_waiting(&self, work: &Work) -> usize {
        let waiting = work.schedule.len() + self.starter.notices.len();
        METRICS.push_waiting.set(waiting as u64);
        waiting
    }

    /// Deletes expired subscriptions, stores the last failure for the administrator's page, and logs what was dropped.
    fn tidy(self: &Arc<Self>) {
        let mut work = lock(&self.work);
        if !work.is_stopping {
            self.start_senders(&mut work);
        }
        self.count_waiting(&work);
        let now = Instant::now();
        let expired = mem::take(&mut work.expired);
        let failure = work.failure.take();
        let is_due = work.dropped_due.is_none_or(|due| due <= now);
        drop(work);
        self.failure_log.settle("failed pushes", now);
        self.starter.client.close_old();
        for hash in expired {
            if let Err(error) = self.ask(|store| store.delete_subscription(&hash)) {
                warn!("{error}");
            }
        }
        let (shared, most) = (&self.starter.shared, self.starter.options.queue);
        if is_due && shared.dropped.load(Ordering::Relaxed) > 0 {
            let dropped = shared.dropped.swap(0, Ordering::Relaxed);
            warn!(
                "{dropped} notifications were not pushed: push services are slower than the chat, and {most} wait already"
            );
            lock(&self.work).dropped_due = Some(Instant::now() + log_throttle::INTERVAL);
        }
        let Some(failure) = failure else {
            return;
        };
        let time = self.clock.now_text();
        let rows = [
            (key::PUSH_LAST_SEND_FAILED_AT, time.as_str()),
            (key::PUSH_LAST_SEND_FAILURE, failure.as_str()),
        ];
        if let Err(error) = self.ask(|store| store.update_settings(&rows)) {
            warn!("{error}");
        }
    }

    /// Sends what can be sent until `until`; the rest is lost, and the log says how many.
    fn finish(self: &Arc<Self>, until: Instant) {
        let left = || until.saturating_duration_since(Instant::now());
        while !left().is_zero()
            && let Ok(notice) = self.starter.notices.try_recv()
        {
            self.take(notice);
        }
        let mut work = lock(&self.work);
        work.is_stopping = true;
        self.changed.notify_all();
        let waited = self
            .changed
            .wait_timeout_while(work, left(), |work| work.senders > 0);
        let work = waited.unwrap_or_else(PoisonError::into_inner).0;
        let waiting = self.count_waiting(&work);
        if waiting > 0 {
            info!("stopping: discarded {waiting} queued notifications");
        }
    }
}
