//! Places in bytes, as `config` has them, and in lines and UTF-16 units, as the protocol has them.

use std::ops::Range;

use lsp_types::{Position, TextDocumentContentChangeEvent};

use crate::config::document::Units;

/// A text's lines.
pub(super) struct Lines<'a> {
    text: &'a str,
    units: Units<'a>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub fn of(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let ends_line = |at: usize| match bytes[at] {
            b'\n' => true,
            // A lone carriage return ends a line too.
            b'\r' => bytes.get(at + 1) != Some(&b'\n'),
            _ => false,
        };
        let breaks = (0..bytes.len()).filter(|at| ends_line(*at)).map(|at| at + 1);
        Self { text, units: Units::of(text, char::len_utf16), starts: std::iter::once(0).chain(breaks).collect() }
    }

    pub fn position(&self, offset: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= offset) - 1;
        let units = self.units.between(self.starts[line]..offset);
        Position::new(line as u32, units as u32)
    }

    pub fn range(&self, bytes: Range<usize>) -> lsp_types::Range {
        lsp_types::Range::new(self.position(bytes.start), self.position(bytes.end))
    }

    /// The place in bytes; past the end of a line or text it is that end, as the protocol has it.
    pub fn offset(&self, position: Position) -> usize {
        let Some(&start) = self.starts.get(position.line as usize) else {
            return self.text.len();
        };
        let next = self.starts.get(position.line as usize + 1).copied().unwrap_or(self.text.len());
        let line = self.text[start..next].trim_end_matches(['\r', '\n']);
        let mut units = 0;
        for (at, character) in line.char_indices() {
            if units >= position.character as usize {
                return start + at;
            }
            units += character.len_utf16();
        }
        start + line.len()
    }

    /// The white space a line begins with.
    pub fn indent(&self, offset: usize) -> &'a str {
        let line = &self.text[self.starts[self.starts.partition_point(|start| *start <= offset) - 1]..];
        &line[..line.len() - line.trim_start_matches([' ', '\t']).len()]
    }
}

/// Carry out a change.
pub(super) fn apply(text: &mut String, change: TextDocumentContentChangeEvent) {
    let Some(range) = change.range else {
        *text = change.text;
        return;
    };
    let lines = Lines::of(text);
    let (start, end) = (lines.offset(range.start), lines.offset(range.end));
    text.replace_range(start.min(end)..end.max(start), &change.text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_utf_16_units() {
        let text = "{ // 🦀ü\r\n \"a\": 1\n}";
        let lines = Lines::of(text);
        assert_eq!(lines.position(text.find('ü').unwrap()), Position::new(0, 7));
        assert_eq!(lines.position(text.find("1\n").unwrap()), Position::new(1, 6));
        for (offset, _) in text.char_indices().filter(|(_, character)| *character != '\n') {
            assert_eq!(lines.offset(lines.position(offset)), offset);
        }
        // Past the end of a line, of the text, and within a surrogate pair.
        assert_eq!(lines.offset(Position::new(0, 99)), text.find('\r').unwrap());
        assert_eq!(lines.offset(Position::new(99, 0)), text.len());
        assert_eq!(lines.offset(Position::new(0, 6)), text.find('ü').unwrap());
    }

    #[test]
    fn places_on_a_long_line_are_counted_alike_across_marks() {
        let text = "aü🦀\u{800}".repeat(700) + "\n" + &"🦀".repeat(300);
        let lines = Lines::of(&text);
        for (offset, _) in text.char_indices().chain([(text.len(), ' ')]) {
            let line = text[..offset].rfind('\n').map_or(0, |end| end + 1);
            let expected = text[line..offset].encode_utf16().count() as u32;
            assert_eq!(lines.position(offset), Position::new(u32::from(line > 0), expected), "{offset}");
        }
    }

    #[test]
    fn a_change_lands_where_the_client_means_it() {
        let mut text = "{ // 🦀\n}".to_owned();
        let range = Some(lsp_types::Range::new(Position::new(0, 5), Position::new(0, 7)));
        apply(&mut text, TextDocumentContentChangeEvent { range, range_length: None, text: "crab".into() });
        assert_eq!(text, "{ // crab\n}");
        apply(&mut text, TextDocumentContentChangeEvent { range: None, range_length: None, text: "{}".into() });
        assert_eq!(text, "{}");
    }
}
