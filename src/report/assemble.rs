//! From an audit to a report, and from a report to a folder: only copying, no judgement.

use super::files::{Written, pictured};
use super::{ModelAccuracy, ModelInfo, Origin, ProbeInfo, Report, Run, Settings, SiteInfo, Stage, UnitEntry, picture};
use crate::audit::{self, Audit};
use crate::describe::DescribedUnit;
use crate::exemplars::{Held, UnitExemplars, with_pictures};
use crate::policy::{Finding, Outcome};
use crate::probe::Images;
use crate::{Result, UnitId};
use image::RgbImage;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// So many bytes of exemplars are in memory while pictures are drawn.
const LOADED: u64 = 64 << 20;

impl Report {
    /// The report of an audit that began at `date`, of `model` on these images; to be [judged](Self::judge),
    /// completed with edit and history, then [finished](Self::finish). The sites are the audit's.
    pub fn of(
        audit: &Audit,
        model: ModelInfo,
        images: &dyn Images,
        settings: &audit::Settings,
        date: impl Into<String>,
    ) -> Self {
        let outline = audit.exemplars.outline();
        let names = &outline.names;
        let name = |i: usize| names.get(&i).map_or_else(String::new, |image| image.name.clone());
        let units = outline.units.iter().zip(&audit.units).map(|(exemplars, described)| {
            let entry = UnitEntry::new(exemplars, described.description.clone(), name);
            let entry = UnitEntry { evidence: described.evidence.clone(), ..entry };
            if exemplars.top.is_empty() { entry } else { entry.with_picture() }
        });
        let stage = |(name, seconds): &(&str, f64)| Stage { name: name.to_string(), seconds: *seconds };
        Report {
            model: ModelInfo {
                sites: audit.sites.iter().map(SiteInfo::from).collect(),
                training: (!audit.training.is_empty()).then(|| audit.training.to_string()),
                ..model
            },
            settings: Settings {
                k: outline.options.k,
                quantile: outline.options.quantile,
                seed: outline.options.seed,
                sites: settings.sites.clone(),
                describer: audit.describer.clone(),
                sources: audit.sources.clone(),
                sayings: audit.sayings.clone(),
            },
            accuracy: audit.accuracy.as_ref().ok().map(|a| ModelAccuracy::new(*a, images.classes().len())),
            accuracy_missing: audit.accuracy.as_ref().err().cloned(),
            coverage: Some(audit.coverage.clone()),
            probe: ProbeInfo::new(images, outline.images, &audit.skipped),
            units: units.collect(),
            run: Run { date: date.into(), stages: audit.seconds.iter().map(stage).collect(), kept: audit.kept },
            ..Report::default()
        }
    }

    /// The report of descriptions that some other tool made, from the file called `file`; to be [judged](Self::judge),
    /// then [finished](Self::finish).
    pub fn of_descriptions(units: &[DescribedUnit], file: &str) -> Self {
        let mut sites = BTreeMap::<&str, usize>::new();
        for unit in units {
            *sites.entry(&unit.id.site).or_default() += 1;
        }
        let site = |(name, units): (&str, usize)| SiteInfo { name: name.to_string(), units, ..SiteInfo::default() };
        Report {
            origin: Origin::Descriptions { file: file.to_string() },
            model: ModelInfo { sites: sites.into_iter().map(site).collect(), ..ModelInfo::default() },
            units: units.iter().map(UnitEntry::described).collect(),
            ..Report::default()
        }
    }

    /// Takes over what the policies found, in place of what they found before. `reproduce` is the command that finds it
    /// again, given a finding's unit.
    pub fn judge(&mut self, outcome: &Outcome, reproduce: impl Fn(&UnitId) -> Option<String>) {
        self.policies = outcome.policies.clone();
        let finding = |f: &Finding| Finding { reproduce: reproduce(&f.unit), ..f.clone() };
        self.findings = outcome.findings.iter().map(finding).collect();
        self.notices = outcome.notices.clone();
    }

    /// What policies judge: every unit with its description and evidence.
    pub fn described_units(&self) -> Vec<DescribedUnit> {
        let unit = |u: &UnitEntry| DescribedUnit {
            id: u.id.clone(),
            description: u.description.clone(),
            evidence: u.evidence.clone(),
        };
        self.units.iter().map(unit).collect()
    }

    /// The same report without its pictures, for a place where they are not.
    #[must_use]
    pub fn without_pictures(mut self) -> Self {
        self.units.iter_mut().for_each(|unit| unit.picture = None);
        self
    }

    /// Writes `report.json`, `neurons.csv`, `report.md` and a picture of the exemplars of each unit into `folder`.
    /// `images` are those that the exemplars were computed from; only some of them are in memory at once.
    ///
    /// # Errors
    /// What cannot be written, all of it at once, and what reading exemplars and images returns; what can be written is.
    pub fn save(&self, folder: &Path, exemplars: &Held, images: &dyn Images) -> Result<Vec<PathBuf>> {
        let mut written = Written::files(self, folder)?;
        let (known, unknown): (Vec<&UnitId>, Vec<&UnitId>) =
            pictured(self).partition(|id| exemplars.place(id).is_some());
        written.pictures(folder, &unknown, &|_| None);
        let places: Vec<usize> = known.iter().filter_map(|id| exemplars.place(id)).collect();
        let mut draw = |units: &[UnitExemplars], pixels: &BTreeMap<usize, Arc<RgbImage>>| {
            let by_id: BTreeMap<&UnitId, _> = units.iter().map(|unit| (&unit.id, unit)).collect();
            let ids: Vec<&UnitId> = by_id.keys().copied().collect();
            written.pictures(folder, &ids, &|id| {
                let unit = by_id.get(id)?;
                picture::contact_sheet(unit, picture::Framing::Whole, |i| pixels.get(&i).map(|image| image.as_ref()))
            });
            Ok(())
        };
        let mut parts = exemplars.parts(&places, LOADED);
        let drawn = parts.try_for_each(|part| with_pictures(&exemplars.load(part)?.units, images, &mut draw));
        if let Err(error) = drawn {
            written.failed(error);
        }
        written.finish()
    }
}
