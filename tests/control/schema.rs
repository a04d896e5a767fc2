//! Reads `openapi.json`: lists its operations, makes values by its schemas, and checks values against them.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// The description as it is served.
pub static SPEC: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../src/control/openapi.json")).unwrap());

/// A method of a path.
#[derive(Clone, Debug)]
pub struct Operation {
    /// In capitals.
    pub method: String,
    pub path: String,
    pub described: &'static Value,
}

impl Operation {
    /// The description of an answer with this status; `None`: it is not declared.
    pub fn answer(&self, status: u16) -> Option<&'static Value> {
        let responses = &self.described["responses"];
        responses.get(status.to_string()).or(responses.get("default")).map(follow)
    }

    /// The names of the query's parameters.
    pub fn query(&self) -> Vec<&'static str> {
        let parameters = self.described["parameters"].as_array().into_iter().flatten().map(follow);
        parameters.filter(|one| one["in"] == "query").map(|one| one["name"].as_str().unwrap()).collect()
    }
}

/// Every operation.
pub fn operations() -> Vec<Operation> {
    let paths = SPEC["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &'static Value)| {
        let path = path.clone();
        methods.as_object().unwrap().iter().map(move |(method, described)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            described,
        })
    };
    paths.iter().flat_map(of).collect()
}

pub fn schema(name: &str) -> &'static Value {
    &SPEC["components"]["schemas"][name]
}

/// Follows a `$ref`; other nodes are returned as they are.
pub fn follow(node: &'static Value) -> &'static Value {
    let Some(place) = node.get("$ref") else { return node };
    SPEC.pointer(place.as_str().unwrap().trim_start_matches('#')).unwrap_or_else(|| panic!("{place} leads nowhere"))
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => panic!("no type: {schema}"),
    }
}

pub fn may_be_null(schema: &'static Value) -> bool {
    let schema = follow(schema);
    match schema.get("anyOf") {
        Some(several) => several.as_array().unwrap().iter().any(may_be_null),
        None => types(schema).contains(&"null"),
    }
}

/// Checks that a value keeps to the schema and has no other fields; if not, returns where and why.
pub fn check(schema: &'static Value, value: &Value, place: &str) -> Result<(), String> {
    let schema = follow(schema);
    if let Some(several) = schema.get("anyOf") {
        let tried: Vec<_> = several.as_array().unwrap().iter().map(|one| check(one, value, place)).collect();
        return if tried.iter().any(Result::is_ok) { Ok(()) } else { Err(format!("{tried:?}")) };
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = types(schema);
    if !(allowed.contains(&kind) || kind == "integer" && allowed.contains(&"number")) {
        return Err(format!("{place} is {value}, and should be {allowed:?}"));
    }
    if schema.get("enum").is_some_and(|allowed| !allowed.as_array().unwrap().contains(value)) {
        return Err(format!("{place} is {value}, and should be one of {}", schema["enum"]));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let is_outside = |number: f64| {
        bound("minimum").is_some_and(|least| number < least) || bound("maximum").is_some_and(|most| number > most)
    };
    match value {
        Value::Number(number) if is_outside(number.as_f64().unwrap()) => Err(format!("{place} is {number}")),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(n, item)| check(&schema["items"], item, &format!("{place}[{n}]")))
        }
        Value::Object(fields) => {
            let Some(known) = schema.get("properties") else { return Ok(()) };
            for name in schema["required"].as_array().into_iter().flatten() {
                if !fields.contains_key(name.as_str().unwrap()) {
                    return Err(format!("{place} has no {name}"));
                }
            }
            fields.iter().try_for_each(|(name, field)| match known.get(name) {
                Some(schema) => check(schema, field, &format!("{place}.{name}")),
                None => Err(format!("{place}.{name} is not in the schema")),
            })
        }
        _ => Ok(()),
    }
}

/// Values that the schema allows.
pub fn values(schema: &'static Value) -> BoxedStrategy<Value> {
    let schema = follow(schema);
    if let Some(several) = schema.get("anyOf") {
        return one_of(several.as_array().unwrap().iter().map(values).collect());
    }
    if let Some(allowed) = schema.get("enum") {
        return prop::sample::select(allowed.as_array().unwrap().clone()).boxed();
    }
    let most = schema.get("maximum").and_then(Value::as_i64).unwrap_or(i64::MAX);
    let least = schema.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN);
    let of = |kind: &str| match kind {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "integer" => (least..=most).prop_map(Value::from).boxed(),
        // Such as survive being written and read.
        "number" => (0..1_000_000u32).prop_map(|n| json!(f64::from(n) / 64.0)).boxed(),
        "string" => text().prop_map(Value::from).boxed(),
        "array" => vec(values(&schema["items"]), 0..3).prop_map(Value::from).boxed(),
        "object" => object(schema),
        kind => panic!("{kind}: no such type"),
    };
    one_of(types(schema).into_iter().map(of).collect())
}

fn one_of(strategies: Vec<BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    prop::strategy::Union::new(strategies).boxed()
}

fn object(schema: &'static Value) -> BoxedStrategy<Value> {
    let required = schema["required"].as_array().unwrap();
    let field = |(name, of): (&String, &'static Value)| {
        let value = values(of).prop_map(Some).boxed();
        let value = if required.contains(&json!(name)) { value } else { prop_oneof![value, Just(None)].boxed() };
        let name = name.clone();
        value.prop_map(move |value| Some((name.clone(), value?)))
    };
    let fields: Vec<_> = schema["properties"].as_object().unwrap().iter().map(field).collect();
    fields.prop_map(|fields| Value::from(fields.into_iter().flatten().collect::<Map<_, _>>())).boxed()
}

/// Texts, most of them short, with what needs care in JSON, in headers and on terminals.
pub fn text() -> impl Strategy<Value = String> {
    let letter = prop_oneof![4 => prop::char::range('!', '~'), 1 => any::<char>()];
    vec(letter, 0..12).prop_map(String::from_iter)
}
