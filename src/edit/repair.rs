//! After an edit: refit the last layer.
//!
//! The features in front of the last linear layer still hold what the edit left over; the layer was fitted to them when
//! the lost units were there. Refitting it on clean held-out images adapts it to what is left.
//!
//! **Source:** last-layer retraining as in Kirichenko et al., Last Layer Re-Training is Sufficient for Robustness to
//! Spurious Correlations, 2022, arXiv 2204.02937. Differs: the layer is pulled towards its old weights, and how strongly
//! is chosen by cross-validation.

use super::unseen::Touched;
use crate::edit::Slice;
use crate::graph::{Graph, Mask, Operand, Site, find};
use crate::probe::{Images, Want};
use crate::{Error, Model, Reason, Result, Traced};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// The strengths of the pull that are tried.
const PULLS: [f64; 5] = [1e-3, 1e-2, 1e-1, 1.0, 10.0];
const FOLDS: i64 = 4;
const STEPS: usize = 250;

/// A model's last linear layer, and where its input can be read.
#[derive(Debug, Clone)]
pub struct LastLayer {
    weight: String,
    bias: Option<String>,
    input: Site,
}

/// New weights for the last layer. Kept apart from the model until [`LastLayer::install`].
#[derive(Debug)]
pub struct Refit {
    weight: Tensor,
    bias: Option<Tensor>,
    /// The strength of the pull towards the old weights that cross-validation chose.
    pub pull: f64,
}

impl LastLayer {
    /// The linear layer that makes the model's output, `[N, classes]`; a constant factor may follow it.
    ///
    /// # Errors
    /// [`Error::Refused`] when the model does not end in a linear layer with a named weight, when its input cannot be
    /// read, or when code that did not run in the traced pass reads its weight.
    pub fn of(graph: &Graph) -> Result<Self> {
        let refuse = |reason: &str| Error::Refused {
            kind: Reason::Other,
            action: "repair",
            unit: "the last layer".to_string(),
            reason: reason.to_string(),
        };
        let mut value = graph.output.ok_or_else(|| refuse("the model has no output"))?;
        let op = loop {
            let op = graph.producer(value).ok_or_else(|| refuse("the output is not made by a layer"))?;
            let inputs: Vec<usize> = graph.data_inputs(op).collect();
            match (graph.ops[op].name.as_str(), inputs.as_slice()) {
                ("linear", _) => break op,
                ("mul" | "div" | "alias", [only]) => value = *only,
                (other, _) => return Err(refuse(&format!("the model ends in `{other}`, not in a linear layer"))),
            }
        };
        if graph.ops[op].aten != "aten::linear" {
            return Err(refuse("its weight is transposed"));
        }
        let name = |i: usize| match graph.ops[op].inputs.get(i) {
            Some(Operand::Value(v)) => graph.values[*v].parameter.map(|(p, _)| p),
            _ => None,
        };
        let named = graph.named();
        let weight = name(1).filter(|p| *p < named).ok_or_else(|| refuse("its weight has no name"))?;
        let input = graph
            .data_inputs(op)
            .next()
            .filter(|v| graph.values[*v].shape.len() == 2)
            .and_then(|v| find::unplaced(graph, "input of the last layer".to_string(), v))
            .ok_or_else(|| refuse("its input cannot be read"))?;
        let edited = [Some(weight), name(2)].into_iter().flatten().collect();
        Touched::parameters(edited).notes(graph).map_err(|reason| Error::Refused {
            kind: Reason::UnseenCode,
            action: "repair",
            unit: "the last layer".to_string(),
            reason,
        })?;
        let names = &graph.parameters;
        Ok(Self { weight: names[weight].clone(), bias: name(2).map(|p| names[p].clone()), input })
    }

    /// The layer's inputs on `images` while `masks` are in force, `[N, features]`, and the numbers of the `N` images that
    /// could be read.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none; what reading them and the forward pass return.
    pub fn features(&self, traced: &Traced<'_>, masks: &[Mask], images: &dyn Images) -> Result<(Tensor, Vec<usize>)> {
        let (all, mut parts, mut numbers) = ((0..images.len()).collect::<Vec<_>>(), Vec::new(), Vec::new());
        images.read(&all, traced.model().at_most(BATCH), Want::Inputs, &mut |batch| {
            if !batch.numbers.is_empty() {
                let _ = traced.read_masked(std::slice::from_ref(&self.input), masks, &batch.input, |_, features| {
                    parts.push(features.f_to_kind(Kind::Float).map_err(Error::torch("reading features"))?.copy());
                    Ok(())
                })?;
                numbers.extend(batch.numbers);
            }
            Ok(())
        })?;
        if parts.is_empty() {
            return Err(Error::invalid("images to read features of", "none that can be read", "at least one"));
        }
        Ok((Tensor::f_cat(&parts, 0).map_err(Error::torch("joining features"))?, numbers))
    }

    /// The layer as it is.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the model has no such parameter.
    pub fn current(&self, model: &Model<'_>) -> Result<Refit> {
        let read = |name: &str| {
            let valid = model.parameters().iter().map(|(n, _)| n.as_str());
            model
                .parameter(name)
                .map(|t| t.detach().to_kind(Kind::Float).copy())
                .ok_or_else(|| Error::unknown("parameter", name, valid))
        };
        Ok(Refit {
            weight: read(&self.weight)?,
            bias: self.bias.as_deref().map(read).transpose()?,
            pull: f64::INFINITY,
        })
    }

    /// Fits the layer to `features` and `labels`, both of the same clean images, starting from and pulled towards its
    /// current weights. Deterministic; draws no random numbers.
    ///
    /// # Errors
    /// [`Error::Invalid`] with fewer than eight images.
    pub fn refit(&self, model: &Model<'_>, features: &Tensor, labels: &Tensor) -> Result<Refit> {
        let n = features.size()[0];
        if n < 2 * FOLDS {
            return Err(Error::invalid("images to refit the last layer on", n, format!("{} or more", 2 * FOLDS)));
        }
        let start = self.current(model)?;
        let labels = labels.to_device(features.device());
        let fold_of = Tensor::from_slice(&folds(&labels, FOLDS)?).to_device(features.device());
        let mut best = (f64::NEG_INFINITY, PULLS[0]);
        for pull in PULLS {
            let mut right = 0.0;
            for fold in 0..FOLDS {
                let (inside, outside) = (fold_of.eq(fold), fold_of.ne(fold));
                let rows = |t: &Tensor, which: &Tensor| t.index(&[Some(which)]);
                let fitted = start.fit(&rows(features, &outside), &rows(&labels, &outside), pull);
                let guess = fitted.logits(&rows(features, &inside)).argmax(1, false);
                right += guess.eq_tensor(&rows(&labels, &inside)).sum(Kind::Double).double_value(&[]);
            }
            // The strongest pull that is as good as any: the least change.
            if right >= best.0 {
                best = (right, pull);
            }
        }
        Ok(start.fit(features, &labels, best.1))
    }

    /// As [`refit`](Self::refit), with a given strength of the pull.
    ///
    /// # Errors
    /// As [`current`](Self::current).
    pub fn refit_with(&self, model: &Model<'_>, features: &Tensor, labels: &Tensor, pull: f64) -> Result<Refit> {
        Ok(self.current(model)?.fit(features, &labels.to_device(features.device()), pull))
    }

    /// New weights without the features that were pruned from the layer.
    ///
    /// # Errors
    /// [`Error::Torch`] when the slices do not fit.
    pub(crate) fn without(&self, refit: Refit, slices: &[Slice]) -> Result<Refit> {
        let mut weight = refit.weight;
        for slice in slices.iter().filter(|s| s.parameter == self.weight) {
            let size = weight.size().get(slice.dimension as usize).copied().unwrap_or(0);
            let kept: Vec<i64> = (0..size).filter(|i| slice.indices.binary_search(i).is_err()).collect();
            let kept = Tensor::from_slice(&kept).to_device(weight.device());
            weight = weight.f_index_select(slice.dimension, &kept).map_err(Error::torch("fitting the last layer"))?;
        }
        Ok(Refit { weight, ..refit })
    }

    /// Writes new weights into the model; returns the old ones, with which the same call takes it back.
    ///
    /// # Errors
    /// [`Error::Torch`] when the shapes do not fit.
    pub fn install(&self, model: &Model<'_>, refit: &Refit) -> Result<Refit> {
        let old = self.current(model)?;
        let write = |name: &str, new: &Tensor| match model.parameter(name) {
            Some(parameter) => tch::no_grad(|| parameter.shallow_clone().f_copy_(new))
                .map_err(Error::torch(format!("writing parameter `{name}`"))),
            None => Ok(()),
        };
        write(&self.weight, &refit.weight)?;
        if let (Some(name), Some(bias)) = (&self.bias, &refit.bias) {
            write(name, bias)?;
        }
        Ok(old)
    }
}

/// Which of `n` folds each image belongs to, from 0. Every class is spread evenly over the folds, in whatever order the
/// images come: where classes take turns, folds by number alone would have classes to themselves.
pub(crate) fn folds(labels: &Tensor, n: i64) -> Result<Vec<i64>> {
    let labels = Vec::<i64>::try_from(&labels.to_kind(Kind::Int64)).map_err(Error::torch("reading labels"))?;
    let mut next: BTreeMap<i64, i64> = BTreeMap::new();
    Ok(labels
        .into_iter()
        .map(|label| {
            let classes = next.len() as i64;
            let fold = next.entry(label).or_insert(classes);
            *fold += 1;
            (*fold - 1).rem_euclid(n)
        })
        .collect())
}

/// Images per forward pass outside the exemplar stage.
pub(crate) const BATCH: usize = 256;

impl Refit {
    /// `[N, classes]` for features `[N, F]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        tch::no_grad(|| features.linear(&self.weight, self.bias.as_ref()))
    }

    /// Full-batch Adam on cross-entropy plus `pull` times the mean squared distance from the present weights, on
    /// standardised features.
    fn fit(&self, features: &Tensor, labels: &Tensor, pull: f64) -> Refit {
        // Scale only, no shift: units that are always 0 stay without influence.
        let scale = tch::no_grad(|| features.square().mean_dim(0, true, Kind::Float).sqrt().clamp_min(1e-6));
        let scaled = features / &scale;
        let start = &self.weight * &scale;
        let mut weight = start.copy().set_requires_grad(true);
        let mut bias = self.bias.as_ref().map(|b| b.copy().set_requires_grad(true));
        let mut moments = Vec::new();
        tch::with_grad(|| {
            for step in 0..STEPS {
                let logits = scaled.linear(&weight, bias.as_ref());
                let distance = (&weight - &start).square().mean(Kind::Float);
                let loss = logits.cross_entropy_for_logits(labels) + distance * pull;
                let mut inputs = vec![&weight];
                inputs.extend(bias.as_ref());
                let gradients = Tensor::run_backward(&[&loss], &inputs, false, false);
                let rate = 0.02 * (1.0 - step as f64 / STEPS as f64);
                if moments.is_empty() {
                    moments = gradients.iter().map(|g| (g.zeros_like(), g.zeros_like())).collect();
                }
                tch::no_grad(|| {
                    let targets = std::iter::once(&mut weight).chain(bias.as_mut());
                    for ((target, gradient), (first, second)) in targets.zip(&gradients).zip(&mut moments) {
                        adam(target, gradient, first, second, step, rate);
                    }
                });
            }
        });
        Refit { weight: (weight / scale).detach(), bias: bias.map(|b| b.detach()), pull }
    }
}

/// One step of Adam (Kingma and Ba 2014, arXiv 1412.6980).
fn adam(target: &mut Tensor, gradient: &Tensor, first: &mut Tensor, second: &mut Tensor, step: usize, rate: f64) {
    let t = step as i32 + 1;
    *first = &*first * 0.9 + gradient * 0.1;
    *second = &*second * 0.999 + gradient.square() * 0.001;
    let mean = &*first / (1.0 - 0.9f64.powi(t));
    let spread = (&*second / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8;
    let _ = target.f_sub_(&(mean / spread * rate));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fold_has_every_class_in_whatever_order_they_come() {
        let by_turns: Vec<i64> = (0..40).map(|i| i % 10).collect();
        let sorted: Vec<i64> = (0..40).map(|i| i / 4).collect();
        for labels in [by_turns, sorted] {
            for n in [2, 4] {
                let folds = folds(&Tensor::from_slice(&labels), n).unwrap();
                for (class, fold) in (0..10).flat_map(|c| (0..n).map(move |f| (c, f))) {
                    let count = labels.iter().zip(&folds).filter(|(l, f)| (**l, **f) == (class, fold)).count();
                    assert_eq!(count as i64, 4 / n, "class {class}, fold {fold} of {n}");
                }
            }
        }
    }
}
