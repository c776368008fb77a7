//! Evidence from concepts that are painted onto the user's own images. No learned model, no data set.
//!
//! Every concept of a bank is painted onto some of the images and the model sees each image with and without it. What a
//! unit does then is causal evidence: the paint is all that differs. Four measures per unit and concept follow: the
//! standardised **effect** of the paint, the **AUC** of painted against plain images with its bootstrap interval, the
//! **IoU** of the unit's regions with the painted ones, and the concept's **share** among the images that excite the unit
//! most.
//!
//! # The share
//!
//! For each unit the strongest activations on all images, painted and plain, are pooled, those left out that the paint did
//! not raise. Of the `n` highest (`n` = images per concept) each concept has a share, smoothed by
//! [`Options::pseudo_count`]. Paints without a name ([`crate::probe::paint::controls`]) and the plain images take part:
//! evidence about them is given as well, for describers, with nothing but the share.
//!
//! Most images should be without what is looked for. A concept that every other image shows already has little effect and
//! no AUC to speak of.
//!
//! **Source:** ranking concepts by what a unit does on images of each is the idea of Oikarinen and Weng 2023 (CLIP-Dissect,
//! arXiv 2204.10965, soft-WPMI); IoU is Bau et al. 2017 (Network Dissection, arXiv 1704.05796). Differs: the concept of an
//! image is known, because it was painted, instead of being labelled or guessed by CLIP.

mod measure;
mod overlap;
mod score;

pub use overlap::Overlap;

use super::{ConceptEvidence, EvidenceSource, Needs, Study};
use crate::exemplars::UnitExemplars;
use crate::probe::paint::{self, Concept};
use crate::probe::{Images, Preprocess, Probe, Want};
use crate::{ConceptName, Error, Result};
use measure::Passes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The name of this source.
pub const NAME: &str = ConceptEvidence::PAINTED;
/// Under this name the share of the plain images is given.
pub(crate) const PLAIN: &str = "plain";
/// How many concepts are listed whether or not there is evidence for them.
const LISTED: usize = 5;

/// How concepts are painted and measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Options {
    /// How many probe images are painted, spread evenly over the probe set; all of them if there are fewer.
    ///
    /// Every concept is painted onto each, so the model sees `images x (concepts + 4)` images. They are held in memory.
    pub images: usize,
    /// Bootstrap resamples behind each interval.
    pub bootstrap: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Images per forward pass. Part of the result: other batch sizes give other last bits.
    pub batch_size: usize,
    /// Images added to each unit's evidence that are spread evenly over all sets. With few images they keep the share
    /// down, so that nothing is said on the strength of one or two.
    pub pseudo_count: f64,
    /// Evidence whose AUC's interval lies above this is always listed, 0 to 1.
    pub listed_auc: f64,
}

impl Default for Options {
    /// 96 images, 200 resamples, seed 0, batches of 64, 4 pseudo-counts, listed from an AUC of 0.75.
    fn default() -> Self {
        Self { images: 96, bootstrap: 200, seed: 0, batch_size: 64, pseudo_count: 4.0, listed_auc: 0.75 }
    }
}

impl Options {
    fn validate(&self) -> Result<()> {
        let counts = [("images", self.images), ("bootstrap", self.bootstrap), ("batch size", self.batch_size)];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::invalid(what, count, "1 or more"));
        }
        if !(self.pseudo_count.is_finite() && self.pseudo_count >= 0.0) {
            return Err(Error::invalid("pseudo-count", self.pseudo_count, "0 or more"));
        }
        if !(0.0..=1.0).contains(&self.listed_auc) {
            return Err(Error::invalid("AUC from which evidence is listed", self.listed_auc, "0 to 1"));
        }
        Ok(())
    }
}

/// The source that paints; see [the module](self).
#[derive(Debug, Clone)]
pub struct Painted {
    bank: Vec<Concept>,
    names: Vec<ConceptName>,
    controls: Vec<Concept>,
    options: Options,
}

impl Default for Painted {
    /// The built-in bank with default options.
    fn default() -> Self {
        let bank = paint::bank();
        Self { names: names(&bank), bank, controls: paint::controls(), options: Options::default() }
    }
}

impl Painted {
    /// A source that paints the concepts of `bank`: usually [`paint::bank`], with concepts of your own added. The order
    /// decides ties.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty bank, two concepts (or a concept and a control) of one name, and options that make
    /// no sense.
    pub fn new(bank: Vec<Concept>, options: Options) -> Result<Self> {
        options.validate()?;
        if bank.is_empty() {
            return Err(Error::invalid("concept bank", "no concept", "at least one concept"));
        }
        let controls = paint::controls();
        let mut unique = BTreeSet::from([PLAIN]);
        if let Some(twice) = bank.iter().chain(&controls).find(|c| !unique.insert(c.name())) {
            return Err(Error::invalid("concept bank", format!("`{}` twice", twice.name()), "unique names"));
        }
        Ok(Self { names: names(&bank), bank, controls, options })
    }

    /// The concepts that are painted, controls left out.
    pub fn bank(&self) -> &[Concept] {
        &self.bank
    }

    /// How they are painted and measured.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The images that are painted, in memory: spread evenly over the probe set, those left out that cannot be read.
    fn sample(&self, images: &dyn Images) -> Result<Probe> {
        if images.is_empty() {
            return Err(Error::invalid("probe set", "no image", "at least one image"));
        }
        if !images.are_inputs() {
            let allowed = "images that the model is shown: nothing can be painted onto a generator's inputs";
            return Err(Error::invalid("images to paint on", "those of a generator", allowed));
        }
        let count = self.options.images.min(images.len());
        let spread = |i: usize| (i as u128 * images.len() as u128 / count as u128) as usize;
        let chosen: Vec<usize> = (0..count).map(spread).collect();
        let (mut pixels, mut names) = (Vec::new(), Vec::new());
        images.read(&chosen, self.options.batch_size, Want::Pixels, &mut |batch| {
            names.extend(batch.numbers.iter().map(|i| images.name(*i).into_owned()));
            pixels.extend(batch.pixels.into_iter().map(Arc::unwrap_or_clone));
            Ok(())
        })?;
        if pixels.is_empty() {
            return Err(Error::invalid("probe set", "no readable image", "at least one"));
        }
        Probe::from_images(pixels, Some(names), None, images.preprocess().clone())
    }
}

fn names(bank: &[Concept]) -> Vec<ConceptName> {
    bank.iter().map(|c| c.named().clone()).collect()
}

impl EvidenceSource for Painted {
    fn name(&self) -> &str {
        NAME
    }

    fn concepts(&self) -> &[ConceptName] {
        &self.names
    }

    fn needs(&self) -> Needs {
        Needs { model: true, ..Needs::default() }
    }

    /// Name and version, the options, and a hash of every concept with what it paints onto an image of the size of these.
    ///
    /// # Panics
    /// As [`measure`](Self::measure).
    fn fingerprint(&self, images: &dyn Images) -> String {
        let Preprocess { height, width, .. } = *images.preprocess();
        // Nothing is lost on it: neither smooth nor symmetrical.
        let pixel = |x: u32, y: u32| image::Rgb([x * 7 + y, y * 5, x ^ y].map(|value| value as u8));
        let canvas = image::RgbImage::from_fn(width as u32, height as u32, pixel);
        let mut bank = blake3::Hasher::new();
        for concept in self.bank.iter().chain(&self.controls) {
            bank.update(concept.name().as_bytes()).update(b"\n");
            bank.update(concept.paint(&canvas, self.options.seed).image.as_raw());
        }
        let Options { images, bootstrap, seed, batch_size, pseudo_count, listed_auc } = &self.options;
        format!(
            "{NAME} 1, {images} images, {bootstrap} resamples, seed {seed}, batches of {batch_size}, {pseudo_count} \
             pseudo-counts, listed from an AUC of {listed_auc}, {} concepts {:.16}",
            self.bank.len(),
            bank.finalize().to_hex()
        )
    }

    /// Runs the model once per concept for all units, so ask about all at once. Nothing is measured of dead units.
    ///
    /// # Errors
    /// [`Error::Invalid`] without the model, for an empty probe set, for images of a generator, and for a unit that its
    /// site does not have; [`Error::Unknown`] for a unit of a site that the model does not have; [`Error::NonFinite`] for
    /// an activation that is NaN or infinite; what the forward pass returns.
    ///
    /// # Panics
    /// If a concept of your own breaks its promise, see [`Concept::paint`].
    fn measure(&self, study: &Study<'_>, units: &[usize]) -> Result<Vec<Vec<ConceptEvidence>>> {
        let Some(traced) = study.traced else {
            return Err(Error::invalid("evidence by painting", "no model", "a study with its model"));
        };
        let wanted: Vec<&UnitExemplars> = units.iter().filter_map(|place| study.unit(*place)).collect();
        let images = self.sample(study.images)?;
        let paints: Vec<&Concept> = self.bank.iter().chain(&self.controls).collect();
        let passes = Passes { traced, images: &images, batch_size: self.options.batch_size, seed: self.options.seed };
        let responses = passes.run(&wanted, &paints)?;
        let evidence = |response: &Option<measure::Response>| match response {
            Some(response) => score::evidence(&self.bank, &self.controls, response, &self.options),
            None => Vec::new(),
        };
        Ok(responses.par_iter().map(evidence).collect())
    }

    /// The largest shares first: five, and all that excite the unit for sure.
    fn listed(&self, mut evidence: Vec<ConceptEvidence>) -> Vec<ConceptEvidence> {
        evidence.retain(|e| e.auc.is_some());
        // Stable: equals stay in the order of the bank.
        evidence.sort_by(|a, b| b.share.unwrap_or(0.0).total_cmp(&a.share.unwrap_or(0.0)));
        let sure = |e: &ConceptEvidence| e.auc_low.is_some_and(|low| low >= self.options.listed_auc);
        let listed = evidence.into_iter().enumerate().filter(|(i, e)| *i < LISTED || sure(e));
        listed.map(|(_, e)| e).collect()
    }
}
