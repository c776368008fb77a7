//! What was measured about units and concepts, and who measures it.
//!
//! A [`ConceptEvidence`] is what one source found about one unit and one concept; each of its measures is there only where
//! the source has it. A source of evidence is an [`EvidenceSource`]: it is given a [`Study`] (exemplars, images and, where
//! it asks for it, the traced model) and answers unit by unit. [`painted`] is the source that comes with tch-audit; one of
//! your own is a type with five short functions, see [`EvidenceSource`].
//!
//! Evidence is kept apart from words: a [describer](crate::describe) may look at it or not, and policies judge both.

pub mod painted;
mod source;
mod study;

pub use painted::Painted;
pub use source::{EvidenceSource, Needs};
pub use study::{Evidence, Study};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What was measured about one unit and one concept. A measure that the source does not have is `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ConceptEvidence {
    /// The concept's name, for example `text`.
    pub concept: String,
    /// Who measured it, for example `painted`.
    #[serde(default)]
    pub source: String,
    /// Intersection over union of the unit's regions and the concept's regions, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iou: Option<f64>,
    /// Causal effect: mean over images of (activation with the concept - without it), divided by the standard
    /// deviation of these differences' baseline (the activations without it). Standard deviations; may be negative.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<f64>,
    /// Probability that a random image with the concept activates the unit more than one without, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Lower end of the 95 % interval of [`auc`](Self::auc).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_low: Option<f64>,
    /// Upper end of the 95 % interval of [`auc`](Self::auc).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc_high: Option<f64>,
    /// Share of the concept among the images that activate the unit most, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// Pearson's r of the unit's activation and the concept's presence over images, -1 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<f64>,
}

impl ConceptEvidence {
    /// The source of evidence that comes from painting concepts onto images.
    pub const PAINTED: &str = "painted";

    /// The numbers that were measured, for a sentence: `effect +2.00 sd, IoU 0.100`.
    pub fn measures(&self) -> String {
        let auc = self.auc.map(|auc| match self.auc_low.zip(self.auc_high) {
            Some((low, high)) => format!("AUC {auc:.2} [{low:.2}, {high:.2}]"),
            None => format!("AUC {auc:.2}"),
        });
        let measured = [
            self.share.map(|share| format!("share {share:.2}")),
            self.effect.map(|effect| format!("effect {effect:+.2} sd")),
            auc,
            self.iou.map(|iou| format!("IoU {iou:.3}")),
            self.r.map(|r| format!("r {r:+.2}")),
        ];
        measured.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// Whether it comes from painting the concept onto images, and so is causal. So is what reports of earlier versions
    /// hold, which name no source.
    pub fn is_painted(&self) -> bool {
        self.source == Self::PAINTED || self.source.is_empty()
    }

    /// Nothing measured yet.
    pub fn new(source: impl Into<String>, concept: impl Into<String>) -> Self {
        Self { source: source.into(), concept: concept.into(), ..Self::default() }
    }
}
