//! From findings to an edited model, with everything that was measured on the way.

use super::Auditor;
use crate::edit::repair::LastLayer;
use crate::edit::{Applied, Plan};
use crate::evaluate::choose::{Choice, choose};
use crate::evaluate::compare::{Comparison, compare};
use crate::graph::Graph;
use crate::report::{Control, EditReport, Evaluation, Gap, NotZeroed, SweepAccuracy, SweepPoint};
use crate::{Model, Result, UnitId};

/// Chooses among `wanted` on validation images, measures on test images, then zeroes and refits the last layer in place.
pub(super) fn fix(
    auditor: &Auditor<'_>,
    model: &Model<'_>,
    graph: &Graph,
    wanted: &[UnitId],
) -> Result<(EditReport, Option<Applied>)> {
    let evaluations = &auditor.evaluations;
    let layer =
        LastLayer::of(graph).inspect_err(|reason| tracing::warn!(%reason, "the last layer is not refitted")).ok();
    let choice = choose(model, graph, wanted, evaluations, layer.as_ref(), &auditor.choice)?;
    let chosen = &choice.order[..choice.removed];
    if chosen.is_empty() {
        return Ok((reported(evaluations_of(&choice, auditor), choice, Vec::new(), Vec::new(), String::new()), None));
    }
    let outcome = compare(model, graph, chosen, evaluations, layer.as_ref(), &auditor.controls)?;
    let plan = Plan::zero(graph, chosen)?;
    let example = auditor.probe.tensor(0..auditor.probe.len().min(32))?;
    let applied = plan.apply(model, graph, &example)?;
    let mut verification = format!(
        "the zeroed model's output differs from that of the untouched model with the whole group masked by at most {:.1e}",
        applied.difference
    );
    if let (Some(layer), Some(refit)) = (&layer, &outcome.refit) {
        if let Err(error) = layer.install(model, refit) {
            applied.undo()?;
            return Err(error);
        }
        verification.push_str("; the last layer is refitted on clean validation images");
    }
    let sweep = evaluations_of(&choice, auditor);
    Ok((reported(sweep, choice, plan.coupled, outcome.comparisons, verification), Some(applied)))
}

fn evaluations_of(choice: &Choice, auditor: &Auditor<'_>) -> Vec<SweepPoint> {
    let point = |step: &crate::evaluate::choose::Step| SweepPoint {
        removed: step.removed,
        validation: auditor
            .evaluations
            .iter()
            .zip(&step.accuracy)
            .map(|(e, (accuracy, repaired))| SweepAccuracy {
                name: e.name.clone(),
                accuracy: *accuracy,
                repaired: *repaired,
            })
            .collect(),
    };
    choice.sweep.iter().map(point).collect()
}

fn reported(
    sweep: Vec<SweepPoint>,
    choice: Choice,
    coupled: Vec<UnitId>,
    comparisons: Vec<Comparison>,
    verification: String,
) -> EditReport {
    let evaluations: Vec<Evaluation> = comparisons.into_iter().map(evaluation).collect();
    // The gap is that of the evaluation that suffers most.
    let clean = evaluations.first().map(|e| e.name.clone());
    let worst = evaluations.iter().skip(1).min_by(|a, b| a.before.rate().total_cmp(&b.before.rate()));
    let gap = clean.zip(worst).and_then(|(clean, worst)| Gap::between(&evaluations, &clean, &worst.name));
    let not_zeroed = choice.refused.into_iter().map(|(unit, reason)| NotZeroed { unit, reason }).collect();
    EditReport {
        action: "zero".to_string(),
        chosen: choice.order[..choice.removed].to_vec(),
        flagged: choice.order,
        coupled,
        not_zeroed,
        sweep,
        gap,
        evaluations,
        verification,
    }
}

fn evaluation(comparison: Comparison) -> Evaluation {
    let control = |(draw, (zeroed, repaired))| Control { draw, zeroed, repaired };
    Evaluation {
        name: comparison.name,
        before: comparison.before,
        zeroed: comparison.zeroed,
        zeroed_p: comparison.zeroed_p,
        zeroed_repaired: comparison.repaired.map(|(accuracy, _)| accuracy),
        repaired_p: comparison.repaired.map(|(_, p)| p),
        repaired_only: comparison.repaired_only,
        controls: comparison.controls.into_iter().enumerate().map(control).collect(),
    }
}
