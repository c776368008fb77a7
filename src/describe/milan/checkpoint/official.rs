//! A checkpoint as Python writes it: a zip archive with a pickle and the numbers that it refers to.

use super::node::Node;
use super::settings::{Parts, Settings, wrong};
use crate::describe::milan::indexer::Flags;
use crate::pickle::{Pickle, Storage, Value};
use crate::{Error, Result};
use half::{bf16, f16};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use tch::Tensor;
use zip::ZipArchive;

/// The pickle of a checkpoint may be so large, in bytes: it holds spaCy's vocabulary twice.
const MAX_PICKLE: u64 = 1 << 29;
/// All numbers of a checkpoint together, in bytes.
const MAX_NUMBERS: u64 = 1 << 33;

/// Reads an archive.
pub(super) fn read(path: &Path, file: File) -> Result<Parts> {
    let archive = ZipArchive::new(file).map_err(|e| wrong(path, format!("an archive that cannot be read ({e})")))?;
    Official { path, archive, prefix: String::new() }.parts()
}

/// A checkpoint as Python writes it.
struct Official<'a> {
    path: &'a Path,
    archive: ZipArchive<File>,
    /// The folder that all entries are in.
    prefix: String,
}

impl Official<'_> {
    fn parts(mut self) -> Result<Parts> {
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
        Ok((settings, tensors))
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
