//! How exemplars are chosen.

use crate::probe::Preprocess;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How exemplars are chosen.
///
/// ```
/// use tch_audit::exemplars::Options;
/// let mut options = Options::default();
/// options.k = 10;
/// options.weakest = 5;
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Options {
    /// Images per unit.
    pub k: usize,
    /// The quantile, over all positions of all images, at which a unit counts as active: 0 to 1, exclusive.
    pub quantile: f64,
    /// Images per forward pass. Part of the result: other batch sizes give other last bits.
    pub batch_size: usize,
    /// Images per unit with the smallest spatial maximum; none by default.
    pub weakest: usize,
    /// Images per unit drawn at random, the same for all units; none by default.
    pub random: usize,
    /// Where the random images come from.
    pub seed: u64,
    /// How far apart the numbers of two exemplars of one class must be at least: more than 1 keeps neighbouring frames of
    /// a film, or near duplicates that lie side by side, from filling all places. Without classes it holds for all images.
    /// Each step takes room for 2 k more candidates.
    pub min_distance: usize,
    /// Units per site, where not all are wanted: site name to channels.
    pub units: BTreeMap<String, Vec<usize>>,
    /// Whether [`Exemplars::compute`](super::Exemplars::compute) keeps the activation map of every exemplar, see
    /// [`Exemplar::map`](super::Exemplar::map). They are not kept in files.
    pub maps: bool,
    /// Height and width of the regions; the model's input size if not given.
    pub region_size: Option<(usize, usize)>,
    /// Whose behaviour to follow where MILAN's and Network Dissection's own code has defects.
    pub compat: Compat,
    /// How many bytes the candidates and sketches may take; with less than needed the sites are read in several passes, a
    /// site that does not fit alone in several ranges of its units. 2 GiB by default. See [`estimate`](super::estimate).
    pub budget: Option<u64>,
}

/// Whose behaviour to follow where the official code has defects. `docs/exemplars.md` shows the difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// Regions reach the border of the image; units that never vary are dead and have no exemplars; exported images are
    /// rounded and reduced by area.
    #[default]
    Fixed,
    /// As MILAN's code: maps are 0 beyond their border, so that regions there are lost; units that never vary have the
    /// first images as exemplars, with empty regions; exported images are cut off to bytes and reduced by leaving out
    /// pixels.
    Official,
}

impl Default for Options {
    /// 15 images at level 0.99 as in MILAN; batches of 64; nothing else.
    fn default() -> Self {
        Self {
            k: 15,
            quantile: 0.99,
            batch_size: 64,
            weakest: 0,
            random: 0,
            seed: 0,
            min_distance: 1,
            units: BTreeMap::new(),
            maps: false,
            region_size: None,
            compat: Compat::Fixed,
            budget: Some(2 << 30),
        }
    }
}

impl Options {
    pub(super) fn validate(&self) -> Result<()> {
        const MANY: usize = 1 << 20;
        if !(1..=MANY).contains(&self.k) {
            return Err(Error::invalid("k (images per unit)", self.k, "1 to 1048576"));
        }
        for (what, value) in [("weakest images per unit", self.weakest), ("random images per unit", self.random)] {
            if value > MANY {
                return Err(Error::invalid(what, value, "0 to 1048576"));
            }
        }
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return Err(Error::invalid("quantile", self.quantile, "a number between 0 and 1, both excluded"));
        }
        if self.batch_size == 0 {
            return Err(Error::invalid("batch size", self.batch_size, "1 or more"));
        }
        if !(1..=1024).contains(&self.min_distance) {
            return Err(Error::invalid("minimum distance between exemplars", self.min_distance, "1 to 1024"));
        }
        if let Some((height, width)) = self.region_size
            && !((1..=4096).contains(&height) && (1..=4096).contains(&width))
        {
            return Err(Error::invalid("size of the regions", format!("{height}x{width}"), "1 to 4096 each"));
        }
        Ok(())
    }

    /// How many candidates for exemplars each unit needs, see [`TopK::spaced`](super::topk::TopK::spaced).
    pub(super) fn candidates(&self) -> usize {
        self.k.saturating_mul(2 * self.min_distance - 1)
    }

    /// Height and width of the regions, over images of this preprocessing.
    pub(super) fn region(&self, preprocess: &Preprocess) -> (usize, usize) {
        self.region_size.unwrap_or((preprocess.height, preprocess.width))
    }

    /// The channels of a site that are looked at, ascending.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a channel that the site does not have, and for none at all.
    pub(super) fn units_of(&self, site: &str, channels: usize) -> Result<Vec<usize>> {
        let Some(given) = self.units.get(site) else { return Ok((0..channels).collect()) };
        if let Some(bad) = given.iter().find(|u| **u >= channels) {
            return Err(Error::invalid(format!("unit of site `{site}`"), bad, format!("below {channels}")));
        }
        let mut units = given.clone();
        units.sort_unstable();
        units.dedup();
        if units.is_empty() {
            return Err(Error::invalid(format!("units of site `{site}`"), "none", "at least one"));
        }
        Ok(units)
    }
}
