//! What is to be done about findings.

use super::{Action, Finding, Outcome, PolicySummary, Standing, Verdict};
use crate::UnitId;
use std::collections::{BTreeMap, BTreeSet};

/// What violated policies want done about units; by id, each unit once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To be set to zero.
    pub zero: Vec<UnitId>,
    /// To be taken out of the network.
    pub prune: Vec<UnitId>,
}

impl Wanted {
    /// The units of findings of violated policies. Findings that a policy tolerates, and those that are waived, are left
    /// alone. Who wants a unit pruned gets his way over who wants it zeroed.
    pub fn of(findings: &[Finding], policies: &[PolicySummary]) -> Self {
        let violated = policies.iter().filter(|p| p.verdict == Verdict::Violated);
        let actions: BTreeMap<&str, Action> = violated.map(|p| (p.name.as_str(), p.action)).collect();
        let units = |action: Action| -> BTreeSet<&UnitId> {
            let wants = |f: &&Finding| actions.get(f.policy.as_str()) == Some(&action);
            let waived = |f: &&Finding| matches!(f.standing, Standing::Waived { .. });
            findings.iter().filter(|f| wants(f) && !waived(f)).map(|f| &f.unit).collect()
        };
        let (zero, prune) = (units(Action::Zero), units(Action::Prune));
        Self { zero: zero.difference(&prune).copied().cloned().collect(), prune: prune.into_iter().cloned().collect() }
    }

    /// All units, by id.
    pub fn units(&self) -> Vec<UnitId> {
        let all: BTreeSet<&UnitId> = self.zero.iter().chain(&self.prune).collect();
        all.into_iter().cloned().collect()
    }
}

impl Outcome {
    /// What violated policies want done.
    pub fn wanted(&self) -> Wanted {
        Wanted::of(&self.findings, &self.policies)
    }
}
