//! Whatever bytes claim to be a checkpoint: an error or a checkpoint that checks itself, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::io::Write;
use tch_audit::describe::milan::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("a temporary file that can be written");
    if let Ok(checkpoint) = Checkpoint::load(file.path()) {
        let _ = checkpoint.check();
    }
});
