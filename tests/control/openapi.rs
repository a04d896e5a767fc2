//! `openapi.json` describes what is there: the routes are those of the server's table, the schemas are the types.

use crate::schema::{SPEC, may_be_null, operations, schema, values};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rinit::control::{ROUTES, types};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;

/// Reads a value as this type, and writes it again.
fn through<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(read).unwrap())
}

type Through = fn(Value) -> Result<Value, String>;

macro_rules! every {
    ($($name:ident)*) => { [$((stringify!($name), through::<types::$name> as Through)),*] };
}

/// All of `types.rs`; one that is missing here is found by the count.
const TYPES: [(&str, Through); 18] = every! {
    Status AppStatus Reloading Reloaded WorkerStatus ExitRecord Workers Description Config SettingValue Event LogLine Missed
    LogLines ScaleRequest SignalRequest Done Error
};

#[test]
fn every_route_is_described_and_nothing_else_is() {
    let described = operations().into_iter().map(|one| (one.method, one.path)).collect::<BTreeSet<_>>();
    let served = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
    assert_eq!(described, served);
}

#[test]
fn every_type_is_described_and_nothing_else_is() {
    let described =
        SPEC["components"]["schemas"].as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(described, TYPES.iter().map(|(name, _)| *name).collect());
    let declared = include_str!("../../src/control/types.rs").matches("\npub struct ").count();
    assert_eq!(declared, TYPES.len(), "types.rs has another number of types than the list here");
}

/// What a schema allows is read, and written with every field as it was: the type has no field less, none more, and none of
/// another kind.
#[test]
fn a_schema_and_its_type_are_the_same() {
    for (name, through) in TYPES {
        let mut runner = TestRunner::new(Config { cases: 64, failure_persistence: None, ..Config::default() });
        let same = |mut value: Value| {
            let back = through(value.clone()).map_err(TestCaseError::fail)?;
            // What a request may leave out is null.
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
                let taken = through(with_null.into()).is_ok();
                prop_assert_eq!(taken, may_be_null(schema), "{} null", field);
            }
            Ok(())
        };
        runner.run(&values(schema(name)), same).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
