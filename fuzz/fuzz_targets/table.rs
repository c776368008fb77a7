//! Any bytes are a table of descriptions or labels, or are refused; no unit stands twice in what is read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;
use tch_audit::policy::{Labels, Policies, evaluate};
use tch_audit::{Error, describe};

/// In memory where there is such a place: nothing else is slow here.
static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("tch-audit-fuzz-{}.csv", std::process::id()))
});

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    Policies::parse("p", "level='deny'\nreason='r'\n[match]\nany=['text', '* b']\nexcept=['a text']").expect("a policy")
});

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*FILE, bytes).expect("a temporary file");
    match describe::read_table(&*FILE) {
        Ok(units) => {
            let ids: BTreeSet<_> = units.iter().map(|u| &u.id).collect();
            assert!(ids.len() == units.len() && !units.is_empty());
        }
        Err(error) => assert!(matches!(error, Error::Faults { .. }), "{error}"),
    }
    let labels = Labels { positive: vec!["a".into(), "unit".into()], leave_out: vec!["b".into()] };
    match evaluate(&POLICIES, "p", &labels, &FILE) {
        Ok(Some(agreement)) => {
            assert_eq!(agreement.mistakes.len(), agreement.false_negatives + agreement.false_positives);
        }
        Ok(None) => {}
        Err(error) => assert!(matches!(error, Error::Faults { .. }), "{error}"),
    }
});
