//! A configuration as text: parsed once, with the place of every key and value.

use std::ops::Range;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use serde_json::{Map, Number, Value};

use super::check::{Finding, Spot};
use super::error::{Diagnostic, Location, Path, Problem, Step};

/// JSON with comments and trailing commas, and nothing else.
const JSONC: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// A parsed text.
pub(crate) struct Document<'a> {
    lines: Lines<'a>,
    root: ast::Value<'a>,
}

impl<'a> Document<'a> {
    /// Parse the text.
    ///
    /// # Errors
    ///
    /// What makes the text no JSON.
    pub fn parse(text: &'a str) -> Result<Self, Vec<Diagnostic>> {
        let lines = Lines::of(text);
        let refuse = |bytes: Range<usize>, message: String| {
            let location = Some(lines.locate(bytes));
            vec![Diagnostic { location, path: Path::default(), problem: Problem::Syntax(message) }]
        };
        let parsed = parse_to_ast(text, &CollectOptions::default(), &JSONC).map_err(|error| {
            let range = error.range();
            let words = uncapitalized(&error.kind().to_string());
            refuse(range.start..range.end, words + hint(text.get(range.start..).unwrap_or_default()))
        })?;
        match parsed.value {
            Some(root) => Ok(Self { lines, root }),
            None => Err(refuse(0..0, "the text is empty, write at least {}".into())),
        }
    }

    /// Narrow the document to the value at a JSON pointer (RFC 6901), as where the configuration is part of another one.
    ///
    /// # Errors
    ///
    /// A pointer that leads nowhere.
    pub fn focus(mut self, pointer: &str) -> Result<Self, Vec<Diagnostic>> {
        let nothing = |document: &Self, range, step: &str, valid: Vec<String>| {
            let (nearest, pointer) = (super::check::nearest(step, &valid), pointer.to_owned());
            let problem = Problem::NothingThere { pointer, nearest, valid };
            vec![Diagnostic { location: Some(document.location(range)), path: Path::default(), problem }]
        };
        let Some(steps) = steps(pointer) else {
            let range = self.root.range();
            return Err(nothing(&self, range, pointer, Vec::new()));
        };
        for step in steps {
            let (range, mut valid) = (self.root.range(), Vec::new());
            let found = match self.root {
                ast::Value::Object(ref mut object) => {
                    valid.extend(object.properties.iter().map(|property| property.name.as_str().to_owned()));
                    let at = last(object, &step);
                    at.map(|at| object.properties.remove(at).value)
                }
                ast::Value::Array(ref mut array) => {
                    step.parse().ok().filter(|index| *index < array.elements.len()).map(|at| array.elements.remove(at))
                }
                _ => None,
            };
            self.root = match found {
                Some(found) => found,
                None => return Err(nothing(&self, range, &step, valid)),
            };
        }
        Ok(self)
    }

    /// Where the value at a path stands, if the text says it.
    #[cfg(feature = "cli")]
    pub fn value_at(&self, path: &Path) -> Option<Location> {
        self.find(path, Spot::Value).map(|range| self.location(range))
    }

    /// The text as a value, and what is lost on the way: keys given twice, numbers that no number can hold.
    pub fn to_value(&self) -> (Value, Vec<Diagnostic>) {
        let mut lost = Vec::new();
        let value = self.convert(&self.root, &Path::default(), &mut lost);
        (value, lost)
    }

    fn convert(&self, node: &ast::Value, path: &Path, lost: &mut Vec<Diagnostic>) -> Value {
        match node {
            ast::Value::NullKeyword(_) => Value::Null,
            ast::Value::BooleanLit(literal) => literal.value.into(),
            ast::Value::StringLit(literal) => literal.value.as_ref().into(),
            ast::Value::NumberLit(literal) => number(literal.value).map_or_else(
                || {
                    lost.push(self.diagnose(
                        node,
                        path,
                        Problem::WrongType {
                            path: path.clone(),
                            expected: "a number that a computer can hold".into(),
                            found: literal.value.into(),
                        },
                    ));
                    Value::Null
                },
                Value::Number,
            ),
            ast::Value::Array(array) => array
                .elements
                .iter()
                .enumerate()
                .map(|(index, element)| self.convert(element, &path.index(index), lost))
                .collect(),
            ast::Value::Object(object) => {
                let mut map = Map::new();
                for property in &object.properties {
                    let key = property.name.as_str();
                    let value = self.convert(&property.value, &path.key(key), lost);
                    if map.insert(key.to_owned(), value).is_some() {
                        let problem = Problem::DuplicateKey {
                            key: key.to_owned(),
                            owner: path.to_string(),
                            first: self.location(object.get(key).map_or(object.range, name)),
                        };
                        lost.push(self.diagnose(&name(property), &path.key(key), problem));
                    }
                }
                map.into()
            }
        }
    }

    /// A finding, at its place in this text.
    pub fn place(&self, finding: Finding) -> Diagnostic {
        let Finding { path, spot, mut problem } = finding;
        if let Problem::Contradiction { paths, other, .. } = &mut problem {
            *other = self.find(&paths[1], Spot::Value).map(|range| self.location(range));
        }
        // What stands nowhere in the text is a default: the nearest object around it is the place.
        let range = (0..=path.0.len())
            .rev()
            .find_map(|depth| self.find(&Path(path.0[..depth].to_vec()), spot))
            .unwrap_or(self.root.range());
        self.diagnose(&range, &path, problem)
    }

    fn find(&self, path: &Path, spot: Spot) -> Option<jsonc_parser::common::Range> {
        let mut node = &self.root;
        let mut range = node.range();
        for step in &path.0 {
            (node, range) = match step {
                Step::Key(key) => {
                    let object = node.as_object()?;
                    let property = &object.properties[last(object, key)?];
                    (&property.value, name(property))
                }
                Step::Index(index) => {
                    let element = node.as_array()?.elements.get(*index)?;
                    (element, element.range())
                }
            };
        }
        Some(if spot == Spot::Key { range } else { node.range() })
    }

    fn diagnose(&self, place: &impl Ranged, path: &Path, problem: Problem) -> Diagnostic {
        Diagnostic { location: Some(self.location(place.range())), path: path.clone(), problem }
    }

    fn location(&self, range: jsonc_parser::common::Range) -> Location {
        self.lines.locate(range.start..range.end)
    }
}

/// The steps of a JSON pointer; `None` of what is none.
pub(crate) fn steps(pointer: &str) -> Option<impl Iterator<Item = String>> {
    let is_one = pointer.is_empty() || pointer.starts_with('/');
    is_one.then(|| pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~")))
}

/// Where the last property of a name stands, which is the one a duplicate leaves standing.
fn last(object: &ast::Object, key: &str) -> Option<usize> {
    object.properties.iter().rposition(|property| property.name.as_str() == key)
}

fn name(property: &ast::ObjectProp) -> jsonc_parser::common::Range {
    match &property.name {
        ast::ObjectPropName::String(literal) => literal.range,
        ast::ObjectPropName::Word(literal) => literal.range,
    }
}

/// A number literal, read to the last bit; `None` where it overflows. A whole number is an integer however it is
/// written, as JSON Schema has it.
fn number(literal: &str) -> Option<Number> {
    if let Ok(integer) = literal.parse::<u64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = literal.parse::<i64>() {
        return Some(integer.into());
    }
    let value: f64 = literal.parse().ok()?;
    if value.fract() == 0.0 && value != 0.0 && value.abs() < 2f64.powi(53) {
        return Some((value as i64).into());
    }
    Number::from_f64(value)
}

/// What a text that is no JSON was probably meant to say.
fn hint(rest: &str) -> &'static str {
    match rest {
        _ if ["NaN", "Infinity", "-Infinity", "nan", "inf"].iter().any(|word| rest.starts_with(word)) => {
            "; JSON has no NaN and no infinity"
        }
        _ if rest.starts_with('#') => "; comments are // ... or /* ... */",
        _ => "",
    }
}

fn uncapitalized(message: &str) -> String {
    let mut characters = message.chars();
    characters.next().into_iter().flat_map(char::to_lowercase).chain(characters).collect()
}

/// How many units of a kind come before a place in a text, counted beforehand for every so many bytes: a line may be long.
pub(crate) struct Units<'a> {
    text: &'a str,
    unit: fn(char) -> usize,
    /// The first character from every so many bytes on, and what comes before it.
    marks: Vec<(usize, usize)>,
}

/// Bytes between two marks.
const STRIDE: usize = 1 << 9;

impl<'a> Units<'a> {
    /// Count a text in units of which a character has so many.
    pub fn of(text: &'a str, unit: fn(char) -> usize) -> Self {
        let (mut marks, mut before) = (Vec::with_capacity(text.len() / STRIDE + 1), 0);
        for (at, character) in text.char_indices() {
            if at >= marks.len() * STRIDE {
                marks.push((at, before));
            }
            before += unit(character);
        }
        if text.len() >= marks.len() * STRIDE {
            marks.push((text.len(), before));
        }
        Self { text, unit, marks }
    }

    /// Those between two places.
    pub fn between(&self, bytes: Range<usize>) -> usize {
        self.before(bytes.end) - self.before(bytes.start)
    }

    fn before(&self, offset: usize) -> usize {
        let (at, before) = self.marks[offset / STRIDE];
        before + self.text[at..offset].chars().map(self.unit).sum::<usize>()
    }
}

/// A text and where its lines begin.
pub(crate) struct Lines<'a> {
    characters: Units<'a>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    /// Find the lines of a text.
    pub fn of(text: &'a str) -> Self {
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Self { characters: Units::of(text, |_| 1), starts: std::iter::once(0).chain(breaks).collect() }
    }

    /// Line and column of a place in bytes.
    pub fn locate(&self, bytes: Range<usize>) -> Location {
        let line = self.starts.partition_point(|start| *start <= bytes.start);
        let start = self.starts[line - 1];
        let column = self.characters.between(start..bytes.start) + 1;
        Location { line, column, bytes }
    }
}
