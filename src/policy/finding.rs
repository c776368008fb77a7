//! One unit that one policy objects to, and one thing to be known about a policy: plain, sorted, serialisable data.

use super::{Action, Because, Code, Date, Level, Location};
use crate::UnitId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

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
    #[serde(default)]
    pub action: Action,
    /// The unit.
    pub unit: UnitId,
    /// The words that describe the unit.
    #[serde(default)]
    pub description: String,
    /// Whether it counts.
    pub standing: Standing,
    /// Why it matched: clauses without a full stop.
    pub because: Vec<String>,
    /// The same for programs, never empty: the entry, the words that matched and what was measured.
    pub evidence: Vec<Because>,
    /// The entry of the policy that caused the finding (the first, when there are several).
    pub location: Location,
    /// A name that stays the same from run to run: of policy, site and unit, 32 hexadecimal digits. Neither the words of
    /// the description nor the level are part of it.
    pub fingerprint: String,
    /// The command that finds it again; none where the audit was not run by one.
    pub reproduce: Option<String>,
}

impl Finding {
    /// Whether it counts for something: it is neither allowed nor waived.
    pub fn counts(&self) -> bool {
        self.level != Level::Allow && !matches!(self.standing, Standing::Waived { .. })
    }
}

/// What [`Finding::fingerprint`] is.
pub(super) fn fingerprint(policy: &str, unit: &UnitId) -> String {
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
        write!(f, "{}[{}]: {} ({}): ", self.level, self.code, self.unit, self.description)?;
        write!(f, "{} [{}]", self.because.join("; "), self.location)
    }
}

/// Something about a policy, the baseline or the model that its reader should know. Sorted by its fields in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// What kind.
    pub code: Code,
    /// `warn` or `deny`; one of level `deny` fails the run.
    pub level: Level,
    /// The policy's name; none when it is about the baseline or the model.
    pub policy: Option<String>,
    /// What is the matter, lower case, without a full stop.
    pub message: String,
    /// The place in the policy, or the file of the baseline or model.
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
