//! What an edit does to accuracy: named evaluations, on validation images for choosing and on test images, once.

pub mod choose;
pub mod compare;
mod methods;
pub mod robustness;

use crate::edit::repair::{BATCH, LastLayer, Refit, folds};
use crate::graph::Mask;
use crate::probe::{Images, Probe, Want};
use crate::stats::Accuracy;
use crate::{Error, Result, Traced};
pub use methods::Methods;
use tch::{Kind, Tensor};

/// Labelled images with a name. The first evaluation of a list is the clean one.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// For reports: `clean`, `painted-text`, …
    pub name: String,
    /// Images that decide which units go, and how many.
    pub validation: Probe,
    /// Images that are read once, at the end.
    pub test: Probe,
}

impl Evaluation {
    /// # Errors
    /// [`Error::Invalid`] when either set is empty or has no labels.
    pub fn new(name: impl Into<String>, validation: Probe, test: Probe) -> Result<Self> {
        let name = name.into();
        for (which, probe) in [("validation", &validation), ("test", &test)] {
            if probe.is_empty() || probe.labels().is_none() {
                let received = if probe.is_empty() { "no image" } else { "images without labels" };
                return Err(Error::invalid(
                    format!("{which} images of evaluation `{name}`"),
                    received,
                    "labelled images",
                ));
            }
        }
        Ok(Self { name, validation, test })
    }
}

/// Which images of `probe` the model classifies rightly while `masks` are in force.
///
/// # Errors
/// [`Error::Invalid`] for a probe set without labels; [`Error::Shape`] when the output is not `[N, classes]`.
pub fn correct(traced: &Traced<'_>, masks: &[Mask], images: &dyn Images) -> Result<Vec<bool>> {
    let numbers: Vec<usize> = (0..images.len()).collect();
    let mut right = Vec::with_capacity(numbers.len());
    images.read(&numbers, BATCH, Want::Inputs, &mut |batch| {
        if batch.numbers.is_empty() {
            return Ok(());
        }
        let labels: Option<Vec<i64>> = batch.numbers.iter().map(|i| images.label(*i).map(|l| l as i64)).collect();
        let labels = labels.ok_or_else(|| Error::invalid("evaluation", "images without labels", "labelled images"))?;
        let output = traced.read_masked(&[], masks, &batch.input, |_, _| Ok(()))?;
        right.extend(agree(&output, &Tensor::from_slice(&labels), images.classes().len())?);
        Ok(())
    })?;
    Ok(right)
}

/// What reaches the last layer on some labelled images: enough to measure any last layer.
pub(crate) struct Inputs {
    /// `[N, features]`.
    pub features: Tensor,
    /// `[N]`.
    pub labels: Tensor,
    classes: usize,
}

impl Inputs {
    pub fn read(layer: &LastLayer, traced: &Traced<'_>, masks: &[Mask], probe: &Probe) -> Result<Self> {
        let features = layer.features(traced, masks, probe)?;
        Ok(Self { features, labels: labels(probe)?, classes: probe.classes().len() })
    }

    /// One of two halves, 0 or 1, with as many images of each class.
    pub fn half(&self, half: i64) -> Result<Self> {
        let inside = Tensor::from_slice(&folds(&self.labels, 2)?).eq(half);
        let rows =
            |t: &Tensor| t.f_index(&[Some(inside.to_device(t.device()))]).map_err(Error::torch("halving images"));
        Ok(Self { features: rows(&self.features)?, labels: rows(&self.labels)?, classes: self.classes })
    }

    /// Which images a last layer gets right.
    pub fn right(&self, layer: &Refit) -> Result<Vec<bool>> {
        agree(&layer.logits(&self.features), &self.labels, self.classes)
    }
}

pub(crate) fn labels(probe: &Probe) -> Result<Tensor> {
    probe.labels().ok_or_else(|| Error::invalid("evaluation", "images without labels", "labelled images"))
}

/// Which rows of `output` have their largest entry at the label.
pub(crate) fn agree(output: &Tensor, labels: &Tensor, classes: usize) -> Result<Vec<bool>> {
    let size = output.size();
    if size.len() != 2 || size[0] != labels.size()[0] || (size[1] as usize) < classes {
        return Err(Error::Shape {
            what: "the model's output".to_string(),
            received: size,
            expected: format!("[{}, {classes} or more classes]", labels.size()[0]),
        });
    }
    let guess = output.argmax(1, false).to_device(tch::Device::Cpu);
    let equal = guess.eq_tensor(&labels.to_kind(Kind::Int64)).to_kind(Kind::Uint8);
    let equal: Vec<u8> = (&equal).try_into().map_err(Error::torch("comparing with the labels"))?;
    Ok(equal.into_iter().map(|e| e == 1).collect())
}

/// How many of `right` are.
pub(crate) fn count(right: &[bool]) -> Accuracy {
    Accuracy::new(right.iter().filter(|r| **r).count() as u64, right.len() as u64)
}
