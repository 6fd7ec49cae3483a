//! Formatting: a key a line, comments where they are. What stands on one line stays so while it fits.

use super::tree::{Token, TokenKind, tokens};

const WIDTH: usize = 100;

/// The text with its white space set right. It must be valid JSON, with comments and trailing commas.
pub(super) fn format(text: &str, indent: &str) -> String {
    let tokens = tokens(text);
    let mut layout = Layout { text, tokens: &tokens, indent, flat: None, out: String::new() };
    layout.run();
    layout.out + "\n"
}

struct Layout<'a> {
    text: &'a str,
    tokens: &'a [Token],
    indent: &'a str,
    /// The token that closes the container being written on one line.
    flat: Option<usize>,
    out: String,
}

impl Layout<'_> {
    fn run(&mut self) {
        use TokenKind::*;
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate() {
            let previous = at.checked_sub(1).map(|at| &self.tokens[at]);
            let closes = matches!(token.kind, CloseObject | CloseArray);
            depth -= usize::from(closes && depth > 0);
            if let Some(previous) = previous {
                let empty = closes && matches!(previous.kind, OpenObject | OpenArray);
                let gap = &self.text[previous.range.end..token.range.start];
                let breaks = gap.matches('\n').count();
                match token.kind {
                    Colon | Comma if previous.kind != LineComment => {}
                    _ if empty => {}
                    // A comment stays on the line it is on.
                    LineComment | BlockComment if breaks == 0 => self.out.push(' '),
                    _ if previous.kind == BlockComment && breaks == 0 && !closes
                        || previous.kind == Colon && !token.is_comment() =>
                    {
                        self.out.push(' ');
                    }
                    _ if self.flat.is_some() => {
                        let tight = previous.kind == OpenArray || token.kind == CloseArray;
                        self.out.push_str(if tight { "" } else { " " });
                    }
                    _ => {
                        // One empty line may stay, between entries.
                        let empty_line = breaks > 1 && !closes && !matches!(previous.kind, OpenObject | OpenArray);
                        self.out.push_str(if empty_line { "\n\n" } else { "\n" });
                        self.out.push_str(&self.indent.repeat(depth));
                    }
                }
            }
            self.out.push_str(&self.text[token.range.clone()]);
            if matches!(token.kind, OpenObject | OpenArray) {
                depth += 1;
                self.flat = self.flat.or_else(|| self.fits(at));
            }
            if self.flat == Some(at) {
                self.flat = None;
            }
        }
    }

    /// The closing token, where everything up to it stands on one line that is short enough.
    fn fits(&self, open: usize) -> Option<usize> {
        let start = self.tokens[open].range.start;
        let line = self.out.rfind('\n').map_or(0, |end| end + 1);
        let mut room = WIDTH.saturating_sub(self.out[line..].chars().count());
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(open) {
            let text = &self.text[token.range.clone()];
            // Every token is followed by a space at most.
            room = room.checked_sub(text.chars().count() + 1)?;
            if token.kind == TokenKind::LineComment || self.text[start..token.range.end].contains('\n') {
                return None;
            }
            match token.kind {
                TokenKind::OpenObject | TokenKind::OpenArray => depth += 1,
                TokenKind::CloseObject | TokenKind::CloseArray => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_file_comes_out_as_one_would_write_it() {
        let text = "// ours\n{\"window\":3,   // passes\n\n\n\n\"inner\":{ \"kind\":\"adam\",\"beta_1\":0.9},\n/* next */ \
                    \"detector\":{\n\"kind\":\"any\",\"of\":[ {\"kind\":\"never\"} ],\n},\"evaluation\":{ } }";
        let expected = "// ours\n{\n  \"window\": 3, // passes\n\n  \"inner\": { \"kind\": \"adam\", \"beta_1\": 0.9 },\n  \
                        /* next */ \"detector\": {\n    \"kind\": \"any\",\n    \"of\": [{ \"kind\": \"never\" }],\n  },\n  \
                        \"evaluation\": {}\n}\n";
        assert_eq!(format(text, "  "), expected);
        assert_eq!(format(expected, "  "), expected);
    }

    fn json() -> impl Strategy<Value = String> {
        let scalar = prop_oneof![Just("1".to_owned()), Just("\"ü\\\"\"".to_owned()), Just("null".to_owned())];
        let space = "( |\n|\n\n\n|/\\*x\\*/|//y\n){0,2}";
        scalar.prop_recursive(4, 24, 4, move |value| {
            let entry = (space, value, space).prop_map(|(before, value, after)| format!("{before}{value}{after}"));
            let list = proptest::collection::vec(entry, 0..4);
            prop_oneof![
                list.clone().prop_map(|of| format!("[{}]", of.join(","))),
                list.prop_map(|of| {
                    let keyed = of.iter().enumerate().map(|(key, value)| format!("\"{key}\" :{value}"));
                    format!("{{{}}}", keyed.collect::<Vec<_>>().join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn formatting_twice_is_formatting_once_and_moves_nothing_but_white_space(text in json()) {
            let formatted = format(&text, "\t");
            prop_assert_eq!(format(&formatted, "\t"), &formatted[..], "{}", text);
            let tokens_of = |text: &str| -> Vec<String> {
                tokens(text).into_iter().map(|token| text[token.range].to_owned()).collect()
            };
            prop_assert_eq!(tokens_of(&text), tokens_of(&formatted));
        }
    }
}
