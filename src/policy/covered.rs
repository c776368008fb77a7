//! What an audit did not reach is part of what it says.

use super::{Code, Outcome, Policies};
use crate::graph::Coverage;

/// Reasons that are told in the notice; the report has all.
const TOLD: usize = 3;

impl Outcome {
    /// Says which layers of the model in `file` could not be audited, in a notice of [`Code::UnauditedLayers`].
    pub fn hold_to_coverage(&mut self, coverage: &Coverage, policies: &Policies, file: &str) {
        let Some(remark) = coverage.remark() else { return };
        // Many layers have one reason.
        let mut by_reason: Vec<(&str, &str, usize)> = Vec::new();
        for layer in &coverage.unaudited {
            match by_reason.iter_mut().find(|(_, reason, _)| *reason == layer.reason) {
                Some((.., others)) => *others += 1,
                None => by_reason.push((&layer.layer, &layer.reason, 0)),
            }
        }
        let more: usize = by_reason.iter().skip(TOLD).map(|(.., others)| 1 + others).sum();
        let mut named: Vec<String> = by_reason
            .iter()
            .take(TOLD)
            .map(|(layer, reason, others)| match others {
                0 => format!("{layer} ({reason})"),
                n => format!("{layer} and {n} more ({reason})"),
            })
            .collect();
        named.extend((more > 0).then(|| format!("and {more} others")));
        self.say_of_model(policies, Code::UnauditedLayers, format!("{remark}: {}", named.join(", ")), file);
    }
}
