//! Any text is a policy, or is refused with a place. A policy that loads can be held against any description.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tch_audit::UnitId;
use tch_audit::describe::{DescribedUnit, Description};
use tch_audit::policy::{self, Baseline, Code, Level, Policies};

fuzz_target!(|text: &str| {
    let mut policies = match Policies::parse("p", text) {
        Ok(policies) => policies,
        Err(error) => return assert!(error.to_string().starts_with("error["), "{error}"),
    };
    let today = "2026-11-25".parse().expect("a date");
    // Descriptions of the policy's own words are the likeliest to match.
    let mut units: Vec<DescribedUnit> = text
        .split(['"', '\n', '\''])
        .take(40)
        .enumerate()
        .map(|(i, words)| DescribedUnit::new(UnitId::new(words, i % 7), Description::words(words)))
        .collect();
    units.sort_by(|a, b| a.id.cmp(&b.id));
    units.dedup_by(|a, b| a.id == b.id);
    let outcome = policy::check(&policies, &units, today);
    for finding in &outcome.findings {
        assert!(!finding.because.is_empty() && !finding.evidence.is_empty());
        assert!(!finding.to_string().is_empty());
    }
    policy::test(&policies);
    units.reverse();
    let mut again = policy::check(&policies, &units, today);
    assert_eq!(outcome, again);
    Baseline::of(&again, "b").apply(&mut again, Level::Deny);
    assert!(!again.notices.iter().any(|n| n.code == Code::StaleBaseline));
    again.hold_to(&["text".to_string()], &policies);
    policies.set_levels([("p", Level::Deny), ("unmatched-rule", Level::Warn)]).expect("both are there");
    policy::check(&policies, &units, today);
});
