//! Describes units by the concepts that excite them. No learned describer, no data set.
//!
//! It reads the [evidence](crate::evidence) of one source, usually [`painted`](crate::evidence::painted), and needs of each
//! concept its share among the images that excite the unit most, the AUC's lower end and the effect.
//!
//! # The decision
//!
//! A concept's share is `p(c|E)`. Were all alike, it would be the prior `p(c) = 1 / number of sets`; the score is
//! `ln p(c|E) - ln p(c)`, in nats. Sets without a name (controls, the plain images) take part and are never named: a unit
//! that any change excites gives them their share, and to no concept enough. A concept is named if it passes every one of
//! [`Thresholds`]; if no concept does but those of one family do together, the family is named (`stripes`). Otherwise the
//! unit is [`Status::Abstained`](super::Status::Abstained). IoU is reported and decides nothing: a unit after pooling has
//! no place.
//!
//! **Source:** the score is the pointwise mutual information of Hernandez et al. 2022 (MILAN, arXiv 2201.11114). Differs:
//! `p(c|E)` is counted, because it is known which image has the concept; a description must pass tests of effect and
//! against rivals instead of being the best of whatever there is.

mod decide;

use super::{Describer, Description, Say};
use crate::evidence::{EvidenceSource, Needs, Painted, Study};
use crate::{ConceptName, Error, Result};
use serde::{Deserialize, Serialize};

/// What a concept must reach to be named. All must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Thresholds {
    /// Least share among the strongest activations, 0 to 1.
    pub share: f64,
    /// Least share of a family's concepts together, where none of them passes alone, 0 to 1.
    pub family_share: f64,
    /// Least lower end of the interval of the AUC, with the concept against without, 0 to 1.
    pub auc_low: f64,
    /// Least standardised effect, in standard deviations.
    pub effect: f64,
    /// How many times the share of any one rival (a concept of another family, a control, the plain images) the share
    /// must be at least, unless it is more than half of all.
    pub margin: f64,
}

impl Default for Thresholds {
    /// Share 0.35, family share 0.6, AUC 0.75, effect 1, margin 1.5.
    ///
    /// Set on networks with planted units, where they must name each, and on networks with random weights, where they
    /// must abstain on most (`tests/planted.rs`).
    fn default() -> Self {
        Self { share: 0.35, family_share: 0.6, auc_low: 0.75, effect: 1.0, margin: 1.5 }
    }
}

impl Thresholds {
    fn validate(&self) -> Result<()> {
        let shares =
            [("share", self.share), ("family share", self.family_share), ("lower end of the AUC", self.auc_low)];
        if let Some((what, value)) = shares.into_iter().find(|(_, v)| !(0.0..=1.0).contains(v)) {
            return Err(Error::invalid(format!("threshold of the {what}"), value, "0 to 1"));
        }
        if !self.effect.is_finite() {
            return Err(Error::invalid("threshold of the effect", self.effect, "a finite number"));
        }
        if !(self.margin.is_finite() && self.margin >= 0.0) {
            return Err(Error::invalid("margin", self.margin, "0 or more"));
        }
        Ok(())
    }
}

/// The describer; see [the module](self).
///
/// ```
/// use tch::{Device, nn};
/// use tch_audit::describe::{concepts::Concepts, describe};
/// use tch_audit::evidence::{EvidenceSource, Painted, Study};
/// use tch_audit::exemplars::{self, Exemplars};
/// use tch_audit::{Model, Traced, probe};
///
/// # fn main() -> tch_audit::Result<()> {
/// let vs = nn::VarStore::new(Device::Cpu);
/// let net = nn::seq_t().add(nn::conv2d(vs.root() / "conv", 3, 4, 3, Default::default()));
/// let images = probe::drawn(1, 32, 7)?;
/// let model = Model::new(&vs, &net);
/// let traced = Traced::new(&model, &images.tensor(0..1)?)?;
/// let exemplars = Exemplars::compute(&traced, &traced.select(&["conv"])?, &images, &exemplars::Options::default())?;
///
/// let mut study = Study::new(&exemplars, &images).with_model(&traced);
/// let painted = Painted::default();
/// for (place, evidence) in painted.measure(&study, &study.places())?.into_iter().enumerate() {
///     study.evidence.add(place, evidence);
/// }
/// assert_eq!(describe(&Concepts::of(&painted), &study)?.len(), 4);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Concepts {
    source: String,
    bank: Vec<ConceptName>,
    thresholds: Thresholds,
}

impl Default for Concepts {
    /// Of the built-in bank, painted.
    fn default() -> Self {
        Self::of(&Painted::default())
    }
}

impl Concepts {
    /// A describer by the concepts of this source.
    pub fn of(source: &dyn EvidenceSource) -> Self {
        let (source, bank) = (source.name().to_string(), source.concepts().to_vec());
        Self { source, bank, thresholds: Thresholds::default() }
    }

    /// The same with other thresholds.
    ///
    /// # Errors
    /// [`Error::Invalid`] for thresholds that make no sense.
    pub fn with_thresholds(self, thresholds: Thresholds) -> Result<Self> {
        thresholds.validate()?;
        Ok(Self { thresholds, ..self })
    }
}

impl Describer for Concepts {
    fn name(&self) -> &str {
        "concepts"
    }

    fn needs(&self) -> Needs {
        Needs { evidence: true, ..Needs::default() }
    }

    /// # Errors
    /// [`Error::Invalid`] for a live unit without evidence of the source.
    fn describe(&self, study: &Study<'_>, units: &[usize], say: &mut Say<'_>) -> Result<()> {
        for &place in units {
            let Some(unit) = study.unit(place) else { continue };
            if unit.dead {
                say(place, Description::dead())?;
                continue;
            }
            let evidence: Vec<_> = study.evidence.by(&self.source, place).collect();
            if evidence.is_empty() {
                let what = format!("evidence of source `{}` about {}", self.source, unit.id);
                return Err(Error::invalid(what, "none", "what the describer `concepts` decides by"));
            }
            say(place, decide::describe(&self.bank, &evidence, &self.thresholds))?;
        }
        Ok(())
    }

    /// The descriptions of all concepts, and the names of their families.
    fn sayings(&self) -> Option<Vec<String>> {
        Some(decide::sayings(&self.bank))
    }

    fn fingerprint(&self) -> String {
        format!("concepts 2 by {}; {:?}", self.source, self.thresholds)
    }
}
