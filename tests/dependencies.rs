//! The binary's dependencies: licences, sources and versions. Reads deny.toml, as `cargo deny` does in `.ci/run`, but
//! needs neither cargo-deny nor a network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::json::Json;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(program)
        .args(arguments)
        .args(["--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "cargo {arguments:?}: {complaint}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The system that the tests are built on, as the compiler calls it.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output();
    let text = String::from_utf8(output.expect("rustc runs").stdout).expect("UTF-8");
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("a host").to_owned()
}

fn deny() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
    fs::read_to_string(file).expect("deny.toml")
}

/// What stands in quotes in a list of deny.toml, of each line the first.
fn list(name: &str) -> Vec<String> {
    let text = deny();
    let (_, rest) = text
        .split_once(&format!("\n{name} = [\n"))
        .unwrap_or_else(|| panic!("{name} in deny.toml"));
    let (list, _) = rest.split_once("\n]").expect("an end of the list");
    let quoted = list
        .lines()
        .map(|line| line.split('"').nth(1).expect("a word"));
    quoted.map(str::to_owned).collect()
}

/// Name and version of every crate of the shipped binary.
fn shipped() -> BTreeSet<(String, String)> {
    built_with(&[])
}

/// Name and version of every crate of a build with these arguments.
fn built_with(arguments: &[&str]) -> BTreeSet<(String, String)> {
    let tree = [
        "tree", "-e", "normal", "--prefix", "none", "--format", "{p}",
    ];
    let tree = cargo(&[&tree[..], arguments].concat());
    let crates = tree.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned()))
    });
    crates.collect()
}

/// Whether an SPDX expression can be met with licences of the list. Its `/` is an old way to say `OR`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    // An exception only adds permissions, so the licence before it decides.
    let mut words: Vec<&str> = spaced.split_whitespace().collect();
    while let Some(place) = words.iter().position(|word| *word == "WITH") {
        words.drain(place..place + 2);
    }
    let mut rest = &words[..];
    let met = any_of(&mut rest, allowed);
    assert!(rest.is_empty(), "{expression}");
    met
}

fn any_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = all_of(words, allowed);
    while let [first, rest @ ..] = *words
        && *first == "OR"
    {
        *words = rest;
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while let [first, rest @ ..] = *words
        && *first == "AND"
    {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &[String]) -> bool {
    let (first, rest) = words.split_first().expect("a licence");
    *words = rest;
    if *first != "(" {
        return allowed.iter().any(|licence| licence == first);
    }
    let met = any_of(words, allowed);
    *words = words.strip_prefix(&[")"]).expect("a closing parenthesis");
    met
}

#[test]
fn licences_are_read_as_spdx_has_them() {
    let allowed = ["MIT".to_owned(), "ISC".to_owned()];
    for expression in [
        "MIT",
        "MIT/GPL-2.0",
        "GPL-2.0 OR MIT",
        "MIT AND ISC",
        "X AND Y OR ISC",
        "ISC AND (X OR MIT)",
    ] {
        assert!(is_allowed(expression, &allowed), "{expression}");
    }
    for expression in [
        "GPL-2.0",
        "MIT AND X",
        "(MIT OR ISC) AND X",
        "X WITH MIT OR Y",
    ] {
        assert!(!is_allowed(expression, &allowed), "{expression}");
    }
}

#[test]
fn every_crate_has_a_licence_that_is_allowed_and_comes_from_the_registry() {
    let allowed = list("allow");
    let shipped = shipped();
    assert!(shipped.len() > 50, "{shipped:?}");
    // Those of other systems need not have been downloaded, and are not in the binary.
    let here = format!("--filter-platform={}", host());
    let metadata = cargo(&["metadata", "--format-version", "1", &here]);
    let metadata = Json::parse(&metadata).expect("JSON");
    let mut seen = 0;
    for package in metadata.need("packages").items() {
        let text = |key: &str| package.need(key).str().unwrap_or_default().to_owned();
        let this = (text("name"), text("version"));
        let source = package.need("source").str();
        if this.0 != env!("CARGO_PKG_NAME") {
            assert_eq!(source, Some(REGISTRY), "{this:?}");
        }
        if shipped.contains(&this) {
            seen += 1;
            // One names a file instead of a word; deny.toml says what is in it.
            let licence = match text("license") {
                none if none.is_empty() && this.0 == "webpki" => "ISC".to_owned(),
                licence => licence,
            };
            assert!(
                is_allowed(&licence, &allowed),
                "{this:?} is under {licence:?}"
            );
        }
    }
    assert_eq!(seen, shipped.len());
}

#[test]
fn no_crate_comes_in_two_versions_but_those_that_could_not_be_helped() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in shipped() {
        versions.entry(name).or_default().push(version);
    }
    let excused: BTreeSet<String> = list("skip").into_iter().collect();
    let mut used = BTreeSet::new();
    for (name, versions) in versions {
        let named: Vec<String> = versions
            .iter()
            .map(|version| format!("{name}@{version}"))
            .collect();
        let others = named.iter().filter(|one| !excused.contains(*one)).count();
        assert!(others <= 1, "{named:?}");
        if named.len() > 1 {
            used.extend(named.into_iter().filter(|one| excused.contains(one)));
        }
    }
    assert_eq!(used, excused, "deny.toml excuses what is there no more");
}

#[test]
fn no_crate_is_there_that_is_not_wanted() {
    let unwanted = list("deny");
    for (name, version) in shipped() {
        assert!(!unwanted.contains(&name), "{name} {version}");
    }
}

/// More than that needs a reason in Cargo.toml and another number here.
#[test]
fn there_are_no_more_crates_than_were_agreed_upon() {
    for (arguments, most) in [(&[][..], 128), (&["--no-default-features"], 106)] {
        let crates = built_with(arguments);
        assert!(
            crates.len() <= most,
            "{} crates with {arguments:?}, at most {most}: {crates:?}",
            crates.len()
        );
    }
}
