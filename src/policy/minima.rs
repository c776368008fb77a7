//! The minima of evidence that a policy may set, in one table: a new one is one line of it, and one of the template.

use crate::evidence::ConceptEvidence;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Hands the table to the macro `$to`. In each line: the key as a field and as written, the measure of
/// [`ConceptEvidence`] that it holds for, what sentences call that, its unit, and the range of the minimum.
macro_rules! minima {
    ($to:ident) => {
        $to! {
            min_effect, "min-effect", effect, "effect", "standard deviations", 0.0, f64::INFINITY;
            min_auc, "min-auc", auc, "AUC", "a probability", 0.0, 1.0;
            min_share, "min-share", share, "share", "a share", 0.0, 1.0;
            min_r, "min-r", r, "r", "a correlation", 0.0, 1.0;
        }
    };
}
pub(super) use minima;

macro_rules! define {
    ($($field:ident, $key:literal, $measure:ident, $name:literal, $unit:literal, $low:expr, $high:expr;)*) => {
        /// What a policy asks of evidence. A piece of evidence matches if it measures at least one of what is set, and
        /// reaches all that it measures.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[non_exhaustive]
        pub struct Minima {
            $(
                #[doc = concat!("The policy's `", $key, "`: ", $unit, ".")]
                #[serde(default)]
                pub $field: Option<f64>,
            )*
        }

        /// The keys, in the order of the table.
        pub(super) const MINIMA: &[Minimum] = &[$(
            Minimum {
                key: $key,
                name: $name,
                unit: $unit,
                range: ($low, $high),
                asked: |minima| minima.$field,
                slot: |minima| &mut minima.$field,
                measured: |evidence| evidence.$measure,
            },
        )*];
    };
}
minima!(define);

/// One key.
#[derive(Debug)]
pub(super) struct Minimum {
    pub key: &'static str,
    name: &'static str,
    /// In words, for messages.
    pub unit: &'static str,
    /// Both ends are allowed.
    pub range: (f64, f64),
    asked: fn(&Minima) -> Option<f64>,
    pub slot: fn(&mut Minima) -> &mut Option<f64>,
    measured: fn(&ConceptEvidence) -> Option<f64>,
}

impl Minima {
    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        MINIMA.iter().all(|m| (m.asked)(self).is_none())
    }

    /// Whether the evidence measures one of them, and reaches all that it measures.
    pub fn reached_by(&self, evidence: &ConceptEvidence) -> bool {
        let mut held = self.held(evidence).peekable();
        // NaN reaches no minimum.
        held.peek().is_some() && held.all(|(_, asked, measured)| measured >= asked)
    }

    /// What was asked of the evidence: the measure's name and the minimum, for each that it measures.
    pub(super) fn asked_of(&self, evidence: &ConceptEvidence) -> impl Iterator<Item = (&'static str, f64)> {
        self.held(evidence).map(|(name, asked, _)| (name, asked))
    }

    fn held(&self, evidence: &ConceptEvidence) -> impl Iterator<Item = (&'static str, f64, f64)> {
        MINIMA.iter().filter_map(move |m| Some((m.name, (m.asked)(self)?, (m.measured)(evidence)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_explains_every_minimum() {
        for minimum in MINIMA {
            let line = |l: &str| l.strip_prefix("# ").is_some_and(|l| l.split([' ', '=']).next() == Some(minimum.key));
            assert!(crate::policy::TEMPLATE.lines().any(line), "no `# {} = ...` in the template", minimum.key);
        }
    }
}
