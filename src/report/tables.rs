//! Tables that Markdown and the terminal both show; cells are not escaped yet.

use super::edit::{Control, EditReport, Evaluation};
use super::{HistoryEntry, Report};
use crate::stats::Accuracy;

/// Rows of cells; the first row is the head, the first column says what a row is.
pub(super) type Table = Vec<Vec<String>>;

/// What the edit did on test data: a row per variant of the model, a column per evaluation. Rows that were not measured
/// are left out, as are the p-values where there is no room for them.
pub(super) fn evaluations(edit: &EditReport, p_values: bool) -> Table {
    let tested = |a: Accuracy, p: Option<f64>| match p.filter(|_| p_values) {
        Some(p) => format!("{a}, {}", p_value(p)),
        None => a.to_string(),
    };
    let draws = edit.evaluations.iter().map(|e| e.controls.len()).max().unwrap_or(0);
    let random = format!("random units, {}", super::plural(draws, "draw", "draws"));
    let mut table = vec![head("", edit.evaluations.iter().map(|e| &e.name))];
    let mut row = |name: &str, cell: &dyn Fn(&Evaluation) -> Option<String>| {
        let cells: Vec<Option<String>> = edit.evaluations.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(|c| c.unwrap_or_else(|| "-".to_string()));
            table.push(std::iter::once(name.to_string()).chain(cells).collect());
        }
    };
    row("before", &|e| Some(e.before.to_string()));
    row(edit.past(), &|e| Some(tested(e.edited, Some(e.edited_p))));
    row(&format!("{}, last layer refitted", edit.past()), &|e| e.edited_repaired.map(|a| tested(a, e.repaired_p)));
    row("refitted only", &|e| e.repaired_only.map(|a| a.to_string()));
    row(&random, &|e| range(&e.controls, |c| Some(c.edited)));
    row(&format!("{random}, refitted"), &|e| range(&e.controls, |c| c.repaired));
    table
}

/// What each number of removed units does on validation data.
pub(super) fn sweep(edit: &EditReport) -> Table {
    let Some(first) = edit.sweep.first() else { return Vec::new() };
    let mut table = vec![head("units removed", first.validation.iter().map(|v| &v.name))];
    for point in &edit.sweep {
        let chosen = if point.removed == edit.chosen.len() { " (chosen)" } else { "" };
        let cells = point.validation.iter().map(|v| match v.repaired {
            Some(repaired) => format!("{}; refitted {}", percent(v.accuracy), percent(repaired)),
            None => percent(v.accuracy),
        });
        table.push(std::iter::once(format!("{}{chosen}", point.removed)).chain(cells).collect());
    }
    table
}

/// Audits during training, oldest first. Evaluations are matched by name.
pub(super) fn history(report: &Report) -> Table {
    let mut names: Vec<&String> = Vec::new();
    for evaluation in report.history.iter().flat_map(|h| &h.evaluations) {
        if !names.contains(&&evaluation.name) {
            names.push(&evaluation.name);
        }
    }
    let fixed = ["epoch", "step", "described", "abstained", "dead", "flagged", "changed"].map(str::to_string);
    // Where nothing was ever pruned there is no column for it.
    let prunes = report.history.iter().any(|h| !h.pruned.is_empty());
    let head = fixed.into_iter().chain(prunes.then(|| "pruned".to_string()));
    let mut table = vec![head.chain(names.iter().map(|n| n.to_string())).collect::<Vec<_>>()];
    for h in &report.history {
        let HistoryEntry { epoch, step, described, abstained, dead, flagged, changed, evaluations, pruned } = h;
        let counts = [*epoch, *step].into_iter();
        let counts = counts.chain([described, abstained, dead, flagged, changed].map(|&n| n as u64));
        let counts = counts.chain(prunes.then_some(pruned.len() as u64));
        let accuracy = |name: &&String| {
            evaluations.iter().find(|e| &e.name == *name).map_or("-".to_string(), |e| percent(e.accuracy))
        };
        table.push(counts.map(|n| n.to_string()).chain(names.iter().map(accuracy)).collect());
    }
    table
}

/// `81.1 %`.
pub(super) fn percent(a: Accuracy) -> String {
    if a.total == 0 { "-".to_string() } else { format!("{:.1} %", 100.0 * a.rate()) }
}

/// `p = 0.034`, `p < 0.001`.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_string() } else { format!("p = {p:.3}") }
}

fn head<'a>(first: &str, names: impl Iterator<Item = &'a String>) -> Vec<String> {
    std::iter::once(first.to_string()).chain(names.cloned()).collect()
}

/// `76.0 % (74.8 to 77.1)`: mean, smallest and largest.
fn range(controls: &[Control], accuracy: impl Fn(&Control) -> Option<Accuracy>) -> Option<String> {
    let mut rates: Vec<f64> =
        controls.iter().filter_map(accuracy).filter(|a| a.total > 0).map(|a| 100.0 * a.rate()).collect();
    rates.sort_by(f64::total_cmp);
    let (low, high) = (rates.first()?, rates.last()?);
    let mean = rates.iter().sum::<f64>() / rates.len() as f64;
    Some(format!("{mean:.1} % ({low:.1} to {high:.1})"))
}
