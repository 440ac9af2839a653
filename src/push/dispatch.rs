//! The threads that push. `push` takes notices, finds the subscriptions they go to, and writes down what failed; it
//! waits for the database and for nothing else, and nothing waits for it. Each sender takes one push at a time from the
//! schedule. Senders start when something waits and end when idle.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use log::{debug, error, info, warn};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::endpoint::Endpoint;
use super::http::PushClient;
use super::payload::payload;
use super::schedule::{Delivery, Next, PushOutcome, Schedule, Settled};
use super::send::send;
use super::vapid::Identity;
use super::{Notice, PushSettings, PushShared, Queue};
use crate::config::PushOptions;
use crate::config::limits::STORE_TIMEOUT;
use crate::config::settings::key;
use crate::model::AgentId;
use crate::platform::clock::{AppClock, epoch_seconds};
use crate::platform::log_throttle::{self, Line, LogThrottle};
use crate::platform::metrics::METRICS;
use crate::platform::problem::Problem;
use crate::platform::threads::lock;
use crate::store::{self, DatabaseConnection, Pool};

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
/// How long one of them waits for the next push before it ends.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Stack of each thread, in bytes: `push` talks to the database, and a TLS handshake takes a tenth of it.
const STACK_BYTES: usize = 512 * 1024;

/// A thread that is not running yet.
pub(crate) struct Starter {
    options: PushOptions,
    roots: Vec<CertificateDer<'static>>,
    shared: Arc<PushShared>,
    notices: Receiver<Box<Notice>>,
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
    let roots = read_roots(options)?;
    let (sender, notices) = bounded(options.queue);
    let shared = Arc::new(PushShared::default());
    let queue = Queue {
        notices: sender,
        shared: Arc::clone(&shared),
    };
    let starter = Starter {
        options: options.clone(),
        roots,
        shared,
        notices,
    };
    Ok(Some((queue, starter)))
}

fn read_roots(options: &PushOptions) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let Some(path) = &options.ca_file else {
        return Ok(Vec::new());
    };
    let failed = |why: Box<dyn std::error::Error + Send + Sync>| {
        let path = path.display();
        Problem::of_config(format!(
            "cannot take certificates from {path} (CHAT_WEBSOCKET_PUSH_CA)"
        ))
        .because(why)
        .with_remedy("name a file of certificates in PEM, or leave it out")
    };
    // Opening a pipe would block.
    if path.exists() && !path.is_file() {
        return Err(failed("it is no file".into()));
    }
    let roots: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.into()))?;
    if roots.is_empty() {
        return Err(failed("there is none".into()));
    }
    PushClient::new(&roots, options.timeout).map_err(|error| failed(error.into()))?;
    Ok(roots)
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
    identity: Option<Identity>,
    /// What the identity was made from.
    settings: PushSettings,
    /// A failure that is not stored yet.
    failure: Option<String>,
    /// When it may be logged again that something was dropped.
    dropped_due: Option<Instant>,
    /// `None` without senders: the last one closes the kept connections.
    client: Option<Arc<PushClient>>,
    senders: usize,
    /// Senders with a push on its way.
    busy: usize,
    /// Subscriptions that have expired, by their hashes.
    expired: Vec<String>,
    /// When a failure may be stored again.
    failure_due: Option<Instant>,
    is_stopping: bool,
}

impl Pusher {
    /// The thread `push`. A fault costs the notices that were being looked at.
    fn run(self: &Arc<Self>, stop: &Receiver<Instant>) {
        let notices = &self.starter.notices;
        loop {
            let worked = catch_unwind(AssertUnwindSafe(|| {
                let mut stop_by = None;
                select! {
                    recv(notices) -> notice => match notice {
                        Ok(notice) => self.take(notice),
                        // The service is gone, so this thread ends.
                        Err(_) => stop_by = Some(Instant::now()),
                    },
                    recv(stop) -> until => {
                        stop_by = Some(until.unwrap_or_else(|_| Instant::now()));
                    }
                    default(TIDY_INTERVAL) => {}
                }
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
    fn take(self: &Arc<Self>, first: Box<Notice>) {
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
                        METRICS.pushes[2].add(1);
                        self.failed(&mut work, &format!("{subscription:?}"), why.to_string());
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
        let settings = self.starter.shared.settings().clone();
        let mut work = lock(&self.work);
        if settings != work.settings {
            work.identity = None;
            if settings.are_complete() {
                match Identity::new(&settings, &self.jwt_secret) {
                    Ok(identity) => work.identity = Some(identity),
                    Err(why) => {
                        self.failed(&mut work, "Web Push", format!("{why}; no push is sent"));
                    }
                }
            }
            work.settings = settings;
        }
    }

    /// Starts as many senders as there is work for. If the system refuses a thread, the next second tries again.
    fn start_senders(self: &Arc<Self>, work: &mut Work) {
        while work.senders < MAX_SENDERS.min(work.busy + work.schedule.len()) {
            if work.client.is_none() {
                match PushClient::new(&self.starter.roots, self.starter.options.timeout) {
                    Ok(client) => work.client = Some(Arc::new(client)),
                    Err(error) => {
                        self.failure_log.warn(|| format!("cannot push: {error}"));
                        return;
                    }
                }
            }
            let pusher = Arc::clone(self);
            let started = thread::Builder::new()
                .name("push-send".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    // A fault in `send` is caught there; any other ends this thread alone.
                    let _ = catch_unwind(AssertUnwindSafe(|| pusher.send_all()));
                    pusher.sender_has_ended();
                });
            if let Err(error) = started {
                self.failure_log
                    .warn(|| format!("cannot start a thread that pushes: {error}"));
                return;
            }
            work.senders += 1;
        }
    }

    /// Sends pushes until there has been none for [`IDLE_TIMEOUT`].
    fn send_all(&self) {
        let mut work = lock(&self.work);
        loop {
            if work.identity.is_none() {
                // The keys were taken out of the settings while something waited.
                work.schedule.clear();
            }
            let next = work.schedule.next(Instant::now());
            self.count_waiting(&work);
            let due = match next {
                Next::Send(delivery) => {
                    let client = work.client.clone();
                    let identity = work.identity.as_mut();
                    let credentials = identity.map(|identity| {
                        identity.credentials(&delivery.endpoint.origin, epoch_seconds())
                    });
                    work.busy += 1;
                    drop(work);
                    let outcome = client.zip(credentials).and_then(|(client, credentials)| {
                        let sent = || send(&client, &delivery, &credentials);
                        catch_unwind(AssertUnwindSafe(sent)).ok()
                    });
                    let outcome = outcome.unwrap_or_else(|| {
                        PushOutcome::Refused("a fault of the service".to_owned())
                    });
                    self.settle(delivery, outcome);
                    work = lock(&self.work);
                    continue;
                }
                Next::GiveUp(delivery) => {
                    self.give_up(&mut work, &delivery, "no answer for long");
                    continue;
                }
                Next::Wait(due) => due,
            };
            if work.is_stopping {
                break;
            }
            let left = due.map_or(IDLE_TIMEOUT, |due| {
                due.saturating_duration_since(Instant::now())
            });
            let waited = self.changed.wait_timeout(work, left.min(IDLE_TIMEOUT));
            let waited = waited.unwrap_or_else(PoisonError::into_inner);
            work = waited.0;
            if waited.1.timed_out() && work.schedule.len() == 0 {
                break;
            }
        }
    }

    fn sender_has_ended(&self) {
        let mut work = lock(&self.work);
        work.senders -= 1;
        if work.senders == 0 {
            work.client = None;
        }
        drop(work);
        self.changed.notify_all();
    }

    fn settle(&self, delivery: Delivery, outcome: PushOutcome) {
        let who = format!("{:?}", delivery.subscription);
        let hash = delivery.subscription.endpoint_hash.clone();
        let mut work = lock(&self.work);
        work.busy -= 1;
        let settled = work.schedule.settle(delivery, outcome, Instant::now());
        METRICS.pushes[place(&settled)].add(1);
        match &settled {
            Settled::Failed(why) => self.failed(&mut work, &who, why.clone()),
            Settled::Forget => work.expired.push(hash),
            Settled::Done | Settled::Waits(_) => {}
        }
        drop(work);
        self.changed.notify_all();
        match settled {
            Settled::Done | Settled::Failed(_) => {}
            Settled::Waits(why) => debug!("{who}: {why}; tried again later"),
            Settled::Forget => info!("{who} has expired and is deleted"),
        }
    }

    fn ask<T>(
        &self,
        operation: impl FnMut(&mut DatabaseConnection) -> store::Result<T>,
    ) -> store::Result<T> {
        let deadline = Instant::now() + STORE_TIMEOUT;
        self.pool.run_until(deadline, operation)
    }

    fn give_up(&self, work: &mut Work, delivery: &Delivery, why: &str) {
        METRICS.pushes[4].add(1);
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
        let may_write = work.is_stopping || work.failure_due.is_none_or(|due| due <= now);
        let failure = work.failure.take_if(|_| may_write);
        if failure.is_some() {
            work.failure_due = Some(now + TIDY_INTERVAL);
        }
        let is_due = work.dropped_due.is_none_or(|due| due <= now);
        drop(work);
        self.failure_log.settle("failed pushes", now);
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

/// Its index in `PUSH_OUTCOMES`.
fn place(settled: &Settled) -> usize {
    match settled {
        Settled::Done => 0,
        Settled::Forget => 1,
        Settled::Failed(_) => 2,
        Settled::Waits(_) => 3,
    }
}
