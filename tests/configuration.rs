//! What the service is told before it starts, in the spellings that the helpdesk's own readers take, and what is said
//! where it is wrong: the variable, the file and its line, the remedy, and the exit code.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use andrea_chat_websocket::config::options;

use crate::support::cron::{Cron, PROGRAM};
use crate::support::daemon::{Daemon, Options};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::{jwt, reaper, seed, wait};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and everything that was said.
fn said(output: &Output) -> (Option<i32>, String) {
    let text = text(&output.stdout) + &text(&output.stderr);
    (output.status.code(), text)
}

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear().stdin(Stdio::null());
    said(&command.output().expect("run it"))
}

fn prepend(root: &Path, bytes: &[u8]) {
    let file = root.join(".env");
    let rest = fs::read(&file).expect("read .env");
    fs::write(file, [bytes, &rest].concat()).expect("write .env");
}

#[test]
fn a02_bytes_that_are_no_utf_8_in_a_comment_do_not_keep_it_from_starting() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let install = crate::support::daemon::Install::new(&database, &Options::new());
    prepend(
        install.root(),
        b"\xef\xbb\xbf# f\xfcr das\r\n\r\nMAIL_FROM_NAME=\"Gr\xfc\xdfe\"\r\n",
    );
    let (_, words) = said(&install.run("check", &[]));
    assert!(words.contains(".env, line 1 and on 1 more"), "{words}");
    assert!(words.contains("save the file as UTF-8"), "{words}");
    let (code, words) = said(&install.run("token", &["--agent", "1"]));
    assert_eq!(code, Some(0), "{words}");
    let daemon = Daemon::start_in(install, &Options::new());
    daemon.await_log("bytes that are no UTF-8");
    daemon.login(1).unwrap();
}

/// The helpdesk sees question marks in the secret, and signs with them.
#[test]
fn a02_a_secret_is_read_as_the_helpdesk_reads_it() {
    let root = reaper::folder("latin-1-secret");
    let secret = b"JWT_SECRET=\"0123456789-\xe4\xf6\xfc-0123456789-0123456789\"\n";
    fs::write(root.join(".env"), secret).expect("write .env");
    let variables = andrea_chat_websocket::config::Variables::load(&root).expect("readable");
    let read = andrea_chat_websocket::config::jwt_secret(&variables).expect("long enough");
    assert_eq!(read, "0123456789-???-0123456789-0123456789");
}

#[test]
fn a02_what_cannot_be_read_is_named_with_a_remedy_that_fits() {
    let root = reaper::folder("unreadable-env");
    let file = root.join(".env");
    let serve = || run(&["serve", "--root", root.to_str().expect("UTF-8")]);
    let utf_16: Vec<u8> = "JWT_SECRET=x\n"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(&file, [&b"\xff\xfe"[..], &utf_16].concat()).expect("write");
    let (code, words) = serve();
    assert_eq!(code, Some(78));
    assert!(
        words.contains("UTF-16") && words.contains("save it as UTF-8"),
        "{words}"
    );
    fs::remove_file(&file).expect("remove");
    fs::create_dir(&file).expect("a folder");
    let (code, words) = serve();
    assert_eq!(code, Some(78));
    assert!(
        words.contains("must be a file") && !words.contains("readable for"),
        "{words}"
    );
    fs::remove_dir(&file).expect("remove");
    symlink("/nowhere/.env", &file).expect("a link");
    let (code, words) = serve();
    assert_eq!(code, Some(78));
    assert!(words.contains("leads nowhere"), "{words}");
    fs::remove_file(&file).expect("remove");
    // Neither hangs nor eats the memory.
    for device in ["/dev/zero", "/dev/urandom"] {
        symlink(device, &file).expect("a link");
        assert_eq!(serve().0, Some(78), "{device}");
        fs::remove_file(&file).expect("remove");
    }
}

#[test]
fn a02_a_variable_of_the_environment_that_is_no_utf_8_is_named() {
    let root = reaper::folder("latin-1-environment");
    for name in [
        "DB_PASSWORD",
        "JWT_SECRET",
        "APP_URL",
        "CHAT_WEBSOCKET_PORT",
    ] {
        for subcommand in ["serve", "check"] {
            let mut command = Command::new(PROGRAM);
            command
                .args([subcommand, "--root"])
                .arg(&root)
                .env_clear()
                .env(name, OsString::from_vec(b"p\xe4ss".to_vec()))
                .env("UNRELATED", OsString::from_vec(b"\xff".to_vec()));
            let (code, words) = said(&command.output().expect("run it"));
            assert_eq!(
                code,
                Some(if subcommand == "serve" { 78 } else { 1 }),
                "{words}"
            );
            assert!(words.contains(name) && words.contains("UTF-8"), "{words}");
            assert!(!words.contains("UNRELATED"), "{words}");
        }
    }
}

#[test]
fn s17_a_file_that_grows_by_its_own_variables_is_refused() {
    let root = reaper::folder("growing-env");
    let lines = "A=\"${A}${A}\"\n".repeat(40);
    fs::write(root.join(".env"), format!("A=0123456789\n{lines}")).expect("write .env");
    let (code, words) = run(&["serve", "--root", root.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(78));
    assert!(
        words.contains("line ") && words.contains("1 MiB"),
        "{words}"
    );
}

#[test]
fn d10_a_name_that_means_nothing_is_told_with_the_one_that_was_meant() {
    needs!(MariaDb);
    let cron = Cron::new();
    let lines = "CHAT_WEBSOCKET_MAX_CONNECTION=5\nchat_websocket_port=1\nCHAT_MAX_PER_AGENT=2\nCHAT_QUITE_ANOTHER=1\nCHAT_WEBSOCKET_BIND=1\n";
    prepend(cron.install.root(), lines.as_bytes());
    let mut command = cron.install.command("check", &[]);
    command.env("CHAT_WEBSOCKET_RATES", "7");
    let (_, words) = said(&command.output().expect("run it"));
    for (name, meant) in [
        (
            "CHAT_WEBSOCKET_MAX_CONNECTION in",
            "did you mean CHAT_WEBSOCKET_MAX_CONNECTIONS?",
        ),
        (
            "chat_websocket_port in",
            "did you mean CHAT_WEBSOCKET_PORT?",
        ),
        (
            "CHAT_MAX_PER_AGENT in",
            "did you mean CHAT_WEBSOCKET_MAX_PER_AGENT?",
        ),
        ("CHAT_QUITE_ANOTHER in", "remove it"),
        ("CHAT_WEBSOCKET_BIND in", "remove it"),
        (
            "environment variable CHAT_WEBSOCKET_RATES",
            "did you mean CHAT_WEBSOCKET_RATE?",
        ),
    ] {
        let mut lines = words.lines().skip_while(|line| !line.contains(name));
        assert!(
            lines.next().is_some_and(|line| line.contains("unknown")),
            "{name}: {words}"
        );
        assert!(
            lines.next().is_some_and(|line| line.contains(meant)),
            "{name}: {words}"
        );
    }
    let daemon = Daemon::start_in(cron.install.clone(), &Options::new());
    daemon.await_log("CHAT_WEBSOCKET_MAX_CONNECTION in");
}

/// A second list of the names would be forgotten.
#[test]
fn d10_every_variable_that_is_read_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src")];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            if path.ends_with("config/options.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            for word in text.split('"').filter(|word| is_name(word)) {
                found += 1;
                assert!(
                    options::spec(word).is_some(),
                    "{word} of {}",
                    path.display()
                );
            }
        }
    }
    assert!(found > 30, "{found}");
}

fn is_name(word: &str) -> bool {
    let prefixes = ["CHAT_WEBSOCKET_", "CHAT_BUS", "DB_", "APP_", "REDIS_"];
    prefixes
        .iter()
        .any(|prefix| word.len() > prefix.len() && word.starts_with(prefix))
        && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

#[test]
fn d11_the_wrong_folder_is_recognised_by_every_subcommand() {
    let root = reaper::folder("wrong-folder");
    let shown = root.to_str().expect("UTF-8");
    let wanted = format!(
        "there is no .env in {shown}; is this the helpdesk's folder? Name it with --root DIR"
    );
    for (arguments, code) in [
        (&["serve"][..], 78),
        (&["supervise"], 78),
        (&["start"], 78),
        (&["stop"], 78),
        (&["restart"], 78),
        (&["settings", "list"], 78),
        (&["prune"], 78),
        (&["token", "--agent", "1"], 78),
        (&["status"], 4),
    ] {
        let (found, words) = run(&[arguments, &["--root", shown]].concat());
        assert_eq!(found, Some(code), "{arguments:?}: {words}");
        assert!(words.contains(&wanted), "{arguments:?}: {words}");
    }
    let (code, words) = run(&["check", "--root", shown]);
    assert_eq!(code, Some(1));
    assert!(
        words.contains(&format!("there is no .env in {shown}"))
            && words.contains("Name it with --root DIR")
            && words.ends_with("1 failed, 13 skipped\n"),
        "{words}"
    );
    // Another application's.
    fs::write(root.join(".env"), "APP_NAME=other\n").expect("write .env");
    for subcommand in ["serve", "status", "check"] {
        let (_, words) = run(&[subcommand, "--root", shown]);
        for wanted in ["nor a database is named by the .env in", "--root DIR"] {
            assert!(words.contains(wanted), "{subcommand}: {words}");
        }
    }
    fs::write(root.join("file"), "").expect("write a file");
    let (code, words) = run(&["serve", "--root", &format!("{shown}/file")]);
    assert_eq!(code, Some(78));
    assert!(
        words.contains("it is no folder; name it with --root DIR"),
        "{words}"
    );
}

#[test]
fn d11_what_looks_and_administers_needs_no_secret() {
    needs!(MariaDb);
    let cron = Cron::new();
    let file = cron.install.root().join(".env");
    let whole = fs::read_to_string(&file).expect("readable");
    for secret in ["", "JWT_SECRET=short\n"] {
        let line = format!("JWT_SECRET=\"{}\"\n", jwt::SECRET);
        fs::write(&file, whole.replace(&line, secret)).expect("write .env");
        for (arguments, code) in [
            (&["status"][..], 1),
            (&["settings", "get", "chat_enabled"], 0),
            (&["prune"], 0),
            (&["start"], 0),
            (&["restart"], 0),
            (&["stop"], 0),
            (&["serve"], 78),
            (&["supervise"], 78),
            (&["token", "--agent", "1"], 78),
        ] {
            let (found, words) = said(&cron.install.run(arguments[0], &arguments[1..]));
            assert_eq!(found, Some(code), "{arguments:?}: {words}");
            assert_eq!(
                words.contains("JWT_SECRET"),
                code == 78,
                "{arguments:?}: {words}"
            );
        }
    }
}

#[test]
fn d17_an_option_out_of_its_range_is_a_wrong_command_line() {
    let root = reaper::folder("no-install");
    let root = root.to_str().expect("UTF-8");
    for (arguments, words) in [
        (&["serve", "--port", "99999"][..], "65535"),
        (&["serve", "--port", "-1"], "65535"),
        (&["serve", "--port", "abc"], "65535"),
        (&["serve", "--rate", "-1"], "from 0 to 1000000"),
        (&["serve", "--rate", "x"], "from 0 to 1000000"),
        (&["serve", "--idle-timeout", "1"], "from 2 to 7200"),
        (&["serve", "--host", "http://x"], "no listen host"),
        (&["serve", "--health-peers", "x"], "no address"),
        (
            &["token", "--agent", "abc"],
            "from 1 to 18446744073709551615",
        ),
        (
            &["token", "--agent", "-5"],
            "from 1 to 18446744073709551615",
        ),
        (&["token", "--agent", "0"], "from 1 to 18446744073709551615"),
        (
            &["token", "--agent", "1", "--ttl", "3601"],
            "from 1 to 3600",
        ),
        (
            &["prune", "--channel-id", "x"],
            "from 1 to 18446744073709551615",
        ),
    ] {
        let (code, said) = run(&[arguments, &["--root", root]].concat());
        assert_eq!(code, Some(64), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    // The same in a variable is a wrong configuration, whose other half may stand in .env.
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--root", root])
        .env_clear()
        .env("CHAT_WEBSOCKET_RATE", "-1");
    command
        .env("JWT_SECRET", jwt::SECRET)
        .envs([("DB_DATABASE", "a"), ("DB_USERNAME", "b")]);
    assert_eq!(said(&command.output().expect("run it")).0, Some(78));
    command
        .env_remove("CHAT_WEBSOCKET_RATE")
        .args(["--ping-interval", "100"]);
    let (code, words) = said(&command.output().expect("run it"));
    assert_eq!(code, Some(78), "{words}");
}

#[test]
fn d16_a_token_of_an_agent_who_does_not_exist_is_a_failure() {
    needs!(MariaDb);
    let cron = Cron::new();
    let output = cron.install.run("token", &["--agent", "999"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("agent 999, who does not exist"));
    assert_eq!(
        cron.install.run("token", &["--agent", "1"]).status.code(),
        Some(0)
    );
}

#[test]
fn a15_a_release_that_is_swapped_moves_no_file_of_a_running_service() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let options = Options::new();
    let install = crate::support::daemon::Install::new(&database, &options);
    let base = install.root().join("deploy");
    let shared = base.join("shared");
    for folder in ["shared/storage", "releases/1", "releases/2"] {
        fs::create_dir_all(base.join(folder)).expect("make a folder");
    }
    fs::copy(install.root().join(".env"), shared.join(".env")).expect("copy");
    for release in ["1", "2"] {
        for name in ["storage", ".env"] {
            let link = base.join("releases").join(release).join(name);
            symlink(shared.join(name), link).expect("a link");
        }
    }
    let current = base.join("current");
    for by_root in [true, false] {
        let _ = fs::remove_file(&current);
        symlink(base.join("releases/1"), &current).expect("a link");
        let mut command = Command::new(PROGRAM);
        command
            .arg("serve")
            .args(["--port", "0"])
            .current_dir(&current);
        if by_root {
            command.arg("--root").arg(&current).current_dir("/");
        }
        let log_file = shared.join("storage/logs/chat-websocket.log");
        let _ = fs::remove_file(&log_file);
        let log = || fs::read_to_string(&log_file).unwrap_or_default();
        let says = |what: &str| {
            wait::until(wait::LIMIT, || log().contains(what).then_some(()))
                .unwrap_or_else(|| panic!("{what}: {}", log()));
        };
        let mut child = command
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .expect("start it");
        reaper::watch(&child);
        says("listening on");
        fs::remove_file(&current).expect("swap");
        symlink(base.join("releases/2"), &current).expect("swap");
        fs::rename(base.join("releases/1"), base.join("releases/gone")).expect("remove");
        let signal = |signal| crate::support::cron::signal(child.id(), signal);
        signal(rustix::process::Signal::HUP);
        says("reading the settings again");
        assert!(shared.join("storage/runtime/chat-websocket.pid").exists());
        signal(rustix::process::Signal::TERM);
        assert!(child.wait().expect("ends").success());
        reaper::forget(&child);
        assert!(!shared.join("storage/runtime/chat-websocket.pid").exists());
        let stderr = text(
            &std::io::read_to_string(child.stderr.take().expect("a pipe"))
                .expect("read")
                .into_bytes(),
        );
        assert!(!stderr.contains("cannot be written"), "{stderr}");
        fs::rename(base.join("releases/gone"), base.join("releases/1")).expect("back");
    }
}

#[test]
fn d14_d15_check_goes_on_and_ends_with_a_sum() {
    needs!(MariaDb);
    let cron = Cron::new();
    let lines = "JWT_SECRET_OLD=1\nCHAT_WEBSOCKET_RATE=x\nCHAT_WEBSOCKET_BURST=y\nCHAT_WEBSOCKET_PORT=0x1\n";
    prepend(cron.install.root(), lines.as_bytes());
    let mut command = cron.install.command("check", &[]);
    command
        .env("JWT_SECRET", "short")
        .env("APP_TIMEZONE", "Mars/Olympus");
    let (code, words) = said(&command.output().expect("run it"));
    assert_eq!(code, Some(1));
    let failed = [
        "JWT_SECRET",
        "Mars/Olympus",
        "CHAT_WEBSOCKET_RATE",
        "CHAT_WEBSOCKET_BURST",
        "CHAT_WEBSOCKET_PORT",
    ];
    for name in failed {
        let lines = words.lines().filter(|line| line.contains(name));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), 1, "{name}: {words}");
        assert!(lines[0].starts_with("failed"), "{words}");
    }
    for about in [
        "storage", "database", "tables", "settings", "rights", "clocks", "room", "address",
    ] {
        assert!(
            words.contains(&format!("ok       {about}")),
            "{about}: {words}"
        );
    }
    let sum = words.lines().last().expect("a line");
    assert!(sum.contains(" ok, ") && sum.ends_with(" 5 failed"), "{sum}");
    let mut quiet = cron.install.command("check", &["--quiet"]);
    quiet.env("JWT_SECRET", "short");
    let (_, words) = said(&quiet.output().expect("run it"));
    let is_ok = words.lines().any(|line| line.starts_with("ok "));
    assert!(words.contains("failed   secret") && !is_ok, "{words}");
}

#[test]
fn d14_a_file_that_cannot_be_read_has_one_line_and_the_rest_is_skipped() {
    let root = reaper::folder("unreadable-file");
    fs::write(root.join(".env"), "no variable\n").expect("write");
    let (code, words) = run(&["check", "--json", "--root", root.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(1));
    let findings = Json::parse(&words).expect("JSON");
    let level = |wanted: &str| {
        let items = findings.items().iter();
        items
            .filter(|one| one.need("level").str() == Some(wanted))
            .count()
    };
    assert_eq!(level("failed"), 1, "{words}");
    assert_eq!(level("skipped"), 13, "{words}");
}

#[test]
fn a18_an_app_url_without_scheme_and_host_is_a_warning() {
    needs!(MariaDb);
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let options = Options::new().dotenv("APP_URL", "desk.example.com");
    let install = crate::support::daemon::Install::new(&database, &options);
    let (_, words) = said(&install.run("check", &[]));
    let line = words
        .lines()
        .find(|line| line.contains("no scheme and host"))
        .expect("a line");
    assert!(line.starts_with("warning  APP_URL"), "{line}");
    let daemon = Daemon::start_in(install, &options);
    daemon.await_log("has no scheme and host");
}

#[test]
fn d19_a_failed_start_is_told_with_its_reason_and_the_log() {
    needs!(MariaDb);
    let cron = Cron::new();
    let other = std::net::TcpListener::bind(("127.0.0.1", cron.port)).expect("the port is free");
    assert_eq!(cron.install.run("serve", &[]).status.code(), Some(1));
    drop(other);
    let (code, words) = said(&cron.install.run("status", &[]));
    assert_eq!(code, Some(3), "{words}");
    let error = words.lines().find(|line| line.contains("last error"));
    assert!(
        error.is_some_and(|line| line.contains("failed to listen on")),
        "{words}"
    );
    assert!(words.contains("storage/logs/chat-websocket.log"), "{words}");
}
