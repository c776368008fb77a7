//! A table of comma-separated values with named columns, read strictly.

use crate::diagnostic::{Code, Fault, Location, Source};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// How large a table may be, in bytes.
const LIMIT: u64 = 1 << 28;

/// A table in memory. Its first row has the names of the columns.
#[derive(Debug)]
pub(crate) struct Table {
    source: Source,
    names: Vec<String>,
    /// Each with the byte at which it begins.
    rows: Vec<(usize, csv::StringRecord)>,
}

/// One cell: its text and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Cell<'a> {
    table: &'a Table,
    row: usize,
    column: usize,
    pub text: &'a str,
}

impl Table {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::Faults`] for what is no CSV: a row of another length than the first, a quote that is
    /// not closed, no row at all.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(Source::read(path, LIMIT)?)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(source: Source) -> Result<Self> {
        let text = source.text.as_str();
        if let Some(at) = unclosed_quote(text) {
            let fault = Fault::new(Code::CsvSyntax, at..at + 1, "this quote is never closed");
            return Err(source.refuse(&[fault.expected("a second `\"`; inside quotes a quote is written `\"\"`")]));
        }
        let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        let body = text.get(start..).unwrap_or_default();
        let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(body.as_bytes());
        let (mut names, mut rows, mut faults) = (None, Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(|e| {
                let at = e.position().map_or(0, |p| start + p.byte() as usize);
                source.refuse(&[Fault::new(Code::CsvSyntax, at..at + 1, e.to_string())])
            })?;
            let begins = record.position().map_or(0, |p| p.byte() as usize);
            // The reader counts the line breaks before a row as part of it.
            let blank = body.get(begins..).map_or(0, |rest| rest.len() - rest.trim_start_matches(['\r', '\n']).len());
            let at = start + begins + blank;
            match &names {
                None => names = Some(record.iter().map(|name| name.trim().to_string()).collect::<Vec<_>>()),
                Some(names) if names.len() != record.len() => {
                    let message = match record.len() {
                        1 => "the row has 1 cell".to_string(),
                        n => format!("the row has {n} cells"),
                    };
                    let expected = format!("{}, as the first row: {}", names.len(), names.join(", "));
                    let end = at + text.get(at..).and_then(|rest| rest.find('\n')).unwrap_or(text.len() - at);
                    faults.push(Fault::new(Code::CsvSyntax, at..end, message).expected(expected));
                }
                Some(_) => rows.push((at, record)),
            }
        }
        if !faults.is_empty() {
            return Err(source.refuse(&faults));
        }
        let empty = |what: &str| {
            let expected = "a first row with the names of the columns, then a row per unit";
            source.refuse(&[Fault::new(Code::CsvSyntax, text.len()..text.len(), what).expected(expected)])
        };
        let Some(names) = names else { return Err(empty("the table is empty")) };
        if rows.is_empty() {
            return Err(empty("the table has no row but the names of its columns"));
        }
        Ok(Self { source, names, rows })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The column called one of `names`.
    ///
    /// # Errors
    /// [`Error::Faults`] when there are several.
    pub fn column(&self, names: &[&str]) -> Result<Option<usize>> {
        let mut found = self.names.iter().enumerate().filter(|(_, n)| names.iter().any(|m| n.eq_ignore_ascii_case(m)));
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((i, _)), None) => Ok(Some(i)),
            (Some((_, one)), Some((_, two))) => {
                let message = if one == two {
                    format!("the column `{one}` stands twice")
                } else {
                    format!("the columns `{one}` and `{two}` mean the same")
                };
                Err(self.header_fault(Code::CsvSyntax, message, format!("one column: {}", names.join(" or "))))
            }
        }
    }

    /// As [`column`](Self::column), of one that must be there.
    ///
    /// # Errors
    /// As there, and [`Error::Faults`] when there is none.
    pub fn required(&self, names: &[&str]) -> Result<usize> {
        if let Some(i) = self.column(names)? {
            return Ok(i);
        }
        let mut message = format!("the table has no column `{}`", names.join("` or `"));
        let valid = self.names.iter().map(String::as_str);
        if let [only] = self.names.as_slice()
            && only.contains([';', '\t'])
        {
            message += "; columns are separated by commas";
        } else if let Some(near) =
            names.iter().find_map(|name| crate::error::nearest(name, valid.clone()).into_iter().next())
        {
            message += &format!("; is it `{near}`?");
        }
        Err(self.header_fault(Code::MissingColumn, message, format!("a column named {}", names.join(" or "))))
    }

    fn header_fault(&self, code: Code, message: String, expected: String) -> Error {
        let first = self.source.text.lines().next().unwrap_or_default();
        self.source.refuse(&[Fault::new(code, 0..first.len(), message).expected(expected)])
    }

    /// How many rows there are, the names not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The cell in row `row` of column `column`; empty outside the table.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let text = self.rows.get(row).and_then(|(_, record)| record.get(column)).unwrap_or_default();
        Cell { table: self, row, column, text }
    }

    /// The error that shows these faults; `Ok` if there are none.
    pub fn refuse(&self, faults: &[Fault]) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { Err(self.source.refuse(faults)) }
    }
}

impl Cell<'_> {
    /// The bytes of the file between comma and comma, without the quotes around them.
    pub fn span(&self) -> Range<usize> {
        let text = self.table.source.text.as_str();
        let mut at = self.table.rows.get(self.row).map_or(text.len(), |(at, _)| *at);
        for _ in 0..self.column {
            at = cell_at(text, at).map_or(text.len(), |cell| cell.end + 1);
        }
        let cell = cell_at(text, at).unwrap_or(text.len()..text.len());
        let inner = text.get(cell.clone()).and_then(|c| c.strip_prefix('"')?.strip_suffix('"'));
        inner.map_or(cell.clone(), |inner| cell.start + 1..cell.start + 1 + inner.len())
    }

    /// Where it stands.
    pub fn location(&self) -> Location {
        self.table.source.location(&self.span())
    }

    /// A fault of this cell.
    pub fn fault(&self, code: Code, message: impl Into<String>) -> Fault {
        Fault::new(code, self.span(), message)
    }
}

/// The byte of an opening quote to which there is no closing one. The reader takes the rest of the file for its text.
fn unclosed_quote(text: &str) -> Option<usize> {
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while at < text.len() {
        match cell_at(text, at) {
            Some(cell) => at = cell.end + 1,
            None => return Some(at),
        }
    }
    None
}

/// The bytes of the cell that begins at byte `at`, quotes included, up to the comma or line break; `None` if it begins with
/// a quote that is never closed.
fn cell_at(text: &str, at: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let mut end = at;
    if bytes.get(at) == Some(&b'"') {
        end += 1;
        loop {
            match (bytes.get(end)?, bytes.get(end + 1)) {
                (b'"', Some(b'"')) => end += 2,
                (b'"', _) => break,
                _ => end += 1,
            }
        }
    }
    let rest = bytes.get(end..).unwrap_or_default();
    let length = rest.iter().position(|byte| matches!(byte, b',' | b'\n' | b'\r')).unwrap_or(rest.len());
    Some(at..end + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Table> {
        Table::parse(Source::new("t.csv", text))
    }

    fn refused(text: &str) -> String {
        parse(text).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn cells_know_their_place() -> Result<()> {
        let table = parse("\u{feff}layer,unit,description\r\nconv1,0,\"a, b\"\r\n\r\nconv1,17,c\r\n")?;
        assert_eq!((table.len(), table.required(&["site", "layer"])?), (2, 0));
        assert_eq!((table.cell(0, 2).text, table.cell(1, 1).text), ("a, b", "17"));
        assert_eq!(table.cell(0, 2).location().to_string(), "t.csv:2:10");
        assert_eq!(table.cell(1, 1).location().to_string(), "t.csv:4:7");
        assert_eq!(table.column(&["score"])?, None);
        Ok(())
    }

    #[test]
    fn the_caret_points_at_the_cell() -> Result<()> {
        let table = parse("layer,unit,description,score\nfc,0,a dog,a\nfc,0,,\"0\"\nfc,1,\"é\n\"\"fc\"\"\",fc\n")?;
        let place = |row, column| table.cell(row, column).location().to_string();
        assert_eq!([place(0, 0), place(0, 2), place(0, 3)], ["t.csv:2:1", "t.csv:2:6", "t.csv:2:12"]);
        assert_eq!([place(1, 1), place(1, 2), place(1, 3)], ["t.csv:3:4", "t.csv:3:6", "t.csv:3:8"]);
        assert_eq!([place(2, 2), place(2, 3)], ["t.csv:4:7", "t.csv:5:9"]);
        assert_eq!(place(3, 0), "t.csv:5:11", "outside the table: its end");
        Ok(())
    }

    /// A cell's text, and whether it is written in quotes that it does not need.
    fn cell() -> impl Strategy<Value = (String, bool)> {
        ("[a-b0,é漢\"\r\n ]{0,5}", any::<bool>())
    }

    proptest! {
        #[test]
        fn every_cell_is_found_where_it_was_written(
            rows in prop::collection::vec(prop::collection::vec(cell(), 3), 1..6),
            end in prop::sample::select(vec!["\n", "\r\n", "\n\n"]),
            mark in any::<bool>(),
            last in any::<bool>(),
        ) {
            let mut text = format!("{}one,two,three{end}", if mark { "\u{feff}" } else { "" });
            let mut places = Vec::new();
            for (i, row) in rows.iter().enumerate() {
                for (j, (value, quotes)) in row.iter().enumerate() {
                    let quoted = *quotes || value.contains([',', '"', '\r', '\n']);
                    let (quote, written) = if quoted { ("\"", value.replace('"', "\"\"")) } else { ("", value.clone()) };
                    let start = text.len() + quote.len();
                    places.push(((i, j), value, start..start + written.len()));
                    text += &[quote, &written, quote, if j == 2 { "" } else { "," }].concat();
                }
                text += if last || i + 1 < rows.len() { end } else { "" };
            }
            let table = parse(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(table.len(), rows.len());
            for ((i, j), value, place) in places {
                let cell = table.cell(i, j);
                prop_assert_eq!(cell.text, value);
                prop_assert_eq!(cell.span(), place, "{:?}", text);
            }
        }
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_place() {
        assert!(refused("").contains("the table is empty"));
        assert!(refused("a,b\n").contains("no row but the names"));
        let short = refused("a,b\n1,2\n3\n4,5,6\n");
        assert!(
            short.contains("t.csv:3:1") && short.contains("has 1 cell\n") && short.contains("t.csv:4:1"),
            "{short}"
        );
        let open = refused("a,b\n1,\"2\n3,4\n");
        assert!(open.contains("t.csv:2:3") && open.contains("never closed"), "{open}");
        assert_eq!(refused("a,b\n1,5\" screen\n"), "");
        assert_eq!(refused("a,b\n1,\"5\"\" screen\"\n"), "");
    }

    #[test]
    fn columns_are_asked_for_by_name() {
        let table = |names: &str| parse(&format!("{names}\n1,2\n"));
        let message = |names: &str, asked: &[&str]| match table(names) {
            Ok(table) => table.required(asked).err().map(|e| e.to_string()).unwrap_or_default(),
            Err(e) => e.to_string(),
        };
        assert!(message("layr,unit", &["layer", "site"]).contains("is it `layr`?"));
        assert!(message("layer,site", &["layer", "site"]).contains("mean the same"));
    }
}
