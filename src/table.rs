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
        Cell { table: self, row, text }
    }

    /// The error that shows these faults; `Ok` if there are none.
    pub fn refuse(&self, faults: &[Fault]) -> Result<()> {
        if faults.is_empty() { Ok(()) } else { Err(self.source.refuse(faults)) }
    }
}

impl Cell<'_> {
    /// The bytes of the file: those of the cell if they are found as they are, else where the row begins.
    pub fn span(&self) -> Range<usize> {
        let start = self.table.rows.get(self.row).map_or(0, |(at, _)| *at);
        let end = self.table.rows.get(self.row + 1).map_or(self.table.source.text.len(), |(at, _)| *at);
        let row = self.table.source.text.get(start..end).unwrap_or_default();
        match row.find(self.text).filter(|_| !self.text.is_empty()) {
            Some(at) => start + at..start + at + self.text.len(),
            None => start..start + row.find(['\r', '\n']).unwrap_or(row.len()),
        }
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
    let bytes = text.as_bytes();
    let (mut i, mut at_start) = (if text.starts_with('\u{feff}') { 3 } else { 0 }, true);
    while let Some(&byte) = bytes.get(i) {
        if byte == b'"' && at_start {
            let open = i;
            loop {
                i += 1;
                match (bytes.get(i), bytes.get(i + 1)) {
                    (None, _) => return Some(open),
                    (Some(b'"'), Some(b'"')) => i += 1,
                    (Some(b'"'), _) => break,
                    _ => {}
                }
            }
            at_start = false;
        } else {
            at_start = matches!(byte, b',' | b'\n' | b'\r');
        }
        i += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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
