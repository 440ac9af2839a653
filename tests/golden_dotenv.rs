//! What the PHP application reads in `.env` files, replayed through `env_file`, and malformed files.

use std::collections::BTreeMap;
use std::path::Path;

use andrea_chat_websocket::config::env_file;
use serde_json::Value;

use crate::random::{Random, each_seed};

#[test]
fn every_recorded_file_is_read_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/dotenv.json");
    let text = std::fs::read_to_string(path).expect("the fixture can be read");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the fixture is a list");
    assert_eq!(cases.len(), 97, "the fixture has another number of cases");
    for case in &cases {
        let file = case["file"].as_str().expect("a file");
        let read = env_file::parse(file, &|_| None);
        if case["invalid"] == true {
            assert!(read.is_err(), "{file:?} is not valid, found {read:?}");
            continue;
        }
        // A variable that is null is unset.
        let expected: BTreeMap<&str, &str> = case["vars"]
            .as_object()
            .expect("variables")
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
            .collect();
        let read = read.unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let found: BTreeMap<&str, &str> =
            read.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{file:?}");
    }
}

#[test]
fn no_file_makes_it_panic_or_misplaces_an_error() {
    const PIECES: [&str; 24] = [
        "A", "B", "=", "=", " ", "\t", "\n", "\r", "\r\n", "'", "\"", "\"", "\\", "$", "${", "}",
        "${A}", "#", "export ", "é", "\u{a0}", "\0", ".", "x",
    ];
    let file = |seed: u64| {
        let mut random = Random::new(seed);
        if seed.is_multiple_of(4) {
            let bytes: Vec<u8> = (0..random.below(200))
                .map(|_| random.next() as u8)
                .collect();
            String::from_utf8_lossy(&bytes).into_owned()
        } else {
            random.text_of(&PIECES, 40)
        }
    };
    let of_system = |name: &str| (name == "B").then(|| String::from("${A}"));
    each_seed(
        "dotenv_file",
        0..20_000,
        file,
        |_, file| match env_file::parse(file, &of_system) {
            Ok(variables) => assert!(!variables.contains_key("")),
            Err(error) => {
                let lines = file.replace("\r\n", "\n").replace('\r', "\n");
                let lines = lines.split('\n').count();
                assert!((1..=lines).contains(&error.line), "{error}");
            }
        },
    );
}

#[test]
fn a_value_in_single_quotes_is_always_taken_as_it_is() {
    const PIECES: [&str; 12] = [
        "a", " ", "$", "${A}", "\\", "\"", "#", "=", "é", "\t", "`", "export",
    ];
    let value = |seed| Random::new(seed).text_of(&PIECES, 12);
    each_seed("dotenv_quotes", 0..2_000, value, |_, value| {
        let file = format!("A=x\nB='{value}' # '");
        let read =
            env_file::parse(&file, &|_| None).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        assert_eq!(read["B"], *value);
    });
}
