//! Runs a Python script under tests/ on a task, and does what it asks for meanwhile. `contrib/test` brings the programs
//! that the scripts need and names them in the environment.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::json::Json;

/// A program that a script needs: the variable that names it, and where it usually is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub variable: &'static str,
    pub usual_place: Option<&'static str>,
}

/// A Python with the packages of tests/clients/requirements.txt; nobody has that by chance.
pub const PYTHON_WITH_PACKAGES: Program = Program {
    variable: "ANDREA_TEST_PYTHON",
    usual_place: None,
};
/// Any Python.
pub const PYTHON: Program = Program {
    variable: "ANDREA_TEST_PYTHON",
    usual_place: Some("/usr/bin/python3"),
};
pub const CHROMEDRIVER: Program = Program {
    variable: "ANDREA_TEST_CHROMEDRIVER",
    usual_place: Some("/usr/bin/chromedriver"),
};
pub const CHROMIUM: Program = Program {
    variable: "ANDREA_TEST_CHROMIUM",
    usual_place: Some("/usr/bin/chromium"),
};

/// Runs `tests/SCRIPT` with the first of the programs, which is its Python, on this task. Each line that it says is
/// given to `ask`; what comes back is the answer, `None` for a line that asks for nothing. The scripts have limits for
/// all that they wait for, so this needs none.
pub fn run(
    script: &str,
    programs: &[Program],
    task: &Json,
    mut ask: impl FnMut(&str) -> Option<String>,
) {
    let places: Vec<OsString> = programs.iter().map(|program| place(*program)).collect();
    let variables = programs.iter().map(|program| program.variable);
    let mut child = Command::new(&places[0])
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests")
                .join(script),
        )
        .envs(variables.zip(&places))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {}: {e}", places[0].display()));
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    writeln!(stdin, "{task}").expect("give the script its task");
    let mut said = String::new();
    for line in BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines() {
        let line = line.expect("read what the script says");
        match ask(&line) {
            Some(answer) => writeln!(stdin, "{answer}").expect("answer the script"),
            None => {
                said.push_str(&line);
                said.push('\n');
            }
        }
    }
    let status = child.wait().expect("wait for the script");
    assert!(status.success(), "{script} ended with {status}:\n{said}");
}

fn place(program: Program) -> OsString {
    if let Some(named) = env::var_os(program.variable).filter(|named| !named.is_empty()) {
        return named;
    }
    match program
        .usual_place
        .filter(|place| Path::new(place).exists())
    {
        Some(place) => place.into(),
        None => panic!(
            "{} does not name a program. Run contrib/test, which brings what this test needs, or leave such tests \
             out: cargo test -- --skip outer_clients --skip browser",
            program.variable
        ),
    }
}
