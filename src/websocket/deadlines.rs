//! Enforces deadlines on every connection once a second: handshake, authentication, silence, backlog, messages that the
//! database does not store in time. Never asks the database; waits only for room in the hub's channel.

use std::thread;
use std::time::{Duration, Instant};

use super::Server;
use super::connection::{Connection, Phase};
use crate::chat::Chat;
use crate::hub::Subscriber;
use crate::model::CloseCode;
use crate::platform::clock::epoch_seconds;
use crate::platform::metrics::Limit;
use crate::platform::threads::{Progress, lock};
use crate::protocol::frame::Frame;

const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Seconds that a socket may outlive its token where expiry is enforced: time to send a new one.
const EXPIRY_GRACE_SECONDS: u64 = 30;

/// Runs until the server has stopped.
pub(super) fn run(server: &Server, progress: &Progress) {
    while !server.flusher.is_ended() {
        progress.made();
        thread::park_timeout(SWEEP_INTERVAL);
        let now = Instant::now();
        server.registry.drop_refused(now);
        server.chat.tell_left_out(now);
        server.chat.feed.release_overdue(&server.chat.hub, now);
        for connection in server.registry.all() {
            if let Some(post) = connection.post() {
                server.chat.refuse_overdue(&post, Some(now));
            }
            sweep(&connection, &server.chat, now);
        }
    }
}

fn sweep(connection: &Connection, chat: &Chat, now: Instant) {
    let limits = &chat.limits;
    let over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
    let outbox = lock(&connection.outbox);
    if outbox.is_close_overdue(now) {
        return connection.kill();
    }
    if outbox.is_closing() {
        return;
    }
    let behind_since = outbox.behind_since();
    drop(outbox);
    if behind_since.is_some_and(|since| over(since, limits.queue_age)) {
        return connection.drop_slow();
    }
    let mut state = lock(&connection.state);
    let late = match state.phase {
        Phase::Request if over(state.since, limits.handshake_timeout) => {
            Some((Limit::HandshakeTime, "complete its request"))
        }
        Phase::Unauthenticated if over(state.since, limits.auth_timeout) => {
            Some((Limit::AuthTime, "authenticate"))
        }
        Phase::Request | Phase::Answered => return,
        _ => None,
    };
    let is_silent = over(state.heard, limits.idle_timeout);
    // The peer is not to blame for bytes that it has sent and the thread has not read. The thread does not read while it
    // waits for the database, but that wait has its own deadline.
    if (late.is_some() || is_silent) && connection.is_unheard(&state) {
        let silence = now.saturating_duration_since(state.heard).as_secs();
        drop(state);
        let Some((limit, what)) = late else {
            chat.limit_log.hit(Limit::Idle, || {
                format!("{connection}: dropped, silent for {silence} s")
            });
            return connection.kill();
        };
        chat.limit_log.hit(limit, || {
            format!("{connection}: closed, did not {what} in time")
        });
        return connection.evict();
    }
    let expires = match state.phase {
        Phase::Request => return,
        Phase::Authenticated { expires, .. } if limits.enforce_expiry => expires,
        _ => u64::MAX,
    };
    let is_ping_due =
        over(state.heard, limits.ping_interval) && over(state.pinged, limits.ping_interval);
    if is_ping_due {
        state.pinged = now;
    }
    drop(state);
    if epoch_seconds() > expires.saturating_add(EXPIRY_GRACE_SECONDS) {
        connection.close(CloseCode::Unauthorised);
    } else if is_ping_due {
        connection.send(Frame::ping().bytes());
    }
}
