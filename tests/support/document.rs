//! The protocol as its document has it, contrib/asyncapi.yaml: which events there are in each direction, the schema of
//! each, and which of them answer which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use boon::{Compiler, Draft, SchemaIndex, Schemas};
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// Where the schemas are taken to be; nothing is fetched from there.
const PLACE: &str = "https://helpdesk.example.test/asyncapi.json";

pub struct Document {
    pub json: Value,
    schemas: Schemas,
    /// From clients, by type.
    events: BTreeMap<String, Event>,
    /// From the service, by type.
    answers: BTreeMap<String, SchemaIndex>,
    /// By the name under components.
    named: BTreeMap<String, SchemaIndex>,
}

struct Event {
    schema: SchemaIndex,
    /// The types of what may answer it.
    answers: BTreeSet<String>,
}

/// The document, read once.
pub fn get() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(Document::read)
}

pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/asyncapi.yaml")
}

impl Document {
    fn read() -> Document {
        let path = path();
        let text =
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let yaml = YamlLoader::load_from_str(&text).expect("the document is YAML");
        let [yaml] = &yaml[..] else {
            panic!("{} holds {} documents", path.display(), yaml.len());
        };
        let json = json_of(yaml);
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V7);
        compiler
            .add_resource(PLACE, json.clone())
            .expect("the document can be a resource");
        let mut schemas = Schemas::new();
        let mut named = BTreeMap::new();
        for name in members(&json, "/components/schemas") {
            let place = format!("{PLACE}#/components/schemas/{name}");
            let schema = compiler
                .compile(&place, &mut schemas)
                .unwrap_or_else(|e| panic!("the schema {name}: {e:#}"));
            named.insert(name, schema);
        }
        let mut document = Document {
            json,
            schemas,
            events: BTreeMap::new(),
            answers: BTreeMap::new(),
            named,
        };
        for operation in members(&document.json, "/operations") {
            document.take_operation(&operation);
        }
        document
    }

    fn take_operation(&mut self, name: &str) {
        let operation = self.at(&format!("/operations/{name}"));
        let messages = self.messages(&operation["messages"]);
        let answers = self.messages(&operation["reply"]["messages"]);
        let is_ours = match operation["action"].as_str() {
            Some("receive") => false,
            Some("send") => true,
            other => panic!("{name} is no {other:?}"),
        };
        let types = answers.iter().map(|(kind, _)| kind.clone()).collect();
        self.answers.extend(answers);
        if is_ours {
            self.answers.extend(messages);
            return;
        }
        for (kind, schema) in messages {
            let event = Event {
                schema,
                answers: BTreeSet::clone(&types),
            };
            let other = self.events.insert(kind, event);
            assert!(other.is_none(), "{name} takes what another one takes");
        }
    }

    /// Type and schema of each message of a list of references to those of a channel.
    fn messages(&self, references: &Value) -> Vec<(String, SchemaIndex)> {
        let references = references.as_array().map(Vec::as_slice).unwrap_or_default();
        let message = |reference: &Value| {
            let message = self.follow(self.follow(reference));
            let schema = message["payload"]["$ref"].as_str().expect("a reference");
            let name = schema.rsplit('/').next().expect("a name");
            let kind = self.follow(&message["payload"])["properties"]["type"]["const"].as_str();
            (kind.expect("a type").to_owned(), self.named[name])
        };
        references.iter().map(message).collect()
    }

    fn at(&self, pointer: &str) -> &Value {
        let found = self.json.pointer(pointer);
        found.unwrap_or_else(|| panic!("the document has no {pointer}"))
    }

    /// What a reference refers to.
    pub fn follow(&self, reference: &Value) -> &Value {
        let place = reference["$ref"].as_str().expect("a reference");
        self.at(place.strip_prefix('#').expect("one within the document"))
    }

    /// Types of what clients send.
    pub fn event_types(&self) -> BTreeSet<String> {
        self.events.keys().cloned().collect()
    }

    /// Types of what the service sends.
    pub fn answer_types(&self) -> BTreeSet<String> {
        self.answers.keys().cloned().collect()
    }

    /// Whether this is an event that the service takes.
    pub fn judge_event(&self, event: &Value) -> Result<(), String> {
        let kind = event.get("type").and_then(Value::as_str);
        match kind.and_then(|kind| self.events.get(kind)) {
            Some(known) => self.judge(event, known.schema),
            None => Err(format!("clients send nothing of the type {kind:?}")),
        }
    }

    /// Whether this is something that the service sends.
    pub fn judge_answer(&self, answer: &Value) -> Result<(), String> {
        let kind = answer.get("type").and_then(Value::as_str);
        match kind.and_then(|kind| self.answers.get(kind)) {
            Some(schema) => self.judge(answer, *schema),
            None => Err(format!("the service sends nothing of the type {kind:?}")),
        }
    }

    /// Whether an event of this type may be answered by one of that.
    pub fn is_answer(&self, event: &str, answer: &str) -> bool {
        let event = self.events.get(event);
        event.is_some_and(|event| event.answers.contains(answer))
    }

    /// Whether a value fits a schema of this name.
    pub fn fits(&self, name: &str, value: &Value) -> bool {
        self.judge(value, self.named[name]).is_ok()
    }

    fn judge(&self, value: &Value, schema: SchemaIndex) -> Result<(), String> {
        let judged = self.schemas.validate(value, schema);
        judged.map_err(|e| format!("{e:#}").replace(PLACE, ""))
    }
}

/// The names in an object of a JSON document.
pub fn members(json: &Value, pointer: &str) -> Vec<String> {
    let object = json.pointer(pointer).and_then(Value::as_object);
    let object = object.unwrap_or_else(|| panic!("the document has no {pointer}"));
    object.keys().cloned().collect()
}

fn json_of(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(truth) => Value::from(*truth),
        Yaml::Integer(number) => Value::from(*number),
        Yaml::String(text) => Value::from(text.as_str()),
        Yaml::Array(items) => items.iter().map(json_of).collect(),
        Yaml::Hash(entries) => {
            let entry = |(key, value): (&Yaml, &Yaml)| {
                let key = key.as_str().expect("keys are text");
                (key.to_owned(), json_of(value))
            };
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        Yaml::Real(_) | Yaml::Alias(_) | Yaml::BadValue => {
            panic!("the document has no use for {yaml:?}")
        }
    }
}
