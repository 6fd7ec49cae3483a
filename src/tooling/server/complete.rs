//! Completion: the keys and values that fit the cursor.

use std::ops::Range;

use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionTextEdit, Documentation, InsertTextFormat, InsertTextMode,
    MarkupContent, MarkupKind, TextEdit,
};
use serde_json::Value;

use super::super::SCHEMA_FILE;
use super::super::shape::Shape;
use super::super::tree::{Node, Property, TokenKind, Tree, unquote};
use super::cursor::{Cursor, Place};
use super::position::Lines;
use crate::config::Preset;

/// What may be inserted at a place.
pub(super) fn complete(text: &str, pointer: &str, offset: usize, snippets: bool) -> Vec<CompletionItem> {
    let tree = Tree::of(text);
    let Some(cursor) = Cursor::at(&tree, text, pointer, offset) else {
        return Vec::new();
    };
    let replaced = match &cursor.place {
        Place::Key { property: Some(property), .. } => property.key.clone(),
        Place::Value { node: Some(node) } => node.range.clone(),
        _ => offset..offset,
    };
    let site = Site { text, tree: &tree, lines: Lines::of(text), replaced, part: !pointer.is_empty(), snippets };
    match cursor.place {
        Place::Key { object, property } => site.keys(object, property, cursor.owner),
        Place::Value { .. } => site.values(&cursor),
    }
}

/// The place the items go to.
struct Site<'a> {
    text: &'a str,
    tree: &'a Tree,
    lines: Lines<'a>,
    replaced: Range<usize>,
    /// Whether the configuration is a part of a file, whose schema is another.
    part: bool,
    /// Whether the client understands tab stops.
    snippets: bool,
}

impl Site<'_> {
    fn keys(&self, object: &Node, property: Option<&Property>, owner: Option<Shape>) -> Vec<CompletionItem> {
        let Some(owner) = owner else {
            return Vec::new();
        };
        let present = |key: &str| {
            let is_it = |other: &Property| property.is_none_or(|property| property.key != other.key);
            object.properties().iter().any(|other| is_it(other) && unquote(&self.text[other.key.clone()]) == key)
        };
        let shape = owner.of(object, self.text);
        // An object that has not said its kind yet can be told nothing else.
        let kind = owner.kinds().next().filter(|_| shape.properties().next().is_none());
        let kind = kind.and_then(|(_, variant)| Some(("kind", variant.property("kind")?)));
        let mut items = Vec::new();
        let left_out = |key: &str| present(key) || self.part && key == "$schema";
        for (key, shape) in shape.properties().chain(kind).filter(|(key, _)| !left_out(key)) {
            let mut insert = format!("\"{}\"", self.escape(key));
            if !property.is_some_and(|property| property.has_colon) {
                let value = match key {
                    "kind" => self.choice(owner.kinds().map(|(kind, _)| kind), None),
                    _ => self.value_of(shape),
                };
                insert += &format!(": {value}");
            }
            let mut item = self.item(key, CompletionItemKind::PROPERTY, insert, shape.description());
            item.detail = Some(shape.expected());
            item.filter_text = Some(format!("\"{key}\""));
            // The kind decides what else there is.
            item.sort_text = Some(format!("{}{key}", if key == "kind" { 0 } else { 1 }));
            items.push(item);
        }
        items
    }

    fn values(&self, cursor: &Cursor) -> Vec<CompletionItem> {
        let mut items = Vec::new();
        let Some(shape) = cursor.shape.or(cursor.owner) else {
            return items;
        };
        let mut offer = |label: &str, kind: CompletionItemKind, documentation: &str| {
            items.push(self.item(label, kind, self.escape(label), documentation));
        };
        if cursor.key() == Some("kind") {
            for (kind, variant) in cursor.owner.into_iter().flat_map(Shape::kinds) {
                offer(&format!("\"{kind}\""), CompletionItemKind::ENUM_MEMBER, variant.description());
            }
            return items;
        }
        if cursor.shape.is_none() {
            return items;
        }
        for (name, meaning) in shape.names().chain(shape.words()) {
            offer(&format!("\"{name}\""), CompletionItemKind::ENUM_MEMBER, meaning);
        }
        if shape.is("boolean") {
            for value in ["true", "false"] {
                offer(value, CompletionItemKind::VALUE, shape.description());
            }
        } else if let Some(number) = shape.default().filter(|default| default.is_number()) {
            offer(&number.to_string(), CompletionItemKind::VALUE, shape.description());
        }
        if cursor.path.0.len() == 1 && cursor.key() == Some("$schema") {
            offer(&format!("\"./{SCHEMA_FILE}\""), CompletionItemKind::FILE, shape.description());
        } else if shape.allows_null() {
            offer("null", CompletionItemKind::VALUE, shape.description());
        }
        for (kind, variant) in shape.kinds() {
            items.push(self.block(kind, &variant.block(), variant.description()));
        }
        if cursor.path.0.is_empty() {
            items.extend(Preset::ALL.map(|preset| self.block(preset.name(), &preset.text(), preset.description())));
        } else if shape.kinds().next().is_none() && (shape.is("object") || shape.is("array")) {
            let label = if shape.is("array") { "[ … ]" } else { "{ … }" };
            let mut item = self.item(label, CompletionItemKind::STRUCT, self.value_of(shape), shape.description());
            item.filter_text = Some(label[..1].into());
            items.push(item);
        }
        items
    }

    /// A whole object, indented as the line it goes to.
    fn block(&self, label: &str, text: &str, description: &str) -> CompletionItem {
        let indented = text.replace('\n', &format!("\n{}", self.lines.indent(self.replaced.start)));
        let mut item = self.item(label, CompletionItemKind::SNIPPET, self.escape(&indented), description);
        // So that it is found from an opening quote on, as well as from nothing.
        item.filter_text = Some(format!("\"{label}\""));
        item.insert_text_mode = Some(InsertTextMode::AS_IS);
        item
    }

    fn item(&self, label: &str, kind: CompletionItemKind, mut insert: String, documentation: &str) -> CompletionItem {
        use TokenKind::*;
        let next = self.tree.after(self.replaced.end).map(|token| token.kind);
        if matches!(next, Some(String | Word | OpenObject | OpenArray)) {
            insert.push(',');
        }
        let before = self.tree.before(self.replaced.start);
        let comma =
            before.filter(|token| matches!(token.kind, String | Word | CloseObject | CloseArray)).map(|token| {
                let end = self.lines.position(token.range.end);
                vec![TextEdit::new(lsp_types::Range::new(end, end), ",".into())]
            });
        let range = self.lines.range(self.replaced.clone());
        CompletionItem {
            label: label.to_owned(),
            kind: Some(kind),
            documentation: (!documentation.is_empty()).then(|| {
                Documentation::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value: documentation.into() })
            }),
            insert_text_format: self.snippets.then_some(InsertTextFormat::SNIPPET),
            text_edit: Some(CompletionTextEdit::Edit(TextEdit::new(range, insert))),
            additional_text_edits: comma,
            ..CompletionItem::default()
        }
    }

    /// What a key is usually given, to be overwritten.
    fn value_of(&self, shape: Shape) -> String {
        let stop = |text: &str| if self.snippets { format!("${{1:{}}}", self.escape(text)) } else { text.to_owned() };
        let usual = shape.usual().unwrap_or(&Value::Null);
        if shape.kinds().next().is_some() {
            // A kind that needs more than its name is no place to start from.
            let complete =
                |shape: Shape| shape.properties().all(|(key, shape)| key == "kind" || shape.default().is_some());
            let kinds = || shape.kinds().filter(|(_, variant)| complete(*variant)).map(|(kind, _)| kind);
            let kind = kinds().find(|kind| usual["kind"] == *kind).or_else(|| kinds().next());
            return format!("{{ \"kind\": {} }}", self.choice(shape.kinds().map(|(kind, _)| kind), kind));
        }
        if shape.names().next().is_some() {
            return self.choice(shape.names().map(|(name, _)| name), usual.as_str());
        }
        match usual {
            Value::Bool(default) if self.snippets => format!("${{1|{default},{}|}}", !default),
            _ if shape.is("object") && self.snippets => "{ $1 }".into(),
            _ if shape.is("object") => "{}".into(),
            _ if shape.is("string") && self.snippets => "\"$1\"".into(),
            _ if shape.is("string") => "\"\"".into(),
            usual => stop(&usual.to_string()),
        }
    }

    /// One of several names, the usual one first.
    fn choice<'n>(&self, names: impl Iterator<Item = &'n str>, usual: Option<&str>) -> String {
        let mut names: Vec<&str> = names.collect();
        names.sort_by_key(|name| Some(*name) != usual);
        if self.snippets {
            return format!("\"${{1|{}|}}\"", names.join(","));
        }
        format!("\"{}\"", names.first().copied().unwrap_or_default())
    }

    /// A text that is to be inserted as it is.
    fn escape(&self, text: &str) -> String {
        if !self.snippets {
            return text.to_owned();
        }
        text.replace('\\', "\\\\").replace('$', "\\$").replace('}', "\\}")
    }
}
