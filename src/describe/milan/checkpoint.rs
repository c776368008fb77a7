//! MILAN's checkpoints: as Python writes them, and as safetensors with JSON beside it.

mod converted;
mod node;
mod official;
mod settings;

pub use settings::Settings;

use super::decoder::Decoder;
use super::encoder::Encoder;
use super::indexer::Indexer;
use super::lm::LanguageModel;
use super::search::{Search, Strategy};
use super::weights::Weights;
use crate::exemplars::Compat;
use crate::{Error, Result};
use settings::{Parts, wrong};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;
use tch::Tensor;

/// In front of the names of the encoder's weights.
const ENCODER: &str = "encoder.encoder.model.";

/// A trained MILAN: the settings, the vocabulary and the weights of encoder, decoder and language model.
///
/// **Source:** Hernandez et al. 2022, arXiv 2201.11114.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) settings: Settings,
    pub(super) indexer: Indexer,
    /// Under the official names; all `f32`.
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads an official `milan-*.pth`, or the `.safetensors` (with its `.json` beside it) that [`save`](Self::save) wrote.
    ///
    /// The pickle in an official file is read by a parser that builds tensors and plain values and refuses everything else;
    /// nothing in the file is run. Memory is bounded by the size of the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] naming the file and the entry for one that is damaged, hostile or something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut start = [0; 2];
        let mut file = std::fs::File::open(path).map_err(Error::io("read", path))?;
        let count = file.read(&mut start).map_err(Error::io("read", path))?;
        if count == 2 && start == *b"PK" {
            file.rewind().map_err(Error::io("read", path))?;
            return Self::new(path, official::read(path, file)?);
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            return Self::new(path, converted::read(path)?);
        }
        Err(wrong(path, "a file that is neither a zip archive nor .safetensors"))
    }

    /// Writes `path` (ending in `.safetensors`) and beside it a `.json` with settings and vocabulary.
    ///
    /// # Errors
    /// [`Error::Invalid`] for another ending; [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if path.extension().is_none_or(|e| e != "safetensors") {
            return Err(Error::invalid("converted checkpoint", path.display(), "a name that ends in .safetensors"));
        }
        converted::write(path, &self.settings, &self.tensors)
    }

    /// What the checkpoint says besides its weights.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How many numbers the weights have.
    pub fn parameters(&self) -> u64 {
        self.tensors.values().map(|t| t.numel() as u64).sum()
    }

    /// Whether encoder, decoder and language model are there and fit together: how many features the encoder has.
    ///
    /// # Errors
    /// As [`Milan::new`](super::Milan::new).
    pub fn check(&self) -> Result<i64> {
        let encoder = self.encoder()?;
        self.speaking_to(&encoder)?;
        Ok(encoder.features())
    }

    /// The encoder that the checkpoint holds, with its own mean and standard deviation, if it has them.
    pub(super) fn encoder(&self) -> Result<Encoder> {
        let encoder = Encoder::new(&self.tensors, ENCODER)?;
        let own = Weights { tensors: &self.tensors, prefix: "encoder." };
        if !own.has("mean") || !own.has("std") {
            return Ok(encoder);
        }
        Ok(encoder.normalizing(own.get("mean", &[1, 3, 1, 1])?, own.get("std", &[1, 3, 1, 1])?))
    }

    /// Decoder and language model, for the features of this encoder.
    pub(super) fn speaking_to(&self, encoder: &Encoder) -> Result<(Decoder, Option<LanguageModel>)> {
        let decoder = Decoder::new(&self.tensors, self.indexer.size())?;
        if encoder.features() != decoder.sizes().features {
            let received = format!("an encoder of {} features", encoder.features());
            let allowed = format!("{}, as the decoder has", decoder.sizes().features);
            return Err(Error::invalid("checkpoint", received, allowed));
        }
        let lm = match self.settings.language_model {
            true => Some(LanguageModel::new(&self.tensors, "lm.", self.indexer.size())?),
            false => None,
        };
        Ok((decoder, lm))
    }

    /// The search that the checkpoint asks for.
    pub fn search(&self, compat: Compat) -> Search {
        let settings = &self.settings;
        Search {
            strategy: if settings.language_model { Strategy::Rerank } else { Strategy::Beam },
            beam: settings.beam_size.min(self.indexer.size()),
            length: settings.length,
            temperature: settings.temperature,
            compat,
            ..Search::default()
        }
    }

    /// A hash of settings and weights.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let settings = serde_json::to_vec(&self.settings).map_err(|e| Error::invalid("settings", e, "JSON"))?;
        hash.update(&settings);
        for (name, tensor) in &self.tensors {
            let values =
                Vec::<f32>::try_from(&tensor.flatten(0, -1)).map_err(Error::torch(format!("reading `{name}`")))?;
            hash.update(name.as_bytes()).update(format!("{:?}", tensor.size()).as_bytes());
            hash.update(bytemuck::cast_slice(&values));
        }
        Ok(hash.finalize().to_hex().to_string())
    }

    fn new(path: &Path, (settings, tensors): Parts) -> Result<Self> {
        let indexer = Indexer::new(settings.words.clone(), settings.flags.clone()).map_err(|e| wrong(path, e))?;
        Ok(Self { settings, indexer, tensors })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn the_encoder_normalizes_as_the_checkpoint_says() {
        let mut checkpoint = Checkpoint::load("tests/golden/milan/milan-tiny.pth").unwrap();
        let images = Tensor::rand([1, 3, 48, 48], (Kind::Float, Device::Cpu));
        let mean = checkpoint.tensors["encoder.mean"].copy();
        let before = checkpoint.encoder().unwrap().maps(&images).unwrap();
        checkpoint.tensors.insert("encoder.mean".into(), mean.zeros_like());
        let centred = checkpoint.encoder().unwrap().maps(&(&images - mean)).unwrap();
        let other = checkpoint.encoder().unwrap().maps(&images).unwrap();
        let apart = |a: &Tensor, b: &Tensor| (a - b).abs().max().double_value(&[]);
        for ((before, centred), other) in before.iter().zip(&centred).zip(&other) {
            assert!(apart(before, centred) < 1e-4);
            assert!(apart(before, other) > 1e-2);
        }
    }
}
