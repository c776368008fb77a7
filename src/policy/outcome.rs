//! What [`check`](super::check) returns: findings, a result per policy, notices.

use super::{Action, Code, Finding, Level, Location, Notice, Policies, Standing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the number of findings means for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No unit could have matched: there was none in scope, or the describer has no words for what the policy looks for.
    Unjudged,
    /// No unit matched.
    Clean,
    /// Units matched, not more than the limits tolerate, or all of them waived or known; at level `allow`, any number.
    Tolerated,
    /// More units matched than the limits tolerate, not counting waived ones, and some of them are new.
    Violated,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Unjudged => "unjudged",
            Verdict::Clean => "clean",
            Verdict::Tolerated => "tolerated",
            Verdict::Violated => "violated",
        })
    }
}

/// How often one entry of `[match]` matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleCount {
    /// The list it stands in: `any`, `all`, `none`, `except` or `concepts`.
    pub list: String,
    /// The entry as written.
    pub entry: String,
    /// Units in scope that it matched by itself, whatever the other entries say; for `except`, units in whose descriptions
    /// it took something away.
    pub units: usize,
    /// Where it stands.
    pub location: Location,
}

/// One policy's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicySummary {
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
    /// The sites in its scope that have units, by name.
    pub sites: Vec<String>,
    /// Units in its scope: the denominator of `findings`.
    pub units: usize,
    /// Of these, units with a description; the others can only match by evidence.
    #[serde(default)]
    pub described: usize,
    /// Units that matched, without those that are waived.
    pub findings: usize,
    /// Of these, units that the baseline has.
    pub known: usize,
    /// Units that matched and are waived.
    pub waived: usize,
    /// How many findings its `[limits]` tolerate among this many units. Of no meaning at level `allow`.
    pub limit: usize,
    /// Whether a unit could have matched.
    #[serde(default)]
    pub reachable: bool,
    /// What follows.
    pub verdict: Verdict,
    /// Every entry with its count, in the order `any`, `all`, `none`, `except`, `concepts`.
    pub rules: Vec<RuleCount>,
}

/// The result of holding units against policies.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Sorted by policy, then unit.
    pub findings: Vec<Finding>,
    /// One per policy, sorted by name.
    pub policies: Vec<PolicySummary>,
    /// Sorted by policy, then by where they point.
    pub notices: Vec<Notice>,
}

impl Outcome {
    /// Whether a policy of level `deny` is violated, or a notice has that level.
    pub fn denied(&self) -> bool {
        self.denying().next().is_some() || self.notices.iter().any(|n| n.level == Level::Deny)
    }

    /// Counts the findings of every policy by their standing, and draws the verdicts.
    pub(super) fn settle(&mut self) {
        for policy in &mut self.policies {
            (policy.findings, policy.known, policy.waived) = (0, 0, 0);
            for finding in self.findings.iter().filter(|f| f.policy == policy.name) {
                match finding.standing {
                    Standing::New => policy.findings += 1,
                    Standing::Known => (policy.findings, policy.known) = (policy.findings + 1, policy.known + 1),
                    Standing::Waived { .. } => policy.waived += 1,
                }
            }
            policy.verdict = match (policy.findings, policy.waived) {
                (0, 0) if !policy.reachable => Verdict::Unjudged,
                (0, 0) => Verdict::Clean,
                _ if policy.level == Level::Allow => Verdict::Tolerated,
                (n, _) if n <= policy.limit || n == policy.known => Verdict::Tolerated,
                _ => Verdict::Violated,
            };
        }
    }

    /// Adds a notice about the model, which lies in `file`, at the level that the policies give it.
    pub fn say_of_model(&mut self, policies: &Policies, code: Code, message: impl Into<String>, file: &str) {
        let level = policies.lint_level(code).unwrap_or(Level::Warn);
        if level != Level::Allow {
            let location = Location { file: file.to_string(), line: 1, column: 1 };
            self.notices.push(Notice { code, level, policy: None, message: message.into(), location });
        }
    }

    /// The violated policies of level `deny`, by name.
    pub fn denying(&self) -> impl Iterator<Item = &PolicySummary> {
        self.policies.iter().filter(|p| p.level == Level::Deny && p.verdict == Verdict::Violated)
    }
}
