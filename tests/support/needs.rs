//! What a test needs beside the Rust toolchain and a C compiler. A test names it in its first line, `needs!(MariaDb)`,
//! and is skipped where that is missing: one line on stderr for each thing that is missing, and a count at the end of
//! the run (`zz_skipped`). `contrib/test` installs everything.
//!
//! ANDREA_TEST_WITHOUT=MariaDb,Redis takes things for missing that are there (`all`: every one of them);
//! ANDREA_TEST_NO_SKIP=1 makes a test fail that would be skipped for want of anything
//! but much time or what few systems have; ANDREA_TEST_TIER=full or all runs what takes long.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// Something that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    MariaDb,
    Redis,
    Nginx,
    Apache,
    OpenSsl,
    /// The WebSocket conformance suite, which needs Python 2.7: docs/autobahn.md.
    Autobahn,
    /// Chromium and its WebDriver.
    Browser,
    /// Any Python 3.
    Python,
    /// A Python with the packages of tests/clients/requirements.txt.
    PythonPackages,
    /// Node.js with the packages of tests/asyncapi/package.json.
    NodeJs,
    Php,
    /// PHP's extensions for Redis and MySQL.
    PhpExtensions,
    Logrotate,
    Runit,
    Man,
    /// The other reader of man pages, with its checks.
    Mandoc,
    /// Prometheus with its promtool.
    Prometheus,
    /// systemd's tools; a running systemd is not needed.
    Systemd,
    /// `script`, which gives a command a terminal.
    Script,
    Strace,
    Setpriv,
    /// Mount namespaces of one's own.
    Namespaces,
    /// Debian's tools for packages, and for roots of its releases.
    Debian,
    /// Containers with a booted systemd.
    Nspawn,
    Root,
    /// More than a minute: left out by a plain `cargo test` and by `contrib/test --quick`.
    Time,
    /// More than CI has: `contrib/test --all`.
    MuchTime,
}

use Need::*;

/// Skips the test that it is the first line of, where one of these is missing.
macro_rules! needs {
    ($($need:ident),+ $(,)?) => {
        if $crate::support::needs::are_missing(&[$($crate::support::needs::Need::$need),+]) {
            return;
        }
    };
}

/// How many tests were skipped for want of what.
static SKIPPED: Mutex<BTreeMap<Need, usize>> = Mutex::new(BTreeMap::new());

/// Whether the calling test is to be skipped; says so and counts it.
pub fn are_missing(needs: &[Need]) -> bool {
    let Some((need, reason)) = needs.iter().find_map(|n| Some((*n, n.missing()?))) else {
        return false;
    };
    assert!(
        matches!(need, MuchTime | Autobahn) || env::var_os("ANDREA_TEST_NO_SKIP").is_none(),
        "this test may not be skipped, and {reason}"
    );
    let mut skipped = SKIPPED.lock().expect("no panic under this lock");
    let count = skipped.entry(need).or_default();
    *count += 1;
    if *count == 1 {
        say(&format!("skipping tests that need {need}: {reason}"));
    }
    println!("skipped: {reason}");
    true
}

/// For what starts such a thing: a test that forgot to name it fails on every machine that lacks it, and says why.
pub fn demand(need: Need) {
    if let Some(reason) = need.missing() {
        panic!("{reason}; the first line of this test must be: needs!({need:?});");
    }
}

/// What was skipped so far, in one line; none where nothing was.
pub fn summary() -> Option<String> {
    let skipped = SKIPPED.lock().expect("no panic under this lock");
    let total: usize = skipped.values().sum();
    let each: Vec<_> = skipped
        .iter()
        .map(|(need, count)| format!("{need} {count}"))
        .collect();
    (total > 0).then(|| format!("skipped {total} tests for want of: {}", each.join(", ")))
}

/// Past the capture of a test's output.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Need {
    /// Why the tests that need it cannot run here; none if they can. Looked at once.
    pub fn missing(self) -> Option<String> {
        static FOUND: Mutex<BTreeMap<Need, Option<String>>> = Mutex::new(BTreeMap::new());
        let mut found = FOUND.lock().expect("no panic under this lock");
        found.entry(self).or_insert_with(|| self.look()).clone()
    }

    fn look(self) -> Option<String> {
        if is_taken_for_missing(self) {
            return Some(format!("ANDREA_TEST_WITHOUT names {self:?}"));
        }
        if let Some(name) = self.programs().iter().find(|name| find(name).is_none()) {
            return Some(format!("{name} is not installed (contrib/test brings it)"));
        }
        let is_there = match self {
            MariaDb => {
                let server = database_server().expect("found, or named");
                assert!(
                    server.is_file(),
                    "ANDREA_TEST_MYSQLD: no file {}",
                    server.display()
                );
                true
            }
            Browser => chromium().is_some() && chromedriver().is_some(),
            Autobahn => wstest().is_some(),
            Python => python().is_some(),
            PythonPackages => python_with_packages().is_some(),
            NodeJs => node_modules().is_some(),
            PhpExtensions => succeeds(Command::new("php").args(["-r", PHP_EXTENSIONS])),
            Namespaces => can_make_namespaces(),
            Root => is_root(),
            Time => matches!(tier().as_str(), "full" | "all"),
            MuchTime => tier() == "all",
            _ => true,
        };
        (!is_there).then(|| self.remedy())
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            MariaDb if is_another_server() => &[],
            MariaDb => &["mariadbd", "mariadb-install-db", "my_print_defaults"],
            Redis => &["redis-server"],
            Nginx => &["nginx"],
            Apache => &["apache2"],
            OpenSsl => &["openssl"],
            NodeJs => &["node"],
            Php | PhpExtensions => &["php"],
            Logrotate => &["logrotate", "gzip"],
            Runit => &["runsv", "chpst", "sv"],
            Man => &["man", "lexgrog"],
            Mandoc => &["mandoc"],
            Prometheus => &["promtool", "prometheus"],
            Systemd => &["systemd-analyze", "systemd-socket-activate"],
            Script => &["script"],
            Strace => &["strace"],
            Setpriv => &["setpriv", "prlimit"],
            Namespaces => &["unshare", "nsenter"],
            Debian => &["dpkg-deb", "lintian", "debootstrap", "ip"],
            Nspawn => &["systemd-nspawn"],
            Autobahn | Browser | Python | PythonPackages | Root | Time | MuchTime => &[],
        }
    }

    fn remedy(self) -> String {
        match self {
            Autobahn => {
                "it is not installed (contrib/test brings it where Python 2.7 is: docs/autobahn.md)"
            }
            Root => "the tests do not run as root",
            Time => "they take long (contrib/test runs them)",
            MuchTime => "they take very long (contrib/test --all runs them)",
            Namespaces => "this system lets us make no mount namespaces",
            _ => "it is not installed (contrib/test brings it)",
        }
        .to_owned()
    }
}

impl fmt::Display for Need {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            MariaDb => "MariaDB",
            Redis => "Redis",
            Nginx => "nginx",
            Apache => "Apache",
            OpenSsl => "OpenSSL",
            Autobahn => "the Autobahn test suite",
            Browser => "Chromium with its WebDriver",
            Python => "Python 3",
            PythonPackages => "Python with tests/clients/requirements.txt",
            NodeJs => "Node.js with tests/asyncapi/package.json",
            Php => "PHP",
            PhpExtensions => "PHP with Redis and MySQL",
            Logrotate => "logrotate",
            Runit => "runit",
            Man => "man",
            Mandoc => "mandoc",
            Prometheus => "Prometheus",
            Systemd => "systemd's tools",
            Script => "script (util-linux)",
            Strace => "strace",
            Setpriv => "setpriv and prlimit (util-linux)",
            Namespaces => "mount namespaces",
            Debian => "dpkg-deb, lintian, debootstrap and ip",
            Nspawn => "systemd-nspawn (package systemd-container)",
            Root => "root",
            Time => "more time than a quick run has",
            MuchTime => "more than half an hour",
        })
    }
}

fn is_taken_for_missing(need: Need) -> bool {
    let names = env::var("ANDREA_TEST_WITHOUT").unwrap_or_default();
    let mut names = names.split(',');
    names.any(|name| name == "all" || name == format!("{need:?}"))
}

fn tier() -> String {
    env::var("ANDREA_TEST_TIER").unwrap_or_default()
}

/// A program's file. Servers lie in `sbin` on many systems, which an ordinary user's PATH does not have.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The same for one that is not missing.
pub fn program(name: &str) -> PathBuf {
    find(name).unwrap_or_else(|| PathBuf::from(name))
}

/// The program that this variable names, else the first of these that is there.
fn named_or_found(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let named = env::var_os(variable).filter(|named| !named.is_empty());
    named
        .map(PathBuf::from)
        .or_else(|| names.iter().find_map(|name| find(name)))
}

/// Whether the tests are to run on a server other than the system's own.
pub fn is_another_server() -> bool {
    env::var_os("ANDREA_TEST_MYSQLD").is_some_and(|named| !named.is_empty())
}

pub fn database_server() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_MYSQLD", &["mariadbd"])
}

pub fn chromium() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_CHROMIUM", &["chromium"])
}

pub fn chromedriver() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_CHROMEDRIVER", &["chromedriver"])
}

/// The program of the Autobahn test suite.
pub fn wstest() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_WSTEST", &["wstest"])
        .or_else(|| beside_the_build("test-autobahn/bin/wstest"))
}

pub fn python() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_PYTHON", &["python3"])
}

/// Where `contrib/test` puts something: beside what cargo builds.
fn beside_the_build(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?;
    let place = target.join(name);
    place.exists().then_some(place)
}

pub fn python_with_packages() -> Option<PathBuf> {
    named_or_found("ANDREA_TEST_PYTHON", &[]).or_else(|| beside_the_build("test-venv/bin/python"))
}

/// The folder in which the packages of tests/asyncapi/package.json are found.
pub fn node_modules() -> Option<PathBuf> {
    let named = named_or_found("ANDREA_TEST_NODE_MODULES", &[]);
    let folder = named.or_else(|| beside_the_build("test-node"))?;
    folder.join("node_modules").exists().then_some(folder)
}

const PHP_EXTENSIONS: &str =
    r#"exit(extension_loaded("redis") && extension_loaded("pdo_mysql") ? 0 : 1);"#;

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn can_make_namespaces() -> bool {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !is_root() {
        command.arg("--map-root-user");
    }
    succeeds(command.args(["mount", "--rbind", "/proc", "/proc"]))
}

fn succeeds(command: &mut Command) -> bool {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
