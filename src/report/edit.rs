//! The parts of a report that say what was done about the findings, and how audits went during training.

use crate::UnitId;
use crate::evaluate::stats::Accuracy;
use serde::{Deserialize, Serialize};

/// What was done about the findings, and what that did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EditReport {
    /// `zero`.
    pub action: String,
    /// The units that policies ask to be zeroed, in the order in which they would be.
    pub flagged: Vec<UnitId>,
    /// Those that were: as many of the first as validation data advised.
    pub chosen: Vec<UnitId>,
    /// Every site's unit that becomes zero with them, the chosen ones included, by id.
    pub coupled: Vec<UnitId>,
    /// Flagged units that cannot be zeroed.
    pub not_zeroed: Vec<NotZeroed>,
    /// What each number of removed units does on validation data, fewest first.
    pub sweep: Vec<SweepPoint>,
    /// What the edit does on test data.
    pub evaluations: Vec<Evaluation>,
    /// How much of a gap between two of the evaluations the edit closes.
    pub gap: Option<Gap>,
    /// How the edit was verified, as a sentence.
    pub verification: String,
}

/// A flagged unit that cannot be zeroed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NotZeroed {
    /// The unit.
    pub unit: UnitId,
    /// Why, without a full stop.
    pub reason: String,
}

/// What removing a number of units does on validation data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SweepPoint {
    /// How many of the flagged units, in order, are zero.
    pub removed: usize,
    /// One per evaluation.
    pub validation: Vec<SweepAccuracy>,
}

/// One evaluation on validation data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SweepAccuracy {
    /// The evaluation's name.
    pub name: String,
    /// Without repair.
    pub accuracy: Accuracy,
    /// With the last layer refitted.
    pub repaired: Option<Accuracy>,
}

/// One evaluation on test data, before and after.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// Its name.
    pub name: String,
    /// Before the edit.
    pub before: Accuracy,
    /// With the chosen units zero.
    pub zeroed: Accuracy,
    /// McNemar's exact test of `zeroed` against `before`.
    pub zeroed_p: f64,
    /// With the chosen units zero and the last layer refitted on clean validation images.
    pub zeroed_repaired: Option<Accuracy>,
    /// McNemar's exact test of `zeroed_repaired` against `before`.
    pub repaired_p: Option<f64>,
    /// With the last layer refitted and nothing zeroed.
    pub repaired_only: Option<Accuracy>,
    /// The same number of random units of the same layers.
    pub controls: Vec<Control>,
}

/// One draw of random units.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Control {
    /// Which draw, from 0.
    pub draw: usize,
    /// With these units zero.
    pub zeroed: Accuracy,
    /// And the last layer refitted.
    pub repaired: Option<Accuracy>,
}

/// How much of the gap between two evaluations was closed.
///
/// Recovered shares are `(shifted after - shifted before) / (clean before - shifted before)`: 0 is nothing, 1 all of it,
/// negative worse than before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Gap {
    /// The evaluation without the spurious feature.
    pub clean_name: String,
    /// The evaluation with it, misleading.
    pub shifted_name: String,
    /// `clean - shifted` before the edit, a difference of shares, above 0.
    pub before_gap: f64,
    /// By zeroing.
    pub recovered_zeroed: f64,
    /// By zeroing and refitting the last layer.
    pub recovered_repaired: Option<f64>,
    /// By refitting the last layer alone.
    pub recovered_repaired_only: Option<f64>,
    /// By zeroing random units, one per draw.
    pub recovered_controls: Vec<f64>,
    /// By zeroing random units and refitting the last layer, one per draw that did.
    pub recovered_controls_repaired: Vec<f64>,
}

impl Gap {
    /// The gap between two of `evaluations`; None when one is missing or empty, or when there is no gap to close.
    pub fn between(evaluations: &[Evaluation], clean: &str, shifted: &str) -> Option<Self> {
        let find = |name: &str| evaluations.iter().find(|e| e.name == name && e.before.total > 0);
        let (c, s) = (find(clean)?, find(shifted)?);
        let before = s.before.rate();
        let before_gap = c.before.rate() - before;
        if before_gap <= 0.0 {
            return None;
        }
        let measured = |after: &Accuracy| after.total > 0;
        let share = |after: Accuracy| (after.rate() - before) / before_gap;
        Some(Self {
            clean_name: clean.to_string(),
            shifted_name: shifted.to_string(),
            before_gap,
            recovered_zeroed: Some(s.zeroed).filter(measured).map(share)?,
            recovered_repaired: s.zeroed_repaired.filter(measured).map(share),
            recovered_repaired_only: s.repaired_only.filter(measured).map(share),
            recovered_controls: s.controls.iter().map(|c| c.zeroed).filter(measured).map(share).collect(),
            recovered_controls_repaired: s.controls.iter().filter_map(|c| c.repaired).filter(measured).map(share).collect(),
        })
    }

    /// What the edit did to the gap, in honest words: the gains, what random units and the refit alone do, and whether
    /// the edit did better.
    pub fn sentences(&self, chosen: usize) -> Vec<String> {
        let percent = |share: f64| format!("{:.0} %", 100.0 * share + 0.0);
        let (refitted, controls) = match self.recovered_repaired {
            Some(_) if !self.recovered_controls_repaired.is_empty() => (true, &self.recovered_controls_repaired),
            _ => (false, &self.recovered_controls),
        };
        let best = self.recovered_repaired.unwrap_or(self.recovered_zeroed);
        let ours = if refitted { best } else { self.recovered_zeroed };
        let mut out = vec![format!(
            "Before the edit, {} is {:.1} points below {}.",
            self.shifted_name,
            100.0 * self.before_gap,
            self.clean_name
        )];
        let units = if chosen == 1 { "the chosen unit".to_string() } else { format!("the {chosen} chosen units") };
        out.push(match self.recovered_repaired {
            Some(repaired) => format!(
                "Zeroing {units} recovered {} of this gap; with the last layer refitted, {}.",
                percent(self.recovered_zeroed),
                percent(repaired)
            ),
            None => format!("Zeroing {units} recovered {} of this gap.", percent(self.recovered_zeroed)),
        });
        if let Some(alone) = self.recovered_repaired_only {
            let judged = if alone >= best { ": zeroing added nothing to it" } else { "" };
            out.push(format!("Refitting the last layer without zeroing recovered {}{judged}.", percent(alone)));
        }
        let low = controls.iter().copied().fold(f64::INFINITY, f64::min);
        let high = controls.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !controls.is_empty() {
            let with = if refitted { ", also refitted," } else { "" };
            let judged = if ours > high {
                "The edit did better than every draw."
            } else if ours > low {
                "The edit did not do better than every draw: its gain may be chance."
            } else {
                "The edit did no better than random units."
            };
            let (low, high) = (percent(low), percent(high));
            let range = if low == high { low } else { format!("{low} to {high}") };
            out.push(format!(
                "As many random units of the same layers{with} recovered {range} in {}. {judged}",
                super::plural(controls.len(), "draw", "draws")
            ));
        }
        out
    }
}

/// One audit during training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The epoch, from 1.
    pub epoch: u64,
    /// Training steps so far.
    pub step: u64,
    /// Units with a description.
    pub described: usize,
    /// Units about which the describer found nothing reliable.
    pub abstained: usize,
    /// Units that never vary.
    pub dead: usize,
    /// Units that policies of level `warn` or `deny` object to.
    pub flagged: usize,
    /// Units whose description changed since the last audit; 0 at the first.
    pub changed: usize,
    /// The evaluations at that moment.
    pub evaluations: Vec<NamedAccuracy>,
}

/// One evaluation's result.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct NamedAccuracy {
    /// The evaluation's name.
    pub name: String,
    /// The counts.
    pub accuracy: Accuracy,
}
