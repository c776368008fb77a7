//! The parts of a report that say what policies object to.

use crate::UnitId;
use crate::policy::{Action, Finding, Level, Outcome, PolicySummary, Verdict, Warning};
use serde::{Deserialize, Serialize};

/// One policy's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedPolicy {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Level,
    /// What it asks to be done.
    pub action: Action,
    /// Why it exists, in its author's words.
    pub reason: String,
    /// Its file.
    pub file: String,
    /// Units in its scope: the denominator of `findings`.
    pub units: usize,
    /// Units that matched.
    pub findings: usize,
    /// How many findings it tolerates.
    pub limit: usize,
    /// What follows.
    pub verdict: Verdict,
}

/// One unit that one policy objects to (or, at level `allow`, notes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportedFinding {
    /// The stable code, for example `denied-concept`.
    pub code: String,
    /// The policy's name.
    pub policy: String,
    /// The policy's level.
    pub level: Level,
    /// The unit; its description is among the report's units.
    pub unit: UnitId,
    /// Why it matched: clauses without a full stop.
    pub because: Vec<String>,
    /// The place in the policy, `file:line:column`.
    pub location: String,
}

/// Something that the reader should know; never a reason to fail. Sorted by its fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedWarning {
    /// The stable code, for example `unmatched-rule`.
    pub code: String,
    /// What it is about: a policy, a site, a file.
    pub about: String,
    /// What is the matter: lower case, without a full stop.
    pub message: String,
    /// The place in a policy, where it is about one.
    pub location: Option<String>,
}

impl From<&PolicySummary> for ReportedPolicy {
    fn from(p: &PolicySummary) -> Self {
        Self {
            name: p.policy.clone(),
            level: p.level,
            action: p.action,
            reason: p.reason.clone(),
            file: p.location.file.clone(),
            units: p.units,
            findings: p.findings,
            limit: p.tolerated,
            verdict: p.verdict,
        }
    }
}

impl From<&Finding> for ReportedFinding {
    fn from(f: &Finding) -> Self {
        Self {
            code: f.code.to_string(),
            policy: f.policy.clone(),
            level: f.level,
            unit: f.unit.clone(),
            because: f.because.iter().map(ToString::to_string).collect(),
            location: f.location.to_string(),
        }
    }
}

impl From<&Warning> for ReportedWarning {
    fn from(w: &Warning) -> Self {
        Self {
            code: w.code.to_string(),
            about: w.policy.clone(),
            message: w.message.clone(),
            location: Some(w.location.to_string()),
        }
    }
}

impl super::Report {
    /// Takes over what the policies found; warnings of other origin stay.
    pub fn judge(&mut self, outcome: &Outcome) {
        self.policies = outcome.policies.iter().map(ReportedPolicy::from).collect();
        self.findings = outcome.findings.iter().map(ReportedFinding::from).collect();
        self.warnings.extend(outcome.warnings.iter().map(ReportedWarning::from));
    }
}
