//! The schema as the tools ask it: what may stand at a place, and what it means.

use serde_json::Value;

use super::tree::Node;
use crate::config::check::{self, SCHEMA};

/// The schema of one place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape(&'static Value);

impl Shape {
    /// The configuration as a whole.
    pub fn root() -> Self {
        Self(&SCHEMA)
    }

    /// The schema itself, behind references and behind "or null".
    fn core(self) -> &'static Value {
        let core = check::resolve(self.0);
        core["anyOf"].as_array().map_or(core, |alternatives| check::resolve(&alternatives[0]))
    }

    /// What stands here, in words.
    pub fn description(self) -> &'static str {
        self.0["description"].as_str().or(self.core()["description"].as_str()).unwrap_or_default()
    }

    /// What holds where the place is left out.
    pub fn default(self) -> Option<&'static Value> {
        self.0.get("default")
    }

    /// The default, or where there is none, an example.
    pub fn usual(self) -> Option<&'static Value> {
        self.default().or_else(|| self.0["examples"].get(0))
    }

    /// Type and range, in words that follow "must be".
    pub fn expected(self) -> String {
        let word = self.words().map(|(word, _)| format!(" or \"{word}\"")).collect::<String>();
        let null = if self.allows_null() && self.core()["type"].is_string() { " or null" } else { "" };
        match self.core().get("oneOf") {
            Some(_) if self.kinds().next().is_some() => "an object".into(),
            Some(_) => "one of the names below".into(),
            None => check::describe(self.core()) + &word + null,
        }
    }

    pub fn allows_null(self) -> bool {
        let others = check::resolve(self.0)["anyOf"].as_array().into_iter().flatten();
        others.chain([self.core()]).any(|schema| check::types(schema).any(|name| name == "null"))
    }

    pub fn is(self, name: &str) -> bool {
        check::types(self.core()).any(|own| own == name)
    }

    /// What an object here may be, by its `kind`.
    pub fn kinds(self) -> impl Iterator<Item = (&'static str, Self)> {
        let variants = self.core()["oneOf"].as_array().into_iter().flatten();
        variants.filter_map(|variant| check::kind_of(variant).map(|kind| (kind, Self(variant))))
    }

    /// The names that may stand here, with their meaning.
    pub fn names(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.core()["oneOf"].as_array().into_iter().flatten().filter_map(word)
    }

    /// The words that may stand here instead of a number.
    pub fn words(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        check::resolve(self.0)["anyOf"].as_array().into_iter().flatten().filter_map(word)
    }

    /// The shape of an object as its text has it: the variant its `kind` names, if it needs one.
    pub fn of(self, node: &Node, text: &str) -> Self {
        let kind = node.string(text, "kind");
        self.kinds().find(|(name, _)| Some(*name) == kind.as_deref()).map_or(self, |(_, variant)| variant)
    }

    pub fn properties(self) -> impl Iterator<Item = (&'static str, Self)> {
        let properties = self.core()["properties"].as_object().into_iter().flatten();
        properties.map(|(key, property)| (key.as_str(), Self(property)))
    }

    pub fn property(self, key: &str) -> Option<Self> {
        self.core()["properties"].get(key).map(Self)
    }

    pub fn items(self) -> Option<Self> {
        self.core().get("items").map(Self)
    }

    /// An object of this kind, its defaults spelled out.
    pub fn block(self) -> String {
        crate::config::block(self.core())
    }
}

/// A word of an enumeration and its meaning.
fn word(alternative: &'static Value) -> Option<(&'static str, &'static str)> {
    Some((alternative["const"].as_str()?, alternative["description"].as_str().unwrap_or_default()))
}
