//! What an audit did not reach is part of what it says.

use super::{Code, Level, Notice, Outcome, Policies};
use crate::graph::Coverage;

/// Layers that are named in the notice; the report has all.
const NAMED: usize = 3;

impl Outcome {
    /// Says which layers could not be audited, in a notice of [`Code::UnauditedLayers`].
    pub fn hold_to_coverage(&mut self, coverage: &Coverage, policies: &Policies) {
        let level = policies.iter().map(|p| p.lints.level(Code::UnauditedLayers)).max().unwrap_or(Level::Allow);
        let Some(remark) = coverage.remark().filter(|_| level != Level::Allow) else { return };
        let mut named: Vec<String> =
            coverage.unaudited.iter().take(NAMED).map(|l| format!("{} ({})", l.layer, l.reason)).collect();
        if let Some(more) = coverage.unaudited.len().checked_sub(NAMED).filter(|n| *n > 0) {
            named.push(format!("and {more} more"));
        }
        let message = format!("{remark}: {}", named.join(", "));
        self.notices.insert(0, Notice { code: Code::UnauditedLayers, level, policy: None, message, location: None });
    }
}
