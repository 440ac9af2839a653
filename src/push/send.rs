//! Sends one push: encrypts it, posts it, and judges the answer.

use std::time::Duration;

use super::crypt::seal;
use super::http::PushClient;
use super::response::Response;
use super::schedule::{Delivery, PushOutcome, Unsent};
use super::vapid::Identity;
use crate::platform::clock;

/// Most characters of a service's own words that are passed on.
const WORDS: usize = 200;

/// Encrypts a push and posts it.
pub(super) fn send(client: &PushClient, delivery: &Delivery, identity: &Identity) -> PushOutcome {
    let endpoint = &delivery.endpoint;
    let answer = seal(&delivery.subscription, &delivery.payload).and_then(|sealed| {
        let headers = identity.headers(&endpoint.origin, clock::epoch_seconds(), &sealed);
        client.post(endpoint, &headers, &sealed.body)
    });
    match answer {
        Ok(answer) => judge(&answer, endpoint.authority(), &endpoint.target),
        Err(Unsent {
            why,
            is_final: true,
        }) => PushOutcome::Refused(why),
        Err(Unsent { why, .. }) => PushOutcome::Silent(why),
    }
}

/// What an answer means. A redirect is a refusal: it may point anywhere.
fn judge(answer: &Response, place: &str, target: &str) -> PushOutcome {
    let why = || {
        let words = words(&answer.body, target);
        let between = if words.is_empty() { "" } else { ": " };
        format!("{place} answered {}{between}{words}", answer.status)
    };
    match answer.status {
        200..=299 => PushOutcome::Accepted,
        404 | 410 => PushOutcome::Gone,
        429 | 500..=599 => PushOutcome::Later(answer.retry_after.as_deref().and_then(pause), why()),
        _ => PushOutcome::Refused(why()),
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

    fn answer(status: u16, retry_after: Option<&str>, body: &str) -> PushOutcome {
        let answer = Response {
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
            assert_eq!(answer(status, None, ""), PushOutcome::Accepted);
        }
        for status in [404, 410] {
            assert_eq!(answer(status, None, "x"), PushOutcome::Gone);
        }
        for status in [301, 307, 400, 401, 403, 413] {
            let why = format!("push.test answered {status}");
            assert_eq!(answer(status, Some("5"), ""), PushOutcome::Refused(why));
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
                assert_eq!(answer(status, text, ""), PushOutcome::Later(pause, why));
            }
        }
    }

    #[test]
    fn what_a_service_says_is_cut_and_names_no_subscription() {
        let said = format!("no\r\n\u{1b}such: /send/secret-id{}", " x".repeat(400));
        let PushOutcome::Refused(why) = answer(400, None, &said) else {
            panic!("refused");
        };
        assert!(
            why.starts_with("push.test answered 400: no such: /send/… x x"),
            "{why}"
        );
        assert!(why.chars().count() < 240, "{why}");
    }
}
