//! What makes words and evidence of a unit, and a hash of it.

use super::{Leftovers, Settings, desk::Shelf};
use crate::describe::Describer;
use crate::evidence::{ConceptEvidence, EvidenceSource};
use crate::exemplars::UnitExemplars;
use crate::policy::{Policies, Policy};
use crate::probe::Images;
use crate::{Error, Result};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(super) struct Recipe<'a> {
    /// Those that somebody asks for.
    pub sources: Vec<&'a dyn EvidenceSource>,
    pub describer: &'a dyn Describer,
    /// What all units have in common, as a hash.
    common: String,
    /// Per site: what lies in front of it, as a hash; empty where leftovers do not go by it.
    in_front: HashMap<String, String>,
}

impl<'a> Recipe<'a> {
    pub fn new(settings: &'a Settings, policies: &Policies, shelf: Shelf<'_>, leftovers: &Leftovers) -> Result<Self> {
        let describer = settings.describer.as_ref();
        let wanted = |source: &&dyn EvidenceSource| {
            let asked = |p: &Policy| source.concepts().iter().any(|c| p.asks_for(&c.name));
            describer.needs().evidence || policies.iter().any(asked)
        };
        let mut names = BTreeSet::new();
        if let Some(twice) = settings.sources.iter().find(|s| !names.insert(s.name())) {
            return Err(Error::invalid("sources of evidence", format!("`{}` twice", twice.name()), "unique names"));
        }
        let sources = settings.sources.iter().map(Arc::as_ref).filter(wanted).collect();
        let mut recipe = Self { sources, describer, common: String::new(), in_front: HashMap::new() };
        recipe.common = recipe.common_hash(shelf, leftovers)?;
        if leftovers.by_weights() {
            let mut sites: Vec<&str> = shelf.exemplars.units().iter().map(|u| u.id.site.as_str()).collect();
            sites.dedup();
            let known = sites.iter().map(|name| shelf.traced.site(name)).collect::<Result<Vec<_>>>()?;
            let hashes = shelf.traced.fingerprints(&known)?;
            recipe.in_front = sites.iter().map(ToString::to_string).zip(hashes).collect();
        }
        Ok(recipe)
    }

    fn common_hash(&self, shelf: Shelf<'_>, leftovers: &Leftovers) -> Result<String> {
        let mut hash = blake3::Hasher::new();
        let mut text = |s: &str| {
            hash.update(&(s.len() as u64).to_le_bytes()).update(s.as_bytes());
        };
        text(concat!("tch-audit words 1, version ", env!("CARGO_PKG_VERSION")));
        text(self.describer.name());
        text(&self.describer.fingerprint());
        for source in &self.sources {
            text(source.name());
            text(&source.fingerprint(shelf.images));
        }
        text(&shelf.images.fingerprint());
        if leftovers.by_weights() {
            // Not only names and sizes: files that outlive the process may meet other pixels.
            match shelf.exemplars.digest() {
                Some(digest) => text(digest),
                None => text(&shelf.images.digest(&(0..shelf.images.len()).collect::<Vec<_>>())?.to_string()),
            }
        }
        let outline = shelf.exemplars.outline();
        // How they were computed makes no difference to what they are.
        let mut options = outline.options.clone();
        (options.budget, options.maps) = (None, false);
        options.units.clear();
        text(&format!("{options:?} {:?} {}", outline.preprocess, outline.images));
        Ok(hash.finalize().to_hex().to_string())
    }

    /// What the descriptions depend on besides the model.
    pub fn fingerprint(&self, images: &dyn Images) -> String {
        let mut text = self.describer.fingerprint();
        for source in &self.sources {
            text.push_str(&format!("; evidence: {}", source.fingerprint(images)));
        }
        text
    }

    /// What policies and reports get to see of a unit's evidence.
    pub fn listed(&self, evidence: Vec<ConceptEvidence>) -> Vec<ConceptEvidence> {
        let of = |source: &&dyn EvidenceSource| source.listed(own(*source, &evidence));
        self.sources.iter().flat_map(of).collect()
    }

    /// What made a unit's words, as a hash: where weights count, everything in front of it; else the images that excite
    /// it, and which concept each source finds strongest.
    pub fn key(&self, unit: &UnitExemplars, evidence: &[ConceptEvidence]) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(self.common.as_bytes()).update(unit.id.to_string().as_bytes()).update(b"\n");
        match self.in_front.get(&unit.id.site) {
            Some(in_front) => drop(hash.update(in_front.as_bytes())),
            None => {
                for exemplar in &unit.top {
                    hash.update(&(exemplar.image as u64).to_le_bytes());
                }
                for source in &self.sources {
                    let strongest = source.listed(own(*source, evidence)).into_iter().next();
                    hash.update(strongest.map(|e| e.concept).unwrap_or_default().as_bytes()).update(b"\n");
                }
            }
        }
        hash.finalize().to_hex().to_string()
    }
}

fn own(source: &dyn EvidenceSource, evidence: &[ConceptEvidence]) -> Vec<ConceptEvidence> {
    evidence.iter().filter(|e| e.source == source.name()).cloned().collect()
}
