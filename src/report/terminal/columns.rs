//! Aligned columns with colours.

use super::Style;
use std::io::{self, Write};

/// A look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
}

impl Paint {
    /// `text` in this look.
    pub fn on(self, text: &str, color: bool) -> String {
        let code = match self {
            Paint::Plain => return text.to_string(),
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Yellow => "33",
            Paint::Green => "32",
        };
        if color && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_string() }
    }

    /// `text` in this look, and bold.
    pub fn bold(self, text: &str, color: bool) -> String {
        if color { format!("\u{1b}[1m{}", self.on(text, true)) } else { text.to_string() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Text that was escaped, and its look.
#[derive(Debug)]
pub(super) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    pub fn plain(text: String) -> Self {
        Self { text, paint: Paint::Plain }
    }

    pub fn painted(text: String, paint: Paint) -> Self {
        Self { text, paint }
    }
}

/// Rows that are aligned when all of them are known. Columns without an alignment are flush left.
#[derive(Debug)]
pub(super) struct Columns {
    align: Vec<Align>,
    rows: Vec<Vec<Cell>>,
}

/// The last column is dropped when less than this is left of the line.
const LEAST: usize = 12;
/// Other columns are never wider.
const WIDEST: usize = 40;

impl Columns {
    pub fn new(align: &[Align]) -> Self {
        Self { align: align.to_vec(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<Cell>) {
        self.rows.push(cells);
    }

    /// Two blanks before every column; what goes beyond the width is cut off with an ellipsis.
    pub fn write(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..count)
            .map(|i| self.rows.iter().filter_map(|r| r.get(i)).map(|c| width(&c.text)).max().unwrap_or(0).min(WIDEST))
            .collect();
        for row in &self.rows {
            let (mut text, mut used) = (String::new(), 0);
            for (i, (cell, &column)) in row.iter().zip(&widths).enumerate() {
                let last = i + 1 == row.len();
                let left = style.width.saturating_sub(used + 2);
                if left < LEAST && i > 0 {
                    break;
                }
                let shown = shortened(&cell.text, if last { left } else { column.min(left) });
                let missing = column.saturating_sub(width(&shown));
                let (before, after) = match self.align.get(i) {
                    Some(Align::Right) => (missing, 0),
                    _ if last => (0, 0),
                    _ => (0, missing),
                };
                text += &" ".repeat(2 + before);
                text += &cell.paint.on(&shown, style.color);
                text += &" ".repeat(after);
                used += 2 + column;
            }
            writeln!(out, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

/// Words on lines of at most `most` characters, longer words on a line of their own; each line begins with `indent`
/// blanks, those after the first with two more.
pub(super) fn write_wrapped(text: &str, indent: usize, most: usize, out: &mut dyn Write) -> io::Result<()> {
    let mut current = " ".repeat(indent);
    let mut empty = true;
    for word in text.split(' ').filter(|w| !w.is_empty()) {
        if !empty && width(&current) + 1 + width(word) > most {
            writeln!(out, "{current}")?;
            current = " ".repeat(indent + 2);
            empty = true;
        }
        if !empty {
            current.push(' ');
        }
        current.push_str(word);
        empty = false;
    }
    writeln!(out, "{current}")
}

/// `text`, or its beginning and an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_string();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += char_width(c);
        if used + 1 > most {
            break;
        }
        out.push(c);
    }
    out + "…"
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// 2 for East Asian wide characters and emoji, else 1.
fn char_width(c: char) -> usize {
    let wide = matches!(u32::from(c),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60
        | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(rows: &[[&str; 3]], width: usize) -> String {
        let mut columns = Columns::new(&[Align::Left, Align::Right, Align::Left]);
        rows.iter().for_each(|r| columns.row(r.iter().map(|c| Cell::plain(c.to_string())).collect()));
        let mut out = Vec::new();
        columns.write(Style { color: false, width }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        assert_eq!(shown(&[["猫", "1", "x"], ["ab c", "200", "y"]], 80), "  猫      1  x\n  ab c  200  y\n");
    }

    #[test]
    fn long_lines_are_cut_with_an_ellipsis() {
        assert_eq!(shown(&[["a", "1", "a very long reason indeed"]], 24), "  a  1  a very long rea…\n");
    }

    #[test]
    fn sentences_are_wrapped_between_words() {
        let mut out = Vec::new();
        write_wrapped("one two three incomprehensibilities", 2, 12, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "  one two\n    three\n    incomprehensibilities\n");
    }

    #[test]
    fn colour_is_only_used_when_asked_for() {
        assert_eq!(Paint::Red.bold("x", false), "x");
        assert_eq!(Paint::Red.bold("x", true), "\u{1b}[1m\u{1b}[31mx\u{1b}[0m");
    }
}
