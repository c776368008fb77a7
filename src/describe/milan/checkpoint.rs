//! MILAN's checkpoints: as Python writes them, and as safetensors with JSON beside it.

mod node;

use super::indexer::{Flags, Indexer};
use super::pickle::{Pickle, Storage, Value};
use super::{Decoder, Encoder, LanguageModel, Search, Strategy};
use crate::arrays::{Arrays, Opened};
use crate::exemplars::Compat;
use crate::{Error, Result};
use half::{bf16, f16};
use node::Node;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use tch::Tensor;

/// In front of the names of the encoder's weights.
const ENCODER: &str = "encoder.encoder.model.";
/// The pickle of a checkpoint may be so large, in bytes: it holds spaCy's vocabulary twice.
const MAX_PICKLE: u64 = 1 << 29;
/// All numbers of a checkpoint together, in bytes.
const MAX_NUMBERS: u64 = 1 << 33;

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

/// What a checkpoint says besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The encoder: `alexnet`, `resnet18`, `resnet50`, `resnet101`.
    pub encoder: String,
    /// Longest caption, in tokens.
    pub length: usize,
    /// Captions that are followed at once.
    pub beam_size: usize,
    /// How much the language model counts when reranking (λ).
    pub temperature: f64,
    /// Whether there is a language model.
    pub language_model: bool,
    /// What is done with texts.
    pub flags: Flags,
    /// The vocabulary.
    pub words: Vec<String>,
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
            return Official { path, archive: open(path, file)?, prefix: String::new() }.load();
        }
        if path.extension().is_some_and(|e| e == "safetensors") {
            return converted(path);
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
        let json = json_of(path);
        let text = serde_json::to_string_pretty(&self.settings).map_err(|e| Error::io("write", &json)(e.into()))?;
        let mut arrays = Arrays::default();
        for (name, tensor) in &self.tensors {
            let shape: Vec<usize> = tensor.size().iter().map(|n| *n as usize).collect();
            let values =
                Vec::<f32>::try_from(&tensor.flatten(0, -1)).map_err(Error::torch(format!("reading `{name}`")))?;
            arrays.add(name, Dtype::F32, &shape, &values);
        }
        crate::files::replace_at(path, |part| arrays.write(part, path, &FORMAT))?;
        crate::files::write_atomically(&json, |out| out.write_all(text.as_bytes()))
    }

    /// What the checkpoint says besides its weights.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The vocabulary.
    pub fn indexer(&self) -> &Indexer {
        &self.indexer
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

    /// The encoder that the checkpoint holds.
    pub(super) fn encoder(&self) -> Result<Encoder> {
        Encoder::new(&self.tensors, ENCODER)
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

    fn new(path: &Path, settings: Settings, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let indexer = Indexer::new(settings.words.clone(), settings.flags.clone()).map_err(|e| wrong(path, e))?;
        Ok(Self { settings, indexer, tensors })
    }
}

const FORMAT: u32 = 1;

fn wrong(path: &Path, received: impl ToString) -> Error {
    let allowed = "a MILAN checkpoint (milan-*.pth, or one that `tch-audit milan convert` wrote)";
    Error::invalid(path.display().to_string(), received, allowed)
}

fn json_of(path: &Path) -> PathBuf {
    path.with_extension("json")
}

fn converted(path: &Path) -> Result<Checkpoint> {
    let json = json_of(path);
    let text = std::fs::read_to_string(&json).map_err(Error::io("read", &json))?;
    let settings: Settings = serde_json::from_str(&text).map_err(|e| wrong(&json, format!("settings with {e}")))?;
    let (arrays, format) = Opened::open::<u32>(path, "a checkpoint that `tch-audit milan convert` wrote")?;
    if format != FORMAT {
        return Err(arrays.wrong(format!("format {format}"), format!("format {FORMAT}")));
    }
    let mut tensors = BTreeMap::new();
    for (name, shape) in arrays.names() {
        let values: Vec<f32> = arrays.all(&name, Dtype::F32)?;
        let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let tensor =
            Tensor::from_slice(&values).f_view(shape.as_slice()).map_err(Error::torch(format!("reading `{name}`")))?;
        tensors.insert(name, tensor);
    }
    Checkpoint::new(path, settings, tensors)
}

fn open(path: &Path, file: std::fs::File) -> Result<zip::ZipArchive<std::fs::File>> {
    zip::ZipArchive::new(file).map_err(|e| wrong(path, format!("an archive that cannot be read ({e})")))
}

/// A checkpoint as Python writes it.
struct Official<'a> {
    path: &'a Path,
    archive: zip::ZipArchive<std::fs::File>,
    /// The folder that all entries are in.
    prefix: String,
}

impl Official<'_> {
    fn load(mut self) -> Result<Checkpoint> {
        let pickle =
            self.archive.file_names().filter_map(Result::ok).find(|n| n.ends_with("/data.pkl")).map(Cow::into_owned);
        let name = pickle.ok_or_else(|| wrong(self.path, "an archive without a data.pkl"))?;
        self.prefix = name.trim_end_matches("data.pkl").to_string();
        let bytes = self.entry(&name, MAX_PICKLE)?;
        if let Ok(order) = self.entry(&format!("{}byteorder", self.prefix), 16)
            && order != b"little"
        {
            return Err(wrong(self.path, "numbers that do not begin with their lowest byte"));
        }
        let pickle = Pickle::parse(&bytes).map_err(|reason| wrong(self.path, format!("{name} with {reason}")))?;
        drop(bytes);
        let settings = self.settings(&pickle)?;
        let tensors = self.tensors(&pickle)?;
        Checkpoint::new(self.path, settings, tensors)
    }

    /// The bytes of an entry. Entries are stored, not compressed, so that none is larger than the file.
    fn entry(&mut self, name: &str, limit: u64) -> Result<Vec<u8>> {
        let path = self.path;
        let mut entry = self
            .archive
            .by_name(name)
            .map_err(|e| wrong(path, format!("an archive whose `{name}` cannot be read ({e})")))?;
        if entry.compression() != zip::CompressionMethod::Stored {
            return Err(wrong(path, format!("an archive whose `{name}` is compressed")));
        }
        let size = entry.size();
        if size > limit {
            return Err(wrong(path, format!("an archive whose `{name}` has {size} bytes (at most {limit})")));
        }
        let mut bytes = Vec::new();
        entry.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(|e| wrong(path, format!("`{name}`: {e}")))?;
        if bytes.len() as u64 != size {
            return Err(wrong(path, format!("an archive whose `{name}` has {} bytes and claims {size}", bytes.len())));
        }
        Ok(bytes)
    }

    fn settings(&self, pickle: &Pickle) -> Result<Settings> {
        let root = Node { path: self.path, pickle, id: pickle.root(), name: String::new() };
        let properties = root.get("properties")?;
        let indexer = properties.get("indexer")?.get("properties")?;
        let vocabulary = indexer.get("vocab")?.get("properties")?.get("tokens")?;
        let tokenizer = indexer.get("tokenize")?.get("properties")?;
        for flag in ["lemmatize", "ignore_stop"] {
            let flag = tokenizer.get(flag)?;
            if flag.bool()? {
                return Err(flag.wrong("true", "false: tch-audit has neither lemmas nor a list of stop words"));
            }
        }
        let flags = Flags {
            start: indexer.get("start")?.bool()?,
            stop: indexer.get("stop")?.bool()?,
            pad: indexer.get("pad")?.bool()?,
            unk: indexer.get("unk")?.bool()?,
            length: indexer.get("length")?.optional(|n| n.count())?,
            lowercase: tokenizer.get("lowercase")?.bool()?,
            ignore_punct: tokenizer.get("ignore_punct")?.bool()?,
        };
        Ok(Settings {
            encoder: properties.get("encoder")?.get("properties")?.get("config")?.text()?,
            length: properties.get("length")?.count()?,
            beam_size: properties.get("beam_size")?.count()?,
            temperature: properties.get("temperature")?.number()?,
            language_model: properties.get("lm")?.optional(|_| Ok(()))?.is_some(),
            flags,
            words: vocabulary.texts()?,
        })
    }

    fn tensors(&mut self, pickle: &Pickle) -> Result<BTreeMap<String, Tensor>> {
        let path = self.path;
        let root = Node { path, pickle, id: pickle.root(), name: String::new() };
        let state = root.get("state_dict")?;
        let Value::Dict(entries) = pickle.get(state.id) else {
            return Err(state.wrong("no dictionary", "tensors by name"));
        };
        let (mut storages, mut tensors, mut total) = (BTreeMap::new(), BTreeMap::new(), 0u64);
        for (key, value) in entries {
            let Value::Text(name) = pickle.get(*key) else { return Err(state.wrong("a key that is no text", "names")) };
            let entry = |what: String| wrong(path, format!("`{name}` in state_dict: {what}"));
            let Value::Tensor { storage, offset, size, stride } = pickle.get(*value) else {
                return Err(entry("no tensor".to_string()));
            };
            let Value::Storage { kind, key, count } = pickle.get(*storage) else {
                return Err(entry("a tensor without a storage".to_string()));
            };
            let span = span(size, stride).and_then(|n| n.checked_add(*offset)).filter(|end| end <= count);
            if span.is_none() || size.len() != stride.len() || size.len() > 8 {
                return Err(entry(format!("a tensor of shape {size:?} in a storage of {count} numbers")));
            }
            if matches!(kind, Storage::Long | Storage::Int | Storage::Byte | Storage::Bool) {
                // Counters of batch normalisation.
                continue;
            }
            if !storages.contains_key(key) {
                total = total.saturating_add(count.saturating_mul(4));
                if total > MAX_NUMBERS {
                    return Err(wrong(path, format!("more than {MAX_NUMBERS} bytes of weights")));
                }
                let bytes = self.entry(&format!("{}data/{key}", self.prefix), MAX_NUMBERS)?;
                storages.insert(
                    key.clone(),
                    floats(*kind, &bytes, *count)
                        .ok_or_else(|| entry(format!("a storage of {} bytes for {count} numbers", bytes.len())))?,
                );
            }
            let (Some(storage), signed) =
                (storages.get(key), |list: &[u64]| list.iter().map(|n| *n as i64).collect::<Vec<_>>())
            else {
                continue;
            };
            let tensor = storage
                .f_as_strided(signed(size).as_slice(), signed(stride).as_slice(), *offset as i64)
                .and_then(|t| t.f_contiguous())
                .map_err(Error::torch(format!("reading `{name}` of {}", path.display())))?;
            tensors.insert(name.clone(), tensor);
        }
        Ok(tensors)
    }
}

/// How far a tensor reaches from its first number, in numbers; `None` if that is no number.
fn span(size: &[u64], stride: &[u64]) -> Option<u64> {
    // A tensor as large as memory could be claimed with strides of 0.
    let count = size.iter().try_fold(1u64, |n, s| n.checked_mul(*s)).filter(|n| *n <= MAX_NUMBERS / 4)?;
    if count == 0 {
        return Some(0);
    }
    let last = size.iter().zip(stride).try_fold(0u64, |sum, (n, s)| sum.checked_add((n - 1).checked_mul(*s)?))?;
    last.checked_add(1).filter(|reach| count <= *reach)
}

fn floats(kind: Storage, bytes: &[u8], count: u64) -> Option<Tensor> {
    let count = usize::try_from(count).ok()?;
    let width = match kind {
        Storage::Float => 4,
        Storage::Double => 8,
        Storage::Half | Storage::BFloat16 => 2,
        _ => return None,
    };
    if count.checked_mul(width) != Some(bytes.len()) {
        return None;
    }
    let values: Vec<f32> = match kind {
        Storage::Float => bytemuck::pod_collect_to_vec(bytes),
        Storage::Double => bytemuck::pod_collect_to_vec::<u8, f64>(bytes).into_iter().map(|x| x as f32).collect(),
        Storage::Half => bytemuck::pod_collect_to_vec::<u8, f16>(bytes).into_iter().map(f16::to_f32).collect(),
        _ => bytemuck::pod_collect_to_vec::<u8, bf16>(bytes).into_iter().map(bf16::to_f32).collect(),
    };
    Some(Tensor::from_slice(&values))
}
