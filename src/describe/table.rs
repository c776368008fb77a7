//! Descriptions that some other tool made, as a table.

use super::{DescribedUnit, Description, Status};
use crate::diagnostic::Code;
use crate::table::Table;
use crate::{Error, Result, UnitId};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

/// Reads descriptions from a file of comma-separated values.
///
/// The first row has the names of the columns, in any order and case: `layer` (or `site`), `unit` (or `neuron`; a whole
/// number) and `description` (or `summary`), as MILAN's and CLIP-Dissect's results have them. Optional are `score`,
/// `log_likelihood` and `log_prior` in nats, and `status` (`described`, `abstained`, `dead`), as `neurons.csv` has them.
/// Other columns are passed over: CLIP-Dissect's `similarity` is not a score in nats. An empty description is an
/// abstention. A table with a `status` is one of ours: the `'` that keeps spreadsheets from taking a cell for a formula is
/// taken away.
///
/// Several captions of one unit become one description, with semicolons between them: rows of a column `summary`
/// (MILANNOTATIONS), columns `Label 1` to `Label 3` beside `Neuron ID` (Describe-and-Dissect), `concept0` to `concept9`
/// (Linear-Explanations; those of weight 0 fill up the row, and are left out). NetDissect's words are in `label`, beside a
/// `category`; its `score` is no score in nats and passed over, and its units are counted from 1, unless there is a 0.
///
/// Semicolons or tabs may stand for the commas, and a decimal comma then for the point; UTF-16 is read where the file
/// begins with its mark.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be read; [`Error::Faults`](crate::Error::Faults) with every place
/// where it is no such table, a unit that stands in two rows included.
///
/// **Source:** the columns of MILAN (Hernandez et al. 2022, arXiv 2201.11114), CLIP-Dissect (Oikarinen and Weng 2023,
/// arXiv 2204.10965), NetDissect (Bau et al. 2017, arXiv 1704.05796), Describe-and-Dissect (Bai et al. 2024, arXiv
/// 2403.13771) and Linear-Explanations (Oikarinen and Weng 2024, arXiv 2405.06855).
pub fn read_table(path: impl AsRef<Path>) -> Result<Vec<DescribedUnit>> {
    units(&Table::read(path.as_ref())?, None)
}

/// As [`read_table`], of a table without a column for the layer: all of its rows are about `layer`.
///
/// # Errors
/// As there, and [`Error::Invalid`] where the table has such a column, or `layer` is empty.
pub fn read_table_of(path: impl AsRef<Path>, layer: &str) -> Result<Vec<DescribedUnit>> {
    if layer.trim().is_empty() {
        return Err(Error::invalid("the layer of the table", "an empty name", "a layer, such as layer4"));
    }
    units(&Table::read(path.as_ref())?, Some(layer.trim()))
}

/// Where a table has the words for a unit.
enum Captions {
    One(usize),
    /// Each with the column of its weight, if it has one.
    Several(Vec<(usize, Option<usize>)>),
}

impl Captions {
    fn of(table: &Table) -> Result<Self> {
        for names in [&["description", "summary"][..], &["caption", "explanation"], &["label"]] {
            if let Some(column) = table.column(names)? {
                return Ok(Captions::One(column));
            }
        }
        for word in ["label", "concept", "caption", "explanation", "description", "summary"] {
            let (columns, weights) = (numbered(table, word), numbered(table, "weight"));
            if !columns.is_empty() {
                let weight = |number: &u32| weights.iter().find(|(n, _)| n == number).map(|(_, column)| *column);
                return Ok(Captions::Several(columns.iter().map(|(n, column)| (*column, weight(n))).collect()));
            }
        }
        table.required(&["description", "summary"]).map(Captions::One)
    }

    fn text<'t>(&self, table: &'t Table, row: usize) -> Cow<'t, str> {
        match self {
            Captions::One(column) => Cow::Borrowed(table.cell(row, *column).text),
            Captions::Several(columns) => {
                let mut all: Vec<&str> = Vec::new();
                for (column, weight) in columns {
                    let text = table.cell(row, *column).text.trim();
                    let fills = weight.is_some_and(|w| table.cell(row, w).text.trim().parse::<f64>() == Ok(0.0));
                    if !text.is_empty() && !fills && !all.contains(&text) {
                        all.push(text);
                    }
                }
                Cow::Owned(all.join(BETWEEN))
            }
        }
    }
}

/// What stands between the captions of one unit: no phrase reaches across.
const BETWEEN: &str = "; ";

/// The columns called `word` and a number, by number.
fn numbered(table: &Table, word: &str) -> Vec<(u32, usize)> {
    let number = |name: &String| {
        let rest = name.to_ascii_lowercase();
        rest.strip_prefix(word)?.trim_start_matches([' ', '_', '-']).parse::<u32>().ok()
    };
    let mut found: Vec<(u32, usize)> =
        table.names().iter().enumerate().filter_map(|(i, name)| Some((number(name)?, i))).collect();
    found.sort_unstable();
    found
}

/// The column of the layer, or the layer that was given for all rows.
fn layer<'l>(table: &Table, given: Option<&'l str>) -> Result<std::result::Result<usize, &'l str>> {
    const NAMES: [&str; 2] = ["layer", "site"];
    match (table.column(&NAMES)?, given) {
        (Some(column), None) => Ok(Ok(column)),
        (None, Some(layer)) => Ok(Err(layer)),
        (Some(column), Some(layer)) => {
            let name = table.names().get(column).map_or("", String::as_str);
            let allowed = format!("none: the table has a column `{name}`");
            Err(Error::invalid("the layer of the table", format!("`{layer}`"), allowed))
        }
        (None, None) => {
            let expected = "a column named layer or site, or the name of the layer that all rows are about (--layer)";
            Err(table.missing(&NAMES, &["label"], expected))
        }
    }
}

fn units(table: &Table, given: Option<&str>) -> Result<Vec<DescribedUnit>> {
    let layer = layer(table, given)?;
    let unit = match table.column(&["unit", "neuron", "neuron id", "neuron_id", "unit id", "unit_id"])? {
        Some(column) => column,
        None => table.required(&["unit", "neuron"])?,
    };
    let captions = Captions::of(table)?;
    let named = |column: usize, name: &str| table.names().get(column).is_some_and(|n| n.eq_ignore_ascii_case(name));
    let is = |name: &str| matches!(captions, Captions::One(column) if named(column, name));
    let netdissect = is("label") && table.column(&["category"])?.is_some();
    let status = table.column(&["status"])?;
    let mut numbers = [table.column(&["score"])?, table.column(&["log_likelihood"])?, table.column(&["log_prior"])?];
    if is("label") {
        numbers = [None; 3];
    }
    let several_rows = is("summary") && status.is_none() && numbers.iter().all(Option::is_none);
    let (mut units, mut faults) = (Vec::with_capacity(table.len()), Vec::new());
    let mut rows = HashMap::<UnitId, (usize, usize)>::with_capacity(table.len());
    for row in (0..table.len()).filter(|row| !table.is_blank(*row)) {
        let unit = table.cell(row, unit);
        let ours = status.is_some();
        let place = layer.map_or_else(|_| unit.clone(), |column| table.cell(row, column));
        let name = layer.map_or_else(|given| given, |_| without_mark(place.text.trim(), ours));
        if name.is_empty() {
            faults.push(place.fault(Code::EmptyValue, "the row names no layer").expected("a layer, such as layer4"));
        }
        // A sign would be read as well.
        let digits = Some(unit.text.trim()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = digits.and_then(|text| text.parse::<usize>().ok()) else {
            let message = format!("`{}` is not the number of a unit", unit.text);
            faults.push(unit.fault(Code::UnknownValue, message).expected("a whole number of at least 0"));
            continue;
        };
        let text = captions.text(table, row);
        let mut words = Description::words(without_mark(&text, ours));
        if let Some(cell) = status.map(|column| table.cell(row, column)) {
            match cell.text.trim().to_ascii_lowercase().as_str() {
                "described" => {}
                "abstained" => words.status = Status::Abstained,
                "dead" => words.status = Status::Dead,
                other => {
                    let message = format!("`{other}` is not a status");
                    let valid = ["described", "abstained", "dead"];
                    faults.push(cell.fault(Code::UnknownValue, message).one_of(other, &valid));
                }
            }
        }
        let fields = [&mut words.score, &mut words.log_likelihood, &mut words.log_prior];
        for (column, field) in numbers.iter().zip(fields) {
            let Some(cell) = column.map(|column| table.cell(row, column)) else { continue };
            let text = cell.text.trim();
            let point = if table.has_decimal_commas() { text.replace(',', ".") } else { text.to_string() };
            match point.parse::<f64>() {
                Ok(number) if number.is_finite() => *field = number,
                _ => {
                    let message = format!("`{}` is not a number", cell.text);
                    faults.push(cell.fault(Code::UnknownValue, message).expected("a finite number, in nats"));
                }
            }
        }
        let id = UnitId::new(name, number);
        match rows.get(&id) {
            None => {
                rows.insert(id.clone(), (row, units.len()));
                units.push(DescribedUnit::new(id, words));
            }
            Some((_, at)) if several_rows => {
                if let Some(unit) = units.get_mut(*at) {
                    add(&mut unit.description, &text);
                }
            }
            Some((first, _)) => {
                let first = table.cell(*first, 0).location().line;
                let message = format!("{id} stands in line {first} already");
                let expected = "one row per layer and unit; several captions of a unit stand in a column `summary`";
                faults.push(place.fault(Code::DuplicateRow, message).expected(expected));
            }
        }
    }
    table.refuse(&faults)?;
    if netdissect && units.iter().all(|u| u.id.unit > 0) {
        units.iter_mut().for_each(|u| u.id.unit -= 1);
    }
    Ok(units)
}

/// Adds a caption to the description of a unit that has one already.
fn add(description: &mut Description, caption: &str) {
    let caption = caption.trim();
    if caption.is_empty() || description.text.split(BETWEEN).any(|known| known == caption) {
        return;
    }
    *description = if description.text.is_empty() {
        Description::words(caption)
    } else {
        Description::words(format!("{}{BETWEEN}{caption}", description.text))
    };
}

/// The text without the mark that our own tables put before what a spreadsheet would take for a formula.
fn without_mark(text: &str, ours: bool) -> &str {
    if ours { text.strip_prefix('\'').unwrap_or(text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    fn read(text: &str, layer: Option<&str>) -> Result<Vec<(String, String)>> {
        let units = units(&Table::parse(Source::new("t.csv", text))?, layer)?;
        Ok(units.into_iter().map(|u| (u.id.to_string(), u.description.text)).collect())
    }

    #[track_caller]
    fn reads(text: &str, layer: Option<&str>, expected: &[(&str, &str)]) {
        let owned = |(id, words): &(&str, &str)| (id.to_string(), words.to_string());
        assert_eq!(read(text, layer).unwrap(), expected.iter().map(owned).collect::<Vec<_>>(), "{text}");
    }

    #[test]
    fn tables_of_other_tools_are_read_as_they_are() {
        let netdissect = "unit,category,label,score\n2,part,body,0.04\n1,texture,freckled,n/a\n";
        reads(netdissect, Some("layer4"), &[("layer4/1", "body"), ("layer4/0", "freckled")]);
        let from_0 = "unit,category,label,score\n0,part,body,0.04\n";
        reads(from_0, Some("layer4"), &[("layer4/0", "body")]);
        let dissect = "Neuron ID,Label 1,Label 2,Label 3\n29,round things,a word,round things\n30,wood, , \n";
        reads(dissect, Some("fc"), &[("fc/29", "round things; a word"), ("fc/30", "wood")]);
        let linear = "unit,val correlation,weight0,concept0,weight1,concept1,bias\n0,.3,4.2,bottle,0.0,0,.1\n";
        reads(linear, Some("fc"), &[("fc/0", "bottle")]);
        let baselines = "Unit,Description,sim correlation\n7,pool table,0.06\n";
        reads(baselines, Some("fc"), &[("fc/7", "pool table")]);
    }

    #[test]
    fn several_captions_of_a_unit_are_one_description() {
        let rows = "layer,unit,summary\nfc,0,letters\nfc,1,grass\nfc,0,\nfc,0,words\nfc,0,letters\n";
        reads(rows, None, &[("fc/0", "letters; words"), ("fc/1", "grass")]);
        let twice = read("layer,unit,description\nfc,0,letters\nfc,0,words\n", None).unwrap_err().to_string();
        assert!(twice.contains("stands in line 2 already") && twice.contains("`summary`"), "{twice}");
    }

    #[test]
    fn a_layer_is_named_in_the_table_or_beside_it() {
        let bare = "unit,category,label,score\n1,part,body,0.04\n";
        let missing = read(bare, None).unwrap_err().to_string();
        assert!(missing.contains("no column `layer`") && missing.contains("--layer"), "{missing}");
        assert!(!missing.contains("is it"), "{missing}");
        let both = read("layer,unit,description\nfc,0,a\n", Some("x")).unwrap_err().to_string();
        assert!(both.contains("`x`") && both.contains("has a column `layer`"), "{both}");
        reads("layer;unit;description;score\nfc;0;letters;0,25\n;;;\n", None, &[("fc/0", "letters")]);
    }
}
