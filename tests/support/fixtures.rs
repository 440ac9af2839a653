//! The recorded files, as they lie in the repository, and the few encodings that they use for bytes.

use std::fs;
use std::path::{Path, PathBuf};

use super::json::Json;

pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

pub fn text(name: &str) -> String {
    let path = path(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// A file of recorded behaviour, for example `golden("events")`.
pub fn golden(name: &str) -> Json {
    let name = format!("golden/{name}.json");
    Json::parse(&text(&name)).unwrap_or_else(|e| panic!("parse {name}: {e}"))
}

pub fn from_hex(hex: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16).expect("a hexadecimal digit") as u8;
    hex.as_bytes()
        .chunks(2)
        .map(|pair| (digit(pair[0]) << 4) | digit(pair[1]))
        .collect()
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes written down as one character each, U+0000 to U+00FF.
pub fn from_latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).expect("a Latin-1 character"))
        .collect()
}
