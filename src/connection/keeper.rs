//! Looks at every connection once a second: deadlines of handshake and authentication, silent peers, readers that
//! fell behind, goodbyes that nobody answers. Sleeps while nobody is connected, asks nobody and blocks on nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::handshake::Refused;
use super::{Connection, Phase, Reactor};
use crate::clock::epoch_seconds;
use crate::fault;
use crate::frame::Frame;
use crate::hits::{Limit, hit};
use crate::hub::{Subscriber, Weight};
use crate::limits::{CLOSE_LINGER, Limits};
use crate::model::CloseCode;

/// Seconds that a socket outlives its token where that is enforced.
const EXPIRY_GRACE_SECONDS: u64 = 30;

/// How long a socket may take to say who it is while newcomers are refused because of those who do not; by whole seconds,
/// of which the first may be a short one.
const HELD_DOOR_PATIENCE: Duration = Duration::from_secs(3);

/// Runs until the reactor stops.
pub(super) fn run(reactor: &Arc<Reactor>) {
    while !reactor.is_stopping() {
        reactor.wait_a_second();
        fault::point("keeper");
        reactor.service().refuse_expired(Instant::now());
        let now = reactor.seconds();
        for connection in reactor.all() {
            look_after(&connection, reactor, now);
        }
    }
}

fn look_after(connection: &Connection, reactor: &Reactor, now: u32) {
    let limits = &reactor.service().limits;
    let over =
        |since: u32, limit: Duration| u64::from(now.saturating_sub(since)) >= limit.as_secs();
    let (closing, behind_since) = {
        let outbox = connection.outbox();
        (outbox.is_closing(), outbox.behind_since())
    };
    if closing {
        if over(
            connection.closing_since.load(Ordering::Relaxed),
            CLOSE_LINGER,
        ) {
            connection.kill();
        }
        return;
    }
    if behind_since.is_some_and(|since| over(since, limits.queue_age)) {
        reactor.note_slow(connection);
        return connection.kill();
    }
    let since = connection.since.load(Ordering::Relaxed);
    // Whoever waits for the database has said who he is. Before the phase is looked at: he is in before he is resumed.
    let parked = connection.parked.load(Ordering::Acquire);
    let phase = connection.phase();
    let holds_door = matches!(phase, Phase::Head | Phase::Unauthenticated)
        && !parked
        && reactor.is_door_held(now);
    let patience = |limit: Duration| match holds_door {
        true => limit.min(HELD_DOOR_PATIENCE),
        false => limit,
    };
    // Its place is needed sooner than it would answer.
    let make_room = || {
        if holds_door {
            connection.kill();
        }
    };
    match phase {
        Phase::Head if over(since, patience(limits.handshake_timeout)) => {
            hit(Limit::HandshakeTime, || {
                format!("{} did not complete its request in time", connection.peer)
            });
            connection.refuse(Refused::Timeout);
            make_room();
        }
        Phase::Unauthenticated if over(since, patience(limits.auth_timeout)) => {
            hit(Limit::AuthTime, || {
                format!(
                    "connection {} from {} did not authenticate in time",
                    connection.id.0, connection.peer
                )
            });
            connection.close(CloseCode::AuthTimeout);
            make_room();
        }
        Phase::Unauthenticated | Phase::Active => keep_alive(connection, limits, now),
        Phase::Head | Phase::Gone => {}
    }
}

fn keep_alive(connection: &Connection, limits: &Limits, now: u32) {
    // Before the time is looked at: whoever is resumed is heard first.
    let parked = connection.parked.load(Ordering::Acquire);
    let silent = u64::from(now.saturating_sub(connection.heard.load(Ordering::Relaxed)));
    // Whoever waits for the database cannot be heard; the answer has a deadline of its own.
    if silent >= limits.idle_timeout.as_secs() && !parked {
        hit(Limit::Idle, || {
            format!(
                "connection {} from {} is silent and dropped",
                connection.id.0, connection.peer
            )
        });
        return connection.kill();
    }
    let expires = connection.expires.load(Ordering::Relaxed);
    if limits.enforce_expiry && expires > 0 && epoch_seconds() > expires + EXPIRY_GRACE_SECONDS {
        return connection.close(CloseCode::Unauthorised);
    }
    let pinged = u64::from(now.saturating_sub(connection.pinged.load(Ordering::Relaxed)));
    let interval = limits.ping_interval.as_secs();
    if silent >= interval && pinged >= interval {
        connection.pinged.store(now, Ordering::Relaxed);
        connection.push(&Frame::ping(), Weight::Essential);
        connection.flush();
    }
}
