//! The parts of a report that say what was done about the findings, and how audits went during training.

use crate::UnitId;
use crate::stats::Accuracy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was done about the findings, and what that did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EditReport {
    /// `zero` or `prune`; `zero and prune` where some policies want the one and some the other.
    pub action: String,
    /// The units that policies ask to be edited, in the order in which they would be.
    pub flagged: Vec<UnitId>,
    /// Those that were: as many of the first as validation data advised.
    pub chosen: Vec<UnitId>,
    /// Every site's unit that becomes zero or leaves with them, the chosen ones included, by id.
    pub coupled: Vec<UnitId>,
    /// Flagged units that cannot be edited.
    pub left_out: Vec<LeftOut>,
    /// What each number of removed units does on validation data, fewest first.
    pub sweep: Vec<SweepPoint>,
    /// What the edit does on test data.
    pub evaluations: Vec<Evaluation>,
    /// How much of a gap between two of the evaluations the edit closes.
    pub gap: Option<Gap>,
    /// How the edit was verified, as a sentence.
    pub verification: String,
}

/// A flagged unit that cannot be edited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LeftOut {
    /// The unit.
    pub unit: UnitId,
    /// Why, without a full stop.
    pub reason: String,
}

/// What removing a number of units does on validation data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SweepPoint {
    /// How many of the flagged units, in order, are edited.
    pub removed: usize,
    /// One per evaluation.
    pub validation: Vec<SweepAccuracy>,
}

/// One evaluation on validation data.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SweepAccuracy {
    /// The evaluation's name.
    pub name: String,
    /// Without repair.
    pub accuracy: Accuracy,
    /// With the last layer refitted.
    pub repaired: Option<Accuracy>,
}

/// One evaluation on test data, before and after.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// Its name.
    pub name: String,
    /// Before the edit.
    pub before: Accuracy,
    /// With the chosen units edited.
    pub edited: Accuracy,
    /// McNemar's exact test of `edited` against `before`.
    pub edited_p: f64,
    /// With the chosen units edited and the last layer refitted on clean validation images.
    pub edited_repaired: Option<Accuracy>,
    /// McNemar's exact test of `edited_repaired` against `before`.
    pub repaired_p: Option<f64>,
    /// With the last layer refitted and nothing else done.
    pub repaired_only: Option<Accuracy>,
    /// The same number of random units of the same layers.
    pub controls: Vec<Control>,
}

/// One draw of random units.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Control {
    /// Which draw, from 0.
    pub draw: usize,
    /// With these units edited.
    pub edited: Accuracy,
    /// And the last layer refitted.
    pub repaired: Option<Accuracy>,
}

/// How much of the gap between two evaluations was closed.
///
/// Recovered shares are `(shifted after - shifted before) / (clean before - shifted before)`: 0 is nothing, 1 all of it,
/// negative worse than before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The evaluation without the spurious feature.
    pub clean_name: String,
    /// The evaluation with it, misleading.
    pub shifted_name: String,
    /// `clean - shifted` before the edit, a difference of shares, above 0.
    pub before_gap: f64,
    /// By the edit.
    pub recovered_edited: f64,
    /// By the edit and refitting the last layer.
    pub recovered_repaired: Option<f64>,
    /// By refitting the last layer alone.
    pub recovered_repaired_only: Option<f64>,
    /// By editing random units, one per draw.
    pub recovered_controls: Vec<f64>,
    /// By editing random units and refitting the last layer, one per draw that did.
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
            recovered_edited: Some(s.edited).filter(measured).map(share)?,
            recovered_repaired: s.edited_repaired.filter(measured).map(share),
            recovered_repaired_only: s.repaired_only.filter(measured).map(share),
            recovered_controls: s.controls.iter().map(|c| c.edited).filter(measured).map(share).collect(),
            recovered_controls_repaired: s
                .controls
                .iter()
                .filter_map(|c| c.repaired)
                .filter(measured)
                .map(share)
                .collect(),
        })
    }
}

impl EditReport {
    /// What was done, in the past: `zeroed`, `pruned`.
    pub(super) fn past(&self) -> &'static str {
        match self.action.as_str() {
            "zero" => "zeroed",
            "prune" => "pruned",
            _ => "edited",
        }
    }

    fn doing(&self) -> &'static str {
        match self.action.as_str() {
            "zero" => "zeroing",
            "prune" => "pruning",
            _ => "editing",
        }
    }

    /// What the edit did to the gap and what it cost, in honest words: what random units and the refit alone do, and
    /// whether the edit did better. Nothing without a gap.
    pub fn sentences(&self) -> Vec<String> {
        let Some(gap) = &self.gap else { return Vec::new() };
        let mut out = vec![format!(
            "Before the edit, {} is {:.1} points below {}.",
            gap.shifted_name,
            100.0 * gap.before_gap,
            gap.clean_name
        )];
        let units = match self.chosen.len() {
            1 => "the chosen unit".to_string(),
            n => format!("the {n} chosen units"),
        };
        let (doing, edited) = (self.doing(), share(gap.recovered_edited));
        let capitalised = super::capitalised(doing);
        out.push(match gap.recovered_repaired {
            Some(r) => {
                format!(
                    "{capitalised} {units} recovered {edited} of this gap; with the last layer refitted, {}.",
                    share(r)
                )
            }
            None => format!("{capitalised} {units} recovered {edited} of this gap."),
        });
        out.extend(gap.against_refitting_alone(doing));
        out.extend(gap.against_random_units());
        out.extend(self.evaluations.iter().find(|e| e.name == gap.clean_name).map(Evaluation::cost));
        out
    }
}

impl Gap {
    fn against_refitting_alone(&self, doing: &str) -> Option<String> {
        let alone = self.recovered_repaired_only?;
        let judged = match self.recovered_repaired {
            Some(both) if alone >= both => format!(": {doing} added nothing to it"),
            _ => String::new(),
        };
        Some(format!("Refitting the last layer without {doing} recovered {}{judged}.", share(alone)))
    }

    /// Like is held against like: refitted random units against the refitted edit, where both were measured.
    fn against_random_units(&self) -> Option<String> {
        let (ours, controls, refitted) = match self.recovered_repaired {
            Some(r) if !self.recovered_controls_repaired.is_empty() => {
                (r, &self.recovered_controls_repaired, ", also refitted,")
            }
            _ => (self.recovered_edited, &self.recovered_controls, ""),
        };
        let (low, high) = (controls.iter().copied().reduce(f64::min)?, controls.iter().copied().reduce(f64::max)?);
        let judged = if ours > high {
            "The edit did better than every draw."
        } else if ours > low {
            "The edit did not do better than every draw: its gain may be chance."
        } else {
            "The edit did no better than random units."
        };
        let range = match (share(low), share(high)) {
            (low, high) if low == high => low,
            (low, high) => format!("{low} to {high}"),
        };
        let draws = super::plural(controls.len(), "draw", "draws");
        Some(format!("As many random units of the same layers{refitted} recovered {range} in {draws}. {judged}"))
    }
}

impl Evaluation {
    /// What the edit does to this evaluation, in points.
    fn cost(&self) -> String {
        let points = |after: &Accuracy| 100.0 * (after.rate() - self.before.rate());
        let mut text = format!("Accuracy on {} changed by {:+.1} points", self.name, points(&self.edited));
        if let Some(repaired) = self.edited_repaired.filter(|a| a.total > 0) {
            text += &format!("; with the last layer refitted, by {:+.1}", points(&repaired));
        }
        text + "."
    }
}

/// `46 %`.
fn share(share: f64) -> String {
    format!("{:.0} %", (100.0 * share).round() + 0.0)
}

/// One audit during training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// What was pruned right after this audit. From here on units have other numbers.
    #[serde(default)]
    pub pruned: Vec<UnitId>,
}

/// One evaluation's result.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NamedAccuracy {
    /// The evaluation's name.
    pub name: String,
    /// The counts.
    pub accuracy: Accuracy,
}
