//! The parts of a report that say what policies object to.

use crate::UnitId;
use crate::policy::{
    Action, Because, Code, Finding, Level, Location, Outcome, PolicySummary, RuleCount, Standing, Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One policy's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedPolicy {
    /// Its name.
    pub name: String,
    /// Its level.
    pub level: Level,
    /// What it asks to be done.
    pub action: Action,
    /// Why it exists, in its author's words.
    pub reason: String,
    /// Where its level is set.
    pub location: Location,
    /// The sites in its scope, by name.
    pub sites: Vec<String>,
    /// Units in its scope: the denominator of `findings`.
    pub units: usize,
    /// Units that matched, without those that are waived.
    pub findings: usize,
    /// Of these, units that the baseline has.
    pub known: usize,
    /// Units that matched and are waived.
    pub waived: usize,
    /// How many findings it tolerates.
    pub limit: usize,
    /// What follows.
    pub verdict: Verdict,
    /// How often each entry matched.
    pub rules: Vec<RuleCount>,
}

/// One unit that one policy objects to (or, at level `allow`, notes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReportedFinding {
    /// The stable code, for example `denied-concept`.
    pub code: Code,
    /// The policy's name.
    pub policy: String,
    /// The policy's level.
    pub level: Level,
    /// The unit; its description is among the report's units.
    pub unit: UnitId,
    /// Whether it counts.
    pub standing: Standing,
    /// Why it matched: clauses without a full stop.
    pub because: Vec<String>,
    /// The same for programs: the entry, the words that matched and what was measured.
    pub evidence: Vec<Because>,
    /// The place in the policy.
    pub location: Location,
    /// A name that stays the same from run to run, see [`Finding::fingerprint`].
    pub fingerprint: String,
    /// The command that finds it again; none where the audit was not run by one.
    pub reproduce: Option<String>,
}

impl From<&PolicySummary> for ReportedPolicy {
    fn from(p: &PolicySummary) -> Self {
        Self {
            name: p.policy.clone(),
            level: p.level,
            action: p.action,
            reason: p.reason.clone(),
            location: p.location.clone(),
            sites: p.sites.clone(),
            units: p.units,
            findings: p.findings,
            known: p.known,
            waived: p.waived,
            limit: p.tolerated,
            verdict: p.verdict,
            rules: p.rules.clone(),
        }
    }
}

impl From<&Finding> for ReportedFinding {
    fn from(f: &Finding) -> Self {
        Self {
            code: f.code,
            policy: f.policy.clone(),
            level: f.level,
            unit: f.unit.clone(),
            standing: f.standing.clone(),
            because: f.because.iter().map(ToString::to_string).collect(),
            evidence: f.because.clone(),
            location: f.location.clone(),
            fingerprint: f.fingerprint(),
            reproduce: None,
        }
    }
}

impl ReportedFinding {
    /// Whether it counts for something: it is neither allowed nor waived.
    pub fn counts(&self) -> bool {
        self.level != Level::Allow && !matches!(self.standing, Standing::Waived { .. })
    }
}

impl super::Report {
    /// Takes over what the policies found, in place of what they found before. `reproduce` is the command that finds it
    /// again, given a finding's unit.
    pub fn judge(&mut self, outcome: &Outcome, reproduce: impl Fn(&UnitId) -> Option<String>) {
        self.policies = outcome.policies.iter().map(ReportedPolicy::from).collect();
        let finding = |f: &Finding| ReportedFinding { reproduce: reproduce(&f.unit), ..f.into() };
        self.findings = outcome.findings.iter().map(finding).collect();
        self.notices = outcome.notices.clone();
    }
}
