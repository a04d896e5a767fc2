//! Writes lines as JSON objects with the names of the Elastic Common Schema (ECS logging, specification 1.x). Pure.
//!
//! A field that a line has already, flat or nested, stays as it is. rinit's own member is as in `json.rs`.

use super::Stream;
use super::buffer::append;
use super::format::Labels;
use super::json;
use super::level::Level;
use serde_json::{Map, Value};

/// The version of the schema.
const VERSION: &str = "8.11.0";

/// The fields that every line of a stream gets, but for its time and level: the name of the object that may hold the field
/// already, and the field as JSON with a comma before it.
#[derive(Debug)]
pub struct Fields {
    stream: Stream,
    fields: [(&'static str, Vec<u8>); 4],
}

impl Fields {
    pub fn new(labels: &Labels, stream: Stream) -> Fields {
        let Labels { app, index, pid } = labels;
        let text = |key: &str, value: &str| [format!(",\"{key}\":").as_bytes(), &json::string(value)].concat();
        let fields = [
            ("service.name", text("service.name", app)),
            ("service.node.name", text("service.node.name", &format!("{app}-{index}"))),
            ("process.pid", format!(",\"process.pid\":{pid}").into_bytes()),
            ("ecs.version", text("ecs.version", VERSION)),
        ];
        Fields { stream, fields }
    }

    /// Writes a whole line. `start` is `{"rinit":{…}`.
    pub fn write_line(&self, out: &mut Vec<u8>, start: &[u8], time: &str, line: &[u8]) {
        match json::object_members(line).and_then(|members| Some((members, serde_json::from_slice(line).ok()?))) {
            Some((members, object)) => self.write_object(out, start, time, members, &object),
            None => self.write_message(out, start, time, line, false),
        }
    }

    /// Writes text, or with `is_partial` a part of a line other than its last.
    pub fn write_message(&self, out: &mut Vec<u8>, start: &[u8], time: &str, text: &[u8], is_partial: bool) {
        json::begin_message(out, start, is_partial);
        self.write_fields(out, time, Level::of_line(&String::from_utf8_lossy(text), self.stream), &Map::new());
        json::end_message(out, text);
    }

    fn write_object(&self, out: &mut Vec<u8>, start: &[u8], time: &str, members: &[u8], object: &Map<String, Value>) {
        append(out, start);
        self.write_fields(out, time, Level::of_object(object, self.stream), object);
        if let (None, Some(Value::String(message))) = (object.get("message"), object.get("msg")) {
            append(out, b",\"message\":");
            append(out, &json::string(message));
        }
        json::end_object(out, members);
    }

    fn write_fields(&self, out: &mut Vec<u8>, time: &str, level: Level, own: &Map<String, Value>) {
        if !own.contains_key("@timestamp") {
            append(out, format!(",\"@timestamp\":\"{time}\"").as_bytes());
        }
        if !has_field(own, "log.level") {
            append(out, format!(",\"log.level\":\"{}\"", level.name()).as_bytes());
        }
        self.fields.iter().filter(|(key, _)| !has_field(own, key)).for_each(|(_, field)| append(out, field));
    }
}

/// True if an object has a field, flat as `service.name` or nested in objects.
fn has_field(object: &Map<String, Value>, key: &str) -> bool {
    if object.contains_key(key) {
        return true;
    }
    let Some((first, rest)) = key.split_once('.') else { return false };
    object.get(first).and_then(Value::as_object).is_some_and(|inner| has_field(inner, rest))
}

/// Writes one of rinit's own lines. `start` is `{"rinit":{…}`.
pub fn write_diagnostic(out: &mut Vec<u8>, start: &[u8], time: &str, level: &str, message: &str) {
    append(out, start);
    let fields = format!(
        ",\"@timestamp\":\"{time}\",\"log.level\":\"{level}\",\"service.name\":\"rinit\",\"ecs.version\":\"{VERSION}\""
    );
    append(out, fields.as_bytes());
    json::end_message(out, message.as_bytes());
}
