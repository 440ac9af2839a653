//! `healthcheck`: one request to the listener, within a time limit.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::{Healthcheck, OpenInstall};
use crate::admin::{Problem, healthcheck};
use crate::config::listen_address;
use crate::config::settings::Rows;
use crate::platform::exit_code;

/// Runs the check.
///
/// # Errors
/// The service is not healthy, or does not answer in time.
pub(super) fn run(options: Healthcheck) -> Result<(), Problem> {
    let limit = Duration::from_secs(options.timeout);
    let deadline = Instant::now() + limit;
    let (done, answer) = bounded(1);
    // In a thread, because the address may come from the database, whose time-outs may be longer than the limit.
    thread::Builder::new()
        .spawn(move || {
            let _ = done.send(ask(options, deadline));
        })
        .map_err(|error| Problem::new(exit_code::FAILED, "cannot start a thread").because(error))?;
    let silence = || format!("no answer within {} s", limit.as_secs());
    let answer = answer
        .recv_deadline(deadline)
        .unwrap_or_else(|_| Err(Problem::new(exit_code::FAILED, silence())));
    answer.map_err(|problem| problem.with_code(exit_code::FAILED))
}

fn ask(options: Healthcheck, deadline: Instant) -> Result<(), Problem> {
    let mut install = OpenInstall::without_secret(&options.root.root)?;
    let config = &mut install.config;
    config.host = options.host.or(config.host.take());
    config.port = options.port.map(|port| port as u16).or(config.port);
    let rows = match (&config.host, config.port) {
        (Some(_), Some(_)) => Rows::default(),
        _ => install.database().run(|store| store.settings())?,
    };
    let (host, port, _) = listen_address(&install.config, &rows);
    healthcheck::ask(&host, port, deadline)
}
