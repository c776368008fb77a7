//! Where evidence and words of units come together, and what earlier audits left is used.

use super::Leftovers;
use super::leftovers::Entry;
use crate::describe::{DescribedUnit, Describer, Description, wrong};
use crate::evidence::{ConceptEvidence, EvidenceSource, Study};
use crate::exemplars::{Exemplars, UnitExemplars};
use crate::graph::Traced;
use crate::policy::Policies;
use crate::probe::Images;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Describes units of one model, one set of images and one way of looking at them.
pub(super) struct Desk<'a> {
    traced: &'a Traced<'a>,
    images: &'a dyn Images,
    /// Those that somebody asks for.
    sources: Vec<&'a dyn EvidenceSource>,
    describer: &'a dyn Describer,
    leftovers: &'a mut Leftovers,
    /// What all units have in common, as a hash.
    common: String,
    /// Per site: what lies in front of it, as a hash.
    in_front: HashMap<String, String>,
}

impl<'a> Desk<'a> {
    pub fn new(
        traced: &'a Traced<'_>,
        images: &'a dyn Images,
        settings: &'a super::Settings,
        policies: &Policies,
        exemplars: &Exemplars,
        leftovers: &'a mut Leftovers,
    ) -> Result<Self> {
        let describer: &Arc<dyn Describer> = &settings.describer;
        let describer = describer.as_ref();
        let wanted = |source: &&dyn EvidenceSource| {
            let asked = |p: &crate::policy::Policy| source.concepts().iter().any(|c| p.asks_for(&c.name));
            describer.needs().evidence || policies.iter().any(asked)
        };
        let sources: Vec<&dyn EvidenceSource> = settings.sources.iter().map(Arc::as_ref).filter(wanted).collect();
        let mut names = BTreeSet::new();
        if let Some(twice) = settings.sources.iter().find(|s| !names.insert(s.name())) {
            return Err(Error::invalid("sources of evidence", format!("`{}` twice", twice.name()), "unique names"));
        }
        let mut common = blake3::Hasher::new();
        let mut text = |s: &str| {
            common.update(&(s.len() as u64).to_le_bytes()).update(s.as_bytes());
        };
        text(concat!("tch-audit words 1, version ", env!("CARGO_PKG_VERSION")));
        text(describer.name());
        text(&describer.fingerprint());
        for source in &sources {
            text(source.name());
            text(&source.fingerprint());
        }
        text(&images.fingerprint());
        text(&format!("{:?} {:?} {}", exemplars.options, exemplars.preprocess, exemplars.images));
        let common = common.finalize().to_hex().to_string();
        let mut in_front = HashMap::new();
        if leftovers.by_weights() {
            let mut sites: Vec<&str> = exemplars.units.iter().map(|u| u.id.site.as_str()).collect();
            sites.dedup();
            let known = sites.iter().map(|name| traced.site(name)).collect::<Result<Vec<_>>>()?;
            in_front.extend(sites.iter().map(ToString::to_string).zip(traced.fingerprints(&known)?));
        }
        Ok(Self { traced, images, sources, describer, leftovers, common, in_front })
    }

    /// What the descriptions depend on besides the model.
    pub fn fingerprint(&self) -> String {
        let mut text = self.describer.fingerprint();
        for source in &self.sources {
            text.push_str(&format!("; evidence: {}", source.fingerprint()));
        }
        text
    }

    /// All units in their order, and the places of those that keep what an earlier audit said of them.
    pub fn all(&mut self, exemplars: &Exemplars) -> Result<(Vec<DescribedUnit>, BTreeSet<usize>)> {
        let mut study = Study::new(exemplars, self.images).with_model(self.traced);
        let mut found: Vec<Option<DescribedUnit>> = vec![None; exemplars.units.len()];
        let mut kept = BTreeSet::new();
        if self.leftovers.by_weights() {
            for (place, unit) in exemplars.units.iter().enumerate() {
                let key = self.key(unit, &[]);
                if let Some(entry) = self.leftovers.get(&unit.id, &key) {
                    found[place] = Some(entry.unit());
                    kept.insert(place);
                }
            }
        }
        let open: Vec<usize> = (0..found.len()).filter(|place| found[*place].is_none()).collect();
        self.measure(&mut study, &open)?;
        let mut silent = Vec::new();
        for place in open {
            let unit = &exemplars.units[place];
            let left = match self.leftovers.by_exemplars() && !self.describer.needs().evidence {
                true => self.leftovers.get(&unit.id, &self.key(unit, study.evidence.of(place))),
                false => None,
            };
            match left {
                Some(entry) => {
                    let evidence = self.listed(study.evidence.take(place));
                    found[place] = Some(DescribedUnit { evidence, ..entry.unit() });
                    kept.insert(place);
                }
                None => silent.push(place),
            }
        }
        for (place, unit) in self.say(&study, &silent)? {
            found[place] = Some(unit);
        }
        let all: Option<Vec<DescribedUnit>> = found.into_iter().collect();
        let all = all.ok_or_else(|| wrong(self.describer, None, "no description"))?;
        self.leftovers.settle(&all)?;
        Ok((all, kept))
    }

    /// The units at some places, looked at anew whatever was left over.
    pub fn again(&mut self, exemplars: &Exemplars, places: &[usize]) -> Result<Vec<(usize, DescribedUnit)>> {
        let mut study = Study::new(exemplars, self.images).with_model(self.traced);
        self.measure(&mut study, places)?;
        self.say(&study, places)
    }

    fn measure(&self, study: &mut Study<'_>, places: &[usize]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        for source in &self.sources {
            let measured = source.measure(study, places)?;
            if measured.len() != places.len() {
                let received = format!("evidence of {} units", measured.len());
                let what = format!("source of evidence `{}`", source.name());
                return Err(Error::invalid(what, received, format!("{}, one list per unit", places.len())));
            }
            for (place, evidence) in places.iter().zip(measured) {
                study.evidence.add(*place, evidence);
            }
        }
        Ok(())
    }

    /// The describer's words, kept as they come.
    fn say(&mut self, study: &Study<'_>, places: &[usize]) -> Result<Vec<(usize, DescribedUnit)>> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let mut said: HashMap<usize, DescribedUnit> = HashMap::new();
        let (describer, wanted) = (self.describer, places.iter().copied().collect::<BTreeSet<_>>());
        describer.describe(study, places, &mut |place, description: Description| {
            let Some(unit) = study.unit(place).filter(|_| wanted.contains(&place)) else {
                return Err(wrong(describer, None, "a description"));
            };
            let key = self.key(unit, study.evidence.of(place));
            let evidence = self.listed(study.evidence.of(place).to_vec());
            let unit = DescribedUnit { id: unit.id.clone(), description, evidence };
            self.leftovers.add(Entry::new(&unit, key))?;
            match said.insert(place, unit) {
                None => Ok(()),
                Some(unit) => Err(wrong(describer, Some(unit.id.to_string()), "another description")),
            }
        })?;
        let of = |place: usize| {
            let id = || study.unit(place).map(|u| u.id.to_string());
            said.remove(&place).map(|unit| (place, unit)).ok_or_else(|| wrong(describer, id(), "no description"))
        };
        places.iter().copied().map(of).collect()
    }

    /// What policies and reports get to see of a unit's evidence.
    fn listed(&self, evidence: Vec<ConceptEvidence>) -> Vec<ConceptEvidence> {
        let of = |source: &&dyn EvidenceSource| {
            let own = evidence.iter().filter(|e| e.source == source.name()).cloned().collect();
            source.listed(own)
        };
        self.sources.iter().flat_map(of).collect()
    }

    /// What made a unit's words, as a hash: where weights count, everything in front of it; else the images that excite
    /// it, and which concept each source finds strongest.
    fn key(&self, unit: &UnitExemplars, evidence: &[ConceptEvidence]) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(self.common.as_bytes()).update(unit.id.to_string().as_bytes()).update(b"\n");
        match self.in_front.get(&unit.id.site) {
            Some(in_front) => drop(hash.update(in_front.as_bytes())),
            None => {
                for exemplar in &unit.top {
                    hash.update(&(exemplar.image as u64).to_le_bytes());
                }
                for source in &self.sources {
                    let own = evidence.iter().filter(|e| e.source == source.name()).cloned().collect();
                    let strongest = source.listed(own).into_iter().next().map(|e| e.concept).unwrap_or_default();
                    hash.update(strongest.as_bytes()).update(b"\n");
                }
            }
        }
        hash.finalize().to_hex().to_string()
    }
}
