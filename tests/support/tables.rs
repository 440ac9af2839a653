//! Tables of the documents that are made from the source.

use std::fs;
use std::path::Path;

/// Each table stands in the document under its heading; with `ANDREA_TEST_WRITE` it is put there.
#[track_caller]
pub fn assert_stand_in(document: &str, tables: &[(impl AsRef<str>, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let shipped = fs::read_to_string(&path).expect("the document");
    let mut text = shipped.clone();
    let write = std::env::var_os("ANDREA_TEST_WRITE").is_some();
    for (heading, table) in tables {
        let heading = heading.as_ref();
        let begin = text.find(&format!("\n{heading}\n\n")).expect(heading) + heading.len() + 3;
        let end = text[begin..]
            .find("\n\n")
            .map_or(text.len(), |at| begin + at + 1);
        if write {
            text.replace_range(begin..end, table);
        }
        assert!(
            text[begin..].starts_with(table.as_str()),
            "{document}, {heading}: ANDREA_TEST_WRITE=1 cargo test with this test's name writes it"
        );
    }
    if text != shipped {
        fs::write(&path, text).expect("write");
    }
}
