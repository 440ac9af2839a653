//! Runs a Python script under tests/ on a task, and does what it asks for meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::json::Json;
use super::needs::{self, Need};

/// A program that a script needs: the variable that names it to the script, what it is part of, and how it is found.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    variable: &'static str,
    need: Need,
    find: fn() -> Option<PathBuf>,
}

pub const PYTHON_WITH_PACKAGES: Program = Program {
    variable: "ANDREA_TEST_PYTHON",
    need: Need::PythonPackages,
    find: needs::python_with_packages,
};
pub const PYTHON: Program = Program {
    variable: "ANDREA_TEST_PYTHON",
    need: Need::Python,
    find: needs::python,
};
pub const CHROMEDRIVER: Program = Program {
    variable: "ANDREA_TEST_CHROMEDRIVER",
    need: Need::Browser,
    find: needs::chromedriver,
};
pub const CHROMIUM: Program = Program {
    variable: "ANDREA_TEST_CHROMIUM",
    need: Need::Browser,
    find: needs::chromium,
};

pub const NODE: Program = Program {
    variable: "ANDREA_TEST_NODE",
    need: Need::NodeJs,
    find: || needs::find("node"),
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
    let places: Vec<PathBuf> = programs.iter().map(|program| place(*program)).collect();
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
    println!("{said}");
}

fn place(program: Program) -> PathBuf {
    needs::demand(program.need);
    (program.find)().expect("what is not missing is somewhere")
}
