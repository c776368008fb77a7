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
//! | `S.summary.max`, `S.summary.mean` | f32 `[U, images]` | spatial maxima and means; columns are the images of `summary.images` |
//! | `summary.images` | i64 `[images]` | image numbers, ascending |
//! | `names.numbers`, `names.text`, … | | the exemplars' image numbers, and their names one after the other: name `i` ends at byte `names.ends[i]` |
//!
//! The header's one entry, `tch-audit`, is JSON: sites, sizes, options, fingerprints.

use super::finish::{Finish, List};
use super::header::{Header, SiteHeader, lists};
use super::names::Names;
use super::settings::Settings;
use super::state::{SiteState, UnitState};
use super::store::{self, Stored};
use super::summaries;
use super::topk::Candidate;
use crate::arrays::{Arrays, Put};
use crate::{Error, Result};
use rayon::prelude::*;
use safetensors::Dtype;
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

/// Units whose regions are made at once.
const UNITS: usize = 64;

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

    pub fn get(&self, pass: usize) -> Result<Rc<Stored>> {
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

    fn finish<'s>(&'s self, stored: &'s Stored) -> Finish<'s> {
        let options = &self.settings.options;
        Finish { options, names: &stored.names, region: options.region(&self.settings.probe.preprocess) }
    }
}

/// What is known of a site before its arrays are written: all but what is large.
struct Columns {
    header: SiteHeader,
    /// Where its units are: passes, and which of their sites.
    places: Vec<(usize, usize)>,
    units: Vec<i64>,
    levels: Vec<f32>,
    minima: Vec<f32>,
    maxima: Vec<f32>,
    /// How many bins each sketch has.
    bins: Vec<usize>,
    /// Per list: image numbers and activations.
    lists: Vec<(Vec<i64>, Vec<f32>)>,
    summaries: Vec<summaries::Part>,
}

impl Columns {
    fn new(site: &SiteState, lists: usize) -> Self {
        let header = SiteHeader { name: site.name.clone(), channels: site.channels, units: 0, map: site.map };
        let (places, units, summaries) = (Vec::new(), Vec::new(), Vec::new());
        let (levels, minima, maxima, bins) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let lists = vec![(Vec::new(), Vec::new()); lists];
        Self { header, places, units, levels, minima, maxima, bins, lists, summaries }
    }

    /// Adds the units of one pass; the images that are exemplars go to `shown`.
    fn add(&mut self, site: &SiteState, finish: &Finish<'_>, lists: &[(List, &str, usize)], shown: &mut Vec<u64>) {
        self.header.units += site.units.len();
        self.units.extend(site.units.iter().map(|u| *u as i64));
        self.levels.extend(site.states.iter().map(|s| finish.level(s)));
        self.minima.extend(site.states.iter().map(|s| s.minimum));
        self.maxima.extend(site.states.iter().map(|s| s.maximum));
        self.bins.extend(site.states.iter().map(|s| s.sketch.codes.len()));
        for ((list, _, k), (ids, activations)) in lists.iter().zip(&mut self.lists) {
            for state in &site.states {
                let chosen = finish.chosen(state, *list);
                let chosen = chosen.iter().take(*k);
                shown.extend(chosen.clone().map(|c| c.image));
                ids.extend(chosen.clone().map(|c| c.image as i64).chain(std::iter::repeat(-1)).take(*k));
                activations.extend(chosen.map(|c| c.activation).chain(std::iter::repeat(0.0)).take(*k));
            }
        }
    }

    /// Puts the arrays of the site among `arrays`.
    fn put<'s>(&'s self, arrays: &mut Arrays<'s>, states: &'s States<'_>, images: usize, room: usize) {
        let (name, count) = (&self.header.name, self.header.units);
        let each = move |work: &mut dyn FnMut(&Finish<'_>, &SiteState) -> Result<()>| {
            self.places.iter().try_for_each(|(pass, number)| {
                let stored = states.get(*pass)?;
                stored.state.sites.get(*number).map_or(Ok(()), |site| work(&states.finish(&stored), site))
            })
        };
        arrays.add(format!("{name}.units"), Dtype::I64, &[count], &self.units);
        for (what, values) in [("levels", &self.levels), ("minima", &self.minima), ("maxima", &self.maxima)] {
            arrays.add(format!("{name}.{what}"), Dtype::F32, &[count], values);
        }
        store::put_sketches(arrays, name, &self.bins, move |put| {
            each(&mut |_, site| site.states.iter().try_for_each(|s| put(&s.sketch)))
        });
        let (height, width) = states.settings.options.region(&states.settings.probe.preprocess);
        let bytes = (height * width).div_ceil(8);
        let all = lists(&states.settings.options, images as u64);
        for ((list, prefix, k), (ids, activations)) in all.into_iter().zip(&self.lists) {
            arrays.add(format!("{name}{prefix}.ids"), Dtype::I64, &[count, k], ids);
            arrays.add(format!("{name}{prefix}.activations"), Dtype::F32, &[count, k], activations);
            arrays.later(format!("{name}{prefix}.regions"), Dtype::U8, &[count, k, bytes], move |put| {
                each(&mut |finish, site| {
                    let mut some = site.states.chunks(UNITS);
                    some.try_for_each(|some| put(&regions(finish, site, some, list, k * bytes)))
                })
            });
        }
        let mut summary = |what: &str, of: fn(&summaries::Part) -> &summaries::Series| {
            arrays.later(format!("{name}.summary.{what}"), Dtype::F32, &[count, images], move |put: &mut Put<'_>| {
                self.summaries.iter().try_for_each(|part| of(part).each_row(part.units.len(), images, room, put))
            });
        };
        summary("max", |part| &part.maxima);
        summary("mean", |part| &part.means);
    }
}

/// Writes the finished exemplars, whole or not at all.
pub(super) fn write(path: &Path, states: &States<'_>) -> Result<()> {
    let settings = states.settings;
    let (mut sites, mut names) = (Vec::<Columns>::new(), Names::default());
    let (mut images, mut digest) = (Vec::<i64>::new(), String::new());
    for pass in 0..settings.passes.len() {
        let stored = states.get(pass)?;
        let (state, finish) = (&stored.state, states.finish(&stored));
        if state.rows.len() == 0 {
            return Err(Error::invalid("probe set", "no readable image", "at least one"));
        }
        (images, digest) = (state.rows.iter().map(|n| n as i64).collect(), state.digest.to_string());
        let lists = lists(&settings.options, state.rows.len());
        let mut shown = Vec::new();
        for (number, (site, summaries)) in state.sites.iter().zip(state.summaries().into_parts()).enumerate() {
            if sites.last().is_none_or(|last| last.header.name != site.name) {
                sites.push(Columns::new(site, lists.len()));
            }
            if let Some(columns) = sites.last_mut() {
                columns.places.push((pass, number));
                columns.summaries.push(summaries);
                columns.add(site, &finish, &lists, &mut shown);
            }
        }
        shown.sort_unstable();
        shown.dedup();
        names = names.and(&stored.names.only(shown));
    }
    let units: usize = sites.iter().map(|site| site.header.units).sum();
    // What is in memory of the summaries: little beside the candidates.
    let room = (units << 10).clamp(1 << 20, summaries::ROOM as usize);
    let mut arrays = Arrays::default();
    arrays.later("summary.images", Dtype::I64, &[images.len()], |put| put(bytemuck::cast_slice(&images)));
    sites.iter().for_each(|site| site.put(&mut arrays, states, images.len(), room));
    names.put(&mut arrays);
    let headers = sites.iter().map(|site| site.header.clone()).collect();
    let header = Header::new(settings, digest, images.len() as u64, headers);
    crate::files::replace_at(path, |part| arrays.write(part, path, &header))
}

/// The packed regions of one list of some units of a site, `bytes` per unit.
fn regions(finish: &Finish<'_>, site: &SiteState, units: &[UnitState], list: List, bytes: usize) -> Vec<u8> {
    let mut packed = vec![0u8; units.len() * bytes];
    let upsampler = finish.upsampler(site);
    packed.par_chunks_mut(bytes.max(1)).zip(units).for_each_init(
        || upsampler.clone(),
        |upsampler, (room, state)| {
            let level = finish.level(state);
            let of = |c: &Candidate| upsampler.region(&c.map, level).packed();
            let all = finish.chosen(state, list).into_iter().flat_map(of);
            room.iter_mut().zip(all).for_each(|(room, byte)| *room = byte);
        },
    );
    packed
}
