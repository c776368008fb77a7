//! Checkpoints that are damaged, hostile or something else: an error that names the file, nothing run, no panic.

use std::io::{Cursor, Read, Write};
use std::path::Path;
use tch_audit::describe::milan::Checkpoint;
use zip::write::SimpleFileOptions;

fn official() -> Vec<u8> {
    std::fs::read("tests/golden/milan/milan-tiny.pth").unwrap()
}

#[track_caller]
fn refused(bytes: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.pth");
    std::fs::write(&path, bytes).unwrap();
    let error = Checkpoint::load(&path).unwrap_err().to_string();
    assert!(error.contains("hostile.pth"), "{error}");
    assert!(parts.iter().all(|p| error.contains(p)), "{error}");
}

/// The official archive with some entries changed.
fn with(change: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(official())).unwrap();
    let mut out = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).unwrap();
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        out.start_file(name.as_str(), options).unwrap();
        out.write_all(&change(&name, bytes)).unwrap();
    }
    out.finish().unwrap().into_inner()
}

fn with_pickle(pickle: &[u8]) -> Vec<u8> {
    with(|name, bytes| if name.ends_with("data.pkl") { pickle.to_vec() } else { bytes })
}

fn replaced(bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn the_same_archive_written_anew_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.pth");
    std::fs::write(&path, with(|_, bytes| bytes)).unwrap();
    let words = Checkpoint::load(&path).unwrap().settings().words.clone();
    assert_eq!(words[..2], ["circles", "squares"]);
}

#[test]
fn truncated_files_are_errors_at_every_length() {
    let bytes = official();
    for length in (0..bytes.len()).step_by(997) {
        refused(&bytes[..length], &[]);
    }
}

#[test]
fn damaged_bytes_are_errors_or_harmless() {
    let bytes = official();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..400 {
        let mut damaged = bytes.clone();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(0..damaged.len());
            damaged[at] = rng.u8(..);
        }
        std::fs::write(&path, damaged).unwrap();
        // An error or a checkpoint that checks itself, never a panic.
        if let Ok(checkpoint) = Checkpoint::load(&path) {
            let _ = checkpoint.check();
        }
    }
}

#[test]
fn damaged_pickles_are_errors_or_harmless() {
    let mut archive = zip::ZipArchive::new(Cursor::new(official())).unwrap();
    let mut pickle = Vec::new();
    archive.by_name("milan-tiny/data.pkl").unwrap().read_to_end(&mut pickle).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pth");
    let mut rng = fastrand::Rng::with_seed(2);
    for _ in 0..400 {
        let mut damaged = pickle.clone();
        // The ends hold what matters; between them are spaCy's bytes.
        let at = if rng.bool() { rng.usize(0..600) } else { damaged.len() - 1 - rng.usize(0..12_000) };
        damaged[at] = rng.u8(..);
        std::fs::write(&path, with_pickle(&damaged)).unwrap();
        if let Ok(checkpoint) = Checkpoint::load(&path) {
            let _ = checkpoint.check();
        }
    }
}

#[test]
fn code_is_named_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let touched = folder.path().join("touched");
    let command = format!("touch {}", touched.display());
    let mut pickle = b"\x80\x02cposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    refused(&with_pickle(&pickle), &["posix.system", "nothing of it was run"]);
    assert!(!touched.exists());
    refused(&with_pickle(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."), &["builtins.eval"]);
    refused(&with_pickle(b"\x80\x02ctorch._utils\n_rebuild_tensor\n."), &["_rebuild_tensor"]);
}

#[test]
fn archives_that_lie_are_errors() {
    refused(b"PK\x03\x04 and nothing else", &["archive"]);
    refused(b"not a checkpoint at all", &["neither a zip archive nor .safetensors"]);
    refused(b"", &["neither"]);
    // A storage that is shorter than the pickle says.
    refused(
        &with(|name, bytes| if name.ends_with("/data/3") { bytes[..bytes.len() / 2].to_vec() } else { bytes }),
        &["storage of"],
    );
    refused(&with(|name, bytes| if name.ends_with("byteorder") { b"big".to_vec() } else { bytes }), &["lowest byte"]);
    // A pickle that is something else, and one that nests without end.
    refused(&with_pickle(b"\x80\x02K\x07."), &["no `properties`"]);
    refused(&with_pickle(b"\x80\x02}."), &["no `properties`"]);
    let mut deep = vec![b'('; 3_000_000];
    deep.push(b'.');
    refused(&with_pickle(&deep), &["data.pkl"]);
    refused(&with_pickle(b"\x80\x02X\xff\xff\xff\x7fabc."), &["ends too early"]);
}

#[test]
fn settings_and_shapes_that_do_not_fit_are_errors() {
    let pickle = |from: &[u8], to: &[u8]| {
        with(|name, bytes| if name.ends_with("data.pkl") { replaced(bytes, from, to) } else { bytes })
    };
    // Another word twice; a setting that is missing.
    refused(&pickle(b"X\x07\x00\x00\x00squares", b"X\x07\x00\x00\x00circles"), &["circles"]);
    refused(&pickle(b"X\x0a\x00\x00\x00state_dict", b"X\x0a\x00\x00\x00state_dicc"), &["state_dict"]);
    refused(&pickle(b"X\x06\x00\x00\x00length", b"X\x06\x00\x00\x00lengtx"), &["length"]);
    // A weight that has lost its name is missed when the parts are put together.
    let bytes = pickle(b"embedding.weight", b"embedding.wwight");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("renamed.pth");
    std::fs::write(&path, bytes).unwrap();
    let error = Checkpoint::load(&path).unwrap().check().unwrap_err().to_string();
    assert!(error.contains("embedding"), "{error}");
}

#[test]
fn converted_files_that_are_damaged_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    let json = folder.path().join("hostile.json");
    let load = || Checkpoint::load(&path).unwrap_err().to_string();
    assert!(load().contains("hostile.safetensors"));
    Checkpoint::load(Path::new("tests/golden/milan/milan-tiny.pth")).unwrap().save(&path).unwrap();
    let (bytes, text) = (std::fs::read(&path).unwrap(), std::fs::read_to_string(&json).unwrap());
    std::fs::write(&path, &bytes[..bytes.len() - 5]).unwrap();
    assert!(load().contains("hostile.safetensors"));
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(&json, text.replace("\"length\"", "\"lengthh\"")).unwrap();
    assert!(load().contains("hostile.json"));
    std::fs::remove_file(&json).unwrap();
    assert!(load().contains("hostile.json"));
}
