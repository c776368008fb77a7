//! The forward passes: what units do on images with and without every concept.

use super::overlap::Overlap;
use crate::exemplars::{Compat, UnitExemplars, mask::Upsampler};
use crate::graph::{Site, Traced};
use crate::pass::{self, Bad, Maps, Planes, Visitor, sweep};
use crate::probe::paint::Concept;
use crate::probe::{Batch, Images, PaintedImages, Probe};
use crate::progress::Bar;
use crate::{Error, Region, Result};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What one unit did.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Response {
    /// Spatial maximum per image, without paint.
    pub clean: Vec<f32>,
    /// Per paint: spatial maximum per image, and the overlap with the painted regions.
    pub painted: Vec<(Vec<f32>, Overlap)>,
}

/// Everything that the passes need.
pub(super) struct Passes<'a, 'm> {
    pub traced: &'a Traced<'m>,
    /// The images to be painted.
    pub images: &'a Probe,
    pub batch_size: usize,
    pub seed: u64,
}

/// A unit that is looked at, with what is gathered about it.
struct Watched {
    /// Its place in the result.
    place: usize,
    unit: usize,
    level: f32,
    response: Response,
}

impl Passes<'_, '_> {
    /// One response per unit, in their order; `None` for dead units, which are not looked at.
    pub fn run(&self, units: &[&UnitExemplars], paints: &[&Concept]) -> Result<Vec<Option<Response>>> {
        let (sites, mut states): (Vec<Site>, Vec<Vec<Watched>>) = self.watched(units)?.into_iter().unzip();
        if !sites.is_empty() {
            let bar = crate::progress::bar("concepts", self.images.len() * (paints.len() + 1));
            let numbers: Vec<usize> = (0..self.images.len()).collect();
            for paint in std::iter::once(None).chain(paints.iter().copied().map(Some)) {
                states.iter_mut().flatten().for_each(|w| w.begin(paint.is_some()));
                let painted = paint.map(|p| PaintedImages::new(self.images, p.clone(), self.seed));
                let images: &dyn Images = painted.as_ref().map_or(self.images, |p| p);
                let mut measuring = Measuring { states: &mut states, bar: &bar };
                pass::run(self.traced, &sites, images, &numbers, self.batch_size, &mut measuring)?;
            }
            bar.finish_and_clear();
        }
        let mut responses: Vec<Option<Response>> = vec![None; units.len()];
        for watched in states.into_iter().flatten() {
            if let Some(slot) = responses.get_mut(watched.place) {
                *slot = Some(watched.response);
            }
        }
        Ok(responses)
    }

    /// The live units by site.
    fn watched(&self, units: &[&UnitExemplars]) -> Result<Vec<(Site, Vec<Watched>)>> {
        let mut watched: BTreeMap<&str, (Site, Vec<Watched>)> = BTreeMap::new();
        for (place, unit) in units.iter().enumerate() {
            let name = unit.id.site.as_str();
            let site = self.traced.site(name)?;
            if unit.id.unit >= site.units {
                let allowed = format!("below {}", site.units);
                return Err(Error::invalid(format!("unit of site `{name}`"), unit.id.unit, allowed));
            }
            if !unit.dead {
                let response = Response { clean: Vec::with_capacity(self.images.len()), painted: Vec::new() };
                let state = Watched { place, unit: unit.id.unit, level: unit.level, response };
                watched.entry(name).or_insert_with(|| (site.clone(), Vec::new())).1.push(state);
            }
        }
        Ok(watched.into_values().collect())
    }
}

impl Watched {
    /// Makes room for the next set of images.
    fn begin(&mut self, painted: bool) {
        if painted {
            self.response.painted.push((Vec::with_capacity(self.response.clean.len()), Overlap::default()));
        }
    }
}

/// Takes in batch after batch.
struct Measuring<'s> {
    /// Per site.
    states: &'s mut [Vec<Watched>],
    bar: &'s Bar,
}

impl Visitor for Measuring<'_> {
    fn visit(&mut self, site: usize, maps: &Maps, batch: &Batch) -> Result<Result<(), Bad>> {
        let Some(watched) = self.states.get_mut(site) else { return Ok(Ok(())) };
        maps.lend(|planes| scan(planes, maps.size, &batch.regions, batch.numbers.len(), watched))
    }

    fn end(&mut self, batch: &Batch) -> Result<()> {
        self.bar.inc(batch.asked as u64);
        Ok(())
    }
}

/// Reads the maps of a batch, of this size, into the watched units; `painted` is where the images are, one each, or empty.
/// Each unit is read by one thread, so that the result does not depend on their number.
fn scan(
    planes: Planes<'_>,
    map: (usize, usize),
    painted: &[Region],
    images: usize,
    watched: &mut [Watched],
) -> Result<(), Bad> {
    let areas: Vec<u64> = painted.iter().map(Region::area).collect();
    let upsampler = painted.first().map(|r| Upsampler::new(map, (r.height(), r.width()), Compat::Fixed));
    let bad = watched
        .par_iter_mut()
        .map_init(
            || upsampler.clone(),
            |upsampler, state| {
                for image in 0..images {
                    let plane = planes.plane(image, state.unit);
                    let peak = match sweep(plane) {
                        Ok(seen) => seen.most,
                        Err(value) => return Some(Bad { image, unit: state.unit, value }),
                    };
                    let overlap = (painted.get(image), areas.get(image), upsampler.as_mut());
                    match (overlap, state.response.painted.last_mut()) {
                        ((Some(region), Some(area), Some(upsampler)), Some((maxima, overlap))) => {
                            maxima.push(peak);
                            overlap.add_upsampled(upsampler, plane, state.level, region, *area);
                        }
                        _ => state.response.clean.push(peak),
                    }
                }
                None
            },
        )
        .reduce(|| None, Bad::first);
    bad.map_or(Ok(()), Err)
}
