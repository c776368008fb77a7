//! A comparison as text for a terminal.

use super::compare::Row;
use crate::diagnostic::is_hidden;
use crate::stats::Accuracy;
use std::fmt::Write;
use unicode_width::UnicodeWidthChar;

/// The widest line.
const WIDTH: usize = 110;
const GAP: usize = 2;

/// The rows as aligned columns, a line per kind of images, of at most 110 columns; severities are collapsed to their
/// mean, and their changes follow in a table of their own. Empty for no rows.
pub fn render(rows: &[Row]) -> String {
    let kinds: Vec<&Row> = rows.iter().filter(|r| r.severity.is_none()).collect();
    if kinds.is_empty() {
        return String::new();
    }
    let controls = kinds.iter().any(|r| !r.controls.is_empty());
    let head = ["", "before, %", "after, %", "change", "p", "controls", "worst class, %"];
    let mut lines = vec![head.map(str::to_string)];
    lines.extend(kinds.iter().map(|row| {
        [
            name(&row.name),
            interval(row.before),
            interval(row.after),
            points(row.change),
            probability(row.p),
            range(&row.controls),
            String::new(),
        ]
    }));
    let used: usize = (0..head.len() - 1).filter(|&c| controls || c != 5).map(|c| widest(&lines, c) + GAP).sum();
    for (line, row) in lines.iter_mut().skip(1).zip(&kinds) {
        line[6] = worst(row, WIDTH.saturating_sub(used + GAP));
    }
    let mut out = String::new();
    write_table(&lines, &[3, 4], |column| controls || column != 5, &mut out);
    let changes = changes(rows);
    if changes.len() > 1 {
        out.push('\n');
        let columns: Vec<usize> = (1..=5).collect();
        write_table(&changes, &columns, |_| true, &mut out);
    }
    out += "\n  Before and after: with 95 % Wilson intervals; corruptions are means over severities. Changes are in points.\n";
    out
}

/// The changes at single severities, a line per corruption; the first line is the head.
fn changes(rows: &[Row]) -> Vec<[String; 6]> {
    let mut lines = vec![["change by severity", "1", "2", "3", "4", "5"].map(str::to_string)];
    let mut open: [String; 6] = Default::default();
    for row in rows {
        match row.severity {
            Some(severity) => {
                if let Some(cell) = open.get_mut(usize::from(severity)) {
                    *cell = points(row.change);
                }
            }
            None if row.mean => {
                open[0] = name(&row.name);
                lines.push(std::mem::take(&mut open));
            }
            None => open = Default::default(),
        }
    }
    lines
}

fn write_table<const N: usize>(
    lines: &[[String; N]],
    right: &[usize],
    shown: impl Fn(usize) -> bool,
    out: &mut String,
) {
    let widths: [usize; N] = std::array::from_fn(|c| widest(lines, c));
    for line in lines {
        let mut text = String::new();
        for (c, cell) in line.iter().enumerate().filter(|(c, _)| shown(*c)) {
            let blanks = " ".repeat(widths[c].saturating_sub(width(cell)));
            let (before, after) = if right.contains(&c) { (blanks.as_str(), "") } else { ("", blanks.as_str()) };
            let _ = write!(text, "{:GAP$}{before}{cell}{after}", "");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

/// `59.8 [57.6, 61.9]`, in per cent.
fn interval(a: Accuracy) -> String {
    if a.total == 0 {
        return "not measured".to_string();
    }
    let (low, high) = a.wilson();
    format!("{:.1} [{:.1}, {:.1}]", 100.0 * a.rate(), 100.0 * low, 100.0 * high)
}

/// `+1.3`; nothing is `+0.0`.
fn points(change: f64) -> String {
    format!("{:+.1}", (change * 10.0).round() / 10.0 + 0.0)
}

fn probability(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_string() } else { format!("{p:.4}") }
}

/// `38.1 to 46.1`, in per cent.
fn range(controls: &[Accuracy]) -> String {
    let rates = || controls.iter().filter(|a| a.total > 0).map(|a| 100.0 * a.rate());
    match (rates().reduce(f64::min), rates().reduce(f64::max)) {
        (Some(low), Some(high)) => format!("{low:.1} to {high:.1}"),
        _ => String::new(),
    }
}

/// `cat 41.0 to 38.2`, or `cat 41.0, dog 38.2`; names are cut off where there is no room.
fn worst(row: &Row, room: usize) -> String {
    let (Some((old, before)), Some((new, after))) = (&row.worst_class_before, &row.worst_class_after) else {
        return String::new();
    };
    let (old, new) = (name(old), name(new));
    let text = |most: usize| {
        let (a, b) = (100.0 * before.rate(), 100.0 * after.rate());
        if old == new {
            format!("{} {a:.1} to {b:.1}", shortened(&old, most))
        } else {
            format!("{} {a:.1}, {} {b:.1}", shortened(&old, most), shortened(&new, most))
        }
    };
    let most = (1..=width(&old).max(width(&new))).rev().find(|&most| width(&text(most)) <= room);
    text(most.unwrap_or(1))
}

/// On one line, without hidden characters, of at most 24 columns.
fn name(text: &str) -> String {
    let shown: String = text.chars().map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    shortened(&shown, 24)
}

/// `text`, or its beginning and an ellipsis.
fn shortened(text: &str, most: usize) -> String {
    if width(text) <= most {
        return text.to_string();
    }
    let (mut out, mut used) = (String::new(), 1);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > most {
            break;
        }
        out.push(c);
    }
    out + "…"
}

fn widest<const N: usize>(lines: &[[String; N]], column: usize) -> usize {
    lines.iter().map(|line| width(&line[column])).max().unwrap_or(0)
}

fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}
