//! The one sequence of a stop: no new sockets, no new events, what was received is committed and delivered, every
//! socket gets its goodbye, then the last rows and the pid file. Sockets go first, bookkeeping after; and the
//! whole of it has a limit, because the supervisor waits no longer (contract: operations.md, "Signals").

use std::process;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use log::{error, info, warn};

use super::Running;
use crate::clock::AppClock;
use crate::heartbeat::Order;
use crate::limits::SHUTDOWN_LIMIT;
use crate::settings::key;
use crate::store::Link;

/// How long what was sent before the stop may take to arrive.
const ON_THE_WAY: Duration = Duration::from_millis(50);
/// How long what was received may take to be committed.
const COMMIT_SHARE: Duration = Duration::from_millis(1500);
/// When what was noticed last must have been pushed.
const PUSH_SHARE: Duration = Duration::from_secs(2);
/// When the last socket must have had its goodbye.
const GOODBYE_SHARE: Duration = Duration::from_millis(3500);

/// When the last rows must be written, or they are not.
const ROWS_SHARE: Duration = Duration::from_millis(3700);
/// When the application's cache must have been told of them.
const CACHE_SHARE: Duration = Duration::from_millis(3900);

/// Ends a running service; `code` is what the process ends with if that takes too long.
pub fn run(running: Running, code: u8) {
    let begun = Instant::now();
    let Running {
        config,
        store,
        service,
        reactor,
        reactor_threads,
        hub_thread,
        bus_threads,
        push,
        store_threads,
        store_done,
        timer,
        timer_orders,
        events,
        end_wanted,
        stop_requested,
        pid_file,
        link,
        health: _,
        watch: told,
    } = running;
    let (finished, watch) = bounded::<()>(0);
    let pid_path = pid_file.path().to_owned();
    // Neither this thread nor the one of the last rows is vital: what a panic could ask for, an end, is under way.
    let guard = thread::Builder::new()
        .name("stop-limit".to_owned())
        .spawn(move || {
            #[expect(
                clippy::exit,
                reason = "the one place that ends a stop which cannot end by itself"
            )]
            if watch.recv_timeout(SHUTDOWN_LIMIT) == Err(RecvTimeoutError::Timeout) {
                error!(
                    "the stop took longer than {} s and is cut off",
                    SHUTDOWN_LIMIT.as_secs()
                );
                super::start::remove_file(&pid_path);
                process::exit(i32::from(code));
            }
        });
    if let Err(failed) = guard {
        warn!("the stop has no limit: {failed}");
    }
    if let Some(told) = told {
        told.stop();
    }
    // What was sent before the stop may still be on its way.
    thread::sleep(ON_THE_WAY);
    reactor.stop_reading(reactor_threads);
    let commit_until = begun + COMMIT_SHARE;
    service.posts.close(commit_until);
    service.queries.close(commit_until);
    service.feed.stop();
    let _ = timer_orders.try_send(Order::Stop);
    let ended = store_threads
        .iter()
        .take_while(|_| store_done.recv_deadline(commit_until).is_ok())
        .count();
    if ended < store_threads.len() {
        // They are inside a call to the database that does not come back; the process does not wait for it.
        warn!("the database does not answer; what it was asked last is given up");
    } else {
        for thread in store_threads {
            if thread.join().is_err() {
                error!("a thread of the store had failed");
            }
        }
    }
    let push_until = begun + PUSH_SHARE;
    if let Some(push) = &push {
        push.finish_by(push_until);
    }
    if let (Some(threads), Some(bus)) = (bus_threads, &service.bus) {
        threads.stop(bus);
    }
    service.give_up();
    service.hub.stop();
    if hub_thread.join().is_err() {
        error!("the hub had failed");
    }
    reactor.say_goodbye(begun + GOODBYE_SHARE);
    if let Some(push) = &push {
        push.wait(push_until);
    }
    write_last_rows(timer, link, config.clock, begun + ROWS_SHARE);
    store.settle(begun + CACHE_SHARE);
    pid_file.remove();
    drop((events, end_wanted, stop_requested));
    info!("stopped");
    drop(finished);
}

/// Writes that the service is stopped, on a thread of its own: the database may not come back from a call.
fn write_last_rows(timer: JoinHandle<()>, mut link: Link, clock: AppClock, until: Instant) {
    let (done, written) = bounded(1);
    let writer = thread::Builder::new()
        .name("last-rows".to_owned())
        .spawn(move || {
            // The timer writes to the same rows; it must have ended before they are written for the last time.
            if timer.join().is_err() {
                error!("the timer had failed");
            }
            let rows = link.run(|store| {
                store.update_settings(&[
                    (key::STATUS, "stopped"),
                    (key::PID, ""),
                    (key::LAST_SEEN_AT, &clock.now_text()),
                    (key::STOP_REQUESTED, "0"),
                ])
            });
            if let Err(failed) = rows {
                warn!("{failed}; the settings still call the service running");
            }
            // Nobody listens any more where it took too long.
            let _ = done.try_send(());
        });
    let late = match writer {
        Ok(_) => written.recv_deadline(until) == Err(RecvTimeoutError::Timeout),
        Err(failed) => {
            warn!("the last rows cannot be written: {failed}");
            false
        }
    };
    if late {
        warn!("the database does not answer; the settings still call the service running");
    }
}
