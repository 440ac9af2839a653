//! The one sequence of a stop: no new sockets, no new events, what was received is committed and delivered, every
//! socket gets its goodbye, then the last rows and the pid file. Sockets go first, bookkeeping after; and the whole
//! sequence has a limit, because the supervisor waits no longer (contract: operations.md, "Signals").

use std::process;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use log::{error, info, warn};

use super::Running;
use crate::config::limits::SHUTDOWN_LIMIT;
use crate::config::settings::key;
use crate::hub::Command;
use crate::platform::clock::AppClock;
use crate::platform::pid_file::PidFile;
use crate::server::timer::TimerOrder;
use crate::store::Pool;

/// How long committing what was received may take.
const COMMIT_SHARE: Duration = Duration::from_millis(1500);
/// How long the last answers may take to reach the hub.
const LAST_ANSWERS: Duration = Duration::from_millis(100);
/// When the last notices must have been pushed.
const PUSH_SHARE: Duration = Duration::from_secs(2);
/// When the last socket must have had its goodbye.
const GOODBYE_SHARE: Duration = Duration::from_millis(3500);

/// When the last rows must be written; later ones are given up.
const ROWS_SHARE: Duration = Duration::from_millis(3700);
/// When the application's cache must have been invalidated.
const CACHE_SHARE: Duration = Duration::from_millis(3900);

/// Ends a running service; `code` is what the process ends with if that takes too long.
pub(super) fn run(running: Running, code: u8) {
    let begun = Instant::now();
    let pid_file = Arc::new(running.pid_file);
    let finished = limit_stop(Arc::clone(&pid_file), code);
    if let Some(watch) = running.watch {
        watch.stop();
    }
    if let Some(inspection) = running.inspection {
        inspection.stop();
    }
    let (chat, server, pools) = (running.chat, running.server, running.pools);
    server.stop_reading();
    let commit_until = begun + COMMIT_SHARE;
    chat.stop_commit(commit_until);
    chat.feed.stop();
    let _ = running.timer_orders.try_send(TimerOrder::Stop);
    // Connections that wait for an answer of the database get it, or are told by then that it does not come.
    server.wait_until_idle(commit_until);
    chat.stop_questions();
    let ended = running.store_done.recv_deadline(commit_until);
    if ended == Err(RecvTimeoutError::Timeout) {
        // They are inside a call to the database that does not come back; the process does not wait for it.
        warn!("the database does not answer; what it was asked last is given up");
    } else {
        running.store_threads.into_iter().for_each(join);
    }
    let push_until = begun + PUSH_SHARE;
    if let Some(push) = &running.push {
        push.finish_by(push_until);
    }
    if let (Some(threads), Some(bus)) = (running.bus_threads, &chat.bus) {
        threads.stop(bus);
    }
    server.refuse_pending_posts();
    server.wait_until_idle(Instant::now() + LAST_ANSWERS);
    chat.hub.send(Command::Stop);
    join(running.hub_thread);
    server.say_goodbye(running.server_threads, begun + GOODBYE_SHARE);
    if let Some(push) = &running.push {
        push.wait(push_until);
    }
    let (pool, clock) = (Arc::clone(&pools.shared), running.config.clock);
    write_last_rows(running.timer, pool, clock, begun + ROWS_SHARE);
    pools.settle(begun + CACHE_SHARE);
    pid_file.remove();
    info!("stopped");
    drop(finished);
}

/// Ends the process with `code` if the stop takes too long; dropping the returned sender prevents that.
fn limit_stop(pid_file: Arc<PidFile>, code: u8) -> Sender<()> {
    let (finished, watch) = bounded::<()>(0);
    // Neither this thread nor the one of the last rows is critical: a panic would ask for the end that is under way.
    let guard = thread::Builder::new()
        .name("stop-limit".to_owned())
        .spawn(move || {
            #[expect(
                clippy::exit,
                reason = "the one place that ends a stop which cannot end by itself"
            )]
            if watch.recv_timeout(SHUTDOWN_LIMIT) == Err(RecvTimeoutError::Timeout) {
                error!(
                    "shutdown did not finish within {} s; exiting",
                    SHUTDOWN_LIMIT.as_secs()
                );
                pid_file.remove();
                process::exit(i32::from(code));
            }
        });
    if let Err(failed) = guard {
        warn!("cannot start the shutdown watchdog: {failed}");
    }
    finished
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or("unnamed").to_owned();
    if thread.join().is_err() {
        error!("thread \"{name}\" panicked");
    }
}

/// Writes that the service is stopped, on a thread of its own: the database may not come back from a call.
fn write_last_rows(timer: JoinHandle<()>, pool: Arc<Pool>, clock: AppClock, until: Instant) {
    let (done, written) = bounded(1);
    let writer = thread::Builder::new()
        .name("last-rows".to_owned())
        .spawn(move || {
            // The timer writes to the same rows; it must have ended before they are written for the last time.
            join(timer);
            let rows = pool.run_anew(|store| {
                store.update_settings(&[
                    (key::STATUS, "stopped"),
                    (key::PID, ""),
                    (key::LAST_SEEN_AT, &clock.now_text()),
                    (key::STOP_REQUESTED, "0"),
                ])
            });
            if let Err(failed) = rows {
                warn!(
                    "cannot record status \"stopped\": {failed}; the settings still call the service running"
                );
            }
            // The receiver gives up if this took too long.
            let _ = done.try_send(());
        });
    let late = match writer {
        Ok(_) => written.recv_deadline(until) == Err(RecvTimeoutError::Timeout),
        Err(failed) => {
            warn!("cannot record status \"stopped\": {failed}");
            false
        }
    };
    if late {
        warn!(
            "cannot record status \"stopped\": the database does not answer; the settings still call the service running"
        );
    }
}
