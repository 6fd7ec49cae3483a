//! `tests/config`: files that must be right, together showing every property, and files with one mistake each, whose
//! message stands beside them (`UPDATE_EXPECTED=1` rewrites it).

use std::collections::BTreeSet;
use std::path::PathBuf;

use burn_convexity::config::{ConfigError, ConvexitySwitchingConfig, schema};
use serde_json::Value;

use super::path;

/// The JSON files of a folder, in the order of their names.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|name| name == "json")).collect();
    files.sort();
    files
}

/// Every property of the schema, by the path it is first met at.
fn properties(schema: &Value, found: &mut BTreeSet<String>) {
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let kind = schema["properties"]["kind"]["const"].as_str().unwrap_or_default();
        found.insert(format!("{kind}.{key}"));
        properties(property, found);
    }
    for variants in ["oneOf", "anyOf", "allOf"] {
        schema[variants].as_array().into_iter().flatten().for_each(|variant| properties(variant, found));
    }
}

/// Every key of a value, as [`properties`] names it.
fn keys(value: &Value, found: &mut BTreeSet<String>) {
    for (key, child) in value.as_object().into_iter().flatten() {
        found.insert(format!("{}.{key}", value["kind"].as_str().unwrap_or_default()));
        keys(child, found);
    }
    value.as_array().into_iter().flatten().for_each(|child| keys(child, found));
}

#[test]
fn every_property_is_in_a_valid_file_and_every_valid_file_loads() {
    let root = schema().to_value();
    let mut wanted = BTreeSet::new();
    properties(&root, &mut wanted);
    root["definitions"].as_object().unwrap().values().for_each(|schema| properties(schema, &mut wanted));
    let mut found = BTreeSet::new();
    for file in files("tests/config/valid") {
        ConvexitySwitchingConfig::load(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        keys(&jsonc(&text), &mut found);
    }
    let missing: Vec<_> = wanted.difference(&found).collect();
    assert!(missing.is_empty(), "no valid file has {missing:?}");
}

/// A text with comments and trailing commas, as a value.
pub fn jsonc(text: &str) -> Value {
    jsonc_parser::parse_to_ast(text, &Default::default(), &Default::default()).unwrap().value.unwrap().into()
}

#[test]
fn every_invalid_file_has_one_mistake_and_its_message() {
    for file in files("tests/config/invalid") {
        let error = ConvexitySwitchingConfig::load(&file).unwrap_err();
        let ConfigError::Invalid { diagnostics, .. } = &error else { panic!("{error}") };
        assert_eq!(diagnostics.len(), 1, "{error}");
        let name = file.file_name().unwrap().to_str().unwrap();
        let place = diagnostics[0].location.as_ref().unwrap();
        let message = format!("{name}:{place}: {}\n", diagnostics[0].problem);
        let expected = file.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            std::fs::write(&expected, &message).unwrap();
        }
        assert_eq!(message, std::fs::read_to_string(&expected).unwrap_or_default(), "{}", expected.display());
    }
}
