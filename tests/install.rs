//! `install` and `uninstall` on a machine of their own (`support/machine.rs`): what is found is what is written, what others
//! have put there comes back, and `check` holds it against the install.

use std::fs;
use std::os::unix::fs::chown;
use std::process::Command;

use crate::support::machine::{Machine, ROOT};
use crate::support::reaper;

const UNIT_FILE: &str = "/etc/systemd/system/andrea-chat-websocket.service";
const SOCKET_FILE: &str = "/etc/systemd/system/andrea-chat-websocket.socket";
const CRON_FILE: &str = "/etc/cron.d/andrea-chat-websocket";
/// Those of www-data, on every Debian.
const OWNER: u32 = 33;

/// With the program where the README has it.
fn machine() -> Machine {
    let mut machine = Machine::new();
    let said = machine.run("cargo build --release --locked; install target/release/andrea-chat-websocket /usr/local/bin/");
    assert_eq!(said.code, Some(0), "{}", said.text);
    machine
}

/// Runs the program; its exit code and what it has said.
fn run(machine: &mut Machine, words: &str) -> (i32, String) {
    let said = machine.run(&format!("andrea-chat-websocket {words}"));
    (said.code.expect("an exit code"), said.text)
}

#[track_caller]
fn done(machine: &mut Machine, words: &str) -> String {
    let (code, text) = run(machine, words);
    assert_eq!(code, 0, "{words}: {text}");
    text
}

fn value<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines()
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect()
}

/// Another install in this folder, with a database of its own.
fn another(machine: &Machine, root: &str, lines: &str) {
    let folder = machine.path(root);
    for name in ["storage/logs", "data"] {
        fs::create_dir_all(folder.join(name)).expect("make the folders");
    }
    let secret = "JWT_SECRET=0123456789abcdef0123456789abcdef\nDB_CONNECTION=sqlite\nDB_DATABASE=data/chat.sqlite\n";
    fs::write(folder.join(".env"), format!("{secret}{lines}")).expect("write .env");
    for name in ["storage/logs", "storage", "data", ".env", ""] {
        chown(folder.join(name), Some(OWNER), Some(OWNER)).expect("chown");
    }
}

#[test]
fn it_writes_what_it_finds_once_and_takes_it_away() {
    needs!(MariaDb, Namespaces, Root);
    let mut machine = machine();
    let shown = done(
        &mut machine,
        &format!("install systemd --root {ROOT} --socket --dry-run"),
    );
    assert!(!machine.path(UNIT_FILE).exists());
    done(
        &mut machine,
        &format!("install systemd --root {ROOT} --socket"),
    );
    let unit = machine.read(UNIT_FILE);
    assert!(shown.contains(&unit), "{shown}");
    assert_eq!(value(&unit, "User"), ["www-data"]);
    assert_eq!(value(&unit, "WorkingDirectory"), [ROOT]);
    assert_eq!(value(&unit, "ProtectHome"), ["yes"]);
    assert_eq!(
        value(&unit, "ReadWritePaths"),
        [format!("{ROOT}/storage -{ROOT}/cache")]
    );
    let address = format!("127.0.0.1:{}", machine.port);
    assert_eq!(value(&machine.read(SOCKET_FILE), "ListenStream"), [address]);
    let again = done(&mut machine, &format!("install systemd --root {ROOT}"));
    assert!(again.contains("nothing to do"), "{again}");
    assert!(
        again.contains("chat_websocket_management_mode external"),
        "{again}"
    );

    done(&mut machine, &format!("install cron --root {ROOT}"));
    let line = machine.read(CRON_FILE);
    assert!(
        line.contains("\n* * * * * www-data /usr/local/bin/andrea-chat-websocket supervise "),
        "{line}"
    );

    let said = done(&mut machine, &format!("uninstall --root {ROOT} --dry-run"));
    assert_eq!(said.lines().count(), 3, "{said}");
    done(&mut machine, &format!("uninstall --root {ROOT}"));
    for file in [UNIT_FILE, SOCKET_FILE, CRON_FILE] {
        assert!(!machine.path(file).exists(), "{file}");
    }
    let said = done(&mut machine, &format!("uninstall --root {ROOT}"));
    assert!(said.contains("nothing to do"), "{said}");
}

#[test]
fn an_install_elsewhere_gets_a_unit_that_systemd_understands() {
    needs!(MariaDb, Namespaces, Root, Systemd);
    let mut machine = machine();
    let root = "/home/jo/100% help desk";
    another(&machine, root, "CHAT_WEBSOCKET_MAX_CONNECTIONS=9000\n");
    done(&mut machine, &format!("install systemd --root '{root}'"));
    let unit = machine.read(UNIT_FILE);
    assert_eq!(value(&unit, "ProtectHome"), ["read-only"]);
    assert_eq!(
        value(&unit, "WorkingDirectory"),
        ["/home/jo/100%% help desk"]
    );
    assert!(
        value(&unit, "ReadWritePaths")[0].contains("\"/home/jo/100%% help desk/data\""),
        "{unit}"
    );
    assert_eq!(
        value(&unit, "After"),
        ["network.target"],
        "no server's database"
    );
    let tasks: u32 = value(&unit, "TasksMax")[0].parse().expect("a number");
    assert!(tasks > 9000, "{tasks}");

    let folder = reaper::folder("elsewhere");
    let file = folder.join("andrea-chat-websocket.service");
    // Here the program lies elsewhere.
    fs::write(
        &file,
        unit.replace("/usr/local/bin/andrea-chat-websocket", "/bin/true"),
    )
    .expect("write");
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&file)
        .output();
    let said = String::from_utf8_lossy(&output.expect("systemd-analyze runs").stderr).into_owned();
    let about = said.lines().filter(|line| line.contains("andrea-chat"));
    assert_eq!(about.collect::<Vec<_>>(), [""; 0], "{said}");

    let check = format!("sudo -u www-data andrea-chat-websocket check --root '{root}'");
    let said = machine.run(&check).text;
    assert!(said.contains("service fits this install"), "{said}");

    done(&mut machine, &format!("install cron --root '{root}'"));
    let line = machine.read(CRON_FILE);
    assert!(
        line.contains("--root '/home/jo/100\\% help desk'"),
        "{line}"
    );
}

#[test]
fn a_second_install_gets_names_of_its_own() {
    needs!(MariaDb, Namespaces, Root);
    let mut machine = machine();
    another(&machine, "/var/www/desk.two", "");
    for way in ["systemd", "cron"] {
        done(&mut machine, &format!("install {way} --root {ROOT}"));
        let said = done(
            &mut machine,
            &format!("install {way} --root /var/www/desk.two"),
        );
        assert!(said.contains("desk-two"), "{said}");
    }
    let first = machine.read(UNIT_FILE);
    done(&mut machine, "uninstall --root /var/www/desk.two");
    assert_eq!(machine.read(UNIT_FILE), first);
    assert!(
        !machine
            .path("/etc/systemd/system/andrea-chat-websocket@desk-two.service")
            .exists()
    );
    assert!(
        !machine
            .path("/etc/cron.d/andrea-chat-websocket-desk-two")
            .exists()
    );
    assert!(machine.path(CRON_FILE).exists());
}

#[test]
fn what_was_there_before_comes_back() {
    needs!(MariaDb, Namespaces, Root);
    let mut machine = machine();
    let before = format!(
        "[Service]\nWorkingDirectory={ROOT}\nExecStart=/usr/bin/php bin/chat-websocket-server.php\n"
    );
    machine.write(UNIT_FILE, &before);
    let said = done(&mut machine, &format!("install systemd --root {ROOT}"));
    assert!(said.contains("kept what was there"), "{said}");
    assert!(
        machine
            .read(UNIT_FILE)
            .contains("andrea-chat-websocket serve")
    );
    done(&mut machine, &format!("uninstall --root {ROOT}"));
    assert_eq!(machine.read(UNIT_FILE), before);
}

#[test]
fn what_cannot_be_done_is_said_and_changes_nothing() {
    needs!(MariaDb, Namespaces, Root);
    let mut machine = machine();
    another(
        &machine,
        "/var/www/injected",
        "STORAGE_PATH=\"storage\nExecStartPre=+/bin/sh\"\n",
    );
    another(&machine, "/var/www/roots", "");
    chown(machine.path("/var/www/roots/storage"), Some(0), Some(0)).expect("chown");
    another(&machine, "/var/www/bare", "");
    fs::remove_dir_all(machine.path("/var/www/bare/storage")).expect("removed");
    for (words, expected, reason) in [
        ("install systemd --root /var/www/injected", 1, "storage"),
        (
            "install systemd --root /var/www/roots",
            1,
            "belongs to root",
        ),
        (
            "install systemd --root /var/www/bare",
            1,
            "cannot open the storage folder",
        ),
        (
            "install cron --root /var/www/nowhere",
            1,
            "cannot open the install's folder",
        ),
        (
            "install cron --socket --root /var/www/andrea-helpdesk",
            64,
            "--socket is for systemd alone",
        ),
        ("install runit --root /var/www/andrea-helpdesk", 64, "runit"),
        ("uninstall --now", 64, "--now"),
    ] {
        let (code, said) = run(&mut machine, words);
        assert_eq!(code, expected, "{words}: {said}");
        assert!(said.contains(reason), "{words}: {said}");
    }
    let said = machine.run(&format!(
        "sudo -u www-data andrea-chat-websocket install systemd --root {ROOT}"
    ));
    assert_eq!(said.code, Some(1), "{}", said.text);
    assert!(said.text.contains("run it as root: sudo"), "{}", said.text);
    for folder in ["/etc/systemd/system", "/etc/cron.d"] {
        let left = fs::read_dir(machine.path(folder))
            .expect("the folder")
            .count();
        assert_eq!(left, 0, "{folder}");
    }
}

/// The edits that go wrong by hand, each as the documented unit would have it.
#[test]
fn check_says_what_does_not_fit() {
    needs!(MariaDb, Namespaces, Root);
    let mut machine = machine();
    done(&mut machine, &format!("install systemd --root {ROOT}"));
    done(&mut machine, &format!("install cron --root {ROOT}"));
    let check = format!("sudo -u www-data andrea-chat-websocket check --root {ROOT}");
    let fits = machine.run(&check);
    assert!(
        fits.text
            .contains("andrea-chat-websocket.service fits this install"),
        "{}",
        fits.text
    );
    assert!(
        fits.text
            .contains("cron.d/andrea-chat-websocket fits this install"),
        "{}",
        fits.text
    );
    let unit = machine.read(UNIT_FILE);
    for (from, to, fault) in [
        (
            format!("ReadWritePaths={ROOT}/storage"),
            "ReadWritePaths=/var/www/other/storage".to_owned(),
            "ReadWritePaths lacks",
        ),
        (
            "User=www-data".to_owned(),
            "User=nobody".to_owned(),
            "User is \"nobody\"",
        ),
        (
            format!("WorkingDirectory={ROOT}"),
            "WorkingDirectory=/var/www/other".to_owned(),
            "WorkingDirectory is",
        ),
        (
            "/usr/local/bin/andrea".to_owned(),
            "/opt/andrea".to_owned(),
            "which is not there",
        ),
    ] {
        machine.write(UNIT_FILE, &unit.replace(&from, &to));
        let said = machine.run(&check);
        assert_eq!(said.code, Some(1), "{fault}: {}", said.text);
        assert!(said.text.contains(fault), "{fault}: {}", said.text);
        assert!(
            said.text.contains("install systemd --root"),
            "{}",
            said.text
        );
    }
    machine.write(UNIT_FILE, &unit);
    let line = machine.read(CRON_FILE);
    machine.write(CRON_FILE, &line.replace("* www-data ", "* nobody "));
    let said = machine.run(&check);
    assert!(said.text.contains("runs as nobody"), "{}", said.text);
}
