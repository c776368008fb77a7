//! Per unit: the images that excite it most, its level, and the regions it responds to.
//!
//! One pass over the probe images serves all sites. What is kept does not grow with the number of images.

pub(crate) mod kernel;
pub(crate) mod mask;
mod sketch;
mod topk;

use crate::graph::{Graph, Site};
use crate::hook::ffi;
use crate::probe::{Preprocess, Probe};
use crate::{Error, Model, Region, Result, UnitId};
use kernel::UnitState;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How exemplars are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// Images per unit.
    pub k: usize,
    /// The quantile, over all positions of all images, at which a unit counts as active: 0 to 1, exclusive.
    pub quantile: f64,
    /// Images per forward pass. Part of the result: other batch sizes give other last bits.
    pub batch_size: usize,
}

impl Default for Options {
    /// 15 images at level 0.99 as in MILAN; batches of 64.
    fn default() -> Self {
        Self { k: 15, quantile: 0.99, batch_size: 64 }
    }
}

impl Options {
    fn validate(&self) -> Result<()> {
        if self.k == 0 {
            return Err(Error::invalid("k (images per unit)", self.k, "1 or more"));
        }
        if !(self.quantile > 0.0 && self.quantile < 1.0) {
            return Err(Error::invalid("quantile", self.quantile, "a number between 0 and 1, both excluded"));
        }
        if self.batch_size == 0 {
            return Err(Error::invalid("batch size", self.batch_size, "1 or more"));
        }
        Ok(())
    }
}

/// What one unit responds to, over all probe images.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitExemplars {
    /// Which unit.
    pub id: UnitId,
    /// The activation at the quantile (0.99) over all positions of all images.
    pub level: f32,
    /// The smallest activation anywhere.
    pub minimum: f32,
    /// The largest activation anywhere.
    pub maximum: f32,
    /// Whether the activation never changes: nothing can be said about such a unit.
    pub dead: bool,
    /// The images with the largest spatial maximum, strongest first, ties by smaller image number; empty when dead.
    pub top: Vec<Exemplar>,
}

/// One image that excites a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The image's number in the probe set, from 0.
    pub image: usize,
    /// The largest activation on this image.
    pub activation: f32,
    /// The activation map, `height x width` of the site, in row order.
    pub map: Vec<f32>,
    /// The pixels of the image where the upsampled map exceeds the unit's level.
    pub region: Region,
}

/// The exemplars of all units of some sites.
#[derive(Debug, Clone)]
pub struct Exemplars {
    /// How the images became inputs.
    pub preprocess: Preprocess,
    /// How the exemplars were chosen.
    pub options: Options,
    /// How many images were looked at.
    pub images: usize,
    /// The units, site by site in the order of the sites, then by number.
    pub units: Vec<UnitExemplars>,
}

impl Exemplars {
    /// Runs `model` once over all images of `probe` and keeps, for every unit of `sites`, what excites it.
    ///
    /// **Source:** Bau et al., Network Dissection, 2017, arXiv 1704.05796; Hernandez et al. 2022, arXiv 2201.11114.
    /// Differs: one pass for all sites instead of two per site; regions at the border are kept (see `Exemplar::region`);
    /// units that never vary are marked dead instead of being given arbitrary images.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense or an empty probe set; [`Error::NonFinite`] for an activation
    /// that is NaN or infinite; what the forward pass returns.
    pub fn compute(
        model: &Model<'_>,
        graph: &Graph,
        sites: &[Site],
        probe: &Probe,
        options: &Options,
    ) -> Result<Exemplars> {
        options.validate()?;
        if probe.is_empty() {
            return Err(Error::invalid("probe set", "no image", "at least one image"));
        }
        let mut states: Vec<Vec<UnitState>> =
            sites.iter().map(|s| (0..s.units).map(|_| UnitState::new(options.k)).collect()).collect();
        let mut sizes = vec![(1, 1); sites.len()];
        let bar = crate::progress::bar("exemplars", probe.len());
        for start in (0..probe.len()).step_by(options.batch_size) {
            let end = (start + options.batch_size).min(probe.len());
            let input = probe.tensor(start..end)?;
            let _ = graph.read(model, sites, &input, |i, activation| {
                let maps = floats(&sites[i], activation)?;
                let size = maps.size();
                sizes[i] = (size[2] as usize, size[3] as usize);
                let positions = sizes[i].0 * sizes[i].1;
                match ffi::with_floats(&maps, |a| kernel::scan(a, positions, start, &mut states[i])) {
                    Some(Ok(())) => Ok(()),
                    Some(Err(bad)) => Err(Error::NonFinite {
                        site: sites[i].name.clone(),
                        unit: bad.unit,
                        image: probe.name(start + bad.image).to_string(),
                        value: bad.value,
                    }),
                    None => Err(Error::Torch {
                        during: format!("reading site `{}`", sites[i].name),
                        message: "the activation could not be made contiguous".to_string(),
                    }),
                }
            })?;
            bar.inc((end - start) as u64);
        }
        bar.finish_and_clear();
        let preprocess = probe.preprocess().clone();
        let mut units = Vec::new();
        for ((site, states), size) in sites.iter().zip(states).zip(sizes) {
            for (unit, state) in states.into_iter().enumerate() {
                units.push(finish(UnitId::new(&site.name, unit), state, size, options.quantile, &preprocess));
            }
        }
        Ok(Exemplars { preprocess, options: options.clone(), images: probe.len(), units })
    }

    /// The units of one site.
    pub fn of_site<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a UnitExemplars> {
        self.units.iter().filter(move |u| u.id.site == site)
    }
}

/// A site's activation as contiguous CPU maps `[N, C, H, W]` of `f32`.
pub(crate) fn floats(site: &Site, activation: &Tensor) -> Result<Tensor> {
    site.maps(activation)?
        .f_to_device(Device::Cpu)
        .and_then(|m| m.f_to_kind(Kind::Float))
        .and_then(|m| m.f_contiguous())
        .map_err(Error::torch(format!("reading site `{}`", site.name)))
}

fn finish(id: UnitId, state: UnitState, map: (usize, usize), quantile: f64, image: &Preprocess) -> UnitExemplars {
    let dead = state.minimum >= state.maximum;
    let level = state.sketch.quantile(quantile).clamp(state.minimum, state.maximum);
    let best = if dead { Vec::new() } else { state.top.into_best() };
    let top = best
        .into_iter()
        .map(|c| Exemplar {
            image: c.image,
            activation: c.activation,
            region: mask::region(&c.map, map.0, map.1, level, image.height, image.width),
            map: c.map,
        })
        .collect();
    UnitExemplars { id, level, minimum: state.minimum, maximum: state.maximum, dead, top }
}
