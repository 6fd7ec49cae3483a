//! The outline of a configuration.

use lsp_types::{DocumentSymbol, SymbolKind};

use super::super::tree::{Content, Node, Property, Tree, unquote};
use super::position::Lines;

/// Every key, with its value or kind beside it.
pub(super) fn symbols(text: &str, pointer: &str) -> Vec<DocumentSymbol> {
    let (tree, lines) = (Tree::of(text), Lines::of(text));
    tree.focus(text, pointer).map(|root| children(root, text, &lines)).unwrap_or_default()
}

fn children(node: &Node, text: &str, lines: &Lines) -> Vec<DocumentSymbol> {
    let property = |property: &Property| {
        let key = unquote(&text[property.key.clone()]);
        let name = if key.is_empty() { "\"\"".into() } else { key };
        symbol(name, property.value.as_ref(), property.range(), property.key.clone(), text, lines)
    };
    let element = |(index, element): (usize, &Node)| {
        symbol(format!("[{index}]"), Some(element), element.range.clone(), element.range.clone(), text, lines)
    };
    node.properties().iter().map(property).chain(node.elements().iter().enumerate().map(element)).collect()
}

fn symbol(
    name: String,
    value: Option<&Node>,
    range: std::ops::Range<usize>,
    selection: std::ops::Range<usize>,
    text: &str,
    lines: &Lines,
) -> DocumentSymbol {
    let scalar = value.filter(|value| value.is_scalar()).map(|value| &text[value.range.clone()]);
    let kind = match value.map(|value| &value.content) {
        Some(Content::Object(_)) => SymbolKind::OBJECT,
        Some(Content::Array(_)) => SymbolKind::ARRAY,
        _ => match scalar.unwrap_or_default().as_bytes().first() {
            Some(b'"') => SymbolKind::STRING,
            Some(b't' | b'f') => SymbolKind::BOOLEAN,
            Some(b'-' | b'0'..=b'9') => SymbolKind::NUMBER,
            _ => SymbolKind::NULL,
        },
    };
    #[expect(deprecated, reason = "the field must be given")]
    DocumentSymbol {
        name,
        detail: scalar.map(Into::into).or_else(|| value?.string(text, "kind")),
        kind,
        tags: None,
        deprecated: None,
        range: lines.range(range),
        selection_range: lines.range(selection),
        children: value.map(|value| children(value, text, lines)),
    }
}
