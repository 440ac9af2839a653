//! The hour that clocks show twice: a heartbeat written as local time then means the instant nearest to now, for the
//! supervisor, for its wait after a start, for `start`'s look at another daemon, and for `status`.

use std::process::Output;

use jiff::Timestamp;

use crate::rounds::clock::Clock;
use crate::support::cron::{Cron, LAST_SEEN};
use crate::support::daemon::Options;
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::wait;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(cron: &Cron, clock: &Clock, subcommand: &str, arguments: &[&str]) -> Output {
    let mut command = cron.install.command(subcommand, arguments);
    command.envs(clock.environment());
    command.output().expect("run it")
}

/// An install of this zone, and a clock for its processes that shows this moment.
fn install(zone: &str, utc: &str) -> Option<(Cron, Clock)> {
    let database = Database::fresh();
    let cron = Cron::on(&database);
    let options = Options::new().dotenv("APP_TIMEZONE", zone);
    cron.install.write_dotenv(&database, &options);
    let clock = Clock::new(cron.install.root())?;
    let moment: Timestamp = utc.parse().expect("a time");
    clock.step(moment.as_second() - Timestamp::now().as_second());
    Some((cron, clock))
}

#[test]
fn a01_a_daemon_of_the_repeated_hour_is_started_kept_and_called_running() {
    needs!(MariaDb);
    for (zone, utc) in [
        ("Europe/Berlin", "2026-10-25T00:30:00Z"),
        ("Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("Australia/Lord_Howe", "2026-04-04T15:15:00Z"),
        ("Pacific/Chatham", "2026-04-04T14:15:00Z"),
    ] {
        let Some((mut cron, clock)) = install(zone, utc) else {
            eprintln!("no C compiler, so no clock to shift");
            return;
        };
        let started = run(&cron, &clock, "supervise", &[]);
        cron.note_daemon();
        let said = text(&started.stdout);
        assert!(
            said.contains("started chat websocket daemon"),
            "{zone}: {said}"
        );
        assert_eq!(started.status.code(), Some(0));
        let pid = cron.pid();
        let again = run(&cron, &clock, "supervise", &[]);
        assert!(
            text(&again.stdout).contains("status checked"),
            "{zone}: {again:?}"
        );
        assert_eq!((again.status.code(), cron.pid()), (Some(0), pid), "{zone}");
        let status = run(&cron, &clock, "status", &["--json"]);
        let report = Json::parse(&text(&status.stdout)).expect("JSON");
        assert_eq!(report.need("status").str(), Some("running"), "{report}");
        let age = report.need("heartbeat_age_seconds").int();
        assert!(age.is_some_and(|age| (0..=15).contains(&age)), "{report}");
        assert_eq!(status.status.code(), Some(0));
        let second = run(&cron, &clock, "serve", &[]);
        let said = text(&second.stderr);
        assert!(said.contains("already running"), "{zone}: {said}");
    }
}

/// The clock was an hour ahead, then it is set right, and the daemon hangs: what it left in the settings is an hour
/// ahead of now, and would keep it from being replaced for that hour and 90 s more.
#[test]
fn a01_a_hung_daemon_with_a_heartbeat_of_the_future_is_replaced() {
    needs!(MariaDb);
    let Some((mut cron, clock)) = install("Europe/Berlin", "2026-06-01T12:00:00Z") else {
        eprintln!("no C compiler, so no clock to shift");
        return;
    };
    assert_eq!(run(&cron, &clock, "supervise", &[]).status.code(), Some(0));
    cron.note_daemon();
    let hung = cron.pid().expect("a daemon");
    cron.freeze(hung);
    cron.set(LAST_SEEN, "2026-06-01 15:00:00");
    let replaced = run(&cron, &clock, "supervise", &[]);
    cron.note_daemon();
    let said = text(&replaced.stdout);
    assert!(said.contains("restarting stale"), "{said}");
    wait::until(wait::LIMIT, || (cron.pid() != Some(hung)).then_some(())).expect("another one");
}
