//! The documents: no link leads nowhere, and the README stays short enough to be read.

use std::fs;
use std::path::{Path, PathBuf};

const README_BYTES: usize = 8 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in [".", "docs", "docs/performance", "contrib", "contrib/client"] {
        for entry in fs::read_dir(root().join(folder)).expect(folder) {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What a heading's link is called, as the usual renderers make it.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of `[text](target)`, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        let parts = line.split("](").skip(1).filter(|_| !is_code);
        found.extend(parts.filter_map(|part| Some(part.split_once(')')?.0.to_owned())));
    }
    found
}

#[test]
fn no_link_leads_nowhere() {
    let documents = documents();
    assert!(documents.len() > 15);
    let mut seen = 0;
    for document in documents {
        let text = fs::read_to_string(&document).expect("text");
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            seen += 1;
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                file => document.parent().expect("a folder").join(file),
            };
            assert!(target.exists(), "{}: {link}", document.display());
            if !place.is_empty() {
                let text = fs::read_to_string(&target).expect("text");
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|line| anchor(line.trim_start_matches('#').trim()) == place),
                    "{}: {link}",
                    document.display()
                );
            }
        }
    }
    assert!(seen > 30, "{seen} links");
}

#[test]
fn the_readme_is_short() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README");
    assert!(readme.len() <= README_BYTES, "{} bytes", readme.len());
}

/// Files in backquotes within a row of ARCHITECTURE.md that begins with this.
fn files_of(row: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("text");
    let begin = format!("| {row} | ");
    let row = text.lines().find_map(|line| line.strip_prefix(&begin));
    let row = row.unwrap_or_else(|| panic!("no row {begin}"));
    let words = row.split('`').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn each_way_through_the_source_takes_at_most_twelve_files_that_exist() {
    for way in ["a message", "typing", "authentication", "a Web Push"] {
        let files = files_of(way);
        assert!((8..=12).contains(&files.len()), "{way}: {files:?}");
        for file in files {
            assert!(root().join("src").join(&file).is_file(), "{way}: {file}");
        }
    }
}
