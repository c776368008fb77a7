//! States on disk: what a run goes on from, and what shards are merged from.

use super::finish::List;
use super::names::Names;
use super::options::Options;
use super::settings::Settings;
use super::sketch::Sketch;
use super::state::{SiteState, State, UnitState};
use super::topk::{Order, TopK};
use crate::Result;
use crate::arrays::{Arrays, File, Opened};
use crate::probe::{Digest, Skipped};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// Units whose maps and sketches are one array: they are the bulk of a state.
const UNITS: usize = 16;
const ALLOWED: &str = "a state that `tch-audit exemplars` wrote";

/// What a state file says besides its arrays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub settings: Settings,
    /// Which of the settings' passes.
    pub pass: usize,
    pub done: Vec<Range<usize>>,
    pub images: u64,
    digest: String,
    skipped: Vec<(String, String)>,
    /// Height and width of each site's maps.
    maps: Vec<(usize, usize)>,
}

/// A state, with what it belongs to.
pub(super) struct Stored {
    pub header: Header,
    pub state: State,
    pub names: Names,
}

/// A state as if it had been read from a file.
pub(super) fn in_memory(settings: &Settings, pass: usize, state: State, names: Names) -> Stored {
    Stored { header: header(settings, pass, &state), state, names }
}

fn header(settings: &Settings, pass: usize, state: &State) -> Header {
    let skipped = state.skipped.iter().map(|s| (s.path.to_string_lossy().into_owned(), s.reason.clone()));
    Header {
        settings: settings.clone(),
        pass,
        done: state.done.clone(),
        images: state.images,
        digest: state.digest.to_string(),
        skipped: skipped.collect(),
        maps: state.sites.iter().map(|s| s.map).collect(),
    }
}

/// Writes a state, whole or not at all. A run that is killed while it writes leaves `PATH.part`, which its next write
/// replaces.
pub(super) fn write(path: &Path, settings: &Settings, pass: usize, state: &State, names: &Names) -> Result<()> {
    let header = header(settings, pass, state);
    let mut arrays = Arrays::default();
    for (i, site) in state.sites.iter().enumerate() {
        put_site(&mut arrays, i, site);
    }
    names.put(&mut arrays);
    arrays.add("rows", Dtype::U64, &[state.rows.len()], &state.rows);
    crate::files::replace_at(path, |part| arrays.write(part, path, &header))
}

/// Reads only what belongs to a state, and not the state.
pub(super) fn read_header(path: &Path) -> Result<Header> {
    let file = File::read(path)?;
    let (_, header) = file.open::<Header>(ALLOWED)?;
    Ok(header)
}

/// Reads a state.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Invalid`](crate::Error::Invalid) for a file that is something else.
pub(super) fn read(path: &Path) -> Result<Stored> {
    let file = File::read(path)?;
    let (arrays, header) = file.open::<Header>(ALLOWED)?;
    let settings = &header.settings;
    let sites = settings.passes.get(header.pass).and_then(|r| settings.sites.get(r.clone()));
    let sites = sites.ok_or_else(|| arrays.wrong(format!("pass {}", header.pass), "a pass of its own settings"))?;
    if header.maps.len() != sites.len() {
        return Err(arrays.wrong(format!("maps of {} sites", header.maps.len()), format!("{}", sites.len())));
    }
    let rows: Vec<u64> = arrays.all("rows", Dtype::U64)?;
    let mut state = State::new(Vec::new());
    for (i, (site, map)) in sites.iter().zip(&header.maps).enumerate() {
        let units = settings.options.units_of(&site.name, site.channels)?;
        let mut new = SiteState::new(&site.name, site.channels, units, &settings.options);
        new.map = *map;
        get_site(&arrays, i, &mut new, &settings.options, rows.len())?;
        state.sites.push(new);
    }
    state.done.clone_from(&header.done);
    state.images = header.images;
    state.digest = Digest::parse(&header.digest)
        .ok_or_else(|| arrays.wrong(format!("digest `{}`", header.digest), "64 digits"))?;
    state.rows = rows;
    state.skipped =
        header.skipped.iter().map(|(path, reason)| Skipped { path: path.into(), reason: reason.clone() }).collect();
    let names = Names::get(&arrays)?;
    Ok(Stored { header, state, names })
}

impl List {
    fn of(self, state: &UnitState) -> &TopK {
        match self {
            List::Strongest => &state.strongest,
            List::Weakest => &state.weakest,
            List::Random => &state.random,
        }
    }

    fn of_mut(self, state: &mut UnitState) -> &mut TopK {
        match self {
            List::Strongest => &mut state.strongest,
            List::Weakest => &mut state.weakest,
            List::Random => &mut state.random,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            List::Strongest => "strongest",
            List::Weakest => "weakest",
            List::Random => "random",
        }
    }

    fn room(self, options: &Options) -> (usize, Order) {
        match self {
            List::Strongest => (options.candidates(), Order::Strongest),
            List::Weakest => (options.weakest, Order::Weakest),
            List::Random => (options.random, Order::Random(options.seed)),
        }
    }
}

fn put_site<'s>(arrays: &mut Arrays<'s>, i: usize, site: &'s SiteState) {
    let units = site.states.len();
    let per_unit = |f: fn(&UnitState) -> f32| site.states.iter().map(f).collect::<Vec<_>>();
    arrays.add(format!("{i}.minimum"), Dtype::F32, &[units], &per_unit(|s| s.minimum));
    arrays.add(format!("{i}.maximum"), Dtype::F32, &[units], &per_unit(|s| s.maximum));
    for (part, states) in site.states.chunks(UNITS).enumerate() {
        let bins: Vec<usize> = states.iter().map(|s| s.sketch.codes.len()).collect();
        put_sketches(arrays, &format!("{i}.{part}"), &bins, move |read| {
            read(&mut states.iter().map(|s| &s.sketch));
            Ok(())
        });
    }
    arrays.add(format!("{i}.maxima"), Dtype::U16, &[site.maxima.len()], &site.maxima);
    for list in List::ALL {
        let candidates = || site.states.iter().flat_map(|s| list.of(s).best());
        let lengths: Vec<u32> = site.states.iter().map(|s| list.of(s).best().len() as u32).collect();
        let images: Vec<u64> = candidates().map(|c| c.image).collect();
        let activations: Vec<f32> = candidates().map(|c| c.activation).collect();
        let name = list.name();
        arrays.add(format!("{i}.{name}.lengths"), Dtype::U32, &[units], &lengths);
        arrays.add(format!("{i}.{name}.images"), Dtype::U64, &[images.len()], &images);
        arrays.add(format!("{i}.{name}.activations"), Dtype::F32, &[images.len()], &activations);
        for (part, states) in site.states.chunks(UNITS).enumerate() {
            let candidates = move || states.iter().flat_map(move |s| list.of(s).best());
            let count = candidates().map(|c| c.map.len()).sum();
            arrays.later(format!("{i}.{name}.maps.{part}"), Dtype::F32, &[count], move || {
                let mut bytes = Vec::with_capacity(4 * count);
                candidates().for_each(|c| bytes.extend_from_slice(bytemuck::cast_slice(&c.map)));
                Ok(bytes)
            });
        }
    }
}

fn get_site(arrays: &Opened<'_>, i: usize, site: &mut SiteState, options: &Options, rows: usize) -> Result<()> {
    let units = site.units.len();
    let minimum: Vec<f32> = arrays.get(&format!("{i}.minimum"), Dtype::F32, units)?;
    let maximum: Vec<f32> = arrays.get(&format!("{i}.maximum"), Dtype::F32, units)?;
    let mut sketches = Vec::with_capacity(units);
    for (part, states) in site.states.chunks(UNITS).enumerate() {
        sketches.extend(get_sketches(arrays, &format!("{i}.{part}"), states.len())?);
    }
    let maxima = if options.maxima { rows.saturating_mul(units) } else { 0 };
    site.maxima = arrays.get(&format!("{i}.maxima"), Dtype::U16, maxima)?;
    // Before the first image both are infinite; no state has a NaN.
    let sound = |(low, high): (&f32, &f32)| low <= high || (*low == f32::INFINITY && *high == f32::NEG_INFINITY);
    if !minimum.iter().zip(&maximum).all(sound) {
        return Err(
            arrays.wrong(format!("extremes of site `{}` that are none", site.name), "a minimum below the maximum")
        );
    }
    for (state, ((minimum, maximum), sketch)) in
        site.states.iter_mut().zip(minimum.into_iter().zip(maximum).zip(sketches))
    {
        (state.minimum, state.maximum) = (minimum, maximum);
        state.sketch.merge(&sketch);
    }
    let positions = site.map.0.saturating_mul(site.map.1);
    for list in List::ALL {
        let name = list.name();
        let lengths: Vec<u32> = arrays.get(&format!("{i}.{name}.lengths"), Dtype::U32, units)?;
        let total: usize = lengths.iter().map(|n| *n as usize).sum();
        let images: Vec<u64> = arrays.get(&format!("{i}.{name}.images"), Dtype::U64, total)?;
        let activations: Vec<f32> = arrays.get(&format!("{i}.{name}.activations"), Dtype::F32, total)?;
        let mut candidates = images.into_iter().zip(activations);
        let (room, order) = list.room(options);
        for (part, (states, lengths)) in site.states.chunks_mut(UNITS).zip(lengths.chunks(UNITS)).enumerate() {
            let count = lengths.iter().map(|n| *n as usize).sum::<usize>().saturating_mul(positions);
            let maps: Vec<f32> = arrays.get(&format!("{i}.{name}.maps.{part}"), Dtype::F32, count)?;
            let mut maps = maps.chunks(positions.max(1));
            for (state, length) in states.iter_mut().zip(lengths) {
                let top = list.of_mut(state);
                *top = TopK::new(room, order);
                for ((image, activation), map) in candidates.by_ref().take(*length as usize).zip(maps.by_ref()) {
                    top.offer(image, activation, map);
                }
            }
        }
    }
    Ok(())
}

/// Sketches of many units as flat arrays under `PREFIX.sketch.`; `bins` are their lengths, `each` hands them over.
pub(super) fn put_sketches<'a>(
    arrays: &mut Arrays<'a>,
    prefix: &str,
    bins: &[usize],
    each: impl Fn(&mut dyn FnMut(&mut dyn Iterator<Item = &Sketch>)) -> Result<()> + Clone + 'a,
) {
    let lengths: Vec<u32> = bins.iter().map(|n| *n as u32).collect();
    let total: usize = bins.iter().sum();
    arrays.add(format!("{prefix}.sketch.lengths"), Dtype::U32, &[lengths.len()], &lengths);
    let bytes = |name: &str, dtype: Dtype, count: usize| (format!("{prefix}.sketch.{name}"), dtype, [count]);
    let (codes, counts, zeros) = (each.clone(), each.clone(), each);
    let (name, dtype, shape) = bytes("codes", Dtype::U16, total);
    arrays.later(name, dtype, &shape, move || {
        let mut out = Vec::with_capacity(2 * total);
        codes(&mut |all| all.for_each(|s| out.extend_from_slice(bytemuck::cast_slice(&s.codes)))).map(|()| out)
    });
    let (name, dtype, shape) = bytes("counts", Dtype::U64, total);
    arrays.later(name, dtype, &shape, move || {
        let mut out = Vec::with_capacity(8 * total);
        counts(&mut |all| all.for_each(|s| out.extend_from_slice(bytemuck::cast_slice(&s.counts)))).map(|()| out)
    });
    let (name, dtype, shape) = bytes("zeros", Dtype::U64, lengths.len());
    arrays.later(name, dtype, &shape, move || {
        let mut out = Vec::new();
        zeros(&mut |all| all.for_each(|s| out.extend_from_slice(&s.zeros.to_ne_bytes()))).map(|()| out)
    });
}

/// Back from [`put_sketches`].
pub(super) fn get_sketches(arrays: &Opened<'_>, prefix: &str, units: usize) -> Result<Vec<Sketch>> {
    let lengths: Vec<u32> = arrays.get(&format!("{prefix}.sketch.lengths"), Dtype::U32, units)?;
    let total = lengths.iter().map(|n| *n as usize).sum();
    let codes: Vec<u16> = arrays.get(&format!("{prefix}.sketch.codes"), Dtype::U16, total)?;
    let counts: Vec<u64> = arrays.get(&format!("{prefix}.sketch.counts"), Dtype::U64, total)?;
    let zeros: Vec<u64> = arrays.get(&format!("{prefix}.sketch.zeros"), Dtype::U64, units)?;
    let (mut codes, mut counts) = (codes.into_iter(), counts.into_iter());
    let sketches = lengths.into_iter().zip(zeros).map(|(length, zeros)| {
        let codes: Vec<u16> = codes.by_ref().take(length as usize).collect();
        let counts: Vec<u64> = counts.by_ref().take(length as usize).collect();
        Sketch::from_parts(codes, counts, zeros)
    });
    let sketches: Option<Vec<Sketch>> = sketches.collect();
    sketches.ok_or_else(|| arrays.wrong(format!("`{prefix}.sketch` that is out of order"), "ascending bins"))
}
