//! Per unit: the images that excite it most, its level, and the regions it responds to.
//!
//! One pass over the probe images serves all sites. What is kept in memory does not grow with the number of images. In
//! memory: [`Exemplars::compute`]. On disk, for what takes hours, several machines, or more memory than there is: a [`Run`]
//! can stop, go on and be cut into [shards](Shard), and gives one `exemplars.safetensors`, which is read whole
//! ([`Exemplars::load`]) or in parts ([`Stored`]). Whoever takes either takes [`Held`]. Each has the [`Summaries`] of every unit on every image.

mod estimate;
mod file;
mod finish;
mod header;
mod held;
mod kernel;
pub(crate) mod mask;
mod merge;
mod names;
mod npy;
mod options;
mod passes;
mod pictures;
mod run;
mod settings;
mod shard;
mod sketch;
mod state;
mod store;
mod stored;
mod summaries;
mod tape;
mod tensor;
mod topk;

pub use estimate::{Estimate, Part, estimate};
pub use held::Held;
pub use merge::merge;
pub use npy::{export_npy, import_npy};
pub use options::{Compat, Options};
pub(crate) use pictures::with_pictures;
pub use run::{Done, Run};
pub use shard::Shard;
pub use sketch::Sketch;
pub use stored::{FILE, Stored, StoredSite};
pub use summaries::Summaries;

use crate::graph::{Site, Traced};
use crate::probe::{Images, Preprocess};
use crate::{Error, Region, Result, UnitId};
use passes::Passes;
use serde::{Deserialize, Serialize};
use settings::SiteRef;
use state::State;
use std::collections::BTreeMap;
use std::sync::Arc;
use tape::{Place, Tape};

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
    /// The images with the smallest spatial maximum, weakest first; empty unless [asked for](Options::weakest).
    pub weakest: Vec<Exemplar>,
    /// Images drawn at random; empty unless [asked for](Options::random).
    pub random: Vec<Exemplar>,
    /// How the activations are distributed, over all positions of all images.
    pub sketch: Sketch,
}

/// One image, and what a unit does on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// The image's number in the probe set, from 0.
    pub image: usize,
    /// The largest activation on this image.
    pub activation: f32,
    /// The activation map, `height x width` of the site, in row order; empty unless [asked for](Options::maps).
    pub map: Vec<f32>,
    /// The pixels of the image where the upsampled map exceeds the unit's level; `0 x 0` in an
    /// [outline](Held::outline).
    pub region: Region,
}

/// An image that is an exemplar of some unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRef {
    /// Its name in the probe set.
    pub name: String,
    /// Its class, if the probe set has classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
}

/// The exemplars of units of some sites.
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
    /// The images that are exemplars, by number.
    pub names: BTreeMap<usize, ImageRef>,
    /// The spatial maximum and mean of every unit on every image; of all units, also where `units` are some of them.
    pub summaries: Summaries,
}

impl Exemplars {
    /// Runs `model` over all images of `source` and keeps, for every unit of `sites`, what excites it: one pass, or
    /// several if [`Options::budget`] is too small for one.
    ///
    /// Activations of half precision are read exactly, those of double precision rounded to single.
    ///
    /// **Source:** Bau et al., Network Dissection, 2017, arXiv 1704.05796; Hernandez et al. 2022, arXiv 2201.11114.
    /// Differs: one pass for all sites instead of two per site; the level is read from a [`Sketch`] instead of a random
    /// sample; what [`Compat::Fixed`] mends.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense or an empty probe set; [`Error::NonFinite`] for an activation
    /// that is NaN or infinite; what reading the images and the forward pass return.
    pub fn compute(traced: &Traced<'_>, sites: &[Site], source: &dyn Images, options: &Options) -> Result<Exemplars> {
        let plan = estimate(sites, source, options)?;
        let place = Place::new(plan.summaries, summaries::ROOM)?;
        let passes = Passes { traced, source, options };
        let bar = crate::progress::bar("exemplars", source.len() * plan.passes.len());
        let (preprocess, options) = (source.preprocess().clone(), options.clone());
        let (images, units, names, summaries) = (0, Vec::new(), BTreeMap::new(), Summaries::default());
        let mut exemplars = Exemplars { preprocess, options, images, units, names, summaries };
        let mut end = 0;
        for parts in plan.passes {
            let begun = settings::begin(&SiteRef::all(sites), &parts, &exemplars.options)?.unwrap_or_default();
            let mut state = State::new(begun, Tape::new(Arc::clone(&place), end));
            passes.run(sites, &mut state, 0..passes.batches(), &bar, |_, _| Ok(()))?;
            if state.rows.len() == 0 {
                return Err(Error::invalid("probe set", "no readable image", "at least one"));
            }
            end = state.tape.end();
            exemplars.images = state.rows.len() as usize;
            exemplars.summaries.extend(state.summaries());
            let names = passes.names(&state);
            let finish = passes.finish(&names);
            exemplars.units.extend(state.sites.into_iter().flat_map(|site| finish.units(site)));
            exemplars.names.extend(names.to_map());
        }
        bar.finish_and_clear();
        Ok(exemplars)
    }

    /// Whether `source` has the images of these exemplars, under the same numbers and names.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first that it has not.
    pub fn belong_to(&self, source: &dyn Images) -> Result<()> {
        for (&number, image) in &self.names {
            let name = (number < source.len()).then(|| source.name(number));
            if name.as_deref() != Some(image.name.as_str()) {
                let received =
                    name.map_or_else(|| format!("{} images", source.len()), |n| format!("`{n}` as image {number}"));
                return Err(Error::invalid("probe set of the exemplars", received, format!("`{}`", image.name)));
            }
        }
        Ok(())
    }

    /// The units of one site.
    pub fn of_site<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a UnitExemplars> {
        self.units.iter().filter(move |u| u.id.site == site)
    }
}

/// The pixels of an image of `(height, width)` where an activation map of `(rows, columns)`, in row order, exceeds `level`
/// after bilinear upsampling: how the regions of exemplars are made.
///
/// # Errors
/// [`Error::Shape`] unless the map has `rows x columns` values, at least one; [`Error::Invalid`] for an image without pixels.
pub fn region(map: &[f32], size: (usize, usize), level: f32, image: (usize, usize), compat: Compat) -> Result<Region> {
    if map.is_empty() || size.0.checked_mul(size.1) != Some(map.len()) {
        let expected = format!("[{}, {}], not empty", size.0, size.1);
        return Err(Error::Shape { what: "activation map".into(), received: vec![map.len() as i64], expected });
    }
    if image.0 == 0 || image.1 == 0 {
        return Err(Error::invalid("size of a region", format!("{}x{}", image.0, image.1), "1x1 or more"));
    }
    Ok(mask::Upsampler::new(size, image, compat).region(map, level))
}
