//! Writes the JSON Schema of the file of settings, for editors, from the tables of settings.

use super::settings::{
    APP_SETTINGS, COMMON_SETTINGS, CONTAINER_SETTINGS, NO_DEFAULT, PROGRAM_SETTINGS, Setting, in_files,
};
use serde_json::{Map, Value, json};

/// The address under which the schema is published.
const ADDRESS: &str = "https://json-schema.org/draft/2020-12/schema";
/// The settings that an app has for itself alone.
const NOT_FOR_ALL: [&str; 3] = ["name", "command", "after"];

/// Returns the schema, as `docs/rinit.schema.json` holds it.
pub fn schema() -> String {
    let mut root = object("Settings of rinit", "#", [CONTAINER_SETTINGS, COMMON_SETTINGS]);
    let app = json!({ "$ref": "#/$defs/app" });
    let refused: Map<String, Value> =
        NOT_FOR_ALL.map(|flag| (flag.to_owned(), Value::Bool(false))).into_iter().collect();
    let tables = [
        ("$schema", json!({ "type": "string" })),
        ("defaults", json!({ "description": "Settings of every app", "allOf": [app], "properties": refused })),
        ("app", json!({ "description": "The apps", "type": "array", "items": app })),
    ];
    if let Some(properties) = root.get_mut("properties").and_then(Value::as_object_mut) {
        properties.extend(tables.map(|(key, value)| (key.to_owned(), value)));
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".into(), ADDRESS.into());
        root.insert(
            "$defs".into(),
            json!({ "app": object("An app", "#/$defs/app", [PROGRAM_SETTINGS, APP_SETTINGS]) }),
        );
    }
    serde_json::to_string_pretty(&root).unwrap_or_default() + "\n"
}

/// An object at that place of the schema, whose keys are settings, with `_` or `-` between their words.
fn object(about: &str, at: &str, tables: [&[Setting]; 2]) -> Value {
    let mut properties = Map::new();
    let mut with_dashes = Map::new();
    let is_key =
        |setting: &&Setting| in_files().any(|known| known.flag == setting.flag && known.scope == setting.scope);
    for setting in tables.into_iter().flatten().filter(is_key) {
        let key = setting.key();
        if setting.flag.contains('-') {
            with_dashes.insert(format!("^{}$", setting.flag), json!({ "$ref": format!("{at}/properties/{key}") }));
        }
        properties.insert(key, value(setting));
    }
    json!({
        "description": about,
        "type": "object",
        "properties": properties,
        "patternProperties": with_dashes,
        "additionalProperties": false,
    })
}

/// The schema of a setting's value.
fn value(setting: &Setting) -> Value {
    let words: Vec<&str> = setting.form.split('|').collect();
    let is_word = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let one = match setting.form {
        "" => json!({ "type": "boolean" }),
        _ if words.len() > 1 && words.iter().all(is_word) => json!({ "enum": words }),
        "N" => json!({ "type": ["integer", "string"] }),
        _ => json!({ "type": ["string", "number"] }),
    };
    let mut forms = vec![one.clone()];
    if setting.repeats {
        forms.push(json!({ "type": "array", "items": one }));
    }
    if setting.form.contains('=') {
        forms.push(table(setting.flag));
    }
    let mut schema = match forms.len() {
        1 => one,
        _ => json!({ "anyOf": forms }),
    };
    let default = (setting.default)();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("description".into(), setting.help.replace('`', "").into());
        if default != NO_DEFAULT {
            schema.insert("default".into(), default.into());
        }
    }
    schema
}

/// The schema of a value that is a table of `NAME=VALUE`.
fn table(flag: &str) -> Value {
    let names: &[&str] = match flag {
        "limits" => &["nofile", "nproc", "core"],
        "hooks" => &["pre_start", "post_ready", "pre_stop", "post_exit", "on_failed", "timeout"],
        _ => &[],
    };
    let command = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    let one = if flag == "hooks" { command } else { json!({ "type": ["string", "number", "boolean"] }) };
    if names.is_empty() {
        return json!({ "type": "object", "additionalProperties": one });
    }
    let properties: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), one.clone())).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}
