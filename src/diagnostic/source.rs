//! A file's text, and where things stand in it.

use super::{Code, Fault, Location};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

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

/// The line that a span begins on.
pub(super) struct Line<'a> {
    /// From 1.
    pub number: usize,
    /// The byte of the file at which it begins.
    start: usize,
    /// Without its line end.
    pub text: &'a str,
    /// The part of the span that lies on this line, in bytes of `text`.
    pub marked: Range<usize>,
}

impl Source {
    /// A text from memory.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into(), places: OnceLock::new() }
    }

    /// Reads a file of at most `limit` bytes: UTF-8, or UTF-16 where it begins with the mark of that.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] when it is larger, [`Error::Faults`] with the place when it
    /// is neither.
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
        if let Some(decoded) = utf16(&bytes) {
            return decoded.map(|text| Self::new(&file, text)).map_err(|lossy| {
                let at = lossy.find(char::REPLACEMENT_CHARACTER).unwrap_or_default();
                let fault = Fault::new(Code::BadEncoding, at..at + 1, "the file begins as UTF-16 and is not");
                Self::new(&file, lossy).refuse(&[fault.expected("text in UTF-8 or UTF-16")])
            });
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(file, text)),
            Err(e) => {
                let at = e.utf8_error().valid_up_to();
                let byte = e.as_bytes().get(at).copied().unwrap_or_default();
                // Up to the fault the lossy text has the bytes of the file.
                let source = Self::new(file, String::from_utf8_lossy(e.as_bytes()));
                let fault = Fault::new(Code::BadEncoding, at..at + 1, format!("byte {byte:#04x} is not UTF-8"));
                Err(source.refuse(&[fault.expected("text in UTF-8 (of a spreadsheet: save it as `CSV UTF-8`)")]))
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

    pub(super) fn line(&self, span: &Range<usize>) -> Line<'_> {
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

/// The nearest character boundary at or before `index`.
fn floor_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The text of a file that begins with the mark of UTF-16; what can be read of it where it is wrong.
fn utf16(bytes: &[u8]) -> Option<Result<String, String>> {
    let unit = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return None,
    };
    // Half a unit at the end is none.
    let units: Vec<u16> = bytes.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).map_or(0xdfff, unit)).collect();
    Some(String::from_utf16(&units).map_err(|_| String::from_utf16_lossy(&units)))
}
