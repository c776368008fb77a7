//! What a file is that was given as a model and is no TorchScript, by its first bytes, and what to do about it.

mod archive;
mod folder;
mod pickled;

use crate::{Error, Result};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// So many bytes of a file are looked at, unless it is an archive.
const LOOKED_AT: u64 = 4096;
/// How to write what is wanted.
const SCRIPT: &str = "write a TorchScript file in Python: model.eval(), then torch.jit.script(model).save(…)";

/// What a file is, and the remedy.
struct Found {
    what: String,
    remedy: String,
}

impl Found {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Refuses what is no TorchScript, before libtorch is asked.
///
/// # Errors
/// [`Error::NotTorchScript`] with what it is; [`Error::Io`] when it cannot be read.
pub(super) fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(refused(path, folder::found(path)));
    }
    let mut start = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = file.metadata().map_err(Error::io("read", path))?.len();
    file.take(LOOKED_AT).read_to_end(&mut start).map_err(Error::io("read", path))?;
    let found = match start.as_slice() {
        [b'P', b'K', ..] => archive::found(path)?,
        _ => Some(by_bytes(path, &start, length)),
    };
    found.map_or(Ok(()), |found| Err(refused(path, found)))
}

fn refused(path: &Path, found: Found) -> Error {
    Error::NotTorchScript { path: path.to_path_buf(), what: found.what, remedy: found.remedy }
}

fn by_bytes(path: &Path, start: &[u8], length: u64) -> Found {
    let at = |offset: usize, magic: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let is = |magic: &[u8]| at(0, magic);
    let other = |what: &str| Found::new(what, SCRIPT);
    let packed = |what: &str, how: &str| Found::new(what, format!("unpack it first ({how})"));
    if start.is_empty() {
        return Found::new("an empty file", "copy or download it again");
    }
    if is(b"version https://git-lfs") {
        return Found::new(
            "a pointer of Git LFS, not the file that it stands for",
            "fetch the file with `git lfs pull` where it was cloned",
        );
    }
    if let Some(found) = pickled::legacy(path, start) {
        return found;
    }
    if is_safetensors(start, length) {
        return Found::new("a safetensors file: weights without code", weights("safetensors.torch.load_file(…)"));
    }
    match () {
        () if is(b"\x89HDF\r\n\x1a\n") => other("an HDF5 file, as Keras writes: no TorchScript"),
        () if is(b"\x93NUMPY") => other("an array of NumPy: numbers without code"),
        () if is(b"GGUF") => other("a GGUF file: weights without code"),
        () if at(4, b"TFL3") => other("a model of TensorFlow Lite"),
        () if at(4, b"PTMF") => {
            other("a mobile TorchScript file in flatbuffer form, which this libtorch does not read")
        }
        () if at(4, b"ET1") => other("a program of ExecuTorch"),
        () if is(b"\x1f\x8b") => packed("compressed with gzip", "gunzip"),
        () if is(b"BZh") => packed("compressed with bzip2", "bunzip2"),
        () if is(b"\xfd7zXZ\0") => packed("compressed with xz", "unxz"),
        () if is(b"\x28\xb5\x2f\xfd") => packed("compressed with zstd", "unzstd"),
        () if is(b"7z\xbc\xaf\x27\x1c") => packed("a 7z archive", "7z x"),
        () if is(b"Rar!") => packed("a RAR archive", "unrar x"),
        () if at(257, b"ustar") => packed("a tar archive", "tar xf"),
        () if is(b"\x7fELF") => other("a program or library for Linux"),
        () if is(b"\x89PNG") || is(b"\xff\xd8\xff") || is(b"GIF8") => other("an image"),
        () if is(b"%PDF") => other("a PDF document"),
        () if is_onnx(start) => Found::new(
            "an ONNX model, which libtorch does not read",
            "export the network that it was made of in Python: model.eval(), then torch.jit.script(model).save(…)",
        ),
        () => match text(start) {
            Some(text) => by_text(text),
            None => {
                let first: Vec<String> = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
                other(&format!(
                    "no TorchScript file, and of no kind that is known here (its first bytes are {})",
                    first.join(" ")
                ))
            }
        },
    }
}

fn by_text(text: &str) -> Found {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let lower: String = start.chars().take(200).collect::<String>().to_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Found::new(
            "a web page, not the file that it offers",
            "download the file itself (the page may ask to log in or to confirm)",
        );
    }
    let first: String = start.lines().next().unwrap_or_default().chars().take(40).collect();
    Found::new(format!("a text file that begins with `{}`", first.escape_debug()), SCRIPT)
}

/// What to do with weights that this Python expression reads.
fn weights(read: &str) -> String {
    format!(
        "in Python, build the network, model.load_state_dict({read}), model.eval(), then torch.jit.script(model).save(…)"
    )
}

/// Eight bytes with the length of a JSON object, which follows.
fn is_safetensors(start: &[u8], length: u64) -> bool {
    let header = start.first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    header.is_some_and(|n| n >= 2 && n <= length.saturating_sub(8)) && start.get(8) == Some(&b'{')
}

/// A protobuf message: `ir_version`, then the producer, a domain, the graph or the operator sets.
fn is_onnx(start: &[u8]) -> bool {
    matches!(start, [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..])
}

/// The bytes as text, if they are one; the last character may be cut.
fn text(start: &[u8]) -> Option<&str> {
    let valid = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(e) if e.error_len().is_none() => std::str::from_utf8(&start[..e.valid_up_to()]).ok()?,
        Err(_) => return None,
    };
    let odd = |c: char| c.is_control() && !c.is_whitespace();
    (!valid.is_empty() && !valid.contains(odd)).then_some(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what(bytes: &[u8]) -> String {
        let found = by_bytes(Path::new("model.pt"), bytes, bytes.len() as u64);
        format!("{}: {}", found.what, found.remedy)
    }

    #[test]
    fn files_of_other_programs_are_told_by_their_first_bytes() {
        let mut safetensors = 20_u64.to_le_bytes().to_vec();
        safetensors.extend(b"{\"a\":{\"dtype\":\"F32\"}}");
        for (bytes, expected) in [
            (safetensors.as_slice(), "safetensors"),
            (b"", "empty"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
            (b"\x89HDF\r\n\x1a\n\0\0", "HDF5"),
            (b"\x93NUMPY\x01\0", "NumPy"),
            (b"\x1f\x8b\x08\0", "gunzip"),
            (b"\x08\x07\x12\x07pytorch", "ONNX"),
            (b"\n <!DOCTYPE html><html>", "web page"),
            (b"import torch\n", "`import torch`"),
            (b"\0\x01\x02\x03", "00 01 02 03"),
        ] {
            let said = what(bytes);
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_header_that_is_longer_than_its_file_is_no_safetensors() {
        let mut bytes = u64::MAX.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        assert!(!what(&bytes).contains("safetensors"));
    }
}
