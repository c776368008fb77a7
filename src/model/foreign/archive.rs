//! What a zip archive is that was given as a model.

use super::{Found, SCRIPT, pickled};
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use zip::ZipArchive;

/// Of the pickle of an archive so many bytes are read.
const MAX_PICKLE: u64 = 1 << 26;
/// So many of the last bytes of an archive are looked at, where its list cannot be read.
const MAX_LIST: u64 = 1 << 20;

/// What the archive is; `None` for TorchScript.
pub(super) fn found(path: &Path) -> Result<Option<Found>> {
    let file = File::open(path).map_err(Error::io("read", path))?;
    let Ok(mut archive) = ZipArchive::new(file) else { return by_its_end(path) };
    let names: Vec<String> = archive.file_names().filter_map(Result::ok).map(|n| n.into_owned()).collect();
    // Everything lies in one folder, called after the file when it was written.
    let inside = |name: &str| names.iter().find(|n| *n == name || n.ends_with(&format!("/{name}"))).cloned();
    let within = |folder: &str| names.iter().any(|n| n.starts_with(folder) || n.contains(&format!("/{folder}")));
    if inside("constants.pkl").is_some() || inside("model.json").is_some_and(|_| within("tensors/")) {
        return Ok(None);
    }
    let exported = ["archive_format", "serialized_exported_program.json", "models/model.json"];
    if exported.iter().any(|name| inside(name).is_some()) {
        return Ok(Some(program()));
    }
    if within(".data/extern_modules") {
        return Ok(Some(Found::new("an archive of torch.package", SCRIPT)));
    }
    if let Some(name) = inside("data.pkl") {
        let mut bytes = Vec::new();
        let read = archive.by_name(&name).map(|entry| entry.take(MAX_PICKLE).read_to_end(&mut bytes));
        let whole = matches!(read, Ok(Ok(n)) if (n as u64) < MAX_PICKLE);
        return Ok(Some(pickled::found(if whole { &bytes } else { &[] })));
    }
    if inside("MAR-INF/MANIFEST.json").is_some() {
        return Ok(Some(Found::new("an archive of TorchServe", "unpack it, and give the TorchScript file in it")));
    }
    if names.iter().any(|n| n.ends_with(".weights.h5")) {
        return Ok(Some(Found::new("a model of Keras", SCRIPT)));
    }
    if !names.is_empty() && names.iter().all(|n| n.ends_with(".npy")) {
        return Ok(Some(Found::new("an archive of NumPy arrays (.npz): numbers without code", SCRIPT)));
    }
    let what = match names.first() {
        Some(name) => {
            let name: String = name.chars().take(60).collect();
            format!("a zip archive without TorchScript in it (it begins with `{}`)", name.escape_debug())
        }
        None => "a zip archive with nothing in it".to_string(),
    };
    Ok(Some(Found::new(what, SCRIPT)))
}

fn program() -> Found {
    Found::new(
        "a program of torch.export (.pt2), which is no TorchScript",
        "make a TorchScript file of the network itself: model.eval(), then torch.jit.script(model).save(…); or of the \
         program: torch.jit.trace(torch.export.load(…).module(), example, check_trace=False).save(…)",
    )
}

/// What an archive is whose list of contents cannot be read, by the names in its last bytes, where this list is. An archive
/// in an archive is one reason.
fn by_its_end(path: &Path) -> Result<Option<Found>> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    let mut end = Vec::new();
    let from = SeekFrom::Start(length.saturating_sub(MAX_LIST));
    file.seek(from).and_then(|_| file.read_to_end(&mut end)).map_err(Error::io("read", path))?;
    let has = |name: &[u8]| end.windows(name.len()).any(|bytes| bytes == name);
    // The last record of an archive.
    let last = &end[end.len().saturating_sub(1 << 16)..];
    if !last.windows(4).any(|bytes| bytes == b"PK\x05\x06") {
        return Ok(Some(Found::new(
            "the beginning of a zip archive, whose end is missing or damaged",
            "copy or download it again",
        )));
    }
    if has(b"/archive_format") {
        return Ok(Some(program()));
    }
    // Let libtorch see for itself.
    Ok(None)
}
