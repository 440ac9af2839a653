//! The timer thread: heartbeat, stop request, settings and the activity of agents, each in its rhythm, over one
//! connection of its own (contract: operations.md, "Heartbeat"; database.md, "Settings"). A database that is
//! away stops none of it for longer than its time-outs.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use log::{info, warn};

use crate::clock::{AppClock, epoch_seconds};
use crate::fault;
use crate::limits::{ACTIVITY_INTERVAL, HEARTBEAT_INTERVAL};
use crate::memory::{self, Breather};
use crate::metrics::METRICS;
use crate::push::PushSettings;
use crate::service::Service;
use crate::settings::{Settings, key};
use crate::store::Link;

/// How often the stop request, and with it all settings, are looked at.
const TICK: Duration = Duration::from_secs(1);

/// So long after its start everything that happens once has happened.
const START_UP: Duration = Duration::from_secs(5);

/// What the timer thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Look at the settings now.
    Reload,
    /// End.
    Stop,
}

/// Runs until it is told to stop. `stop_requested` is told when the settings ask for a stop.
pub fn run(
    service: &Service,
    mut link: Link,
    clock: &AppClock,
    orders: &Receiver<Order>,
    stop_requested: &Sender<()>,
) {
    let mut beat_due = Instant::now();
    let mut recheck_due = Instant::now();
    let mut said_why = false;
    let mut start_up_over = Some(Instant::now() + START_UP);
    let mut breather = Breather::new(Instant::now());
    loop {
        fault::point("timer");
        link.renew();
        let tick = Instant::now();
        let mut failure = look_at_settings(service, &mut link, stop_requested).err();
        if tick >= recheck_due {
            recheck_due = tick + ACTIVITY_INTERVAL;
            breather.freed(service.repeats.tidy(tick));
            failure = failure.or(recheck_agents(service, &mut link).err());
        }
        if tick >= beat_due {
            beat_due = tick + HEARTBEAT_INTERVAL;
            failure = failure.or(beat(&mut link, clock).err());
        }
        // The link says that a database is gone; what is left to say are refusals, once.
        match failure {
            Some(error) if !said_why && link.is_connected() => {
                warn!("{error}");
                said_why = true;
            }
            Some(_) => {}
            None => said_why = false,
        }
        if start_up_over.take_if(|over| *over <= tick).is_some() {
            memory::forget_start_up();
        }
        let work = METRICS.events.get() + METRICS.deliveries.get() + METRICS.granted.get();
        if breather.is_due(work, tick) {
            memory::give_back_what_is_free();
        }
        match orders.recv_deadline(tick + TICK) {
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(Order::Reload) => {
                info!("reading the settings again");
                recheck_due = Instant::now();
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn look_at_settings(
    service: &Service,
    link: &mut Link,
    stop_requested: &Sender<()>,
) -> crate::store::Result<()> {
    let rows = link.run(|store| store.settings())?;
    if service.set_settings(Settings::from_rows(&rows)) {
        info!("settings changed");
    }
    if let Some(push) = &service.push {
        push.configure(PushSettings::from_rows(&rows));
    }
    if rows.integer(key::STOP_REQUESTED, 0) == 1 {
        // Full only where it was asked for already.
        let _ = stop_requested.try_send(());
    }
    Ok(())
}

/// Closes the sockets of agents who are active no longer.
fn recheck_agents(service: &Service, link: &mut Link) -> crate::store::Result<()> {
    if !service.is_anybody_known() {
        return Ok(());
    }
    let asked = Instant::now();
    let active = link.run(|store| store.active_agents())?;
    service.close_inactive(active, asked);
    Ok(())
}

/// Shows that the daemon lives.
///
/// # Errors
/// The failure of the statement.
pub fn beat(link: &mut Link, clock: &AppClock) -> crate::store::Result<()> {
    let (pid, now) = (std::process::id().to_string(), clock.now_text());
    link.run(|store| {
        store.update_settings(&[
            (key::STATUS, "running"),
            (key::PID, &pid),
            (key::LAST_SEEN_AT, &now),
        ])
    })?;
    METRICS.heartbeat.set(epoch_seconds());
    Ok(())
}
