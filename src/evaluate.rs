//! What an edit does to accuracy: named evaluations, on validation images for choosing and on test images, once.

pub mod choose;
pub mod compare;
mod labels;
mod methods;
pub mod robustness;

use crate::edit::repair::{BATCH, LastLayer, Refit, folds};
use crate::graph::Mask;
use crate::probe::{self, Batch, Digest, Images, Want};
use crate::stats::Accuracy;
use crate::{Error, Result, Traced};
use labels::comparable;
pub use labels::{check_classes, outputs};
pub use methods::Methods;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Labelled images with a name. The first evaluation of a list is the clean one.
#[derive(Clone)]
pub struct Evaluation {
    /// For reports: `clean`, `painted-text`, …
    pub name: String,
    /// Images that decide which units go, and how many.
    pub validation: Arc<dyn Images>,
    /// Images that are read once, at the end.
    pub test: Arc<dyn Images>,
}

impl Evaluation {
    /// Images in memory, read while the model runs, or made of others.
    ///
    /// # Errors
    /// [`Error::Invalid`] when either set is empty or has no labels.
    pub fn new(
        name: impl Into<String>,
        validation: impl Images + 'static,
        test: impl Images + 'static,
    ) -> Result<Self> {
        let name = name.into();
        let (validation, test): (Arc<dyn Images>, Arc<dyn Images>) = (Arc::new(validation), Arc::new(test));
        for (which, images) in [("validation", &validation), ("test", &test)] {
            if images.is_empty() || images.label(0).is_none() {
                let received = if images.is_empty() { "no image" } else { "images without labels" };
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

impl std::fmt::Debug for Evaluation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluation").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which of `images` the model classifies rightly while `masks` are in force: an answer for each that can be read, in
/// their order.
///
/// # Errors
/// [`Error::NotMeasured`] for images whose classes cannot be held against the output, see [`check_classes`]; what reading
/// the images returns.
pub fn correct(traced: &Traced<'_>, masks: &[Mask], images: &dyn Images) -> Result<Vec<bool>> {
    let forward = |batch: &Batch, _: &Tensor| traced.read_masked(&[], masks, &batch.input, |_, _| Ok(()));
    Ok(Answers::read(images, traced.model().at_most(BATCH), forward)?.right)
}

/// What a model says of some images.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// The images that could be read.
    pub numbers: Vec<usize>,
    /// Which of them it classifies rightly.
    pub right: Vec<bool>,
    /// What the images are, unreadable ones included.
    pub digest: Digest,
}

impl Answers {
    /// Shows `forward` all images, with their labels; it returns the model's output.
    pub fn read(
        images: &dyn Images,
        batch_size: usize,
        mut forward: impl FnMut(&Batch, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        labelled(images)?;
        let all = (0..images.len()).collect::<Vec<_>>();
        let mut answers = Self::default();
        images.read(&all, batch_size, Want::Inputs, &mut |batch| {
            answers.digest = answers.digest.and(batch.digest);
            if !batch.numbers.is_empty() {
                let labels = probe::labels(images, &batch.numbers)?;
                let output = forward(&batch, &labels)?;
                comparable(images, &output.size())?;
                numbers_only(&output)?;
                answers.right.extend(agree(&output, &labels)?);
                answers.numbers.extend(batch.numbers);
            }
            Ok(())
        })?;
        Ok(answers)
    }
}

/// An error where an output is no number: such a model says nothing, and is not wrong.
fn numbers_only(output: &Tensor) -> Result<()> {
    let nan = output.f_isnan().and_then(|nan| nan.f_any()).map_err(Error::torch("looking at the model's output"))?;
    match nan.int64_value(&[]) {
        0 => Ok(()),
        _ => Err(Error::NotMeasured {
            what: "accuracy",
            reason: "the model's output is NaN for some of the images".to_string(),
        }),
    }
}

/// An error for images without labels. Where there is no image, none is missing.
fn labelled(images: &dyn Images) -> Result<()> {
    if images.is_empty() || images.label(0).is_some() { Ok(()) } else { Err(probe::unlabelled()) }
}

/// What reaches the last layer on some labelled images: enough to measure any last layer.
pub(crate) struct Inputs {
    /// `[N, features]`.
    pub features: Tensor,
    /// `[N]`.
    pub labels: Tensor,
}

impl Inputs {
    pub fn read(layer: &LastLayer, traced: &Traced<'_>, masks: &[Mask], images: &dyn Images) -> Result<Self> {
        labelled(images)?;
        check_classes(traced, images)?;
        let (features, numbers) = layer.features(traced, masks, images)?;
        Ok(Self { features, labels: probe::labels(images, &numbers)? })
    }

    /// One of two halves, 0 or 1, with as many images of each class.
    pub fn half(&self, half: i64) -> Result<Self> {
        let inside = Tensor::from_slice(&folds(&self.labels, 2)?).eq(half);
        let rows =
            |t: &Tensor| t.f_index(&[Some(inside.to_device(t.device()))]).map_err(Error::torch("halving images"));
        Ok(Self { features: rows(&self.features)?, labels: rows(&self.labels)? })
    }

    /// Which images a last layer gets right.
    pub fn right(&self, layer: &Refit) -> Result<Vec<bool>> {
        agree(&layer.logits(&self.features), &self.labels)
    }
}

/// Which rows of `output`, `[N, classes]`, have their largest entry at the label.
pub(crate) fn agree(output: &Tensor, labels: &Tensor) -> Result<Vec<bool>> {
    let (size, n) = (output.size(), labels.size());
    if size.len() != 2 || size.first() != n.first() {
        let expected = format!("[{}, classes]", n.first().copied().unwrap_or_default());
        return Err(Error::Shape { what: "the model's output".to_string(), received: size, expected });
    }
    let guess = output.f_argmax(1, false).and_then(|guess| guess.f_to_device(tch::Device::Cpu));
    let guess = guess.map_err(Error::torch("reading which class the model answers"))?;
    let equal = guess.eq_tensor(&labels.to_kind(Kind::Int64)).to_kind(Kind::Uint8);
    let equal: Vec<u8> = (&equal).try_into().map_err(Error::torch("comparing with the labels"))?;
    Ok(equal.into_iter().map(|e| e == 1).collect())
}

/// How many of `right` are.
pub(crate) fn count(right: &[bool]) -> Accuracy {
    Accuracy::new(right.iter().filter(|r| **r).count() as u64, right.len() as u64)
}
