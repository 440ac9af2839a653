//! What `--version` says beside the number: the commit, where one is known, and the features.
//!
//! `contrib/release` names the commit in `ANDREA_CHAT_COMMIT`; in a checkout git is asked. Without either, or without git,
//! the version stands alone, and no build fails for it.

use std::env;
use std::path::Path;
use std::process::Command;

const NAMED: &str = "ANDREA_CHAT_COMMIT";
const FEATURES: [&str; 4] = ["push", "embedded", "bus", "db-tls"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={NAMED}");
    let named = env::var(NAMED).ok().filter(|commit| !commit.is_empty());
    let commit = named.or_else(commit_of_checkout).unwrap_or_default();
    println!("cargo::rustc-env={NAMED}={commit}");
    let shown = match commit.as_str() {
        "" => String::new(),
        commit => format!(" (commit {commit})"),
    };
    println!("cargo::rustc-env=ANDREA_CHAT_BUILD={shown}");
    let is_on = |feature: &&str| {
        let variable = feature.to_uppercase().replace('-', "_");
        env::var_os(format!("CARGO_FEATURE_{variable}")).is_some()
    };
    let on: Vec<&str> = FEATURES.into_iter().filter(is_on).collect();
    let features = match on[..] {
        [] => "none".to_owned(),
        _ => on.join(", "),
    };
    println!("cargo::rustc-env=ANDREA_CHAT_FEATURES={features}");
}

/// Only where this folder itself is a checkout: a tarball that was unpacked inside another one has no commit.
fn commit_of_checkout() -> Option<String> {
    Path::new(".git").exists().then_some(())?;
    // Written with every commit and every change of the branch. A missing file would build everything anew each time.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}
