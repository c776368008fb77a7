//! From an audit to a report, and from a report to a folder: only copying, no judgement.

use super::files::{Written, pictured};
use super::{ModelAccuracy, ModelInfo, Origin, ProbeInfo, Report, Run, Settings, SiteInfo, Stage, UnitEntry, picture};
use crate::audit::{self, Audit};
use crate::describe::DescribedUnit;
use crate::exemplars::{Exemplars, UnitExemplars, with_pictures};
use crate::probe::Images;
use crate::{Error, Model, Result, UnitId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

impl Report {
    /// The report of an audit of the model called `name`; to be [judged](Self::judge), completed with edit and history,
    /// then [finished](Self::finish).
    pub fn of(audit: &Audit, name: &str, model: &Model<'_>, images: &dyn Images, settings: &audit::Settings) -> Self {
        let units = audit.exemplars.units.iter().zip(&audit.units).map(|(exemplars, described)| {
            let entry = UnitEntry::new(exemplars, described.description.clone(), |i| images.name(i).into_owned());
            if exemplars.top.is_empty() { entry } else { entry.with_picture() }
        });
        let stage = |(name, seconds): &(&str, f64)| Stage { name: name.to_string(), seconds: *seconds };
        Report {
            model: ModelInfo {
                name: name.to_string(),
                parameters: model.parameter_count(),
                sites: audit.sites.iter().map(SiteInfo::from).collect(),
            },
            probe: ProbeInfo::from(images),
            settings: Settings {
                k: settings.exemplars.k,
                quantile: settings.exemplars.quantile,
                seed: settings.concepts.seed,
                sites: settings.sites.clone(),
                describer: audit.describer.clone(),
                sayings: audit.sayings.clone(),
            },
            accuracy: audit.accuracy.map(|a| ModelAccuracy::new(a, images.classes().len())),
            units: units.collect(),
            run: Run {
                date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                stages: audit.seconds.iter().map(stage).collect(),
            },
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

    /// What policies judge: every unit with its description.
    pub fn described_units(&self) -> Vec<DescribedUnit> {
        let unit = |u: &UnitEntry| DescribedUnit { id: u.id.clone(), description: u.description.clone() };
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
    /// What cannot be written, all of it at once, and what reading the images returns; what can be written is.
    pub fn save(&self, folder: &Path, exemplars: &Exemplars, images: &dyn Images) -> Result<Vec<PathBuf>> {
        let mut written = Written::files(self, folder)?;
        let by_id: BTreeMap<&UnitId, &UnitExemplars> = exemplars.units.iter().map(|u| (&u.id, u)).collect();
        let (known, unknown): (Vec<&UnitId>, Vec<&UnitId>) = pictured(self).partition(|id| by_id.contains_key(id));
        written.pictures(folder, &unknown, &|_| None);
        let units: Vec<&UnitExemplars> = known.iter().filter_map(|id| by_id.get(id).copied()).collect();
        let drawn = with_pictures(&units, images, |units, pixels| {
            let ids: Vec<&UnitId> = units.iter().map(|u| &u.id).collect();
            written.pictures(folder, &ids, &|id| {
                let unit = by_id.get(id)?;
                picture::contact_sheet(unit, picture::Framing::Whole, |i| pixels.get(&i).map(|image| image.as_ref()))
            });
            Ok(())
        });
        if let Err(error) = drawn {
            written.failed(error);
        }
        written.finish()
    }
}

/// Makes `folder` if need be and checks that files can be made in it: better now than after minutes of work.
///
/// # Errors
/// [`Error::Io`] with the folder.
pub fn check_writable(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    tempfile::tempfile_in(folder).map(drop).map_err(Error::io("write to", folder))
}
