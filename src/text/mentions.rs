//! Which handles a body mentions, not which agents: only the database compares handles.

use std::collections::HashSet;

use super::tokens::next_mention;

/// The handles that `body` mentions: without `@`, in lower case, each once, in order of appearance.
///
/// These are the handles that [`render`](super::render()) marks, and those inside a URL, which it shows as a part of the
/// link: the recorded daemon notifies these agents too.
pub fn mentions(body: &str) -> Vec<String> {
    let mut handles = Vec::new();
    let mut seen = HashSet::new();
    let mut at = 0;
    while let Some((handle, end)) = next_mention(body, at) {
        let handle = handle.to_ascii_lowercase();
        if seen.insert(handle.clone()) {
            handles.push(handle);
        }
        at = end;
    }
    handles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_comes_once_in_lower_case_and_in_order() {
        assert_eq!(mentions("@Bob, @ann-lee- and @BOB"), ["bob", "ann-lee"]);
        assert_eq!(mentions("x@bob @i @-x @"), [""; 0]);
    }

    #[test]
    fn a_handle_inside_a_url_counts() {
        assert_eq!(mentions("https://x.test/@bob https://ann@x.test"), ["bob"]);
    }
}
