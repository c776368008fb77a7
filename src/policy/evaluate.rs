//! How well the words of a policy agree with labels that people gave to descriptions.

use super::testing::words_only;
use super::{Because, Policies};
use crate::diagnostic::{Code, Location};
use crate::table::Table;
use crate::{Error, Result};
use std::path::Path;

/// Which columns of a labelled table mean what a policy means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// A row is positive if one of these columns is 1.
    pub positive: Vec<String>,
    /// A row is left out if one of these columns is 1.
    pub leave_out: Vec<String>,
}

/// A policy's words against the labels of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Agreement {
    /// The policy's name.
    pub policy: String,
    /// Rows that are left out.
    pub left_out: usize,
    /// Labelled rows that matched.
    pub true_positives: usize,
    /// Rows without the label that matched.
    pub false_positives: usize,
    /// Labelled rows that did not match.
    pub false_negatives: usize,
    /// Rows without the label that did not match.
    pub true_negatives: usize,
    /// The false ones, in the order of the table.
    pub mistakes: Vec<Mistake>,
}

/// A row on which policy and label disagree.
#[derive(Debug, Clone, PartialEq)]
pub struct Mistake {
    /// The description.
    pub description: String,
    /// Whether the label says that it should match.
    pub expected: bool,
    /// Why it matched; empty if it did not.
    pub because: Vec<Because>,
    /// Where the row stands.
    pub location: Location,
}

impl Agreement {
    /// Rows that were judged.
    pub fn rows(&self) -> usize {
        self.true_positives + self.false_positives + self.false_negatives + self.true_negatives
    }

    /// Share of right ones among the matches, 0 to 1; none without a match.
    pub fn precision(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// Share of the labelled rows that matched, 0 to 1; none without a labelled row.
    pub fn recall(&self) -> Option<f64> {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// Harmonic mean of precision and recall, 0 to 1; none without a match or a labelled row.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }
}

fn share(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The names of the columns of a table labelled by hand.
///
/// # Errors
/// [`Error::Io`] and [`Error::Faults`] for a file that is no table.
pub fn columns(file: &Path) -> Result<Vec<String>> {
    Ok(Table::read(file)?.names().to_vec())
}

/// Holds the words of the policy called `name` against the labelled table `file`.
///
/// The table has a column `description` (or `summary`) and columns of 0 and 1. `labels` are the columns that mean what the
/// policy means, usually [`Policy::labels`](super::Policy::labels); of each of its lists, those that the table has are
/// used. `None` if it has no positive one. Scope, limits, waivers and minima are left out.
///
/// # Errors
/// [`Error::Unknown`] for a policy that there is not, [`Error::Io`] and [`Error::Faults`] for a file that is no such table.
pub fn evaluate(policies: &Policies, name: &str, labels: &Labels, file: &Path) -> Result<Option<Agreement>> {
    if policies.get(name).is_none() {
        return Err(Error::unknown("policy", name, policies.iter().map(|p| p.name())));
    }
    let table = Table::read(file)?;
    let description = table.required(&["description", "summary"])?;
    let columns = |names: &[String]| -> Result<Vec<usize>> {
        let found = names.iter().map(|name| table.column(&[name.as_str()])).collect::<Result<Vec<_>>>()?;
        Ok(found.into_iter().flatten().collect())
    };
    let (positive, leave_out) = (columns(&labels.positive)?, columns(&labels.leave_out)?);
    if positive.is_empty() {
        return Ok(None);
    }
    let mut faults = Vec::new();
    let mut is_one = |row: usize, column: usize| {
        let cell = table.cell(row, column);
        match cell.text.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" => true,
            "0" | "false" | "no" => false,
            _ => {
                let name = table.names().get(column).map_or("", String::as_str);
                let message = format!("`{}` in column `{name}` is not a label", cell.text);
                faults.push(cell.fault(Code::UnknownValue, message).expected("0 or 1"));
                false
            }
        }
    };
    // Every cell is looked at: one that is no label is a fault wherever it stands.
    let mut any = |row, columns: &[usize]| columns.iter().filter(|&&column| is_one(row, column)).count() > 0;
    let rows: Vec<(usize, bool, bool)> =
        (0..table.len()).map(|row| (row, any(row, &positive), any(row, &leave_out))).collect();
    table.refuse(&faults)?;
    let left_out = rows.iter().filter(|(.., out)| *out).count();
    let judged: Vec<(usize, bool)> = rows.iter().filter(|(.., out)| !out).map(|(row, yes, _)| (*row, *yes)).collect();
    let texts: Vec<&str> = judged.iter().map(|(row, _)| table.cell(*row, description).text).collect();
    let mut agreement = Agreement {
        policy: name.to_string(),
        left_out,
        true_positives: 0,
        false_positives: 0,
        false_negatives: 0,
        true_negatives: 0,
        mistakes: Vec::new(),
    };
    for ((row, expected), because) in judged.into_iter().zip(words_only(policies, name, &texts)) {
        let tally = match (expected, because.is_empty()) {
            (true, false) => &mut agreement.true_positives,
            (true, true) => &mut agreement.false_negatives,
            (false, false) => &mut agreement.false_positives,
            (false, true) => &mut agreement.true_negatives,
        };
        *tally += 1;
        if expected == because.is_empty() {
            let cell = table.cell(row, description);
            let (description, location) = (cell.text.to_string(), cell.location());
            agreement.mistakes.push(Mistake { description, expected, because, location });
        }
    }
    Ok(Some(agreement))
}
