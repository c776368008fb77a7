//! Descriptions that some other tool made, as a table.

use super::{DescribedUnit, Description, Status};
use crate::diagnostic::Code;
use crate::table::Table;
use crate::{Result, UnitId};
use std::collections::HashMap;
use std::path::Path;

/// Reads descriptions from a file of comma-separated values.
///
/// The first row has the names of the columns, in any order: `layer` (or `site`), `unit` (or `neuron`; a whole number) and
/// `description` (or `summary`), as MILAN's and CLIP-Dissect's results have them. Optional are `score`, `log_likelihood`
/// and `log_prior` in nats, and `status` (`described`, `abstained`, `dead`), as `neurons.csv` has them. Other columns are
/// passed over: CLIP-Dissect's `similarity` is not a score in nats. An empty description is an abstention. A table with
/// a `status` is one of ours: the `'` that keeps spreadsheets from taking a cell for a formula is taken away.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be read; [`Error::Faults`](crate::Error::Faults) with every place
/// where it is no such table, a unit that stands in two rows included.
///
/// **Source:** the columns of MILAN (Hernandez et al. 2022, arXiv 2201.11114) and CLIP-Dissect (Oikarinen and Weng 2023,
/// arXiv 2204.10965).
pub fn read_table(path: impl AsRef<Path>) -> Result<Vec<DescribedUnit>> {
    units(&Table::read(path.as_ref())?)
}

fn units(table: &Table) -> Result<Vec<DescribedUnit>> {
    let site = table.required(&["layer", "site"])?;
    let unit = table.required(&["unit", "neuron"])?;
    let description = table.required(&["description", "summary"])?;
    let status = table.column(&["status"])?;
    let numbers = [table.column(&["score"])?, table.column(&["log_likelihood"])?, table.column(&["log_prior"])?];
    let (mut units, mut faults) = (Vec::with_capacity(table.len()), Vec::new());
    let mut rows = HashMap::<UnitId, usize>::with_capacity(table.len());
    for row in 0..table.len() {
        let (site, unit) = (table.cell(row, site), table.cell(row, unit));
        let plain = |text| if status.is_some() { without_mark(text) } else { text };
        let name = plain(site.text.trim());
        if name.is_empty() {
            faults.push(site.fault(Code::EmptyValue, "the row names no layer").expected("a layer, such as layer4"));
        }
        // A sign would be read as well.
        let digits = Some(unit.text.trim()).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = digits.and_then(|text| text.parse::<usize>().ok()) else {
            let message = format!("`{}` is not the number of a unit", unit.text);
            faults.push(unit.fault(Code::UnknownValue, message).expected("a whole number of at least 0"));
            continue;
        };
        let mut words = Description::words(plain(table.cell(row, description).text));
        if let Some(cell) = status.map(|column| table.cell(row, column)) {
            match cell.text.trim() {
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
            match cell.text.trim().parse::<f64>() {
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
                rows.insert(id.clone(), row);
                units.push(DescribedUnit::new(id, words));
            }
            Some(first) => {
                let first = table.cell(*first, 0).location().line;
                let message = format!("{id} stands in line {first} already");
                faults.push(site.fault(Code::DuplicateRow, message).expected("one row per layer and unit"));
            }
        }
    }
    table.refuse(&faults)?;
    Ok(units)
}

fn without_mark(text: &str) -> &str {
    text.strip_prefix('\'').unwrap_or(text)
}
