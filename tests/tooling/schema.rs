//! The schema against the loader, judged by an independent validator: what one takes, the other takes.

use burn_convexity::config::{ConfigError, ConvexitySwitchingConfig, Preset, Problem, schema};
use jsonschema::Validator;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::{Union, ValueTree};
use serde_json::{Map, Value, json};

use super::files::{files, jsonc};

fn validator() -> Validator {
    jsonschema::draft7::new(&schema().to_value()).unwrap()
}

/// What is wrong with a value, by the loader.
fn problems(value: &Value) -> Vec<Problem> {
    match ConvexitySwitchingConfig::from_json(&value.to_string(), "generated") {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid { diagnostics, .. }) => diagnostics.into_iter().map(|one| one.problem).collect(),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_validator_agrees_on_every_file() {
    let validator = validator();
    for file in files("tests/config/valid") {
        let value = jsonc(&std::fs::read_to_string(&file).unwrap());
        assert!(validator.is_valid(&value), "{}", file.display());
    }
    for file in files("tests/config/invalid") {
        let text = std::fs::read_to_string(&file).unwrap();
        let expected = std::fs::read_to_string(file.with_extension("expected")).unwrap();
        // What no schema can see: text that is no JSON, keys given twice, rules between parameters.
        let beyond = ["not valid JSON", "duplicate key", "contradict"].iter().any(|words| expected.contains(words));
        if !beyond {
            assert!(!validator.is_valid(&jsonc(&text)), "{}", file.display());
        }
    }
}

#[test]
fn every_default_snippet_is_valid() {
    fn visit(value: &Value, root: &Value, checked: &mut usize) {
        if let Some(snippets) = value["defaultSnippets"].as_array() {
            let mut own = value.clone();
            own["definitions"] = root["definitions"].clone();
            let validator = jsonschema::draft7::new(&own).unwrap();
            for snippet in snippets {
                let body: Value = serde_json::from_str(snippet["bodyText"].as_str().unwrap()).unwrap();
                assert!(validator.is_valid(&body), "{snippet}");
                *checked += 1;
            }
        }
        match value {
            Value::Object(map) => map.values().for_each(|value| visit(value, root, checked)),
            Value::Array(list) => list.iter().for_each(|value| visit(value, root, checked)),
            _ => {}
        }
    }
    let schema = schema().to_value();
    let mut checked = 0;
    visit(&schema, &schema, &mut checked);
    let kinds = 9 + 3 + 2 + 3; // detectors, inner optimizers, directions, searches
    assert_eq!(checked, kinds + Preset::ALL.len());
}

/// A user's own configuration, of which ours is a part.
#[test]
fn the_schema_works_as_a_reference_and_derived() {
    let id = schema().to_value()["$id"].clone();
    let own = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": { "epochs": { "type": "integer" }, "optimizer": { "$ref": id } },
        "additionalProperties": false,
    });
    let registry =
        jsonschema::Registry::new().add(id.as_str().unwrap(), schema().to_value()).unwrap().prepare().unwrap();
    let referring = jsonschema::options().with_registry(&registry).build(&own).unwrap();

    #[derive(schemars::JsonSchema)]
    #[schemars(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is asked for")]
    struct TrainingConfig {
        epochs: usize,
        optimizer: ConvexitySwitchingConfig,
    }
    let derived =
        schemars::generate::SchemaSettings::draft07().into_generator().into_root_schema_for::<TrainingConfig>();
    let derived = jsonschema::draft7::new(&derived.to_value()).unwrap();

    for validator in [referring, derived] {
        let of = |detector: Value| json!({ "epochs": 3, "optimizer": { "detector": detector } });
        assert!(validator.is_valid(&of(json!({ "kind": "any", "of": [{ "kind": "never" }] }))));
        assert!(!validator.is_valid(&of(json!({ "kind": "any", "of": [{ "kind": "nevr" }] }))));
        assert!(!validator.is_valid(&of(json!({ "kind": "at_window", "window": 0 }))));
    }
}

/// Values for a place of the schema: most fit it, some just do not.
fn values(root: &Value, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    if let Some(pointer) = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str()) {
        return values(root, root.pointer(pointer.trim_start_matches('#')).unwrap(), depth);
    }
    let strange = || select(vec![json!(null), json!(""), json!([]), json!({}), json!(-1), json!(true), json!(1e300)]);
    if let Some(constant) = schema.get("const") {
        return prop_oneof![40 => Just(constant.clone()), 1 => strange()].boxed();
    }
    for keyword in ["oneOf", "anyOf"] {
        if let Some(variants) = schema[keyword].as_array() {
            // Combinations of combinations end somewhere.
            let deep = |variant: &&Value| depth > 0 || variant["properties"].get("of").is_none();
            let variants = variants.iter().filter(deep).map(|variant| values(root, variant, depth.saturating_sub(1)));
            return Union::new(variants).boxed();
        }
    }
    let types = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let of_type = types.iter().map(|name| match name.as_str().unwrap() {
        "null" => Just(Value::Null).boxed(),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "string" => ".{0,3}".prop_map(Value::from).boxed(),
        "integer" => prop_oneof![
            5 => (1u64..100).prop_map(Value::from),
            1 => select(vec![json!(0), json!(2), json!(3), json!(3.0), json!(2.5), json!(u32::MAX), json!(1u64 << 53)]),
        ]
        .boxed(),
        "number" => prop_oneof![
            5 => (0.0..1.0).prop_map(Value::from),
            1 => select(vec![json!(0), json!(0.5), json!(1), json!(1.5), json!(-0.0), json!(1e-300), json!(1e300)]),
        ]
        .boxed(),
        "array" => proptest::collection::vec(values(root, &schema["items"], depth), 0..3).prop_map(Value::from).boxed(),
        _ => object(root, schema, depth),
    });
    prop_oneof![60 => Union::new(of_type), 1 => strange()].boxed()
}

fn object(root: &Value, schema: &Value, depth: u32) -> BoxedStrategy<Value> {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut entries = Just(Map::new()).boxed();
    for (key, property) in schema["properties"].as_object().into_iter().flatten() {
        let chance = if required.contains(&key.as_str()) { 0.99 } else { 0.4 };
        let value = proptest::option::weighted(chance, values(root, property, depth));
        let key = key.clone();
        let with = move |(mut map, value): (Map<String, Value>, Option<Value>)| {
            value.into_iter().for_each(|value| _ = map.insert(key.clone(), value));
            map
        };
        entries = (entries, value).prop_map(with).boxed();
    }
    let unknown = |mut map: Map<String, Value>| {
        map.insert("windw".into(), json!(3));
        map
    };
    prop_oneof![40 => entries.clone(), 1 => entries.prop_map(unknown)].prop_map(Value::from).boxed()
}

#[test]
fn what_the_loader_takes_the_schema_takes_and_the_other_way_round_but_for_named_rules() {
    let (root, validator) = (schema().to_value(), validator());
    let (mut accepted, mut refused, mut contradictory) = (0, 0, 0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2_000));
    let strategy = values(&root, &root, 2);
    for _ in 0..2_000 {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let problems = problems(&value);
        // No schema speaks of two parameters, or of how a number is kept.
        let named = |problem: &Problem| match problem {
            Problem::Contradiction { .. } => true,
            Problem::OutOfRange { expected, .. } => expected.contains("32-bit"),
            _ => false,
        };
        match validator.is_valid(&value) {
            true if problems.is_empty() => accepted += 1,
            true => {
                assert!(problems.iter().all(named), "the schema takes {value}, the loader says {problems:?}");
                contradictory += 1;
            }
            false => {
                assert!(!problems.is_empty(), "the loader takes {value}, the schema does not");
                refused += 1;
            }
        }
    }
    // All three happen often enough to mean something.
    assert!(accepted > 50 && refused > 50 && contradictory > 50, "{accepted} {refused} {contradictory}");
}
