//! What a resumed training needs, on disk: `auditor.json`, and `auditor-HASH.safetensors` with the numbers of zeroed slices.
//!
//! The second is named by its content and written first, so that the first never speaks of numbers that are not there.

use super::log::{Kept, Log};
use super::moment::Moment;
use super::words::Words;
use crate::edit::{Slice, Zeroed};
use crate::files::write_atomically;
use crate::report::HistoryEntry;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use tch::Tensor;

/// The file's name.
pub(super) const FILE: &str = "auditor.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    now: Moment,
    ended: Vec<Moment>,
    history: Vec<HistoryEntry>,
    words: Vec<Words>,
    kept: Vec<SavedKept>,
    /// The file with the numbers; `None` when nothing is kept.
    originals: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedKept {
    since: Moment,
    slices: Vec<Slice>,
}

/// Writes `log` into `folder`, which exists.
pub(super) fn write(folder: &Path, log: &Log) -> Result<()> {
    #[derive(Serialize)]
    struct Saving<'a> {
        version: u32,
        now: Moment,
        ended: &'a [Moment],
        history: &'a [HistoryEntry],
        words: &'a [Words],
        kept: Vec<SavedKept>,
        originals: Option<&'a str>,
    }
    let originals = write_originals(folder, &log.kept)?;
    let slices = |k: &Kept| k.slices.iter().map(|z| z.slice.clone()).collect();
    let saving = Saving {
        version: VERSION,
        now: log.now,
        ended: &log.ended,
        history: &log.history,
        words: &log.words,
        kept: log.kept.iter().map(|k| SavedKept { since: k.since, slices: slices(k) }).collect(),
        originals: originals.as_deref(),
    };
    write_atomically(&folder.join(FILE), |out| serde_json::to_writer(out, &saving).map_err(Into::into))?;
    tidy(folder, originals.as_deref())
}

/// What [`write`] wrote; `None` when there is nothing.
pub(super) fn read(folder: &Path) -> Result<Option<Log>> {
    let path = folder.join(FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    let wrong = |received: String| {
        Error::invalid(path.display().to_string(), received, format!("an auditor's state, version {VERSION}"))
    };
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    if saved.version != VERSION {
        return Err(wrong(format!("version {}", saved.version)));
    }
    let mut originals = match &saved.originals {
        Some(name) if is_ours(name) => read_originals(&folder.join(name))?,
        Some(name) => return Err(wrong(format!("`{name}` as the file with the numbers"))),
        None => BTreeMap::new(),
    };
    let mut kept = Vec::new();
    for (k, SavedKept { since, slices }) in saved.kept.into_iter().enumerate() {
        let mut zeroed = Vec::new();
        for (i, slice) in slices.into_iter().enumerate() {
            let numbers = originals.remove(&key(k, i)).ok_or_else(|| wrong(format!("no numbers for {slice}")))?;
            zeroed.push(Zeroed::from_parts(slice, numbers)?);
        }
        kept.push(Kept { since, slices: zeroed });
    }
    let Saved { now, ended, history, words, .. } = saved;
    Ok(Some(Log { now, ended, history, words, kept, ..Log::default() }))
}

fn key(kept: usize, slice: usize) -> String {
    format!("{kept}.{slice}")
}

fn is_ours(name: &str) -> bool {
    let hash = name.strip_prefix("auditor-").and_then(|n| n.strip_suffix(".safetensors"));
    hash.is_some_and(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Returns the file's name; `None`, and no file, when nothing is kept.
fn write_originals(folder: &Path, kept: &[Kept]) -> Result<Option<String>> {
    let slices = kept.iter().enumerate().flat_map(|(k, kept)| kept.slices.iter().enumerate().map(move |s| (k, s)));
    let named: Vec<(String, Tensor)> =
        slices.map(|(k, (i, z))| (key(k, i), z.original.to_device(tch::Device::Cpu))).collect();
    if named.is_empty() {
        return Ok(None);
    }
    let failed = |e: std::io::Error| Error::io("write to", folder)(e.kind().into());
    let part = tempfile::Builder::new().prefix(".tch-audit-").suffix(".part").tempfile_in(folder).map_err(failed)?;
    Tensor::write_safetensors(&named, part.path())
        .map_err(Error::torch(format!("writing zeroed numbers to {}", folder.display())))?;
    let bytes = std::fs::read(part.path()).map_err(failed)?;
    let name = format!("auditor-{}.safetensors", &blake3::hash(&bytes).to_hex()[..16]);
    let path = folder.join(&name);
    if !path.exists() {
        write_atomically(&path, |out| out.write_all(&bytes))?;
    }
    Ok(Some(name))
}

fn read_originals(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    std::fs::File::open(path).map_err(Error::io("read", path))?;
    let read = Tensor::read_safetensors(path).map_err(Error::torch(format!("reading {}", path.display())))?;
    Ok(read.into_iter().collect())
}

/// Removes the numbers that older states spoke of.
fn tidy(folder: &Path, current: Option<&str>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let old = entry.file_name().to_str().is_some_and(|n| is_ours(n) && Some(n) != current);
        if old {
            std::fs::remove_file(entry.path()).map_err(Error::io("remove", entry.path()))?;
        }
    }
    Ok(())
}
