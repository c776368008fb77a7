//! The exemplars of many units, with no more of them in memory than is allowed.

use super::estimate::{estimate, held_bytes};
use super::{Exemplar, Exemplars, Options, Run, Sketch, Stored, UnitExemplars};
use crate::graph::{Site, Traced};
use crate::probe::{Images, Skipped};
use crate::{Error, Region, Result, UnitId};
use std::collections::HashMap;
use tempfile::TempDir;

/// The exemplars of units: an [outline](Self::outline) of each in memory; all of it in memory as well, or in a file, from
/// which it is [loaded](Self::load) a part at a time.
///
/// A unit's *place* is its place in [`units`](Self::units).
#[derive(Debug)]
pub struct Held {
    outline: Exemplars,
    whole: Whole,
    places: HashMap<UnitId, usize>,
}

#[derive(Debug)]
enum Whole {
    Memory(Vec<UnitExemplars>),
    File {
        stored: Box<Stored>,
        /// The folder it is in, if that goes when this goes.
        _folder: Option<TempDir>,
    },
}

impl From<Exemplars> for Held {
    /// All of it stays in memory.
    fn from(mut exemplars: Exemplars) -> Self {
        let outlines = exemplars.units.iter().map(outline_of).collect();
        let units = std::mem::replace(&mut exemplars.units, outlines);
        Self::new(exemplars, Whole::Memory(units))
    }
}

impl TryFrom<Stored> for Held {
    type Error = Error;

    /// All but the outline stays in the file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for arrays that make no sense.
    fn try_from(stored: Stored) -> Result<Self> {
        Ok(Self::new(stored.outline()?, Whole::File { stored: Box::new(stored), _folder: None }))
    }
}

impl Held {
    fn new(outline: Exemplars, whole: Whole) -> Self {
        let places = outline.units.iter().enumerate().map(|(place, unit)| (unit.id.clone(), place)).collect();
        Self { outline, whole, places }
    }

    /// [Computes](Exemplars::compute) exemplars. They stay in memory where that takes at most so many bytes; else they are
    /// in a temporary file, as a [`Run`] leaves it.
    ///
    /// # Errors
    /// As [`Exemplars::compute`]; [`Error::Io`] when the temporary file cannot be written.
    pub fn compute(
        traced: &Traced<'_>,
        sites: &[Site],
        source: &dyn Images,
        options: &Options,
        memory: u64,
    ) -> Result<Self> {
        if estimate(sites, source, options)?.held <= memory {
            return Ok(Exemplars::compute(traced, sites, source, options)?.into());
        }
        let temporary = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix("tch-audit-").tempdir_in(&temporary);
        let folder = folder.map_err(Error::io("write to", &temporary))?;
        Run::new(traced, sites, source, options)?.write(folder.path())?;
        let stored = Stored::open(folder.path())?;
        Ok(Self::new(stored.outline()?, Whole::File { stored: Box::new(stored), _folder: Some(folder) }))
    }

    /// Every unit with its level, its extremes, and number and activation of its exemplars; without regions (they are
    /// `0 x 0`), maps and sketches.
    pub fn outline(&self) -> &Exemplars {
        &self.outline
    }

    /// The units of the [outline](Self::outline).
    pub fn units(&self) -> &[UnitExemplars] {
        &self.outline.units
    }

    /// Where a unit is; `None` for one that is not here.
    pub fn place(&self, unit: &UnitId) -> Option<usize> {
        self.places.get(unit).copied()
    }

    /// All about the units at some places, in their order; places that there are not are left out.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for arrays that make no sense.
    pub fn load(&self, places: &[usize]) -> Result<Exemplars> {
        let units = match &self.whole {
            Whole::Memory(units) => places.iter().filter_map(|place| units.get(*place).cloned()).collect(),
            Whole::File { stored, .. } => stored.units_at(places)?,
        };
        Ok(Exemplars {
            preprocess: self.outline.preprocess.clone(),
            options: self.outline.options.clone(),
            images: self.outline.images,
            units,
            names: self.outline.names.clone(),
            summaries: self.outline.summaries.clone(),
        })
    }

    /// All about one unit; `None` for one that is not here.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn unit(&self, unit: &UnitId) -> Result<Option<UnitExemplars>> {
        let Some(place) = self.place(unit) else { return Ok(None) };
        match &self.whole {
            Whole::Memory(units) => Ok(units.get(place).cloned()),
            Whole::File { stored, .. } => Ok(stored.units_at(&[place])?.pop()),
        }
    }

    /// Which of `images`, those of these exemplars, were not looked at, and why.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an image that can be read now.
    pub fn left_out(&self, images: &dyn Images) -> Result<Vec<Skipped>> {
        let mut seen = self.outline.summaries.images().iter().copied().peekable();
        let unseen = (0..images.len()).filter(|i| seen.next_if_eq(i).is_none());
        let why = |i| match images.image(i) {
            Err(Error::Image { path, reason }) => Ok(Skipped { path, reason }),
            Err(error) => Err(error),
            Ok(_) => {
                let received = format!("no activations on `{}`, which can be read", images.name(i));
                Err(Error::invalid("exemplars", received, "those of all images that can be read"))
            }
        };
        unseen.map(why).collect()
    }

    /// These places in parts of which each [loads](Self::load) into so many bytes, as far as one unit does.
    pub fn parts<'p>(&self, places: &'p [usize], memory: u64) -> impl Iterator<Item = &'p [usize]> + use<'p> {
        let Exemplars { options, preprocess, images, .. } = &self.outline;
        let each = held_bytes(options, options.region(preprocess), *images as u64, (0, 0));
        places.chunks(usize::try_from(memory / each.max(1)).unwrap_or(usize::MAX).max(1))
    }

    /// Digest of the images' names and content, where it was written down.
    pub(crate) fn digest(&self) -> Option<&str> {
        match &self.whole {
            Whole::Memory(_) => None,
            Whole::File { stored, .. } => Some(stored.probe()),
        }
    }
}

fn outline_of(unit: &UnitExemplars) -> UnitExemplars {
    let slim = |list: &[Exemplar]| list.iter().map(slim).collect();
    let (top, weakest, random) = (slim(&unit.top), slim(&unit.weakest), slim(&unit.random));
    UnitExemplars { id: unit.id.clone(), top, weakest, random, sketch: Sketch::default(), ..*unit }
}

fn slim(exemplar: &Exemplar) -> Exemplar {
    Exemplar { map: Vec::new(), region: Region::empty(0, 0), ..*exemplar }
}
