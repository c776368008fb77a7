//! What `exemplars.safetensors` says besides its arrays.

use super::finish::List;
use super::options::{Compat, Options};
use super::settings::{ProbeSet, Settings};
use serde::{Deserialize, Serialize};

pub(super) const FORMAT: u32 = 2;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u32,
    /// The model's fingerprint.
    pub model: String,
    pub probe: ProbeSet,
    /// Digest of the images' names and content.
    pub digest: String,
    /// How many images were looked at.
    pub images: u64,
    pub options: Chosen,
    pub sites: Vec<SiteHeader>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SiteHeader {
    pub name: String,
    pub channels: usize,
    pub units: usize,
    /// Height and width of the maps.
    pub map: (usize, usize),
}

/// The options that a result depends on. The batch size is not among them: it changes last bits at most, and none where
/// activations are exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Chosen {
    k: usize,
    quantile: f64,
    weakest: usize,
    random: usize,
    seed: u64,
    min_distance: usize,
    /// Height and width.
    pub region: (usize, usize),
    compat: Compat,
}

impl Chosen {
    pub fn of(o: &Options, region: (usize, usize)) -> Self {
        Self {
            k: o.k,
            quantile: o.quantile,
            weakest: o.weakest,
            random: o.random,
            seed: o.seed,
            min_distance: o.min_distance,
            region,
            compat: o.compat,
        }
    }

    pub fn options(&self) -> Options {
        Options {
            k: self.k,
            quantile: self.quantile,
            weakest: self.weakest,
            random: self.random,
            seed: self.seed,
            min_distance: self.min_distance,
            region_size: Some(self.region),
            compat: self.compat,
            ..Options::default()
        }
    }
}

impl Header {
    pub fn new(settings: &Settings, digest: String, images: u64, sites: Vec<SiteHeader>) -> Self {
        let (model, probe) = (settings.model.clone(), settings.probe.clone());
        let options = Chosen::of(&settings.options, settings.options.region(&probe.preprocess));
        Self { format: FORMAT, model, probe, digest, images, options, sites }
    }
}

/// The lists that are written, what their arrays' names begin with, and how many places each has.
pub(super) fn lists(options: &Options, images: u64) -> Vec<(List, &'static str, usize)> {
    let most = |k: usize| k.min(usize::try_from(images).unwrap_or(usize::MAX));
    let all = [
        (List::Strongest, "", options.k),
        (List::Weakest, ".weakest", options.weakest),
        (List::Random, ".random", options.random),
    ];
    all.into_iter().filter(|(_, _, k)| *k > 0).map(|(list, prefix, k)| (list, prefix, most(k))).collect()
}
