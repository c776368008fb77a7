//! Why a unit matched a policy, as data and as sentences.

use crate::evidence::ConceptEvidence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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
