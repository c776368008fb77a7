//! Describes units by concepts that are painted onto the user's own images. No learned describer, no data set.
//!
//! Every concept of a bank is painted onto some of the probe images and the model sees each image with and without it.
//! What a unit does then is causal evidence: the paint is all that differs. Four numbers per unit and concept follow
//! ([`ConceptEvidence`]): the standardised **effect** of the paint, the **AUC** of painted against plain images with its
//! bootstrap interval, the **IoU** of the unit's regions with the painted ones, and the concept's **share** among the
//! images that excite the unit most.
//!
//! # The decision
//!
//! For each unit the strongest activations on all images, painted and plain, are pooled, those left out that the paint
//! did not raise. Of the `n` highest (`n` = images per concept) each concept has a share: `p(c|E)`, smoothed by
//! [`Thresholds::pseudo_count`]. Were all alike, it would be the prior `p(c) = 1 / number of sets`; the score is
//! `ln p(c|E) - ln p(c)`, in nats. Paints without a name ([`crate::probe::paint::controls`]) take part and are never
//! named: a unit that any change excites gives them their share, and to no concept enough. A concept is named if it
//! passes every one of [`Thresholds`]; if no concept does but those of one family do together, the family is named
//! (`stripes`). Otherwise the unit is [`Status::Abstained`](super::Status::Abstained). IoU is reported and decides
//! nothing: a unit after pooling has no place.
//!
//! Most probe images should be without what is looked for. A concept that every other image shows already has little
//! effect and no AUC to speak of, and its unit is abstained on.
//!
//! **Source:** the score is the pointwise mutual information of Hernandez et al. 2022 (MILAN, arXiv 2201.11114); ranking
//! concepts by what a unit does on images of each is the idea of Oikarinen and Weng 2023 (CLIP-Dissect, arXiv 2204.10965,
//! soft-WPMI); IoU is Bau et al. 2017 (Network Dissection, arXiv 1704.05796). Differs: the concept of an image is known,
//! because it was painted, instead of being labelled or guessed by CLIP, so that `p(c|E)` is counted; a description must
//! pass tests of effect and against rivals instead of being the best of whatever there is.

mod decide;
mod measure;
mod overlap;
mod score;

pub use overlap::Overlap;

use super::{ConceptEvidence, Describer, Description};
use crate::exemplars::UnitExemplars;
use crate::graph::{Site, Traced};
use crate::probe::Probe;
use crate::probe::paint::{self, Concept};
use crate::{Error, Result};
use measure::Passes;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// How concepts are painted and judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Options {
    /// How many probe images are painted, spread evenly over the probe set; all of them if there are fewer.
    ///
    /// Every concept is painted onto each, so the model sees `images x (concepts + 4)` images.
    pub images: usize,
    /// Bootstrap resamples behind each interval.
    pub bootstrap: usize,
    /// Where all randomness comes from.
    pub seed: u64,
    /// Images per forward pass. Part of the result: other batch sizes give other last bits.
    pub batch_size: usize,
    /// What a concept must reach to be named.
    pub thresholds: Thresholds,
}

impl Default for Options {
    /// 96 images, 200 resamples, seed 0, batches of 64.
    fn default() -> Self {
        Self { images: 96, bootstrap: 200, seed: 0, batch_size: 64, thresholds: Thresholds::default() }
    }
}

/// What a concept must reach to be named. All must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Thresholds {
    /// Least share among the strongest activations, 0 to 1.
    pub share: f64,
    /// Least share of a family's concepts together, where none of them passes alone, 0 to 1.
    pub family_share: f64,
    /// Least lower end of the interval of the AUC, painted against plain, 0 to 1.
    pub auc_low: f64,
    /// Least standardised effect, in standard deviations.
    pub effect: f64,
    /// How many times the share of any one rival (a concept of another family, a control, the plain images) the share
    /// must be at least, unless it is more than half of all.
    pub margin: f64,
    /// Images added to each unit's evidence that are spread evenly over all sets. With few images they keep the share
    /// down, so that nothing is named on the strength of one or two.
    pub pseudo_count: f64,
}

impl Default for Thresholds {
    /// Share 0.35, family share 0.6, AUC 0.75, effect 1, margin 1.5, 4 pseudo-counts.
    ///
    /// Set on networks with planted units, where they must name each, and on networks with random weights, where they
    /// must abstain on most (`tests/planted.rs`).
    fn default() -> Self {
        Self { share: 0.35, family_share: 0.6, auc_low: 0.75, effect: 1.0, margin: 1.5, pseudo_count: 4.0 }
    }
}

impl Options {
    fn validate(&self) -> Result<()> {
        let counts = [("images", self.images), ("bootstrap", self.bootstrap), ("batch size", self.batch_size)];
        if let Some((what, count)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(Error::invalid(what, count, "1 or more"));
        }
        let t = &self.thresholds;
        let shares = [("share", t.share), ("family share", t.family_share), ("lower end of the AUC", t.auc_low)];
        if let Some((what, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::invalid(format!("threshold of the {what}"), value, "0 to 1"));
        }
        if !t.effect.is_finite() {
            return Err(Error::invalid("threshold of the effect", t.effect, "a finite number"));
        }
        let others = [("margin", t.margin), ("pseudo-count", t.pseudo_count)];
        if let Some((what, value)) = others.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(Error::invalid(what, value, "0 or more"));
        }
        Ok(())
    }
}

/// The describer that paints concepts; see [the module](self).
///
/// It describes units of the sites that it was given, and runs the model once per concept for all of them, so call
/// [`describe`](Describer::describe) with all units at once.
///
/// ```
/// use tch::{Device, Tensor, nn};
/// use tch_audit::describe::{Describer, concepts::{Concepts, Options}};
/// use tch_audit::exemplars::{self, Exemplars};
/// use tch_audit::{Model, Traced, probe};
///
/// # fn main() -> tch_audit::Result<()> {
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = nn::seq_t().add(nn::conv2d(vs.root() / "conv", 3, 4, 3, Default::default()));
/// let probe = probe::drawn(1, 32, 7)?;
/// let model = Model::new(&vs, &net);
/// let traced = Traced::new(&model, &probe.tensor(0..1)?)?;
/// let sites = traced.select(&["conv"])?;
/// let exemplars = Exemplars::compute(&traced, &sites, &probe, &exemplars::Options::default())?;
/// let concepts = Concepts::new(&traced, &sites, &probe, probe::paint::bank(), Options::default())?;
/// assert_eq!(concepts.describe(&exemplars.units)?.len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Concepts<'a, 'm> {
    traced: &'a Traced<'m>,
    sites: Vec<Site>,
    /// The images that are painted.
    images: Probe,
    /// Fingerprint of the whole probe set.
    probe: String,
    bank: Vec<Concept>,
    controls: Vec<Concept>,
    options: Options,
}

impl<'a, 'm> Concepts<'a, 'm> {
    /// A describer for units of `sites` that paints the concepts of `bank` onto images of `probe`.
    ///
    /// `bank` is usually [`paint::bank`], with concepts of your own added; the order decides ties.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty probe set or bank, two concepts (or a concept and a control) of one name, and
    /// options that make no sense.
    pub fn new(
        traced: &'a Traced<'m>,
        sites: &[Site],
        probe: &Probe,
        bank: Vec<Concept>,
        options: Options,
    ) -> Result<Self> {
        options.validate()?;
        if probe.is_empty() {
            return Err(Error::invalid("probe set", "no image", "at least one image"));
        }
        if bank.is_empty() {
            return Err(Error::invalid("concept bank", "no concept", "at least one concept"));
        }
        let controls = paint::controls();
        let mut names = BTreeSet::new();
        if let Some(twice) = bank.iter().chain(&controls).find(|c| !names.insert(c.name())) {
            return Err(Error::invalid("concept bank", format!("`{}` twice", twice.name()), "unique names"));
        }
        let count = options.images.min(probe.len());
        let chosen: Vec<usize> =
            (0..count).map(|i| (i as u128 * probe.len() as u128 / count as u128) as usize).collect();
        let (images, probe) = (probe.select(&chosen)?, probe.fingerprint());
        Ok(Self { traced, sites: sites.to_vec(), images, probe, bank, controls, options })
    }

    /// The concepts that are painted, controls left out.
    pub fn bank(&self) -> &[Concept] {
        &self.bank
    }

    /// How concepts are painted and judged.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

impl Describer for Concepts<'_, '_> {
    /// One description per unit, in the order of `units`; the result does not depend on the number of threads.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a unit of a site that this describer was not given; [`Error::Invalid`] for a unit that its
    /// site does not have; [`Error::NonFinite`] for an activation that is NaN or infinite; what the forward pass returns.
    ///
    /// # Panics
    /// If a concept of your own breaks its promise, see [`Concept::paint`].
    fn describe(&self, units: &[UnitExemplars]) -> Result<Vec<Description>> {
        let paints: Vec<&Concept> = self.bank.iter().chain(&self.controls).collect();
        let passes = Passes {
            traced: self.traced,
            sites: &self.sites,
            images: &self.images,
            batch_size: self.options.batch_size,
            seed: self.options.seed,
        };
        let responses = passes.run(units, &paints)?;
        let (bank, options) = (&self.bank, &self.options);
        Ok(responses
            .par_iter()
            .map(|response| match response {
                Some(response) => decide::describe(bank, response, options),
                None => Description::dead(),
            })
            .collect())
    }

    /// The descriptions of all concepts, and the names of their families.
    fn sayings(&self) -> Option<Vec<String>> {
        Some(decide::sayings(&self.bank))
    }

    /// Name and version, the probe set, the options, and every concept with what it paints onto the first image.
    fn fingerprint(&self) -> String {
        let mut text = format!("concepts 1; probe {}; {:?}; bank", self.probe, self.options);
        for concept in self.bank.iter().chain(&self.controls) {
            let painted = concept.paint(self.images.image(0), self.options.seed);
            let pixels = blake3::hash(painted.image.as_raw()).to_hex();
            text.push_str(&format!(" {} {:.16}", concept.name(), pixels));
        }
        text
    }
}
