//! MILAN: natural language descriptions of units, with the official weights.
//!
//! An encoder turns each exemplar into numbers, a decoder says how likely a caption is given the exemplars, `p(d|E)`, a
//! language model how likely it is anyway, `p(d)`. The caption with the highest `log p(d|E) - λ log p(d)` among those that a
//! beam search finds describes the unit.
//!
//! ```no_run
//! use tch_audit::describe::{Describer, milan::{Checkpoint, Milan, Options}};
//! use tch_audit::exemplars::Exemplars;
//! use tch_audit::probe::{ImageFolder, Preprocess};
//! # fn main() -> tch_audit::Result<()> {
//! let exemplars = Exemplars::load("exemplars")?;
//! let images = ImageFolder::open("photos").preprocess(exemplars.preprocess.clone()).stream()?;
//! let milan = Milan::new(&Checkpoint::load("milan-base.pth")?, &images, Options::default())?;
//! for (unit, description) in exemplars.units.iter().zip(milan.describe(&exemplars.units)?) {
//!     println!("{}: {}", unit.id, description.text);
//! }
//! # Ok(()) }
//! ```
//!
//! **Source:** Hernandez et al. 2022, arXiv 2201.11114. What differs from the official code, and how to have it back, is
//! listed in `docs/milan.md`.

mod beam;
mod checkpoint;
mod decoder;
mod encoder;
mod indexer;
mod lm;
mod lstm;
mod pickle;
mod pool;
mod search;
mod tokenizer;

pub use checkpoint::{Checkpoint, Settings};
pub use decoder::{Decoder, Sizes};
pub use encoder::Encoder;
pub use indexer::{Flags, Indexer, sentence};
pub use lm::LanguageModel;
pub use pool::pool;
pub use search::{Caption, Captions, Forced, Search, Speaker, Strategy};

use super::{Alternative, Describer, Description, Status};
use crate::exemplars::{Compat, Exemplar, UnitExemplars};
use crate::probe::{Images, Preprocess, Want, image_tensor};
use crate::{Error, Region, Result};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

/// How units are described.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// How captions are searched for; the checkpoint's own settings if not given.
    pub search: Option<Search>,
    /// Whose behaviour to follow where the official code has defects, in pooling and, unless a search is given, there.
    pub compat: Compat,
    /// Images per pass of the encoder.
    pub batch_size: usize,
    /// How many of the captions that did not win are kept.
    pub alternatives: usize,
}

impl Default for Options {
    /// The checkpoint's search, 16 images at once, 4 alternatives.
    fn default() -> Self {
        Self { search: None, compat: Compat::Fixed, batch_size: 16, alternatives: 4 }
    }
}

/// The describer; see [the module](self).
pub struct Milan<'a> {
    encoder: Encoder,
    decoder: Decoder,
    lm: Option<LanguageModel>,
    indexer: Indexer,
    source: &'a dyn Images,
    search: Search,
    options: Options,
    fingerprint: String,
}

impl std::fmt::Debug for Milan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Milan")
            .field("search", &self.search)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Units whose features are in memory at once: 240 MB of them with the largest encoder and 15 exemplars.
const UNITS: usize = 1024;

impl<'a> Milan<'a> {
    /// A describer with the weights of `checkpoint`; `source` has the images of the exemplars, by their numbers.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Shape`] and [`Error::Invalid`] for weights that are missing or do not fit together.
    pub fn new(checkpoint: &Checkpoint, source: &'a dyn Images, options: Options) -> Result<Self> {
        Self::with_encoder(checkpoint, checkpoint.encoder()?, source, options)
    }

    /// As [`new`](Self::new) with an encoder of your own, for instance from torchvision's weights.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_encoder(
        checkpoint: &Checkpoint,
        encoder: Encoder,
        source: &'a dyn Images,
        options: Options,
    ) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::invalid("batch size", 0, "1 or more"));
        }
        let (decoder, lm) = checkpoint.speaking_to(&encoder)?;
        let indexer = checkpoint.indexer.clone();
        let search = options.search.clone().unwrap_or_else(|| checkpoint.search(options.compat));
        let fingerprint = format!("milan {} {search:?} {:?}", checkpoint.fingerprint()?, options.compat);
        Ok(Self { encoder, decoder, lm, indexer, source, search, options, fingerprint })
    }

    /// How captions are searched for.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// Captions with both log-probabilities for units that all have `k` exemplars.
    ///
    /// # Errors
    /// What reading the images returns; [`Error::Invalid`] for units of different numbers of exemplars.
    pub fn captions(&self, units: &[&UnitExemplars]) -> Result<Vec<Captions>> {
        let speaker = Speaker { decoder: &self.decoder, lm: self.lm.as_ref(), indexer: &self.indexer };
        speaker.captions(&self.features(units)?, &self.search)
    }

    /// The features of units that all have `k` exemplars. Every distinct image is encoded once.
    ///
    /// **Shapes:** `[units, k, features]`.
    ///
    /// # Errors
    /// As [`captions`](Self::captions).
    pub fn features(&self, units: &[&UnitExemplars]) -> Result<Tensor> {
        let k = units.first().map_or(0, |u| u.top.len());
        if units.iter().any(|u| u.top.len() != k) {
            return Err(Error::invalid(
                "exemplars per unit",
                "different numbers",
                format!("{k}, as the first unit has"),
            ));
        }
        // Per image, the exemplars that it is: their place and region.
        let mut wanted: BTreeMap<usize, Vec<(i64, &Region)>> = BTreeMap::new();
        let all = units.iter().flat_map(|u| &u.top).enumerate();
        for (place, Exemplar { image, region, .. }) in all {
            wanted.entry(*image).or_default().push((place as i64, region));
        }
        let features = self.encoder.features();
        let out = Tensor::zeros([(units.len() * k) as i64, features], (Kind::Float, tch::Device::Cpu));
        let bar = crate::progress::bar("encoding", wanted.len());
        let numbers: Vec<usize> = wanted.keys().copied().collect();
        let Preprocess { height, width, .. } = *self.source.preprocess();
        let plain = Preprocess::plain(3, height, width)?;
        self.source.read(&numbers, self.options.batch_size, Want::Pixels, &mut |batch| {
            batch.complete()?;
            let maps = self.encoder.maps(&image_tensor(&batch.pixels, &plain)?)?;
            for (i, number) in batch.numbers.iter().enumerate() {
                let of_image: Vec<Tensor> = maps.iter().map(|m| m.get(i as i64)).collect();
                for places in wanted.get(number).map_or(&[] as &[_], Vec::as_slice).chunks(64) {
                    let pooled = pool(&of_image, &masks(places.iter().map(|(_, r)| *r))?, self.options.compat)?;
                    let rows: Vec<i64> = places.iter().map(|(place, _)| *place).collect();
                    let _ = out.shallow_clone().index_copy_(0, &Tensor::from_slice(&rows), &pooled);
                }
            }
            bar.inc(batch.numbers.len() as u64);
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(out.view([units.len() as i64, k as i64, features]))
    }

    fn described(&self, captions: Captions) -> Description {
        let alternatives = captions.alternatives.into_iter().take(self.options.alternatives);
        Description {
            text: captions.best.text,
            status: Status::Described,
            score: captions.best.score,
            log_likelihood: captions.best.log_likelihood,
            log_prior: captions.best.log_prior,
            alternatives: alternatives.map(|c| Alternative { text: c.text, score: c.score }).collect(),
            evidence: Vec::new(),
        }
    }
}

impl Describer for Milan<'_> {
    /// One description per unit, in the order of `units`.
    ///
    /// Dead units are not described. Nor, by default, are those without any region: the decoder would see nothing and
    /// guess. [`Description::score`] is `log p(d|E) - λ log p(d)`.
    ///
    /// # Errors
    /// What reading the images returns.
    fn describe(&self, units: &[UnitExemplars]) -> Result<Vec<Description>> {
        let mut descriptions: Vec<Option<Description>> = vec![None; units.len()];
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, unit) in units.iter().enumerate() {
            let blind = unit.top.iter().all(|e| e.region.area() == 0);
            descriptions[i] = match () {
                () if unit.top.is_empty() => Some(Description::dead()),
                () if self.options.compat == Compat::Official => None,
                () if unit.dead => Some(Description::dead()),
                () if blind => Some(blind_one()),
                () => None,
            };
            if descriptions[i].is_none() {
                groups.entry(unit.top.len()).or_default().push(i);
            }
        }
        for group in groups.values() {
            for part in group.chunks(UNITS) {
                let chosen: Vec<&UnitExemplars> = part.iter().map(|i| &units[*i]).collect();
                for (i, captions) in part.iter().zip(self.captions(&chosen)?) {
                    descriptions[*i] = Some(self.described(captions));
                }
            }
        }
        Ok(descriptions.into_iter().map(|d| d.unwrap_or_else(blind_one)).collect())
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

/// Of a unit of whose exemplars nothing would be seen.
fn blind_one() -> Description {
    Description { status: Status::Abstained, ..Description::words("no region above its level") }
}

/// Regions as `[n, H, W]` of 0 and 1.
fn masks<'r>(regions: impl Iterator<Item = &'r Region>) -> Result<Tensor> {
    let parts: Vec<Tensor> = regions
        .map(|r| Tensor::from_slice(&r.bytes()).f_view([r.height() as i64, r.width() as i64]))
        .collect::<Result<_, _>>()
        .map_err(Error::torch("reading regions"))?;
    Tensor::f_stack(&parts, 0).and_then(|t| t.f_to_kind(Kind::Float)).map_err(Error::torch("stacking regions"))
}
