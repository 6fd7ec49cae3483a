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
    // Behind a comment that ends the last line, before the closing bracket.
    let close = object.range.end - usize::from(object.closed);
    let ends_in_comment = tree.last(close).is_some_and(|token| token.kind == TokenKind::LineComment);
    let separator = match first {
        Some(first) if inner.contains('\n') => line_indent(text, first),
        _ if ends_in_comment || inner.contains('\n') => line_indent(text, object.range.start) + "  ",
        _ => " ".into(),
    };
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

/// Take out the property of an object whose key begins there, with its comma. Comments stay.
pub(super) fn remove(text: &str, tree: &Tree, object: &Node, key: usize) -> Option<Vec<Edit>> {
    let property = object.properties().iter().find(|property| property.key.start == key)?;
    let Range { start, end } = property.range();
    let comma = |token: &&Token| token.kind == TokenKind::Comma;
    let cut = |range: Range<usize>| (range, String::new());
    Some(match tree.before(start).filter(comma) {
        Some(before) => {
            // What stands alone on its line goes with the line.
            let alone = text[end..].trim_start_matches([' ', '\t', '\r']).starts_with('\n');
            let kept = before.range.end + text[before.range.end..start].trim_end().len();
            match kept == before.range.end {
                true => vec![cut(before.range.start..end)],
                false => vec![cut(before.range.clone()), cut(if alone { kept } else { start }..end)],
            }
        }
        None => vec![cut(start..tree.after(end).filter(comma).map_or(end, |after| after.range.end))],
    })
}

/// The line break of a text.
pub(super) fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A line break and the indentation of the line a place is on.
fn line_indent(text: &str, at: usize) -> String {
    let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..];
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    format!("{}{indent}", line_break(text))
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
            ("{ \"a\": 1 // one\n}", "{ \"a\": 1, // one\n  \"b\": 2\n}"),
            ("{ // none\n}", "{ // none\n  \"b\": 2\n}"),
            ("{\r\n \"a\": 1\r\n}", "{\r\n \"a\": 1,\r\n \"b\": 2\r\n}"),
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
            assert_eq!(apply(text, &remove(text, &tree, object, at).unwrap()), expected);
        }
    }

    #[test]
    fn a_comment_before_a_key_taken_out_stays() {
        for (text, expected) in [
            ("{\n \"a\": 1, // one\n \"b\": 2\n}", "{\n \"a\": 1 // one\n}"),
            ("{\n \"a\": 1, // one\n \"b\": 2 }", "{\n \"a\": 1 // one\n  }"),
            ("{ \"a\": 1, /* one */ \"b\": 2 }", "{ \"a\": 1 /* one */  }"),
        ] {
            let tree = root(text);
            let object = tree.root.as_ref().unwrap();
            let at = object.get(text, "b").unwrap().key.start;
            assert_eq!(apply(text, &remove(text, &tree, object, at).unwrap()), expected);
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
