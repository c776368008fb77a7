//! Turns a byte range of a file into line, column, source line and caret.

use super::{Code, Location};
use crate::{Error, Result};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use unicode_width::UnicodeWidthChar;

/// How much of a source line is shown, in characters.
const MAX_LINE: usize = 120;

/// How many faults of one file are shown.
const SHOWN: usize = 20;

/// A file's text and what it is called in messages.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name shown.
    pub file: String,
    /// All of it; not to be changed once a place was asked for.
    pub text: String,
    places: OnceLock<Places>,
}

/// Where lines begin, and how many characters come before every block of bytes: places of large files are found without
/// reading them anew.
#[derive(Debug, Clone)]
struct Places {
    /// The bytes at which lines begin.
    lines: Vec<usize>,
    /// Per [`BLOCK`] bytes, the characters that begin before it.
    characters: Vec<usize>,
}

const BLOCK: usize = 1024;

impl Places {
    fn of(text: &str) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let begins = |byte: &&u8| (**byte as i8) >= -0x40;
        let blocks = text.as_bytes().chunks(BLOCK).map(|block| block.iter().filter(begins).count());
        let characters = std::iter::once(0)
            .chain(blocks.scan(0, |sum, n| {
                *sum += n;
                Some(*sum)
            }))
            .collect();
        Self { lines, characters }
    }

    /// The characters before the byte `at`, which is a boundary.
    fn characters(&self, text: &str, at: usize) -> usize {
        let block = at / BLOCK;
        let begins = |byte: &&u8| (**byte as i8) >= -0x40;
        let rest = text.as_bytes().get(block * BLOCK..at).unwrap_or_default();
        self.characters.get(block).copied().unwrap_or_default() + rest.iter().filter(begins).count()
    }
}

/// One thing that is wrong with a file.
#[derive(Debug, Clone)]
#[must_use]
pub struct Fault {
    /// What kind of fault.
    pub code: Code,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// Bytes of the file that are at fault.
    pub span: Range<usize>,
    /// Printed behind the caret; may be empty.
    pub label: String,
    /// What would have been accepted; may be empty.
    pub expected: String,
}

impl Fault {
    /// A fault without label and expectation.
    pub fn new(code: Code, span: Range<usize>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), span, label: String::new(), expected: String::new() }
    }

    /// Prints `label` behind the caret.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Says what would have been accepted.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// `did you mean` behind the caret, if one of the valid names is near, and the list of all of them.
    pub fn one_of(self, name: &str, valid: &[&str]) -> Self {
        let label = match crate::error::nearest(name, valid.iter().copied()).first() {
            Some(near) => format!("did you mean `{near}`?"),
            None => String::new(),
        };
        self.label(label).expected(valid.join(", "))
    }
}

/// The line that a span begins on.
struct Line<'a> {
    /// From 1.
    number: usize,
    /// The byte of the file at which it begins.
    start: usize,
    /// Without its line end.
    text: &'a str,
    /// The part of the span that lies on this line, in bytes of `text`.
    marked: Range<usize>,
}

impl Source {
    /// A text from memory.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into(), places: OnceLock::new() }
    }

    /// Reads a file of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] when it is larger, [`Error::Faults`] with the place when it
    /// is not UTF-8.
    pub fn read(path: &Path, limit: u64) -> Result<Self> {
        use std::io::Read as _;
        let file = path.display().to_string();
        let read = || {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let bytes: Vec<u8> = read().map_err(Error::io("read", path))?;
        if bytes.len() as u64 > limit {
            let allowed = format!("at most {limit} bytes");
            return Err(Error::invalid(format!("the size of {file}"), format!("more than {limit} bytes"), allowed));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                let byte = e.as_bytes().get(at).copied().unwrap_or_default();
                // Up to the fault the lossy text has the bytes of the file.
                let source = Self::new(file, String::from_utf8_lossy(e.as_bytes()));
                let fault = Fault::new(Code::BadEncoding, at..at + 1, format!("byte {byte:#04x} is not UTF-8"));
                Err(source.refuse(&[fault.expected("text in UTF-8")]))
            }
        }
    }

    /// The text as JSON.
    ///
    /// # Errors
    /// [`Error::Faults`] with the place.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        // Some editors begin a file with a byte order mark, which JSON does not know.
        let mark = if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        serde_json::from_str(self.text.get(mark..).unwrap_or_default()).map_err(|e| {
            let before = if e.line() == 1 { mark } else { 0 };
            let at = self.offset(e.line(), e.column() + before);
            let message = e.to_string();
            // The place is shown by itself; what serde expects is set apart.
            let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(before, _)| before);
            let (message, expected) = message.split_once(", expected ").unwrap_or((message, ""));
            // A list of fewer values than an object has keys.
            let message = if message.starts_with("invalid length") { "a list, not an object" } else { message };
            let expected = expected.split_once(" with ").map_or(expected, |(before, _)| before);
            self.refuse(&[Fault::new(Code::JsonSyntax, at..at + 1, message).expected(in_words(expected))])
        })
    }

    fn places(&self) -> &Places {
        self.places.get_or_init(|| Places::of(&self.text))
    }

    /// The byte at which a line and column (both from 1, the column in bytes) begin, as parsers report them.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.places().lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        floor_boundary(&self.text, start.saturating_add(column.saturating_sub(1)))
    }

    /// The error that shows `faults`, up to a number of them.
    pub fn refuse(&self, faults: &[Fault]) -> Error {
        Error::Faults { rendered: self.render_all(faults) }
    }

    /// Faults one below the other, up to a number of them; the rest is counted.
    pub fn render_all(&self, faults: &[Fault]) -> String {
        let mut rendered: Vec<String> = faults.iter().take(SHOWN).map(|fault| self.render(fault)).collect();
        if faults.len() > SHOWN {
            rendered.push(format!("... and {} more in {}\n", faults.len() - SHOWN, visible(&self.file)));
        }
        rendered.join("\n").trim_end().to_string()
    }

    fn line(&self, span: &Range<usize>) -> Line<'_> {
        let text = self.text.as_str();
        let mut start = floor_boundary(text, span.start);
        // A fault at the very end of a file belongs behind its last line, not on the empty one after it.
        if start == text.len() && start > 0 {
            let trimmed = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text);
            start = trimmed.len();
        }
        let lines = &self.places().lines;
        let number = lines.partition_point(|line| *line <= start);
        let line_start = lines.get(number.saturating_sub(1)).copied().unwrap_or_default();
        let next = lines.get(number).map_or(text.len(), |next| next - 1);
        let line = text.get(line_start..next).unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let from = (start - line_start).min(line.len());
        let to = floor_boundary(text, span.end).saturating_sub(line_start).clamp(from, line.len());
        Line { number, start: line_start, text: line, marked: from..to }
    }

    /// Where a byte range begins.
    pub fn location(&self, span: &Range<usize>) -> Location {
        let line = self.line(span);
        let characters = |at: usize| self.places().characters(&self.text, at);
        let column = characters(line.start + line.marked.start) - characters(line.start) + 1;
        Location { file: self.file.clone(), line: line.number, column }
    }

    /// The fault with its place, source line and caret, ending in a line break.
    pub fn render(&self, fault: &Fault) -> String {
        let line = self.line(&fault.span);
        let Location { file, line: number, column } = self.location(&fault.span);
        let (shown, marked) = window(line.text, line.marked);
        let (before, rest) = shown.split_at(marked.start.min(shown.len()));
        let inside = rest.get(..marked.end - marked.start).unwrap_or_default();
        let indent: String = before.chars().flat_map(|c| std::iter::repeat_n(pad(c), width(c))).collect();
        let carets = "^".repeat(inside.chars().map(width).sum::<usize>().max(1));
        let gutter = " ".repeat(number.to_string().len());
        let space = if fault.label.is_empty() { "" } else { " " };
        let mut out = String::new();
        let _ = writeln!(out, "error[{}]: {}", fault.code, visible(&fault.message));
        let _ = writeln!(out, "{gutter} --> {}:{number}:{column}", visible(&file));
        let _ = writeln!(out, "{number} | {}", visible(&shown));
        let _ = writeln!(out, "{gutter} | {indent}{carets}{space}{}", visible(&fault.label));
        if !fault.expected.is_empty() {
            let _ = writeln!(out, "{gutter} = expected: {}", visible(&fault.expected));
        }
        out
    }
}

/// The nearest character boundary at or before `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// A tab stays a tab, so that the caret lines up whatever its width.
fn pad(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// Columns that a character takes on a terminal; what [`visible`] replaces takes one.
fn width(c: char) -> usize {
    if is_hidden(c) { 1 } else { c.width().unwrap_or(1) }
}

/// Whether a character changes how text is shown without being seen: control characters (terminal codes begin with
/// one; tabs and line breaks are among them), marks that reverse the direction of text, characters without width, and the
/// last two of every plane, which are no characters (XML refuses them).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || u32::from(c) & 0xfffe == 0xfffe
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with everything invisible and harmful replaced, but for tabs and line breaks.
pub fn visible(text: &str) -> String {
    let harmless = |c: char| matches!(c, '\t' | '\n') || !is_hidden(c);
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// What serde expected, in words of the file instead of Rust's.
fn in_words(expected: &str) -> String {
    const WORDS: [(&str, &str); 9] = [
        ("a sequence", "a list"),
        ("a map", "a table"),
        ("f64", "a number"),
        ("f32", "a number"),
        ("i64", "a whole number"),
        ("u32", "a whole number of at least 0"),
        ("u64", "a whole number of at least 0"),
        ("usize", "a whole number of at least 0"),
        ("a boolean", "true or false"),
    ];
    match WORDS.iter().find(|(rust, _)| *rust == expected) {
        Some((_, words)) => (*words).to_string(),
        None if expected.starts_with("struct ") || expected.starts_with("internally tagged enum ") => {
            "an object `{ ... }`".to_string()
        }
        None => expected.to_string(),
    }
}

/// The part of a very long line around what is marked, and where the mark is in it.
fn window(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    if line.chars().count() <= MAX_LINE {
        return (line.to_string(), marked);
    }
    let (before, rest) = line.split_at(marked.start);
    let (inside, after) = rest.split_at(marked.end - marked.start);
    let skipped = before.chars().count().saturating_sub(MAX_LINE / 2);
    let before: String = before.chars().skip(skipped).collect();
    let lead = if skipped > 0 { "…" } else { "" };
    let room = MAX_LINE.saturating_sub(before.chars().count());
    let short: String = inside.chars().take(room).collect();
    let tail: String = after.chars().take(room.saturating_sub(short.chars().count())).collect();
    let cut = short.len() < inside.len() || tail.len() < after.len();
    let start = lead.len() + before.len();
    (format!("{lead}{before}{short}{tail}{}", if cut { "…" } else { "" }), start..start + short.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, span: Range<usize>) -> String {
        let source = Source::new("p.toml", text);
        source.render(&Fault::new(Code::UnknownKey, span, "m").label("l"))
    }

    fn lines(text: &str, span: Range<usize>) -> Vec<String> {
        render(text, span).lines().skip(1).map(str::to_string).collect()
    }

    #[test]
    fn the_caret_stands_under_the_span() {
        assert_eq!(lines("a\nbc de\nf", 5..7), ["  --> p.toml:2:4", "2 | bc de", "  |    ^^ l"]);
    }

    #[test]
    fn tabs_are_kept_and_wide_characters_take_two_columns() {
        assert_eq!(lines("\tab", 1..2), ["  --> p.toml:1:2", "1 | \tab", "  | \t^ l"]);
        assert_eq!(lines("文é=x", 6..7), ["  --> p.toml:1:4", "1 | 文é=x", "  |     ^ l"]);
    }

    #[test]
    fn a_carriage_return_is_not_part_of_the_line() {
        assert_eq!(lines("ab\r\ncd\r\n", 4..8), ["  --> p.toml:2:1", "2 | cd", "  | ^^ l"]);
    }

    #[test]
    fn the_end_of_the_file_is_shown_behind_its_last_line() {
        for text in ["ab", "ab\n", "ab\r\n"] {
            assert_eq!(lines(text, text.len()..text.len()), ["  --> p.toml:1:3", "1 | ab", "  |   ^ l"]);
        }
        assert_eq!(lines("", 0..0), ["  --> p.toml:1:1", "1 | ", "  | ^ l"]);
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        let out = render("a\u{1b}[31m\u{202e}b", 0..1);
        assert!(!out.contains('\u{1b}') && !out.contains('\u{202e}'), "{out:?}");
    }

    #[test]
    fn a_very_long_line_is_cut_around_the_mark() {
        let text = format!("{}HERE{}", "a".repeat(500), "b".repeat(500));
        let shown = lines(&text, 500..504);
        assert!(shown[1].chars().count() < 130 && shown[1].contains("aHEREb"), "{shown:?}");
        assert_eq!(shown[2].find('^').map(|i| i - 4), shown[1].chars().position(|c| c == 'H').map(|i| i - 4));
    }

    #[test]
    fn places_are_those_of_a_reader_who_counts() {
        let text = "é文\n".repeat(700) + &"x é".repeat(900) + "\r\nlast";
        let source = Source::new("f", text.as_str());
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)).step_by(7) {
            let before = &text[..at];
            let line = before.rfind('\n').map_or(0, |i| i + 1);
            let Location { line: number, column, .. } = source.location(&(at..at));
            assert_eq!(number, before.matches('\n').count() + 1, "{at}");
            let counted = text[line..at].trim_end_matches('\r').chars().count() + 1;
            assert_eq!(column, counted, "{at}");
        }
        assert_eq!(source.offset(2, 1), "é文\n".len());
    }

    #[test]
    fn many_faults_are_counted_instead_of_shown() {
        let source = Source::new("f", "x".repeat(50));
        let faults: Vec<Fault> = (0..25).map(|i| Fault::new(Code::BadGlob, i..i + 1, "m")).collect();
        let shown = source.render_all(&faults);
        assert_eq!(shown.matches("error[").count(), 20);
        assert!(shown.ends_with("... and 5 more in f"));
    }

    #[test]
    fn any_span_in_any_text_renders() {
        for text in ["", "é", "\r", "\n\n", "a\r\r\n文", "\u{feff}x"] {
            for a in 0..text.len() + 3 {
                for b in 0..text.len() + 3 {
                    assert!(!render(text, a..b).is_empty());
                }
            }
        }
    }
}
