//! What [`check`](super::check) returns: plain, sorted, serialisable data.

use super::codes::Code;
use super::{Action, Level};
use crate::UnitId;
use crate::describe::{ConceptEvidence, Description};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A place in a policy file. Displayed as `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Location {
    /// The file, as it was asked for.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One reason why a unit matched a policy. Displayed as a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Because {
    /// The description has a word, a phrase or the text of a regular expression.
    Word {
        /// The entry as the policy has it, for example `letter` or `/text|word/`.
        entry: String,
        /// The words of the description that matched, for example `Letters`.
        matched: String,
        /// Where they begin in the description, in bytes.
        start: usize,
        /// Where they end, in bytes.
        end: usize,
    },
    /// The description names the concept.
    Described {
        /// The concept.
        concept: String,
        /// What was measured about it, where the describer measures.
        evidence: Option<ConceptEvidence>,
    },
    /// The evidence for the concept reaches every minimum that the policy sets, whatever the description says.
    Evidence {
        /// What was measured.
        evidence: ConceptEvidence,
        /// The policy's `min-effect`, standard deviations.
        min_effect: Option<f64>,
        /// The policy's `min-auc`.
        min_auc: Option<f64>,
        /// The policy's `min-share`.
        min_share: Option<f64>,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::Word { entry, matched, start, .. } => {
                write!(f, "its description has `{matched}` at byte {start}, which the policy lists as `{entry}`")
            }
            Because::Described { concept, evidence: None } => write!(f, "it is described as `{concept}`"),
            Because::Described { concept, evidence: Some(e) } => {
                write!(f, "it is described as `{concept}` ({})", Numbers(e))
            }
            Because::Evidence { evidence, min_effect, min_auc, min_share } => {
                write!(f, "painting `{}` excites it like little else ({}", evidence.concept, Numbers(evidence))?;
                if let Some(min) = min_effect {
                    write!(f, "; effect of at least {min} asked")?;
                }
                if let Some(min) = min_auc {
                    write!(f, "; AUC of at least {min} asked")?;
                }
                if let Some(min) = min_share {
                    write!(f, "; share of at least {min} asked")?;
                }
                f.write_str(")")
            }
        }
    }
}

/// The numbers of some evidence; the share is that among the images that excite the unit most.
struct Numbers<'a>(&'a ConceptEvidence);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        write!(
            f,
            "share {:.2}, effect {:+.2} sd, AUC {:.2} [{:.2}, {:.2}], IoU {:.3}",
            e.share, e.effect, e.auc, e.auc_low, e.auc_high, e.iou
        )
    }
}

/// One unit that one policy objects to (or, at level `allow`, notes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// [`Code::DeniedConcept`], [`Code::WarnedConcept`] or [`Code::AllowedConcept`].
    pub code: Code,
    /// The policy's name.
    pub policy: String,
    /// The policy's level.
    pub level: Level,
    /// What the policy asks to be done.
    pub action: Action,
    /// The unit.
    pub unit: UnitId,
    /// The unit's description.
    pub description: Description,
    /// Why it matched, never empty.
    pub because: Vec<Because>,
    /// Why the policy exists, in its author's words.
    pub reason: String,
    /// The entry of the policy that caused the finding (the first, when there are several).
    pub location: Location,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {} ({}): ", self.level, self.code, self.unit, self.description.text)?;
        for (i, because) in self.because.iter().enumerate() {
            write!(f, "{}{because}", if i > 0 { "; " } else { "" })?;
        }
        write!(f, " [{}]", self.location)
    }
}

/// What the number of findings means for a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// No unit matched.
    Clean,
    /// Units matched, not more than the limits tolerate; at level `allow`, any number.
    Tolerated,
    /// More units matched than the limits tolerate.
    Violated,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Clean => "clean",
            Verdict::Tolerated => "tolerated",
            Verdict::Violated => "violated",
        })
    }
}

/// How often one entry of `[match]` matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleCount {
    /// The list it stands in: `any`, `all`, `none` or `concepts`.
    pub list: String,
    /// The entry as written.
    pub entry: String,
    /// Units in scope that it matched by itself, whatever the other entries say.
    pub units: usize,
    /// Where it stands.
    pub location: Location,
}

/// One policy's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// The policy's name.
    pub policy: String,
    /// Its level.
    pub level: Level,
    /// What it asks to be done.
    pub action: Action,
    /// Why it exists.
    pub reason: String,
    /// Units in its scope.
    pub units: usize,
    /// Of these, units with a description; the others can only match by evidence.
    pub described: usize,
    /// Units that matched.
    pub findings: usize,
    /// How many findings its `[limits]` tolerate among this many units. Of no meaning at level `allow`.
    pub tolerated: usize,
    /// What follows.
    pub verdict: Verdict,
    /// Every entry with its count, in the order `any`, `all`, `none`, `concepts`.
    pub rules: Vec<RuleCount>,
    /// Where its level is set.
    pub location: Location,
}

/// Something about a policy that its author should know; never a reason to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What kind.
    pub code: Code,
    /// The policy's name.
    pub policy: String,
    /// What it is about, lower case, without a full stop.
    pub message: String,
    /// The place in the policy.
    pub location: Location,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "warning[{}]: {}: {} [{}]", self.code, self.policy, self.message, self.location)
    }
}

/// The result of holding units against policies.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Sorted by policy, then unit.
    pub findings: Vec<Finding>,
    /// One per policy, sorted by name.
    pub policies: Vec<PolicySummary>,
    /// Sorted by policy, then by where they point.
    pub warnings: Vec<Warning>,
}

impl Outcome {
    /// Whether a policy of level `deny` is violated.
    pub fn denied(&self) -> bool {
        self.denying().next().is_some()
    }

    /// The violated policies of level `deny`, by name.
    pub fn denying(&self) -> impl Iterator<Item = &PolicySummary> {
        self.policies.iter().filter(|p| p.level == Level::Deny && p.verdict == Verdict::Violated)
    }

    /// The units that violated policies with `action = "zero"` object to; sorted, each once. Findings that a policy
    /// tolerates are left alone.
    pub fn to_zero(&self) -> Vec<UnitId> {
        let acting: BTreeSet<&str> = self
            .policies
            .iter()
            .filter(|p| p.action == Action::Zero && p.verdict == Verdict::Violated)
            .map(|p| p.policy.as_str())
            .collect();
        let units: BTreeSet<&UnitId> =
            self.findings.iter().filter(|f| acting.contains(f.policy.as_str())).map(|f| &f.unit).collect();
        units.into_iter().cloned().collect()
    }
}
