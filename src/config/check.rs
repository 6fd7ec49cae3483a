//! Checks a value against the schema, so that every rule the schema states is written once, on the type it is about.
//!
//! Serde would do most of this, but inside an object with a `kind` it no longer knows where it is.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::{Path, Problem};

/// Something wrong with a value, at a path.
#[derive(Debug)]
pub(crate) struct Finding {
    pub path: Path,
    pub spot: Spot,
    pub problem: Problem,
}

/// Whether a finding is about the key at its path or about the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    Key,
    Value,
}

/// The schema, made once.
pub(crate) static SCHEMA: LazyLock<Value> = LazyLock::new(|| super::schema().to_value());

/// Everything wrong with a configuration by the rules its schema states.
pub(crate) fn check(value: &Value) -> Vec<Finding> {
    let mut walk = Walk { findings: Vec::new() };
    walk.value(&SCHEMA, value, &Path::default());
    walk.findings
}

struct Walk {
    findings: Vec<Finding>,
}

impl Walk {
    fn report(&mut self, path: Path, spot: Spot, problem: Problem) {
        self.findings.push(Finding { path, spot, problem });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &Path) {
        let schema = resolve(schema);
        if let Some(alternatives) = schema["anyOf"].as_array() {
            // An optional object is written so, itself or null, and a number or a word.
            let (first, others) = alternatives.split_first().unwrap_or((schema, &[]));
            let other = others.iter().any(|other| match other.get("const") {
                Some(word) => word == value,
                None => types(other).any(|name| is_a(value, name)),
            });
            if other {
                return;
            }
            // Of an alternative with a kind its own words say more.
            if resolve(first)["oneOf"].is_null() && !types(resolve(first)).any(|name| is_a(value, name)) {
                let (expected, found) = (describe(schema), show(value));
                let problem = Problem::WrongType { path: path.clone(), expected, found };
                return self.report(path.clone(), Spot::Value, problem);
            }
            return self.value(first, value, path);
        }
        if let Some(variants) = schema["oneOf"].as_array() {
            return match variants.iter().all(|variant| kind_of(variant).is_some()) {
                true => self.tagged(variants, value, path),
                false => self.name(variants, value, path),
            };
        }
        if !types(schema).any(|name| is_a(value, name)) {
            let (path, expected, found) = (path.clone(), describe(schema), show(value));
            let problem = Problem::WrongType { path: path.clone(), expected, found };
            return self.report(path, Spot::Value, problem);
        }
        if !in_range(schema, value) {
            let over = schema["maximum"].as_f64().zip(value.as_f64()).is_some_and(|(limit, value)| value > limit);
            let (path, expected, found) = (path.clone(), described(schema, over), show(value));
            let problem = Problem::OutOfRange { path: path.clone(), expected, found };
            return self.report(path, Spot::Value, problem);
        }
        match value {
            Value::Object(object) => self.object(schema, object, path),
            Value::Array(elements) => elements
                .iter()
                .enumerate()
                .for_each(|(index, element)| self.value(&schema["items"], element, &path.index(index))),
            _ => {}
        }
    }

    /// An object whose `kind` says which of the variants it is.
    fn tagged(&mut self, variants: &[Value], value: &Value, path: &Path) {
        let valid: Vec<String> = variants.iter().filter_map(kind_of).map(Into::into).collect();
        let Some(object) = value.as_object() else {
            let wanted = value.as_str().and_then(|name| nearest(name, &valid));
            let expected = match wanted.as_ref().or(valid.first()) {
                Some(kind) => format!("an object such as {{ \"kind\": \"{kind}\" }}"),
                None => "an object".into(),
            };
            let problem = Problem::WrongType { path: path.clone(), expected, found: show(value) };
            return self.report(path.clone(), Spot::Value, problem);
        };
        let Some(kind) = object.get("kind") else {
            let problem = Problem::MissingKind { path: path.clone(), valid };
            return self.report(path.clone(), Spot::Value, problem);
        };
        match variants.iter().find(|variant| kind_of(variant) == kind.as_str()) {
            Some(variant) if kind.is_string() => self.object(resolve(variant), object, path),
            _ => self.unknown_name(true, kind, valid, path),
        }
    }

    /// A string that is one of the names the alternatives allow.
    fn name(&mut self, alternatives: &[Value], value: &Value, path: &Path) {
        let valid = names(alternatives);
        if !value.as_str().is_some_and(|name| valid.iter().any(|valid| valid == name)) {
            self.unknown_name(false, value, valid, path);
        }
    }

    fn unknown_name(&mut self, kind: bool, value: &Value, valid: Vec<String>, path: &Path) {
        let at = if kind { path.key("kind") } else { path.clone() };
        let problem = match value.as_str() {
            Some(name) => Problem::UnknownName {
                kind,
                name: name.to_owned(),
                path: path.clone(),
                nearest: nearest(name, &valid),
                valid,
            },
            None => Problem::WrongType {
                path: at.clone(),
                expected: format!("one of {}", quoted(&valid)),
                found: show(value),
            },
        };
        self.report(at, Spot::Value, problem);
    }

    fn object(&mut self, schema: &Value, object: &Map<String, Value>, path: &Path) {
        let owner = || match object.get("kind").and_then(Value::as_str) {
            Some(kind) => format!("{path} ({kind})"),
            None => path.to_string(),
        };
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        for (key, value) in object {
            let path = path.key(key);
            if let Some(property) = properties.get(key) {
                // The kind has chosen this schema.
                if property.get("const").is_none() {
                    self.value(property, value, &path);
                }
                continue;
            }
            if let Some(now) = deprecated(object, key) {
                let problem = Problem::DeprecatedKey { key: key.clone(), owner: owner(), now };
                self.report(path, Spot::Key, problem);
                continue;
            }
            if let Some(advice) = advice(key, value, properties, path.0.len() == 1) {
                self.report(path, Spot::Key, Problem::Misplaced { key: key.clone(), owner: owner(), advice });
                continue;
            }
            let mut valid: Vec<String> = properties.keys().cloned().collect();
            valid.sort();
            let nearest = named_elsewhere(key, &valid).or_else(|| nearest(key, &valid));
            let problem = Problem::UnknownKey { key: key.clone(), owner: owner(), nearest, valid };
            self.report(path, Spot::Key, problem);
        }
        for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !object.contains_key(key) {
                let problem = Problem::MissingKey { key: key.to_owned(), owner: owner() };
                self.report(path.key(key), Spot::Value, problem);
            }
        }
    }
}

/// Follow references to the schema itself. Beside a reference, schemars in draft 7 writes only annotations.
pub(crate) fn resolve(mut schema: &Value) -> &Value {
    loop {
        let reference = match &schema["allOf"] {
            Value::Array(all) => &all[0]["$ref"],
            _ => &schema["$ref"],
        };
        let Some(pointer) = reference.as_str() else {
            return schema;
        };
        schema = SCHEMA.pointer(pointer.trim_start_matches('#')).unwrap_or(&Value::Null);
    }
}

/// The kind a variant is chosen by.
pub(crate) fn kind_of(variant: &Value) -> Option<&str> {
    resolve(variant)["properties"]["kind"]["const"].as_str()
}

/// The names of a string enumeration: schemars writes a `const` for a documented one, `enum` for the others.
fn names(alternatives: &[Value]) -> Vec<String> {
    let of = |alternative: &Value| match &alternative["const"] {
        Value::Null => alternative["enum"].as_array().cloned().unwrap_or_default(),
        name => vec![name.clone()],
    };
    alternatives.iter().flat_map(of).filter_map(|name| name.as_str().map(Into::into)).collect()
}

/// The types a value may have.
pub(crate) fn types(schema: &Value) -> impl Iterator<Item = &str> {
    let several = schema["type"].as_array().map(Vec::as_slice);
    several.unwrap_or(std::slice::from_ref(&schema["type"])).iter().filter_map(Value::as_str)
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

fn in_range(schema: &Value, value: &Value) -> bool {
    let bound = |key: &str| schema[key].as_f64();
    if let Some(elements) = value.as_array() {
        return bound("minItems").is_none_or(|least| elements.len() as f64 >= least);
    }
    let Some(number) = value.as_f64() else {
        return true;
    };
    bound("minimum").is_none_or(|bound| number >= bound)
        && bound("maximum").is_none_or(|bound| number <= bound)
        && bound("exclusiveMinimum").is_none_or(|bound| number > bound)
        && bound("exclusiveMaximum").is_none_or(|bound| number < bound)
}

/// Type and range in words that follow "must be".
pub(crate) fn describe(schema: &Value) -> String {
    described(schema, false)
}

/// The same, with the limit of a type, which is no rule worth saying until it is broken.
fn described(schema: &Value, limits: bool) -> String {
    if let Some(alternatives) = schema["anyOf"].as_array() {
        let each = alternatives.iter().map(|alternative| describe(resolve(alternative)));
        return each.collect::<Vec<String>>().join(" or ");
    }
    if let Some(word) = schema.get("const") {
        return word.to_string();
    }
    let bound = |exclusive: (&str, &str), inclusive: (&str, &str)| {
        let of = |(key, words): (&str, &str)| schema[key].as_f64().map(|bound| format!("{words} {bound}"));
        of(exclusive).or(of(inclusive))
    };
    let lower = bound(("exclusiveMinimum", "above"), ("minimum", "at least"));
    let upper = bound(("exclusiveMaximum", "under"), ("maximum", "at most"))
        .filter(|_| limits || schema["maximum"].as_u64().is_none_or(|limit| limit < u32::MAX.into()));
    let bounds: Vec<String> = lower.into_iter().chain(upper).collect();
    let name = |name| match name {
        "null" => "null".into(),
        "boolean" => "true or false".into(),
        "integer" => format!("an integer {}", bounds.join(" and ")).trim_end().to_owned(),
        "number" => format!("a number {}", bounds.join(" and ")).trim_end().to_owned(),
        "string" => "a string".into(),
        "array" if schema["minItems"].is_null() => "a list".into(),
        "array" => format!("a list of at least {} element", schema["minItems"]),
        _ => example(schema).map_or("an object".into(), |example| format!("an object such as {example}")),
    };
    types(schema).map(name).collect::<Vec<String>>().join(" or ")
}

/// A small object with its defaults.
fn example(schema: &Value) -> Option<String> {
    let properties = schema["properties"].as_object().filter(|properties| properties.len() <= 3)?;
    let default = |(key, property): (&String, &Value)| Some(format!("\"{key}\": {}", property.get("default")?));
    let defaults = properties.iter().map(default).collect::<Option<Vec<String>>>()?;
    Some(format!("{{ {} }}", defaults.join(", ")))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string \"{text}\""),
        Value::Array(elements) if elements.is_empty() => "an empty list".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

/// Names as a list of words.
pub(super) fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Keys of earlier versions: the kind of their object, and what has taken their place.
const DEPRECATED: [(&str, &str, Option<&str>); 3] =
    [("loss_slope", "longest", Some("windows")), ("loss_slope", "shortest", None), ("loss_slope", "share", None)];

/// What has taken the place of a key that an earlier version read in this object, where that is not there too.
fn deprecated(object: &Map<String, Value>, key: &str) -> Option<Option<String>> {
    let of = object.get("kind")?.as_str()?;
    let (.., now) = DEPRECATED.iter().find(|(kind, was, _)| (*kind, *was) == (of, key))?;
    Some(now.filter(|now| !object.contains_key(*now)).map(Into::into))
}

/// What to do about a key that belongs elsewhere, or that no single key has taken the place of.
fn advice(key: &str, value: &Value, properties: &Map<String, Value>, of_root: bool) -> Option<String> {
    let ours =
        |value: &Value| value.as_object().is_some_and(|object| object.keys().any(|key| properties.contains_key(key)));
    match key {
        "lr" | "learning_rate" => {
            Some("the learning rate is no part of it: give it to the `Learner`, or to `step_with`".into())
        }
        "betas" if properties.contains_key("beta_1") => Some("write \"beta_1\" and \"beta_2\"".into()),
        // The file of a program, with this configuration in it.
        _ if of_root && ours(value) => Some(format!("if it holds the configuration, check FILE#/{key}")),
        _ => None,
    }
}

/// What a key of another library, or of the literature, is called here.
const NAMES_ELSEWHERE: [(&str, &str); 10] = [
    ("history_size", "memory"),
    ("memory_size", "memory"),
    ("maxcor", "memory"),
    ("c1", "delta"),
    ("c2", "sigma"),
    ("max_eval", "max_evaluations"),
    ("maxls", "max_evaluations"),
    ("line_search_fn", "line_search"),
    ("optimizer", "inner"),
    ("weight_decay", "l2"),
];

/// The key that means here what `name` means elsewhere: in PyTorch, Burn, Optax and SciPy.
fn named_elsewhere(name: &str, valid: &[String]) -> Option<String> {
    let (_, here) = NAMES_ELSEWHERE.iter().find(|(elsewhere, _)| *elsewhere == name)?;
    valid.iter().find(|valid| valid == here).cloned()
}

/// The most similar name, if any is similar enough to be meant.
pub(super) fn nearest(name: &str, valid: &[String]) -> Option<String> {
    let similarity = |valid: &String| strsim::jaro_winkler(name, valid);
    valid
        .iter()
        .map(|valid| (similarity(valid), valid))
        .filter(|(similarity, _)| *similarity >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, valid)| valid.clone())
}
