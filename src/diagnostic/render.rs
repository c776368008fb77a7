//! Turns a byte range of a file into line, column, source line and caret.

use super::{Code, FileFaults, Location, PlacedFault, Source};
use crate::Error;
use std::fmt::Write as _;
use std::ops::Range;
use unicode_width::UnicodeWidthChar;

/// How much of a source line is shown, in characters.
const MAX_LINE: usize = 120;

/// How many faults of one file are shown.
const SHOWN: usize = 20;

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

impl Source {
    /// The error that holds `faults`, and shows them up to a number.
    pub fn refuse(&self, faults: &[Fault]) -> Error {
        Error::Faults { files: vec![self.placed(faults)] }
    }

    /// The faults with their places.
    pub fn placed(&self, faults: &[Fault]) -> FileFaults {
        let placed = |fault: &Fault| PlacedFault {
            code: fault.code,
            message: fault.message.clone(),
            location: self.location(&fault.span),
            label: fault.label.clone(),
            expected: fault.expected.clone(),
        };
        let (file, rendered) = (self.file.clone(), self.render_all(faults));
        FileFaults { file, faults: faults.iter().map(placed).collect(), rendered }
    }

    /// Faults one below the other, up to a number of them; the rest is counted.
    pub fn render_all(&self, faults: &[Fault]) -> String {
        let mut rendered: Vec<String> = faults.iter().take(SHOWN).map(|fault| self.render(fault)).collect();
        if faults.len() > SHOWN {
            rendered.push(format!("... and {} more in {}\n", faults.len() - SHOWN, visible(&self.file)));
        }
        rendered.join("\n").trim_end().to_string()
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
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
        || is_ignorable(c)
}

/// Whether a character has no shape of its own, so that a word with it looks like the word without it: Unicode's
/// `Default_Ignorable_Code_Point`.
#[rustfmt::skip]
pub fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The text with everything invisible and harmful replaced, but for tabs and line breaks.
pub fn visible(text: &str) -> String {
    let harmless = |c: char| matches!(c, '\t' | '\n') || !is_hidden(c);
    text.chars().map(|c| if harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
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

    #[test]
    fn what_unicode_calls_ignorable_is() {
        let unicode = regex::Regex::new(r"^\p{Default_Ignorable_Code_Point}$").unwrap();
        for c in (0..=0x10_ffff).filter_map(char::from_u32) {
            assert_eq!(is_ignorable(c), unicode.is_match(c.encode_utf8(&mut [0; 4])), "{c:?}");
        }
    }

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
