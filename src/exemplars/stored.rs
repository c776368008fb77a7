//! `exemplars.safetensors` as it lies on the disk, read as far as it is needed.

use super::finish::List;
use super::header::{Chosen, FORMAT, Header, SiteHeader, lists};
use super::names::Names;
use super::options::Options;
use super::settings::{ProbeSet, same};
use super::store;
use super::summaries::{Part, Piece, Series, Summaries};
use super::tape::Place;
use super::{Exemplar, Exemplars, ImageRef, Sketch, UnitExemplars};
use crate::arrays::Opened;
use crate::graph::Traced;
use crate::probe::{Images, Preprocess};
use crate::{Error, Region, Result, UnitId};
use safetensors::Dtype;
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file that a finished [`Run`](super::Run) leaves in its folder.
pub const FILE: &str = "exemplars.safetensors";

/// The exemplars that a [`Run`](super::Run) or [`merge`](super::merge()) wrote, in their file: what is not asked for is not
/// read.
///
/// ```no_run
/// use tch_audit::exemplars::Stored;
/// # fn main() -> tch_audit::Result<()> {
/// let stored = Stored::open("exemplars")?;
/// for site in stored.sites() {
///     for start in (0..site.units.len()).step_by(256) {
///         let some = stored.load_units(&site.name, start..(start + 256).min(site.units.len()))?;
///         println!("{}: {} units", site.name, some.units.len());
///     }
/// }
/// # Ok(()) }
/// ```
pub struct Stored {
    path: PathBuf,
    arrays: Opened,
    header: Header,
    options: Options,
    sites: Vec<StoredSite>,
    names: BTreeMap<usize, ImageRef>,
    summaries: Summaries,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// How much of a unit is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    All,
    /// No regions and no sketch.
    Outline,
}

/// A site in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSite {
    /// Its name.
    pub name: String,
    /// The units that were looked at, ascending.
    pub units: Vec<usize>,
    /// Height and width of its activation maps.
    pub map: (usize, usize),
}

impl Stored {
    /// Reads what the file has besides its units; `path` is the file or the folder that it is in.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] for a file that is something else.
    pub fn open(path: impl AsRef<Path>) -> Result<Stored> {
        let path = path.as_ref();
        let path = if path.is_dir() { path.join(FILE) } else { path.to_path_buf() };
        let (arrays, header) =
            Opened::open::<Header>(&path, "an exemplars.safetensors that `tch-audit exemplars` wrote")?;
        if header.format != FORMAT {
            return Err(arrays.wrong(format!("format {}", header.format), format!("format {FORMAT}")));
        }
        header.probe.preprocess.validate()?;
        let options = header.options.options();
        options.validate()?;
        let sites = header.sites.iter().map(|site| read_site(&arrays, site)).collect::<Result<Vec<_>>>()?;
        let summaries = read_summaries(&arrays, &header, &sites)?;
        let names = Names::get(&arrays)?.to_map();
        Ok(Stored { path, arrays, header, options, sites, names, summaries })
    }

    /// The sites, in the order in which they were asked for.
    pub fn sites(&self) -> &[StoredSite] {
        &self.sites
    }

    /// The site of this name.
    ///
    /// # Errors
    /// [`Error::Unknown`] for one that is not there.
    pub fn site(&self, name: &str) -> Result<&StoredSite> {
        let found = self.sites.iter().find(|site| site.name == name);
        found.ok_or_else(|| Error::unknown("site", name, self.sites.iter().map(|site| site.name.as_str())))
    }

    /// [`Traced::fingerprint`] of the model.
    pub fn model(&self) -> &str {
        &self.header.model
    }

    /// Digest of the images' names and content, see [`Images::digest`].
    pub fn probe(&self) -> &str {
        &self.header.digest
    }

    /// How many images were looked at.
    pub fn images(&self) -> usize {
        self.header.images as usize
    }

    /// How the images became inputs.
    pub fn preprocess(&self) -> &Preprocess {
        &self.header.probe.preprocess
    }

    /// How the exemplars were chosen, as far as the result depends on it.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The images that are exemplars, by number.
    pub fn names(&self) -> &BTreeMap<usize, ImageRef> {
        &self.names
    }

    /// What every unit does on every image.
    pub fn summaries(&self) -> &Summaries {
        &self.summaries
    }

    /// All units.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] for arrays that make no sense.
    pub fn load(&self) -> Result<Exemplars> {
        self.read(self.header.sites.iter().map(|site| (site, 0..site.units)), Detail::All)
    }

    /// The units of some sites, in the order of the file.
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Unknown`] for a site that is not there.
    pub fn load_sites(&self, names: &[&str]) -> Result<Exemplars> {
        names.iter().try_for_each(|name| self.header_of(name).map(drop))?;
        let chosen = self.header.sites.iter().filter(|site| names.contains(&site.name.as_str()));
        self.read(chosen.map(|site| (site, 0..site.units)), Detail::All)
    }

    /// Some units of one site: `places` are places in [`StoredSite::units`].
    ///
    /// # Errors
    /// As [`load_sites`](Self::load_sites); [`Error::Invalid`] for places that the site does not have.
    pub fn load_units(&self, site: &str, places: Range<usize>) -> Result<Exemplars> {
        let header = self.header_of(site)?;
        if places.start > places.end || places.end > header.units {
            let allowed = format!("within 0..{}", header.units);
            return Err(Error::invalid(format!("places of units of site `{site}`"), format!("{places:?}"), allowed));
        }
        self.read([(header, places)], Detail::All)
    }

    /// Whether this is what `traced` does on `images`; all of them are read for it, the units are not.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first difference: the number of images, the model's fingerprint, the images' names
    /// and labels, their preprocessing, what they show; what reading the images returns.
    pub fn belongs_to(&self, traced: &Traced<'_>, images: &dyn Images) -> Result<()> {
        #[derive(Serialize)]
        struct Of<'a> {
            model: &'a str,
            probe: &'a ProbeSet,
        }
        let (model, probe) = (traced.fingerprint()?, ProbeSet::of(images));
        if probe.images != self.header.probe.images {
            let received = format!("exemplars over {} images", self.header.probe.images);
            let allowed = format!("{} (as now)", probe.images);
            return Err(Error::invalid(self.path.display().to_string(), received, allowed));
        }
        let mine = Of { model: &model, probe: &probe };
        same(&mine, &Of { model: &self.header.model, probe: &self.header.probe }, &self.path, "(as now)")?;
        let all: Vec<usize> = (0..images.len()).collect();
        let digest = images.digest(&all)?.to_string();
        if digest != self.header.digest {
            let received = "exemplars of other images of the same names";
            return Err(Error::invalid(self.path.display().to_string(), received, "of the images as they are now"));
        }
        Ok(())
    }

    /// Whether exemplars chosen by `options` would be the same, the units that are looked at aside.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the first option that differs.
    pub fn chosen_by(&self, options: &Options) -> Result<()> {
        #[derive(Serialize)]
        struct Of<'a> {
            options: &'a Chosen,
        }
        let mine = Chosen::of(options, options.region(self.preprocess()));
        same(&Of { options: &mine }, &Of { options: &self.header.options }, &self.path, "(as now)")
    }

    /// The same with only some sites, in the order of the file.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a site that is not there.
    pub fn only(mut self, names: &[&str]) -> Result<Stored> {
        names.iter().try_for_each(|name| self.header_of(name).map(drop))?;
        self.header.sites.retain(|site| names.contains(&site.name.as_str()));
        self.sites.retain(|site| names.contains(&site.name.as_str()));
        Ok(self)
    }

    /// All units without regions and sketches, see [`Held::outline`](super::Held::outline).
    pub(super) fn outline(&self) -> Result<Exemplars> {
        self.read(self.header.sites.iter().map(|site| (site, 0..site.units)), Detail::Outline)
    }

    /// The units at some places among all units; those that there are not are left out.
    pub(super) fn units_at(&self, places: &[usize]) -> Result<Vec<UnitExemplars>> {
        let mut units = Vec::with_capacity(places.len());
        for run in places.chunk_by(|a, b| a + 1 == *b) {
            let (first, end) = (run.first().map_or(0, |p| *p), run.last().map_or(0, |p| p + 1));
            let mut before = 0;
            for site in &self.header.sites {
                let own = before..before + site.units;
                let some = first.max(own.start)..end.min(own.end);
                if !some.is_empty() {
                    units.extend(self.units(site, some.start - before..some.end - before, Detail::All)?);
                }
                before = own.end;
            }
        }
        Ok(units)
    }

    fn header_of(&self, name: &str) -> Result<&SiteHeader> {
        let sites = &self.header.sites;
        let found = sites.iter().find(|site| site.name == name);
        found.ok_or_else(|| Error::unknown("site", name, sites.iter().map(|site| site.name.as_str())))
    }

    fn read<'s>(
        &self,
        sites: impl IntoIterator<Item = (&'s SiteHeader, Range<usize>)>,
        detail: Detail,
    ) -> Result<Exemplars> {
        let mut units = Vec::new();
        for (site, places) in sites {
            units.extend(self.units(site, places, detail)?);
        }
        Ok(Exemplars {
            preprocess: self.preprocess().clone(),
            options: self.options.clone(),
            images: self.images(),
            units,
            names: self.names.clone(),
            summaries: self.summaries.clone(),
        })
    }

    /// Some units of a site; `places` are within its number.
    fn units(&self, site: &SiteHeader, places: Range<usize>, detail: Detail) -> Result<Vec<UnitExemplars>> {
        let (arrays, name, count) = (&self.arrays, &site.name, site.units);
        let numbers = self.sites.iter().find(|s| s.name == *name).map_or(&[][..], |s| &s.units);
        let numbers = numbers.get(places.clone()).unwrap_or_default();
        let of = |what: &str| arrays.part::<f32>(&format!("{name}.{what}"), Dtype::F32, count, places.clone());
        let (levels, minima, maxima) = (of("levels")?, of("minima")?, of("maxima")?);
        let sketches = match detail {
            Detail::All => store::get_sketches(arrays, name, count, places.clone())?,
            Detail::Outline => vec![Sketch::default(); places.len()],
        };
        let mut units = Vec::with_capacity(numbers.len());
        for (i, (unit, sketch)) in numbers.iter().zip(sketches).enumerate() {
            units.push(UnitExemplars {
                id: UnitId::new(name, *unit),
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
        for (list, prefix, k) in lists(&self.options, self.header.images) {
            let found = self.exemplars(&format!("{name}{prefix}"), count, places.clone(), k, detail)?;
            for (unit, exemplars) in units.iter_mut().zip(found) {
                *match list {
                    List::Strongest => &mut unit.top,
                    List::Weakest => &mut unit.weakest,
                    List::Random => &mut unit.random,
                } = exemplars;
            }
        }
        Ok(units)
    }

    /// One list of some of `count` units, `k` places each.
    fn exemplars(
        &self,
        prefix: &str,
        count: usize,
        places: Range<usize>,
        k: usize,
        detail: Detail,
    ) -> Result<Vec<Vec<Exemplar>>> {
        let (height, width) = match detail {
            Detail::All => self.header.options.region,
            Detail::Outline => (0, 0),
        };
        let bytes = (height * width).div_ceil(8);
        let (total, some) = (count.saturating_mul(k), places.start.saturating_mul(k)..places.end.saturating_mul(k));
        let packed = some.start.saturating_mul(bytes)..some.end.saturating_mul(bytes);
        let arrays = &self.arrays;
        let ids: Vec<i64> = arrays.part(&format!("{prefix}.ids"), Dtype::I64, total, some.clone())?;
        let activations: Vec<f32> = arrays.part(&format!("{prefix}.activations"), Dtype::F32, total, some)?;
        let regions: Vec<u8> = match detail {
            Detail::All => arrays.part(&format!("{prefix}.regions"), Dtype::U8, total.saturating_mul(bytes), packed)?,
            Detail::Outline => Vec::new(),
        };
        let mut regions = regions.chunks(bytes.max(1)).chain(std::iter::repeat(&[][..]));
        let mut rows = ids.chunks(k.max(1)).zip(activations.chunks(k.max(1)));
        let exemplar = |((id, activation), packed): ((&i64, &f32), &[u8])| {
            let (image, region) = (usize::try_from(*id).ok()?, Region::unpack(height, width, packed)?);
            Some(Exemplar { image, activation: *activation, map: Vec::new(), region })
        };
        let mut row = || {
            let (ids, activations) = rows.next().unwrap_or_default();
            ids.iter().zip(activations).zip(regions.by_ref()).filter_map(exemplar).collect()
        };
        Ok(places.map(|_| row()).collect())
    }
}

impl Exemplars {
    /// Reads all that a [`Run`](super::Run) or [`merge`](super::merge()) wrote; `path` is the file or the folder that it is
    /// in. Activation maps are not kept in the file; the summaries stay there. For a part of the units see [`Stored`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Invalid`] for a file that is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Exemplars> {
        Stored::open(path)?.load()
    }
}

fn read_site(arrays: &Opened, site: &SiteHeader) -> Result<StoredSite> {
    let name = &site.name;
    let numbers: Vec<i64> = arrays.get(&format!("{name}.units"), Dtype::I64, site.units)?;
    if let Some(unit) = numbers.iter().find(|unit| **unit < 0 || **unit >= site.channels as i64) {
        return Err(arrays.wrong(format!("unit {unit} of site `{name}`"), format!("0 to {}", site.channels)));
    }
    if !numbers.windows(2).all(|w| w[0] < w[1]) {
        return Err(arrays.wrong(format!("units of site `{name}` that are out of order"), "ascending numbers"));
    }
    let units = numbers.into_iter().map(|n| n as usize).collect();
    Ok(StoredSite { name: name.clone(), units, map: site.map })
}

fn read_summaries(arrays: &Opened, header: &Header, sites: &[StoredSite]) -> Result<Summaries> {
    let numbers: Vec<i64> = arrays.get("summary.images", Dtype::I64, header.images as usize)?;
    let images = numbers.len();
    let place = Arc::new(Place::File(Arc::clone(arrays.file())));
    let series = |name: String, units: usize| -> Result<Series> {
        let offset = arrays.offset(&name, Dtype::F32, units.saturating_mul(images))?;
        Ok(Series { pieces: vec![Piece { place: Arc::clone(&place), offset, images }] })
    };
    let part = |site: &StoredSite| {
        let (name, units) = (&site.name, site.units.len());
        let maxima = series(format!("{name}.summary.max"), units)?;
        let means = series(format!("{name}.summary.mean"), units)?;
        Ok(Part { site: name.clone(), units: site.units.clone(), maxima, means })
    };
    let parts = sites.iter().map(part).collect::<Result<_>>()?;
    Ok(Summaries::new(numbers.into_iter().map(|n| n as usize).collect(), parts))
}
