//! A text as far as it can be read: tokens and a tree with the place of everything, however half-typed. What is wrong
//! with a text is not said here but by `config`.

use std::ops::Range;

use crate::config::document::steps;

/// Deeper nesting is read flat: no configuration goes there, and the parser must not run out of stack.
const MAX_DEPTH: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    OpenObject,
    CloseObject,
    OpenArray,
    CloseArray,
    Colon,
    Comma,
    String,
    /// A number, `true`, `false`, `null`, or anything else without quotes.
    Word,
    LineComment,
    BlockComment,
}

#[derive(Clone, Debug)]
pub(super) struct Token {
    pub kind: TokenKind,
    pub range: Range<usize>,
}

impl Token {
    pub fn is_comment(&self) -> bool {
        matches!(self.kind, TokenKind::LineComment | TokenKind::BlockComment)
    }
}

/// Cut a text into tokens; every byte that is no white space is in one.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    use TokenKind::*;
    let bytes = text.as_bytes();
    let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
        bytes[from..].iter().position(|byte| stop(*byte)).map_or(bytes.len(), |at| from + at)
    };
    let mut tokens = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while let Some(&byte) = bytes.get(at) {
        let (kind, end) = match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'{' => (OpenObject, at + 1),
            b'}' => (CloseObject, at + 1),
            b'[' => (OpenArray, at + 1),
            b']' => (CloseArray, at + 1),
            b':' => (Colon, at + 1),
            b',' => (Comma, at + 1),
            b'"' => (String, string_end(bytes, at)),
            b'/' if bytes.get(at + 1) == Some(&b'/') => (LineComment, until(at, &|byte| matches!(byte, b'\r' | b'\n'))),
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text[at + 2..].find("*/").map_or(bytes.len(), |length| at + 2 + length + 2);
                (BlockComment, end)
            }
            // A lone slash is a word of its own, so that the next character may begin a comment.
            _ => (Word, until(at + 1, &|byte| b" \t\r\n{}[]:,\"/".contains(&byte))),
        };
        tokens.push(Token { kind, range: at..end });
        at = end;
    }
    tokens
}

/// Past the closing quote, or the end of the line where there is none.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\r' | b'\n' => return at,
            b'\\' if bytes.get(at + 1).is_some_and(|next| !matches!(next, b'\r' | b'\n')) => at += 2,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

#[derive(Debug)]
pub(super) struct Node {
    pub range: Range<usize>,
    /// Whether the closing bracket is there; always so for a scalar.
    pub closed: bool,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Object(Vec<Property>),
    Array(Vec<Node>),
    Scalar,
}

#[derive(Debug)]
pub(super) struct Property {
    /// The key, quotes included.
    pub key: Range<usize>,
    pub has_colon: bool,
    pub value: Option<Node>,
}

impl Property {
    pub fn range(&self) -> Range<usize> {
        self.key.start..self.value.as_ref().map_or(self.key.end, |value| value.range.end)
    }
}

impl Node {
    pub fn properties(&self) -> &[Property] {
        if let Content::Object(properties) = &self.content { properties } else { &[] }
    }

    pub fn elements(&self) -> &[Node] {
        if let Content::Array(elements) = &self.content { elements } else { &[] }
    }

    pub fn is_scalar(&self) -> bool {
        matches!(self.content, Content::Scalar)
    }

    /// Whether a cursor there is between this node's brackets.
    pub fn surrounds(&self, offset: usize) -> bool {
        self.range.start < offset && (offset < self.range.end || offset == self.range.end && !self.closed)
    }

    /// The last property of that name, which is the one a duplicate leaves standing.
    pub fn get(&self, text: &str, key: &str) -> Option<&Property> {
        self.properties().iter().rev().find(|property| unquote(&text[property.key.clone()]) == key)
    }

    /// The string at a key.
    pub fn string(&self, text: &str, key: &str) -> Option<String> {
        let value = self.get(text, key)?.value.as_ref()?;
        value.is_scalar().then(|| unquote(&text[value.range.clone()]))
    }
}

#[derive(Debug)]
pub(super) struct Tree {
    pub tokens: Vec<Token>,
    pub root: Option<Node>,
}

impl Tree {
    pub fn of(text: &str) -> Self {
        let tokens = tokens(text);
        let significant: Vec<&Token> = tokens.iter().filter(|token| !token.is_comment()).collect();
        let root = Parser { tokens: &significant, at: 0, end: text.len() }.value(0);
        Self { root, tokens }
    }

    /// The value at a JSON pointer.
    pub fn focus(&self, text: &str, pointer: &str) -> Option<&Node> {
        steps(pointer)?.try_fold(self.root.as_ref()?, |node, step| match &node.content {
            Content::Object(_) => node.get(text, &step)?.value.as_ref(),
            Content::Array(elements) => elements.get(step.parse::<usize>().ok()?),
            Content::Scalar => None,
        })
    }

    fn until(&self, offset: usize) -> &[Token] {
        &self.tokens[..self.tokens.partition_point(|token| token.range.end <= offset)]
    }

    /// The last token before a place.
    pub fn last(&self, offset: usize) -> Option<&Token> {
        self.until(offset).last()
    }

    /// The last token before a place that is no comment.
    pub fn before(&self, offset: usize) -> Option<&Token> {
        self.until(offset).iter().rev().find(|token| !token.is_comment())
    }

    /// The first token from a place on that is no comment.
    pub fn after(&self, offset: usize) -> Option<&Token> {
        let start = self.tokens.partition_point(|token| token.range.start < offset);
        self.tokens[start..].iter().find(|token| !token.is_comment())
    }

    /// Whether a cursor there is within a comment.
    pub fn in_comment(&self, offset: usize) -> bool {
        self.tokens.iter().any(|token| match token.kind {
            TokenKind::LineComment => token.range.start < offset && offset <= token.range.end,
            TokenKind::BlockComment => token.range.start < offset && offset < token.range.end,
            _ => false,
        })
    }
}

struct Parser<'a> {
    tokens: &'a [&'a Token],
    at: usize,
    /// The length of the text.
    end: usize,
}

impl<'a> Parser<'a> {
    fn kind(&self, ahead: usize) -> Option<TokenKind> {
        self.tokens.get(self.at + ahead).map(|token| token.kind)
    }

    fn next(&mut self) -> Option<&'a Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).copied()
    }

    /// The value that begins at the next token; a closing bracket, colon or comma begins none and is left.
    fn value(&mut self, depth: usize) -> Option<Node> {
        use TokenKind::*;
        match self.kind(0)? {
            OpenObject | OpenArray if depth < MAX_DEPTH => Some(self.container(depth)),
            CloseObject | CloseArray | Colon | Comma => None,
            _ => {
                let range = self.next()?.range.clone();
                Some(Node { range, closed: true, content: Content::Scalar })
            }
        }
    }

    fn container(&mut self, depth: usize) -> Node {
        use TokenKind::*;
        let open = self.tokens[self.at];
        let is_object = open.kind == OpenObject;
        self.at += 1;
        let (mut properties, mut elements) = (Vec::new(), Vec::new());
        let closed = loop {
            match self.kind(0) {
                Some(CloseObject) if is_object => break true,
                Some(CloseArray) if !is_object => break true,
                None | Some(CloseObject | CloseArray) => break false,
                Some(Comma | Colon) => self.at += 1,
                Some(String | Word) if is_object => properties.push(self.property(depth)),
                _ => elements.extend(self.value(depth + 1)),
            }
        };
        // A missing bracket is thought to stand where the text goes on outside.
        let end = self.tokens.get(self.at).map(|token| if closed { token.range.end } else { token.range.start });
        let end = end.unwrap_or(self.end);
        self.at += usize::from(closed);
        let content = if is_object { Content::Object(properties) } else { Content::Array(elements) };
        Node { range: open.range.start..end, closed, content }
    }

    fn property(&mut self, depth: usize) -> Property {
        use TokenKind::*;
        let key = self.tokens[self.at].range.clone();
        self.at += 1;
        let has_colon = self.kind(0) == Some(Colon);
        self.at += usize::from(has_colon);
        // After a colon without value, the next key is no value.
        let next_is_key = self.kind(0) == Some(String) && self.kind(1) == Some(Colon);
        let value = if has_colon && !next_is_key { self.value(depth + 1) } else { None };
        Property { key, has_colon, value }
    }
}

/// A string's content; anything else as it is.
pub(super) fn unquote(token: &str) -> String {
    let Some(inner) = token.strip_prefix('"') else {
        return token.to_owned();
    };
    serde_json::from_str(token).unwrap_or_else(|_| inner.strip_suffix('"').unwrap_or(inner).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_half_typed_text_has_the_keys_it_shows() {
        let text = "{ \"detector\": { \"kind\": \"any\", \"of\": [{ \"ki\" ] }, // }\n \"window\": \n \"metric\": \"in";
        let tree = Tree::of(text);
        let root = tree.root.as_ref().unwrap();
        let keys = |node: &Node| -> Vec<String> {
            node.properties().iter().map(|property| unquote(&text[property.key.clone()])).collect()
        };
        assert_eq!(keys(root), ["detector", "window", "metric"]);
        assert!(!root.closed && root.properties()[1].value.is_none());
        assert_eq!(root.string(text, "metric").as_deref(), Some("in"));
        let of = tree.focus(text, "/detector/of/0").unwrap();
        assert_eq!(keys(of), ["ki"]);
    }

    #[test]
    fn nesting_without_end_is_read_flat() {
        assert!(Tree::of(&"[".repeat(1_000_000)).root.is_some());
        assert!(Tree::of(&"{\"a\":".repeat(200_000)).root.is_some());
    }

    proptest! {
        #[test]
        fn tokens_cover_all_but_white_space(text in "[{}\\[\\]:,\"/\\*\\\\ \na1ü]*") {
            let mut covered = text.clone().into_bytes();
            for token in Tree::of(&text).tokens {
                covered[token.range].fill(b' ');
            }
            prop_assert!(covered.iter().all(u8::is_ascii_whitespace), "{text:?}");
        }
    }
}
