//! What an audit did not reach is part of what it says.

use super::{Code, Outcome, Policies};
use crate::graph::Coverage;

/// Layers that are named in the notice; the report has all.
const NAMED: usize = 3;

impl Outcome {
    /// Says which layers of the model in `file` could not be audited, in a notice of [`Code::UnauditedLayers`].
    pub fn hold_to_coverage(&mut self, coverage: &Coverage, policies: &Policies, file: &str) {
        let Some(remark) = coverage.remark() else { return };
        let mut named: Vec<String> =
            coverage.unaudited.iter().take(NAMED).map(|l| format!("{} ({})", l.layer, l.reason)).collect();
        if let Some(more) = coverage.unaudited.len().checked_sub(NAMED).filter(|n| *n > 0) {
            named.push(format!("and {more} more"));
        }
        self.say_of_model(policies, Code::UnauditedLayers, format!("{remark}: {}", named.join(", ")), file);
    }
}
