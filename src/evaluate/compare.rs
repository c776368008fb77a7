//! Before and after, on test images that nothing was chosen on.

use super::choose::EXAMPLE;
use super::{Evaluation, Inputs, Methods, correct, count};
use crate::edit::repair::{LastLayer, Refit};
use crate::graph::Mask;
use crate::probe::{Images, example};
use crate::stats::{Accuracy, mcnemar};
use crate::{Error, Result, Traced, UnitId};
use std::collections::BTreeSet;

/// Random units to compare with.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
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
    /// With the units edited.
    pub edited: Accuracy,
    /// McNemar's exact two-sided p of `zeroed` against `before`.
    pub edited_p: f64,
    /// With the units edited and the last layer refitted, and its p against `before`.
    pub repaired: Option<(Accuracy, f64)>,
    /// With the last layer refitted and nothing edited: what the repair does alone.
    pub repaired_only: Option<Accuracy>,
    /// Random units: edited, and refitted as well.
    pub controls: Vec<(Accuracy, Option<Accuracy>)>,
}

/// The comparisons, one per evaluation, and the last layer as refitted behind the edited units.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of the evaluations.
    pub comparisons: Vec<Comparison>,
    /// To be installed after the edit.
    pub refit: Option<Refit>,
}

/// Measures what editing `units` does on the test images of every evaluation. The model is masked, not changed.
///
/// The last layer is refitted on the validation images of the first (clean) evaluation.
///
/// # Errors
/// What the forward pass returns; [`Error::Refused`] when the units cannot be edited together.
pub fn compare(
    traced: &Traced<'_>,
    (units, methods): (&[UnitId], &Methods),
    evaluations: &[Evaluation],
    layer: Option<&LastLayer>,
    options: &Options,
) -> Result<Outcome> {
    let Some(clean) = evaluations.first() else { return Ok(Outcome { comparisons: Vec::new(), refit: None }) };
    let bar = crate::progress::bar("evaluating", options.draws + 2);
    let variant = |masks: &[Mask], pull: Option<f64>| -> Result<Variant> {
        let variant = Variant::measure(traced, masks, evaluations, clean, layer, pull);
        bar.inc(1);
        variant
    };
    let before = variant(&[], None)?;
    let pull = before.refit.as_ref().map(|r| r.pull);
    let edited = variant(&methods.masks(traced, units)?, None)?;
    let mut controls = Vec::new();
    for draw in 0..options.draws {
        let seed = options.seed.wrapping_add(draw as u64);
        match draw_like(traced, (units, methods), &clean.validation, seed)? {
            Some((random, methods)) => controls.push(variant(&methods.masks(traced, &random)?, pull)?),
            None => break, // the sites have no other units
        }
    }
    bar.finish_and_clear();
    let comparisons = evaluations
        .iter()
        .enumerate()
        .map(|(e, evaluation)| {
            let against_before = |after: &[bool]| paired(&evaluation.name, &before.plain[e], after);
            let repaired = |after: &Vec<bool>| Ok((count(after), against_before(after)?));
            Ok(Comparison {
                name: evaluation.name.clone(),
                before: count(&before.plain[e]),
                edited: count(&edited.plain[e]),
                edited_p: against_before(&edited.plain[e])?,
                repaired: edited.refitted.get(e).map(repaired).transpose()?,
                repaired_only: before.refitted.get(e).map(|after| count(after)),
                controls: controls
                    .iter()
                    .map(|c| (count(&c.plain[e]), c.refitted.get(e).map(|right| count(right))))
                    .collect(),
            })
        })
        .collect::<Result<_>>()?;
    Ok(Outcome { comparisons, refit: edited.refit })
}

/// One set of masks: which test images are right, per evaluation, without and with the last layer refitted.
struct Variant {
    plain: Vec<Vec<bool>>,
    refitted: Vec<Vec<bool>>,
    refit: Option<Refit>,
}

impl Variant {
    fn measure(
        traced: &Traced<'_>,
        masks: &[Mask],
        evaluations: &[Evaluation],
        clean: &Evaluation,
        layer: Option<&LastLayer>,
        pull: Option<f64>,
    ) -> Result<Self> {
        let Some(layer) = layer else {
            let plain = evaluations.iter().map(|e| correct(traced, masks, &e.test)).collect::<Result<_>>()?;
            return Ok(Self { plain, refitted: Vec::new(), refit: None });
        };
        let fit_on = Inputs::read(layer, traced, masks, &clean.validation)?;
        let refit = match pull {
            Some(pull) => layer.refit_with(traced.model(), &fit_on.features, &fit_on.labels, pull)?,
            None => layer.refit(traced.model(), &fit_on.features, &fit_on.labels)?,
        };
        let present = layer.current(traced.model())?;
        let (mut plain, mut refitted) = (Vec::new(), Vec::new());
        for evaluation in evaluations {
            let inputs = Inputs::read(layer, traced, masks, &evaluation.test)?;
            plain.push(inputs.right(&present)?);
            refitted.push(inputs.right(&refit)?);
        }
        Ok(Self { plain, refitted, refit: Some(refit) })
    }
}

/// The p of two lists of answers for the same images.
fn paired(name: &str, before: &[bool], after: &[bool]) -> Result<f64> {
    if before.len() != after.len() {
        let allowed = format!("{}, as before", before.len());
        return Err(Error::invalid(format!("readable images of evaluation `{name}`"), after.len(), allowed));
    }
    let only = |a: bool, b: bool| before.iter().zip(after).filter(|(x, y)| (**x, **y) == (a, b)).count() as u64;
    Ok(mcnemar(only(true, false), only(false, true)))
}

/// As many random units of the same sites, edited in the same ways, none of them in `units`; `None` where there are not
/// enough that can be edited.
pub fn draw_like(
    traced: &Traced<'_>,
    (units, methods): (&[UnitId], &Methods),
    images: &dyn Images,
    seed: u64,
) -> Result<Option<(Vec<UnitId>, Methods)>> {
    let example = example(images, EXAMPLE)?;
    let mut taken: BTreeSet<UnitId> = units.iter().cloned().collect();
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut drawn = Vec::new();
    for unit in units {
        let all = traced.site(&unit.site)?.units;
        let mut pool: Vec<UnitId> =
            (0..all).map(|u| UnitId::new(&unit.site, u)).filter(|id| !taken.contains(id)).collect();
        rng.shuffle(&mut pool);
        let mut found = None;
        for id in pool {
            let methods = methods.like(std::slice::from_ref(unit), std::slice::from_ref(&id));
            taken.insert(id.clone());
            if methods.try_one(traced, &id, &example)?.is_ok() {
                found = Some(id);
                break;
            }
        }
        match found {
            Some(id) => drawn.push(id),
            None => return Ok(None),
        }
    }
    let methods = methods.like(units, &drawn);
    Ok(Some((drawn, methods)))
}
