//! Any bytes are a table of descriptions or labels, or are refused; no unit stands twice in what is read, and the CSV that
//! is written of it reads back the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tch_audit::describe::DescribedUnit;
use tch_audit::policy::{self, Labels, Policies, evaluate};
use tch_audit::report::{Report, csv};
use tch_audit::{Error, describe};

/// In memory where there is such a place: nothing else is slow here.
fn file(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("tch-audit-fuzz-{}-{name}.csv", std::process::id()))
}

static GIVEN: LazyLock<PathBuf> = LazyLock::new(|| file("given"));
static WRITTEN: LazyLock<PathBuf> = LazyLock::new(|| file("written"));

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    Policies::parse("p", "level='deny'\nreason='r'\n[match]\nany=['text', '* b']\nexcept=['a text']").expect("a policy")
});

fn refused_with_place(error: &Error) {
    assert!(matches!(error, Error::Faults { .. }) && error.to_string().starts_with("error["), "{error}");
}

fn check(units: &[DescribedUnit], file: &Path) {
    let ids: BTreeSet<_> = units.iter().map(|u| &u.id).collect();
    assert!(ids.len() == units.len() && !units.is_empty());
    let outcome = policy::check(&POLICIES, units, "2026-11-25".parse().expect("a date"));
    let mut report = Report::of_descriptions(units, "f.csv");
    report.judge(&outcome, |_| None);
    let report = report.finish();
    // A cell that looks like a formula, or like an escaped one, is not written as it is.
    let plain = |text: &str| {
        !text.trim_start_matches(' ').starts_with(['=', '+', '-', '@', '\'', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
    };
    if units.iter().all(|u| plain(&u.id.site) && plain(&u.description.text)) {
        let mut out = Vec::new();
        csv::write(&report, &mut out).expect("memory");
        std::fs::write(file, out).expect("a temporary file");
        let again = describe::read_table(file).unwrap_or_else(|e| panic!("what was written: {e}"));
        assert_eq!(again, report.described_units());
    }
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&*GIVEN, bytes).expect("a temporary file");
    match describe::read_table(&*GIVEN) {
        Ok(units) => check(&units, &WRITTEN),
        Err(error) => refused_with_place(&error),
    }
    let labels = Labels { positive: vec!["a".into(), "unit".into()], leave_out: vec!["b".into()] };
    match evaluate(&POLICIES, "p", &labels, &GIVEN) {
        Ok(Some(agreement)) => {
            assert_eq!(agreement.mistakes.len(), agreement.false_negatives + agreement.false_positives);
        }
        Ok(None) => {}
        Err(error) => refused_with_place(&error),
    }
});
