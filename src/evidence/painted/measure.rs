//! The forward passes: what units do on images with and without every concept.

use super::overlap::Overlap;
use crate::exemplars::{self, Compat, UnitExemplars, mask::Upsampler};
use crate::graph::{Site, Traced};
use crate::hook::ffi;
use crate::probe::paint::{Concept, Painted};
use crate::probe::{Probe, image_tensor};
use crate::{Error, Region, Result};
use image::RgbImage;
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

/// Images of one batch, as they go into the model.
struct Batch {
    images: Vec<RgbImage>,
    /// Where the concept is, and how many pixels that are; none without paint.
    regions: Vec<(Region, u64)>,
    /// The number of the first image.
    first: usize,
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
            for paint in std::iter::once(None).chain(paints.iter().copied().map(Some)) {
                states.iter_mut().flatten().for_each(|w| w.begin(paint.is_some()));
                for first in (0..self.images.len()).step_by(self.batch_size) {
                    let batch = self.batch(first, paint);
                    self.pass(&sites, &batch, paint, &mut states)?;
                    bar.inc(batch.images.len() as u64);
                }
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

    fn batch(&self, first: usize, paint: Option<&Concept>) -> Batch {
        let numbers = first..(first + self.batch_size).min(self.images.len());
        let Some(concept) = paint else {
            let images = numbers.map(|i| self.images.image(i).clone()).collect();
            return Batch { images, regions: Vec::new(), first };
        };
        let (probe, seed) = (self.images, self.seed);
        let painted: Vec<Painted> =
            numbers.into_par_iter().map(|i| concept.paint(probe.image(i), image_seed(seed, i))).collect();
        let (images, regions) = painted.into_iter().map(|p| (p.image, (p.region.area(), p.region))).unzip();
        let regions: Vec<(u64, Region)> = regions;
        Batch { images, regions: regions.into_iter().map(|(area, region)| (region, area)).collect(), first }
    }

    fn pass(&self, sites: &[Site], batch: &Batch, paint: Option<&Concept>, states: &mut [Vec<Watched>]) -> Result<()> {
        let input = image_tensor(&batch.images, self.images.preprocess())?;
        let _ = self.traced.read(sites, &input, |i, activation| {
            let (Some(site), Some(watched)) = (sites.get(i), states.get_mut(i)) else { return Ok(()) };
            let maps = exemplars::floats(site, activation)?;
            let size = maps.size();
            let map = (size[2] as usize, size[3] as usize);
            let bad = ffi::with_floats(&maps, |a| scan(a, site.units, map, batch, watched));
            match bad {
                Some(None) => Ok(()),
                Some(Some((image, unit, value))) => {
                    let name = self.images.name(image);
                    let image = paint.map_or_else(|| name.to_string(), |c| format!("{name} (painted: {})", c.name()));
                    Err(Error::NonFinite { site: site.name.clone(), unit, image, value })
                }
                None => Err(Error::Torch {
                    during: format!("reading site `{}`", site.name),
                    message: "the activation could not be made contiguous".to_string(),
                }),
            }
        })?;
        Ok(())
    }
}

/// Every image has its own randomness, whatever the batch size.
fn image_seed(seed: u64, image: usize) -> u64 {
    fastrand::Rng::with_seed(seed ^ (image as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).u64(..)
}

impl Watched {
    /// Makes room for the next set of images.
    fn begin(&mut self, painted: bool) {
        if painted {
            self.response.painted.push((Vec::with_capacity(self.response.clean.len()), Overlap::default()));
        }
    }
}

/// Reads a batch of activations, `[images, units, map]`, into the watched units. Each unit is read by one thread, so that
/// the result does not depend on their number. Returns the first (by image, then unit) value that is not finite.
fn scan(
    activations: &[f32],
    units: usize,
    map: (usize, usize),
    batch: &Batch,
    watched: &mut [Watched],
) -> Option<(usize, usize, f32)> {
    let positions = map.0 * map.1;
    let first = batch.images.first()?;
    if positions == 0 || units == 0 {
        return None;
    }
    let upsampler = Upsampler::new(map, (first.height() as usize, first.width() as usize), Compat::Fixed);
    watched
        .par_iter_mut()
        .map_init(
            || upsampler.clone(),
            |upsampler, state| {
                let planes = activations.chunks_exact(positions).skip(state.unit).step_by(units);
                for (image, plane) in planes.enumerate() {
                    if let Some(&value) = plane.iter().find(|x| !x.is_finite()) {
                        return Some((batch.first + image, state.unit, value));
                    }
                    let peak = plane.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
                    match (batch.regions.get(image), state.response.painted.last_mut()) {
                        (Some((region, area)), Some((maxima, overlap))) => {
                            maxima.push(peak);
                            overlap.add_upsampled(upsampler, plane, state.level, region, *area);
                        }
                        _ => state.response.clean.push(peak),
                    }
                }
                None
            },
        )
        .flatten()
        .min_by_key(|(image, unit, _)| (*image, *unit))
}
