//! Compares values, texts, rows and frames with what a recording says: placeholders for ids and times, and
//! the words `$any`, `$one_of`, `$repeat` and `$long`.
//!
//! A placeholder such as `<msg:2>` says which row is meant, not which number it has: it is bound to the id
//! that it first stands against, and must stand against that id, and no other placeholder, from then on.

use sha2::{Digest, Sha256};

use super::fixtures;
use super::json::Json;
use super::rows::Change;
use super::ws::{Frame, PONG, TEXT};

/// What a scenario has shown so far: which id each placeholder stands for, and the times that are "now".
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// For example `("msg:2", "700002")`.
    ids: Vec<(String, String)>,
    /// The times of the database's clock that will do, both included, as it writes them.
    pub db_now: (String, String),
    /// The same for epoch seconds.
    pub unix_now: (i64, i64),
}

pub type Match = Result<(), String>;

impl Known {
    /// Binds a placeholder before it is seen: a row that the scenario itself put in.
    pub fn bind(&mut self, placeholder: &str, id: &str) -> Match {
        if let Some((_, bound)) = self.ids.iter().find(|(p, _)| p == placeholder) {
            return if bound == id {
                Ok(())
            } else {
                Err(format!(
                    "expected <{placeholder}>, which is {bound}, found {id}"
                ))
            };
        }
        let kind = |placeholder: &str| placeholder.split(':').next().map(str::to_owned);
        let other = self
            .ids
            .iter()
            .find(|(p, bound)| bound == id && kind(p) == kind(placeholder));
        match other {
            Some((other, _)) => Err(format!(
                "expected <{placeholder}>, found {id}, which is <{other}>"
            )),
            None => {
                self.ids.push((placeholder.to_owned(), id.to_owned()));
                Ok(())
            }
        }
    }

    /// The placeholder of this kind that an id is bound to.
    fn placeholder(&self, kind: &str, id: &str) -> Option<String> {
        let mut bound = self.ids.iter().filter(|(_, i)| i == id);
        let found = bound.find(|(p, _)| p.split(':').next() == Some(kind))?;
        Some(format!("<{}>", found.0))
    }

    /// A value to send, placeholders and tokens put in.
    pub fn resolve(&self, value: &Json) -> Result<Json, String> {
        if let Some(recipe) = value.get("$jwt") {
            return Ok(super::jwt::mint(recipe).into());
        }
        Ok(match value {
            Json::String(text) => match Placeholder::at_start(text) {
                Some((Placeholder::Id(name), "")) => {
                    let bound = self.ids.iter().find(|(p, _)| p == name);
                    let (_, id) = bound.ok_or(format!("{text} has not been seen yet"))?;
                    Json::Number(id.clone())
                }
                _ => value.clone(),
            },
            Json::Array(items) => Json::Array(
                items
                    .iter()
                    .map(|i| self.resolve(i))
                    .collect::<Result<_, _>>()?,
            ),
            Json::Object(entries) => {
                let resolved = entries
                    .iter()
                    .map(|(k, v)| Ok((k.clone(), self.resolve(v)?)));
                Json::Object(resolved.collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    fn is_db_now(&self, time: &str) -> bool {
        let (from, to) = &self.db_now;
        time.len() == from.len() && from.as_str() <= time && time <= to.as_str()
    }

    fn is_unix_now(&self, digits: &str) -> bool {
        let (from, to) = self.unix_now;
        digits.parse().is_ok_and(|time| (from..=to).contains(&time))
    }

    /// Compares one value of a frame or a row.
    pub fn value(&mut self, expected: &Json, actual: &Json) -> Match {
        if let Some(word) = special(expected) {
            return self.special(word, expected, actual);
        }
        match (expected, actual) {
            (Json::String(text), Json::Number(digits)) => match Placeholder::at_start(text) {
                Some((Placeholder::Id(name), "")) => self.bind(name, digits),
                Some((Placeholder::UnixNow, "")) if self.is_unix_now(digits) => Ok(()),
                _ => differ(expected, actual),
            },
            (Json::String(text), Json::String(found)) => self.text(text, found),
            (Json::Array(wanted), Json::Array(found)) if wanted.len() == found.len() => {
                let mut pairs = wanted.iter().zip(found).enumerate();
                pairs.try_for_each(|(place, (w, f))| {
                    self.value(w, f).map_err(|e| format!("[{place}]: {e}"))
                })
            }
            (Json::Object(wanted), Json::Object(found)) => {
                let keys = |entries: &[(String, Json)]| {
                    entries
                        .iter()
                        .map(|(key, _)| key.clone())
                        .collect::<Vec<_>>()
                };
                if keys(wanted) != keys(found) {
                    return differ(expected, actual);
                }
                let mut pairs = wanted.iter().zip(found);
                pairs.try_for_each(|((key, w), (_, f))| {
                    self.value(w, f).map_err(|e| format!("{key}: {e}"))
                })
            }
            _ if expected == actual => Ok(()),
            _ => differ(expected, actual),
        }
    }

    fn special(&mut self, word: &str, expected: &Json, actual: &Json) -> Match {
        let argument = expected.need(word);
        let fits = match word {
            "$any" => match argument.str() {
                Some("string") => actual.str().is_some(),
                _ => panic!("unknown kind of value: {expected}"),
            },
            "$one_of" => {
                return argument
                    .items()
                    .iter()
                    .find_map(|choice| {
                        let mut tried = self.clone();
                        tried.value(choice, actual).ok()?;
                        *self = tried;
                        Some(())
                    })
                    .map_or_else(|| differ(expected, actual), Ok);
            }
            "$repeat" => {
                let times = argument
                    .need("times")
                    .int()
                    .and_then(|n| usize::try_from(n).ok());
                let unit = argument.need("char").str().expect("a character to repeat");
                let whole = unit.repeat(times.expect("how often"));
                actual.str() == Some(whole.as_str())
            }
            "$long" => actual.str().is_some_and(|text| is_long(argument, text)),
            _ => panic!("unknown word {word}"),
        };
        if fits {
            Ok(())
        } else {
            differ(expected, actual)
        }
    }

    /// Compares a text in which placeholders may stand.
    fn text(&mut self, expected: &str, actual: &str) -> Match {
        let differ = || differ(&Json::from(expected), &Json::from(actual));
        let (mut wanted, mut found) = (expected, actual);
        while !wanted.is_empty() {
            if let Some((placeholder, rest)) = Placeholder::at_start(wanted) {
                let length = match placeholder {
                    Placeholder::DbNow => self.db_now.0.len(),
                    _ => found.bytes().take_while(u8::is_ascii_digit).count(),
                };
                let Some((value, behind)) = found.split_at_checked(length) else {
                    return differ();
                };
                let fits = match placeholder {
                    Placeholder::Id(name) => length > 0 && self.bind(name, value).is_ok(),
                    Placeholder::DbNow => self.is_db_now(value),
                    Placeholder::UnixNow => self.is_unix_now(value),
                };
                if !fits {
                    return differ();
                }
                (wanted, found) = (rest, behind);
            } else {
                let c = wanted.chars().next().expect("not empty");
                match found.strip_prefix(c) {
                    Some(behind) => found = behind,
                    None => return differ(),
                }
                wanted = &wanted[c.len_utf8()..];
            }
        }
        if found.is_empty() { Ok(()) } else { differ() }
    }

    /// Compares the changes of a table. Rows of one kind may come in any order: the insertion order of two notifications
    /// does not matter.
    pub fn change(&mut self, expected: &Json, actual: &Change) -> Match {
        for (kind, rows) in actual.kinds() {
            let wanted = expected.get(kind).map(Json::items).unwrap_or_default();
            if wanted.len() != rows.len() {
                let rows = Json::Array(rows.to_vec());
                let wanted = Json::Array(wanted.to_vec());
                return differ(&wanted, &rows).map_err(|e| format!("{kind}: {e}"));
            }
            self.rows(kind, wanted, &rows.iter().collect::<Vec<_>>())
                .map_err(|e| format!("{kind}: {e}"))?;
        }
        Ok(())
    }

    fn rows(&mut self, kind: &str, wanted: &[Json], rows: &[&Json]) -> Match {
        let Some((first, others)) = wanted.split_first() else {
            return Ok(());
        };
        // Of several misfits the one that stands in the same place explains most.
        let mut complaint = None;
        for place in 0..rows.len() {
            let mut tried = self.clone();
            let mut left = rows.to_vec();
            let row = left.remove(place);
            let fit = tried
                .row(kind, first, row)
                .and_then(|()| tried.rows(kind, others, &left));
            match fit {
                Ok(()) => {
                    *self = tried;
                    return Ok(());
                }
                Err(e) => complaint = complaint.or(Some(e)),
            }
        }
        Err(complaint.expect("as many rows as wanted"))
    }

    /// A row that was inserted or deleted is compared in the columns that are named, an updated one must have
    /// changed in exactly those.
    fn row(&mut self, kind: &str, expected: &Json, actual: &Json) -> Match {
        if kind == "updated" {
            let columns = |row: &Json| {
                let mut names: Vec<String> = row.entries().iter().map(|(k, _)| k.clone()).collect();
                names.sort();
                names
            };
            if columns(expected) != columns(actual) {
                return differ(expected, actual);
            }
        }
        for (column, wanted) in expected.entries() {
            let Some(found) = actual.get(column) else {
                return Err(format!("no column {column} in {actual}"));
            };
            self.value(wanted, found)
                .map_err(|e| format!("{column}: {e}"))?;
        }
        Ok(())
    }

    /// Compares a frame, the additive members of events put aside.
    pub fn frame(&mut self, expected: &Json, actual: &Frame) -> Match {
        if let Some(hex) = expected.get("pong_hex") {
            let found = fixtures::to_hex(&actual.payload);
            let fits = actual.opcode() == PONG && hex.str() == Some(found.as_str());
            return if fits {
                Ok(())
            } else {
                Err(format!("expected {expected}, found {}", show(actual)))
            };
        }
        let text = actual.text().filter(|_| actual.first_byte == 0x80 | TEXT);
        let Some(text) = text else {
            return Err(format!("expected {expected}, found {}", show(actual)));
        };
        let event = Json::parse(text).map_err(|e| format!("no JSON: {e}: {text}"))?;
        let bare = without_additions(event);
        match expected.get("raw_text") {
            Some(raw) => self.raw(raw, expected, actual, text, &bare),
            None => self.value(expected, &bare),
        }
    }

    /// Compares a frame byte for byte, header included.
    fn raw(
        &mut self,
        raw: &Json,
        expected: &Json,
        frame: &Frame,
        text: &str,
        bare: &Json,
    ) -> Match {
        if frame.length_bits != shortest_form(frame.payload.len()) {
            return Err(format!(
                "a length of {} in {} bits",
                text.len(),
                frame.length_bits
            ));
        }
        let text = without_code(text);
        let bytes = i64::try_from(text.len()).expect("a short text");
        let header = [
            ("first_byte", i64::from(frame.first_byte)),
            ("length_bits", i64::from(shortest_form(text.len()))),
            ("payload_bytes", bytes),
        ];
        for (name, found) in header {
            let wanted = expected.need(name).int();
            if wanted != Some(found) {
                return Err(format!(
                    "expected {name} {wanted:?}, found {found}: {}",
                    cut(&text)
                ));
            }
        }
        let text = self.with_placeholders(text, bare);
        let fits = match raw.get("$long") {
            Some(long) => is_long(long, &text),
            None => raw.str() == Some(text.as_str()),
        };
        if fits {
            Ok(())
        } else {
            Err(format!(
                "expected the text {raw}\n        found {}",
                cut(&text)
            ))
        }
    }

    /// The text of an event with the ids and times of this run taken out again.
    fn with_placeholders(&self, mut text: String, event: &Json) -> String {
        let message = event.get("message");
        if let Some(Json::Number(id)) = message.and_then(|m| m.get("id"))
            && let Some(placeholder) = self.placeholder("msg", id)
        {
            text = text.replacen(
                &format!("\"id\":{id},"),
                &format!("\"id\":{placeholder},"),
                1,
            );
        }
        if let Some(time) = message.and_then(|m| m.get("created_at")?.str())
            && self.is_db_now(time)
        {
            text = text.replacen(&format!(":\"{time}\""), ":\"<db-now>\"", 1);
        }
        if let Some(Json::Number(time)) = event.get("time")
            && self.is_unix_now(time)
        {
            text = text.replacen(&format!(":{time}"), ":<unix-now>", 1);
        }
        text
    }
}

enum Placeholder<'a> {
    /// The name without brackets, for example `msg:2`.
    Id(&'a str),
    DbNow,
    UnixNow,
}

impl Placeholder<'_> {
    /// The placeholder that a text begins with, and what follows it. Other text in angle brackets is text.
    fn at_start(text: &str) -> Option<(Placeholder<'_>, &str)> {
        let (name, rest) = text.strip_prefix('<')?.split_once('>')?;
        let placeholder = match name {
            "db-now" => Placeholder::DbNow,
            "unix-now" => Placeholder::UnixNow,
            _ => {
                let (kind, number) = name.split_once(':')?;
                let known = ["msg", "note", "read"].contains(&kind);
                let is_id = known && number.bytes().all(|b| b.is_ascii_digit());
                is_id.then_some(Placeholder::Id(name))?
            }
        };
        Some((placeholder, rest))
    }
}

/// The word of `{"$word": …}`.
fn special(value: &Json) -> Option<&str> {
    match value.entries() {
        [(word, _)] if word.starts_with('$') => Some(word),
        _ => None,
    }
}

fn is_long(long: &Json, text: &str) -> bool {
    let hash = fixtures::to_hex(&Sha256::digest(text.as_bytes()));
    let length = i64::try_from(text.chars().count()).expect("a short text");
    long.need("characters").int() == Some(length)
        && long.need("sha256_of_utf8").str() == Some(hash.as_str())
        && text.starts_with(long.need("starts").str().expect("how the text starts"))
}

/// Takes out the members that the contract lets the service add, if they are as it says. Nothing that a
/// scenario sends carries a `ref`, so there is none to take out.
fn without_additions(mut event: Json) -> Json {
    let addition = match event.get("type").and_then(Json::str) {
        Some("error") => "code",
        Some("auth.ok") => "online_agent_ids",
        _ => return event,
    };
    let fits = match event.get(addition) {
        Some(Json::String(code)) => addition == "code" && !code.is_empty(),
        Some(Json::Array(ids)) => {
            let ids: Option<Vec<i64>> = ids.iter().map(Json::int).collect();
            ids.is_some_and(|ids| ids.is_sorted_by(|a, b| a < b))
        }
        _ => false,
    };
    if fits {
        event.remove(addition);
    }
    if addition == "online_agent_ids" && event.get("last_id").is_some_and(|id| id.int().is_some()) {
        event.remove("last_id");
    }
    event
}

/// The same for the text of an error.
fn without_code(text: &str) -> String {
    let mark = ",\"code\":\"";
    let is_error = text.starts_with("{\"type\":\"error\"");
    let Some(from) = text.find(mark).filter(|_| is_error) else {
        return text.to_owned();
    };
    let behind = &text[from + mark.len()..];
    let end = behind.find('"').map_or(behind.len(), |end| end + 1);
    format!("{}{}", &text[..from], &behind[end..])
}

fn shortest_form(length: usize) -> u8 {
    match length {
        0..=125 => 7,
        126..=0xffff => 16,
        _ => 64,
    }
}

fn differ(expected: &Json, actual: &Json) -> Match {
    let (expected, actual) = (expected.to_string(), actual.to_string());
    Err(format!(
        "expected {}\n        found    {}",
        cut(&expected),
        cut(&actual)
    ))
}

/// A frame for a reader.
pub fn show(frame: &Frame) -> String {
    match frame.text() {
        Some(text) => cut(text),
        None => format!(
            "a frame with first byte {} and payload {}",
            frame.first_byte,
            cut(&fixtures::to_hex(&frame.payload))
        ),
    }
}

fn cut(text: &str) -> String {
    const ENOUGH: usize = 700;
    if text.chars().count() <= ENOUGH {
        return text.to_owned();
    }
    let start: String = text.chars().take(ENOUGH).collect();
    format!("{start}… ({} bytes)", text.len())
}
