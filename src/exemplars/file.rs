//! `exemplars.safetensors`: the finished exemplars, without the images.
//!
//! Arrays of site `S` with `U` units (`K` = k, or the number of images if there are fewer; regions have `B` bytes, one bit
//! per pixel in row order, the first in the highest bit, as `numpy.packbits`):
//!
//! | name | type and shape | what |
//! |---|---|---|
//! | `S.units` | i64 `[U]` | the units' channels |
//! | `S.ids` | i64 `[U, K]` | image numbers, strongest first; -1 where there are fewer |
//! | `S.activations` | f32 `[U, K]` | spatial maxima; 0 where there are fewer |
//! | `S.regions` | u8 `[U, K, B]` | where the upsampled map exceeds the level |
//! | `S.levels`, `S.minima`, `S.maxima` | f32 `[U]` | |
//! | `S.weakest.ids`, `S.random.ids`, … | as above | if asked for |
//! | `S.sketch.*` | | see [`Sketch`](super::Sketch): lengths, codes, counts, zeros |
//! | `S.matrix` | f16 `[images, U]` | spatial maxima, if asked for; rows are the images of `matrix.images` |
//! | `names.numbers`, `names.text`, … | | the exemplars' image numbers, and their names one after the other: name `i` ends at byte `names.ends[i]` |
//!
//! The header's one entry, `tch-audit`, is JSON: sites, sizes, options, fingerprints.

use super::finish::{Finish, List};
use super::names::Names;
use super::options::{Compat, Options};
use super::settings::Settings;
use super::state::State;
use super::store::{self, Stored};
use super::topk::Candidate;
use super::{Exemplar, Exemplars, Maxima, UnitExemplars};
use crate::arrays::{Arrays, File, Opened};
use crate::probe::{Preprocess, Skipped};
use crate::{Error, Region, Result, UnitId};
use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    model: String,
    /// Digest of the images' names and content.
    probe: String,
    images: u64,
    preprocess: Preprocess,
    /// Height and width.
    region: (usize, usize),
    options: Chosen,
    sites: Vec<SiteHeader>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SiteHeader {
    name: String,
    channels: usize,
    units: usize,
    /// Height and width of the maps.
    map: (usize, usize),
}

/// The options that a result depends on. The batch size is not among them: it changes last bits at most, and none where
/// activations are exact.
#[derive(Debug, Serialize, Deserialize)]
struct Chosen {
    k: usize,
    quantile: f64,
    weakest: usize,
    random: usize,
    seed: u64,
    min_distance: usize,
    maxima: bool,
    compat: Compat,
}

impl Chosen {
    fn of(o: &Options) -> Self {
        Self {
            k: o.k,
            quantile: o.quantile,
            weakest: o.weakest,
            random: o.random,
            seed: o.seed,
            min_distance: o.min_distance,
            maxima: o.maxima,
            compat: o.compat,
        }
    }
}

/// The states of a run's passes, one in memory at a time.
pub(super) struct States<'a> {
    pub settings: &'a Settings,
    #[allow(clippy::type_complexity)]
    load: Box<dyn Fn(usize) -> Result<Stored> + 'a>,
    cached: RefCell<Option<(usize, Rc<Stored>)>>,
}

impl<'a> States<'a> {
    pub fn new(settings: &'a Settings, load: impl Fn(usize) -> Result<Stored> + 'a) -> Self {
        Self { settings, load: Box::new(load), cached: RefCell::default() }
    }

    fn get(&self, pass: usize) -> Result<Rc<Stored>> {
        if let Some((number, stored)) = &*self.cached.borrow()
            && *number == pass
        {
            return Ok(Rc::clone(stored));
        }
        // The old one goes before the new one comes.
        *self.cached.borrow_mut() = None;
        let stored = Rc::new((self.load)(pass)?);
        *self.cached.borrow_mut() = Some((pass, Rc::clone(&stored)));
        Ok(stored)
    }

    /// How many images were looked at, and which could not be read.
    pub fn summary(&self) -> Result<(u64, Vec<Skipped>)> {
        let stored = self.get(0)?;
        Ok((stored.state.images, stored.state.skipped.clone()))
    }

    fn region(&self) -> (usize, usize) {
        let preprocess = &self.settings.probe.preprocess;
        self.settings.options.region_size.unwrap_or((preprocess.height, preprocess.width))
    }

    fn finish<'s>(&'s self, stored: &'s Stored) -> Finish<'s> {
        Finish { options: &self.settings.options, names: &stored.names, region: self.region() }
    }
}

/// Writes the finished exemplars, whole or not at all.
pub(super) fn write(path: &Path, states: &States<'_>) -> Result<()> {
    let settings = states.settings;
    let options = &settings.options;
    let (height, width) = states.region();
    let bytes = (height * width).div_ceil(8);
    let mut arrays = Arrays::default();
    let (mut sites, mut names) = (Vec::new(), Names::default());
    let (mut images, mut digest) = (0, String::new());
    for pass in 0..settings.passes.len() {
        let stored = states.get(pass)?;
        let (state, finish) = (&stored.state, states.finish(&stored));
        if state.images == 0 {
            return Err(Error::invalid("probe set", "no readable image", "at least one"));
        }
        (images, digest) = (state.images, state.digest.to_string());
        if options.maxima && pass == 0 {
            let rows: Vec<i64> = state.rows.iter().map(|n| *n as i64).collect();
            arrays.add("matrix.images", Dtype::I64, &[rows.len()], &rows);
        }
        let mut shown = Vec::new();
        for (number, site) in state.sites.iter().enumerate() {
            let (name, units) = (&site.name, site.units.len());
            let numbers: Vec<i64> = site.units.iter().map(|u| *u as i64).collect();
            arrays.add(format!("{name}.units"), Dtype::I64, &[units], &numbers);
            let mut per_unit = |what: &str, values: Vec<f32>| {
                arrays.add(format!("{name}.{what}"), Dtype::F32, &[units], &values);
            };
            per_unit("levels", site.states.iter().map(|s| finish.level(s)).collect());
            per_unit("minima", site.states.iter().map(|s| s.minimum).collect());
            per_unit("maxima", site.states.iter().map(|s| s.maximum).collect());
            let lengths: Vec<usize> = site.states.iter().map(|s| s.sketch.codes.len()).collect();
            store::put_sketches(&mut arrays, name, &lengths, move |read| {
                let stored = states.get(pass)?;
                read(&mut stored.state.sites[number].states.iter().map(|s| &s.sketch));
                Ok(())
            });
            if options.maxima {
                arrays.add(format!("{name}.matrix"), Dtype::F16, &[state.rows.len(), units], &site.maxima);
            }
            for (list, prefix, k) in lists(options, state.images) {
                let (mut ids, mut activations) = (vec![-1i64; units * k], vec![0f32; units * k]);
                for (unit, state) in site.states.iter().enumerate() {
                    for (i, c) in finish.chosen(state, list).into_iter().enumerate().take(k) {
                        ids[unit * k + i] = c.image as i64;
                        activations[unit * k + i] = c.activation;
                        shown.push(c.image);
                    }
                }
                arrays.add(format!("{name}{prefix}.ids"), Dtype::I64, &[units, k], &ids);
                arrays.add(format!("{name}{prefix}.activations"), Dtype::F32, &[units, k], &activations);
                arrays.later(format!("{name}{prefix}.regions"), Dtype::U8, &[units, k, bytes], move || {
                    let stored = states.get(pass)?;
                    Ok(regions(&states.finish(&stored), &stored.state, number, list, k * bytes))
                });
            }
            sites.push(SiteHeader { name: name.clone(), channels: site.channels, units, map: site.map });
        }
        shown.sort_unstable();
        shown.dedup();
        names = names.and(&stored.names.only(shown));
    }
    names.put(&mut arrays);
    let header = Header {
        format: FORMAT,
        model: settings.model.clone(),
        probe: digest,
        images,
        preprocess: settings.probe.preprocess.clone(),
        region: (height, width),
        options: Chosen::of(options),
        sites,
    };
    crate::files::replace_at(path, |part| arrays.write(part, path, &header))
}

/// The lists that are written, what their arrays' names begin with, and how many places each has.
fn lists(options: &Options, images: u64) -> Vec<(List, &'static str, usize)> {
    let most = |k: usize| k.min(images as usize);
    let all = [
        (List::Strongest, "", options.k),
        (List::Weakest, ".weakest", options.weakest),
        (List::Random, ".random", options.random),
    ];
    all.into_iter().filter(|(_, _, k)| *k > 0).map(|(list, prefix, k)| (list, prefix, most(k))).collect()
}

/// The packed regions of one list of one site, `bytes` per unit.
fn regions(finish: &Finish<'_>, state: &State, site: usize, list: List, bytes: usize) -> Vec<u8> {
    let Some(site) = state.sites.get(site) else { return Vec::new() };
    let mut packed = vec![0u8; site.states.len() * bytes];
    packed.par_chunks_mut(bytes.max(1)).zip(&site.states).for_each_init(
        || finish.upsampler(site),
        |upsampler, (room, state)| {
            let level = finish.level(state);
            let of = |c: &Candidate| upsampler.region(&c.map, level).packed();
            let all = finish.chosen(state, list).into_iter().flat_map(of);
            room.iter_mut().zip(all).for_each(|(room, byte)| *room = byte);
        },
    );
    packed
}

impl Exemplars {
    /// Reads the exemplars that a [`Run`](super::Run) or [`merge`](super::merge()) wrote; `path` is the file or the
    /// folder that it is in. Their activation maps are not kept in the file.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] for a file that is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Exemplars> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(super::FILE) } else { path.to_path_buf() };
        let file = File::read(&path)?;
        let (arrays, header) = file.open::<Header>("an exemplars.safetensors that `tch-audit exemplars` wrote")?;
        if header.format != FORMAT {
            return Err(arrays.wrong(format!("format {}", header.format), format!("format {FORMAT}")));
        }
        header.preprocess.validate()?;
        let c = &header.options;
        let options = Options {
            k: c.k,
            quantile: c.quantile,
            weakest: c.weakest,
            random: c.random,
            seed: c.seed,
            min_distance: c.min_distance,
            maxima: c.maxima,
            compat: c.compat,
            region_size: Some(header.region),
            ..Options::default()
        };
        options.validate()?;
        let mut maxima = None;
        if options.maxima {
            let images: Vec<i64> = arrays.all("matrix.images", Dtype::I64)?;
            maxima = Some(Maxima { images: images.into_iter().map(|n| n as usize).collect(), sites: Vec::new() });
        }
        let mut units = Vec::new();
        for site in &header.sites {
            units.extend(read_site(&arrays, site, &options, &header)?);
            if let Some(maxima) = &mut maxima {
                let count = maxima.images.len().saturating_mul(site.units);
                let values: Vec<f16> = arrays.get(&format!("{}.matrix", site.name), Dtype::F16, count)?;
                maxima.sites.push((site.name.clone(), values));
            }
        }
        let images = header.images as usize;
        let names = Names::get(&arrays)?.to_map();
        Ok(Exemplars { preprocess: header.preprocess, options, images, units, names, maxima })
    }
}

fn read_site(arrays: &Opened<'_>, site: &SiteHeader, options: &Options, header: &Header) -> Result<Vec<UnitExemplars>> {
    let (name, count) = (&site.name, site.units);
    let numbers: Vec<i64> = arrays.get(&format!("{name}.units"), Dtype::I64, count)?;
    let of = |what: &str| arrays.get::<f32>(&format!("{name}.{what}"), Dtype::F32, count);
    let (levels, minima, maxima) = (of("levels")?, of("minima")?, of("maxima")?);
    let sketches = store::get_sketches(arrays, name, count)?;
    let mut units: Vec<UnitExemplars> = Vec::with_capacity(count);
    for (i, sketch) in sketches.into_iter().enumerate() {
        let unit = numbers[i];
        if unit < 0 || unit >= site.channels as i64 {
            return Err(arrays.wrong(format!("unit {unit} of site `{name}`"), format!("0 to {}", site.channels)));
        }
        units.push(UnitExemplars {
            id: UnitId::new(name, unit as usize),
            level: levels[i],
            minimum: minima[i],
            maximum: maxima[i],
            dead: minima[i] >= maxima[i],
            top: Vec::new(),
            weakest: Vec::new(),
            random: Vec::new(),
            sketch,
        });
    }
    let (height, width) = header.region;
    let bytes = (height * width).div_ceil(8);
    for (list, prefix, k) in lists(options, header.images) {
        let total = count.saturating_mul(k);
        let ids: Vec<i64> = arrays.get(&format!("{name}{prefix}.ids"), Dtype::I64, total)?;
        let activations: Vec<f32> = arrays.get(&format!("{name}{prefix}.activations"), Dtype::F32, total)?;
        let regions: Vec<u8> =
            arrays.get(&format!("{name}{prefix}.regions"), Dtype::U8, total.saturating_mul(bytes))?;
        for (i, ((id, activation), packed)) in ids.iter().zip(activations).zip(regions.chunks(bytes.max(1))).enumerate()
        {
            let Ok(image) = usize::try_from(*id) else { continue };
            let Some(region) = Region::unpack(height, width, packed) else { continue };
            let exemplar = Exemplar { image, activation, map: Vec::new(), region };
            if let Some(unit) = units.get_mut(i / k.max(1)) {
                match list {
                    List::Strongest => unit.top.push(exemplar),
                    List::Weakest => unit.weakest.push(exemplar),
                    List::Random => unit.random.push(exemplar),
                }
            }
        }
    }
    Ok(units)
}
