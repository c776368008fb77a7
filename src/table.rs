//! A table of comma-separated values with named columns, read strictly. Semicolons or tabs may stand for the commas.

use crate::diagnostic::{Code, Fault, Location, Source};
use crate::{Error, Result};
use std::ops::Range;
use std::path::Path;

/// How large a table may be, in bytes.
const LIMIT: u64 = 1 << 28;

const ROWS: &str = "a first row with the names of the columns, then a row per unit";

/// A table in memory. Its first row has the names of the columns.
#[derive(Debug)]
pub(crate) struct Table {
    source: Source,
    names: Vec<String>,
    /// What stands between two cells.
    delimiter: u8,
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
        let (start, delimiter) = layout(text);
        let body = text.get(start..).unwrap_or_default();
        let first = start..start + body.find(['\r', '\n']).unwrap_or(body.len());
        let wrong = |code, message| {
            let fault = Fault::new(code, first.clone(), message);
            Err(source.refuse(&[fault.expected(ROWS)]))
        };
        if text.get(first.clone()).is_some_and(|line| line.contains('\0')) {
            return wrong(
                Code::BadEncoding,
                "the first row has zero bytes, as UTF-16 without its mark has: save it as UTF-8",
            );
        }
        if body.trim_start().starts_with(['{', '[']) {
            return wrong(Code::CsvSyntax, "this looks like JSON, which is no table");
        }
        if let Some(at) = unclosed_quote(text, start, delimiter) {
            let fault = Fault::new(Code::CsvSyntax, at..at + 1, "this quote is never closed");
            return Err(source.refuse(&[fault.expected("a second `\"`; inside quotes a quote is written `\"\"`")]));
        }
        let mut reader = csv::ReaderBuilder::new();
        let mut reader = reader.delimiter(delimiter).flexible(true).has_headers(false).from_reader(body.as_bytes());
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
        let empty =
            |what: &str| source.refuse(&[Fault::new(Code::CsvSyntax, text.len()..text.len(), what).expected(ROWS)]);
        let Some(names) = names else { return Err(empty("the table is empty")) };
        if rows.is_empty() {
            return Err(empty("the table has no row but the names of its columns"));
        }
        Ok(Self { source, names, delimiter, rows })
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
        Err(self.missing(names, &[], &format!("a column named {}", names.join(" or "))))
    }

    /// The error of a table that has none of these columns. `others` mean something else, however near their names are.
    pub fn missing(&self, names: &[&str], others: &[&str], expected: &str) -> Error {
        let mut message = format!("the table has no column `{}`", names.join("` or `"));
        let valid = self.names.iter().map(String::as_str).filter(|n| !others.iter().any(|o| n.eq_ignore_ascii_case(o)));
        if let Some(near) = names.iter().find_map(|name| crate::error::nearest(name, valid.clone()).into_iter().next())
        {
            message += &format!("; is it `{near}`?");
        }
        self.header_fault(Code::MissingColumn, message, expected.to_string())
    }

    /// A fault of the first row.
    fn header_fault(&self, code: Code, message: String, expected: String) -> Error {
        let (start, _) = layout(&self.source.text);
        let first = self.source.text.get(start..).and_then(|body| body.lines().next()).unwrap_or_default();
        self.source.refuse(&[Fault::new(code, start..start + first.len(), message).expected(expected)])
    }

    /// Whether a comma may be that of a decimal fraction: where cells are not separated by commas.
    pub fn has_decimal_commas(&self) -> bool {
        self.delimiter != b','
    }

    /// How many rows there are, the names not counted.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether a row has nothing but its commas, as spreadsheets leave them.
    pub fn is_blank(&self, row: usize) -> bool {
        self.rows.get(row).is_none_or(|(_, record)| record.iter().all(|cell| cell.trim().is_empty()))
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
        let delimiter = self.table.delimiter;
        for _ in 0..self.column {
            at = cell_at(text, at, delimiter).map_or(text.len(), |cell| cell.end + 1);
        }
        let cell = cell_at(text, at, delimiter).unwrap_or(text.len()..text.len());
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

/// Where the first row begins, behind a byte order mark and the line `sep=;` that some spreadsheets want, and what stands
/// between two cells: what the first row has most of, a comma where it has none.
fn layout(text: &str) -> (usize, u8) {
    let start = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let first = text.get(start..).and_then(|body| body.lines().next()).unwrap_or_default();
    if let Some(&delimiter @ (b',' | b';' | b'\t')) = first.strip_prefix("sep=").and_then(|d| d.as_bytes().first())
        && first.len() == "sep=".len() + 1
    {
        let line = start + first.len();
        let end = text.get(line..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| line + at + 1);
        return (end, delimiter);
    }
    // What stands in quotes separates nothing.
    let outside: String = first.split('"').step_by(2).collect();
    let count = |delimiter: u8| outside.bytes().filter(|b| *b == delimiter).count();
    let most = [b'\t', b';', b','].into_iter().max_by_key(|d| count(*d)).unwrap_or(b',');
    (start, most)
}

/// The byte of an opening quote to which there is no closing one. The reader takes the rest of the file for its text.
fn unclosed_quote(text: &str, start: usize, delimiter: u8) -> Option<usize> {
    let mut at = start;
    while at < text.len() {
        match cell_at(text, at, delimiter) {
            Some(cell) => at = cell.end + 1,
            None => return Some(at),
        }
    }
    None
}

/// The bytes of the cell that begins at byte `at`, quotes included, up to the delimiter or line break; `None` if it begins with
/// a quote that is never closed.
fn cell_at(text: &str, at: usize, delimiter: u8) -> Option<Range<usize>> {
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
    let length = rest.iter().position(|byte| *byte == delimiter || matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
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
    fn semicolons_and_tabs_may_stand_for_commas() -> Result<()> {
        for text in [
            "layer;unit;description\nfc;0;\"a; b, c\"\n",
            "\u{feff}layer\tunit\tdescription\r\nfc\t0\t\"a; b, c\"\r\n",
            "sep=;\r\nlayer;unit;description\r\nfc;0;\"a; b, c\"\r\n",
            "layer,unit,\"description;;;\"\nfc,0,\"a; b, c\"\n",
        ] {
            let table = parse(text)?;
            assert_eq!((table.len(), table.cell(0, 1).text, table.cell(0, 2).text), (1, "0", "a; b, c"), "{text}");
            let at = table.cell(0, 2).span();
            assert_eq!(text.get(at), Some("a; b, c"));
        }
        let utf16 = refused("l\0a\0y\0e\0r\0,\0\n");
        assert!(utf16.contains("UTF-16") && refused("[{\"layer\": 1}]").contains("JSON"), "{utf16}");
        Ok(())
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
