//! The measurements and their order: every run measures all contestants before the next run begins, so that other load on
//! the machine affects all of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::json;

use super::arrivals::{self, Goodbye};
use super::chart::{self, Series, Words};
use super::database::Database;
use super::goals;
use super::options::{Options, Work};
use super::report::{Metric, Report};
use super::servers::{Contestant, Kind};
use super::suite_goals::all_goals;
use super::{fanout, floor, foreign_writes, idle, posting, process};

pub const RATE: Metric = metric("rate", "1/s");
pub const CPU: Metric = metric("server CPU each", "us");
pub const P50: Metric = metric("p50", "us");
pub const P99: Metric = metric("p99", "us");
const BATCH: Metric = metric("messages a commit", "");
pub const RSS: Metric = metric("RSS", "KiB");
const ANONYMOUS: Metric = metric("anonymous memory", "KiB");
pub const RSS_EACH: Metric = metric("RSS a connection", "bytes");
pub const CPU_REST: Metric = metric("CPU a second", "ms");
const WAKES: Metric = metric("wake-ups a second", "");
const THREADS: Metric = metric("threads", "");
const QUERIES: Metric = metric("queries a minute", "");
const RESUMED: Metric = metric("until it has all", "ms");
pub const SECONDS: Metric = metric("until all are in", "s");
pub const REFUSED: Metric = metric("refused", "");
const LEFT_OUT: Metric = metric("typing events left out", "");
pub const TYPING_P99: Metric = metric("members' typing p99", "us");
pub const MESSAGE_P99: Metric = metric("members' message p99", "us");

pub const FANOUT: &str = "fan-out of typing, everything saturated";
pub const EASY: &str = "fan-out of typing at an easy rate";
pub const MESSAGES: &str = "durable messages, each sender waits for its own";
pub const ALONE: &str = "one sender alone";
pub const IDLE: &str = "at rest, after each has sent a message and received ten";
pub const CHURN: &str = "connect, authenticate, disconnect";
pub const CONNECT_BURST: &str = "many clients connect at once";
const FOREIGN: &str = "messages of another writer";
const BACK: &str = "a client comes back";
const RESTING: &str = "queries of an idle daemon";
const LOAD: &str = "latency against load";

pub const SINGLE: &str = "loop, a call a frame";
pub const BATCHED: &str = "loop, batched";
pub const ROWS: &str = "rows alone";

const fn metric(name: &'static str, unit: &'static str) -> Metric {
    Metric { name, unit }
}

struct Suite<'a> {
    options: &'a Options,
    database: Database,
    daemons: Vec<Contestant>,
    loops: [Contestant; 2],
    peers: Vec<Contestant>,
    report: Report,
    runs: usize,
    time: Duration,
}

/// Measures what is asked for. Fails if anything was lost, doubled or out of order.
pub fn run(options: &Options) -> ExitCode {
    process::raise_file_limit();
    let works = works(options);
    let quick = options.work.contains(&Work::Quick);
    let mut sizes = vec![2, 50, 200, 1000];
    sizes.extend(options.members.iter().filter(|size| **size >= 2));
    sizes.sort_unstable();
    sizes.dedup();
    let mut suite = Suite {
        options,
        database: Database::start(&sizes),
        daemons: daemons(options),
        loops: [(SINGLE, floor::SINGLE), (BATCHED, floor::BATCHED)].map(|(name, mode)| {
            Contestant {
                name: name.to_owned(),
                kind: Kind::Floor(mode),
            }
        }),
        peers: peers(options),
        report: Report::default(),
        runs: options.runs.unwrap_or(if quick { 1 } else { 5 }),
        time: Duration::from_secs_f64(options.seconds.unwrap_or(if quick { 1.0 } else { 3.0 })),
    };
    for work in works {
        match work {
            Work::Fanout => suite.fanout(),
            Work::Easy => suite.easy(),
            Work::Messages => suite.messages(),
            Work::Alone => suite.alone(),
            Work::Idle => suite.idle(),
            Work::Churn => suite.churn(),
            Work::ConnectBurst => suite.connect_burst(),
            Work::ForeignWrites => suite.foreign_writes(),
            Work::Load => suite.load(),
            Work::All | Work::Quick => {}
        }
    }
    println!("{}", suite.report.table());
    let table = suite.goals();
    println!("{table}");
    if let Some(folder) = &options.out {
        write(folder, "table.md", &table);
        let text = serde_json::to_string_pretty(&suite.report.json(suite.machine()));
        write(folder, "results.json", &text.unwrap_or_default());
    }
    match suite.report.failures().is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn works(options: &Options) -> Vec<Work> {
    let all = [
        Work::Fanout,
        Work::Easy,
        Work::Messages,
        Work::Alone,
        Work::Idle,
        Work::Churn,
        Work::ConnectBurst,
        Work::ForeignWrites,
        Work::Load,
    ];
    let whole = options
        .work
        .iter()
        .any(|work| matches!(work, Work::All | Work::Quick));
    all.into_iter()
        .filter(|work| whole || options.work.contains(work))
        .collect()
}

fn daemons(options: &Options) -> Vec<Contestant> {
    let present = (
        "daemon".to_owned(),
        PathBuf::from(env!("CARGO_BIN_EXE_andrea-chat-websocket")),
    );
    let builds = match options.daemon.is_empty() {
        true => vec![present],
        false => options.daemon.clone(),
    };
    builds
        .into_iter()
        .map(|(name, program)| Contestant {
            name,
            kind: Kind::Daemon(program),
        })
        .collect()
}

/// The name of the rival that the goals name, and of its program.
pub const RIVAL: (&str, &str) = ("tokio-tungstenite", "tokio-tungstenite-broadcast");

fn peers(options: &Options) -> Vec<Contestant> {
    let named = options.peer.iter().cloned();
    let built = options.rivals.then(|| (RIVAL.0.to_owned(), build_rival()));
    named
        .chain(built)
        .map(|(name, program)| Contestant {
            name,
            kind: Kind::Peer(program),
        })
        .collect()
}

fn build_rival() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/rivals");
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "--manifest-path"])
        .arg(root.join("benches/rivals/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("start cargo");
    assert!(status.success(), "the rivals cannot be built");
    target.join("release").join(RIVAL.1)
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    println!("wrote {}", path.display());
}

fn or<T: Copy>(asked: &[T], usual: &[T]) -> Vec<T> {
    if asked.is_empty() { usual } else { asked }.to_vec()
}

impl Suite<'_> {
    /// Carries one measurement out; a failure is kept, and the others go on.
    fn measure<T>(
        &mut self,
        work: &str,
        case: &str,
        who: &Contestant,
        measure: impl FnOnce(&Database, Duration) -> Result<T, String>,
    ) -> Option<T> {
        eprintln!("{work}: {case}: {}", who.name);
        match measure(&self.database, self.time) {
            Ok(value) => Some(value),
            Err(what) => {
                self.report
                    .fail(format!("{work}: {case}: {}: {what}", who.name));
                None
            }
        }
    }

    fn everybody(&self) -> Vec<Contestant> {
        let all = self.loops.iter().chain(&self.daemons).chain(&self.peers);
        all.cloned().collect()
    }

    fn fanout(&mut self) {
        let window = self.options.window;
        self.report.floor(FANOUT, RATE, BATCHED);
        self.report.floor(FANOUT, CPU, BATCHED);
        for _ in 0..self.runs {
            for members in or(&self.options.members, &[50, 200, 1000]) {
                let case = format!("{members} members");
                for who in self.everybody() {
                    let done = self.measure(FANOUT, &case, &who, |database, time| {
                        fanout::saturate(&who, database, members as usize, window, time)
                    });
                    let Some(done) = done else { continue };
                    self.report
                        .add(FANOUT, &case, RATE, &who.name, done.deliveries_per_second);
                    self.report.add(FANOUT, &case, CPU, &who.name, done.cpu_us);
                }
            }
        }
    }

    fn easy(&mut self) {
        let rate = self.options.rate;
        for metric in [CPU, P50, P99] {
            self.report.floor(EASY, metric, SINGLE);
        }
        for _ in 0..self.runs {
            for members in or(&self.options.members, &[50, 200, 1000]) {
                let case = format!("{members} members");
                for who in self.everybody() {
                    let done = self.measure(EASY, &case, &who, |database, time| {
                        fanout::pace(&who, database, members as usize, rate, time)
                    });
                    let Some(done) = done else { continue };
                    self.report
                        .add(EASY, &case, RATE, &who.name, done.deliveries_per_second);
                    self.report.add(EASY, &case, CPU, &who.name, done.cpu_us);
                    self.report.add(EASY, &case, P50, &who.name, done.p50_us);
                    self.report.add(EASY, &case, P99, &who.name, done.p99_us);
                }
            }
        }
    }

    fn messages(&mut self) {
        self.report.floor(MESSAGES, RATE, ROWS);
        for _ in 0..self.runs {
            for members in or(&self.options.members, &[50]) {
                for senders in or(&self.options.senders, &[10]) {
                    let case = format!("{members} members, {senders} send");
                    self.post(MESSAGES, &case, members, senders.min(members));
                }
            }
        }
    }

    fn alone(&mut self) {
        for metric in [RATE, P50, P99] {
            self.report.floor(ALONE, metric, ROWS);
        }
        for _ in 0..self.runs {
            for members in or(&self.options.members, &[2, 50]) {
                self.post(ALONE, &format!("{members} members"), members, 1);
            }
        }
    }

    /// Each build of the daemon, then the rows alone with as many in a transaction as the last build had.
    fn post(&mut self, work: &'static str, case: &str, members: u64, senders: u64) {
        let mut batch = 1.0;
        let pause = Duration::from_millis(self.options.listen_every);
        for who in self.daemons.clone() {
            let done = self.measure(work, case, &who, |database, time| {
                posting::post(
                    &who,
                    database,
                    (members as usize, senders as usize),
                    time,
                    pause,
                )
            });
            let Some(done) = done else { continue };
            batch = done.batch.max(1.0);
            self.report
                .add(work, case, RATE, &who.name, done.messages_per_second);
            self.report.add(work, case, P50, &who.name, done.p50_us);
            self.report.add(work, case, P99, &who.name, done.p99_us);
            self.report.add(work, case, BATCH, &who.name, done.batch);
            self.report.add(work, case, CPU, &who.name, done.cpu_us);
        }
        let rows = posting::write_rows(&self.database, members as usize, batch, self.time);
        self.report
            .add(work, case, RATE, ROWS, rows.messages_per_second);
        self.report.add(work, case, P50, ROWS, rows.p50_us);
        self.report.add(work, case, P99, ROWS, rows.p99_us);
        self.report.add(work, case, BATCH, ROWS, batch);
    }

    fn idle(&mut self) {
        let quick = self.options.work.contains(&Work::Quick);
        let usual: &[u64] = if quick {
            &[0, 1000]
        } else {
            &[0, 1000, 5000, 10_000]
        };
        for _ in 0..self.runs {
            for connections in or(&self.options.connections, usual) {
                let case = format!("{connections} connections");
                for who in self.daemons.clone() {
                    let done = self.measure(IDLE, &case, &who, |database, time| {
                        idle::rest(
                            &who,
                            database,
                            connections,
                            time.max(Duration::from_secs(3)),
                        )
                    });
                    let Some(done) = done else { continue };
                    self.report
                        .add(IDLE, &case, RSS, &who.name, done.rss as f64 / 1024.0);
                    let anonymous = done.anonymous as f64 / 1024.0;
                    self.report
                        .add(IDLE, &case, ANONYMOUS, &who.name, anonymous);
                    if connections > 0 {
                        self.report
                            .add(IDLE, &case, RSS_EACH, &who.name, done.rss_each);
                    }
                    self.report
                        .add(IDLE, &case, CPU_REST, &who.name, done.cpu_ms);
                    self.report.add(IDLE, &case, WAKES, &who.name, done.wakes);
                    self.report
                        .add(IDLE, &case, THREADS, &who.name, done.threads as f64);
                }
            }
        }
    }

    fn churn(&mut self) {
        for _ in 0..self.runs {
            for (case, goodbye) in [
                ("32 at a time, with close frames", Goodbye::Close),
                ("32 at a time, dropped", Goodbye::Drop),
            ] {
                let everybody: Vec<_> = self.daemons.iter().chain(&self.peers).cloned().collect();
                for who in everybody {
                    let done = self.measure(CHURN, case, &who, |database, time| {
                        arrivals::churn(&who, database, 32, goodbye, time)
                    });
                    let Some(done) = done else { continue };
                    self.report
                        .add(CHURN, case, RATE, &who.name, done.connections_per_second);
                    self.report.add(CHURN, case, CPU, &who.name, done.cpu_us);
                }
            }
        }
    }

    fn connect_burst(&mut self) {
        let quick = self.options.work.contains(&Work::Quick);
        let usual: &[u64] = if quick { &[1000] } else { &[10_000] };
        for _ in 0..self.runs {
            for connections in or(&self.options.connections, usual) {
                for tabs in [1, 10] {
                    let case = format!("{connections}, {tabs} of each agent");
                    for who in self.daemons.clone() {
                        let done = self.measure(CONNECT_BURST, &case, &who, |database, _| {
                            arrivals::connect_burst(&who, database, connections, connections / tabs)
                        });
                        let Some(done) = done else { continue };
                        self.report
                            .add(CONNECT_BURST, &case, SECONDS, &who.name, done.seconds);
                        self.report.add(
                            CONNECT_BURST,
                            &case,
                            REFUSED,
                            &who.name,
                            done.refused as f64,
                        );
                        self.report.add(
                            CONNECT_BURST,
                            &case,
                            LEFT_OUT,
                            &who.name,
                            done.left_out as f64,
                        );
                        self.report
                            .add(CONNECT_BURST, &case, P50, &who.name, done.typing_p50_us);
                        self.report.add(
                            CONNECT_BURST,
                            &case,
                            TYPING_P99,
                            &who.name,
                            done.typing_p99_us,
                        );
                        self.report.add(
                            CONNECT_BURST,
                            &case,
                            MESSAGE_P99,
                            &who.name,
                            done.message_p99_us,
                        );
                    }
                }
            }
        }
    }

    fn foreign_writes(&mut self) {
        let quick = self.options.work.contains(&Work::Quick);
        let rest = Duration::from_secs(if quick { 5 } else { 30 });
        for _ in 0..self.runs {
            for who in self.daemons.clone() {
                let case = format!("{} members", foreign_writes::MEMBERS);
                let time = self.time * 5;
                let done = self.measure(FOREIGN, &case, &who, |database, _| {
                    foreign_writes::write_beside(&who, database, time)
                });
                if let Some(done) = done {
                    self.report.add(FOREIGN, &case, P50, &who.name, done.p50_us);
                    self.report.add(FOREIGN, &case, P99, &who.name, done.p99_us);
                }
                for missed in [0, 100, 1000] {
                    let case = format!("{missed} messages missed");
                    let done = self.measure(BACK, &case, &who, |database, _| {
                        foreign_writes::come_back(&who, database, missed)
                    });
                    if let Some(seconds) = done {
                        self.report
                            .add(BACK, &case, RESUMED, &who.name, seconds * 1e3);
                    }
                }
                for sockets in [0, 1, 50] {
                    let case = format!("{sockets} connections");
                    let done = self.measure(RESTING, &case, &who, |database, _| {
                        foreign_writes::count_queries(&who, database, sockets, rest)
                    });
                    if let Some(asked) = done {
                        self.report
                            .add(RESTING, &case, QUERIES, &who.name, asked.queries);
                    }
                }
            }
        }
    }

    fn load(&mut self) {
        const MEMBERS: usize = 200;
        let quick = self.options.work.contains(&Work::Quick);
        let rates: &[f64] = match quick {
            true => &[20e3, 200e3],
            false => &[5e3, 10e3, 20e3, 50e3, 100e3, 200e3, 400e3, 800e3, 1.2e6],
        };
        let mut contestants = self.daemons.clone();
        contestants.push(self.loops[0].clone());
        for _ in 0..self.runs {
            for rate in rates {
                let case = format!("{:.0} k deliveries/s, {MEMBERS} members", rate / 1e3);
                for who in contestants.clone() {
                    eprintln!("{LOAD}: {case}: {}", who.name);
                    let done = fanout::pace(&who, &self.database, MEMBERS, *rate, self.time);
                    // What cannot keep up ends here; that is what the chart is to show.
                    let Ok(done) = done else { continue };
                    self.report
                        .add(LOAD, &case, RATE, &who.name, done.deliveries_per_second);
                    self.report.add(LOAD, &case, P50, &who.name, done.p50_us);
                    self.report.add(LOAD, &case, P99, &who.name, done.p99_us);
                }
            }
            for senders in or(&self.options.senders, &[1, 2, 5, 10, 20, 50]) {
                let case = format!("messages, 50 members, {senders} send");
                self.post(LOAD, &case, 50, senders.min(50));
            }
        }
        if let Some(folder) = &self.options.out {
            let cases: Vec<String> = rates
                .iter()
                .map(|rate| format!("{:.0} k deliveries/s, {MEMBERS} members", rate / 1e3))
                .collect();
            let words = Words {
                title: "Typing events to 200 members: from sending to the last receipt",
                load: "deliveries a second",
                latency: "ms",
            };
            let names: Vec<&str> = contestants.iter().map(|who| who.name.as_str()).collect();
            write(
                folder,
                "latency-fanout.svg",
                &self.chart(&words, &cases, &names),
            );
            let cases: Vec<String> = or(&self.options.senders, &[1, 2, 5, 10, 20, 50])
                .iter()
                .map(|senders| format!("messages, 50 members, {senders} send"))
                .collect();
            let words = Words {
                title: "Durable messages to 50 members: from sending to one's own receipt",
                load: "messages a second",
                latency: "ms",
            };
            let mut names: Vec<&str> = self.daemons.iter().map(|who| who.name.as_str()).collect();
            names.push(ROWS);
            write(
                folder,
                "latency-messages.svg",
                &self.chart(&words, &cases, &names),
            );
        }
    }

    fn chart(&self, words: &Words<'_>, cases: &[String], names: &[&str]) -> String {
        let mut series = Vec::new();
        for name in names {
            for latency in [P50, P99] {
                let points = cases
                    .iter()
                    .filter_map(|case| {
                        let load = self.report.value(LOAD, case, RATE, name)?;
                        Some((load, self.report.value(LOAD, case, latency, name)? / 1e3))
                    })
                    .collect();
                series.push(Series {
                    name: format!("{name}, {}", latency.name),
                    points,
                });
            }
        }
        series.retain(|one| !one.points.is_empty());
        chart::draw(words, &series)
    }

    /// The last build of the daemon against what is to be reached.
    fn goals(&self) -> String {
        let daemon = self.daemons.last().map_or("", |who| who.name.as_str());
        let machine = self.machine();
        let text = |key: &str| machine[key].to_string().replace('"', "");
        format!(
            "{}\n{} cores of {}, Linux {}, {}; medians of {} runs; load average at the end {}.\n",
            goals::table(&self.report, daemon, &all_goals()),
            text("cores"),
            text("cpu"),
            text("kernel"),
            text("database"),
            self.runs,
            text("load_average"),
        )
    }

    fn machine(&self) -> serde_json::Value {
        let read = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let cpu = read("/proc/cpuinfo");
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("", |(_, model)| model);
        json!({
            "cpu": model,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "kernel": read("/proc/sys/kernel/osrelease"),
            "database": self.database.version(),
            "load_average": read("/proc/loadavg"),
            "runs": self.runs,
            "seconds": self.time.as_secs_f64(),
        })
    }
}
