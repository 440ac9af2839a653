//! Which texts are equal to a database of the helpdesk: case and accents do not matter there (`utf8mb4_unicode_ci`).
//! Compared in queries only, never in a key, so that the file stays readable for every SQLite program and this table
//! may grow without an index going stale.
//!
//! As in that database, accented Latin letters equal their plain letters, and combining marks and trailing spaces are
//! ignored. In other scripts only case is ignored, not the accents of Greek and Cyrillic.

use std::cmp::Ordering;

/// Accented Latin letters by what they are equal to, as MariaDB has it, from U+0080 to U+024F and from U+1E00 to
/// U+1EFF. Letters that are distinct there, such as æ, ø and đ, are distinct here.
const LATIN: [(&str, &str); 38] = [
    ("1", "¹"),
    ("2", "²"),
    ("3", "³"),
    (
        "a",
        "ªÀÁÂÃÄÅàáâãäåĀāĂăĄąǍǎǞǟǠǡǺǻȀȁȂȃȦȧḀḁẠạẢảẤấẦầẨẩẪẫẬậẮắẰằẲẳẴẵẶặ",
    ),
    ("b", "ḂḃḄḅḆḇ"),
    ("c", "ÇçĆćĈĉĊċČčḈḉ"),
    ("d", "ĎďḊḋḌḍḎḏḐḑḒḓ"),
    ("dz", "ǄǅǆǱǲǳ"),
    ("e", "ÈÉÊËèéêëĒēĔĕĖėĘęĚěȄȅȆȇȨȩḔḕḖḗḘḙḚḛḜḝẸẹẺẻẼẽẾếỀềỂểỄễỆệ"),
    ("f", "Ḟḟ"),
    ("g", "ĜĝĞğĠġĢģǦǧǴǵḠḡ"),
    ("h", "ĤĥȞȟḢḣḤḥḦḧḨḩḪḫẖ"),
    ("i", "ÌÍÎÏìíîïĨĩĪīĬĭĮįİǏǐȈȉȊȋḬḭḮḯỈỉỊị"),
    ("ij", "Ĳĳ"),
    ("j", "Ĵĵǰ"),
    ("k", "ĶķǨǩḰḱḲḳḴḵ"),
    ("l", "ĹĺĻļĽľḶḷḸḹḺḻḼḽ"),
    ("lj", "Ǉǈǉ"),
    ("m", "ḾḿṀṁṂṃ"),
    ("n", "ÑñŃńŅņŇňǸǹṄṅṆṇṈṉṊṋ"),
    ("nj", "Ǌǋǌ"),
    (
        "o",
        "ºÒÓÔÕÖòóôõöŌōŎŏŐőƠơǑǒǪǫǬǭȌȍȎȏȪȫȬȭȮȯȰȱṌṍṎṏṐṑṒṓỌọỎỏỐốỒồỔổỖỗỘộỚớỜờỞởỠỡỢợ",
    ),
    ("oe", "Œœ"),
    ("p", "ṔṕṖṗ"),
    ("r", "ŔŕŖŗŘřȐȑȒȓṘṙṚṛṜṝṞṟ"),
    ("s", "ŚśŜŝŞşŠšſȘșṠṡṢṣṤṥṦṧṨṩẛ"),
    ("ss", "ß"),
    ("t", "ŢţŤťȚțṪṫṬṭṮṯṰṱẗ"),
    (
        "u",
        "ÙÚÛÜùúûüŨũŪūŬŭŮůŰűŲųƯưǓǔǕǖǗǘǙǚǛǜȔȕȖȗṲṳṴṵṶṷṸṹṺṻỤụỦủỨứỪừỬửỮữỰự",
    ),
    ("v", "ṼṽṾṿ"),
    ("w", "ŴŵẀẁẂẃẄẅẆẇẈẉẘ"),
    ("x", "ẊẋẌẍ"),
    ("y", "ÝýÿŶŷŸȲȳẎẏẙỲỳỴỵỶỷỸỹ"),
    ("z", "ŹźŻżŽžẐẑẒẓẔẕ"),
    ("æ", "ǢǣǼǽ"),
    ("ø", "Ǿǿ"),
    ("ŀ", "Ŀ"),
    ("ʒ", "Ǯǯ"),
];

/// The order of two texts; equal where the helpdesk's database calls them equal.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (one, other) = (one.trim_end_matches(' '), other.trim_end_matches(' '));
    if one.is_ascii() && other.is_ascii() {
        let lower = u8::to_ascii_lowercase;
        return one
            .bytes()
            .map(|b| lower(&b))
            .cmp(other.bytes().map(|b| lower(&b)));
    }
    folded(one).cmp(folded(other))
}

/// Whether a text contains another one.
pub(super) fn holds(text: &str, needle: &str) -> bool {
    let plain = |text: &str| folded(text).collect::<String>();
    plain(text).contains(&plain(needle))
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|c| !is_combining_mark(*c))
        .flat_map(|c| {
            let plain = match c.is_ascii() {
                true => None,
                false => LATIN.iter().find(|(_, letters)| letters.contains(c)),
            };
            let (plain, lower) = match plain {
                Some((plain, _)) => (*plain, None),
                None => ("", Some(c.to_lowercase())),
            };
            plain.chars().chain(lower.into_iter().flatten())
        })
}

fn is_combining_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{362}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_accents_do_not_matter() {
        for (one, other) in [
            ("ana", "ANA"),
            ("josé", "Jose"),
            ("JOSE\u{301}", "josé"),
            ("ann ", "ann"),
            ("STRASSE", "straße"),
            ("Æble", "ǽble"),
            ("ŁÓDŹ", "łodz"),
            ("İlker", "ilker"),
            ("НАТАША", "наташа"),
            ("日本", "日本"),
            ("", "  "),
        ] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one:?} {other:?}");
        }
    }

    #[test]
    fn letters_of_their_own_and_everything_else_matter() {
        for (one, other) in [
            ("ana", "anna"),
            ("dee_dash", "dee-dash"),
            ("ann", " ann"),
            ("łodz", "lodz"),
            ("søren", "soren"),
            ("日", "月"),
        ] {
            assert_ne!(compare(one, other), Ordering::Equal, "{one:?} {other:?}");
            assert_eq!(compare(one, other), compare(other, one).reverse());
        }
    }

    #[test]
    fn a_text_is_found_whatever_its_case_and_accents() {
        for (needle, text, is_in) in [
            ("cafe", "Im CAFÉ um acht", true),
            ("CAFÉ", "the cafe", true),
            ("50%", "50 percent", false),
            ("a_b", "axb", false),
            ("тест", "ТЕСТ", true),
        ] {
            assert_eq!(holds(text, needle), is_in, "{needle} {text}");
        }
    }

    #[test]
    fn no_letter_stands_twice_in_the_table() {
        let mut letters: Vec<char> = LATIN.iter().flat_map(|(_, l)| l.chars()).collect();
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count);
    }
}
