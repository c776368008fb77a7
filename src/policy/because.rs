//! Why a unit matched a policy, as data and as sentences.

use super::Minima;
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
        /// What the policy asks.
        #[serde(flatten)]
        minima: Minima,
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
                    Some(e) if e.is_painted() => write!(f, " ({})", e.measures()),
                    Some(e) => write!(f, " ({}: {})", e.source, e.measures()),
                    None => Ok(()),
                }
            }
            Because::Evidence { evidence: e, minima } => {
                if e.is_painted() {
                    write!(f, "painting `{}` excites it like little else ({}", e.concept, e.measures())?;
                } else {
                    write!(f, "{}: `{}` goes with what excites it ({}", e.source, e.concept, e.measures())?;
                }
                for (name, least) in minima.asked_of(e) {
                    write!(f, "; {name} of at least {least} asked")?;
                }
                f.write_str(")")
            }
        }
    }
}
