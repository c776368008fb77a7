//! `edits.json`: what was done to the models of a folder, and how to take it back.
//!
//! Beside the journal, `edits/` holds what each edit replaced. Every model's edits are a chain; the last one is taken
//! back first.

use super::{Cost, Edit, Method, Slice};
use crate::files::Staging;
use crate::{Error, InputLayout, Model, Result, Traced, UnitId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tch::{Kind, Tensor};

const NAME: &str = "edits.json";
const FOLDER: &str = "edits";
const VERSION: u32 = 1;

/// The journal of a folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The version of this format.
    pub version: u32,
    /// All edits, oldest first.
    pub edits: Vec<Entry>,
}

/// One edit of one model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The model's file name.
    pub file: String,
    /// BLAKE3 of the file as this edit left it.
    pub blake3: String,
    /// The name of the file that was edited.
    pub from: String,
    /// What was done.
    pub method: Method,
    /// The units that were asked for.
    pub units: Vec<UnitId>,
    /// Every unit that is 0 or gone.
    pub coupled: Vec<UnitId>,
    /// What changed.
    pub slices: Vec<Slice>,
    /// What the model cost before, and costs now.
    pub before: Cost,
    /// As `before`, after.
    pub after: Cost,
    /// The largest difference between the edited model's output and what the plan promised.
    pub difference: f64,
    /// The shape of the example that the edit was verified with.
    pub input: Vec<i64>,
    /// How the model's images are laid out; not written for `[N, C, H, W]`.
    #[serde(default, skip_serializing_if = "InputLayout::is_usual")]
    pub layout: InputLayout,
    /// The file, beside the journal, with the tensors that the edit replaced.
    pub originals: String,
}

/// What an edit replaces, read before it is made.
#[derive(Debug)]
pub struct Originals(Vec<(String, Tensor)>);

impl Originals {
    /// Copies the parameters and buffers that `edit` will change.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the model has no such parameter.
    pub fn before(edit: &Edit, traced: &Traced<'_>) -> Result<Self> {
        let mut names: Vec<&str> = edit.slices().iter().map(|s| s.parameter.as_str()).collect();
        names.dedup();
        let copies = names.into_iter().map(|name| {
            let copy = traced
                .tensor(traced.model(), name)?
                .f_detach_copy()
                .map_err(Error::torch(format!("reading `{name}`")))?;
            Ok((name.to_string(), copy))
        });
        Ok(Self(copies.collect::<Result<_>>()?))
    }
}

impl Journal {
    /// The journal of the folder that `model` lies in; empty when there is none.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] when it is no journal.
    pub fn beside(model: &Path) -> Result<Self> {
        let path = folder_of(model).join(NAME);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { version: VERSION, edits: Vec::new() });
            }
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let allowed = || format!("a journal of edits, version {VERSION}");
        let journal: Self =
            serde_json::from_slice(&bytes).map_err(|e| Error::invalid(path.display().to_string(), e, allowed()))?;
        if journal.version != VERSION {
            return Err(Error::invalid(path.display().to_string(), format!("version {}", journal.version), allowed()));
        }
        Ok(journal)
    }

    /// The edits of the model file `name`, oldest first.
    pub fn of<'j>(&'j self, name: &'j str) -> impl DoubleEndedIterator<Item = &'j Entry> {
        self.edits.iter().filter(move |e| e.file == name)
    }

    /// Saves an edited TorchScript model as `to`, and writes down how it came from the file `from`. Earlier edits of
    /// `from` become part of the chain of `to`, unless `from` has changed since.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Invalid`] when something cannot be read or written; the folder of `to` is then what it
    /// was.
    pub fn save(
        model: &Model<'_>,
        (from, to): (&Path, &Path),
        edit: &Edit,
        (before, after): (Cost, Cost),
        difference: f64,
        input: &[i64],
        originals: &Originals,
    ) -> Result<Entry> {
        let file = free_name_of(to)?;
        let journal = Self::beside(to)?;
        let mut staging = Staging::new(&folder_of(to))?;
        let mut chain = carried(chain_of(from)?, from, &file, &mut staging)?;
        let kept = originals_of(&file, chain.len() + 1);
        let named = originals.0.iter().map(|(n, t)| Ok((n.as_str(), plain(t)?))).collect::<Result<Vec<_>>>()?;
        Tensor::write_safetensors(&named, staging.add(&kept)?)
            .map_err(Error::torch(format!("writing {}", folder_of(to).join(&kept).display())))?;
        let part = staging.add(&file)?;
        model.save(&part)?;
        let entry = Entry {
            file: file.clone(),
            blake3: hash(&part)?,
            from: name_of(from)?,
            method: edit.method(),
            units: edit.units().to_vec(),
            coupled: edit.coupled().to_vec(),
            slices: edit.slices().to_vec(),
            before,
            after,
            difference,
            input: input.to_vec(),
            layout: model.input_layout(),
            originals: kept,
        };
        chain.push(entry.clone());
        journal.put(to, &file, chain, staging)?;
        Ok(entry)
    }

    /// Takes the last edit of the TorchScript file `from` back and saves the result as `to`. Returns what was taken back.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the journal knows no edit of the file, or the file has changed since;
    /// [`Error::Io`] and [`Error::Torch`] when something cannot be read or written.
    pub fn undo(from: &Path, to: &Path) -> Result<Entry> {
        let (name, file) = (name_of(from)?, free_name_of(to)?);
        let now = hash(from)?;
        let journal = Self::beside(from)?;
        let mut chain: Vec<Entry> = journal.of(&name).cloned().collect();
        let Some(last) = chain.pop() else {
            let path = folder_of(from).join(NAME);
            if journal.edits.is_empty() {
                return Err(Error::invalid(
                    from.display().to_string(),
                    format!("no edit of it in {}", path.display()),
                    "a file that an edit wrote, with its journal beside it",
                ));
            }
            let known: Vec<&str> = journal.edits.iter().map(|e| e.file.as_str()).collect();
            return Err(Error::unknown("edited model in the journal", &name, known));
        };
        if now != last.blake3 {
            let what = from.display().to_string();
            return Err(Error::invalid(what, "a file that has changed since the edit", "the file that the edit wrote"));
        }
        let path = folder_of(from).join(&last.originals);
        std::fs::File::open(&path).map_err(Error::io("read", &path))?;
        let read = Tensor::read_safetensors(&path).map_err(Error::torch(format!("reading {}", path.display())))?;
        let model = Model::load(from)?.with_input_layout(last.layout);
        // Constants have no names but those of a trace.
        let nameless = read.iter().any(|(name, _)| model.parameter(name).is_none());
        let shape = last.input.as_slice();
        let example = || Tensor::f_zeros(shape, (Kind::Float, model.device())).map_err(Error::torch("tracing"));
        let graph = if nameless { Some(Traced::new(&model, &example()?)?) } else { None };
        for (name, original) in &read {
            let valid = || model.parameters().iter().map(|(n, _)| n.as_str());
            let mut tensor = match &graph {
                Some(graph) => graph.tensor(&model, name)?,
                None => model
                    .parameter(name)
                    .map(Tensor::shallow_clone)
                    .ok_or_else(|| Error::unknown("parameter", name, valid()))?,
            };
            let given = as_in(&tensor, original).and_then(|t| t.f_to_device(tensor.device()));
            let given = given.and_then(|t| tensor.f_set_data(&t));
            given.map_err(Error::torch(format!("restoring `{name}`")))?;
        }
        let beside = Self::beside(to)?;
        let mut staging = Staging::new(&folder_of(to))?;
        let mut chain = carried(chain, from, &file, &mut staging)?;
        let part = staging.add(&file)?;
        model.save(&part)?;
        if let Some(now_last) = chain.last_mut() {
            now_last.blake3 = hash(&part)?;
        }
        beside.put(to, &file, chain, staging)?;
        Ok(last)
    }

    /// Replaces the edits of `file` by `chain`, and puts the journal and what is staged in place, beside `model`.
    fn put(mut self, model: &Path, file: &str, chain: Vec<Entry>, mut staging: Staging) -> Result<()> {
        let (new, old) = (chain.len(), self.of(file).count());
        self.edits.retain(|e| e.file != file);
        self.edits.extend(chain);
        let path = folder_of(model).join(NAME);
        let json = serde_json::to_string_pretty(&self).map_err(|e| Error::io("write", &path)(e.into()))?;
        std::fs::write(staging.add(NAME)?, json + "\n").map_err(Error::io("write", &path))?;
        staging.put()?;
        // What an older file of this name kept. That it cannot be removed is no error: nothing reads it any more.
        for number in new + 1..=old {
            let _ = std::fs::remove_file(folder_of(model).join(originals_of(file, number)));
        }
        Ok(())
    }
}

/// What a file of safetensors can hold: of complex numbers the real and imaginary parts, in a last dimension of two.
fn plain(tensor: &Tensor) -> Result<Tensor> {
    let plain = if is_complex(tensor.kind()) {
        tensor.f_view_as_real().and_then(|t| t.f_contiguous())
    } else {
        Ok(tensor.shallow_clone())
    };
    plain.map_err(Error::torch("keeping what an edit replaces"))
}

/// What [`plain`] made, as the tensor that it is of.
fn as_in(tensor: &Tensor, kept: &Tensor) -> Result<Tensor, tch::TchError> {
    if is_complex(tensor.kind()) && !is_complex(kept.kind()) {
        kept.f_view_as_complex()
    } else {
        Ok(kept.shallow_clone())
    }
}

fn is_complex(kind: Kind) -> bool {
    matches!(kind, Kind::ComplexHalf | Kind::ComplexFloat | Kind::ComplexDouble)
}

/// The edits that a file went through: those of its name in the journal, if it is what the last of them wrote.
fn chain_of(model: &Path) -> Result<Vec<Entry>> {
    let name = name_of(model)?;
    let chain: Vec<Entry> = Journal::beside(model)?.of(&name).cloned().collect();
    let is_as_left = match chain.last() {
        Some(last) => hash(model)? == last.blake3,
        None => true,
    };
    Ok(if is_as_left { chain } else { Vec::new() })
}

/// The edits of `from` under the name `file`, with copies of what they replaced.
fn carried(mut chain: Vec<Entry>, from: &Path, file: &str, staging: &mut Staging) -> Result<Vec<Entry>> {
    for (i, entry) in chain.iter_mut().enumerate() {
        let old = folder_of(from).join(&entry.originals);
        entry.originals = originals_of(file, i + 1);
        std::fs::copy(&old, staging.add(&entry.originals)?).map_err(Error::io("read", &old))?;
        entry.file = file.to_string();
    }
    Ok(chain)
}

/// Where what the edit `number` of a file replaced is kept, beside the journal.
fn originals_of(file: &str, number: usize) -> String {
    format!("{FOLDER}/{file}.{number}.safetensors")
}

fn hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let file = std::fs::File::open(path).and_then(|f| std::io::copy(&mut std::io::BufReader::new(f), &mut hasher));
    file.map_err(Error::io("read", path))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn name_of(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|n| n.to_str());
    name.map(str::to_string).ok_or_else(|| Error::invalid("model file", path.display(), "a file name in UTF-8"))
}

/// The name of a file that is written beside the journal, and must not be the journal itself.
fn free_name_of(path: &Path) -> Result<String> {
    let name = name_of(path)?;
    if [NAME, FOLDER].contains(&name.as_str()) {
        let what = path.display().to_string();
        return Err(Error::invalid(
            what,
            "a name that the journal of edits has",
            format!("any but {NAME} and {FOLDER}"),
        ));
    }
    Ok(name)
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
