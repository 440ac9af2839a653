//! Starting: what a wrong configuration is answered with, where the install may be, who wins when several start at
//! once, and a log that is rotated under the writer. How a service ends is in shutdown.rs.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::daemon::{Daemon, Install, Options, PROGRAM, is_stamp};
use crate::support::ops::{ensure, pid_file, seeded, set, setting};
use crate::support::ws::{FrameSpec, TEXT};
use crate::support::{clock, jwt, seed, wait, workers};

const LAST_SEEN: &str = "chat_websocket_last_seen_at";

/// A configuration that cannot be used: the lines of `.env`, what is said of it, and the exit code.
struct Wrong {
    name: &'static str,
    dotenv: &'static str,
    says: &'static [&'static str],
    code: i32,
}

/// What must never be shown.
const HIDDEN: &str = "hunter2";

const WRONG: [Wrong; 14] = [
    Wrong {
        name: "no secret",
        dotenv: "DB_DATABASE=x\nDB_USERNAME=x\n",
        says: &["JWT_SECRET is not set", ".env", "put the helpdesk's secret"],
        code: 78,
    },
    Wrong {
        name: "a short secret",
        dotenv: "JWT_SECRET=hunter2hunter2\n",
        says: &[
            "JWT_SECRET in ",
            ".env",
            "14 bytes",
            "at least 32",
            "openssl rand -hex 32",
        ],
        code: 78,
    },
    Wrong {
        name: "a line that is none",
        dotenv: "# fine\n\nJWT_SECRET=hunter2 hunter2\n",
        says: &[".env", "line 3", "expected", "correct that line"],
        code: 78,
    },
    Wrong {
        name: "an open quote",
        dotenv: "DB_HOST=x\nDB_PASSWORD=\"hunter2\n",
        says: &[".env", "line 2", "expected", "quote", "correct that line"],
        code: 78,
    },
    Wrong {
        name: "an unknown escape",
        dotenv: "DB_PASSWORD=\"hunter2\\q\"\n",
        says: &[".env", "line 1", "expected", "correct that line"],
        code: 78,
    },
    Wrong {
        name: "no database",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_USERNAME=x\n",
        says: &["DB_DATABASE is not set", ".env", "--root"],
        code: 78,
    },
    Wrong {
        name: "no user",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_DATABASE=x\n",
        says: &["DB_USERNAME is not set", ".env", "--root"],
        code: 78,
    },
    Wrong {
        name: "a database port that is none",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_DATABASE=x\nDB_USERNAME=x\nDB_PORT=70000\n",
        says: &["DB_PORT in ", "from 0 to 65535", "3306"],
        code: 78,
    },
    Wrong {
        name: "a time zone that is none",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nAPP_TIMEZONE=Mars/Olympus\n",
        says: &["APP_TIMEZONE in ", "Mars/Olympus", "Europe/Rome"],
        code: 78,
    },
    Wrong {
        name: "a listen host that is none",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nCHAT_WEBSOCKET_HOST=http://x\n",
        says: &["CHAT_WEBSOCKET_HOST in ", "http://x", "without scheme"],
        code: 78,
    },
    Wrong {
        name: "a listen port that is none",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nCHAT_WEBSOCKET_PORT=8090x\n",
        says: &["CHAT_WEBSOCKET_PORT in ", "8090x", "from 1 to 65535"],
        code: 78,
    },
    Wrong {
        name: "a limit that is no number",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_DATABASE=x\nDB_USERNAME=x\nCHAT_WEBSOCKET_RATE=fast\n",
        says: &[
            "CHAT_WEBSOCKET_RATE in ",
            "whole number",
            "leave it out for 20",
        ],
        code: 78,
    },
    Wrong {
        name: "pings that come too late",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_DATABASE=x\nDB_USERNAME=x\n\
            CHAT_WEBSOCKET_PING_INTERVAL=60\n",
        says: &[
            "CHAT_WEBSOCKET_PING_INTERVAL",
            "CHAT_WEBSOCKET_IDLE_TIMEOUT",
            "lower the first",
        ],
        code: 78,
    },
    Wrong {
        name: "a storage that cannot be",
        dotenv: "JWT_SECRET=hunter2hunter2hunter2hunter2hunter2\nDB_DATABASE=x\nDB_USERNAME=x\nSTORAGE_PATH=.env/x\n",
        says: &["make the folder", ".env/x/", "STORAGE_PATH"],
        code: 73,
    },
];

fn output(command: &mut Command) -> Output {
    command.output().expect("run the program")
}

/// One line on standard error, the code, and nothing secret.
fn check_failure(output: &Output, says: &[&str], code: i32) -> Result<(), String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(code), || {
        format!("{}: {stderr}", output.status)
    })?;
    for part in says {
        ensure(stderr.contains(part), || format!("no {part:?} in {stderr}"))?;
    }
    let lines = stderr.lines().count();
    ensure(lines == 1, || format!("{lines} lines: {stderr}"))?;
    ensure(!stderr.contains(HIDDEN), || format!("a secret: {stderr}"))?;
    ensure(output.stdout.is_empty(), || {
        "something on stdout".to_owned()
    })
}

#[test]
fn a_wrong_configuration_is_named_with_its_place_reason_and_remedy() {
    needs!(MariaDb);
    let (database, _) = seeded();
    for wrong in &WRONG {
        let install = Install::new(&database, &Options::new());
        fs::write(install.root().join(".env"), wrong.dotenv).expect("write .env");
        let output = install.run("serve", &[]);
        check_failure(&output, wrong.says, wrong.code)
            .unwrap_or_else(|e| panic!("{}: {e}", wrong.name));
        assert!(!install.pid_file().exists(), "{}", wrong.name);
    }
}

#[test]
fn a_value_is_blamed_on_where_it_came_from() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let install = Install::new(
        &database,
        &Options::new().dotenv("CHAT_WEBSOCKET_RATE", "1"),
    );
    let with = |variable: &str, arguments: &[&str]| {
        let mut command = install.command("serve", arguments);
        output(command.env("CHAT_WEBSOCKET_RATE", variable))
    };
    let environment = ["the environment variable CHAT_WEBSOCKET_RATE"];
    check_failure(&with("x", &[]), &environment, 78).unwrap();
    check_failure(
        &with("1", &["--rate", "x"]),
        &["--rate (CHAT_WEBSOCKET_RATE)"],
        64,
    )
    .unwrap();
    check_failure(
        &with("1", &["--port", "x"]),
        &["--port (CHAT_WEBSOCKET_PORT)"],
        64,
    )
    .unwrap();
    let secret = output(install.command("serve", &[]).env("JWT_SECRET", HIDDEN));
    check_failure(
        &secret,
        &["the environment variable JWT_SECRET", "7 bytes"],
        78,
    )
    .unwrap();
}

#[test]
fn files_that_cannot_be_used_are_named() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let blocked = |file: &Path| {
        let install = Install::new(&database, &Options::new());
        fs::create_dir_all(install.root().join(file)).expect("make a folder in the way");
        install.run("serve", &[])
    };
    let log = blocked(Path::new("storage/logs/chat-websocket.log"));
    check_failure(
        &log,
        &["the log file", "chat-websocket.log", "STORAGE_PATH"],
        73,
    )
    .unwrap();
    let pid = blocked(Path::new("storage/runtime/chat-websocket.pid"));
    check_failure(
        &pid,
        &["the pid file", "chat-websocket.pid", "STORAGE_PATH"],
        73,
    )
    .unwrap();

    let install = Install::new(&database, &Options::new());
    let dotenv = install.root().join(".env");
    fs::remove_file(&dotenv).expect("remove .env");
    fs::create_dir(&dotenv).expect("put a folder in its place");
    let unreadable = install.run("serve", &[]);
    check_failure(
        &unreadable,
        &["cannot read", ".env", "it must be a file of text"],
        78,
    )
    .unwrap();

    let mut nowhere = Command::new(PROGRAM);
    nowhere.args(["serve", "--root", "/no/such/folder"]);
    check_failure(&output(&mut nowhere), &["/no/such/folder", "--root"], 78).unwrap();
}

#[test]
fn the_install_is_found_from_any_working_directory() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    // What the harness runs is: PROGRAM serve --root DIR --port 0.
    let scripts = [
        ("elsewhere", "cd / && exec \"$@\""),
        (
            "a relative root",
            "cd \"$4/..\" && d=$(basename \"$4\") && p=$1 && shift 4 && exec \"$p\" serve --root \"$d\" \"$@\"",
        ),
        (
            "the folder itself",
            "cd \"$4\" && p=$1 && shift 4 && exec \"$p\" serve \"$@\"",
        ),
        (
            "a link to it",
            "ln -s \"$4\" \"$4/link\" && p=$1 && l=$4/link && shift 4 && exec \"$p\" serve --root \"$l\" \"$@\"",
        ),
    ];
    for (name, script) in scripts {
        seed::reset(&mut conn);
        let options = Options::new().through(&["sh", "-c", script, "sh"]);
        let mut daemon = Daemon::start(&database, &options);
        assert_eq!(pid_file(&daemon), Some(daemon.pid().to_string()), "{name}");
        daemon.login(1).unwrap();
        assert_eq!(daemon.stop().code(), Some(0), "{name}");
    }
}

#[test]
fn help_needs_nothing_and_a_wrong_command_line_exits_64() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        output(
            command
                .args(arguments)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::null()),
        )
    };
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["help", "serve"],
        &["--version"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).expect("UTF-8");
    let words = [
        "--root",
        "--port",
        "--max-connections",
        ".env",
        "Exit codes",
        "78",
    ];
    for word in words {
        assert!(help.contains(word), "{word} in {help}");
    }
    for (arguments, says) in [
        (&["serve", "--prot", "1"][..], "--port"),
        (&["serve", "--no-such-option"], "--no-such-option"),
        (&["serve", "--log-level", "loud"], "info"),
        (&["serve", "--port"], "--port"),
        (&["serve", "left over"], "left over"),
        (&["sevre"], "serve"),
        (&[], "serve"),
    ] {
        let output = run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
    }
}

#[test]
fn of_several_that_start_in_the_same_instant_exactly_one_wins() {
    needs!(MariaDb);
    // What the last one left: nothing, the heartbeat of one that was killed a moment ago, an old one.
    let heartbeats = ["", "fresh", "old"];
    let rounds = heartbeats.len() * 3;
    let complaints = workers::run(rounds, seeded, |(database, conn), round| {
        seed::reset(conn);
        let install = Install::new(database, &Options::new());
        let left = heartbeats[round % heartbeats.len()];
        if !left.is_empty() {
            // With its pid file, as after a crash.
            let mut crashed = Daemon::start_in(Arc::clone(&install), &Options::new());
            crashed.signal(Signal::KILL);
            crashed.wait_exit(wait::LIMIT);
        }
        if left == "old" {
            set(conn, LAST_SEEN, &clock::app_time(-200));
        }
        one_wins(&install).map_err(|e| format!("round {round}, heartbeat {left:?}: {e}"))
    });
    workers::judge("rounds", rounds, &complaints);
}

fn one_wins(install: &Arc<Install>) -> Result<(), String> {
    let start = |_| Daemon::spawn(Arc::clone(install), &Options::new());
    let mut daemons: Vec<Daemon> = (0..3).map(start).collect();
    wait::until(wait::LIMIT, || {
        let ended = daemons.iter_mut().filter_map(Daemon::exit_now).count();
        (ended >= daemons.len() - 1).then_some(())
    })
    .ok_or("more than one runs on")?;
    let place = daemons.iter_mut().position(|one| one.exit_now().is_none());
    let mut winner = daemons.remove(place.ok_or("none of them runs")?);
    winner.await_listening();
    ensure(pid_file(&winner) == Some(winner.pid().to_string()), || {
        "the pid file is another's".to_owned()
    })?;
    winner.login(1).map_err(|e| format!("{e:?}"))?;
    let says = format!(
        "A healthy chat websocket daemon is already running with PID {}.\n",
        winner.pid()
    );
    for loser in &mut daemons {
        let status = loser.exit_now();
        ensure(status.and_then(|s| s.code()) == Some(0), || loser.report())?;
        ensure(loser.stderr() == says, || loser.report())?;
    }
    winner.check_life()
}

/// In a container every daemon is process 1, the one that crashed and left its pid file included.
#[test]
fn a_pid_file_with_ones_own_pid_is_a_leftover() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    set(&mut conn, LAST_SEEN, &clock::app_time(0));
    let script = "f=$4/storage/runtime/chat-websocket.pid && mkdir -p \"$(dirname \"$f\")\" \
        && printf %s $$ > \"$f\" && exec \"$@\"";
    let options = Options::new().through(&["sh", "-c", script, "sh"]);
    let daemon = Daemon::start(&database, &options);
    assert_eq!(pid_file(&daemon), Some(daemon.pid().to_string()));
    let pid = setting(&mut conn, "chat_websocket_pid");
    assert_eq!(pid, Some(daemon.pid().to_string()));
}

/// A client that breaks RFC 6455 makes the daemon log that it is connected, before it is closed.
fn log_a_line(daemon: &Daemon) {
    let mut unmasked = FrameSpec::new(TEXT, "{}");
    unmasked.mask = false;
    let mut client = daemon.connect().expect("connect");
    client.send_frame(&unmasked);
    let (_, closed) = client.until_end().expect("an end");
    assert_eq!(closed, Some(1002));
}

#[test]
fn no_line_is_lost_where_the_log_is_rotated_under_the_writer() {
    needs!(MariaDb);
    let (database, _) = seeded();
    let options = Options::new().arg("--log-level").arg("debug");
    let mut daemon = Daemon::start(&database, &options);
    let log = daemon.install.log_file();
    let rotated = |number: u32| log.with_extension(format!("log.{number}"));
    let (logged, done) = (AtomicU32::new(0), AtomicBool::new(false));
    // A line that was being written while the file was removed went to the removed one.
    let mut removed: Vec<File> = Vec::new();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    log_a_line(&daemon);
                    logged.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let grown = |file: &Path| {
            let size = || fs::metadata(file).map_or(0, |data| data.len());
            let before = size();
            wait::until(wait::LIMIT, || (size() > before).then_some(())).expect("more lines");
        };
        for number in 1..=12 {
            grown(&log);
            match number % 4 {
                0 => fs::rename(&log, rotated(number)).expect("rename"),
                1 => {
                    fs::rename(&log, rotated(number)).expect("rename");
                    drop(File::create(&log).expect("create"));
                }
                2 => {
                    removed.push(File::open(&log).expect("open"));
                    fs::remove_file(&log).expect("remove");
                }
                // What comes between the copy and the truncation is lost by nature, so nothing may come.
                _ => {
                    daemon.freeze();
                    fs::copy(&log, rotated(number)).expect("copy");
                    let file = File::options().write(true).open(&log).expect("open");
                    file.set_len(0).expect("truncate");
                    daemon.thaw();
                }
            }
        }
        grown(&log);
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(daemon.stop().code(), Some(0));
    let mut text = fs::read_to_string(&log).expect("read the log");
    for number in 1..=12 {
        text += &fs::read_to_string(rotated(number)).unwrap_or_default();
    }
    for mut file in removed {
        file.read_to_string(&mut text).expect("read a removed log");
    }
    let lines: Vec<&str> = text.lines().collect();
    let whole = |line: &&&str| {
        let parted = line.split_once("] ");
        parted.is_some_and(|(stamp, text)| is_stamp(stamp) && !text.contains(']'))
    };
    assert_eq!(lines.iter().filter(whole).count(), lines.len(), "{text}");
    let about = |line: &&&str| line.ends_with(": connected");
    let count = u32::try_from(lines.iter().filter(about).count()).expect("few");
    assert_eq!(count, logged.load(Ordering::SeqCst));
}

/// Nothing secret is in any log, whatever the level: tokens, bodies, the secret, the password.
#[test]
fn the_log_has_no_token_body_secret_or_password() {
    needs!(MariaDb);
    let (database, mut conn) = seeded();
    let options = Options::new().arg("--log-level").arg("debug");
    let mut daemon = Daemon::start(&database, &options);
    let token = jwt::good(1);
    let mut client = daemon.connect().unwrap();
    client.send(&format!(r#"{{"type":"auth","token":"{token}"}}"#));
    client.until_type("auth.ok").unwrap();
    client.send(&format!(
        r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{HIDDEN}"}}"#
    ));
    client.until_type("chat.channel.message.created").unwrap();
    // Sentences of the database may quote what it was given.
    seed::run(&mut conn, "DELETE FROM chat_messages", vec![]);
    seed::run(
        &mut conn,
        "ALTER TABLE chat_messages MODIFY body_text VARCHAR(3) NOT NULL",
        vec![],
    );
    client.send(&format!(
        r#"{{"type":"chat.channel.message.send","channel_id":1,"body":"{HIDDEN}, again"}}"#
    ));
    client.until_type("error").unwrap();
    client.send(&format!(
        r#"{{"type":"auth","token":"{token}x","body":"{HIDDEN}"}}"#
    ));
    client.until_end().unwrap();
    daemon.stop();
    let log = daemon.log();
    assert!(log.contains("listening on"), "{log}");
    let token_part = token.rsplit('.').next().expect("a signature");
    for secret in [HIDDEN, jwt::SECRET, database.password, token_part] {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}
