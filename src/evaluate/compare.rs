//! Before and after, on test images that nothing was chosen on.

use super::choose::masks;
use super::stats::{Accuracy, mcnemar};
use super::{Evaluation, Inputs, correct, count};
use crate::edit::Plan;
use crate::edit::repair::{LastLayer, Refit};
use crate::graph::{Graph, Mask};
use crate::{Error, Model, Result, UnitId};
use std::collections::{BTreeMap, BTreeSet};

/// Random units to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How many draws of as many random units of the same sites.
    pub draws: usize,
    /// Where the draws start.
    pub seed: u64,
}

impl Default for Options {
    /// Ten draws.
    fn default() -> Self {
        Self { draws: 10, seed: 0 }
    }
}

/// One evaluation on test images.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The evaluation's name.
    pub name: String,
    /// The model as it was.
    pub before: Accuracy,
    /// With the units zeroed.
    pub zeroed: Accuracy,
    /// McNemar's exact two-sided p of `zeroed` against `before`.
    pub zeroed_p: f64,
    /// With the units zeroed and the last layer refitted, and its p against `before`.
    pub repaired: Option<(Accuracy, f64)>,
    /// With the last layer refitted and nothing zeroed: what the repair does alone.
    pub repaired_only: Option<Accuracy>,
    /// Random units: zeroed, and refitted as well.
    pub controls: Vec<(Accuracy, Option<Accuracy>)>,
}

/// The comparisons, one per evaluation, and the last layer as refitted behind the zeroed units.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of the evaluations.
    pub comparisons: Vec<Comparison>,
    /// To be installed after the edit.
    pub refit: Option<Refit>,
}

/// Measures what zeroing `units` does on the test images of every evaluation. The model is masked, not changed.
///
/// The last layer is refitted on the validation images of the first (clean) evaluation.
///
/// # Errors
/// What the forward pass returns; [`Error::Refused`] when the units cannot be zeroed.
pub fn compare(
    model: &Model<'_>,
    graph: &Graph,
    units: &[UnitId],
    evaluations: &[Evaluation],
    layer: Option<&LastLayer>,
    options: &Options,
) -> Result<Outcome> {
    let Some(clean) = evaluations.first() else { return Ok(Outcome { comparisons: Vec::new(), refit: None }) };
    let bar = crate::progress::bar("evaluating", options.draws + 2);
    let variant = |masks: &[Mask], pull: Option<f64>| -> Result<Variant> {
        let variant = Variant::measure(model, graph, masks, evaluations, clean, layer, pull);
        bar.inc(1);
        variant
    };
    let before = variant(&[], None)?;
    let pull = before.refit.as_ref().map(|r| r.pull);
    let zeroed = variant(&masks(graph, units)?, None)?;
    let mut controls = Vec::new();
    for draw in 0..options.draws {
        match draw_like(graph, units, options.seed.wrapping_add(draw as u64))? {
            Some(random) => controls.push(variant(&masks(graph, &random)?, pull)?),
            None => break, // the sites have no other units
        }
    }
    bar.finish_and_clear();
    let comparisons = evaluations
        .iter()
        .enumerate()
        .map(|(e, evaluation)| Comparison {
            name: evaluation.name.clone(),
            before: count(&before.plain[e]),
            zeroed: count(&zeroed.plain[e]),
            zeroed_p: paired(&before.plain[e], &zeroed.plain[e]),
            repaired: zeroed.refitted.get(e).map(|after| (count(after), paired(&before.plain[e], after))),
            repaired_only: before.refitted.get(e).map(|after| count(after)),
            controls: controls
                .iter()
                .map(|c| (count(&c.plain[e]), c.refitted.get(e).map(|right| count(right))))
                .collect(),
        })
        .collect();
    Ok(Outcome { comparisons, refit: zeroed.refit })
}

/// One set of masks: which test images are right, per evaluation, without and with the last layer refitted.
struct Variant {
    plain: Vec<Vec<bool>>,
    refitted: Vec<Vec<bool>>,
    refit: Option<Refit>,
}

impl Variant {
    fn measure(
        model: &Model<'_>,
        graph: &Graph,
        masks: &[Mask],
        evaluations: &[Evaluation],
        clean: &Evaluation,
        layer: Option<&LastLayer>,
        pull: Option<f64>,
    ) -> Result<Self> {
        let Some(layer) = layer else {
            let plain = evaluations.iter().map(|e| correct(model, graph, masks, &e.test)).collect::<Result<_>>()?;
            return Ok(Self { plain, refitted: Vec::new(), refit: None });
        };
        let fit_on = Inputs::read(layer, model, graph, masks, &clean.validation)?;
        let refit = match pull {
            Some(pull) => layer.refit_with(model, &fit_on.features, &fit_on.labels, pull)?,
            None => layer.refit(model, &fit_on.features, &fit_on.labels)?,
        };
        let present = layer.current(model)?;
        let (mut plain, mut refitted) = (Vec::new(), Vec::new());
        for evaluation in evaluations {
            let inputs = Inputs::read(layer, model, graph, masks, &evaluation.test)?;
            plain.push(inputs.right(&present)?);
            refitted.push(inputs.right(&refit)?);
        }
        Ok(Self { plain, refitted, refit: Some(refit) })
    }
}

fn paired(before: &[bool], after: &[bool]) -> f64 {
    let only = |a: bool, b: bool| before.iter().zip(after).filter(|(x, y)| (**x, **y) == (a, b)).count() as u64;
    mcnemar(only(true, false), only(false, true))
}

/// As many random units of the same sites, none of them in `units`; `None` where there are not enough that can be zeroed.
fn draw_like(graph: &Graph, units: &[UnitId], seed: u64) -> Result<Option<Vec<UnitId>>> {
    let taken: BTreeSet<&UnitId> = units.iter().collect();
    let mut wanted: BTreeMap<&str, usize> = BTreeMap::new();
    for unit in units {
        *wanted.entry(unit.site.as_str()).or_insert(0) += 1;
    }
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut drawn = Vec::new();
    for (site, count) in wanted {
        let all = graph.site(site)?.units;
        let mut pool: Vec<UnitId> = (0..all).map(|u| UnitId::new(site, u)).filter(|id| !taken.contains(id)).collect();
        rng.shuffle(&mut pool);
        let mut found = 0;
        for id in pool {
            if found == count {
                break;
            }
            match Plan::zero(graph, std::slice::from_ref(&id)) {
                Ok(_) => {
                    drawn.push(id);
                    found += 1;
                }
                Err(Error::Refused { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        if found < count {
            return Ok(None);
        }
    }
    Ok(Some(drawn))
}
