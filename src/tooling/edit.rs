//! Small changes to a text that leave the rest of it as it is, each a range and what takes its place.

use std::ops::Range;

use super::tree::{Node, Token, TokenKind, Tree};

pub(super) type Edit = (Range<usize>, String);

/// Put `"key": value` before the other keys of an object.
pub(super) fn prepend(text: &str, object: &Node, entry: &str) -> Edit {
    let start = object.range.start + 1;
    let (space, comma) = match object.properties().first() {
        Some(first) if text[start..first.key.start].contains('\n') => (line_indent(text, first.key.start), ","),
        Some(_) => (" ".into(), ","),
        None => (" ".into(), ""),
    };
    let end = if object.properties().is_empty() { " " } else { "" };
    (start..start, format!("{space}{entry}{comma}{end}"))
}

/// Put entries after the others of an object or list: its comma, where one is due, and the entries themselves.
pub(super) fn append(text: &str, tree: &Tree, object: &Node, entries: &[String]) -> Vec<Edit> {
    let firsts = object.properties().first().map(|first| first.key.start);
    let first = firsts.or(object.elements().first().map(|first| first.range.start));
    let inner = &text[object.range.start..first.unwrap_or(object.range.end)];
    let separator = match first {
        Some(first) if inner.contains('\n') => line_indent(text, first),
        None if inner.contains('\n') => line_indent(text, object.range.start) + "  ",
        _ => " ".into(),
    };
    // Behind a comment that ends the last line, before the closing bracket.
    let close = object.range.end - usize::from(object.closed);
    let at = object.range.start + text[object.range.start..close].trim_end().len();
    let before = tree.before(close);
    let comma =
        before.filter(|token| !matches!(token.kind, TokenKind::Comma | TokenKind::OpenObject | TokenKind::OpenArray));
    let mut edits: Vec<Edit> = comma.map(|token| (token.range.end..token.range.end, ",".into())).into_iter().collect();
    let insert = entries.iter().map(|entry| format!("{separator}{entry}")).collect::<Vec<_>>().join(",");
    let end = if text[at..close].is_empty() { " " } else { "" };
    edits.push((at..at, insert + end));
    edits
}

/// Take out the property of an object whose key begins there, with its comma.
pub(super) fn remove(tree: &Tree, object: &Node, key: usize) -> Option<Edit> {
    let property = object.properties().iter().find(|property| property.key.start == key)?;
    let Range { start, end } = property.range();
    let comma = |token: &&Token| token.kind == TokenKind::Comma;
    let range = match tree.before(start).filter(comma) {
        Some(before) => before.range.start..end,
        None => start..tree.after(end).filter(comma).map_or(end, |after| after.range.end),
    };
    Some((range, String::new()))
}

/// A line break and the indentation of the line a place is on.
fn line_indent(text: &str, at: usize) -> String {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    format!("\n{indent}")
}

/// A text after changes, which are given in its order.
pub(super) fn apply(text: &str, edits: &[Edit]) -> String {
    let mut changed = text.to_owned();
    for (range, insert) in edits.iter().rev() {
        changed.replace_range(range.clone(), insert);
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(text: &str) -> Tree {
        Tree::of(text)
    }

    #[test]
    fn entries_come_after_the_others_in_their_style() {
        for (text, expected) in [
            ("{}", "{ \"b\": 2 }"),
            ("{ \"a\": 1 }", "{ \"a\": 1, \"b\": 2 }"),
            ("{ \"a\": 1, }", "{ \"a\": 1, \"b\": 2 }"),
            ("{\n    \"a\": 1 // one\n}", "{\n    \"a\": 1, // one\n    \"b\": 2\n}"),
            ("{\n}", "{\n  \"b\": 2\n}"),
        ] {
            let tree = root(text);
            let edits = append(text, &tree, tree.root.as_ref().unwrap(), &["\"b\": 2".into()]);
            assert_eq!(apply(text, &edits), expected);
        }
    }

    #[test]
    fn a_key_goes_with_its_comma() {
        let text = "{ \"a\": 1, \"b\": 2, \"c\": 3 }";
        let tree = root(text);
        let object = tree.root.as_ref().unwrap();
        for (key, expected) in
            [("a", "{  \"b\": 2, \"c\": 3 }"), ("b", "{ \"a\": 1, \"c\": 3 }"), ("c", "{ \"a\": 1, \"b\": 2 }")]
        {
            let at = object.get(text, key).unwrap().key.start;
            assert_eq!(apply(text, &[remove(&tree, object, at).unwrap()]), expected);
        }
    }

    #[test]
    fn a_kind_comes_first() {
        for (text, expected) in [
            ("{}", "{ \"kind\": 1 }"),
            ("{ \"a\": 1 }", "{ \"kind\": 1, \"a\": 1 }"),
            ("{\n\t\"a\": 1\n}", "{\n\t\"kind\": 1,\n\t\"a\": 1\n}"),
        ] {
            let tree = root(text);
            assert_eq!(apply(text, &[prepend(text, tree.root.as_ref().unwrap(), "\"kind\": 1")]), expected);
        }
    }
}
