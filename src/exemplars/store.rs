//! States on disk: what a run goes on from, and what shards are merged from.

use super::finish::List;
use super::names::Names;
use super::options::Options;
use super::settings::Settings;
use super::sketch::Sketch;
use super::state::{Numbers, SiteState, State, UnitState};
use super::tape::Tape;
use super::topk::{Order, TopK};
use crate::Result;
use crate::arrays::{Arrays, Opened};
use crate::probe::{Digest, Skipped};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Units whose maps and sketches are one array: they are the bulk of a state.
const UNITS: usize = 16;
const ALLOWED: &str = "a state that `tch-audit exemplars` wrote";

/// What a state file says besides its arrays. The summaries lie in a [file beside it](tape_of).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub settings: Settings,
    /// Which of the settings' passes.
    pub pass: usize,
    pub done: Numbers,
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

impl Stored {
    /// A state as if it had been read from a file.
    pub fn in_memory(settings: &Settings, pass: usize, state: State, names: Names) -> Self {
        Self { header: header(settings, pass, &state), state, names }
    }

    /// Takes over another part of the images.
    pub fn merge(&mut self, other: Stored) {
        self.names = self.names.and(&other.names);
        self.state.merge(other.state);
    }
}

/// The file that the summaries of a state are in.
pub(super) fn tape_of(state: &Path) -> PathBuf {
    state.with_extension("summaries")
}

fn header(settings: &Settings, pass: usize, state: &State) -> Header {
    let skipped = state.skipped.iter().map(|s| (s.path.to_string_lossy().into_owned(), s.reason.clone()));
    Header {
        settings: settings.clone(),
        pass,
        done: state.done.clone(),
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
    let rows: Vec<u64> = state.rows.ranges().iter().flat_map(|r| [r.start, r.end]).collect();
    arrays.add("rows", Dtype::U64, &[rows.len()], &rows);
    let images: Vec<u64> = state.tape.blocks().iter().map(|b| b.images as u64).collect();
    arrays.add("images", Dtype::U64, &[images.len()], &images);
    // What the state says of them must be there.
    state.tape.sync()?;
    crate::files::replace_at(path, |part| arrays.write(part, path, &header))
}

/// Reads only what belongs to a state, and not the state.
pub(super) fn read_header(path: &Path) -> Result<Header> {
    Ok(Opened::open(path, ALLOWED)?.1)
}

/// Reads a state. Its summaries stay where they are.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io); [`Error::Invalid`](crate::Error::Invalid) for a file that is something else.
pub(super) fn read(path: &Path) -> Result<Stored> {
    let (arrays, header) = Opened::open::<Header>(path, ALLOWED)?;
    let settings = &header.settings;
    let sites = settings.begin(header.pass)?;
    let sites = sites.ok_or_else(|| arrays.wrong(format!("pass {}", header.pass), "a pass of its own settings"))?;
    if header.maps.len() != sites.len() {
        return Err(arrays.wrong(format!("maps of {} sites", header.maps.len()), format!("{}", sites.len())));
    }
    let units = sites.iter().map(|s| s.units.len()).sum();
    let batches: Vec<u64> = arrays.all("images", Dtype::U64)?;
    let (rows, images) = (rows(&arrays)?, batches.iter().fold(0u64, |sum, n| sum.saturating_add(*n)));
    if header.done.len() != batches.len() as u64 || rows.len() != images {
        let received = format!("{} images in {} batches", rows.len(), header.done.len());
        return Err(arrays.wrong(received, format!("{images} in {}", batches.len())));
    }
    let batches = header.done.iter().zip(batches).map(|(batch, images)| (batch as usize, images as usize));
    let mut state = State::new(sites, Tape::open(&tape_of(path), batches, units)?);
    for (i, (site, map)) in state.sites.iter_mut().zip(&header.maps).enumerate() {
        site.map = *map;
        get_site(&arrays, i, site, &settings.options)?;
    }
    state.done.clone_from(&header.done);
    state.digest = Digest::parse(&header.digest)
        .ok_or_else(|| arrays.wrong(format!("digest `{}`", header.digest), "64 digits"))?;
    state.rows = rows;
    state.skipped =
        header.skipped.iter().map(|(path, reason)| Skipped { path: path.into(), reason: reason.clone() }).collect();
    let names = Names::get(&arrays)?;
    Ok(Stored { header, state, names })
}

/// The numbers of the images.
fn rows(arrays: &Opened) -> Result<Numbers> {
    let bounds: Vec<u64> = arrays.all("rows", Dtype::U64)?;
    let ascend = bounds.windows(2).all(|w| w[0] < w[1]) && bounds.len().is_multiple_of(2);
    if !ascend {
        return Err(arrays.wrong("`rows` that are out of order", "ascending numbers"));
    }
    Ok(bounds.as_chunks::<2>().0.iter().map(|[start, end]| *start..*end).collect())
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
        put_sketches(arrays, &format!("{i}.{part}"), &bins, move |put| states.iter().try_for_each(|s| put(&s.sketch)));
    }
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
            arrays.later(format!("{i}.{name}.maps.{part}"), Dtype::F32, &[count], move |put| {
                candidates().try_for_each(|c| put(bytemuck::cast_slice(&c.map)))
            });
        }
    }
}

fn get_site(arrays: &Opened, i: usize, site: &mut SiteState, options: &Options) -> Result<()> {
    let units = site.units.len();
    let minimum: Vec<f32> = arrays.get(&format!("{i}.minimum"), Dtype::F32, units)?;
    let maximum: Vec<f32> = arrays.get(&format!("{i}.maximum"), Dtype::F32, units)?;
    let mut sketches = Vec::with_capacity(units);
    for (part, states) in site.states.chunks(UNITS).enumerate() {
        sketches.extend(get_sketches(arrays, &format!("{i}.{part}"), states.len(), 0..states.len())?);
    }
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
    each: impl Fn(&mut dyn FnMut(&Sketch) -> Result<()>) -> Result<()> + Clone + 'a,
) {
    let lengths: Vec<u32> = bins.iter().map(|n| *n as u32).collect();
    let total: usize = bins.iter().sum();
    arrays.add(format!("{prefix}.sketch.lengths"), Dtype::U32, &[lengths.len()], &lengths);
    let mut later = |name: &str, dtype, count, bytes: fn(&Sketch) -> &[u8]| {
        let each = each.clone();
        let name = format!("{prefix}.sketch.{name}");
        arrays.later(name, dtype, &[count], move |put| each(&mut |sketch| put(bytes(sketch))));
    };
    later("codes", Dtype::U16, total, |s| bytemuck::cast_slice(&s.codes));
    later("counts", Dtype::U64, total, |s| bytemuck::cast_slice(&s.counts));
    later("zeros", Dtype::U64, lengths.len(), |s| bytemuck::bytes_of(&s.zeros));
}

/// Back from [`put_sketches`]: those of `some` of the `units`.
pub(super) fn get_sketches(arrays: &Opened, prefix: &str, units: usize, some: Range<usize>) -> Result<Vec<Sketch>> {
    let lengths: Vec<u32> = arrays.get(&format!("{prefix}.sketch.lengths"), Dtype::U32, units)?;
    let bins = |lengths: &[u32]| lengths.iter().map(|n| *n as usize).sum::<usize>();
    let (total, first) = (bins(&lengths), bins(lengths.get(..some.start).unwrap_or_default()));
    let lengths = lengths.get(some.clone()).unwrap_or_default();
    let bins = first..first + bins(lengths);
    let codes: Vec<u16> = arrays.part(&format!("{prefix}.sketch.codes"), Dtype::U16, total, bins.clone())?;
    let counts: Vec<u64> = arrays.part(&format!("{prefix}.sketch.counts"), Dtype::U64, total, bins)?;
    let zeros: Vec<u64> = arrays.part(&format!("{prefix}.sketch.zeros"), Dtype::U64, units, some)?;
    let (mut codes, mut counts) = (codes.into_iter(), counts.into_iter());
    let sketches = lengths.iter().zip(zeros).map(|(&length, zeros)| {
        let codes: Vec<u16> = codes.by_ref().take(length as usize).collect();
        let counts: Vec<u64> = counts.by_ref().take(length as usize).collect();
        Sketch::from_parts(codes, counts, zeros)
    });
    let sketches: Option<Vec<Sketch>> = sketches.collect();
    sketches.ok_or_else(|| arrays.wrong(format!("`{prefix}.sketch` that is out of order"), "ascending bins"))
}
