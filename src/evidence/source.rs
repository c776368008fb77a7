//! Who measures evidence.

use super::{ConceptEvidence, Study};
use crate::probe::Images;
use crate::{ConceptName, Result};

/// What a source of evidence or a describer looks at, besides levels, names and activations of exemplars, and images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// The model, to run it again: [`Study::traced`].
    pub model: bool,
    /// What sources measured: [`Study::evidence`].
    pub evidence: bool,
    /// The maximum and mean of every unit on every image.
    pub summaries: bool,
    /// Regions, maps and sketches of the exemplars. They take most of the memory: who does without is asked about all
    /// units at once, who needs them about as many as fit.
    pub regions: bool,
}

/// Measures how units respond to concepts.
///
/// Implementations must be deterministic, whatever the number of threads, and what they say of a unit must not depend on
/// which others they are asked about: evidence of an unchanged unit is kept from audit to audit.
///
/// ```
/// use tch_audit::evidence::{ConceptEvidence, EvidenceSource, Needs, Study};
/// use tch_audit::{ConceptName, Result, probe::Images};
///
/// /// How much of what excites a unit most has a name that begins with `dog`.
/// struct Names(Vec<ConceptName>);
///
/// impl EvidenceSource for Names {
///     fn name(&self) -> &str {
///         "names"
///     }
///     fn concepts(&self) -> &[ConceptName] {
///         &self.0
///     }
///     fn fingerprint(&self, _: &dyn Images) -> String {
///         "names 1".into()
///     }
///     fn measure(&self, study: &Study<'_>, units: &[usize]) -> Result<Vec<Vec<ConceptEvidence>>> {
///         let measured = units.iter().filter_map(|place| study.unit(*place)).map(|unit| {
///             let dogs = unit.top.iter().filter(|e| study.images.name(e.image).starts_with("dog")).count();
///             let share = Some(dogs as f64 / unit.top.len().max(1) as f64);
///             vec![ConceptEvidence { share, ..ConceptEvidence::new("names", "dog") }]
///         });
///         Ok(measured.collect())
///     }
/// }
/// # let _ = Names(vec![ConceptName::new("dog", "animal", "a dog")]);
/// ```
pub trait EvidenceSource: Send + Sync {
    /// Its name, for reports and for [`ConceptEvidence::source`].
    fn name(&self) -> &str;

    /// The concepts that it measures: the names by which policies may ask for them.
    fn concepts(&self) -> &[ConceptName];

    /// What else it looks at; nothing unless said otherwise.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Everything that the evidence depends on besides model, exemplars and images, as a stable text. It will be measured on
    /// images like these.
    fn fingerprint(&self, images: &dyn Images) -> String;

    /// What it finds about the units at these places of the study: one list per place, in their order.
    ///
    /// Evidence about a concept that is not among [`concepts`](Self::concepts) is for describers only (what an unnamed
    /// control does, say): policies and reports do not see it.
    ///
    /// # Errors
    /// Whatever keeps it from measuring; that there is nothing to measure is an empty list.
    fn measure(&self, study: &Study<'_>, units: &[usize]) -> Result<Vec<Vec<ConceptEvidence>>>;

    /// What of a unit's evidence policies and reports get to see, in which order: all that is about
    /// [`concepts`](Self::concepts) unless said otherwise.
    fn listed(&self, evidence: Vec<ConceptEvidence>) -> Vec<ConceptEvidence> {
        evidence.into_iter().filter(|e| self.concepts().iter().any(|c| c.name == e.concept)).collect()
    }
}
