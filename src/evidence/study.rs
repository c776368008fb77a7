//! What sources of evidence and describers are given to look at.

use super::ConceptEvidence;
use crate::Traced;
use crate::exemplars::{Exemplars, UnitExemplars};
use crate::probe::Images;

/// Some units, with what is known about them.
#[derive(Clone)]
pub struct Study<'a> {
    /// What excites the units; regions and sketches are empty unless they are [needed](super::Needs::regions). A unit's
    /// *place* is its place in [`Exemplars::units`].
    pub exemplars: &'a Exemplars,
    /// The images that the exemplars were computed from, by their numbers.
    pub images: &'a dyn Images,
    /// The model, for those who [need](super::Needs) it.
    pub traced: Option<&'a Traced<'a>>,
    /// What was measured so far.
    pub evidence: Evidence,
}

impl std::fmt::Debug for Study<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Study").field("units", &self.exemplars.units.len()).finish_non_exhaustive()
    }
}

impl<'a> Study<'a> {
    /// Units without evidence and without their model.
    pub fn new(exemplars: &'a Exemplars, images: &'a dyn Images) -> Self {
        Self { exemplars, images, traced: None, evidence: Evidence::default() }
    }

    /// The same units with their model.
    #[must_use]
    pub fn with_model(self, traced: &'a Traced<'a>) -> Self {
        Self { traced: Some(traced), ..self }
    }

    /// The unit at a place; `None` where there is none.
    pub fn unit(&self, place: usize) -> Option<&'a UnitExemplars> {
        self.exemplars.units.get(place)
    }

    /// The places of all units.
    pub fn places(&self) -> Vec<usize> {
        (0..self.exemplars.units.len()).collect()
    }
}

/// What was measured, unit by unit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence(Vec<Vec<ConceptEvidence>>);

impl Evidence {
    /// About the unit at a place, source by source; nothing where nothing was measured.
    pub fn of(&self, place: usize) -> &[ConceptEvidence] {
        self.0.get(place).map_or(&[], Vec::as_slice)
    }

    /// By one source about the unit at a place, in the order in which it gave it.
    pub fn by<'e>(&'e self, source: &'e str, place: usize) -> impl Iterator<Item = &'e ConceptEvidence> {
        self.of(place).iter().filter(move |e| e.source == source)
    }

    /// Adds what was measured about the unit at a place.
    pub fn add(&mut self, place: usize, evidence: Vec<ConceptEvidence>) {
        if self.0.len() <= place {
            self.0.resize(place + 1, Vec::new());
        }
        self.0[place].extend(evidence);
    }

    /// Takes out what was measured about the unit at a place.
    pub(crate) fn take(&mut self, place: usize) -> Vec<ConceptEvidence> {
        self.0.get_mut(place).map(std::mem::take).unwrap_or_default()
    }
}
