//! How grave it is when a policy itself is out of date, or something about the model is not as it should be.

use super::{Code, Level};
use std::collections::BTreeMap;

/// The codes that `[lints]` may set.
pub(super) const CODES: [Code; 12] = [
    Code::UnmatchedRule,
    Code::UnmatchedException,
    Code::UnmatchedWaiver,
    Code::ExpiredWaiver,
    Code::UnmatchedGlob,
    Code::EmptyScope,
    Code::UnreachablePolicy,
    Code::UnmeasuredConcept,
    Code::UnmeasuredScore,
    Code::StaleBaseline,
    Code::UnauditedLayers,
    Code::TrainingMode,
];

/// The lint called `name`.
pub(super) fn code(name: &str) -> Option<Code> {
    CODES.into_iter().find(|code| code.as_str() == name)
}

/// The table `[lints]`: what differs from the defaults.
#[derive(Debug, Clone, Default)]
pub(super) struct Lints(BTreeMap<Code, Level>);

impl Lints {
    pub fn set(&mut self, code: Code, level: Level) {
        self.0.insert(code, level);
    }

    /// The level of a lint: `warn` unless set, and `allow` for rules that matched nothing.
    pub fn level(&self, code: Code) -> Level {
        let default = if code == Code::UnmatchedRule { Level::Allow } else { Level::Warn };
        self.0.get(&code).copied().unwrap_or(default)
    }
}
