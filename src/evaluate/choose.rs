//! Which of the flagged units go, and how many: decided on validation images alone.

use super::{Evaluation, Inputs, Methods, correct, count};
use crate::edit::repair::{BATCH, LastLayer, Refit};
use crate::graph::Mask;
use crate::probe::{Images, Probe, Want, example, labels};
use crate::stats::Accuracy;
use crate::{Error, Result, Traced, UnitId};
use tch::{Kind, Tensor};

/// Validation images per evaluation that rank single units.
const RANKING_IMAGES: usize = 400;

/// Images that an edit is tried with.
pub(super) const EXAMPLE: usize = 2;

/// How the number of units is chosen.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How much validation accuracy on the first (clean) evaluation may be lost, as a share.
    pub tolerated_loss: f64,
    /// How many numbers of units are tried, besides 0.
    pub steps: usize,
}

impl Default for Options {
    /// At most 1 point of clean accuracy, because validation images do not tell the loss to the point; at most 16 numbers of units.
    fn default() -> Self {
        Self { tolerated_loss: 0.01, steps: 16 }
    }
}

/// What was tried on validation images, and what was chosen.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The candidates that can be edited, best removal first.
    pub order: Vec<UnitId>,
    /// The candidates that cannot be edited, and why.
    pub refused: Vec<(UnitId, String)>,
    /// Validation accuracies by number of removed units, 0 first.
    pub sweep: Vec<Step>,
    /// How many of `order` to remove; may be 0.
    pub removed: usize,
}

/// Validation accuracies with the first `removed` units edited.
#[derive(Debug, Clone)]
pub struct Step {
    /// How many units.
    pub removed: usize,
    /// Per evaluation: as edited, and with the last layer refitted (by cross-fitting; `None` where it cannot be).
    pub accuracy: Vec<(Accuracy, Option<Accuracy>)>,
}

/// Orders `candidates` by what the removal of each alone does to the validation loss, over all evaluations, and chooses
/// how many to remove: of the numbers that cost the first evaluation (clean) no more than is tolerated, the one whose
/// worst evaluation has the best validation accuracy; of equals the smallest. Evaluations on which a shortcut helps
/// (images stamped with the right word) thus do not speak for keeping it.
///
/// With `layer`, accuracies after refitting it count.
///
/// # Errors
/// What the forward pass returns.
pub fn choose(
    traced: &Traced<'_>,
    (candidates, methods): (&[UnitId], &Methods),
    evaluations: &[Evaluation],
    layer: Option<&LastLayer>,
    options: &Options,
) -> Result<Choice> {
    let (order, refused) = rank(traced, (candidates, methods), evaluations)?;
    let mut sweep = Vec::new();
    let mut pull = None;
    let counts = counts(order.len(), options.steps);
    let bar = crate::progress::bar("choosing", counts.len());
    for removed in counts {
        let masks = methods.masks(traced, &order[..removed])?;
        sweep.push(Step { removed, accuracy: measure(traced, &masks, evaluations, layer, &mut pull)? });
        bar.inc(1);
    }
    bar.finish_and_clear();
    let removed = best(&sweep, options.tolerated_loss);
    Ok(Choice { order, refused, sweep, removed })
}

type Ranked = (Vec<UnitId>, Vec<(UnitId, String)>);

fn rank(
    traced: &Traced<'_>,
    (candidates, methods): (&[UnitId], &Methods),
    evaluations: &[Evaluation],
) -> Result<Ranked> {
    let Some(first) = evaluations.first() else { return Ok((candidates.to_vec(), Vec::new())) };
    let example = example(&first.validation, EXAMPLE)?;
    let subsets: Vec<Probe> = evaluations.iter().map(|e| spread(&e.validation)).collect::<Result<_>>()?;
    let bar = crate::progress::bar("ranking", candidates.len());
    let (mut scored, mut refused) = (Vec::new(), Vec::new());
    for unit in candidates {
        match methods.try_one(traced, unit, &example)? {
            Ok(masks) => {
                let mut loss = 0.0;
                for probe in &subsets {
                    loss += mean_loss(traced, &masks, probe)?;
                }
                scored.push((loss, unit.clone()));
            }
            Err(reason) => refused.push((unit.clone(), reason)),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
    Ok((scored.into_iter().map(|(_, unit)| unit).collect(), refused))
}

/// At most [`RANKING_IMAGES`] images, evenly spread over the set, in memory: they are shown for every candidate.
fn spread(images: &dyn Images) -> Result<Probe> {
    let n = images.len().min(RANKING_IMAGES);
    let numbers: Vec<usize> = (0..n).map(|i| i * images.len() / n).collect();
    Probe::of(images, &numbers)
}

fn mean_loss(traced: &Traced<'_>, masks: &[Mask], probe: &Probe) -> Result<f64> {
    let all: Vec<usize> = (0..probe.len()).collect();
    let mut sum = 0.0;
    probe.read(&all, traced.model().at_most(BATCH), Want::Inputs, &mut |batch| {
        let output = traced.read_masked(&[], masks, &batch.input, |_, _| Ok(()))?;
        let labels = labels(probe, &batch.numbers)?.to_device(output.device());
        let loss = output
            .f_to_kind(Kind::Double)
            .and_then(|o| o.f_cross_entropy_loss::<Tensor>(&labels, None, tch::Reduction::Sum, -100, 0.0))
            .and_then(|l| l.f_double_value(&[]))
            .map_err(Error::torch("computing the validation loss"))?;
        sum += loss;
        Ok(())
    })?;
    Ok(sum / probe.len() as f64)
}

/// 0, then about `steps` numbers up to `n`, closer together at the start.
fn counts(n: usize, steps: usize) -> Vec<usize> {
    let mut counts = vec![0];
    for i in 1..=steps {
        let share = i as f64 / steps as f64;
        let count = ((n as f64 * share.powi(2)).ceil() as usize).min(n);
        if Some(&count) > counts.last() {
            counts.push(count);
        }
    }
    counts
}

fn measure(
    traced: &Traced<'_>,
    masks: &[Mask],
    evaluations: &[Evaluation],
    layer: Option<&LastLayer>,
    pull: &mut Option<f64>,
) -> Result<Vec<(Accuracy, Option<Accuracy>)>> {
    let (Some(layer), false) = (layer, evaluations.is_empty()) else {
        let plain = |e: &Evaluation| correct(traced, masks, &e.validation).map(|right| (count(&right), None));
        return evaluations.iter().map(plain).collect();
    };
    // The inputs of the last layer say all: what the layer makes of them now, and what it could.
    let sets: Vec<Inputs> =
        evaluations.iter().map(|e| Inputs::read(layer, traced, masks, &e.validation)).collect::<Result<_>>()?;
    let present = layer.current(traced.model())?;
    let mut accuracy = Vec::new();
    for set in &sets {
        accuracy.push((count(&set.right(&present)?), Some(Accuracy::new(0, 0))));
    }
    // Cross-fitting: the layer is refitted on one half of the clean images and measured on the other half of all.
    for half in 0..2 {
        let fit_on = sets[0].half(1 - half)?;
        let refit: Refit = match pull {
            Some(pull) => layer.refit_with(traced.model(), &fit_on.features, &fit_on.labels, *pull)?,
            None => {
                let refit = layer.refit(traced.model(), &fit_on.features, &fit_on.labels)?;
                *pull = Some(refit.pull);
                refit
            }
        };
        for (set, (_, sum)) in sets.iter().zip(&mut accuracy) {
            let part = count(&set.half(half)?.right(&refit)?);
            *sum = sum.map(|s| Accuracy::new(s.correct + part.correct, s.total + part.total));
        }
    }
    Ok(accuracy)
}

/// Of the numbers of units that cost the first evaluation no more than is tolerated, the one whose worst evaluation is
/// best; of equals the smallest.
fn best(sweep: &[Step], tolerated: f64) -> usize {
    let rate = |a: &(Accuracy, Option<Accuracy>)| a.1.unwrap_or(a.0).rate();
    let clean = |s: &Step| s.accuracy.first().map_or(0.0, rate);
    let worst = |s: &Step| s.accuracy.iter().map(rate).fold(f64::INFINITY, f64::min);
    // Like is compared with like: a layer refitted on half of the images with another such.
    let Some(untouched) = sweep.first() else { return 0 };
    let (before, mut removed, mut record) = (clean(untouched), 0, worst(untouched));
    for step in sweep.iter().skip(1).filter(|s| clean(s) >= before - tolerated - 1e-9) {
        if worst(step) > record {
            (removed, record) = (step.removed, worst(step));
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(removed: usize, clean: u64, shifted: u64) -> Step {
        let accuracy = |correct| (Accuracy::new(correct, 100), None);
        Step { removed, accuracy: vec![accuracy(clean), accuracy(shifted)] }
    }

    #[test]
    fn counts_start_at_zero_and_end_at_all() {
        assert_eq!(counts(0, 12), [0]);
        assert_eq!(counts(3, 12), [0, 1, 2, 3]);
        let many = counts(200, 12);
        assert_eq!((many[0], *many.last().unwrap(), many.len()), (0, 200, 13));
    }

    #[test]
    fn the_best_number_within_the_tolerated_loss_is_chosen() {
        assert_eq!(best(&[step(0, 80, 40), step(1, 79, 50), step(2, 70, 69)], 0.02), 1);
        assert_eq!(best(&[step(0, 80, 40), step(1, 80, 40)], 0.02), 0, "no gain, no edit");
        assert_eq!(best(&[step(0, 80, 40), step(1, 60, 99)], 0.02), 0, "too dear");
    }
}
