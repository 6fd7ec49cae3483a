//! What a key or value means.

use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};

use super::super::shape::Shape;
use super::super::tree::{Tree, unquote};
use super::cursor::{Cursor, Place};
use super::position::Lines;

/// Meaning, range, default and source of what is under the cursor.
pub(super) fn hover(text: &str, pointer: &str, offset: usize) -> Option<Hover> {
    let tree = Tree::of(text);
    // A hover points at a character, a cursor stands behind one.
    let offset = offset + text.get(offset..)?.chars().next().map_or(0, char::len_utf8);
    let cursor = Cursor::at(&tree, text, pointer, offset)?;
    let (range, value) = match cursor.place {
        Place::Key { property: Some(property), .. } => (property.key.clone(), None),
        Place::Value { node: Some(node) } => (node.range.clone(), Some(unquote(&text[node.range.clone()]))),
        _ => return None,
    };
    let variants = || cursor.owner.filter(|_| cursor.key() == Some("kind")).into_iter().flat_map(Shape::kinds);
    let shape = cursor.shape.or_else(|| variants().next()?.1.property("kind"))?;
    let mut paragraphs = vec![format!("**{}**", cursor.path)];
    let mut names: Vec<(&str, &str)> = shape.names().collect();
    names.extend(variants().map(|(kind, variant)| (kind, variant.description())));
    match names.iter().find(|(name, _)| Some(*name) == value.as_deref()) {
        Some((name, meaning)) => paragraphs.push(format!("`{name}`: {meaning}")),
        None => {
            paragraphs.push(shape.description().to_owned());
            if names.is_empty() {
                paragraphs.push(format!("Must be {}.", shape.expected()));
            }
            let kinds = shape.kinds().map(|(kind, variant)| (kind, variant.description()));
            names.extend(kinds);
            if !names.is_empty() {
                let lines = names.iter().map(|(name, meaning)| format!("- `{name}`: {meaning}"));
                paragraphs.push(lines.collect::<Vec<_>>().join("\n"));
            }
            paragraphs.extend(shape.default().map(|default| format!("Default: `{default}`")));
        }
    }
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value: paragraphs.join("\n\n") });
    Some(Hover { contents, range: Some(Lines::of(text).range(range)) })
}
