//! What [`check`](super::check) returns: plain, sorted, serialisable data.

use super::{Action, Code, Date, Level, Location};
use crate::UnitId;
use crate::describe::Description;
use crate::evidence::ConceptEvidence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// One reason why a unit matched a policy. Displayed as a sentence without a full stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The description names the concept, or one of its synonyms.
    Described {
        /// The concept or family of concepts, as the policy has it.
        concept: String,
        /// The words of the description that name it.
        matched: String,
        /// Where they begin in the description, in bytes.
        start: usize,
        /// Where they end, in bytes.
        end: usize,
        /// What was measured about it, where the describer measures.
        evidence: Option<ConceptEvidence>,
    },
    /// The evidence for the concept reaches every minimum of the policy that it measures, and measures one at least,
    /// whatever the description says.
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
            Because::Word { entry, matched, .. } => {
                let s = if matched.contains(char::is_whitespace) { ("s", "") } else { ("", "es") };
                write!(f, "its word{} `{matched}` match{} `{entry}`", s.0, s.1)
            }
            Because::Described { concept, matched, evidence, .. } => {
                if matched.eq_ignore_ascii_case(concept) {
                    write!(f, "it is described as `{matched}`")?;
                } else {
                    write!(f, "it is described as `{matched}`, which names the concept `{concept}`")?;
                }
                match evidence {
                    Some(e) if e.is_painted() => write!(f, " ({})", Numbers(e)),
                    Some(e) => write!(f, " ({}: {})", e.source, Numbers(e)),
                    None => Ok(()),
                }
            }
            Because::Evidence { evidence, min_effect, min_auc, min_share } => {
                let e = evidence;
                if e.is_painted() {
                    write!(f, "painting `{}` excites it like little else ({}", e.concept, Numbers(e))?;
                } else {
                    write!(f, "{}: `{}` goes with what excites it ({}", e.source, e.concept, Numbers(e))?;
                }
                let minima = [("effect", min_effect, e.effect), ("AUC", min_auc, e.auc), ("share", min_share, e.share)];
                for (name, min, _) in minima.into_iter().filter(|(.., measured)| measured.is_some()) {
                    if let Some(min) = min {
                        write!(f, "; {name} of at least {min} asked")?;
                    }
                }
                f.write_str(")")
            }
        }
    }
}

/// The numbers that were measured; the share is that among the images that excite the unit most.
struct Numbers<'a>(&'a ConceptEvidence);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        let auc = e.auc.map(|auc| match e.auc_low.zip(e.auc_high) {
            Some((low, high)) => format!("AUC {auc:.2} [{low:.2}, {high:.2}]"),
            None => format!("AUC {auc:.2}"),
        });
        let measured = [
            e.share.map(|share| format!("share {share:.2}")),
            e.effect.map(|effect| format!("effect {effect:+.2} sd")),
            auc,
            e.iou.map(|iou| format!("IoU {iou:.3}")),
            e.r.map(|r| format!("r {r:+.2}")),
        ];
        f.write_str(&measured.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// Whether a finding counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "is", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Standing {
    /// It counts.
    New,
    /// It counts towards the limits, but fails nothing: the baseline has it.
    Known,
    /// A waiver excuses it: it counts for nothing.
    Waived {
        /// Why, in the words of the policy.
        reason: String,
        /// The last day on which the waiver holds.
        expires: Option<Date>,
        /// Where the waiver stands.
        location: Location,
    },
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Standing::New => "new",
            Standing::Known => "known",
            Standing::Waived { .. } => "waived",
        })
    }
}

/// One unit that one policy objects to (or, at level `allow`, notes).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Whether it counts.
    pub standing: Standing,
    /// Why the policy exists, in its author's words.
    pub reason: String,
    /// The entry of the policy that caused the finding (the first, when there are several).
    pub location: Location,
}

impl Finding {
    /// A name for this finding that stays the same from run to run: of policy, site and unit, 32 hexadecimal digits.
    ///
    /// Neither the words of the description nor the level are part of it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.policy, &self.unit)
    }
}

/// See [`Finding::fingerprint`].
pub(crate) fn fingerprint(policy: &str, unit: &UnitId) -> String {
    let mut hash = blake3::Hasher::new();
    for part in ["tch-audit finding 1", policy, &unit.site, &unit.unit.to_string()] {
        // With its length, so that no two lists of parts run together to the same text.
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().to_hex().chars().take(32).collect()
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
    /// The policy's name.
    pub policy: String,
    /// Its level.
    pub level: Level,
    /// What it asks to be done.
    pub action: Action,
    /// Why it exists.
    pub reason: String,
    /// The sites in its scope that have units, by name.
    pub sites: Vec<String>,
    /// Units in its scope.
    pub units: usize,
    /// Of these, units with a description; the others can only match by evidence.
    pub described: usize,
    /// Units that matched, without those that are waived.
    pub findings: usize,
    /// Of these, units that the baseline has.
    pub known: usize,
    /// Units that matched and are waived.
    pub waived: usize,
    /// How many findings its `[limits]` tolerate among this many units. Of no meaning at level `allow`.
    pub tolerated: usize,
    /// Whether a unit could have matched.
    pub reachable: bool,
    /// What follows.
    pub verdict: Verdict,
    /// Every entry with its count, in the order `any`, `all`, `none`, `except`, `concepts`.
    pub rules: Vec<RuleCount>,
    /// Where its level is set.
    pub location: Location,
}

/// Something about a policy, or the baseline, that its author should know. Sorted by its fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// What kind.
    pub code: Code,
    /// `warn` or `deny`; one of level `deny` fails the run.
    pub level: Level,
    /// The policy's name; none when it is about the baseline.
    pub policy: Option<String>,
    /// What is the matter, lower case, without a full stop.
    pub message: String,
    /// The place in the policy, or the baseline's file.
    pub location: Location,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: ", self.level, self.code)?;
        if let Some(policy) = &self.policy {
            write!(f, "{policy}: ")?;
        }
        write!(f, "{} [{}]", self.message, self.location)
    }
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
            for finding in self.findings.iter().filter(|f| f.policy == policy.policy) {
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
                (n, _) if n <= policy.tolerated || n == policy.known => Verdict::Tolerated,
                _ => Verdict::Violated,
            };
        }
    }

    /// The violated policies of level `deny`, by name.
    pub fn denying(&self) -> impl Iterator<Item = &PolicySummary> {
        self.policies.iter().filter(|p| p.level == Level::Deny && p.verdict == Verdict::Violated)
    }

    /// The units that violated policies with this action object to; sorted, each once. Findings that a policy tolerates,
    /// and those that are waived, are left alone.
    pub fn wanted(&self, action: Action) -> Vec<UnitId> {
        let acting: BTreeSet<&str> = self
            .policies
            .iter()
            .filter(|p| p.action == action && p.verdict == Verdict::Violated)
            .map(|p| p.policy.as_str())
            .collect();
        let counts =
            |f: &&Finding| acting.contains(f.policy.as_str()) && !matches!(f.standing, Standing::Waived { .. });
        let units: BTreeSet<&UnitId> = self.findings.iter().filter(counts).map(|f| &f.unit).collect();
        units.into_iter().cloned().collect()
    }
}
