//! MILAN: natural language descriptions of units, with the official weights.
//!
//! An encoder turns each exemplar into numbers, a decoder says how likely a caption is given the exemplars, `p(d|E)`, a
//! language model how likely it is anyway, `p(d)`. The caption with the highest `log p(d|E) - λ log p(d)` among those that a
//! beam search finds describes the unit.
//!
//! ```no_run
//! use tch_audit::describe::{describe, milan::{Checkpoint, Milan, Options}};
//! use tch_audit::evidence::Study;
//! use tch_audit::exemplars::Exemplars;
//! use tch_audit::probe::{ImageFolder, Preprocess};
//! # fn main() -> tch_audit::Result<()> {
//! let exemplars = Exemplars::load("exemplars")?;
//! let images = ImageFolder::open("photos").preprocess(exemplars.preprocess.clone()).stream()?;
//! let milan = Milan::new(&Checkpoint::load("milan-base.pth")?, Options::default())?;
//! for (unit, description) in exemplars.units.iter().zip(describe(&milan, &Study::new(&exemplars, &images))?) {
//!     println!("{}: {}", unit.id, description.text);
//! }
//! # Ok(()) }
//! ```
//!
//! **Source:** Hernandez et al. 2022, arXiv 2201.11114. What differs from the official code, and how to have it back, is
//! listed in `docs/milan.md`.

mod beam;
mod captions;
mod checkpoint;
mod decoder;
mod encoder;
mod indexer;
mod lm;
mod lstm;
mod pool;
mod search;
mod speaker;
mod tokenizer;
mod weights;

pub use checkpoint::{Checkpoint, Settings};
pub use search::{Search, SearchOptions, Strategy};

/// The parts, for the tests that compare each of them with the reference and for the benchmark; no part of the interface.
#[doc(hidden)]
pub mod internals {
    pub use super::captions::{Caption, Captions};
    pub use super::decoder::{Decoder, Sizes};
    pub use super::encoder::Encoder;
    pub use super::indexer::{Flags, Indexer, sentence};
    pub use super::lm::LanguageModel;
    pub use super::pool::pool;
    pub use super::speaker::{Forced, Speaker};
}

use super::{Alternative, Describer, Description, Say, Status};
use crate::evidence::{Needs, Study};
use crate::exemplars::{Compat, Exemplar, UnitExemplars};
use crate::probe::{Images, Preprocess, Want, image_tensor};
use crate::{Error, Region, Result};
use captions::Captions;
use decoder::Decoder;
use encoder::Encoder;
use indexer::Indexer;
use lm::LanguageModel;
use pool::pool;
use speaker::Speaker;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tch::{Kind, Tensor};

/// How units are described.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Options {
    /// How captions are searched for; what is not given is as the checkpoint has it.
    pub search: SearchOptions,
    /// Whose behaviour to follow where the official code has defects, in pooling and in the search.
    pub compat: Compat,
    /// Images per pass of the encoder.
    pub batch_size: usize,
    /// How many of the captions that did not win are kept.
    pub alternatives: usize,
}

impl Default for Options {
    /// The checkpoint's search, 16 images at once, 4 alternatives.
    fn default() -> Self {
        Self { search: SearchOptions::default(), compat: Compat::Fixed, batch_size: 16, alternatives: 4 }
    }
}

/// The describer; see [the module](self).
pub struct Milan {
    /// Behind a lock: tensors are not shared between threads.
    networks: Mutex<Networks>,
    indexer: Indexer,
    search: Search,
    options: Options,
    fingerprint: String,
}

struct Networks {
    encoder: Encoder,
    decoder: Decoder,
    lm: Option<LanguageModel>,
}

impl std::fmt::Debug for Milan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Milan")
            .field("search", &self.search)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// Units whose features are in memory at once: 240 MB of them with the largest encoder and 15 exemplars.
const UNITS: usize = 1024;

impl Milan {
    /// A describer with the weights of this file, an official `milan-*.pth` or a converted one, and default options.
    ///
    /// # Errors
    /// What [`Checkpoint::load`] and [`new`](Self::new) return.
    pub fn load(checkpoint: impl AsRef<Path>) -> Result<Self> {
        Self::new(&Checkpoint::load(checkpoint)?, Options::default())
    }

    /// A describer with the weights of `checkpoint`.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Shape`] and [`Error::Invalid`] for weights that are missing or do not fit together.
    pub fn new(checkpoint: &Checkpoint, options: Options) -> Result<Self> {
        if options.batch_size == 0 {
            return Err(Error::invalid("batch size", 0, "1 or more"));
        }
        let encoder = checkpoint.encoder()?;
        let (decoder, lm) = checkpoint.speaking_to(&encoder)?;
        let indexer = checkpoint.indexer.clone();
        let search = options.search.or(checkpoint.search(options.compat));
        search.validate(indexer.size(), lm.is_some())?;
        let fingerprint = format!("milan {} {search:?} {:?}", checkpoint.fingerprint()?, options.compat);
        let networks = Mutex::new(Networks { encoder, decoder, lm });
        Ok(Self { networks, indexer, search, options, fingerprint })
    }

    /// How captions are searched for.
    pub fn search(&self) -> &Search {
        &self.search
    }

    /// Captions with both log-probabilities for units that all have `k` exemplars.
    ///
    /// # Errors
    /// What reading the images returns; [`Error::Invalid`] for units of different numbers of exemplars.
    #[doc(hidden)]
    pub fn captions(&self, units: &[&UnitExemplars], images: &dyn Images) -> Result<Vec<Captions>> {
        let features = self.features(units, images)?;
        let networks = self.networks();
        let speaker = Speaker { decoder: &networks.decoder, lm: networks.lm.as_ref(), indexer: &self.indexer };
        speaker.captions(&features, &self.search)
    }

    fn networks(&self) -> MutexGuard<'_, Networks> {
        self.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The features of units that all have `k` exemplars. Every distinct image is encoded once.
    ///
    /// **Shapes:** `[units, k, features]`.
    ///
    /// # Errors
    /// As [`captions`](Self::captions).
    #[doc(hidden)]
    pub fn features(&self, units: &[&UnitExemplars], images: &dyn Images) -> Result<Tensor> {
        let networks = self.networks();
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
        let features = networks.encoder.features();
        let out = Tensor::zeros([(units.len() * k) as i64, features], (Kind::Float, tch::Device::Cpu));
        let bar = crate::progress::bar("encoding", wanted.len());
        let numbers: Vec<usize> = wanted.keys().copied().collect();
        let Preprocess { height, width, .. } = *images.preprocess();
        let plain = Preprocess::plain(3, height, width)?;
        images.read(&numbers, self.options.batch_size, Want::Pixels, &mut |batch| {
            batch.complete()?;
            let maps = networks.encoder.maps(&image_tensor(&batch.pixels, &plain)?)?;
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
        }
    }
}

impl Describer for Milan {
    fn name(&self) -> &str {
        "milan"
    }

    fn needs(&self) -> Needs {
        Needs { regions: true, ..Needs::default() }
    }

    /// Dead units are not described. Nor, by default, are those without any region: the decoder would see nothing and
    /// guess. [`Description::score`] is `log p(d|E) - λ log p(d)`.
    ///
    /// # Errors
    /// What reading the images returns.
    fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()> {
        let mut groups: BTreeMap<usize, Vec<(usize, &UnitExemplars)>> = BTreeMap::new();
        for (place, unit) in units.iter().filter_map(|place| Some((*place, study.unit(*place)?))) {
            let blind = unit.top.iter().all(|e| e.region.area() == 0);
            match () {
                () if unit.top.is_empty() => say(place, Description::dead())?,
                () if self.options.compat == Compat::Official => {
                    groups.entry(unit.top.len()).or_default().push((place, unit))
                }
                () if unit.dead => say(place, Description::dead())?,
                () if blind => say(place, blind_one())?,
                () => groups.entry(unit.top.len()).or_default().push((place, unit)),
            }
        }
        for part in groups.values().flat_map(|group| group.chunks(UNITS)) {
            let chosen: Vec<&UnitExemplars> = part.iter().map(|(_, unit)| *unit).collect();
            for ((place, _), captions) in part.iter().zip(self.captions(&chosen, study.images)?) {
                say(*place, self.described(captions))?;
            }
        }
        Ok(())
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
