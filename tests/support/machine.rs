//! A machine for an administrator's commands: a folder that is the root of their file system, with an `/etc`, an
//! `/usr/local`, an `/opt` and a `/var` of its own, the rest of `/usr` from the real machine, and an install with the PHP
//! daemon's stand-in. What needs a booted system is played: `sudo`, `crontab` and `cargo` by small scripts, the service
//! manager and cron by the test. Nothing is changed outside of the folder: all mounts are in a namespace of their own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mysql::Conn;
use rustix::process::Signal;

use super::cron::{self, PROGRAM, is_alive};
use super::daemon::{Install, Options};
use super::mariadb::{self, Database};
use super::needs::{self, Need};
use super::notify::Manager;
use super::{reaper, seed, wait, ws};

/// Where an install is said to be.
pub const ROOT: &str = "/var/www/andrea-helpdesk";
/// The user of an install.
pub const USER: &str = "www-data";
/// A command of a README may wait for a stop and a start.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Debian's `secure_path`, with the stand-ins in front.
const PATH: &str = "/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const MOUNTS: &str = r#"
set -e
cd "$1"
mount --rbind /usr usr
mount --bind usr-local usr/local
for name in bin sbin lib lib32 lib64; do
    if [ -d "$name" ] && ! [ -L "$name" ]; then mount --rbind "/$name" "$name"; fi
done
mount --rbind /proc proc
mount --rbind /dev dev
# From inside the namespace; otherwise a process that enters it could see the real machine's root.
exec chroot . sh -c 'echo ready; exec sleep infinity'
"#;

/// Becomes root, or with `-u` another user, in an environment of its own.
const SUDO: &str = r#"#!/bin/sh
user=root
if [ "$1" = -u ]; then user=$2; shift 2; fi
become=
if [ "$user" != root ] && ! [ -e /stand-ins/one-user ]; then
    become="setpriv --reuid=$user --regid=$user --init-groups"
fi
exec env -i PATH="$PATH" HOME=/ $become "$@"
"#;

const CRONTAB: &str = r#"#!/bin/sh
[ "$1" = -u ] || exit 64
file=/var/spool/cron/crontabs/$2
case $3 in
-l) cat "$file" ;;
-) cat >"$file.new" && mv "$file.new" "$file" ;;
*) exit 64 ;;
esac
"#;

/// The tests' own program takes the place of what is built.
const CARGO: &str = r#"#!/bin/sh
[ "$*" = 'build --release --locked' ] || exit 64
mkdir -p target/release && cp /stand-ins/program target/release/andrea-chat-websocket
"#;

/// Asks the test, which plays the service manager.
const SYSTEMCTL: &str = r#"#!/bin/sh
cd /run/manager || exit 1
echo "$*" >ask.new && mv ask.new ask
while ! [ -e answer ]; do sleep 0.02; done
read -r code <answer
sed 1d answer
rm answer
exit "$code"
"#;

/// Which daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Php,
    Ours,
}

/// A command's end: its exit code and everything that it has said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

struct Service {
    child: Child,
    /// Where it says how it is, if it does.
    ear: Option<Manager>,
}

pub struct Machine {
    pub conn: Conn,
    pub port: u16,
    root: PathBuf,
    holder: Child,
    /// Units as they were when the manager read them last.
    units: BTreeMap<String, String>,
    services: BTreeMap<String, Service>,
    noted: Vec<u32>,
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("write a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// By `cp`, since a file that this process has open for writing while another test starts a child cannot be run.
fn copy(from: &Path, to: &Path) {
    let output = Command::new("cp")
        .arg("-a")
        .args([from, to])
        .output()
        .expect("cp runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stderr}");
}

impl Machine {
    /// An install whose settings are those of the recordings, with the PHP daemon and its supervisor in `bin/`; none of
    /// them runs.
    pub fn new() -> Machine {
        let root = reaper::path("machine");
        lay_out(&root);
        let database = Database::fresh();
        let mut conn = database.conn();
        seed::reset(&mut conn);
        let port = mariadb::free_port();
        seed::set(&mut conn, "chat_websocket_port", &i64::from(port).into());
        let install = root.join(&ROOT[1..]);
        let model = Install::new(&database, &Options::new());
        copy(&model.root().join(".env"), &install.join(".env"));
        if is_root() {
            let owned = Command::new("chown")
                .args(["-R", &format!("{USER}:{USER}")])
                .arg(&install)
                .status();
            assert!(owned.expect("chown runs").success());
        } else {
            fs::write(root.join("stand-ins/one-user"), "").expect("write");
        }
        Machine {
            conn,
            port,
            holder: hold(&root),
            root,
            units: BTreeMap::new(),
            services: BTreeMap::new(),
            noted: Vec::new(),
        }
    }

    /// A file of this machine, from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    pub fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap_or_else(|e| panic!("write {path}: {e}"));
    }

    pub fn set(&mut self, key: &str, value: &str) {
        seed::set(&mut self.conn, key, &value.into());
    }

    /// Runs commands as they stand, as an administrator does who stops at the first that fails.
    pub fn run(&mut self, commands: &str) -> Said {
        let file = self.path("/run/said");
        let said = File::create(&file).expect("make a file");
        let mut child = self
            .enter()
            .args(["sh", "-ec", &format!("umask 022; cd /source\n{commands}")])
            .stdout(said.try_clone().expect("another handle"))
            .stderr(said)
            .spawn()
            .expect("run commands");
        reaper::watch(&child);
        let ended = wait::until(COMMAND_LIMIT, || {
            self.answer();
            child.try_wait().expect("ask")
        });
        let text = fs::read_to_string(&file).unwrap_or_default();
        let Some(ended) = ended else {
            panic!("no end of: {commands}\n{text}");
        };
        reaper::forget(&child);
        self.note();
        Said {
            code: ended.code(),
            text,
        }
    }

    /// What cron does once a minute: every line that is not switched off.
    pub fn minute(&mut self) {
        let mut lines = Vec::new();
        let files = |folder: &str| {
            fs::read_dir(self.path(folder))
                .expect("the folder")
                .map(|entry| entry.expect("an entry").path())
                .collect::<Vec<_>>()
        };
        for file in files("/etc/cron.d") {
            for line in jobs(&file) {
                let words: Vec<&str> = line.splitn(7, ' ').collect();
                lines.push((words[5].to_owned(), words[6].to_owned()));
            }
        }
        for file in files("/var/spool/cron/crontabs") {
            let user = file.file_name().expect("a name").to_string_lossy();
            for line in jobs(&file) {
                let words: Vec<&str> = line.splitn(6, ' ').collect();
                lines.push((user.clone().into_owned(), words[5].to_owned()));
            }
        }
        for (user, line) in lines {
            self.write("/run/job", &line);
            let said = self.run(&format!(
                "cd /; sudo -u {user} env PATH=/usr/bin:/bin SHELL=/bin/sh sh -c \"$(cat /run/job)\" </dev/null"
            ));
            assert_eq!((said.code, said.text.as_str()), (Some(0), ""), "{line}");
        }
    }

    /// The daemon that the pid file names, if it lives.
    pub fn daemon(&self) -> Option<(Kind, u32)> {
        let pid = self.read(&format!("{ROOT}/storage/runtime/chat-websocket.pid"));
        let pid = pid.trim().parse().ok()?;
        Some((kind(pid)?, pid))
    }

    /// Waits until that daemon runs, and is the one that answers; its process.
    #[track_caller]
    pub fn await_daemon(&mut self, wanted: Kind) -> u32 {
        let found = wait::until(wait::LIMIT, || {
            self.note();
            let (kind, pid) = self.daemon()?;
            (kind == wanted).then_some(pid)
        });
        let Some(pid) = found else {
            panic!(
                "no daemon {wanted:?}, but {:?}\n{}",
                self.daemon(),
                self.log()
            );
        };
        let client = wait::until(wait::LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", self.port)).ok()?;
            let mut client = ws::Client::connect(self.port).ok()?;
            match wanted {
                Kind::Php => Some(()),
                Kind::Ours => client.auth(1).ok().map(drop),
            }
        });
        client.unwrap_or_else(|| panic!("{wanted:?} does not answer\n{}", self.log()));
        assert_eq!(self.daemon(), Some((wanted, pid)));
        pid
    }

    #[track_caller]
    pub fn await_end(&mut self, pid: u32) {
        wait::until(wait::LIMIT, || (!is_alive(pid)).then_some(()))
            .unwrap_or_else(|| panic!("{pid} does not end\n{}", self.log()));
    }

    pub fn log(&self) -> String {
        ["chat-websocket.log", "chat-supervisor.log"]
            .map(|name| self.read(&format!("{ROOT}/storage/logs/{name}")))
            .concat()
    }

    /// Whether the service manager runs this unit.
    pub fn is_active(&mut self, unit: &str) -> bool {
        let service = self.services.get_mut(unit);
        service.is_some_and(|service| service.child.try_wait().expect("ask").is_none())
    }

    /// What it has said to the service manager since it was started.
    pub fn heard(&self, unit: &str) -> Vec<String> {
        let ear = self.services.get(unit).and_then(|one| one.ear.as_ref());
        ear.map_or(Vec::new(), |ear| ear.hear_for(Duration::from_millis(50)))
    }

    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.holder.id().to_string(),
            "--mount",
            "--root",
            "--wd",
        ]);
        if !is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/root")])
            .stdin(Stdio::null());
        command
    }

    /// Registers daemons without a waiting parent, so that they end with the test.
    fn note(&mut self) {
        if let Some((_, pid)) = self.daemon()
            && !self.noted.contains(&pid)
        {
            reaper::watch_pid(pid);
            self.noted.push(pid);
        }
    }

    /// The service manager's part, if it is asked for anything.
    fn answer(&mut self) {
        let ask = self.path("/run/manager/ask");
        let Ok(words) = fs::read_to_string(&ask) else {
            return;
        };
        fs::remove_file(&ask).expect("taken");
        let (code, text) = match self.manage(&words.split_whitespace().collect::<Vec<_>>()) {
            Ok(()) => (0, String::new()),
            Err(reason) => (1, reason),
        };
        self.write("/run/manager/answer.new", &format!("{code}\n{text}\n"));
        let [new, answer] =
            ["answer.new", "answer"].map(|name| self.path("/run/manager").join(name));
        fs::rename(new, answer).expect("answered");
    }

    fn manage(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            ["daemon-reload"] => {
                self.units.clear();
                for entry in fs::read_dir(self.path("/etc/systemd/system")).expect("the folder") {
                    let entry = entry.expect("an entry");
                    let name = entry.file_name().to_string_lossy().into_owned();
                    if let Some(name) = name.strip_suffix(".service") {
                        let text = fs::read_to_string(entry.path()).expect("a unit");
                        self.units.insert(name.to_owned(), text);
                    }
                }
                Ok(())
            }
            ["enable", _] => Ok(()),
            ["enable", "--now", name] => self.start(name),
            ["restart", name] => self.stop(name).and_then(|()| self.start(name)),
            ["disable", "--now", names @ ..] => names
                .iter()
                .filter(|name| !name.ends_with(".socket"))
                .try_for_each(|name| self.stop(name.trim_end_matches(".service"))),
            words => Err(format!("the stand-in does not know {words:?}")),
        }
    }

    fn start(&mut self, name: &str) -> Result<(), String> {
        let unit = self
            .units
            .get(name)
            .ok_or_else(|| format!("Unit {name}.service not found."))?;
        let value = |key: &str| {
            unit.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        };
        let need = |key: &str| value(key).ok_or_else(|| format!("{name} lacks {key}"));
        let (folder, program, user) =
            (need("WorkingDirectory")?, need("ExecStart")?, need("User")?);
        let ear = (need("Type")? == "notify").then(|| Manager::at(&self.path("/run/notify")));
        let mut variables = String::new();
        if ear.is_some() {
            variables.push_str("NOTIFY_SOCKET=/run/notify ");
            if let Some(seconds) = value("WatchdogSec") {
                variables.push_str(&format!("WATCHDOG_USEC={seconds}000000 "));
            }
        }
        let output = File::create(self.path("/run/journal")).expect("make a file");
        let child = self
            .enter()
            .args(["sh", "-c"])
            .arg(format!(
                "cd {folder} && exec sudo -u {user} env {variables}{program}"
            ))
            .stdout(output.try_clone().expect("another handle"))
            .stderr(output)
            .spawn()
            .expect("start a service");
        reaper::watch(&child);
        let mut service = Service { child, ear };
        let is_ready = match &service.ear {
            None => true,
            Some(ear) => {
                wait::until(wait::LIMIT, || match ear.hear(Duration::from_millis(20)) {
                    Some(words) if words == "READY=1" => Some(true),
                    _ => service.child.try_wait().expect("ask").map(|_| false),
                }) == Some(true)
            }
        };
        if !is_ready {
            end(&mut service.child);
            return Err(format!(
                "Job for {name}.service failed. {}",
                self.read("/run/journal")
            ));
        }
        self.services.insert(name.to_owned(), service);
        Ok(())
    }

    fn stop(&mut self, name: &str) -> Result<(), String> {
        // What does not run is stopped.
        if let Some(mut service) = self.services.remove(name) {
            let pid = service.child.id();
            cron::signal(pid, Signal::TERM);
            let ended = wait::until(wait::LIMIT, || service.child.try_wait().expect("ask"));
            end(&mut service.child);
            return ended
                .map(drop)
                .ok_or_else(|| format!("{name} had to be killed"));
        }
        match self.units.contains_key(name) {
            true => Ok(()),
            false => Err(format!("Unit {name}.service does not exist.")),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the logs:\n{}\nthe journal:\n{}",
                self.log(),
                self.read("/run/journal")
            );
        }
        for service in self.services.values_mut() {
            end(&mut service.child);
        }
        for pid in &self.noted {
            // Its number may be another's by now.
            if kind(*pid).is_some() {
                cron::signal(*pid, Signal::KILL);
            }
            reaper::forget_pid(*pid);
        }
        end(&mut self.holder);
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
    reaper::forget(child);
}

fn kind(pid: u32) -> Option<Kind> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let is = |end: &str| words.iter().any(|word| word.ends_with(end.as_bytes()));
    match () {
        () if is("chat-websocket-server.php") => Some(Kind::Php),
        () if is("andrea-chat-websocket") && is("serve") => Some(Kind::Ours),
        () => None,
    }
}

fn jobs(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).expect("a crontab");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn lay_out(root: &Path) {
    let install = &ROOT[1..];
    for folder in [
        "dev",
        "proc",
        "tmp",
        "root",
        "source",
        "stand-ins",
        "usr",
        "usr-local/bin",
        "run/manager",
        "run/systemd/system",
        "etc/cron.d",
        "etc/systemd/system",
        "var/spool/cron/crontabs",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["bin", "storage/runtime", "storage/logs"].map(|name| format!("{install}/{name}")))
    {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("make {}: {e}", folder.display()));
    }
    for name in [
        "passwd",
        "group",
        "nsswitch.conf",
        "alternatives",
        "php",
        "ld.so.cache",
    ] {
        let real = Path::new("/etc").join(name);
        if real.exists() {
            copy(&real, &root.join("etc"));
        }
    }
    // Links into /usr where the real machine has them, else places for mounts.
    for name in ["bin", "sbin", "lib", "lib32", "lib64"] {
        let real = Path::new("/").join(name);
        match fs::read_link(&real) {
            Ok(target) => symlink(target, root.join(name)).expect("link"),
            Err(_) if real.is_dir() => fs::create_dir(root.join(name)).expect("make a folder"),
            Err(_) => {}
        }
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    copy(&source.join("contrib"), &root.join("source"));
    copy(Path::new(PROGRAM), &root.join("stand-ins/program"));
    for (name, text) in [
        ("sudo", SUDO),
        ("crontab", CRONTAB),
        ("cargo", CARGO),
        ("systemctl", SYSTEMCTL),
    ] {
        script(&root.join("stand-ins").join(name), text);
    }
    let played = source.join("tests/clients/helpdesk");
    for name in [
        "chat-websocket-server.php",
        "chat-supervisor.php",
        "settings.php",
    ] {
        copy(&played.join(name), &root.join(install).join("bin"));
    }
}

/// A process that keeps the namespace with the mounts.
fn hold(root: &Path) -> Child {
    needs::demand(Need::Namespaces);
    let mut command = Command::new("unshare");
    if !is_root() {
        command.arg("--map-root-user");
    }
    let mut child = command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            MOUNTS,
            "sh",
        ])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare (package util-linux) runs");
    reaper::watch(&child);
    let mut said = [0; 6];
    let stdout = child.stdout.as_mut().expect("a pipe");
    let heard = std::io::Read::read_exact(stdout, &mut said);
    assert!(
        heard.is_ok() && said == *b"ready\n",
        "no mount namespace can be made here"
    );
    child
}
