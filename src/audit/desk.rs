//! Where evidence and words of units come together, and what earlier audits left is used.

use super::Leftovers;
use super::leftovers::Entry;
use super::recipe::Recipe;
use crate::describe::{DescribedUnit, wrong};
use crate::evidence::{Evidence, Needs, Study};
use crate::exemplars::{Held, UnitExemplars};
use crate::graph::Traced;
use crate::probe::Images;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};

/// Units of one model, and the images that it is shown.
#[derive(Clone, Copy)]
pub(super) struct Shelf<'a> {
    pub traced: &'a Traced<'a>,
    pub images: &'a dyn Images,
    pub exemplars: &'a Held,
    /// How many bytes of exemplars are loaded at once.
    pub memory: u64,
}

/// Describes the units of a shelf.
pub(super) struct Desk<'a> {
    pub shelf: Shelf<'a>,
    pub recipe: Recipe<'a>,
    pub leftovers: &'a mut Leftovers,
}

impl Desk<'_> {
    /// All units in their order, and the places of those that keep what an earlier audit said of them.
    pub fn all(&mut self) -> Result<(Vec<DescribedUnit>, BTreeSet<usize>)> {
        let units = self.shelf.exemplars.units();
        let mut found: Vec<Option<DescribedUnit>> = vec![None; units.len()];
        let mut kept = BTreeSet::new();
        if self.leftovers.by_weights() {
            for (place, unit) in units.iter().enumerate() {
                if let Some(entry) = self.leftovers.get(&unit.id, &self.recipe.key(unit, &[])) {
                    found[place] = Some(entry.unit());
                    kept.insert(place);
                }
            }
        }
        let open: Vec<usize> = (0..found.len()).filter(|place| found[*place].is_none()).collect();
        for some in open.chunks(self.shelf.at_once()) {
            let mut evidence = self.measure(some)?;
            let mut silent = Vec::new();
            for &place in some {
                match self.left(&units[place], place, &mut evidence) {
                    Some(unit) => {
                        found[place] = Some(unit);
                        kept.insert(place);
                    }
                    None => silent.push(place),
                }
            }
            for (place, unit) in self.say(&silent, &mut evidence)? {
                found[place] = Some(unit);
            }
        }
        let all: Option<Vec<DescribedUnit>> = found.into_iter().collect();
        let all = all.ok_or_else(|| wrong(self.recipe.describer, None, "no description"))?;
        self.leftovers.settle()?;
        Ok((all, kept))
    }

    /// What an earlier audit of the same network said of a unit, if the same images excite it and the sources decide alike.
    fn left(&self, unit: &UnitExemplars, place: usize, evidence: &mut Evidence) -> Option<DescribedUnit> {
        if !self.leftovers.by_exemplars() || self.recipe.describer.needs().evidence {
            return None;
        }
        let entry = self.leftovers.get(&unit.id, &self.recipe.key(unit, evidence.of(place)))?;
        Some(DescribedUnit { evidence: self.recipe.listed(evidence.take(place)), ..entry.unit() })
    }

    /// The units at some places, looked at anew whatever was left over.
    pub fn again(&mut self, places: &[usize]) -> Result<Vec<(usize, DescribedUnit)>> {
        let mut evidence = self.measure(places)?;
        self.say(places, &mut evidence)
    }

    /// What all sources find about the units at some places.
    fn measure(&self, places: &[usize]) -> Result<Evidence> {
        let mut evidence = Evidence::default();
        for source in &self.recipe.sources {
            self.shelf.show(source.needs(), places, &mut |study, own, places| {
                let measured = source.measure(&study, own)?;
                if measured.len() != own.len() {
                    let received = format!("evidence of {} units", measured.len());
                    let what = format!("source of evidence `{}`", source.name());
                    return Err(Error::invalid(what, received, format!("{}, one list per unit", own.len())));
                }
                for (place, measured) in places.iter().zip(measured) {
                    evidence.add(*place, measured);
                }
                Ok(())
            })?;
        }
        Ok(evidence)
    }

    /// The describer's words, kept as they come. Takes the evidence about these units.
    fn say(&mut self, places: &[usize], evidence: &mut Evidence) -> Result<Vec<(usize, DescribedUnit)>> {
        let Self { shelf, recipe, leftovers } = self;
        let describer = recipe.describer;
        let mut all = Vec::with_capacity(places.len());
        shelf.show(describer.needs(), places, &mut |mut study, own, places| {
            for (own, place) in own.iter().zip(places) {
                study.evidence.add(*own, evidence.take(*place));
            }
            let mut said: HashMap<usize, Option<DescribedUnit>> = own.iter().map(|own| (*own, None)).collect();
            describer.describe(&study, own, &mut |own, description| {
                let Some((unit, said)) = study.unit(own).zip(said.get_mut(&own)) else {
                    return Err(wrong(describer, None, "a description"));
                };
                let found = study.evidence.of(own);
                let evidence = recipe.listed(found.to_vec());
                let described = DescribedUnit { id: unit.id.clone(), description, evidence };
                leftovers.add(Entry::new(&described, recipe.key(unit, found)))?;
                match said.replace(described) {
                    None => Ok(()),
                    Some(_) => Err(wrong(describer, Some(unit.id.to_string()), "another description")),
                }
            })?;
            for (own, place) in own.iter().zip(places) {
                let id = || study.unit(*own).map(|u| u.id.to_string());
                let unit = said.remove(own).flatten();
                all.push((*place, unit.ok_or_else(|| wrong(describer, id(), "no description"))?));
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// Looks at units: a study, at which places they are in it, and which of all places these are.
type Look<'a> = dyn FnMut(Study<'_>, &[usize], &[usize]) -> Result<()> + 'a;

/// Upper bound of what the evidence about one unit takes while it is measured, in bytes: some hundred concepts, or
/// responses to some thousand images.
const EVIDENCE: u64 = 16 << 10;

impl Shelf<'_> {
    /// How many units are measured together.
    fn at_once(&self) -> usize {
        usize::try_from(self.memory / EVIDENCE).unwrap_or(usize::MAX).max(1)
    }

    /// Shows the units at some places to `look`, as many at once as what it needs of them allows.
    fn show(&self, needs: Needs, places: &[usize], look: &mut Look<'_>) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        if !needs.regions {
            let study = Study::new(self.exemplars.outline(), self.images).with_model(self.traced);
            return look(study, places, places);
        }
        for part in self.exemplars.parts(places, self.memory) {
            let some = self.exemplars.load(part)?;
            let study = Study::new(&some, self.images).with_model(self.traced);
            let own = study.places();
            look(study, &own, part)?;
        }
        Ok(())
    }
}
