//! The schemas of the protocol's document as TypeScript. Knows the words of JSON Schema that the document uses, and of a
//! schema that takes what it then passes over (`"anything else counts as missing"`) what it understands.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;

use super::document::members;

const HEAD: &str = "// Made from contrib/asyncapi.yaml: what goes over the wire. Not to be edited; a test holds it to the \
                    document, and\n// writes it anew: ANDREA_TEST_WRITE=1 cargo test --test main client::types_follow\n";

/// The types of everything that clients and the service send.
pub fn of(document: &Value) -> String {
    let mut text = HEAD.to_owned();
    let mut wanted = BTreeSet::new();
    let mut unions = String::new();
    for (action, name, note) in [
        ("receive", "ClientEvent", "What clients may send."),
        ("send", "ServerEvent", "What the service sends."),
    ] {
        let mut kinds = BTreeSet::new();
        for operation in members(document, "/operations") {
            let operation = &document["operations"][&operation];
            if operation["action"] == action {
                kinds.extend(payloads(document, &operation["messages"]));
            }
            if action == "send" {
                kinds.extend(payloads(document, &operation["reply"]["messages"]));
            }
        }
        let union = kinds.iter().cloned().collect::<Vec<_>>().join("\n  | ");
        write!(
            unions,
            "\n/** {note} */\nexport type {name} =\n  | {union};\n"
        )
        .expect("text");
        wanted.extend(kinds);
    }
    let schemas = &document["components"]["schemas"];
    let mut done = BTreeSet::new();
    while let Some(name) = wanted.pop_first() {
        if done.insert(name.clone()) {
            let mut used = BTreeSet::new();
            declaration(&schemas[&name], &mut used);
            wanted.extend(used.difference(&done).cloned());
        }
    }
    for name in done {
        let schema = &schemas[&name];
        if let Some(note) = schema["description"].as_str() {
            write!(text, "\n/** {} */", line(note)).expect("text");
        }
        let body = declaration(schema, &mut BTreeSet::new());
        match schema["properties"].is_object() {
            true => write!(text, "\nexport interface {name} {body}\n"),
            false => write!(text, "\nexport type {name} = {body};\n"),
        }
        .expect("text");
    }
    text + &unions
}

/// Names of the schemas of messages that are referred to.
fn payloads(document: &Value, references: &Value) -> Vec<String> {
    let references = references.as_array().map(Vec::as_slice).unwrap_or_default();
    let follow = |reference: &Value| {
        let place = reference["$ref"]
            .as_str()
            .and_then(|place| place.strip_prefix('#'));
        document
            .pointer(place.expect("a reference"))
            .expect("what it refers to")
    };
    let payload =
        |reference: &Value| name_of(&follow(follow(reference))["payload"]).expect("a name");
    references.iter().map(payload).collect()
}

fn name_of(schema: &Value) -> Option<String> {
    let place = schema["$ref"].as_str()?;
    place.rsplit('/').next().map(str::to_owned)
}

fn line(note: &str) -> String {
    note.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The type of a schema; names that it uses go to `used`. Empty where any value will do.
fn declaration(schema: &Value, used: &mut BTreeSet<String>) -> String {
    if let Some(name) = name_of(schema) {
        used.insert(name.clone());
        return name;
    }
    if let Some(only) = schema.get("const") {
        return only.to_string().replace('"', "'");
    }
    if let Some(values) = schema["enum"].as_array() {
        let values = values
            .iter()
            .map(|value| value.to_string().replace('"', "'"));
        return values.collect::<Vec<_>>().join(" | ");
    }
    if let Some(properties) = schema["properties"].as_object() {
        let mut text = "{\n".to_owned();
        let required = schema["required"].as_array();
        for (name, property) in properties {
            if let Some(note) = property["description"].as_str() {
                writeln!(text, "  /** {} */", line(note)).expect("text");
            }
            let must = required.is_some_and(|all| all.iter().any(|one| one == name));
            let mark = if must { "" } else { "?" };
            let kind = declaration(property, used);
            writeln!(text, "  {name}{mark}: {kind};").expect("text");
        }
        return text + "}";
    }
    for word in ["anyOf", "oneOf"] {
        if let Some(branches) = schema[word].as_array() {
            let kinds = branches.iter().map(|branch| declaration(branch, used));
            let kinds: Vec<String> = kinds.filter(|kind| !kind.is_empty()).collect();
            return kinds.join(" | ");
        }
    }
    if let Some(first) = schema["allOf"].as_array().and_then(|all| all.first()) {
        return declaration(first, used);
    }
    let simple = |kind: &Value| match kind.as_str() {
        Some("integer" | "number") => "number".to_owned(),
        Some("array") => format!("{}[]", declaration(&schema["items"], used)),
        Some(kind) => kind.to_owned(),
        None => String::new(),
    };
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(simple).collect::<Vec<_>>().join(" | "),
        kind => [kind].into_iter().map(simple).collect(),
    }
}
