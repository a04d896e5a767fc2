//! Compares `openapi.json` with the server: its routes with the table, its schemas with the types.

use crate::schema::{SPEC, may_be_null, operations, schema, values};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rinit::control::{ROUTES, Route, types};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// Reads a value as this type and writes it again.
fn round_trip<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(read).unwrap())
}

type RoundTrip = fn(Value) -> Result<Value, String>;

macro_rules! every {
    ($($name:ident)*) => { [$((stringify!($name), round_trip::<types::$name> as RoundTrip)),*] };
}

/// The types of `types.rs`; the count finds one that is missing here.
const TYPES: [(&str, RoundTrip); 23] = every! {
    Status AppStatus Reloading Reloaded WorkerStatus ExitRecord ReplacementRecord NodeStatus Workers Access History UsageSeries
    Description Config SettingValue Event LogLine Missed
    LogLines ScaleRequest SignalRequest Done Error
};

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let described = operations()
        .into_iter()
        .map(|one| [one.method, one.path, text(&one.described["x-class"]), text(&one.described["x-web"])])
        .collect::<BTreeSet<_>>();
    let of_route =
        |route: &Route| [route.method, route.path, route.class.name(), route.permission.name()].map(str::to_owned);
    assert_eq!(described, ROUTES.iter().map(of_route).collect());
}

/// The answers that follow from a route's class and permission are declared.
#[test]
fn refusals_are_described_wherever_they_can_happen() {
    for one in operations() {
        let declared = |status: u16| one.answer(status).is_some();
        let is_probe = one.described["x-class"] == "probe";
        let (refusals, name) = ([401, 403, 503].map(declared), format!("{} {}", one.method, one.path));
        assert!(is_probe || refusals == [true; 3], "{name} does not declare 401, 403 and 503");
        let is_protected = one.described["security"].is_array();
        assert_eq!(is_protected, one.described["x-web"] == "change", "{name}");
    }
}

/// The documentation of `types.rs` is the description of the schemas.
#[test]
fn the_descriptions_are_the_types_documentation() {
    let (mut doc, mut name) = (Vec::new(), "");
    for line in include_str!("../../src/control/types.rs").lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            doc.push(text);
            continue;
        }
        let described = match line.strip_prefix("pub ").and_then(|line| line.split([' ', ':', '{']).next()) {
            Some("struct") => {
                name = line.split(' ').nth(2).unwrap();
                Some(schema(name))
            }
            Some(field) => Some(&schema(name)["properties"][field]),
            None => None,
        };
        if let Some(described) = described {
            let text = doc.join(" ").replace("[`", "").replace("`]", "");
            assert_eq!(described["description"], text.as_str(), "{name}: {line}");
        }
        if !line.starts_with('#') {
            doc.clear();
        }
    }
}

#[test]
fn every_type_is_described_and_nothing_else_is() {
    let described =
        SPEC["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(described, TYPES.iter().map(|(name, _)| *name).collect());
    let declared = include_str!("../../src/control/types.rs").matches("\npub struct ").count();
    assert_eq!(declared, TYPES.len(), "types.rs has another number of types than the list here");
}

/// A value that a schema allows is read, and written with every field as it was: the type has the same fields.
#[test]
fn a_schema_and_its_type_are_the_same() {
    for (name, round_trip) in TYPES {
        let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
        let same = |mut value: Value| {
            let back = round_trip(value.clone()).map_err(TestCaseError::fail)?;
            // A field that a request may leave out is null.
            let fields = value.as_object_mut().unwrap();
            let (required, known) = (&schema(name)["required"], schema(name)["properties"].as_object().unwrap());
            for field in
                known.keys().filter(|field| !required.as_array().unwrap().contains(&Value::from(field.as_str())))
            {
                fields.entry(field.as_str()).or_insert(Value::Null);
            }
            prop_assert_eq!(back, Value::from(fields.clone()));
            for (field, schema) in known {
                let mut with_null = fields.clone();
                with_null.insert(field.clone(), Value::Null);
                let taken = round_trip(with_null.into()).is_ok();
                prop_assert_eq!(taken, may_be_null(schema), "{} null", field);
            }
            Ok(())
        };
        runner.run(&values(schema(name)), same).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
