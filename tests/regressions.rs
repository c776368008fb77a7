//! What fuzzing once found, shrunk: it must be read or refused, and shown in every format, without a panic.

use std::fs;
use std::path::{Path, PathBuf};
use tch_audit::diagnostic::Source;
use tch_audit::policy::{Baseline, Policies};
use tch_audit::report::{Format, json};

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target}");
    files
}

#[test]
fn policies_load_or_are_refused_with_a_place() {
    for file in inputs("policy") {
        if let Err(error) = Policies::load(&file) {
            assert!(error.to_string().starts_with("error["), "{}: {error}", file.display());
        }
    }
}

#[test]
fn reports_and_baselines_are_read_or_refused_with_a_place() {
    for file in inputs("json") {
        let source = Source::new("f.json", fs::read_to_string(&file).unwrap());
        assert!(Baseline::parse(source.clone()).is_err());
        match json::read(&source) {
            Ok(report) => {
                for format in Format::ALL {
                    format.write(&report, &mut Vec::new()).unwrap();
                }
            }
            Err(error) => assert!(error.to_string().starts_with("error["), "{}: {error}", file.display()),
        }
    }
}
