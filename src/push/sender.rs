//! The threads that send: each takes one push at a time, encrypts it, posts it and says what came of it. They come when
//! they are needed and go when they are not, and with the last one go the connections that were kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::warn;
use rustls::pki_types::CertificateDer;

use super::answer::Answer;
use super::crypt::seal;
use super::http::{Client, PostError};
use super::reach::Unreachable;
use super::schedule::{Delivery, Outcome};
use super::vapid::Credentials;
use crate::clock;

/// Threads that send at once.
const MOST_SENDERS: usize = 4;
/// How long one waits for the next push before it ends.
const IDLE: Duration = Duration::from_secs(30);
/// Stack of one, in bytes; a TLS handshake takes a tenth of it.
const STACK: usize = 512 * 1024;
/// What of a service's own words is passed on, in characters.
const WORDS: usize = 200;

/// A push to be sent, and what it shows.
pub struct Job {
    /// The push.
    pub delivery: Delivery,
    /// What it shows.
    pub credentials: Credentials,
}

/// What a sender says.
pub enum Report {
    /// A push was sent, or not.
    Sent(Box<Delivery>, Outcome),
    /// The thread ends.
    Ended,
}

/// The threads that send.
pub struct Senders {
    roots: Vec<CertificateDer<'static>>,
    timeout: Duration,
    client: Weak<Client>,
    jobs: (Sender<Job>, Receiver<Job>),
    reports: (Sender<Report>, Receiver<Report>),
    alive: usize,
    busy: usize,
}

impl Senders {
    /// None yet. `roots` are certificates that are trusted beside the well-known ones.
    pub fn new(roots: Vec<CertificateDer<'static>>, timeout: Duration) -> Self {
        Senders {
            roots,
            timeout,
            client: Weak::new(),
            jobs: bounded(MOST_SENDERS),
            // Each sender has one push and one end to report.
            reports: bounded(2 * MOST_SENDERS),
            alive: 0,
            busy: 0,
        }
    }

    /// Others in their place, who know nothing of what is on its way.
    pub fn successors(&self) -> Self {
        Senders::new(self.roots.clone(), self.timeout)
    }

    /// Whether another push can be sent now.
    pub fn are_free(&self) -> bool {
        self.busy < MOST_SENDERS
    }

    /// Whether none is on its way.
    pub fn are_idle(&self) -> bool {
        self.busy == 0
    }

    /// Where they report.
    pub fn reports(&self) -> Receiver<Report> {
        self.reports.1.clone()
    }

    /// Sends a push, once [`Senders::are_free`].
    ///
    /// # Errors
    /// There is no thread to send it, and none can be started; it comes back.
    pub fn send(&mut self, job: Job) -> Result<(), Box<Delivery>> {
        if self.alive <= self.busy && !self.start_one() && self.alive == 0 {
            return Err(Box::new(job.delivery));
        }
        self.busy += 1;
        self.jobs.0.send(job).expect("both ends are held");
        Ok(())
    }

    /// Takes in a report; what became of a push, if it is about one.
    pub fn take(&mut self, report: Report) -> Option<(Delivery, Outcome)> {
        match report {
            Report::Sent(delivery, outcome) => {
                self.busy -= 1;
                Some((*delivery, outcome))
            }
            Report::Ended => {
                self.alive -= 1;
                // It may have stopped waiting just when a push was handed out.
                if self.alive < self.busy {
                    self.start_one();
                }
                None
            }
        }
    }

    fn start_one(&mut self) -> bool {
        if self.alive >= MOST_SENDERS {
            return false;
        }
        let client = match self.client.upgrade() {
            Some(client) => client,
            None => match Client::new(&self.roots, self.timeout) {
                Ok(client) => Arc::new(client),
                Err(error) => {
                    warn!("cannot push: {error}");
                    return false;
                }
            },
        };
        self.client = Arc::downgrade(&client);
        let (jobs, reports) = (self.jobs.1.clone(), self.reports.0.clone());
        let started = thread::Builder::new()
            .name("push-send".to_owned())
            .stack_size(STACK)
            .spawn(move || run(&client, &jobs, &reports));
        match started {
            Ok(_) => self.alive += 1,
            Err(ref error) => warn!("cannot start a thread that pushes: {error}"),
        }
        started.is_ok()
    }
}

fn run(client: &Client, jobs: &Receiver<Job>, reports: &Sender<Report>) {
    while let Ok(job) = jobs.recv_timeout(IDLE) {
        let sent = catch_unwind(AssertUnwindSafe(|| send(client, &job)));
        let outcome =
            sent.unwrap_or_else(|_| Outcome::Refused("a fault of the service".to_owned()));
        let _ = reports.send(Report::Sent(Box::new(job.delivery), outcome));
    }
    let _ = reports.send(Report::Ended);
}

fn send(client: &Client, job: &Job) -> Outcome {
    let Delivery {
        payload,
        subscription,
        endpoint,
        ..
    } = &job.delivery;
    let sealed = match seal(subscription, payload) {
        Ok(sealed) => sealed,
        Err(why) => return Outcome::Refused(format!("cannot encrypt: {why}")),
    };
    let place = endpoint.authority();
    match client.post(endpoint, &job.credentials.headers(&sealed), &sealed.body) {
        Ok(answer) => judge(&answer, place, &endpoint.target),
        Err(PostError::Unreachable(why @ Unreachable::Unknown(..))) => {
            Outcome::Silent(why.to_string())
        }
        Err(PostError::Unreachable(why)) => Outcome::Refused(why.to_string()),
        Err(error) if error.is_impostor() => {
            Outcome::Refused(format!("cannot trust {place}: {error}"))
        }
        Err(error) => Outcome::Silent(format!("cannot reach {place}: {error}")),
    }
}

/// What an answer means. A redirect is a refusal: it may point anywhere.
fn judge(answer: &Answer, place: &str, target: &str) -> Outcome {
    let why = || {
        let words = words(&answer.body, target);
        let between = if words.is_empty() { "" } else { ": " };
        format!("{place} answered {}{between}{words}", answer.status)
    };
    match answer.status {
        200..=299 => Outcome::Accepted,
        404 | 410 => Outcome::Gone,
        429 | 500..=599 => Outcome::Later(answer.retry_after.as_deref().and_then(pause), why()),
        _ => Outcome::Refused(why()),
    }
}

fn pause(retry_after: &str) -> Option<Duration> {
    let seconds = retry_after.parse().ok();
    seconds
        .or_else(|| clock::seconds_until(retry_after))
        .map(Duration::from_secs)
}

/// The beginning of what a service says, on one line, without the subscription's address.
fn words(body: &[u8], target: &str) -> String {
    let text = String::from_utf8_lossy(body);
    let secret = target.rsplit('/').next().unwrap_or_default();
    let text = match secret.len() {
        0..=3 => text.into_owned(),
        _ => text.replace(secret, "…"),
    };
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    crate::text::collapse(&text, WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> Outcome {
        let answer = Answer {
            status,
            retry_after: retry_after.map(str::to_owned),
            body: body.as_bytes().to_vec(),
            may_go_on: true,
        };
        judge(&answer, "push.test", "/send/secret-id")
    }

    #[test]
    fn an_answer_means_done_gone_later_or_never() {
        for status in [200, 201, 202, 204] {
            assert_eq!(answer(status, None, ""), Outcome::Accepted);
        }
        for status in [404, 410] {
            assert_eq!(answer(status, None, "x"), Outcome::Gone);
        }
        for status in [301, 307, 400, 401, 403, 413] {
            let why = format!("push.test answered {status}");
            assert_eq!(answer(status, Some("5"), ""), Outcome::Refused(why));
        }
        for (text, seconds) in [
            (Some("5"), Some(5)),
            (Some("Wed, 21 Oct 2015 07:28:00 GMT"), Some(0)),
            (Some("soon"), None),
            (Some("-1"), None),
            (None, None),
        ] {
            for status in [429, 500, 503] {
                let why = format!("push.test answered {status}");
                let pause = seconds.map(Duration::from_secs);
                assert_eq!(answer(status, text, ""), Outcome::Later(pause, why));
            }
        }
    }

    #[test]
    fn what_a_service_says_is_cut_and_names_no_subscription() {
        let said = format!("no\r\n\u{1b}such: /send/secret-id{}", " x".repeat(400));
        let Outcome::Refused(why) = answer(400, None, &said) else {
            panic!("refused");
        };
        assert!(
            why.starts_with("push.test answered 400: no such: /send/… x x"),
            "{why}"
        );
        assert!(why.chars().count() < 240, "{why}");
    }
}
