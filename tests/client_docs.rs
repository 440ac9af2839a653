//! The clients of docs/clients.md, as they stand there, against the demo and an install; and `chat` on the command line.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::support::daemon::{Daemon, Options, program};
use crate::support::demo::{Demo, new_folder};
use crate::support::json::Json;
use crate::support::mariadb::Database;
use crate::support::ws::Client;
use crate::support::{needs, script, seed, wait};

const MOST_LINES: usize = 30;

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A folder with the document's clients and the JavaScript one.
fn folder() -> PathBuf {
    let folder = new_folder();
    fs::create_dir(&folder).expect("make the folder");
    let text = fs::read_to_string(source("docs/clients.md")).expect("the document");
    for name in ["chat.mjs", "chat.html", "chat.py", "chat.php"] {
        let block = text.split("```").find(|block| {
            let first = block.lines().nth(1).unwrap_or_default();
            first.split(' ').any(|word| word == name)
        });
        let (_, code) = block
            .unwrap_or_else(|| panic!("the document has no {name}"))
            .split_once('\n')
            .expect("lines");
        let lines = code.lines().count();
        assert!(lines <= MOST_LINES, "{name} has {lines} lines");
        fs::write(folder.join(name), code).expect("write");
    }
    let client = source("contrib/client/andrea-chat.js");
    for name in ["andrea-chat.js", "andrea-chat.mjs"] {
        fs::copy(&client, folder.join(name)).expect("copy");
    }
    folder
}

/// Something to talk with: where it is, and the folder that subcommands take.
struct Target {
    port: u16,
    root: PathBuf,
}

impl Target {
    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(program());
        command
            .env_clear()
            .arg(arguments[0])
            .arg("--root")
            .arg(&self.root)
            .args(&arguments[1..]);
        command.output().expect("run")
    }

    fn token(&self, agent: &str) -> String {
        let minted = self.run(&["token", "--agent", agent]);
        assert!(minted.status.success(), "{minted:?}");
        let text = String::from_utf8(minted.stdout).expect("text");
        text.trim().to_owned()
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws/chat", self.port)
    }

    fn say(&self, text: &str) {
        let mut client = Client::connect(self.port).expect("upgrade");
        let auth = Json::object([("type", "auth".into()), ("token", self.token("2").into())]);
        client.send(&auth.to_string());
        client.until_type("auth.ok").expect("accepted");
        let message = Json::object([
            ("type", "chat.channel.message.send".into()),
            ("channel_id", 1.into()),
            ("body", text.into()),
        ]);
        client.send(&message.to_string());
        let created = client.until_type("chat.channel.message.created");
        created.expect("stored");
    }
}

/// A client that runs until it is dropped.
struct Running {
    child: Child,
    output: PathBuf,
}

impl Running {
    fn start(mut command: Command, output: PathBuf) -> Running {
        let file = File::create(&output).expect("a file for the output");
        let errors = file.try_clone().expect("a second handle");
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        let child = command
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Running { child, output }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    fn await_line(&self, end: &str) {
        let seen = wait::until(wait::LIMIT, || {
            let said = self.said();
            said.lines().any(|line| line.ends_with(end)).then_some(())
        });
        seen.unwrap_or_else(|| panic!("no line ends with {end:?}: {}", self.said()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn on_the_demo(test: impl Fn(&Target)) {
    let root = new_folder();
    let demo = Demo::start(&root, 0);
    test(&Target {
        port: demo.port(),
        root,
    });
}

fn on_an_install(test: impl Fn(&Target)) {
    let database = Database::fresh();
    seed::reset(&mut database.conn());
    let port = crate::support::mariadb::free_port();
    let options = Options::new()
        .dotenv("CHAT_WEBSOCKET_PORT", &port.to_string())
        .port_as_configured();
    let daemon = Daemon::start(&database, &options);
    test(&Target {
        port,
        root: daemon.install.root().to_owned(),
    });
}

/// Runs a client of the document: it says hello, hears itself and then another.
fn talks(target: &Target, program: &str, file: &str, name: &str) {
    let folder = folder();
    let modules = folder.join("node_modules");
    if file.ends_with(".mjs") {
        let packages = needs::node_modules()
            .expect("a folder")
            .join("node_modules");
        std::os::unix::fs::symlink(packages, modules).expect("a link");
    }
    let mut command = Command::new(program);
    command
        .arg(file)
        .current_dir(&folder)
        .env("CHAT_URL", target.url())
        .env("CHAT_TOKEN", target.token("1"));
    let client = Running::start(command, folder.join("output"));
    client.await_line(&format!(": Hello from {name}"));
    target.say(&format!("Hello, {name}"));
    client.await_line(&format!(": Hello, {name}"));
}

fn talks_everywhere(program: &str, file: &str, name: &str) {
    on_the_demo(|target| talks(target, program, file, name));
    on_an_install(|target| talks(target, program, file, name));
}

#[test]
fn the_documents_node_client_talks() {
    needs!(NodeJs, MariaDb);
    talks_everywhere("node", "chat.mjs", "Node");
}

#[test]
fn the_documents_python_client_talks() {
    needs!(PythonPackages, MariaDb);
    let python = needs::python_with_packages().expect("a Python");
    talks_everywhere(&python.display().to_string(), "chat.py", "Python");
}

#[test]
fn the_documents_php_client_talks() {
    needs!(Php, MariaDb);
    talks_everywhere("php", "chat.php", "PHP");
}

#[test]
fn the_documents_browser_client_talks() {
    needs!(Python, Browser, MariaDb);
    let folder = folder();
    let test = |target: &Target| {
        let task = Json::object([
            ("folder", folder.display().to_string().into()),
            ("url", target.url().into()),
            ("token", target.token("1").into()),
        ]);
        let programs = [script::PYTHON, script::CHROMEDRIVER, script::CHROMIUM];
        script::run("client/browser.py", &programs, &task, |word| {
            let text = word.strip_prefix("SAY ")?;
            target.say(text);
            Some("DONE".to_owned())
        });
    };
    on_the_demo(test);
    on_an_install(test);
}

#[test]
fn chat_sends_and_tails_on_the_command_line() {
    needs!(MariaDb);
    let test = |target: &Target| {
        sends_and_tails(target);
        is_refused(target);
    };
    on_the_demo(test);
    on_an_install(test);
}

fn sends_and_tails(target: &Target) {
    let place = ["--agent", "1", "--channel", "1"];
    let chat = |verb: &str, more: &[&str]| {
        let arguments: Vec<&str> = [&["chat", verb], &place[..], more].concat();
        target.run(&arguments)
    };
    let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let sent = chat("send", &["--", "-1 is a number\nand \u{1b}[31mred"]);
    assert!(sent.status.success(), "{sent:?}");
    let json = chat("send", &["--json", "another"]);
    let message = Json::parse(text(&json).trim()).expect("a line of JSON");
    assert_eq!(message.need("body_text").str(), Some("another"));
    let id = message.need("id").int().expect("an id");
    assert_eq!(text(&sent), format!("stored as message {}\n", id - 1));

    let input = new_folder();
    fs::write(&input, "from a pipe\n").expect("write");
    let piped = Command::new(program())
        .env_clear()
        .args(["chat", "send", "-", "--json", "--root"])
        .arg(&target.root)
        .args(place)
        .stdin(File::open(&input).expect("open"))
        .output()
        .expect("run");
    let message = Json::parse(text(&piped).trim()).expect("a line of JSON");
    assert_eq!(message.need("body_text").str(), Some("from a pipe"));

    let tail = text(&chat("tail", &["-n", "3", "--no-follow"]));
    let lines: Vec<&str> = tail.lines().collect();
    assert_eq!(lines.len(), 4, "{tail}");
    assert!(lines[0].ends_with(": -1 is a number"), "{tail}");
    assert_eq!(lines[1], "    and \\u{1b}[31mred");
    assert!(lines[2].ends_with(": another"), "{tail}");
    assert!(lines[3].ends_with(": from a pipe"), "{tail}");

    let mut command = Command::new(program());
    command
        .env_clear()
        .args(["chat", "tail", "-n", "0", "--json"]);
    command.args(place).arg("--root").arg(&target.root);
    let output = new_folder();
    let tail = Running::start(command, output);
    let known = wait::until(wait::LIMIT, || {
        // What is said before it listens is not shown; so it is said until it is.
        target.say("are you there?");
        (!tail.said().is_empty()).then_some(())
    });
    known.unwrap_or_else(|| panic!("nothing came: {}", tail.said()));
    for line in tail.said().lines() {
        let message = Json::parse(line).expect("a line of JSON");
        assert_eq!(message.need("body_text").str(), Some("are you there?"));
    }
}

fn is_refused(target: &Target) {
    for (arguments, code, complaint) in [
        (
            &["--agent", "1", "--channel", "999"][..],
            1,
            "You cannot post in this chat channel",
        ),
        (
            &["--agent", "999", "--channel", "1"],
            1,
            "Agent account not found or inactive",
        ),
        (&["--agent", "1"], 64, "--channel"),
        (
            &["--agent", "1", "--channel", "1", "--thread", "1"],
            64,
            "--thread",
        ),
    ] {
        let refused = target.run(&[&["chat", "send", "x"], arguments].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
    let hidden = target.run(&[
        "chat",
        "tail",
        "--agent",
        "1",
        "--thread",
        "999",
        "--no-follow",
    ]);
    assert_eq!(hidden.status.code(), Some(1), "{hidden:?}");
}

#[test]
fn chat_ends_with_78_where_no_helpdesk_is() {
    let root = new_folder();
    fs::create_dir(&root).expect("make the folder");
    let target = Target { port: 0, root };
    for verb in [&["tail"][..], &["send", "Hello"]] {
        let arguments = [&["chat"], verb, &["--agent", "1", "--channel", "1"]].concat();
        let output = target.run(&arguments);
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn chat_tail_ends_with_69_where_no_service_runs() {
    let root = new_folder();
    drop(Demo::start(&root, 0));
    let target = Target { port: 0, root };
    let tail = target.run(&["chat", "tail", "--agent", "1", "--channel", "1"]);
    assert_eq!(tail.status.code(), Some(69), "{tail:?}");
    assert!(String::from_utf8_lossy(&tail.stderr).contains("no chat service at 127.0.0.1:"));
}
