//! Tests inside policies: descriptions that must match, and that must not.

use super::{Because, Date, Location, Policies, check};
use crate::UnitId;
use crate::describe::{DescribedUnit, Description};

/// One test, run.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    /// The policy's name.
    pub policy: String,
    /// What was held against it.
    pub description: String,
    /// Whether it must match.
    pub expected: bool,
    /// Why it matched; empty if it did not.
    pub because: Vec<Because>,
    /// Where the test stands.
    pub location: Location,
}

impl Tested {
    /// Whether the policy did as expected.
    pub fn passed(&self) -> bool {
        self.expected != self.because.is_empty()
    }
}

/// Runs the tests of every policy, in the order in which they stand.
///
/// Only the words are tested: scope, limits, waivers and minima are left out.
pub fn test(policies: &Policies) -> Vec<Tested> {
    let mut out = Vec::new();
    for policy in policies {
        let texts: Vec<&str> = policy.cases.iter().map(|case| case.description.as_str()).collect();
        for (case, because) in policy.cases.iter().zip(words_only(policies, policy.name(), &texts)) {
            out.push(Tested {
                policy: policy.name.clone(),
                description: case.description.clone(),
                expected: case.matches,
                because,
                location: case.location.clone(),
            });
        }
    }
    out
}

/// Why each text matches the words of a policy; nothing for one that does not.
pub(super) fn words_only(policies: &Policies, name: &str, texts: &[&str]) -> Vec<Vec<Because>> {
    let mut because = vec![Vec::new(); texts.len()];
    let Some(policy) = policies.get(name) else { return because };
    let mut policy = policy.clone();
    policy.scope = super::rules::Scope { sites: Vec::new(), exclude: Vec::new() };
    policy.matching.min_score = None;
    let unit = |(i, text): (usize, &&str)| DescribedUnit::new(UnitId::new("", i), Description::words(*text));
    let units: Vec<DescribedUnit> = texts.iter().enumerate().map(unit).collect();
    for finding in check(&Policies(vec![policy]), &units, Date::today()).findings {
        if let Some(place) = because.get_mut(finding.unit.unit) {
            *place = finding.evidence;
        }
    }
    because
}
