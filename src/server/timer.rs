//! The timer thread: heartbeat, stop request, settings and the activity of agents, each in its rhythm, over a
//! connection that it borrows (contract: operations.md, "Heartbeat"; database.md, "Settings"). An unavailable database
//! delays the thread no longer than its time-outs.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{info, warn};

use crate::chat::Chat;
use crate::config::limits::{ACTIVITY_INTERVAL, HEARTBEAT_INTERVAL};
use crate::config::settings::{Settings, key};
use crate::platform::clock::{AppClock, epoch_seconds};
use crate::platform::metrics::METRICS;
use crate::platform::threads::Progress;
use crate::push::PushSettings;
use crate::store::{Failure, Pool, Pools};

/// How often the stop request, and with it all settings, are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the timer thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerOrder {
    /// Look at the settings now.
    Reload,
    /// End.
    Stop,
}

/// Runs until it is told to stop. `stop_requested` is told when the settings ask for a stop.
pub(crate) fn run(
    chat: &Chat,
    pools: &Pools,
    clock: &AppClock,
    orders: &Receiver<TimerOrder>,
    stop_requested: &Sender<()>,
    progress: &Progress,
) {
    let mut beat_due = Instant::now();
    let mut recheck_due = Instant::now();
    let mut said_why = false;
    loop {
        progress.made();
        let tick = Instant::now();
        pools.settle(tick + TICK);
        pools.tend(tick);
        let pool = &pools.shared;
        let mut failure = look_at_settings(chat, pool, stop_requested).err();
        if tick >= recheck_due {
            recheck_due = tick + ACTIVITY_INTERVAL;
            chat.dedup.tidy(tick);
            failure = failure.or(recheck_agents(chat, pool).err());
        }
        if tick >= beat_due {
            beat_due = tick + HEARTBEAT_INTERVAL;
            failure = failure.or(beat(pool, clock).err());
        }
        // The pool reports a lost database; only refusals are reported here, once.
        match failure {
            Some(error) if !said_why && error.failure == Failure::Refused => {
                warn!("{error}");
                said_why = true;
            }
            Some(_) => {}
            None => said_why = false,
        }
        match orders.recv_deadline(tick + TICK) {
            Ok(TimerOrder::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(TimerOrder::Reload) => {
                info!("reading the settings again");
                recheck_due = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn look_at_settings(
    chat: &Chat,
    pool: &Pool,
    stop_requested: &Sender<()>,
) -> crate::store::Result<()> {
    let rows = pool.run_anew(|store| store.settings())?;
    if let Some(changes) = chat.set_settings(Settings::from_rows(&rows)) {
        info!("settings changed: {changes}");
    }
    if let Some(push) = &chat.push {
        push.configure(PushSettings::from_rows(&rows));
    }
    if rows.integer(key::STOP_REQUESTED, 0) == 1 {
        // If the queue is full, the stop was requested already.
        let _ = stop_requested.try_send(());
    }
    Ok(())
}

/// Closes the sockets of agents that are no longer active.
fn recheck_agents(chat: &Chat, pool: &Pool) -> crate::store::Result<()> {
    if !chat.is_any_agent_known() {
        return Ok(());
    }
    let asked = Instant::now();
    let active = pool.run_anew(|store| store.active_agents())?;
    chat.close_inactive(active, asked);
    Ok(())
}

/// Shows that the daemon lives.
///
/// # Errors
/// The failure of the statement.
pub(crate) fn beat(pool: &Pool, clock: &AppClock) -> crate::store::Result<()> {
    let (pid, now) = (std::process::id().to_string(), clock.now_text());
    let beaten = pool.run_anew(|store| {
        store.update_settings(&[
            (key::STATUS, "running"),
            (key::PID, &pid),
            (key::LAST_SEEN_AT, &now),
        ])
    });
    pool.availability().note_heartbeat(&beaten);
    beaten?;
    METRICS.heartbeat.set(epoch_seconds());
    Ok(())
}
