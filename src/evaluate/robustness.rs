//! How a classifier bears what befalls images: corruptions, painted text, adversarial changes; before and after an edit.
//!
//! [`Robustness::measure`] takes a model as it is, [`compare`](compare::compare) holds two of them against each other,
//! image by image, and [`render`](table::render) shows that. Corruptions are in [`corrupt`], attacks in [`adversarial`].
//!
//! ```no_run
//! use tch_audit::evaluate::robustness::{Options, Robustness, compare::compare, table::render};
//! use tch_audit::{Model, probe::ImageFolder};
//!
//! # fn main() -> tch_audit::Result<()> {
//! let images = ImageFolder::open("test/").stream()?;
//! let measure = |file: &str| {
//!     let (model, copy) = (Model::load(file)?, Model::load(file)?);
//!     Robustness::measure(&model, Some(&copy), &images, &Options::default())
//! };
//! print!("{}", render(&compare(&measure("before.pt")?, &measure("after.pt")?, None)?));
//! # Ok(()) }
//! ```

pub mod adversarial;
pub mod compare;
pub mod corrupt;
mod frost;
mod pixels;
pub mod table;
pub mod text;

use super::{Answers, count, labelled};
use crate::edit::repair::BATCH;
use crate::probe::{Batch, Images, Selected, example};
use crate::stats::Accuracy;
use crate::{Error, Model, Result};
use adversarial::Pgd;
use corrupt::{Corruption, Severity, corrupted};
use tch::Tensor;

/// Images per attacked batch: passes with gradients keep every activation.
const ATTACK_BATCH: usize = 32;
/// How far the outputs of an attack copy may be from the model's, as a share of the largest output.
const SAME: f64 = 1e-3;

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// Where all random choices start.
    pub seed: u64,
    /// At which severities images are corrupted; none for no corruption.
    pub severities: Vec<Severity>,
    /// By which corruptions; may be empty.
    pub corruptions: Vec<Corruption>,
    /// The largest change of a value by an attack, in units of 0-1 pixels; above 0, at most 1.
    pub epsilon: f64,
    /// Steps of the stronger attack, see [`Pgd::steps`].
    pub steps: usize,
    /// Whether the model is attacked.
    pub adversarial: bool,
    /// Whether text is painted on the images.
    pub text: bool,
    /// At most so many images, spread over the classes; `None` for all.
    pub limit: Option<usize>,
}

impl Default for Options {
    /// Everything, at all severities, on all images; attacks within 2/255, in 8 steps.
    fn default() -> Self {
        let Pgd { epsilon, steps, seed } = Pgd::default();
        let (severities, corruptions) = (Severity::all().to_vec(), Corruption::ALL.to_vec());
        Self { seed, severities, corruptions, epsilon, steps, adversarial: true, text: true, limit: None }
    }
}

impl Options {
    /// **Errors:** [`Error::Invalid`] naming the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.limit == Some(0) {
            return Err(Error::invalid("limit of images", 0, "1 and above"));
        }
        if self.adversarial { self.attack().validate() } else { Ok(()) }
    }

    fn attack(&self) -> Pgd {
        Pgd { epsilon: self.epsilon, steps: self.steps, seed: self.seed }
    }

    fn corruptions(&self) -> impl Iterator<Item = (Corruption, Severity)> + '_ {
        self.corruptions.iter().flat_map(|&c| self.severities.iter().map(move |&s| (c, s)))
    }
}

/// One set of images, made worse in one way.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// `clean`, `painted text`, a corruption's name, `fgsm` or `pgd`.
    pub name: String,
    /// Of a corruption: 1 to 5.
    pub severity: Option<u8>,
    /// Which images the model classifies rightly, in their order, without those that cannot be read.
    pub right: Vec<bool>,
    /// How many.
    pub accuracy: Accuracy,
    /// The class of which the smallest share is right; of equals the first. `None` without images.
    pub worst_class: Option<(String, Accuracy)>,
}

/// What a model gets right of images made worse in several ways.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Robustness {
    /// The clean images first, then as [`Options`] asks: text, corruptions by severity, attacks.
    pub evaluations: Vec<Measured>,
    /// The [fingerprint](Images::fingerprint) and the [digest](Images::digest) of the clean images that were measured.
    pub images: String,
}

impl Robustness {
    /// Measures a model on labelled images and on what [`Options`] makes of them.
    ///
    /// Attacks follow the gradients of `attack_copy`, and the model is measured on what they find; without a copy the
    /// model itself is run with gradients, last of all. A TorchScript module that has run with gradients is rewritten
    /// by the JIT, so give a copy, loaded again, and edited alike, when sites are read afterwards. Model and copy are
    /// compared on the first images.
    ///
    /// # Errors
    /// [`Error::Invalid`] for images without labels, for no image, for options out of range, for a copy whose outputs
    /// are others, and for a model without usable gradients; [`Error::Shape`] when the output has fewer columns than
    /// there are classes; [`Error::NonFinite`] when an output is NaN; what the forward pass returns.
    pub fn measure(
        model: &Model<'_>,
        attack_copy: Option<&Model<'_>>,
        images: &dyn Images,
        options: &Options,
    ) -> Result<Self> {
        options.validate()?;
        labelled(images)?;
        let images = limited(images, options.limit)?;
        if images.is_empty() {
            return Err(Error::invalid("evaluation", "no image", "at least 1"));
        }
        let attacks = if options.adversarial { 2 } else { 0 };
        let sets = 1 + usize::from(options.text) + options.corruptions().count() + attacks;
        let bar = crate::progress::bar("robustness", sets);
        let mut evaluations = Vec::with_capacity(sets);
        let mut digest = None;
        let mut add = |name: &str, severity: Option<Severity>, answers: Answers| {
            digest.get_or_insert(answers.digest);
            evaluations.push(measured(name, severity, answers, &images));
            bar.inc(1);
        };
        let plain = |name: &str, images: &dyn Images| {
            answers(model, images, name, BATCH, |batch, _| Ok(batch.input.shallow_clone()))
        };
        add("clean", None, plain("clean", &images)?);
        if options.text {
            add(TEXT, None, plain(TEXT, &text::painted_text(&images, options.seed)?)?);
        }
        for (corruption, severity) in options.corruptions() {
            let name = corruption.name();
            let worse = corrupted(&images, corruption, severity, options.seed)?;
            add(name, Some(severity), plain(&format!("{name} {}", severity.get()), &worse)?);
        }
        if options.adversarial {
            let attacked = attack_copy.unwrap_or(model);
            if let Some(copy) = attack_copy {
                same(model, copy, &images)?;
            }
            let (preprocess, pgd) = (images.preprocess(), options.attack());
            let fgsm = |batch: &Batch, labels: &Tensor| {
                adversarial::fgsm(attacked, &batch.input, labels, preprocess, pgd.epsilon)
            };
            add("fgsm", None, answers(model, &images, "fgsm", ATTACK_BATCH, fgsm)?);
            let pgd = |batch: &Batch, labels: &Tensor| {
                adversarial::pgd(attacked, &batch.input, labels, preprocess, &pgd, &batch.numbers)
            };
            add("pgd", None, answers(model, &images, "pgd", ATTACK_BATCH, pgd)?);
        }
        bar.finish_and_clear();
        let images = format!("{} {}", images.fingerprint(), digest.unwrap_or_default());
        Ok(Self { evaluations, images })
    }
}

const TEXT: &str = "painted text";

fn measured(name: &str, severity: Option<Severity>, answers: Answers, images: &dyn Images) -> Measured {
    let Answers { numbers, right, .. } = answers;
    let mut classes = vec![Accuracy::default(); images.classes().len()];
    for (i, &right) in numbers.iter().zip(&right) {
        if let Some(class) = images.label(*i).and_then(|label| classes.get_mut(label)) {
            class.total += 1;
            class.correct += u64::from(right);
        }
    }
    let present = images.classes().iter().zip(classes).filter(|(_, a)| a.total > 0);
    let worst = present.min_by(|a, b| a.1.rate().total_cmp(&b.1.rate())).map(|(class, a)| (class.clone(), a));
    let (severity, accuracy) = (severity.map(Severity::get), count(&right));
    Measured { name: name.to_string(), severity, right, accuracy, worst_class: worst }
}

/// What a model says of the inputs that `change` makes of every batch and its labels.
fn answers(
    model: &Model<'_>,
    images: &dyn Images,
    name: &str,
    batch_size: usize,
    change: impl Fn(&Batch, &Tensor) -> Result<Tensor>,
) -> Result<Answers> {
    Answers::read(images, model.at_most(batch_size), |batch, labels| {
        let output = model.forward(&change(batch, labels)?)?;
        refuse_nan(&output, |row| {
            let image = batch.numbers.get(row).map_or_else(String::new, |i| images.name(*i).into_owned());
            format!("{image} ({name})")
        })?;
        Ok(output)
    })
}

/// **Shapes:** `output` is `[N, classes]`.
fn refuse_nan(output: &Tensor, image: impl Fn(usize) -> String) -> Result<()> {
    if output.dim() != 2 {
        return Ok(()); // an error of its own
    }
    let places = output.f_isnan().and_then(|nan| nan.f_nonzero());
    let find = |places: Tensor| match places.size()[0] {
        0 => Ok(None),
        _ => Ok(Some((places.f_int64_value(&[0, 0])? as usize, places.f_int64_value(&[0, 1])? as usize))),
    };
    match places.and_then(find).map_err(Error::torch("looking for NaN in the output"))? {
        None => Ok(()),
        Some((row, unit)) => {
            Err(Error::NonFinite { site: "the model's output".into(), unit, image: image(row), value: f32::NAN })
        }
    }
}

/// An error unless both models say the same of the first images.
fn same(model: &Model<'_>, copy: &Model<'_>, images: &dyn Images) -> Result<()> {
    let (difference, largest) = adversarial::difference(model, copy, &example(images, model.at_most(8))?)?;
    if difference <= SAME * largest.max(1.0) {
        return Ok(());
    }
    let received = format!("outputs that differ from the model's by up to {difference:.3}");
    Err(Error::invalid("attack copy", received, "the same model, loaded again and edited alike"))
}

/// At most `limit` images, as many of each class as can be, evenly spread over those of the class.
fn limited(images: &dyn Images, limit: Option<usize>) -> Result<Selected<&dyn Images>> {
    let Some(limit) = limit.filter(|&limit| limit < images.len()) else {
        return Selected::new(images, (0..images.len()).collect());
    };
    let mut members = vec![Vec::new(); images.classes().len()];
    for i in 0..images.len() {
        if let Some(class) = images.label(i).and_then(|label| members.get_mut(label)) {
            class.push(i);
        }
    }
    let mut shares = vec![0; members.len()];
    let mut left = limit;
    while left > 0 {
        let before = left;
        for (share, class) in shares.iter_mut().zip(&members) {
            if left > 0 && *share < class.len() {
                (*share, left) = (*share + 1, left - 1);
            }
        }
        if left == before {
            break; // every image is taken
        }
    }
    let spread = |(class, share): (&Vec<usize>, usize)| (0..share).map(|k| class[k * class.len() / share]).collect();
    let mut chosen: Vec<usize> = members.iter().zip(shares).flat_map::<Vec<usize>, _>(spread).collect();
    chosen.sort_unstable();
    Selected::new(images, chosen)
}
