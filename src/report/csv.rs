//! `neurons.csv`: one row per unit, for spreadsheets and data frames.

use super::Report;
use super::escape::cell;
use crate::describe::Status;
use crate::evidence::ConceptEvidence;
use std::io::{self, Write};

/// The columns. `concept` to `auc_high` are the strongest evidence, empty where it was not measured; `flagged_by` lists policies of
/// level `warn` and `deny`, joined by `;`, waived findings left out; `level` is the activation that counts as a response.
pub const COLUMNS: [&str; 16] = [
    "site",
    "unit",
    "status",
    "description",
    "score",
    "log_likelihood",
    "log_prior",
    "concept",
    "iou",
    "effect",
    "auc",
    "auc_low",
    "auc_high",
    "flagged_by",
    "level",
    "dead",
];

/// Writes [`COLUMNS`] and a row for every unit, by id.
///
/// Numbers are the shortest that read back the same. Text from outside that a spreadsheet would take for a formula
/// gets a `'` in front.
///
/// # Errors
/// What `out` returns.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let flagged_by = report.flagged_by();
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(COLUMNS).map_err(io_error)?;
    for unit in &report.units {
        let d = &unit.description;
        let best = unit.evidence.first();
        let number = |f: fn(&ConceptEvidence) -> Option<f64>| best.and_then(f).map_or(String::new(), |x| x.to_string());
        csv.write_record([
            cell(&unit.id.site),
            unit.id.unit.to_string(),
            status(d.status).to_string(),
            cell(&d.text),
            d.score.to_string(),
            d.log_likelihood.to_string(),
            d.log_prior.to_string(),
            best.map_or(String::new(), |e| cell(&e.concept)),
            number(|e| e.iou),
            number(|e| e.effect),
            number(|e| e.auc),
            number(|e| e.auc_low),
            number(|e| e.auc_high),
            flagged_by.get(&unit.id).map_or(String::new(), |policies| cell(&policies.join(";"))),
            unit.level.map_or(String::new(), |level| level.to_string()),
            unit.dead.to_string(),
        ])
        .map_err(io_error)?;
    }
    csv.flush()
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Described => "described",
        Status::Abstained => "abstained",
        Status::Dead => "dead",
    }
}

fn io_error(e: csv::Error) -> io::Error {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e,
        other => io::Error::other(format!("{other:?}")),
    }
}
